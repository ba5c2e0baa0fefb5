//! Opening: connect, look before touching, migrate under a lock, key.

use std::{path::PathBuf, str::FromStr, time::Duration};

use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use rustls::ClientConfig;
use rustls_platform_verifier::ConfigVerifierExt;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use tokio_postgres::{
    Client, Config, NoTls,
    config::{Host, SslMode, TargetSessionAttrs},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::connection::{Millis, failure};
use crate::{
    fault::crash_point,
    store::{IdentityKey, codec, error::OpenError},
};

/// Steps of the schema, in order; each is one transaction. Never change one that was released.
const MIGRATIONS: &[(&str, &str)] = &[
    ("first", include_str!("0001_first.sql")),
    ("cards", include_str!("0002_cards.sql")),
];

/// The first version that has everything we ask for.
const OLDEST_SERVER: i32 = 140_000;

/// How long a server may take to answer, at start and later.
const CONNECT: Duration = Duration::from_secs(5);
/// How long another process may take over its migrations.
const MIGRATING: &str = "SET lock_timeout = '60s'";

type Opened<T> = Result<T, OpenError>;

/// How lanes are kept and taken over (`beat` < `late` < `standstill`).
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How often a process says that it works.
    pub beat: Duration,
    /// Without a beat of its own for so long it starts nothing more: a request that it started
    /// before has ended when others take its lanes.
    pub late: Duration,
    /// Watched to stand still for so long, a process loses its lanes.
    pub standstill: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            beat: Duration::from_secs(5),
            late: Duration::from_secs(13),
            standstill: Duration::from_secs(30),
        }
    }
}

/// Where and how.
#[derive(Clone)]
pub struct Options {
    /// Where, with user and password. Never shown.
    pub url: String,
    /// The identity key; the same for every process on this database.
    pub identity_key_file: PathBuf,
    /// Name of this start of this process; no two may be the same.
    pub replica: String,
    /// Version of the program.
    pub app_version: String,
    /// The clock.
    pub now: OffsetDateTime,
    /// Submissions that wait or are worked on.
    pub queue: usize,
    /// Bytes of those.
    pub queue_bytes: usize,
    /// Connections of this process.
    pub connections: usize,
    /// How lanes are kept and taken over.
    pub timing: Timing,
    /// The database is a copy that was restored: what stands on targets may be newer than it, and
    /// is read before it is written for as long as this is open.
    pub restored: bool,
}

impl Options {
    /// A database with what is ordinary for the rest.
    pub fn new(
        url: impl Into<String>,
        identity_key_file: impl Into<PathBuf>,
        replica: impl Into<String>,
        now: OffsetDateTime,
    ) -> Self {
        Self {
            url: url.into(),
            identity_key_file: identity_key_file.into(),
            replica: replica.into(),
            app_version: env!("CARGO_PKG_VERSION").to_owned(),
            now,
            queue: 1024,
            queue_bytes: 64 << 20,
            connections: 16,
            timing: Timing::default(),
            restored: false,
        }
    }
}

impl std::fmt::Debug for Options {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Options")
            .field("replica", &self.replica)
            .finish_non_exhaustive()
    }
}

/// A server, and how it is spoken to.
pub(super) struct Server {
    config: Config,
    /// `None`: in the clear, because the address says so.
    tls: Option<MakeRustlsConnect>,
    name: String,
}

