//! The rows of `marrowflag read`: what was understood of a file, and what was not.

use std::collections::{HashMap, HashSet};

use comfy_table::{ContentArrangement, Table, presets};
use serde::Serialize;
use time::format_description::well_known::Rfc3339;

use super::{PatientReading, ReadValue, Reading};
use crate::{
    clinical::{
        assessment::Doubt,
        quantity::Interval,
        time::{Precision, SampleTime},
    },
    fhir::codes,
};

/// One value. An engineer reads these of their own file, so the patient is named as the file does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Reference or identifier of the patient, as sent; empty: none.
    pub patient: String,
    /// Key of the analyte or finding, else the code as sent.
    pub analyte: String,
    /// As written.
    pub value: String,
    /// As written.
    pub unit: String,
    /// In the canonical unit, exactly; with a comparator where it is an interval.
    pub canonical_value: String,
    /// UCUM.
    pub canonical_unit: String,
    /// Time of sampling, to the precision it is known.
    pub effective: String,
    /// `FHIRPath` of the Observation or component.
    pub path: String,
    /// Whether the model uses it.
    pub used: bool,
    /// Word and sentence: why it is not used, or what is doubtful about it.
    pub why: String,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For a terminal.
    Table,
    /// Comma-separated, with a header.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

/// The rows of a submission in the order of the file. `doubts` are what the data-quality rules say
/// of all patients of this reading; they name a value by the handle that the reader gave it.
pub fn rows(reading: &Reading, doubts: &[Doubt]) -> Vec<Row> {
    let doubts: HashMap<u32, &Doubt> = doubts
        .iter()
        // What refuses a value says more than what only doubts it.
        .rev()
        .map(|doubt| (doubt.source.handle, doubt))
        .collect();
    let mut rows: Vec<(usize, Row)> = Vec::new();
    for patient in &reading.patients {
        let name = patient_name(patient);
        let told: HashSet<&str> = patient
            .facts
            .iter()
            .map(|read| read.path.as_str())
            .collect();
        for value in &patient.values {
            let doubt = value
                .measurement
                .as_ref()
                .and_then(|measurement| doubts.get(&measurement.source.handle).copied());
            rows.push((
                value.entry,
                row(
                    &name,
                    value,
                    doubt,
                    told.iter().any(|path| value.path.starts_with(path)),
                ),
            ));
        }
    }
    for value in &reading.aside {
        let name = value.sent.subject.as_deref().unwrap_or_default();
        rows.push((value.entry, row(name, value, None, false)));
    }
    // Stable: within an entry the order of reading is the order of the file.
    rows.sort_by_key(|(entry, _)| *entry);
    rows.into_iter().map(|(_, row)| row).collect()
}

fn patient_name(patient: &PatientReading) -> String {
    patient
        .subject
        .reference
        .clone()
        .or_else(|| {
            patient
                .subject
                .identifier
                .as_ref()
                .map(|(system, value)| format!("{system}|{value}"))
        })
        .unwrap_or_default()
}

fn row(patient: &str, value: &ReadValue, doubt: Option<&Doubt>, is_fact: bool) -> Row {
    let measurement = value.measurement.as_ref();
    let reason = value
        .sent
        .why
        .as_ref()
        .map(|why| (false, why.word, why.text.clone()))
        .or_else(|| doubt.map(|doubt| (doubt.used, doubt.word, doubt.text.clone())))
        .or_else(|| {
            let read_by_a_rule = measurement.is_some() || is_fact || is_statement(value);
            (!read_by_a_rule).then(|| (false, "code-not-used", "kept; no rule reads it".to_owned()))
        });
    Row {
        patient: patient.to_owned(),
        analyte: value
            .analyte_key
            .as_deref()
            .unwrap_or(&value.sent.code)
            .to_owned(),
        value: value.sent.received.value.clone(),
        unit: value.sent.received.unit.clone(),
        canonical_value: measurement
            .and_then(|measurement| measurement.value)
            .map(|interval| written(&interval))
            .unwrap_or_default(),
        canonical_unit: measurement
            .filter(|measurement| measurement.value.is_some())
            .map(|measurement| measurement.analyte.unit())
            .unwrap_or_default()
            .to_owned(),
        effective: value.sent.at.map(effective).unwrap_or_default(),
        path: value.path.clone(),
        used: reason.as_ref().is_none_or(|(used, ..)| *used),
        why: reason
            .map(|(_, word, text)| format!("{word}: {text}"))
            .unwrap_or_default(),
    }
}

/// Gestation at birth, smoking and the like say something of the person and are no token.
fn is_statement(value: &ReadValue) -> bool {
    value.analyte_key.as_deref() == Some("smoking")
        || (value.role.is_none() && !codes::is_about_pregnancy(&value.sent.code))
}

/// `132`, `<10`, `>=5`, `3-5`.
fn written(interval: &Interval) -> String {
    if let Some(exact) = interval.as_exact() {
        return exact.normalize().to_string();
    }
    match (interval.low, interval.high) {
        (Some(low), Some(high)) if low.value.is_zero() => {
            format!(
                "{}{}",
                if high.closed { "<=" } else { "<" },
                high.value.normalize()
            )
        }
        (Some(low), Some(high)) => format!("{}-{}", low.value.normalize(), high.value.normalize()),
        (Some(low), None) => format!(
            "{}{}",
            if low.closed { ">=" } else { ">" },
            low.value.normalize()
        ),
        (None, Some(high)) => format!(
            "{}{}",
            if high.closed { "<=" } else { "<" },
            high.value.normalize()
        ),
        (None, None) => String::new(),
    }
}

fn effective(at: SampleTime) -> String {
    match at.precision {
        Precision::Day => at.day().to_string(),
        Precision::Instant => at.instant.format(&Rfc3339).unwrap_or_default(),
    }
}

const HEADER: [&str; 10] = [
    "patient",
    "analyte",
    "value",
    "unit",
    "canonical_value",
    "canonical_unit",
    "effective",
    "path",
    "used",
    "why",
];

/// Writes the rows; every line ends with a line feed.
pub fn render(rows: &[Row], format: Format) -> String {
    match format {
        Format::Csv => csv_text(rows).unwrap_or_default(),
        Format::Ndjson => rows
            .iter()
            .filter_map(|row| serde_json::to_string(row).ok())
            .map(|line| line + "\n")
            .collect(),
        Format::Table => {
            let mut table = Table::new();
            table
                .load_preset(presets::UTF8_HORIZONTAL_ONLY)
                .set_content_arrangement(ContentArrangement::Dynamic)
                .set_header(HEADER);
            for row in rows {
                table.add_row([
                    row.patient.as_str(),
                    &row.analyte,
                    &row.value,
                    &row.unit,
                    &row.canonical_value,
                    &row.canonical_unit,
                    &row.effective,
                    &row.path,
                    if row.used { "true" } else { "false" },
                    &row.why,
                ]);
            }
            format!("{table}\n")
        }
    }
}

fn csv_text(rows: &[Row]) -> Option<String> {
    let mut writer = csv::WriterBuilder::new()
        .has_headers(false)
        .from_writer(Vec::new());
    writer.write_record(HEADER).ok()?;
    for row in rows {
        writer.serialize(row).ok()?;
    }
    String::from_utf8(writer.into_inner().ok()?).ok()
}
