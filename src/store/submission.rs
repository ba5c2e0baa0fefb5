//! What the store is asked to accept, the model it asks in the middle of it, and what it says.
//!
//! The store knows neither FHIR entries nor rules: [`Model`] is handed in with each submission.

use std::sync::Arc;

use time::OffsetDateTime;

use super::{
    keys::{Hash, ResultId},
    lease::TargetId,
};
use crate::{
    clinical::{
        assessment::{Decision, Family, Finding},
        timeline::{Fact, Measurement, Person, Pregnancy, Timeline},
    },
    fhir::{outcome::Issue, write::Resource},
};

/// A submission, read and checked.
pub struct Incoming {
    /// Whose data it is.
    pub tenant: Arc<str>,
    /// Who sent it.
    pub client: Arc<str>,
    /// Kind of interaction, for the list of submissions: `batch`, `transaction`, `single`, ...
    pub kind: &'static str,
    /// What a repeat is recognised by.
    pub claims: Claims,
    /// Correlation only.
    pub request_id: String,
    /// The clock when it came.
    pub received_at: OffsetDateTime,
    /// Until when a repeat is answered with the receipt.
    pub expires_at: OffsetDateTime,
    /// One failing entry fails all (transaction).
    pub all_or_nothing: bool,
    /// Ask the model about the patients even if nothing of theirs changes.
    pub anyway: bool,
    /// Patients, each with what is filed about it.
    pub patients: Vec<IncomingPatient>,
    /// Results withdrawn by their id.
    pub withdrawals: Vec<Withdrawal>,
    /// Where findings are written to.
    pub targets: Arc<[OutboxTarget]>,
    /// What decides, and makes the receipt.
    pub model: Arc<dyn Model>,
}

impl Incoming {
    /// Bytes that it keeps in memory while it waits, roughly.
    pub(crate) fn weight(&self) -> usize {
        self.patients
            .iter()
            .flat_map(|patient| &patient.resources)
            .map(|resource| resource.text.len())
            .sum()
    }
}

/// What a repeated submission is recognised by. Keys are of one client.
#[derive(Debug, Clone)]
pub struct Claims {
    /// Method, path and `Idempotency-Key`, if one was sent.
    pub idempotency_key: Option<String>,
    /// SHA-256 of the decoded body.
    pub fingerprint: Hash,
    /// Whether the body alone makes it the same submission (Bundles; a single resource is
    /// recognised by its own key).
    pub by_content: bool,
    /// Identity of the envelope.
    pub envelope: Option<Envelope>,
}

/// Identity of an envelope.
#[derive(Debug, Clone)]
pub struct Envelope {
    /// Hash over what identifies it.
    pub key: Hash,
    /// What a repeat with other content means.
    pub kind: EnvelopeKind,
}

/// What a repeated envelope with other content means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EnvelopeKind {
    /// `Bundle.identifier`: processed, with a warning.
    Bundle,
    /// A document: a newer one is processed, an older one refused.
    Document {
        /// `Bundle.timestamp`.
        timestamp: OffsetDateTime,
    },
    /// A message: the same header again is answered again, another header is an error.
    Message {
        /// `MessageHeader.id`.
        header: String,
    },
}

impl EnvelopeKind {
    /// How it stands in the row.
    pub(crate) fn detail(&self) -> Option<String> {
        match self {
            Self::Bundle => None,
            Self::Document { timestamp } => Some(timestamp.unix_timestamp_nanos().to_string()),
            Self::Message { header } => Some(header.clone()),
        }
    }
}

/// One patient of a submission.
#[derive(Debug, Default, Clone)]
pub struct IncomingPatient {
    /// Keyed hashes of everything that names the patient; the first is the one ids are formed
    /// from, should the patient be new.
    pub keys: Vec<Hash>,
    /// Identifiers as sent, to find the patient on a target.
    pub identifiers: Vec<(String, String)>,
    /// References as sent.
    pub references: Vec<String>,
    /// Demographics, if the submission has them.
    pub person: Option<Person>,
    /// Pregnancies read.
    pub pregnancies: Vec<Pregnancy>,
    /// Whether the submission belongs to an inpatient stay.
    pub inpatient: bool,
    /// What is filed, in the order of the entries.
    pub resources: Vec<IncomingResource>,
}

