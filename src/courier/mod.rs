//! Floor 3, the courier: outbox to FHIR servers. It leases what is due, sends it, and settles what
//! came of it; a breaker and holds keep it away from a target that does not work.

mod breaker;
mod guard;

use std::{
    collections::{HashMap, VecDeque},
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use time::OffsetDateTime;
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::{
    breaker::{Admission, Breaker},
    guard::Guard,
};
use crate::{
    fhir_server::{FhirServer, Sent},
    store::{
        Store, StoreError,
        delivery::{self, Attempt, First, Hold, Next, Outcome},
        lease::{AttemptRecord, Leased, PatientId, Settlement, TargetId},
        reading::DeliveryFilter,
    },
};

/// Deliveries in flight to one target.
pub const IN_FLIGHT: usize = 8;
/// Repeats that may wait in hand for their half of the slots.
const ASIDE: usize = 4 * IN_FLIGHT;
/// How often the outbox is looked at when nobody wakes the courier.
const POLL: Duration = Duration::from_millis(500);
/// How long to leave a store alone that gave an error.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// How often a settlement is tried: for a minute.
const SETTLE_TRIES: u32 = 60;
/// 403 for one patient is that patient's when another's write succeeded within this time.
const OTHERS_PASS: time::Duration = time::Duration::minutes(10);

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

    /// Whether a request may start under the leases that were given.
    fn may_send(&self) -> bool {
        true
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

    fn may_send(&self) -> bool {
        Store::may_send(&**self)
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
}

/// What the courier knows of one target.
struct Line {
    target: TargetId,
    server: FhirServer,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    breaker: Breaker,
    guard: Guard,
    hold: Option<Hold>,
    /// While held: no probe before.
    probe_at: Duration,
    in_flight: usize,
    /// How many of them are repeats: at most half of the slots, so that repeats of what fails hold up
    /// nothing that was never tried.
    repeats: usize,
    /// Repeats that are leased and wait for a slot.
    aside: VecDeque<Leased>,
    /// When its target could be reached again after it could not.
    reachable_since: Option<OffsetDateTime>,
    /// When a write last succeeded, and for whom.
    last_success: HashMap<PatientId, OffsetDateTime>,
}

impl Line {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
                state: Mutex::default(),
            })
            .collect();
        Arc::new(Self {
            outbox,
            lines,
            surroundings,
            wake,
            stop: CancellationToken::new(),
        })
    }

    /// How every target stands.
    pub fn status(&self) -> Vec<TargetStatus> {
        self.lines
            .iter()
            .map(|line| {
                let state = line.state();
                TargetStatus {
                    target: line.target,
                    open: state.breaker.is_open(),
                    hold: state.hold,
                    unwritable: line.server.unwritable(&KINDS),
                    in_flight: state.in_flight,
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
        let (slots, mut free) = self.admitted(line, hold, now);
        if slots == 0 {
            // Who knows for how long: others may look at them, and newer ones replace them.
            self.give_back(line).await;
        }
        let mut begin = |leased: Leased| {
            let courier = Arc::clone(self);
            sends.spawn(async move { courier.deliver(index, leased).await });
        };
        while free > 0 {
            let waiting = line.state().next_repeat(slots);
            if let Some(leased) = waiting {
                begin(leased);
                free -= 1;
                continue;
            }
            let room = ASIDE.saturating_sub(line.state().aside.len());
            let leased = match free.min(room) {
                0 => Vec::new(),
                limit => self.outbox.lease(line.target, now, limit).await?,
            };
            if leased.is_empty() {
                return Ok(());
            }
            for leased in leased {
                if let Some(leased) = line.state().admit(leased, slots) {
                    begin(leased);
                    free -= 1;
                }
            }
        }
        Ok(())
    }

    /// Gives back what is leased and was not begun.
    async fn give_back(&self, line: &Line) {
        let aside = std::mem::take(&mut line.state().aside);
        let now = (self.surroundings.now)();
        for leased in aside {
            let settlement = Settlement {
                next: untried(&leased, now),
                attempt: AttemptRecord {
                    started_at: now,
                    ended_at: now,
                    class: Outcome::NotTried.class(),
                    http_status: None,
                    outcome_code: None,
                    retry_after_ms: None,
                    reply: None,
                },
                items_done: Vec::new(),
                reachable_ms: leased.reachable_ms,
            };
            if let Err(error) = self.settle(&leased, settlement).await {
                tracing::error!(delivery = leased.delivery, %error, "a delivery cannot be given back");
            }
        }
    }

    /// How many deliveries may be under way to a target, and how many more may begin now.
    fn admitted(&self, line: &Line, hold: Option<Hold>, now: OffsetDateTime) -> (usize, usize) {
        let monotonic = (self.surroundings.monotonic)();
        let mut state = line.state();
        if state.hold.is_some() && hold.is_none() {
            // An operator ended it.
            state.reachable_since = Some(now);
            state.guard = Guard::default();
        }
        state.hold = hold;
        if hold.is_some() {
            let due = usize::from(state.in_flight == 0 && monotonic >= state.probe_at);
            return (due, due);
        }
        let admission = state.breaker.admits(monotonic);
        line.server.go_easy(state.breaker.is_easy(monotonic));
        match admission {
            Admission::Slots(slots) => (slots, slots.saturating_sub(state.in_flight)),
            Admission::Probe if state.in_flight == 0 => (1, 1),
            Admission::Probe | Admission::Nothing => (0, 0),
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
        let (settlement, unpark, ends_hold) =
            self.conclude(line, &leased, sent, started_at, ended_at);
        let class = settlement.attempt.class;
        tracing::info!(
            delivery = leased.delivery,
            class = class.as_str(),
            status = settlement.attempt.http_status,
            millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            "delivery tried"
        );
        match self.settle(&leased, settlement).await {
            Ok(true) => {}
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

    /// What follows from a send: the settlement, deliveries to take out of parking, and whether a
    /// hold ends.
    fn conclude(
        &self,
        line: &Line,
        leased: &Leased,
        sent: Sent,
        started_at: OffsetDateTime,
        ended_at: OffsetDateTime,
    ) -> (Settlement, Vec<i64>, bool) {
        let monotonic = (self.surroundings.monotonic)();
        let jitter = (self.surroundings.jitter)();
        let mut state = line.state();
        state.in_flight = state.in_flight.saturating_sub(1);
        if leased.attempt > 0 {
            state.repeats = state.repeats.saturating_sub(1);
        }
        let outcome = match sent.outcome {
            Outcome::Forbidden { .. } => Outcome::Forbidden {
                others_pass: state.others_pass(leased.patient, ended_at),
            },
            other => other,
        };
        let reachable = state.reachable(leased, ended_at);
        let attempt = Attempt {
            number: leased.attempt.saturating_add(1),
            earlier: &leased.earlier,
            reachable,
        };
        let mut next = match outcome {
            Outcome::NotTried => untried(leased, ended_at),
            _ => delivery::next_step(&attempt, &outcome, ended_at, jitter),
        };
        let mut unpark = Vec::new();
        if state.hold == Some(Hold::MassPark) && guard::counts(&next) {
            next = Next::held(Hold::MassPark, ended_at);
        } else if let Some(others) = state.guard.note(leased, &outcome, &next, monotonic) {
            tracing::error!(
                target_id = line.target.0,
                class = outcome.class().as_str(),
                "many deliveries are refused: the target is held, they go back"
            );
            next = Next::held(Hold::MassPark, ended_at);
            unpark = others;
        }
        let was_open = state.breaker.is_open();
        state.breaker.note(&outcome, monotonic, jitter);
        let is_open = state.breaker.is_open();
        if was_open != is_open {
            tracing::warn!(
                target_id = line.target.0,
                open = is_open,
                "breaker of a target"
            );
        }
        let ends_hold = state.note_hold(&outcome, &next, ended_at, monotonic);
        if ends_hold || (was_open && !is_open) {
            state.reachable_since = Some(ended_at);
        }
        if outcome == Outcome::Delivered {
            state.remember_success(leased.patient, ended_at);
        }
        let millis = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let settlement = Settlement {
            next,
            attempt: AttemptRecord {
                started_at,
                ended_at,
                class: outcome.class(),
                http_status: sent.http_status,
                outcome_code: sent.outcome_code,
                retry_after_ms: sent.retry_after.map(millis),
                reply: sent.reply,
            },
            items_done: sent.items,
            reachable_ms: millis(reachable),
        };
        (settlement, unpark, ends_hold)
    }
}

/// What becomes of a delivery that was not begun: it keeps what has to come first.
fn untried(leased: &Leased, now: OffsetDateTime) -> Next {
    let first = if leased.verify_first {
        First::Verify
    } else {
        leased.first
    };
    Next::Later { at: now, first }
}

impl State {
    /// Begins a delivery, or puts it aside: it is a repeat, and half of the slots have repeats.
    fn admit(&mut self, leased: Leased, slots: usize) -> Option<Leased> {
        if leased.attempt > 0 {
            if !self.takes_repeat(slots) {
                self.aside.push_back(leased);
                return None;
            }
            self.repeats += 1;
        }
        self.in_flight += 1;
        Some(leased)
    }

    /// The repeat that has waited longest, if there is a slot for it.
    fn next_repeat(&mut self, slots: usize) -> Option<Leased> {
        if !self.takes_repeat(slots) {
            return None;
        }
        let leased = self.aside.pop_front()?;
        self.repeats += 1;
        self.in_flight += 1;
        Some(leased)
    }

    /// A single slot is a repeat's, too.
    fn takes_repeat(&self, slots: usize) -> bool {
        self.repeats < (slots / 2).max(1)
    }

    /// Whether another patient's write succeeded lately.
    fn others_pass(&self, patient: PatientId, now: OffsetDateTime) -> bool {
        self.last_success
            .iter()
            .any(|(other, at)| *other != patient && (now - *at).abs() < OTHERS_PASS)
    }

    /// Two patients are enough to know whether another one passes.
    fn remember_success(&mut self, patient: PatientId, now: OffsetDateTime) {
        self.last_success.insert(patient, now);
        while self.last_success.len() > 2 {
            let oldest = self.last_success.iter().min_by_key(|(_, at)| **at);
            match oldest.map(|(patient, _)| *patient) {
                Some(oldest) => self.last_success.remove(&oldest),
                None => return,
            };
        }
    }

    /// The age of a delivery that counts: what it had, and the time it waited for this attempt while
    /// the target could be reached.
    fn reachable(&self, leased: &Leased, now: OffsetDateTime) -> Duration {
        let before = Duration::from_millis(u64::try_from(leased.reachable_ms).unwrap_or(0));
        if self.hold.is_some() || self.breaker.is_open() {
            return before;
        }
        let since = self.reachable_since.map_or(leased.waiting_since, |since| {
            since.max(leased.waiting_since)
        });
        before + Duration::try_from(now - since).unwrap_or(Duration::ZERO)
    }

    /// Takes an outcome into the hold; whether the hold ends.
    fn note_hold(
        &mut self,
        outcome: &Outcome,
        next: &Next,
        now: OffsetDateTime,
        monotonic: Duration,
    ) -> bool {
        if let Next::Held { hold, at, .. } = next {
            self.hold = Some(*hold);
            self.probe_at = monotonic + Duration::try_from(*at - now).unwrap_or_default();
            return false;
        }
        self.probe_at = monotonic + delivery::PROBE;
        *outcome == Outcome::Delivered && self.hold.take().is_some()
    }
}
