//! Count patterns (4.1): at most one of C0 to C5, then C6 to C9.

pub mod c0_incomplete;
pub mod c1_pancytopenia;
pub mod c2_bicytopenia;
pub mod c3_anaemia;
pub mod c4_neutropenia;
pub mod c5_thrombocytopenia;
pub mod c6_macrocytosis;
pub mod c7_infant_lymphopenia;
pub mod c8_monocytopenia;
pub mod c9_leucopenia;

use super::rule::prelude::*;

/// C0 to C5 in the order in which the first that fits is taken.
pub static MAIN: &[&Watch] = &[
    &c1_pancytopenia::RULE,
    &c2_bicytopenia::RULE,
    &c2_bicytopenia::AT_LEAST,
    &c3_anaemia::HYPOPROLIFERATIVE,
    &c3_anaemia::REGENERATIVE,
    &c3_anaemia::INTERMEDIATE,
    &c3_anaemia::UNKNOWN,
    &c4_neutropenia::RULE,
    &c5_thrombocytopenia::RULE,
    &c0_incomplete::ERYTHROID,
    &c0_incomplete::NEUTROPHIL,
    &c0_incomplete::PLATELET,
];

/// C6 to C9: each by itself.
pub static FURTHER: &[&Watch] = &[
    &c6_macrocytosis::RULE,
    &c7_infant_lymphopenia::RULE,
    &c8_monocytopenia::RULE,
    &c9_leucopenia::RULE,
];

const OURS: &str = "project choice";

static SEVERE_ANC: Limit = limit("C.severe_anc", "0.5", "0.01", "10*9/L", OURS, High);
static SEVERE_PLT: Limit = limit("C.severe_plt", "20", "1", "10*9/L", OURS, High);

/// Very low counts: haemoglobin grade severe, ANC <0.5 or platelets <20.
pub static VERY_LOW: Criterion = Any(&[
    Graded(Erythroid, Grade::Severe),
    Below(ANC, &SEVERE_ANC),
    Below(PLT, &SEVERE_PLT),
]);

/// The M02 exception: suppression that is expected after chemotherapy, radiotherapy or a
/// transplant. Very low counts are expected only in the first weeks.
pub static EXPECTED_SUPPRESSION: Criterion = Surely(&All(&[
    Gate("M02"),
    Any(&[Token("chemo_21"), Token("hsct_28"), Not(&Surely(&VERY_LOW))]),
]));

static NEWBORN_PLT: Limit = limit("C5.newborn_plt", "50", "1", "10*9/L", OURS, Low);
static NEWBORN: Limit = limit("C5.newborn", "28", "1", "d", OURS, Low);

/// Few platelets in the first weeks of life: urgent whatever else is low.
static NEWBORN_PLATELETS: Criterion = All(&[Younger(&NEWBORN), Below(PLT, &NEWBORN_PLT)]);

/// Urgency of two and three low lineages.
pub static SEVERAL_LOW: &[(Urgency, Criterion)] = &[
    (U3, Same(&NEWBORN_PLATELETS)),
    (
        U3,
        All(&[Surely(&VERY_LOW), Not(&Same(&EXPECTED_SUPPRESSION))]),
    ),
    (U2, Surely(&VERY_LOW)),
    (U1, Token("known_stable")),
    (U2, Always),
];

/// Urgency of isolated anaemia.
pub static ANAEMIA: &[(Urgency, Criterion)] = &[
    (
        U2,
        All(&[
            Graded(Erythroid, Grade::Severe),
            Any(&[Same(&EXPECTED_SUPPRESSION), Token("known_stable_E")]),
        ]),
    ),
    (U3, Graded(Erythroid, Grade::Severe)),
    (U2, Graded(Erythroid, Grade::Moderate)),
    (U1, Always),
];

/// Urgency of isolated neutropenia.
pub static NEUTROPENIA: &[(Urgency, Criterion)] = &[
    (
        U2,
        All(&[
            Graded(Neutrophil, Grade::Severe),
            Any(&[Same(&EXPECTED_SUPPRESSION), Token("known_stable_N")]),
        ]),
    ),
    (U3, Graded(Neutrophil, Grade::Severe)),
    (U2, Graded(Neutrophil, Grade::Moderate)),
    // Bounded only, by white cells or a comparator: it may be moderate or worse.
    (U2, Undecided(&Graded(Neutrophil, Grade::Moderate))),
    (U0, Surely(&DuffyNull)),
    (U1, Always),
];

/// Urgency of isolated thrombocytopenia.
pub static THROMBOCYTOPENIA: &[(Urgency, Criterion)] = &[
    (U3, Graded(Platelet, Grade::Critical)),
    (U3, Same(&NEWBORN_PLATELETS)),
    (
        U2,
        All(&[
            Graded(Platelet, Grade::VerySevere),
            Any(&[Same(&EXPECTED_SUPPRESSION), Token("known_stable_P")]),
        ]),
    ),
    (U3, Graded(Platelet, Grade::VerySevere)),
    (U2, Graded(Platelet, Grade::Severe)),
    (U1, Always),
];
