//! S07 Very low lymphocytes of a newborn.

use crate::clinical::rule::prelude::*;

const SOURCE: &str = "UK-PIN, Arch Dis Child 2008;93:90";

static AGE: Limit = limit("S07.age", "90", "1", "d", SOURCE, Medium);
static ALC_LIMIT: Limit = limit("S07.alc", "1.0", "0.01", "10*9/L", SOURCE, Medium);

/// The rule.
pub static RULE: Watch = Watch {
    id: "S07",
    name: "Very low lymphocytes in a newborn",
    slug: Some("lymphopenia"),
    levels: &[Level {
        id: "alc",
        name: None,
        when: All(&[Younger(&AGE), Below(ALC, &ALC_LIMIT)]),
        urgency: &[(U3, Always)],
        sentence: "Possible severe combined immunodeficiency (SCID).",
        remarks: &[],
    }],
    next: "Repeat within 48 h, lymphocyte subsets, TREC result; no live vaccines; irradiated \
           products; immunology today.",
    source: SOURCE,
    confidence: Medium,
};
