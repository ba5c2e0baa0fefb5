//! C1 Pancytopenia.

use super::SEVERAL_LOW;
use crate::clinical::rule::prelude::*;

/// The rule.
pub static RULE: Watch = Watch {
    id: "C1",
    name: "Pancytopenia",
    slug: Some("pancytopenia"),
    levels: &[Level {
        id: "all",
        name: None,
        when: LowLineages(3),
        urgency: SEVERAL_LOW,
        sentence: "All three blood lines are below the limit for age.",
        remarks: &[],
    }],
    next: WORK_UP,
    source: "clinical specification 4.1",
    confidence: High,
};

/// Work-up of two and three low lineages.
pub const WORK_UP: &str = "Film, reticulocytes, B12, folate, copper, LDH, viral screen, drug \
    review; repeat in 24-72 h if urgent, else within 14 days; haematology referral.";
