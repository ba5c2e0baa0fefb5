//! S05 Very low platelets.

use crate::clinical::{patterns::EXPECTED_SUPPRESSION, quantity::Interval, rule::prelude::*};

const PHONE: &str = "UK laboratory phone limits";

static CRITICAL: Limit = limit("S05.plt_critical", "10", "1", "10*9/L", PHONE, High);
static VERY_LOW: Limit = limit("S05.plt_very_low", "20", "1", "10*9/L", PHONE, High);
static LOW_BLEEDING: Limit = limit("S05.plt_bleeding", "50", "1", "10*9/L", PHONE, Medium);
static MILD_BLEEDING: Limit = limit(
    "S05.plt_mild_bleeding",
    "100",
    "1",
    "10*9/L",
    "project choice",
    Medium,
);
static CLUMPED_BLEEDING: Limit = limit(
    "S05.plt_clumped",
    "50",
    "1",
    "10*9/L",
    "project choice",
    Low,
);

static CLUMPED: Criterion = Custom(&Named {
    text: "platelets clumped",
    limits: &[],
    inputs: &[],
    tokens: &["plt_clump"],
    evaluate: clumped,
});

/// A count from citrate is a number like any other.
fn clumped(context: &Context<'_>) -> Answer {
    (context.specimen.clumped && context.specimen.urgent(Analyte::Platelets).is_none()).into()
}

/// The number the analyser gave, although it is not used.
static RAW_LOW: Criterion = Custom(&Named {
    text: "platelets as counted <{0} x10^9/L although clumped",
    limits: &[&CLUMPED_BLEEDING],
    inputs: &[],
    tokens: &[],
    evaluate: raw_low,
});

fn raw_low(context: &Context<'_>) -> Answer {
    let limit = context.tuning().value(&CLUMPED_BLEEDING);
    context
        .specimen
        .members
        .iter()
        .filter_map(|member| context.timeline().measurements.get(*member))
        .filter(|measurement| measurement.analyte == Analyte::Platelets)
        .filter_map(|measurement| measurement.value)
        .any(|value: Interval| value.is_below(limit).is_true())
        .into()
}

/// The platelets of an older specimen of the episode, when the index has none.
static BORROWED: Criterion = Custom(&Named {
    text: "platelets <{0} x10^9/L in a specimen up to 7 d older, not counted today",
    limits: &[&LOW_BLEEDING],
    inputs: &[],
    tokens: &[],
    evaluate: borrowed,
});

fn borrowed(context: &Context<'_>) -> Answer {
    let line = context.line(Platelet);
    if line.borrowed_days.is_none() || !context.urgent(Analyte::Platelets).is_empty() {
        return false.into();
    }
    line.reading
        .as_ref()
        .map_or(Answer::from(false), |reading| {
            reading
                .interval
                .is_below(context.tuning().value(&LOW_BLEEDING))
                .into()
        })
}

const SENTENCE: &str = "Very low platelets: {plt}.";
const BLEEDING: &str = "Low platelets with bleeding: {plt}.";

/// The rule.
pub static RULE: Watch = Watch {
    id: "S05",
    name: "Very low platelets",
    slug: Some("thrombocytopenia"),
    levels: &[
        Level {
            id: "bleeding",
            name: Some("Low platelets with bleeding"),
            when: All(&[
                Not(&Same(&CLUMPED)),
                Below(PLT, &LOW_BLEEDING),
                Token("bleeding"),
            ]),
            urgency: &[(U4, Always)],
            sentence: BLEEDING,
            remarks: &[],
        },
        Level {
            id: "critical",
            name: None,
            when: All(&[Not(&Same(&CLUMPED)), Below(PLT, &CRITICAL)]),
            urgency: &[(U3, Always)],
            sentence: SENTENCE,
            remarks: &[],
        },
        Level {
            id: "very_low",
            name: None,
            when: All(&[Not(&Same(&CLUMPED)), Below(PLT, &VERY_LOW)]),
            urgency: &[
                (
                    U2,
                    Any(&[Same(&EXPECTED_SUPPRESSION), Token("known_stable_P")]),
                ),
                (U3, Always),
            ],
            sentence: SENTENCE,
            remarks: &[],
        },
        Level {
            id: "mild_bleeding",
            name: Some("Low platelets with bleeding"),
            when: All(&[
                Not(&Same(&CLUMPED)),
                Below(PLT, &MILD_BLEEDING),
                Token("bleeding"),
            ]),
            urgency: &[(U3, Always)],
            sentence: BLEEDING,
            remarks: &[],
        },
        Level {
            id: "clumped",
            name: Some("Platelets clumped, bleeding recorded"),
            when: All(&[Same(&CLUMPED), Same(&RAW_LOW), Surely(&Token("bleeding"))]),
            urgency: &[(U3, Always)],
            sentence: "Platelet number unreliable, bleeding recorded: citrate sample and film now.",
            remarks: &[],
        },
        Level {
            id: "borrowed",
            name: Some("Bleeding and low platelets in the last count"),
            when: All(&[Surely(&Token("bleeding")), Same(&BORROWED)]),
            urgency: &[(U3, Always)],
            sentence: "Bleeding is recorded; the last platelet count is {days} d old: count today.",
            remarks: &[],
        },
    ],
    next: "Film for clumps and fragments; bleeding check; repeat today.",
    source: PHONE,
    confidence: Medium,
};
