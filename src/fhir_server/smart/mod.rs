//! SMART Backend Services: a bearer token for an assertion that is signed with our key.
//!
//! Tokens are asked for in one place at a time, kept until 80 % of their life is over, and asked for
//! anew when the FHIR server refuses one. SMART App Launch 2.2, "Backend Services" and
//! "Client Authentication: Asymmetric"; RFC 7523.

mod registration;
mod scope;

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use jsonwebtoken::jwk::JwkSet;
use reqwest::{
    StatusCode, Url,
    header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderValue},
};
use serde::Deserialize;
use serde_json::Value;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use self::{
    registration::{Key, Registration},
    scope::{Granted, Syntax},
};
use super::{
    SetupError,
    connection::{Connection, FILE_FRESH},
    lock, wire,
};
use crate::store::delivery::Outcome;

/// Bytes of an answer of an authorization server.
const ANSWER_LIMIT: usize = 64 * 1024;
/// How long what a FHIR server says about its authorization server holds.
const DISCOVERY_FRESH: Duration = Duration::hours(24);
/// How long a failure is everybody's who waited for the same token.
const FAILURE_FRESH: Duration = Duration::seconds(5);
/// Longer than a send takes.
const SEND: Duration = Duration::minutes(5);
/// Life of a token whose answer does not say, and the longest that is believed.
const SAID_NOTHING: i64 = 300;
const LONGEST: i64 = 24 * 3600;

/// A SMART Backend Services client at the authorization server of one FHIR server. Prints neither
/// keys nor tokens.
pub struct Smart {
    path: PathBuf,
    discovery: Url,
    connection: Arc<Connection>,
    observations: bool,
    random: fn() -> u128,
    /// With the time it was read at.
    registration: Mutex<(Option<OffsetDateTime>, Arc<Registration>)>,
    /// What the newest token lets us write, as far as is known.
    granted: Mutex<Option<Granted>>,
    /// Tokens that were given.
    given: AtomicU64,
    /// Held while a token is asked for, so that one is asked for at a time.
    state: tokio::sync::Mutex<State>,
}

#[derive(Default)]
struct State {
    endpoint: Option<(OffsetDateTime, Endpoint)>,
    held: Option<Held>,
    failed: Option<(OffsetDateTime, Outcome)>,
}

/// A token.
struct Held {
    header: HeaderValue,
    since: OffsetDateTime,
    renew_at: OffsetDateTime,
}

/// Where tokens are given, and for what.
#[derive(Clone)]
struct Endpoint {
    url: Url,
    /// As it was written: what the assertion is for must be letter by letter what they expect.
    audience: String,
    syntax: Syntax,
    /// Signatures it takes; empty: it does not say.
    algorithms: Vec<String>,
}

/// `.well-known/smart-configuration`, as far as it is ours.
#[derive(Deserialize)]
struct Configuration {
    token_endpoint: String,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Vec<String>,
    #[serde(default)]
    token_endpoint_auth_signing_alg_values_supported: Vec<String>,
    #[serde(default)]
    capabilities: Vec<String>,
}

/// RFC 6749, 5.1.
#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    token_type: String,
    /// Seconds; some write the number as a string.
    expires_in: Option<Value>,
    scope: Option<String>,
}

/// RFC 6749, 5.2; its description may say anything and is not read.
#[derive(Deserialize)]
struct Refusal {
    error: String,
}

/// Why there is no token.
enum NoToken {
    /// The scopes are more than it gives us.
    Scope,
    Ends(Outcome),
}

impl From<Outcome> for NoToken {
    fn from(outcome: Outcome) -> Self {
        Self::Ends(outcome)
    }
}

