//! The embedded engine: one file, one writing thread, readers with connections of their own.

mod accept;
mod backup;
mod cards;
mod disk;
pub mod look;
mod open;
mod outbox;
mod read;
mod removal;
mod rows;
mod writer;

use std::{
    fs::File,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use rusqlite::Connection;
use time::OffsetDateTime;
use tokio::sync::{Semaphore, oneshot, watch};

pub use self::open::Options;
use self::{accept::Prepared, open::Parts, writer::Queue};
use super::{
    IdentityKey, Pending, Store, codec,
    delivery::Hold,
    error::{Fatal, OpenError, Result, StoreError},
    keys::Hash,
    lease::{Leased, PatientId, Pick, Settlement, TargetId},
    reading::{
        DeliveryDetail, DeliveryFilter, DeliverySummary, Figures, HeldResource, KnownPatient, Page,
        Search, TargetRow,
    },
    removal::Retention,
    submission::{Accepted, Incoming},
};
use crate::fault::crash_point;

/// Reads at the same time; more wait.
const READERS: usize = 16;
/// Time of one read; then it is interrupted.
const READING: Duration = Duration::from_secs(5);

/// A store in one file.
pub struct Sqlite {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    path: PathBuf,
    key: IdentityKey,
    replica: String,
    restored: bool,
    /// `None` once closed: then the writer ends.
    queue: Mutex<Option<Queue>>,
    status: Arc<writer::Status>,
    readers: Mutex<Vec<Connection>>,
    reading: Semaphore,
    next_patient: AtomicI64,
    leases: AtomicU64,
}

impl Sqlite {
    /// Open or make the database; recover what a crash left; start the writer.
    pub fn open(options: &Options) -> std::result::Result<Self, OpenError> {
        let Parts {
            connection,
            key,
            lock,
        } = open::open(options)?;
        let highest = open::highest_patient(&connection)
            .map_err(|error| open::failed(&options.path, error))?;
        let (queue, consumer) = Queue::new(options.queue, options.queue_bytes);
        let shared = Arc::new(Shared {
            path: options.path.clone(),
            key,
            replica: options.replica.clone(),
            restored: options.restored,
            status: Arc::clone(&queue.status),
            queue: Mutex::new(Some(queue)),
            readers: Mutex::new(Vec::new()),
            reading: Semaphore::new(READERS),
            next_patient: AtomicI64::new(highest + 1),
            leases: AtomicU64::new(0),
        });
        let wal = open::beside(&options.path, "-wal");
        let writer = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || write_until_closed(&connection, &consumer, &wal, lock))
            .map_err(|source| OpenError::Io {
                path: options.path.clone(),
                source,
            })?;
        Ok(Self {
            shared,
            writer: Mutex::new(Some(writer)),
        })
    }
}

fn write_until_closed(
    connection: &Connection,
    consumer: &writer::Consumer,
    wal: &std::path::Path,
    lock: File,
) {
    writer::run(connection, consumer, wal);
    // After a failure the file is left as it is: the next start looks at it.
    if !writer::failed(consumer) {
        let _ = open::stop(connection);
    }
    drop(lock);
}

impl Shared {
    fn queue(&self) -> Result<Queue> {
        lock(&self.queue).clone().ok_or(StoreError::Closed)
    }

    /// A read on a connection of its own, off the caller's thread.
    async fn read<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Connection, &Self) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let permit = self
            .reading
            .acquire()
            .await
            .map_err(|_| StoreError::Closed)?;
        let shared = Arc::clone(self);
        let handle = Arc::new(Mutex::new(None));
        let interrupt = Arc::clone(&handle);
        let mut task = tokio::task::spawn_blocking(move || {
            let connection = shared.reader()?;
            *lock(&handle) = Some(connection.get_interrupt_handle());
            let result = in_snapshot(&connection, &shared, work);
            *lock(&handle) = None;
            if result.is_ok() {
                lock(&shared.readers).push(connection);
            }
            result
        });
        // A reader that lives long keeps the log from being cut.
        let finished = if let Ok(finished) = tokio::time::timeout(READING, &mut task).await {
            finished
        } else {
            if let Some(handle) = lock(&interrupt).as_ref() {
                handle.interrupt();
            }
            task.await
        };
        let result = finished.unwrap_or(Err(StoreError::ModelPanicked));
        if let Err(StoreError::Fatal(fatal)) = &result {
            // What cannot be read cannot be trusted to be written either.
            self.status.give_up(*fatal);
        }
        drop(permit);
        result
    }

    fn reader(&self) -> Result<Connection> {
        let idle = lock(&self.readers).pop();
        match idle {
            Some(connection) => Ok(connection),
            None => open::connect_reader(&self.path),
        }
    }

    async fn lease(
        &self,
        target: TargetId,
        now: OffsetDateTime,
        limit: usize,
        pick: Pick,
    ) -> Result<Vec<Leased>> {
        let me = self.replica.clone();
        let now = codec::millis(now);
        let mut leased = self
            .write(move |connection| outbox::lease(connection, &me, target, now, limit, pick))
            .await?;
        for one in &mut leased {
            one.verify_first |= self.restored;
        }
        Ok(leased)
    }

    /// Work of our own on the writer.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let answer = self.queue()?.run(work)?;
        answered(answer).await
    }
}

