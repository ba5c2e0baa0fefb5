//! What a submission changes, worked out from what is held: pure, the same for every engine.
//!
//! An engine looks up who is meant ([`group`]), loads what is held of each ([`Known`]), lets
//! [`draft`] file and assess, looks up the versions of the resources that came out, lets
//! [`Draft::finish`] number them, and writes the [`PatientPlan`]s in one transaction, provided
//! that nothing it loaded has changed meanwhile ([`PatientPlan::seen_seq`]).

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
};

use time::OffsetDateTime;

use super::{
    codec,
    error::{Result, StoreError},
    keys::{Hash, ResultId, logical_id},
    lease::PatientId,
    submission::{
        Case, Conclusion, EntryResult, HeldFinding, Incoming, IncomingPatient, IncomingResource,
        Outcome, Output, PatientOutcome, Whose,
    },
};
use crate::{
    clinical::timeline::{Fact, Measurement, Person, Pregnancy, Status, Timeline},
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

/// Whom keys and ids lead to.
pub(crate) struct Resolved {
    /// Per patient, per key: the row it hits.
    pub(crate) keys: Vec<Vec<Option<PatientId>>>,
    /// Per patient, per resource: what its PUT id stands for already.
    pub(crate) aliases: Vec<Vec<Option<(PatientId, ResultId)>>>,
    /// Per withdrawal: the result meant.
    pub(crate) withdrawals: Vec<Option<(PatientId, ResultId)>>,
}

/// One patient of the store, with what the submission does to it.
#[derive(Debug, Default)]
pub(crate) struct Group {
    /// `None`: new.
    pub(crate) place: Option<PatientId>,
    /// Positions in [`Incoming::patients`].
    pub(crate) members: Vec<usize>,
    /// Withdrawals: entry, result, version it must have.
    withdrawals: Vec<(Option<usize>, ResultId, Option<i64>)>,
}

/// Who is meant.
pub(crate) struct Grouping {
    pub(crate) groups: Vec<Group>,
    /// What is decided already: ambiguous patients, withdrawals of nothing.
    pub(crate) entries: Vec<(usize, EntryResult)>,
}

/// Bring together what belongs to one patient.
pub(crate) fn group(incoming: &Incoming, resolved: &Resolved) -> Grouping {
    let mut groups: Vec<Group> = Vec::new();
    let mut entries = Vec::new();
    for (index, patient) in incoming.patients.iter().enumerate() {
        let hits = resolved.keys.get(index).map_or(&[][..], Vec::as_slice);
        let mut rows = hits.iter().flatten();
        let place = rows.next().copied();
        if rows.any(|row| Some(*row) != place) {
            entries.extend(
                patient
                    .resources
                    .iter()
                    .map(|one| (one.entry, EntryResult::AmbiguousPatient)),
            );
            continue;
        }
        let position = groups.iter().position(|group| match place {
            Some(_) => group.place == place,
            // Two new patients that share a key are one.
            None => {
                group.place.is_none()
                    && group
                        .members
                        .iter()
                        .filter_map(|member| incoming.patients.get(*member))
                        .any(|other| other.keys.iter().any(|key| patient.keys.contains(key)))
            }
        });
        let known = position.and_then(|position| groups.get_mut(position));
        match known {
            Some(group) => group.members.push(index),
            // A patient of whom nothing is filed, and nothing is known, leaves no trace.
            None if place.is_none() && patient.resources.is_empty() => {}
            None => groups.push(Group {
                place,
                members: vec![index],
                withdrawals: Vec::new(),
            }),
        }
        // A result that was PUT for another patient before leaves that patient.
        for alias in resolved.aliases.get(index).into_iter().flatten() {
            if let Some((other, result)) = alias
                && Some(*other) != place
            {
                on_row(&mut groups, *other)
                    .withdrawals
                    .push((None, *result, None));
            }
        }
    }
    for (withdrawal, target) in incoming.withdrawals.iter().zip(&resolved.withdrawals) {
        match target {
            Some((patient, result)) => on_row(&mut groups, *patient).withdrawals.push((
                Some(withdrawal.entry),
                *result,
                withdrawal.if_match,
            )),
            None if withdrawal.if_match.is_some() => {
                entries.push((withdrawal.entry, EntryResult::VersionMismatch));
            }
            None => entries.push((withdrawal.entry, EntryResult::Withdrawn)),
        }
    }
    Grouping { groups, entries }
}

fn on_row(groups: &mut Vec<Group>, row: PatientId) -> &mut Group {
    let position = groups
        .iter()
        .position(|group| group.place == Some(row))
        .unwrap_or_else(|| {
            groups.push(Group {
                place: Some(row),
                ..Group::default()
            });
            groups.len() - 1
        });
    #[expect(clippy::indexing_slicing, reason = "found or pushed the line before")]
    &mut groups[position]
}

/// A change of the timeline, in the order it is to be made.
#[derive(Debug)]
pub(crate) enum Change {
    /// Keep the row that stands as an old version.
    Keep(ResultId),
    /// Remove it: a component that is no longer there.
    Remove(ResultId),
    /// Write it, over what stands.
    Put(Box<StoredValue>),
    /// Write a fact, over what stands.
    PutFact(Box<StoredFact>),
}

/// An id given by PUT.
#[derive(Debug)]
pub(crate) struct NewAlias {
    pub(crate) kind: String,
    pub(crate) client_id: String,
    /// The result it stands for.
    pub(crate) result: ResultId,
    /// What it was seen to stand for; it must still do so.
    pub(crate) seen: Option<(PatientId, ResultId)>,
}

/// The timeline while a submission is filed into it.
struct Filing {
    patient: PatientId,
    seq: i64,
    values: BTreeMap<ResultId, StoredValue>,
    facts: BTreeMap<ResultId, StoredFact>,
    changes: Vec<Change>,
    lines: Vec<String>,
    aliases: Vec<NewAlias>,
    entries: Vec<(usize, EntryResult)>,
    unchanged: Vec<(ResultId, i64)>,
    /// Entry and path of what is new, by its row.
    origins: BTreeMap<ResultId, (usize, String)>,
}

/// What identifies the version held of a resource.
struct Head {
    version: i64,
    content: [u8; 8],
    status: String,
    issued: Option<i64>,
    source_version: Option<String>,
    seq: i64,
    ordinal: i64,
}

impl Filing {
    fn head(&self, id: ResultId) -> Option<Head> {
        if let Some(one) = self.values.get(&id) {
            return Some(Head {
                version: one.version,
                content: one.content,
                status: one.status.clone(),
                issued: one.issued,
                source_version: one.source_version.clone(),
                seq: one.seq,
                ordinal: one.ordinal,
            });
        }
        self.facts.get(&id).map(|one| Head {
            version: one.version,
            content: one.content,
            status: one.status.clone(),
            issued: one.issued,
            source_version: one.source_version.clone(),
            seq: one.seq,
            ordinal: one.ordinal,
        })
    }

    /// Rows of the Observation that `head` is of.
    fn rows(&self, head: &Head) -> Vec<ResultId> {
        self.values
            .values()
            .filter(|one| one.seq == head.seq && one.ordinal == head.ordinal)
            .map(|one| one.id)
            .collect()
    }

    /// `seen` is what the id it was PUT under stands for, `own` whether that is of this patient.
    fn file(
        &mut self,
        resource: &IncomingResource,
        seen: Option<(PatientId, ResultId)>,
        own: bool,
    ) {
        let alias = seen.filter(|_| own).map(|(_, result)| result);
        let id = alias.unwrap_or(resource.id);
        let shown = resource
            .put_id
            .clone()
            .unwrap_or_else(|| logical_id(self.patient, id));
        let result = self.judge(resource, id, shown);
        match &result {
            EntryResult::Created { version, .. } | EntryResult::Updated { version, .. } => {
                self.write(resource, id, *version);
                if let (Some(put_id), None) = (&resource.put_id, alias) {
                    self.aliases.push(NewAlias {
                        kind: resource.kind.clone(),
                        client_id: put_id.clone(),
                        result: id,
                        seen,
                    });
                }
            }
            EntryResult::Unchanged { version, .. } => self.unchanged.push((id, *version)),
            EntryResult::Older { .. }
            | EntryResult::Withdrawn
            | EntryResult::VersionMismatch
            | EntryResult::AmbiguousPatient => {}
        }
        self.entries.push((resource.entry, result));
    }

    fn judge(&self, resource: &IncomingResource, id: ResultId, shown: String) -> EntryResult {
        if let Some(held) = resource.unless_held
            && let Some(head) = self.head(held)
        {
            return EntryResult::Unchanged {
                id: logical_id(self.patient, held),
                version: head.version,
            };
        }
        let head = self.head(id);
        if let Some(expected) = resource.if_match
            && head.as_ref().map(|head| head.version) != Some(expected)
        {
            return EntryResult::VersionMismatch;
        }
        let Some(head) = head else {
            return EntryResult::Created {
                id: shown,
                version: 1,
            };
        };
        let version = head.version;
        if head.content == resource.content || (resource.withdrawn && is_withdrawn(&head.status)) {
            return EntryResult::Unchanged { id: shown, version };
        }
        if !resource.withdrawn && is_older(resource, &head) {
            return EntryResult::Older { id: shown, version };
        }
        EntryResult::Updated {
            id: shown,
            version: version + 1,
            changed_final: head.status == "final" && resource.status == "final",
        }
    }

    fn write(&mut self, resource: &IncomingResource, id: ResultId, version: i64) {
        let ordinal = i64::try_from(self.lines.len()).unwrap_or(i64::MAX);
        self.lines.push(resource.text.clone());
        // Twice in one submission: what counts is what it is in the end.
        self.unchanged.retain(|(unchanged, _)| *unchanged != id);
        let held_rows = self
            .head(id)
            .map(|head| self.rows(&head))
            .unwrap_or_default();
        let mut rows: Vec<(ResultId, Option<String>, Option<Measurement>)> = resource
            .values
            .iter()
            .map(|value| {
                let row = match &value.component {
                    Some(code) => id.component(code),
                    None => id,
                };
                self.origins
                    .insert(row, (resource.entry, value.path.clone()));
                (row, value.code.clone(), value.measurement.clone())
            })
            .collect();
        if resource.withdrawn && !held_rows.is_empty() {
            // A retraction need not repeat the value; what rested on it has to find it.
            rows = held_rows
                .iter()
                .filter_map(|row| self.values.get(row))
                .map(|held| (held.id, held.code.clone(), held.measurement.clone()))
                .collect();
        }
        for row in &held_rows {
            self.changes.push(Change::Keep(*row));
            if !rows.iter().any(|(new, _, _)| new == row) {
                self.changes.push(Change::Remove(*row));
                self.values.remove(row);
            }
        }
        let issued = resource.issued.map(codec::millis);
        for (row, code, mut measurement) in rows {
            if resource.withdrawn
                && let Some(measurement) = &mut measurement
            {
                measurement.status = Status::EnteredInError;
            }
            let value = StoredValue {
                id: row,
                version,
                content: resource.content,
                status: resource.status.clone(),
                issued,
                source_version: resource.source_version.clone(),
                seq: self.seq,
                ordinal,
                filed_at: None,
                code,
                measurement,
            };
            self.values.insert(row, value.clone());
            self.changes.push(Change::Put(Box::new(value)));
        }
        if !resource.facts.is_empty() || resource.values.is_empty() || self.facts.contains_key(&id)
        {
            let fact = StoredFact {
                id,
                version,
                content: resource.content,
                kind: resource.kind.clone(),
                status: resource.status.clone(),
                issued,
                source_version: resource.source_version.clone(),
                facts: if resource.withdrawn {
                    Vec::new()
                } else {
                    resource.facts.clone()
                },
                filed_at: None,
                seq: self.seq,
                ordinal,
            };
            self.facts.insert(id, fact.clone());
            self.changes.push(Change::PutFact(Box::new(fact)));
        }
    }
}

impl Filing {
    /// Withdraw what is held; the text of the version before stays what it was.
    fn withdraw(&mut self, entry: Option<usize>, id: ResultId, if_match: Option<i64>) {
        let head = self.head(id);
        let result = if if_match.is_some() && head.as_ref().map(|head| head.version) != if_match {
            EntryResult::VersionMismatch
        } else {
            EntryResult::Withdrawn
        };
        if result == EntryResult::Withdrawn
            && let Some(head) = head
            && !is_withdrawn(&head.status)
        {
            for row in self.rows(&head) {
                let Some(value) = self.values.get_mut(&row) else {
                    continue;
                };
                self.changes.push(Change::Keep(row));
                value.version = head.version + 1;
                WITHDRAWN.clone_into(&mut value.status);
                if let Some(measurement) = &mut value.measurement {
                    measurement.status = Status::EnteredInError;
                }
                self.changes.push(Change::Put(Box::new(value.clone())));
            }
            if let Some(fact) = self.facts.get_mut(&id) {
                fact.version = head.version + 1;
                WITHDRAWN.clone_into(&mut fact.status);
                fact.facts.clear();
                self.changes.push(Change::PutFact(Box::new(fact.clone())));
            }
        }
        if let Some(entry) = entry {
            self.entries.push((entry, result));
        }
    }
}

/// `status` of what is withdrawn.
const WITHDRAWN: &str = "entered-in-error";

fn is_withdrawn(status: &str) -> bool {
    status == WITHDRAWN
}

/// Whether what came is an earlier state of what is held: by `issued`, else by version, else
/// because a result does not become preliminary again.
fn is_older(resource: &IncomingResource, held: &Head) -> bool {
    if let (Some(issued), Some(held)) = (resource.issued.map(codec::millis), held.issued)
        && issued != held
    {
        return issued < held;
    }
    let number = |text: &Option<String>| text.as_deref().and_then(|text| text.parse::<u64>().ok());
    if let (Some(version), Some(held)) = (
        number(&resource.source_version),
        number(&held.source_version),
    ) && version != held
    {
        return version < held;
    }
    let verified = |status: &str| matches!(status, "final" | "amended" | "corrected" | "appended");
    verified(&held.status) && matches!(resource.status.as_str(), "registered" | "preliminary")
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
    let mut filing = Filing {
        patient: id,
        seq: row.seq,
        values: known.values.into_iter().map(|one| (one.id, one)).collect(),
        facts: known.facts.into_iter().map(|one| (one.id, one)).collect(),
        changes: Vec::new(),
        lines: Vec::new(),
        aliases: Vec::new(),
        entries: Vec::new(),
        unchanged: Vec::new(),
        origins: BTreeMap::new(),
    };
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
    if person_changed || !draft.filing.changes.is_empty() {
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
fn new_keys(incoming: &Incoming, resolved: &Resolved, group: &Group) -> Vec<Hash> {
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

/// What the submission says about the person wins; what it leaves out stays. `true`: changed.
fn merge_person(row: &mut PatientRow, patient: &IncomingPatient) -> bool {
    let mut changed = false;
    if let Some(new) = &patient.person {
        let held = &row.person;
        let merged = Person {
            birth: new.birth.or(held.birth),
            sex: match new.sex {
                crate::clinical::timeline::Sex::Unknown => held.sex,
                sent => sent,
            },
            gestation_weeks: new.gestation_weeks.or(held.gestation_weeks),
            altitude_m: new.altitude_m.or(held.altitude_m),
            smoking: match new.smoking {
                crate::clinical::timeline::Smoking::Unknown => held.smoking,
                sent => sent,
            },
            duffy: match new.duffy {
                crate::clinical::timeline::Duffy::Unknown => held.duffy,
                sent => sent,
            },
            // The latest Patient decides: one declared dead by mistake must get Flags again.
            deceased: new.deceased,
            deceased_at: new.deceased_at,
        };
        if merged != row.person {
            row.person = merged;
            changed = true;
        }
    }
    for pregnancy in &patient.pregnancies {
        match row
            .pregnancies
            .iter_mut()
            .find(|held| held.from == pregnancy.from)
        {
            Some(held) if held == pregnancy => {}
            Some(held) => {
                *held = *pregnancy;
                changed = true;
            }
            None => {
                row.pregnancies.push(*pregnancy);
                changed = true;
            }
        }
    }
    changed
}

/// How many names of a patient are kept to look for it on a target.
const MAX_NAMES: usize = 32;

fn merge_names(row: &mut PatientRow, patient: &IncomingPatient) -> bool {
    let before = (row.identifiers.len(), row.references.len());
    for one in &patient.identifiers {
        if !row.identifiers.contains(one) && row.identifiers.len() < MAX_NAMES {
            row.identifiers.push(one.clone());
        }
    }
    for one in &patient.references {
        if !row.references.contains(one) && row.references.len() < MAX_NAMES {
            row.references.push(one.clone());
        }
    }
    before != (row.identifiers.len(), row.references.len())
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
