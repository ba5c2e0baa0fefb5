//! M09 Haemophagocytic lymphohistiocytosis (HLH) or macrophage activation.

use crate::clinical::{
    evaluate::{Scope, answer},
    rule::prelude::*,
};

const HLH: &str = "HLH-2004, Henter 2007";
const OURS: &str = "project choice";
static NEONATE: Limit = limit("M09.neonate", "28", "1", "d", HLH, High);
static HB_LOW: Limit = limit("M09.hb", "90", "1", "g/L", HLH, High);
static HB_LOW_NEONATE: Limit = limit("M09.hb_neonate", "100", "1", "g/L", HLH, High);
static PLT_LOW: Limit = limit("M09.plt", "100", "1", "10*9/L", HLH, High);
static ANC_LOW: Limit = limit("M09.anc", "1.0", "0.01", "10*9/L", HLH, High);
static FERRITIN_HLH: Limit = limit("M09.ferritin", "500", "1", "ug/L", HLH, High);
static FERRITIN_HIGH: Limit = limit("M09.ferritin_high", "2000", "1", "ug/L", OURS, Medium);
static FERRITIN_EXTREME: Limit = limit("M09.ferritin_extreme", "10000", "1", "ug/L", OURS, Medium);
static TG_HIGH: Limit =
    limit("M09.tg", "3.0", "0.1", "mmol/L", HLH, High).or(&[in_unit("mg/dL", "265")]);
static FIBRINOGEN_LOW: Limit = limit("M09.fib", "1.5", "0.1", "g/L", HLH, High);
static SCD25_HIGH: Limit = limit("M09.scd25", "2400", "1", "U/mL", HLH, High);
static FERRITIN_DAYS: Days = Days(limit("M09.ferritin_days", "7", "1", "d", OURS, Low));

const FERRITIN_NOW: Input = Within(Analyte::Ferritin, &FERRITIN_DAYS);

static CYTOPENIAS: Criterion = AtLeast(
    2,
    &[
        Any(&[
            All(&[AtAge(&NEONATE), Below(HB, &HB_LOW)]),
            All(&[Younger(&NEONATE), Below(HB, &HB_LOW_NEONATE)]),
        ]),
        Below(PLT, &PLT_LOW),
        Below(ANC, &ANC_LOW),
    ],
);

static FAT_OR_FIBRINOGEN: Criterion = Any(&[
    NotBelow(Input::Of(Analyte::Triglycerides), &TG_HIGH),
    AtMost(Input::Of(Analyte::Fibrinogen), &FIBRINOGEN_LOW),
]);

/// The items of HLH-2004.
static ITEMS: [(&str, Criterion); 8] = [
    ("fever", Token("fever")),
    ("splenomegaly", Token("splenomegaly")),
    ("two low lines", Same(&CYTOPENIAS)),
    ("triglycerides or fibrinogen", Same(&FAT_OR_FIBRINOGEN)),
    ("haemophagocytosis", Token("haemophagocytosis")),
    ("natural killer activity", Token("nk_absent")),
    ("ferritin", NotBelow(FERRITIN_NOW, &FERRITIN_HLH)),
    (
        "soluble CD25",
        NotBelow(Input::Of(Analyte::SolubleCd25), &SCD25_HIGH),
    ),
];

/// How many of the eight items are met, and which are not known.
pub fn items(context: &Context<'_>) -> String {
    let of = |asked: Truth| -> Vec<&str> {
        ITEMS
            .iter()
            .filter(|(_, when)| answer(when, context, Scope::PLAIN).truth == asked)
            .map(|(name, _)| *name)
            .collect()
    };
    let (met, open) = (of(Truth::True), of(Truth::Unknown));
    let mut text = format!("HLH-2004: {} of 8 items ({})", met.len(), met.join(", "));
    if !open.is_empty() {
        text.push_str("; not known: ");
        text.push_str(&open.join(", "));
    }
    text.push('.');
    text
}

