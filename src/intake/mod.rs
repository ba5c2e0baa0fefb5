//! Bytes to stored findings: parse, check, read, file, decide, write, keep; then the receipt.
//!
//! Everything up to the store is a plain function of what was sent. The store asks
//! [`model::SubmissionModel`] in the middle of its work, so that what is decided is decided on
//! everything that is known of the patient.

mod assess;
mod filing;
mod model;
pub mod receipt;

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use sha2::{Digest, Sha256};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339};

pub use self::assess::{Assessed, AssessedPatient, assess_only};
use self::{
    filing::{Filed, Owner},
    model::{About, SubmissionModel},
    receipt::{EntryOutcome, MessageHeader, Receipt},
};
use crate::{
    fhir::{
        codes::CodeMap,
        outcome::Issue,
        read::{self, PatientReading},
        submission::{At, Checker, Kind, Method, Refusal, Release, Request, Submission},
        tree::{self, Limits, Parsed},
    },
    store::{
        Store, StoreError,
        keys::{Hash, digest},
        submission::{Accepted, Claims, Envelope, EnvelopeKind, Incoming, OutboxTarget},
    },
};

/// Bodies larger than this are decoded off the caller's thread.
const LARGE: usize = 256 << 10;

/// The time an assessment is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AsOf {
    /// The clock, when the results come in.
    #[default]
    Received,
    /// The newest specimen of the patient's timeline, never earlier than an earlier assessment's.
    Sampled,
}

/// How submissions are taken and findings written.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The time an assessment is made for.
    pub as_of: AsOf,
    /// Logical identifier (system, value) of the performing organization.
    pub organization: Option<(String, String)>,
    /// Add SNOMED CT codings.
    pub snomed: bool,
    /// Test data: label it so.
    pub insecure: bool,
    /// Write the derived lineage grades to targets too.
    pub write_observations: bool,
    /// Local codes to LOINC.
    pub codes: Arc<CodeMap>,
    /// Fingerprint of the code map, if there is one.
    pub code_map_fingerprint: Option<String>,
    /// How long a repeat is answered with its receipt.
    pub receipt_retention: Duration,
    /// Limits of a body.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            as_of: AsOf::Received,
            organization: None,
            snomed: false,
            insecure: false,
            write_observations: false,
            codes: Arc::default(),
            code_map_fingerprint: None,
            receipt_retention: Duration::hours(24),
            limits: Limits::default(),
        }
    }
}

/// Who sent something, when, and what it is to be.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Tenant.
    pub tenant: Arc<str>,
    /// Client.
    pub client: Arc<str>,
    /// Correlation only.
    pub request_id: String,
    /// The clock.
    pub received_at: OffsetDateTime,
    /// Release it is written in.
    pub release: Release,
    /// Method, path and `Idempotency-Key`, if there is one.
    pub idempotency_key: Option<String>,
    /// What is asked for.
    pub interaction: Interaction,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interaction {
    /// A Bundle at the base.
    Bundle,
    /// A message Bundle.
    Message,
    /// `POST /{kind}`.
    Create {
        /// `resourceType` of the address.
        kind: String,
        /// `If-None-Exist`.
        if_none_exist: Option<String>,
    },
    /// `PUT /{kind}/{id}`.
    Update {
        /// `resourceType` of the address.
        kind: String,
        /// Id of the address.
        id: String,
        /// `If-Match`.
        if_match: Option<String>,
    },
    /// `DELETE /{kind}/{id}`; there is no body.
    Delete {
        /// `resourceType` of the address.
        kind: String,
        /// Id of the address.
        id: String,
        /// `If-Match`.
        if_match: Option<String>,
    },
}

/// Why a submission was not taken. Nothing of it was stored.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// What was sent cannot be taken as it is.
    #[error("refused")]
    Refused {
        /// The class of refusal.
        refusal: Refusal,
        /// What is wrong.
        issues: Vec<Issue>,
    },
    /// The store could not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl IntakeError {
    fn refused(refusal: Refusal, issue: Issue) -> Self {
        Self::Refused {
            refusal,
            issues: vec![issue],
        }
    }
}

