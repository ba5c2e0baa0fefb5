//! What is decided about one target: how many deliveries may go to it now, and what follows when
//! one comes back. No clock, no chance, no I/O: the courier's loop brings them, and so does the
//! simulation.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use time::OffsetDateTime;

use super::{
    IN_FLIGHT,
    breaker::{Admission, Breaker},
    guard::{self, Guard},
};
use crate::{
    fhir_server::Sent,
    store::{
        delivery::{self, Attempt, First, Hold, Next, Outcome},
        lease::{AttemptRecord, Leased, PatientId, Settlement},
    },
};

/// 403 for one patient is that patient's when another's write succeeded within this time.
const OTHERS_PASS: time::Duration = time::Duration::minutes(10);

/// The clock was set when it went on by so much more or less than time did.
const SET: time::Duration = time::Duration::minutes(1);

/// Repeats that may wait in hand for their half of the slots.
const ASIDE: usize = 4 * IN_FLIGHT;

/// What one replica knows of one target.
#[derive(Debug, Default)]
pub struct Control {
    breaker: Breaker,
    guard: Guard,
    hold: Option<Hold>,
    /// Other processes that write to it.
    others: usize,
    /// While held: no probe before.
    probe_at: Duration,
    in_flight: usize,
    /// How many of them are repeats: at most half of the slots, so that repeats of what fails hold up
    /// nothing that was never tried.
    repeats: usize,
    /// Repeats that are leased and wait for a slot.
    aside: VecDeque<Leased>,
    /// When its target could be reached again after it could not, or the clock was set.
    reachable_since: Option<OffsetDateTime>,
    /// The two times, when they were last compared.
    clocks: Option<(OffsetDateTime, Duration)>,
    /// When a write last succeeded, and for whom.
    last_success: HashMap<PatientId, OffsetDateTime>,
}

/// What may go to a target now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Deliveries that may be on their way at once. 0: who knows for how long nothing may be sent.
    pub slots: usize,
    /// How many more may begin.
    pub free: usize,
}

/// When a send ended, and with what luck.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// The time of day when it began.
    pub started_at: OffsetDateTime,
    /// The time of day when it ended.
    pub ended_at: OffsetDateTime,
    /// The same since some start that never goes back.
    pub monotonic: Duration,
    /// Uniform in `0.0..1.0`.
    pub jitter: f64,
}

/// What follows from a send.
#[derive(Debug, Clone)]
pub struct Conclusion {
    /// To be settled.
    pub settlement: Settlement,
    /// Deliveries to take out of parking.
    pub unpark: Vec<i64>,
    /// The hold of the target ends.
    pub ends_hold: bool,
}

impl Control {
    /// Whether the target is taken to be down.
    pub fn is_open(&self) -> bool {
        self.breaker.is_open()
    }

    /// The hold that lay on it when it was last looked at.
    pub fn hold(&self) -> Option<Hold> {
        self.hold
    }

    /// Deliveries on their way.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether the target has come back only lately: less is asked of it.
    pub fn is_easy(&self, monotonic: Duration) -> bool {
        self.breaker.is_easy(monotonic)
    }

    /// So many processes write to the target, this one included.
    pub fn share(&mut self, replicas: usize) {
        self.others = replicas.saturating_sub(1);
    }

    /// What may go to the target now, on which `hold` lies.
    pub fn admits(&mut self, hold: Option<Hold>, now: OffsetDateTime, monotonic: Duration) -> Room {
        self.watch_clock(now, monotonic);
        if self.hold.is_some() && hold.is_none() {
            // An operator ended it.
            self.reachable_since = Some(now);
            self.guard = Guard::default();
        }
        self.hold = hold;
        let (slots, free) = if hold.is_some() {
            let due = usize::from(self.in_flight == 0 && monotonic >= self.probe_at);
            (due, due)
        } else {
            match self.breaker.admits(monotonic) {
                Admission::Slots(slots) => {
                    let slots = slots.min((IN_FLIGHT / (self.others + 1)).max(1));
                    (slots, slots.saturating_sub(self.in_flight))
                }
                Admission::Probe if self.in_flight == 0 => (1, 1),
                Admission::Probe | Admission::Nothing => (0, 0),
            }
        };
        Room { slots, free }
    }

