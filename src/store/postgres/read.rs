//! What is read back: our own resources, what was sent, patients, figures.

use super::{
    connection::{Connection, Millis, Tried},
    resolve::sent_ids,
    rows,
};
use crate::store::{
    codec,
    keys::Hash,
    lease::PatientId,
    reading::{Figures, HeldResource, KnownPatient, Page, Search},
    row,
};

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
        "{} WHERE fhir_type = $1 AND fhir_id = $2 \
         AND ($3::bigint IS NULL OR version = $3) \
         AND (resource.patient_id IS NULL OR patient.tenant = $4) ORDER BY version DESC LIMIT 1",
        row::RESOURCE
    );
    connection
        .one(
            &sql,
            &[&kind, &rows::text(id), &version, &tenant],
            row::resource,
        )
        .await
}

/// Current versions of our own resources, the newest first.
pub(super) async fn search(connection: &Connection, search: &Search) -> Tried<Page> {
    let limit = search.limit.clamp(1, row::PAGE);
    let patients: Option<Vec<i64>> = search
        .patients
        .as_ref()
        .map(|patients| patients.iter().map(|patient| patient.0).collect());
    let sql = format!(
        "{} WHERE fhir_type = $1 AND patient.tenant = $2 \
         AND ($3::bigint[] IS NULL OR resource.patient_id = ANY($3)) \
         AND ($4::timestamptz IS NULL OR last_updated >= $4) \
         AND ($5::timestamptz IS NULL OR last_updated < $5) \
         AND NOT EXISTS (SELECT 1 FROM resource AS newer \
         WHERE newer.fhir_type = resource.fhir_type AND newer.fhir_id = resource.fhir_id \
         AND newer.version > resource.version) \
         ORDER BY last_updated DESC, resource.id DESC LIMIT $6 OFFSET $7",
        row::RESOURCE
    );
    let mut resources = connection
        .list(
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
            row::resource,
        )
        .await?;
    let more = resources.len() > limit;
    resources.truncate(limit);
    Ok(Page { resources, more })
}

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
    let found = sent_ids(connection, tenant, client, &[(kind, id)]).await?;
    let Some((patient, result)) = found.into_iter().next().flatten() else {
        return Ok(None);
    };
    let key = result.0.as_slice();
    let Some(place) = connection
        .one(PLACE, &[&patient.0, &key, &version], row::place)
        .await?
    else {
        return Ok(None);
    };
    let sent = connection
        .one(row::TEXTS, &[&patient.0, &place.seq], |row| {
            row::sent(row, &place, patient, kind, id)
        })
        .await?;
    Ok(sent.flatten())
}

/// Figures of the outbox.
pub(super) async fn figures(connection: &Connection) -> Tried<Figures> {
    Ok(Figures {
        deliveries: connection.list(row::COUNTS, &[], row::count).await?,
        oldest_due: connection
            .list(row::OLDEST_DUE, &[], row::oldest_due)
            .await?,
        ..Figures::default()
    })
}
