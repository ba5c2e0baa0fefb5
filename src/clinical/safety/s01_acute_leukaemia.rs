//! S01 Acute leukaemia suspected.

use super::s06_very_high_white_cells::LYMPHOCYTIC;
use crate::clinical::rule::prelude::*;

const WHO: &str = "WHO 5th edition and ICC 2022";
const OURS: &str = "project choice";

static ANY_BLASTS: Limit = limit("S01.blasts", "1", "0.1", "%", OURS, Low);
static MORE_BLASTS: Limit = limit("S01.blasts_more", "5", "0.1", "%", OURS, Low);
static MANY_BLASTS: Limit = limit("S01.blasts_many", "20", "0.1", "%", WHO, High);
static WBC_HIGH: Limit = limit("S01.wbc", "50", "1", "10*9/L", OURS, Low);
static WBC_30: Limit = limit("S01.wbc_with_blasts", "30", "0.1", "10*9/L", OURS, Low);
static WBC_100: Limit = limit("S01.wbc_emergency", "100", "1", "10*9/L", OURS, High);
static FIBRINOGEN_LOW: Limit = limit("S01.fibrinogen", "1.5", "0.1", "g/L", OURS, Low);
static DOWN_AGE: Limit = limit("S01.down_age", "90", "1", "d", OURS, Medium);
static NEWBORN: Limit = limit("S01.newborn", "28", "1", "d", OURS, Low);

const FIBRINOGEN: Input = Input::Of(Analyte::Fibrinogen);

static BLASTS_SEEN: Criterion = Any(&[
    Optional(&NotBelow(BLASTS, &ANY_BLASTS)),
    Token("blasts_flagged_film"),
]);

static COAGULOPATHY: Criterion = Any(&[
    Optional(&Below(FIBRINOGEN, &FIBRINOGEN_LOW)),
    Token("inr_high"),
]);

/// Few blasts that growth factor, or the first weeks of life, may explain.
static FEW_AND_EXPLAINED: Criterion = All(&[
    Between(BLASTS, &ANY_BLASTS, &MORE_BLASTS),
    Any(&[Token("gcsf_14"), Younger(&NEWBORN)]),
]);

static TRANSIENT: Criterion = All(&[Younger(&DOWN_AGE), Token("down_syndrome")]);

/// The rule.
pub static RULE: Rule = Rule {
    id: "S01",
    slug: "leukemia-alert",
    name: "Acute leukaemia suspected",
    kind: Kind::Safety,
    sentence: "Blasts reported - acute leukaemia must be considered today.",
    gate: Any(&[
        Same(&BLASTS_SEEN),
        All(&[
            Surely(&NotBelow(WBC, &WBC_HIGH)),
            Any(&[IsLow(Erythroid), IsLow(Platelet)]),
        ]),
        Doubtful(&All(&[
            Token("blast_analyser_flag"),
            Not(&Known(BLASTS)),
            NotTrue("film_reviewed"),
        ])),
        Doubtful(&All(&[
            LowLineages(2),
            Same(&COAGULOPATHY),
            NotTrue("cirrhosis"),
        ])),
    ]),
    required: "manual differential or film",
    evidence: &[
        line(
            "blasts_20",
            8,
            "blasts >=20 %",
            NotBelow(BLASTS, &MANY_BLASTS),
        ),
        line(
            "blasts_5",
            5,
            "blasts 5-<20 %",
            Between(BLASTS, &MORE_BLASTS, &MANY_BLASTS),
        ),
        line(
            "blasts_1",
            2,
            "blasts 1-<5 %",
            Between(BLASTS, &ANY_BLASTS, &MORE_BLASTS),
        ),
        line(
            "film",
            4,
            "film comment of blasts or blast equivalents, without a number",
            All(&[Token("blasts_flagged_film"), Not(&Known(BLASTS))]),
        ),
        line(
            "wbc",
            3,
            "white cells >=50 x10^9/L",
            NotBelow(WBC, &WBC_HIGH),
        ),
        line(
            "nodes",
            1,
            "lymphadenopathy or mediastinal mass",
            Token("lymphadenopathy"),
        ),
        line("spleen", 1, "hepatosplenomegaly", Token("splenomegaly")),
        line("bone_pain", 1, "bone pain", Token("bone_pain")),
        line(
            "coagulation",
            1,
            "fibrinogen <1.5 g/L or PT prolonged (APL)",
            Same(&COAGULOPATHY),
        ),
        line(
            "prior",
            1,
            "prior myelodysplasia or marrow failure",
            Token("prior_mds"),
        ),
        line(
            "growth_factor",
            -2,
            "blasts <5 % with G-CSF in the last 14 d",
            All(&[Below(BLASTS, &MORE_BLASTS), Token("gcsf_14")]),
        ),
        line(
            "down",
            -1,
            "age <90 d with Down syndrome (transient abnormal myelopoiesis)",
            Same(&TRANSIENT),
        ),
    ],
    excluding: &[],
    priors: priors("-1 0 +1 +1 +1 +1 +1 +1"),
    caps: &[],
    labels: &[Label {
        text: "TAM",
        when: Same(&TRANSIENT),
    }],
    suffixes: &[],
    remarks: &[Label {
        text: "Film review today: no manual differential was received.",
        when: Not(&Known(BLASTS)),
    }],
    if_missing: "Manual differential not done: film review today.",
    urgency: &[
        (U4, NotBelow(BLASTS, &MANY_BLASTS)),
        (
            U4,
            All(&[
                Surely(&BLASTS_SEEN),
                Any(&[LowLineages(1), NotBelow(WBC, &WBC_30)]),
                Not(&Surely(&FEW_AND_EXPLAINED)),
            ]),
        ),
        (
            U4,
            All(&[NotBelow(WBC, &WBC_100), Not(&Same(&LYMPHOCYTIC))]),
        ),
        (U3, Always),
    ],
    next: "Phone haematology now; film review; coagulation and fibrinogen (APL); urate, potassium, \
           phosphate, LDH; flow cytometry; sampling comes before steroids.",
    source: WHO,
    confidence: High,
};
