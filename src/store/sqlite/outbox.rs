//! The outbox: lanes, leases, settlements, and what an operator does with deliveries.

use std::collections::BTreeSet;

use rusqlite::{Connection, params};

use super::{
    accept::close_if_empty,
    rows::{self, all, execute, first},
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
pub(super) fn target(connection: &Connection, name: &str, base_url: &str) -> Result<TargetId> {
    let known = first(
        connection,
        "SELECT id FROM target WHERE base_url = ?1",
        params![base_url],
        |row| get(row, 0),
    )?;
    if let Some(id) = known {
        return Ok(TargetId(id));
    }
    // The name goes to the new address; what waits for the old one stays with it.
    execute(
        connection,
        "UPDATE target SET name = name || ' (' || id || ')' WHERE name = ?1",
        params![name],
    )?;
    execute(
        connection,
        "INSERT INTO target (name, base_url) VALUES (?1, ?2)",
        params![name, base_url],
    )?;
    Ok(TargetId(connection.last_insert_rowid()))
}

pub(super) fn targets(connection: &Connection) -> Result<Vec<TargetRow>> {
    all(connection, row::TARGETS, [], |row| row::target(row))
}

pub(super) fn hold(
    connection: &Connection,
    target: TargetId,
    hold: Option<Hold>,
    now: i64,
) -> Result<()> {
    let name = hold.map(Hold::as_str);
    execute(
        connection,
        "UPDATE target SET hold_since = CASE WHEN ?2 IS NULL THEN NULL WHEN hold = ?2 \
         THEN hold_since ELSE ?3 END, hold = ?2 WHERE id = ?1",
        params![target.0, name, now],
    )?;
    Ok(())
}

/// At start every lane is free; what was under way has to be verified.
pub(super) fn free_all(connection: &Connection) -> Result<()> {
    execute(
        connection,
        "UPDATE delivery SET state = 'later', before = 'verify' WHERE state = 'in_flight'",
        [],
    )?;
    execute(
        connection,
        "UPDATE lane SET owner = NULL, fence = fence + 1, verify_first = 1 \
         WHERE owner IS NOT NULL",
        [],
    )?;
    Ok(())
}

/// Take up to `limit` lanes.
pub(super) fn lease(
    connection: &Connection,
    me: &str,
    target: TargetId,
    now: i64,
    limit: usize,
    pick: Pick,
) -> Result<Vec<Leased>> {
    recheck(connection, target, now)?;
    let mut leased = Vec::new();
    let mut pick = pick;
    while leased.len() < limit {
        let Some((patient, fence, verify_first)) = next_lane(connection, target, now, pick)? else {
            break;
        };
        pick = pick.next();
        let Some(delivery) = next_delivery(connection, target, patient)? else {
            execute(
                connection,
                "UPDATE lane SET due_at = NULL WHERE target_id = ?1 AND patient_id = ?2",
                params![target.0, patient.0],
            )?;
            continue;
        };
        let fence = fence + 1;
        execute(
            connection,
            "UPDATE lane SET owner = ?3, fence = ?4 WHERE target_id = ?1 AND patient_id = ?2",
            params![target.0, patient.0, me, fence],
        )?;
        execute(
            connection,
            "UPDATE delivery SET state = 'in_flight' WHERE id = ?1",
            params![delivery.id],
        )?;
        leased.push(fill(
            connection,
            target,
            patient,
            fence,
            verify_first,
            delivery,
        )?);
    }
    Ok(leased)
}

fn next_lane(
    connection: &Connection,
    target: TargetId,
    now: i64,
    pick: Pick,
) -> Result<Option<(PatientId, i64, bool)>> {
    // A lane scheduled in the future of its own making is due: the clock went back.
    const BY_PRIORITY: &str = "SELECT patient_id, fence, verify_first FROM lane \
         WHERE target_id = ?1 AND due_at IS NOT NULL AND owner IS NULL \
         AND (due_at <= ?2 OR scheduled_at > ?2) ORDER BY priority DESC, due_at LIMIT 1";
    const BY_DUE: &str = "SELECT patient_id, fence, verify_first FROM lane \
         WHERE target_id = ?1 AND due_at IS NOT NULL AND owner IS NULL \
         AND (due_at <= ?2 OR scheduled_at > ?2) ORDER BY due_at LIMIT 1";
    const BY_CHANCE: &str = "SELECT patient_id, fence, verify_first FROM lane \
         WHERE target_id = ?1 AND due_at IS NOT NULL AND owner IS NULL \
         AND (due_at <= ?2 OR scheduled_at > ?2) ORDER BY priority DESC, random() LIMIT 1";
    let sql = match pick {
        Pick::Probe => BY_CHANCE,
        Pick::InTurn(turn) if turn % 4 == 3 => BY_DUE,
        Pick::InTurn(_) => BY_PRIORITY,
    };
    first(connection, sql, params![target.0, now], |row| {
        Ok((PatientId(get(row, 0)?), get(row, 1)?, get(row, 2)?))
    })
}

fn next_delivery(
    connection: &Connection,
    target: TargetId,
    patient: PatientId,
) -> Result<Option<OpenDelivery>> {
    let lane = params![target.0, patient.0];
    first(connection, row::NEXT_DELIVERY, lane, |row| {
        row::open_delivery(row)
    })
}

fn fill(
    connection: &Connection,
    target: TargetId,
    patient: PatientId,
    fence: i64,
    verify_first: bool,
    delivery: OpenDelivery,
) -> Result<Leased> {
    let (tenant, known) = rows::patient(connection, patient)?
        .ok_or(StoreError::Unreadable("a delivery without patient"))?;
    let last = params![delivery.id, row::EARLIER];
    let earlier = all(connection, row::CLASSES, last, |row| row::class(row))?;
    let mut items = items(connection, target, delivery.id)?;
    for item in items.iter_mut().filter(|item| item.has_skipped()) {
        item.unconfirmed = unconfirmed(connection, target, item)?;
    }
    let mut watched = watched(connection, target, patient)?;
    row::number_watched(&mut watched);
    Ok(Leased {
        target,
        patient,
        tenant,
        patient_key: known.key,
        fence,
        remote_ids: remote_ids(connection, target, &items)?,
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
fn items(connection: &Connection, target: TargetId, delivery: i64) -> Result<Vec<Item>> {
    let which = params![target.0, delivery];
    all(connection, row::ITEMS, which, |row| row::item(row))
}

/// Open Flags that stand there and are not about to be written.
fn watched(connection: &Connection, target: TargetId, patient: PatientId) -> Result<Vec<Item>> {
    let which = params![target.0, patient.0];
    all(connection, row::WATCHED, which, |row| row::item(row))
}

/// Our revisions since the one that is known there.
fn unconfirmed(connection: &Connection, target: TargetId, item: &Item) -> Result<Vec<Unconfirmed>> {
    let which = params![
        target.0,
        item.kind,
        item.id,
        item.revision,
        row::MOST_UNCONFIRMED
    ];
    all(connection, row::UNCONFIRMED, which, |row| {
        row::unconfirmed(row)
    })
}

/// What the items refer to, where the target calls it otherwise than we do.
fn remote_ids(connection: &Connection, target: TargetId, items: &[Item]) -> Result<Vec<RemoteId>> {
    const SELECT: &str = "SELECT remote_id FROM remote_resource WHERE target_id = ?1 \
         AND fhir_type = ?2 AND fhir_id = ?3 AND remote_id <> ?3";
    let mut references = BTreeSet::new();
    for item in items {
        collect_references(&item.body, &mut references);
    }
    let mut ids = Vec::new();
    for (kind, id) in references {
        let remote = first(connection, SELECT, params![target.0, kind, id], |row| {
            get(row, 0)
        })?;
        ids.extend(remote.map(|remote_id| RemoteId {
            kind,
            id,
            remote_id,
        }));
    }
    Ok(ids)
}

/// Say how a send ended. `false`: fenced.
pub(super) fn settle(
    connection: &Connection,
    me: &str,
    leased: &Leased,
    settlement: &Settlement,
) -> Result<bool> {
    let now = codec::millis(settlement.attempt.ended_at);
    if !give_back(connection, me, leased)? {
        return Ok(false);
    }
    record(connection, me, leased.delivery, &settlement.attempt)?;
    for written in &settlement.items_done {
        keep_written(connection, leased, written, now)?;
    }
    let delivery = leased.delivery;
    let mut due = now;
    let mut verify = false;
    match settlement.next {
        Next::Delivered => {
            execute(
                connection,
                "UPDATE delivery_item SET state = 'written' \
                 WHERE delivery_id = ?1 AND state = 'open'",
                params![delivery],
            )?;
            execute(
                connection,
                "UPDATE delivery SET state = 'delivered', before = NULL, settled_at = ?2, \
                 reachable_ms = ?3 WHERE id = ?1",
                params![delivery, now, settlement.reachable_ms],
            )?;
        }
        Next::Later { at, first } | Next::Held { at, first, .. } => {
            due = codec::millis(at);
            verify = first == First::Verify;
            execute(
                connection,
                "UPDATE delivery SET state = 'later', before = ?2, waiting_since = ?3, \
                 reachable_ms = ?4 WHERE id = ?1",
                params![delivery, name_of(first), now, settlement.reachable_ms],
            )?;
            // What was replaced while it was under way need not be tried again.
            if close_if_empty(connection, delivery, now)? {
                due = now;
            }
        }
        Next::Parked(why) => {
            execute(
                connection,
                "UPDATE delivery SET state = 'parked', before = NULL, parked_reason = ?2, \
                 parked_at = ?3, recheck_at = ?4, reachable_ms = ?5 WHERE id = ?1",
                params![
                    delivery,
                    why.as_str(),
                    now,
                    why.recheck_at().map(codec::millis),
                    settlement.reachable_ms
                ],
            )?;
        }
    }
    if let Next::Held { hold: why, .. } = settlement.next {
        hold(connection, leased.target, Some(why), now)?;
    }
    reschedule(
        connection,
        leased.target,
        leased.patient,
        due,
        now,
        Some(verify),
    )?;
    Ok(true)
}

/// Give a lane back untried. `false`: fenced.
pub(super) fn release(
    connection: &Connection,
    me: &str,
    leased: &Leased,
    now: i64,
) -> Result<bool> {
    if !give_back(connection, me, leased)? {
        return Ok(false);
    }
    let state = if leased.attempt == 0 && leased.first == First::Nothing {
        "queued"
    } else {
        "later"
    };
    execute(
        connection,
        "UPDATE delivery SET state = ?2 WHERE id = ?1 AND state = 'in_flight'",
        params![leased.delivery, state],
    )?;
    close_if_empty(connection, leased.delivery, now)?;
    reschedule(connection, leased.target, leased.patient, now, now, None)?;
    Ok(true)
}

/// Only the owner with the newest fence may; its row is then free.
fn give_back(connection: &Connection, me: &str, leased: &Leased) -> Result<bool> {
    let freed = execute(
        connection,
        "UPDATE lane SET owner = NULL WHERE target_id = ?1 AND patient_id = ?2 \
         AND owner = ?3 AND fence = ?4",
        params![leased.target.0, leased.patient.0, me, leased.fence],
    )?;
    Ok(freed == 1)
}

/// When the lane is due next: with the oldest that is open, or never. `verify`: what becomes of
/// the lane's own mark; `None` leaves it.
fn reschedule(
    connection: &Connection,
    target: TargetId,
    patient: PatientId,
    due: i64,
    now: i64,
    verify: Option<bool>,
) -> Result<()> {
    const OPEN: &str = "SELECT max(urgency) FROM delivery WHERE target_id = ?1 \
         AND patient_id = ?2 AND state IN ('queued', 'in_flight', 'later')";
    let urgency = first(connection, OPEN, params![target.0, patient.0], |row| {
        find::<i64>(row, 0)
    })?
    .flatten();
    execute(
        connection,
        "UPDATE lane SET due_at = ?3, scheduled_at = ?4, priority = ?5, \
         verify_first = coalesce(?6, verify_first) WHERE target_id = ?1 AND patient_id = ?2",
        params![
            target.0,
            patient.0,
            urgency.map(|_| due),
            now,
            codec::priority(urgency.unwrap_or(0)),
            verify
        ],
    )?;
    Ok(())
}

fn name_of(first: First) -> Option<&'static str> {
    (first != First::Nothing).then(|| first.as_str())
}

fn record(connection: &Connection, me: &str, delivery: i64, attempt: &AttemptRecord) -> Result<()> {
    const INSERT: &str = "INSERT INTO delivery_attempt (delivery_id, number, replica, started_at, \
         ended_at, class, http_status, outcome_code, retry_after_ms, reply) \
         SELECT id, attempt, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9 FROM delivery WHERE id = ?1";
    // A send that was not begun is no attempt.
    if attempt.class == Class::NotTried {
        return Ok(());
    }
    execute(
        connection,
        "UPDATE delivery SET attempt = attempt + 1 WHERE id = ?1",
        params![delivery],
    )?;
    execute(
        connection,
        INSERT,
        params![
            delivery,
            me,
            codec::millis(attempt.started_at),
            codec::millis(attempt.ended_at),
            attempt.class.as_str(),
            attempt.http_status,
            attempt.outcome_code,
            attempt.retry_after_ms,
            attempt.reply
        ],
    )?;
    Ok(())
}

/// Remember what stands on the target now.
fn keep_written(
    connection: &Connection,
    leased: &Leased,
    written: &Written,
    now: i64,
) -> Result<()> {
    const REMOTE: &str = "INSERT INTO remote_resource (target_id, fhir_type, fhir_id, remote_id, \
         etag, written_hash, written_revision, seen_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
         ON CONFLICT (target_id, fhir_type, fhir_id) DO UPDATE SET \
         remote_id = excluded.remote_id, etag = excluded.etag, \
         written_hash = excluded.written_hash, written_revision = excluded.written_revision, \
         seen_at = excluded.seen_at";
    let Some(item) = leased.item(written.ordinal) else {
        return Ok(());
    };
    // One that was replaced meanwhile keeps its state, but it does stand there.
    execute(
        connection,
        "UPDATE delivery_item SET state = ?3 \
         WHERE delivery_id = ?1 AND ordinal = ?2 AND state = 'open'",
        params![leased.delivery, written.ordinal, written.fate.as_str()],
    )?;
    match written.fate {
        Fate::NotWritable => {}
        Fate::Written | Fate::HumanEdited { .. } => {
            execute(
                connection,
                REMOTE,
                params![
                    leased.target.0,
                    item.kind,
                    item.id,
                    written.remote_id.as_ref().unwrap_or(&item.id),
                    written.etag,
                    written.hash.as_ref().unwrap_or(&item.content_hash),
                    item.revision,
                    now
                ],
            )?;
        }
        Fate::HumanDeleted => {
            execute(
                connection,
                "DELETE FROM remote_resource \
                 WHERE target_id = ?1 AND fhir_type = ?2 AND fhir_id = ?3",
                params![leased.target.0, item.kind, item.id],
            )?;
        }
    }
    if item.kind == "Flag" {
        keep_human(connection, leased, item, written, now)?;
    }
    Ok(())
}

/// What a human did to the Flag belongs to the finding: the next decision must know.
fn keep_human(
    connection: &Connection,
    leased: &Leased,
    item: &Item,
    written: &Written,
    now: i64,
) -> Result<()> {
    let (hash, closed) = match written.fate {
        Fate::Written | Fate::NotWritable => return Ok(()),
        Fate::HumanEdited { inactive } => (written.hash.as_deref().unwrap_or("edited"), inactive),
        Fate::HumanDeleted => ("deleted", true),
    };
    let which = params![item.id, leased.target.0];
    if first(connection, row::OUTRANKED, which, |_| Ok(()))?.is_some() {
        return Ok(());
    }
    let why = closed.then(|| codec::acknowledged_word(Acknowledged::NotRelevant));
    execute(
        connection,
        "UPDATE finding SET human_hash = ?2, updated_at = ?3, \
         acknowledged_why = coalesce(?4, acknowledged_why), \
         acknowledged_until = CASE WHEN ?4 IS NULL THEN acknowledged_until ELSE ?5 END \
         WHERE flag_id = ?1",
        params![item.id, hash, now, why, row::FOR_EVER],
    )?;
    execute(
        connection,
        row::LEAVE_TO_HUMAN,
        params![written.fate.as_str(), item.id, leased.target.0],
    )?;
    // Whoever has read the finding has to read it again.
    execute(
        connection,
        "UPDATE patient SET seq = seq + 1 WHERE id = ?1",
        params![leased.patient.0],
    )?;
    Ok(())
}

fn recheck(connection: &Connection, target: TargetId, now: i64) -> Result<()> {
    const DUE: &str = "SELECT id FROM delivery WHERE state = 'parked' AND recheck_at IS NOT NULL \
         AND recheck_at <= ?2 AND target_id = ?1 LIMIT ?3";
    let due: Vec<i64> = all(
        connection,
        DUE,
        params![target.0, now, row::RECHECKS],
        |row| get(row, 0),
    )?;
    for id in due {
        reopen(connection, id, now)?;
    }
    Ok(())
}

/// A parked delivery is tried again; what has a newer version on its way is not.
fn reopen(connection: &Connection, id: i64, now: i64) -> Result<()> {
    const OLD: &str = "UPDATE delivery_item SET state = 'superseded' WHERE delivery_id = ?1 \
         AND state = 'open' AND fhir_type NOT IN ('Device', 'Provenance') AND EXISTS ( \
         SELECT 1 FROM delivery_item AS newer JOIN delivery ON delivery.id = newer.delivery_id \
         WHERE newer.fhir_type = delivery_item.fhir_type AND newer.fhir_id = delivery_item.fhir_id \
         AND newer.revision > delivery_item.revision \
         AND delivery.target_id = (SELECT target_id FROM delivery WHERE id = ?1))";
    let lane = first(
        connection,
        "SELECT target_id, patient_id FROM delivery WHERE id = ?1 AND state = 'parked'",
        params![id],
        |row| Ok((TargetId(get(row, 0)?), PatientId(get(row, 1)?))),
    )?;
    let Some((target, patient)) = lane else {
        return Ok(());
    };
    execute(connection, OLD, params![id])?;
    if close_if_empty(connection, id, now)? {
        return Ok(());
    }
    execute(
        connection,
        "UPDATE delivery SET state = 'later', before = 'verify', parked_reason = NULL, \
         parked_at = NULL, recheck_at = NULL, reachable_ms = 0, waiting_since = ?2 WHERE id = ?1",
        params![id, now],
    )?;
    reschedule(connection, target, patient, now, now, None)
}

/// Deliveries, the newest first.
pub(super) fn list(
    connection: &Connection,
    filter: &DeliveryFilter,
) -> Result<Vec<DeliverySummary>> {
    let sql = format!(
        "{} WHERE (?1 IS NULL OR delivery.id = ?1) AND (?2 IS NULL OR target.name = ?2) \
         AND (?3 IS NULL OR delivery.state = ?3) AND (?4 IS NULL OR delivery.parked_reason = ?4) \
         AND (?5 IS NULL OR delivery.id < ?5) ORDER BY delivery.id DESC LIMIT ?6",
        row::SUMMARY
    );
    let limit = match filter.limit {
        0 => row::PAGE,
        limit => limit.min(row::PAGE),
    };
    all(
        connection,
        &sql,
        params![
            filter.id,
            filter.target,
            filter.state,
            filter.reason,
            filter.before,
            i64::try_from(limit).unwrap_or(0)
        ],
        |row| row::summary(row),
    )
}

pub(super) fn show(connection: &Connection, id: i64) -> Result<Option<DeliveryDetail>> {
    let sql = format!("{} WHERE delivery.id = ?1", row::SUMMARY);
    let which = params![id];
    let Some((summary, correlation_id)) = first(connection, &sql, which, |row| row::detail(row))?
    else {
        return Ok(None);
    };
    let items = all(connection, row::LISTED_ITEMS, which, |row| {
        row::listed_item(row)
    })?;
    let attempts = all(connection, row::ATTEMPTS, which, |row| row::attempt(row))?;
    Ok(Some(DeliveryDetail {
        summary,
        correlation_id,
        items,
        attempts,
    }))
}

/// Try parked deliveries again, the oldest of the page first; how many.
pub(super) fn retry(connection: &Connection, filter: &DeliveryFilter, now: i64) -> Result<usize> {
    let filter = DeliveryFilter {
        state: Some("parked".to_owned()),
        ..filter.clone()
    };
    let parked = list(connection, &filter)?;
    for one in parked.iter().rev() {
        reopen(connection, one.id, now)?;
    }
    Ok(parked.len())
}

/// Give a delivery up. One that is under way is not.
pub(super) fn discard(connection: &Connection, id: i64, now: i64) -> Result<bool> {
    let discarded = execute(
        connection,
        "UPDATE delivery SET state = 'discarded', before = NULL, settled_at = ?2, \
         recheck_at = NULL WHERE id = ?1 AND state IN ('parked', 'queued', 'later')",
        params![id, now],
    )?;
    Ok(discarded == 1)
}
