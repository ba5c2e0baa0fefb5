//! The engine for several processes: PostgreSQL, with a pool of connections.
//!
//! It has threads of its own: a worker of the door that is busy holds up neither a transaction
//! nor the beat that keeps our lanes.

mod accept;
mod cards;
mod claim;
mod connection;
pub mod look;
mod open;
mod outbox;
mod read;
mod removal;
mod replica;
mod resolve;
mod rows;

use std::{
    future::Future,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use deadpool_postgres::Pool;
use time::OffsetDateTime;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    sync::watch,
    time::MissedTickBehavior,
};

pub use self::open::{Options, Timing};
use self::{
    connection::{read, write},
    open::Server,
    replica::Replica,
};
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

/// A store on a PostgreSQL server.
pub struct Postgres {
    shared: Arc<Shared>,
    handle: Handle,
    runtime: Mutex<Option<Runtime>>,
}

struct Shared {
    key: IdentityKey,
    restored: bool,
    replica: Arc<Replica>,
    /// Submissions, everything else, and the beat do not wait for each other's connections.
    accepting: Pool,
    working: Pool,
    beating: Pool,
    queue: usize,
    queue_bytes: usize,
    queued: AtomicUsize,
    queued_bytes: AtomicUsize,
    commits: AtomicU64,
    leases: AtomicU64,
    /// One lease at a time: what is held must be known before strays are looked for.
    leasing: tokio::sync::Mutex<()>,
    closed: AtomicBool,
    fatal: watch::Sender<Option<Fatal>>,
    /// When it was opened, by both clocks.
    opened: (OffsetDateTime, std::time::Instant),
}

impl Postgres {
    /// Connect, migrate, and take part. Blocks; must not be called on an async worker.
    pub fn open(options: &Options) -> std::result::Result<Self, OpenError> {
        let server = Server::new(&options.url)?;
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.clamp(2, 8))
            .thread_name("store-postgres")
            .enable_all()
            .build()
            .map_err(|error| OpenError::Server {
                database: server.name().to_owned(),
                what: error.to_string(),
            })?;
        let opened = std::time::Instant::now();
        let key = runtime.block_on(open::open(&server, options))?;
        // One for the beat, a third for reads and the outbox, the rest for submissions.
        let others = (options.connections / 3).max(1);
        let accepting = options.connections.saturating_sub(others + 1).max(1);
        let shared = Arc::new(Shared {
            key,
            restored: options.restored,
            replica: Arc::new(Replica::new(
                options.replica.clone(),
                options.app_version.clone(),
                options.timing,
            )),
            accepting: server.pool(accepting)?,
            working: server.pool(others)?,
            beating: server.pool(1)?,
            queue: options.queue,
            queue_bytes: options.queue_bytes,
            queued: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            commits: AtomicU64::new(0),
            leases: AtomicU64::new(0),
            leasing: tokio::sync::Mutex::new(()),
            closed: AtomicBool::new(false),
            fatal: watch::Sender::new(None),
            opened: (options.now, opened),
        });
        runtime.spawn(beat(Arc::clone(&shared)));
        Ok(Self {
            shared,
            handle: runtime.handle().clone(),
            runtime: Mutex::new(Some(runtime)),
        })
    }

    /// Work on our own threads: it goes on when nobody waits for it any more.
    fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Pending<'_, T> {
        let closed = self.shared.closed.load(Ordering::Acquire);
        let task = (!closed).then(|| self.handle.spawn(work));
        Box::pin(async move {
            match task {
                None => Err(StoreError::Closed),
                Some(task) => match task.await {
                    Ok(result) => result,
                    Err(error) if error.is_panic() => Err(StoreError::ModelPanicked),
                    Err(_) => Err(StoreError::Closed),
                },
            }
        })
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let runtime = self
            .runtime
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
    }
}

/// Beats until the store is closed.
async fn beat(shared: Arc<Shared>) {
    let mut every = tokio::time::interval(shared.replica.every());
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !shared.closed.load(Ordering::Acquire) {
        every.tick().await;
        let (at, since) = shared.opened;
        let now = codec::millis(at + since.elapsed());
        // Without a beat we go quiet by ourselves.
        if let Err(error) = shared.replica.beat(&shared.beating, now).await {
            tracing::warn!(%error, "no beat");
        }
    }
}

