//! The one thread that writes: natural group commit.
//!
//! It takes what is queued, does it in one transaction with a savepoint for each piece of work,
//! and acknowledges after COMMIT. No timer: while one group is written to disk the next queues up.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::{Duration, Instant},
};

use rusqlite::Connection;
use tokio::sync::{oneshot, watch};

use super::{
    disk,
    open::folder,
    rows::{DISK_FULL, failure},
};
use crate::{
    fault::{crash_point, crash_point_meanwhile},
    store::error::{Fatal, Result, StoreError},
};

/// Work of a group, and bytes of their bodies: more waits for the next group.
const GROUP: usize = 256;
const GROUP_BYTES: usize = 8 << 20;
/// Nothing was written for this long: the log is written back.
const IDLE: Duration = Duration::from_secs(1);
/// While nothing can be written, try again this often.
const PROBE: Duration = Duration::from_secs(5);
/// A file that cannot be opened or written for so long is a failure for good.
const UNWRITABLE: Duration = Duration::from_mins(1);
/// Waited longer than this in the queue: not executed.
const WAIT: Duration = Duration::from_secs(5);
/// Said when only what is under way is still settled.
const DISK_LOW: &str = "the disk is almost full";
/// The log is cut back when it is larger.
const WAL_LIMIT: u64 = 128 << 20;

/// Called after COMMIT, with what went wrong with the whole group.
type Acknowledge = Box<dyn FnOnce(Option<StoreError>) + Send>;
/// Does the work (or is told why not), and says what went wrong in it that is not its own fault.
type Work = Box<dyn FnOnce(Result<&Connection>) -> (Acknowledge, Option<StoreError>) + Send>;

struct Job {
    work: Work,
    bytes: usize,
    queued: Instant,
    /// Whether it may be dropped when it waited too long (nobody was promised anything).
    expires: bool,
    submission: bool,
    /// Whether it is done only when the log holds nothing of before.
    cuts_log: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Submission,
    Own,
    Removal,
}

/// What others may know of the writer.
pub(super) struct Status {
    pub(super) queued: AtomicUsize,
    pub(super) queued_bytes: AtomicUsize,
    pub(super) groups: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) ready: AtomicBool,
    /// Too little room is left on the disk to take anything more on.
    pub(super) low: AtomicBool,
    pub(super) fatal: watch::Sender<Option<Fatal>>,
}

impl Status {
    /// Nothing more may be acknowledged.
    pub(super) fn give_up(&self, fatal: Fatal) {
        self.ready.store(false, Ordering::Relaxed);
        self.fatal.send_replace(Some(fatal));
    }
}

/// Queue of the writer: the sending side.
#[derive(Clone)]
pub(super) struct Queue {
    sender: Sender<Job>,
    pub(super) status: Arc<Status>,
    limit: usize,
    bytes_limit: usize,
}

impl Queue {
    /// A queue, and its other end for [`run`].
    pub(super) fn new(limit: usize, bytes_limit: usize) -> (Self, Consumer) {
        let (sender, receiver) = channel();
        let status = Arc::new(Status {
            queued: AtomicUsize::new(0),
            queued_bytes: AtomicUsize::new(0),
            groups: AtomicU64::new(0),
            commits: AtomicU64::new(0),
            ready: AtomicBool::new(true),
            low: AtomicBool::new(false),
            fatal: watch::Sender::new(None),
        });
        let consumer = Consumer {
            receiver,
            status: Arc::clone(&status),
        };
        (
            Self {
                sender,
                status,
                limit,
                bytes_limit,
            },
            consumer,
        )
    }

