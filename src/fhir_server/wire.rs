//! One HTTP call: what leaves, what may come back, and how a failed call is told apart.

use std::{error::Error, fmt, path::Path, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use reqwest::{
    Method, Request, StatusCode, Url,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;
use time::{OffsetDateTime, format_description::well_known::Rfc2822};

use super::{connection::Connection, lookup::Filtered, smart::Smart};
use crate::{
    fault::crash_point,
    fhir::{outcome::word, tree},
    store::delivery::Outcome,
};

/// FHIR JSON of release 4.0, in both directions.
const FHIR_JSON: HeaderValue =
    HeaderValue::from_static("application/fhir+json; fhirVersion=4.0; charset=utf-8");
/// The same for a server that does not know the parameter (406, 415).
const PLAIN_FHIR_JSON: HeaderValue = HeaderValue::from_static("application/fhir+json");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const IF_NONE_EXIST: HeaderName = HeaderName::from_static("if-none-exist");
const PREFER: HeaderName = HeaderName::from_static("prefer");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");
/// Azure's finer `Retry-After`.
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("x-ms-retry-after-ms");
/// The largest file a token is read from.
const TOKEN_LIMIT: usize = 64 * 1024;

/// How long a call may take, how much may come back, and how often.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// To connect, TLS included.
    pub connect: Duration,
    /// For the whole call, to the last byte of the answer.
    pub total: Duration,
    /// Bytes of an answer.
    pub response: usize,
    /// Requests that may begin within a second.
    pub per_second: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            total: Duration::from_secs(15),
            response: 8 * 1024 * 1024,
            per_second: 20,
        }
    }
}

/// Where the bearer token comes from.
#[derive(Debug, Clone, Default)]
pub enum Token {
    /// The target asks for none.
    #[default]
    None,
    /// A file, read again for every send, so that it can be renewed under us.
    File(Arc<Path>),
    /// An authorization server, asked with our key.
    Smart(Arc<Smart>),
}

impl Token {
    /// The `Authorization` header, after `refused` was refused. `Err`: there is no token.
    pub(super) async fn header(
        &self,
        now: OffsetDateTime,
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, Outcome> {
        match self {
            Self::None => Ok(None),
            Self::File(path) => from_file(path).await.map(Some),
            Self::Smart(smart) => smart.header(now, refused).await.map(Some),
        }
    }

    /// After `refused` was refused although it was new: it is not to be used again.
    pub(super) async fn forget(&self, refused: Option<&HeaderValue>) {
        match self {
            Self::None | Self::File(_) => {}
            Self::Smart(smart) => smart.forget(refused).await,
        }
    }

    /// How many were given, where they are asked for.
    pub(super) fn given(&self) -> Option<u64> {
        match self {
            Self::None | Self::File(_) => None,
            Self::Smart(smart) => Some(smart.given()),
        }
    }

    /// Whether it lets us write this type, as far as it says.
    pub(super) fn writes(&self, kind: &str) -> bool {
        match self {
            Self::None | Self::File(_) => true,
            Self::Smart(smart) => smart.writes(kind),
        }
    }
}

async fn from_file(path: &Path) -> Result<HeaderValue, Outcome> {
    let text = tokio::fs::read(path)
        .await
        .ok()
        .filter(|bytes| bytes.len() <= TOKEN_LIMIT)
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or(Outcome::Unauthorized)?;
    let token = text.trim();
    if token.is_empty() {
        return Err(Outcome::Unauthorized);
    }
    let mut value =
        HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| Outcome::Unauthorized)?;
    value.set_sensitive(true);
    Ok(value)
}

/// One call.
#[derive(Debug, Clone)]
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) body: Option<&'a Value>,
    /// Version as in an `ETag`.
    pub(super) if_match: Option<&'a str>,
    pub(super) if_none_exist: Option<String>,
    /// `return=minimal` or `return=representation`.
    pub(super) prefer: Option<&'static str>,
}

impl<'a> Call<'a> {
    /// A read or a search, past every cache on the way.
    pub(super) fn get(url: Url) -> Self {
        Self {
            method: Method::GET,
            url,
            body: None,
            if_match: None,
            if_none_exist: None,
            prefer: None,
        }
    }

    pub(super) fn write(method: Method, url: Url, body: &'a Value) -> Self {
        Self {
            method,
            url,
            body: Some(body),
            if_match: None,
            if_none_exist: None,
            prefer: None,
        }
    }
}

