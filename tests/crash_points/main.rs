//! SIGKILL at every named point: no receipt is forgotten, nothing is done twice.
//!
//! Needs the test build: `cargo test --features fault-injection --test crash_points`.
#![expect(
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test that fails here has found something, and each says its figures"
)]

#[path = "../hospital/mod.rs"]
mod hospital;
#[path = "../postgres_server/mod.rs"]
mod postgres_server;
#[path = "../service/mod.rs"]
mod service;

use std::{sync::Arc, time::Duration};

use rand::{Rng, SeedableRng, rngs::StdRng};

use postgres_server::Server;
use service::{Keeper, Ledger, Load, Place, Service, number, patients, points_in_source, settle};

const LABORATORIES: usize = 16;
/// Counts that each of them sends.
const EACH: usize = 6;
/// Long enough for the laboratories to be in the middle of it.
const SOME_LOAD: Duration = Duration::from_millis(300);
/// Rounds at each point; `MARROWFLAG_ROUNDS` says otherwise.
const ROUNDS: usize = 2;

/// What brings the process to a point.
#[derive(Clone, Copy, PartialEq)]
enum By {
    /// Starting on a new database.
    Starting,
    /// Load: for the so-manieth time, up to this.
    Load(u32),
    /// Starting on what a kill under load left.
    Recovering,
    /// SIGTERM in the middle of load.
    Stopping,
}

/// The points, in the order of the way of the data. `retention.batch` and `backup.copying` come
/// with retention and backup.
const POINTS: [(&str, By); 18] = [
    ("intake.decoded", By::Load(60)),
    ("accept.queued", By::Load(60)),
    ("accept.begun", By::Load(60)),
    ("accept.claimed", By::Load(60)),
    ("accept.timeline_written", By::Load(60)),
    ("accept.outbox_written", By::Load(40)),
    ("accept.commit_sent", By::Load(20)),
    ("accept.committed_unacknowledged", By::Load(10)),
    ("door.answer_half_written", By::Load(40)),
    ("courier.leased", By::Load(8)),
    ("courier.head_sent", By::Load(20)),
    ("courier.body_sent", By::Load(20)),
    ("courier.answer_read", By::Load(40)),
    ("courier.settle_uncommitted", By::Load(20)),
    ("courier.settled", By::Load(20)),
    ("store.checkpointing", By::Recovering),
    ("migrate.between_steps", By::Starting),
    ("shutdown.draining", By::Stopping),
];

/// What the rounds came to.
#[derive(Default)]
struct Figures {
    points: usize,
    receipts: u64,
    unanswered: u64,
    taken: u64,
    flags: usize,
    reports: usize,
    lost: Vec<String>,
    duplicated: Vec<String>,
}

async fn rounds(engine: &str, points: &[(&str, By)], place: impl Fn() -> Place) {
    let rounds = number("MARROWFLAG_ROUNDS", ROUNDS);
    let mut random = StdRng::seed_from_u64(20_261_121);
    let mut figures = Figures::default();
    for (point, by) in points {
        for _ in 0..rounds {
            let times = match by {
                By::Load(most) => random.random_range(1..=*most),
                By::Starting | By::Recovering | By::Stopping => 1,
            };
            round(&place(), point, *by, times, &mut figures).await;
        }
        figures.points += 1;
    }
    println!(
        "P1 crash points on {engine}: {} x {rounds}, receipts {}, unanswered {}, of these taken {}, flags {}, reports {}, lost {}, duplicated {}",
        figures.points,
        figures.receipts,
        figures.unanswered,
        figures.taken,
        figures.flags,
        figures.reports,
        figures.lost.len(),
        figures.duplicated.len(),
    );
    assert!(figures.lost.is_empty(), "{:#?}", figures.lost);
    assert!(figures.duplicated.is_empty(), "{:#?}", figures.duplicated);
}

async fn round(place: &Place, point: &str, by: By, times: u32, figures: &mut Figures) {
    let keeper = Keeper::start(patients(0, LABORATORIES));
    let ledger = Arc::new(Ledger::default());
    let mut load = Load::start(0, LABORATORIES, EACH, &ledger);
    let at = format!("{point}={times}");
    if by == By::Recovering {
        let service = Service::start(place, &keeper.base, &[]).expect("it starts");
        load.to(&service);
        tokio::time::sleep(SOME_LOAD).await;
        service.kill();
        load.pause();
    }
    let dies_early = matches!(by, By::Starting | By::Recovering);
    match Service::start(place, &keeper.base, &["--crash-at", &at]) {
        None => assert!(dies_early, "{at}: it does not start"),
        Some(service) => {
            assert!(!dies_early, "{at}: it starts");
            load.to(&service);
            if by == By::Stopping {
                tokio::time::sleep(SOME_LOAD).await;
                service.terminate();
            }
            let exit = service.gone(&at).await;
            assert_eq!(exit, None, "{at}: it ended by itself");
        }
    }
    load.pause();
    let service = Service::start(place, &keeper.base, &[]).expect("it starts again");
    load.to(&service);
    load.done().await;
    let verdict = settle(service, place, &keeper, &ledger).await;
    let (receipts, unanswered, taken) = ledger.figures();
    figures.receipts += receipts;
    figures.unanswered += unanswered;
    figures.taken += taken;
    figures.flags += verdict.flags;
    figures.reports += verdict.reports;
    let name = |what: &String| format!("{at}: {what}");
    figures.lost.extend(verdict.lost.iter().map(name));
    figures
        .duplicated
        .extend(verdict.duplicated.iter().map(name));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_receipt_is_forgotten_on_sqlite() {
    rounds("SQLite", &POINTS, Place::sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_receipt_is_forgotten_on_postgres() {
    let Some(server) = Server::shared("no_receipt_is_forgotten_on_postgres") else {
        return;
    };
    // A checkpoint is PostgreSQL's own business.
    let points: Vec<_> = POINTS
        .into_iter()
        .filter(|(_, by)| *by != By::Recovering)
        .collect();
    rounds("PostgreSQL", &points, || Place::postgres(&server)).await;
}

#[test]
fn every_point_in_the_source_is_tried() {
    let tried = POINTS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(points_in_source(), tried);
}
