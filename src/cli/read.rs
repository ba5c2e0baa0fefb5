//! `marrowflag read`: what was understood and what was not.

use super::{Exit, complain, input, input::Document, print};
use crate::{
    clinical::{decide, quality, timeline::Timeline},
    config::{Read, ReadFormat},
    fhir::{
        codes::CodeMap,
        read::{
            self as reader, PatientReading,
            table::{self, Format},
        },
        submission::{At, Checker, Release},
    },
};

/// Prints one row per value.
pub(super) fn run(args: &Read) -> Exit {
    let (source, checker, codes) = match input::open(&args.file, args.code_map.as_deref()) {
        Ok(opened) => opened,
        Err(exit) => return exit,
    };
    let mut rows = Vec::new();
    for document in &source.documents {
        match rows_of(document, &checker, &codes) {
            Ok(more) => rows.extend(more),
            Err(exit) => return exit,
        }
    }
    print(table::render(
        &rows,
        match args.format {
            ReadFormat::Table => Format::Table,
            ReadFormat::Csv => Format::Csv,
            ReadFormat::Ndjson => Format::Ndjson,
        },
    ))
}

fn rows_of(
    document: &Document,
    checker: &Checker,
    codes: &CodeMap,
) -> Result<Vec<table::Row>, Exit> {
    let parsed = document.parsed()?;
    let submission = checker.decode(&parsed, Release::R4, At::Command);
    let reading = reader::read(&submission, codes);
    for issue in submission
        .all_issues()
        .chain(reading.issues.iter().map(|(_, issue)| issue))
    {
        complain(input::line(issue));
    }
    let mut doubts = Vec::new();
    for patient in &reading.patients {
        let timeline = timeline(patient);
        if let Some(as_of) = decide::newest_sample(&timeline) {
            doubts.extend(quality::review(&timeline, as_of));
        }
    }
    Ok(table::rows(&reading, &doubts))
}

/// What a submission alone says of a patient.
fn timeline(patient: &PatientReading) -> Timeline {
    Timeline {
        person: patient.person.clone().unwrap_or_default(),
        measurements: patient
            .values
            .iter()
            .filter_map(|value| value.measurement.clone())
            .collect(),
        facts: patient
            .facts
            .iter()
            .flat_map(|fact| fact.facts.iter().cloned())
            .collect(),
        pregnancies: patient.pregnancies.clone(),
        inpatient: patient.inpatient,
    }
}
