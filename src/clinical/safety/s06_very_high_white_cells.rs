//! S06 Very high white cell count.

use crate::clinical::rule::prelude::*;

const SOURCE: &str = "leukostasis, textbook";

static NOW: Limit = limit("S06.wbc_now", "100", "1", "10*9/L", SOURCE, High);
static TODAY: Limit = limit("S06.wbc_today", "50", "1", "10*9/L", SOURCE, High);
static ADULT: Limit = limit("S06.adult", "18", "1", "a", "project choice", Low);
static BLASTS_LIMIT: Limit = limit("S06.blasts", "1", "0.1", "%", "project choice", Low);
static LYMPHOCYTES: Limit = limit("S06.lymphocytes", "80", "1", "%", "project choice", Low);

/// Chronic lymphocytic leukaemia: leukostasis is rare.
pub static LYMPHOCYTIC: Criterion = Surely(&All(&[
    AtAge(&ADULT),
    Not(&Surely(&Any(&[
        NotBelow(BLASTS, &BLASTS_LIMIT),
        Token("blasts_flagged_film"),
    ]))),
    Any(&[
        Token("lymphoma"),
        All(&[
            NotBelow(LymphocytePercent, &LYMPHOCYTES),
            Below(BLASTS, &BLASTS_LIMIT),
        ]),
    ]),
]));

const SENTENCE: &str = "Very high white cell count ({wbc}): leukostasis risk; Hb, MCV and PLT may \
                        be spurious.";

/// The rule.
pub static RULE: Watch = Watch {
    id: "S06",
    name: "Very high white cell count",
    slug: Some("leukocytosis-extreme"),
    levels: &[
        Level {
            id: "now",
            name: None,
            when: NotBelow(WBC, &NOW),
            urgency: &[(U3, Same(&LYMPHOCYTIC)), (U4, Always)],
            sentence: SENTENCE,
            remarks: &[],
        },
        Level {
            id: "today",
            name: None,
            when: NotBelow(WBC, &TODAY),
            urgency: &[(U3, Always)],
            sentence: SENTENCE,
            remarks: &[],
        },
    ],
    next: "Film and manual differential today; symptoms of leukostasis; haematology.",
    source: SOURCE,
    confidence: High,
};
