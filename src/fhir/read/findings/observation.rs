//! Coded results: a test with its answer, a finding with yes or no, a finding as the value; and
//! the conclusions of reports and the notes of specimens.

use rust_decimal::Decimal;

use super::{
    Reader,
    code::{self, Hit},
    gene,
    table::{Condition as Asked, Row, System, Use, Voice},
    value::{self, Side},
    when::When,
};
use crate::{
    clinical::{
        tokens::{self, Span},
        truth::Truth,
    },
    fhir::tree::Tree,
};

/// LOINC codes of body weight (measured, stated, with or without clothes).
const WEIGHT: &[&str] = &["29463-7", "3141-9", "3142-7", "8341-0"];

/// LOINC codes of pregnancy tests; a positive one counts for two weeks.
const PREGNANCY_TESTS: &[&str] = &["2106-3", "2118-8", "2112-1"];

/// LOINC codes of the stated duration of a pregnancy, with their unit when none is sent.
const GESTATION: &[(&str, Option<&str>)] = &[
    ("18185-9", None),
    ("49051-6", Some("wk")),
    ("49052-4", Some("d")),
    ("11885-1", None),
    ("11884-4", None),
    ("11888-5", None),
    ("11886-9", None),
];
const DUE_DATE: &str = "11778-8";
const LAST_MENSTRUAL_PERIOD: &str = "8665-2";

/// Tests that are about being low, or inside the range.
fn side(token: &str) -> Side {
    match token {
        "blow" | "nklow" | "nk_absent" | "trec_absent" | "trypsinogen_low" | "isoamylase_low" => {
            Side::Low
        }
        "hbf_normal" => Side::Inside,
        _ => Side::High,
    }
}

/// Time of the specimen or examination: `effective[x]`, of a period its end.
pub(super) fn time_of(resource: &Tree<'_>) -> Option<When> {
    When::member(resource, "effectiveDateTime")
        .or_else(|| When::member(resource, "effectiveInstant"))
        .or_else(|| When::end(resource, "effectivePeriod"))
        .or_else(|| When::start(resource, "effectivePeriod"))
}

/// `Some(preliminary)` for a status that counts.
fn counts(status: Option<&str>) -> Option<bool> {
    match status {
        Some("final" | "amended" | "corrected" | "appended") => Some(false),
        Some("preliminary") => Some(true),
        _ => None,
    }
}

/// Reads an Observation.
pub(super) fn read(reader: &mut Reader<'_, '_>) {
    let observation = reader.resource;
    let Some(preliminary) = counts(observation.text("status")) else {
        return;
    };
    // A fetus, a donor, a bag.
    if !observation.items("focus").is_empty() {
        return;
    }
    let marrow = is_marrow(reader, observation);
    if gene::read(reader, preliminary) || gene::read_karyotype(reader, preliminary) {
        return;
    }
    let result = Result {
        at: collected(reader, observation),
        preliminary,
        marrow,
    };
    for part in std::iter::once(observation).chain(observation.items("component")) {
        result.read(reader, part);
    }
    for note in observation.items("note") {
        result.words(reader, note.text("text").unwrap_or_default(), Use::Note);
    }
}

/// Reads the conclusions of a DiagnosticReport.
pub(super) fn read_report(reader: &mut Reader<'_, '_>) {
    let report = reader.resource;
    let Some(preliminary) = counts(report.text("status")) else {
        return;
    };
    let result = Result {
        at: collected(reader, report),
        preliminary,
        marrow: is_marrow(reader, report),
    };
    for concept in report.items("conclusionCode") {
        result.finding(reader, concept);
    }
    if let Some(words) = report.text("conclusion") {
        result.words(reader, words, Use::Note);
        result.words(reader, words, Use::Observation);
    }
}

/// Reads the notes of a Specimen.
pub(super) fn read_specimen(reader: &mut Reader<'_, '_>) {
    let specimen = reader.resource;
    if matches!(
        specimen.text("status"),
        Some("entered-in-error" | "unsatisfactory")
    ) {
        return;
    }
    let at = specimen
        .get("collection")
        .and_then(|collection| {
            When::member(collection, "collectedDateTime")
                .or_else(|| When::end(collection, "collectedPeriod"))
        })
        .or_else(|| When::member(specimen, "receivedTime"));
    let result = Result {
        at,
        preliminary: false,
        marrow: is_marrow_specimen(specimen),
    };
    for note in specimen.items("note") {
        result.words(reader, note.text("text").unwrap_or_default(), Use::Note);
    }
}

fn collected(reader: &Reader<'_, '_>, resource: &Tree<'_>) -> Option<When> {
    time_of(resource).or_else(|| {
        let collection = reader.referenced(resource, "specimen")?.get("collection")?;
        When::member(collection, "collectedDateTime")
            .or_else(|| When::end(collection, "collectedPeriod"))
    })
}