impl Smart {
    /// A client as the file at `path` says, for the FHIR server at `base`. `observations`: derived
    /// grades are written too. `random` makes what must be unique.
    pub fn load(
        path: &Path,
        base: &str,
        observations: bool,
        connection: Arc<Connection>,
        random: fn() -> u128,
    ) -> Result<Self, SetupError> {
        let registration = Registration::read(path).map_err(|why| SetupError::File {
            what: "the SMART client",
            path: path.to_owned(),
            why,
        })?;
        let mut discovery = super::checked(base)?;
        if let Ok(mut segments) = discovery.path_segments_mut() {
            segments
                .pop_if_empty()
                .extend([".well-known", "smart-configuration"]);
        }
        Ok(Self {
            path: path.to_owned(),
            discovery,
            connection,
            observations,
            random,
            registration: Mutex::new((None, Arc::new(registration))),
            granted: Mutex::default(),
            given: AtomicU64::new(0),
            state: tokio::sync::Mutex::default(),
        })
    }

    /// Our public keys, all that the file names: the old one next to the new.
    pub async fn public_keys(&self, now: OffsetDateTime) -> JwkSet {
        self.registration(now).await.public()
    }

    /// Whether the newest token lets us write this type, as far as it says.
    pub(super) fn writes(&self, kind: &str) -> bool {
        let granted = lock(&self.granted);
        granted.as_ref().is_none_or(|granted| granted.writes(kind))
    }

