//! Reads the clinicians' tables: ages in words, results as they are said, tokens.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a table that cannot be read fails its test"
)]
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "each test that reads the tables takes its own part of this"
)]

pub(crate) mod life;
pub(crate) mod outcome;
pub(crate) mod statement;

use std::sync::Arc;

use marrowflag::clinical::{
    analyte::Analyte,
    quantity::Interval,
    time::{BirthDate, Precision, SampleTime},
    timeline::{
        Draw, Duffy, Fact, Interpretation, Measurement, Method, Pregnancy, Received, Sex, Smoking,
        Source, SpecimenProblem, Status, Timeline,
    },
    truth::Truth,
};
use rust_decimal::Decimal;
use time::{Date, Duration, Month, OffsetDateTime, macros::datetime};

/// Sample time of the index specimen in every table.
pub(crate) const INDEX: OffsetDateTime = datetime!(2026-06-15 08:00 UTC);

/// A row by column name.
pub(crate) struct Row(Vec<(String, String)>);

impl Row {
    pub(crate) fn get(&self, column: &str) -> &str {
        self.0
            .iter()
            .find(|(name, _)| name == column)
            .map_or("", |(_, value)| value.trim())
    }
}

/// All rows of a table.
pub(crate) fn rows(name: &str) -> Vec<Row> {
    let path = format!("{}/fixtures/cases/{name}.csv", env!("CARGO_MANIFEST_DIR"));
    let mut reader =
        csv::Reader::from_path(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let header: Vec<String> = reader
        .headers()
        .expect("a header")
        .iter()
        .map(str::to_owned)
        .collect();
    reader
        .records()
        .map(|record| {
            let record = record.expect("a row with as many cells as the header");
            Row(header
                .iter()
                .cloned()
                .zip(record.iter().map(str::to_owned))
                .collect())
        })
        .collect()
}

/// The patient of a row at [`INDEX`]: age, sex, context, results, earlier, history, not.
pub(crate) fn timeline(row: &Row) -> Timeline {
    let mut timeline = Timeline::default();
    timeline.person.birth = born(row.get("age"), INDEX.date());
    timeline.person.sex = match row.get("sex") {
        "F" => Sex::Female,
        "M" => Sex::Male,
        _ => Sex::Unknown,
    };
    let mut preliminary = false;
    let mut problem = None;
    for item in row
        .get("context")
        .split(';')
        .map(str::trim)
        .filter(|item| !item.is_empty())
    {
        match item {
            "preliminary" => preliminary = true,
            "clotted" => problem = Some(SpecimenProblem::Clotted),
            item if item.starts_with("filed ") => {}
            _ => context(&mut timeline, item),
        }
    }
    let specimen: Arc<str> = Arc::from("index");
    let at = SampleTime {
        instant: INDEX,
        precision: Precision::Instant,
    };
    add_results(&mut timeline, row.get("results"), at, &specimen);
    for measurement in &mut timeline.measurements {
        if preliminary {
            measurement.status = Status::Preliminary;
        }
        measurement.problems.extend(problem);
    }
    for (offset, results) in earlier(row.get("earlier")) {
        let at = SampleTime {
            instant: INDEX + offset,
            precision: Precision::Instant,
        };
        let key: Arc<str> = Arc::from(format!("at {offset}"));
        add_results(&mut timeline, &results, at, &key);
    }
    for token in tokens(row.get("history")) {
        timeline.facts.push(fact(token, Truth::True));
    }
    for token in tokens(row.get("not")) {
        timeline.facts.push(fact(token, Truth::False));
    }
    timeline
}

/// When a row is judged: at [`INDEX`], unless its results were filed later (`filed 6 d later`).
pub(crate) fn as_of(row: &Row) -> OffsetDateTime {
    let filed = row
        .get("context")
        .split(';')
        .find_map(|item| item.trim().strip_prefix("filed "));
    filed.map_or(INDEX, |later| {
        INDEX + Duration::days(i64::from(leading(later)))
    })
}

/// The patient of a row of `grades.csv`.
pub(crate) fn grade_row(row: &Row) -> Timeline {
    let lineage = match row.get("lineage") {
        "E" => "Hb",
        "N" => "ANC",
        "P" => "PLT",
        // Lymphocytes alone are no blood count.
        "ALC" => "WBC 30, ALC",
        other => other,
    };
    let mut timeline = Timeline::default();
    timeline.person.birth = born(row.get("age"), INDEX.date());
    timeline.person.sex = match row.get("sex") {
        "F" => Sex::Female,
        "M" => Sex::Male,
        _ => Sex::Unknown,
    };
    for item in row.get("context").split(';').map(str::trim) {
        if !item.is_empty() {
            context(&mut timeline, item);
        }
    }
    let at = SampleTime {
        instant: INDEX,
        precision: Precision::Instant,
    };
    add_results(
        &mut timeline,
        &format!("{lineage} {}", row.get("value")),
        at,
        &"index".into(),
    );
    timeline
}

/// The patient of a row of `aplasia_labels.csv`.
pub(crate) fn aplasia(row: &Row) -> Timeline {
    let mut timeline = Timeline::default();
    timeline.person.birth = born(row.get("age"), INDEX.date());
    timeline.person.sex = Sex::Female;
    let at = SampleTime {
        instant: INDEX,
        precision: Precision::Instant,
    };
    add_results(&mut timeline, row.get("results"), at, &"index".into());
    // Enough points for the rule to be listed, so that its label shows.
    timeline.facts.push(fact("hepatitis_recent", Truth::True));
    timeline.facts.push(fact("tox_benzene", Truth::True));
    timeline
}

pub(crate) fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|token| !token.is_empty())
}