/// Takes submissions.
pub struct Intake {
    store: Arc<dyn Store>,
    checker: Arc<Checker>,
    settings: Arc<Settings>,
    targets: RwLock<Arc<[OutboxTarget]>>,
}

impl Intake {
    /// From its parts.
    pub fn new(store: Arc<dyn Store>, checker: Arc<Checker>, settings: Settings) -> Self {
        Self {
            store,
            checker,
            settings: Arc::new(settings),
            targets: RwLock::new(Arc::from([])),
        }
    }

    /// The store behind it.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What everything is checked against.
    pub fn checker(&self) -> &Arc<Checker> {
        &self.checker
    }

    /// How submissions are taken.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// From now on findings are written to these.
    pub fn set_targets(&self, targets: Vec<OutboxTarget>) {
        *self.targets.write().unwrap_or_else(PoisonError::into_inner) = Arc::from(targets);
    }

    /// Take a submission. The answer comes after everything in it is durable.
    pub async fn accept(&self, sent: Sent, body: Vec<u8>) -> Result<Receipt, IntakeError> {
        let preparation = Preparation {
            checker: Arc::clone(&self.checker),
            settings: Arc::clone(&self.settings),
            store: Arc::clone(&self.store),
            targets: Arc::clone(&self.targets.read().unwrap_or_else(PoisonError::into_inner)),
        };
        let tenant = Arc::clone(&sent.tenant);
        let client = Arc::clone(&sent.client);
        let prepared = if body.len() > LARGE {
            tokio::task::spawn_blocking(move || preparation.prepare(&sent, &body))
                .await
                .unwrap_or(Err(IntakeError::Store(StoreError::ModelPanicked)))?
        } else {
            preparation.prepare(&sent, &body)?
        };
        let accepted = self.store.accept(Arc::new(prepared.incoming)).await?;
        let receipt = answer(accepted, &prepared.model)?;
        self.look_up(receipt, &tenant, &client).await
    }

    /// What GET entries asked for.
    async fn look_up(
        &self,
        mut receipt: Receipt,
        tenant: &str,
        client: &str,
    ) -> Result<Receipt, IntakeError> {
        for entry in &mut receipt.entries {
            let EntryOutcome::Look { id, version } = &entry.outcome else {
                continue;
            };
            let kind = entry.kind.as_deref().unwrap_or_default();
            let mut found = self.store.read(tenant, kind, id, *version).await?;
            if found.is_none() {
                found = self
                    .store
                    .read_sent(tenant, client, kind, id, *version)
                    .await?;
            }
            entry.outcome = match found {
                Some(found) => EntryOutcome::Found(Box::new(found)),
                None => EntryOutcome::Missing,
            };
        }
        Ok(receipt)
    }
}

/// What the store said, as a receipt or a refusal.
fn answer(accepted: Accepted, model: &SubmissionModel) -> Result<Receipt, IntakeError> {
    match accepted {
        Accepted::New { receipt } => {
            let made = model
                .made
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            made.map_or_else(|| kept(&receipt), Ok)
        }
        Accepted::Replayed { receipt } => Ok(Receipt {
            replayed: true,
            ..kept(&receipt)?
        }),
        Accepted::Failed { receipt } => {
            let receipt = kept(&receipt)?;
            let refusal = receipt
                .entries
                .iter()
                .find_map(|entry| match entry.outcome {
                    EntryOutcome::Refused(refusal) => Some(refusal),
                    _ => None,
                })
                .unwrap_or(Refusal::Invalid);
            Err(IntakeError::Refused {
                refusal,
                issues: receipt
                    .entries
                    .into_iter()
                    .flat_map(|entry| entry.issues)
                    .filter(Issue::is_error)
                    .collect(),
            })
        }
        Accepted::KeyReused => Err(IntakeError::refused(
            Refusal::Invalid,
            Issue::error(
                "duplicate",
                "this Idempotency-Key was used for another body",
            ),
        )),
        Accepted::EnvelopeReused => Err(IntakeError::refused(
            Refusal::Invalid,
            Issue::error("duplicate", "this id was used for another message").at("Bundle.id"),
        )),
        Accepted::OlderDocument => Err(IntakeError::refused(
            Refusal::Conflict,
            Issue::error("conflict", "a newer version of this document is held")
                .at("Bundle.timestamp"),
        )),
    }
}

