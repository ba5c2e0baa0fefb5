//! From bytes to what the store takes: parse, check, read, file, and know a repeat.

use std::sync::{Arc, Mutex};

use sha2::{Digest, Sha256};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    IntakeError, Interaction, Sent, Settings,
    filing::{self, Filed, Owner},
    model::{About, SubmissionModel},
    receipt::{EntryOutcome, MessageHeader, Receipt},
};
use crate::{
    fhir::{
        outcome::Issue,
        read::{self, PatientReading},
        submission::{
            At, Checker, Entry, Kind, Method, Refusal, Request, Submission, parse_if_match,
            parse_if_none_exist,
        },
        tree::{self, Limits, Parsed},
    },
    store::{
        Store,
        keys::{Hash, digest},
        submission::{Claims, Envelope, EnvelopeKind, Incoming, Model, OutboxTarget},
    },
};

/// What turns bytes into something the store takes.
pub(super) struct Preparation {
    pub(super) checker: Arc<Checker>,
    pub(super) settings: Arc<Settings>,
    pub(super) store: Arc<dyn Store>,
    pub(super) targets: Arc<[OutboxTarget]>,
}

/// What came of it.
pub(super) struct Prepared {
    pub(super) incoming: Incoming,
    pub(super) model: Arc<SubmissionModel>,
}

impl Preparation {
    pub(super) fn prepare(&self, sent: &Sent, body: &[u8]) -> Result<Prepared, IntakeError> {
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
            anyway: false,
            patients,
            withdrawals,
            targets: Arc::clone(&self.targets),
            model: Arc::clone(&model) as Arc<dyn Model>,
        };
        Ok(Prepared { incoming, model })
    }
}

pub(super) fn parse<'b>(body: &'b [u8], limits: &Limits) -> Result<Parsed<'b>, IntakeError> {
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
                && parse_if_none_exist(criteria).is_none()
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
                && parse_if_match(tag).is_none()
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
        entries: vec![Entry {
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
