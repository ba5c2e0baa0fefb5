//! Assessing what is given, and nothing else: nothing is stored, nothing is sent.

use time::OffsetDateTime;

use super::{
    AsOf, IntakeError, Settings,
    model::{check, context, doubt_issue, note, say},
    prepare::parse,
    receipt::AssessmentNote,
};
use crate::{
    clinical::{
        assessment::Decision,
        decide::{decide, newest_sample, trace},
        timeline::Timeline,
    },
    fhir::{
        outcome::Issue,
        read::{self, PatientReading, Subject},
        submission::{At, Checker, Release},
        write::{self, Resource, identity},
    },
    store::StoreError,
};

/// Tenant of ids that are made without a store.
const TENANT: &str = "default";

/// What was found in a body.
#[derive(Debug)]
pub struct Assessed {
    /// Patients, in the order of their first result.
    pub patients: Vec<AssessedPatient>,
    /// Everything there is to say about the body and its entries, errors too: entries that were
    /// refused are left out of the assessment.
    pub issues: Vec<Issue>,
}

impl Assessed {
    /// One transaction Bundle with everything that would be written; without `entry` when there
    /// is nothing.
    pub fn bundle(&self) -> serde_json::Value {
        let mut all: Vec<Resource> = Vec::new();
        for resource in self.patients.iter().flat_map(|patient| &patient.resources) {
            // One Device for all.
            if !all
                .iter()
                .any(|one| one.kind == resource.kind && one.id == resource.id)
            {
                all.push(resource.clone());
            }
        }
        write::writeback_bundle(&all)
    }
}

/// What was found for one patient.
#[derive(Debug)]
pub struct AssessedPatient {
    /// Subject as the sender wrote it.
    pub subject: Subject,
    /// The decision, with the assessment in it.
    pub decision: Decision,
    /// What would be written.
    pub resources: Vec<Resource>,
    /// The headline and what would be written, in short.
    pub note: AssessmentNote,
}

/// Assess a body: a Bundle of any type, or a single resource. With [`AsOf::Sampled`] (what the
/// commands do) nothing is compared with the clock and `now` is used only where a patient has no
/// sample at all.
pub fn assess_only(
    checker: &Checker,
    settings: &Settings,
    release: Release,
    body: &[u8],
    now: OffsetDateTime,
) -> Result<Assessed, IntakeError> {
    let parsed = parse(body, &settings.limits)?;
    let submission = checker.decode(&parsed, release, At::Command);
    let nothing_left = submission
        .entries
        .iter()
        .all(|entry| entry.refused.is_some());
    if let Some(refusal) = submission.refused
        && nothing_left
    {
        return Err(IntakeError::Refused {
            refusal,
            issues: submission.all_issues().cloned().collect(),
        });
    }
    let reading = read::read(&submission, &settings.codes);
    let mut issues: Vec<Issue> = submission.all_issues().cloned().collect();
    issues.extend(reading.issues.iter().map(|(_, issue)| issue.clone()));
    let mut patients = Vec::new();
    for patient in &reading.patients {
        let (assessed, doubts) = assess(checker, settings, patient, now)?;
        for doubt in doubts {
            say(&mut issues, doubt);
        }
        patients.push(assessed);
    }
    Ok(Assessed { patients, issues })
}

fn assess(
    checker: &Checker,
    settings: &Settings,
    patient: &PatientReading,
    now: OffsetDateTime,
) -> Result<(AssessedPatient, Vec<Issue>), IntakeError> {
    let timeline = Timeline {
        person: patient.person.clone().unwrap_or_default(),
        measurements: patient
            .values
            .iter()
            .filter_map(|value| value.measurement.clone())
            .collect(),
        facts: patient
            .facts
            .iter()
            .flat_map(|fact| fact.facts.iter().cloned())
            .collect(),
        pregnancies: patient.pregnancies.clone(),
        inpatient: patient.inpatient,
    };
    let as_of = match settings.as_of {
        AsOf::Received => now,
        AsOf::Sampled => newest_sample(&timeline).unwrap_or(now),
    };
    let mut decision = decide(&timeline, &[], as_of);
    decision.assessment.trace = trace(&timeline, as_of);
    let key = patient
        .keys
        .first()
        .map(|key| identity::patient_key(identity::PUBLIC_KEY, TENANT, "", key))
        .unwrap_or_default();
    let resources = write::resources(
        &decision,
        &write::WriteContext {
            encounter: patient.encounter.as_deref(),
            ..context(settings, TENANT, &key, &patient.subject)
        },
    );
    check(checker, &resources).map_err(|what| IntakeError::Store(StoreError::Defect(what)))?;
    let doubts = decision
        .assessment
        .doubts
        .iter()
        .filter_map(|doubt| {
            let value = patient.values.iter().find(|value| {
                value
                    .measurement
                    .as_ref()
                    .is_some_and(|one| one.source.handle == doubt.source.handle)
            })?;
            Some(doubt_issue(doubt, &value.path))
        })
        .collect();
    let written = resources
        .iter()
        .map(|resource| (resource.kind, resource.id.as_str()));
    let note = note(&decision, TENANT, &key, written);
    Ok((
        AssessedPatient {
            subject: patient.subject.clone(),
            decision,
            resources,
            note,
        },
        doubts,
    ))
}
