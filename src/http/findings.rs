//! Reading: what marrowflag wrote, and the results it was sent.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderValue, HttpDate},
    mime::Mime,
    web::{self, Data, Payload},
};
use serde_json::{Value, json};

use super::{
    CLIENT, Door, TENANT, answer,
    body::{self, BodyLimits},
    error::{Error, Success},
    negotiate::{self, Wish},
    search::Query,
};
use crate::{
    fhir::{
        outcome::{Issue, operation_outcome},
        read::PatientKey,
        write::identity,
    },
    store::{
        keys::Hash,
        lease::PatientId,
        reading::{HeldResource, Search},
    },
};

/// Resources looked at for one search at most; beyond it the answer says that there is more.
const LOOKED_AT: usize = 10_000;
/// Size of the form of a search.
const FORM: usize = 16 << 10;
/// Resources asked of the store at once.
const CHUNK: usize = 500;

/// `GET /fhir/{type}/{id}` and `.../_history/{version}`.
pub(super) async fn read(
    req: HttpRequest,
    wish: Wish,
    door: Data<Door>,
) -> Result<HttpResponse, Error> {
    wish.only(&[])?;
    let id = req.match_info().query("id");
    // The type is a pattern of the route, or written out in it.
    let kind = req.path().split('/').nth(2).unwrap_or_default();
    let version = match req.match_info().get("version") {
        None => None,
        Some(version) => match version.parse() {
            Ok(version) => Some(version),
            Err(_) => return Err(not_held()),
        },
    };
    let mut held = door.store.read(TENANT, kind, id, version).await?;
    if held.is_none() && kind == "Observation" {
        held = door
            .store
            .read_sent(TENANT, CLIENT, kind, id, version)
            .await?;
    }
    let Some(held) = held else {
        return Err(not_held());
    };
    if version.is_none()
        && kind == "Observation"
        && held.body.get("status").and_then(Value::as_str) == Some("entered-in-error")
    {
        return Err(Error::Gone(Issue::error(
            "not-found",
            "this result was withdrawn",
        )));
    }
    Ok(show(Success::Ok, &held, &wish))
}

fn not_held() -> Error {
    Error::NotFound(Issue::error("not-found", "nothing is held under this id"))
}

/// A resource with its version in the headers.
pub(super) fn show(success: Success, held: &HeldResource, wish: &Wish) -> HttpResponse {
    let mut response = answer::fhir(success, &held.body, wish.pretty);
    version_headers(&mut response, held);
    response
}

/// `ETag` and `Last-Modified`.
pub(super) fn version_headers(response: &mut HttpResponse, held: &HeldResource) {
    let headers = response.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(&format!("W/\"{}\"", held.version)) {
        headers.insert(header::ETAG, etag);
    }
    let modified = HttpDate::from(std::time::SystemTime::from(held.last_updated)).to_string();
    if let Ok(modified) = HeaderValue::from_str(&modified) {
        headers.insert(header::LAST_MODIFIED, modified);
    }
}

/// `GET /fhir/Flag`.
pub(super) async fn search_flags(wish: Wish, door: Data<Door>) -> Result<HttpResponse, Error> {
    search("Flag", &wish, &door).await
}

/// `GET /fhir/DiagnosticReport`.
pub(super) async fn search_reports(wish: Wish, door: Data<Door>) -> Result<HttpResponse, Error> {
    search("DiagnosticReport", &wish, &door).await
}

/// `POST /fhir/{type}/_search`: the same, with the parameters in a form, so that they stand in no
/// log of an address.
pub(super) async fn search_by_form(
    req: HttpRequest,
    payload: Payload,
    mut wish: Wish,
    door: Data<Door>,
) -> Result<HttpResponse, Error> {
    let form = req
        .headers()
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse::<Mime>().ok())
        .is_some_and(|form| form.essence_str() == "application/x-www-form-urlencoded");
    if !form {
        let text = "send the parameters as application/x-www-form-urlencoded";
        return Err(Error::MediaType(Issue::error("not-supported", text)));
    }
    let limits = BodyLimits {
        size: FORM,
        time: door.limits.body_timeout,
    };
    let body = body::read(&req, payload, limits, &door.budget).await?;
    let more = std::str::from_utf8(&body.bytes)
        .ok()
        .and_then(|text| web::Query::<Vec<(String, String)>>::from_query(text).ok());
    let Some(more) = more else {
        return Err(Error::Malformed(vec![Issue::error(
            "value",
            "the form cannot be read",
        )]));
    };
    wish.query.extend(negotiate::own(more.into_inner()));
    let kind = match req.match_info().query("type") {
        "Flag" => "Flag",
        _ => "DiagnosticReport",
    };
    search(kind, &wish, &door).await
}

