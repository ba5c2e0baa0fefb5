//! Every way a send can end, and what follows from it.
//!
//! Everything here is a value or a pure function of values: no clock, no randomness, no I/O.

use std::time::Duration;

use time::OffsetDateTime;

/// Every way a send can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Every item is settled: written, found there, not writable, or left to a human.
    Delivered,
    /// A 2xx whose content is not what it must be: HTML, not FHIR, an OperationOutcome with an
    /// error, another type or id, entries missing or reordered.
    LyingSuccess,
    /// 202: accepted, not done.
    AcceptedOnly,
    /// 400, 422, or 413 that cannot be split: our content.
    Rejected,
    /// 401, again after a fresh token.
    Unauthorized,
    /// 403.
    Forbidden {
        /// A write for another patient succeeded there within the last 10 minutes.
        others_pass: bool,
    },
    /// 404, 405 on a write; 406, 415: this way of writing is not taken.
    WayRefused {
        /// There is a simpler way left to try.
        another_way: bool,
    },
    /// No such patient on the target.
    PatientUnknown,
    /// Two or more patients, or two or more resources with our identifier.
    MultipleMatches,
    /// 409, 412: something there is newer than what we know.
    Conflict,
    /// 3xx: never followed.
    Redirected,
    /// 429, 423: told to wait.
    Throttled {
        /// As the server asked, if it did.
        retry_after: Option<Duration>,
    },
    /// 503.
    Unavailable {
        /// As the server asked, if it did.
        retry_after: Option<Duration>,
    },
    /// 500, 502, 504, 507 and other 5xx: whether it was stored is not known.
    ServerFault,
    /// 501, 505, another 4xx, 1xx, or a status nobody knows.
    Unforeseen,
    /// DNS, connecting, 408, 425: it never reached the store of the target.
    NotSent,
    /// TLS: expired, wrong name, unknown authority.
    Certificate,
    /// Timeout, reset, truncated or over-long answer after the request left: not known.
    Unknown,
    /// Its `/metadata` is no CapabilityStatement of release 4: the address is wrong, or something
    /// else answers there.
    NoFhirServer,
    /// We did not try: stopping, or our own beat is too old.
    NotTried,
}

/// What a send ended in, without its figures. Frozen names: rows of attempts and labels of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// [`Outcome::Delivered`].
    Delivered,
    /// [`Outcome::LyingSuccess`].
    LyingSuccess,
    /// [`Outcome::AcceptedOnly`].
    AcceptedOnly,
    /// [`Outcome::Rejected`].
    Rejected,
    /// [`Outcome::Unauthorized`].
    Unauthorized,
    /// [`Outcome::Forbidden`].
    Forbidden,
    /// [`Outcome::WayRefused`].
    WayRefused,
    /// [`Outcome::PatientUnknown`].
    PatientUnknown,
    /// [`Outcome::MultipleMatches`].
    MultipleMatches,
    /// [`Outcome::Conflict`].
    Conflict,
    /// [`Outcome::Redirected`].
    Redirected,
    /// [`Outcome::Throttled`].
    Throttled,
    /// [`Outcome::Unavailable`].
    Unavailable,
    /// [`Outcome::ServerFault`].
    ServerFault,
    /// [`Outcome::Unforeseen`].
    Unforeseen,
    /// [`Outcome::NotSent`].
    NotSent,
    /// [`Outcome::Certificate`].
    Certificate,
    /// [`Outcome::Unknown`].
    Unknown,
    /// [`Outcome::NoFhirServer`].
    NoFhirServer,
    /// [`Outcome::NotTried`].
    NotTried,
}

impl Class {
    /// All.
    pub const ALL: [Self; 20] = [
        Self::Delivered,
        Self::LyingSuccess,
        Self::AcceptedOnly,
        Self::Rejected,
        Self::Unauthorized,
        Self::Forbidden,
        Self::WayRefused,
        Self::PatientUnknown,
        Self::MultipleMatches,
        Self::Conflict,
        Self::Redirected,
        Self::Throttled,
        Self::Unavailable,
        Self::ServerFault,
        Self::Unforeseen,
        Self::NotSent,
        Self::Certificate,
        Self::Unknown,
        Self::NoFhirServer,
        Self::NotTried,
    ];