pub(crate) fn fact(token: &str, truth: Truth) -> Fact {
    Fact {
        token: Arc::from(token),
        truth,
        from: None,
        until: None,
        filed_at: None,
        source: Source::default(),
    }
}

/// `30 y`, `11 mo`, `70 d`, `183 d`, `unknown`, `born 2011`, `born 2011-06`.
pub(crate) fn born(age: &str, on: Date) -> Option<BirthDate> {
    if age == "unknown" {
        return None;
    }
    if let Some(partial) = age.strip_prefix("born ") {
        return Some(match partial.split_once('-') {
            None => BirthDate::Year(partial.parse().expect("a year")),
            Some((year, month)) => BirthDate::Month(
                year.parse().expect("a year"),
                Month::try_from(month.parse::<u8>().expect("a month")).expect("a month"),
            ),
        });
    }
    let (number, unit) = age.split_once(' ').unwrap_or_else(|| panic!("age {age:?}"));
    let number: i64 = number.parse().unwrap_or_else(|_| panic!("age {age:?}"));
    let day = match unit {
        "y" => on
            .replace_year(on.year() - i32::try_from(number).expect("years"))
            .expect("a day"),
        // 6 months are 183 days.
        "mo" if number == 6 => on - Duration::days(183),
        "mo" => {
            let months = i64::from(on.year()) * 12 + i64::from(u8::from(on.month()) - 1) - number;
            Date::from_calendar_date(
                i32::try_from(months.div_euclid(12)).expect("a year"),
                Month::try_from(u8::try_from(months.rem_euclid(12) + 1).expect("a month"))
                    .expect("a month"),
                on.day(),
            )
            .expect("a day")
        }
        "d" => on - Duration::days(number),
        _ => panic!("age {age:?}"),
    };
    Some(BirthDate::Day(day))
}

fn leading(text: &str) -> u32 {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits
        .parse()
        .unwrap_or_else(|_| panic!("a number in {text:?}"))
}

