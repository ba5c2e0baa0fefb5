//! Assessments to write from: one patient with severe pancytopenia, and the changes around it.

use std::sync::Arc;

use rust_decimal::Decimal;
use time::{OffsetDateTime, macros::datetime};

use crate::{
    clinical::{
        analyte::Analyte,
        assessment::{
            Assessment, Candidate, CellResult, Decision, Doubt, EvidenceLine, Family, Finding, Fit,
            FlagChange, FlagState, Grade, IndexSpecimen, Lineage, LineageResult, Output,
            ReportChange, RuleFinding, TraceStep, Urgency, Value, Verdict,
        },
        quantity::Interval,
        time::{Precision, SampleTime},
        timeline::{Received, Source},
        truth::Truth,
    },
    fhir::{
        read::{PatientKey, Subject},
        write::{WriteContext, identity},
    },
};

pub(super) const SAMPLED: OffsetDateTime = datetime!(2026-11-18 08:15 +1);
pub(super) const AS_OF: OffsetDateTime = datetime!(2026-11-18 09:00 UTC);

pub(super) fn key() -> [u8; 32] {
    identity::patient_key(
        identity::PUBLIC_KEY,
        "default",
        "lab",
        &PatientKey::Identifier {
            system: "urn:oid:1.2.3.4".into(),
            value: "4711".into(),
        },
    )
}

pub(super) fn subject() -> Subject {
    Subject {
        reference: Some("Patient/p1".into()),
        identifier: Some(("urn:oid:1.2.3.4".into(), "4711".into())),
    }
}

pub(super) fn context<'a>(key: &'a [u8; 32], subject: &'a Subject) -> WriteContext<'a> {
    WriteContext::new("default", key, subject)
}

pub(super) fn sampled(instant: OffsetDateTime) -> SampleTime {
    SampleTime {
        instant,
        precision: Precision::Instant,
    }
}

pub(super) fn source(number: u32) -> Source {
    Source {
        handle: number,
        identifier: Some((
            Arc::from("https://lab.example/results"),
            Arc::from(format!("R-{number}").as_str()),
        )),
        loinc: None,
    }
}

pub(super) fn value(analyte: Analyte, number: &str, received: (&str, &str), handle: u32) -> Value {
    Value {
        analyte,
        interval: Interval::exact(number.parse().unwrap()),
        received: Received {
            value: received.0.into(),
            unit: received.1.into(),
        },
        at: sampled(SAMPLED),
        derived: None,
        suspect: false,
        preliminary: false,
        sources: vec![source(handle)],
    }
}

fn low(lineage: Lineage, grade: Grade, limit: &str, value: Value) -> LineageResult {
    LineageResult {
        lineage,
        low: Truth::True,
        grade: Some(grade),
        at_least: None,
        value: Some(value),
        limit: Some(limit.parse::<Decimal>().unwrap()),
        note: None,
    }
}

fn rule(id: &'static str, name: &'static str, slug: Option<&'static str>) -> RuleFinding {
    RuleFinding {
        id,
        name,
        slug,
        truth: Truth::True,
        urgency: Urgency::U3,
        sentence: String::new(),
        values: Vec::new(),
        thresholds: Vec::new(),
        needs: Vec::new(),
        next: "",
        source: "",
    }
}