/// What goes with every call of one send.
#[derive(Debug, Clone, Copy)]
pub(super) struct Envelope<'a> {
    pub(super) authorization: Option<&'a HeaderValue>,
    pub(super) request_id: &'a str,
    pub(super) correlation_id: &'a str,
    pub(super) plain_media_type: bool,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) etag: Option<String>,
    pub(super) location: Option<String>,
    pub(super) retry_after: Option<Duration>,
    pub(super) bytes: Vec<u8>,
}

impl Reply {
    /// The body, if it is a JSON object in which no name stands twice.
    pub(super) fn json(&self) -> Option<Value> {
        let parsed = tree::parse(&self.bytes, &tree::Limits::default()).ok()?;
        // Which of two members counts, every reader decides for itself.
        let ambiguous = parsed
            .broken
            .iter()
            .any(|broken| broken.word == word::DUPLICATE_KEY);
        (!ambiguous)
            .then(|| parsed.root.to_value())
            .filter(Value::is_object)
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.iter().all(u8::is_ascii_whitespace)
    }

    /// The first 2 kB.
    pub(super) fn excerpt(&self) -> String {
        let end = self.bytes.len().min(2048);
        String::from_utf8_lossy(self.bytes.get(..end).unwrap_or_default()).into_owned()
    }
}

/// Carries a request to a FHIR server and the whole answer back.
///
/// The network is one; a simulation brings another, so that what is sent and what is made of the
/// answers is the same code there.
pub trait Transport: fmt::Debug + Send + Sync {
    /// Sends at `now` and reads the answer to its end. `Err` carries how the call failed.
    fn exchange(
        &self,
        request: Request,
        now: OffsetDateTime,
    ) -> BoxFuture<'_, Result<Answer, Outcome>>;
}

/// An answer as it came.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its header fields.
    pub headers: HeaderMap,
    /// Its body.
    pub bytes: Vec<u8>,
}

impl Transport for Connection {
    fn exchange(
        &self,
        request: Request,
        now: OffsetDateTime,
    ) -> BoxFuture<'_, Result<Answer, Outcome>> {
        #[cfg(feature = "fault-injection")]
        let request = super::fault::in_pieces(request);
        Box::pin(async move {
            let sent = self.client(now).await.execute(request).await;
            let mut answer = sent.map_err(|error| failed(&error))?;
            let (status, headers) = (answer.status(), std::mem::take(answer.headers_mut()));
            let bytes = whole(answer, self.limits().response).await?;
            crash_point!("courier.answer_read");
            Ok(Answer {
                status,
                headers,
                bytes,
            })
        })
    }
}

/// What the client for one target is made of. No redirects (a token must not follow one), no retries
/// of its own (retrying is done in one place), no proxy from the environment, no compressed answers.
pub(super) fn builder(limits: &Limits) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("marrowflag/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        // A name, too, must not lead to the metadata service of a cloud.
        .dns_resolver(Arc::new(Filtered { internal: true }))
        .connect_timeout(limits.connect)
        .timeout(limits.total)
        .pool_idle_timeout(Duration::from_secs(20))
}

/// One call. `Err` carries how it failed.
pub(super) async fn exchange(
    transport: &dyn Transport,
    call: Call<'_>,
    envelope: &Envelope<'_>,
    now: OffsetDateTime,
) -> Result<Reply, Outcome> {
    let headers = headers(&call, envelope);
    let mut request = Request::new(call.method, call.url);
    *request.headers_mut() = headers;
    *request.body_mut() = call.body.map(|body| body.to_string().into());
    let answer = transport.exchange(request, now).await?;
    let text = |name| {
        answer
            .headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
            .map(str::to_owned)
    };
    Ok(Reply {
        status: answer.status,
        etag: text(header::ETAG),
        location: text(header::LOCATION),
        retry_after: retry_after(&answer.headers, now),
        bytes: answer.bytes,
    })
}

