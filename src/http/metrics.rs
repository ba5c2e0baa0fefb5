//! `GET /metrics`: what the door counts. Labels come from closed sets; none is a patient's.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::Registry,
};
use time::OffsetDateTime;

use crate::{
    courier::TargetStatus,
    fhir::submission::Kind,
    intake::{
        IntakeError,
        receipt::{EntryOutcome, Receipt},
    },
    store::reading::Figures,
};

/// Labels of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    /// Template of the route, `/fhir/Flag/{id}`.
    pub(super) route: String,
    /// Method.
    pub(super) method: &'static str,
    /// `2xx`, `4xx` ...
    pub(super) class: &'static str,
}

/// Label of the route alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RouteLabel {
    /// Template of the route.
    pub(super) route: String,
}

/// Which limit refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LimitLabel {
    /// Name of the limit.
    pub(super) limit: &'static str,
}

/// Kind of submission or entry and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ResultLabels {
    /// `batch`, `transaction`, `single` ...
    pub(super) kind: &'static str,
    /// `accepted`, `refused`, `replayed`.
    pub(super) result: &'static str,
}

/// What became of a call of the CDS Hooks services, or of feedback.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CdsLabel {
    event: &'static str,
}

/// Deliveries of a target in a state.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeliveryLabels {
    target: String,
    state: String,
}

/// A target, by its configured name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TargetLabel {
    target: String,
}

/// Why a target is held.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HoldLabels {
    target: String,
    reason: &'static str,
}

/// A type of ours that a target does not let us write.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TypeLabels {
    target: String,
    r#type: &'static str,
}

/// Of a number that there is one of, or none.
type NoLabels = [(&'static str, &'static str); 0];

/// How the FHIR servers stand that are written to.
#[derive(Debug, Default)]
struct Targets {
    breaker_state: Family<TargetLabel, Gauge>,
    hold: Family<HoldLabels, Gauge>,
    unwritable: Family<TypeLabels, Gauge>,
    token_refresh: Family<TargetLabel, Counter>,
}

impl Targets {
    fn registered(registry: &mut Registry) -> Self {
        let targets = Self::default();
        registry.register(
            "breaker_state",
            "Whether a FHIR server is taken to be down",
            targets.breaker_state.clone(),
        );
        registry.register(
            "target_hold",
            "Held FHIR servers, by reason",
            targets.hold.clone(),
        );
        registry.register(
            "target_type_unwritable",
            "Types that a FHIR server does not let us write",
            targets.unwritable.clone(),
        );
        registry.register(
            "token_refresh",
            "Tokens that an authorization server gave us",
            targets.token_refresh.clone(),
        );
        targets
    }

    fn show<'t>(&self, targets: impl Iterator<Item = (&'t str, TargetStatus)>) {
        // What no longer holds must not keep its last number.
        self.hold.clear();
        self.unwritable.clear();
        for (name, status) in targets {
            let target = || name.to_owned();
            let label = TargetLabel { target: target() };
            let open = i64::from(status.open);
            self.breaker_state.get_or_create(&label).set(open);
            if let Some(tokens) = status.tokens {
                let counter = self.token_refresh.get_or_create(&label);
                counter.inner().store(tokens, Ordering::Relaxed);
            }
            if let Some(hold) = status.hold {
                let labels = HoldLabels {
                    target: target(),
                    reason: hold.as_str(),
                };
                self.hold.get_or_create(&labels).set(1);
            }
            for kind in status.unwritable {
                let labels = TypeLabels {
                    target: target(),
                    r#type: kind,
                };
                self.unwritable.get_or_create(&labels).set(1);
            }
        }
    }
}

/// What the store says of itself.
#[derive(Debug, Default)]
struct Database {
    queue_length: Gauge,
    wal_bytes: Gauge,
    /// Without a value where it is not known: 0 would be an alarm.
    free_bytes: Family<NoLabels, Gauge>,
}