impl Server {
    pub(super) fn new(url: &str) -> Opened<Self> {
        // Whatever the parser says could repeat the password.
        let mut config = Config::from_str(url).map_err(|_| OpenError::Settings {
            database: "postgres://...".to_owned(),
            what: "cannot be read".to_owned(),
            remedy: "expected postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=require",
        })?;
        config
            .application_name("marrowflag")
            .connect_timeout(CONNECT)
            .keepalives_idle(Duration::from_secs(10))
            .tcp_user_timeout(Duration::from_secs(10))
            .target_session_attrs(TargetSessionAttrs::ReadWrite);
        let name = name(&config);
        let tls = match config.get_ssl_mode() {
            SslMode::Disable => None,
            _ => Some(MakeRustlsConnect::new(
                ClientConfig::with_platform_verifier().map_err(|error| OpenError::Settings {
                    database: name.clone(),
                    what: format!("no certificates to verify the server with: {error}"),
                    remedy: "install the system's CA certificates, name a file in SSL_CERT_FILE, \
                             or add ?sslmode=disable where the way is safe",
                })?,
            )),
        };
        Ok(Self { config, tls, name })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Connections for one kind of work.
    pub(super) fn pool(&self, connections: usize) -> Opened<Pool> {
        let how = ManagerConfig {
            recycling_method: RecyclingMethod::Fast,
        };
        let manager = match &self.tls {
            None => Manager::from_config(self.config.clone(), NoTls, how),
            Some(tls) => Manager::from_config(self.config.clone(), tls.clone(), how),
        };
        Pool::builder(manager)
            .max_size(connections)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(CONNECT))
            .create_timeout(Some(CONNECT))
            .recycle_timeout(Some(CONNECT))
            .build()
            .map_err(|error| OpenError::Server {
                database: self.name.clone(),
                what: error.to_string(),
            })
    }

    /// A connection of our own: what is set for a session holds on it.
    async fn connect(&self) -> Opened<Client> {
        let failed = |error| self.failed(&error);
        match &self.tls {
            None => {
                let (client, connection) = self.config.connect(NoTls).await.map_err(failed)?;
                tokio::spawn(connection);
                Ok(client)
            }
            Some(tls) => {
                let (client, connection) =
                    self.config.connect(tls.clone()).await.map_err(failed)?;
                tokio::spawn(connection);
                Ok(client)
            }
        }
    }

    fn failed(&self, error: &tokio_postgres::Error) -> OpenError {
        let what = match (error.as_db_error(), failure(error)) {
            (Some(said), _) => format!("SQLSTATE {}", said.code().code()),
            // Without an answer the chain of causes names sockets and certificates, never data.
            (None, said) => {
                std::iter::successors(std::error::Error::source(error), |error| error.source())
                    .fold(said.to_string(), |text, cause| format!("{text}: {cause}"))
            }
        };
        OpenError::Server {
            database: self.name.clone(),
            what,
        }
    }
}

/// The address without user and password.
fn name(config: &Config) -> String {
    let ports = config.get_ports();
    let hosts: Vec<String> = config
        .get_hosts()
        .iter()
        .enumerate()
        .map(|(position, host)| {
            let port = ports.get(position).or(ports.first()).unwrap_or(&5432);
            match host {
                Host::Tcp(name) => format!("{name}:{port}"),
                #[cfg(unix)]
                Host::Unix(path) => format!("{}:{port}", path.display()),
            }
        })
        .collect();
    format!(
        "postgres://{}/{}",
        hosts.join(","),
        config.get_dbname().unwrap_or_default()
    )
}

/// Make the database ours, or see that it is.
pub(super) async fn open(server: &Server, options: &Options) -> Opened<IdentityKey> {
    let key = IdentityKey::read(&options.identity_key_file)?;
    let client = server.connect().await?;
    check(server, &client).await?;
    let failed = |error: tokio_postgres::Error| server.failed(&error);
    client.batch_execute(MIGRATING).await.map_err(failed)?;
    // Released when this connection ends.
    client
        .execute("SELECT pg_advisory_lock(hashtext('marrowflag'))", &[])
        .await
        .map_err(failed)?;
    migrate(server, &client, options).await?;
    let fingerprint = key.fingerprint();
    client
        .execute(
            "INSERT INTO instance (id, identity_key_fingerprint, created_at) VALUES (1, $1, $2) \
             ON CONFLICT DO NOTHING",
            &[&fingerprint.as_slice(), &Millis(codec::millis(options.now))],
        )
        .await
        .map_err(failed)?;
    let row = client
        .query_one("SELECT identity_key_fingerprint FROM instance", &[])
        .await
        .map_err(failed)?;
    let held: &[u8] = row.try_get(0).map_err(failed)?;
    if held != fingerprint {
        return Err(OpenError::WrongIdentityKey {
            path: options.identity_key_file.clone(),
        });
    }
    client
        .execute(
            "INSERT INTO replica (id, app_version, started_at, beat) VALUES ($1, $2, $3, 0)",
            &[
                &options.replica,
                &options.app_version,
                &Millis(codec::millis(options.now)),
            ],
        )
        .await
        .map_err(failed)?;
    Ok(key)
}

