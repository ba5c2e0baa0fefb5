//! C4 Isolated neutropenia.

use super::NEUTROPENIA;
use crate::clinical::rule::prelude::*;

/// The rule.
pub static RULE: Watch = Watch {
    id: "C4",
    name: "Isolated neutropenia",
    slug: Some("neutropenia"),
    levels: &[Level {
        id: "only",
        name: None,
        when: OnlyLow(Neutrophil),
        urgency: NEUTROPENIA,
        sentence: "Neutrophils alone are low.",
        remarks: &[],
    }],
    next: "Repeat with a manual differential in 1-2 weeks (24-72 h below 0.5); infection and drug \
           history; Fy typing between 1.0 and 1.5; chronic from 90 days on.",
    source: "clinical specification 4.1; EHA/EuNet-INNOCHRON 2023",
    confidence: High,
};
