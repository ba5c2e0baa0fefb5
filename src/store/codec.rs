//! How values stand in rows: frozen words and texts, the same in every engine.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use rust_decimal::Decimal;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use time::{Date, Month, OffsetDateTime, UtcOffset};

use super::error::{Result, StoreError};
use crate::{
    clinical::{
        analyte::Analyte,
        assessment::{Acknowledged, FlagState, Grade, Urgency},
        quantity::{End, Interval},
        time::{BirthDate, Precision, SampleTime},
        timeline::{
            Draw, Duffy, Fact, Interpretation, Measurement, Method, Person, Pregnancy, Sex,
            Smoking, Source, SpecimenProblem, Status,
        },
        truth::Truth,
    },
    fhir::outcome,
};

/// Words of enumerations. Frozen: they stand in databases. A new variant does not compile until it
/// has its word.
macro_rules! words {
    ($($type:ty, $to:ident, $from:ident, $what:literal: $($variant:path = $word:literal),+;)*) => {
        $(
            pub(crate) fn $to(value: $type) -> &'static str {
                match value {
                    $($variant => $word,)+
                }
            }

            pub(crate) fn $from(word: &str) -> Result<$type> {
                match word {
                    $($word => Ok($variant),)+
                    _ => Err(StoreError::Unreadable($what)),
                }
            }
        )*
    };
}

words! {
    Sex, sex_word, sex, "patient.sex":
        Sex::Female = "female",
        Sex::Male = "male",
        Sex::Unknown = "unknown";
    Status, status_word, status, "observation.state":
        Status::Preliminary = "preliminary",
        Status::Final = "final",
        Status::Amended = "amended",
        Status::Corrected = "corrected",
        Status::EnteredInError = "entered-in-error",
        Status::NotEvaluated = "not-evaluated";
    Method, method_word, method, "observation.detail":
        Method::Unspecified = "",
        Method::Automated = "automated",
        Method::Optical = "optical",
        Method::Impedance = "impedance",
        Method::Manual = "manual",
        Method::Calculated = "calculated",
        Method::BloodGas = "blood-gas",
        Method::PointOfCare = "point-of-care";
    Draw, draw_word, draw, "observation.detail":
        Draw::Unspecified = "",
        Draw::Venous = "venous",
        Draw::Arterial = "arterial",
        Draw::Capillary = "capillary";
    Interpretation, interpretation_word, interpretation, "observation.detail":
        Interpretation::Critical = "critical",
        Interpretation::Low = "low",
        Interpretation::High = "high",
        Interpretation::Normal = "normal",
        Interpretation::Abnormal = "abnormal";
    SpecimenProblem, problem_word, problem, "observation.detail":
        SpecimenProblem::Clotted = "clotted",
        SpecimenProblem::Haemolysed = "haemolysed",
        SpecimenProblem::Lipaemic = "lipaemic",
        SpecimenProblem::Diluted = "diluted",
        SpecimenProblem::Insufficient = "insufficient",
        SpecimenProblem::Aged = "aged",
        SpecimenProblem::Clumped = "clumped",
        SpecimenProblem::Citrate = "citrate";
    Truth, truth_word, truth, "fact.tokens":
        Truth::False = "no",
        Truth::Unknown = "unknown",
        Truth::True = "yes";
    Precision, precision_word, precision, "effective_precision":
        Precision::Day = "day",
        Precision::Instant = "instant";
    Grade, grade_word, grade, "finding.grade":
        Grade::None = "none",
        Grade::Mild = "mild",
        Grade::Moderate = "moderate",
        Grade::Severe = "severe",
        Grade::VerySevere = "very-severe",
        Grade::Critical = "critical";
    FlagState, flag_state_word, flag_state, "finding.state":
        FlagState::Active = "active",
        FlagState::Inactive = "inactive",
        FlagState::EnteredInError = "entered_in_error";
    Acknowledged, acknowledged_word, acknowledged, "finding.acknowledged_why":
        Acknowledged::Known = "known",
        Acknowledged::NotRelevant = "not-relevant",
        Acknowledged::Other = "other";
    Duffy, duffy_word, duffy, "patient.traits":
        Duffy::Unknown = "",
        Duffy::Null = "null",
        Duffy::Positive = "positive";
}

