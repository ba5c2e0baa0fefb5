//! Accepting a submission: one transaction that claims, locks the patients, decides, writes.
//!
//! Patients are locked before anything of them is read, so that what is decided rests on what
//! stands; they are locked in the order of their keys, and so are new ones made, so that two
//! submissions never wait for each other.

use std::time::Duration;

use deadpool_postgres::Pool;
use tokio::{task::block_in_place, time::timeout};

use super::{
    claim::{self, Claim},
    connection::{AGAIN, Committed, Connection, Millis, Tried, Trouble, UNREACHABLE, pause},
    resolve::{self, resolve},
    rows,
};
use crate::{
    fault::{crash_point, crash_point_meanwhile},
    fhir::write::Resource,
    store::{
        codec,
        error::{Result, StoreError},
        keys::ResultId,
        lease::PatientId,
        plan::{self, Change, Group, Known, NewDelivery, PatientPlan, Plan, Resolved, StoredValue},
        row::{self, GiveUp, find, get},
        submission::{Accepted, Incoming, OutboxTarget},
    },
};

/// All of a transaction up to its COMMIT.
const WHOLE: Duration = Duration::from_secs(20);

/// What a transaction came to, before its COMMIT.
enum Done {
    /// Nothing is to be kept.
    Answer(Accepted),
    /// This is to be committed.
    Written { receipt: Vec<u8>, mark: Mark },
}

/// What a transaction is found again by.
struct Mark {
    inbox: i64,
    transaction: String,
}

/// Accept it. Lock conflicts are tried again a few times.
pub(super) async fn accept(pool: &Pool, incoming: &Incoming) -> Result<Accepted> {
    let mut tried = 0;
    loop {
        match once(pool, incoming).await {
            Err(trouble) if trouble.passes() && tried < AGAIN => {
                pause(tried).await;
                tried += 1;
            }
            other => return Ok(other?),
        }
    }
}

async fn once(pool: &Pool, incoming: &Incoming) -> Tried<Accepted> {
    crash_point!("accept.queued");
    let connection = Connection::take(pool).await?;
    connection.begin().await?;
    crash_point!("accept.begun");
    let done = match timeout(WHOLE, transact(&connection, incoming)).await {
        Ok(done) => done,
        Err(_) => Err(StoreError::Deadline.into()),
    };
    match done {
        Ok(Done::Answer(accepted)) => {
            connection.roll_back(true).await;
            Ok(accepted)
        }
        Ok(Done::Written { receipt, mark }) => {
            crash_point_meanwhile!("accept.commit_sent");
            match connection.commit().await {
                Committed::Yes => {
                    crash_point!("accept.committed_unacknowledged");
                    Ok(Accepted::New { receipt })
                }
                Committed::No(trouble) => Err(trouble),
                Committed::Unknown => settle_unknown(pool, incoming, receipt, &mark).await,
            }
        }
        Err(trouble) => {
            connection
                .roll_back(!matches!(trouble, Trouble::Database(_)))
                .await;
            Err(trouble)
        }
    }
}

/// How long to ask what became of a COMMIT whose answer was lost, and how often.
const ASK_FOR: Duration = Duration::from_secs(5);
const ASK_EVERY: Duration = Duration::from_millis(100);

/// The answer to COMMIT was lost: the server knows whether it stands.
async fn settle_unknown(
    pool: &Pool,
    incoming: &Incoming,
    receipt: Vec<u8>,
    mark: &Mark,
) -> Tried<Accepted> {
    let asked = timeout(ASK_FOR, async {
        loop {
            match status(pool, incoming, mark).await {
                Ok(Status::InProgress) | Err(_) => tokio::time::sleep(ASK_EVERY).await,
                Ok(Status::Committed) => return Ok(()),
                Ok(Status::Aborted) => return Err(Trouble::Stale),
                Ok(Status::Unknown) => return Err(UNREACHABLE.into()),
            }
        }
    });
    match asked.await {
        Ok(Ok(())) => Ok(Accepted::New { receipt }),
        Ok(Err(trouble)) => Err(trouble),
        // Neither yes nor no: the repeat meets the keys, if they are there.
        Err(_) => Err(UNREACHABLE.into()),
    }
}

