//! S04 Very low haemoglobin.

use crate::clinical::rule::prelude::*;

static NOW: Limit = limit("S04.hb_now", "50", "1", "g/L", "project choice", Medium);
static TODAY: Limit = limit(
    "S04.hb_today",
    "70",
    "1",
    "g/L",
    "UK laboratory phone limits",
    Medium,
);

/// The rule.
pub static RULE: Watch = Watch {
    id: "S04",
    name: "Very low haemoglobin",
    slug: Some("anemia"),
    levels: &[
        Level {
            id: "now",
            name: None,
            when: Below(HB, &NOW),
            urgency: &[(U4, Always)],
            sentence: "Very low haemoglobin: {hb}.",
            remarks: &[],
        },
        Level {
            id: "today",
            name: None,
            when: Below(HB, &TODAY),
            urgency: &[(U3, Always)],
            sentence: "Very low haemoglobin: {hb}.",
            remarks: &[],
        },
    ],
    next: "Contact the patient today; bleeding, haemolysis and symptoms of anaemia.",
    source: "UK laboratory phone limits 70-80 g/L",
    confidence: Medium,
};
