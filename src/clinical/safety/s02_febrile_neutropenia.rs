//! S02 Febrile neutropenia.

use super::{FEVER, NOT_COUNTED};
use crate::clinical::rule::prelude::*;

const SOURCE: &str = "IDSA 2010; NICE CG151";

static ANC_LIMIT: Limit = limit("S02.anc", "0.5", "0.01", "10*9/L", SOURCE, High);
static ANC_CHEMO: Limit = limit("S02.anc_chemo", "1.0", "0.01", "10*9/L", SOURCE, High);
static WBC_LIMIT: Limit = limit("S02.wbc", "1.0", "0.01", "10*9/L", "project choice", Low);
static WBC_CHEMO: Limit = limit(
    "S02.wbc_chemo",
    "2.0",
    "0.01",
    "10*9/L",
    "project choice",
    Low,
);
static ANC_SAFE: Limit = limit(
    "S02.anc_safe",
    "1.5",
    "0.01",
    "10*9/L",
    "project choice",
    Low,
);

/// The neutrophils of an older specimen of the episode, when the index has none.
static BORROWED: Criterion = Custom(&Named {
    text: "neutrophils <= {0} in a specimen up to 7 d older, not counted today",
    limits: &[&ANC_LIMIT],
    inputs: &[],
    tokens: &[],
    evaluate: borrowed,
});

fn borrowed(context: &Context<'_>) -> Answer {
    let line = context.line(Neutrophil);
    if line.borrowed_days.is_none() || !context.urgent(Analyte::Anc).is_empty() {
        return false.into();
    }
    line.reading
        .as_ref()
        .map_or(Answer::from(false), |reading| {
            (!reading
                .interval
                .is_above(context.tuning().value(&ANC_LIMIT)))
            .into()
        })
}

/// The rule.
pub static RULE: Watch = Watch {
    id: "S02",
    name: "Febrile neutropenia",
    slug: Some("febrile-neutropenia"),
    levels: &[
        Level {
            id: "a",
            name: None,
            when: All(&[
                Same(&FEVER),
                Any(&[
                    AtMost(ANC, &ANC_LIMIT),
                    All(&[Below(ANC, &ANC_CHEMO), Token("chemo_21")]),
                ]),
            ]),
            urgency: &[(U4, Always)],
            sentence: "{cause} with ANC {anc} meets the usual definition of febrile neutropenia; \
                       the local neutropenic-sepsis pathway applies.",
            remarks: &[],
        },
        Level {
            id: "b",
            name: None,
            when: All(&[
                Same(&FEVER),
                Same(&NOT_COUNTED),
                Any(&[
                    Below(WBC, &WBC_LIMIT),
                    All(&[Below(WBC, &WBC_CHEMO), Token("chemo_21")]),
                ]),
            ]),
            urgency: &[(U4, Always)],
            sentence: "{cause}; differential not received: treat as neutropenic until counted.",
            remarks: &[],
        },
        Level {
            id: "borrowed",
            name: Some("Fever and low neutrophils in the last count"),
            when: All(&[Same(&FEVER), Same(&BORROWED)]),
            urgency: &[(U3, Always)],
            sentence: "{cause}; the last neutrophil count is {days} d old: count today.",
            remarks: &[],
        },
        Level {
            id: "c",
            name: Some("Fever after chemotherapy"),
            when: All(&[
                Same(&FEVER),
                Token("chemo_21"),
                Any(&[
                    Not(&Surely(&Not(&Below(ANC, &ANC_SAFE)))),
                    Token("anc_falling"),
                ]),
            ]),
            urgency: &[(U3, Always)],
            sentence: "Fever after chemotherapy; ANC {anc} may still be falling: repeat within 24 h.",
            remarks: &[],
        },
    ],
    next: "Local neutropenic-sepsis pathway; count and cultures now.",
    source: SOURCE,
    confidence: High,
};
