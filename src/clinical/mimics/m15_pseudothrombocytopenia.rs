//! M15 Pseudothrombocytopenia: platelets that clump in the tube.
//!
//! The count of a clumped sample is unknown to every other rule; here, and only here, the number
//! the analyser gave is looked at. A warmed sample cannot be told from another in what is received:
//! it is left to the reader.

use time::Duration;

use crate::clinical::{
    grade,
    rule::prelude::*,
    specimen::{self, Reading},
    timeline::{Measurement, SpecimenProblem},
};

const SOURCE: &str = "Lardinois, J Clin Med 2021";
static CITRATE_HOURS: Limit = limit("M15.citrate_hours", "24", "1", "h", "project choice", Low);

static CLUMPED: Criterion = Custom(&Named {
    text: "platelets clumped",
    limits: &[],
    inputs: &[],
    tokens: &["plt_clump"],
    evaluate: clumped,
});

fn clumped(context: &Context<'_>) -> Answer {
    context.specimen.clumped.into()
}

static REPORTED: Criterion = Custom(&Named {
    text: "clumps reported by analyser or film",
    limits: &[],
    inputs: &[],
    tokens: &["plt_clump"],
    evaluate: reported,
});

fn reported(context: &Context<'_>) -> Answer {
    let noted = context
        .specimen
        .members
        .iter()
        .filter_map(|member| context.timeline().measurements.get(*member))
        .any(|measurement| measurement.problems.contains(&SpecimenProblem::Clumped));
    (noted || context.token("plt_clump").truth.is_true()).into()
}

static CITRATE_WITHIN: Criterion = Custom(&Named {
    text: "platelets in citrate within limits, at most {0} h before or after",
    limits: &[&CITRATE_HOURS],
    inputs: &[],
    tokens: &[],
    evaluate: |context| !citrate_low(context),
});

static CITRATE_LOW: Criterion = Custom(&Named {
    text: "platelets in citrate low too, at most {0} h before or after",
    limits: &[&CITRATE_HOURS],
    inputs: &[],
    tokens: &[],
    evaluate: citrate_low,
});

/// Whether the highest count in citrate is low.
fn citrate_low(context: &Context<'_>) -> Answer {
    let hours = i64::try_from(context.tuning().value(&CITRATE_HOURS)).unwrap_or_default();
    specimen::citrate_platelets(
        context.timeline(),
        context.specimen.at.instant,
        Duration::hours(hours),
    )
    .max_by_key(|measurement| measurement.value.and_then(|value| value.anchor()))
    .map_or(Answer::NOT_SENT, |measurement| {
        low(context, measurement, Vec::new())
    })
}

/// A number against the limit it would have been judged by.
fn low(context: &Context<'_>, measurement: &Measurement, from: Vec<usize>) -> Answer {
    let Some(interval) = measurement.value else {
        return Answer::UNDECIDED;
    };
    let reading = Reading {
        analyte: Analyte::Platelets,
        interval,
        from,
        formula: None,
        suspect: true,
        preliminary: false,
        bounded: false,
        corrected: false,
    };
    grade::line(
        Platelet,
        Some(&reading),
        context.timeline(),
        context.specimen,
        context.tuning(),
    )
    .low
    .into()
}

static COUNTED_LOW: Criterion = Custom(&Named {
    text: "platelets as counted below the limit although clumped",
    limits: &[],
    inputs: &[],
    tokens: &[],
    evaluate: counted_low,
});

/// The number that is not used.
fn counted_low(context: &Context<'_>) -> Answer {
    let answers = context
        .specimen
        .members
        .iter()
        .filter_map(|member| Some((*member, context.timeline().measurements.get(*member)?)))
        .filter(|(_, measurement)| {
            measurement.analyte == Analyte::Platelets && !specimen::of_citrate(measurement)
        })
        .map(|(member, measurement)| low(context, measurement, vec![member]));
    let mut answer = Answer::NOT_SENT;
    for one in answers {
        if one.truth.is_true() {
            return one;
        }
        answer = one;
    }
    answer
}

/// The rule.
pub static RULE: Rule = Rule {
    id: "M15",
    slug: "mimic-pseudothrombocytopenia",
    name: "Pseudothrombocytopenia (platelets clumped in EDTA)",
    kind: Kind::Mimic,
    sentence: "The analyser saw clumped platelets, so the platelet number may be falsely low.",
    gate: All(&[Same(&CLUMPED), Same(&COUNTED_LOW)]),
    required: "PLT and the comment of film or analyser",
    evidence: &[
        line("clumps", 6, "clumps reported", Same(&REPORTED)),
        line(
            "citrate",
            6,
            "platelets in citrate within limits",
            Same(&CITRATE_WITHIN),
        ),
        line(
            "citrate_low",
            -6,
            "platelets in citrate low too",
            Same(&CITRATE_LOW),
        ),
        line(
            "no_bleeding",
            1,
            "no bleeding, explicitly",
            Refuted("bleeding"),
        ),
    ],
    excluding: &[],
    priors: priors("0 0 0 0 0 0 0 0"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Clumps reported: the platelet count is unknown to every other rule.",
    urgency: &[(U1, Always)],
    next: "Repeat in citrate (times 1.1 for the dilution) or warm EDTA within 30 minutes; estimate on \
           the film; the number is not suitable for a transfusion decision.",
    source: SOURCE,
    confidence: High,
};