    /// The frozen name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::LyingSuccess => "lying-success",
            Self::AcceptedOnly => "accepted-only",
            Self::Rejected => "rejected",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::WayRefused => "way-refused",
            Self::PatientUnknown => "patient-unknown",
            Self::MultipleMatches => "multiple-matches",
            Self::Conflict => "conflict",
            Self::Redirected => "redirected",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
            Self::ServerFault => "server-fault",
            Self::Unforeseen => "unforeseen",
            Self::NotSent => "not-sent",
            Self::Certificate => "certificate",
            Self::Unknown => "unknown",
            Self::NoFhirServer => "no-fhir-server",
            Self::NotTried => "not-tried",
        }
    }

    /// The class with this frozen name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == name)
    }
}

/// What an outcome says about the target's health, for the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Health {
    /// It works.
    Success,
    /// It does not.
    Failure,
    /// It says nothing about the target.
    Neutral,
}

impl Outcome {
    /// Its class.
    pub fn class(&self) -> Class {
        match self {
            Self::Delivered => Class::Delivered,
            Self::LyingSuccess => Class::LyingSuccess,
            Self::AcceptedOnly => Class::AcceptedOnly,
            Self::Rejected => Class::Rejected,
            Self::Unauthorized => Class::Unauthorized,
            Self::Forbidden { .. } => Class::Forbidden,
            Self::WayRefused { .. } => Class::WayRefused,
            Self::PatientUnknown => Class::PatientUnknown,
            Self::MultipleMatches => Class::MultipleMatches,
            Self::Conflict => Class::Conflict,
            Self::Redirected => Class::Redirected,
            Self::Throttled { .. } => Class::Throttled,
            Self::Unavailable { .. } => Class::Unavailable,
            Self::ServerFault => Class::ServerFault,
            Self::Unforeseen => Class::Unforeseen,
            Self::NotSent => Class::NotSent,
            Self::Certificate => Class::Certificate,
            Self::Unknown => Class::Unknown,
            Self::NoFhirServer => Class::NoFhirServer,
            Self::NotTried => Class::NotTried,
        }
    }

    /// Whether it counts against the target's breaker. What ends in a hold does not: the hold
    /// stops the target already.
    pub fn health(&self) -> Health {
        match self {
            Self::Delivered => Health::Success,
            Self::LyingSuccess
            | Self::Unavailable { .. }
            | Self::ServerFault
            | Self::NotSent
            | Self::Unknown => Health::Failure,
            Self::AcceptedOnly
            | Self::Rejected
            | Self::Unauthorized
            | Self::Forbidden { .. }
            | Self::WayRefused { .. }
            | Self::PatientUnknown
            | Self::MultipleMatches
            | Self::Conflict
            | Self::Redirected
            | Self::Throttled { .. }
            | Self::Unforeseen
            | Self::Certificate
            | Self::NoFhirServer
            | Self::NotTried => Health::Neutral,
        }
    }
}

/// What has to come before the next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum First {
    /// Nothing.
    #[default]
    Nothing,
    /// Read what stands there: the last write may have been stored.
    Verify,
    /// A fresh token.
    Token,
    /// Read the CapabilityStatement again.
    Capability,
    /// Read what stands there: someone else wrote.
    Reread,
}

impl First {
    /// All.
    pub const ALL: [Self; 5] = [
        Self::Nothing,
        Self::Verify,
        Self::Token,
        Self::Capability,
        Self::Reread,
    ];

    /// Frozen: stands in the database. Empty for nothing.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "",
            Self::Verify => "verify",
            Self::Token => "token",
            Self::Capability => "capability",
            Self::Reread => "reread",
        }
    }

    /// The one with this frozen name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|first| first.as_str() == name)
    }
}

