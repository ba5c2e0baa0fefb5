//! Which form a body has, which form the caller takes, and what else the headers ask for.

use actix_web::{
    FromRequest, HttpMessage as _, HttpRequest,
    dev::Payload,
    http::header::{self, Accept, Header as _},
    mime::Mime,
    web::Query,
};
use futures_util::future::{Ready, ready};

use super::{error::Error, trail::RequestId};
use crate::fhir::{outcome::Issue, submission::Release};

/// Media types that are FHIR JSON. `application/json+fhir` is the old name, still sent.
const JSON: [&str; 4] = [
    "application/fhir+json",
    "application/json",
    "application/json+fhir",
    "text/json",
];

/// What the caller wants to have back after a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Return {
    /// Nothing said: each interaction has its own default.
    #[default]
    Unsaid,
    /// `return=minimal`.
    Minimal,
    /// `return=representation`.
    Representation,
    /// `return=OperationOutcome`.
    Outcome,
}

impl Return {
    /// For `Preference-Applied`.
    pub(super) fn applied(self) -> Option<&'static str> {
        match self {
            Self::Unsaid => None,
            Self::Minimal => Some("return=minimal"),
            Self::Representation => Some("return=representation"),
            Self::Outcome => Some("return=OperationOutcome"),
        }
    }
}

/// What the headers and the query of a FHIR request ask for.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    /// Request id, for the log and the store.
    pub(super) request_id: String,
    /// `_pretty=true`.
    pub(super) pretty: bool,
    /// `Prefer: return=...`.
    pub(super) give_back: Return,
    /// `Prefer: handling=strict`.
    pub(super) strict: bool,
    /// The query without `_format` and `_pretty`, in the order sent.
    pub(super) query: Vec<(String, String)>,
}

impl Wish {
    /// Refuses, or with lenient handling returns warnings for, parameters that are not in `known`.
    pub(super) fn only(&self, known: &[&str]) -> Result<Vec<Issue>, Error> {
        let unknown: Vec<Issue> = self
            .query
            .iter()
            .filter(|(name, _)| !known.contains(&name.as_str()))
            .map(|_| {
                Issue::warning(
                    "parameter-unknown",
                    "a query parameter that is not known here was ignored",
                )
            })
            .collect();
        if self.strict && !unknown.is_empty() {
            return Err(Error::Malformed(vec![Issue::error(
                "parameter-unknown",
                "a query parameter is not known here",
            )]));
        }
        Ok(unknown)
    }
}

impl FromRequest for Wish {
    type Error = Error;
    type Future = Ready<Result<Self, Error>>;

    fn from_request(req: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(wish(req))
    }
}

/// Whether `_pretty=true` was asked for; also for refusals, which are written before a [`Wish`] is.
pub(super) fn pretty(query: &str) -> bool {
    query.split('&').any(|pair| pair == "_pretty=true")
}

fn wish(req: &HttpRequest) -> Result<Wish, Error> {
    let query = Query::<Vec<(String, String)>>::from_query(req.query_string())
        .map_err(|_| Error::Malformed(vec![Issue::error("value", "the query cannot be read")]))?
        .into_inner();
    acceptable(req, &query)?;
    let (give_back, strict) = preferences(req);
    Ok(Wish {
        request_id: req
            .extensions()
            .get::<RequestId>()
            .map(|id| id.0.clone())
            .unwrap_or_default(),
        pretty: pretty(req.query_string()),
        give_back,
        strict,
        query: own(query),
    })
}

/// Parameters without those that only say how the answer is to look.
pub(super) fn own(mut parameters: Vec<(String, String)>) -> Vec<(String, String)> {
    parameters.retain(|(name, _)| name != "_format" && name != "_pretty");
    parameters
}

/// The release that the body is written in; refuses bodies we cannot read.
pub(super) fn body_release(req: &HttpRequest) -> Result<Release, Error> {
    let refuse = |text: &str| Err(Error::MediaType(Issue::error("not-supported", text)));
    let Some(media_type) = req.headers().get(header::CONTENT_TYPE) else {
        return refuse("the Content-Type is missing; send application/fhir+json");
    };
    let Some(media_type) = media_type
        .to_str()
        .ok()
        .and_then(|text| text.parse::<Mime>().ok())
    else {
        return refuse("the Content-Type cannot be read; send application/fhir+json");
    };
    if !is_json(&media_type) {
        return refuse("send application/fhir+json; XML and other forms are not read");
    }
    if media_type
        .get_param("charset")
        .is_some_and(|charset| !charset.as_str().eq_ignore_ascii_case("utf-8"))
    {
        return refuse("the charset must be utf-8");
    }
    match media_type.get_param("fhirVersion") {
        None => Ok(Release::R4),
        Some(version) => {
            release(version.as_str()).map_or_else(|| refuse("fhirVersion must be 4.0 or 4.3"), Ok)
        }
    }
}