/// What must hold of a server for a receipt to mean durable.
async fn check(server: &Server, client: &Client) -> Opened<()> {
    let wrong = |what: String, remedy| OpenError::Settings {
        database: server.name.clone(),
        what,
        remedy,
    };
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int, current_setting('fsync'), \
             current_setting('full_page_writes'), current_setting('server_encoding')",
            &[],
        )
        .await
        .map_err(|error| server.failed(&error))?;
    let text = |index: usize| -> Opened<&str> {
        row.try_get(index).map_err(|error| server.failed(&error))
    };
    let version: i32 = row.try_get(0).map_err(|error| server.failed(&error))?;
    if version < OLDEST_SERVER {
        return Err(wrong(
            format!("is PostgreSQL {}", version / 10_000),
            "14 or newer is needed",
        ));
    }
    for (index, name) in [(1, "fsync"), (2, "full_page_writes")] {
        if text(index)? != "on" {
            return Err(wrong(
                format!("{name} is off"),
                "switch it on: without it a crash loses what was acknowledged",
            ));
        }
    }
    if text(3)? != "UTF8" {
        return Err(wrong(
            format!("the encoding is {}", text(3)?),
            "make the database with ENCODING 'UTF8'",
        ));
    }
    Ok(())
}

async fn migrate(server: &Server, client: &Client, options: &Options) -> Opened<()> {
    const TABLE: &str = "CREATE TABLE IF NOT EXISTS schema_migration (version bigint PRIMARY KEY, \
         name text NOT NULL, checksum bytea NOT NULL, applied_at timestamptz NOT NULL, \
         app_version text NOT NULL)";
    let failed = |error: tokio_postgres::Error| server.failed(&error);
    let unusable = |what: String, remedy| OpenError::Foreign {
        database: server.name.clone(),
        what,
        remedy,
    };
    let exists: bool = client
        .query_one("SELECT to_regclass('schema_migration') IS NOT NULL", &[])
        .await
        .and_then(|row| row.try_get(0))
        .map_err(failed)?;
    let mut done = 0;
    if exists {
        let applied = client
            .query(
                "SELECT version, checksum FROM schema_migration ORDER BY version",
                &[],
            )
            .await
            .map_err(failed)?;
        for row in &applied {
            let version: i64 = row.try_get(0).map_err(failed)?;
            let checksum: &[u8] = row.try_get(1).map_err(failed)?;
            let Some((_, sql)) = MIGRATIONS.get(done) else {
                return Err(unusable(
                    format!("has schema {version}, newer than this program knows"),
                    "start the version that wrote it, or a newer one",
                ));
            };
            if i64::try_from(done + 1) != Ok(version) || Sha256::digest(sql).as_slice() != checksum
            {
                return Err(unusable(
                    format!("schema {version} is not as it was made"),
                    "name a database of our own, or restore the last backup",
                ));
            }
            done += 1;
        }
    } else {
        client.batch_execute(TABLE).await.map_err(failed)?;
    }
    for (position, (name, sql)) in MIGRATIONS.iter().enumerate().skip(done) {
        // An error leaves the transaction open, and ends with the connection.
        client
            .batch_execute(&format!("BEGIN; {sql}"))
            .await
            .map_err(failed)?;
        client
            .execute(
                "INSERT INTO schema_migration (version, name, checksum, applied_at, app_version) \
                 VALUES ($1, $2, $3, $4, $5)",
                &[
                    &i64::try_from(position + 1).unwrap_or(i64::MAX),
                    name,
                    &Sha256::digest(sql).as_slice(),
                    &Millis(codec::millis(options.now)),
                    &options.app_version,
                ],
            )
            .await
            .map_err(failed)?;
        client.batch_execute("COMMIT").await.map_err(failed)?;
        crash_point!("migrate.between_steps");
    }
    Ok(())
}