    /// How many tokens were given.
    pub(super) fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }

    /// The `Authorization` header; another one than `refused`.
    pub(super) async fn header(
        &self,
        now: OffsetDateTime,
        refused: Option<&HeaderValue>,
    ) -> Result<HeaderValue, Outcome> {
        let mut state = self.state.lock().await;
        // A clock that was set back makes a token look as if it came from the future: it is not
        // trusted then. One that came while this send was under way is.
        let held = state.held.as_ref().filter(|held| {
            held.since - now < SEND && now < held.renew_at && refused != Some(&held.header)
        });
        if let Some(held) = held {
            return Ok(held.header.clone());
        }
        if let Some((at, outcome)) = state.failed
            && (now - at).abs() < FAILURE_FRESH
        {
            return Err(outcome);
        }
        state.held = None;
        match self.fetch(&mut state, now).await {
            Ok(held) => {
                state.failed = None;
                self.given.fetch_add(1, Ordering::Relaxed);
                Ok(state.held.insert(held).header.clone())
            }
            Err(outcome) => {
                state.failed = Some((now, outcome));
                // It may have moved.
                state.endpoint = None;
                Err(outcome)
            }
        }
    }

    /// After `refused` was refused although it was new: the next header is another one.
    pub(super) async fn forget(&self, refused: Option<&HeaderValue>) {
        let mut state = self.state.lock().await;
        state.held = state
            .held
            .take()
            .filter(|held| Some(&held.header) != refused);
    }

    async fn fetch(&self, state: &mut State, now: OffsetDateTime) -> Result<Held, Outcome> {
        let registration = self.registration(now).await;
        let known = state
            .endpoint
            .take()
            .filter(|(at, _)| (now - *at).abs() < DISCOVERY_FRESH);
        let (at, endpoint) = match (&registration.token_url, known) {
            (Some(url), _) => (now, Endpoint::configured(url)),
            (None, Some(known)) => known,
            (None, None) => (now, self.discover(now).await?),
        };
        let key = endpoint.key(&registration).ok_or_else(|| {
            tracing::warn!("the authorization server takes no signature that we have a key for");
            Outcome::Unauthorized
        })?;
        let scopes = match &registration.scopes {
            Some(scopes) => vec![scopes.clone()],
            None => [true, false]
                .map(|all| scope::wanted(endpoint.syntax, self.observations, all))
                .to_vec(),
        };
        for scope in &scopes {
            match self.ask(&registration, key, &endpoint, scope, now).await {
                Ok(held) => {
                    state.endpoint = Some((at, endpoint));
                    return Ok(held);
                }
                Err(NoToken::Ends(outcome)) => return Err(outcome),
                Err(NoToken::Scope) => {}
            }
        }
        Err(Outcome::Unauthorized)
    }

    async fn discover(&self, now: OffsetDateTime) -> Result<Endpoint, Outcome> {
        let client = self.connection.client(now).await;
        let request = client.get(self.discovery.clone());
        let (status, bytes, wait) = exchange(request, now).await?;
        if status != StatusCode::OK {
            if !status.is_success() && !matches!(status.as_u16(), 404 | 410) {
                return Err(refusal(status, wait));
            }
            tracing::warn!("the FHIR server does not say where its tokens come from");
            return Err(Outcome::Unauthorized);
        }
        let endpoint = serde_json::from_slice::<Configuration>(&bytes)
            .map_err(|_| "is no SMART configuration")
            .and_then(|said| Endpoint::discovered(&said, &self.discovery));
        endpoint.map_err(|why| {
            tracing::warn!("what the FHIR server says about its tokens {why}");
            Outcome::Unauthorized
        })
    }

    async fn ask(
        &self,
        registration: &Registration,
        key: &Key,
        endpoint: &Endpoint,
        scope: &str,
        now: OffsetDateTime,
    ) -> Result<Held, NoToken> {
        let jti = Uuid::from_u128((self.random)()).to_string();
        let assertion = registration
            .assertion(key, &endpoint.audience, &jti, now)
            .map_err(|_| {
                tracing::warn!(alg = key.name(), "the assertion cannot be signed");
                Outcome::Unauthorized
            })?;
        let form = form(
            &endpoint.url,
            &[
                ("grant_type", "client_credentials"),
                (
                    "client_assertion_type",
                    "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
                ),
                ("client_assertion", &assertion),
                ("scope", scope),
            ],
        );
        let client = self.connection.client(now).await;
        let request = client
            .post(endpoint.url.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form);
        let (status, bytes, wait) = exchange(request, now).await?;
        if status != StatusCode::OK {
            let error = serde_json::from_slice::<Refusal>(&bytes).ok();
            let error = error.map_or("", |refusal| known_error(&refusal.error));
            tracing::warn!(status = status.as_u16(), error, "no token was given to us");
            return Err(match (status.as_u16(), error) {
                (400 | 401, "invalid_scope") => NoToken::Scope,
                _ => NoToken::Ends(refusal(status, wait)),
            });
        }
        let held = serde_json::from_slice::<TokenAnswer>(&bytes)
            .ok()
            .and_then(|answer| Some((held(&answer, now)?, answer.scope)));
        let Some((held, granted)) = held else {
            tracing::warn!("what the authorization server gave us is no bearer token");
            return Err(Outcome::Unauthorized.into());
        };
        // No `scope` in the answer: all that was asked for.
        self.note(&granted.unwrap_or_else(|| scope.to_owned()));
        tracing::debug!("a token was given to us");
        Ok(held)
    }

    fn note(&self, scopes: &str) {
        let granted = Granted::read(scopes);
        if let Some(granted) = &granted {
            for kind in ["Flag", "DiagnosticReport", "Device", "Provenance"] {
                if !granted.writes(kind) {
                    tracing::warn!(kind, "the token does not let us write this type");
                }
            }
        }
        *lock(&self.granted) = granted;
    }

    /// The registration, read again when it is older than a minute. A file that is broken meanwhile
    /// leaves the keys that work.
    async fn registration(&self, now: OffsetDateTime) -> Arc<Registration> {
        let old = {
            let known = lock(&self.registration);
            let (at, registration) = &*known;
            if at.is_some_and(|at| (now - at).abs() < FILE_FRESH) {
                return Arc::clone(registration);
            }
            Arc::clone(registration)
        };
        let path = self.path.clone();
        let read = tokio::task::spawn_blocking(move || Registration::read(&path)).await;
        let registration = match read {
            Ok(Ok(new)) => Arc::new(new),
            Ok(Err(why)) => {
                tracing::warn!(why, "the SMART client is left as it was");
                old
            }
            Err(_) => old,
        };
        *lock(&self.registration) = (Some(now), Arc::clone(&registration));
        registration
    }
}

impl fmt::Debug for Smart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Smart").finish_non_exhaustive()
    }
}

impl Endpoint {
    fn configured((url, audience): &(Url, String)) -> Self {
        Self {
            url: url.clone(),
            audience: audience.clone(),
            syntax: Syntax::V2,
            algorithms: Vec::new(),
        }
    }