pub(crate) fn context(timeline: &mut Timeline, item: &str) {
    let person = &mut timeline.person;
    if item == "Duffy-null" {
        person.duffy = Duffy::Null;
    } else if item == "term" {
        person.gestation_weeks = Some(40);
    } else if let Some(weeks) = item.strip_prefix("GA ") {
        person.gestation_weeks = Some(u8::try_from(leading(weeks)).expect("weeks"));
    } else if item == "pregnant" {
        timeline.pregnancies.push(Pregnancy {
            from: INDEX.date() - Duration::days(60),
            until: None,
            gestation: None,
        });
    } else if let Some(since) = item.strip_prefix("pregnant since ") {
        timeline.pregnancies.push(Pregnancy {
            from: INDEX.date() - Duration::days(i64::from(leading(since))),
            until: None,
            gestation: None,
        });
    } else if let Some(length) = item.strip_prefix("pregnant ") {
        let weeks = if length.ends_with(" d") { 1 } else { 7 };
        let days = u16::try_from(leading(length) * weeks).expect("days");
        timeline.pregnancies.push(Pregnancy {
            from: INDEX.date() - Duration::days(i64::from(days)),
            until: None,
            gestation: Some((days, INDEX.date())),
        });
    } else if let Some(days) = item.strip_prefix("delivered ") {
        let until = INDEX.date() - Duration::days(i64::from(leading(days)));
        timeline.pregnancies.push(Pregnancy {
            from: until - Duration::days(280),
            until: Some(until),
            gestation: None,
        });
    } else if let Some(rest) = item.strip_prefix("smokes ") {
        person.smoking = Smoking::PerDay(u16::try_from(leading(rest)).expect("cigarettes"));
    } else if let Some(rest) = item.strip_prefix("lives at ") {
        person.altitude_m = Some(leading(rest));
    } else if let Some(metres) = item.strip_suffix(" m") {
        person.altitude_m = Some(metres.parse().expect("metres"));
    } else if let Some(rest) = item.strip_prefix("transfused ") {
        act(
            timeline,
            "rbc_transfusion",
            Duration::days(i64::from(leading(rest))),
        );
    } else if let Some(rest) = item.strip_prefix("platelets given ") {
        act(
            timeline,
            "plt_transfusion",
            Duration::hours(i64::from(leading(rest))),
        );
    } else if let Some((token, ago)) = item
        .strip_prefix("given ")
        .and_then(|rest| rest.split_once(' '))
    {
        act(timeline, token, Duration::days(i64::from(leading(ago))));
    } else if let Some((token, since)) = item
        .strip_prefix("taking ")
        .and_then(|rest| rest.split_once(" for "))
    {
        let mut taken = fact(token, Truth::True);
        taken.from = Some(INDEX - Duration::days(i64::from(leading(since))));
        timeline.facts.push(taken);
    } else if let Some(rest) = item.strip_prefix("chemotherapy ") {
        // Given as tokens in the history; the date is for the reader.
        let _ = rest;
    } else {
        panic!("context {item:?}");
    }
}

fn act(timeline: &mut Timeline, token: &str, ago: Duration) {
    let mut given = fact(token, Truth::True);
    given.from = Some(INDEX - ago);
    given.until = given.from;
    timeline.facts.push(given);
}

/// `(-150: Hb 104 ANC 1.6), (-8h: PLT 18)`.
fn earlier(text: &str) -> Vec<(Duration, String)> {
    text.split('(')
        .filter_map(|part| part.split(')').next())
        .filter(|part| part.contains(':'))
        .map(|part| {
            let (when, results) = part.split_once(':').expect("when: results");
            let when = when.trim();
            let offset = match when.strip_suffix('h') {
                Some(hours) => Duration::hours(hours.parse().expect("hours")),
                None => Duration::days(when.parse().unwrap_or_else(|_| panic!("day {when:?}"))),
            };
            (offset, comma_separated(results))
        })
        .collect()
}

/// `Hb 104 ANC 1.6 PLT 130` with commas between the results.
fn comma_separated(results: &str) -> String {
    let mut text = String::new();
    for word in results.split_whitespace() {
        // `PNH gran`, `marrow blasts`: the second word of a name begins no new result.
        let second = ["PNH", "marrow", "ring", "ind."]
            .iter()
            .any(|first| text.ends_with(first));
        let name = word.chars().next().is_some_and(char::is_alphabetic)
            && !second
            && ![
                "capillary",
                "venous",
                "fL",
                "manual",
                "labA",
                "labB",
                "auto",
                "xULN",
                "citrate",
            ]
            .contains(&word)
            && !word.contains('/');
        if name && !text.is_empty() {
            text.push_str(", ");
        } else if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(word);
    }
    text
}