/// U0 to U4 as a number, so that it sorts.
pub(crate) fn urgency_number(urgency: Urgency) -> i64 {
    match urgency {
        Urgency::U0 => 0,
        Urgency::U1 => 1,
        Urgency::U2 => 2,
        Urgency::U3 => 3,
        Urgency::U4 => 4,
    }
}

pub(crate) fn urgency(number: i64) -> Result<Urgency> {
    Ok(match number {
        0 => Urgency::U0,
        1 => Urgency::U1,
        2 => Urgency::U2,
        3 => Urgency::U3,
        4 => Urgency::U4,
        _ => return Err(StoreError::Unreadable("urgency")),
    })
}

/// Priority of a lane: 0 for U0 and U1, then one step each.
pub(crate) fn priority(urgency: i64) -> i64 {
    (urgency - 1).max(0)
}

/// Milliseconds since 1970.
pub(crate) fn millis(at: OffsetDateTime) -> i64 {
    at.unix_timestamp()
        .saturating_mul(1000)
        .saturating_add(i64::from(at.millisecond()))
}

pub(crate) fn instant(millis: i64) -> Result<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
        .map_err(|_| StoreError::Unreadable("time"))
}

pub(crate) fn instant_at(millis: i64, offset_minutes: i64) -> Result<OffsetDateTime> {
    let seconds = i32::try_from(offset_minutes * 60).unwrap_or(0);
    let offset = UtcOffset::from_whole_seconds(seconds)
        .map_err(|_| StoreError::Unreadable("offset of a time"))?;
    instant(millis)?
        .checked_to_offset(offset)
        .ok_or(StoreError::Unreadable("time"))
}

/// Whole minutes east of Greenwich.
pub(crate) fn offset_minutes(at: OffsetDateTime) -> i64 {
    i64::from(at.offset().whole_minutes())
}

/// `120 day`: offset and precision of a sample time, beside its instant.
pub(crate) fn sample_detail(at: SampleTime) -> String {
    format!(
        "{} {}",
        offset_minutes(at.instant),
        precision_word(at.precision)
    )
}

pub(crate) fn sample_time(millis: i64, detail: &str) -> Result<SampleTime> {
    const WHAT: StoreError = StoreError::Unreadable("sample time");
    let (offset, word) = detail.split_once(' ').ok_or(WHAT)?;
    Ok(SampleTime {
        instant: instant_at(millis, offset.parse().map_err(|_| WHAT)?)?,
        precision: precision(word)?,
    })
}

/// `92`, `[0,0.1)`, `(100,)`: the interval as mathematics writes it; one number stands alone.
pub(crate) fn interval_text(interval: &Interval) -> String {
    if let Some(exact) = interval.as_exact() {
        return exact.to_string();
    }
    let mut text = String::new();
    match interval.low {
        Some(end) => {
            text.push(if end.closed { '[' } else { '(' });
            text.push_str(&end.value.to_string());
        }
        None => text.push('('),
    }
    text.push(',');
    match interval.high {
        Some(end) => {
            text.push_str(&end.value.to_string());
            text.push(if end.closed { ']' } else { ')' });
        }
        None => text.push(')'),
    }
    text
}

pub(crate) fn interval(text: &str) -> Result<Interval> {
    const WHAT: StoreError = StoreError::Unreadable("value_si");
    let decimal = |text: &str| -> Result<Decimal> { text.parse().map_err(|_| WHAT) };
    let Some(first) = text.strip_prefix(['[', '(']) else {
        return Ok(Interval::exact(decimal(text)?));
    };
    let body = first.strip_suffix([']', ')']).ok_or(WHAT)?;
    let (low, high) = body.split_once(',').ok_or(WHAT)?;
    let end = |text: &str, closed: bool| -> Result<Option<End>> {
        if text.is_empty() {
            return Ok(None);
        }
        Ok(Some(End {
            value: decimal(text)?,
            closed,
        }))
    };
    Ok(Interval {
        low: end(low, text.starts_with('['))?,
        high: end(high, text.ends_with(']'))?,
    })
}

/// `1962`, `1962-04`, `1962-04-17`.
pub(crate) fn birth_text(birth: BirthDate) -> String {
    match birth {
        BirthDate::Day(day) => day.to_string(),
        BirthDate::Month(year, month) => format!("{year:04}-{:02}", u8::from(month)),
        BirthDate::Year(year) => format!("{year:04}"),
    }
}

