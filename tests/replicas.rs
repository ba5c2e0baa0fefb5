//! Several processes on one PostgreSQL, and what may happen to it under them: nothing is lost,
//! nothing is done twice, and each patient's order is kept.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that fails here has found something, and each says its figures"
)]

mod cut_proxy;
mod postgres_server;
mod store_toy;

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use marrowflag::store::{
    OpenError, Store, StoreError,
    delivery::{First, Next},
    lease::{Leased, TargetId},
    postgres::{Options, Postgres, Timing},
    reading::{DeliveryFilter, Search},
    submission::Accepted,
};
use postgres_server::{Server, Stop};
use store_toy::{
    NOW, Sending, all_written, flag, hb, key, report_id, sending, settlement, timeline,
};
use tempfile::NamedTempFile;
use time::OffsetDateTime;

/// A database with the key that belongs to it.
struct Place {
    server: Arc<Server>,
    database: String,
    key: NamedTempFile,
}

fn key_file() -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "07".repeat(32)).unwrap();
    file
}

impl Place {
    fn on(server: Arc<Server>) -> Self {
        Self {
            database: server.database(None),
            server,
            key: key_file(),
        }
    }

    fn url(&self) -> String {
        self.server.url(&self.database)
    }

    fn open(&self) -> Arc<dyn Store> {
        Arc::new(open(&options(&self.url(), self.key.path())).unwrap())
    }
}

/// Ordinary, but quicker to notice a process that is gone.
fn options(url: &str, key: &Path) -> Options {
    Options {
        timing: Timing {
            beat: Duration::from_millis(100),
            late: Duration::from_secs(1),
            standstill: Duration::from_secs(2),
        },
        ..Options::new(url, key, uuid::Uuid::new_v4().to_string(), NOW)
    }
}

/// On a thread of its own: opening blocks.
fn open(options: &Options) -> Result<Postgres, OpenError> {
    std::thread::scope(|scope| scope.spawn(|| Postgres::open(options)).join().unwrap())
}

fn now(start: Instant) -> OffsetDateTime {
    NOW + start.elapsed()
}

/// A FHIR server that ignores `If-Match`: what keeps the order is we.
#[derive(Default)]
struct Hospital {
    held: Mutex<HashMap<(String, String), i64>>,
    writes: AtomicU64,
    regressions: AtomicU64,
}

impl Hospital {
    fn put(&self, leased: &Leased) {
        let mut held = self.held.lock().unwrap();
        for item in &leased.items {
            self.writes.fetch_add(1, Ordering::Relaxed);
            let revision = held
                .entry((item.kind.clone(), item.id.clone()))
                .or_insert(0);
            if *revision > item.revision {
                self.regressions.fetch_add(1, Ordering::Relaxed);
            }
            *revision = item.revision;
        }
    }

    fn revision(&self, kind: &str, id: &str) -> Option<i64> {
        let held = self.held.lock().unwrap();
        held.get(&(kind.to_owned(), id.to_owned())).copied()
    }
}

