//! A PostgreSQL server of our own: made in a temporary directory, stopped with its last user.
//!
//! It is the real one, as Debian packages it. Where it is not installed the tests that need it say
//! so by name and end; with `CI=true` they fail.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "shared by several tests, of which none uses everything"
)]

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// How a server is stopped.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stop {
    /// Ends transactions under way.
    Fast,
    /// As a crash: recovery at the next start.
    Immediate,
}

/// A server.
pub(crate) struct Server {
    directory: tempfile::TempDir,
    bin: PathBuf,
    user: Option<(u32, u32)>,
    port: u16,
    settings: Vec<String>,
    process: Mutex<Option<Child>>,
}

/// A database with the identity key that belongs to it.
pub(crate) struct Place {
    pub(crate) server: Arc<Server>,
    pub(crate) database: String,
    pub(crate) key: tempfile::NamedTempFile,
}

impl Place {
    /// A new one.
    pub(crate) fn on(server: &Arc<Server>) -> Self {
        let key = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(key.path(), "07".repeat(32)).unwrap();
        Self {
            database: server.database(None),
            server: Arc::clone(server),
            key,
        }
    }

    pub(crate) fn url(&self) -> String {
        self.server.url(&self.database)
    }

    pub(crate) async fn client(&self) -> tokio_postgres::Client {
        self.server.client(&self.database).await
    }

    /// What a service is told of it.
    pub(crate) fn arguments(&self) -> Vec<String> {
        vec![
            "--database".to_owned(),
            self.url(),
            "--identity-key-file".to_owned(),
            self.key.path().display().to_string(),
        ]
    }
}

static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
static DATABASES: AtomicU32 = AtomicU32::new(0);

/// The newest `bin` directory of Debian's package.
fn bin() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").ok()?;
    versions
        .filter_map(|version| Some(version.ok()?.path().join("bin")))
        .filter(|bin| bin.join("postgres").exists() && bin.join("initdb").exists())
        .max()
}

impl Server {
    /// The one that all tests of this process share. `None`: not installed, and `test` is said to
    /// be skipped.
    pub(crate) fn shared(test: &str) -> Option<Arc<Self>> {
        let mut shared = SHARED
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(server) = shared.upgrade() {
            return Some(server);
        }
        let server = Arc::new(Self::new(test, &[])?);
        *shared = Arc::downgrade(&server);
        Some(server)
    }

    /// One for this test alone.
    pub(crate) fn new(test: &str, settings: &[&str]) -> Option<Self> {
        let Some(bin) = bin() else {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "{test}: PostgreSQL is not installed, and in CI nothing is skipped"
            );
            eprintln!("skipped: {test} (PostgreSQL is not installed)");
            return None;
        };
        let directory = tempfile::Builder::new()
            .prefix("marrowflag-pg")
            .tempdir()
            .unwrap();
        let user = unprivileged();
        if let Some((uid, gid)) = user {
            std::os::unix::fs::chown(directory.path(), Some(uid), Some(gid)).unwrap();
        }
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let server = Self {
            directory,
            bin,
            user,
            port,
            settings: settings.iter().map(|one| (*one).to_owned()).collect(),
            process: Mutex::new(None),
        };
        let made = server
            .command("initdb")
            .args(["-U", "postgres", "--auth=trust", "-E", "UTF8"])
            .args(["--no-locale", "--no-sync", "-D"])
            .arg(server.data())
            .output()
            .unwrap();
        assert!(
            made.status.success(),
            "initdb: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        server.start();
        Some(server)
    }

    /// Where its files are.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// One of its programs, as its user.
    pub(crate) fn command(&self, program: &str) -> Command {
        self.as_user(&self.bin.join(program))
    }

    /// A new folder that is the server's own.
    pub(crate) fn folder(&self, path: &Path) {
        std::fs::create_dir(path).unwrap();
        if let Some((uid, gid)) = self.user {
            std::os::unix::fs::chown(path, Some(uid), Some(gid)).unwrap();
        }
    }