pub(crate) fn birth(text: &str) -> Result<BirthDate> {
    const WHAT: StoreError = StoreError::Unreadable("patient.birth_date");
    let mut parts = text.split('-');
    let number = |part: Option<&str>| -> Result<Option<i32>> {
        part.map(|text| text.parse().map_err(|_| WHAT)).transpose()
    };
    let year = number(parts.next())?.ok_or(WHAT)?;
    let Some(month) = number(parts.next())? else {
        return Ok(BirthDate::Year(year));
    };
    let month = u8::try_from(month)
        .ok()
        .and_then(|month| Month::try_from(month).ok())
        .ok_or(WHAT)?;
    let Some(day) = number(parts.next())? else {
        return Ok(BirthDate::Month(year, month));
    };
    let day = u8::try_from(day).map_err(|_| WHAT)?;
    Date::from_calendar_date(year, month, day)
        .map(BirthDate::Day)
        .map_err(|_| WHAT)
}

/// An outcome word as the one constant it is.
pub(crate) fn outcome_word(word: &str) -> Result<&'static str> {
    outcome::lookup(word)
        .map(|one| one.name)
        .ok_or(StoreError::Unreadable("outcome word"))
}

/// [`Analyte::from_key`] with a map: a timeline has hundreds of them.
pub(crate) fn analyte(key: &str) -> Result<Analyte> {
    static BY_KEY: OnceLock<HashMap<&'static str, Analyte>> = OnceLock::new();
    BY_KEY
        .get_or_init(|| Analyte::all().map(|one| (one.key(), one)).collect())
        .get(key)
        .copied()
        .ok_or(StoreError::Unreadable("observation.analyte"))
}

/// JSON for a column.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|_| StoreError::Unreadable("value for a JSON column"))
}

pub(crate) fn from_json<T: DeserializeOwned>(text: &str, what: &'static str) -> Result<T> {
    serde_json::from_str(text).map_err(|_| StoreError::Unreadable(what))
}

/// Identifiers and references of a patient, in `patient.identifiers`.
#[derive(Serialize, Deserialize, Default)]
pub(crate) struct Names {
    #[serde(default)]
    pub(crate) identifiers: Vec<(String, String)>,
    #[serde(default)]
    pub(crate) references: Vec<String>,
}

pub(crate) fn names_text(
    identifiers: &[(String, String)],
    references: &[String],
) -> Result<String> {
    json(&Names {
        identifiers: identifiers.to_vec(),
        references: references.to_vec(),
    })
}

pub(crate) fn names(text: &str) -> Result<Names> {
    from_json(text, "patient.identifiers")
}

/// What is ordinary for a measurement is left out.
#[derive(Serialize, Deserialize, Default, PartialEq)]
#[serde(default)]
struct MeasurementDetail {
    #[serde(skip_serializing_if = "String::is_empty")]
    method: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    draw: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cells: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interpretation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    upper_limit: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    laboratory: Option<String>,
}

/// `None` when everything is ordinary.
pub(crate) fn measurement_detail(measurement: &Measurement) -> Result<Option<String>> {
    let detail = MeasurementDetail {
        method: method_word(measurement.method).to_owned(),
        draw: draw_word(measurement.draw).to_owned(),
        problems: measurement
            .problems
            .iter()
            .map(|one| problem_word(*one).to_owned())
            .collect(),
        cells: measurement.cells_counted,
        interpretation: measurement
            .interpretation
            .map(|one| interpretation_word(one).to_owned()),
        upper_limit: measurement.upper_limit.map(|limit| limit.to_string()),
        laboratory: measurement.laboratory.as_deref().map(str::to_owned),
    };
    if detail == MeasurementDetail::default() {
        return Ok(None);
    }
    json(&detail).map(Some)
}

pub(crate) fn set_measurement_detail(measurement: &mut Measurement, text: &str) -> Result<()> {
    const WHAT: &str = "observation.detail";
    let detail: MeasurementDetail = from_json(text, WHAT)?;
    measurement.method = method(&detail.method)?;
    measurement.draw = draw(&detail.draw)?;
    measurement.problems = detail
        .problems
        .iter()
        .map(|one| problem(one))
        .collect::<Result<_>>()?;
    measurement.cells_counted = detail.cells;
    measurement.interpretation = detail
        .interpretation
        .as_deref()
        .map(interpretation)
        .transpose()?;
    measurement.upper_limit = detail
        .upper_limit
        .map(|limit| limit.parse().map_err(|_| StoreError::Unreadable(WHAT)))
        .transpose()?;
    measurement.laboratory = detail.laboratory.map(Arc::from);
    Ok(())
}

