//! Floor 2, what must not be lost: inbox, timeline, findings, outbox. The only SQL.
//!
//! [`Store`] is the list of use cases; [`sqlite`] is the embedded engine, [`postgres`] the one
//! that several processes share. What a submission changes is worked out by pure functions
//! ([`submission`] says with what), so that an engine only looks up and writes, and every engine
//! passes the same tests.

pub mod cards;
mod codec;
pub mod delivery;
pub mod error;
pub mod keys;
pub mod lease;
mod plan;
pub mod postgres;
pub mod reading;
pub mod removal;
mod row;
pub mod sqlite;
pub mod submission;

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

use data_encoding::HEXLOWER;
use futures_util::future::BoxFuture;
use time::OffsetDateTime;
use tokio::sync::watch;

pub use self::error::{Fatal, OpenError, Result, StoreError};
use self::{
    delivery::Hold,
    keys::Hash,
    lease::{Leased, PatientId, Settlement, TargetId},
    reading::{
        DeliveryDetail, DeliveryFilter, DeliverySummary, Figures, HeldResource, KnownPatient, Page,
        Search, TargetRow,
    },
    removal::Retention,
    submission::{Accepted, Incoming},
};

/// An answer of the store.
pub type Pending<'a, T> = BoxFuture<'a, Result<T>>;

/// The secret that ids are derived with. It never leaves the process and never shows.
#[derive(Clone)]
pub struct IdentityKey([u8; 32]);

impl IdentityKey {
    /// From its bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// From its file: 64 hex digits.
    pub fn read(path: &Path) -> std::result::Result<Self, OpenError> {
        let wrong = |what: &str| OpenError::IdentityKey {
            path: path.to_owned(),
            what: what.to_owned(),
        };
        let mut text = String::new();
        let file = File::open(path).map_err(|source| OpenError::Io {
            path: path.to_owned(),
            source,
        })?;
        file.take(256)
            .read_to_string(&mut text)
            .map_err(|_| wrong("is no identity key"))?;
        let bytes = HEXLOWER
            .decode(text.trim().to_ascii_lowercase().as_bytes())
            .ok()
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .ok_or_else(|| wrong("is no identity key: 64 hex digits are expected"))?;
        Ok(Self::new(bytes))
    }

    /// The bytes, to make ids with.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// What a database keeps of it: enough to refuse another key.
    pub(crate) fn fingerprint(&self) -> Hash {
        keys::digest(&[b"marrowflag identity key", &self.0])
    }
}

impl std::fmt::Debug for IdentityKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("[identity key]")
    }
}

/// What must not be lost.
pub trait Store: Send + Sync {
    /// The secret that ids are derived with.
    fn identity_key(&self) -> &IdentityKey;

    /// Accept a submission: one transaction; the answer comes after its commit. It is carried
    /// out even when nobody waits for the answer any more.
    fn accept(&self, incoming: Arc<Incoming>) -> Pending<'_, Accepted>;

    /// Patients that any of these keys leads to.
    fn find_patients(&self, tenant: &str, keys: Vec<Hash>) -> Pending<'_, Vec<PatientId>>;

    /// Everything known of a patient of this tenant.
    fn patient(&self, tenant: &str, id: PatientId) -> Pending<'_, Option<KnownPatient>>;

    /// Current versions of our own resources.
    fn search(&self, search: Search) -> Pending<'_, Page>;

    /// A version of a resource of ours; without one the current.
    fn read(
        &self,
        tenant: &str,
        kind: &str,
        id: &str,
        version: Option<i64>,
    ) -> Pending<'_, Option<HeldResource>>;

    /// A version of a resource that was sent: by our id, or by the one this client PUT it under.
    fn read_sent(
        &self,
        tenant: &str,
        client: &str,
        kind: &str,
        id: &str,
        version: Option<i64>,
    ) -> Pending<'_, Option<HeldResource>>;

    /// The target with this name and address, made when it is new. An address that changed is
    /// another target.
    fn target(&self, name: &str, base_url: &str) -> Pending<'_, TargetId>;

    /// Targets there are or were.
    fn targets(&self) -> Pending<'_, Vec<TargetRow>>;

    /// Hold a target, or end its hold.
    fn hold(&self, target: TargetId, hold: Option<Hold>, now: OffsetDateTime) -> Pending<'_, ()>;

    /// Take lanes that are due, each with its oldest open delivery.
    fn lease(
        &self,
        target: TargetId,
        now: OffsetDateTime,
        limit: usize,
    ) -> Pending<'_, Vec<Leased>>;

    /// Take one of the most urgent lanes that are due, by chance: to see whether a target works.
    fn probe(&self, target: TargetId, now: OffsetDateTime) -> Pending<'_, Vec<Leased>>;

    /// Whether a request may start under the leases that were given. Not when others may have
    /// taken them over before its answer is here.
    fn may_send(&self) -> bool {
        true
    }

    /// Processes that work on this database, this one included: what a target is asked to take is
    /// divided by them.
    fn replicas(&self) -> usize {
        1
    }

    /// Say how a send ended. `false`: the lane was taken by another meanwhile, nothing was kept.
    fn settle(&self, leased: &Leased, settlement: Settlement) -> Pending<'_, bool>;

    /// Give a lane back untried. `false`: it was taken by another meanwhile.
    fn release(&self, leased: &Leased, now: OffsetDateTime) -> Pending<'_, bool>;

    /// Deliveries, newest first.
    fn deliveries(&self, filter: DeliveryFilter) -> Pending<'_, Vec<DeliverySummary>>;

    /// One delivery with its items and attempts.
    fn delivery(&self, id: i64) -> Pending<'_, Option<DeliveryDetail>>;

    /// Try parked deliveries again; how many.
    fn retry(&self, filter: DeliveryFilter, now: OffsetDateTime) -> Pending<'_, usize>;

    /// Give a delivery up. `false`: there is none that could be given up.
    fn discard(&self, id: i64, now: OffsetDateTime) -> Pending<'_, bool>;

    /// Forget receipts and attempts whose time is over, a few hundred at a time; how many. To be
    /// called now and then, again at once while it finds something.
    fn expire(&self, now: OffsetDateTime) -> Pending<'_, usize>;

    /// Forget what is older than it is kept, of the next patients after `after` (0: from the
    /// first); where to go on, `None` after the last.
    fn forget(
        &self,
        retention: Retention,
        now: OffsetDateTime,
        after: PatientId,
    ) -> Pending<'_, Option<PatientId>>;

    /// Remove everything about the patients that any of these keys leads to; how many they were.
    /// Once it is answered nothing of them is in SQLite's files, or in a row of PostgreSQL.
    fn erase(&self, tenant: &str, keys: Vec<Hash>) -> Pending<'_, usize>;

    /// A consistent copy of the database as the new file `to`, with the identity key beside it.
    fn back_up(&self, to: PathBuf) -> Pending<'_, ()>;

    /// Figures for metrics.
    fn figures(&self) -> Pending<'_, Figures>;

    /// Whether it takes submissions.
    fn ready(&self) -> bool;

    /// Turns to the failure after which the process has to end.
    fn failure(&self) -> watch::Receiver<Option<Fatal>>;

    /// Finish what is queued, and close.
    fn close(&self) -> Pending<'_, ()>;
}
