//! Connections, transactions, and what an error of the server means.
//!
//! A connection that saw an error, or whose work was dropped half way, is closed and never used
//! again: the driver calls the COMMIT of a failed transaction a success.

use std::{ops::Deref, time::Duration};

use bytes::BytesMut;
use deadpool_postgres::{Object, Pool, PoolError};
use futures_util::future::BoxFuture;
use tokio::time::timeout;
use tokio_postgres::{
    Row,
    error::SqlState,
    types::{FromSql, IsNull, ToSql, Type, accepts, to_sql_checked},
};

use crate::store::{error::StoreError, row};

/// Why a piece of work was not done.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The driver or the server said so.
    Database(tokio_postgres::Error),
    /// Someone was quicker; the same again may work.
    Stale,
    /// Anything else.
    Store(StoreError),
}

/// Result of work inside a transaction.
pub(super) type Tried<T> = Result<T, Trouble>;

impl From<tokio_postgres::Error> for Trouble {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// Said when no server answers.
pub(super) const UNREACHABLE: StoreError = StoreError::Transient("PostgreSQL cannot be reached");

impl Trouble {
    /// Whether the same again may work: a deadlock, a lock that was held too long, a twin.
    pub(super) fn passes(&self) -> bool {
        match self {
            Self::Stale => true,
            Self::Store(_) => false,
            Self::Database(error) => matches!(
                error.code(),
                Some(
                    &SqlState::T_R_SERIALIZATION_FAILURE
                        | &SqlState::T_R_DEADLOCK_DETECTED
                        | &SqlState::LOCK_NOT_AVAILABLE
                )
            ),
        }
    }

    /// Whether a lock was held too long by another.
    pub(super) fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::Database(error) if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE))
    }
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Stale => Self::Transient("the patient kept changing"),
            Trouble::Store(error) => error,
            Trouble::Database(error) => failure(&error),
        }
    }
}

/// What an error of the server means. Its own text may repeat values and is left out.
pub(super) fn failure(error: &tokio_postgres::Error) -> StoreError {
    let Some(said) = error.as_db_error() else {
        // Broken off, refused, timed out, or an answer that is none.
        return if error.to_string().starts_with("error serializing parameter") {
            StoreError::Unforeseen("a parameter cannot be sent".to_owned())
        } else {
            UNREACHABLE
        };
    };
    let code = said.code();
    match code {
        &SqlState::DISK_FULL => return StoreError::NoStore("PostgreSQL's disk is full"),
        &SqlState::READ_ONLY_SQL_TRANSACTION => {
            return StoreError::NoStore("PostgreSQL is read-only");
        }
        &SqlState::QUERY_CANCELED => return StoreError::Deadline,
        &SqlState::LOCK_NOT_AVAILABLE
        | &SqlState::T_R_DEADLOCK_DETECTED
        | &SqlState::T_R_SERIALIZATION_FAILURE => {
            return StoreError::Transient("another submission holds the patient");
        }
        _ => {}
    }
    // Connection, resources, operator, system: it is about the server and not about what we asked.
    if ["08", "53", "57", "58", "25"]
        .iter()
        .any(|class| code.code().starts_with(class))
    {
        return UNREACHABLE;
    }
    StoreError::Unforeseen(format!(
        "SQLSTATE {} table {} constraint {}",
        code.code(),
        said.table().unwrap_or("-"),
        said.constraint().unwrap_or("-")
    ))
}

/// A connection with work under way. Dropped like that it is closed; [`Connection::give_back`]
/// keeps it.
pub(super) struct Connection(Option<Object>);

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(object) = self.0.take() {
            drop(Object::take(object));
        }
    }
}

impl Deref for Connection {
    type Target = Object;

    #[expect(
        clippy::expect_used,
        reason = "only give_back and drop take it, and both end the value"
    )]
    fn deref(&self) -> &Object {
        self.0.as_ref().expect("a connection in use")
    }
}

/// What begins a transaction that writes. With a transaction pooler between, nothing that is set
/// for a session holds; a laxer `synchronous_commit` is raised here.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
     SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '5s'; \
     SET LOCAL idle_in_transaction_session_timeout = '5s'; \
     SELECT set_config('synchronous_commit', 'on', true) \
     WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write')";
