//! The traps of codes and units, one by one (`fixtures/terminology/traps.csv`).
//!
//! A trap is one Observation, or a few of one specimen: a 40-year-old woman without history, LOINC
//! and UCUM systems unless said. The columns:
//! - `code`: LOINC; `a+b` two codings; a leading `-`: no system.
//! - `value`: a number with its comparator, `"text"`, or `loinc:`/`sct:` and an answer.
//! - `unit`: UCUM code, a leading `!`: no system; `unit_text`: `Quantity.unit`.
//! - `expect`: `hb=132 g/L` used; `doubted` used with doubt; `unused` with or without what it would
//!   have been; `fact token=truth`; `derived` of the specimen (no Observation of its own).
//! - `warnings`: every word that is said about it, no other (`?`: not looked at); `says`: part of
//!   what is said.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a fixture that is not there fails the test"
)]

use std::{collections::BTreeSet, path::Path};

use marrowflag::{
    clinical::{
        analyte::Analyte, assessment::Doubt, limits::Tuning, quality, timeline::Timeline,
        truth::Truth,
    },
    fhir::{
        codes::CodeMap,
        read::{self, Reading, table},
        submission::{At, Checker, Release},
        tree::{self, Limits},
    },
};
use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339, macros::datetime};

const SAMPLED: OffsetDateTime = datetime!(2026-11-18 08:00 +1);

/// Traps whose answer needs a data-quality rule that does not exist yet.
const WAITING: &[&str] = &[];

#[derive(Debug)]
struct Case {
    trap: String,
    code: String,
    value: String,
    unit: String,
    unit_text: String,
    extra: String,
    expect: String,
    warnings: String,
    says: String,
}

fn cases() -> Vec<Case> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/terminology/traps.csv");
    let mut reader = csv::Reader::from_path(path).expect("the traps");
    reader
        .records()
        .map(|record| {
            let record = record.expect("a row");
            let cell = |place: usize| record[place].to_owned();
            Case {
                trap: cell(0),
                code: cell(1),
                value: cell(2),
                unit: cell(3),
                unit_text: cell(4),
                extra: cell(5),
                expect: cell(6),
                warnings: cell(7),
                says: cell(8),
            }
        })
        .collect()
}

fn extra<'c>(case: &'c Case, name: &str) -> Option<&'c str> {
    case.extra
        .split(' ')
        .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
}

fn observation(case: &Case) -> Value {
    let codings: Vec<Value> = case
        .code
        .split('+')
        .map(|code| match code.strip_prefix('-') {
            Some(code) => json!({ "code": code }),
            None => json!({ "system": "http://loinc.org", "code": code }),
        })
        .collect();
    let days = extra(case, "days").map_or(0, |days| days.parse().expect("days"));
    let sampled = SAMPLED + Duration::days(days);
    let mut observation = json!({
        "resourceType": "Observation",
        "status": "final",
        "code": { "coding": codings },
        "subject": { "reference": "Patient/p1" },
        "effectiveDateTime": sampled.format(&Rfc3339).expect("a time"),
    });
    if let Some(kind) = extra(case, "specimen") {
        observation["contained"] = json!([{
            "resourceType": "Specimen", "id": "s",
            "type": { "coding": [{ "system": "http://snomed.info/sct", "code": kind }] },
        }]);
        observation["specimen"] = json!({ "reference": "#s" });
    }
    if let Some(text) = case.value.strip_prefix('"') {
        observation["valueString"] = text.trim_end_matches('"').into();
    } else if let Some((system, code)) = case.value.split_once(':') {
        let system = match system {
            "loinc" => "http://loinc.org",
            _ => "http://snomed.info/sct",
        };
        observation["valueCodeableConcept"] =
            json!({ "coding": [{ "system": system, "code": code }] });
    } else {
        let (comparator, number) = match case.value.strip_prefix('<') {
            Some(number) => (Some("<"), number),
            None => (None, case.value.as_str()),
        };
        let mut quantity =
            json!({ "value": serde_json::from_str::<Value>(number).expect("a number as written") });
        if let Some(comparator) = comparator {
            quantity["comparator"] = comparator.into();
        }
        if !case.unit_text.is_empty() {
            quantity["unit"] = case.unit_text.as_str().into();
        }
        match case.unit.strip_prefix('!') {
            Some(code) => quantity["code"] = code.into(),
            None if case.unit.is_empty() => {}
            None => {
                quantity["code"] = case.unit.as_str().into();
                quantity["system"] = "http://unitsofmeasure.org".into();
            }
        }
        observation["valueQuantity"] = quantity;
    }
    observation
}

struct Outcome {
    rows: Vec<table::Row>,
    reading: Reading,
    doubts: Vec<Doubt>,
    timeline: Timeline,
}

fn run(checker: &Checker, cases: &[&Case]) -> Outcome {
    let mut entries = vec![json!({ "resource": {
        "resourceType": "Patient", "id": "p1", "gender": "female", "birthDate": "1986-02-03",
    }})];
    entries.extend(
        cases
            .iter()
            .filter(|case| !case.code.is_empty())
            .map(|case| json!({ "resource": observation(case) })),
    );
    let bundle =
        json!({ "resourceType": "Bundle", "type": "collection", "entry": entries }).to_string();
    let parsed = tree::parse(bundle.as_bytes(), &Limits::default()).expect("JSON");
    let submission = checker.decode(&parsed, Release::R4, At::Command);
    for entry in &submission.entries {
        assert_eq!(entry.refused, None, "{:?}", entry.issues);
    }
    let reading = read::read(&submission, &CodeMap::default());
    let timeline = reading.patients.first().map(|patient| Timeline {
        person: patient.person.clone().unwrap_or_default(),
        measurements: patient
            .values
            .iter()
            .filter_map(|value| value.measurement.clone())
            .collect(),
        facts: patient
            .facts
            .iter()
            .flat_map(|read| read.facts.clone())
            .collect(),
        ..Timeline::default()
    });
    let timeline = timeline.unwrap_or_default();
    let doubts = quality::review(&timeline, SAMPLED);
    Outcome {
        rows: table::rows(&reading, &doubts),
        reading,
        doubts,
        timeline,
    }
}

