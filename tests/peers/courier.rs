//! The courier over an outbox in memory and a server that misbehaves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use marrowflag::{
    courier::{Courier, Surroundings},
    fhir_server::{FhirServer, Limits, Token},
    store::{
        delivery::{Class, First, Hold, Next, Why},
        lease::{Leased, TargetId},
    },
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::{
    deliveries::{MemoryOutbox, NOW, flag, leased, limits, server},
    misbehaving::{Fault, Misbehaving, On, PUT_ID},
};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// A courier whose clock only moves when told.
pub(crate) struct Run {
    pub(crate) hostile: Misbehaving,
    pub(crate) outbox: MemoryOutbox,
    pub(crate) courier: Arc<Courier<MemoryOutbox>>,
    seconds: Arc<AtomicU64>,
    wake: Arc<Notify>,
}

impl Run {
    async fn start() -> Self {
        let hostile = Misbehaving::start(PUT_ID).await;
        let target = server(&hostile.base);
        Self::with(hostile, target)
    }

    /// To a server of this kind.
    pub(crate) fn with(hostile: Misbehaving, target: FhirServer) -> Self {
        let outbox = MemoryOutbox::default();
        let seconds = Arc::new(AtomicU64::new(0));
        let [wall, monotonic] = [Arc::clone(&seconds), Arc::clone(&seconds)];
        let elapsed = |clock: &AtomicU64| Duration::from_secs(clock.load(Ordering::Relaxed));
        let surroundings = Surroundings {
            now: Arc::new(move || NOW + elapsed(&wall)),
            monotonic: Arc::new(move || elapsed(&monotonic)),
            jitter: Arc::new(|| 1.0),
        };
        let wake = Arc::new(Notify::new());
        let courier = Courier::new(
            outbox.clone(),
            vec![(TargetId(1), target)],
            surroundings,
            Arc::clone(&wake),
        );
        Self {
            hostile,
            outbox,
            courier,
            seconds,
            wake,
        }
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        NOW + Duration::from_secs(self.seconds.load(Ordering::Relaxed))
    }

