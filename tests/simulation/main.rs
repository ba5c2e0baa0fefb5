//! Schedules of faults from one seed each, in virtual time.
//!
//! Real: the intake with its model, the store on SQLite, leases, settlements, what the courier
//! decides, and what it sends. Modelled: the FHIR server, the network, crashes and pauses, the
//! clock, humans, laboratories. One thing happens at a time, so that the same seed is the same run.
//!
//! When everything has been quiet: I1 every receipt's values are in the timeline; I2 one Flag per
//! patient and family, one report per specimen; I3 the server shows what follows from the
//! submissions in the order in which they were taken, or a human's edit; I4 revisions rise; I5 no
//! lane is open or owned; I6 parked is only what could not be written; I7 never more at once than
//! allowed; I9 the same seed is the same run.
//!
//! Left out: a server that works off a *creation* after its sender gave up and wrote something
//! newer. `If-Match` cannot stop it, and it is not stopped yet: [`Sabotage::LateCreations`].
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test that fails here has found something, and each says its figures"
)]

mod check;
mod downtime;
#[path = "../hospital/mod.rs"]
mod hospital;
mod senders;
mod world;

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use marrowflag::fhir::submission::Checker;

use hospital::Defect;
use world::{Report, Sabotage, World};

/// Seeds of an ordinary run; `MARROWFLAG_SIM_SEEDS` says otherwise.
const SEEDS: u64 = 200;
/// One seed in so many is run twice.
const TWICE: u64 = 20;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn checker() -> Arc<Checker> {
    Arc::new(Checker::new(Vec::new()).unwrap())
}

/// Runs these seeds on every processor, until a report is enough.
fn run(
    checker: &Arc<Checker>,
    seeds: impl Iterator<Item = u64>,
    sabotage: Sabotage,
    enough: impl Fn(&Report) -> bool + Sync,
) -> Vec<Report> {
    let seeds = Mutex::new(seeds.collect::<Vec<_>>().into_iter());
    let reports = Mutex::new(Vec::new());
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                loop {
                    let Some(seed) = seeds.lock().unwrap().next() else {
                        return;
                    };
                    let mut world = World::new(seed, &runtime, checker, sabotage);
                    if number("MARROWFLAG_SIM_SEED").is_some() {
                        world = world.shown();
                    }
                    let report = world.run();
                    if sabotage == Sabotage::None && seed.is_multiple_of(TWICE) {
                        let again = World::new(seed, &runtime, checker, sabotage).run();
                        assert_eq!(report.hash, again.hash, "I9: {}", how(seed));
                    }
                    if enough(&report) {
                        while seeds.lock().unwrap().next().is_some() {}
                    }
                    reports.lock().unwrap().push(report);
                }
            });
        }
    });
    reports.into_inner().unwrap()
}

fn how(seed: u64) -> String {
    format!("MARROWFLAG_SIM_SEED={seed} cargo test --test simulation schedules")
}

#[test]
fn schedules() {
    let start = Instant::now();
    let seeds = match number("MARROWFLAG_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("MARROWFLAG_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let many = seeds.end - seeds.start;
    let reports = run(&checker(), seeds, Sabotage::None, |_| false);
    let mut broken = Vec::new();
    for report in &reports {
        for (invariant, what) in &report.violations {
            broken.push(format!("{invariant}: {what}\n    {}", how(report.seed)));
        }
    }
    let sum = |of: fn(&Report) -> u64| reports.iter().map(of).sum::<u64>();
    let seconds = start.elapsed().as_secs();
    println!(
        "simulation seeds={many} events={} crashes={} fenced={} clock jumps={} violations={} in {seconds} s",
        sum(|one| one.events),
        sum(|one| one.crashes),
        sum(|one| one.fenced),
        sum(|one| one.jumps),
        broken.len(),
    );
    println!(
        "P2 submissions={} faults={} unknown outcomes={} writes={} repeats={} flags={} reports={} compared with a run without faults={}",
        sum(|one| one.submissions),
        sum(|one| one.faults),
        sum(|one| one.unknown),
        sum(|one| one.writes),
        sum(|one| one.repeats),
        sum(|one| one.flags),
        sum(|one| one.reports),
        sum(|one| one.compared),
    );
    let broken_of = |which: &str| {
        let all = reports.iter().flat_map(|one| &one.violations);
        all.filter(|(invariant, _)| *invariant == which).count()
    };
    println!(
        "P3 writes={} regressions={}",
        sum(|one| one.writes),
        broken_of("I4"),
    );
    println!(
        "P10 clock jumps={} a due delivery waited at most={} ms lanes with two owners={}",
        sum(|one| one.jumps),
        reports.iter().map(|one| one.latest).max().unwrap_or(0),
        broken_of("I5"),
    );
    assert_eq!(reports.len() as u64, many);
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// What is broken on purpose, and who must notice.
const SABOTAGE: [(Sabotage, &str); 10] = [
    (Sabotage::DiskForgets, "I1"),
    (Sabotage::Server(Defect::CreatesAgain), "I2"),
    (Sabotage::Server(Defect::Forgets), "I3"),
    (Sabotage::BelievesAnything, "I3"),
    (Sabotage::Server(Defect::IgnoresIfMatch), "I4"),
    (Sabotage::LateCreations, "I4"),
    (Sabotage::NeverSettles, "I5"),
    (Sabotage::GivesUp, "I6"),
    (Sabotage::Floods, "I7"),
    (Sabotage::Dawdles, "P10"),
];

#[test]
fn every_check_can_fail() {
    let checker = checker();
    for (sabotage, invariant) in SABOTAGE {
        let broken = |one: &Report| one.violations.iter().any(|(which, _)| *which == invariant);
        let reports = run(&checker, 0..400, sabotage, broken);
        let found = reports.iter().find(|one| broken(one));
        match found {
            Some(one) => println!("{invariant} notices {sabotage:?}, seed {}", one.seed),
            None => panic!("{invariant} does not notice {sabotage:?}"),
        }
    }
}