    /// A submission: refused when the queue is full, dropped when it waited too long.
    pub(super) fn submit<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        let status = &self.status;
        if status.low.load(Ordering::Relaxed) {
            return Err(StoreError::NoStore(DISK_LOW));
        }
        if status.queued.load(Ordering::Relaxed) >= self.limit
            || status
                .queued_bytes
                .load(Ordering::Relaxed)
                .saturating_add(bytes)
                > self.bytes_limit
        {
            return Err(StoreError::Busy);
        }
        self.push(bytes, Kind::Submission, work)
    }

    /// Work of our own: bounded by those who ask for it, never refused.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        self.push(0, Kind::Own, work)
    }

    /// The same, acknowledged only once the log was brought into the file and cut: what it removed
    /// is then nowhere any more.
    pub(super) fn run_and_cut<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        self.push(0, Kind::Removal, work)
    }

    fn push<T: Send + 'static>(
        &self,
        bytes: usize,
        kind: Kind,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T>>> {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            work: Box::new(move |connection| {
                let result = connection.and_then(|connection| in_savepoint(connection, work));
                let fault = result
                    .as_ref()
                    .err()
                    .filter(|error| is_of_store(error))
                    .cloned();
                let acknowledge: Acknowledge = Box::new(move |failed| {
                    // Whoever asked may have gone; what was done stays done.
                    let _ = answer.send(failed.map_or(result, Err));
                });
                (acknowledge, fault)
            }),
            bytes,
            queued: Instant::now(),
            expires: kind == Kind::Submission,
            submission: kind == Kind::Submission,
            cuts_log: kind == Kind::Removal,
        };
        self.status.queued.fetch_add(1, Ordering::Relaxed);
        self.status.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.sender.send(job).map_err(|_| StoreError::Closed)?;
        Ok(answered)
    }
}

/// The other end of a [`Queue`].
pub(super) struct Consumer {
    receiver: Receiver<Job>,
    status: Arc<Status>,
}

/// Whether the writer gave up.
pub(super) fn failed(consumer: &Consumer) -> bool {
    consumer.status.fatal.borrow().is_some()
}

/// Do `work`, or nothing of it.
pub(super) fn in_savepoint<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T>,
) -> Result<T> {
    execute(connection, "SAVEPOINT work")?;
    let result = catch_unwind(AssertUnwindSafe(|| work(connection)))
        .unwrap_or(Err(StoreError::ModelPanicked));
    if result.is_err() && !connection.is_autocommit() {
        execute(connection, "ROLLBACK TO work")?;
    }
    if !connection.is_autocommit() {
        execute(connection, "RELEASE work")?;
    }
    result
}

pub(super) fn execute(connection: &Connection, sql: &str) -> Result<usize> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.execute([]))
        .map_err(failure)
}

/// Runs until every [`Queue`] is gone. `wal` is the path of the log.
pub(super) fn run(connection: &Connection, consumer: &Consumer, wal: &Path) {
    let status = &consumer.status;
    let mut unwritable_since: Option<Instant> = None;
    // Since when the log has something to write back; a courier that only looks writes nothing.
    let mut written: Option<Instant> = None;
    loop {
        let low = disk::is_low(folder(wal));
        if low != status.low.swap(low, Ordering::Relaxed) {
            tracing::warn!(low, "room on the disk of the database");
        }
        let wait = if unwritable_since.is_some() {
            PROBE
        } else {
            IDLE
        };
        let first = match consumer.receiver.recv_timeout(wait) {
            Ok(job) => job,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                if status.fatal.borrow().is_some() {
                    continue;
                }
                if unwritable_since.is_some() {
                    let probe = probe(connection);
                    judge(status, &mut unwritable_since, probe.err().as_ref());
                } else if written.take().is_some() {
                    judge(
                        status,
                        &mut unwritable_since,
                        checkpoint(connection).err().as_ref(),
                    );
                }
                continue;
            }
        };
        let group = gather(consumer, first);
        let outcome = match *status.fatal.borrow() {
            Some(fatal) => Err(StoreError::Fatal(fatal)),
            None => Ok(()),
        };
        let outcome = outcome.and_then(|()| begin(connection));
        let changes = connection.total_changes();
        let submissions = group.iter().filter(|job| job.submission).count() as u64;
        let (acknowledgements, outcome) = commit(connection, group, outcome);
        if outcome.is_ok() {
            status.groups.fetch_add(1, Ordering::Relaxed);
            status.commits.fetch_add(submissions, Ordering::Relaxed);
        }
        if submissions > 0 {
            crash_point!("accept.committed_unacknowledged");
        }
        let cut = if outcome.is_ok() && acknowledgements.iter().any(|(cuts, _)| *cuts) {
            checkpoint(connection)
        } else {
            Ok(())
        };
        judge(
            status,
            &mut unwritable_since,
            cut.as_ref().err().or(outcome.as_ref().err()),
        );
        for (cuts, acknowledge) in acknowledgements {
            let uncut = cut.as_ref().err().filter(|_| cuts);
            acknowledge(outcome.as_ref().err().or(uncut).cloned());
        }
        if connection.total_changes() != changes {
            written = Some(Instant::now());
        }
        let idle = written.is_some_and(|since| since.elapsed() >= IDLE);
        if idle || std::fs::metadata(wal).is_ok_and(|wal| wal.len() > WAL_LIMIT) {
            written = None;
            judge(
                status,
                &mut unwritable_since,
                checkpoint(connection).err().as_ref(),
            );
        }
    }
}