/// Results as a person says them: `Hb 92 g/L, ANC <0.1, LDH 720 U/L (3 xULN), DAT neg`.
pub(crate) fn add_results(
    timeline: &mut Timeline,
    text: &str,
    at: SampleTime,
    specimen: &Arc<str>,
) {
    let mut draw = Draw::Unspecified;
    let mut point_of_care = false;
    for item in text
        .split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
    {
        match item {
            "capillary" => {
                draw = Draw::Capillary;
                continue;
            }
            "venous" => {
                draw = Draw::Venous;
                continue;
            }
            "POC" => {
                point_of_care = true;
                continue;
            }
            _ => {}
        }
        add_result(timeline, item, at, specimen);
    }
    let key = Some(Arc::clone(specimen));
    for measurement in timeline
        .measurements
        .iter_mut()
        .filter(|found| found.specimen == key)
    {
        measurement.draw = draw;
        if point_of_care {
            measurement.method = Method::PointOfCare;
        }
    }
}

fn answer(timeline: &mut Timeline, token: &str, positive: bool) {
    timeline.facts.push(fact(token, positive.into()));
}

fn add_result(timeline: &mut Timeline, item: &str, at: SampleTime, specimen: &Arc<str>) {
    match item {
        "DAT pos" => return answer(timeline, "dat_positive", true),
        "DAT neg" => return answer(timeline, "dat_positive", false),
        "DEB breakage pos" => return answer(timeline, "breakage_positive", true),
        "DEB breakage neg" => return answer(timeline, "breakage_positive", false),
        "eADA high" => return answer(timeline, "eada_high", true),
        "eADA normal" => return answer(timeline, "eada_high", false),
        "trypsinogen low" => return answer(timeline, "trypsinogen_low", true),
        "telomere centile <1" => {
            answer(timeline, "telomere_below_1", true);
            return answer(timeline, "telomere_below_10", true);
        }
        "telomere centile ≥50" => {
            answer(timeline, "telomere_below_1", false);
            answer(timeline, "telomere_below_10", false);
            return answer(timeline, "telomere_from_50", true);
        }
        "ARC method auto" => return,
        "clumps" => {
            for measurement in &mut timeline.measurements {
                if measurement.analyte == Analyte::Platelets {
                    measurement.problems.push(SpecimenProblem::Clumped);
                }
            }
            return;
        }
        _ => {}
    }
    let (analyte, rest) = NAMES
        .iter()
        .find_map(|(name, analyte)| {
            let rest = item.strip_prefix(name)?;
            rest.starts_with(' ').then(|| (*analyte, rest.trim()))
        })
        .unwrap_or_else(|| panic!("result {item:?}"));
    let mut measurement = Measurement {
        specimen: Some(Arc::clone(specimen)),
        ..Measurement::of(analyte, None, Some(at))
    };
    let (rest, times_upper) = match rest.split_once('(') {
        Some((value, upper)) => (value.trim(), Some(upper.trim_end_matches(')'))),
        None if rest.contains("xULN") => ("", Some(rest)),
        None => (rest, None),
    };
    let mut words = rest.split_whitespace().peekable();
    let number = words.next().unwrap_or("");
    let mut unit = String::new();
    while let Some(word) = words.next() {
        if words.next_if_eq(&"cells").is_some() {
            measurement.cells_counted = word.parse().ok();
            continue;
        }
        match word {
            "manual" => measurement.method = Method::Manual,
            "labA" | "labB" => measurement.laboratory = Some(word.into()),
            "auto" => measurement.method = Method::Automated,
            "impedance" => measurement.method = Method::Impedance,
            "citrate" => measurement.problems.push(SpecimenProblem::Citrate),
            "high" => measurement.interpretation = Some(Interpretation::High),
            "critical" => measurement.interpretation = Some(Interpretation::Critical),
            other => unit.push_str(other),
        }
    }
    let factor = factor(analyte, &unit);
    let decimal = |text: &str| -> Decimal {
        text.parse()
            .unwrap_or_else(|_| panic!("number in {item:?}"))
    };
    if number == "missing" {
        return;
    }
    if !number.is_empty() {
        let interval = if let Some(bound) = number.strip_prefix('<') {
            Interval::below(decimal(bound))
        } else if let Some(bound) = number.strip_prefix('>') {
            Interval::above(decimal(bound))
        } else {
            Interval::exact(decimal(number))
        };
        measurement.value = interval.scaled(factor);
    }
    if let Some(times) = times_upper {
        let times = decimal(times.trim_end_matches("xULN").trim());
        if let Some(value) = measurement.value.and_then(|value| value.as_exact()) {
            measurement.upper_limit = Some(value / times);
        } else {
            let upper = Decimal::from(200);
            measurement.value = Some(Interval::exact(times * upper));
            measurement.upper_limit = Some(upper);
        }
    }
    measurement.received = Received {
        value: number.to_owned(),
        unit: if unit.is_empty() {
            analyte.unit().to_owned()
        } else {
            unit
        },
    };
    timeline.measurements.push(measurement);
}

