//! The outbox: lanes, leases, settlements, and what an operator does with deliveries.
//!
//! The row of a lane is the lock of its deliveries; where the patient is locked too, it comes
//! first. A lease waits for nobody.

use std::collections::BTreeSet;

use deadpool_postgres::Pool;
use tokio_postgres::types::ToSql;

use super::{
    accept::close_if_empty,
    connection::{Connection, Millis, Tried, write},
    rows,
};
use crate::{
    clinical::assessment::Acknowledged,
    store::{
        codec,
        delivery::{Class, First, Hold, Next},
        error::{Result, StoreError},
        lease::{
            AttemptRecord, Fate, Item, Leased, PatientId, Pick, RemoteId, Settlement, TargetId,
            Unconfirmed, Written,
        },
        reading::{DeliveryDetail, DeliveryFilter, DeliverySummary, TargetRow, collect_references},
        row::{self, OpenDelivery, find, get},
    },
};

/// The target with this name and address.
pub(super) async fn target(connection: &Connection, name: &str, base_url: &str) -> Tried<TargetId> {
    const KNOWN: &str = "SELECT id FROM target WHERE base_url = $1";
    // Of several replicas that start at once, one makes it.
    connection
        .run("LOCK TABLE target IN SHARE ROW EXCLUSIVE MODE", &[])
        .await?;
    if let Some(row) = connection.first(KNOWN, &[&base_url]).await? {
        return Ok(TargetId(get(&row, 0)?));
    }
    // The name goes to the new address; what waits for the old one stays with it.
    connection
        .run(
            "UPDATE target SET name = name || ' (' || id || ')' WHERE name = $1",
            &[&name],
        )
        .await?;
    let row = connection
        .first(
            "INSERT INTO target (name, base_url) VALUES ($1, $2) RETURNING id",
            &[&name, &base_url],
        )
        .await?
        .ok_or(StoreError::Unreadable("a target without id"))?;
    Ok(TargetId(get(&row, 0)?))
}

pub(super) async fn targets(connection: &Connection) -> Tried<Vec<TargetRow>> {
    connection.list(row::TARGETS, &[], row::target).await
}

pub(super) async fn hold(
    connection: &Connection,
    target: TargetId,
    hold: Option<Hold>,
    now: i64,
) -> Tried<()> {
    const UPDATE: &str = "UPDATE target SET hold_since = CASE WHEN $2::text IS NULL THEN NULL \
         WHEN hold = $2 THEN hold_since ELSE $3 END, hold = $2 WHERE id = $1";
    let name = hold.map(Hold::as_str);
    connection
        .run(UPDATE, &[&target.0, &name, &Millis(now)])
        .await?;
    Ok(())
}

/// Take up to `limit` lanes.
pub(super) async fn lease(
    connection: &Connection,
    me: &str,
    target: TargetId,
    now: i64,
    limit: usize,
    pick: Pick,
) -> Tried<Vec<Leased>> {
    const REST: &str = "UPDATE lane SET due_at = NULL WHERE target_id = $1 AND patient_id = $2";
    const OWN: &str = "UPDATE lane SET owner = $3, fence = $4 \
         WHERE target_id = $1 AND patient_id = $2";
    const FLIES: &str = "UPDATE delivery SET state = 'in_flight' WHERE id = $1";
    recheck(connection, target, now).await?;
    let mut leased = Vec::new();
    let mut pick = pick;
    while leased.len() < limit {
        let Some((patient, fence, verify_first)) = next_lane(connection, target, now, pick).await?
        else {
            break;
        };
        pick = pick.next();
        let Some(delivery) = next_delivery(connection, target, patient).await? else {
            connection.run(REST, &[&target.0, &patient.0]).await?;
            continue;
        };
        let fence = fence + 1;
        connection
            .run(OWN, &[&target.0, &patient.0, &me, &fence])
            .await?;
        connection.run(FLIES, &[&delivery.id]).await?;
        leased.push(fill(connection, target, patient, fence, verify_first, delivery).await?);
    }
    Ok(leased)
}

