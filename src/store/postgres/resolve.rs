//! Whom keys and ids lead to.

use super::{
    connection::{Connection, Tried, Trouble},
    rows,
};
use crate::store::{
    error::Result,
    keys::{ResultId, parse_logical_id},
    lease::PatientId,
    plan::{PatientPlan, Resolved},
    row::{find, get},
    submission::Incoming,
};

/// A result of a patient.
pub(super) type Place = (PatientId, ResultId);

/// Whom keys and ids lead to, before anything is locked.
pub(super) async fn resolve(connection: &Connection, incoming: &Incoming) -> Tried<Resolved> {
    let asked: Vec<_> = incoming
        .patients
        .iter()
        .flat_map(|patient| &patient.keys)
        .collect();
    let mut found = rows::patients_of_keys(connection, &incoming.tenant, &asked)
        .await?
        .into_iter();
    let keys = incoming
        .patients
        .iter()
        .map(|patient| found.by_ref().take(patient.keys.len()).collect())
        .collect();
    let (aliases, withdrawals) = ids(connection, incoming).await?;
    Ok(Resolved {
        keys,
        aliases,
        withdrawals,
    })
}

/// What ids stand for may have changed until their patients were locked. (What a key leads to
/// changes only with its patient, and a new key is taken by writing it.)
pub(super) async fn must_still_hold(
    connection: &Connection,
    incoming: &Incoming,
    resolved: &Resolved,
) -> Tried<()> {
    let (aliases, withdrawals) = ids(connection, incoming).await?;
    if aliases == resolved.aliases && withdrawals == resolved.withdrawals {
        Ok(())
    } else {
        Err(Trouble::Stale)
    }
}

type Ids = (Vec<Vec<Option<Place>>>, Vec<Option<Place>>);

/// What the ids of PUTs and DELETEs stand for.
async fn ids(connection: &Connection, incoming: &Incoming) -> Tried<Ids> {
    let puts = incoming
        .patients
        .iter()
        .flat_map(|patient| &patient.resources)
        .filter_map(|resource| Some((resource.kind.as_str(), resource.put_id.as_deref()?)));
    let deletes = incoming
        .withdrawals
        .iter()
        .map(|one| (one.kind.as_str(), one.id.as_str()));
    let asked: Vec<(&str, &str)> = puts.chain(deletes).collect();
    let mut found = sent_ids(connection, &incoming.tenant, &incoming.client, &asked)
        .await?
        .into_iter();
    let aliases = incoming
        .patients
        .iter()
        .map(|patient| {
            patient
                .resources
                .iter()
                .map(|resource| match resource.put_id {
                    Some(_) => found.next().flatten(),
                    None => None,
                })
                .collect()
        })
        .collect();
    Ok((aliases, found.collect()))
}

/// What ids stand for: one this client gave by PUT, else one of ours in its tenant.
pub(super) async fn sent_ids(
    connection: &Connection,
    tenant: &str,
    client: &str,
    asked: &[(&str, &str)],
) -> Tried<Vec<Option<Place>>> {
    const ALIAS: &str = "SELECT alias.patient_id, alias.l3_key \
         FROM unnest($3::text[], $4::text[]) WITH ORDINALITY AS asked (kind, id, place) \
         LEFT JOIN observation_alias AS alias ON alias.tenant = $1 AND alias.client = $2 \
         AND alias.kind = asked.kind AND alias.client_id = asked.id ORDER BY asked.place";
    const OURS: &str = "SELECT id FROM patient WHERE tenant = $1 AND id = ANY($2)";
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let (kinds, ids): (Vec<&str>, Vec<_>) = asked
        .iter()
        .map(|(kind, id)| (*kind, rows::text(id)))
        .unzip();
    let rows = connection
        .all(ALIAS, &[&tenant, &client, &kinds, &ids])
        .await?;
    let mut found = rows
        .iter()
        .map(|row| match find::<i64>(row, 0)? {
            Some(patient) => Ok(Some((PatientId(patient), ResultId(get(row, 1)?)))),
            None => Ok(None),
        })
        .collect::<Result<Vec<_>>>()?;
    let logical: Vec<Option<Place>> = asked
        .iter()
        .zip(&found)
        .map(|((_, id), alias)| match alias {
            Some(_) => None,
            None => parse_logical_id(id),
        })
        .collect();
    let places: Vec<Place> = logical.iter().flatten().copied().collect();
    if places.is_empty() {
        return Ok(found);
    }
    let patients: Vec<i64> = places.iter().map(|(patient, _)| patient.0).collect();
    let ours = connection.all(OURS, &[&tenant, &patients]).await?;
    let ours: Vec<i64> = ours.iter().map(|row| get(row, 0)).collect::<Result<_>>()?;
    let mut held = held_versions(connection, &places).await?.into_iter();
    for (slot, logical) in found.iter_mut().zip(logical) {
        if let Some(place) = logical
            && held.next().flatten().is_some()
            && ours.contains(&place.0.0)
        {
            *slot = Some(place);
        }
    }
    Ok(found)
}

/// The version held of each of these results.
pub(super) async fn held_versions(
    connection: &Connection,
    asked: &[Place],
) -> Tried<Vec<Option<i64>>> {
    const SELECT: &str = "SELECT coalesce(observation.version, fact.version) \
         FROM unnest($1::bigint[], $2::bytea[]) WITH ORDINALITY AS asked (patient, result, place) \
         LEFT JOIN observation ON observation.patient_id = asked.patient \
         AND observation.l3_key = asked.result \
         LEFT JOIN fact ON fact.patient_id = asked.patient AND fact.key = asked.result \
         ORDER BY asked.place";
    if asked.is_empty() {
        return Ok(Vec::new());
    }
    let (patients, results): (Vec<i64>, Vec<&[u8]>) = asked
        .iter()
        .map(|(patient, result)| (patient.0, result.0.as_slice()))
        .unzip();
    let rows = connection.all(SELECT, &[&patients, &results]).await?;
    Ok(rows.iter().map(|row| find(row, 0)).collect::<Result<_>>()?)
}

/// Remember the ids that this submission gave by PUT.
pub(super) async fn put_aliases(
    connection: &Connection,
    incoming: &Incoming,
    plan: &PatientPlan,
) -> Tried<()> {
    // The patient of one that was seen is locked. One that was not, and now is, was given by
    // another submission meanwhile, unless this one has it twice.
    const PUT: &str = "INSERT INTO observation_alias (tenant, client, kind, client_id, \
         patient_id, l3_key) VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (tenant, client, kind, client_id) DO UPDATE SET \
         patient_id = excluded.patient_id, l3_key = excluded.l3_key \
         WHERE $7 OR observation_alias.xmin = pg_current_xact_id()::xid";
    let tenant = incoming.tenant.as_ref();
    let client = incoming.client.as_ref();
    for alias in &plan.aliases {
        let written = connection
            .run(
                PUT,
                &[
                    &tenant,
                    &client,
                    &alias.kind,
                    &rows::text(&alias.client_id),
                    &plan.patient.0,
                    &alias.result.0.as_slice(),
                    &alias.seen.is_some(),
                ],
            )
            .await?;
        if written == 0 {
            return Err(Trouble::Stale);
        }
    }
    Ok(())
}