    /// The server does not run as root.
    fn as_user(&self, program: &Path) -> Command {
        let mut command = match self.user {
            None => Command::new(program),
            Some((uid, gid)) => {
                let mut command = Command::new("setpriv");
                command
                    .arg(format!("--reuid={uid}"))
                    .arg(format!("--regid={gid}"))
                    .args(["--clear-groups", "--"])
                    .arg(program);
                command
            }
        };
        command.current_dir("/").stdin(Stdio::null());
        command
    }

    /// Starts it, and waits until it answers.
    pub(crate) fn start(&self) {
        // Ends with us, whatever ends us: the shell waits for our end of the pipe to close.
        const WATCH: &str =
            r#""$@" & pid=$!; cat >/dev/null; kill -INT $pid 2>/dev/null; wait $pid"#;
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.directory.path().join("log"))
            .unwrap();
        let mut command = self.as_user(Path::new("/bin/sh"));
        command
            .args(["-c", WATCH, "sh"])
            .arg(self.bin.join("postgres"))
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(self.directory.path())
            .args(["-p", &self.port.to_string()])
            .args(["-c", "listen_addresses=127.0.0.1"])
            .args(["-c", "max_connections=200", "-c", "shared_buffers=64MB"]);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        let child = command
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        *self.process.lock().unwrap() = Some(child);
        let start = Instant::now();
        loop {
            let ready = self
                .command("pg_isready")
                .args(["-q", "-h", "127.0.0.1", "-p", &self.port.to_string()])
                .status()
                .unwrap();
            if ready.success() {
                return;
            }
            assert!(
                start.elapsed() < Duration::from_mins(1),
                "PostgreSQL does not start: {}",
                std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Stops it, and waits until it is gone.
    pub(crate) fn stop(&self, how: Stop) {
        let mode = match how {
            Stop::Fast => "fast",
            Stop::Immediate => "immediate",
        };
        let stopped = self
            .command("pg_ctl")
            .args(["stop", "-w", "-m", mode, "-D"])
            .arg(self.data())
            .output()
            .unwrap();
        assert!(
            stopped.status.success(),
            "{}",
            String::from_utf8_lossy(&stopped.stderr)
        );
        self.reap();
    }

    fn reap(&self) {
        let child = self
            .process
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        if let Some(mut child) = child {
            drop(child.stdin.take());
            let _ = child.wait();
        }
    }

    /// Its port on 127.0.0.1.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Where a database is.
    pub(crate) fn url(&self, database: &str) -> String {
        url(self.port, database)
    }

    /// A connection for the test itself.
    pub(crate) async fn client(&self, database: &str) -> tokio_postgres::Client {
        let (client, connection) =
            tokio_postgres::connect(&self.url(database), tokio_postgres::NoTls)
                .await
                .unwrap();
        tokio::spawn(connection);
        client
    }

    /// A new database, or a copy of what is committed in another, whose users are cut off for
    /// good. From a thread of its own, so that it can be called anywhere.
    pub(crate) fn database(&self, copy_of: Option<&str>) -> String {
        let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let mut statements = Vec::new();
        if let Some(old) = copy_of {
            statements.push(format!("ALTER DATABASE {old} ALLOW_CONNECTIONS false"));
            statements.push(format!(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = '{old}'"
            ));
        }
        let template = copy_of.unwrap_or("template0");
        statements.push(format!("CREATE DATABASE {name} TEMPLATE {template}"));
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .unwrap();
                    runtime.block_on(async {
                        let client = self.client("postgres").await;
                        for statement in &statements {
                            client.batch_execute(statement).await.unwrap();
                        }
                    });
                })
                .join()
                .unwrap();
        });
        name
    }
}

/// Where a database is.
pub(crate) fn url(port: u16, database: &str) -> String {
    format!("postgres://postgres@127.0.0.1:{port}/{database}?sslmode=disable")
}

impl Drop for Server {
    fn drop(&mut self) {
        self.reap();
    }
}

/// User and group that the server runs as when we are root.
fn unprivileged() -> Option<(u32, u32)> {
    let id = |arguments: &[&str]| -> u32 {
        let output = Command::new("id").args(arguments).output().unwrap();
        String::from_utf8_lossy(&output.stdout)
            .trim()
            .parse()
            .unwrap()
    };
    (id(&["-u"]) == 0).then(|| (id(&["-u", "postgres"]), id(&["-g", "postgres"])))
}