/// Takes deliveries to the hospital until told to stop. Of ten sends one is stored and gives no
/// answer, and one is neither.
async fn deliver(
    store: Arc<dyn Store>,
    target: TargetId,
    hospital: Arc<Hospital>,
    start: Instant,
    stop: Arc<AtomicBool>,
) {
    while !stop.load(Ordering::Relaxed) {
        let leased = store.lease(target, now(start), 8).await.unwrap_or_default();
        if leased.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for one in leased {
            if !store.may_send() {
                continue;
            }
            let chance = rand::random_range(0..10);
            if chance != 0 {
                hospital.put(&one);
            }
            let at = now(start);
            let next = if chance < 2 {
                Next::Later {
                    at,
                    first: First::Verify,
                }
            } else {
                Next::Delivered
            };
            let done = if next == Next::Delivered {
                all_written(&one)
            } else {
                Vec::new()
            };
            for _ in 0..3 {
                let settled = store.settle(&one, settlement(next, done.clone(), at)).await;
                if settled.is_ok() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

/// What senders saw.
#[derive(Default)]
struct Ledger {
    new: AtomicUsize,
    replayed: AtomicUsize,
    refused: AtomicUsize,
    /// Submissions that were new twice.
    twice: AtomicUsize,
}

const SENDERS: usize = 6;
const PATIENTS: usize = 5;

/// One of the submissions: the sender's own result of this patient, for the `round`th time. The
/// first sender's goes below 100 and back, the others' stay above.
fn submission(sender: usize, patient: usize, round: usize, target: TargetId) -> Sending {
    let value = match (sender, round % 2) {
        (0, 0) => 90,
        _ => 200 + i64::try_from(round).unwrap(),
    };
    // Never the same twice, or nothing would have changed.
    let value = if value < 100 {
        50 + i64::try_from(round % 50).unwrap()
    } else {
        value
    };
    sending(&format!("{sender} {patient} {round}"))
        .of(
            &[&format!("p{patient}")],
            vec![hb(&format!("result of {sender}"), value)],
        )
        .to(target)
}

/// A sender awaits each receipt, asks again when refused, and tells two replicas at once now and
/// then.
async fn send(
    stores: Vec<Arc<dyn Store>>,
    sender: usize,
    rounds: usize,
    target: TargetId,
    ledger: Arc<Ledger>,
) {
    for round in 0..rounds {
        for patient in 0..PATIENTS {
            let make = || submission(sender, patient, round, target);
            let first = (sender + round + patient) % stores.len();
            let mut news = 0;
            let mut receipts = Vec::new();
            let mut turn = 0;
            while receipts.is_empty() {
                let store = &stores[(first + turn) % stores.len()];
                let twin = &stores[(first + turn + 1) % stores.len()];
                let results = if round % 3 == 0 {
                    let (one, other) = tokio::join!(make().accept(store), make().accept(twin));
                    vec![one, other]
                } else {
                    vec![make().accept(store).await]
                };
                for result in results {
                    match result {
                        Ok(Accepted::New { receipt }) => {
                            news += 1;
                            ledger.new.fetch_add(1, Ordering::Relaxed);
                            receipts.push(receipt);
                        }
                        Ok(Accepted::Replayed { receipt }) => {
                            ledger.replayed.fetch_add(1, Ordering::Relaxed);
                            receipts.push(receipt);
                        }
                        Ok(other) => panic!("{other:?}"),
                        Err(
                            StoreError::Transient(_)
                            | StoreError::Twin
                            | StoreError::Deadline
                            | StoreError::NoStore(_),
                        ) => {
                            ledger.refused.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) => panic!("{error:?}"),
                    }
                }
                if receipts.is_empty() {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                turn += 1;
            }
            if news > 1 {
                ledger.twice.fetch_add(1, Ordering::Relaxed);
            }
            assert!(receipts.windows(2).all(|pair| pair[0] == pair[1]));
            // Its own order: the result is at this version now.
            let receipt = String::from_utf8_lossy(&receipts[0]).into_owned();
            assert!(
                receipt.contains(&format!("version: {}", round + 1)),
                "{sender} {patient} {round}: {receipt}"
            );
        }
    }
}

/// Hammer the same patients from several replicas while `trouble` goes on, and look at what
/// came of it.
async fn hammer(
    what: &str,
    place: &Place,
    replicas: usize,
    rounds: usize,
    trouble: impl FnOnce(Arc<AtomicBool>) -> Option<std::thread::JoinHandle<usize>>,
) {
    let start = Instant::now();
    let stores: Vec<Arc<dyn Store>> = (0..replicas).map(|_| place.open()).collect();
    let target = stores[0].target("main", "http://fhir.test").await.unwrap();
    let hospital = Arc::new(Hospital::default());
    let ledger = Arc::new(Ledger::default());
    let stop = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicBool::new(false));
    let couriers: Vec<_> = stores
        .iter()
        .map(|store| {
            tokio::spawn(deliver(
                Arc::clone(store),
                target,
                Arc::clone(&hospital),
                start,
                Arc::clone(&stop),
            ))
        })
        .collect();
    let troubled = trouble(Arc::clone(&sent));
    let senders: Vec<_> = (0..SENDERS)
        .map(|sender| {
            tokio::spawn(send(
                stores.clone(),
                sender,
                rounds,
                target,
                Arc::clone(&ledger),
            ))
        })
        .collect();
    for sender in senders {
        sender.await.unwrap();
    }
    let took = start.elapsed();
    sent.store(true, Ordering::Relaxed);
    let interruptions = match troubled {
        Some(thread) => tokio::task::spawn_blocking(move || thread.join().unwrap())
            .await
            .unwrap(),
        None => 0,
    };
    everything_is_delivered(&stores[0]).await;
    stop.store(true, Ordering::Relaxed);
    for courier in couriers {
        courier.await.unwrap();
    }
    look(&stores[0], &hospital, rounds).await;
    let load = |number: &AtomicUsize| number.load(Ordering::Relaxed);
    println!(
        "{what}: {replicas} replicas, {} submissions, {interruptions} interruptions, lost 0, done twice {}, \
         replayed {}, refused and repeated {}; writes {}, regressions {}; {took:.1?}",
        SENDERS * PATIENTS * rounds,
        load(&ledger.twice),
        load(&ledger.replayed),
        load(&ledger.refused),
        hospital.writes.load(Ordering::Relaxed),
        hospital.regressions.load(Ordering::Relaxed),
    );
    assert_eq!(load(&ledger.twice), 0);
    assert_eq!(hospital.regressions.load(Ordering::Relaxed), 0);
    for store in stores {
        store.close().await.unwrap();
    }
}

async fn everything_is_delivered(store: &Arc<dyn Store>) {
    let started = Instant::now();
    loop {
        let mut open = 0;
        for state in ["queued", "in_flight", "later"] {
            let filter = DeliveryFilter {
                state: Some(state.to_owned()),
                ..DeliveryFilter::default()
            };
            // Not while the server is just coming back.
            open += store.deliveries(filter).await.map_or(1, |list| list.len());
        }
        if open == 0 {
            return;
        }
        assert!(started.elapsed() < Duration::from_mins(1), "{open} open");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One Flag per patient, every value at its last, every submission counted once.
async fn look(store: &Arc<dyn Store>, hospital: &Hospital, rounds: usize) {
    let rounds = i64::try_from(rounds).unwrap();
    let search = |kind: &str| Search {
        tenant: "default".to_owned(),
        kind: kind.to_owned(),
        limit: 1_000,
        ..Search::default()
    };
    let flags = store.search(search("Flag")).await.unwrap().resources;
    assert_eq!(flags.len(), PATIENTS, "one Flag per patient");
    for patient in 0..PATIENTS {
        let name = format!("p{patient}");
        let values = timeline(store, &name).await;
        assert_eq!(values.len(), SENDERS, "{values:?}");
        let last = submission(
            1,
            patient,
            usize::try_from(rounds).unwrap() - 1,
            TargetId(0),
        );
        let last = &last.incoming.patients[0].resources[0].values[0];
        let last = &last.measurement.as_ref().unwrap().received.value;
        let at_last = values
            .iter()
            .filter(|value| value.as_str() == format!("{last} Final"))
            .count();
        assert!(at_last >= SENDERS - 1, "{last}: {values:?}");
        // Every submission changed the report once, and each of the first sender's the Flag.
        let id = report_id(&key(&name));
        let report = store
            .read("default", "DiagnosticReport", &id, None)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            report.version,
            rounds * i64::try_from(SENDERS).unwrap(),
            "lost or done twice"
        );
        assert_eq!(
            hospital.revision("DiagnosticReport", &id),
            Some(report.version)
        );
        let (_, version) = flag(store, &name).await.unwrap();
        assert_eq!(version, rounds);
        let flag = store_toy::flag_id(&key(&name));
        assert_eq!(hospital.revision("Flag", &flag), Some(version));
    }
}

fn shared(test: &str) -> Option<Place> {
    Server::shared(test).map(Place::on)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_replicas_keep_each_patients_order() {
    if let Some(place) = shared("two_replicas_keep_each_patients_order") {
        hammer("P2 two replicas", &place, 2, 12, |_| None).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_replicas_keep_each_patients_order() {
    if let Some(place) = shared("four_replicas_keep_each_patients_order") {
        hammer("P2 four replicas", &place, 4, 12, |_| None).await;
    }
}

/// Rounds under trouble: `just prove` goes on until as many interruptions are through as promised.
#[expect(
    clippy::disallowed_methods,
    reason = "it says how long the test is to take"
)]
fn rounds() -> usize {
    std::env::var("MARROWFLAG_ROUNDS").map_or(20, |text| text.parse().unwrap())
}

/// Again and again until the senders are done.
fn repeatedly(
    pause: Duration,
    mut trouble: impl FnMut(usize) + Send + 'static,
) -> impl FnOnce(Arc<AtomicBool>) -> Option<std::thread::JoinHandle<usize>> {
    move |sent| {
        Some(std::thread::spawn(move || {
            let mut times = 0;
            while !sent.load(Ordering::Relaxed) {
                std::thread::sleep(pause);
                trouble(times);
                times += 1;
            }
            times
        }))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_server_loses_and_repeats_nothing() {
    let Some(server) = Server::new("a_restarted_server_loses_and_repeats_nothing", &[]) else {
        return;
    };
    let place = Place::on(Arc::new(server));
    let server = Arc::clone(&place.server);
    let restart = repeatedly(Duration::from_secs(1), move |times| {
        // As an administrator does it, and as a crash.
        server.stop(if times % 2 == 0 {
            Stop::Fast
        } else {
            Stop::Immediate
        });
        server.start();
    });
    hammer("P7d restarts", &place, 2, rounds(), restart).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn terminated_connections_lose_and_repeat_nothing() {
    let Some(place) = shared("terminated_connections_lose_and_repeat_nothing") else {
        return;
    };
    let (server, database) = (Arc::clone(&place.server), place.database.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let terminate = repeatedly(Duration::from_millis(10), move |_| {
        runtime.block_on(async {
            let client = server.client("postgres").await;
            client
                .execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE datname = $1 AND application_name = 'marrowflag' \
                     ORDER BY random() LIMIT 1",
                    &[&database],
                )
                .await
                .unwrap();
        });
    });
    hammer("P7d terminated connections", &place, 2, rounds(), terminate).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_to_commit_is_settled_by_asking() {
    let Some(place) = shared("a_lost_answer_to_commit_is_settled_by_asking") else {
        return;
    };
    let proxy = cut_proxy::Proxy::start(place.server.port()).await;
    let url = postgres_server::url(proxy.port(), &place.database);
    let store: Arc<dyn Store> = Arc::new(open(&options(&url, place.key.path())).unwrap());
    let direct = place.open();
    let mut figures = [0; 2];
    for round in 0..20 {
        let name = format!("s{round}");
        let make = || sending(&name).of(&["p1"], vec![hb(&name, 150 + round)]);
        // COMMIT arrives and its answer does not; or COMMIT does not arrive.
        let arrives = round % 2 == 0;
        let cut = if arrives {
            cut_proxy::Cut::AfterCommit
        } else {
            cut_proxy::Cut::BeforeCommit
        };
        proxy.cut_next(cut, make().incoming.claims.fingerprint.as_slice());
        let accepted = make().accept(&store).await.unwrap();
        assert!(matches!(accepted, Accepted::New { .. }), "{accepted:?}");
        assert!(proxy.was_cut(), "nothing was cut");
        figures[usize::from(arrives)] += 1;
        let again = make().accept(&direct).await.unwrap();
        assert!(matches!(again, Accepted::Replayed { .. }), "{again:?}");
        let count = usize::try_from(round + 1).unwrap();
        assert_eq!(timeline(&direct, "p1").await.len(), count);
    }
    // And nobody there to ask: neither yes nor no, until it is asked again.
    let make = || sending("last").of(&["p1"], vec![hb("last", 300)]);
    proxy.cut_next(
        cut_proxy::Cut::AfterCommitForGood,
        make().incoming.claims.fingerprint.as_slice(),
    );
    let refused = make().accept(&store).await.err();
    assert!(
        matches!(refused, Some(StoreError::Transient(_))),
        "{refused:?}"
    );
    assert!(proxy.was_cut(), "nothing was cut");
    let again = make().accept(&direct).await.unwrap();
    assert!(matches!(again, Accepted::Replayed { .. }), "{again:?}");
    println!(
        "P7d lost answers: {} after and {} before the commit settled, 1 refused and found; lost 0, done twice 0",
        figures[1], figures[0]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_twin_under_way_is_waited_for_and_then_named() {
    let Some(place) = shared("a_twin_under_way_is_waited_for_and_then_named") else {
        return;
    };
    let store = place.open();
    let make = || sending("a").of(&["p1"], vec![hb("1", 90)]);
    let client = place.server.client(&place.database).await;
    let content = make().incoming.claims.fingerprint;
    client.batch_execute("BEGIN").await.unwrap();
    client
        .execute(
            "INSERT INTO inbox (tenant, client, kind, fingerprint, content_hash, request_id, \
             received_at, expires_at) VALUES ('default', 'lab', 'batch', $1, $1, 'r', now(), now())",
            &[&content.as_slice()],
        )
        .await
        .unwrap();
    let waited = Instant::now();
    assert_eq!(make().accept(&store).await.err(), Some(StoreError::Twin));
    assert!(waited.elapsed() >= Duration::from_secs(2));
    let waiting = {
        let store = Arc::clone(&store);
        tokio::spawn(async move { make().accept(&store).await })
    };
    tokio::time::sleep(Duration::from_millis(200)).await;
    client.batch_execute("ROLLBACK").await.unwrap();
    assert!(matches!(
        waiting.await.unwrap().unwrap(),
        Accepted::New { .. }
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_patient_held_by_another_is_tried_again() {
    let Some(place) = shared("a_patient_held_by_another_is_tried_again") else {
        return;
    };
    let store = place.open();
    let make = |name: &str| sending(name).of(&["p1"], vec![hb(name, 150)]);
    make("a").receipt(&store).await;
    let client = place.server.client(&place.database).await;
    client
        .batch_execute("BEGIN; SELECT * FROM patient FOR UPDATE")
        .await
        .unwrap();
    let waiting = {
        let store = Arc::clone(&store);
        let next = make("b");
        tokio::spawn(async move { next.accept(&store).await })
    };
    // Longer than one transaction waits.
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    client.batch_execute("COMMIT").await.unwrap();
    assert!(matches!(
        waiting.await.unwrap().unwrap(),
        Accepted::New { .. }
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_are_taken_over_from_who_stands_still_and_from_nobody_else() {
    let Some(place) = shared("lanes_are_taken_over_from_who_stands_still_and_from_nobody_else")
    else {
        return;
    };
    let start = Instant::now();
    let (alive, gone) = (place.open(), place.open());
    let target = alive.target("main", "http://fhir.test").await.unwrap();
    for name in ["p1", "p2"] {
        sending(name)
            .of(&[name], vec![hb(name, 90)])
            .to(target)
            .receipt(&alive)
            .await;
    }
    let kept = alive.lease(target, NOW, 1).await.unwrap().remove(0);
    let lost = gone.lease(target, NOW, 1).await.unwrap().remove(0);
    let watcher = place.open();
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(
        watcher
            .lease(target, now(start), 9)
            .await
            .unwrap()
            .is_empty(),
        "both work"
    );
    // It dies without a word.
    drop(gone);
    let died = Instant::now();
    let taken = loop {
        let taken = watcher.lease(target, now(start), 9).await.unwrap();
        if !taken.is_empty() {
            break taken;
        }
        assert!(died.elapsed() < Duration::from_secs(20), "not taken over");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(died.elapsed() >= Duration::from_millis(1_900), "too early");
    assert_eq!(taken.len(), 1);
    assert_eq!(taken[0].delivery, lost.delivery);
    assert!(taken[0].verify_first && taken[0].fence > lost.fence);
    assert_eq!(taken[0].first, First::Verify);
    let done = settlement(Next::Delivered, all_written(&kept), NOW);
    assert!(alive.settle(&kept, done).await.unwrap(), "still its own");
    // One that stops as it should leaves nothing to wait for.
    watcher.close().await.unwrap();
    let again = alive.lease(target, now(start), 9).await.unwrap();
    assert_eq!(again.len(), 1);
    assert!(again[0].verify_first);
}

/// What a target is asked to take is divided by them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_work_are_counted_with_and_without_lanes() {
    let Some(place) = shared("those_who_work_are_counted_with_and_without_lanes") else {
        return;
    };
    let counted = async |store: &Arc<dyn Store>, count: usize| {
        let since = Instant::now();
        while store.replicas() != count {
            let seen = store.replicas();
            assert!(since.elapsed() < Duration::from_secs(20), "{seen}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let one = place.open();
    assert_eq!(one.replicas(), 1);
    let (stops, dies) = (place.open(), place.open());
    counted(&one, 3).await;
    stops.close().await.unwrap();
    counted(&one, 2).await;
    drop(dies);
    counted(&one, 1).await;
    // Its row is gone too: whoever comes later does not wait for it.
    let client = place.server.client(&place.database).await;
    let since = Instant::now();
    loop {
        let rows = client.query("SELECT id FROM replica", &[]).await.unwrap();
        if rows.len() == 1 {
            break;
        }
        assert!(since.elapsed() < Duration::from_secs(20), "{}", rows.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_beat_nothing_is_sent_and_the_old_leases_are_worth_nothing() {
    let Some(server) = Server::new(
        "without_a_beat_nothing_is_sent_and_the_old_leases_are_worth_nothing",
        &[],
    ) else {
        return;
    };
    let place = Place::on(Arc::new(server));
    let store = place.open();
    let target = store.target("main", "http://fhir.test").await.unwrap();
    sending("a")
        .of(&["p1"], vec![hb("1", 90)])
        .to(target)
        .receipt(&store)
        .await;
    let leased = store.lease(target, NOW, 1).await.unwrap().remove(0);
    assert!(store.may_send() && store.ready());
    let server = Arc::clone(&place.server);
    tokio::task::spawn_blocking(move || server.stop(Stop::Fast))
        .await
        .unwrap();
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    assert!(!store.may_send() && !store.ready());
    let server = Arc::clone(&place.server);
    tokio::task::spawn_blocking(move || server.start())
        .await
        .unwrap();
    let back = Instant::now();
    while !store.ready() {
        assert!(back.elapsed() < Duration::from_secs(20), "not back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let done = settlement(Next::Delivered, all_written(&leased), NOW);
    assert!(!store.settle(&leased, done).await.unwrap(), "fenced");
    let again = loop {
        let again = store.lease(target, NOW, 1).await.unwrap();
        if !again.is_empty() {
            break again;
        }
        assert!(back.elapsed() < Duration::from_secs(20), "never free");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(again[0].verify_first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_must_not_be_opened_is_refused() {
    let Some(place) = shared("what_must_not_be_opened_is_refused") else {
        return;
    };
    let ours = options(&place.url(), place.key.path());
    // Several at once migrate once.
    let stores = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| place.open())).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    drop(stores);
    // Another key.
    let other = NamedTempFile::new().unwrap();
    std::fs::write(other.path(), "08".repeat(32)).unwrap();
    let wrong = open(&options(&place.url(), other.path())).err();
    assert!(
        matches!(wrong, Some(OpenError::WrongIdentityKey { .. })),
        "{wrong:?}"
    );
    // No key.
    let missing = open(&options(&place.url(), Path::new("/nowhere"))).err();
    assert!(matches!(missing, Some(OpenError::Io { .. })), "{missing:?}");
    // Newer.
    let client = place.server.client(&place.database).await;
    client
        .batch_execute(
            "INSERT INTO schema_migration VALUES (1000, 'later', ''::bytea, now(), '9.9.9')",
        )
        .await
        .unwrap();
    let newer = open(&ours).err();
    assert!(
        matches!(newer, Some(OpenError::Foreign { .. })),
        "{newer:?}"
    );
    // Nobody there, and no word of the password.
    let nobody = "postgres://me:secret@127.0.0.1:1/db?sslmode=disable";
    let nobody = open(&options(nobody, place.key.path())).err().unwrap();
    assert!(matches!(nobody, OpenError::Server { .. }), "{nobody:?}");
    assert!(!format!("{nobody} {nobody:?}").contains("secret"));
    let unreadable = open(&options("postgres://me:secret@[/x", place.key.path()))
        .err()
        .unwrap();
    assert!(!format!("{unreadable} {unreadable:?}").contains("secret"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_forgets_is_refused() {
    for setting in ["fsync=off", "full_page_writes=off"] {
        let Some(server) = Server::new("a_server_that_forgets_is_refused", &[setting]) else {
            return;
        };
        let place = Place::on(Arc::new(server));
        let refused = open(&options(&place.url(), place.key.path()))
            .err()
            .unwrap();
        assert!(matches!(refused, OpenError::Settings { .. }), "{refused:?}");
        assert!(refused.to_string().contains("is off"), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_are_durable_whatever_the_server_says() {
    let Some(server) = Server::new(
        "commits_are_durable_whatever_the_server_says",
        &["synchronous_commit=off"],
    ) else {
        return;
    };
    let place = Place::on(Arc::new(server));
    let store = place.open();
    for number in 0..20 {
        let name = format!("{number}");
        sending(&name)
            .of(&["p1"], vec![hb(&name, 150 + number)])
            .receipt(&store)
            .await;
    }
    drop(store);
    let server = Arc::clone(&place.server);
    tokio::task::spawn_blocking(move || {
        server.stop(Stop::Immediate);
        server.start();
    })
    .await
    .unwrap();
    assert_eq!(timeline(&place.open(), "p1").await.len(), 20);
}
