//! What a submission changes, worked out from what is held: pure, the same for every engine.
//!
//! An engine looks up who is meant ([`group`]), loads what is held of each ([`Known`]), lets
//! [`draft`] file and assess, looks up the versions of the resources that came out, lets
//! [`Draft::finish`] number them, and writes the [`PatientPlan`]s in one transaction, provided
//! that nothing it loaded has changed meanwhile ([`PatientPlan::seen_seq`]).

mod filing;
mod group;
mod person;

use std::panic::{AssertUnwindSafe, catch_unwind};

use time::OffsetDateTime;

use self::{
    filing::Filing,
    person::{merge_names, merge_person},
};
pub(crate) use self::{
    filing::{Change, NewAlias},
    group::{Group, Resolved, group},
};

use super::{
    codec,
    error::{Result, StoreError},
    keys::{Hash, ResultId},
    lease::PatientId,
    reading::KnownPatient,
    submission::{
        Case, Conclusion, EntryResult, HeldFinding, Incoming, IncomingPatient, Outcome, Output,
        PatientOutcome, Whose,
    },
};
use crate::{
    clinical::timeline::{Fact, Measurement, Person, Pregnancy, Timeline},
    fhir::write::Resource,
};

/// A patient as held.
#[derive(Debug, Clone)]
pub(crate) struct PatientRow {
    pub(crate) key: Hash,
    pub(crate) seq: i64,
    pub(crate) identifiers: Vec<(String, String)>,
    pub(crate) references: Vec<String>,
    pub(crate) person: Person,
    pub(crate) pregnancies: Vec<Pregnancy>,
    pub(crate) last_as_of: Option<OffsetDateTime>,
}

/// A row of the timeline.
#[derive(Debug, Clone)]
pub(crate) struct StoredValue {
    pub(crate) id: ResultId,
    pub(crate) version: i64,
    pub(crate) content: [u8; 8],
    pub(crate) status: String,
    pub(crate) issued: Option<i64>,
    pub(crate) source_version: Option<String>,
    pub(crate) seq: i64,
    pub(crate) ordinal: i64,
    /// `None`: filed now.
    pub(crate) filed_at: Option<i64>,
    pub(crate) code: Option<String>,
    pub(crate) measurement: Option<Measurement>,
}

/// A row of facts.
#[derive(Debug, Clone)]
pub(crate) struct StoredFact {
    pub(crate) id: ResultId,
    pub(crate) version: i64,
    pub(crate) content: [u8; 8],
    pub(crate) kind: String,
    pub(crate) status: String,
    pub(crate) issued: Option<i64>,
    pub(crate) source_version: Option<String>,
    pub(crate) facts: Vec<Fact>,
    pub(crate) filed_at: Option<i64>,
    pub(crate) seq: i64,
    pub(crate) ordinal: i64,
}

/// Everything held of one patient.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// `None`: a new patient.
    pub(crate) row: Option<PatientRow>,
    pub(crate) values: Vec<StoredValue>,
    pub(crate) facts: Vec<StoredFact>,
    pub(crate) findings: Vec<HeldFinding>,
}

impl Known {
    /// As it is read back. `None`: there is no such patient.
    pub(crate) fn into_patient(self, id: PatientId) -> Result<Option<KnownPatient>> {
        let Some(row) = self.row else {
            return Ok(None);
        };
        let mut timeline = Timeline {
            person: row.person,
            pregnancies: row.pregnancies,
            ..Timeline::default()
        };
        for value in self.values {
            if let Some(mut measurement) = value.measurement {
                measurement.filed_at = value.filed_at.map(codec::instant).transpose()?;
                timeline.measurements.push(measurement);
            }
        }
        for stored in self.facts {
            let filed_at = stored.filed_at.map(codec::instant).transpose()?;
            timeline
                .facts
                .extend(stored.facts.into_iter().map(|mut fact| {
                    fact.filed_at = filed_at;
                    fact
                }));
        }
        Ok(Some(KnownPatient {
            id,
            key: row.key,
            timeline,
            findings: self.findings,
            last_as_of: row.last_as_of,
            identifiers: row.identifiers,
            references: row.references,
        }))
    }
}

