//! C7 Infant lymphopenia.

use crate::clinical::rule::prelude::*;

static AGE: Limit = limit("C7.age", "2", "1", "a", "UK-PIN, Arch Dis Child 2008", High);
static ALC_LIMIT: Limit = limit("C7.alc", "2.5", "0.01", "10*9/L", "project choice", Low);

/// The rule.
pub static RULE: Watch = Watch {
    id: "C7",
    name: "Infant lymphopenia",
    slug: Some("lymphopenia"),
    levels: &[Level {
        id: "alc",
        name: None,
        when: All(&[Younger(&AGE), Below(ALC, &ALC_LIMIT)]),
        urgency: &[(U2, Always)],
        sentence: "Low lymphocytes in an infant can be severe combined immunodeficiency.",
        remarks: &[],
    }],
    next: "Repeat within 48 h, lymphocyte subsets, TREC result; no live vaccines; irradiated \
           products.",
    source: "UK-PIN, Arch Dis Child 2008;93:90",
    confidence: Medium,
};
