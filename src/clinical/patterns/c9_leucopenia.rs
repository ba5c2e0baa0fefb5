//! C9 Leucopenia, differential missing.

use crate::clinical::{rule::prelude::*, safety::NOT_COUNTED};

static SOON: Limit = limit("C9.wbc_soon", "2.0", "0.1", "10*9/L", "project choice", Low);
static CONTRADICTED: Limit = limit(
    "C9.wbc_contradicted",
    "1.0",
    "0.01",
    "10*9/L",
    "project choice",
    Low,
);

/// The rule.
pub static RULE: Watch = Watch {
    id: "C9",
    name: "Leucopenia, differential missing",
    slug: Some("leukopenia"),
    levels: &[Level {
        id: "wbc",
        name: None,
        when: All(&[BelowRange(Analyte::Wbc), Undecided(&IsLow(Neutrophil))]),
        urgency: &[
            (U2, All(&[Below(WBC, &SOON), Same(&NOT_COUNTED)])),
            // Counted, but above the white cells: verified first, unless they are very low.
            (U2, Below(WBC, &CONTRADICTED)),
            (U1, Always),
        ],
        sentence: "White cells are low and neutrophils were not counted.",
        remarks: &[],
    }],
    next: "Differential on the same sample.",
    source: "project choice",
    confidence: Low,
};
