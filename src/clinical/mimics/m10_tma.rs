//! M10 Thrombotic microangiopathy (TTP, HUS).

use crate::clinical::rule::prelude::*;

use super::m04_b12_folate::B12_LOW;

const ISTH: &str = "ISTH 2020 TTP; PLASMIC 2017";
const OURS: &str = "project choice";
static PLT_LOW: Limit = limit("M10.plt", "100", "1", "10*9/L", ISTH, High);
static LDH_HIGH: Limit = limit("M10.ldh", "1.5", "0.1", "1", OURS, Medium);
static LDH_VERY_HIGH: Limit = limit("M10.ldh_very_high", "2", "0.1", "1", OURS, Low);
static HAPTO_LOW: Limit = limit("M10.hapto", "0.3", "0.01", "g/L", OURS, Medium);
static ARC_HIGH: Limit = limit("M10.arc", "100", "1", "10*9/L", OURS, Medium);
static PLT_VERY_LOW: Limit = limit("M10.plt_very_low", "30", "1", "10*9/L", ISTH, High);
static ADAMTS_LOW: Limit = limit("M10.adamts13", "10", "1", "%", ISTH, High);
static CHILD: Limit = limit("M10.child", "18", "1", "a", OURS, Medium);
static MCV_HIGH: Limit = limit("M10.mcv", "105", "0.1", "fL", OURS, Low);
static CLONE: Limit = limit("M10.pnh", "10", "0.1", "%", OURS, Low);

/// Signs of microangiopathy while neither film nor LDH was sent.
static SIGNS_WITHOUT_TESTS_ASKED: Criterion = All(&[
    AnyToken(&["neuro_signs", "aki"]),
    Undecided(&Blocking(&Token("schistocytes"))),
    Not(&Known(Input::Of(Analyte::Ldh))),
]);

/// The same, as a gate arm that nobody can decide.
static SIGNS_WITHOUT_TESTS: Criterion = All(&[
    Same(&SIGNS_WITHOUT_TESTS_ASKED),
    Blocking(&NotBelow(LDH_X, &LDH_HIGH)),
]);

/// The rule.
pub static RULE: Rule = Rule {
    id: "M10",
    slug: "mimic-tma",
    name: "Thrombotic microangiopathy (TTP, HUS)",
    kind: Kind::Mimic,
    sentence: "Low platelets with signs of red cell fragmentation can be TTP or HUS, which need treatment within hours.",
    gate: All(&[
        Below(PLT, &PLT_LOW),
        IsLow(Erythroid),
        Any(&[
            Token("schistocytes"),
            All(&[
                Optional(&NotBelow(LDH_X, &LDH_HIGH)),
                Any(&[Below(HAPTOGLOBIN, &HAPTO_LOW), NotBelow(ARC, &ARC_HIGH)]),
            ]),
            Same(&SIGNS_WITHOUT_TESTS),
        ]),
    ]),
    required: "PLT, Hb, film or LDH",
    evidence: &[
        line(
            "schistocytes",
            4,
            "red cell fragments on the film",
            Token("schistocytes"),
        ),
        line("kidney", 2, "acute kidney injury", Token("aki")),
        line(
            "neurology",
            2,
            "acute neurological signs",
            Token("neuro_signs"),
        ),
        line(
            "platelets",
            2,
            "platelets <30 x10^9/L",
            Below(PLT, &PLT_VERY_LOW),
        ),
        line(
            "ldh",
            1,
            "LDH >=2x upper limit",
            NotBelow(LDH_X, &LDH_VERY_HIGH),
        ),
        line(
            "haptoglobin",
            1,
            "haptoglobin <0.3 g/L",
            Below(HAPTOGLOBIN, &HAPTO_LOW),
        ),
        DAT_NEGATIVE,
        line(
            "adamts13_low",
            8,
            "ADAMTS13 activity <10 %",
            Below(Input::Of(Analyte::Adamts13), &ADAMTS_LOW),
        ),
        line(
            "diarrhoea",
            1,
            "bloody diarrhoea in a child",
            All(&[Token("diarrhoea_bloody"), Younger(&CHILD)]),
        ),
        line(
            "adamts13_kept",
            -3,
            "ADAMTS13 activity >=10 % (argues against TTP, not against other microangiopathy)",
            NotBelow(Input::Of(Analyte::Adamts13), &ADAMTS_LOW),
        ),
        line(
            "dat_positive",
            -4,
            "direct antiglobulin test positive",
            Token("dat_positive"),
        ),
        line(
            "macrocytic",
            -3,
            "MCV >105 fL without regenerative reticulocytes (B12 lack can imitate TTP)",
            All(&[
                Above(MCV, &MCV_HIGH),
                Not(&Reticulocytes(Retics::Regenerative)),
            ]),
        ),
        line("b12", -3, "B12 <148 pmol/L", Below(B12, &B12_LOW)),
        line("coagulation", -2, "INR prolonged (DIC)", Token("inr_high")),
        line("pnh", -3, "PNH clone >=10 %", NotBelow(PNH, &CLONE)),
    ],
    excluding: &[],
    priors: priors("-1 0 +1 +1 0 +1 +1 0"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[Label {
        text: "Film and LDH now.",
        when: Same(&SIGNS_WITHOUT_TESTS_ASKED),
    }],
    if_missing: "Film not done: film for fragments now.",
    urgency: &[(U4, Always)],
    next: "Film now; LDH, haptoglobin, creatinine, coagulation, DAT, ADAMTS13 before plasma; B12; call haematology and nephrology.",
    source: ISTH,
    confidence: High,
};
