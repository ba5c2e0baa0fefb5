//! Whether a target works: closed, open, half-open, and how many deliveries it may carry.

use std::{collections::VecDeque, time::Duration};

use super::IN_FLIGHT;
use crate::store::delivery::{Health, Outcome};

/// Failures in a row that open it.
const IN_A_ROW: u32 = 5;
/// Or this many attempts, half of them failed, within [`WINDOW`].
const ATTEMPTS: usize = 20;
const WINDOW: Duration = Duration::from_secs(30);
/// First and longest time it stays open, before jitter.
const OPEN: (Duration, Duration) = (Duration::from_secs(30), Duration::from_mins(5));
/// Successes in a row that close it.
const TO_CLOSE: u32 = 3;
/// How long a target that comes back is asked for little.
const EASY: Duration = Duration::from_secs(10);
/// Successes after which a target that came back may carry twice as much.
const TO_DOUBLE: u32 = 10;

/// What may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// So many at once.
    Slots(usize),
    /// One, to see whether it works again.
    Probe,
    /// Nothing.
    Nothing,
}

/// A circuit breaker. Times are monotonic, since some start.
#[derive(Debug)]
pub(super) struct Breaker {
    circuit: Circuit,
    slots: usize,
    /// Successes since the slots changed.
    carried: u32,
    /// Since it was tried again, and until then, it is asked for little.
    easy_until: Duration,
}

#[derive(Debug)]
enum Circuit {
    Closed {
        failures: u32,
        recent: VecDeque<(Duration, bool)>,
    },
    Open {
        until: Duration,
        times: u32,
    },
    HalfOpen {
        successes: u32,
        times: u32,
    },
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            circuit: Circuit::CLOSED,
            slots: IN_FLIGHT,
            carried: 0,
            easy_until: Duration::ZERO,
        }
    }
}

impl Circuit {
    const CLOSED: Self = Self::Closed {
        failures: 0,
        recent: VecDeque::new(),
    };

    /// Open for `U(0.5, 1)` of 30 s, twice as long each time, 300 s at most.
    fn open(times: u32, at: Duration, jitter: f64) -> Self {
        let whole = OPEN.0.saturating_mul(1 << times.min(8)).min(OPEN.1);
        let part = 0.5 + jitter.clamp(0.0, 1.0) / 2.0;
        Self::Open {
            until: at + whole.mul_f64(part),
            times: times.saturating_add(1),
        }
    }
}