/// What begins a transaction whose reads all see the same state.
const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; \
     SET LOCAL statement_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '5s'";

/// Longer than any statement may take: the server is not there any more.
const PATIENCE: Duration = Duration::from_secs(10);
/// A whole transaction.
const WHOLE: Duration = Duration::from_secs(20);
/// How often work is done again that met another's lock.
pub(super) const AGAIN: u32 = 3;

/// How a COMMIT ended.
pub(super) enum Committed {
    Yes,
    /// The server said no: nothing stands.
    No(Trouble),
    /// Nobody knows.
    Unknown,
}

impl Connection {
    /// A connection of the pool, for work that has not begun.
    pub(super) async fn take(pool: &Pool) -> Tried<Self> {
        match pool.get().await {
            Ok(object) => Ok(Self(Some(object))),
            Err(PoolError::Backend(error)) => Err(error.into()),
            Err(PoolError::Timeout(deadpool_postgres::TimeoutType::Wait)) => {
                Err(StoreError::Deadline.into())
            }
            Err(PoolError::Closed) => Err(StoreError::Closed.into()),
            Err(_) => Err(UNREACHABLE.into()),
        }
    }

    /// It is as it was: others may have it.
    pub(super) fn give_back(mut self) {
        drop(self.0.take());
    }

    pub(super) async fn begin(&self) -> Tried<()> {
        self.simple(BEGIN).await
    }

    async fn begin_read(&self) -> Tried<()> {
        self.simple(BEGIN_READ).await
    }

    async fn simple(&self, sql: &str) -> Tried<()> {
        match timeout(PATIENCE, self.batch_execute(sql)).await {
            Ok(done) => Ok(done?),
            Err(_) => Err(UNREACHABLE.into()),
        }
    }

    /// Undo everything; the connection is kept only if it saw no error.
    pub(super) async fn roll_back(self, clean: bool) {
        if self.simple("ROLLBACK").await.is_ok() && clean {
            self.give_back();
        }
    }

    /// Must only be called when every statement before succeeded.
    pub(super) async fn commit(self) -> Committed {
        match timeout(PATIENCE, self.batch_execute("COMMIT")).await {
            Ok(Ok(())) => {
                self.give_back();
                Committed::Yes
            }
            // The server, alive, took it back.
            Ok(Err(error))
                if error.code().is_some_and(|code| {
                    ["23", "40"]
                        .iter()
                        .any(|class| code.code().starts_with(class))
                }) =>
            {
                Committed::No(error.into())
            }
            Ok(Err(_)) | Err(_) => Committed::Unknown,
        }
    }

    /// The rows of a statement.
    pub(super) async fn all(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Tried<Vec<Row>> {
        let work = async {
            let statement = self.prepare_cached(sql).await?;
            self.query(&statement, parameters).await
        };
        match timeout(PATIENCE, work).await {
            Ok(rows) => Ok(rows?),
            Err(_) => Err(UNREACHABLE.into()),
        }
    }

    /// Every row of a statement, as `T`.
    pub(super) async fn list<T>(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Tried<Vec<T>> {
        let rows = self.all(sql, parameters).await?;
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }

    /// The first row of a statement, as `T`.
    pub(super) async fn one<T>(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
        read: impl Fn(&Row) -> Result<T, StoreError>,
    ) -> Tried<Option<T>> {
        let row = self.first(sql, parameters).await?;
        Ok(row.as_ref().map(read).transpose()?)
    }

    /// The first row of a statement.
    pub(super) async fn first(
        &self,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Tried<Option<Row>> {
        Ok(self.all(sql, parameters).await?.into_iter().next())
    }

    /// Execute a statement; how many rows it touched.
    pub(super) async fn run(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Tried<u64> {
        let work = async {
            let statement = self.prepare_cached(sql).await?;
            self.execute(&statement, parameters).await
        };
        match timeout(PATIENCE, work).await {
            Ok(touched) => Ok(touched?),
            Err(_) => Err(UNREACHABLE.into()),
        }
    }
}

/// Work in a transaction that only reads.
pub(super) async fn read<T>(
    pool: &Pool,
    work: impl for<'a> FnOnce(&'a Connection) -> BoxFuture<'a, Tried<T>>,
) -> Result<T, StoreError> {
    let connection = Connection::take(pool).await?;
    connection.begin_read().await?;
    let result = match timeout(WHOLE, work(&connection)).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Deadline.into()),
    };
    connection.roll_back(result.is_ok()).await;
    Ok(result?)
}

/// Work in a transaction that writes, and may be done again: its own condition must see that it
/// was done already.
pub(super) async fn write<T>(
    pool: &Pool,
    work: impl for<'a> Fn(&'a Connection) -> BoxFuture<'a, Tried<T>>,
) -> Result<T, StoreError> {
    let mut tried = 0;
    loop {
        let result = write_once(pool, &work).await;
        match result {
            Err(trouble) if trouble.passes() && tried < AGAIN => {
                pause(tried).await;
                tried += 1;
            }
            other => return Ok(other?),
        }
    }
}

