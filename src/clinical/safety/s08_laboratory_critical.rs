//! S08 The laboratory itself called a value critical.

use crate::clinical::{
    context::Sent, patterns::EXPECTED_SUPPRESSION, quality, rule::prelude::*, timeline::Measurement,
};

static MARKED: Criterion = Custom(&Named {
    text: "critical by the laboratory's own interpretation (HH, LL, AA)",
    limits: &[],
    inputs: &[],
    tokens: &[],
    evaluate: marked,
});

fn marked_values<'a>(context: &'a Context<'_>) -> impl Iterator<Item = &'a Measurement> {
    context
        .specimen
        .members
        .iter()
        .filter(|member| {
            context
                .case
                .record
                .marks
                .get(**member)
                .is_some_and(|mark| !mark.ignored)
        })
        .filter_map(|member| context.timeline().measurements.get(*member))
        .filter(|measurement| quality::marked_critical(measurement))
}

fn marked(context: &Context<'_>) -> Answer {
    marked_values(context).next().is_some().into()
}

/// Only this analyte is marked, and it was counted.
fn only(context: &Context<'_>, analyte: Analyte) -> Answer {
    (marked_values(context).all(|measurement| measurement.analyte == analyte)
        && matches!(context.at_index(analyte), Sent::Value(..)))
    .into()
}

static ONLY_ANC: Criterion = Custom(&Named {
    text: "only the neutrophils are marked",
    limits: &[],
    inputs: &[],
    tokens: &[],
    evaluate: |context| only(context, Analyte::Anc),
});

static ONLY_PLT: Criterion = Custom(&Named {
    text: "only the platelets are marked",
    limits: &[],
    inputs: &[],
    tokens: &[],
    evaluate: |context| only(context, Analyte::Platelets),
});

/// The rule.
pub static RULE: Watch = Watch {
    id: "S08",
    name: "Critical value by the laboratory",
    slug: Some("laboratory-critical"),
    levels: &[Level {
        id: "marked",
        name: None,
        when: Same(&MARKED),
        urgency: &[
            (
                U2,
                Any(&[
                    All(&[
                        Same(&ONLY_ANC),
                        Fired("S03"),
                        Any(&[Same(&EXPECTED_SUPPRESSION), Token("known_stable_N")]),
                    ]),
                    All(&[
                        Same(&ONLY_PLT),
                        Fired("S05"),
                        Any(&[Same(&EXPECTED_SUPPRESSION), Token("known_stable_P")]),
                    ]),
                ]),
            ),
            (U3, Always),
        ],
        sentence: "The laboratory marked this value critical.",
        remarks: &[],
    }],
    next: "Act on the laboratory's call.",
    source: "HL7 v3 ObservationInterpretation",
    confidence: High,
};