/// What is filed for one patient, assessed, and not yet numbered.
pub(crate) struct Draft {
    pub(crate) patient: PatientId,
    seen_seq: Option<i64>,
    row: PatientRow,
    new_keys: Vec<Hash>,
    row_changed: bool,
    filing: Filing,
    findings: Vec<HeldFinding>,
    members: Vec<usize>,
    conclusion: Option<Conclusion>,
}

/// File what came, and assess.
///
/// `id` is the row's, or a fresh one. A panic of the model is an error of this submission only.
pub(crate) fn draft(
    incoming: &Incoming,
    resolved: &Resolved,
    group: &Group,
    known: Known,
    id: PatientId,
) -> Result<Draft> {
    let members: Vec<(usize, &IncomingPatient)> = group
        .members
        .iter()
        .filter_map(|member| Some((*member, incoming.patients.get(*member)?)))
        .collect();
    let seen_seq = known.row.as_ref().map(|row| row.seq);
    let mut row = match known.row {
        Some(row) => row,
        None => new_row(&members)?,
    };
    row.seq += 1;
    let mut filing = Filing::new(id, row.seq, known.values, known.facts);
    for (entry, result, if_match) in &group.withdrawals {
        filing.withdraw(*entry, *result, *if_match);
    }
    for (member, patient) in &members {
        let aliases = resolved.aliases.get(*member);
        for (position, resource) in patient.resources.iter().enumerate() {
            let seen = aliases.and_then(|aliases| aliases.get(position).copied().flatten());
            let own = seen.is_some_and(|(owner, _)| Some(owner) == group.place);
            filing.file(resource, seen, own);
        }
    }
    let mut row_changed = seen_seq.is_none();
    let mut person_changed = false;
    for (_, patient) in &members {
        person_changed |= merge_person(&mut row, patient);
        row_changed |= merge_names(&mut row, patient);
    }
    row_changed |= person_changed;
    let new_keys = new_keys(incoming, resolved, group);
    row_changed |= !new_keys.is_empty();

    let mut draft = Draft {
        patient: id,
        seen_seq,
        row,
        new_keys,
        row_changed,
        filing,
        findings: known.findings,
        members: group.members.clone(),
        conclusion: None,
    };
    if incoming.anyway || person_changed || !draft.filing.changes.is_empty() {
        let inpatient = members.iter().any(|(_, patient)| patient.inpatient);
        draft.assess(incoming, inpatient)?;
    }
    Ok(draft)
}

fn new_row(members: &[(usize, &IncomingPatient)]) -> Result<PatientRow> {
    let key = members
        .iter()
        .find_map(|(_, patient)| patient.keys.first())
        .ok_or(StoreError::Unreadable("a patient without keys"))?;
    Ok(PatientRow {
        key: *key,
        seq: 0,
        identifiers: Vec::new(),
        references: Vec::new(),
        person: Person::default(),
        pregnancies: Vec::new(),
        last_as_of: None,
    })
}

/// Keys of the members that hit no row yet.
pub(crate) fn new_keys(incoming: &Incoming, resolved: &Resolved, group: &Group) -> Vec<Hash> {
    let mut keys: Vec<Hash> = Vec::new();
    for member in &group.members {
        let (Some(patient), Some(hits)) =
            (incoming.patients.get(*member), resolved.keys.get(*member))
        else {
            continue;
        };
        for (key, hit) in patient.keys.iter().zip(hits) {
            if hit.is_none() && !keys.contains(key) {
                keys.push(*key);
            }
        }
    }
    keys
}