enum Status {
    Committed,
    Aborted,
    InProgress,
    Unknown,
}

async fn status(pool: &Pool, incoming: &Incoming, mark: &Mark) -> Tried<Status> {
    const STATUS: &str = "SELECT pg_xact_status($1::text::xid8)";
    // After a failover the number may be another transaction's: the row says it was this one.
    const ROW: &str = "SELECT 1 FROM inbox WHERE id = $1 AND request_id = $2 AND fingerprint = $3";
    let connection = Connection::take(pool).await?;
    let row = connection.first(STATUS, &[&mark.transaction]).await?;
    let said = match &row {
        Some(row) => find::<&str>(row, 0)?,
        None => None,
    };
    let status = match said {
        Some("committed") => {
            let fingerprint = incoming.claims.fingerprint.as_slice();
            let found = connection
                .first(ROW, &[&mark.inbox, &incoming.request_id, &fingerprint])
                .await?;
            if found.is_some() {
                Status::Committed
            } else {
                Status::Unknown
            }
        }
        Some("aborted") => Status::Aborted,
        Some("in progress") => Status::InProgress,
        Some(_) | None => Status::Unknown,
    };
    connection.give_back();
    Ok(status)
}

async fn transact(connection: &Connection, incoming: &Incoming) -> Tried<Done> {
    let (give_up, envelope_seen) = match claim::look(connection, incoming).await? {
        Claim::Answer(accepted) => return Ok(Done::Answer(accepted)),
        Claim::Go {
            give_up,
            envelope_seen,
        } => (give_up, envelope_seen),
    };
    let mark = match take_keys(connection, incoming, &give_up).await {
        Ok(Some(mark)) => mark,
        // A twin was quicker: the next look finds its receipt.
        Ok(None) => return Err(Trouble::Stale),
        Err(trouble) if trouble.is_lock_timeout() => return Err(StoreError::Twin.into()),
        Err(trouble) => return Err(trouble),
    };
    crash_point!("accept.claimed");
    let resolved = resolve(connection, incoming).await?;
    let grouping = block_in_place(|| plan::group(incoming, &resolved));
    let places = lock(connection, incoming, &resolved, &grouping.groups).await?;
    resolve::must_still_hold(connection, incoming, &resolved).await?;

    let mut finished = Vec::with_capacity(grouping.groups.len());
    for (group, id) in grouping.groups.iter().zip(places) {
        let known = known(connection, group, id).await?;
        let draft = block_in_place(|| plan::draft(incoming, &resolved, group, known, id))?;
        let mut held = Vec::new();
        for (kind, id) in draft.wanted() {
            held.extend(last_version(connection, kind, id).await?);
        }
        finished.push(block_in_place(|| draft.finish(incoming, held))?);
    }
    let plan = block_in_place(|| plan::seal(incoming, grouping.entries, finished, envelope_seen))?;
    if plan.failed {
        return Ok(Done::Answer(Accepted::Failed {
            receipt: plan.receipt,
        }));
    }
    write(connection, incoming, &plan, mark.inbox).await?;
    Ok(Done::Written {
        receipt: plan.receipt,
        mark,
    })
}

/// The keys of this submission, for us alone. Waits for a twin under way; `None`: it came first.
async fn take_keys(
    connection: &Connection,
    incoming: &Incoming,
    give_up: &[GiveUp],
) -> Tried<Option<Mark>> {
    const INSERT: &str = "INSERT INTO inbox (tenant, client, kind, idem_key, fingerprint, \
         content_hash, envelope_key, envelope_detail, request_id, received_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT DO NOTHING \
         RETURNING id, pg_current_xact_id()::text";
    for one in give_up {
        let (sql, id) = one.statement();
        connection.run(sql, &[&id]).await?;
    }
    let claims = &incoming.claims;
    let fingerprint = claims.fingerprint.as_slice();
    let envelope = claims.envelope.as_ref();
    let row = connection
        .first(
            INSERT,
            &[
                &incoming.tenant.as_ref(),
                &incoming.client.as_ref(),
                &incoming.kind,
                &claims.idempotency_key,
                &fingerprint,
                &claims.by_content.then_some(fingerprint),
                &envelope.map(|envelope| envelope.key.as_slice()),
                &envelope.and_then(|envelope| envelope.kind.detail()),
                &incoming.request_id,
                &Millis(codec::millis(incoming.received_at)),
                &Millis(codec::millis(incoming.expires_at)),
            ],
        )
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    Ok(Some(Mark {
        inbox: get(&row, 0)?,
        transaction: get(&row, 1)?,
    }))
}

