//! Floor 3, the courier: outbox to FHIR servers. It leases what is due, sends it, and settles what
//! came of it; a breaker and holds keep it away from a target that does not work.

mod breaker;
pub mod control;
mod guard;

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use time::OffsetDateTime;
use tokio::{
    sync::{
        Notify,
        mpsc::{self, UnboundedReceiver, UnboundedSender},
    },
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use self::control::{Conclusion, Control, Ended, given_back};
use crate::{
    fault::crash_point,
    fhir_server::{FhirServer, Sent},
    store::{
        Store, StoreError,
        delivery::{Hold, Outcome},
        keys::Hash,
        lease::{Leased, Settlement, TargetId},
        reading::DeliveryFilter,
    },
};

/// Deliveries in flight to one target, of all processes together.
pub const IN_FLIGHT: usize = 8;
/// How often the outbox is looked at when nobody wakes the courier.
const POLL: Duration = Duration::from_millis(500);
/// How long to leave a store alone that gave an error.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How often a settlement is tried: for a minute.
const SETTLE_TRIES: u32 = 60;

/// The side of the store that the courier works with.
pub trait Outbox: Send + Sync + 'static {
    /// What can go wrong; its text must not hold patient data.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Takes at most `limit` lanes that are due on `target` and whose oldest open delivery is
    /// returned, the most urgent first.
    fn lease(
        &self,
        target: TargetId,
        now: OffsetDateTime,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Leased>, Self::Error>> + Send;

    /// Takes one of the most urgent lanes that are due, by chance.
    fn probe(
        &self,
        target: TargetId,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<Vec<Leased>, Self::Error>> + Send;

    /// Whether a request may start under the leases that were given.
    fn may_send(&self) -> bool {
        true
    }

    /// Processes that deliver, this one included.
    fn replicas(&self) -> usize {
        1
    }

    /// Settles a delivery and frees its lane, in one transaction with the hold of
    /// [`Next::Held`]. `false`: the lane was fenced meanwhile, and nothing was changed.
    fn settle(
        &self,
        leased: &Leased,
        settlement: Settlement,
    ) -> impl Future<Output = Result<bool, Self::Error>> + Send;

    /// The hold that lies on a target.
    fn hold(
        &self,
        target: TargetId,
    ) -> impl Future<Output = Result<Option<Hold>, Self::Error>> + Send;

    /// Ends the hold of a target: a probe came through.
    fn end_hold(
        &self,
        target: TargetId,
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;

    /// Puts parked deliveries back to `later`, as the command `retry` does.
    fn unpark(
        &self,
        deliveries: &[i64],
        now: OffsetDateTime,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

impl Outbox for Arc<dyn Store> {
    type Error = StoreError;

    async fn lease(
        &self,
        target: TargetId,
        now: OffsetDateTime,
        limit: usize,
    ) -> Result<Vec<Leased>, StoreError> {
        Store::lease(&**self, target, now, limit).await
    }

    async fn probe(
        &self,
        target: TargetId,
        now: OffsetDateTime,
    ) -> Result<Vec<Leased>, StoreError> {
        Store::probe(&**self, target, now).await
    }

    fn may_send(&self) -> bool {
        Store::may_send(&**self)
    }

    fn replicas(&self) -> usize {
        Store::replicas(&**self)
    }

    async fn settle(&self, leased: &Leased, settlement: Settlement) -> Result<bool, StoreError> {
        Store::settle(&**self, leased, settlement).await
    }

    async fn hold(&self, target: TargetId) -> Result<Option<Hold>, StoreError> {
        let targets = self.targets().await?;
        let row = targets.into_iter().find(|row| row.id == target);
        Ok(row.and_then(|row| row.hold).map(|(hold, _)| hold))
    }

    async fn end_hold(&self, target: TargetId, now: OffsetDateTime) -> Result<(), StoreError> {
        Store::hold(&**self, target, None, now).await
    }

    async fn unpark(&self, deliveries: &[i64], now: OffsetDateTime) -> Result<(), StoreError> {
        for delivery in deliveries {
            let filter = DeliveryFilter {
                id: Some(*delivery),
                ..DeliveryFilter::default()
            };
            self.retry(filter, now).await?;
        }
        Ok(())
    }
}

/// Time and chance, handed in.
#[derive(Clone)]
pub struct Surroundings {
    /// The time of day: for what is stored.
    pub now: Arc<dyn Fn() -> OffsetDateTime + Send + Sync>,
    /// Time since some start that never goes back: for waiting.
    pub monotonic: Arc<dyn Fn() -> Duration + Send + Sync>,
    /// Uniform in `0.0..1.0`.
    pub jitter: Arc<dyn Fn() -> f64 + Send + Sync>,
}

/// How a target stands, for `/readyz`, metrics and the console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetStatus {
    /// Which.
    pub target: TargetId,
    /// The breaker is open: nothing is sent.
    pub open: bool,
    /// The hold that lies on it.
    pub hold: Option<Hold>,
    /// Types of ours that it does not let us write.
    pub unwritable: Vec<&'static str>,
    /// Tokens that its authorization server gave us, if it has one.
    pub tokens: Option<u64>,
    /// Deliveries on their way.
    pub in_flight: usize,
}

/// The types a delivery can be made of.
const KINDS: [&str; 4] = ["Device", "DiagnosticReport", "Flag", "Provenance"];

/// Takes deliveries from an [`Outbox`] to their targets.
pub struct Courier<O> {
    outbox: O,
    lines: Vec<Line>,
    surroundings: Surroundings,
    wake: Arc<Notify>,
    stop: CancellationToken,
    closed: OnceLock<UnboundedSender<Closed>>,
}

/// A human closed or deleted a Flag of this patient on a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closed {
    /// Tenant of the patient.
    pub tenant: String,
    /// The key that the patient's ids are formed from.
    pub patient_key: Hash,
}

/// What the courier knows of one target.
struct Line {
    target: TargetId,
    server: FhirServer,
    control: Mutex<Control>,
}

impl Line {
    fn control(&self) -> std::sync::MutexGuard<'_, Control> {
        self.control.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<O: Outbox> Courier<O> {
    /// A courier to `targets`. `wake` is notified when something became due.
    pub fn new(
        outbox: O,
        targets: Vec<(TargetId, FhirServer)>,
        surroundings: Surroundings,
        wake: Arc<Notify>,
    ) -> Arc<Self> {
        let lines = targets
            .into_iter()
            .map(|(target, server)| Line {
                target,
                server,
                control: Mutex::default(),
            })
            .collect();
        Arc::new(Self {
            outbox,
            lines,
            surroundings,
            wake,
            stop: CancellationToken::new(),
            closed: OnceLock::new(),
        })
    }

    /// From now on says when a human has closed a Flag, once that is kept. Only the first who asks
    /// is told.
    pub fn closings(&self) -> UnboundedReceiver<Closed> {
        let (sender, receiver) = mpsc::unbounded_channel();
        // A second receiver ends at once.
        let _ = self.closed.set(sender);
        receiver
    }

    /// How every target stands.
    pub fn status(&self) -> Vec<TargetStatus> {
        self.lines
            .iter()
            .map(|line| {
                let control = line.control();
                TargetStatus {
                    target: line.target,
                    open: control.is_open(),
                    hold: control.hold(),
                    unwritable: line.server.unwritable(&KINDS),
                    tokens: line.server.tokens(),
                    in_flight: control.in_flight(),
                }
            })
            .collect()
    }

    /// Sends everything that is due at `now`; how many deliveries were settled.
    pub async fn deliver_due(self: &Arc<Self>, now: OffsetDateTime) -> Result<usize, O::Error> {
        let mut settled = 0;
        loop {
            let mut sends = JoinSet::new();
            for index in 0..self.lines.len() {
                self.start(index, now, &mut sends).await?;
            }
            if sends.is_empty() {
                return Ok(settled);
            }
            while let Some(sent) = sends.join_next().await {
                settled += usize::from(matches!(sent, Ok(true)));
            }
        }
    }

    /// Delivers until `stop`; then finishes what is on its way.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut sends = JoinSet::new();
        while !stop.is_cancelled() {
            let now = (self.surroundings.now)();
            let mut pause = POLL;
            for index in 0..self.lines.len() {
                if let Err(error) = self.start(index, now, &mut sends).await {
                    tracing::error!(%error, "the outbox cannot be read");
                    pause = STORE_PAUSE;
                }
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.notified() => {}
                Some(_) = sends.join_next(), if !sends.is_empty() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        self.stop.cancel();
        for line in &self.lines {
            self.give_back(line).await;
        }
        while sends.join_next().await.is_some() {}
    }

    /// Leases what one target can take now and starts sending it.
    async fn start(
        self: &Arc<Self>,
        index: usize,
        now: OffsetDateTime,
        sends: &mut JoinSet<bool>,
    ) -> Result<(), O::Error> {
        let Some(line) = self.lines.get(index).filter(|_| !self.stop.is_cancelled()) else {
            return Ok(());
        };
        let hold = self.outbox.hold(line.target).await?;
        let monotonic = (self.surroundings.monotonic)();
        let replicas = self.outbox.replicas();
        let (room, easy, probing) = {
            let mut control = line.control();
            control.share(replicas);
            let room = control.admits(hold, now, monotonic);
            let probing = hold.is_some() || control.is_open();
            (room, control.is_easy(monotonic), probing)
        };
        line.server.go_easy(easy);
        line.server.share(replicas);
        if room.slots == 0 {
            // Who knows for how long: others may look at them, and newer ones replace them.
            self.give_back(line).await;
        }
        let mut send = |leased: Leased| {
            let courier = Arc::clone(self);
            sends.spawn(async move { courier.deliver(index, leased).await });
        };
        let mut free = room.free;
        while free > 0 {
            let waiting = line.control().next_repeat(room.slots);
            if let Some(leased) = waiting {
                send(leased);
                free -= 1;
                continue;
            }
            let takes = line.control().room_aside();
            let leased = match free.min(takes) {
                0 => Vec::new(),
                _ if probing => self.outbox.probe(line.target, now).await?,
                limit => self.outbox.lease(line.target, now, limit).await?,
            };
            if leased.is_empty() {
                return Ok(());
            }
            crash_point!("courier.leased");
            for leased in leased {
                let begun = line.control().begin(leased, room.slots);
                if let Some(leased) = begun {
                    send(leased);
                    free -= 1;
                }
            }
        }
        Ok(())
    }

    /// Gives back what is leased and was not begun.
    async fn give_back(&self, line: &Line) {
        let aside = line.control().take_aside();
        let now = (self.surroundings.now)();
        for leased in aside {
            if let Err(error) = self.settle(&leased, given_back(&leased, now)).await {
                tracing::error!(delivery = leased.delivery, %error, "a delivery cannot be given back");
            }
        }
    }

    /// Sends one delivery and settles it; `false`: it could not be settled.
    async fn deliver(&self, index: usize, leased: Leased) -> bool {
        let Some(line) = self.lines.get(index) else {
            return false;
        };
        let started_at = (self.surroundings.now)();
        let began = (self.surroundings.monotonic)();
        let may_start = || !self.stop.is_cancelled() && self.outbox.may_send();
        let sending = line.server.send(&leased, started_at, &may_start);
        // A panic is ours and of this delivery only: it is parked and the others go on.
        let sent = AssertUnwindSafe(sending).catch_unwind().await;
        let sent = sent.unwrap_or_else(|_| Sent::nothing(Outcome::Unforeseen));
        let took = (self.surroundings.monotonic)().saturating_sub(began);
        let ended_at = started_at + took;
        let ended = Ended {
            started_at,
            ended_at,
            monotonic: (self.surroundings.monotonic)(),
            jitter: (self.surroundings.jitter)(),
        };
        let Conclusion {
            settlement,
            unpark,
            ends_hold,
        } = line.control().conclude(&leased, sent, &ended);
        let class = settlement.attempt.class;
        let closed = settlement.items_done.iter().any(|done| {
            done.fate.is_closed_by_human()
                && leased
                    .item(done.ordinal)
                    .is_some_and(|item| item.kind == "Flag")
        });
        tracing::info!(
            delivery = leased.delivery,
            class = class.as_str(),
            status = settlement.attempt.http_status,
            millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "delivery tried"
        );
        match self.settle(&leased, settlement).await {
            Ok(true) => {
                crash_point!("courier.settled");
                if let Some(sender) = self.closed.get().filter(|_| closed) {
                    // Nobody listens while the service stops: the next count closes our copy.
                    let _ = sender.send(Closed {
                        tenant: leased.tenant.clone(),
                        patient_key: leased.patient_key,
                    });
                }
            }
            Ok(false) => {
                let delivery = leased.delivery;
                tracing::warn!(delivery, "fenced: the lane has a new owner");
                return false;
            }
            Err(error) => {
                tracing::error!(delivery = leased.delivery, %error, "a delivery cannot be settled");
                return false;
            }
        }
        // Should one of these fail, the next probe ends the hold, and an operator retries.
        let mut afterwards = Ok(());
        if ends_hold {
            afterwards = self.outbox.end_hold(line.target, ended_at).await;
        }
        if !unpark.is_empty() {
            afterwards = afterwards.and(self.outbox.unpark(&unpark, ended_at).await);
        }
        if let Err(error) = afterwards {
            tracing::error!(target_id = line.target.0, %error, "the target's state cannot be kept");
        }
        true
    }

    /// Settles, and again while the store cannot keep anything: what is not settled keeps its lane
    /// until the next start.
    async fn settle(&self, leased: &Leased, settlement: Settlement) -> Result<bool, O::Error> {
        let mut tries = 0;
        loop {
            let result = self.outbox.settle(leased, settlement.clone()).await;
            tries += 1;
            if result.is_ok() || tries >= SETTLE_TRIES || self.stop.is_cancelled() {
                return result;
            }
            tokio::time::sleep(STORE_PAUSE).await;
        }
    }
}
