//! What is read back: our own resources, what was sent, patients, figures.

use serde_json::Value;
use tokio_postgres::Row;

use super::{
    connection::{Connection, Millis, Tried, column},
    resolve::sent_ids,
    rows,
};
use crate::store::{
    codec,
    error::{Result, StoreError},
    keys::Hash,
    lease::PatientId,
    reading::{Figures, HeldResource, KnownPatient, Page, Search},
};

/// Resources in one page at most.
const PAGE: usize = 1_000;

/// Patients that any of these keys leads to.
pub(super) async fn find_patients(
    connection: &Connection,
    tenant: &str,
    keys: &[Hash],
) -> Tried<Vec<PatientId>> {
    let keys: Vec<&Hash> = keys.iter().collect();
    let mut found: Vec<PatientId> = rows::patients_of_keys(connection, tenant, &keys)
        .await?
        .into_iter()
        .flatten()
        .collect();
    found.sort();
    found.dedup();
    Ok(found)
}

/// Everything known of a patient of this tenant.
pub(super) async fn patient(
    connection: &Connection,
    tenant: &str,
    id: PatientId,
) -> Tried<Option<KnownPatient>> {
    match rows::known(connection, id).await? {
        Some((owner, known)) if owner == tenant => Ok(known.into_patient(id)?),
        _ => Ok(None),
    }
}

const RESOURCE: &str = "SELECT fhir_type, fhir_id, version, last_updated, body, \
     resource.patient_id FROM resource LEFT JOIN patient ON patient.id = resource.patient_id";

fn resource(row: &Row) -> Result<HeldResource> {
    let body = codec::decompress(column(row, 4)?)?;
    let mut held = HeldResource {
        kind: column(row, 0)?,
        id: column(row, 1)?,
        version: column(row, 2)?,
        last_updated: codec::instant(column::<Millis>(row, 3)?.0)?,
        patient: column::<Option<i64>>(row, 5)?.map(PatientId),
        body: serde_json::from_slice(&body).map_err(|_| StoreError::Unreadable("resource.body"))?,
    };
    held.stamp();
    Ok(held)
}

/// A version of a resource of ours.
pub(super) async fn read(
    connection: &Connection,
    tenant: &str,
    kind: &str,
    id: &str,
    version: Option<i64>,
) -> Tried<Option<HeldResource>> {
    // What is of no patient is of every tenant.
    let sql = format!(
        "{RESOURCE} WHERE fhir_type = $1 AND fhir_id = $2 \
         AND ($3::bigint IS NULL OR version = $3) \
         AND (resource.patient_id IS NULL OR patient.tenant = $4) ORDER BY version DESC LIMIT 1"
    );
    let row = connection
        .first(&sql, &[&kind, &rows::text(id), &version, &tenant])
        .await?;
    Ok(row.as_ref().map(resource).transpose()?)
}

/// Current versions of our own resources, the newest first.
pub(super) async fn search(connection: &Connection, search: &Search) -> Tried<Page> {
    let limit = search.limit.clamp(1, PAGE);
    let patients: Option<Vec<i64>> = search
        .patients
        .as_ref()
        .map(|patients| patients.iter().map(|patient| patient.0).collect());
    let sql = format!(
        "{RESOURCE} WHERE fhir_type = $1 AND patient.tenant = $2 \
         AND ($3::bigint[] IS NULL OR resource.patient_id = ANY($3)) \
         AND ($4::timestamptz IS NULL OR last_updated >= $4) \
         AND ($5::timestamptz IS NULL OR last_updated < $5) \
         AND NOT EXISTS (SELECT 1 FROM resource AS newer \
         WHERE newer.fhir_type = resource.fhir_type AND newer.fhir_id = resource.fhir_id \
         AND newer.version > resource.version) \
         ORDER BY last_updated DESC, resource.id DESC LIMIT $6 OFFSET $7"
    );
    let found = connection
        .all(
            &sql,
            &[
                &search.kind,
                &search.tenant,
                &patients,
                &search.since.map(codec::millis).map(Millis),
                &search.before.map(codec::millis).map(Millis),
                &(i64::try_from(limit).unwrap_or(0) + 1),
                &i64::try_from(search.offset).unwrap_or(i64::MAX),
            ],
        )
        .await?;
    let more = found.len() > limit;
    let resources = found
        .iter()
        .take(limit)
        .map(resource)
        .collect::<Result<_>>()?;
    Ok(Page { resources, more })
}