fn gather(consumer: &Consumer, first: Job) -> Vec<Job> {
    let mut bytes = first.bytes;
    let mut group = vec![first];
    while group.len() < GROUP && bytes < GROUP_BYTES {
        let Ok(job) = consumer.receiver.try_recv() else {
            break;
        };
        bytes += job.bytes;
        group.push(job);
    }
    consumer
        .status
        .queued
        .fetch_sub(group.len(), Ordering::Relaxed);
    consumer
        .status
        .queued_bytes
        .fetch_sub(bytes, Ordering::Relaxed);
    group
}

fn begin(connection: &Connection) -> Result<()> {
    execute(connection, "BEGIN IMMEDIATE").map(drop)
}

/// Do all of it and commit: acknowledgements, each with whether it waits for the log to be cut, and
/// whether the group stands.
fn commit(
    connection: &Connection,
    group: Vec<Job>,
    mut outcome: Result<()>,
) -> (Vec<(bool, Acknowledge)>, Result<()>) {
    let mut acknowledgements = Vec::with_capacity(group.len());
    for job in group {
        let allowed = match &outcome {
            Err(error) => Err(error.clone()),
            Ok(()) if job.expires && job.queued.elapsed() > WAIT => Err(StoreError::Deadline),
            Ok(()) => Ok(connection),
        };
        let cuts_log = job.cuts_log;
        let (acknowledge, fault) = (job.work)(allowed);
        acknowledgements.push((cuts_log, acknowledge));
        if let Some(fault) = fault {
            outcome = Err(fault);
        }
    }
    if outcome.is_ok() {
        crash_point_meanwhile!("accept.commit_sent");
        outcome = execute(connection, "COMMIT").map(drop);
    }
    if outcome.is_err() && !connection.is_autocommit() {
        // Nothing of it is acknowledged; an error here adds nothing.
        let _ = execute(connection, "ROLLBACK");
    }
    (acknowledgements, outcome)
}

/// Whether an error is the store's and not of the work: then nothing of the group may stand.
fn is_of_store(error: &StoreError) -> bool {
    matches!(error, StoreError::NoStore(_) | StoreError::Fatal(_))
}

fn judge(status: &Status, unwritable_since: &mut Option<Instant>, error: Option<&StoreError>) {
    let fatal = match error {
        None => {
            *unwritable_since = None;
            status
                .ready
                .store(status.fatal.borrow().is_none(), Ordering::Relaxed);
            None
        }
        Some(StoreError::Fatal(fatal)) => Some(*fatal),
        Some(StoreError::NoStore(why)) => {
            status.ready.store(false, Ordering::Relaxed);
            let since = unwritable_since.get_or_insert_with(Instant::now);
            // A full disk is freed by someone; a file that went read-only was not meant to.
            (*why != DISK_FULL && since.elapsed() > UNWRITABLE).then_some(Fatal::Io)
        }
        Some(_) => None,
    };
    if let Some(fatal) = fatal {
        status.give_up(fatal);
    }
}

/// Write nothing that matters, to see whether writing works again.
fn probe(connection: &Connection) -> Result<()> {
    begin(connection)?;
    let outcome = execute(connection, "UPDATE instance SET created_at = created_at")
        .and_then(|_| execute(connection, "COMMIT"));
    if outcome.is_err() && !connection.is_autocommit() {
        let _ = execute(connection, "ROLLBACK");
    }
    outcome.map(drop)
}

