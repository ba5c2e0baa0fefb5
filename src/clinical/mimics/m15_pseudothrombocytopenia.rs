//! M15 Pseudothrombocytopenia: platelets that clump in the tube.
//!
//! The count of a clumped sample is unknown to every other rule; here, and only here, the number
//! the analyser gave is looked at. A citrate count cannot be told from an EDTA count in what is
//! received, so the lines that compare the two are left to the reader.

use crate::clinical::{grade, rule::prelude::*, specimen::Reading};

const SOURCE: &str = "Lardinois, J Clin Med 2021";

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

static COUNTED_LOW: Criterion = Custom(&Named {
    text: "platelets as counted below the limit although clumped",
    limits: &[],
    inputs: &[],
    tokens: &[],
    evaluate: counted_low,
});

/// The number that is not used, against the limit it would have been judged by.
fn counted_low(context: &Context<'_>) -> Answer {
    let numbers = context
        .specimen
        .members
        .iter()
        .filter_map(|member| Some((*member, context.timeline().measurements.get(*member)?)))
        .filter(|(_, measurement)| measurement.analyte == Analyte::Platelets);
    let mut answer = Answer::NOT_SENT;
    for (member, measurement) in numbers {
        let Some(interval) = measurement.value else {
            answer = Answer::UNDECIDED;
            continue;
        };
        let reading = Reading {
            analyte: Analyte::Platelets,
            interval,
            from: vec![member],
            formula: None,
            suspect: true,
            preliminary: false,
            bounded: false,
            corrected: false,
        };
        let line = grade::line(
            Platelet,
            Some(&reading),
            context.timeline(),
            context.specimen,
            context.tuning(),
        );
        if line.low.is_true() {
            return true.into();
        }
        answer = line.low.into();
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
        line("clumps", 6, "clumps reported", Same(&CLUMPED)),
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
