//! CDS Hooks: discovery, services, feedback.
//!
//! A call is answered with a card, with nothing, or with the reason why there is no answer. An
//! error is never an empty list of cards: the clinician could not tell it from good news.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::header,
    web::{Data, Payload},
};
use serde_json::{Value, json};
use subtle::ConstantTimeEq as _;
use time::OffsetDateTime;
use tokio::time::Instant;

use super::{
    CLIENT, Door, TENANT, answer, body,
    clients::{CdsRights, Client, Clients, Proof},
    cors,
    error::{Error, Success},
    jwt,
};
use crate::{
    fhir::{
        cds::{
            Hook, Service,
            discovery::{self, Key},
            feedback,
            gather::{self, Gathered},
            quiet::{Candidate, is_quiet},
            request::{self, Call, Sent},
            response,
        },
        codes::CodeMap,
        outcome::Issue,
        read::PatientKey,
        tree::{self, Limits, Parsed},
        write::identity,
    },
    fhir_server::lookup::{self, Allowed, Lookup, Need, Pages},
    intake::{Advice, AsOf, Chart, ChartModel, advise},
    store::{
        cards::{CardStore, ShownCard},
        keys::{self, Hash},
        reading::KnownPatient,
    },
};

/// Bytes of a call.
const LARGEST: usize = 2 << 20;
/// Time for everything that has to be fetched. What is not there by then is missing.
const FETCHING: Duration = Duration::from_millis(2200);

/// What the services are built of.
pub struct Services {
    /// Who may call; `None`: everyone.
    pub clients: Option<Clients>,
    /// The FHIR server that findings are written to.
    pub own_server: Option<reqwest::Url>,
    /// Cards and feedback.
    pub cards: Arc<dyn CardStore>,
    /// Local codes to LOINC.
    pub codes: Arc<CodeMap>,
    /// The time an assessment is made for.
    pub as_of: AsOf,
    /// Reads what was not sent.
    pub lookup: Lookup,
    /// The model.
    pub model: ChartModel,
}

/// Who calls.
struct Caller {
    client: String,
    tenant: String,
    rights: CdsRights,
}

/// `GET /cds-services`.
pub(super) async fn discover(req: HttpRequest, door: Data<Door>) -> Result<HttpResponse, Error> {
    let caller = authenticate(&req, &door).await?;
    Ok(answer::plain_json(
        Success::Ok,
        &discovery::document(&caller.rights.services),
    ))
}

/// `OPTIONS` of everything below `/cds-services`: a browser asks before it calls. The headers are
/// put on every answer.
pub(super) async fn preflight() -> HttpResponse {
    answer::empty(Success::NoContent)
}

/// `POST /cds-services/{id}`.
pub(super) async fn call(
    req: HttpRequest,
    payload: Payload,
    door: Data<Door>,
) -> Result<HttpResponse, Error> {
    let started = Instant::now();
    let caller = authenticate(&req, &door).await?;
    let service = service(&req, &caller)?;
    let body = read_body(&req, payload, &door).await?;
    let parsed = parse(&body.bytes)?;
    let call = request::decode(&parsed, service, &door.checker).map_err(Error::Malformed)?;

    let fetched = fetch(&door, &caller, &call, started + FETCHING).await;
    let documents = documents(&fetched);
    let fetched = classified(&documents, &call);
    let gathered = Gathered::new(&call, fetched);
    for _ in 0..gathered.mixed_up() {
        door.metrics.cds("mixed-up");
        tracing::warn!(
            client = caller.client,
            "prefetch about another patient was put aside"
        );
    }
    let history = history(&door, &caller, &call).await?;
    if let Some(issue) = gathered.incomplete()
        && history.is_none()
    {
        door.metrics.cds("incomplete");
        return Err(Error::Precondition(vec![issue]));
    }
    let patient = match &history {
        Some(known) => known.key,
        None => patient_key(&door, &caller.tenant, &caller.client, call.patient_id),
    };
    let now = door.now();
    let made = catch_unwind(AssertUnwindSafe(|| {
        advise(Chart {
            call: &call,
            gathered: &gathered,
            history,
            tenant: &caller.tenant,
            patient: &patient,
            now,
            checker: &door.checker,
            codes: &door.cds.codes,
            as_of: door.cds.as_of,
            model: &door.cds.model,
            base: &door.base,
            smart_app: caller.rights.smart_app.as_deref(),
            system_actions: caller.rights.system_actions,
        })
    }))
    .map_err(|_| Error::Bug(anyhow::anyhow!("the model panicked")))?;
    let (card, actions) = match made {
        Some(made) if show(&door, &caller, &call, &made, &patient, now).await? => {
            door.metrics.cds("card");
            (Some(made.card), made.actions)
        }
        Some(_) => {
            door.metrics.cds("quiet");
            (None, Vec::new())
        }
        None => {
            door.metrics.cds("nothing");
            (None, Vec::new())
        }
    };
    let response = response(card.as_ref(), actions);
    check(&door, &response)?;
    Ok(answer::plain_json(Success::Ok, &response))
}

