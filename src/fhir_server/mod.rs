//! Floor 2, someone else's FHIR server: what it can do, who the patient is there, and writing our
//! findings to it. Every way this can end is an [`Outcome`]; what follows is not decided here.

mod answer;
mod capability;
mod connection;
mod copy;
#[cfg(feature = "fault-injection")]
mod fault;
pub mod lookup;
pub mod pace;
mod patient;
mod send;
mod smart;
mod standing;
mod wire;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use reqwest::Url;
use time::{Duration, OffsetDateTime};

use self::pace::Pace;
pub use self::{
    capability::{Capability, Strategy},
    connection::{Connection, TlsFiles},
    smart::Smart,
    wire::{Answer, Limits, Token, Transport},
};
use crate::store::{
    delivery::Outcome,
    lease::{Item, Leased, Written},
};

/// How long a CapabilityStatement holds.
const CAPABILITY_FRESH: Duration = Duration::hours(24);

/// Why a target cannot be talked to at all. Texts carry no address: it may hold a secret.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The base address cannot be used.
    #[error("the address of the FHIR server {0}")]
    Base(&'static str),
    /// A file cannot be used.
    #[error("{what} {}: {why}", path.display())]
    File {
        /// What it is to be.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The HTTP client does not start.
    #[error("the HTTP client does not start")]
    Client(#[source] reqwest::Error),
}

/// One FHIR server that findings are written to.
#[derive(Debug)]
pub struct FhirServer {
    base: Url,
    transport: Arc<dyn Transport>,
    /// `None`: whoever carries the requests keeps the pace.
    pace: Option<Pace>,
    token: Token,
    capability: Mutex<Option<(OffsetDateTime, Arc<Capability>)>>,
    /// What it refused although its CapabilityStatement promises it.
    refused: Mutex<HashMap<String, Vec<Strategy>>>,
    /// Types that were written by our ids, whether promised or not.
    put_id_works: Mutex<HashSet<String>>,
    transaction_refused: AtomicBool,
    /// It does not know `fhirVersion` in a media type.
    plain_media_type: AtomicBool,
    patients: patient::Known,
    /// Ids of our Devices there, by our own; held while one is created.
    devices: tokio::sync::Mutex<HashMap<String, String>>,
}

/// What came of a send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// How it ended.
    pub outcome: Outcome,
    /// The items that are settled, whatever the outcome.
    pub items: Vec<Written>,
    /// HTTP status of the last answer.
    pub http_status: Option<u16>,
    /// First `issue.code` of the last answer, when it was an OperationOutcome.
    pub outcome_code: Option<String>,
    /// What the last answer asked to wait.
    pub retry_after: Option<std::time::Duration>,
    /// The first 2 kB of the last answer, when the send failed. Patient data.
    pub reply: Option<String>,
}

impl Sent {
    /// No request was answered.
    pub fn nothing(outcome: Outcome) -> Self {
        Self {
            outcome,
            items: Vec::new(),
            http_status: None,
            outcome_code: None,
            retry_after: None,
            reply: None,
        }
    }
}

impl FhirServer {
    /// A server at `base`: http or https, without user, query and fragment.
    pub fn new(base: &str, token: Token, limits: Limits) -> Result<Self, SetupError> {
        let connection = Connection::new(limits, TlsFiles::default())?;
        Self::over(Arc::new(connection), base, token)
    }

    /// The same over connections that its authorization server may share.
    pub fn over(connection: Arc<Connection>, base: &str, token: Token) -> Result<Self, SetupError> {
        let pace = Pace::new(connection.limits().per_second);
        Self::reached(connection, Some(pace), base, token)
    }

    /// The same, reached in another way than over the network, at any pace.
    pub fn reached_by(
        transport: Arc<dyn Transport>,
        base: &str,
        token: Token,
    ) -> Result<Self, SetupError> {
        Self::reached(transport, None, base, token)
    }

    fn reached(
        transport: Arc<dyn Transport>,
        pace: Option<Pace>,
        base: &str,
        token: Token,
    ) -> Result<Self, SetupError> {
        Ok(Self {
            base: checked(base)?,
            transport,
            pace,
            token,
            capability: Mutex::default(),
            refused: Mutex::default(),
            put_id_works: Mutex::default(),
            transaction_refused: AtomicBool::new(false),
            plain_media_type: AtomicBool::new(false),
            patients: patient::Known::default(),
            devices: tokio::sync::Mutex::default(),
        })
    }

    /// Its base address, without a slash at the end.
    pub fn base(&self) -> &str {
        self.base.as_str().trim_end_matches('/')
    }

    /// Sends a delivery. `may_start` is asked before every request: `false` means that this process
    /// is stopping or may have lost its leases.
    pub async fn send(
        &self,
        leased: &Leased,
        now: OffsetDateTime,
        may_start: &(dyn Fn() -> bool + Sync),
    ) -> Sent {
        send::send(self, leased, now, may_start).await
    }

    /// Whether to ask less of it than it takes otherwise: it has just come back.
    pub fn go_easy(&self, easy: bool) {
        if let Some(pace) = &self.pace {
            pace.go_easy(easy);
        }
    }

    /// So many processes write to it, this one included: each asks for its part.
    pub fn share(&self, replicas: usize) {
        if let Some(pace) = &self.pace {
            pace.share(replicas);
        }
    }

    /// The types among `kinds` that it does not let us write, as far as is known: for the gauge
    /// `target_type_unwritable` and `/readyz`. Empty while its CapabilityStatement was never read.
    pub fn unwritable<'k>(&self, kinds: &[&'k str]) -> Vec<&'k str> {
        let capability = lock(&self.capability);
        match &*capability {
            None => Vec::new(),
            Some((_, capability)) => kinds
                .iter()
                .copied()
                .filter(|kind| {
                    !capability.writable(kind, *kind != "Provenance") || !self.token.writes(kind)
                })
                .collect(),
        }
    }

    /// How many tokens its authorization server gave us, if it has one.
    pub fn tokens(&self) -> Option<u64> {
        self.token.given()
    }

    fn known_capability(&self, now: OffsetDateTime) -> Option<Arc<Capability>> {
        let known = lock(&self.capability);
        known
            .as_ref()
            .filter(|(at, _)| (now - *at).abs() < CAPABILITY_FRESH)
            .map(|(_, capability)| Arc::clone(capability))
    }

    fn keep_capability(&self, capability: &Arc<Capability>, now: OffsetDateTime) {
        let mut known = lock(&self.capability);
        let stale = known
            .as_ref()
            .is_some_and(|(at, _)| (now - *at).abs() >= CAPABILITY_FRESH);
        *known = Some((now, Arc::clone(capability)));
        if stale {
            // A day later it may take again what it refused.
            lock(&self.refused).clear();
            self.transaction_refused.store(false, Ordering::Relaxed);
        }
    }

    fn strategy(&self, capability: &Capability, item: &Item) -> Option<Strategy> {
        let refused = lock(&self.refused);
        let refused = refused.get(&item.kind).map_or(&[][..], Vec::as_slice);
        capability.strategy(&item.kind, item.identifier.is_some(), refused)
    }

    /// Notes that a way of writing was refused; whether another is left.
    fn refuse(&self, capability: &Capability, item: &Item, strategy: Strategy) -> bool {
        {
            let kind = &item.kind;
            let mut refused = lock(&self.refused);
            let ways = refused.entry(kind.clone()).or_default();
            if !ways.contains(&strategy) {
                ways.push(strategy);
                tracing::warn!(
                    kind,
                    ?strategy,
                    "the target refuses a way of writing that it promises"
                );
            }
        }
        self.strategy(capability, item).is_some()
    }

    /// Whether it takes our ids for `kind`, as far as is known: then a refusal is of the content.
    fn takes_our_ids(&self, capability: &Capability, kind: &str) -> bool {
        capability.promises_put_id(kind) || lock(&self.put_id_works).contains(kind)
    }

    fn note_our_id_taken(&self, kind: &str) {
        lock(&self.put_id_works).insert(kind.to_owned());
    }

    /// The address of `segments` below the base.
    fn at(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// The address of a search for an identifier.
    fn search(&self, kind: &str, (system, value): &(String, String)) -> Url {
        let mut url = self.at(&[kind]);
        url.query_pairs_mut()
            .append_pair("identifier", &format!("{system}|{value}"));
        url
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn checked(base: &str) -> Result<Url, SetupError> {
    let url = Url::parse(base).map_err(|_| SetupError::Base("is not a URL"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(SetupError::Base("must begin with http:// or https://"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(SetupError::Base("must not carry a user or a password"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(SetupError::Base("must not carry a query or a fragment"));
    }
    match url.host_str() {
        // The metadata service of cloud machines: never a FHIR server, often a secret.
        Some(host) if lookup::literal(host).is_some_and(|ip| !lookup::may_connect(ip, true)) => {
            Err(SetupError::Base("is that of a cloud metadata service"))
        }
        Some(host) if !host.ends_with('.') => Ok(url),
        _ => Err(SetupError::Base(
            "needs a host name without a dot at its end",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_no_base_is_refused() {
        for base in [
            "",
            "fhir",
            "ftp://f.example/fhir",
            "file:///etc/passwd",
            "https://user:secret@f.example/fhir",
            "https://f.example/fhir?x=1",
            "https://f.example/fhir#x",
            "https://f.example./fhir",
            "http://169.254.169.254/fhir",
            "http://2852039166/fhir",
            "http://[fd00:ec2::254]/fhir",
            "http://[::ffff:169.254.169.254]/fhir",
        ] {
            let error = FhirServer::new(base, Token::None, Limits::default());
            let text = error.expect_err(base).to_string();
            assert!(!text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn addresses_are_built_below_the_base() {
        for base in ["https://f.example/fhir", "https://f.example/fhir/"] {
            let server = FhirServer::new(base, Token::None, Limits::default()).unwrap();
            assert_eq!(server.base(), "https://f.example/fhir");
            assert_eq!(
                server.at(&["Flag", "../x"]).as_str(),
                "https://f.example/fhir/Flag/..%2Fx"
            );
            let identifier = ("urn:a".to_owned(), "b&c|d".to_owned());
            assert_eq!(
                server.search("Flag", &identifier).as_str(),
                "https://f.example/fhir/Flag?identifier=urn%3Aa%7Cb%26c%7Cd"
            );
        }
    }
}