const UNREADABLE: StoreError = StoreError::Unreadable("inbox_patient.body");

/// A version of a resource that was sent.
pub(super) async fn read_sent(
    connection: &Connection,
    tenant: &str,
    client: &str,
    kind: &str,
    id: &str,
    version: Option<i64>,
) -> Tried<Option<HeldResource>> {
    const PLACE: &str = "SELECT version, status, patient_seq, ordinal FROM observation \
         WHERE patient_id = $1 AND l3_key = $2 AND ($3::bigint IS NULL OR version = $3) \
         UNION ALL SELECT version, status, patient_seq, ordinal FROM observation_version \
         WHERE patient_id = $1 AND l3_key = $2 AND version = $3 \
         UNION ALL SELECT version, status, patient_seq, ordinal FROM fact \
         WHERE patient_id = $1 AND key = $2 AND ($3 IS NULL OR version = $3) LIMIT 1";
    const TEXT: &str = "SELECT mine.body, inbox.received_at FROM inbox_patient AS mine \
         LEFT JOIN inbox ON inbox.id = mine.inbox_id \
         WHERE mine.patient_id = $1 AND mine.patient_seq = $2";
    let found = sent_ids(connection, tenant, client, &[(kind, id)]).await?;
    let Some((patient, result)) = found.into_iter().next().flatten() else {
        return Ok(None);
    };
    let key = result.0.as_slice();
    let Some(place) = connection
        .first(PLACE, &[&patient.0, &key, &version])
        .await?
    else {
        return Ok(None);
    };
    let (seq, ordinal): (i64, i64) = (column(&place, 2)?, column(&place, 3)?);
    let Some(text) = connection.first(TEXT, &[&patient.0, &seq]).await? else {
        return Ok(None);
    };
    let lines = codec::decompress(column(&text, 0)?)?;
    let line = usize::try_from(ordinal)
        .ok()
        .and_then(|ordinal| lines.split(|byte| *byte == b'\n').nth(ordinal))
        .ok_or(UNREADABLE)?;
    let mut body: Value = serde_json::from_slice(line).map_err(|_| UNREADABLE)?;
    if body.get("resourceType").and_then(Value::as_str) != Some(kind) {
        return Ok(None);
    }
    // Withdrawn by its id: the text is that of the version before.
    if let Some(status) = body.get_mut("status") {
        *status = Value::from(column::<&str>(&place, 1)?);
    }
    let received_at = column::<Option<Millis>>(&text, 1)?.map_or(0, |at| at.0);
    let mut held = HeldResource {
        kind: kind.to_owned(),
        id: id.to_owned(),
        version: column(&place, 0)?,
        last_updated: codec::instant(received_at)?,
        patient: Some(patient),
        body,
    };
    held.stamp();
    Ok(Some(held))
}

/// Figures of the outbox.
pub(super) async fn figures(connection: &Connection) -> Tried<Figures> {
    const COUNTS: &str = "SELECT target.name, delivery.state, count(*) FROM delivery \
         JOIN target ON target.id = delivery.target_id \
         WHERE delivery.state IN ('queued', 'in_flight', 'later') GROUP BY 1, 2 \
         UNION ALL SELECT target.name, delivery.state, count(*) FROM delivery \
         JOIN target ON target.id = delivery.target_id \
         WHERE delivery.state = 'parked' GROUP BY 1, 2";
    const OLDEST: &str = "SELECT target.name, min(lane.due_at) FROM lane \
         JOIN target ON target.id = lane.target_id WHERE lane.due_at IS NOT NULL GROUP BY 1";
    let counts = connection.all(COUNTS, &[]).await?;
    let oldest = connection.all(OLDEST, &[]).await?;
    Ok(Figures {
        deliveries: counts
            .iter()
            .map(|row| {
                let count: i64 = column(row, 2)?;
                Ok((
                    column(row, 0)?,
                    column(row, 1)?,
                    u64::try_from(count).unwrap_or(0),
                ))
            })
            .collect::<Result<_>>()?,
        oldest_due: oldest
            .iter()
            .map(|row| {
                Ok((
                    column(row, 0)?,
                    codec::instant(column::<Millis>(row, 1)?.0)?,
                ))
            })
            .collect::<Result<_>>()?,
        ..Figures::default()
    })
}