fn is_marrow(reader: &Reader<'_, '_>, resource: &Tree<'_>) -> bool {
    let by_code = resource.get("code").is_some_and(|concept| {
        code::codings(concept).any(|(system, code, _)| {
            system == System::Loinc && matches!(code, "33721-2" | "13513-7" | "11150-0")
        })
    });
    let by_site = resource.get("bodySite").is_some_and(|site| {
        code::codings(site).any(|(system, code, _)| system == System::Snomed && code == "14016003")
    });
    let listed = resource
        .items("specimen")
        .iter()
        .filter_map(|reference| (reader.resolve)(reference.text("reference")?))
        .any(is_marrow_specimen);
    by_code
        || by_site
        || listed
        || reader
            .referenced(resource, "specimen")
            .is_some_and(is_marrow_specimen)
}

/// SNOMED CT bone marrow specimen, aspirate, biopsy and structure; HL7 v2-0487 `MAR`, `BMA`.
fn is_marrow_specimen(specimen: &Tree<'_>) -> bool {
    specimen.get("type").is_some_and(|kind| {
        kind.items("coding").iter().any(|coding| {
            matches!(
                coding.text("code"),
                Some("119359002" | "396997002" | "14016003" | "MAR" | "BMA" | "BMAR")
            )
        })
    })
}

/// What all parts of one result share.
struct Result {
    at: Option<When>,
    preliminary: bool,
    marrow: bool,
}

impl Result {
    /// Reads an Observation or one of its components.
    fn read(&self, reader: &mut Reader<'_, '_>, part: &Tree<'_>) {
        let Some(concept) = part.get("code") else {
            return;
        };
        let loinc = code::codings(concept)
            .find_map(|(system, code, _)| (system == System::Loinc).then_some(code));
        if let Some(loinc) = loinc
            && self.number(reader, loinc, part)
        {
            return;
        }
        let hits = code::hits(concept, Use::Observation);
        for hit in &hits {
            self.answer(reader, hit, loinc, part);
        }
        if hits.is_empty() {
            if let Some(value) = part.get("valueCodeableConcept") {
                self.finding(reader, value);
            }
            if let Some(words) = part.text("valueString") {
                self.words(reader, words, Use::Note);
                self.words(reader, words, Use::Observation);
            }
        } else if loinc == Some("82810-3")
            && let Some(value) = part.get("valueCodeableConcept")
        {
            // Pregnant and not pregnant are SNOMED CT findings, besides the LOINC answers.
            self.finding(reader, value);
        }
    }

    /// Numbers that a rule needs as numbers: weight, and how long a pregnancy has lasted.
    fn number(&self, reader: &mut Reader<'_, '_>, loinc: &str, part: &Tree<'_>) -> bool {
        if self.preliminary {
            return false;
        }
        let Some(at) = self.at.filter(|at| at.to_the_day) else {
            return false;
        };
        if WEIGHT.contains(&loinc) {
            if let Some(kilograms) = part.get("valueQuantity").and_then(kilograms) {
                let token = format!("weight@{}", kilograms.normalize());
                reader.state(token, Truth::True, Some(at.first), None);
            }
            return true;
        }
        let days = match loinc {
            DUE_DATE => part
                .text("valueDateTime")
                .and_then(When::parse)
                .map(|due| 280 - (due.first.date() - at.first.date()).whole_days()),
            LAST_MENSTRUAL_PERIOD => part
                .text("valueDateTime")
                .and_then(When::parse)
                .map(|period| (at.first.date() - period.first.date()).whole_days()),
            _ => {
                let Some((_, unit)) = GESTATION.iter().find(|(code, _)| *code == loinc) else {
                    return false;
                };
                gestation_days(part, *unit)
            }
        };
        if let Some(days) = days.filter(|days| (0..=300).contains(days)) {
            let token = format!("gestational_age@{days}");
            reader.state(token, Truth::True, Some(at.first), None);
        }
        true
    }

    /// The code names a test or a finding, the value says whether it is there.
    fn answer(&self, reader: &mut Reader<'_, '_>, hit: &Hit, loinc: Option<&str>, part: &Tree<'_>) {
        if hit.row.voice == Voice::Never {
            // "Not pregnant" as a code: stated unless its value denies it.
            if hit.row.when.contains(&Asked::Opposite)
                && value::presence(part, Side::High).is_none_or(Truth::is_true)
            {
                self.state(reader, hit.row, Truth::False);
            }
            return;
        }
        if hit.row.when.contains(&Asked::Done) && !value::has_words(part) {
            return;
        }
        let tested = hit.row.when.iter().find_map(|asked| match asked {
            Asked::Number(test) => Some(value::number_meets(part, test)),
            Asked::Done => Some(Truth::True),
            _ => None,
        });
        let truth = tested
            .or_else(|| value::presence(part, side(hit.row.token)))
            .unwrap_or(Truth::Unknown);
        // A wide test can rule out, but not rule in.
        let truth = if truth.is_true() && !hit.says() {
            Truth::Unknown
        } else {
            truth
        };
        let test = loinc.is_some_and(|loinc| PREGNANCY_TESTS.contains(&loinc));
        if test && truth.is_true() && !self.preliminary {
            if let Some(at) = self.at {
                reader.state("pregnant@test", Truth::True, Some(at.first), None);
            }
        } else if !(test && truth.is_unknown()) {
            self.state(reader, hit.row, truth);
        }
    }