/// Why a delivery is out of the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// Three answers in a row were no answers.
    BadAnswer,
    /// The target refuses the content.
    Rejected,
    /// The target refuses this patient.
    Forbidden,
    /// No way of writing is taken although the target promised the type.
    Undeliverable,
    /// The patient is not on the target.
    PatientUnknown {
        /// When to look again; `None`: after 30 times, never.
        recheck_at: Option<OffsetDateTime>,
    },
    /// Several patients, or several copies of our resource.
    MultipleMatches,
    /// Twenty conflicts.
    Contended,
    /// An answer nobody foresaw.
    Unforeseen,
    /// 72 hours in which the target could be reached.
    Expired,
}

impl Why {
    /// Frozen: stands in the database, in the API and in the runbook.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::BadAnswer => "bad-answer",
            Self::Rejected => "rejected",
            Self::Forbidden => "forbidden",
            Self::Undeliverable => "undeliverable",
            Self::PatientUnknown { .. } => "patient-unknown",
            Self::MultipleMatches => "multiple-matches",
            Self::Contended => "contended",
            Self::Unforeseen => "unforeseen",
            Self::Expired => "expired",
        }
    }

    /// When it is to be tried again by itself.
    pub fn recheck_at(&self) -> Option<OffsetDateTime> {
        match self {
            Self::PatientUnknown { recheck_at } => *recheck_at,
            Self::BadAnswer
            | Self::Rejected
            | Self::Forbidden
            | Self::Undeliverable
            | Self::MultipleMatches
            | Self::Contended
            | Self::Unforeseen
            | Self::Expired => None,
        }
    }
}

/// Why a target gets nothing but a probe every five minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hold {
    /// Someone has to look: a redirect, or a command.
    Operator,
    /// Token or scope refused.
    Forbidden,
    /// Its certificate is not good.
    Certificate,
    /// Too many deliveries were parked at once: the fault is the target's, not theirs.
    MassPark,
}

impl Hold {
    /// All.
    pub const ALL: [Self; 4] = [
        Self::Operator,
        Self::Forbidden,
        Self::Certificate,
        Self::MassPark,
    ];

    /// Frozen: stands in the database and in `/readyz`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Operator => "operator",
            Self::Forbidden => "forbidden",
            Self::Certificate => "certificate",
            Self::MassPark => "mass_park",
        }
    }

    /// The one with this frozen name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hold| hold.as_str() == name)
    }
}

/// What becomes of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Done.
    Delivered,
    /// Again.
    Later {
        /// Not before.
        at: OffsetDateTime,
        /// What comes first.
        first: First,
    },
    /// Out of the way; kept and visible.
    Parked(Why),
    /// The fault is the target's: the delivery waits as with [`Next::Later`], the target is held.
    Held {
        /// Why.
        hold: Hold,
        /// When the next probe may go out.
        at: OffsetDateTime,
        /// What comes first.
        first: First,
    },
}

impl Next {
    /// The target is held, to be probed as often as every held target is.
    pub fn held(hold: Hold, now: OffsetDateTime) -> Self {
        Self::Held {
            hold,
            at: after(now, PROBE),
            first: First::Nothing,
        }
    }
}

/// What is known of a delivery when an attempt ends.
#[derive(Debug, Clone, Copy)]
pub struct Attempt<'a> {
    /// This attempt; the first is 1.
    pub number: u32,
    /// How those before ended, the newest first.
    pub earlier: &'a [Class],
    /// How long the target could be reached while this delivery was open.
    pub reachable: Duration,
}

impl Attempt<'_> {
    /// How many attempts directly before this one ended in `class`.
    fn in_a_row(&self, class: Class) -> usize {
        self.earlier
            .iter()
            .filter(|one| **one != Class::NotTried)
            .take_while(|one| **one == class)
            .count()
    }

    /// How many earlier attempts ended in `class`.
    fn of(&self, class: Class) -> usize {
        self.earlier.iter().filter(|one| **one == class).count()
    }
}