/// Lock the patients of every group, make those that are new, and give them their keys. The id
/// of each group's patient.
async fn lock(
    connection: &Connection,
    incoming: &Incoming,
    resolved: &Resolved,
    groups: &[Group],
) -> Tried<Vec<PatientId>> {
    const LOCK: &str = "SELECT id FROM patient WHERE id = ANY($1) ORDER BY tenant, key_hash \
         FOR NO KEY UPDATE";
    const MAKE: &str = "INSERT INTO patient (tenant, key_hash, identifiers, seq, updated_at) \
         VALUES ($1, $2, '{}', 0, $3) ON CONFLICT DO NOTHING RETURNING id";
    const KEYS: &str = "INSERT INTO patient_key (tenant, key_hash, patient_id) \
         SELECT $1, * FROM unnest($2::bytea[], $3::bigint[]) ON CONFLICT DO NOTHING";
    let tenant = incoming.tenant.as_ref();
    let known: Vec<i64> = groups
        .iter()
        .filter_map(|group| group.place.map(|id| id.0))
        .collect();
    if !known.is_empty() {
        let locked = connection.all(LOCK, &[&known]).await?;
        if locked.len() != known.len() {
            return Err(Trouble::Stale);
        }
    }
    let mut fresh = Vec::new();
    for (position, group) in groups.iter().enumerate() {
        if group.place.is_none() {
            let key = group
                .members
                .iter()
                .filter_map(|member| incoming.patients.get(*member))
                .find_map(|patient| patient.keys.first())
                .ok_or(StoreError::Unreadable("a patient without keys"))?;
            fresh.push((key, position));
        }
    }
    fresh.sort_unstable();
    let mut places: Vec<Option<PatientId>> = groups.iter().map(|group| group.place).collect();
    let now = Millis(codec::millis(incoming.received_at));
    for (key, position) in fresh {
        let row = connection
            .first(MAKE, &[&tenant, &key.as_slice(), &now])
            .await?
            .ok_or(Trouble::Stale)?;
        if let Some(place) = places.get_mut(position) {
            *place = Some(PatientId(get(&row, 0)?));
        }
    }
    let places: Vec<PatientId> = places
        .into_iter()
        .collect::<Option<_>>()
        .ok_or(StoreError::Unreadable("a patient without a row"))?;
    let mut keys: Vec<_> = groups
        .iter()
        .zip(&places)
        .flat_map(|(group, place)| {
            plan::new_keys(incoming, resolved, group)
                .into_iter()
                .map(|key| (key, place.0))
        })
        .collect();
    keys.sort_unstable();
    let (hashes, owners): (Vec<&[u8]>, Vec<i64>) = keys
        .iter()
        .map(|(key, owner)| (key.as_slice(), *owner))
        .unzip();
    if !keys.is_empty() {
        let given = connection.run(KEYS, &[&tenant, &hashes, &owners]).await?;
        if usize::try_from(given) != Ok(keys.len()) {
            return Err(Trouble::Stale);
        }
    }
    Ok(places)
}

/// What is held of a patient that is locked.
async fn known(connection: &Connection, group: &Group, id: PatientId) -> Tried<Known> {
    let (_, known) = rows::known(connection, id)
        .await?
        .ok_or(StoreError::Unreadable("patient_key without patient"))?;
    debug_assert!(group.place.is_some() || known.values.is_empty());
    Ok(known)
}