/// An Observation, or another resource that gives finding tokens.
#[derive(Debug, Clone)]
pub struct IncomingResource {
    /// Position of its entry.
    pub entry: usize,
    /// `resourceType`.
    pub kind: String,
    /// What a later version of it is recognised by.
    pub id: ResultId,
    /// Hash of what it says; equal: the same content again.
    pub content: [u8; 8],
    /// `status` as sent.
    pub status: String,
    /// It is withdrawn (`entered-in-error`).
    pub withdrawn: bool,
    /// `issued`, else `meta.lastUpdated`.
    pub issued: Option<OffsetDateTime>,
    /// `meta.versionId`.
    pub source_version: Option<String>,
    /// The id it was PUT under.
    pub put_id: Option<String>,
    /// `If-Match`: the version it replaces.
    pub if_match: Option<i64>,
    /// `If-None-Exist` by identifier: not stored when a result with this key is held.
    pub unless_held: Option<ResultId>,
    /// Values: the first is of the resource itself, with or without a measurement; the others are
    /// its components. Empty for what is no Observation.
    pub values: Vec<IncomingValue>,
    /// Finding tokens.
    pub facts: Vec<Fact>,
    /// The resource as sent: one JSON text without a line break.
    pub text: String,
}

/// A value of an Observation, or the Observation itself when it has none of its own.
#[derive(Debug, Clone)]
pub struct IncomingValue {
    /// FHIRPath, for warnings.
    pub path: String,
    /// Code of the component, when it is one.
    pub component: Option<String>,
    /// What the table calls it.
    pub code: Option<String>,
    /// The value for the model.
    pub measurement: Option<Measurement>,
}

/// A result withdrawn by its id (`DELETE`).
#[derive(Debug, Clone)]
pub struct Withdrawal {
    /// Position of its entry.
    pub entry: usize,
    /// `resourceType`.
    pub kind: String,
    /// Our id, or the one it was PUT under.
    pub id: String,
    /// `If-Match`.
    pub if_match: Option<i64>,
}

/// A FHIR server that findings are written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxTarget {
    /// Which.
    pub id: TargetId,
    /// Types that it does not let us write; their items are skipped.
    pub unwritable: Vec<String>,
}

/// What decides. It knows no store and no clock: the same case gives the same conclusion.
pub trait Model: Send + Sync {
    /// Assess one patient.
    fn conclude(&self, case: &Case<'_>) -> Conclusion;

    /// The resources that the conclusion leads to, in sending order; only those that are news.
    /// `previous` is what is held of [`Conclusion::wanted`]. An error is a defect of ours, and
    /// nothing of the submission is kept.
    fn write(
        &self,
        case: &Whose<'_>,
        conclusion: &Conclusion,
        previous: &[Resource],
    ) -> Result<Vec<Output>, String>;

    /// The receipt: kept with the submission, and answered to its repeats.
    fn receipt(&self, outcome: &Outcome) -> Vec<u8>;
}

/// One patient, as it stands with the submission filed.
pub struct Case<'a> {
    /// Position of the patient in [`Incoming::patients`]; several when they turned out to be one,
    /// none when only a withdrawal touches it.
    pub members: &'a [usize],
    /// The key that ids are formed from.
    pub key: &'a Hash,
    /// Everything known.
    pub timeline: &'a Timeline,
    /// The findings held, with the revision of each.
    pub findings: &'a [HeldFinding],
    /// Time of the last assessment.
    pub last_as_of: Option<OffsetDateTime>,
    /// Identifiers of the patient as sent, of all submissions.
    pub identifiers: &'a [(String, String)],
    /// References to the patient as sent, of all submissions.
    pub references: &'a [String],
    /// Entry and path of each value of this submission, by its `source.handle`.
    pub origins: &'a [Option<(usize, String)>],
}