    /// `Err` says what is wrong with it.
    fn discovered(said: &Configuration, discovery: &Url) -> Result<Self, &'static str> {
        let url =
            super::checked(&said.token_endpoint).map_err(|_| "has no plain token_endpoint")?;
        if discovery.scheme() == "https" && url.scheme() != "https" {
            return Err("would send our assertion over an open line");
        }
        // What the FHIR server says may be wrong or forged; another host is for the operator to name.
        if url.host_str() != discovery.host_str() {
            return Err("names another host: if it is the right one, say so as token_url");
        }
        let methods = &said.token_endpoint_auth_methods_supported;
        if !methods.is_empty() && !methods.iter().any(|method| method == "private_key_jwt") {
            return Err("does not know private_key_jwt");
        }
        let version_2 = said.capabilities.iter().any(|one| one == "permission-v2");
        Ok(Self {
            url,
            audience: said.token_endpoint.clone(),
            syntax: if version_2 { Syntax::V2 } else { Syntax::V1 },
            algorithms: said
                .token_endpoint_auth_signing_alg_values_supported
                .clone(),
        })
    }

    /// The first of our keys whose signature it takes.
    fn key<'r>(&self, registration: &'r Registration) -> Option<&'r Key> {
        registration.keys.iter().find(|key| {
            self.algorithms.is_empty() || self.algorithms.iter().any(|name| name == key.name())
        })
    }
}

fn held(answer: &TokenAnswer, now: OffsetDateTime) -> Option<Held> {
    if !answer.token_type.eq_ignore_ascii_case("bearer") || answer.access_token.is_empty() {
        return None;
    }
    let mut header = HeaderValue::from_str(&format!("Bearer {}", answer.access_token)).ok()?;
    header.set_sensitive(true);
    let seconds = answer.expires_in.as_ref().and_then(seconds);
    let life = seconds.unwrap_or(SAID_NOTHING).clamp(0, LONGEST);
    Some(Held {
        header,
        since: now,
        renew_at: now + Duration::seconds(life) * 4 / 5,
    })
}

fn seconds(said: &Value) -> Option<i64> {
    match said {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_i64(),
    }
}

/// Pairs as a form. The URL library writes them, as it writes the same thing in a query.
fn form(base: &Url, pairs: &[(&str, &str)]) -> String {
    let mut url = base.clone();
    url.query_pairs_mut().clear().extend_pairs(pairs);
    url.query().unwrap_or_default().to_owned()
}

/// Status, body and `Retry-After` of an answer of the authorization server. Whatever fails here, the
/// FHIR server was sent nothing.
async fn exchange(
    request: reqwest::RequestBuilder,
    now: OffsetDateTime,
) -> Result<(StatusCode, Vec<u8>, Option<std::time::Duration>), Outcome> {
    let nothing_sent = |outcome| match outcome {
        Outcome::Certificate => Outcome::Certificate,
        _ => Outcome::NotSent,
    };
    let request = request
        .header(ACCEPT, "application/json")
        .header(ACCEPT_ENCODING, "identity");
    let answer = request
        .send()
        .await
        .map_err(|error| nothing_sent(wire::failed(&error)))?;
    let status = answer.status();
    let wait = wire::retry_after(answer.headers(), now);
    let bytes = wire::whole(answer, ANSWER_LIMIT)
        .await
        .map_err(nothing_sent)?;
    Ok((status, bytes, wait))
}

/// How a send ends when the authorization server does not give us a token.
fn refusal(status: StatusCode, retry_after: Option<std::time::Duration>) -> Outcome {
    match status.as_u16() {
        429 => Outcome::Throttled { retry_after },
        503 => Outcome::Unavailable { retry_after },
        408 | 425 | 500..=599 => Outcome::NotSent,
        300..=399 => Outcome::Redirected,
        _ => Outcome::Unauthorized,
    }
}

/// The error codes of RFC 6749; nothing else of an answer reaches a log.
fn known_error(error: &str) -> &'static str {
    [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    ]
    .into_iter()
    .find(|known| *known == error)
    .unwrap_or("other")
}