impl Draft {
    fn assess(&mut self, incoming: &Incoming, inpatient: bool) -> Result<()> {
        let mut timeline = Timeline {
            person: self.row.person.clone(),
            pregnancies: self.row.pregnancies.clone(),
            inpatient,
            ..Timeline::default()
        };
        let mut origins = Vec::new();
        let mut handle = |row: Option<(usize, String)>| {
            origins.push(row);
            u32::try_from(origins.len() - 1).unwrap_or(u32::MAX)
        };
        for value in self.filing.values.values() {
            if let Some(measurement) = &value.measurement {
                let mut measurement = measurement.clone();
                measurement.source.handle = handle(self.filing.origins.get(&value.id).cloned());
                measurement.filed_at = value.filed_at.map(codec::instant).transpose()?;
                timeline.measurements.push(measurement);
            }
        }
        for stored in self.filing.facts.values() {
            let filed_at = stored.filed_at.map(codec::instant).transpose()?;
            for fact in &stored.facts {
                let mut fact = fact.clone();
                fact.source.handle = handle(self.filing.origins.get(&stored.id).cloned());
                fact.filed_at = filed_at;
                timeline.facts.push(fact);
            }
        }
        let case = Case {
            members: &self.members,
            key: &self.row.key,
            timeline: &timeline,
            findings: &self.findings,
            last_as_of: self.row.last_as_of,
            identifiers: &self.row.identifiers,
            references: &self.row.references,
            origins: &origins,
        };
        // The model is pure: whatever it was doing when it panicked is gone with its values.
        let conclusion = catch_unwind(AssertUnwindSafe(|| incoming.model.conclude(&case)))
            .map_err(|_| StoreError::ModelPanicked)?;
        self.row.last_as_of = Some(conclusion.decision.assessment.as_of);
        self.row_changed = true;
        self.conclusion = Some(conclusion);
        Ok(())
    }

    /// Type and id of the resources whose last version [`Draft::finish`] needs.
    pub(crate) fn wanted(&self) -> &[(&'static str, String)] {
        self.conclusion
            .as_ref()
            .map_or(&[], |conclusion| &conclusion.wanted)
    }

    /// Write what came out and number it. `held` is what is held of [`Draft::wanted`], each with
    /// its version.
    pub(crate) fn finish(
        self,
        incoming: &Incoming,
        held: Vec<(i64, Resource)>,
    ) -> Result<Finished> {
        let mut plan = PatientPlan {
            patient: self.patient,
            seen_seq: self.seen_seq,
            new_keys: self.new_keys,
            row: self.row,
            body: if self.filing.lines.is_empty() {
                None
            } else {
                Some(codec::compress(self.filing.lines.join("\n").as_bytes())?)
            },
            changes: self.filing.changes,
            aliases: self.filing.aliases,
            findings: Vec::new(),
            resources: Vec::new(),
            delivery: None,
        };
        let mut finished = Finished {
            plan: None,
            entries: self.filing.entries,
            unchanged: self
                .filing
                .unchanged
                .into_iter()
                .map(|(id, version)| (self.patient, id, version))
                .collect(),
            conclusion: None,
        };
        if let Some(conclusion) = self.conclusion {
            let output = plan.write(incoming, &self.members, &conclusion, held)?;
            let written = plan.number(&conclusion, &output);
            plan.settle_findings(&conclusion, &self.findings, &output, &written);
            finished.conclusion = Some(PatientOutcome {
                members: self.members,
                key: plan.row.key,
                written,
                conclusion,
            });
        }
        if self.row_changed || !plan.changes.is_empty() || !plan.aliases.is_empty() {
            finished.plan = Some(plan);
        }
        Ok(finished)
    }
}

/// A finished draft: what to write, and what to say.
pub(crate) struct Finished {
    plan: Option<PatientPlan>,
    entries: Vec<(usize, EntryResult)>,
    unchanged: Vec<(PatientId, ResultId, i64)>,
    conclusion: Option<PatientOutcome>,
}

/// A new version of a resource of ours.
#[derive(Debug)]
pub(crate) struct NewResource {
    /// May be there already, and then is the same.
    pub(crate) fixed: bool,
    /// `false`: a Device.
    pub(crate) of_patient: bool,
    pub(crate) version: i64,
    pub(crate) kind: &'static str,
    pub(crate) id: String,
    pub(crate) identifier: Option<(String, String)>,
    pub(crate) content_hash: String,
    /// Compressed JSON.
    pub(crate) body: Vec<u8>,
}

/// An item of a delivery.
#[derive(Debug, Clone)]
pub(crate) struct NewItem {
    pub(crate) kind: &'static str,
    pub(crate) id: String,
    pub(crate) revision: i64,
    pub(crate) content_hash: String,
    pub(crate) outranks_human: bool,
}

/// A write-back of one assessment, for every target.
#[derive(Debug)]
pub(crate) struct NewDelivery {
    pub(crate) urgency: i64,
    pub(crate) items: Vec<NewItem>,
}

/// Everything to write for one patient.
#[derive(Debug)]
pub(crate) struct PatientPlan {
    pub(crate) patient: PatientId,
    /// The order number that was seen; it must still be so. `None`: there must be no such patient.
    pub(crate) seen_seq: Option<i64>,
    /// Keys that must still be free.
    pub(crate) new_keys: Vec<Hash>,
    /// The row as it will be, its order number raised.
    pub(crate) row: PatientRow,
    /// Compressed resources of this submission.
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) changes: Vec<Change>,
    pub(crate) aliases: Vec<NewAlias>,
    pub(crate) findings: Vec<HeldFinding>,
    pub(crate) resources: Vec<NewResource>,
    pub(crate) delivery: Option<NewDelivery>,
}

