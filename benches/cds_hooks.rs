//! Calls of CDS Hooks beside an empty answer of the same server in the same run.
//!
//! `cargo bench --bench cds_hooks` starts `marrowflag serve` on a fresh SQLite file, and has 16
//! callers send, in turns: `GET /livez` (the empty answer), `patient-view` with a prefetch of 25 kB
//! and healthy counts (no card), and the same with low counts of another patient each time (a card,
//! which is kept). It prints requests a second, median and 99th percentile, and the ratios.
//!
//! Beside it, in the same rounds and with the same calls, the two peers of `benches/peers`, which
//! keep one rule and check nothing: a service in Node and one in `HealthChain` (Python, installed
//! into `target/peers` on the first run). A peer whose runtime is missing is said to be.

#![expect(clippy::print_stdout, reason = "a bench says what it measured")]
#![expect(clippy::expect_used, reason = "a bench stops when something is wrong")]
mod load;

use std::{
    fmt::Write as _,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::AtomicU64,
    time::Duration,
};

use load::{Measured, Server, marrowflag, median, sqlite};

const CALLERS: usize = 16;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
/// Counts of each blood line in a prefetch: 4 lines of 12 make 25 kB.
const COUNTS: usize = 12;
const PATIENT: &str = "pppppppp";
/// Where the service is.
const OURS: &str = "/cds-services/marrowflag-cytopenia";
const NODE: &str = "/cds-services/haemoglobin";
const HEALTHCHAIN: &str = "/cds/cds-services/haemoglobin";

fn main() {
    let scratch = tempfile::tempdir().expect("a directory for the database");
    let ours = Server::start(&mut marrowflag(&["--database", &sqlite(scratch.path())]));
    let node = there("node", node());
    let healthchain = there("healthchain", healthchain());
    let healthy = template(["150", "250", "6.0", "4.0"]);
    let low = template(["89", "84", "5.0", "3.0"]);
    println!(
        "{CALLERS} callers, prefetch of {} bytes, {ROUNDS} rounds of {} s each, in turns",
        healthy.len(),
        ROUND.as_secs()
    );
    let mut cases = vec![
        ("empty", &ours, Case::Empty),
        ("no card", &ours, Case::Hook(OURS, &healthy)),
        ("card", &ours, Case::Hook(OURS, &low)),
    ];
    cases.extend(node.iter().map(|one| ("node", one, Case::Hook(NODE, &low))));
    cases.extend(
        healthchain
            .iter()
            .map(|one| ("healthchain", one, Case::Hook(HEALTHCHAIN, &low))),
    );
    // The answers are looked at once: a fast refusal would be no feat.
    for (name, server, case) in &cases {
        let answer = server.ask(case.request(&server.address, 0).as_bytes());
        let good = match *name {
            "empty" => answer.starts_with("HTTP/1.1 200"),
            "no card" => answer.ends_with(r#"{"cards":[]}"#),
            _ => answer.contains(r#""indicator":"warning""#),
        };
        assert!(good, "{name}: {answer}");
    }
    let next = AtomicU64::new(1);
    let mut all: Vec<Vec<Measured>> = cases.iter().map(|_| Vec::new()).collect();
    for round in 1..=ROUNDS {
        for ((name, server, case), measured) in cases.iter().zip(&mut all) {
            let one = load::measure(server, CALLERS, ROUND, &next, |number, bytes| {
                bytes.clear();
                bytes.extend_from_slice(case.request(&server.address, number).as_bytes());
            });
            println!(
                "round {round}: {name:11} {:8.0}/s   p50 {:7.2} ms   p99 {:7.2} ms",
                one.rate, one.p50, one.p99
            );
            measured.push(one);
        }
    }
    let Some((empty, others)) = all.split_first() else {
        return;
    };
    for ((name, ..), measured) in cases.iter().skip(1).zip(others) {
        let ratios = measured.iter().zip(empty);
        let mut ratios: Vec<f64> = ratios.map(|(one, empty)| one.rate / empty.rate).collect();
        let p99 = measured.iter().map(|one| one.p99).fold(0.0, f64::max);
        println!(
            "median: {name}: {:.3} of the empty answer's rate; worst p99 {p99:.2} ms",
            median(&mut ratios)
        );
    }
}

/// A peer, or a line that says why it is missing.
fn there(name: &str, server: Result<Server, String>) -> Option<Server> {
    server
        .inspect_err(|why| println!("{name}: not measured ({why})"))
        .ok()
}

fn node() -> Result<Server, String> {
    let service = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/service.mjs");
    Server::try_start(Command::new("node").arg(service))
}

fn healthchain() -> Result<Server, String> {
    const PACKAGES: [&str; 5] = ["-m", "pip", "install", "healthchain==0.16.1", "uvicorn"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let home = root.join("target/peers/healthchain");
    let python = home.join("bin/python");
    let installed = home.join("installed");
    if !installed.exists() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
        run(Command::new(&python).args(PACKAGES))?;
        std::fs::write(installed, "").map_err(|why| why.to_string())?;
    }
    let mut service = Command::new(&python);
    service.arg(root.join("benches/peers/service.py"));
    Server::try_start(service.stderr(Stdio::null()))
}

fn run(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().display().to_string();
    match command.stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{program}: {status}")),
        Err(why) => Err(format!("{program}: {why}")),
    }
}

enum Case<'a> {
    Empty,
    /// Where, and what.
    Hook(&'a str, &'a str),
}