impl Case<'_> {
    /// Entry and path of the value with this handle, when this submission brought it.
    pub fn origin(&self, handle: u32) -> Option<(usize, &str)> {
        let place = self.origins.get(usize::try_from(handle).ok()?)?.as_ref()?;
        Some((place.0, &place.1))
    }
}

/// A finding as held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldFinding {
    /// The finding.
    pub finding: Finding,
    /// Version of its Flag; 0 before the first.
    pub revision: i64,
    /// Id of its Flag, once there was one.
    pub flag_id: Option<String>,
}

/// Whom resources are written about.
pub struct Whose<'a> {
    /// As [`Case::members`].
    pub members: &'a [usize],
    /// The key that ids are formed from.
    pub key: &'a Hash,
    /// Identifiers of the patient as sent, of all submissions.
    pub identifiers: &'a [(String, String)],
    /// References to the patient as sent, of all submissions.
    pub references: &'a [String],
}

/// What the model says.
#[derive(Debug, Clone)]
pub struct Conclusion {
    /// The decision; its assessment carries the time it was made for.
    pub decision: Decision,
    /// Type and id of the resources whose last version is needed to write new ones.
    pub wanted: Vec<(&'static str, String)>,
    /// What is to be said about entries.
    pub issues: Vec<(usize, Issue)>,
}

/// A resource of ours, new or changed.
#[derive(Debug, Clone)]
pub struct Output {
    /// The resource.
    pub resource: Resource,
    /// The family, when it is a Flag.
    pub family: Option<Family>,
    /// Whether it is written to targets.
    pub send: bool,
    /// A new episode or an escalation: written over a human's edit.
    pub outranks_human: bool,
}

impl Output {
    /// Whether it never changes: its id says all of it. Any other type gets a new version.
    pub fn is_fixed(&self) -> bool {
        matches!(self.resource.kind, "Device" | "Provenance")
    }
}

/// What became of a submission.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What became of entries, in no order.
    pub entries: Vec<(usize, EntryResult)>,
    /// What was concluded, per patient that was assessed.
    pub patients: Vec<PatientOutcome>,
    /// `Bundle.identifier` was seen before with other content.
    pub envelope_seen: bool,
    /// A transaction that failed: nothing was stored.
    pub failed: bool,
}

/// What was concluded about one patient.
#[derive(Debug, Clone)]
pub struct PatientOutcome {
    /// As [`Case::members`].
    pub members: Vec<usize>,
    /// The key that ids are formed from.
    pub key: Hash,
    /// The conclusion.
    pub conclusion: Conclusion,
    /// Resources that were written: type, id, version.
    pub written: Vec<(&'static str, String, i64)>,
}

/// What became of one entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryResult {
    /// Stored as new.
    Created {
        /// Logical id.
        id: String,
        /// Version.
        version: i64,
    },
    /// Stored as a new version.
    Updated {
        /// Logical id.
        id: String,
        /// Version.
        version: i64,
        /// The content changed although the status stayed `final`.
        changed_final: bool,
    },
    /// The same again, or `If-None-Exist` met it: nothing done.
    Unchanged {
        /// Logical id.
        id: String,
        /// Version held.
        version: i64,
    },
    /// Older than what is held: ignored.
    Older {
        /// Logical id.
        id: String,
        /// Version held.
        version: i64,
    },
    /// Withdrawn by its id; nothing to withdraw is the same answer.
    Withdrawn,
    /// `If-Match` names another version.
    VersionMismatch,
    /// The keys of the patient hit two patients.
    AmbiguousPatient,
}

/// What the store answers.
#[derive(Debug)]
pub enum Accepted {
    /// Stored.
    New {
        /// The receipt.
        receipt: Vec<u8>,
    },
    /// Seen before: the receipt of then.
    Replayed {
        /// The receipt.
        receipt: Vec<u8>,
    },
    /// A transaction that failed: nothing was stored.
    Failed {
        /// What the model made of it.
        receipt: Vec<u8>,
    },
    /// The `Idempotency-Key` was used for another body.
    KeyReused,
    /// The id of the envelope was used for another message.
    EnvelopeReused,
    /// A newer document with the same identifier is held.
    OlderDocument,
}