/// Factor to the canonical unit for the units that the tables use.
fn factor(analyte: Analyte, unit: &str) -> Decimal {
    match (analyte, unit) {
        (Analyte::B12, "pg/mL") => Decimal::new(738, 3),
        (Analyte::Hct, "%") => Decimal::new(1, 2),
        (Analyte::Hb, "mmol/L") => Decimal::new(16_114, 3),
        (_, "/uL") => Decimal::new(1, 3),
        (Analyte::Hb, "g/dL") | (_, "10*4/uL") => Decimal::TEN,
        (_, "lakh/mm3") => Decimal::ONE_HUNDRED,
        _ => Decimal::ONE,
    }
}

/// Names used in the tables; longer ones before their beginnings.
const NAMES: [(&str, Analyte); 52] = [
    ("WBC corrected", Analyte::WbcCorrected),
    ("ADAMTS13", Analyte::Adamts13),
    ("MCH", Analyte::Mch),
    ("Hb", Analyte::Hb),
    ("Hct", Analyte::Hct),
    ("RBC", Analyte::Rbc),
    ("MCV", Analyte::Mcv),
    ("MCHC", Analyte::Mchc),
    ("RDW", Analyte::Rdw),
    ("WBC", Analyte::Wbc),
    ("ANC", Analyte::Anc),
    ("ALC", Analyte::Alc),
    ("AMC", Analyte::Amc),
    ("EOS", Analyte::Eosinophils),
    ("PLT", Analyte::Platelets),
    ("MPV", Analyte::Mpv),
    ("IPF", Analyte::Ipf),
    ("neut", Analyte::NeutrophilPercent),
    ("segs", Analyte::SegsPercent),
    ("bands", Analyte::BandsPercent),
    ("lymph", Analyte::LymphocytePercent),
    ("mono", Analyte::MonocytePercent),
    ("blasts", Analyte::Blasts),
    ("NRBC", Analyte::Nrbc),
    ("IG", Analyte::ImmatureGranulocytes),
    ("ARC", Analyte::Arc),
    ("retic", Analyte::ReticulocytePercent),
    ("LDH", Analyte::Ldh),
    ("hapto", Analyte::Haptoglobin),
    ("ind. bili", Analyte::BilirubinIndirect),
    ("bili", Analyte::Bilirubin),
    ("B12", Analyte::B12),
    ("folate", Analyte::Folate),
    ("ferritin", Analyte::Ferritin),
    ("TSAT", Analyte::Tsat),
    ("Cu", Analyte::Copper),
    ("Zn", Analyte::Zinc),
    ("HbF", Analyte::HbF),
    ("eGFR", Analyte::Egfr),
    ("CRP", Analyte::Crp),
    ("ALT", Analyte::Alt),
    ("AST", Analyte::Ast),
    ("PNH gran", Analyte::Pnh),
    ("elastase", Analyte::FaecalElastase),
    ("lactate", Analyte::Lactate),
    ("marrow cellularity", Analyte::MarrowCellularity),
    ("marrow blasts", Analyte::MarrowBlasts),
    ("ring sideroblasts", Analyte::RingSideroblasts),
    ("fibrinogen", Analyte::Fibrinogen),
    ("TG", Analyte::Triglycerides),
    ("sCD25", Analyte::SolubleCd25),
    ("temperature", Analyte::Temperature),
];
