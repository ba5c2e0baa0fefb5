//! What a submission says about the person, over what is known.

use super::PatientRow;
use crate::{
    clinical::timeline::{Duffy, Person, Sex, Smoking},
    store::submission::IncomingPatient,
};

/// What the submission says about the person wins; what it leaves out stays. `true`: changed.
pub(super) fn merge_person(row: &mut PatientRow, patient: &IncomingPatient) -> bool {
    let mut changed = false;
    if let Some(new) = &patient.person {
        let held = &row.person;
        let merged = Person {
            birth: new.birth.or(held.birth),
            sex: match new.sex {
                Sex::Unknown => held.sex,
                sent => sent,
            },
            gestation_weeks: new.gestation_weeks.or(held.gestation_weeks),
            altitude_m: new.altitude_m.or(held.altitude_m),
            smoking: match new.smoking {
                Smoking::Unknown => held.smoking,
                sent => sent,
            },
            duffy: match new.duffy {
                Duffy::Unknown => held.duffy,
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

/// Names to look for the patient on a target with. `true`: changed.
pub(super) fn merge_names(row: &mut PatientRow, patient: &IncomingPatient) -> bool {
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