/// A finding token in `fact.tokens`.
#[derive(Serialize, Deserialize)]
struct Token {
    name: String,
    truth: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    from: Option<(i64, i64)>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    until: Option<(i64, i64)>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    identifier: Option<(String, String)>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    loinc: Option<String>,
}

pub(crate) fn tokens_text(facts: &[Fact]) -> Result<String> {
    let time = |at: OffsetDateTime| (millis(at), offset_minutes(at));
    let tokens: Vec<Token> = facts
        .iter()
        .map(|fact| Token {
            name: fact.token.as_ref().to_owned(),
            truth: truth_word(fact.truth).to_owned(),
            from: fact.from.map(time),
            until: fact.until.map(time),
            identifier: fact
                .source
                .identifier
                .as_ref()
                .map(|(system, value)| (system.as_ref().to_owned(), value.as_ref().to_owned())),
            loinc: fact.source.loinc.as_deref().map(ToOwned::to_owned),
        })
        .collect();
    json(&tokens)
}

pub(crate) fn tokens(text: &str) -> Result<Vec<Fact>> {
    let tokens: Vec<Token> = from_json(text, "fact.tokens")?;
    let time = |(millis, offset)| instant_at(millis, offset);
    tokens
        .into_iter()
        .map(|one| {
            Ok(Fact {
                token: Arc::from(one.name),
                truth: truth(&one.truth)?,
                from: one.from.map(time).transpose()?,
                until: one.until.map(time).transpose()?,
                filed_at: None,
                source: Source {
                    handle: 0,
                    identifier: one
                        .identifier
                        .map(|(system, value)| (Arc::from(system), Arc::from(value))),
                    loinc: one.loinc.map(Arc::from),
                },
            })
        })
        .collect()
}

/// What is rarely known about a person, in `patient.traits`.
#[derive(Serialize, Deserialize, Default, PartialEq)]
#[serde(default)]
struct Traits {
    #[serde(skip_serializing_if = "Option::is_none")]
    gestation_weeks: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    altitude_m: Option<u32>,
    /// -2 does not smoke, -1 number unknown, else cigarettes a day.
    #[serde(skip_serializing_if = "Option::is_none")]
    smoking: Option<i32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    duffy: String,
    /// Offset of `deceased_at` in minutes.
    #[serde(skip_serializing_if = "Option::is_none")]
    deceased_offset: Option<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pregnancies: Vec<StoredPregnancy>,
}

#[derive(Serialize, Deserialize, PartialEq)]
struct StoredPregnancy {
    from: i32,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    until: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    gestation: Option<(u16, i32)>,
}

pub(crate) fn traits_text(person: &Person, pregnancies: &[Pregnancy]) -> Result<Option<String>> {
    let traits = Traits {
        gestation_weeks: person.gestation_weeks,
        altitude_m: person.altitude_m,
        smoking: match person.smoking {
            Smoking::Unknown => None,
            Smoking::None => Some(-2),
            Smoking::SomeNumberUnknown => Some(-1),
            Smoking::PerDay(number) => Some(i32::from(number)),
        },
        duffy: duffy_word(person.duffy).to_owned(),
        deceased_offset: person.deceased_at.map(offset_minutes),
        pregnancies: pregnancies
            .iter()
            .map(|one| StoredPregnancy {
                from: one.from.to_julian_day(),
                until: one.until.map(Date::to_julian_day),
                gestation: one.gestation.map(|(days, day)| (days, day.to_julian_day())),
            })
            .collect(),
    };
    if traits == Traits::default() {
        return Ok(None);
    }
    json(&traits).map(Some)
}

