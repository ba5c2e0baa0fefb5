//! The outbox: lanes, leases, settlements, and what an operator does with deliveries.
//!
//! The row of a lane is the lock of its deliveries; where the patient is locked too, it comes
//! first. A lease waits for nobody.

use std::collections::BTreeSet;

use deadpool_postgres::Pool;
use time::OffsetDateTime;
use tokio_postgres::Row;

use super::{
    accept::close_if_empty,
    connection::{Connection, Millis, Tried, column, write},
    rows,
};
use crate::{
    clinical::assessment::Acknowledged,
    store::{
        codec,
        delivery::{Class, First, Hold, Next},
        error::{Result, StoreError},
        lease::{
            AttemptRecord, Fate, Item, Leased, PatientId, RemoteId, Settlement, TargetId,
            Unconfirmed, Written,
        },
        reading::{
            DeliveryAttempt, DeliveryDetail, DeliveryFilter, DeliveryItem, DeliverySummary,
            TargetRow, collect_references,
        },
    },
};

/// Parked deliveries that are looked at again at once.
const RECHECKS: i64 = 100;
/// Classes of earlier attempts that go with a lease.
const EARLIER: i64 = 32;
/// Revisions of a Flag that may stand on a target unknown to us.
const UNCONFIRMED: i64 = 16;
/// Deliveries in one answer, or changed by one command.
const PAGE: usize = 1_000;
/// 9999-12-31: for as long as the finding lives.
const FOR_EVER: Millis = Millis(253_402_214_400_000);

