//! Accepting a submission: claim, file, assess, write; one savepoint of the writer's transaction.
//!
//! [`prepare`] does the thinking on a reading connection, so that the writer only writes;
//! [`commit`] writes if nothing that was read has changed, and otherwise prepares once more where
//! nobody else can write.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicI64, Ordering},
};

use rusqlite::{Connection, params};

use super::{
    rows::{self, all, execute, first},
    writer::in_savepoint,
};
use crate::{
    fault::crash_point,
    fhir::write::Resource,
    store::{
        codec,
        error::{Result, StoreError},
        keys::{ResultId, parse_logical_id},
        lease::PatientId,
        plan::{self, Change, Known, NewDelivery, PatientPlan, Plan, Resolved},
        row::{self, Earlier, GiveUp, get},
        submission::{Accepted, EnvelopeKind, Incoming, OutboxTarget},
    },
};

/// What came of [`prepare`].
pub(super) enum Prepared {
    /// Nothing is to be written.
    Answer(Accepted),
    /// This is to be written.
    Write(Box<Plan>, Vec<GiveUp>),
}

/// Look up, file and assess. `connection` must be in a transaction.
pub(super) fn prepare(
    connection: &Connection,
    incoming: &Incoming,
    next_patient: &AtomicI64,
) -> Result<Prepared> {
    let (give_up, envelope_seen) = match claim(connection, incoming)? {
        Claim::Answer(accepted) => return Ok(Prepared::Answer(accepted)),
        Claim::Go {
            give_up,
            envelope_seen,
        } => (give_up, envelope_seen),
    };
    let resolved = resolve(connection, incoming)?;
    let grouping = plan::group(incoming, &resolved);
    let mut finished = Vec::with_capacity(grouping.groups.len());
    for group in &grouping.groups {
        let (id, known) = match group.place {
            Some(id) => {
                let (_, known) = rows::known(connection, id)?
                    .ok_or(StoreError::Unreadable("patient_key without patient"))?;
                (id, known)
            }
            None => (
                PatientId(next_patient.fetch_add(1, Ordering::Relaxed)),
                Known::default(),
            ),
        };
        let draft = plan::draft(incoming, &resolved, group, known, id)?;
        let mut held = Vec::new();
        for (kind, id) in draft.wanted() {
            held.extend(last_version(connection, kind, id)?);
        }
        finished.push(draft.finish(incoming, held)?);
    }
    let plan = plan::seal(incoming, grouping.entries, finished, envelope_seen)?;
    Ok(Prepared::Write(Box::new(plan), give_up))
}

/// Write what was prepared. Runs in a savepoint of the writer.
pub(super) fn commit(
    connection: &Connection,
    incoming: &Incoming,
    next_patient: &AtomicI64,
    plan: Box<Plan>,
    give_up: &[GiveUp],
) -> Result<Accepted> {
    crash_point!("accept.begun");
    if let Some(accepted) = attempt(connection, incoming, plan, give_up)? {
        return Ok(accepted);
    }
    // Someone was quicker. Nobody else writes while we are here, so this time it holds.
    match prepare(connection, incoming, next_patient)? {
        Prepared::Answer(accepted) => Ok(accepted),
        Prepared::Write(plan, give_up) => attempt(connection, incoming, plan, &give_up)?
            .ok_or(StoreError::Transient("the patient kept changing")),
    }
}

/// `None`: something that was read has changed; nothing of it was written.
fn attempt(
    connection: &Connection,
    incoming: &Incoming,
    plan: Box<Plan>,
    give_up: &[GiveUp],
) -> Result<Option<Accepted>> {
    if plan.failed {
        return Ok(Some(Accepted::Failed {
            receipt: plan.receipt,
        }));
    }
    let mut stale = false;
    let written = in_savepoint(connection, |connection| {
        match write(connection, incoming, &plan, give_up)? {
            Written::Yes => Ok(()),
            Written::Stale => {
                stale = true;
                Err(StoreError::Transient("stale"))
            }
        }
    });
    if stale {
        return Ok(None);
    }
    written?;
    Ok(Some(Accepted::New {
        receipt: plan.receipt,
    }))
}