/// Longest wait between two tries.
const MAX_BACKOFF: Duration = Duration::from_mins(5);
/// Shortest wait between two tries.
const MIN_BACKOFF: Duration = Duration::from_millis(100);
/// What a server may ask for: anything outside is brought to the nearer end.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_hours(1));
/// A held target is probed this often.
pub const PROBE: Duration = Duration::from_mins(5);
/// After a refused token it is fetched again this often.
const TOKEN_REFRESH: Duration = Duration::from_mins(1);
/// Age that counts, at which a delivery expires.
const EXPIRY: Duration = Duration::from_hours(72);
/// An unknown patient is looked for again after this long.
const RECHECK: Duration = Duration::from_hours(24);
/// So many times.
const RECHECKS: usize = 30;
/// Lying answers in a row that park.
const LIES: usize = 3;
/// Conflicts that are repeated at once, before backoff.
const QUICK_CONFLICTS: usize = 5;
/// Conflicts in all that park.
const CONFLICTS: usize = 20;

/// What follows from `outcome`. `jitter` is uniform in `0.0..1.0`; anything else counts as the
/// nearer end.
///
/// There is no limit of attempts, only of the time in which the target could be reached.
pub fn next_step(
    attempt: &Attempt<'_>,
    outcome: &Outcome,
    now: OffsetDateTime,
    jitter: f64,
) -> Next {
    let next = verdict(attempt, outcome, now, jitter);
    match next {
        Next::Later { .. } if attempt.reachable >= EXPIRY && *outcome != Outcome::NotTried => {
            Next::Parked(Why::Expired)
        }
        Next::Later { .. } | Next::Delivered | Next::Parked(_) | Next::Held { .. } => next,
    }
}

fn verdict(attempt: &Attempt<'_>, outcome: &Outcome, now: OffsetDateTime, jitter: f64) -> Next {
    let later = |first| Next::Later {
        at: after(now, backoff(attempt.number, jitter)),
        first,
    };
    let hold = |hold, wait, first| Next::Held {
        hold,
        at: after(now, wait),
        first,
    };
    match outcome {
        Outcome::Delivered => Next::Delivered,
        Outcome::LyingSuccess if attempt.in_a_row(Class::LyingSuccess) + 1 >= LIES => {
            Next::Parked(Why::BadAnswer)
        }
        // Stored or not, reading it tells; 202 is read back instead of polled, which needs no
        // address from the target.
        Outcome::LyingSuccess | Outcome::AcceptedOnly | Outcome::ServerFault | Outcome::Unknown => {
            later(First::Verify)
        }
        Outcome::Rejected => Next::Parked(Why::Rejected),
        Outcome::Unauthorized => hold(Hold::Forbidden, TOKEN_REFRESH, First::Token),
        Outcome::Forbidden { others_pass: true } => Next::Parked(Why::Forbidden),
        Outcome::Forbidden { others_pass: false } => hold(Hold::Forbidden, PROBE, First::Nothing),
        Outcome::WayRefused { another_way: true } => later(First::Capability),
        Outcome::WayRefused { another_way: false } => Next::Parked(Why::Undeliverable),
        Outcome::PatientUnknown => Next::Parked(Why::PatientUnknown {
            recheck_at: (attempt.of(Class::PatientUnknown) < RECHECKS).then(|| after(now, RECHECK)),
        }),
        Outcome::MultipleMatches => Next::Parked(Why::MultipleMatches),
        Outcome::Conflict if attempt.of(Class::Conflict) + 1 >= CONFLICTS => {
            Next::Parked(Why::Contended)
        }
        Outcome::Conflict if attempt.in_a_row(Class::Conflict) < QUICK_CONFLICTS => Next::Later {
            at: after(now, backoff(1, jitter)),
            first: First::Reread,
        },
        Outcome::Conflict => later(First::Reread),
        Outcome::Redirected | Outcome::NoFhirServer => hold(Hold::Operator, PROBE, First::Nothing),
        Outcome::Throttled { retry_after } | Outcome::Unavailable { retry_after } => {
            match retry_after {
                Some(asked) => Next::Later {
                    at: after(now, asked_wait(*asked, jitter)),
                    first: First::Nothing,
                },
                None => later(First::Nothing),
            }
        }
        Outcome::Unforeseen => Next::Parked(Why::Unforeseen),
        Outcome::NotSent => later(First::Nothing),
        Outcome::Certificate => hold(Hold::Certificate, PROBE, First::Nothing),
        Outcome::NotTried => Next::Later {
            at: now,
            first: First::Nothing,
        },
    }
}