/// The last version of a resource of ours, to write the next.
async fn last_version(
    connection: &Connection,
    kind: &str,
    id: &str,
) -> Tried<Option<(i64, Resource)>> {
    let last = connection
        .one(row::LAST_VERSION, &[&kind, &id], row::last_version)
        .await?;
    Ok(last.flatten())
}

async fn write(connection: &Connection, incoming: &Incoming, plan: &Plan, inbox: i64) -> Tried<()> {
    let now = codec::millis(incoming.received_at);
    for patient in &plan.patients {
        rows::put_patient(connection, patient.patient, &patient.row, now).await?;
        write_timeline(connection, incoming, patient, inbox).await?;
        crash_point!("accept.timeline_written");
        resolve::put_aliases(connection, incoming, patient).await?;
        for finding in &patient.findings {
            rows::put_finding(connection, patient.patient, finding, now).await?;
        }
        insert_resources(connection, patient, now).await?;
        if let Some(delivery) = &patient.delivery {
            for target in incoming.targets.iter() {
                enqueue(connection, incoming, patient, delivery, target).await?;
            }
            crash_point!("accept.outbox_written");
        }
    }
    connection
        .run(
            "UPDATE inbox SET receipt = $2, unchanged = $3 WHERE id = $1",
            &[&inbox, &plan.packed_receipt, &plan.unchanged],
        )
        .await?;
    Ok(())
}

/// Changes of the timeline that may be made at once: keep, then remove, then put.
#[derive(Default)]
struct Batch<'a> {
    keep: Vec<ResultId>,
    remove: Vec<ResultId>,
    put: Vec<&'a StoredValue>,
}

impl Batch<'_> {
    fn puts(&self, id: ResultId) -> bool {
        self.put.iter().any(|value| value.id == id)
    }

    async fn make(&mut self, connection: &Connection, patient: PatientId, now: i64) -> Tried<()> {
        const KEEP: &str = "INSERT INTO observation_version SELECT * FROM observation \
             WHERE patient_id = $1 AND l3_key = ANY($2) ON CONFLICT DO NOTHING";
        const REMOVE: &str = "DELETE FROM observation WHERE patient_id = $1 AND l3_key = ANY($2)";
        for (sql, ids) in [(KEEP, &self.keep), (REMOVE, &self.remove)] {
            if !ids.is_empty() {
                let ids: Vec<&[u8]> = ids.iter().map(|id| id.0.as_slice()).collect();
                connection.run(sql, &[&patient.0, &ids]).await?;
            }
        }
        rows::put_values(connection, patient, &self.put, now).await?;
        *self = Self::default();
        Ok(())
    }
}

async fn write_timeline(
    connection: &Connection,
    incoming: &Incoming,
    plan: &PatientPlan,
    inbox: i64,
) -> Tried<()> {
    const BODY: &str = "INSERT INTO inbox_patient (patient_id, patient_seq, inbox_id, body) \
         VALUES ($1, $2, $3, $4)";
    let patient = plan.patient;
    if let Some(body) = &plan.body {
        connection
            .run(BODY, &[&patient.0, &plan.row.seq, &inbox, body])
            .await?;
    }
    let now = plan.filed_at(incoming);
    let mut batch = Batch::default();
    for change in &plan.changes {
        match change {
            Change::Keep(id) => {
                if batch.puts(*id) || batch.remove.contains(id) {
                    batch.make(connection, patient, now).await?;
                }
                batch.keep.push(*id);
            }
            Change::Remove(id) => {
                if batch.puts(*id) {
                    batch.make(connection, patient, now).await?;
                }
                batch.remove.push(*id);
            }
            Change::Put(value) => {
                if batch.puts(value.id) {
                    batch.make(connection, patient, now).await?;
                }
                batch.put.push(value);
            }
            Change::PutFact(fact) => rows::put_fact(connection, patient, fact, now).await?,
        }
    }
    batch.make(connection, patient, now).await
}

