//! Builds the parts, and runs them until told to stop. The only reader of the clock.

use std::{
    future::Future,
    io::Write as _,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::{HttpServer, dev::Server, web::Data};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tokio::{
    sync::{Notify, mpsc::UnboundedReceiver},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::Exit,
    config::{self, AsOf, ConfigError, Database, Serve},
    courier::{Closed, Courier, Surroundings},
    fault::crash_point,
    fhir::{
        codes::CodeMap,
        submission::{Checker, CheckerError},
        tree,
    },
    fhir_server::{self, Connection, FhirServer, Smart, TlsFiles, Token, lookup::Lookup},
    http::{self, Clients, Clock, Door},
    intake::{self, Intake},
    store::{
        Fatal, OpenError, Store, StoreError,
        cards::CardStore,
        lease::PatientId,
        postgres::{self, Postgres},
        removal::{CountedFrom, Retention},
        sqlite::{self, Sqlite},
        submission::OutboxTarget,
    },
};

/// Name of the FHIR server of `--fhir-server` in the store and in lists.
const TARGET: &str = "default";
/// Time that load balancers get to notice that we are about to stop.
const NOTICE: Duration = Duration::from_secs(5);
/// Time for requests that are being worked on.
const FINISH: Duration = Duration::from_secs(10);
/// How often receipts are looked through, and how often everything else.
const HOUSE: Duration = Duration::from_mins(1);
const ROUND: Duration = Duration::from_hours(24);
/// Between two pieces of removing: others write too.
const BREATH: Duration = Duration::from_millis(20);
/// Time for deliveries that are on their way.
const LAND: Duration = Duration::from_secs(15);

/// Why the service does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file of the settings.
    #[error("{what} {path}: {why}")]
    File {
        /// Which.
        what: &'static str,
        /// Where.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The address.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, std::io::Error),
    /// The database.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database, in use.
    #[error("the database: {0}")]
    Store(#[from] StoreError),
    /// The profiles.
    #[error(transparent)]
    Checker(#[from] CheckerError),
    /// The FHIR server.
    #[error(transparent)]
    Target(#[from] fhir_server::SetupError),
}

impl StartError {
    /// How the process ends.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Config(_) | Self::File { .. } | Self::Target(_) => Exit::Config,
            Self::Store(StoreError::Fatal(Fatal::Corrupt)) => Exit::Data,
            Self::Listen(..) | Self::Store(_) => Exit::Io,
            Self::Open(error) => match error {
                OpenError::Locked { .. } => Exit::Locked,
                OpenError::Unusable { .. } | OpenError::Foreign { .. } => Exit::Data,
                OpenError::WrongIdentityKey { .. }
                | OpenError::IdentityKey { .. }
                | OpenError::Settings { .. } => Exit::Config,
                OpenError::Io { .. } | OpenError::Server { .. } | OpenError::Database { .. } => {
                    Exit::Io
                }
            },
            Self::Checker(_) => Exit::Bug,
        }
    }
}

/// The service, bound and ready to run.
pub struct App {
    listener: TcpListener,
    address: SocketAddr,
    settings: Serve,
    store: Arc<dyn Store>,
    courier: Option<Arc<Courier<Arc<dyn Store>>>>,
    door: http::Parts,
    draining: CancellationToken,
}

/// `marrowflag serve`: builds, says where, runs until a signal.
pub async fn serve(settings: Serve) -> Exit {
    #[cfg(feature = "fault-injection")]
    if let Some(point) = &settings.crash_at
        && !crate::fault::arm(point)
    {
        tracing::error!(point, "no crash point is said like this");
        return Exit::Config;
    }
    let app = match App::build(settings).await {
        Ok(app) => app,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return error.exit();
        }
    };
    // Before anyone can know that we run.
    let stop = match told_to_stop() {
        Ok(stop) => stop,
        Err(error) => {
            tracing::error!(%error, "signals cannot be received");
            return Exit::Io;
        }
    };
    let line = format!(
        "marrowflag {} listening on http://{}\n",
        env!("CARGO_PKG_VERSION"),
        app.address()
    );
    let mut out = std::io::stdout().lock();
    // Whoever started us may have closed its end; the service is wanted all the same.
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
    drop(out);
    app.run_until(stop).await
}

impl App {
    /// Binds, opens the store, and builds the parts, by the clock of this machine.
    pub async fn build(settings: Serve) -> Result<Self, StartError> {
        Self::build_at(settings, Arc::new(now)).await
    }

    /// The same by another clock.
    pub async fn build_at(settings: Serve, clock: Clock) -> Result<Self, StartError> {
        settings.check()?;
        let listener = TcpListener::bind(settings.listen)
            .map_err(|error| StartError::Listen(settings.listen, error))?;
        let address = listener
            .local_addr()
            .map_err(|error| StartError::Listen(settings.listen, error))?;
        let base = match &settings.public_base_url {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => format!("http://{address}"),
        };
        let (store, cards) = open(&settings, &clock).await?;
        let checker = Arc::new(Checker::new(Vec::new())?);
        let wake = Arc::new(Notify::new());
        let (server, keys) = fhir_server(&settings)?.unzip();
        let (courier, targets) = courier(server, &store, &clock, &wake).await?;
        let standing = courier.clone();
        let intake_settings = intake_settings(&settings)?;
        let cds = http::Services {
            clients: clients(&settings)?,
            own_server: settings.fhir_server.clone(),
            cards,
            codes: Arc::clone(&intake_settings.codes),
            as_of: intake_settings.as_of,
            lookup: Lookup::new()?,
            model: intake::chart_model(),
        };
        let intake = Intake::new(Arc::clone(&store), Arc::clone(&checker), intake_settings);
        intake.set_targets(targets);
        let intake = Arc::new(intake);
        if let Some(courier) = &courier {
            tokio::spawn(close(
                Arc::clone(&intake),
                courier.closings(),
                Arc::clone(&clock),
            ));
        }
        let draining = CancellationToken::new();
        let door = http::Parts {
            intake,
            store: Arc::clone(&store),
            checker,
            clock,
            base,
            limits: http::Limits {
                max_body: settings.limits.max_body,
                max_inflight_bytes: settings.limits.max_inflight_bytes,
                deadline: settings.limits.deadline,
                body_timeout: settings.limits.body_timeout,
            },
            receipt_hours: settings.receipt_retention,
            keys: keys.flatten(),
            targets: Arc::new(move || {
                standing
                    .as_ref()
                    .map_or_else(Vec::new, |courier| courier.status())
            }),
            wake,
            draining: draining.clone(),
            cds,
        };
        Ok(Self {
            listener,
            address,
            settings,
            store,
            courier,
            door,
            draining,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves and delivers until `stop`, then finishes what was begun.
    pub async fn run_until(self, stop: impl Future<Output = ()>) -> Exit {
        let Self {
            listener,
            address,
            settings,
            store,
            courier,
            door,
            draining,
        } = self;
        let clock = Arc::clone(&door.clock);
        let server = match server(listener, Door::new(door), &settings.limits) {
            Ok(server) => server,
            Err(error) => {
                tracing::error!(%error, "cannot serve");
                return Exit::Io;
            }
        };
        let handle = server.handle();
        let mut serving = tokio::spawn(server);
        let landing = CancellationToken::new();
        let delivering = courier.map(|courier| tokio::spawn(courier.run(landing.clone())));
        let house = tokio::spawn(keep_house(
            Arc::clone(&store),
            clock,
            retention(&settings),
            draining.clone(),
        ));
        let mut failure = store.failure();

        let exit = tokio::select! {
            () = stop => Exit::Done,
            ended = &mut serving => {
                tracing::error!(ended = ?ended.map(|ended| ended.is_ok()), "the door closed by itself");
                Exit::Bug
            }
            Ok(failed) = failure.wait_for(Option::is_some) => {
                tracing::error!(failure = ?*failed, "the store failed: nothing more may be acknowledged");
                match *failed {
                    Some(Fatal::Corrupt) => Exit::Data,
                    Some(Fatal::Io) | None => Exit::Io,
                }
            }
        };
        tracing::info!("stopping");
        draining.cancel();
        crash_point!("shutdown.draining");
        if exit == Exit::Done && !address.ip().is_loopback() {
            tokio::time::sleep(NOTICE).await;
        }
        handle.stop(exit == Exit::Done).await;
        landing.cancel();
        if let Some(delivering) = delivering
            && timeout(LAND, delivering).await.is_err()
        {
            tracing::warn!(
                "a delivery is still on its way; it will be looked at again after the next start"
            );
        }
        // It stops between two pieces of work.
        let _ = house.await;
        if let Err(error) = store.close().await {
            tracing::error!(%error, "the store did not close");
            return if exit == Exit::Done { Exit::Io } else { exit };
        }
        tracing::info!("stopped");
        exit
    }
}

/// Closes our own copy of what humans close on the FHIR server.
async fn close(intake: Arc<Intake>, mut closings: UnboundedReceiver<Closed>, clock: Clock) {
    while let Some(closed) = closings.recv().await {
        let request = uuid::Uuid::new_v4().to_string();
        let done = intake.close(&closed.tenant, closed.patient_key, request, clock());
        if let Err(error) = done.await {
            tracing::warn!(%error, "a Flag that a human closed stays open here until the next count");
        }
    }
}

/// How long what is kept.
fn retention(settings: &Serve) -> Retention {
    Retention {
        timeline: time::Duration::days(i64::from(settings.retention)),
        counted_from: match settings.as_of {
            AsOf::Received => CountedFrom::Clock,
            AsOf::Sampled => CountedFrom::NewestAssessment,
        },
        findings: time::Duration::days(i64::from(settings.findings_retention) * 365),
    }
}

/// Removes what is older than it is kept: receipts every minute, everything else once a day and at
/// the start.
async fn keep_house(
    store: Arc<dyn Store>,
    clock: Clock,
    retention: Retention,
    stop: CancellationToken,
) {
    let mut round = Some(PatientId(0));
    let mut began = Instant::now();
    loop {
        if round.is_none() && began.elapsed() >= ROUND {
            (round, began) = (Some(PatientId(0)), Instant::now());
        }
        let more = match tidy(&store, &clock, &retention, round).await {
            Ok((more, next)) => {
                round = next;
                more
            }
            Err(error) => {
                tracing::warn!(%error, "what is too old could not be removed; it is tried again");
                false
            }
        };
        let pause = if more { BREATH } else { HOUSE };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// A little of it; whether there is more to do at once, and where to go on.
async fn tidy(
    store: &Arc<dyn Store>,
    clock: &Clock,
    retention: &Retention,
    round: Option<PatientId>,
) -> Result<(bool, Option<PatientId>), StoreError> {
    let now = clock();
    let expired = store.expire(now).await?;
    let next = match round {
        Some(after) => store.forget(*retention, now, after).await?,
        None => None,
    };
    Ok((expired > 0 || next.is_some(), next))
}

fn server(
    listener: TcpListener,
    door: Data<Door>,
    limits: &config::Limits,
) -> std::io::Result<Server> {
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let server = HttpServer::new(move || http::app(door.clone()))
        .workers(workers)
        .max_connections(limits.max_connections.div_ceil(workers))
        .client_request_timeout(limits.head_timeout)
        .keep_alive(limits.keep_alive)
        .shutdown_timeout(FINISH.as_secs())
        .disable_signals()
        .listen(listener)?;
    Ok(server.run())
}

/// The store, as the door and the courier use it, and as CDS Hooks does.
type Stores = (Arc<dyn Store>, Arc<dyn CardStore>);

async fn open(settings: &Serve, clock: &Clock) -> Result<Stores, StartError> {
    let now = clock();
    let settings = settings.clone();
    // Opening may recover what a crash left, which takes as long as it takes.
    let opened = tokio::task::spawn_blocking(move || open_blocking(&settings, now)).await;
    opened.unwrap_or(Err(StartError::Store(StoreError::Closed)))
}

fn open_blocking(settings: &Serve, now: OffsetDateTime) -> Result<Stores, StartError> {
    let key = settings.identity_key_file.clone();
    match &settings.database {
        Database::Sqlite(path) => {
            let store = Arc::new(Sqlite::open(&sqlite::Options {
                identity_key_file: key,
                queue: settings.limits.queue,
                restored: settings.restored,
                ..sqlite::Options::new(path, now, rand::random())
            })?);
            let cards: Arc<dyn CardStore> = Arc::<Sqlite>::clone(&store);
            Ok((store, cards))
        }
        Database::Postgres(address) => {
            let key = key.ok_or(ConfigError::IdentityKey)?;
            let replica = uuid::Uuid::new_v4().to_string();
            let store = Arc::new(Postgres::open(&postgres::Options {
                // A test that kills a replica does not wait half a minute for its lanes.
                #[cfg(feature = "fault-injection")]
                timing: postgres::Timing {
                    beat: Duration::from_millis(200),
                    late: Duration::from_secs(1),
                    standstill: Duration::from_secs(2),
                },
                queue: settings.limits.queue,
                restored: settings.restored,
                ..postgres::Options::new(address.as_str(), key, replica, now)
            })?);
            let cards: Arc<dyn CardStore> = Arc::<Postgres>::clone(&store);
            Ok((store, cards))
        }
    }
}

/// Who may call the CDS Hooks services.
fn clients(settings: &Serve) -> Result<Option<Clients>, StartError> {
    let Some(path) = &settings.clients else {
        return Ok(None);
    };
    let wrong = |why: String| StartError::File {
        what: "clients",
        path: path.display().to_string(),
        why,
    };
    let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    // Files of keys are named relative to the file that names them.
    let folder = path.parent().unwrap_or(Path::new("."));
    Clients::parse(&text, |file| std::fs::read(folder.join(file)))
        .map(Some)
        .map_err(|error| wrong(error.to_string()))
}

fn intake_settings(settings: &Serve) -> Result<intake::Settings, StartError> {
    let (codes, code_map_fingerprint) = code_map(settings)?;
    Ok(intake::Settings {
        as_of: match settings.as_of {
            AsOf::Received => intake::AsOf::Received,
            AsOf::Sampled => intake::AsOf::Sampled,
        },
        organization: settings
            .organization
            .as_ref()
            .map(|organization| (organization.system.clone(), organization.value.clone())),
        snomed: settings.snomed,
        insecure: settings.insecure,
        write_observations: settings.write_observations,
        codes: Arc::new(codes),
        code_map_fingerprint,
        receipt_retention: time::Duration::hours(i64::from(settings.receipt_retention)),
        limits: tree::Limits {
            entries: settings.limits.max_entries,
            ..tree::Limits::default()
        },
    })
}

/// The site's code map and its fingerprint, if it has one.
fn code_map(settings: &Serve) -> Result<(CodeMap, Option<String>), StartError> {
    let Some(path) = &settings.code_map else {
        return Ok((CodeMap::default(), None));
    };
    let wrong = |why: String| StartError::File {
        what: "code map",
        path: path.display().to_string(),
        why,
    };
    let bytes = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let codes = CodeMap::from_json(&path.display().to_string(), &bytes)
        .map_err(|error| wrong(error.to_string()))?;
    Ok((
        codes,
        Some(data_encoding::HEXLOWER.encode(&Sha256::digest(&bytes))),
    ))
}

/// Nothing to deliver to, or one FHIR server.
type Delivering = (Option<Arc<Courier<Arc<dyn Store>>>>, Vec<OutboxTarget>);

/// The FHIR server that is written to, and the client whose public keys we show for it.
type Writing = (FhirServer, Option<Arc<Smart>>);

fn fhir_server(settings: &Serve) -> Result<Option<Writing>, StartError> {
    let Some(url) = &settings.fhir_server else {
        return Ok(None);
    };
    let files = &settings.fhir_server_tls;
    let identity = files.client_cert.clone().zip(files.client_key.clone());
    let connection = Arc::new(Connection::new(
        fhir_server::Limits {
            per_second: settings.fhir_server_rate,
            ..fhir_server::Limits::default()
        },
        TlsFiles {
            identity,
            authorities: files.ca.clone(),
        },
    )?);
    let (token, smart) = match (
        &settings.fhir_server_smart,
        &settings.fhir_server_token_file,
    ) {
        (Some(path), _) => {
            let smart = Arc::new(Smart::load(
                path,
                url.as_str(),
                settings.write_observations,
                Arc::clone(&connection),
                rand::random,
            )?);
            (Token::Smart(Arc::clone(&smart)), Some(smart))
        }
        (None, Some(path)) => {
            // A missing file is a mistake to hear of now, not at the first delivery.
            std::fs::read(path).map_err(|error| StartError::File {
                what: "token file",
                path: path.display().to_string(),
                why: error.to_string(),
            })?;
            (Token::File(path.as_path().into()), None)
        }
        (None, None) => (Token::None, None),
    };
    let server = FhirServer::over(connection, url.as_str(), token)?;
    Ok(Some((server, smart)))
}

async fn courier(
    server: Option<FhirServer>,
    store: &Arc<dyn Store>,
    clock: &Clock,
    wake: &Arc<Notify>,
) -> Result<Delivering, StartError> {
    let Some(server) = server else {
        return Ok((None, Vec::new()));
    };
    let target = store.target(TARGET, server.base()).await?;
    let start = Instant::now();
    let surroundings = Surroundings {
        now: Arc::clone(clock),
        monotonic: Arc::new(move || start.elapsed()),
        jitter: Arc::new(rand::random),
    };
    let courier = Courier::new(
        Arc::clone(store),
        vec![(target, server)],
        surroundings,
        Arc::clone(wake),
    );
    let target = OutboxTarget {
        id: target,
        // Found out from its CapabilityStatement when it is first written to.
        unwritable: Vec::new(),
    };
    Ok((Some(courier), vec![target]))
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the clock"
)]
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// SIGTERM, as containers and service managers send it, or Ctrl-C. Listens from now on, not only from
/// when it is awaited.
#[cfg(unix)]
fn told_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Ctrl-C.
#[cfg(not(unix))]
fn told_to_stop() -> std::io::Result<impl Future<Output = ()>> {
    Ok(async {
        let _ = tokio::signal::ctrl_c().await;
    })
}
