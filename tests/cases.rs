//! The clinicians' worked cases, one row each: counts and history in; grades, patterns, safety
//! rules, candidates with their scores, urgency and output out.

use std::fmt::Write as _;

use marrowflag::clinical::{
    analyte::Analyte,
    assessment::{Grade, Output, Urgency},
    context::Case,
    judge::{self, Judgement, Question},
    limits::Tuning,
    quantity::Interval,
    time::{BirthDate, Precision, SampleTime},
    timeline::{
        Draw, Duffy, Fact, Measurement, Method, Pregnancy, Received, Sex, Smoking, Source,
        SpecimenProblem, Status, Timeline,
    },
    truth::Truth,
};
use rust_decimal::Decimal;
use time::{Date, Duration, Month, OffsetDateTime, macros::datetime};

const INDEX: OffsetDateTime = datetime!(2026-11-18 08:00 UTC);

/// One row of the table.
struct Row {
    id: String,
    timeline: Timeline,
    grades: String,
    patterns: String,
    candidates: String,
    urgency: String,
    output: String,
}

#[test]
fn worked_cases() {
    let mut reader = csv::Reader::from_path(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/fixtures/cases/worked.csv"
    ))
    .unwrap();
    let only = std::env::args().nth(2);
    let mut failures = String::new();
    let mut count = 0;
    for record in reader.records() {
        let record = record.unwrap();
        let case = read_case(&record);
        if only.as_ref().is_some_and(|only| *only != case.id) {
            continue;
        }
        count += 1;
        let found = run(&case.timeline);
        let expected = Answer {
            grades: case.grades.clone(),
            patterns: expected_patterns(&case.patterns),
            candidates: case.candidates.clone(),
            urgency: case.urgency.clone(),
            output: case.output.clone(),
        };
        let differences = found.differences(&expected);
        if !differences.is_empty() {
            writeln!(failures, "{}: {differences}", case.id).unwrap();
        }
    }
    assert!(count > 0, "no case");
    assert!(
        failures.is_empty(),
        "{} of {count} cases differ:\n{failures}",
        failures.lines().count()
    );
}

/// What is compared, in the words of the table.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    grades: String,
    patterns: Vec<String>,
    candidates: String,
    urgency: String,
    output: String,
}

impl Answer {
    fn differences(&self, expected: &Self) -> String {
        let mut text = String::new();
        let mut compare = |what: &str, found: &str, expected: &str| {
            if found != expected {
                write!(text, "{what} [{found}] expected [{expected}]; ").unwrap();
            }
        };
        compare("grades", &self.grades, &expected.grades);
        compare(
            "patterns",
            &self.patterns.join("; "),
            &expected.patterns.join("; "),
        );
        compare("candidates", &self.candidates, &expected.candidates);
        compare("urgency", &self.urgency, &expected.urgency);
        compare("output", &self.output, &expected.output);
        text
    }
}

/// Ids of patterns and safety rules; names behind an id are for the reader of the table.
fn expected_patterns(text: &str) -> Vec<String> {
    let mut ids: Vec<String> = text
        .split("; ")
        .filter(|part| !part.is_empty() && !part.starts_with("other lineage"))
        .map(|part| {
            let word = part.split_whitespace().next().unwrap_or_default();
            let is_id = word.starts_with(['C', 'S'])
                && word[1..].starts_with(|next: char| next.is_ascii_digit());
            if is_id { word } else { part }.to_owned()
        })
        .collect();
    ids.sort();
    ids
}

fn run(timeline: &Timeline) -> Answer {
    let tuning = Tuning::default();
    let case = Case::new(timeline, INDEX, &tuning);
    let index = *case.blood_counts().last().expect("a blood count");
    let judgement = judge::judge(
        &case,
        index,
        Question {
            as_of: INDEX,
            staleness: true,
        },
    )
    .expect("a judgement");
    Answer {
        grades: grades(&judgement),
        patterns: patterns(&judgement),
        candidates: candidates(&judgement),
        urgency: urgency(judgement.urgency).to_owned(),
        output: output(&judgement).to_owned(),
    }
}

