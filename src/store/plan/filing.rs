//! Filing results into a timeline: new, the same again, a correction, older, withdrawn.

use std::collections::BTreeMap;

use super::{StoredFact, StoredValue};
use crate::{
    clinical::timeline::{Measurement, Status},
    store::{
        codec,
        keys::{ResultId, logical_id},
        lease::PatientId,
        submission::{EntryResult, IncomingResource},
    },
};

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
pub(super) struct Filing {
    patient: PatientId,
    seq: i64,
    pub(super) values: BTreeMap<ResultId, StoredValue>,
    pub(super) facts: BTreeMap<ResultId, StoredFact>,
    pub(super) changes: Vec<Change>,
    pub(super) lines: Vec<String>,
    pub(super) aliases: Vec<NewAlias>,
    pub(super) entries: Vec<(usize, EntryResult)>,
    pub(super) unchanged: Vec<(ResultId, i64)>,
    /// Entry and path of what is new, by its row.
    pub(super) origins: BTreeMap<ResultId, (usize, String)>,
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
    /// A timeline as it is held, before anything is filed under `seq`.
    pub(super) fn new(
        patient: PatientId,
        seq: i64,
        values: Vec<StoredValue>,
        facts: Vec<StoredFact>,
    ) -> Self {
        Self {
            patient,
            seq,
            values: values.into_iter().map(|one| (one.id, one)).collect(),
            facts: facts.into_iter().map(|one| (one.id, one)).collect(),
            changes: Vec::new(),
            lines: Vec::new(),
            aliases: Vec::new(),
            entries: Vec::new(),
            unchanged: Vec::new(),
            origins: BTreeMap::new(),
        }
    }

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
    pub(super) fn file(
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

    /// Withdraw what is held; the text of the version before stays what it was.
    pub(super) fn withdraw(&mut self, entry: Option<usize>, id: ResultId, if_match: Option<i64>) {
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
                value.content = DELETED;
                WITHDRAWN.clone_into(&mut value.status);
                if let Some(measurement) = &mut value.measurement {
                    measurement.status = Status::EnteredInError;
                }
                self.changes.push(Change::Put(Box::new(value.clone())));
            }
            if let Some(fact) = self.facts.get_mut(&id) {
                fact.version = head.version + 1;
                fact.content = DELETED;
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
/// Content of what was withdrawn by its id: whatever is sent under it then is something else.
const DELETED: [u8; 8] = [0; 8];

fn is_withdrawn(status: &str) -> bool {
    status == WITHDRAWN
}

/// Whether what came is an earlier state of what is held: by `issued`, else by version. Where
/// neither tells, a result does not become preliminary again, and one that its laboratory took
/// back does not come alive by a repeat of what was sent before.
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
    if is_withdrawn(&held.status) {
        return held.content != DELETED;
    }
    let verified = |status: &str| matches!(status, "final" | "amended" | "corrected" | "appended");
    verified(&held.status) && matches!(resource.status.as_str(), "registered" | "preliminary")
}
