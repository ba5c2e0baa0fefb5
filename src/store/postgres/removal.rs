//! Removing a patient, and what is older than it is kept.

use time::OffsetDateTime;
use tokio_postgres::types::ToSql;

use super::{
    connection::{Connection, Millis, Tried},
    read,
};
use crate::{
    fault::crash_point,
    store::{
        keys::Hash,
        lease::PatientId,
        removal::{self, Due, Found, Retention},
    },
};

/// Everything about the patients that any of these keys leads to; how many they were.
pub(super) async fn erase(connection: &Connection, tenant: &str, keys: &[Hash]) -> Tried<usize> {
    let mut patients = 0;
    for patient in read::find_patients(connection, tenant, keys).await? {
        patients += usize::from(erase_patient(connection, patient).await?);
    }
    for key in keys {
        for sql in removal::CARDS_OF_KEY {
            connection.run(sql, &[&tenant, &key.as_slice()]).await?;
        }
    }
    Ok(patients)
}

/// `false`: another was quicker.
async fn erase_patient(connection: &Connection, patient: PatientId) -> Tried<bool> {
    const UNCHANGED: &str = "UPDATE inbox SET receipt = NULL, idem_key = NULL, \
         content_hash = NULL, envelope_key = NULL, envelope_detail = NULL, unchanged = NULL \
         WHERE receipt IS NOT NULL AND position($1 IN unchanged) > 0";
    if !lock(connection, patient).await? {
        return Ok(false);
    }
    let mark = removal::mark_of(patient);
    connection.run(UNCHANGED, &[&mark.as_slice()]).await?;
    for sql in removal::PATIENT {
        connection.run(sql, &[&patient.0]).await?;
    }
    connection.run(removal::PATIENT_ROW, &[&patient.0]).await?;
    Ok(true)
}

/// Whoever files for this patient comes before or after, never in the middle.
async fn lock(connection: &Connection, patient: PatientId) -> Tried<bool> {
    const LOCK: &str = "SELECT 1 FROM patient WHERE id = $1 FOR UPDATE";
    Ok(connection.first(LOCK, &[&patient.0]).await?.is_some())
}

/// Look at the next patients.
pub(super) async fn look(
    connection: &Connection,
    retention: &Retention,
    now: OffsetDateTime,
    after: PatientId,
) -> Tried<Found> {
    let next: [&(dyn ToSql + Sync); 2] = [&after.0, &removal::PATIENTS];
    let looked_at = connection
        .list(removal::NEXT_PATIENTS, &next, |row| retention.due(row, now))
        .await?;
    let mut due = Vec::new();
    for one in &looked_at {
        if is_due(connection, *one).await? {
            due.push(*one);
        }
    }
    let before = retention.cutoffs(now, None).findings;
    let cards = after.0 == 0
        && connection
            .first(removal::OLD_CARDS, &[&Millis(before)])
            .await?
            .is_some();
    Ok(Found {
        due,
        cards: cards.then_some(before),
        next: removal::next(&looked_at),
    })
}

async fn is_due(connection: &Connection, due: Due) -> Tried<bool> {
    let Due { patient, cutoffs } = due;
    for (sql, before) in [
        (removal::OLD_VALUES, cutoffs.timeline),
        (removal::OLD_FINDINGS, cutoffs.findings),
    ] {
        let found = connection
            .first(sql, &[&patient.0, &Millis(before)])
            .await?;
        if found.is_some() {
            return Ok(true);
        }
    }
    Ok(!old_facts(connection, due).await?.is_empty())
}

async fn old_facts(connection: &Connection, due: Due) -> Tried<Vec<Vec<u8>>> {
    let facts = connection
        .list(removal::FACTS, &[&due.patient.0], |row| {
            removal::old_fact(row, due.cutoffs.timeline)
        })
        .await?;
    Ok(facts.into_iter().flatten().collect())
}

/// Remove what is over of one patient, and the patient when nothing is left.
pub(super) async fn forget(connection: &Connection, due: Due) -> Tried<()> {
    let Due { patient, cutoffs } = due;
    if !lock(connection, patient).await? {
        return Ok(());
    }
    let mut removed = 0;
    for key in old_facts(connection, due).await? {
        removed += connection.run(removal::FACT, &[&patient.0, &key]).await?;
    }
    for sql in removal::VALUES {
        removed += connection
            .run(sql, &[&patient.0, &Millis(cutoffs.timeline)])
            .await?;
    }
    let before = Millis(cutoffs.findings);
    for sql in removal::FINDINGS {
        removed += connection.run(sql, &[&patient.0, &before]).await?;
    }
    crash_point!("retention.batch");
    if removed > 0 {
        for sql in removal::LEFTOVERS {
            connection.run(sql, &[&patient.0]).await?;
        }
    }
    let empty = connection
        .first(removal::EMPTY, &[&patient.0, &before])
        .await?;
    if empty.is_some() {
        erase_patient(connection, patient).await?;
    }
    Ok(())
}

/// Remove cards that are over.
pub(super) async fn forget_cards(connection: &Connection, before: i64) -> Tried<()> {
    for sql in removal::CARDS {
        connection.run(sql, &[&Millis(before)]).await?;
    }
    Ok(())
}