async fn next_lane(
    connection: &Connection,
    target: TargetId,
    now: i64,
    pick: Pick,
) -> Tried<Option<(PatientId, i64, bool)>> {
    // A lane scheduled in the future of its own making is due: the clock went back.
    const BY_PRIORITY: &str = "SELECT patient_id, fence, verify_first FROM lane \
         WHERE target_id = $1 AND due_at IS NOT NULL AND owner IS NULL \
         AND (due_at <= $2 OR scheduled_at > $2) ORDER BY priority DESC, due_at LIMIT 1 \
         FOR UPDATE SKIP LOCKED";
    const BY_DUE: &str = "SELECT patient_id, fence, verify_first FROM lane \
         WHERE target_id = $1 AND due_at IS NOT NULL AND owner IS NULL \
         AND (due_at <= $2 OR scheduled_at > $2) ORDER BY due_at LIMIT 1 \
         FOR UPDATE SKIP LOCKED";
    const BY_CHANCE: &str = "SELECT patient_id, fence, verify_first FROM lane \
         WHERE target_id = $1 AND due_at IS NOT NULL AND owner IS NULL \
         AND (due_at <= $2 OR scheduled_at > $2) ORDER BY priority DESC, random() LIMIT 1 \
         FOR UPDATE SKIP LOCKED";
    let sql = match pick {
        Pick::Probe => BY_CHANCE,
        Pick::InTurn(turn) if turn % 4 == 3 => BY_DUE,
        Pick::InTurn(_) => BY_PRIORITY,
    };
    connection
        .one(sql, &[&target.0, &Millis(now)], |row| {
            Ok((PatientId(get(row, 0)?), get(row, 1)?, get(row, 2)?))
        })
        .await
}

async fn next_delivery(
    connection: &Connection,
    target: TargetId,
    patient: PatientId,
) -> Tried<Option<OpenDelivery>> {
    let lane: [&(dyn ToSql + Sync); 2] = [&target.0, &patient.0];
    connection
        .one(row::NEXT_DELIVERY, &lane, row::open_delivery)
        .await
}

async fn fill(
    connection: &Connection,
    target: TargetId,
    patient: PatientId,
    fence: i64,
    verify_first: bool,
    delivery: OpenDelivery,
) -> Tried<Leased> {
    let (tenant, known) = rows::patient(connection, patient)
        .await?
        .ok_or(StoreError::Unreadable("a delivery without patient"))?;
    let earlier = connection
        .list(row::CLASSES, &[&delivery.id, &row::EARLIER], row::class)
        .await?;
    let mut items = items(connection, target, delivery.id).await?;
    for item in items.iter_mut().filter(|item| item.has_skipped()) {
        item.unconfirmed = unconfirmed(connection, target, item).await?;
    }
    let mut watched = watched(connection, target, patient).await?;
    row::number_watched(&mut watched);
    Ok(Leased {
        target,
        patient,
        tenant,
        patient_key: known.key,
        fence,
        remote_ids: remote_ids(connection, target, &items).await?,
        delivery: delivery.id,
        attempt: delivery.attempt,
        earlier,
        verify_first,
        first: delivery.first,
        urgency: codec::urgency(delivery.urgency)?,
        patient_identifiers: known.identifiers,
        patient_references: known.references,
        items,
        watched,
        waiting_since: delivery.waiting_since,
        reachable_ms: delivery.reachable_ms,
        correlation_id: delivery.correlation_id,
    })
}

/// Open items with their texts and what is known of them on the target.
async fn items(connection: &Connection, target: TargetId, delivery: i64) -> Tried<Vec<Item>> {
    connection
        .list(row::ITEMS, &[&target.0, &delivery], row::item)
        .await
}

/// Open Flags that stand there and are not about to be written.
async fn watched(
    connection: &Connection,
    target: TargetId,
    patient: PatientId,
) -> Tried<Vec<Item>> {
    connection
        .list(row::WATCHED, &[&target.0, &patient.0], row::item)
        .await
}

/// Our revisions since the one that is known there.
async fn unconfirmed(
    connection: &Connection,
    target: TargetId,
    item: &Item,
) -> Tried<Vec<Unconfirmed>> {
    let which: [&(dyn ToSql + Sync); 5] = [
        &target.0,
        &item.kind,
        &item.id,
        &item.revision,
        &row::MOST_UNCONFIRMED,
    ];
    connection
        .list(row::UNCONFIRMED, &which, row::unconfirmed)
        .await
}

