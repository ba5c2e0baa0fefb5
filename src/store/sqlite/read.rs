//! What is read back: our own resources, what was sent, patients, figures.

use rusqlite::{Connection, params, types::Value as Sql};

use super::{
    accept::sent_id,
    rows::{self, all, first},
};
use crate::store::{
    codec,
    error::Result,
    keys::{Hash, ResultId},
    lease::PatientId,
    reading::{Figures, HeldResource, KnownPatient, Page, Search},
    row::{self, Place, get},
};

/// Patients that any of these keys leads to.
pub(super) fn find_patients(
    connection: &Connection,
    tenant: &str,
    keys: &[Hash],
) -> Result<Vec<PatientId>> {
    let mut found = Vec::new();
    for key in keys {
        found.extend(rows::patient_of_key(connection, tenant, key)?);
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Everything known of a patient of this tenant.
pub(super) fn patient(
    connection: &Connection,
    tenant: &str,
    id: PatientId,
) -> Result<Option<KnownPatient>> {
    let Some((owner, known)) = rows::known(connection, id)? else {
        return Ok(None);
    };
    if owner != tenant {
        return Ok(None);
    }
    known.into_patient(id)
}

/// A version of a resource of ours.
pub(super) fn read(
    connection: &Connection,
    tenant: &str,
    kind: &str,
    id: &str,
    version: Option<i64>,
) -> Result<Option<HeldResource>> {
    // What is of no patient is of every tenant.
    let sql = format!(
        "{} WHERE fhir_type = ?1 AND fhir_id = ?2 AND (?3 IS NULL OR version = ?3) \
         AND (resource.patient_id IS NULL OR patient.tenant = ?4) ORDER BY version DESC LIMIT 1",
        row::RESOURCE
    );
    let which = params![kind, id, version, tenant];
    first(connection, &sql, which, |row| row::resource(row))
}

/// Current versions of our own resources, the newest first.
pub(super) fn search(connection: &Connection, search: &Search) -> Result<Page> {
    const NEWEST: &str = "version = (SELECT max(version) FROM resource AS other \
         WHERE other.fhir_type = resource.fhir_type AND other.fhir_id = resource.fhir_id)";
    let limit = search.limit.clamp(1, row::PAGE);
    let mut values: Vec<Sql> = vec![
        Sql::Text(search.kind.clone()),
        Sql::Text(search.tenant.clone()),
        search
            .since
            .map_or(Sql::Null, |at| Sql::Integer(codec::millis(at))),
        search
            .before
            .map_or(Sql::Null, |at| Sql::Integer(codec::millis(at))),
        Sql::Integer(i64::try_from(limit).unwrap_or(0) + 1),
        Sql::Integer(i64::try_from(search.offset).unwrap_or(i64::MAX)),
    ];
    let of = match &search.patients {
        None => String::new(),
        Some(patients) if patients.is_empty() => return Ok(Page::default()),
        Some(patients) => {
            let marks: Vec<String> = (0..patients.len())
                .map(|position| format!("?{}", position + values.len() + 1))
                .collect();
            values.extend(patients.iter().map(|patient| Sql::Integer(patient.0)));
            format!(" AND resource.patient_id IN ({})", marks.join(", "))
        }
    };
    let sql = format!(
        "{} WHERE fhir_type = ?1 AND patient.tenant = ?2{of} \
         AND (?3 IS NULL OR last_updated >= ?3) AND (?4 IS NULL OR last_updated < ?4) \
         AND {NEWEST} ORDER BY last_updated DESC, resource.rowid DESC LIMIT ?5 OFFSET ?6",
        row::RESOURCE
    );
    let values = rusqlite::params_from_iter(values);
    let mut resources = all(connection, &sql, values, |row| row::resource(row))?;
    let more = resources.len() > limit;
    resources.truncate(limit);
    Ok(Page { resources, more })
}

/// A version of a resource that was sent.
pub(super) fn read_sent(
    connection: &Connection,
    tenant: &str,
    client: &str,
    kind: &str,
    id: &str,
    version: Option<i64>,
) -> Result<Option<HeldResource>> {
    let Some((patient, result)) = sent_id(connection, tenant, client, kind, id)? else {
        return Ok(None);
    };
    let Some(place) = place(connection, patient, result, version)? else {
        return Ok(None);
    };
    let whose = params![patient.0, place.seq];
    let sent = first(connection, row::TEXTS, whose, |row| {
        row::sent(row, &place, patient, kind, id)
    })?;
    Ok(sent.flatten())
}

fn place(
    connection: &Connection,
    patient: PatientId,
    result: ResultId,
    version: Option<i64>,
) -> Result<Option<Place>> {
    const SELECT: &str = "SELECT version, status, patient_seq, ordinal FROM observation \
         WHERE patient_id = ?1 AND l3_key = ?2 AND (?3 IS NULL OR version = ?3) \
         UNION ALL SELECT version, status, patient_seq, ordinal FROM observation_version \
         WHERE patient_id = ?1 AND l3_key = ?2 AND version = ?3 \
         UNION ALL SELECT version, status, patient_seq, ordinal FROM fact \
         WHERE patient_id = ?1 AND key = ?2 AND (?3 IS NULL OR version = ?3) LIMIT 1";
    let which = params![patient.0, result.0, version];
    first(connection, SELECT, which, |row| row::place(row))
}

/// Figures of the outbox.
pub(super) fn figures(connection: &Connection) -> Result<Figures> {
    let deliveries = all(connection, row::COUNTS, [], |row| row::count(row))?;
    let oldest_due = all(connection, row::OLDEST_DUE, [], |row| row::oldest_due(row))?;
    Ok(Figures {
        deliveries,
        oldest_due,
        ..Figures::default()
    })
}

/// Fingerprint of the identity key that the ids in this database were made with.
pub(super) fn key_fingerprint(connection: &Connection) -> Result<Option<Hash>> {
    first(
        connection,
        "SELECT identity_key_fingerprint FROM instance",
        [],
        |row| get(row, 0),
    )
}