/// The truth of a token, wherever it was stated.
fn facts(outcome: &Outcome, token: &str) -> String {
    let truths: Vec<&str> = outcome
        .timeline
        .facts
        .iter()
        .filter(|fact| &*fact.token == token)
        .map(|fact| match fact.truth {
            Truth::True => "true",
            Truth::False => "false",
            Truth::Unknown => "unknown",
        })
        .collect();
    truths.join(" ")
}

/// What the newest specimen gives for an analyte.
fn derived(outcome: &Outcome, key: &str) -> String {
    let analyte = Analyte::from_key(key).expect("an analyte");
    let record = quality::examine(&outcome.timeline, SAMPLED, &Tuning::none());
    record
        .specimens
        .last()
        .and_then(|specimen| specimen.get(analyte))
        .and_then(|reading| reading.interval.as_exact())
        .map(|exact| format!("{} {}", exact.normalize(), analyte.unit()))
        .unwrap_or_default()
}

/// What is wrong with one row of the table of traps; empty: nothing.
fn problems(case: &Case, outcome: &Outcome, entry: Option<usize>) -> Vec<String> {
    let mut problems = Vec::new();
    let mut check = |what: &str, seen: String, expected: String| {
        if seen != expected {
            problems.push(format!(
                "{} {what}: {seen:?}, expected {expected:?}",
                case.trap
            ));
        }
    };
    let (kind, expected) = match case.expect.split_once(' ') {
        Some((kind @ ("doubted" | "unused" | "fact" | "derived"), rest)) => (kind, rest),
        _ if case.expect == "unused" => ("unused", ""),
        _ => ("used", case.expect.as_str()),
    };
    match kind {
        "fact" => {
            let (token, truth) = expected.split_once('=').expect("token=truth");
            check("fact", facts(outcome, token), truth.to_owned());
            return problems;
        }
        "derived" => {
            let (key, value) = expected.split_once('=').expect("analyte=value unit");
            check("derived", derived(outcome, key), value.to_owned());
            return problems;
        }
        _ => {}
    }
    let path = format!("Bundle.entry[{}].resource", entry.expect("an Observation"));
    let Some(row) = outcome.rows.iter().find(|row| row.path == path) else {
        return vec![format!("{} has no row", case.trap)];
    };
    let seen = if row.canonical_value.is_empty() {
        row.analyte.clone()
    } else {
        format!(
            "{}={} {}",
            row.analyte, row.canonical_value, row.canonical_unit
        )
    };
    if expected.is_empty() {
        check(
            "canonical value",
            row.canonical_value.clone(),
            String::new(),
        );
    } else {
        check("value", seen, expected.to_owned());
    }
    check("used", row.used.to_string(), (kind != "unused").to_string());
    if kind == "doubted" {
        check(
            "doubt",
            (!row.why.is_empty()).to_string(),
            "true".to_owned(),
        );
    }
    if case.warnings != "?" {
        let mut said: BTreeSet<&str> = outcome
            .reading
            .issues
            .iter()
            .filter(|(_, issue)| {
                issue
                    .expression
                    .as_deref()
                    .is_some_and(|expression| expression.starts_with(&format!("{path}.")))
            })
            .map(|(_, issue)| issue.word)
            .collect();
        said.extend(row.why.split(':').next().filter(|word| !word.is_empty()));
        check(
            "warnings",
            said.into_iter().collect::<Vec<_>>().join(" "),
            case.warnings.clone(),
        );
    }
    let texts: Vec<&str> = outcome
        .reading
        .issues
        .iter()
        .map(|(_, issue)| issue.text.as_str())
        .chain([row.why.as_str()])
        .chain(outcome.doubts.iter().map(|doubt| doubt.text.as_str()))
        .collect();
    if !texts.iter().any(|text| text.contains(&case.says)) {
        problems.push(format!(
            "{} says {texts:?}, expected {:?}",
            case.trap, case.says
        ));
    }
    problems
}

#[test]
fn every_trap_is_read_as_written_down() {
    let checker = Checker::new(Vec::new()).expect("our own profiles");
    let cases = cases();
    let mut traps: Vec<&str> = cases.iter().map(|case| case.trap.as_str()).collect();
    traps.dedup();
    assert_eq!(traps.len(), 84, "all traps, in order");
    let mut wrong = Vec::new();
    for trap in traps {
        let mine: Vec<&Case> = cases.iter().filter(|case| case.trap == trap).collect();
        let outcome = run(&checker, &mine);
        if WAITING.contains(&trap) {
            println!("waiting: {trap}");
            continue;
        }
        // The Patient is entry 0.
        let mut entry = 0;
        for case in mine {
            let place = (!case.code.is_empty()).then(|| {
                entry += 1;
                entry
            });
            wrong.extend(problems(case, &outcome, place));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
