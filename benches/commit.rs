//! What durability costs: the same pipeline with and without its commit, on both engines.
//!
//! `cargo bench --bench commit` sends full blood counts that all differ from 1, 16 and 64 senders,
//! in turns, to `$assess-cytopenia`, which reads, assesses and writes as a submission does and keeps
//! nothing, and to the base, which answers after the commit; on a fresh SQLite file and, where
//! Debian's package is installed, a fresh PostgreSQL. The service is pinned to one core. It prints
//! requests a second, their ratio, and what a submission costs the thread that writes to SQLite.
//!
//! `MARROWFLAG_BENCH_SECONDS` says how long a turn is.

#![expect(clippy::print_stdout, reason = "a bench says what it measured")]
#![expect(clippy::expect_used, reason = "a bench stops when something is wrong")]

mod load;
#[path = "../tests/postgres_server/mod.rs"]
mod postgres_server;

use std::{sync::atomic::AtomicU64, time::Duration};

use load::{Measured, Server, Template, marrowflag, median, pinned, sqlite};

/// Values of a submission.
const OBSERVATIONS: usize = 30;
const SENDERS: [usize; 3] = [1, 16, 64];
const ROUNDS: usize = 3;

fn main() {
    let template = Template::with_observations(OBSERVATIONS);
    let turn = seconds();
    println!(
        "Bundle of {} bytes with {} Observations, {ROUNDS} rounds of {} s each, in turns",
        template.size(),
        template.entries - 1,
        turn.as_secs()
    );
    let scratch = tempfile::tempdir().expect("a directory for the database");
    let database = sqlite(scratch.path());
    let server = Server::start(&mut pinned(&marrowflag(&["--database", &database])));
    compare("SQLite", &server, &template, turn);
    drop(server);
    let Some(postgresql) = postgres_server::Server::new("commit", &[]) else {
        return;
    };
    let key = scratch.path().join("identity-key");
    std::fs::write(&key, "07".repeat(32)).expect("a key");
    let url = postgresql.url(&postgresql.database(None));
    let key = key.display().to_string();
    let arguments = ["--database", &url, "--identity-key-file", &key];
    let server = Server::start(&mut pinned(&marrowflag(&arguments)));
    compare("PostgreSQL", &server, &template, turn);
}

#[expect(
    clippy::disallowed_methods,
    reason = "it says how long the bench is to take"
)]
fn seconds() -> Duration {
    let seconds = std::env::var("MARROWFLAG_BENCH_SECONDS");
    Duration::from_secs(seconds.map_or(4, |text| text.parse().expect("a number of seconds")))
}

fn compare(engine: &str, server: &Server, template: &Template, turn: Duration) {
    // What is compared must be the same work: all of it assessed, and at the base all of it stored.
    let mut request = Vec::new();
    template.request(server, "/fhir/$assess-cytopenia", 0, &mut request);
    let answer = server.ask(&request);
    assert!(answer.contains("\"resourceType\":\"Flag\""), "{answer}");
    template.request(server, "/fhir", 0, &mut request);
    let answer = server.ask(&request);
    assert!(answer.contains("Flag/mf-"), "{answer}");
    let created = answer.matches("\"201 Created\"").count();
    assert_eq!(created, OBSERVATIONS, "{answer}");
    let next = AtomicU64::new(1);
    let send = |path: &str, senders, time| -> Measured {
        load::measure(server, senders, time, &next, |number, bytes| {
            template.request(server, path, number, bytes);
        })
    };
    for senders in SENDERS {
        let (mut ratios, mut cpu, mut writer) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let without = send("/fhir/$assess-cytopenia", senders, turn);
            let durable = send("/fhir", senders, turn);
            println!(
                "{engine}, {senders:2} senders: without commit {:6.0}/s {:6.0} us CPU   durable {:6.0}/s {:6.0} us CPU \
                 p50 {:6.1} ms p99 {:6.1} ms   ratio {:.2}",
                without.rate,
                without.cpu_us,
                durable.rate,
                durable.cpu_us,
                durable.p50,
                durable.p99,
                durable.rate / without.rate
            );
            ratios.push(durable.rate / without.rate);
            cpu.push(durable.cpu_us - without.cpu_us);
            writer.push(durable.writer_us);
        }
        let (ratio, more) = (median(&mut ratios), median(&mut cpu));
        let written = match engine {
            "SQLite" => format!(
                ", {:.0} us of it in the thread that writes",
                median(&mut writer)
            ),
            _ => String::new(),
        };
        println!(
            "median: {engine}, {senders} senders: durable has {ratio:.2} of the throughput without commit and takes \
             {more:.0} us CPU more per submission{written}"
        );
    }
}