    /// The value, or a conclusion, is the finding itself.
    fn finding(&self, reader: &mut Reader<'_, '_>, concept: &Tree<'_>) {
        let mut hits = code::hits(concept, Use::Observation);
        // A problem as a value means what it means as a Condition.
        for hit in code::hits(concept, Use::Condition) {
            if !hits.iter().any(|other| other.row.token == hit.row.token) {
                hits.push(hit);
            }
        }
        for hit in hits {
            let truth = match hit.row.voice {
                Voice::Never if hit.row.when.contains(&Asked::Opposite) => Truth::False,
                Voice::Never => continue,
                _ if hit.says() => Truth::True,
                _ => Truth::Unknown,
            };
            if tokens::needs_confirmation(hit.row.token) {
                // A conclusion of a report is no entry on the problem list.
                let truth = self.weighed(hit.row, truth);
                let token = format!("{}@text", hit.row.token);
                reader.state(token, truth, self.at.map(|at| at.first), None);
            } else {
                self.state(reader, hit.row, truth);
            }
        }
    }

    /// Phrases in a result or conclusion: of films, marrow and tests that have no code. Signs and
    /// diseases are not looked for there.
    fn words(&self, reader: &mut Reader<'_, '_>, words: &str, kind: Use) {
        for hit in code::by_text(words, kind) {
            let of_a_test = hit.row.when.contains(&Asked::Marrow)
                || matches!(
                    tokens::span(hit.row.token),
                    Span::Specimen | Span::Test { .. }
                );
            if !of_a_test {
                continue;
            }
            let truth = if hit.says() {
                Truth::True
            } else {
                Truth::Unknown
            };
            self.state(reader, hit.row, truth);
        }
    }

    fn weighed(&self, row: &Row, truth: Truth) -> Truth {
        let away = row.when.contains(&Asked::Marrow) && !self.marrow;
        let silent = tokens::silences(row.token) && !row.verified && truth.is_true();
        if self.preliminary || away || silent {
            Truth::Unknown
        } else {
            truth
        }
    }

    fn state(&self, reader: &mut Reader<'_, '_>, row: &Row, truth: Truth) {
        let mut truth = self.weighed(row, truth);
        let token = row.token;
        let name = match tokens::span(token) {
            // A pathogen found long ago says nothing of today.
            _ if tokens::is_pathogen(token) => {
                if !self.at.is_some_and(|at| at.to_the_day) {
                    truth = Truth::Unknown;
                }
                format!("{token}@observed")
            }
            Span::State => format!("{token}@observed"),
            Span::Event { .. } => {
                if !self.at.is_some_and(|at| at.to_the_day) {
                    truth = Truth::Unknown;
                }
                token.to_owned()
            }
            _ if token == "dysplasia" && self.marrow => "dysplasia@marrow".to_owned(),
            _ => token.to_owned(),
        };
        reader.state(name, truth, self.at.map(|at| at.first), None);
    }
}

fn kilograms(quantity: &Tree<'_>) -> Option<Decimal> {
    if quantity.get("comparator").is_some() {
        return None;
    }
    let value = value::decimal(quantity.get("value")?)?;
    let kilograms = match quantity.text("code").or_else(|| quantity.text("unit"))? {
        "kg" => value,
        "g" => value.checked_div(Decimal::ONE_THOUSAND)?,
        // International pound, exact.
        "[lb_av]" => value.checked_mul(Decimal::from_parts(45_359_237, 0, 0, false, 8))?,
        _ => return None,
    };
    // Below the smallest survivor and above the heaviest human it is a slip.
    (kilograms >= Decimal::new(2, 1) && kilograms <= Decimal::from(650)).then_some(kilograms)
}

fn gestation_days(part: &Tree<'_>, unit: Option<&str>) -> Option<i64> {
    let quantity = part.get("valueQuantity")?;
    if quantity.get("comparator").is_some() {
        return None;
    }
    let value = value::decimal(quantity.get("value")?)?;
    let unit = quantity
        .text("code")
        .or_else(|| quantity.text("unit"))
        .or(unit)?;
    let days = match unit {
        "d" | "day" | "days" => value,
        "wk" | "week" | "weeks" | "w" => value.checked_mul(Decimal::from(7))?,
        _ => return None,
    };
    days.floor().try_into().ok()
}