    pub(crate) fn pass(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Flags of patients 1 to `count`, one delivery each, numbered like the patients.
    fn put(&self, count: i64) {
        for number in 1..=count {
            self.outbox.put(number, delivery(number));
        }
    }

    /// Delivers what is due now; how many were settled.
    pub(crate) async fn deliver(&self) -> usize {
        self.courier.deliver_due(self.now()).await.unwrap()
    }

    pub(crate) fn writes(&self) -> usize {
        self.hostile.truth().writes.len()
    }

    pub(crate) fn hold(&self) -> Option<Hold> {
        self.outbox.0.lock().unwrap().hold
    }

    fn is_open(&self) -> bool {
        self.courier.status()[0].open
    }
}

fn delivery(patient: i64) -> Leased {
    let mrn = patient.to_string();
    let mut lease = leased(&mrn, vec![flag(&mrn, "a", "active", "low")]);
    lease.patient.0 = patient;
    lease
}

#[tokio::test]
async fn everything_due_is_delivered_once() {
    let run = Run::start().await;
    run.put(20);
    assert_eq!(run.deliver().await, 20);
    assert_eq!(run.writes(), 20);
    assert_eq!(run.deliver().await, 0);
    assert_eq!(run.outbox.settled(7), Some(Next::Delivered));
}

#[tokio::test]
async fn poison_is_parked_and_the_others_go_on() {
    let run = Run::start().await;
    run.put(10);
    run.hostile.script(On::Write, [Fault::status(422)]);
    assert_eq!(run.deliver().await, 10);
    assert_eq!(run.writes(), 9);
    let settled = (1..=10).map(|number| run.outbox.settled(number).unwrap());
    let parked = settled.filter(|next| *next == Next::Parked(Why::Rejected));
    assert_eq!(parked.count(), 1);
    assert_eq!(run.hold(), None);
}

/// A parked delivery frees its lane: the same patient's next one is sent.
#[tokio::test]
async fn a_parked_delivery_is_stepped_over() {
    let run = Run::start().await;
    run.outbox.put(1, delivery(1));
    run.outbox.put(2, delivery(1));
    run.hostile.script(On::Write, [Fault::status(422)]);
    assert_eq!(run.deliver().await, 2);
    assert_eq!(run.outbox.settled(1), Some(Next::Parked(Why::Rejected)));
    assert_eq!(run.outbox.settled(2), Some(Next::Delivered));
}

#[tokio::test]
async fn five_failures_open_the_breaker_and_a_probe_closes_it() {
    let run = Run::start().await;
    run.put(30);
    run.hostile
        .script(On::Write, vec![Fault::status(500); 1000]);
    run.deliver().await;
    assert!(run.is_open());
    let tried = run.hostile.truth().requests.len();
    run.pass(29);
    assert_eq!(run.deliver().await, 0, "open for 30 s");
    assert_eq!(run.hostile.truth().requests.len(), tried);
    run.pass(1);
    assert_eq!(run.deliver().await, 1, "one probe, which fails");
    run.pass(59);
    assert_eq!(run.deliver().await, 0, "twice as long");

    run.hostile.truth().end_faults();
    run.pass(1);
    assert_eq!(run.deliver().await, 30, "three probes, then all, slowly");
    assert!(!run.is_open());
    assert_eq!(run.writes(), 30);
}

#[tokio::test]
async fn a_delivery_is_not_older_while_its_target_is_away() {
    let run = Run::start().await;
    run.put(8);
    run.hostile
        .script(On::Write, vec![Fault::status(500); 1000]);
    run.deliver().await;
    // A long weekend down.
    for _ in 0..400 {
        run.pass(900);
        run.deliver().await;
    }
    let age = || {
        let memory = run.outbox.0.lock().unwrap();
        let ages = memory.deliveries.values().map(|one| one.lease.reachable_ms);
        ages.max().unwrap()
    };
    assert!(age() < 3_600_000, "it counts {} ms of 100 h", age());
    run.hostile.truth().end_faults();
    run.pass(900);
    run.deliver().await;
    assert_eq!(run.writes(), 8, "nothing expired");
}

#[tokio::test]
async fn a_refused_scope_holds_the_target_and_parks_nothing() {
    let run = Run::start().await;
    run.put(3);
    run.hostile
        .script(On::Write, vec![Fault::status(403); 1000]);
    run.deliver().await;
    assert_eq!(run.hold(), Some(Hold::Forbidden));
    let tried = run.hostile.truth().requests.len();
    run.pass(299);
    assert_eq!(run.deliver().await, 0);
    assert_eq!(run.hostile.truth().requests.len(), tried);
    run.pass(1);
    assert_eq!(run.deliver().await, 1, "a probe");
    assert_eq!(run.hold(), Some(Hold::Forbidden));

    run.hostile.truth().end_faults();
    run.pass(300);
    assert_eq!(run.deliver().await, 3);
    assert_eq!(run.hold(), None);
    assert_eq!(run.writes(), 3);
}

#[tokio::test]
async fn one_refused_patient_among_others_is_parked() {
    let run = Run::start().await;
    run.outbox.put(1, delivery(1));
    assert_eq!(run.deliver().await, 1);
    run.outbox.put(2, delivery(2));
    run.hostile.script(On::Write, [Fault::status(403)]);
    assert_eq!(run.deliver().await, 1);
    assert_eq!(run.outbox.settled(2), Some(Next::Parked(Why::Forbidden)));
    assert_eq!(run.hold(), None);
}

#[tokio::test]
async fn the_same_refusal_of_three_patients_in_a_row_is_the_targets_fault() {
    let run = Run::start().await;
    run.put(3);
    run.hostile.script(On::Write, vec![Fault::status(422); 3]);
    run.deliver().await;
    assert_eq!(run.hold(), Some(Hold::MassPark));
    run.pass(300);
    run.deliver().await;
    assert_eq!(run.hold(), None);
    assert_eq!(run.writes(), 3, "what was parked went back and was sent");
}

#[tokio::test]
async fn unknown_patients_hold_nothing() {
    let run = Run::start().await;
    run.put(25);
    run.hostile.truth().patients = Some(0);
    assert_eq!(run.deliver().await, 25);
    assert_eq!(run.hold(), None);
    run.hostile.truth().patients = None;
    run.pass(24 * 3600);
    assert_eq!(run.deliver().await, 25, "looked for again after a day");
    assert_eq!(run.writes(), 25);
}

#[tokio::test]
async fn never_more_than_eight_at_once() {
    let run = Run::start().await;
    run.put(20);
    run.hostile.script(On::Metadata, [Fault::Fine]);
    run.hostile.script(On::Write, vec![Fault::Silence; 20]);
    let courier = Arc::clone(&run.courier);
    let now = run.now();
    let task = tokio::spawn(async move { courier.deliver_due(now).await });
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(run.courier.status()[0].in_flight, 8);
    task.abort();
}

#[tokio::test]
async fn half_of_the_slots_are_for_what_was_never_tried() {
    let hostile = Misbehaving::start(PUT_ID).await;
    let patient = Limits {
        total: PATIENCE,
        ..limits()
    };
    let target = FhirServer::new(&hostile.base, Token::None, patient).unwrap();
    let run = Run::with(hostile, target);
    run.hostile.script(On::Write, vec![Fault::Silence; 40]);
    for number in 1..=20 {
        let repeat = Leased {
            attempt: 1,
            ..delivery(number)
        };
        run.outbox.put(number, repeat);
    }
    for number in 21..=30 {
        run.outbox.put(number, delivery(number));
    }
    let courier = Arc::clone(&run.courier);
    let now = run.now();
    let task = tokio::spawn(async move { courier.deliver_due(now).await });
    let begun = async {
        while run.hostile.truth().asked(On::Write) < 8 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, begun).await.unwrap();
    assert_eq!(run.courier.status()[0].in_flight, 8);
    let under_way = |number: &i64| {
        let memory = run.outbox.0.lock().unwrap();
        let asked = format!("/fhir/Flag/mf-flag-{number}");
        let truth = run.hostile.truth();
        let mut requests = truth.requests.iter();
        memory.deliveries[number].in_flight && requests.any(|request| request.path == asked)
    };
    assert_eq!((1..=20).filter(under_way).count(), 4, "repeats");
    assert_eq!((21..=30).filter(under_way).count(), 4, "first attempts");
    task.abort();
}

/// Repeats alone have half of the slots, and come through.
#[tokio::test]
async fn repeats_come_through_and_none_is_left_in_hand() {
    let run = Run::start().await;
    for number in 1..=60 {
        let repeat = Leased {
            attempt: 1,
            first: First::Verify,
            ..delivery(number)
        };
        run.outbox.put(number, repeat);
    }
    assert_eq!(run.deliver().await, 60);
    assert_eq!(run.writes(), 60);

    // What waits in hand when the target goes down is given back, with what has to come first.
    for number in 101..=120 {
        let repeat = Leased {
            attempt: 1,
            verify_first: true,
            ..delivery(number)
        };
        run.outbox.put(number, repeat);
    }
    run.hostile
        .script(On::Patient, vec![Fault::status(500); 1000]);
    run.deliver().await;
    assert!(run.is_open());
    let memory = run.outbox.0.lock().unwrap();
    let waited = memory.deliveries.range(101..).map(|(_, entry)| entry);
    assert!(waited.clone().all(|entry| !entry.in_flight));
    let given_back = waited.filter(|entry| entry.classes == [Class::NotTried]);
    assert!(given_back.clone().count() >= 8);
    assert!(
        given_back
            .clone()
            .all(|entry| entry.lease.first == First::Verify)
    );
    assert!(given_back.clone().all(|entry| entry.lease.attempt == 1));
}

#[tokio::test]
async fn it_runs_until_it_is_stopped_and_finishes_what_it_began() {
    let run = Run::start().await;
    let stop = CancellationToken::new();
    let task = tokio::spawn(Arc::clone(&run.courier).run(stop.clone()));
    tokio::time::sleep(Duration::from_millis(50)).await;
    run.put(3);
    run.wake.notify_one();
    let delivered = async {
        while run.writes() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let limit = Duration::from_millis(400);
    tokio::time::timeout(limit, delivered)
        .await
        .expect("the wake-up beats the poll");

    // Stopped while the answer is on its way: the answer is awaited and settled.
    run.hostile.script(On::Write, [Fault::Silence]);
    run.outbox.put(4, delivery(4));
    run.wake.notify_one();
    tokio::time::sleep(Duration::from_millis(200)).await;
    stop.cancel();
    task.await.unwrap();
    let memory = run.outbox.0.lock().unwrap();
    assert_eq!(memory.deliveries[&4].classes, [Class::Unknown]);
    assert!(memory.deliveries.values().all(|entry| !entry.in_flight));
}

/// Forty patients, three revisions each, a third of the writes going wrong before or after they were
/// stored: in the end the newest stands there, nothing was written twice, nothing went back.
#[tokio::test]
async fn one_effect_in_order_whatever_goes_wrong() {
    let run = Run::start().await;
    let mut random = StdRng::seed_from_u64(20_261_121);
    let faults = (0..2000).map(|_| {
        let stored = |then| Fault::Stored(Box::new(then));
        match random.random_range(0..18) {
            0 => stored(Fault::status(500)),
            1 => stored(Fault::Reset),
            2 => stored(Fault::Truncated),
            3 => Fault::status(500),
            4 => Fault::status(503),
            5 => Fault::Reset,
            _ => Fault::Fine,
        }
    });
    run.hostile.script(On::Write, faults);
    let revisions = ["first", "second", "third"];
    for patient in 1..=40 {
        for (number, text) in (0..).zip(revisions) {
            let mrn = patient.to_string();
            let items = vec![flag(&mrn, text, "active", text)];
            let mut lease = leased(&mrn, items);
            lease.patient.0 = patient;
            run.outbox.put(patient * 10 + number, lease);
        }
    }
    let mut settled = 0;
    for _ in 0..2000 {
        settled += run.deliver().await;
        run.pass(60);
    }
    let failed = settled - 120;
    assert!(failed > 20, "only {failed} attempts went wrong");
    let truth = run.hostile.truth();
    assert_eq!(truth.writes.len(), 120, "each revision was written once");
    for patient in 1..=40 {
        let (version, flag) = &truth.resources[&format!("Flag/mf-flag-{patient}")];
        assert_eq!((*version, &flag["code"]["text"]), (3, &"third".into()));
    }
}
