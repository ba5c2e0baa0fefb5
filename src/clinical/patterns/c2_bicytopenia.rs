//! C2 Bicytopenia, and C2+ where the third lineage is not known.

use super::{SEVERAL_LOW, c1_pancytopenia::WORK_UP};
use crate::clinical::rule::prelude::*;

/// Exactly two low, the third known not to be.
pub static RULE: Watch = Watch {
    id: "C2",
    name: "Bicytopenia",
    slug: Some("bicytopenia"),
    levels: &[Level {
        id: "two",
        name: None,
        when: All(&[LowLineages(2), Not(&LowLineages(3))]),
        urgency: SEVERAL_LOW,
        sentence: "Two blood lines are low.",
        remarks: &[],
    }],
    next: WORK_UP,
    source: "clinical specification 4.1",
    confidence: High,
};

/// Two low, the third unknown.
pub static AT_LEAST: Watch = Watch {
    id: "C2+",
    name: "At least bicytopenia",
    slug: Some("bicytopenia"),
    levels: &[Level {
        id: "two",
        name: None,
        when: All(&[LowLineages(2), Undecided(&LowLineages(3))]),
        urgency: SEVERAL_LOW,
        sentence: "Two blood lines are low; the third is not known.",
        remarks: &[],
    }],
    next: WORK_UP,
    source: "clinical specification 4.1",
    confidence: High,
};
