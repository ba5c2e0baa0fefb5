//! Opening the file: lock, look before touching, migrate, key.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{ErrorKind, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use data_encoding::HEXLOWER;
use rusqlite::{Connection, OpenFlags, params};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::{
    disk,
    read::key_fingerprint,
    rows::{READ_ONLY, execute, failure, first},
    writer::checkpoint,
};
use crate::{
    fault::crash_point,
    store::{
        IdentityKey, codec,
        error::{OpenError, Result, StoreError},
        row::get,
    },
};

/// `PRAGMA application_id` of our databases: `mrwf`.
const APPLICATION: u32 = 0x6d72_7766;

/// Steps of the schema, in order; each is one transaction. Never change one that was released.
const MIGRATIONS: &[(&str, &str)] = &[
    ("first", include_str!("0001_first.sql")),
    ("cards", include_str!("0002_cards.sql")),
];

/// The write-ahead log of versions before this one can corrupt itself.
const OLDEST_SQLITE: i32 = 3_051_003;

type Opened<T> = std::result::Result<T, OpenError>;

/// Where and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// The database file.
    pub path: PathBuf,
    /// The identity key; by default beside the database.
    pub identity_key_file: Option<PathBuf>,
    /// Used when a new database needs a key.
    pub fresh_identity_key: [u8; 32],
    /// Name of this start of this process.
    pub replica: String,
    /// Version of the program.
    pub app_version: String,
    /// The clock.
    pub now: OffsetDateTime,
    /// Submissions in the queue of the writer.
    pub queue: usize,
    /// Bytes in the queue of the writer.
    pub queue_bytes: usize,
    /// The file is a copy that was restored: what stands on targets may be newer than it, and is
    /// read before it is written for as long as this is open.
    pub restored: bool,
}

impl Options {
    /// A file with what is ordinary for the rest.
    pub fn new(path: impl Into<PathBuf>, now: OffsetDateTime, random: [u8; 32]) -> Self {
        Self {
            path: path.into(),
            identity_key_file: None,
            fresh_identity_key: random,
            replica: "1".to_owned(),
            app_version: env!("CARGO_PKG_VERSION").to_owned(),
            now,
            queue: 1024,
            queue_bytes: 64 << 20,
            restored: false,
        }
    }
}

/// What [`open`] gives.
pub(super) struct Parts {
    pub(super) connection: Connection,
    pub(super) key: IdentityKey,
    /// Holds other processes off for as long as it lives.
    pub(super) lock: File,
}

pub(super) fn open(options: &Options) -> Opened<Parts> {
    let path = &options.path;
    if let Some(share) = disk::share(folder(path)) {
        return Err(OpenError::Settings {
            database: path.display().to_string(),
            what: format!("is on {share}, a file share"),
            remedy: "put it on a disk of this machine, or use PostgreSQL",
        });
    }
    let lock = lock(path)?;
    if rusqlite::version_number() < OLDEST_SQLITE {
        return Err(database(path, "the SQLite library is too old".to_owned()));
    }
    let new = look(path)?;
    if new {
        create_private(path)?;
    }
    let connection = connect(path, new).map_err(|error| failed(path, error))?;
    let key_file = options
        .identity_key_file
        .clone()
        .unwrap_or_else(|| beside(path, ".identity-key"));
    migrate(&connection, options)?;
    let fingerprint = key_fingerprint(&connection).map_err(|error| failed(path, error))?;
    let key = match fingerprint {
        Some(fingerprint) => {
            let key = IdentityKey::read(&key_file)?;
            if key.fingerprint() != fingerprint {
                return Err(OpenError::WrongIdentityKey { path: key_file });
            }
            key
        }
        None => first_start(&connection, options, &key_file)?,
    };
    recover(&connection).map_err(|error| failed(path, error))?;
    Ok(Parts {
        connection,
        key,
        lock,
    })
}

/// `PATH.lock` for us alone.
fn lock(path: &Path) -> Opened<File> {
    let lock_path = beside(path, ".lock");
    let io = |source| OpenError::Io {
        path: lock_path.clone(),
        source,
    };
    let file = private_file(&lock_path).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked {
            path: path.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(io(source)),
    }
}

/// What is there, seen without changing it. `true`: nothing.
fn look(path: &Path) -> Opened<bool> {
    let mut head = Vec::new();
    match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(true),
        Err(source) => {
            return Err(OpenError::Io {
                path: path.to_owned(),
                source,
            });
        }
        Ok(file) => file
            .take(100)
            .read_to_end(&mut head)
            .map_err(|source| OpenError::Io {
                path: path.to_owned(),
                source,
            })?,
    };
    if head.is_empty() {
        return Ok(true);
    }
    let unusable = |what: &str, remedy| OpenError::Unusable {
        path: path.to_owned(),
        what: what.to_owned(),
        remedy,
    };
    let application = head.get(68..72).and_then(|bytes| bytes.first_chunk::<4>());
    match (head.starts_with(b"SQLite format 3\0"), application) {
        (true, Some(application)) if u32::from_be_bytes(*application) == APPLICATION => {}
        (true, Some(_)) => {
            return Err(unusable(
                "is a database of another program",
                "name another file",
            ));
        }
        _ => return Err(unusable("is no database", "name another file")),
    }
    // Read-only, so that what is refused stays as it is.
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(|error| failed(path, failure(error)))?;
    check(&connection, path)?;
    Ok(false)
}

