//! Calls of CDS Hooks beside an empty answer of the same server in the same run.
//!
//! `cargo bench --bench cds_hooks` starts `marrowflag serve` on a fresh SQLite file, and has 16
//! callers send, in turns: `GET /livez` (the empty answer), `patient-view` with a prefetch of 25 kB
//! and healthy counts (no card), and the same with low counts of another patient each time (a card,
//! which is kept). It prints requests a second, median and 99th percentile, and the ratios.
//!
#![expect(clippy::print_stdout, reason = "a bench says what it measured")]
#![expect(clippy::expect_used, reason = "a bench stops when something is wrong")]
mod load;

use std::{fmt::Write as _, sync::atomic::AtomicU64, time::Duration};

use load::{Measured, Server, marrowflag, sqlite};

const CALLERS: usize = 16;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
/// Counts of each blood line in a prefetch: 4 lines of 12 make 25 kB.
const COUNTS: usize = 12;
const PATIENT: &str = "pppppppp";

fn main() {
    let scratch = tempfile::tempdir().expect("a directory for the database");
    let server = Server::start(&mut marrowflag(&["--database", &sqlite(scratch.path())]));
    let healthy = template(["150", "250", "6.0", "4.0"]);
    let low = template(["89", "84", "5.0", "3.0"]);
    println!(
        "{CALLERS} callers, prefetch of {} bytes, {ROUNDS} rounds of {} s each, in turns",
        healthy.len(),
        ROUND.as_secs()
    );
    let next = AtomicU64::new(1);
    let cases = [Case::Empty, Case::Hook(&healthy), Case::Hook(&low)];
    // The answers are looked at once: a fast refusal would be no feat.
    let answers: Vec<String> = cases
        .iter()
        .map(|case| server.ask(case.request(&server.address, 0).as_bytes()))
        .collect();
    assert!(
        answers
            .get(1)
            .is_some_and(|text| text.ends_with(r#"{"cards":[]}"#)),
        "{answers:?}"
    );
    assert!(
        answers
            .get(2)
            .is_some_and(|text| text.contains("\"indicator\":\"warning\""))
    );
    let mut ratios = [const { Vec::new() }; 2];
    for round in 1..=ROUNDS {
        let measured: Vec<Measured> = cases
            .iter()
            .map(|case| {
                load::measure(&server, CALLERS, ROUND, &next, |number, bytes| {
                    bytes.clear();
                    bytes.extend_from_slice(case.request(&server.address, number).as_bytes());
                })
            })
            .collect();
        let [empty, nothing, card] = measured.as_slice() else {
            return;
        };
        for (name, one) in [("empty", empty), ("no card", nothing), ("card", card)] {
            println!(
                "round {round}: {name:8} {:8.0}/s   p50 {:7.2} ms   p99 {:7.2} ms   {:.3} of empty",
                one.rate,
                one.p50,
                one.p99,
                one.rate / empty.rate
            );
        }
        for (ratio, one) in ratios.iter_mut().zip([nothing, card]) {
            ratio.push((one.rate / empty.rate, one.p99));
        }
    }
    for (name, ratio) in ["no card", "card"].iter().zip(&mut ratios) {
        ratio.sort_by(|one, other| one.0.total_cmp(&other.0));
        if let Some((rate, _)) = ratio.get(ROUNDS / 2) {
            let p99 = ratio.iter().map(|(_, p99)| *p99).fold(0.0, f64::max);
            println!("median: {name}: {rate:.3} of an empty answer; worst p99 {p99:.2} ms");
        }
    }
}

enum Case<'a> {
    Empty,
    Hook(&'a str),
}

impl Case<'_> {
    fn request(&self, address: &str, number: u64) -> String {
        match self {
            Self::Empty => format!("GET /livez HTTP/1.1\r\nHost: {address}\r\n\r\n"),
            Self::Hook(template) => {
                let body = template.replace(PATIENT, &format!("{number:08}"));
                format!(
                    "POST /cds-services/marrowflag-cytopenia HTTP/1.1\r\nHost: {address}\r\n\
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
