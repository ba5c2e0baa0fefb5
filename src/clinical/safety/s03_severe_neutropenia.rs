//! S03 Severe neutropenia without known fever.

use super::{FEVER, NOT_COUNTED};
use crate::clinical::{patterns::EXPECTED_SUPPRESSION, rule::prelude::*};

static ANC_LIMIT: Limit = limit("S03.anc", "0.5", "0.01", "10*9/L", "EHA/EuNet 2023", High);
static WBC_LIMIT: Limit = limit("S03.wbc", "1.0", "0.01", "10*9/L", "project choice", Low);
static WBC_FEVER: Limit = limit(
    "S03.wbc_fever",
    "2.0",
    "0.01",
    "10*9/L",
    "project choice",
    Low,
);

/// The rule.
pub static RULE: Watch = Watch {
    id: "S03",
    name: "Severe neutropenia",
    slug: Some("neutropenia"),
    levels: &[Level {
        id: "anc",
        name: None,
        when: All(&[
            Not(&Surely(&Fired("S02"))),
            Any(&[
                Below(ANC, &ANC_LIMIT),
                All(&[
                    Same(&NOT_COUNTED),
                    Any(&[
                        Below(WBC, &WBC_LIMIT),
                        All(&[Below(WBC, &WBC_FEVER), Same(&FEVER)]),
                    ]),
                ]),
            ]),
        ]),
        urgency: &[
            (
                U2,
                All(&[
                    Any(&[Same(&EXPECTED_SUPPRESSION), Token("known_stable_N")]),
                    Not(&Surely(&FEVER)),
                ]),
            ),
            (U3, Always),
        ],
        sentence: "Severe neutropenia: check temperature, give fever advice.",
        remarks: &[
            Label {
                text: "Temperature not received.",
                when: Undecided(&FEVER),
            },
            Label {
                text: "Differential not received.",
                when: Same(&NOT_COUNTED),
            },
        ],
    }],
    next: "Temperature; fever advice; repeat with a manual differential in 24-72 h.",
    source: "EHA/EuNet-INNOCHRON 2023",
    confidence: High,
};