/// A place in the queue.
struct Place {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.queued.fetch_sub(1, Ordering::Relaxed);
        self.shared
            .queued_bytes
            .fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Shared {
    fn enter(self: &Arc<Self>, bytes: usize) -> Result<Place> {
        let queued = self.queued.fetch_add(1, Ordering::Relaxed);
        let before = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let place = Place {
            shared: Arc::clone(self),
            bytes,
        };
        if queued >= self.queue || before.saturating_add(bytes) > self.queue_bytes {
            return Err(StoreError::Busy);
        }
        Ok(place)
    }

    async fn lease(
        &self,
        target: TargetId,
        now: i64,
        limit: usize,
        pick: Pick,
    ) -> Result<Vec<Leased>> {
        let _one = self.leasing.lock().await;
        if !self.replica.is_alive() {
            return Ok(Vec::new());
        }
        let me = self.replica.id();
        let mut leased = write(&self.working, |connection| {
            let (me, replica) = (me.clone(), Arc::clone(&self.replica));
            Box::pin(async move {
                replica.find_stray(connection).await?;
                outbox::lease(connection, &me, target, now, limit, pick).await
            })
        })
        .await;
        match &mut leased {
            Ok(leased) => {
                for one in &mut *leased {
                    one.verify_first |= self.restored;
                }
                self.replica.hold(leased);
            }
            // It may stand all the same.
            Err(_) => self.replica.lost_count(),
        }
        leased
    }
}

impl Store for Postgres {
    fn identity_key(&self) -> &IdentityKey {
        &self.shared.key
    }

    fn accept(&self, incoming: Arc<Incoming>) -> Pending<'_, Accepted> {
        let shared = Arc::clone(&self.shared);
        let place = match shared.enter(incoming.weight()) {
            Ok(place) => place,
            Err(error) => return Box::pin(async move { Err(error) }),
        };
        self.spawn(async move {
            let accepted = accept::accept(&shared.accepting, &incoming).await;
            if matches!(accepted, Ok(Accepted::New { .. })) {
                shared.commits.fetch_add(1, Ordering::Relaxed);
            }
            drop(place);
            accepted
        })
    }