impl Breaker {
    /// Whether the target is taken to be down: open, or on trial.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.circuit, Circuit::Closed { .. })
    }

    /// Whether the target has just come back, and is to be asked for little.
    pub(super) fn is_easy(&self, at: Duration) -> bool {
        at < self.easy_until
    }

    /// What may be sent at `at`.
    pub(super) fn admits(&mut self, at: Duration) -> Admission {
        match self.circuit {
            Circuit::Closed { .. } => Admission::Slots(self.slots),
            Circuit::Open { until, .. } if at < until => Admission::Nothing,
            Circuit::Open { times, .. } => {
                self.circuit = Circuit::HalfOpen {
                    successes: 0,
                    times,
                };
                self.easy_until = at + EASY;
                Admission::Probe
            }
            Circuit::HalfOpen { .. } => Admission::Probe,
        }
    }

    /// Takes an outcome in.
    pub(super) fn note(&mut self, outcome: &Outcome, at: Duration, jitter: f64) {
        let health = outcome.health();
        self.note_slots(outcome);
        match (&mut self.circuit, health) {
            (_, Health::Neutral) | (Circuit::Open { .. }, _) => {}
            (Circuit::Closed { failures, recent }, _) => {
                let failed = health == Health::Failure;
                *failures = if failed {
                    failures.saturating_add(1)
                } else {
                    0
                };
                recent.push_back((at, failed));
                while recent
                    .front()
                    .is_some_and(|(then, _)| at.saturating_sub(*then) > WINDOW)
                {
                    recent.pop_front();
                }
                let half = recent.iter().filter(|(_, failed)| *failed).count() * 2;
                if *failures >= IN_A_ROW || (recent.len() >= ATTEMPTS && half >= recent.len()) {
                    self.circuit = Circuit::open(0, at, jitter);
                }
            }
            (Circuit::HalfOpen { times, .. }, Health::Failure) => {
                self.circuit = Circuit::open(*times, at, jitter);
            }
            (Circuit::HalfOpen { successes, .. }, Health::Success) => {
                *successes += 1;
                if *successes >= TO_CLOSE {
                    *self = Self {
                        slots: 1,
                        easy_until: self.easy_until,
                        ..Self::default()
                    };
                }
            }
        }
    }

    /// Slow start, and half as much when the target is short of breath.
    fn note_slots(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Throttled { .. } | Outcome::Unavailable { .. } | Outcome::Unknown => {
                self.slots = (self.slots / 2).max(1);
                self.carried = 0;
            }
            Outcome::Delivered if self.slots < IN_FLIGHT => {
                self.carried += 1;
                if self.carried >= TO_DOUBLE {
                    self.slots = (self.slots * 2).min(IN_FLIGHT);
                    self.carried = 0;
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fhir_server::pace::{Turns, easy};

    const FAIL: Outcome = Outcome::ServerFault;
    const FINE: Outcome = Outcome::Delivered;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Notes `outcome` `times` times at `seconds`, with full jitter.
    fn note(breaker: &mut Breaker, outcome: Outcome, times: u32, seconds: u64) {
        for _ in 0..times {
            breaker.note(&outcome, at(seconds), 1.0);
        }
    }

    #[test]
    fn five_failures_in_a_row_open_it() {
        let mut breaker = Breaker::default();
        note(&mut breaker, FAIL, 4, 0);
        note(&mut breaker, FINE, 1, 0);
        note(&mut breaker, FAIL, 4, 0);
        assert_eq!(breaker.admits(at(0)), Admission::Slots(8));
        note(&mut breaker, Outcome::Rejected, 3, 0);
        assert!(
            !breaker.is_open(),
            "a refusal says nothing about the target"
        );
        note(&mut breaker, FAIL, 1, 0);
        assert!(breaker.is_open());
        assert_eq!(breaker.admits(at(29)), Admission::Nothing);
        assert_eq!(breaker.admits(at(30)), Admission::Probe);
    }

    #[test]
    fn half_of_twenty_within_thirty_seconds_opens_it() {
        let mut breaker = Breaker::default();
        for second in 0..10 {
            note(&mut breaker, FINE, 1, second);
            assert!(!breaker.is_open());
            note(&mut breaker, FAIL, 1, second);
        }
        assert!(breaker.is_open());
        let mut slow = Breaker::default();
        for minute in 0..40 {
            note(&mut slow, FINE, 1, minute * 60);
            note(&mut slow, FAIL, 1, minute * 60);
        }
        assert!(!slow.is_open());
    }

    #[test]
    fn it_stays_open_twice_as_long_each_time_up_to_five_minutes() {
        let mut breaker = Breaker::default();
        note(&mut breaker, FAIL, 5, 0);
        let mut now = 0;
        for expected in [30, 60, 120, 240, 300, 300] {
            assert_eq!(breaker.admits(at(now + expected - 1)), Admission::Nothing);
            now += expected;
            assert_eq!(breaker.admits(at(now)), Admission::Probe);
            note(&mut breaker, FAIL, 1, now);
        }
        let mut early = Breaker::default();
        (0..5).for_each(|_| early.note(&FAIL, at(0), 0.0));
        assert_eq!(early.admits(at(14)), Admission::Nothing);
        assert_eq!(early.admits(at(15)), Admission::Probe);
    }

    #[test]
    fn three_successes_close_it_and_it_starts_slowly() {
        let mut breaker = Breaker::default();
        note(&mut breaker, FAIL, 5, 0);
        assert_eq!(breaker.admits(at(30)), Admission::Probe);
        note(&mut breaker, FINE, 2, 30);
        assert_eq!(breaker.admits(at(30)), Admission::Probe);
        note(&mut breaker, FINE, 1, 30);
        for slots in [1, 2, 4, 8, 8] {
            assert_eq!(breaker.admits(at(30)), Admission::Slots(slots));
            note(&mut breaker, FINE, 10, 30);
        }
        note(
            &mut breaker,
            Outcome::Throttled { retry_after: None },
            1,
            30,
        );
        assert_eq!(breaker.admits(at(30)), Admission::Slots(4));
        note(
            &mut breaker,
            Outcome::Throttled { retry_after: None },
            5,
            30,
        );
        assert_eq!(breaker.admits(at(30)), Admission::Slots(1), "never none");
    }

    /// A delivery on its way: the requests it still needs, and when the one under way is answered.
    struct Travelling {
        requests: u32,
        answered_at: Duration,
    }

    /// P5, by a simulated clock: the breaker, the slots and the pace, as the courier and the FHIR
    /// server use them.
    #[test]
    fn a_target_down_for_a_day_gets_everything_without_a_herd() {
        const LANES: u32 = 100_000;
        const STEP: Duration = Duration::from_millis(10);
        const LATENCY: Duration = Duration::from_millis(200);
        let most = crate::fhir_server::Limits::default().per_second;
        let mut breaker = Breaker::default();
        let mut now = Duration::ZERO;
        let mut tried = 0;
        while now < Duration::from_hours(24) {
            let begun = match breaker.admits(now) {
                Admission::Slots(slots) => slots,
                Admission::Probe => 1,
                Admission::Nothing => 0,
            };
            // The shortest jitter is the most attempts.
            (0..begun).for_each(|_| breaker.note(&Outcome::NotSent, now, 0.0));
            tried += begun;
            now += Duration::from_millis(500);
        }
        assert!(tried <= 600, "{tried} attempts while it was down");

        let mut turns = Turns::default();
        let mut begun: Vec<Duration> = Vec::new();
        let mut travelling: Vec<Travelling> = Vec::new();
        let (mut waiting, mut delivered, mut at_once) = (LANES, 0, 0);
        while delivered < LANES {
            let slots = match breaker.admits(now) {
                Admission::Slots(slots) => slots,
                Admission::Probe => 1,
                Admission::Nothing => 0,
            };
            let pace = if breaker.is_easy(now) {
                easy(most)
            } else {
                most
            };
            let mut request = || {
                let at = turns.next(now, pace);
                begun.push(at);
                at + LATENCY
            };
            while travelling.len() < slots && waiting > 0 {
                waiting -= 1;
                travelling.push(Travelling {
                    requests: 1,
                    answered_at: request(),
                });
            }
            at_once = at_once.max(travelling.len());
            for one in &mut travelling {
                if one.answered_at <= now && one.requests > 0 {
                    one.requests -= 1;
                    one.answered_at = request();
                }
            }
            travelling.retain(|one| {
                let done = one.requests == 0 && one.answered_at <= now;
                if done {
                    delivered += 1;
                    breaker.note(&FINE, now, 0.5);
                }
                !done
            });
            now += STEP;
        }
        let first = begun[0];
        let soon = begun
            .iter()
            .take_while(|at| **at < first + Duration::from_secs(10))
            .count();
        let within = |span: Duration| {
            let mut from = 0;
            let counts = begun.iter().enumerate().map(|(index, at)| {
                while begun[from] + span <= *at {
                    from += 1;
                }
                index - from + 1
            });
            counts.max().unwrap_or(0)
        };
        let second = within(Duration::from_secs(1));
        println!(
            "P5 lanes={LANES} down=24h attempts_while_down={tried} delivered={delivered} \
             first_10s={soon} at_once={at_once} per_second={second}"
        );
        assert!(soon <= 50, "{soon} requests in the first ten seconds");
        assert!(
            at_once <= 8 && second <= 20,
            "{at_once} at once, {second} a second"
        );
    }
}
