//! Builds the parts, and runs them until told to stop. The only reader of the clock.

use std::{
    future::Future,
    io::Write as _,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::{Duration, Instant},
};

use actix_web::HttpServer;
use time::OffsetDateTime;
use tokio::{sync::Notify, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::Exit,
    config::{AsOf, ConfigError, Database, Serve},
    courier::{Courier, Outbox, Surroundings},
    fhir::{
        codes::CodeMap,
        submission::{Checker, CheckerError},
    },
    fhir_server::{self, FhirServer},
    http::{self, Clock, Door},
    intake::{self, Intake},
    store::{
        OpenError, Store, StoreError,
        delivery::Hold,
        lease::{Leased, Settlement, TargetId},
        reading::DeliveryFilter,
        sqlite::{Options, Sqlite},
    },
};

/// Name of the FHIR server of `--fhir-server` in the store and in lists.
const TARGET: &str = "default";
/// Time that load balancers get to notice that we are about to stop.
const NOTICE: Duration = Duration::from_secs(5);
/// Time for requests that are being worked on.
const FINISH: Duration = Duration::from_secs(10);
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
            Self::Listen(..) => Exit::Io,
            Self::Open(error) => match error {
                OpenError::Locked { .. } => Exit::Locked,
                OpenError::Unusable { .. } => Exit::Data,
                OpenError::WrongIdentityKey { .. } | OpenError::IdentityKey { .. } => Exit::Config,
                OpenError::Io { .. } | OpenError::Database { .. } => Exit::Io,
            },
            Self::Store(_) => Exit::Io,
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
    courier: Option<Arc<Courier<StoreOutbox>>>,
    door: http::Parts,
    draining: CancellationToken,
}

/// `marrowflag serve`: builds, says where, runs until a signal.
pub async fn serve(settings: Serve) -> Exit {
    let app = match App::build(settings).await {
        Ok(app) => app,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            return error.exit();
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
    app.run_until(told_to_stop()).await
}

impl App {
    /// Binds, opens the store, and builds the parts, by the clock of this machine.
    pub async fn build(settings: Serve) -> Result<Self, StartError> {
        Self::build_at(settings, Arc::new(now)).await
    }

    /// The same by another clock.
    pub async fn build_at(settings: Serve, clock: Clock) -> Result<Self, StartError> {
        settings.check()?;
        let listener = TcpListener::bind(settings.listen).map_err(|error| StartError::Listen(settings.listen, error))?;
        let address = listener
            .local_addr()
            .map_err(|error| StartError::Listen(settings.listen, error))?;
        let base = match &settings.public_base_url {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => format!("http://{address}"),
        };
        let store = open(&settings, &clock).await?;
        let checker = Arc::new(Checker::new(Vec::new())?);
        let codes = Arc::new(code_map(&settings)?);
        let wake = Arc::new(Notify::new());
        let courier = courier(&settings, &store, &clock, &wake).await?;
        todo(intake);
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