fn check(connection: &Connection, path: &Path) -> Opened<()> {
    let damaged = |what: String| OpenError::Unusable {
        path: path.to_owned(),
        what,
        remedy: "copy the file, its -wal and -shm away and restore the last backup",
    };
    let applied = applied(connection).map_err(|error| match error {
        StoreError::Fatal(_) | StoreError::Unforeseen(_) => {
            damaged("the database is damaged".to_owned())
        }
        other => failed(path, other),
    })?;
    for (position, (version, checksum)) in applied.iter().enumerate() {
        let known = MIGRATIONS.get(position);
        if i64::try_from(position + 1) != Ok(*version) || known.is_none() {
            return Err(OpenError::Unusable {
                path: path.to_owned(),
                what: format!("has schema {version}, newer than this program knows"),
                remedy: "start the version that wrote it, or a newer one",
            });
        }
        if known.is_some_and(|(_, sql)| Sha256::digest(sql).as_slice() != checksum.as_slice()) {
            return Err(damaged(format!("schema {version} is not as it was made")));
        }
    }
    // Asked for at every start: what is damaged there is to be found before anything is written.
    if !applied.is_empty() && matches!(highest_patient(connection), Err(StoreError::Fatal(_))) {
        return Err(damaged("the database is damaged".to_owned()));
    }
    let clean = first(
        connection,
        "SELECT stopped_cleanly FROM instance",
        [],
        |row| get::<i64>(row, 0),
    );
    if matches!(clean, Ok(Some(1))) {
        return Ok(());
    }
    let verdict = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0));
    match verdict {
        Ok(verdict) if verdict == "ok" => Ok(()),
        _ => Err(damaged("the database is damaged".to_owned())),
    }
}

/// The highest row id of a patient: the next ones are given from there.
pub(super) fn highest_patient(connection: &Connection) -> Result<i64> {
    const HIGHEST: &str = "SELECT coalesce(max(id), 0) FROM patient";
    Ok(first(connection, HIGHEST, [], |row| get(row, 0))?.unwrap_or(0))
}

/// Version and checksum of the steps that were made.
fn applied(connection: &Connection) -> Result<Vec<(i64, Vec<u8>)>> {
    let exists = first(
        connection,
        "SELECT 1 FROM sqlite_schema WHERE name = 'schema_migration'",
        [],
        |_| Ok(()),
    )?;
    if exists.is_none() {
        return Ok(Vec::new());
    }
    super::rows::all(
        connection,
        "SELECT version, checksum FROM schema_migration ORDER BY version",
        [],
        |row| Ok((get(row, 0)?, get(row, 1)?)),
    )
}

/// The one connection that writes.
fn connect(path: &Path, new: bool) -> Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(failure)?;
    if new {
        // Before the log exists: the mark has to be in the file itself, whatever happens next.
        connection
            .pragma_update(None, "application_id", APPLICATION)
            .map_err(failure)?;
    }
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA wal_autocheckpoint = 4000;
             PRAGMA journal_size_limit = 67108864;
             PRAGMA secure_delete = ON;",
        )
        .map_err(failure)?;
    settings(&connection)?;
    Ok(connection)
}

/// A connection that only reads.
pub(super) fn connect_reader(path: &Path) -> Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )
    .map_err(failure)?;
    connection
        .execute_batch("PRAGMA query_only = ON;")
        .map_err(failure)?;
    settings(&connection)?;
    Ok(connection)
}

fn settings(connection: &Connection) -> Result<()> {
    // mmap_size 0: an I/O error must be an error, not a signal.
    connection
        .execute_batch(
            "PRAGMA foreign_keys = ON;
             PRAGMA trusted_schema = OFF;
             PRAGMA cell_size_check = ON;
             PRAGMA mmap_size = 0;
             PRAGMA cache_size = -16384;
             PRAGMA temp_store = MEMORY;",
        )
        .map_err(failure)?;
    connection
        .busy_timeout(Duration::from_secs(5))
        .map_err(failure)?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(())
}

