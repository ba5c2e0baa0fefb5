//! The door: every route on one screen, with who calls it.

mod admin;
mod answer;
mod body;
mod bundles;
mod capability;
mod cds_hooks;
mod clients;
mod console;
mod cors;
mod error;
#[cfg(feature = "fault-injection")]
mod fault;
mod findings;
mod health;
mod jwt;
mod keys;
mod metrics;
mod negotiate;
mod observations;
mod operations;
mod render;
mod route;
mod search;
mod trail;

use std::{sync::Arc, time::Duration};

use actix_web::{
    App,
    body::MessageBody,
    dev::{ServiceFactory, ServiceRequest, ServiceResponse},
    middleware::{Compress, from_fn},
    web::{self, Data, ServiceConfig},
};
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use self::{
    admin::{detail_json, summary_json},
    cds_hooks::Services,
    clients::{Clients, ClientsError},
};
use self::{body::Budget, capability::Capability, metrics::Metrics, route::at};
use crate::{
    courier::TargetStatus, fhir::submission::Checker, fhir_server::Smart, intake::Intake,
    store::Store,
};

/// Whose data everything is, as long as nobody is asked who they are.
const TENANT: &str = "default";
/// Who sends, as long as nobody is asked who they are.
const CLIENT: &str = "anonymous";

/// Says what time it is. Handed in, so that nothing here reads a clock.
pub type Clock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

/// Says how the FHIR servers stand that are written to.
pub type Targets = Arc<dyn Fn() -> Vec<TargetStatus> + Send + Sync>;

/// What one request may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Size of a body after decompression.
    pub max_body: usize,
    /// Bytes of all bodies together.
    pub max_inflight_bytes: usize,
    /// Time for a request.
    pub deadline: Duration,
    /// Time for a body to arrive.
    pub body_timeout: Duration,
}

/// What the door is built of.
pub struct Parts {
    /// Takes submissions.
    pub intake: Arc<Intake>,
    /// Answers reads.
    pub store: Arc<dyn Store>,
    /// Checks what comes in.
    pub checker: Arc<Checker>,
    /// The time.
    pub clock: Clock,
    /// `http://host:port`, without a slash at the end.
    pub base: String,
    /// Limits.
    pub limits: Limits,
    /// For how long a repeat is answered with its receipt.
    pub receipt_hours: u32,
    /// Whose public keys are shown.
    pub keys: Option<Arc<Smart>>,
    /// For `/readyz` and the metrics.
    pub targets: Targets,
    /// Told when something may have to be delivered.
    pub wake: Arc<Notify>,
    /// Set when the service is about to end.
    pub draining: CancellationToken,
    /// The CDS Hooks services.
    pub cds: Services,
}

/// State that every handler can reach.
pub struct Door {
    intake: Arc<Intake>,
    store: Arc<dyn Store>,
    checker: Arc<Checker>,
    clock: Clock,
    base: String,
    limits: Limits,
    keys: Option<Arc<Smart>>,
    targets: Targets,
    wake: Arc<Notify>,
    draining: CancellationToken,
    cds: Services,
    budget: Budget,
    metrics: Arc<Metrics>,
    capability: Capability,
}

impl Door {
    /// Makes the state, once for all workers.
    pub fn new(parts: Parts) -> Data<Self> {
        let metrics = Arc::new(Metrics::default());
        Data::new(Self {
            budget: Budget::new(parts.limits.max_inflight_bytes, Arc::clone(&metrics)),
            capability: Capability::new(&parts.base, parts.receipt_hours),
            metrics,
            intake: parts.intake,
            store: parts.store,
            checker: parts.checker,
            clock: parts.clock,
            base: parts.base,
            limits: parts.limits,
            keys: parts.keys,
            targets: parts.targets,
            wake: parts.wake,
            draining: parts.draining,
            cds: parts.cds,
        })
    }

    fn now(&self) -> OffsetDateTime {
        (self.clock)()
    }
}

/// The application of one worker.
pub fn app(
    door: Data<Door>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody + use<>>,
        Error = actix_web::Error,
        InitError = (),
    > + use<>,
> {
    App::new()
        .app_data(door)
        .configure(routes)
        .wrap(from_fn(trail::follow))
        .wrap(Compress::default())
}

fn routes(config: &mut ServiceConfig) {
    config
        // Interface engines (Mirth, Rhapsody, Cloverleaf ...): results in.
        .service(at("/fhir").post(bundles::submit).finish())
        .service(at("/fhir/").post(bundles::submit).finish())
        // Test harnesses, quality assurance, clinicians' tools: nothing stored. Before the
        // routes whose `{id}` would take the name of an operation.
        .service(at("/fhir/$assess-cytopenia").post(operations::assess).finish())
        .service(at("/fhir/{type}/$validate").post(operations::validate).finish())
        // Single results.
        .service(at("/fhir/Observation").post(observations::create).finish())
        .service(at("/fhir/Observation/{id}").get(findings::read).put(observations::update).finish())
        // EHRs and whoever reads what was found.
        .service(at("/fhir/Flag").get(findings::search_flags).finish())
        .service(at("/fhir/DiagnosticReport").get(findings::search_reports).finish())
        .service(at("/fhir/{type:Flag|DiagnosticReport}/_search").post(findings::search_by_form).finish())
        .service(at("/fhir/{type:Flag|DiagnosticReport|Provenance|Device}/{id}").get(findings::read).finish())
        .service(
            at("/fhir/{type:Observation|Flag|DiagnosticReport|Provenance|Device}/{id}/_history/{version}")
                .get(findings::read)
                .finish(),
        )
        // FHIR clients, before anything else.
        .service(at("/fhir/metadata").get(capability::show).finish())
        // The authorization server of the FHIR server that is written to.
        .service(at("/.well-known/jwks.json").get(keys::show).finish())
        // A frequent mistake, answered with the right address.
        .service(at("/fhir/Bundle").post(bundles::wrong_address).finish())
        // EHRs, while a clinician looks at a chart.
        .service(at("/cds-services").get(cds_hooks::discover).options(cds_hooks::preflight).finish())
        .service(at("/cds-services/{id}").post(cds_hooks::call).options(cds_hooks::preflight).finish())
        .service(
            at("/cds-services/{id}/feedback")
                .post(cds_hooks::take_feedback)
                .options(cds_hooks::preflight)
                .finish(),
        )
        // Kubernetes, Prometheus.
        .service(at("/livez").get(health::live).finish())
        .service(at("/readyz").get(health::ready).finish())
        .service(at("/metrics").get(health::metrics).finish())
        .service(at("/version").get(health::version).finish())
        // Operators, and `marrowflag deliveries`, `patients` and `backup`.
        .service(at("/admin/deliveries").get(admin::list).finish())
        .service(at("/admin/deliveries/{id}").get(admin::show).finish())
        .service(at("/admin/deliveries/{id}/retry").post(admin::retry).finish())
        .service(at("/admin/deliveries/{id}/discard").post(admin::discard).finish())
        .service(at("/admin/patients/delete").post(admin::delete_patient).finish())
        .service(at("/admin/backup").post(admin::back_up).finish())
        // A newcomer with a browser.
        .service(at("/").get(console::page).finish())
        // Clinicians, from there and from a card.
        .service(at("/patients/{id}").get(console::patient).finish())
        .service(at("/console.css").get(console::style).finish())
        .service(at("/console.js").get(console::script).finish())
        .default_service(web::to(route::nothing_here));
}