fn kept(receipt: &[u8]) -> Result<Receipt, IntakeError> {
    serde_json::from_slice(receipt)
        .map_err(|_| IntakeError::Store(StoreError::Unreadable("inbox.receipt")))
}

/// What turns bytes into something the store takes.
struct Preparation {
    checker: Arc<Checker>,
    settings: Arc<Settings>,
    store: Arc<dyn Store>,
    targets: Arc<[OutboxTarget]>,
}

struct Prepared {
    incoming: Incoming,
    model: Arc<SubmissionModel>,
}

impl Preparation {
    fn prepare(&self, sent: &Sent, body: &[u8]) -> Result<Prepared, IntakeError> {
        if let Interaction::Delete { .. } = sent.interaction {
            return self.file(sent, body, &withdrawal_of(sent));
        }
        let parsed = parse(body, &self.settings.limits)?;
        let mut submission = self.checker.decode(&parsed, sent.release, At::Door);
        fit(&mut submission, &parsed, &sent.interaction)?;
        self.file(sent, body, &submission)
    }

    fn file(
        &self,
        sent: &Sent,
        body: &[u8],
        submission: &Submission<'_>,
    ) -> Result<Prepared, IntakeError> {
        refuse_broken(submission)?;
        let reading = read::read(submission, &self.settings.codes);
        let owner = Owner {
            tenant: &sent.tenant,
            client: &sent.client,
            identity_key: self.store.identity_key(),
        };
        let Filed {
            patients,
            withdrawals,
            entries,
        } = filing::file(submission, &reading, &owner);
        let draft = Receipt {
            kind: submission.kind,
            stored_at: millis(sent.received_at),
            entries,
            issues: submission.issues.clone(),
            message: message_header(submission),
            replayed: false,
        };
        if submission.is_atomic() {
            refuse_failing(&draft)?;
        }
        let model = Arc::new(SubmissionModel {
            settings: Arc::clone(&self.settings),
            checker: Arc::clone(&self.checker),
            tenant: Arc::clone(&sent.tenant),
            received_at: sent.received_at,
            inbound: submission.identifier.clone(),
            patients: reading.patients.iter().map(about).collect(),
            draft,
            made: Mutex::new(None),
        });
        let incoming = Incoming {
            tenant: Arc::clone(&sent.tenant),
            client: Arc::clone(&sent.client),
            kind: kind_word(submission.kind),
            claims: claims(sent, body, submission),
            request_id: sent.request_id.clone(),
            received_at: sent.received_at,
            expires_at: sent
                .received_at
                .checked_add(self.settings.receipt_retention)
                .unwrap_or(sent.received_at),
            all_or_nothing: submission.is_atomic(),
            patients,
            withdrawals,
            targets: Arc::clone(&self.targets),
            model: Arc::clone(&model) as Arc<dyn crate::store::submission::Model>,
        };
        Ok(Prepared { incoming, model })
    }
}

fn parse<'b>(body: &'b [u8], limits: &Limits) -> Result<Parsed<'b>, IntakeError> {
    tree::parse(body, limits)
        .map_err(|broken| IntakeError::refused(Refusal::Malformed, broken.issue()))
}