/// What the items refer to, where the target calls it otherwise than we do.
async fn remote_ids(
    connection: &Connection,
    target: TargetId,
    items: &[Item],
) -> Tried<Vec<RemoteId>> {
    const SELECT: &str = "SELECT fhir_type, fhir_id, remote_id FROM remote_resource \
         WHERE target_id = $1 AND (fhir_type, fhir_id) IN \
         (SELECT * FROM unnest($2::text[], $3::text[])) AND remote_id <> fhir_id \
         ORDER BY fhir_type, fhir_id";
    let mut references = BTreeSet::new();
    for item in items {
        collect_references(&item.body, &mut references);
    }
    if references.is_empty() {
        return Ok(Vec::new());
    }
    let (kinds, ids): (Vec<String>, Vec<String>) = references.into_iter().unzip();
    connection
        .list(SELECT, &[&target.0, &kinds, &ids], |row| {
            Ok(RemoteId {
                kind: get(row, 0)?,
                id: get(row, 1)?,
                remote_id: get(row, 2)?,
            })
        })
        .await
}

/// Say how a send ended. `false`: fenced.
pub(super) async fn settle(
    connection: &Connection,
    me: &str,
    leased: &Leased,
    settlement: &Settlement,
) -> Tried<bool> {
    const DONE_ITEMS: &str = "UPDATE delivery_item SET state = 'written' \
         WHERE delivery_id = $1 AND state = 'open'";
    const DONE: &str = "UPDATE delivery SET state = 'delivered', before = NULL, settled_at = $2, \
         reachable_ms = $3 WHERE id = $1";
    const LATER: &str = "UPDATE delivery SET state = 'later', before = $2, waiting_since = $3, \
         reachable_ms = $4 WHERE id = $1";
    const PARKED: &str = "UPDATE delivery SET state = 'parked', before = NULL, \
         parked_reason = $2, parked_at = $3, recheck_at = $4, reachable_ms = $5 WHERE id = $1";
    let now = codec::millis(settlement.attempt.ended_at);
    let reachable = settlement.reachable_ms;
    // What a human did may change the patient, who is locked before the lane everywhere.
    connection
        .first(
            "SELECT 1 FROM patient WHERE id = $1 FOR NO KEY UPDATE",
            &[&leased.patient.0],
        )
        .await?;
    if !give_back(connection, me, leased).await? {
        return Ok(false);
    }
    record(connection, me, leased.delivery, &settlement.attempt).await?;
    for written in &settlement.items_done {
        keep_written(connection, leased, written, now).await?;
    }
    let delivery = leased.delivery;
    let mut due = now;
    let mut verify = false;
    match settlement.next {
        Next::Delivered => {
            connection.run(DONE_ITEMS, &[&delivery]).await?;
            connection
                .run(DONE, &[&delivery, &Millis(now), &reachable])
                .await?;
        }
        Next::Later { at, first } | Next::Held { at, first, .. } => {
            due = codec::millis(at);
            verify = first == First::Verify;
            let before = (first != First::Nothing).then(|| first.as_str());
            connection
                .run(LATER, &[&delivery, &before, &Millis(now), &reachable])
                .await?;
            // What was replaced while it was under way need not be tried again.
            if close_if_empty(connection, delivery, now).await? {
                due = now;
            }
        }
        Next::Parked(why) => {
            connection
                .run(
                    PARKED,
                    &[
                        &delivery,
                        &why.as_str(),
                        &Millis(now),
                        &why.recheck_at().map(codec::millis).map(Millis),
                        &reachable,
                    ],
                )
                .await?;
        }
    }
    if let Next::Held { hold: why, .. } = settlement.next {
        hold(connection, leased.target, Some(why), now).await?;
    }
    reschedule(
        connection,
        leased.target,
        leased.patient,
        due,
        now,
        Some(verify),
    )
    .await?;
    Ok(true)
}