enum Claim {
    Answer(Accepted),
    Go {
        give_up: Vec<GiveUp>,
        envelope_seen: bool,
    },
}

/// Whether this was seen before, and what follows.
fn claim(connection: &Connection, incoming: &Incoming) -> Result<Claim> {
    let claims = &incoming.claims;
    let now = incoming.received_at;
    let mut give_up = Vec::new();
    let mut envelope_seen = false;
    if let Some(key) = &claims.idempotency_key
        && let Some(row) = earlier(connection, incoming, "idem_key", key)?
    {
        if row.is_expired(now) {
            give_up.push(GiveUp::IdempotencyKey(row.id));
        } else if row.fingerprint != claims.fingerprint {
            return Ok(Claim::Answer(Accepted::KeyReused));
        } else {
            return replay(&row);
        }
    }
    let envelope = match &claims.envelope {
        Some(envelope) => earlier(connection, incoming, "envelope_key", &envelope.key)?
            .map(|row| (row, &envelope.kind)),
        None => None,
    };
    if let Some((row, EnvelopeKind::Message { header })) = &envelope
        && !row.is_expired(now)
    {
        return if row.detail.as_deref() == Some(header) {
            replay(row)
        } else {
            Ok(Claim::Answer(Accepted::EnvelopeReused))
        };
    }
    if claims.by_content
        && let Some(row) = earlier(connection, incoming, "content_hash", &claims.fingerprint)?
    {
        if !row.is_expired(now) && still_stands(connection, &row)? {
            return replay(&row);
        }
        give_up.push(GiveUp::Content(row.id));
    }
    if let Some((row, kind)) = envelope {
        if !row.is_expired(now) {
            if let (EnvelopeKind::Document { timestamp }, Some(held)) = (
                kind,
                row.detail
                    .as_deref()
                    .and_then(|text| text.parse::<i128>().ok()),
            ) && timestamp.unix_timestamp_nanos() < held
            {
                return Ok(Claim::Answer(Accepted::OlderDocument));
            }
            envelope_seen = true;
        }
        give_up.push(GiveUp::Envelope(row.id));
    }
    Ok(Claim::Go {
        give_up,
        envelope_seen,
    })
}

fn replay(row: &Earlier) -> Result<Claim> {
    Ok(Claim::Answer(Accepted::Replayed {
        receipt: row.receipt()?,
    }))
}

fn earlier(
    connection: &Connection,
    incoming: &Incoming,
    by: &str,
    key: &dyn rusqlite::ToSql,
) -> Result<Option<Earlier>> {
    let sql = format!("{} {by} = $3", row::EARLIER_SUBMISSION);
    let whose = params![incoming.tenant.as_ref(), incoming.client.as_ref(), key];
    first(connection, &sql, whose, |row| row::earlier(row))
}