/// Whether what came is what the address is for; a single resource gets the request that its
/// address stands for.
fn fit(
    submission: &mut Submission<'_>,
    parsed: &Parsed<'_>,
    interaction: &Interaction,
) -> Result<(), IntakeError> {
    let single = submission.kind == Kind::Single;
    let wrong = |text: &'static str, place: String| {
        Err(IntakeError::refused(
            Refusal::Malformed,
            Issue::error("value", text).at(place),
        ))
    };
    let kind = parsed.root.resource_type().unwrap_or("Resource");
    match interaction {
        // Without a type it is refused for that.
        Interaction::Bundle if single && parsed.root.resource_type().is_some() => wrong(
            "a Bundle is expected here; a single resource goes to the address of its type",
            kind.to_owned(),
        ),
        Interaction::Message if submission.kind != Kind::Message => wrong(
            "a Bundle of type message is expected here",
            "Bundle.type".to_owned(),
        ),
        Interaction::Bundle | Interaction::Message | Interaction::Delete { .. } => Ok(()),
        Interaction::Create { kind: wanted, .. } | Interaction::Update { kind: wanted, .. }
            if wanted != kind =>
        {
            wrong(
                "the resource is of another type than its address",
                format!("{kind}.resourceType"),
            )
        }
        Interaction::Create { if_none_exist, .. } => {
            if let Some(criteria) = if_none_exist
                && crate::fhir::submission::parse_if_none_exist(criteria).is_none()
            {
                return Err(IntakeError::refused(
                    Refusal::Malformed,
                    Issue::error(
                        "not-supported",
                        "only identifier=system|value is served as a condition",
                    ),
                ));
            }
            request(submission, Method::Post, kind.to_owned(), |request| {
                request.if_none_exist.clone_from(if_none_exist);
            });
            Ok(())
        }
        Interaction::Update { id, if_match, .. } => {
            if parsed.root.text("id") != Some(id.as_str()) {
                return wrong(
                    "the id of the resource is not that of its address",
                    format!("{kind}.id"),
                );
            }
            if let Some(tag) = if_match
                && crate::fhir::submission::parse_if_match(tag).is_none()
            {
                return Err(IntakeError::refused(
                    Refusal::Malformed,
                    Issue::error("value", "If-Match must be an entity tag: W/\"1\""),
                ));
            }
            request(submission, Method::Put, format!("{kind}/{id}"), |request| {
                request.if_match.clone_from(if_match);
            });
            Ok(())
        }
    }
}

fn request(
    submission: &mut Submission<'_>,
    method: Method,
    url: String,
    more: impl FnOnce(&mut Request),
) {
    if let Some(entry) = submission.entries.first_mut() {
        let mut request = Request {
            method,
            url,
            if_none_exist: None,
            if_match: None,
        };
        more(&mut request);
        entry.request = Some(request);
    }
}

/// The submission that a DELETE stands for.
fn withdrawal_of(sent: &Sent) -> Submission<'static> {
    let mut submission = Submission {
        kind: Kind::Single,
        release: sent.release,
        identifier: None,
        timestamp: None,
        id: None,
        entries: vec![crate::fhir::submission::Entry {
            index: 0,
            path: String::new(),
            full_url: None,
            request: None,
            resource: None,
            issues: Vec::new(),
            refused: None,
        }],
        issues: Vec::new(),
        refused: None,
    };
    if let Interaction::Delete { kind, id, if_match } = &sent.interaction {
        request(
            &mut submission,
            Method::Delete,
            format!("{kind}/{id}"),
            |request| {
                request.if_match.clone_from(if_match);
            },
        );
    }
    submission
}

/// What decoding refused as a whole.
fn refuse_broken(submission: &Submission<'_>) -> Result<(), IntakeError> {
    match submission.refused {
        None => Ok(()),
        Some(refusal) => Err(IntakeError::Refused {
            refusal,
            issues: submission.all_issues().cloned().collect(),
        }),
    }
}