/// Give a lane back untried. `false`: fenced.
pub(super) async fn release(
    connection: &Connection,
    me: &str,
    leased: &Leased,
    now: i64,
) -> Tried<bool> {
    const STATE: &str = "UPDATE delivery SET state = $2 WHERE id = $1 AND state = 'in_flight'";
    if !give_back(connection, me, leased).await? {
        return Ok(false);
    }
    let state = if leased.attempt == 0 && leased.first == First::Nothing {
        "queued"
    } else {
        "later"
    };
    connection.run(STATE, &[&leased.delivery, &state]).await?;
    close_if_empty(connection, leased.delivery, now).await?;
    reschedule(connection, leased.target, leased.patient, now, now, None).await?;
    Ok(true)
}

/// Only the owner with the newest fence may; its row is then free, and locked.
async fn give_back(connection: &Connection, me: &str, leased: &Leased) -> Tried<bool> {
    const FREE: &str = "UPDATE lane SET owner = NULL WHERE target_id = $1 AND patient_id = $2 \
         AND owner = $3 AND fence = $4";
    let freed = connection
        .run(
            FREE,
            &[&leased.target.0, &leased.patient.0, &me, &leased.fence],
        )
        .await?;
    Ok(freed == 1)
}

/// When the lane is due next: with the oldest that is open, or never. `verify`: what becomes of
/// the lane's own mark; `None` leaves it.
async fn reschedule(
    connection: &Connection,
    target: TargetId,
    patient: PatientId,
    due: i64,
    now: i64,
    verify: Option<bool>,
) -> Tried<()> {
    const OPEN: &str = "SELECT max(urgency) FROM delivery WHERE target_id = $1 \
         AND patient_id = $2 AND state IN ('queued', 'in_flight', 'later')";
    const LANE: &str = "UPDATE lane SET due_at = $3, scheduled_at = $4, priority = $5, \
         verify_first = coalesce($6, verify_first) WHERE target_id = $1 AND patient_id = $2";
    let urgency = match connection.first(OPEN, &[&target.0, &patient.0]).await? {
        Some(row) => find::<i64>(&row, 0)?,
        None => None,
    };
    connection
        .run(
            LANE,
            &[
                &target.0,
                &patient.0,
                &urgency.map(|_| Millis(due)),
                &Millis(now),
                &codec::priority(urgency.unwrap_or(0)),
                &verify,
            ],
        )
        .await?;
    Ok(())
}

async fn record(
    connection: &Connection,
    me: &str,
    delivery: i64,
    attempt: &AttemptRecord,
) -> Tried<()> {
    const COUNT: &str = "UPDATE delivery SET attempt = attempt + 1 WHERE id = $1";
    const INSERT: &str = "INSERT INTO delivery_attempt (delivery_id, number, replica, started_at, \
         ended_at, class, http_status, outcome_code, retry_after_ms, reply) \
         SELECT id, attempt, $2, $3, $4, $5, $6, $7, $8, $9 FROM delivery WHERE id = $1";
    // A send that was not begun is no attempt.
    if attempt.class == Class::NotTried {
        return Ok(());
    }
    connection.run(COUNT, &[&delivery]).await?;
    connection
        .run(
            INSERT,
            &[
                &delivery,
                &me,
                &Millis(codec::millis(attempt.started_at)),
                &Millis(codec::millis(attempt.ended_at)),
                &attempt.class.as_str(),
                &attempt.http_status.map(i64::from),
                &attempt.outcome_code.as_deref().map(rows::text),
                &attempt.retry_after_ms,
                &attempt.reply.as_deref().map(rows::text),
            ],
        )
        .await?;
    Ok(())
}