impl Case<'_> {
    fn request(&self, address: &str, number: u64) -> String {
        match self {
            Self::Empty => format!("GET /livez HTTP/1.1\r\nHost: {address}\r\n\r\n"),
            Self::Hook(path, template) => {
                let body = template.replace(PATIENT, &format!("{number:08}"));
                format!(
                    "POST {path} HTTP/1.1\r\nHost: {address}\r\n\
                     Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                )
            }
        }
    }
}

/// A call whose patient is [`PATIENT`], sampled two days before the clock of the newest sample.
fn template(values: [&str; 4]) -> String {
    let kinds = [
        ("hb", "718-7", "g/L"),
        ("plt", "777-3", "10*9/L"),
        ("wbc", "6690-2", "10*9/L"),
        ("anc", "751-8", "10*9/L"),
    ];
    let mut prefetch = format!(
        r#""patient":{{"resourceType":"Patient","id":"{PATIENT}","gender":"male","birthDate":"1970-05-01"}}"#
    );
    for ((key, loinc, unit), value) in kinds.into_iter().zip(values) {
        let mut entries = Vec::new();
        for month in 0..COUNTS {
            let (year, month) = (2026 - month / 11, 11 - month % 11);
            entries.push(format!(
                r#"{{"fullUrl":"https://ehr.example/fhir/Observation/{loinc}-{year}-{month}","resource":{{"resourceType":"Observation","id":"{loinc}-{year}-{month}","status":"final","category":[{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory"}}]}}],"code":{{"coding":[{{"system":"http://loinc.org","code":"{loinc}"}}]}},"subject":{{"reference":"Patient/{PATIENT}"}},"effectiveDateTime":"{year}-{month:02}-10T08:00:00Z","valueQuantity":{{"value":{value},"unit":"{unit}","system":"http://unitsofmeasure.org","code":"{unit}"}}}},"search":{{"mode":"match"}}}}"#
            ));
        }
        let _ = write!(
            prefetch,
            r#","{key}":{{"resourceType":"Bundle","type":"searchset","total":{COUNTS},"entry":[{}]}}"#,
            entries.join(",")
        );
    }
    format!(
        r#"{{"hook":"patient-view","hookInstance":"{PATIENT}","context":{{"userId":"Practitioner/1","patientId":"{PATIENT}"}},"prefetch":{{{prefetch}}}}}"#
    )
}