async fn insert_resources(connection: &Connection, plan: &PatientPlan, now: i64) -> Tried<()> {
    const INSERT: &str = "INSERT INTO resource (fhir_type, fhir_id, version, patient_id, \
         identifier_system, identifier_value, content_hash, last_updated, body) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING";
    for resource in &plan.resources {
        let identifier = resource.identifier.as_ref();
        let inserted = connection
            .run(
                INSERT,
                &[
                    &resource.kind,
                    &resource.id,
                    &resource.version,
                    &resource.of_patient.then_some(plan.patient.0),
                    &identifier.map(|(system, _)| rows::text(system)),
                    &identifier.map(|(_, value)| rows::text(value)),
                    &resource.content_hash,
                    &Millis(now),
                    &resource.body,
                ],
            )
            .await?;
        if inserted == 0 && !resource.fixed {
            return Err(Trouble::Stale);
        }
    }
    Ok(())
}

/// Make the delivery, put what it replaces aside, and wake the lane.
async fn enqueue(
    connection: &Connection,
    incoming: &Incoming,
    plan: &PatientPlan,
    delivery: &NewDelivery,
    target: &OutboxTarget,
) -> Tried<()> {
    // First of all: the lane is the lock of its deliveries.
    const LANE: &str = "INSERT INTO lane (target_id, patient_id, due_at, scheduled_at, priority, \
         owner, fence, verify_first) VALUES ($1, $2, NULL, NULL, 0, NULL, 0, false) \
         ON CONFLICT (target_id, patient_id) DO UPDATE SET fence = lane.fence";
    const DUE: &str = "UPDATE lane SET due_at = $3, scheduled_at = $3, \
         priority = CASE WHEN due_at IS NULL THEN $4 ELSE greatest(priority, $4) END \
         WHERE target_id = $1 AND patient_id = $2";
    const DELIVERY: &str = "INSERT INTO delivery (target_id, patient_id, seq, part, urgency, \
         state, before, attempt, created_at, waiting_since, settled_at, reachable_ms, \
         correlation_id) VALUES ($1, $2, $3, 0, $4, $5, NULL, 0, $6, $6, $7, 0, $8) RETURNING id";
    const ITEMS: &str = "INSERT INTO delivery_item (delivery_id, ordinal, fhir_type, fhir_id, \
         revision, content_hash, state, outranks_human) \
         SELECT $1, * FROM unnest($2::bigint[], $3::text[], $4::text[], $5::bigint[], \
         $6::text[], $7::text[], $8::boolean[])";
    let now = codec::millis(incoming.received_at);
    let patient = plan.patient;
    let unwritable = |kind: &str| target.unwritable.iter().any(|one| one == kind);
    // Only what stands alone makes it worth sending.
    let open = delivery
        .items
        .iter()
        .any(|item| !matches!(item.kind, "Device" | "Provenance") && !unwritable(item.kind));
    connection.run(LANE, &[&target.id.0, &patient.0]).await?;
    supersede(connection, target, patient, delivery, now).await?;
    let (state, settled_at) = if open {
        ("queued", None)
    } else {
        ("delivered", Some(Millis(now)))
    };
    let row = connection
        .first(
            DELIVERY,
            &[
                &target.id.0,
                &patient.0,
                &plan.row.seq,
                &delivery.urgency,
                &state,
                &Millis(now),
                &settled_at,
                &incoming.request_id,
            ],
        )
        .await?
        .ok_or(StoreError::Unreadable("a delivery without id"))?;
    let id: i64 = get(&row, 0)?;
    let items = &delivery.items;
    let states: Vec<&str> = items
        .iter()
        .map(|item| {
            if !open || unwritable(item.kind) {
                "skipped"
            } else {
                "open"
            }
        })
        .collect();
    connection
        .run(
            ITEMS,
            &[
                &id,
                &(0_i64..).take(items.len()).collect::<Vec<_>>(),
                &items.iter().map(|item| item.kind).collect::<Vec<_>>(),
                &items
                    .iter()
                    .map(|item| item.id.as_str())
                    .collect::<Vec<_>>(),
                &items.iter().map(|item| item.revision).collect::<Vec<_>>(),
                &items
                    .iter()
                    .map(|item| item.content_hash.as_str())
                    .collect::<Vec<_>>(),
                &states,
                &items
                    .iter()
                    .map(|item| item.outranks_human)
                    .collect::<Vec<_>>(),
            ],
        )
        .await?;
    if open {
        connection
            .run(
                DUE,
                &[
                    &target.id.0,
                    &patient.0,
                    &Millis(now),
                    &codec::priority(delivery.urgency),
                ],
            )
            .await?;
    }
    Ok(())
}

