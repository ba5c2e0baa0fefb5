//! The model as the store asks it: decide, write, make the receipt.

use std::sync::{Arc, Mutex, PoisonError};

use time::OffsetDateTime;

use super::{
    AsOf, Settings,
    receipt::{AssessmentNote, EntryOutcome, Receipt},
};
use crate::{
    clinical::{
        assessment::{Decision, Doubt, FlagState},
        decide::{decide, newest_sample},
        life_cycle,
        timeline::Timeline,
    },
    fhir::{
        outcome::Issue,
        read::Subject,
        submission::{Checker, Kind, Refusal},
        write::{self, Resource, WriteContext, identity},
    },
    store::submission::{
        Case, Conclusion, EntryResult, Model, Outcome, Output, PatientOutcome, Whose,
    },
};

/// What a patient's resources are written with, beside the decision.
#[derive(Debug, Clone, Default)]
pub(super) struct About {
    pub(super) subject: Subject,
    pub(super) encounter: Option<String>,
    /// Entry that carries what was found: the last Observation that was used.
    pub(super) last_entry: Option<usize>,
}

/// One submission's model.
pub(super) struct SubmissionModel {
    pub(super) settings: Arc<Settings>,
    pub(super) checker: Arc<Checker>,
    pub(super) tenant: Arc<str>,
    pub(super) received_at: OffsetDateTime,
    pub(super) inbound: Option<(String, String)>,
    /// By position in the submission's patients.
    pub(super) patients: Vec<About>,
    /// The receipt before the store has seen anything.
    pub(super) draft: Receipt,
    /// The receipt made last: the one that was committed, once the store has answered.
    pub(super) made: Mutex<Option<Receipt>>,
}

impl Model for SubmissionModel {
    fn conclude(&self, case: &Case<'_>) -> Conclusion {
        let as_of = as_of(
            self.settings.as_of,
            case.timeline,
            self.received_at,
            case.last_as_of,
        );
        self.conclude_at(case, as_of)
    }

    fn write(
        &self,
        whose: &Whose<'_>,
        conclusion: &Conclusion,
        previous: &[Resource],
    ) -> Result<Vec<Output>, String> {
        let about = self.about(whose);
        let context = WriteContext {
            previous,
            inbound: self.inbound.clone(),
            encounter: about.encounter.as_deref(),
            ..context(&self.settings, &self.tenant, whose.key, &about.subject)
        };
        let decision = &conclusion.decision;
        let resources = write::resources(decision, &context);
        check(&self.checker, &resources)?;
        Ok(resources
            .into_iter()
            .map(|resource| {
                let change = decision.flags.iter().find(|change| {
                    resource.kind == "Flag"
                        && resource.id
                            == identity::flag_id(&self.tenant, whose.key, change.finding.family)
                });
                Output {
                    family: change.map(|change| change.finding.family),
                    // What a human closed there stands as the human left it.
                    send: (resource.kind != "Observation" || self.settings.write_observations)
                        && !change.is_some_and(life_cycle::closes_after_human),
                    outranks_human: change.is_some_and(|change| {
                        matches!(change.why, "raised" | "escalated" | "relapsed")
                    }),
                    resource,
                }
            })
            .collect())
    }

    fn receipt(&self, outcome: &Outcome) -> Vec<u8> {
        let mut receipt = self.draft.clone();
        if outcome.envelope_seen {
            receipt.issues.push(
                Issue::warning(
                    "duplicate",
                    "this Bundle.identifier was seen before with other content",
                )
                .at("Bundle.identifier"),
            );
        }
        for (entry, result) in &outcome.entries {
            fill(&mut receipt, *entry, result);
        }
        for patient in &outcome.patients {
            self.tell(&mut receipt, patient);
        }
        let bytes = serde_json::to_vec(&receipt).unwrap_or_default();
        *self.made.lock().unwrap_or_else(PoisonError::into_inner) = Some(receipt);
        bytes
    }
}