/// Remember what stands on the target now.
async fn keep_written(
    connection: &Connection,
    leased: &Leased,
    written: &Written,
    now: i64,
) -> Tried<()> {
    const ITEM: &str = "UPDATE delivery_item SET state = $3 \
         WHERE delivery_id = $1 AND ordinal = $2 AND state = 'open'";
    const REMOTE: &str = "INSERT INTO remote_resource (target_id, fhir_type, fhir_id, remote_id, \
         etag, written_hash, written_revision, seen_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
         ON CONFLICT (target_id, fhir_type, fhir_id) DO UPDATE SET \
         remote_id = excluded.remote_id, etag = excluded.etag, \
         written_hash = excluded.written_hash, written_revision = excluded.written_revision, \
         seen_at = excluded.seen_at";
    const FORGET: &str = "DELETE FROM remote_resource \
         WHERE target_id = $1 AND fhir_type = $2 AND fhir_id = $3";
    let Some(item) = leased.item(written.ordinal) else {
        return Ok(());
    };
    // One that was replaced meanwhile keeps its state, but it does stand there.
    connection
        .run(
            ITEM,
            &[
                &leased.delivery,
                &i64::from(written.ordinal),
                &written.fate.as_str(),
            ],
        )
        .await?;
    match written.fate {
        Fate::NotWritable => {}
        Fate::Written | Fate::HumanEdited { .. } => {
            connection
                .run(
                    REMOTE,
                    &[
                        &leased.target.0,
                        &item.kind,
                        &item.id,
                        &rows::text(written.remote_id.as_ref().unwrap_or(&item.id)),
                        &written.etag.as_deref().map(rows::text),
                        &written.hash.as_ref().unwrap_or(&item.content_hash),
                        &item.revision,
                        &Millis(now),
                    ],
                )
                .await?;
        }
        Fate::HumanDeleted => {
            connection
                .run(FORGET, &[&leased.target.0, &item.kind, &item.id])
                .await?;
        }
    }
    if item.kind == "Flag" {
        keep_human(connection, leased, item, written, now).await?;
    }
    Ok(())
}

/// What a human did to the Flag belongs to the finding: the next decision must know.
async fn keep_human(
    connection: &Connection,
    leased: &Leased,
    item: &Item,
    written: &Written,
    now: i64,
) -> Tried<()> {
    const FINDING: &str = "UPDATE finding SET human_hash = $2, updated_at = $3, \
         acknowledged_why = coalesce($4, acknowledged_why), \
         acknowledged_until = CASE WHEN $4::text IS NULL THEN acknowledged_until ELSE $5 END \
         WHERE flag_id = $1";
    let (hash, closed) = match written.fate {
        Fate::Written | Fate::NotWritable => return Ok(()),
        Fate::HumanEdited { inactive } => (written.hash.as_deref().unwrap_or("edited"), inactive),
        Fate::HumanDeleted => ("deleted", true),
    };
    let which: [&(dyn ToSql + Sync); 2] = [&item.id, &leased.target.0];
    if connection.first(row::OUTRANKED, &which).await?.is_some() {
        return Ok(());
    }
    let why = closed.then(|| codec::acknowledged_word(Acknowledged::NotRelevant));
    connection
        .run(
            FINDING,
            &[&item.id, &hash, &Millis(now), &why, &Millis(row::FOR_EVER)],
        )
        .await?;
    connection
        .run(
            row::LEAVE_TO_HUMAN,
            &[&written.fate.as_str(), &item.id, &leased.target.0],
        )
        .await?;
    // The order goes on: what was decided before this is older.
    connection
        .run(
            "UPDATE patient SET seq = seq + 1 WHERE id = $1",
            &[&leased.patient.0],
        )
        .await?;
    Ok(())
}

async fn recheck(connection: &Connection, target: TargetId, now: i64) -> Tried<()> {
    // Only where the lane can be had at once: a lease waits for nobody.
    const DUE: &str = "SELECT delivery.id FROM delivery JOIN lane \
         ON lane.target_id = delivery.target_id AND lane.patient_id = delivery.patient_id \
         WHERE delivery.state = 'parked' AND delivery.recheck_at IS NOT NULL \
         AND delivery.recheck_at <= $2 AND delivery.target_id = $1 \
         LIMIT $3 FOR UPDATE OF lane SKIP LOCKED";
    let due = connection
        .all(DUE, &[&target.0, &Millis(now), &row::RECHECKS])
        .await?;
    for row in &due {
        reopen(connection, get(row, 0)?, now).await?;
    }
    Ok(())
}