/// `POST /cds-services/{id}/feedback`.
pub(super) async fn take_feedback(
    req: HttpRequest,
    payload: Payload,
    door: Data<Door>,
) -> Result<HttpResponse, Error> {
    let caller = authenticate(&req, &door).await?;
    service(&req, &caller)?;
    let body = read_body(&req, payload, &door).await?;
    let parsed = parse(&body.bytes)?;
    let feedback = feedback::decode(&parsed, &door.checker).map_err(Error::Malformed)?;
    let received = feedback.len();
    let kept = door
        .cds
        .cards
        .keep_feedback(&caller.tenant, feedback, door.now())
        .await?;
    for _ in 0..kept.unknown_card {
        door.metrics.cds("unknown-card");
    }
    for _ in 0..kept.new {
        door.metrics.cds("feedback");
    }
    Ok(answer::plain_json(
        Success::Ok,
        &json!({ "received": received }),
    ))
}

fn service(req: &HttpRequest, caller: &Caller) -> Result<Service, Error> {
    Service::from_id(req.match_info().query("id"))
        .filter(|service| caller.rights.services.contains(service))
        .ok_or_else(|| {
            let text = "there is no such service; GET /cds-services lists them";
            Error::NotFound(Issue::error("not-found", text))
        })
}

/// Who calls. Everything that is wrong with a token gets the same answer.
async fn authenticate(req: &HttpRequest, door: &Door) -> Result<Caller, Error> {
    let origin = cors::origin(req.headers());
    let is_foreign = |origin: &str| {
        let host = origin.split_once("://").map(|(_, host)| host);
        let own = req
            .headers()
            .get(header::HOST)
            .and_then(|host| host.to_str().ok());
        host.is_none() || host != own
    };
    let refuse_origin = || {
        let text = "a page of this origin may not call here";
        Error::Forbidden(Issue::error("forbidden", text))
    };
    if let Some(origin) = origin
        && is_foreign(origin)
        && !cors::allows(door, origin)
    {
        return Err(refuse_origin());
    }
    let Some(clients) = &door.cds.clients else {
        let own = door.cds.own_server.as_ref().and_then(Allowed::own);
        return Ok(Caller {
            client: CLIENT.to_owned(),
            tenant: TENANT.to_owned(),
            rights: CdsRights {
                fhir_servers: own.into_iter().collect(),
                services: Service::ALL.to_vec(),
                ..CdsRights::default()
            },
        });
    };
    let Some(client) = client(req, door, clients).await? else {
        door.metrics.cds("unauthorized");
        return Err(Error::Unauthorized);
    };
    let Some(rights) = client.cds.clone() else {
        let text = "this client may not use the CDS Hooks services";
        return Err(Error::Forbidden(Issue::error("forbidden", text)));
    };
    if let Some(origin) = origin
        && is_foreign(origin)
        && !rights.origins.iter().any(|allowed| allowed == origin)
    {
        return Err(refuse_origin());
    }
    Ok(Caller {
        client: client.name.clone(),
        tenant: client.tenant.clone(),
        rights,
    })
}

