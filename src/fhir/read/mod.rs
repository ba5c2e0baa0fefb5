//! Submission to timeline: what was understood, and what was not.

pub mod findings;

use std::sync::Arc;

use time::OffsetDateTime;

use super::outcome::Issue;
use crate::clinical::timeline::{Fact, Measurement, Person, Pregnancy};

/// How a patient is known to the sender (`Patient.identifier`, or the reference as written).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PatientKey {
    /// System and value of an identifier (use `old` and `temp` left out).
    Identifier {
        /// System.
        system: String,
        /// Value.
        value: String,
    },
    /// `Patient/id` or an absolute URL, version dropped; valid for one client only.
    Reference(String),
}

/// Key under which a later version of the same result is recognised (idempotency layer 3).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ResultKey {
    /// First identifier with system and value.
    Identifier {
        /// System.
        system: String,
        /// Value.
        value: String,
    },
    /// A REST address (`fullUrl`), or type and id of a PUT.
    Url(String),
    /// Hash over code, time, specimen and value: nothing better was sent.
    Weak([u8; 16]),
}

/// One value read (an Observation, or one of its components), or an Observation without any.
#[derive(Debug, Clone)]
pub struct ReadValue {
    /// Position of the entry.
    pub entry: usize,
    /// FHIRPath of the Observation or component.
    pub path: String,
    /// Key of the Observation; a component adds its code.
    pub key: ResultKey,
    /// Code of the component, when it is one.
    pub component: Option<String>,
    /// Raw status as sent.
    pub status: String,
    /// `issued`.
    pub issued: Option<OffsetDateTime>,
    /// `meta.versionId`.
    pub source_version: Option<String>,
    /// The value for the model. `None`: no code that the model uses, or no value at all.
    pub measurement: Option<Measurement>,
    /// What the table calls it, also where the model has no use for it.
    pub analyte_key: Option<Arc<str>>,
    /// LOINC role: core, differential, red-cell, reticulocyte, smear, context, panel, do-not-use.
    pub role: Option<Arc<str>>,
}

/// One finding token read (by this issue: smear and specimen tokens only).
#[derive(Debug, Clone)]
pub struct ReadFact {
    /// Position of the entry.
    pub entry: usize,
    /// FHIRPath.
    pub path: String,
    /// Key of the resource.
    pub key: ResultKey,
    /// Raw status as sent.
    pub status: String,
    /// The tokens it gives.
    pub facts: Vec<Fact>,
}

/// Everything read about one patient of a submission.
#[derive(Debug, Clone)]
pub struct PatientReading {
    /// All keys that name this patient, in the order found: identifiers as sent, then references.
    pub keys: Vec<PatientKey>,
    /// What our own copies carry as subject: the reference and the identifier as the sender wrote.
    pub subject: Subject,
    /// Demographics, as far as this submission has them; `None`: no Patient resource.
    pub person: Option<Person>,
    /// Pregnancies read.
    pub pregnancies: Vec<Pregnancy>,
    /// Values.
    pub values: Vec<ReadValue>,
    /// Finding tokens.
    pub facts: Vec<ReadFact>,
    /// Encounter class says inpatient and it has not ended.
    pub inpatient: bool,
    /// Encounter of the newest result, as reference or identifier, for the report.
    pub encounter: Option<String>,
}

/// Subject as the sender wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subject {
    /// `subject.reference` when it is a literal that means something outside the Bundle.
    pub reference: Option<String>,
    /// `subject.identifier`, or the first identifier of the Patient.
    pub identifier: Option<(String, String)>,
}

/// What became of one entry in reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryUse {
    /// Stored (Observations; facts).
    Stored,
    /// Used as context, not stored.
    Context,
    /// Nothing to do (refused before, or an entry without resource).
    Ignored,
}

/// A whole submission, read.
#[derive(Debug, Default)]
pub struct Reading {
    /// Patients, in the order of their first result.
    pub patients: Vec<PatientReading>,
    /// Per entry: what became of it.
    pub uses: Vec<EntryUse>,
    /// Warnings, informations and errors (`two-patients`, `required` subject, `not-found`) with
    /// the entry they belong to. An error refuses that entry.
    pub issues: Vec<(usize, Issue)>,
}