/// `Idempotency-Key`: an sf-string, so quoted; bare is taken too.
pub(super) fn idempotency_key(req: &HttpRequest) -> Result<Option<String>, Error> {
    let Some(value) = req.headers().get("idempotency-key") else {
        return Ok(None);
    };
    let key = value.to_str().unwrap_or_default().trim();
    let key = key
        .strip_prefix('"')
        .and_then(|key| key.strip_suffix('"'))
        .unwrap_or(key);
    if key.is_empty() || key.len() > 255 || key.contains('"') {
        return Err(Error::Malformed(vec![Issue::error(
            "value",
            "Idempotency-Key must be a string of 1 to 255 characters",
        )]));
    }
    Ok(Some(key.to_owned()))
}

fn release(version: &str) -> Option<Release> {
    match version {
        "4.0" | "4.0.1" => Some(Release::R4),
        "4.3" | "4.3.0" => Some(Release::R4b),
        _ => None,
    }
}

fn is_json(media_type: &Mime) -> bool {
    JSON.contains(&media_type.essence_str())
}

fn acceptable(req: &HttpRequest, query: &[(String, String)]) -> Result<(), Error> {
    let refuse = || {
        Err(Error::NotAcceptable(Issue::error(
            "not-supported",
            "answers are written as application/fhir+json of fhirVersion 4.0 only",
        )))
    };
    if let Some((_, format)) = query.iter().find(|(name, _)| name == "_format") {
        // A literal plus arrives as a space.
        let format = format.replace(' ', "+");
        let known = format == "json" || format.parse::<Mime>().is_ok_and(|format| is_json(&format));
        return if known { Ok(()) } else { refuse() };
    }
    let Ok(Accept(ranges)) = Accept::parse(req) else {
        return Ok(());
    };
    let takes_json = ranges.is_empty()
        || ranges.iter().any(|range| {
            let essence = range.item.essence_str();
            range.quality > header::Quality::ZERO
                && (essence == "*/*" || essence == "application/*" || is_json(&range.item))
                && range
                    .item
                    .get_param("fhirVersion")
                    .is_none_or(|version| release(version.as_str()).is_some())
        });
    if takes_json { Ok(()) } else { refuse() }
}

/// `Prefer` (RFC 7240); unknown preferences are ignored.
fn preferences(req: &HttpRequest) -> (Return, bool) {
    let mut give_back = Return::default();
    let mut strict = false;
    for value in req.headers().get_all("prefer") {
        for preference in value.to_str().unwrap_or_default().split([',', ';']) {
            match preference.trim() {
                "return=minimal" => give_back = Return::Minimal,
                "return=representation" => give_back = Return::Representation,
                "return=OperationOutcome" => give_back = Return::Outcome,
                "handling=strict" => strict = true,
                _ => {}
            }
        }
    }
    (give_back, strict)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn accepts(accept: &str) -> bool {
        let request = TestRequest::default()
            .insert_header(("accept", accept))
            .to_http_request();
        acceptable(&request, &[]).is_ok()
    }

    fn reads(media_type: &str) -> Option<Release> {
        let request = TestRequest::default()
            .insert_header(("content-type", media_type))
            .to_http_request();
        body_release(&request).ok()
    }

    #[test]
    fn a_browser_gets_json_by_its_wildcard() {
        assert!(accepts("text/html,application/xhtml+xml,*/*;q=0.1"));
        assert!(accepts("application/json+fhir"));
        assert!(accepts("application/fhir+json; fhirVersion=4.0; q=0.9"));
        assert!(!accepts("application/fhir+xml"));
        assert!(!accepts("application/fhir+json; fhirVersion=5.0"));
        assert!(!accepts("application/json;q=0"));
    }

    #[test]
    fn a_format_in_the_query_overrides_accept() {
        let request = TestRequest::default()
            .insert_header(("accept", "application/fhir+xml"))
            .to_http_request();
        let format = |format: &str| {
            acceptable(&request, &[("_format".to_owned(), format.to_owned())]).is_ok()
        };
        assert!(format("json"));
        assert!(format("application/fhir json"));
        assert!(!format("xml"));
    }

    #[test]
    fn bodies_are_json_in_utf8_of_a_release_we_read() {
        assert_eq!(
            reads("application/fhir+json; charset=UTF-8"),
            Some(Release::R4)
        );
        assert_eq!(
            reads("application/json; fhirVersion=4.3"),
            Some(Release::R4b)
        );
        assert_eq!(reads("application/fhir+json; fhirVersion=5.0"), None);
        assert_eq!(reads("application/fhir+json; charset=latin1"), None);
        assert_eq!(reads("application/fhir+xml"), None);
        assert_eq!(reads("text/plain"), None);
        assert_eq!(reads("nonsense"), None);
    }

    #[test]
    fn an_idempotency_key_may_be_quoted_or_bare() {
        let key = |value: &str| {
            let request = TestRequest::default()
                .insert_header(("idempotency-key", value))
                .to_http_request();
            idempotency_key(&request).ok().flatten()
        };
        assert_eq!(key("\"k1\"").as_deref(), Some("k1"));
        assert_eq!(key("k1").as_deref(), Some("k1"));
        assert_eq!(key("\"\""), None);
    }
}
