//! C5 Isolated thrombocytopenia.

use super::THROMBOCYTOPENIA;
use crate::clinical::rule::prelude::*;

/// The rule.
pub static RULE: Watch = Watch {
    id: "C5",
    name: "Isolated thrombocytopenia",
    slug: Some("thrombocytopenia"),
    levels: &[Level {
        id: "only",
        name: None,
        when: OnlyLow(Platelet),
        urgency: THROMBOCYTOPENIA,
        sentence: "Platelets alone are low.",
        remarks: &[],
    }],
    next: "Film for clumps; repeat; MPV and IPF; drugs; HIV and HCV.",
    source: "clinical specification 4.1",
    confidence: High,
};
