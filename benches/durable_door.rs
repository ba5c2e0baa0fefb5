//! The whole durable door beside a handler that only parses.
//!
//! `cargo bench --bench durable_door` starts `marrowflag serve` on a fresh SQLite file and `bare`
//! (see `benches/bare`), each pinned to the same core, and sends both, from 64 senders on the other
//! cores, Bundles of 25 kB that all differ, in turns, so that a busy machine slows both alike.
//! It prints requests a second and processor time a request of each, and their ratios: for a blood
//! count that raises a Flag, which has its resources written and checked, and for a healthy one.

#![expect(clippy::print_stdout, reason = "a bench says what it measured")]
#![expect(clippy::expect_used, reason = "a bench stops when something is wrong")]

mod load;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::AtomicU64,
    time::Duration,
};

use load::{Measured, Server, Template, marrowflag, median, pinned, sqlite};

const SENDERS: usize = 64;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(4);

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = tempfile::tempdir().expect("a directory for the database");
    let database = sqlite(scratch.path());
    let door = Server::start(&mut pinned(&marrowflag(&["--database", &database])));
    let bare = Server::start(&mut pinned(&Command::new(build_bare(root))));

    let found = Template::full_blood_count();
    let nothing = Template::healthy_blood_count();
    println!(
        "{SENDERS} senders, {} entries in {} bytes (a Flag is raised) or {} bytes (nothing to say), {ROUNDS} rounds of {} s each, in turns",
        found.entries,
        found.size(),
        nothing.size(),
        ROUND.as_secs()
    );
    // An answer of 200 alone says little: every result has to be stored and the patient assessed.
    for (number, (template, flagged)) in [(&found, true), (&nothing, false)].into_iter().enumerate()
    {
        let mut request = Vec::new();
        template.request(&door, "/fhir", number as u64, &mut request);
        let text = door.ask(&request);
        let stored = text.matches("\"201 Created\"").count();
        assert_eq!(stored, template.entries - 1, "{text}");
        assert_eq!(text.contains("Flag/mf-"), flagged, "{text}");
    }
    let next = AtomicU64::new(2);
    for (what, template) in [("a Flag is raised", &found), ("nothing to say", &nothing)] {
        let turn = |server: &Server, time| -> Measured {
            load::measure(server, SENDERS, time, &next, |number, bytes| {
                template.request(server, "/fhir", number, bytes);
            })
        };
        // One short turn each, not counted: caches, allocator, first pages of the database.
        for server in [&bare, &door] {
            turn(server, Duration::from_secs(1));
        }
        let (mut throughput, mut cpu) = (Vec::new(), Vec::new());
        for round in 1..=ROUNDS {
            let plain = turn(&bare, ROUND);
            let whole = turn(&door, ROUND);
            println!(
                "{what}, round {round}: parse only {:7.0}/s {:6.0} us CPU   durable door {:7.0}/s {:6.0} us CPU   throughput {:.2}   CPU {:.2}",
                plain.rate,
                plain.cpu_us,
                whole.rate,
                whole.cpu_us,
                whole.rate / plain.rate,
                whole.cpu_us / plain.cpu_us
            );
            throughput.push(whole.rate / plain.rate);
            cpu.push(whole.cpu_us / plain.cpu_us);
        }
        println!(
            "median, {what}: the durable door has {:.2} of the throughput of parsing only, and takes {:.2} times its CPU per request",
            median(&mut throughput),
            median(&mut cpu)
        );
    }
}

fn build_bare(root: &Path) -> PathBuf {
    let target = root.join("target/bare");
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--release",
            "--locked",
            "--quiet",
            "--manifest-path",
        ])
        .arg(root.join("benches/bare/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .status()
        .expect("cargo");
    assert!(status.success(), "benches/bare does not build");
    target.join("release/bare")
}