/// Type, id and version of what was written.
type Written = Vec<(&'static str, String, i64)>;

impl PatientPlan {
    /// Have the resources written, and keep them.
    fn write(
        &mut self,
        incoming: &Incoming,
        members: &[usize],
        conclusion: &Conclusion,
        held: Vec<(i64, Resource)>,
    ) -> Result<Vec<Output>> {
        let (versions, previous): (Vec<i64>, Vec<Resource>) = held.into_iter().unzip();
        let whose = Whose {
            members,
            key: &self.row.key,
            identifiers: &self.row.identifiers,
            references: &self.row.references,
        };
        let model = &incoming.model;
        let output = catch_unwind(AssertUnwindSafe(|| {
            model.write(&whose, conclusion, &previous)
        }))
        .map_err(|_| StoreError::ModelPanicked)?
        .map_err(StoreError::Defect)?;
        for one in &output {
            let resource = &one.resource;
            let version = previous
                .iter()
                .position(|held| held.kind == resource.kind && held.id == resource.id)
                .and_then(|position| versions.get(position))
                .map_or(1, |version| version + 1);
            self.resources.push(NewResource {
                fixed: one.is_fixed(),
                of_patient: resource.kind != "Device",
                version,
                kind: resource.kind,
                id: resource.id.clone(),
                identifier: resource.identifier.clone(),
                content_hash: resource.content_hash.clone(),
                body: codec::compress(codec::json(&resource.body)?.as_bytes())?,
            });
        }
        Ok(output)
    }

    /// Make the delivery, and say what was written.
    fn number(&mut self, conclusion: &Conclusion, output: &[Output]) -> Written {
        let items: Vec<NewItem> = output
            .iter()
            .zip(&self.resources)
            .filter(|(output, _)| output.send)
            .map(|(output, resource)| NewItem {
                kind: resource.kind,
                id: resource.id.clone(),
                revision: resource.version,
                content_hash: resource.content_hash.clone(),
                outranks_human: output.outranks_human,
            })
            .collect();
        // A Device or a Provenance alone tells nobody anything.
        if output.iter().any(|one| one.send && !one.is_fixed()) {
            self.delivery = Some(NewDelivery {
                urgency: codec::urgency_number(conclusion.decision.assessment.urgency),
                items,
            });
        }
        self.resources
            .iter()
            .map(|one| (one.kind, one.id.clone(), one.version))
            .collect()
    }

    /// Findings that are to be written: those that changed.
    fn settle_findings(
        &mut self,
        conclusion: &Conclusion,
        held: &[HeldFinding],
        output: &[Output],
        written: &Written,
    ) {
        for change in &conclusion.decision.flags {
            let family = change.finding.family;
            let before = held.iter().find(|one| one.finding.family == family);
            let flag = output
                .iter()
                .position(|one| one.family == Some(family))
                .and_then(|position| written.get(position));
            let after = HeldFinding {
                finding: change.finding.clone(),
                revision: flag
                    .map(|(_, _, version)| *version)
                    .or(before.map(|one| one.revision))
                    .unwrap_or(0),
                flag_id: flag
                    .map(|(_, id, _)| id.clone())
                    .or_else(|| before.and_then(|one| one.flag_id.clone())),
            };
            if before != Some(&after) {
                self.findings.push(after);
            }
        }
    }

    /// What `filed_at` becomes for what is filed now.
    pub(crate) fn filed_at(&self, incoming: &Incoming) -> i64 {
        codec::millis(self.row.last_as_of.unwrap_or(incoming.received_at))
    }
}

/// A whole submission, worked out.
pub(crate) struct Plan {
    pub(crate) patients: Vec<PatientPlan>,
    pub(crate) receipt: Vec<u8>,
    pub(crate) packed_receipt: Vec<u8>,
    /// What a repeat relies on: patient, result, version.
    pub(crate) unchanged: Option<Vec<u8>>,
    /// A transaction that fails: nothing is to be written.
    pub(crate) failed: bool,
}

/// Put the patients of a submission together, and make the receipt.
pub(crate) fn seal(
    incoming: &Incoming,
    decided: Vec<(usize, EntryResult)>,
    finished: Vec<Finished>,
    envelope_seen: bool,
) -> Result<Plan> {
    let mut outcome = Outcome {
        entries: decided,
        envelope_seen,
        ..Outcome::default()
    };
    let mut patients = Vec::new();
    let mut unchanged = Vec::new();
    for one in finished {
        outcome.entries.extend(one.entries);
        outcome.patients.extend(one.conclusion);
        patients.extend(one.plan);
        unchanged.extend(one.unchanged);
    }
    outcome.failed = incoming.all_or_nothing
        && outcome.entries.iter().any(|(_, result)| {
            matches!(
                result,
                EntryResult::VersionMismatch | EntryResult::AmbiguousPatient
            )
        });
    let model = &incoming.model;
    let receipt = catch_unwind(AssertUnwindSafe(|| model.receipt(&outcome)))
        .map_err(|_| StoreError::ModelPanicked)?;
    Ok(Plan {
        patients,
        packed_receipt: codec::compress(&receipt)?,
        receipt,
        unchanged: (!unchanged.is_empty()).then(|| pack_unchanged(&unchanged)),
        failed: outcome.failed,
    })
}

/// 32 bytes each: patient, result, version.
fn pack_unchanged(list: &[(PatientId, ResultId, i64)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(list.len() * 32);
    for (patient, result, version) in list {
        bytes.extend_from_slice(&patient.0.to_be_bytes());
        bytes.extend_from_slice(&result.0);
        bytes.extend_from_slice(&version.to_be_bytes());
    }
    bytes
}

/// What [`Plan::unchanged`] says.
pub(crate) fn unpack_unchanged(bytes: &[u8]) -> impl Iterator<Item = (PatientId, ResultId, i64)> {
    bytes.chunks_exact(32).filter_map(|chunk| {
        let (patient, rest) = chunk.split_first_chunk::<8>()?;
        let (result, rest) = rest.split_first_chunk::<16>()?;
        let version = rest.first_chunk::<8>()?;
        Some((
            PatientId(i64::from_be_bytes(*patient)),
            ResultId(*result),
            i64::from_be_bytes(*version),
        ))
    })
}
