//! Who is meant: what belongs to one patient is brought together.

use crate::store::{
    keys::ResultId,
    lease::PatientId,
    submission::{EntryResult, Incoming},
};

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
    pub(super) withdrawals: Vec<(Option<usize>, ResultId, Option<i64>)>,
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