    /// Begins a delivery, which comes back to [`Self::conclude`]; or puts it aside, because it is a
    /// repeat and half of the slots have repeats.
    pub fn begin(&mut self, leased: Leased, slots: usize) -> Option<Leased> {
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

    /// Begins the repeat that has waited longest, if there is a slot for it.
    pub fn next_repeat(&mut self, slots: usize) -> Option<Leased> {
        if !self.takes_repeat(slots) {
            return None;
        }
        let leased = self.aside.pop_front()?;
        self.repeats += 1;
        self.in_flight += 1;
        Some(leased)
    }

    /// How many more repeats can be put aside.
    pub fn room_aside(&self) -> usize {
        ASIDE.saturating_sub(self.aside.len())
    }

    /// What was put aside, to be given back untried.
    pub fn take_aside(&mut self) -> VecDeque<Leased> {
        std::mem::take(&mut self.aside)
    }

    /// A single slot is a repeat's, too.
    fn takes_repeat(&self, slots: usize) -> bool {
        self.repeats < (slots / 2).max(1)
    }

    /// What follows from a send that ended.
    pub fn conclude(&mut self, leased: &Leased, sent: Sent, ended: &Ended) -> Conclusion {
        let Ended {
            started_at,
            ended_at,
            monotonic,
            jitter,
        } = *ended;
        self.in_flight = self.in_flight.saturating_sub(1);
        if leased.attempt > 0 {
            self.repeats = self.repeats.saturating_sub(1);
        }
        self.watch_clock(ended_at, monotonic);
        let outcome = match sent.outcome {
            Outcome::Forbidden { .. } => Outcome::Forbidden {
                others_pass: self.others_pass(leased.patient, ended_at),
            },
            other => other,
        };
        let reachable = self.reachable(leased, ended_at);
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
        if self.hold == Some(Hold::MassPark) && guard::counts(&next) {
            next = Next::held(Hold::MassPark, ended_at);
        } else if let Some(others) = self.guard.note(leased, &outcome, &next, monotonic) {
            tracing::error!(
                target_id = leased.target.0,
                class = outcome.class().as_str(),
                "many deliveries are refused: the target is held, they go back"
            );
            next = Next::held(Hold::MassPark, ended_at);
            unpark = others;
        }
        let was_open = self.breaker.is_open();
        self.breaker.note(&outcome, monotonic, jitter);
        let is_open = self.breaker.is_open();
        if was_open != is_open {
            tracing::warn!(
                target_id = leased.target.0,
                open = is_open,
                "breaker of a target"
            );
        }
        let ends_hold = self.note_hold(&outcome, &next, ended_at, monotonic);
        if ends_hold || (was_open && !is_open) {
            self.reachable_since = Some(ended_at);
        }
        if outcome == Outcome::Delivered {
            self.remember_success(leased.patient, ended_at);
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
        Conclusion {
            settlement,
            unpark,
            ends_hold,
        }
    }

    /// The age of a delivery must not come from setting the clock: it is counted from there again.
    fn watch_clock(&mut self, now: OffsetDateTime, monotonic: Duration) {
        let set = match self.clocks.replace((now, monotonic)) {
            // Nobody tried anything before this process did.
            None => true,
            Some((then, since)) => {
                let passed = time::Duration::try_from(monotonic.saturating_sub(since));
                passed.is_ok_and(|passed| (now - then - passed).abs() > SET)
            }
        };
        if set {
            self.reachable_since = Some(now);
        }
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

/// How a delivery is settled that was leased and not begun.
pub fn given_back(leased: &Leased, now: OffsetDateTime) -> Settlement {
    Settlement {
        next: untried(leased, now),
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

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::{
        clinical::assessment::Urgency,
        store::{delivery::First, lease::TargetId},
    };

    const NOON: OffsetDateTime = datetime!(2026-11-20 12:00 UTC);
    const HOUR: Duration = Duration::from_hours(1);

    fn leased(waiting_since: OffsetDateTime) -> Leased {
        Leased {
            target: TargetId(1),
            patient: PatientId(1),
            tenant: "default".to_owned(),
            patient_key: [0; 32],
            fence: 1,
            delivery: 1,
            attempt: 1,
            earlier: Vec::new(),
            verify_first: false,
            first: First::Nothing,
            urgency: Urgency::U2,
            patient_identifiers: Vec::new(),
            patient_references: Vec::new(),
            items: Vec::new(),
            watched: Vec::new(),
            remote_ids: Vec::new(),
            waiting_since,
            reachable_ms: 0,
            correlation_id: String::new(),
        }
    }

    /// A delivery that waits since noon fails after so much time, when the clock shows `now`.
    fn fails(control: &mut Control, after: Duration, now: OffsetDateTime) -> Conclusion {
        let room = control.admits(None, now, after);
        assert!(control.begin(leased(NOON), room.slots.max(1)).is_some());
        let ended = Ended {
            started_at: now,
            ended_at: now,
            monotonic: after,
            jitter: 1.0,
        };
        let sent = Sent::nothing(Outcome::Throttled { retry_after: None });
        control.conclude(&leased(NOON), sent, &ended)
    }

    #[test]
    fn slots_are_divided_by_those_who_write() {
        let slots = |replicas| {
            let mut control = Control::default();
            control.share(replicas);
            control.admits(None, NOON, Duration::ZERO).slots
        };
        assert_eq!([1, 2, 3, 4, 8, 9].map(slots), [8, 4, 2, 2, 1, 1]);
    }

    #[test]
    fn a_delivery_ages_with_time_and_not_with_the_clock() {
        let mut control = Control::default();
        control.admits(None, NOON, Duration::ZERO);
        let aged = fails(&mut control, HOUR, NOON + HOUR);
        assert_eq!(aged.settlement.reachable_ms, 3_600_000);
        // The clock is set a year ahead.
        let year = Duration::from_hours(365 * 24);
        let after = fails(&mut control, 2 * HOUR, NOON + 2 * HOUR + year);
        assert!(matches!(after.settlement.next, Next::Later { .. }));
        assert_eq!(after.settlement.reachable_ms, 0);
        // And goes on from there.
        let later = fails(&mut control, 3 * HOUR, NOON + 3 * HOUR + year);
        assert_eq!(later.settlement.reachable_ms, 3_600_000);
        let mut day = Control::default();
        for hour in 0..72 {
            day.admits(None, NOON + hour * HOUR, hour * HOUR);
        }
        let old = fails(&mut day, 72 * HOUR, NOON + 72 * HOUR);
        assert_eq!(old.settlement.next, Next::Parked(delivery::Why::Expired));
    }

    #[test]
    fn time_before_this_process_began_is_not_counted() {
        let mut control = Control::default();
        let late = NOON + 100 * 24 * HOUR;
        let first = fails(&mut control, Duration::ZERO, late);
        assert_eq!(first.settlement.reachable_ms, 0);
    }
}