/// `U(0, min(300 s, 1 s x 2^attempt))`, not below 100 ms: full jitter, so that a crowd of
/// deliveries spreads over the whole interval.
pub fn backoff(attempt: u32, jitter: f64) -> Duration {
    let ceiling = 1_u64
        .checked_shl(attempt.min(20))
        .map_or(MAX_BACKOFF, Duration::from_secs)
        .min(MAX_BACKOFF);
    share(ceiling, jitter).max(MIN_BACKOFF)
}

/// What the server asked for, within bounds, and up to a quarter (at most 30 s) more.
pub fn asked_wait(asked: Duration, jitter: f64) -> Duration {
    let asked = asked.clamp(RETRY_AFTER.0, RETRY_AFTER.1);
    asked.saturating_add(share((asked / 4).min(Duration::from_secs(30)), jitter))
}

fn share(whole: Duration, jitter: f64) -> Duration {
    let jitter = if jitter.is_finite() {
        jitter.clamp(0.0, 1.0)
    } else {
        0.0
    };
    whole.mul_f64(jitter)
}

fn after(now: OffsetDateTime, wait: Duration) -> OffsetDateTime {
    // Saturates at the end of time instead of panicking: a far date only waits.
    time::Duration::try_from(wait)
        .ok()
        .and_then(|wait| now.checked_add(wait))
        .unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 09:30 UTC);

    fn step(number: u32, earlier: &[Class], outcome: Outcome) -> Next {
        let attempt = Attempt {
            number,
            earlier,
            reachable: Duration::ZERO,
        };
        next_step(&attempt, &outcome, NOW, 0.5)
    }

    fn in_ms(ms: u64) -> OffsetDateTime {
        NOW + Duration::from_millis(ms)
    }

    fn later(ms: u64, first: First) -> Next {
        Next::Later {
            at: in_ms(ms),
            first,
        }
    }

    fn held(hold: Hold, seconds: u64, first: First) -> Next {
        Next::Held {
            hold,
            at: in_ms(seconds * 1000),
            first,
        }
    }

    /// Every outcome with every value of its fields that changes the verdict, and what follows
    /// from the first attempt (jitter 0.5, so that a backoff of 2 s is 1 s).
    fn table() -> Vec<(Outcome, Next, Health)> {
        use Health::{Failure, Neutral, Success};
        use Outcome as O;
        let retry_after = Some(Duration::from_secs(8));
        let soon = |first| later(1000, first);
        let parked = Next::Parked;
        let unknown = Why::PatientUnknown {
            recheck_at: Some(NOW + Duration::from_hours(24)),
        };
        let operator = held(Hold::Operator, 300, First::Nothing);
        let token = held(Hold::Forbidden, 60, First::Token);
        let scope = held(Hold::Forbidden, 300, First::Nothing);
        let certificate = held(Hold::Certificate, 300, First::Nothing);
        let [one, all] = [false, true].map(|others_pass| O::Forbidden { others_pass });
        let [last, another] = [false, true].map(|another_way| O::WayRefused { another_way });
        let [throttled, busy] = [None, retry_after].map(|retry_after| O::Throttled { retry_after });
        let [down, closed] = [None, retry_after].map(|retry_after| O::Unavailable { retry_after });
        vec![
            (O::Delivered, Next::Delivered, Success),
            (O::LyingSuccess, soon(First::Verify), Failure),
            (O::AcceptedOnly, soon(First::Verify), Neutral),
            (O::Rejected, parked(Why::Rejected), Neutral),
            (O::Unauthorized, token, Neutral),
            (one, scope, Neutral),
            (all, parked(Why::Forbidden), Neutral),
            (another, soon(First::Capability), Neutral),
            (last, parked(Why::Undeliverable), Neutral),
            (O::PatientUnknown, parked(unknown), Neutral),
            (O::MultipleMatches, parked(Why::MultipleMatches), Neutral),
            (O::Conflict, soon(First::Reread), Neutral),
            (O::Redirected, operator, Neutral),
            (throttled, soon(First::Nothing), Neutral),
            (busy, later(9000, First::Nothing), Neutral),
            (down, soon(First::Nothing), Failure),
            (closed, later(9000, First::Nothing), Failure),
            (O::ServerFault, soon(First::Verify), Failure),
            (O::Unforeseen, parked(Why::Unforeseen), Neutral),
            (O::NotSent, soon(First::Nothing), Failure),
            (O::Certificate, certificate, Neutral),
            (O::Unknown, soon(First::Verify), Failure),
            (O::NoFhirServer, operator, Neutral),
            (O::NotTried, later(0, First::Nothing), Neutral),
        ]
    }

    #[test]
    fn every_outcome_has_its_verdict() {
        for (outcome, next, health) in table() {
            assert_eq!(step(1, &[], outcome), next, "{outcome:?}");
            assert_eq!(outcome.health(), health, "{outcome:?}");
        }
    }

    #[test]
    fn the_table_names_every_class() {
        for class in Class::ALL {
            assert!(
                table().iter().any(|(outcome, ..)| outcome.class() == class),
                "{class:?} has no row"
            );
        }
    }

    #[test]
    fn frozen_names_do_not_change_and_are_read_back() {
        let names: Vec<_> = Class::ALL.into_iter().map(Class::as_str).collect();
        assert_eq!(
            names.join(" "),
            "delivered lying-success accepted-only rejected unauthorized forbidden way-refused \
             patient-unknown multiple-matches conflict redirected throttled unavailable \
             server-fault unforeseen not-sent certificate unknown no-fhir-server not-tried"
        );
        for class in Class::ALL {
            assert_eq!(Class::from_name(class.as_str()), Some(class));
        }
        let firsts: Vec<_> = First::ALL.into_iter().map(First::as_str).collect();
        assert_eq!(firsts, ["", "verify", "token", "capability", "reread"]);
        for first in First::ALL {
            assert_eq!(First::from_name(first.as_str()), Some(first));
        }
        let holds: Vec<_> = Hold::ALL.into_iter().map(Hold::as_str).collect();
        assert_eq!(holds, ["operator", "forbidden", "certificate", "mass_park"]);
        for hold in Hold::ALL {
            assert_eq!(Hold::from_name(hold.as_str()), Some(hold));
        }
        let whys = [
            Why::BadAnswer,
            Why::Rejected,
            Why::Forbidden,
            Why::Undeliverable,
            Why::PatientUnknown { recheck_at: None },
            Why::MultipleMatches,
            Why::Contended,
            Why::Unforeseen,
            Why::Expired,
        ];
        let whys: Vec<_> = whys.iter().map(Why::as_str).collect();
        assert_eq!(
            whys.join(" "),
            "bad-answer rejected forbidden undeliverable patient-unknown multiple-matches \
             contended unforeseen expired"
        );
    }

    #[test]
    fn the_third_lie_in_a_row_parks() {
        use Class::{LyingSuccess, NotTried, ServerFault};
        let outcome = Outcome::LyingSuccess;
        assert_eq!(
            step(2, &[LyingSuccess], outcome),
            later(2000, First::Verify)
        );
        assert_eq!(
            step(3, &[LyingSuccess, ServerFault, LyingSuccess], outcome),
            later(4000, First::Verify),
            "not in a row"
        );
        let parked = Next::Parked(Why::BadAnswer);
        assert_eq!(step(3, &[LyingSuccess, LyingSuccess], outcome), parked);
        assert_eq!(
            step(4, &[LyingSuccess, NotTried, LyingSuccess], outcome),
            parked,
            "an attempt that was not made breaks no row"
        );
    }

    #[test]
    fn conflicts_are_repeated_five_times_soon_and_twenty_times_in_all() {
        let earlier = |n| vec![Class::Conflict; n];
        for n in 0..5 {
            assert_eq!(
                step(9, &earlier(n), Outcome::Conflict),
                later(1000, First::Reread)
            );
        }
        assert_eq!(
            step(9, &earlier(5), Outcome::Conflict),
            later(150_000, First::Reread)
        );
        assert_eq!(
            step(20, &earlier(18), Outcome::Conflict),
            later(150_000, First::Reread)
        );
        assert_eq!(
            step(20, &earlier(19), Outcome::Conflict),
            Next::Parked(Why::Contended)
        );
    }

    #[test]
    fn an_unknown_patient_is_looked_for_thirty_times() {
        let earlier = vec![Class::PatientUnknown; 29];
        assert!(matches!(
            step(30, &earlier, Outcome::PatientUnknown),
            Next::Parked(why) if why.recheck_at() == Some(NOW + Duration::from_hours(24))
        ));
        let earlier = vec![Class::PatientUnknown; 30];
        assert!(matches!(
            step(31, &earlier, Outcome::PatientUnknown),
            Next::Parked(why) if why.recheck_at().is_none()
        ));
    }

    #[test]
    fn three_days_of_reachable_time_expire_what_would_be_tried_again_and_nothing_else() {
        let attempt = |reachable| Attempt {
            number: 900,
            earlier: &[],
            reachable,
        };
        let day3 = Duration::from_hours(72);
        for (outcome, first, _) in table() {
            let before = next_step(
                &attempt(day3.saturating_sub(Duration::from_millis(1))),
                &outcome,
                NOW,
                0.5,
            );
            let at = next_step(&attempt(day3), &outcome, NOW, 0.5);
            match first {
                Next::Later { .. } if outcome != Outcome::NotTried => {
                    assert!(matches!(before, Next::Later { .. }), "{outcome:?}");
                    assert_eq!(at, Next::Parked(Why::Expired), "{outcome:?}");
                }
                _ => assert_eq!(at, first, "{outcome:?}"),
            }
        }
    }

    #[test]
    fn retry_after_is_brought_within_bounds() {
        let wait = |seconds| asked_wait(Duration::from_secs(seconds), 0.0).as_secs();
        assert_eq!([wait(0), wait(7), wait(999_999_999)], [1, 7, 3600]);
        assert_eq!(
            asked_wait(Duration::from_hours(1), 1.0),
            Duration::from_secs(3630)
        );
    }

    fn any_jitter() -> impl Strategy<Value = f64> {
        prop_oneof![
            9 => 0.0..1.0_f64,
            1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, -1.0, 0.0, 1.0, 1e300]),
        ]
    }

    proptest! {
        #[test]
        fn backoff_keeps_its_bounds(attempt: u32, jitter in any_jitter()) {
            let wait = backoff(attempt, jitter);
            prop_assert!(wait >= Duration::from_millis(100));
            prop_assert!(wait <= Duration::from_mins(5));
            if attempt < 9 {
                prop_assert!(wait <= Duration::from_secs(1 << attempt));
            }
        }

        #[test]
        fn backoff_spreads_over_the_whole_interval(attempt in 9_u32.., jitter in 0.0..1.0_f64) {
            let expected = 300.0 * jitter;
            prop_assert!((backoff(attempt, jitter).as_secs_f64() - expected.max(0.1)).abs() < 1e-6);
        }

        #[test]
        fn a_wait_is_never_shorter_than_asked(asked in 0_u64..10_000_000, jitter in any_jitter()) {
            let asked = Duration::from_secs(asked);
            let wait = asked_wait(asked, jitter);
            let clamped = asked.clamp(Duration::from_secs(1), Duration::from_hours(1));
            prop_assert!(wait >= clamped);
            prop_assert!(wait <= clamped + (clamped / 4).min(Duration::from_secs(30)));
        }

        #[test]
        fn nothing_is_tried_before_now(
            number: u32,
            row in 0..24_usize,
            jitter in any_jitter(),
            seconds in 0_i64..253_402_300_799,
        ) {
            let now = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
            let outcome = table()[row].0;
            let attempt = Attempt { number, earlier: &[], reachable: Duration::ZERO };
            match next_step(&attempt, &outcome, now, jitter) {
                Next::Later { at, .. } | Next::Held { at, .. } => prop_assert!(at >= now),
                Next::Delivered | Next::Parked(_) => {}
            }
        }
    }
}
