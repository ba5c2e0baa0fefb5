//! What is read back: our own resources, what was sent, patients, figures.

use rusqlite::{Connection, Row, params, types::Value as Sql};
use serde_json::Value;

use super::{
    accept::sent_id,
    rows::{self, all, bytes, column, first},
};
use crate::store::{
    codec,
    error::{Result, StoreError},
    keys::{Hash, ResultId},
    lease::PatientId,
    reading::{Figures, HeldResource, KnownPatient, Page, Search},
};

/// Resources in one page at most.
const PAGE: usize = 1_000;

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

const RESOURCE: &str = "SELECT fhir_type, fhir_id, version, last_updated, body, \
     resource.patient_id FROM resource LEFT JOIN patient ON patient.id = resource.patient_id";

fn resource(row: &Row<'_>) -> Result<HeldResource> {
    let body = codec::decompress(&column::<Vec<u8>>(row, 4)?)?;
    let mut held = HeldResource {
        kind: column(row, 0)?,
        id: column(row, 1)?,
        version: column(row, 2)?,
        last_updated: codec::instant(column(row, 3)?)?,
        patient: column::<Option<i64>>(row, 5)?.map(PatientId),
        body: serde_json::from_slice(&body).map_err(|_| StoreError::Unreadable("resource.body"))?,
    };
    held.stamp();
    Ok(held)
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
        "{RESOURCE} WHERE fhir_type = ?1 AND fhir_id = ?2 AND (?3 IS NULL OR version = ?3) \
         AND (resource.patient_id IS NULL OR patient.tenant = ?4) ORDER BY version DESC LIMIT 1"
    );
    first(
        connection,
        &sql,
        params![kind, id, version, tenant],
        resource,
    )
}

/// Current versions of our own resources, the newest first.
pub(super) fn search(connection: &Connection, search: &Search) -> Result<Page> {
    const NEWEST: &str = "version = (SELECT max(version) FROM resource AS other \
         WHERE other.fhir_type = resource.fhir_type AND other.fhir_id = resource.fhir_id)";
    let limit = search.limit.clamp(1, PAGE);
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
        "{RESOURCE} WHERE fhir_type = ?1 AND patient.tenant = ?2{of} \
         AND (?3 IS NULL OR last_updated >= ?3) AND (?4 IS NULL OR last_updated < ?4) \
         AND {NEWEST} ORDER BY last_updated DESC, resource.rowid DESC LIMIT ?5 OFFSET ?6"
    );
    let mut resources = all(
        connection,
        &sql,
        rusqlite::params_from_iter(values),
        resource,
    )?;
    let more = resources.len() > limit;
    resources.truncate(limit);
    Ok(Page { resources, more })
}

/// Where the text of a version of something sent is.
struct Place {
    version: i64,
    status: String,
    seq: i64,
    ordinal: i64,
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
    let text = first(
        connection,
        "SELECT mine.body, inbox.received_at FROM inbox_patient AS mine \
         LEFT JOIN inbox ON inbox.id = mine.inbox_id \
         WHERE mine.patient_id = ?1 AND mine.patient_seq = ?2",
        params![patient.0, place.seq],
        |row| {
            Ok((
                codec::decompress(&column::<Vec<u8>>(row, 0)?)?,
                column::<Option<i64>>(row, 1)?,
            ))
        },
    )?;
    let Some((lines, received_at)) = text else {
        return Ok(None);
    };
    let line = usize::try_from(place.ordinal)
        .ok()
        .and_then(|ordinal| lines.split(|byte| *byte == b'\n').nth(ordinal))
        .ok_or(StoreError::Unreadable("inbox_patient.body"))?;
    let mut body: Value =
        serde_json::from_slice(line).map_err(|_| StoreError::Unreadable("inbox_patient.body"))?;
    if body.get("resourceType").and_then(Value::as_str) != Some(kind) {
        return Ok(None);
    }
    // Withdrawn by its id: the text is that of the version before.
    if let Some(status) = body.get_mut("status") {
        *status = Value::from(place.status);
    }
    let mut held = HeldResource {
        kind: kind.to_owned(),
        id: id.to_owned(),
        version: place.version,
        last_updated: codec::instant(received_at.unwrap_or(0))?,
        patient: Some(patient),
        body,
    };
    held.stamp();
    Ok(Some(held))
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
    first(
        connection,
        SELECT,
        params![patient.0, result.0, version],
        |row| {
            Ok(Place {
                version: column(row, 0)?,
                status: column(row, 1)?,
                seq: column(row, 2)?,
                ordinal: column(row, 3)?,
            })
        },
    )
}

/// Figures of the outbox.
pub(super) fn figures(connection: &Connection) -> Result<Figures> {
    const COUNTS: &str = "SELECT target.name, delivery.state, count(*) FROM delivery \
         JOIN target ON target.id = delivery.target_id \
         WHERE delivery.state IN ('queued', 'in_flight', 'later') GROUP BY 1, 2 \
         UNION ALL SELECT target.name, delivery.state, count(*) FROM delivery \
         JOIN target ON target.id = delivery.target_id \
         WHERE delivery.state = 'parked' GROUP BY 1, 2";
    const OLDEST: &str = "SELECT target.name, min(lane.due_at) FROM lane \
         JOIN target ON target.id = lane.target_id WHERE lane.due_at IS NOT NULL GROUP BY 1";
    let deliveries = all(connection, COUNTS, [], |row| {
        let count: i64 = column(row, 2)?;
        Ok((
            column(row, 0)?,
            column(row, 1)?,
            u64::try_from(count).unwrap_or(0),
        ))
    })?;
    let oldest_due = all(connection, OLDEST, [], |row| {
        Ok((column(row, 0)?, codec::instant(column(row, 1)?)?))
    })?;
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
        |row| bytes(row, 0),
    )
}