/// The rule.
pub static RULE: Rule = Rule {
    id: "M09",
    slug: "mimic-hlh",
    name: "Haemophagocytic lymphohistiocytosis (HLH) or macrophage activation",
    kind: Kind::Mimic,
    sentence: "Low counts with very high ferritin, fever or a large spleen may be a hyper-inflammatory emergency rather than marrow failure.",
    gate: All(&[
        Same(&CYTOPENIAS),
        Any(&[
            Optional(&NotBelow(FERRITIN_NOW, &FERRITIN_HIGH)),
            All(&[
                Optional(&NotBelow(FERRITIN_NOW, &FERRITIN_HLH)),
                AnyToken(&["fever", "splenomegaly", "haemophagocytosis"]),
            ]),
            All(&[
                Token("fever"),
                Token("splenomegaly"),
                NotBelow(FERRITIN_NOW, &FERRITIN_HLH),
            ]),
        ]),
    ]),
    required: "CBC, ferritin, temperature, spleen",
    evidence: &[
        line(
            "ferritin_extreme",
            4,
            "ferritin >=10 000 ug/L",
            NotBelow(FERRITIN_NOW, &FERRITIN_EXTREME),
        ),
        line(
            "ferritin_high",
            3,
            "ferritin 2000-<10 000 ug/L",
            Between(FERRITIN_NOW, &FERRITIN_HIGH, &FERRITIN_EXTREME),
        ),
        line(
            "ferritin_raised",
            1,
            "ferritin 500-<2000 ug/L",
            Between(FERRITIN_NOW, &FERRITIN_HLH, &FERRITIN_HIGH),
        ),
        line("fever", 2, "fever", Token("fever")),
        line("spleen", 2, "splenomegaly", Token("splenomegaly")),
        line(
            "fat_fibrinogen",
            2,
            "triglycerides >=3.0 mmol/L or fibrinogen <=1.5 g/L",
            Same(&FAT_OR_FIBRINOGEN),
        ),
        line(
            "scd25",
            2,
            "soluble CD25 >=2400 U/mL",
            NotBelow(Input::Of(Analyte::SolubleCd25), &SCD25_HIGH),
        ),
        line(
            "haemophagocytosis",
            3,
            "haemophagocytosis reported",
            Token("haemophagocytosis"),
        ),
        line(
            "nk",
            1,
            "natural killer activity absent",
            Token("nk_absent"),
        ),
        line(
            "trigger",
            1,
            "EBV, CMV, leishmania or lymphoma as trigger",
            AnyToken(&["ebv", "cmv", "leishmania", "lymphoma"]),
        ),
        line(
            "transfused",
            -3,
            "transfusion-dependent with ferritin <10 000 ug/L",
            All(&[
                Token("transfusion_dependent"),
                Below(FERRITIN_NOW, &FERRITIN_EXTREME),
            ]),
        ),
        line(
            "suppression",
            -2,
            "expected suppression after treatment",
            Gate("M02"),
        ),
    ],
    excluding: &[excludes(
        "ferritin",
        "ferritin <500 ug/L",
        Below(FERRITIN_NOW, &FERRITIN_HLH),
    )],
    priors: priors("0 0 0 0 0 0 0 0"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Ferritin not sent with fever and splenomegaly: indeterminate. The eight HLH-2004 items are listed as far as known.",
    urgency: &[
        (
            U4,
            Any(&[
                AnyToken(&["fever", "splenomegaly", "haemophagocytosis"]),
                NotBelow(FERRITIN_NOW, &FERRITIN_EXTREME),
            ]),
        ),
        (U3, Always),
    ],
    next: "Ferritin, triglycerides, fibrinogen, LFT, soluble CD25, EBV and CMV PCR, blood cultures, marrow; haematology the same day.",
    source: "HLH-2004, Henter 2007; ferritin alone is not specific in adults (Schram, Blood 2015; La Rosee, Blood 2019: source to confirm)",
    confidence: High,
};