/// Bring the log into the database, sync it, and cut the log to nothing.
pub(super) fn checkpoint(connection: &Connection) -> Result<()> {
    crash_point_meanwhile!("store.checkpointing");
    let busy: i64 = connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map_err(failure)?;
    if busy == 0 {
        Ok(())
    } else {
        Err(StoreError::Transient("a reader holds the log"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A writer on a file that may grow to so many pages.
    fn start(pages: u32) -> (Queue, std::thread::JoinHandle<()>, tempfile::TempDir) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("test.db");
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch(&format!(
                "PRAGMA journal_mode = WAL; CREATE TABLE instance (created_at INTEGER); \
                 CREATE TABLE body (id INTEGER PRIMARY KEY, bytes BLOB); \
                 PRAGMA max_page_count = {pages};"
            ))
            .unwrap();
        let (queue, consumer) = Queue::new(1024, 64 << 20);
        let wal = directory.path().join("test.db-wal");
        let writer = std::thread::spawn(move || run(&connection, &consumer, &wal));
        (queue, writer, directory)
    }

    fn insert(bytes: i64) -> impl FnOnce(&Connection) -> Result<i64> + Send {
        move |connection| {
            connection
                .execute("INSERT INTO body (bytes) VALUES (zeroblob(?1))", [bytes])
                .map_err(failure)?;
            Ok(connection.last_insert_rowid())
        }
    }

    #[test]
    fn a_full_disk_refuses_and_recovers() {
        let (queue, writer, _directory) = start(40);
        let submit = |bytes| queue.submit(1, insert(bytes)).unwrap().blocking_recv();
        assert_eq!(submit(1_000), Ok(Ok(1)));
        assert_eq!(submit(1_000_000), Ok(Err(StoreError::NoStore(DISK_FULL))));
        assert!(!queue.status.ready.load(Ordering::Relaxed));
        assert_eq!(*queue.status.fatal.borrow(), None);
        // Someone made room.
        let room = queue.run(|connection| {
            connection
                .execute_batch("PRAGMA max_page_count = 100000")
                .map_err(failure)
        });
        assert_eq!(room.unwrap().blocking_recv(), Ok(Ok(())));
        assert_eq!(submit(1_000_000), Ok(Ok(2)));
        assert!(queue.status.ready.load(Ordering::Relaxed));
        drop(queue);
        writer.join().unwrap();
    }

    #[test]
    fn a_failure_of_the_work_costs_only_the_work() {
        let (queue, writer, _directory) = start(10_000);
        let good = queue.submit(1, insert(10)).unwrap();
        let bad = queue
            .submit(1, |connection| {
                insert(10)(connection)?;
                Err::<(), _>(StoreError::Defect("test".to_owned()))
            })
            .unwrap();
        let panics = queue
            .submit(1, |connection| -> Result<()> {
                insert(10)(connection)?;
                panic!("on purpose")
            })
            .unwrap();
        assert_eq!(good.blocking_recv(), Ok(Ok(1)));
        assert_eq!(
            bad.blocking_recv(),
            Ok(Err(StoreError::Defect("test".to_owned())))
        );
        assert_eq!(panics.blocking_recv(), Ok(Err(StoreError::ModelPanicked)));
        // Nothing of the two is there.
        let next = queue.submit(1, insert(10)).unwrap();
        assert_eq!(next.blocking_recv(), Ok(Ok(2)));
        drop(queue);
        writer.join().unwrap();
    }

    #[test]
    fn the_queue_is_bounded_by_number_and_by_bytes() {
        let (queue, consumer) = Queue::new(2, 1_000);
        let submit = |bytes| queue.submit(bytes, |_| Ok(())).map(drop);
        assert_eq!(submit(2_000), Err(StoreError::Busy));
        assert_eq!(submit(600), Ok(()));
        assert_eq!(submit(600), Err(StoreError::Busy));
        assert_eq!(submit(100), Ok(()));
        assert_eq!(submit(1), Err(StoreError::Busy));
        // Our own work is never refused.
        assert!(queue.run(|_| Ok(())).is_ok());
        drop(consumer);
        assert_eq!(queue.run(|_| Ok(())).map(drop), Err(StoreError::Closed));
    }
}