async fn write_once<T>(
    pool: &Pool,
    work: &impl for<'a> Fn(&'a Connection) -> BoxFuture<'a, Tried<T>>,
) -> Tried<T> {
    let connection = Connection::take(pool).await?;
    connection.begin().await?;
    let result = match timeout(WHOLE, work(&connection)).await {
        Ok(result) => result,
        Err(_) => Err(StoreError::Deadline.into()),
    };
    match result {
        Ok(value) => match connection.commit().await {
            Committed::Yes => Ok(value),
            Committed::No(trouble) => Err(trouble),
            Committed::Unknown => Err(UNREACHABLE.into()),
        },
        Err(trouble) => {
            connection
                .roll_back(!matches!(trouble, Trouble::Database(_)))
                .await;
            Err(trouble)
        }
    }
}

/// Before work is done again: longer each time, and not in step with the others.
pub(super) async fn pause(tried: u32) {
    let most = 20_u64 << tried.min(8);
    tokio::time::sleep(Duration::from_millis(rand::random_range(0..=most))).await;
}

impl row::Row for Row {
    fn number(&self, at: usize) -> Result<Option<i64>, StoreError> {
        column(self, at)
    }

    fn truth(&self, at: usize) -> Result<Option<bool>, StoreError> {
        column(self, at)
    }

    fn text(&self, at: usize) -> Result<Option<&str>, StoreError> {
        column(self, at)
    }

    fn bytes(&self, at: usize) -> Result<Option<&[u8]>, StoreError> {
        column(self, at)
    }

    fn millis(&self, at: usize) -> Result<Option<i64>, StoreError> {
        Ok(column::<Option<Millis>>(self, at)?.map(|at| at.0))
    }
}

fn column<'a, T: FromSql<'a>>(row: &'a Row, index: usize) -> Result<T, StoreError> {
    row.try_get(index)
        .map_err(|_| StoreError::Unreadable("a column of another type"))
}

/// A point in time as the code knows it, in a column `timestamptz`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Millis(pub(super) i64);

/// 2000-01-01, from where PostgreSQL counts.
const EPOCH: i64 = 946_684_800_000;

impl ToSql for Millis {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let micros = self
            .0
            .checked_sub(EPOCH)
            .and_then(|millis| millis.checked_mul(1_000))
            .ok_or("a time out of range")?;
        out.extend_from_slice(&micros.to_be_bytes());
        Ok(IsNull::No)
    }

    accepts!(TIMESTAMPTZ);
    to_sql_checked!();
}

impl<'a> FromSql<'a> for Millis {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let micros = i64::from_be_bytes(raw.try_into()?);
        Ok(Self(micros.div_euclid(1_000) + EPOCH))
    }

    accepts!(TIMESTAMPTZ);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn times_come_back(millis in -210_866_803_200_000_i64..253_402_300_800_000) {
            let mut out = BytesMut::new();
            Millis(millis).to_sql(&Type::TIMESTAMPTZ, &mut out).unwrap();
            prop_assert_eq!(Millis::from_sql(&Type::TIMESTAMPTZ, &out).unwrap(), Millis(millis));
        }
    }
}