/// The body of an answer, read to its end.
pub(super) async fn whole(mut answer: reqwest::Response, limit: usize) -> Result<Vec<u8>, Outcome> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|_| Outcome::Unknown)? {
        if bytes.len().saturating_add(chunk.len()) > limit {
            return Err(Outcome::Unknown);
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn headers(call: &Call<'_>, envelope: &Envelope<'_>) -> HeaderMap {
    let media_type = if envelope.plain_media_type {
        PLAIN_FHIR_JSON
    } else {
        FHIR_JSON
    };
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, media_type.clone());
    headers.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    if let Some(authorization) = envelope.authorization {
        headers.insert(header::AUTHORIZATION, authorization.clone());
    }
    if call.body.is_some() {
        headers.insert(header::CONTENT_TYPE, media_type);
    } else {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
    // A value that cannot stand in a header (an ETag from a strange server) is left out: without
    // it the write is still a PUT of the same content.
    let texts = [
        (REQUEST_ID, Some(envelope.request_id)),
        (CORRELATION_ID, Some(envelope.correlation_id)),
        (header::IF_MATCH, call.if_match),
        (IF_NONE_EXIST, call.if_none_exist.as_deref()),
        (PREFER, call.prefer),
    ];
    for (name, text) in texts {
        if let Some(value) = text.and_then(|text| HeaderValue::from_str(text).ok()) {
            headers.insert(name, value);
        }
    }
    headers
}

/// A call without a whole answer: was anything sent?
pub(super) fn failed(error: &reqwest::Error) -> Outcome {
    let not_sent = error.is_connect() || error.is_builder();
    match tls_error(error) {
        // Waiting mends no TLS error. Our own certificate is refused by an alert that comes after
        // the handshake, and instead of a look at the request.
        Some(tls) if not_sent || refuses_us(tls) => Outcome::Certificate,
        _ if not_sent => Outcome::NotSent,
        _ => Outcome::Unknown,
    }
}

/// What TLS failed with, if that is the cause.
fn tls_error<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e rustls::Error> {
    if let Some(tls) = error.downcast_ref() {
        return Some(tls);
    }
    // An I/O error that wraps another does not name it as its source.
    match error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref)
    {
        Some(wrapped) => tls_error(wrapped),
        None => tls_error(error.source()?),
    }
}

/// Whether the server does not take our certificate, or wants one.
fn refuses_us(error: &rustls::Error) -> bool {
    use rustls::AlertDescription as Alert;
    matches!(
        error,
        rustls::Error::AlertReceived(
            Alert::CertificateRequired
                | Alert::BadCertificate
                | Alert::UnsupportedCertificate
                | Alert::CertificateRevoked
                | Alert::CertificateExpired
                | Alert::CertificateUnknown
                | Alert::UnknownCA
                | Alert::AccessDenied
                | Alert::HandshakeFailure
                | Alert::DecryptError
        )
    )
}

/// `Retry-After` in seconds or as a date, or Azure's in milliseconds. What cannot be read counts as
/// absent; a date that is past as "now".
pub(super) fn retry_after(headers: &HeaderMap, now: OffsetDateTime) -> Option<Duration> {
    let text = |name: &HeaderName| headers.get(name)?.to_str().ok().map(str::trim);
    if let Some(millis) = text(&RETRY_AFTER_MS).and_then(|value| value.parse().ok()) {
        return Some(Duration::from_millis(millis));
    }
    let value = text(&header::RETRY_AFTER)?;
    if let Ok(seconds) = value.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = OffsetDateTime::parse(value, &Rfc2822).ok()?;
    Some(Duration::try_from(date - now).unwrap_or(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn asked(name: &'static str, value: &'static str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        retry_after(&headers, datetime!(2015-10-21 07:28 UTC))
    }

    #[test]
    fn retry_after_is_read_in_all_its_forms() {
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(asked("retry-after", "120"), seconds(120));
        assert_eq!(asked("retry-after", "0"), seconds(0));
        assert_eq!(asked("retry-after", "999999999"), seconds(999_999_999));
        assert_eq!(
            asked("retry-after", "Wed, 21 Oct 2015 07:28:30 GMT"),
            seconds(30)
        );
        assert_eq!(
            asked("retry-after", "Wed, 21 Oct 2015 07:27:00 GMT"),
            seconds(0),
            "past"
        );
        assert_eq!(
            asked("x-ms-retry-after-ms", "250"),
            Some(Duration::from_millis(250))
        );
        for nonsense in ["-1", "soon", "", "1.5", "99999999999999999999999"] {
            assert_eq!(asked("retry-after", nonsense), None, "{nonsense:?}");
        }
    }

    #[tokio::test]
    async fn a_token_file_is_trimmed_and_must_hold_a_token() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let token = Token::File(file.path().into());
        assert_eq!(
            token.header(OffsetDateTime::UNIX_EPOCH, None).await,
            Err(Outcome::Unauthorized),
            "empty"
        );
        std::fs::write(file.path(), " abc\n").unwrap();
        let header = token
            .header(OffsetDateTime::UNIX_EPOCH, None)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(header.to_str().unwrap(), "Bearer abc");
        assert!(header.is_sensitive(), "it must not be printed");
        std::fs::write(file.path(), "a\nb").unwrap();
        assert_eq!(
            token.header(OffsetDateTime::UNIX_EPOCH, None).await,
            Err(Outcome::Unauthorized),
            "two lines"
        );
    }
}
