//! C9 Leucopenia, differential missing.

use crate::clinical::rule::prelude::*;

static SOON: Limit = limit("C9.wbc_soon", "2.0", "0.1", "10*9/L", "project choice", Low);

/// The rule.
pub static RULE: Watch = Watch {
    id: "C9",
    name: "Leucopenia, differential missing",
    slug: Some("leukopenia"),
    levels: &[Level {
        id: "wbc",
        name: None,
        when: All(&[BelowRange(Analyte::Wbc), Undecided(&IsLow(Neutrophil))]),
        urgency: &[(U2, Below(WBC, &SOON)), (U1, Always)],
        sentence: "White cells are low and neutrophils were not counted.",
        remarks: &[],
    }],
    next: "Differential on the same sample.",
    source: "project choice",
    confidence: Low,
};