fn grades(judgement: &Judgement<'_>) -> String {
    let mut words = Vec::new();
    for (letter, line) in ["E", "N", "P"].iter().zip(&judgement.context.lines) {
        let word = match line.grade() {
            Some(grade) => grade_word(grade).to_owned(),
            None if line.mildest > Grade::None && line.reading.is_some() => {
                format!("≥{}", grade_word(line.mildest))
            }
            None if line.low.is_false() => "none".to_owned(),
            None => "?".to_owned(),
        };
        words.push(format!("{letter} {word}"));
    }
    words.join("; ")
}

fn grade_word(grade: Grade) -> &'static str {
    match grade {
        Grade::None => "none",
        Grade::Mild => "mild",
        Grade::Moderate => "moderate",
        Grade::Severe => "severe",
        Grade::VerySevere => "very severe",
        Grade::Critical => "critical",
    }
}

fn patterns(judgement: &Judgement<'_>) -> Vec<String> {
    let mut ids: Vec<String> = judgement
        .patterns
        .iter()
        .chain(&judgement.safety)
        .filter(|hit| hit.truth.is_true())
        .map(|hit| hit.watch.id.to_owned())
        .collect();
    // The label of aplastic anaemia stands among the patterns when the candidate is listed.
    if let Some(label) = judgement
        .candidate("D01")
        .filter(|candidate| candidate.listed() && candidate.gate.is_true())
        .and_then(|candidate| candidate.label.clone())
    {
        ids.push(label);
    }
    ids.sort();
    ids
}

/// At most four are printed in the table.
fn candidates(judgement: &Judgement<'_>) -> String {
    let mut listed: Vec<_> = judgement
        .candidates
        .iter()
        .filter(|candidate| candidate.listed())
        .collect();
    marrowflag::clinical::candidates::rank(&mut listed);
    let words: Vec<String> = listed
        .iter()
        .take(4)
        .map(|candidate| {
            let fit = format!("{:?}", candidate.fit).to_lowercase();
            let gate = if candidate.gate.is_unknown() {
                ",gate?"
            } else {
                ""
            };
            format!("{} {fit}({}{gate})", candidate.rule.id, candidate.score)
        })
        .collect();
    words.join(", ")
}

fn urgency(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::U0 => "U0",
        Urgency::U1 => "U1",
        Urgency::U2 => "U2",
        Urgency::U3 => "U3",
        Urgency::U4 => "U4",
    }
}

