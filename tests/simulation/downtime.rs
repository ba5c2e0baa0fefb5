//! A target that is down for a day, and what its return is like: 100,000 lanes without a database.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use marrowflag::{
    clinical::assessment::Urgency,
    courier::control::{Control, Ended, Room},
    fhir_server::{
        Sent,
        pace::{Turns, easy},
    },
    store::{
        delivery::{Class, First, Next, Outcome},
        lease::{Leased, PatientId, TargetId},
    },
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use time::{OffsetDateTime, macros::datetime};

const START: OffsetDateTime = datetime!(2026-11-20 12:00 UTC);
const LANES: usize = 100_000;
const DOWN: u64 = 24 * 3_600_000;
/// After its return it is slow for so long.
const SLOW: u64 = 10 * 60_000;
const POLL: u64 = 500;
/// Requests that may begin within any second.
const PER_SECOND: usize = 20;

/// A lane with one delivery.
#[derive(Clone, Default)]
struct Lane {
    attempt: u32,
    earlier: Vec<Class>,
    waiting_since: u64,
    reachable_ms: i64,
}

fn wall(now: u64) -> OffsetDateTime {
    START + Duration::from_millis(now)
}

fn leased(id: usize, lane: &Lane) -> Leased {
    Leased {
        target: TargetId(1),
        patient: PatientId(i64::try_from(id).unwrap()),
        tenant: String::new(),
        patient_key: [0; 32],
        fence: 1,
        delivery: i64::try_from(id).unwrap(),
        attempt: lane.attempt,
        earlier: lane.earlier.clone(),
        verify_first: false,
        first: First::Nothing,
        urgency: Urgency::U2,
        patient_identifiers: Vec::new(),
        patient_references: Vec::new(),
        items: Vec::new(),
        watched: Vec::new(),
        remote_ids: Vec::new(),
        waiting_since: wall(lane.waiting_since),
        reachable_ms: lane.reachable_ms,
        correlation_id: String::new(),
    }
}

/// The lane that a delivery is of.
fn lane_of(leased: &Leased) -> usize {
    usize::try_from(leased.delivery).unwrap()
}

type Due = BinaryHeap<Reverse<(u64, usize)>>;

/// What the courier would begin next: a repeat that waits in hand, or what is leased.
fn next(
    control: &mut Control,
    due: &mut Due,
    lanes: &[Lane],
    now: u64,
    slots: usize,
) -> Option<Leased> {
    loop {
        if let Some(repeat) = control.next_repeat(slots) {
            return Some(repeat);
        }
        let Reverse((at, id)) = due.peek().copied()?;
        if at > now || control.room_aside() == 0 {
            return None;
        }
        due.pop();
        if let Some(first) = control.begin(leased(id, &lanes[id]), slots) {
            return Some(first);
        }
    }
}

#[test]
fn a_day_down_ends_without_a_herd() {
    let mut random = StdRng::seed_from_u64(20_261_121);
    let mut lanes = vec![Lane::default(); LANES];
    let mut due: Due = (0..LANES).map(|id| Reverse((0, id))).collect();
    let mut under_way: BinaryHeap<Reverse<(u64, usize, u64)>> = BinaryHeap::new();
    let (mut control, mut turns) = (Control::default(), Turns::default());
    let (mut now, mut poll) = (0_u64, 0_u64);
    let (mut tried_while_down, mut delivered, mut parked, mut most) = (0_u64, 0, 0, 0);
    let mut starts = Vec::new();
    while delivered + parked < LANES {
        // The loop turns when something is back, and every half second.
        match under_way.peek() {
            Some(Reverse((end, ..))) if *end <= poll => now = *end,
            _ => {
                now = poll;
                poll += POLL;
            }
        }
        while let Some(Reverse((end, id, began))) = under_way.peek().copied() {
            if end > now {
                break;
            }
            under_way.pop();
            let up = began >= DOWN;
            let outcome = if up {
                Outcome::Delivered
            } else {
                Outcome::NotSent
            };
            let ended = Ended {
                started_at: wall(began),
                ended_at: wall(now),
                monotonic: Duration::from_millis(now),
                jitter: random.random(),
            };
            let concluded =
                control.conclude(&leased(id, &lanes[id]), Sent::nothing(outcome), &ended);
            let lane = &mut lanes[id];
            lane.attempt += 1;
            lane.earlier.insert(0, concluded.settlement.attempt.class);
            lane.earlier.truncate(32);
            lane.waiting_since = now;
            lane.reachable_ms = concluded.settlement.reachable_ms;
            match concluded.settlement.next {
                Next::Delivered => delivered += 1,
                Next::Parked(_) => parked += 1,
                Next::Later { at, .. } | Next::Held { at, .. } => {
                    let at = u64::try_from((at - START).whole_milliseconds()).unwrap();
                    due.push(Reverse((at, id)));
                }
            }
        }
        let at = Duration::from_millis(now);
        let Room { slots, mut free } = control.admits(None, wall(now), at);
        if slots == 0 {
            let aside = control.take_aside();
            due.extend(aside.iter().map(|one| Reverse((now, lane_of(one)))));
        }
        while free > 0 {
            let Some(chosen) = next(&mut control, &mut due, &lanes, now, slots) else {
                break;
            };
            free -= 1;
            let pace = if control.is_easy(at) {
                easy(PER_SECOND)
            } else {
                PER_SECOND
            };
            let began = u64::try_from(turns.next(at, pace).as_millis()).unwrap();
            let takes = match began {
                0..DOWN => 2_000,
                _ if began < DOWN + SLOW => 200,
                _ => 20,
            };
            under_way.push(Reverse((began + takes, lane_of(&chosen), began)));
            if began < DOWN {
                tried_while_down += 1;
            } else {
                starts.push(began);
            }
        }
        most = most.max(control.in_flight());
    }
    let first = starts[0];
    let soon = starts.iter().filter(|at| **at < first + 10_000).count();
    println!(
        "P5 lanes={LANES} down=24h attempts while down={tried_while_down} delivered={delivered} parked={parked} at once={most} back after={} s first 10 s={soon} all after={} s",
        (first - DOWN) / 1000,
        (now - DOWN) / 1000,
    );
    assert_eq!((delivered, parked), (LANES, 0));
    assert!(most <= 8, "{most} at once");
    assert!(soon <= 50, "{soon} in the first ten seconds");
    let fast = starts
        .windows(PER_SECOND + 1)
        .any(|window| window[PER_SECOND] < window[0] + 1000);
    assert!(!fast, "more than {PER_SECOND} within a second");
    assert!(tried_while_down <= 600, "{tried_while_down} attempts");
    assert!(first - DOWN <= 300_000, "back after {first}");
}