async fn client<'c>(
    req: &HttpRequest,
    door: &Door,
    clients: &'c Clients,
) -> Result<Option<&'c Client>, Error> {
    let mut headers = req.headers().get_all(header::AUTHORIZATION);
    let (Some(header), None) = (headers.next(), headers.next()) else {
        return Ok(None);
    };
    let token = header.to_str().ok().and_then(|header| {
        let (scheme, token) = header.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    let Some(token) = token.filter(|token| !token.is_empty()) else {
        return Ok(None);
    };
    let hash = <sha2::Sha256 as sha2::Digest>::digest(token.as_bytes());
    let mut by_token = None;
    for client in &clients.list {
        if let Proof::Token(known) = &client.proof
            && bool::from(known.as_slice().ct_eq(hash.as_slice()))
        {
            by_token = Some(client);
        }
    }
    if by_token.is_some() {
        return Ok(by_token);
    }
    let Some(claimed) = jwt::claimed_issuer(token) else {
        return Ok(None);
    };
    let found = clients.list.iter().find_map(|client| match &client.proof {
        Proof::Jwt(issuer) if issuer.name == claimed => Some((client, issuer)),
        _ => None,
    });
    let Some((client, issuer)) = found else {
        return Ok(None);
    };
    let now = door.now();
    let audience = format!("{}{}", door.base, req.path());
    let Some(proven) = jwt::verify(token, issuer, &audience, &door.cds.lookup, now).await else {
        return Ok(None);
    };
    let jti = keys::digest(&[b"jti", proven.jti.as_bytes()]);
    let new = door
        .cds
        .cards
        .use_token(&issuer.name, jti, proven.until, now)
        .await?;
    Ok(new.then_some(client))
}

async fn read_body(req: &HttpRequest, payload: Payload, door: &Door) -> Result<body::Body, Error> {
    super::negotiate::body_release(req)?;
    let limits = body::BodyLimits {
        size: LARGEST.min(door.limits.max_body),
        time: door.limits.body_timeout,
    };
    body::read(req, payload, limits, &door.budget).await
}

fn parse(bytes: &[u8]) -> Result<Parsed<'_>, Error> {
    tree::parse(bytes, &Limits::default()).map_err(|broken| Error::Malformed(vec![broken.issue()]))
}

/// Fetches what is needed and was not sent, where the caller's entry lets us.
async fn fetch(door: &Door, caller: &Caller, call: &Call<'_>, end: Instant) -> Vec<Pages> {
    let needs: Vec<Need> = gather::wanted(call)
        .into_iter()
        .map(Need::Query)
        .chain(call.prefetch.iter().filter_map(|(key, sent)| match sent {
            Sent::Here(found) if found.partial => Some(Need::Next(*key, found.next?.to_owned())),
            _ => None,
        }))
        .collect();
    if needs.is_empty() {
        return Vec::new();
    }
    let Some(place) = call
        .fhir_server
        .and_then(|server| lookup::permit(&caller.rights.fhir_servers, server))
    else {
        return Vec::new();
    };
    door.cds
        .lookup
        .fetch(&place, call.token.as_ref(), call.patient_id, needs, end)
        .await
}

/// What was fetched, parsed; `None`: could not be had, or is no JSON.
fn documents(fetched: &[Pages]) -> Vec<(Key, Option<Parsed<'_>>)> {
    fetched
        .iter()
        .flat_map(|pages| {
            let bodies = pages
                .bodies
                .iter()
                .map(|body| (pages.key, tree::parse(body, &Limits::default()).ok()));
            bodies.chain(pages.cut.then_some((pages.key, None)))
        })
        .collect()
}