async fn search(kind: &str, wish: &Wish, door: &Door) -> Result<HttpResponse, Error> {
    let query = Query::read(wish, kind)?;
    let patients = match &query.patient {
        None => None,
        Some(keys) => Some(patients(door, keys).await?),
    };
    let found = find(door, kind, &query, patients).await?;
    Ok(answer::fhir(
        Success::Ok,
        &searchset(door, kind, wish, &query, &found),
        wish.pretty,
    ))
}

/// What the store knows a patient by, of what a caller does.
pub(super) fn hashes(door: &Door, keys: &[PatientKey]) -> Vec<Hash> {
    let secret = door.store.identity_key().as_bytes();
    keys.iter()
        .map(|key| identity::patient_key(secret, TENANT, CLIENT, key))
        .collect()
}

async fn patients(door: &Door, keys: &[PatientKey]) -> Result<Vec<PatientId>, Error> {
    let keys = hashes(door, keys);
    let patients = door.store.find_patients(TENANT, keys).await?;
    if patients.len() > 1 {
        return Err(Error::Malformed(vec![Issue::error(
            "multiple-matches",
            "this name fits two patients",
        )]));
    }
    Ok(patients)
}

/// What a search found.
struct Found {
    resources: Vec<HeldResource>,
    /// How many fit in all; `None`: not all were looked at.
    total: Option<usize>,
    more: bool,
}

async fn find(
    door: &Door,
    kind: &str,
    query: &Query,
    patients: Option<Vec<PatientId>>,
) -> Result<Found, Error> {
    let (since, before) = query.updated_within();
    let mut found = Found {
        resources: Vec::new(),
        total: None,
        more: false,
    };
    let mut fitting = 0_usize;
    let mut offset = 0_usize;
    loop {
        let page = door
            .store
            .search(Search {
                tenant: TENANT.to_owned(),
                kind: kind.to_owned(),
                patients: patients.clone(),
                since,
                before,
                offset,
                limit: CHUNK,
            })
            .await?;
        offset = offset.saturating_add(page.resources.len());
        for held in page.resources {
            if !query.fits(&held.body, held.last_updated) {
                continue;
            }
            if fitting >= query.offset && found.resources.len() < query.count {
                found.resources.push(held);
            } else if fitting >= query.offset {
                found.more = true;
            }
            fitting = fitting.saturating_add(1);
        }
        if !page.more {
            found.total = Some(fitting);
            return Ok(found);
        }
        // A page is full and the store has more: it need not be read to its end.
        let enough = found.more && query.is_plain();
        if enough || offset >= LOOKED_AT {
            found.more = true;
            return Ok(found);
        }
    }
}

fn searchset(door: &Door, kind: &str, wish: &Wish, query: &Query, found: &Found) -> Value {
    let base = format!("{}/fhir", door.base);
    let mut entries: Vec<Value> = found
        .resources
        .iter()
        .map(|held| {
            json!({
                "fullUrl": format!("{base}/{kind}/{}", held.id),
                "resource": held.body,
                "search": { "mode": "match" }
            })
        })
        .collect();
    if !query.warnings.is_empty() {
        entries.push(json!({
            "resource": operation_outcome(&query.warnings),
            "search": { "mode": "outcome" }
        }));
    }
    let mut links =
        vec![json!({ "relation": "self", "url": address(&base, kind, wish, query.offset) })];
    if found.more {
        let next = query.offset.saturating_add(query.count);
        links.push(json!({ "relation": "next", "url": address(&base, kind, wish, next) }));
    }
    let mut bundle = json!({ "resourceType": "Bundle", "type": "searchset" });
    if let (Some(total), Some(bundle)) = (found.total, bundle.as_object_mut()) {
        bundle.insert("total".to_owned(), total.into());
    }
    if let Some(bundle) = bundle.as_object_mut() {
        bundle.insert("link".to_owned(), links.into());
        if !entries.is_empty() {
            bundle.insert("entry".to_owned(), entries.into());
        }
    }
    bundle
}

/// The address of a page, with the parameters as they were understood.
fn address(base: &str, kind: &str, wish: &Wish, offset: usize) -> String {
    let offset = (offset > 0).then(|| ("_offset".to_owned(), offset.to_string()));
    let pairs = wish
        .query
        .iter()
        .filter(|(name, _)| name != "_offset")
        .chain(offset.as_ref());
    match reqwest::Url::parse_with_params(&format!("{base}/{kind}"), pairs) {
        Ok(url) => url.as_str().trim_end_matches('?').to_owned(),
        Err(_) => format!("{base}/{kind}"),
    }
}