/// Older open items of the same resources are not sent any more; a delivery that has nothing
/// left worth sending is closed.
async fn supersede(
    connection: &Connection,
    target: &OutboxTarget,
    patient: PatientId,
    delivery: &NewDelivery,
    now: i64,
) -> Tried<()> {
    const OPEN: &str = "SELECT id, state FROM delivery WHERE target_id = $1 AND patient_id = $2 \
         AND state IN ('queued', 'in_flight', 'later')";
    const ITEM: &str = "UPDATE delivery_item SET state = 'superseded' WHERE delivery_id = $1 \
         AND state = 'open' AND fhir_type = $2 AND fhir_id = $3 AND revision < $4";
    let older = connection.all(OPEN, &[&target.id.0, &patient.0]).await?;
    for row in &older {
        let id: i64 = get(row, 0)?;
        for item in &delivery.items {
            connection
                .run(ITEM, &[&id, &item.kind, &item.id, &item.revision])
                .await?;
        }
        // What is under way is judged when it comes back.
        if get::<&str>(row, 1)? != "in_flight" {
            close_if_empty(connection, id, now).await?;
        }
    }
    Ok(())
}

/// Close a delivery whose items were all replaced. `true`: it was.
pub(super) async fn close_if_empty(connection: &Connection, id: i64, now: i64) -> Tried<bool> {
    const LEFT: &str = "SELECT 1 FROM delivery_item WHERE delivery_id = $1 AND state = 'open' \
         AND fhir_type NOT IN ('Device', 'Provenance') LIMIT 1";
    if connection.first(LEFT, &[&id]).await?.is_some() {
        return Ok(false);
    }
    connection
        .run(
            "UPDATE delivery_item SET state = 'superseded' \
             WHERE delivery_id = $1 AND state = 'open'",
            &[&id],
        )
        .await?;
    connection
        .run(
            "UPDATE delivery SET state = 'superseded', settled_at = $2 WHERE id = $1",
            &[&id, &Millis(now)],
        )
        .await?;
    Ok(true)
}

/// Receipts and attempts whose time is over, at most so many; how many it were.
pub(super) async fn expire(connection: &Connection, now: i64) -> Tried<usize> {
    const RECEIPTS: &str = "UPDATE inbox SET receipt = NULL, idem_key = NULL, \
         content_hash = NULL, envelope_key = NULL, envelope_detail = NULL, unchanged = NULL \
         WHERE id IN (SELECT id FROM inbox WHERE receipt IS NOT NULL AND expires_at <= $1 \
         LIMIT 500 FOR UPDATE SKIP LOCKED)";
    const DONE: &str = "DELETE FROM inbox \
         WHERE id IN (SELECT id FROM inbox WHERE receipt IS NOT NULL AND expires_at <= $1 \
         LIMIT 500 FOR UPDATE SKIP LOCKED) \
         AND NOT EXISTS (SELECT 1 FROM inbox_patient WHERE inbox_patient.inbox_id = inbox.id)";
    const ATTEMPTS: &str = "DELETE FROM delivery_attempt WHERE id IN \
         (SELECT id FROM delivery_attempt WHERE ended_at < $1 LIMIT 500 FOR UPDATE SKIP LOCKED)";
    let done = connection.run(DONE, &[&Millis(now)]).await?;
    let receipts = connection.run(RECEIPTS, &[&Millis(now)]).await?;
    let attempts = connection
        .run(ATTEMPTS, &[&Millis(now.saturating_sub(row::ATTEMPTS_KEPT))])
        .await?;
    let all = done.saturating_add(receipts).saturating_add(attempts);
    Ok(usize::try_from(all).unwrap_or(usize::MAX))
}