impl Database {
    fn registered(registry: &mut Registry) -> Self {
        let database = Self::default();
        registry.register(
            "queue_length",
            "Submissions waiting to be stored",
            database.queue_length.clone(),
        );
        registry.register(
            "sqlite_wal_bytes",
            "Size of the write-ahead log",
            database.wal_bytes.clone(),
        );
        registry.register(
            "store_free_bytes",
            "Room on the disk of the embedded database",
            database.free_bytes.clone(),
        );
        database
    }

    fn show(&self, figures: &Figures) {
        let queued = u64::try_from(figures.queue_length).unwrap_or(u64::MAX);
        self.queue_length.set(saturating(queued));
        self.wal_bytes.set(saturating(figures.wal_bytes));
        if let Some(free) = figures.free_bytes {
            self.free_bytes.get_or_create(&[]).set(saturating(free));
        }
    }
}

/// Everything counted.
#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    /// Requests answered.
    pub(super) requests: Family<RequestLabels, Counter>,
    /// How long they took.
    pub(super) request_seconds: Family<RouteLabel, Histogram>,
    /// Requests being worked on.
    pub(super) inflight: Gauge,
    /// Bytes of bodies being worked on.
    pub(super) inflight_bytes: Gauge,
    /// Refused by a limit.
    pub(super) refused: Family<LimitLabel, Counter>,
    /// Submissions.
    pub(super) submissions: Family<ResultLabels, Counter>,
    /// Entries of submissions.
    pub(super) entries: Family<ResultLabels, Counter>,
    cds: Family<CdsLabel, Counter>,
    deliveries: Family<DeliveryLabels, Gauge>,
    oldest_due_seconds: Family<TargetLabel, Gauge>,
    targets: Targets,
    database: Database,
    /// Requests that ended in a caught panic.
    pub(super) panics: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("marrowflag");
        let requests = Family::<RequestLabels, Counter>::default();
        let request_seconds = Family::<RouteLabel, Histogram>::new_with_constructor(|| {
            Histogram::new([
                0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0,
            ])
        });
        let inflight = Gauge::<i64, AtomicI64>::default();
        let inflight_bytes = Gauge::<i64, AtomicI64>::default();
        let refused = Family::<LimitLabel, Counter>::default();
        let submissions = Family::<ResultLabels, Counter>::default();
        let entries = Family::<ResultLabels, Counter>::default();
        let cds = Family::<CdsLabel, Counter>::default();
        registry.register(
            "cds",
            "Calls of the CDS Hooks services, and feedback, by what became of them",
            cds.clone(),
        );
        let deliveries = Family::<DeliveryLabels, Gauge>::default();
        let oldest_due_seconds = Family::<TargetLabel, Gauge>::default();
        let panics = Counter::<u64, AtomicU64>::default();
        registry.register("http_requests", "Requests answered", requests.clone());
        registry.register(
            "http_request_seconds",
            "Time from head to answer",
            request_seconds.clone(),
        );
        registry.register(
            "http_inflight",
            "Requests being worked on",
            inflight.clone(),
        );
        registry.register(
            "http_inflight_bytes",
            "Bytes of bodies being worked on",
            inflight_bytes.clone(),
        );
        registry.register("refused", "Requests refused by a limit", refused.clone());
        registry.register(
            "submissions",
            "Submissions by kind and result",
            submissions.clone(),
        );
        registry.register(
            "entries",
            "Entries of submissions by kind and result",
            entries.clone(),
        );
        registry.register(
            "deliveries",
            "Deliveries to FHIR servers by state",
            deliveries.clone(),
        );
        registry.register(
            "oldest_due_seconds",
            "How long the oldest due delivery waits",
            oldest_due_seconds.clone(),
        );
        registry.register(
            "panics",
            "Requests that ended in a caught panic",
            panics.clone(),
        );
        registry.register(
            "build",
            "What is running",
            Info::new(vec![(
                "version".to_owned(),
                env!("CARGO_PKG_VERSION").to_owned(),
            )]),
        );
        Self {
            targets: Targets::registered(&mut registry),
            database: Database::registered(&mut registry),
            registry,
            requests,
            request_seconds,
            inflight,
            inflight_bytes,
            refused,
            submissions,
            entries,
            cds,
            deliveries,
            oldest_due_seconds,
            panics,
        }
    }
}

