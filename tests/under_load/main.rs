//! SIGKILL at random moments under load, SIGTERM, and more load than can be taken: what was answered
//! with a receipt reaches the FHIR server once.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that fails here has found something, and each says its figures"
)]

#[path = "../hospital/mod.rs"]
mod hospital;
#[path = "../postgres_server/mod.rs"]
mod postgres_server;
#[path = "../service/mod.rs"]
mod service;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use postgres_server::Server;
use service::{Keeper, Ledger, Load, Place, Service, number, patients, settle};

/// Laboratories that begin in each cycle.
const LABORATORIES: usize = 16;
/// Counts that each of them sends.
const EACH: usize = 4;
/// `MARROWFLAG_CYCLES` says otherwise.
const CYCLES: usize = 20;
/// A kill comes within so many milliseconds of load.
const WITHIN: u64 = 1_000;
/// Rounds of SIGTERM; `MARROWFLAG_ROUNDS` says otherwise.
const ROUNDS: usize = 3;

/// All of them send there from now on.
fn point(loads: &[Load], service: &Service) {
    for load in loads {
        load.to(service);
    }
}

async fn cycles(engine: &str, place: Place) {
    let cycles = number("MARROWFLAG_CYCLES", CYCLES);
    let keeper = Keeper::start((0..cycles).flat_map(|cycle| patients(cycle, LABORATORIES)));
    let ledger = Arc::new(Ledger::default());
    let mut random = StdRng::seed_from_u64(20_261_121);
    let mut loads: Vec<Load> = Vec::new();
    let start = || Service::start(&place, &keeper.base, &[]).expect("it starts");
    for cycle in 0..cycles {
        let service = start();
        loads.push(Load::start(cycle, LABORATORIES, EACH, &ledger));
        point(&loads, &service);
        let moment = random.random_range(0..WITHIN);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        service.kill();
        loads.iter().for_each(Load::pause);
    }
    let service = start();
    point(&loads, &service);
    for load in &mut loads {
        load.done().await;
    }
    let verdict = settle(service, &place, &keeper, &ledger).await;
    let (receipts, unanswered, taken) = ledger.figures();
    let hospital = keeper.hospital.lock().unwrap();
    println!(
        "P1 kills at random on {engine}: {cycles}, receipts {receipts}, unanswered {unanswered}, of these taken {taken}, flags {}, reports {}, writes {}, of what was there already {}, lost {}, duplicated {}",
        verdict.flags,
        verdict.reports,
        hospital.writes,
        hospital.repeats,
        verdict.lost.len(),
        verdict.duplicated.len(),
    );
    assert_eq!(receipts, (cycles * LABORATORIES * EACH) as u64);
    assert!(verdict.lost.is_empty(), "{:#?}", verdict.lost);
    assert!(verdict.duplicated.is_empty(), "{:#?}", verdict.duplicated);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_random_moments_on_sqlite() {
    cycles("SQLite", Place::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_at_random_moments_on_postgres() {
    if let Some(server) = Server::shared("kills_at_random_moments_on_postgres") {
        cycles("PostgreSQL", Place::postgres(&server)).await;
    }
}

/// Who is being answered when the signal comes gets the answer; who comes later is not let in, and
/// that is no answer at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_drains() {
    const SENDERS: usize = 64;
    let rounds = number("MARROWFLAG_ROUNDS", ROUNDS);
    let place = Place::sqlite();
    let keeper = Keeper::start((0..rounds).flat_map(|round| patients(round, SENDERS)));
    let ledger = Arc::new(Ledger::default());
    let mut random = StdRng::seed_from_u64(20_261_121);
    let mut loads: Vec<Load> = Vec::new();
    for round in 0..rounds {
        let service = Service::start(&place, &keeper.base, &[]).expect("it starts");
        loads.push(Load::start(round, SENDERS, EACH, &ledger));
        point(&loads, &service);
        let moment = random.random_range(0..WITHIN);
        tokio::time::sleep(Duration::from_millis(moment)).await;
        service.terminate();
        assert_eq!(service.gone("SIGTERM").await, Some(0), "an orderly end");
        loads.iter().for_each(Load::pause);
    }
    let service = Service::start(&place, &keeper.base, &[]).expect("it starts");
    point(&loads, &service);
    for load in &mut loads {
        load.done().await;
    }
    let verdict = settle(service, &place, &keeper, &ledger).await;
    let (receipts, unanswered, cut) = ledger.figures();
    println!(
        "P6 SIGTERM rounds={rounds} senders={SENDERS} receipts={receipts} not let in={unanswered} taken and not answered={cut} lost={} duplicated={}",
        verdict.lost.len(),
        verdict.duplicated.len(),
    );
    assert_eq!(cut, 0, "taken, and not answered");
    assert!(verdict.lost.is_empty(), "{:#?}", verdict.lost);
    assert!(verdict.duplicated.is_empty(), "{:#?}", verdict.duplicated);
}

/// What cannot be taken is refused at once, and the process stays as small as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn overload_is_refused_and_not_absorbed() {
    const CONNECTIONS: usize = 256;
    /// KiB of memory that were ever used.
    const MEMORY: u64 = 512 * 1024;
    let each = number("MARROWFLAG_OVERLOAD", EACH / 2);
    let place = Place::sqlite();
    let keeper = Keeper::start(patients(0, CONNECTIONS));
    let ledger = Arc::new(Ledger::default());
    // A queue that two at once fill.
    let service = Service::start(&place, &keeper.base, &["--queue", "1"]).expect("it starts");
    let mut load = Load::start(0, CONNECTIONS, each, &ledger);
    load.to(&service);
    load.done().await;
    let memory = service.most_memory();
    let verdict = settle(service, &place, &keeper, &ledger).await;
    let (receipts, unanswered, _) = ledger.figures();
    let refused = ledger.refused.load(Ordering::Relaxed);
    println!(
        "P4 overload connections={CONNECTIONS} receipts={receipts} refused={refused} unanswered={unanswered} memory={} MiB lost={} duplicated={}",
        memory / 1024,
        verdict.lost.len(),
        verdict.duplicated.len(),
    );
    assert!(refused > 0, "nothing was too much");
    assert_eq!(unanswered, 0, "refused is answered");
    assert!(memory <= MEMORY, "{memory} KiB");
    assert!(verdict.lost.is_empty(), "{:#?}", verdict.lost);
    assert!(verdict.duplicated.is_empty(), "{:#?}", verdict.duplicated);
}

/// Nobody can tell a hospital's service to die.
#[cfg(not(feature = "fault-injection"))]
#[test]
fn the_ordinary_binary_knows_no_crash_point() {
    let binary = std::fs::read(env!("CARGO_BIN_EXE_marrowflag")).unwrap();
    let points = service::points_in_source();
    assert!(!points.is_empty(), "there are points to look for");
    let holds = |text: &str| {
        let text = regex::bytes::Regex::new(&regex::escape(text)).unwrap();
        text.is_match(&binary)
    };
    assert!(holds("listening on http://"), "this is how text is found");
    for name in points {
        assert!(!holds(&name), "{name}");
    }
}
