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
use service::{
    Keeper, Ledger, Load, PATIENCE, Place, Service, missing_in_copy, number, patients,
    points_in_source, settle,
};

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
    /// Starting on what is older than it is kept.
    Forgetting,
    /// A copy asked for in the middle of load.
    Copying,
}

/// Weeks before the others of a count that is older than it is kept, and of one that is not.
const LONG_AGO: i64 = -520;
const BEFORE: i64 = -1;
/// What a copy comes to is its point too: begun, written, with its key, and with its name.
const STEPS_OF_A_COPY: u32 = 4;

/// The points, in the order of the way of the data.
const POINTS: [(&str, By); 20] = [
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
    ("retention.batch", By::Forgetting),
    ("shutdown.draining", By::Stopping),
    ("backup.copying", By::Copying),
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
                By::Forgetting => {
                    random.random_range(1..=u32::try_from(LABORATORIES).expect("few"))
                }
                By::Copying => random.random_range(1..=STEPS_OF_A_COPY),
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
    if by == By::Forgetting {
        grow_old(place, &keeper, &ledger).await;
    }
    let copy = (by == By::Copying).then(|| place.file("copy.db"));
    let mut promised = ledger.promised();
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
            if let Some(copy) = &copy {
                tokio::time::sleep(SOME_LOAD).await;
                promised = ledger.promised();
                let said_yes = service.back_up(copy).await;
                assert!(copy.exists() || !said_yes, "{at}: there is none");
            }
            let exit = service.gone(&at).await;
            assert_eq!(exit, None, "{at}: it ended by itself");
        }
    }
    load.pause();
    let service = Service::start(place, &keeper.base, &[]).expect("it starts again");
    load.to(&service);
    load.done().await;
    if by == By::Forgetting {
        nothing_too_old(place, &at).await;
    }
    if let Some(copy) = &copy {
        if !copy.exists() {
            promised = ledger.promised();
            assert!(
                service.back_up(copy).await,
                "{at}: it cannot be had any more"
            );
        }
        assert!(!place.file("copy.db.partial").exists(), "{at}: half a copy");
        let missing = missing_in_copy(copy, &promised, &ledger.promised()).await;
        let name = |what| format!("{at}: {what} in the copy");
        figures.lost.extend(missing.into_iter().map(name));
    }
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

/// A count of each patient that is older than it is kept, as only a newer one shows.
async fn grow_old(place: &Place, keeper: &Keeper, ledger: &Arc<Ledger>) {
    let forever = ["--retention", "36500"];
    let service = Service::start(place, &keeper.base, &forever).expect("it starts");
    let not_kept = Arc::default();
    for (week, ledger) in [(LONG_AGO, &not_kept), (BEFORE, ledger)] {
        let mut load = Load::start_from(week, 0, LABORATORIES, 1, ledger);
        load.to(&service);
        load.done().await;
    }
    service.terminate();
    assert_eq!(service.gone("SIGTERM").await, Some(0));
    assert!(place.too_old().await > 0, "nothing is too old");
}

/// Until a service that started on it has forgotten what is too old.
async fn nothing_too_old(place: &Place, at: &str) {
    let start = std::time::Instant::now();
    while place.too_old().await > 0 {
        assert!(start.elapsed() < PATIENCE, "{at}: what is too old stays");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
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
    // A checkpoint and a copy are PostgreSQL's own business.
    let points: Vec<_> = POINTS
        .into_iter()
        .filter(|(_, by)| !matches!(by, By::Recovering | By::Copying))
        .collect();
    rounds("PostgreSQL", &points, || Place::postgres(&server)).await;
}

#[test]
fn every_point_in_the_source_is_tried() {
    let tried = POINTS.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(points_in_source(), tried);
}
