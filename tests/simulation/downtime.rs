//! A target that is down for a day, and what its return is like: 100,000 lanes without a database.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use marrowflag::{
    clinical::assessment::Urgency,
    courier::control::{Control, Ended},
    fhir_server::Sent,
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

/// A lane with one delivery.
#[derive(Clone)]
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
        remote_ids: Vec::new(),
        waiting_since: wall(lane.waiting_since),
        reachable_ms: lane.reachable_ms,
        correlation_id: String::new(),
    }
}

#[test]
fn a_day_down_ends_without_a_herd() {
    let mut random = StdRng::seed_from_u64(20_261_121);
    let lane = Lane {
        attempt: 0,
        earlier: Vec::new(),
        waiting_since: 0,
        reachable_ms: 0,
    };
    let mut lanes = vec![lane; LANES];
    let mut due: BinaryHeap<_> = (0..LANES).map(|id| Reverse((0, id))).collect();
    let mut under_way: BinaryHeap<Reverse<(u64, usize, u64)>> = BinaryHeap::new();
    let mut control = Control::default();
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
        let admitted = control.admits(None, wall(now), Duration::from_millis(now));
        for _ in 0..admitted {
            let Some(Reverse((at, id))) = due.peek().copied() else {
                break;
            };
            if at > now {
                break;
            }
            due.pop();
            control.started(1);
            let takes = match now {
                0..DOWN => 2_000,
                _ if now < DOWN + SLOW => 200,
                _ => 20,
            };
            under_way.push(Reverse((now + takes, id, now)));
            if now < DOWN {
                tried_while_down += 1;
            } else {
                starts.push(now);
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
    assert!(tried_while_down <= 600, "{tried_while_down} attempts");
    assert!(first - DOWN <= 300_000, "back after {first}");
}