impl Metrics {
    /// Everything in the text format of `OpenMetrics`.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// Takes over what the store says of itself.
    pub(super) fn show(&self, figures: &Figures, now: OffsetDateTime) {
        // A target or state that is no longer there must not keep its last number.
        self.deliveries.clear();
        for (target, state, count) in &figures.deliveries {
            let labels = DeliveryLabels {
                target: target.clone(),
                state: state.clone(),
            };
            self.deliveries
                .get_or_create(&labels)
                .set(saturating(*count));
        }
        self.oldest_due_seconds.clear();
        for (target, since) in &figures.oldest_due {
            let label = TargetLabel {
                target: target.clone(),
            };
            self.oldest_due_seconds
                .get_or_create(&label)
                .set((now - *since).whole_seconds().max(0));
        }
        self.database.show(figures);
    }

    /// Takes over how the targets stand.
    pub(super) fn show_targets<'t>(&self, targets: impl Iterator<Item = (&'t str, TargetStatus)>) {
        self.targets.show(targets);
    }

    /// Counts a submission and its entries.
    pub(super) fn count(&self, taken: &Result<Receipt, IntakeError>) {
        let (kind, result) = match taken {
            Ok(receipt) if receipt.replayed => (kind(receipt.kind), "replayed"),
            Ok(receipt) => (kind(receipt.kind), "accepted"),
            Err(IntakeError::Refused { .. }) => ("unknown", "refused"),
            Err(IntakeError::Store(_)) => ("unknown", "failed"),
        };
        self.submissions
            .get_or_create(&ResultLabels { kind, result })
            .inc();
        let entries = taken
            .iter()
            .filter(|receipt| !receipt.replayed)
            .flat_map(|receipt| &receipt.entries);
        for entry in entries {
            let result = match entry.outcome {
                EntryOutcome::Created { .. } => "created",
                EntryOutcome::Ok { .. } => "held",
                EntryOutcome::Accepted => "context",
                EntryOutcome::NoContent => "withdrawn",
                EntryOutcome::Refused(_) => "refused",
                EntryOutcome::Look { .. } | EntryOutcome::Found(_) | EntryOutcome::Missing => {
                    "read"
                }
            };
            self.entries
                .get_or_create(&ResultLabels { kind, result })
                .inc();
        }
    }

    /// Counts what became of a call of the CDS Hooks services.
    pub(super) fn cds(&self, event: &'static str) {
        self.cds.get_or_create(&CdsLabel { event }).inc();
    }

    /// Counts a refusal by a limit.
    pub(super) fn refuse(&self, limit: &'static str) {
        self.refused.get_or_create(&LimitLabel { limit }).inc();
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Single => "single",
        Kind::Batch => "batch",
        Kind::Transaction => "transaction",
        Kind::Collection => "collection",
        Kind::Document => "document",
        Kind::Message => "message",
        Kind::Searchset | Kind::History | Kind::Response | Kind::Untyped => "other",
    }
}

fn saturating(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_that_is_not_known_has_no_number() {
        let metrics = Metrics::default();
        let show = |free_bytes| {
            let figures = Figures {
                free_bytes,
                ..Figures::default()
            };
            metrics.show(&figures, OffsetDateTime::UNIX_EPOCH);
            metrics.text()
        };
        assert!(!show(None).contains("\nmarrowflag_store_free_bytes"));
        assert!(show(Some(7)).contains("\nmarrowflag_store_free_bytes{} 7\n"));
    }

    #[test]
    fn metrics_are_written_under_our_prefix() {
        let metrics = Metrics::default();
        metrics.refuse("max-body");
        let text = metrics.text();
        assert!(
            text.contains("marrowflag_refused_total{limit=\"max-body\"} 1"),
            "{text}"
        );
        assert!(text.contains("marrowflag_build_info{version="), "{text}");
        assert!(text.ends_with("# EOF\n"), "{text}");
    }
}