/// A parked delivery is tried again; what has a newer version on its way is not.
pub(super) async fn reopen(connection: &Connection, id: i64, now: i64) -> Tried<()> {
    const STILL: &str = "SELECT 1 FROM delivery WHERE id = $1 AND state = 'parked'";
    const OLD: &str = "UPDATE delivery_item SET state = 'superseded' WHERE delivery_id = $1 \
         AND state = 'open' AND fhir_type NOT IN ('Device', 'Provenance') AND EXISTS ( \
         SELECT 1 FROM delivery_item AS newer JOIN delivery ON delivery.id = newer.delivery_id \
         WHERE newer.fhir_type = delivery_item.fhir_type AND newer.fhir_id = delivery_item.fhir_id \
         AND newer.revision > delivery_item.revision \
         AND delivery.target_id = (SELECT target_id FROM delivery WHERE id = $1))";
    const LATER: &str = "UPDATE delivery SET state = 'later', before = 'verify', \
         parked_reason = NULL, parked_at = NULL, recheck_at = NULL, reachable_ms = 0, \
         waiting_since = $2 WHERE id = $1";
    let Some((target, patient)) = lock_lane(connection, id).await? else {
        return Ok(());
    };
    if connection.first(STILL, &[&id]).await?.is_none() {
        return Ok(());
    }
    connection.run(OLD, &[&id]).await?;
    if close_if_empty(connection, id, now).await? {
        return Ok(());
    }
    connection.run(LATER, &[&id, &Millis(now)]).await?;
    reschedule(connection, target, patient, now, now, None).await
}

/// The lane of a delivery, for us alone.
async fn lock_lane(connection: &Connection, id: i64) -> Tried<Option<(TargetId, PatientId)>> {
    const LOCK: &str = "SELECT lane.target_id, lane.patient_id FROM delivery JOIN lane \
         ON lane.target_id = delivery.target_id AND lane.patient_id = delivery.patient_id \
         WHERE delivery.id = $1 FOR UPDATE OF lane";
    let Some(row) = connection.first(LOCK, &[&id]).await? else {
        return Ok(None);
    };
    Ok(Some((TargetId(get(&row, 0)?), PatientId(get(&row, 1)?))))
}

/// Deliveries, the newest first.
pub(super) async fn list(
    connection: &Connection,
    filter: &DeliveryFilter,
) -> Tried<Vec<DeliverySummary>> {
    let sql = format!(
        "{} WHERE ($1::bigint IS NULL OR delivery.id = $1) \
         AND ($2::text IS NULL OR target.name = $2) \
         AND ($3::text IS NULL OR delivery.state = $3) \
         AND ($4::text IS NULL OR delivery.parked_reason = $4) \
         AND ($5::bigint IS NULL OR delivery.id < $5) ORDER BY delivery.id DESC LIMIT $6",
        row::SUMMARY
    );
    let limit = match filter.limit {
        0 => row::PAGE,
        limit => limit.min(row::PAGE),
    };
    connection
        .list(
            &sql,
            &[
                &filter.id,
                &filter.target,
                &filter.state,
                &filter.reason,
                &filter.before,
                &i64::try_from(limit).unwrap_or(0),
            ],
            row::summary,
        )
        .await
}

pub(super) async fn show(connection: &Connection, id: i64) -> Tried<Option<DeliveryDetail>> {
    let sql = format!("{} WHERE delivery.id = $1", row::SUMMARY);
    let Some((summary, correlation_id)) = connection.one(&sql, &[&id], row::detail).await? else {
        return Ok(None);
    };
    Ok(Some(DeliveryDetail {
        summary,
        correlation_id,
        items: connection
            .list(row::LISTED_ITEMS, &[&id], row::listed_item)
            .await?,
        attempts: connection.list(row::ATTEMPTS, &[&id], row::attempt).await?,
    }))
}

/// Try parked deliveries again, the oldest of the page first; how many. Each by itself: a lane
/// that is held must not hold up the others.
pub(super) async fn retry(pool: &Pool, parked: &[DeliverySummary], now: i64) -> Result<usize> {
    for one in parked.iter().rev() {
        let id = one.id;
        write(pool, move |connection| {
            Box::pin(reopen(connection, id, now))
        })
        .await?;
    }
    Ok(parked.len())
}

/// Give a delivery up. One that is under way is not.
pub(super) async fn discard(connection: &Connection, id: i64, now: i64) -> Tried<bool> {
    const DISCARD: &str = "UPDATE delivery SET state = 'discarded', before = NULL, \
         settled_at = $2, recheck_at = NULL WHERE id = $1 \
         AND state IN ('parked', 'queued', 'later')";
    lock_lane(connection, id).await?;
    Ok(connection.run(DISCARD, &[&id, &Millis(now)]).await? == 1)
}