/// What is behind these locks is whole between two statements: a panic leaves nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All reads of one piece of work see the same state.
fn in_snapshot<T>(
    connection: &Connection,
    shared: &Shared,
    work: impl FnOnce(&Connection, &Shared) -> Result<T>,
) -> Result<T> {
    rows::execute(connection, "BEGIN", [])?;
    let result = work(connection, shared);
    let end = rows::execute(connection, "COMMIT", []);
    let value = result?;
    end?;
    Ok(value)
}

async fn answered<T>(answer: oneshot::Receiver<Result<T>>) -> Result<T> {
    answer.await.unwrap_or(Err(StoreError::Closed))
}

impl Store for Sqlite {
    fn identity_key(&self) -> &IdentityKey {
        &self.shared.key
    }

    fn accept(&self, incoming: Arc<Incoming>) -> Pending<'_, Accepted> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let thought = Arc::clone(&incoming);
            let prepared = shared
                .read(move |connection, shared| {
                    accept::prepare(connection, &thought, &shared.next_patient)
                })
                .await?;
            let (plan, give_up) = match prepared {
                Prepared::Answer(accepted) => return Ok(accepted),
                Prepared::Write(plan, give_up) => (plan, give_up),
            };
            let queue = shared.queue()?;
            let answer = queue.submit(incoming.weight(), move |connection| {
                accept::commit(connection, &incoming, &shared.next_patient, plan, &give_up)
            })?;
            crash_point!("accept.queued");
            answered(answer).await
        })
    }

    fn find_patients(&self, tenant: &str, keys: Vec<Hash>) -> Pending<'_, Vec<PatientId>> {
        let tenant = tenant.to_owned();
        Box::pin(
            self.shared
                .read(move |connection, _| read::find_patients(connection, &tenant, &keys)),
        )
    }

    fn patient(&self, tenant: &str, id: PatientId) -> Pending<'_, Option<KnownPatient>> {
        let tenant = tenant.to_owned();
        Box::pin(
            self.shared
                .read(move |connection, _| read::patient(connection, &tenant, id)),
        )
    }

    fn search(&self, search: Search) -> Pending<'_, Page> {
        Box::pin(
            self.shared
                .read(move |connection, _| read::search(connection, &search)),
        )
    }

    fn read(
        &self,
        tenant: &str,
        kind: &str,
        id: &str,
        version: Option<i64>,
    ) -> Pending<'_, Option<HeldResource>> {
        let (tenant, kind, id) = (tenant.to_owned(), kind.to_owned(), id.to_owned());
        Box::pin(
            self.shared
                .read(move |connection, _| read::read(connection, &tenant, &kind, &id, version)),
        )
    }

    fn read_sent(
        &self,
        tenant: &str,
        client: &str,
        kind: &str,
        id: &str,
        version: Option<i64>,
    ) -> Pending<'_, Option<HeldResource>> {
        let (tenant, client) = (tenant.to_owned(), client.to_owned());
        let (kind, id) = (kind.to_owned(), id.to_owned());
        Box::pin(self.shared.read(move |connection, _| {
            read::read_sent(connection, &tenant, &client, &kind, &id, version)
        }))
    }

    fn target(&self, name: &str, base_url: &str) -> Pending<'_, TargetId> {
        let (name, base_url) = (name.to_owned(), base_url.to_owned());
        Box::pin(
            self.shared
                .write(move |connection| outbox::target(connection, &name, &base_url)),
        )
    }

    fn targets(&self) -> Pending<'_, Vec<TargetRow>> {
        Box::pin(
            self.shared
                .read(|connection, _| outbox::targets(connection)),
        )
    }

    fn hold(&self, target: TargetId, hold: Option<Hold>, now: OffsetDateTime) -> Pending<'_, ()> {
        let now = codec::millis(now);
        Box::pin(
            self.shared
                .write(move |connection| outbox::hold(connection, target, hold, now)),
        )
    }

    fn lease(
        &self,
        target: TargetId,
        now: OffsetDateTime,
        limit: usize,
    ) -> Pending<'_, Vec<Leased>> {
        let many = u64::try_from(limit).unwrap_or(u64::MAX);
        let turn = self.shared.leases.fetch_add(many, Ordering::Relaxed);
        Box::pin(self.shared.lease(target, now, limit, Pick::InTurn(turn)))
    }

    fn probe(&self, target: TargetId, now: OffsetDateTime) -> Pending<'_, Vec<Leased>> {
        Box::pin(self.shared.lease(target, now, 1, Pick::Probe))
    }

    fn settle(&self, leased: &Leased, settlement: Settlement) -> Pending<'_, bool> {
        let (me, leased) = (self.shared.replica.clone(), leased.clone());
        Box::pin(self.shared.write(move |connection| {
            let settled = outbox::settle(connection, &me, &leased, &settlement);
            crash_point!("courier.settle_uncommitted");
            settled
        }))
    }

    fn release(&self, leased: &Leased, now: OffsetDateTime) -> Pending<'_, bool> {
        let (me, leased) = (self.shared.replica.clone(), leased.clone());
        let now = codec::millis(now);
        Box::pin(
            self.shared
                .write(move |connection| outbox::release(connection, &me, &leased, now)),
        )
    }

    fn deliveries(&self, filter: DeliveryFilter) -> Pending<'_, Vec<DeliverySummary>> {
        Box::pin(
            self.shared
                .read(move |connection, _| outbox::list(connection, &filter)),
        )
    }

    fn delivery(&self, id: i64) -> Pending<'_, Option<DeliveryDetail>> {
        Box::pin(
            self.shared
                .read(move |connection, _| outbox::show(connection, id)),
        )
    }

    fn retry(&self, filter: DeliveryFilter, now: OffsetDateTime) -> Pending<'_, usize> {
        let now = codec::millis(now);
        Box::pin(
            self.shared
                .write(move |connection| outbox::retry(connection, &filter, now)),
        )
    }

    fn discard(&self, id: i64, now: OffsetDateTime) -> Pending<'_, bool> {
        let now = codec::millis(now);
        Box::pin(
            self.shared
                .write(move |connection| outbox::discard(connection, id, now)),
        )
    }

    fn expire(&self, now: OffsetDateTime) -> Pending<'_, usize> {
        let now = codec::millis(now);
        Box::pin(
            self.shared
                .write(move |connection| accept::expire(connection, now)),
        )
    }

    fn forget(
        &self,
        retention: Retention,
        now: OffsetDateTime,
        after: PatientId,
    ) -> Pending<'_, Option<PatientId>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            // Looked for where nobody has to wait for it.
            let found = shared
                .read(move |connection, _| removal::look(connection, &retention, now, after))
                .await?;
            for due in found.due {
                shared
                    .write(move |connection| removal::forget(connection, due))
                    .await?;
            }
            if let Some(before) = found.cards {
                shared
                    .write(move |connection| removal::forget_cards(connection, before))
                    .await?;
            }
            Ok(found.next)
        })
    }

    fn erase(&self, tenant: &str, keys: Vec<Hash>) -> Pending<'_, usize> {
        let (shared, tenant) = (Arc::clone(&self.shared), tenant.to_owned());
        Box::pin(async move {
            let queue = shared.queue()?;
            let answer =
                queue.run_and_cut(move |connection| removal::erase(connection, &tenant, &keys))?;
            answered(answer).await
        })
    }

    fn back_up(&self, to: PathBuf) -> Pending<'_, ()> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            tokio::task::spawn_blocking(move || backup::copy(&shared.path, &to, &shared.key))
                .await
                .unwrap_or(Err(StoreError::Closed))
        })
    }

    fn figures(&self) -> Pending<'_, Figures> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            let wal = open::beside(&shared.path, "-wal");
            let figures = shared
                .read(|connection, _| read::figures(connection))
                .await?;
            Ok(Figures {
                queue_length: shared.status.queued.load(Ordering::Relaxed),
                wal_bytes: std::fs::metadata(wal).map_or(0, |wal| wal.len()),
                free_bytes: disk::free(open::folder(&shared.path)),
                groups: shared.status.groups.load(Ordering::Relaxed),
                commits: shared.status.commits.load(Ordering::Relaxed),
                ..figures
            })
        })
    }

    fn ready(&self) -> bool {
        let status = &self.shared.status;
        let open = lock(&self.shared.queue).is_some();
        open && status.ready.load(Ordering::Relaxed) && !status.low.load(Ordering::Relaxed)
    }

    fn failure(&self) -> watch::Receiver<Option<Fatal>> {
        self.shared.status.fatal.subscribe()
    }

    fn close(&self) -> Pending<'_, ()> {
        Box::pin(async move {
            drop(lock(&self.shared.queue).take());
            // Readers hold the log; without them it can be cut.
            lock(&self.shared.readers).clear();
            let writer = lock(&self.writer).take();
            if let Some(writer) = writer {
                tokio::task::spawn_blocking(move || writer.join())
                    .await
                    .map_err(|_| StoreError::Closed)?
                    .map_err(|_| StoreError::Closed)?;
            }
            Ok(())
        })
    }
}
