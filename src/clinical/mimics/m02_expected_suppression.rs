//! M02 Expected suppression after chemotherapy, radiotherapy or conditioning.

use crate::clinical::rule::prelude::*;

const TEXTBOOK: &str = "nadir 7-14 d, recovery 21-28 d (nitrosoureas, mitomycin to 42 d): textbook; graft failure EBMT/CIBMTR, source to confirm";
const OURS: &str = "project choice";
static ANC_LOW: Limit = limit("M02.anc", "0.5", "0.01", "10*9/L", OURS, Medium);
static PLT_LOW: Limit = limit("M02.plt", "20", "1", "10*9/L", OURS, Medium);

/// The rule.
pub static RULE: Rule = Rule {
    id: "M02",
    slug: "mimic-chemotherapy",
    name: "Expected suppression after chemotherapy, radiotherapy or conditioning",
    kind: Kind::Mimic,
    sentence: "Low counts are expected at this time after the recorded treatment (marrow suppression, not marrow failure).",
    gate: All(&[
        LowLineages(1),
        AnyToken(&["chemo_21", "chemo_42", "rt_60", "hsct_28", "hsct_recent"]),
    ]),
    required: "CBC and the dates of exposure",
    evidence: &[
        line(
            "chemo_21",
            6,
            "cytotoxic drug in the last 21 d",
            Token("chemo_21"),
        ),
        line(
            "chemo_42",
            4,
            "cytotoxic drug 22 to 42 d ago",
            All(&[Token("chemo_42"), NotTrue("chemo_21")]),
        ),
        line(
            "radiotherapy",
            4,
            "radiotherapy in the last 60 d",
            Token("rt_60"),
        ),
        line(
            "transplant",
            4,
            "stem cell transplant in the last 100 d",
            Token("hsct_recent"),
        ),
        line(
            "normal_before",
            2,
            "counts were not low before",
            Token("prev_normal"),
        ),
        PREDATES,
        line(
            "late",
            -3,
            "not recovering more than 42 d after the last dose",
            Token("late_recovery"),
        ),
    ],
    excluding: &[],
    priors: priors("0 0 0 0 0 0 0 0"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Date of the exposure missing: indeterminate.",
    urgency: &[
        (U2, Any(&[Below(ANC, &ANC_LOW), Below(PLT, &PLT_LOW)])),
        (U1, Always),
    ],
    next: "Follow the oncology protocol; temperature; reassess if not recovering by day 42 (after a stem cell transplant by day 28, or at any new fall below 0.5).",
    source: TEXTBOOK,
    confidence: High,
};