/// A repeat is answered from the store only while nothing it wrote, or found as it says, has been
/// changed by another submission: a laboratory may go from 9.0 to 8.0 and back to 9.0.
fn still_stands(connection: &Connection, row: &Earlier) -> Result<bool> {
    if first(connection, row::MOVED, params![row.id], |_| Ok(()))?.is_some() {
        return Ok(false);
    }
    for (patient, result, version) in
        plan::unpack_unchanged(row.unchanged.as_deref().unwrap_or_default())
    {
        if held_version(connection, patient, result)? != Some(version) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn held_version(
    connection: &Connection,
    patient: PatientId,
    result: ResultId,
) -> Result<Option<i64>> {
    const SELECT: &str = "SELECT version FROM observation WHERE patient_id = ?1 AND l3_key = ?2 \
         UNION ALL SELECT version FROM fact WHERE patient_id = ?1 AND key = ?2 LIMIT 1";
    first(connection, SELECT, params![patient.0, result.0], |row| {
        get(row, 0)
    })
}

/// Whom keys and ids lead to.
fn resolve(connection: &Connection, incoming: &Incoming) -> Result<Resolved> {
    let mut keys = Vec::with_capacity(incoming.patients.len());
    let mut aliases = Vec::with_capacity(incoming.patients.len());
    for patient in &incoming.patients {
        keys.push(
            patient
                .keys
                .iter()
                .map(|key| rows::patient_of_key(connection, &incoming.tenant, key))
                .collect::<Result<_>>()?,
        );
        aliases.push(
            patient
                .resources
                .iter()
                .map(|resource| match &resource.put_id {
                    Some(id) => sent_id(
                        connection,
                        &incoming.tenant,
                        &incoming.client,
                        &resource.kind,
                        id,
                    ),
                    None => Ok(None),
                })
                .collect::<Result<_>>()?,
        );
    }
    let withdrawals = incoming
        .withdrawals
        .iter()
        .map(|one| {
            sent_id(
                connection,
                &incoming.tenant,
                &incoming.client,
                &one.kind,
                &one.id,
            )
        })
        .collect::<Result<_>>()?;
    Ok(Resolved {
        keys,
        aliases,
        withdrawals,
    })
}

/// What an id stands for: one this client gave by PUT, else one of ours in its tenant.
pub(super) fn sent_id(
    connection: &Connection,
    tenant: &str,
    client: &str,
    kind: &str,
    id: &str,
) -> Result<Option<(PatientId, ResultId)>> {
    const ALIAS: &str = "SELECT patient_id, l3_key FROM observation_alias \
         WHERE tenant = ?1 AND client = ?2 AND kind = ?3 AND client_id = ?4";
    let alias = first(
        connection,
        ALIAS,
        params![tenant, client, kind, id],
        |row| Ok((PatientId(get(row, 0)?), ResultId(get(row, 1)?))),
    )?;
    if alias.is_some() {
        return Ok(alias);
    }
    let Some((patient, result)) = parse_logical_id(id) else {
        return Ok(None);
    };
    let owner = first(
        connection,
        "SELECT tenant FROM patient WHERE id = ?1",
        params![patient.0],
        |row| get::<String>(row, 0),
    )?;
    if owner.as_deref() != Some(tenant) {
        return Ok(None);
    }
    Ok(held_version(connection, patient, result)?.map(|_| (patient, result)))
}

/// The last version of a resource of ours, to write the next.
fn last_version(connection: &Connection, kind: &str, id: &str) -> Result<Option<(i64, Resource)>> {
    let last = first(connection, row::LAST_VERSION, params![kind, id], |row| {
        row::last_version(row)
    })?;
    Ok(last.flatten())
}

enum Written {
    Yes,
    Stale,
}

fn write(
    connection: &Connection,
    incoming: &Incoming,
    plan: &Plan,
    give_up: &[GiveUp],
) -> Result<Written> {
    for one in give_up {
        let (sql, id) = one.statement();
        execute(connection, sql, params![id])?;
    }
    let Some(inbox) = insert_inbox(connection, incoming, plan)? else {
        return Ok(Written::Stale);
    };
    crash_point!("accept.claimed");
    let now = codec::millis(incoming.received_at);
    let mut given = BTreeSet::new();
    for patient in &plan.patients {
        let seen = rows::put_patient(
            connection,
            &incoming.tenant,
            patient.patient,
            &patient.row,
            patient.seen_seq,
            now,
        )?;
        if !seen || !insert_keys(connection, incoming, patient)? {
            return Ok(Written::Stale);
        }
        write_timeline(connection, incoming, patient, inbox)?;
        crash_point!("accept.timeline_written");
        if !write_aliases(connection, incoming, patient, &mut given)? {
            return Ok(Written::Stale);
        }
        for finding in &patient.findings {
            rows::put_finding(connection, patient.patient, finding, now)?;
        }
        if !insert_resources(connection, patient, now)? {
            return Ok(Written::Stale);
        }
        if let Some(delivery) = &patient.delivery {
            for target in incoming.targets.iter() {
                enqueue(connection, incoming, patient, delivery, target)?;
            }
            crash_point!("accept.outbox_written");
        }
    }
    // What only confirmed what is held must still be held so.
    for (patient, result, version) in
        plan::unpack_unchanged(plan.unchanged.as_deref().unwrap_or_default())
    {
        if held_version(connection, patient, result)? != Some(version) {
            return Ok(Written::Stale);
        }
    }
    Ok(Written::Yes)
}

/// The new row's id; `None`: one of its keys was taken meanwhile.
fn insert_inbox(connection: &Connection, incoming: &Incoming, plan: &Plan) -> Result<Option<i64>> {
    const INSERT: &str = "INSERT INTO inbox (tenant, client, kind, idem_key, fingerprint, \
         content_hash, envelope_key, envelope_detail, request_id, received_at, unchanged, \
         receipt, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13) \
         ON CONFLICT DO NOTHING";
    let claims = &incoming.claims;
    let envelope = claims.envelope.as_ref();
    let inserted = execute(
        connection,
        INSERT,
        params![
            incoming.tenant.as_ref(),
            incoming.client.as_ref(),
            incoming.kind,
            claims.idempotency_key,
            claims.fingerprint,
            claims.by_content.then_some(claims.fingerprint),
            envelope.map(|envelope| envelope.key),
            envelope.and_then(|envelope| envelope.kind.detail()),
            incoming.request_id,
            codec::millis(incoming.received_at),
            plan.unchanged,
            plan.packed_receipt,
            codec::millis(incoming.expires_at),
        ],
    )?;
    Ok((inserted == 1).then(|| connection.last_insert_rowid()))
}

/// `false`: a key was given to another patient meanwhile.
fn insert_keys(
    connection: &Connection,
    incoming: &Incoming,
    patient: &PatientPlan,
) -> Result<bool> {
    const INSERT: &str = "INSERT INTO patient_key (tenant, key_hash, patient_id) \
         VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
    for key in &patient.new_keys {
        let inserted = execute(
            connection,
            INSERT,
            params![incoming.tenant.as_ref(), key, patient.patient.0],
        )?;
        if inserted == 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn write_timeline(
    connection: &Connection,
    incoming: &Incoming,
    plan: &PatientPlan,
    inbox: i64,
) -> Result<()> {
    const KEEP: &str = "INSERT OR IGNORE INTO observation_version SELECT * FROM observation \
         WHERE patient_id = ?1 AND l3_key = ?2";
    const REMOVE: &str = "DELETE FROM observation WHERE patient_id = ?1 AND l3_key = ?2";
    let patient = plan.patient;
    if let Some(body) = &plan.body {
        execute(
            connection,
            "INSERT INTO inbox_patient (patient_id, patient_seq, inbox_id, body) \
             VALUES (?1, ?2, ?3, ?4)",
            params![patient.0, plan.row.seq, inbox, body],
        )?;
    }
    let filed_at = plan.filed_at(incoming);
    for change in &plan.changes {
        match change {
            Change::Keep(result) => {
                execute(connection, KEEP, params![patient.0, result.0])?;
            }
            Change::Remove(result) => {
                execute(connection, REMOVE, params![patient.0, result.0])?;
            }
            Change::Put(value) => rows::put_value(connection, patient, value, filed_at)?,
            Change::PutFact(fact) => rows::put_fact(connection, patient, fact, filed_at)?,
        }
    }
    Ok(())
}

/// `false`: an id was given to something else meanwhile. `given`: by this submission itself, which
/// may have the same new id twice; the last one stands.
fn write_aliases<'a>(
    connection: &Connection,
    incoming: &Incoming,
    plan: &'a PatientPlan,
    given: &mut BTreeSet<(&'a str, &'a str)>,
) -> Result<bool> {
    const ALIAS: &str = "INSERT OR REPLACE INTO observation_alias (tenant, client, kind, \
         client_id, patient_id, l3_key) VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
    let (tenant, client) = (incoming.tenant.as_ref(), incoming.client.as_ref());
    for alias in &plan.aliases {
        let first = given.insert((&alias.kind, &alias.client_id));
        if first
            && sent_id(connection, tenant, client, &alias.kind, &alias.client_id)? != alias.seen
        {
            return Ok(false);
        }
        execute(
            connection,
            ALIAS,
            params![
                tenant,
                client,
                alias.kind,
                alias.client_id,
                plan.patient.0,
                alias.result.0
            ],
        )?;
    }
    Ok(true)
}

/// `false`: a version was taken meanwhile.
fn insert_resources(connection: &Connection, plan: &PatientPlan, now: i64) -> Result<bool> {
    const INSERT: &str = "INSERT INTO resource (fhir_type, fhir_id, version, patient_id, \
         identifier_system, identifier_value, content_hash, last_updated, body) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT DO NOTHING";
    for resource in &plan.resources {
        let identifier = resource.identifier.as_ref();
        let inserted = execute(
            connection,
            INSERT,
            params![
                resource.kind,
                resource.id,
                resource.version,
                resource.of_patient.then_some(plan.patient.0),
                identifier.map(|(system, _)| system),
                identifier.map(|(_, value)| value),
                resource.content_hash,
                now,
                resource.body
            ],
        )?;
        if inserted == 0 && !resource.fixed {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Make the delivery, put what it replaces aside, and wake the lane.
fn enqueue(
    connection: &Connection,
    incoming: &Incoming,
    plan: &PatientPlan,
    delivery: &NewDelivery,
    target: &OutboxTarget,
) -> Result<()> {
    const DELIVERY: &str = "INSERT INTO delivery (target_id, patient_id, seq, part, urgency, \
         state, before, attempt, created_at, waiting_since, settled_at, reachable_ms, \
         correlation_id) VALUES (?1, ?2, ?3, 0, ?4, ?5, NULL, 0, ?6, ?6, ?7, 0, ?8)";
    const ITEM: &str = "INSERT INTO delivery_item (delivery_id, ordinal, fhir_type, fhir_id, \
         revision, content_hash, state, outranks_human) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
    const LANE: &str = "INSERT INTO lane (target_id, patient_id, due_at, scheduled_at, priority, \
         owner, fence, verify_first) VALUES (?1, ?2, ?3, ?3, ?4, NULL, 0, 0) \
         ON CONFLICT (target_id, patient_id) DO UPDATE SET due_at = excluded.due_at, \
         scheduled_at = excluded.scheduled_at, priority = CASE WHEN due_at IS NULL \
         THEN excluded.priority ELSE max(priority, excluded.priority) END";
    let now = codec::millis(incoming.received_at);
    let patient = plan.patient;
    let unwritable = |kind: &str| target.unwritable.iter().any(|one| one == kind);
    // Only what stands alone makes it worth sending.
    let open = delivery
        .items
        .iter()
        .any(|item| !matches!(item.kind, "Device" | "Provenance") && !unwritable(item.kind));
    supersede(connection, target, patient, delivery, now)?;
    let (state, settled_at) = if open {
        ("queued", None)
    } else {
        ("delivered", Some(now))
    };
    execute(
        connection,
        DELIVERY,
        params![
            target.id.0,
            patient.0,
            plan.row.seq,
            delivery.urgency,
            state,
            now,
            settled_at,
            incoming.request_id
        ],
    )?;
    let id = connection.last_insert_rowid();
    for (ordinal, item) in delivery.items.iter().enumerate() {
        let state = if !open || unwritable(item.kind) {
            "skipped"
        } else {
            "open"
        };
        execute(
            connection,
            ITEM,
            params![
                id,
                i64::try_from(ordinal).unwrap_or(i64::MAX),
                item.kind,
                item.id,
                item.revision,
                item.content_hash,
                state,
                item.outranks_human
            ],
        )?;
    }
    if open {
        execute(
            connection,
            LANE,
            params![
                target.id.0,
                patient.0,
                now,
                codec::priority(delivery.urgency)
            ],
        )?;
    }
    Ok(())
}

/// Older open items of the same resources are not sent any more; a delivery that has nothing
/// left worth sending is closed.
fn supersede(
    connection: &Connection,
    target: &OutboxTarget,
    patient: PatientId,
    delivery: &NewDelivery,
    now: i64,
) -> Result<()> {
    const OPEN: &str = "SELECT id, state FROM delivery WHERE target_id = ?1 AND patient_id = ?2 \
         AND state IN ('queued', 'in_flight', 'later')";
    const ITEM: &str = "UPDATE delivery_item SET state = 'superseded' WHERE delivery_id = ?1 \
         AND state = 'open' AND fhir_type = ?2 AND fhir_id = ?3 AND revision < ?4";
    let older = all(connection, OPEN, params![target.id.0, patient.0], |row| {
        Ok((get::<i64>(row, 0)?, get::<String>(row, 1)?))
    })?;
    for (id, state) in older {
        for item in &delivery.items {
            execute(
                connection,
                ITEM,
                params![id, item.kind, item.id, item.revision],
            )?;
        }
        // What is under way is judged when it comes back.
        if state != "in_flight" {
            close_if_empty(connection, id, now)?;
        }
    }
    Ok(())
}

/// Close a delivery whose items were all replaced. `true`: it was.
pub(super) fn close_if_empty(connection: &Connection, id: i64, now: i64) -> Result<bool> {
    const LEFT: &str = "SELECT 1 FROM delivery_item WHERE delivery_id = ?1 AND state = 'open' \
         AND fhir_type NOT IN ('Device', 'Provenance') LIMIT 1";
    if first(connection, LEFT, params![id], |_| Ok(()))?.is_some() {
        return Ok(false);
    }
    execute(
        connection,
        "UPDATE delivery_item SET state = 'superseded' WHERE delivery_id = ?1 AND state = 'open'",
        params![id],
    )?;
    execute(
        connection,
        "UPDATE delivery SET state = 'superseded', settled_at = ?2 WHERE id = ?1",
        params![id, now],
    )?;
    Ok(true)
}

/// Receipts whose time is over, at most so many; how many it were.
pub(super) fn expire(connection: &Connection, now: i64) -> Result<usize> {
    let done = execute(
        connection,
        "DELETE FROM inbox WHERE id IN \
         (SELECT id FROM inbox WHERE receipt IS NOT NULL AND expires_at <= ?1 LIMIT 500) \
         AND NOT EXISTS (SELECT 1 FROM inbox_patient WHERE inbox_patient.inbox_id = inbox.id)",
        params![now],
    )?;
    let receipts = execute(
        connection,
        "UPDATE inbox SET receipt = NULL, idem_key = NULL, content_hash = NULL, \
         envelope_key = NULL, envelope_detail = NULL, unchanged = NULL WHERE id IN \
         (SELECT id FROM inbox WHERE receipt IS NOT NULL AND expires_at <= ?1 LIMIT 500)",
        params![now],
    )?;
    let attempts = execute(
        connection,
        "DELETE FROM delivery_attempt WHERE id IN \
         (SELECT id FROM delivery_attempt WHERE ended_at < ?1 LIMIT 500)",
        params![now.saturating_sub(row::ATTEMPTS_KEPT)],
    )?;
    Ok(done + receipts + attempts)
}
