//! Removing a patient, and what is older than it is kept.

use rusqlite::{Connection, params};
use time::OffsetDateTime;

use super::{
    read,
    rows::{all, execute, first},
};
use crate::{
    fault::crash_point,
    store::{
        error::Result,
        keys::Hash,
        lease::PatientId,
        removal::{self, Due, Found, Retention},
    },
};

/// Everything about the patients that any of these keys leads to; how many they were.
pub(super) fn erase(connection: &Connection, tenant: &str, keys: &[Hash]) -> Result<usize> {
    let patients = read::find_patients(connection, tenant, keys)?;
    for patient in &patients {
        erase_patient(connection, *patient)?;
    }
    for key in keys {
        for sql in removal::CARDS_OF_KEY {
            execute(connection, sql, params![tenant, key])?;
        }
    }
    Ok(patients.len())
}

fn erase_patient(connection: &Connection, patient: PatientId) -> Result<()> {
    const UNCHANGED: &str = "UPDATE inbox SET receipt = NULL, idem_key = NULL, \
         content_hash = NULL, envelope_key = NULL, envelope_detail = NULL, unchanged = NULL \
         WHERE receipt IS NOT NULL AND instr(unchanged, $1) > 0";
    execute(connection, UNCHANGED, params![removal::mark_of(patient)])?;
    for sql in removal::PATIENT {
        execute(connection, sql, params![patient.0])?;
    }
    execute(connection, removal::PATIENT_ROW, params![patient.0])?;
    Ok(())
}

/// Look at the next patients.
pub(super) fn look(
    connection: &Connection,
    retention: &Retention,
    now: OffsetDateTime,
    after: PatientId,
) -> Result<Found> {
    let next = params![after.0, removal::PATIENTS];
    let looked_at = all(connection, removal::NEXT_PATIENTS, next, |row| {
        retention.due(row, now)
    })?;
    let mut due = Vec::new();
    for one in &looked_at {
        if is_due(connection, *one)? {
            due.push(*one);
        }
    }
    let before = retention.cutoffs(now, None).findings;
    let cards = after.0 == 0
        && first(connection, removal::OLD_CARDS, params![before], |_| Ok(()))?.is_some();
    Ok(Found {
        due,
        cards: cards.then_some(before),
        next: removal::next(&looked_at),
    })
}

fn is_due(connection: &Connection, due: Due) -> Result<bool> {
    let Due { patient, cutoffs } = due;
    for (sql, before) in [
        (removal::OLD_VALUES, cutoffs.timeline),
        (removal::OLD_FINDINGS, cutoffs.findings),
    ] {
        if first(connection, sql, params![patient.0, before], |_| Ok(()))?.is_some() {
            return Ok(true);
        }
    }
    Ok(!old_facts(connection, due)?.is_empty())
}

fn old_facts(connection: &Connection, due: Due) -> Result<Vec<Vec<u8>>> {
    let facts = all(connection, removal::FACTS, params![due.patient.0], |row| {
        removal::old_fact(row, due.cutoffs.timeline)
    })?;
    Ok(facts.into_iter().flatten().collect())
}

/// Remove what is over of one patient, and the patient when nothing is left.
pub(super) fn forget(connection: &Connection, due: Due) -> Result<()> {
    let Due { patient, cutoffs } = due;
    let mut removed = 0;
    for key in old_facts(connection, due)? {
        removed += execute(connection, removal::FACT, params![patient.0, key])?;
    }
    for sql in removal::VALUES {
        removed += execute(connection, sql, params![patient.0, cutoffs.timeline])?;
    }
    for sql in removal::FINDINGS {
        removed += execute(connection, sql, params![patient.0, cutoffs.findings])?;
    }
    crash_point!("retention.batch");
    if removed > 0 {
        for sql in removal::LEFTOVERS {
            execute(connection, sql, params![patient.0])?;
        }
    }
    let empty = params![patient.0, cutoffs.findings];
    if first(connection, removal::EMPTY, empty, |_| Ok(()))?.is_some() {
        erase_patient(connection, patient)?;
    }
    Ok(())
}

/// Remove cards that are over.
pub(super) fn forget_cards(connection: &Connection, before: i64) -> Result<()> {
    for sql in removal::CARDS {
        execute(connection, sql, params![before])?;
    }
    Ok(())
}