fn classified<'t>(
    documents: &'t [(Key, Option<Parsed<'t>>)],
    call: &Call<'_>,
) -> Vec<(Key, Sent<'t>)> {
    documents
        .iter()
        .map(|(key, document)| {
            let sent = document.as_ref().map_or(Sent::Failed, |document| {
                request::classify(*key, &document.root, call.patient_id)
            });
            (*key, sent)
        })
        .collect()
}

fn patient_key(door: &Door, tenant: &str, client: &str, patient_id: &str) -> Hash {
    let secret = door.store.identity_key().as_bytes();
    let key = PatientKey::Reference(format!("Patient/{patient_id}"));
    identity::patient_key(secret, tenant, client, &key)
}

/// What was filed of the patient, when the EHR's FHIR server is the one we write to: only then
/// are its ids the ones we know.
async fn history(
    door: &Door,
    caller: &Caller,
    call: &Call<'_>,
) -> Result<Option<KnownPatient>, Error> {
    let same = door
        .cds
        .own_server
        .as_ref()
        .and_then(Allowed::own)
        .is_some_and(|own| {
            call.fhir_server
                .is_some_and(|server| lookup::permit(&[own], server).is_some())
        });
    if !same {
        return Ok(None);
    }
    let keys = [caller.client.as_str(), CLIENT]
        .iter()
        .map(|client| patient_key(door, &caller.tenant, client, call.patient_id))
        .collect();
    let patients = door.store.find_patients(&caller.tenant, keys).await?;
    let [patient] = patients.as_slice() else {
        if patients.is_empty() {
            return Ok(None);
        }
        let text = "this patient fits two that results were filed for";
        return Err(Error::Malformed(vec![Issue::error(
            "multiple-matches",
            text,
        )]));
    };
    Ok(door.store.patient(&caller.tenant, *patient).await?)
}

/// Whether the card is shown; then it is kept.
async fn show(
    door: &Door,
    caller: &Caller,
    call: &Call<'_>,
    made: &Advice,
    patient: &Hash,
    now: OffsetDateTime,
) -> Result<bool, Error> {
    let card = &made.card;
    let before = door
        .cds
        .cards
        .card_history(&caller.tenant, &caller.client, *patient, &card.family)
        .await?;
    let quiet = match call.hook {
        // The card of the same orders is on the screen; its client replaces it by itself.
        Hook::OrderSelect => false,
        Hook::OrderSign => before
            .shown
            .as_ref()
            .is_some_and(|shown| shown.uuid != card.uuid && now - shown.at < time::Duration::DAY),
        Hook::PatientView | Hook::EncounterStart | Hook::EncounterDischarge => is_quiet(
            &Candidate {
                uuid: &card.uuid,
                marks: &card.marks,
                encounter: call.encounter_id,
                inpatient: made.inpatient,
                at: now,
            },
            before.shown.as_ref(),
            before.answered.as_ref(),
        ),
    };
    if quiet {
        return Ok(false);
    }
    door.cds
        .cards
        .keep_card(ShownCard {
            tenant: caller.tenant.clone(),
            uuid: card.uuid.clone(),
            client: caller.client.clone(),
            patient: *patient,
            family: card.family.clone(),
            rules: card.rules.clone(),
            marks: card.marks.clone(),
            hook: call.hook.name().to_owned(),
            encounter: call.encounter_id.map(str::to_owned),
            at: now,
        })
        .await?;
    Ok(true)
}

/// In tests every answer is held against its schema.
fn check(door: &Door, response: &Value) -> Result<(), Error> {
    if !cfg!(debug_assertions) {
        return Ok(());
    }
    let issues = door.checker.profiles().check_json(
        "cds-response",
        "CDSHooksResponse",
        &tree::from_value(response),
        10,
    );
    match issues.first() {
        None => Ok(()),
        Some(issue) => Err(Error::Bug(anyhow::anyhow!(
            "the answer breaks its schema at {}: {}",
            issue.expression.as_deref().unwrap_or_default(),
            issue.text
        ))),
    }
}