    fn find_patients(&self, tenant: &str, keys: Vec<Hash>) -> Pending<'_, Vec<PatientId>> {
        let (shared, tenant) = (Arc::clone(&self.shared), tenant.to_owned());
        self.spawn(async move {
            read(&shared.working, |connection| {
                Box::pin(async move { read::find_patients(connection, &tenant, &keys).await })
            })
            .await
        })
    }

    fn patient(&self, tenant: &str, id: PatientId) -> Pending<'_, Option<KnownPatient>> {
        let (shared, tenant) = (Arc::clone(&self.shared), tenant.to_owned());
        self.spawn(async move {
            read(&shared.working, |connection| {
                Box::pin(async move { read::patient(connection, &tenant, id).await })
            })
            .await
        })
    }

    fn search(&self, search: Search) -> Pending<'_, Page> {
        let shared = Arc::clone(&self.shared);
        self.spawn(async move {
            read(&shared.working, |connection| {
                Box::pin(async move { read::search(connection, &search).await })
            })
            .await
        })
    }

    fn read(
        &self,
        tenant: &str,
        kind: &str,
        id: &str,
        version: Option<i64>,
    ) -> Pending<'_, Option<HeldResource>> {
        let shared = Arc::clone(&self.shared);
        let (tenant, kind, id) = (tenant.to_owned(), kind.to_owned(), id.to_owned());
        self.spawn(async move {
            read(&shared.working, |connection| {
                Box::pin(async move { read::read(connection, &tenant, &kind, &id, version).await })
            })
            .await
        })
    }

    fn read_sent(
        &self,
        tenant: &str,
        client: &str,
        kind: &str,
        id: &str,
        version: Option<i64>,
    ) -> Pending<'_, Option<HeldResource>> {
        let shared = Arc::clone(&self.shared);
        let (tenant, client) = (tenant.to_owned(), client.to_owned());
        let (kind, id) = (kind.to_owned(), id.to_owned());
        self.spawn(async move {
            read(&shared.working, |connection| {
                Box::pin(async move {
                    read::read_sent(connection, &tenant, &client, &kind, &id, version).await
                })
            })
            .await
        })
    }

    fn target(&self, name: &str, base_url: &str) -> Pending<'_, TargetId> {
        let shared = Arc::clone(&self.shared);
        let (name, base_url) = (name.to_owned(), base_url.to_owned());
        self.spawn(async move {
            write(&shared.working, |connection| {
                let (name, base_url) = (name.clone(), base_url.clone());
                Box::pin(async move { outbox::target(connection, &name, &base_url).await })
            })
            .await
        })
    }

    fn targets(&self) -> Pending<'_, Vec<TargetRow>> {
        let shared = Arc::clone(&self.shared);
        self.spawn(async move {
            read(&shared.working, |connection| {
                Box::pin(outbox::targets(connection))
            })
            .await
        })
    }

    fn hold(&self, target: TargetId, hold: Option<Hold>, now: OffsetDateTime) -> Pending<'_, ()> {
        let shared = Arc::clone(&self.shared);
        let now = codec::millis(now);
        self.spawn(async move {
            write(&shared.working, move |connection| {
                Box::pin(outbox::hold(connection, target, hold, now))
            })
            .await
        })
    }

    fn lease(
        &self,
        target: TargetId,
        now: OffsetDateTime,
        limit: usize,
    ) -> Pending<'_, Vec<Leased>> {
        let shared = Arc::clone(&self.shared);
        let now = codec::millis(now);
        let many = u64::try_from(limit).unwrap_or(u64::MAX);
        let pick = Pick::InTurn(shared.leases.fetch_add(many, Ordering::Relaxed));
        self.spawn(async move { shared.lease(target, now, limit, pick).await })
    }

    fn probe(&self, target: TargetId, now: OffsetDateTime) -> Pending<'_, Vec<Leased>> {
        let shared = Arc::clone(&self.shared);
        let now = codec::millis(now);
        self.spawn(async move { shared.lease(target, now, 1, Pick::Probe).await })
    }

    fn may_send(&self) -> bool {
        self.shared.replica.is_alive()
    }

    fn replicas(&self) -> usize {
        self.shared.replica.live()
    }

    fn settle(&self, leased: &Leased, settlement: Settlement) -> Pending<'_, bool> {
        let shared = Arc::clone(&self.shared);
        let work = Arc::new((shared.replica.id(), leased.clone(), settlement));
        self.spawn(async move {
            let result = write(&shared.working, |connection| {
                let work = Arc::clone(&work);
                Box::pin(async move {
                    let (me, leased, settlement) = &*work;
                    let settled = outbox::settle(connection, me, leased, settlement).await;
                    crash_point!("courier.settle_uncommitted");
                    settled
                })
            })
            .await;
            shared.replica.let_go(&work.1, result.is_ok());
            result
        })
    }

    fn release(&self, leased: &Leased, now: OffsetDateTime) -> Pending<'_, bool> {
        let shared = Arc::clone(&self.shared);
        let work = Arc::new((shared.replica.id(), leased.clone()));
        let now = codec::millis(now);
        self.spawn(async move {
            let result = write(&shared.working, |connection| {
                let work = Arc::clone(&work);
                Box::pin(async move {
                    let (me, leased) = &*work;
                    outbox::release(connection, me, leased, now).await
                })
            })
            .await;
            shared.replica.let_go(&work.1, result.is_ok());
            result
        })
    }

    fn deliveries(&self, filter: DeliveryFilter) -> Pending<'_, Vec<DeliverySummary>> {
        let shared = Arc::clone(&self.shared);
        self.spawn(async move {
            read(&shared.working, |connection| {
                Box::pin(async move { outbox::list(connection, &filter).await })
            })
            .await
        })
    }

    fn delivery(&self, id: i64) -> Pending<'_, Option<DeliveryDetail>> {
        let shared = Arc::clone(&self.shared);
        self.spawn(async move {
            read(&shared.working, |connection| {
                Box::pin(outbox::show(connection, id))
            })
            .await
        })
    }

    fn retry(&self, filter: DeliveryFilter, now: OffsetDateTime) -> Pending<'_, usize> {
        let shared = Arc::clone(&self.shared);
        let now = codec::millis(now);
        let filter = DeliveryFilter {
            state: Some("parked".to_owned()),
            ..filter
        };
        self.spawn(async move {
            let parked = read(&shared.working, |connection| {
                Box::pin(async move { outbox::list(connection, &filter).await })
            })
            .await?;
            outbox::retry(&shared.working, &parked, now).await
        })
    }

    fn discard(&self, id: i64, now: OffsetDateTime) -> Pending<'_, bool> {
        let shared = Arc::clone(&self.shared);
        let now = codec::millis(now);
        self.spawn(async move {
            write(&shared.working, move |connection| {
                Box::pin(outbox::discard(connection, id, now))
            })
            .await
        })
    }

    fn expire(&self, now: OffsetDateTime) -> Pending<'_, usize> {
        let shared = Arc::clone(&self.shared);
        let now = codec::millis(now);
        self.spawn(async move {
            write(&shared.working, move |connection| {
                Box::pin(accept::expire(connection, now))
            })
            .await
        })
    }

    fn forget(
        &self,
        retention: Retention,
        now: OffsetDateTime,
        after: PatientId,
    ) -> Pending<'_, Option<PatientId>> {
        let shared = Arc::clone(&self.shared);
        self.spawn(async move {
            let found = read(&shared.working, |connection| {
                Box::pin(async move { removal::look(connection, &retention, now, after).await })
            })
            .await?;
            for due in found.due {
                write(&shared.working, move |connection| {
                    Box::pin(removal::forget(connection, due))
                })
                .await?;
            }
            if let Some(before) = found.cards {
                write(&shared.working, move |connection| {
                    Box::pin(removal::forget_cards(connection, before))
                })
                .await?;
            }
            Ok(found.next)
        })
    }

    fn erase(&self, tenant: &str, keys: Vec<Hash>) -> Pending<'_, usize> {
        let shared = Arc::clone(&self.shared);
        let whose = Arc::new((tenant.to_owned(), keys));
        self.spawn(async move {
            write(&shared.working, |connection| {
                let whose = Arc::clone(&whose);
                Box::pin(async move {
                    let (tenant, keys) = &*whose;
                    removal::erase(connection, tenant, keys).await
                })
            })
            .await
        })
    }

    fn back_up(&self, _to: PathBuf) -> Pending<'_, ()> {
        Box::pin(async {
            Err(StoreError::Refused(
                "a PostgreSQL database is copied with its own tools, pg_dump for example"
                    .to_owned(),
            ))
        })
    }

    fn figures(&self) -> Pending<'_, Figures> {
        let shared = Arc::clone(&self.shared);
        self.spawn(async move {
            let figures = read(&shared.working, |connection| {
                Box::pin(read::figures(connection))
            })
            .await?;
            Ok(Figures {
                queue_length: shared.queued.load(Ordering::Relaxed),
                commits: shared.commits.load(Ordering::Relaxed),
                ..figures
            })
        })
    }

    fn ready(&self) -> bool {
        !self.shared.closed.load(Ordering::Acquire) && self.shared.replica.is_alive()
    }

    fn failure(&self) -> watch::Receiver<Option<Fatal>> {
        self.shared.fatal.subscribe()
    }

    fn close(&self) -> Pending<'_, ()> {
        const LOOK: Duration = Duration::from_millis(10);
        let shared = Arc::clone(&self.shared);
        let was_closed = shared.closed.swap(true, Ordering::AcqRel);
        let task = self.handle.spawn(async move {
            while shared.queued.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(LOOK).await;
            }
            let left = if was_closed {
                Ok(())
            } else {
                shared.replica.leave(&shared.working).await
            };
            for pool in [&shared.accepting, &shared.working, &shared.beating] {
                pool.close();
            }
            // Whoever is not told finds out by watching.
            if let Err(error) = left {
                tracing::warn!(%error, "our lanes are free only when others have watched us stand still");
            }
        });
        Box::pin(async move { task.await.map_err(|_| StoreError::Closed) })
    }
}
