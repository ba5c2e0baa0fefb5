//! C8 Monocytopenia.

use crate::clinical::rule::prelude::*;

static AGE: Limit = limit("C8.age", "28", "1", "d", "project choice", Low);
static AMC_LIMIT: Limit = limit("C8.amc", "0.2", "0.01", "10*9/L", "project choice", Medium);

/// The rule.
pub static RULE: Watch = Watch {
    id: "C8",
    name: "Monocytopenia",
    slug: Some("monocytopenia"),
    levels: &[Level {
        id: "amc",
        name: None,
        when: All(&[AtAge(&AGE), Below(AMC, &AMC_LIMIT)]),
        urgency: &[],
        sentence: "Monocytes are low.",
        remarks: &[],
    }],
    next: "Manual differential; GATA2 deficiency and hairy cell leukaemia are to be thought of.",
    source: "clinical specification 4.1",
    confidence: Medium,
};