/// Sets what `text` says; `deceased_at` must be there in UTC already.
pub(crate) fn set_traits(person: &mut Person, text: &str) -> Result<Vec<Pregnancy>> {
    const WHAT: &str = "patient.traits";
    let traits: Traits = from_json(text, WHAT)?;
    let day = |julian| Date::from_julian_day(julian).map_err(|_| StoreError::Unreadable(WHAT));
    person.gestation_weeks = traits.gestation_weeks;
    person.altitude_m = traits.altitude_m;
    person.smoking = match traits.smoking {
        None => Smoking::Unknown,
        Some(-2) => Smoking::None,
        Some(number) => u16::try_from(number).map_or(Smoking::SomeNumberUnknown, Smoking::PerDay),
    };
    person.duffy = duffy(&traits.duffy)?;
    if let (Some(at), Some(offset)) = (person.deceased_at, traits.deceased_offset) {
        person.deceased_at = Some(instant_at(millis(at), offset)?);
    }
    traits
        .pregnancies
        .into_iter()
        .map(|one| {
            Ok(Pregnancy {
                from: day(one.from)?,
                until: one.until.map(day).transpose()?,
                gestation: match one.gestation {
                    None => None,
                    Some((days, on)) => Some((days, day(on)?)),
                },
            })
        })
        .collect()
}

/// `mild,,severe`: grades of E, N, P.
pub(crate) fn lineage_grades_text(grades: [Option<Grade>; 3]) -> String {
    grades.map(|grade| grade.map_or("", grade_word)).join(",")
}

pub(crate) fn lineage_grades(text: &str) -> Result<[Option<Grade>; 3]> {
    let mut grades = [None; 3];
    for (slot, word) in grades.iter_mut().zip(text.split(',')) {
        if !word.is_empty() {
            *slot = Some(grade(word)?);
        }
    }
    Ok(grades)
}

thread_local! {
    /// A context costs more than a body; each thread keeps one.
    static COMPRESSOR: std::cell::RefCell<Option<zstd::bulk::Compressor<'static>>> =
        const { std::cell::RefCell::new(None) };
}

/// Level 1: bodies are small, and time is dearer than the last tenth of space.
const LEVEL: i32 = 1;
/// No body of ours is larger; a damaged length must not become memory.
const MAX_BODY: usize = 64 << 20;

/// Compressed, for a body column.
pub(crate) fn compress(bytes: &[u8]) -> Result<Vec<u8>> {
    COMPRESSOR.with_borrow_mut(|slot| {
        let compressor = match slot.take() {
            Some(compressor) => compressor,
            None => compressor().map_err(|_| INCOMPRESSIBLE)?,
        };
        slot.insert(compressor)
            .compress(bytes)
            .map_err(|_| INCOMPRESSIBLE)
    })
}

const INCOMPRESSIBLE: StoreError = StoreError::Transient("a body cannot be compressed");

fn compressor() -> std::io::Result<zstd::bulk::Compressor<'static>> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL)?;
    // SQLite has no checksums of its own: a damaged body must not pass for another.
    compressor.include_checksum(true)?;
    Ok(compressor)
}

/// What [`compress`] was given.
pub(crate) fn decompress(bytes: &[u8]) -> Result<Vec<u8>> {
    const WHAT: StoreError = StoreError::Unreadable("body");
    let size = zstd::zstd_safe::get_frame_content_size(bytes)
        .ok()
        .flatten()
        .and_then(|size| usize::try_from(size).ok())
        .filter(|size| *size <= MAX_BODY)
        .ok_or(WHAT)?;
    zstd::bulk::decompress(bytes, size).map_err(|_| WHAT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn intervals_come_back() {
        let number = |text: &str| text.parse::<Decimal>().unwrap();
        for interval_in in [
            Interval::exact(number("6.40")),
            Interval::exact(number("-1")),
            Interval::below(number("0.1")),
            Interval::at_most(number("5")),
            Interval::above(number("100")),
            Interval::at_least(number("1000.000")),
        ] {
            let text = interval_text(&interval_in);
            assert_eq!(interval(&text), Ok(interval_in), "{text}");
        }
        for text in ["", "x", "[", "[1", "[1]", "(1;2)", "[1,x]"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }

    #[test]
    fn birth_dates_come_back() {
        for text in ["1962", "1962-04", "1962-04-17", "2000-02-29"] {
            assert_eq!(birth_text(birth(text).unwrap()), text);
        }
        for text in ["", "x", "1962-13", "1962-02-30", "1962-04-"] {
            assert!(birth(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn bodies_come_back(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
            prop_assert_eq!(decompress(&compress(&bytes).unwrap()).unwrap(), bytes);
        }

        #[test]
        fn damaged_bodies_are_errors(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = decompress(&bytes);
        }
    }
}