/// A context with the settings of the service in it.
pub(super) fn context<'a>(
    settings: &'a Settings,
    tenant: &'a str,
    key: &'a [u8; 32],
    subject: &'a Subject,
) -> WriteContext<'a> {
    WriteContext {
        organization: settings.organization.clone(),
        snomed: settings.snomed,
        insecure: settings.insecure,
        observations: settings.write_observations,
        code_map: settings.code_map_fingerprint.as_deref(),
        ..WriteContext::new(tenant, key, subject)
    }
}

/// Everything we emit holds what we promise; what does not is our mistake and never leaves.
pub(super) fn check(checker: &Checker, resources: &[Resource]) -> Result<(), String> {
    for resource in resources {
        let issues = checker.check_output(resource.profile(), &resource.body);
        if let Some(issue) = issues.iter().find(|issue| issue.is_error()) {
            let place = issue.expression.as_deref().unwrap_or(resource.kind);
            let word = issue.word;
            return Err(format!("{word} at {place} ({})", resource.profile()));
        }
    }
    Ok(())
}

/// The time that an assessment is made for.
fn as_of(
    how: AsOf,
    timeline: &Timeline,
    received_at: OffsetDateTime,
    last: Option<OffsetDateTime>,
) -> OffsetDateTime {
    match how {
        AsOf::Received => received_at,
        // Never earlier than an earlier assessment's.
        AsOf::Sampled => newest_sample(timeline).max(last).unwrap_or(received_at),
    }
}

/// What is said about a value that was not used, or used with doubt.
pub(super) fn doubt_issue(doubt: &Doubt, path: &str) -> Issue {
    let issue = Issue::usual(doubt.word, doubt.text.clone()).at(path);
    // A value never fails its entry.
    if issue.is_error() {
        issue.as_warning()
    } else {
        issue
    }
}

/// Add an issue unless the reader said the same about the same place.
pub(super) fn say(issues: &mut Vec<Issue>, issue: Issue) {
    let known = issues.iter().any(|one| {
        one.word == issue.word
            && match (&one.expression, &issue.expression) {
                (Some(one), Some(two)) => one.starts_with(two.as_str()),
                (one, two) => one == two,
            }
    });
    if !known {
        issues.push(issue);
    }
}

impl SubmissionModel {
    /// What follows for a patient at this time.
    pub(super) fn conclude_at(&self, case: &Case<'_>, as_of: OffsetDateTime) -> Conclusion {
        let findings: Vec<_> = case
            .findings
            .iter()
            .map(|held| held.finding.clone())
            .collect();
        let decision = decide(case.timeline, &findings, as_of);
        let issues = decision
            .assessment
            .doubts
            .iter()
            .filter_map(|doubt| {
                let (entry, path) = case.origin(doubt.source.handle)?;
                Some((entry, doubt_issue(doubt, path)))
            })
            .collect();
        Conclusion {
            wanted: write::affected(&decision, &self.tenant, case.key),
            decision,
            issues,
        }
    }

    fn about(&self, whose: &Whose<'_>) -> About {
        let known = whose
            .members
            .iter()
            .rev()
            .filter_map(|member| self.patients.get(*member))
            .find(|about| about.subject != Subject::default());
        known.cloned().unwrap_or_else(|| About {
            // Only withdrawn by id: as it was named before.
            subject: Subject {
                reference: whose.references.first().cloned(),
                identifier: whose.identifiers.first().cloned(),
            },
            ..About::default()
        })
    }