fn output(judgement: &Judgement<'_>) -> &'static str {
    match judgement.output {
        Output::Nothing => "NONE",
        Output::Report => "DR",
        Output::Flag => "FLAG+CARD",
        Output::SafetyFlag => "FLAG(safety)+CARD",
    }
}

// Reading the table.

fn read_case(record: &csv::StringRecord) -> Row {
    let column = |place: usize| record[place].to_owned();
    let mut timeline = Timeline::default();
    read_person(&record[1], &mut timeline);
    for part in record[2].split(", ").filter(|part| !part.is_empty()) {
        read_result(part, INDEX, &mut timeline);
    }
    for earlier in record[3].split(';').filter(|part| !part.is_empty()) {
        let (day, values) = earlier.split_once(": ").expect("day: values");
        let at = INDEX + Duration::days(day.trim().parse().expect("a day"));
        let words: Vec<&str> = values.split_whitespace().collect();
        for pair in words.chunks(2) {
            read_result(&pair.join(" "), at, &mut timeline);
        }
    }
    for (place, truth) in [(4, Truth::True), (5, Truth::False)] {
        for token in record[place].split(", ").filter(|part| !part.is_empty()) {
            timeline.facts.push(fact(token, truth));
        }
    }
    Row {
        id: column(0),
        timeline,
        grades: column(6),
        patterns: column(7),
        candidates: column(8),
        urgency: column(9),
        output: column(10),
    }
}

fn fact(token: &str, truth: Truth) -> Fact {
    Fact {
        token: token.into(),
        truth,
        from: None,
        until: None,
        filed_at: None,
        source: Source::default(),
    }
}

fn read_person(text: &str, timeline: &mut Timeline) {
    let index = INDEX.date();
    let person = &mut timeline.person;
    for part in text.split(", ") {
        let words: Vec<&str> = part.split_whitespace().collect();
        let number = || words[0].parse::<u16>().expect("a number");
        match words.as_slice() {
            ["M"] => person.sex = Sex::Male,
            ["F"] => person.sex = Sex::Female,
            ["U"] | ["sex", "unknown"] | ["term"] => {}
            ["Duffy-null"] => person.duffy = Duffy::Null,
            [_, "y"] => {
                person.birth = Some(BirthDate::Day(months_before(index, number() * 12)));
            }
            [_, "mo"] => person.birth = Some(BirthDate::Day(months_before(index, number()))),
            [_, "mo", days, "d)"] => {
                let days: i64 = days.trim_start_matches('(').parse().unwrap();
                person.birth = Some(BirthDate::Day(index - Duration::days(days)));
            }
            [_, "d"] => {
                person.birth = Some(BirthDate::Day(index - Duration::days(number().into())));
            }
            ["GA", weeks, "wk"] => person.gestation_weeks = Some(weeks.parse().unwrap()),
            ["pregnant", weeks, "wk"] => {
                let days: u16 = weeks.parse::<u16>().unwrap() * 7;
                timeline.pregnancies.push(Pregnancy {
                    from: index,
                    until: None,
                    gestation: Some((days, index)),
                });
            }
            ["lives", "at", metres, "m"] | [metres, "m"] => {
                person.altitude_m = Some(metres.parse().unwrap());
            }
            ["smokes", rate] => {
                let rate = rate.trim_end_matches("/d").parse().unwrap();
                person.smoking = Smoking::PerDay(rate);
            }
            ["transfused", days, "d", "ago"] => {
                let at = INDEX - Duration::days(days.parse().unwrap());
                let mut given = fact("rbc_transfusion", Truth::True);
                given.from = Some(at);
                given.until = Some(at);
                timeline.facts.push(given);
            }
            other => panic!("person: {other:?}"),
        }
    }
}

fn months_before(day: Date, months: u16) -> Date {
    let index = day.year() * 12 + i32::from(u8::from(day.month())) - 1 - i32::from(months);
    let month = Month::try_from(u8::try_from(index.rem_euclid(12)).unwrap() + 1).unwrap();
    Date::from_calendar_date(index.div_euclid(12), month, day.day()).unwrap()
}

fn read_result(text: &str, at: OffsetDateTime, timeline: &mut Timeline) {
    let token = match text {
        "clumps" => {
            for measurement in &mut timeline.measurements {
                if measurement.analyte == Analyte::Platelets {
                    measurement.problems.push(SpecimenProblem::Clumped);
                }
            }
            return;
        }
        "ARC method auto" => return,
        "DAT pos" => Some(("dat_positive", Truth::True)),
        "DAT neg" => Some(("dat_positive", Truth::False)),
        "eADA high" => Some(("eada_high", Truth::True)),
        "eADA normal" => Some(("eada_high", Truth::False)),
        "trypsinogen low" => Some(("trypsinogen_low", Truth::True)),
        "DEB breakage pos" => Some(("breakage_positive", Truth::True)),
        "DEB breakage neg" => Some(("breakage_positive", Truth::False)),
        "telomere centile ≥50" => Some(("telomere_from_50", Truth::True)),
        "telomere centile <1" => {
            timeline.facts.push(fact("telomere_below_10", Truth::True));
            Some(("telomere_below_1", Truth::True))
        }
        _ => None,
    };
    if let Some((token, truth)) = token {
        timeline.facts.push(fact(token, truth));
        return;
    }
    // `LDH 720 U/L (3 xULN)`, `LDH 4.2 xULN`, `NRBC 2 /100`, `marrow cellularity 8 %`.
    let number_at = text
        .find(|next: char| next.is_ascii_digit() || next == '<' || next == '>')
        .map(|first| {
            // `B12 310 pmol/L`: the number is behind the name.
            if text.starts_with("B12 ") { 4 } else { first }
        })
        .unwrap_or_else(|| panic!("result: {text}"));
    let name = text[..number_at].trim();
    let rest: Vec<&str> = text[number_at..].split_whitespace().collect();
    let analyte = analyte(name);
    let raw = rest[0];
    let value = raw.trim_start_matches(['<', '>']);
    let mut number: Decimal = value.parse().unwrap_or_else(|_| panic!("number: {text}"));
    let mut upper_limit = None;
    if let [_, "xULN"] = rest.as_slice() {
        upper_limit = Some(Decimal::ONE_HUNDRED);
        number *= Decimal::ONE_HUNDRED;
    } else if let [_, _, times, "xULN)"] = rest.as_slice() {
        let times: Decimal = times.trim_start_matches('(').parse().unwrap();
        upper_limit = Some(number / times);
    }
    let interval = if raw.starts_with('<') {
        Interval::below(number)
    } else if raw.starts_with('>') {
        Interval::above(number)
    } else {
        Interval::exact(number)
    };
    timeline.measurements.push(Measurement {
        analyte,
        value: Some(interval),
        received: Received {
            value: raw.to_owned(),
            unit: analyte.unit().to_owned(),
        },
        at: Some(SampleTime {
            instant: at,
            precision: Precision::Instant,
        }),
        specimen: None,
        report: None,
        status: Status::Final,
        method: if name == "blasts" {
            Method::Manual
        } else {
            Method::Unspecified
        },
        preference: 0,
        draw: Draw::Venous,
        problems: Vec::new(),
        cells_counted: None,
        interpretation: None,
        upper_limit,
        unusable: None,
        filed_at: None,
        source: Source::default(),
    });
}

fn analyte(name: &str) -> Analyte {
    match name {
        "Hb" => Analyte::Hb,
        "ANC" => Analyte::Anc,
        "PLT" => Analyte::Platelets,
        "WBC" => Analyte::Wbc,
        "MCV" => Analyte::Mcv,
        "ARC" => Analyte::Arc,
        "ALC" => Analyte::Alc,
        "AMC" => Analyte::Amc,
        "EOS" => Analyte::Eosinophils,
        "RBC" => Analyte::Rbc,
        "RDW" => Analyte::Rdw,
        "Hct" => Analyte::Hct,
        "MPV" => Analyte::Mpv,
        "IPF" => Analyte::Ipf,
        "IG" => Analyte::ImmatureGranulocytes,
        "NRBC" => Analyte::Nrbc,
        "retic" => Analyte::ReticulocytePercent,
        "blasts" => Analyte::Blasts,
        "lymph" => Analyte::LymphocytePercent,
        "neut" => Analyte::NeutrophilPercent,
        "mono" => Analyte::MonocytePercent,
        "LDH" => Analyte::Ldh,
        "hapto" => Analyte::Haptoglobin,
        "ind. bili" => Analyte::BilirubinIndirect,
        "B12" => Analyte::B12,
        "folate" => Analyte::Folate,
        "ferritin" => Analyte::Ferritin,
        "TSAT" => Analyte::Tsat,
        "Cu" => Analyte::Copper,
        "CRP" => Analyte::Crp,
        "ALT" => Analyte::Alt,
        "eGFR" => Analyte::Egfr,
        "lactate" => Analyte::Lactate,
        "elastase" => Analyte::FaecalElastase,
        "fibrinogen" => Analyte::Fibrinogen,
        "TG" => Analyte::Triglycerides,
        "PNH gran" => Analyte::Pnh,
        "marrow cellularity" => Analyte::MarrowCellularity,
        "marrow blasts" => Analyte::MarrowBlasts,
        _ => panic!("analyte: {name}"),
    }
}