/// The target with this name and address.
pub(super) async fn target(connection: &Connection, name: &str, base_url: &str) -> Tried<TargetId> {
    const KNOWN: &str = "SELECT id FROM target WHERE base_url = $1";
    // Of several replicas that start at once, one makes it.
    connection
        .run("LOCK TABLE target IN SHARE ROW EXCLUSIVE MODE", &[])
        .await?;
    if let Some(row) = connection.first(KNOWN, &[&base_url]).await? {
        return Ok(TargetId(column(&row, 0)?));
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
    Ok(TargetId(column(&row, 0)?))
}

pub(super) async fn targets(connection: &Connection) -> Tried<Vec<TargetRow>> {
    const SELECT: &str = "SELECT id, name, base_url, hold, hold_since FROM target ORDER BY id";
    let rows = connection.all(SELECT, &[]).await?;
    Ok(rows.iter().map(target_row).collect::<Result<_>>()?)
}

fn target_row(row: &Row) -> Result<TargetRow> {
    let hold = match (
        column::<Option<&str>>(row, 3)?,
        column::<Option<Millis>>(row, 4)?,
    ) {
        (Some(name), Some(since)) => Some((
            Hold::from_name(name).ok_or(StoreError::Unreadable("target.hold"))?,
            codec::instant(since.0)?,
        )),
        _ => None,
    };
    Ok(TargetRow {
        id: TargetId(column(row, 0)?),
        name: column(row, 1)?,
        base_url: column(row, 2)?,
        hold,
    })
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

/// Take up to `limit` lanes. `turn` counts leases: every fourth takes the longest due.
pub(super) async fn lease(
    connection: &Connection,
    me: &str,
    target: TargetId,
    now: i64,
    limit: usize,
    turn: u64,
) -> Tried<Vec<Leased>> {
    const REST: &str = "UPDATE lane SET due_at = NULL WHERE target_id = $1 AND patient_id = $2";
    const OWN: &str = "UPDATE lane SET owner = $3, fence = $4 \
         WHERE target_id = $1 AND patient_id = $2";
    const FLIES: &str = "UPDATE delivery SET state = 'in_flight' WHERE id = $1";
    recheck(connection, target, now).await?;
    let mut leased = Vec::new();
    let mut turn = turn;
    while leased.len() < limit {
        let Some((patient, fence, verify_first)) = next_lane(connection, target, now, turn).await?
        else {
            break;
        };
        turn = turn.wrapping_add(1);
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
    turn: u64,
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
    let sql = if turn % 4 == 3 { BY_DUE } else { BY_PRIORITY };
    let Some(row) = connection.first(sql, &[&target.0, &Millis(now)]).await? else {
        return Ok(None);
    };
    Ok(Some((
        PatientId(column(&row, 0)?),
        column(&row, 1)?,
        column(&row, 2)?,
    )))
}

struct OpenDelivery {
    id: i64,
    urgency: i64,
    before: Option<String>,
    attempt: u32,
    waiting_since: i64,
    reachable_ms: i64,
    correlation_id: String,
}

async fn next_delivery(
    connection: &Connection,
    target: TargetId,
    patient: PatientId,
) -> Tried<Option<OpenDelivery>> {
    const SELECT: &str = "SELECT id, urgency, before, attempt, waiting_since, reachable_ms, \
         correlation_id FROM delivery WHERE target_id = $1 AND patient_id = $2 \
         AND state IN ('queued', 'in_flight', 'later') ORDER BY seq, part LIMIT 1";
    let Some(row) = connection.first(SELECT, &[&target.0, &patient.0]).await? else {
        return Ok(None);
    };
    Ok(Some(OpenDelivery {
        id: column(&row, 0)?,
        urgency: column(&row, 1)?,
        before: column(&row, 2)?,
        attempt: count(&row, 3)?,
        waiting_since: column::<Millis>(&row, 4)?.0,
        reachable_ms: column(&row, 5)?,
        correlation_id: column(&row, 6)?,
    }))
}

/// A column that counts.
fn count(row: &Row, index: usize) -> Result<u32> {
    u32::try_from(column::<i64>(row, index)?).map_err(|_| StoreError::Unreadable("a count"))
}

async fn fill(
    connection: &Connection,
    target: TargetId,
    patient: PatientId,
    fence: i64,
    verify_first: bool,
    delivery: OpenDelivery,
) -> Tried<Leased> {
    const CLASSES: &str = "SELECT class FROM delivery_attempt WHERE delivery_id = $1 \
         ORDER BY number DESC LIMIT $2";
    let (_, row) = rows::patient(connection, patient)
        .await?
        .ok_or(StoreError::Unreadable("a delivery without patient"))?;
    let earlier = connection.all(CLASSES, &[&delivery.id, &EARLIER]).await?;
    let earlier = earlier
        .iter()
        .map(|row| {
            Class::from_name(column(row, 0)?)
                .ok_or(StoreError::Unreadable("delivery_attempt.class"))
        })
        .collect::<Result<_>>()?;
    let mut items = items(connection, target, delivery.id).await?;
    for item in items.iter_mut().filter(|item| item.kind == "Flag") {
        item.unconfirmed = unconfirmed(connection, target, item).await?;
    }
    Ok(Leased {
        target,
        patient,
        fence,
        remote_ids: remote_ids(connection, target, &items).await?,
        delivery: delivery.id,
        attempt: delivery.attempt,
        earlier,
        verify_first,
        first: First::from_name(delivery.before.as_deref().unwrap_or(""))
            .ok_or(StoreError::Unreadable("delivery.before"))?,
        urgency: codec::urgency(delivery.urgency)?,
        patient_identifiers: row.identifiers,
        patient_references: row.references,
        items,
        waiting_since: codec::instant(delivery.waiting_since)?,
        reachable_ms: delivery.reachable_ms,
        correlation_id: delivery.correlation_id,
    })
}

/// Open items with their texts and what is known of them on the target.
async fn items(connection: &Connection, target: TargetId, delivery: i64) -> Tried<Vec<Item>> {
    const SELECT: &str = "SELECT item.ordinal, item.fhir_type, item.fhir_id, item.revision, \
         item.content_hash, item.outranks_human, resource.identifier_system, \
         resource.identifier_value, resource.body, remote.remote_id, remote.etag, \
         remote.written_hash FROM delivery_item AS item \
         JOIN resource ON resource.fhir_type = item.fhir_type \
         AND resource.fhir_id = item.fhir_id AND resource.version = item.revision \
         LEFT JOIN remote_resource AS remote ON remote.target_id = $1 \
         AND remote.fhir_type = item.fhir_type AND remote.fhir_id = item.fhir_id \
         WHERE item.delivery_id = $2 AND item.state = 'open' ORDER BY item.ordinal";
    let rows = connection.all(SELECT, &[&target.0, &delivery]).await?;
    Ok(rows.iter().map(item).collect::<Result<_>>()?)
}

fn item(row: &Row) -> Result<Item> {
    let identifier = match (
        column::<Option<String>>(row, 6)?,
        column::<Option<String>>(row, 7)?,
    ) {
        (Some(system), Some(value)) => Some((system, value)),
        _ => None,
    };
    let body = codec::decompress(column(row, 8)?)?;
    Ok(Item {
        ordinal: count(row, 0)?,
        kind: column(row, 1)?,
        id: column(row, 2)?,
        identifier,
        revision: column(row, 3)?,
        content_hash: column(row, 4)?,
        body: serde_json::from_slice(&body).map_err(|_| StoreError::Unreadable("resource.body"))?,
        remote_id: column(row, 9)?,
        etag: column(row, 10)?,
        written_hash: column(row, 11)?,
        outranks_human: column(row, 5)?,
        unconfirmed: Vec::new(),
    })
}

/// Our revisions since the one that is known there.
async fn unconfirmed(
    connection: &Connection,
    target: TargetId,
    item: &Item,
) -> Tried<Vec<Unconfirmed>> {
    const SELECT: &str = "SELECT resource.content_hash, resource.body FROM resource \
         LEFT JOIN remote_resource AS remote ON remote.target_id = $1 \
         AND remote.fhir_type = resource.fhir_type AND remote.fhir_id = resource.fhir_id \
         WHERE resource.fhir_type = $2 AND resource.fhir_id = $3 AND resource.version < $4 \
         AND resource.version > coalesce(remote.written_revision, 0) \
         ORDER BY resource.version DESC LIMIT $5";
    let rows = connection
        .all(
            SELECT,
            &[
                &target.0,
                &item.kind,
                &item.id,
                &item.revision,
                &UNCONFIRMED,
            ],
        )
        .await?;
    let one = |row| {
        let body = codec::decompress(column(row, 1)?)?;
        Ok(Unconfirmed {
            content_hash: column(row, 0)?,
            body: serde_json::from_slice(&body)
                .map_err(|_| StoreError::Unreadable("resource.body"))?,
        })
    };
    Ok(rows.iter().map(one).collect::<Result<_>>()?)
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
    let rows = connection.all(SELECT, &[&target.0, &kinds, &ids]).await?;
    Ok(rows
        .iter()
        .map(|row| {
            Ok(RemoteId {
                kind: column(row, 0)?,
                id: column(row, 1)?,
                remote_id: column(row, 2)?,
            })
        })
        .collect::<Result<_>>()?)
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
        Some(row) => column::<Option<i64>>(&row, 0)?,
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
    let Some(item) = leased
        .items
        .iter()
        .find(|item| item.ordinal == written.ordinal)
    else {
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
        keep_human(connection, leased.patient, item, written, now).await?;
    }
    Ok(())
}

/// What a human did to the Flag belongs to the finding: the next decision must know.
async fn keep_human(
    connection: &Connection,
    patient: PatientId,
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
    let why = closed.then(|| codec::acknowledged_word(Acknowledged::NotRelevant));
    connection
        .run(FINDING, &[&item.id, &hash, &Millis(now), &why, &FOR_EVER])
        .await?;
    // The order goes on: what was decided before this is older.
    connection
        .run(
            "UPDATE patient SET seq = seq + 1 WHERE id = $1",
            &[&patient.0],
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
        .all(DUE, &[&target.0, &Millis(now), &RECHECKS])
        .await?;
    for row in &due {
        reopen(connection, column(row, 0)?, now).await?;
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
    Ok(Some((
        TargetId(column(&row, 0)?),
        PatientId(column(&row, 1)?),
    )))
}

const SUMMARY: &str = "SELECT delivery.id, target.name, delivery.patient_id, delivery.seq, \
     delivery.urgency, delivery.state, delivery.before, delivery.attempt, delivery.created_at, \
     lane.due_at, delivery.settled_at, delivery.parked_reason, delivery.recheck_at, \
     delivery.correlation_id FROM delivery JOIN target ON target.id = delivery.target_id \
     LEFT JOIN lane ON lane.target_id = delivery.target_id \
     AND lane.patient_id = delivery.patient_id";

fn summary(row: &Row) -> Result<DeliverySummary> {
    let time = |index| -> Result<Option<OffsetDateTime>> {
        column::<Option<Millis>>(row, index)?
            .map(|at| codec::instant(at.0))
            .transpose()
    };
    let state: String = column(row, 5)?;
    let open = matches!(state.as_str(), "queued" | "in_flight" | "later");
    Ok(DeliverySummary {
        id: column(row, 0)?,
        target: column(row, 1)?,
        patient: PatientId(column(row, 2)?),
        seq: column(row, 3)?,
        urgency: codec::urgency(column(row, 4)?)?,
        first: column(row, 6)?,
        attempts: count(row, 7)?,
        created_at: codec::instant(column::<Millis>(row, 8)?.0)?,
        due_at: if open { time(9)? } else { None },
        settled_at: time(10)?,
        parked_reason: column(row, 11)?,
        recheck_at: time(12)?,
        state,
    })
}

/// Deliveries, the newest first.
pub(super) async fn list(
    connection: &Connection,
    filter: &DeliveryFilter,
) -> Tried<Vec<DeliverySummary>> {
    let sql = format!(
        "{SUMMARY} WHERE ($1::bigint IS NULL OR delivery.id = $1) \
         AND ($2::text IS NULL OR target.name = $2) \
         AND ($3::text IS NULL OR delivery.state = $3) \
         AND ($4::text IS NULL OR delivery.parked_reason = $4) \
         AND ($5::bigint IS NULL OR delivery.id < $5) ORDER BY delivery.id DESC LIMIT $6"
    );
    let limit = match filter.limit {
        0 => PAGE,
        limit => limit.min(PAGE),
    };
    let rows = connection
        .all(
            &sql,
            &[
                &filter.id,
                &filter.target,
                &filter.state,
                &filter.reason,
                &filter.before,
                &i64::try_from(limit).unwrap_or(0),
            ],
        )
        .await?;
    Ok(rows.iter().map(summary).collect::<Result<_>>()?)
}

pub(super) async fn show(connection: &Connection, id: i64) -> Tried<Option<DeliveryDetail>> {
    const ITEMS: &str = "SELECT fhir_type, fhir_id, revision, state FROM delivery_item \
         WHERE delivery_id = $1 ORDER BY ordinal";
    const ATTEMPTS: &str = "SELECT number, started_at, ended_at, class, http_status, \
         outcome_code, reply FROM delivery_attempt WHERE delivery_id = $1 \
         ORDER BY number DESC LIMIT 100";
    let sql = format!("{SUMMARY} WHERE delivery.id = $1");
    let Some(row) = connection.first(&sql, &[&id]).await? else {
        return Ok(None);
    };
    let items = connection.all(ITEMS, &[&id]).await?;
    let attempts = connection.all(ATTEMPTS, &[&id]).await?;
    Ok(Some(DeliveryDetail {
        summary: summary(&row)?,
        correlation_id: column(&row, 13)?,
        items: items
            .iter()
            .map(|row| {
                Ok(DeliveryItem {
                    kind: column(row, 0)?,
                    id: column(row, 1)?,
                    revision: column(row, 2)?,
                    state: column(row, 3)?,
                })
            })
            .collect::<Result<_>>()?,
        attempts: attempts.iter().map(attempt).collect::<Result<_>>()?,
    }))
}

fn attempt(row: &Row) -> Result<DeliveryAttempt> {
    Ok(DeliveryAttempt {
        number: count(row, 0)?,
        started_at: codec::instant(column::<Millis>(row, 1)?.0)?,
        ended_at: codec::instant(column::<Millis>(row, 2)?.0)?,
        class: column(row, 3)?,
        http_status: column::<Option<i64>>(row, 4)?
            .map(u16::try_from)
            .transpose()
            .map_err(|_| StoreError::Unreadable("delivery_attempt.http_status"))?,
        outcome_code: column(row, 5)?,
        reply: column(row, 6)?,
    })
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