    /// What was found goes to the last used Observation of the patient.
    fn tell(&self, receipt: &mut Receipt, patient: &PatientOutcome) {
        for (entry, issue) in &patient.conclusion.issues {
            if let Some(entry) = receipt.entries.get_mut(*entry) {
                say(&mut entry.issues, issue.clone());
            }
        }
        let last = patient
            .members
            .iter()
            .filter_map(|member| self.patients.get(*member)?.last_entry)
            .max();
        let Some(entry) = last.and_then(|last| receipt.entries.get_mut(last)) else {
            return;
        };
        let decision = &patient.conclusion.decision;
        let written = patient
            .written
            .iter()
            .map(|(kind, id, _)| (*kind, id.as_str()));
        let note = note(decision, &self.tenant, &patient.key, written);
        entry.issues.push(
            Issue::information("assessment", note.headline.clone())
                .diagnosed(note.references.join(" ")),
        );
        entry.assessment = Some(note);
    }
}

/// The headline, the reports and Flags that were written, and the Flags that are open.
pub(super) fn note<'w>(
    decision: &Decision,
    tenant: &str,
    key: &[u8; 32],
    written: impl Iterator<Item = (&'w str, &'w str)>,
) -> AssessmentNote {
    let mut references: Vec<String> = written
        .filter(|(kind, _)| matches!(*kind, "DiagnosticReport" | "Flag"))
        .map(|(kind, id)| format!("{kind}/{id}"))
        .collect();
    for change in &decision.flags {
        let id = identity::flag_id(tenant, key, change.finding.family);
        let reference = format!("Flag/{id}");
        if change.finding.state == FlagState::Active && !references.contains(&reference) {
            references.push(reference);
        }
    }
    AssessmentNote {
        headline: decision.assessment.headline.clone(),
        references,
    }
}

/// What the store did with an entry.
fn fill(receipt: &mut Receipt, entry: usize, result: &EntryResult) {
    let single = receipt.kind == Kind::Single;
    let Some(receipt) = receipt.entries.get_mut(entry) else {
        return;
    };
    // Results that another resource contains do not speak for it.
    let own = receipt.outcome == EntryOutcome::NoContent
        || matches!(
            receipt.outcome,
            EntryOutcome::Created { .. } | EntryOutcome::Ok { .. }
        );
    let kind = receipt.kind.clone().unwrap_or_default();
    let of_resource = |element: &str| {
        if single {
            format!("{kind}.{element}")
        } else {
            format!("Bundle.entry[{entry}].resource.{element}")
        }
    };
    match result {
        EntryResult::Created { id, version } if own => {
            receipt.outcome = EntryOutcome::Created {
                id: id.clone(),
                version: *version,
            };
        }
        EntryResult::Updated {
            id,
            version,
            changed_final,
        } if own => {
            receipt.outcome = EntryOutcome::Ok {
                id: id.clone(),
                version: *version,
            };
            if *changed_final {
                receipt.issues.push(Issue::usual(
                    "changed-final",
                    "the content changed while the status stayed final; taken as a correction",
                ));
            }
        }
        EntryResult::Unchanged { id, version } if own => {
            receipt.outcome = EntryOutcome::Ok {
                id: id.clone(),
                version: *version,
            };
        }
        EntryResult::Older { id, version } if own => {
            receipt.outcome = EntryOutcome::Ok {
                id: id.clone(),
                version: *version,
            };
            receipt.issues.push(Issue::warning(
                "conflict",
                "an older version than the one held; ignored",
            ));
        }
        EntryResult::VersionMismatch => {
            receipt.outcome = EntryOutcome::Refused(Refusal::Precondition);
            let issue = Issue::error(
                "conflict",
                "another version is held than the one to replace",
            );
            receipt.issues.push(if single {
                issue
            } else {
                issue.at(format!("Bundle.entry[{entry}].request.ifMatch"))
            });
        }
        EntryResult::AmbiguousPatient => {
            receipt.outcome = EntryOutcome::Refused(Refusal::Invalid);
            receipt.issues.push(
                Issue::error(
                    "multiple-matches",
                    "the subject's keys belong to two patients; nothing was stored",
                )
                .at(of_resource("subject")),
            );
        }
        EntryResult::Created { .. }
        | EntryResult::Updated { .. }
        | EntryResult::Unchanged { .. }
        | EntryResult::Older { .. }
        | EntryResult::Withdrawn => {}
    }
}