fn migrate(connection: &Connection, options: &Options) -> Opened<()> {
    let path = &options.path;
    let run = || -> Result<()> {
        connection
            .execute_batch(
                "CREATE TABLE IF NOT EXISTS schema_migration (version INTEGER PRIMARY KEY, \
                 name TEXT NOT NULL, checksum BLOB NOT NULL, applied_at INTEGER NOT NULL, \
                 app_version TEXT NOT NULL) STRICT",
            )
            .map_err(failure)?;
        let done = applied(connection)?.len();
        for (position, (name, sql)) in MIGRATIONS.iter().enumerate().skip(done) {
            connection
                .execute_batch("BEGIN IMMEDIATE")
                .map_err(failure)?;
            let step = connection
                .execute_batch(sql)
                .map_err(failure)
                .and_then(|()| {
                    execute(
                        connection,
                        "INSERT INTO schema_migration (version, name, checksum, applied_at, \
                         app_version) VALUES (?1, ?2, ?3, ?4, ?5)",
                        params![
                            i64::try_from(position + 1).unwrap_or(i64::MAX),
                            name,
                            Sha256::digest(sql).as_slice(),
                            codec::millis(options.now),
                            options.app_version
                        ],
                    )
                })
                .and_then(|_| connection.execute_batch("COMMIT").map_err(failure));
            if let Err(error) = step {
                if !connection.is_autocommit() {
                    connection.execute_batch("ROLLBACK").map_err(failure)?;
                }
                return Err(error);
            }
            crash_point!("migrate.between_steps");
        }
        Ok(())
    };
    run().map_err(|error| failed(path, error))
}

/// A new database: its key, and the row that says which key it is.
fn first_start(connection: &Connection, options: &Options, key_file: &Path) -> Opened<IdentityKey> {
    let key = match IdentityKey::read(key_file) {
        Ok(key) => key,
        Err(OpenError::Io { source, .. })
            if source.kind() == ErrorKind::NotFound && options.identity_key_file.is_none() =>
        {
            let key = IdentityKey::new(options.fresh_identity_key);
            write_key(key_file, &key)?;
            key
        }
        Err(other) => return Err(other),
    };
    execute(
        connection,
        "INSERT INTO instance (id, identity_key_fingerprint, created_at, stopped_cleanly) \
         VALUES (1, ?1, ?2, 0)",
        params![key.fingerprint(), codec::millis(options.now)],
    )
    .map_err(|error| failed(&options.path, error))?;
    Ok(key)
}

/// What a crash left: the log goes into the file, synced, before anything is answered from it;
/// lanes are free.
fn recover(connection: &Connection) -> Result<()> {
    checkpoint(connection)?;
    execute(connection, "BEGIN IMMEDIATE", [])?;
    super::outbox::free_all(connection)?;
    execute(connection, "UPDATE instance SET stopped_cleanly = 0", [])?;
    execute(connection, "COMMIT", [])?;
    Ok(())
}

/// The next start need not look for damage.
pub(super) fn stop(connection: &Connection) -> Result<()> {
    execute(connection, "UPDATE instance SET stopped_cleanly = 1", [])?;
    checkpoint(connection)
}

pub(super) fn write_key(path: &Path, key: &IdentityKey) -> Opened<()> {
    let io = |source| OpenError::Io {
        path: path.to_owned(),
        source,
    };
    let mut how = OpenOptions::new();
    how.create_new(true).write(true);
    private(&mut how);
    let mut file = how.open(path).map_err(io)?;
    writeln!(file, "{}", HEXLOWER.encode(key.as_bytes())).map_err(io)?;
    // Without the key the database is worthless: it must be on disk first.
    file.sync_all().map_err(io)?;
    sync_folder(path).map_err(io)
}

/// The name of a file is on disk.
pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    File::open(folder(path))?.sync_all()
}

/// Where a file is.
pub(super) fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// A file that nobody else may read, made when there is none.
pub(super) fn private_file(path: &Path) -> std::io::Result<File> {
    let mut how = OpenOptions::new();
    how.create(true).truncate(false).write(true);
    private(&mut how);
    how.open(path)
}

fn create_private(path: &Path) -> Opened<()> {
    private_file(path)
        .map(drop)
        .map_err(|source| OpenError::Io {
            path: path.to_owned(),
            source,
        })
}

/// Patients' data and keys are nobody else's business.
fn private(how: &mut OpenOptions) {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(how, 0o600);
    #[cfg(not(unix))]
    let _ = how;
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

pub(super) fn failed(path: &Path, error: StoreError) -> OpenError {
    match error {
        StoreError::Fatal(super::super::error::Fatal::Corrupt) => OpenError::Unusable {
            path: path.to_owned(),
            what: "the database is damaged".to_owned(),
            remedy: "copy the file, its -wal and -shm away and restore the last backup",
        },
        StoreError::NoStore(what) if what == READ_ONLY => OpenError::Unusable {
            path: path.to_owned(),
            what: what.to_owned(),
            remedy: "see that the service's user may write to the file and its folder",
        },
        StoreError::Transient(_) => OpenError::Locked {
            path: path.to_owned(),
        },
        other => database(path, other.to_string()),
    }
}

fn database(path: &Path, what: String) -> OpenError {
    OpenError::Database {
        path: path.to_owned(),
        what,
    }
}
