//! The receipt: what became of a submission, entry by entry. It is kept with the submission, so
//! that a repeat gets the same answer; how it looks on the wire is the door's business.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{
    fhir::{
        outcome::{self, Issue, Severity},
        submission::{Kind, Refusal},
    },
    store::reading::HeldResource,
};

/// What became of a submission.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// What it was.
    #[serde(with = "KindWire")]
    pub kind: Kind,
    /// When it was stored: milliseconds since 1970, UTC. `lastModified` of what it created.
    pub stored_at: i64,
    /// One per entry, in order; exactly one for a single resource.
    pub entries: Vec<EntryReceipt>,
    /// Warnings about the whole.
    #[serde(with = "issues", default, skip_serializing_if = "Vec::is_empty")]
    pub issues: Vec<Issue>,
    /// What the answer to a message repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<MessageHeader>,
    /// It was seen before, and nothing was done again.
    #[serde(skip)]
    pub replayed: bool,
}

/// What became of one entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntryReceipt {
    /// `resourceType`, as far as there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// `fullUrl` as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_url: Option<String>,
    /// The outcome.
    pub outcome: EntryOutcome,
    /// What there is to say about it; the `assessment` too.
    #[serde(with = "issues", default, skip_serializing_if = "Vec::is_empty")]
    pub issues: Vec<Issue>,
    /// On the last used Observation of each patient: what was found. It is among the issues as
    /// well, as `assessment`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assessment: Option<AssessmentNote>,
}

/// The outcome of one entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EntryOutcome {
    /// Stored as new.
    Created {
        /// Logical id.
        id: String,
        /// Version.
        version: i64,
    },
    /// Held: a new version, or the same as before.
    Ok {
        /// Logical id.
        id: String,
        /// Version.
        version: i64,
    },
    /// Used as context, not stored.
    Accepted,
    /// Withdrawn, or there was nothing to withdraw.
    NoContent,
    /// Not taken; the issues say why.
    Refused(#[serde(with = "RefusalWire")] Refusal),
    /// To be looked up when the answer is made.
    Look {
        /// Logical id.
        id: String,
        /// Version; without one the current.
        version: Option<i64>,
    },
    /// Looked up.
    #[serde(skip)]
    Found(Box<HeldResource>),
    /// Looked up, and not there.
    #[serde(skip)]
    Missing,
}

/// What was found for one patient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssessmentNote {
    /// One line: `Pancytopenia, U3`.
    pub headline: String,
    /// `DiagnosticReport/mf-...`, `Flag/mf-...`: what was written, and the Flags that are open.
    pub references: Vec<String>,
}

/// What the answer to a message repeats from its header.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessageHeader {
    /// `MessageHeader.id`.
    pub id: Option<String>,
    /// `eventCoding` or `eventUri`, with its name.
    pub event: Option<(String, serde_json::Value)>,
    /// `source.endpoint`.
    pub source: Option<String>,
}

/// Frozen: receipts outlive versions of the program.
#[derive(Serialize, Deserialize)]
#[serde(remote = "Kind", rename_all = "kebab-case")]
enum KindWire {
    Single,
    Batch,
    Transaction,
    Collection,
    Document,
    Message,
    Searchset,
    History,
    Response,
    Untyped,
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "Refusal", rename_all = "kebab-case")]
enum RefusalWire {
    Malformed,
    Invalid,
    Unsupported,
    TooLarge,
    Precondition,
    Conflict,
}

mod issues {
    use super::{Deserialize, Deserializer, Issue, Serialize, Serializer, Severity, outcome};

    #[derive(Serialize, Deserialize)]
    struct Wire {
        severity: String,
        word: String,
        text: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        diagnostics: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expression: Option<String>,
    }

    const SEVERITIES: [Severity; 4] = [
        Severity::Information,
        Severity::Warning,
        Severity::Error,
        Severity::Fatal,
    ];

    pub(super) fn serialize<S: Serializer>(
        issues: &[Issue],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(issues.iter().map(|issue| Wire {
            severity: issue.severity.code().to_owned(),
            word: issue.word.to_owned(),
            text: issue.text.clone(),
            diagnostics: issue.diagnostics.clone(),
            expression: issue.expression.clone(),
        }))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<Issue>, D::Error> {
        let wire = Vec::<Wire>::deserialize(deserializer)?;
        Ok(wire.into_iter().filter_map(issue).collect())
    }

    /// `None`: a word that this version does not know; a receipt is not lost for that.
    fn issue(wire: Wire) -> Option<Issue> {
        let severity = SEVERITIES
            .into_iter()
            .find(|severity| severity.code() == wire.severity)?;
        Some(Issue {
            severity,
            word: outcome::lookup(&wire.word)?.name,
            text: wire.text,
            diagnostics: wire.diagnostics,
            expression: wire.expression,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_comes_back_as_it_was_kept() {
        let entry = |outcome| EntryReceipt {
            kind: Some("Observation".to_owned()),
            full_url: None,
            outcome,
            issues: vec![
                Issue::warning("unit-missing", "no unit").at("Bundle.entry[0].resource.value"),
                Issue::information("assessment", "Pancytopenia, U3").diagnosed("Flag/mf-1"),
            ],
            assessment: Some(AssessmentNote {
                headline: "Pancytopenia, U3".to_owned(),
                references: vec!["Flag/mf-1".to_owned()],
            }),
        };
        let receipt = Receipt {
            kind: Kind::Batch,
            stored_at: 1,
            entries: vec![
                entry(EntryOutcome::Created {
                    id: "mf-1".to_owned(),
                    version: 1,
                }),
                entry(EntryOutcome::Refused(Refusal::Invalid)),
                entry(EntryOutcome::Look {
                    id: "x".to_owned(),
                    version: None,
                }),
                entry(EntryOutcome::NoContent),
            ],
            issues: Vec::new(),
            message: None,
            replayed: false,
        };
        let kept = serde_json::to_vec(&receipt).unwrap();
        assert_eq!(serde_json::from_slice::<Receipt>(&kept).unwrap(), receipt);
    }
}