/// One failing entry fails all.
fn refuse_failing(draft: &Receipt) -> Result<(), IntakeError> {
    let first = draft.entries.iter().find_map(|entry| match entry.outcome {
        EntryOutcome::Refused(refusal) => Some(refusal),
        _ => None,
    });
    match first {
        None => Ok(()),
        Some(refusal) => Err(IntakeError::Refused {
            refusal,
            issues: draft
                .entries
                .iter()
                .flat_map(|entry| &entry.issues)
                .filter(|issue| issue.is_error())
                .cloned()
                .collect(),
        }),
    }
}

fn about(patient: &PatientReading) -> About {
    let used = patient
        .values
        .iter()
        .filter(|value| {
            value
                .measurement
                .as_ref()
                .is_some_and(|measurement| measurement.unusable.is_none())
        })
        .map(|value| value.entry)
        .max();
    About {
        subject: patient.subject.clone(),
        encounter: patient.encounter.clone(),
        // Nothing usable: what was found is said on the last one all the same.
        last_entry: used.or_else(|| patient.values.iter().map(|value| value.entry).max()),
    }
}

/// What a repeat is recognised by.
fn claims(sent: &Sent, body: &[u8], submission: &Submission<'_>) -> Claims {
    Claims {
        idempotency_key: sent.idempotency_key.clone(),
        fingerprint: Sha256::digest(body).into(),
        by_content: submission.kind != Kind::Single,
        envelope: envelope(submission),
    }
}

fn envelope(submission: &Submission<'_>) -> Option<Envelope> {
    let key = |mark: &[u8], system: &str, value: &str| -> Hash {
        digest(&[mark, system.as_bytes(), value.as_bytes()])
    };
    let identifier = submission.identifier.as_ref();
    match submission.kind {
        Kind::Single => None,
        Kind::Message => {
            let (system, value) = match (identifier, submission.id) {
                (Some((system, value)), _) => (system.as_str(), value.as_str()),
                (None, Some(id)) => ("", id),
                (None, None) => return None,
            };
            let header = message_header(submission)?.id?;
            Some(Envelope {
                key: key(b"message", system, value),
                kind: EnvelopeKind::Message { header },
            })
        }
        Kind::Document => {
            let (system, value) = identifier?;
            let timestamp = OffsetDateTime::parse(submission.timestamp?, &Rfc3339).ok()?;
            Some(Envelope {
                key: key(b"document", system, value),
                kind: EnvelopeKind::Document { timestamp },
            })
        }
        _ => {
            let (system, value) = identifier?;
            Some(Envelope {
                key: key(b"bundle", system, value),
                kind: EnvelopeKind::Bundle,
            })
        }
    }
}

/// What the answer to a message repeats.
fn message_header(submission: &Submission<'_>) -> Option<MessageHeader> {
    if submission.kind != Kind::Message {
        return None;
    }
    let entry = submission.entries.first()?;
    let header = entry
        .resource
        .filter(|resource| resource.resource_type() == Some("MessageHeader"))?;
    let event = ["eventCoding", "eventUri"]
        .into_iter()
        .find_map(|name| Some((name.to_owned(), header.get(name)?.to_value())));
    Some(MessageHeader {
        id: header
            .text("id")
            .or_else(|| entry.full_url.and_then(|url| url.rsplit([':', '/']).next()))
            .map(str::to_owned),
        event,
        source: header
            .get("source")
            .and_then(|source| source.text("endpoint"))
            .map(str::to_owned),
    })
}

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Single => "single",
        Kind::Batch => "batch",
        Kind::Transaction => "transaction",
        Kind::Collection => "collection",
        Kind::Document => "document",
        Kind::Message => "message",
        Kind::Searchset => "searchset",
        Kind::History => "notify",
        Kind::Response => "response",
        Kind::Untyped => "untyped",
    }
}

fn millis(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}
