//! M08 Hypersplenism or portal hypertension.

use crate::clinical::rule::prelude::*;

const OURS: &str = "project choice";
static PLT_FLOOR: Limit = limit("M08.plt_floor", "50", "1", "10*9/L", OURS, Medium);
static PLT_CEILING: Limit = limit("M08.plt_ceiling", "150", "1", "10*9/L", OURS, Medium);
static ANC_KEPT: Limit = limit("M08.anc_kept", "0.5", "0.01", "10*9/L", OURS, Medium);
static PLT_TOO_LOW: Limit = limit("M08.plt_too_low", "20", "1", "10*9/L", OURS, Medium);
static ANC_TOO_LOW: Limit = limit("M08.anc_too_low", "0.2", "0.01", "10*9/L", OURS, Medium);
static BLASTS_SEEN: Limit = limit("M08.blasts", "1", "0.1", "%", OURS, Medium);

/// The rule.
pub static RULE: Rule = Rule {
    id: "M08",
    slug: "mimic-hypersplenism",
    name: "Hypersplenism or portal hypertension",
    kind: Kind::Mimic,
    sentence: "A large spleen can hold back blood cells; counts are usually only mildly or moderately low.",
    gate: All(&[
        Any(&[IsLow(Platelet), IsLow(Neutrophil)]),
        AnyToken(&["splenomegaly", "cirrhosis", "portal_htn"]),
    ]),
    required: "CBC and a recorded condition",
    evidence: &[
        line(
            "portal",
            4,
            "cirrhosis or portal hypertension",
            AnyToken(&["cirrhosis", "portal_htn"]),
        ),
        line("spleen", 3, "splenomegaly", Token("splenomegaly")),
        line(
            "platelets",
            1,
            "platelets 50-<150 x10^9/L",
            Between(PLT, &PLT_FLOOR, &PLT_CEILING),
        ),
        line(
            "neutrophils",
            1,
            "neutrophils >=0.5 x10^9/L",
            NotBelow(ANC, &ANC_KEPT),
        ),
        line(
            "platelets_too_low",
            -2,
            "platelets <20 x10^9/L",
            Below(PLT, &PLT_TOO_LOW),
        ),
        line(
            "neutrophils_too_low",
            -3,
            "neutrophils <0.2 x10^9/L",
            Below(ANC, &ANC_TOO_LOW),
        ),
        line(
            "blasts",
            -2,
            "blasts >=1 % or leukoerythroblastic film",
            Any(&[NotBelow(BLASTS, &BLASTS_SEEN), Token("leukoerythroblastic")]),
        ),
    ],
    excluding: &[],
    priors: priors("-2 -1 0 0 0 0 +1 +1"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Nothing is inferred without a recorded condition.",
    urgency: &[(U2, LowLineages(2)), (U1, Always)],
    next: "Liver screen, ultrasound with portal Doppler; film; Gaucher, lymphoma and infection screen if the cause is unknown.",
    source: "textbook; numeric bounds are project choices",
    confidence: High,
};