/// Hb 6.8 g/dL, ANC 0.3, platelets 12.
#[expect(clippy::too_many_lines, reason = "one assessment, told in full")]
pub(super) fn pancytopenia() -> Assessment {
    let hb = value(Analyte::Hb, "68", ("6.8", "g/dL"), 1);
    let anc = value(Analyte::Anc, "0.3", ("0.30", "10*9/L"), 2);
    let platelets = value(Analyte::Platelets, "12", ("12", "10*9/L"), 3);
    Assessment {
        as_of: AS_OF,
        index: Some(IndexSpecimen {
            at: sampled(SAMPLED),
            specimen: Some(Arc::from("A-2026-1")),
        }),
        verdict: Verdict::Cytopenia,
        lineages: vec![
            low(Lineage::Erythroid, Grade::Severe, "120", hb.clone()),
            low(Lineage::Neutrophil, Grade::Severe, "1.8", anc.clone()),
            low(Lineage::Platelet, Grade::VerySevere, "150", platelets.clone()),
        ],
        cells: vec![CellResult {
            analyte: Analyte::Wbc,
            grade: Some(Grade::Severe),
            value: value(Analyte::Wbc, "1.9", ("1.9", "10*9/L"), 5),
            limit: Some("4.0".parse().unwrap()),
        }],
        patterns: vec![RuleFinding {
            sentence: "All three blood lines are below the limit for age.".into(),
            next: "film, reticulocytes, B12/folate/copper, LDH, viral screen, drug review; repeat in 24-72 h; haematology referral",
            ..rule("C1", "Pancytopenia", Some("pancytopenia"))
        }],
        safety: vec![
            RuleFinding {
                sentence: "Severe neutropenia: check temperature, give fever advice (temperature not received).".into(),
                ..rule("S03", "Severe neutropenia", Some("neutropenia"))
            },
            RuleFinding {
                sentence: "Very low platelets (12 x10^9/L).".into(),
                ..rule("S05", "Very low platelets", Some("thrombocytopenia"))
            },
            RuleFinding {
                truth: Truth::Unknown,
                needs: vec!["body temperature".into()],
                ..rule("S02", "Fever with neutropenia", Some("febrile-neutropenia"))
            },
        ],
        candidates: vec![
            Candidate {
                id: "D01",
                slug: "aplastic-anemia-suspected",
                name: "Aplastic anaemia",
                label: Some("SAA-COUNTS".into()),
                gate: Truth::True,
                score: 6,
                fit: Fit::Moderate,
                for_it: vec![EvidenceLine {
                    points: 3,
                    text: "all three lines low (Hb 68 g/L, ANC 0.3, PLT 12)".into(),
                    sources: vec![source(1)],
                }],
                against: vec![EvidenceLine {
                    points: -1,
                    text: "MCV not raised".into(),
                    sources: Vec::new(),
                }],
                excluded_by: Vec::new(),
                missing: vec!["reticulocytes".into(), "marrow examination".into()],
                urgency: Urgency::U3,
                sentence: "Aplastic anaemia is one of the explanations to consider.".into(),
                next: "reticulocytes, film, marrow examination",
                source: "guideline",
            },
            Candidate {
                id: "M04",
                slug: "mimic-b12-folate",
                name: "Lack of vitamin B12 or folate",
                label: None,
                gate: Truth::Unknown,
                score: 2,
                fit: Fit::Weak,
                for_it: Vec::new(),
                against: Vec::new(),
                excluded_by: Vec::new(),
                missing: vec!["vitamin B12".into()],
                urgency: Urgency::U1,
                sentence: "Lack of vitamin B12 or folate cannot be excluded from the data received; missing: vitamin B12.".into(),
                next: "vitamin B12, folate",
                source: "guideline",
            },
        ],
        argued_against: Vec::new(),
        first_look: vec!["vitamin B12 and folate".into(), "drug history".into()],
        doubts: vec![Doubt {
            source: source(4),
            analyte: Analyte::Mcv,
            received: Received {
                value: "940".into(),
                unit: "fL".into(),
            },
            at: Some(sampled(SAMPLED)),
            used: false,
            word: "value-implausible",
            text: "outside the range a living person can have".into(),
        }],
        used: vec![hb, anc, platelets],
        span: Some((sampled(SAMPLED), sampled(SAMPLED))),
        notes: vec!["Hb not adjusted for altitude or smoking.".into()],
        urgency: Urgency::U3,
        output: Output::Flag,
        output_row: 5,
        family: Some(Family::Pancytopenia),
        slug: Some("pancytopenia"),
        headline: "Pancytopenia, U3".into(),
        trace: vec![TraceStep {
            id: "grade.E".into(),
            question: "Hb <120 g/L".into(),
            inputs: vec!["Hb 68 g/L, 2026-11-18".into()],
            answer: "severe".into(),
        }],
    }
}

pub(super) fn finding(state: FlagState) -> Finding {
    Finding {
        family: Family::Pancytopenia,
        state,
        slug: "pancytopenia".into(),
        urgency: Urgency::U3,
        grade: Some(Grade::VerySevere),
        lineage_grades: [
            Some(Grade::Severe),
            Some(Grade::Severe),
            Some(Grade::VerySevere),
        ],
        episode_start: sampled(SAMPLED),
        episode_end: (state == FlagState::Inactive).then(|| sampled(SAMPLED)),
        notified_at: None,
        acknowledged: None,
        human: None,
    }
}

pub(super) fn change(state: FlagState, why: &'static str) -> FlagChange {
    FlagChange {
        finding: finding(state),
        write: true,
        notify: true,
        why,
    }
}

pub(super) fn raised() -> Decision {
    Decision {
        assessment: pancytopenia(),
        flags: vec![change(FlagState::Active, "raised")],
        reports: vec![ReportChange::Write],
    }
}

/// Nothing low, nothing to say.
pub(super) fn unremarkable() -> Decision {
    let mut assessment = pancytopenia();
    for result in &mut assessment.lineages {
        result.low = Truth::False;
        result.grade = Some(Grade::None);
    }
    assessment.verdict = Verdict::NoCytopenia;
    assessment.patterns.clear();
    assessment.safety.clear();
    assessment.candidates.clear();
    assessment.doubts.clear();
    assessment.first_look.clear();
    assessment.urgency = Urgency::U0;
    assessment.output = Output::Nothing;
    assessment.slug = None;
    assessment.family = None;
    Decision {
        assessment,
        flags: Vec::new(),
        reports: Vec::new(),
    }
}
