//! M04 Vitamin B12 or folate deficiency.

use crate::clinical::{patterns::VERY_LOW, rule::prelude::*};

const BSH: &str = "BSH cobalamin/folate 2014; NICE NG239 2024; Blood 2014;124:1844";
const OURS: &str = "project choice";
/// B12 below this is a lack.
pub static B12_LOW: Limit = limit("M04.b12", "148", "1", "pmol/L", BSH, Medium)
    .or(&[in_unit("pg/mL", "200"), in_unit("ng/L", "200")]);
static B12_VERY_LOW: Limit = limit("M04.b12_deficient", "133", "1", "pmol/L", BSH, High)
    .or(&[in_unit("pg/mL", "180"), in_unit("ng/L", "180")]);
static B12_BORDERLINE: Limit = limit("M04.b12_borderline", "221", "1", "pmol/L", BSH, Medium)
    .or(&[in_unit("pg/mL", "300"), in_unit("ng/L", "300")]);
/// Folate below this is a lack.
pub static FOLATE_LOW: Limit = limit("M04.folate", "7", "0.1", "nmol/L", BSH, High)
    .or(&[in_unit("ng/mL", "3"), in_unit("ug/L", "3")]);
static MCV_VERY_HIGH: Limit = limit("M04.mcv", "115", "0.1", "fL", OURS, Low);
static LDH_HIGH: Limit = limit("M04.ldh", "1.5", "0.1", "1", OURS, Low);

/// The rule.
pub static RULE: Rule = Rule {
    id: "M04",
    slug: "mimic-b12-folate",
    name: "Vitamin B12 or folate deficiency",
    kind: Kind::Mimic,
    sentence: "B12 or folate lack stops all three cell lines from maturing and is fully reversible; it can look like MDS, leukaemia or TTP.",
    gate: All(&[
        Any(&[
            Optional(&LowLineages(1)),
            Optional(&AboveRange(Analyte::Mcv)),
        ]),
        Any(&[
            Optional(&Below(B12, &B12_LOW)),
            Optional(&Below(FOLATE, &FOLATE_LOW)),
            All(&[Surely(&AboveRange(Analyte::Mcv)), Below(B12, &B12_LOW)]),
        ]),
    ]),
    required: "B12, folate, MCV",
    evidence: &[
        line(
            "b12_deficient",
            6,
            "B12 <133 pmol/L",
            Below(B12, &B12_VERY_LOW),
        ),
        line(
            "b12_low",
            4,
            "B12 133-<148 pmol/L",
            Between(B12, &B12_VERY_LOW, &B12_LOW),
        ),
        line(
            "b12_borderline",
            2,
            "B12 148-<221 pmol/L (borderline: methylmalonic acid or holotranscobalamin)",
            Between(B12, &B12_LOW, &B12_BORDERLINE),
        ),
        line("folate", 5, "folate <7 nmol/L", Below(FOLATE, &FOLATE_LOW)),
        line(
            "macrocytic",
            2,
            "MCV above the limit for age",
            AboveRange(Analyte::Mcv),
        ),
        line(
            "very_macrocytic",
            1,
            "MCV >115 fL",
            Above(MCV, &MCV_VERY_HIGH),
        ),
        line(
            "film",
            2,
            "hypersegmented neutrophils or oval macrocytes",
            Token("hypersegmented"),
        ),
        line(
            "ldh",
            1,
            "LDH >=1.5x upper limit without regenerative reticulocytes",
            All(&[
                NotBelow(LDH_X, &LDH_HIGH),
                Not(&Reticulocytes(Retics::Regenerative)),
            ]),
        ),
        line(
            "risk",
            1,
            "diet, stomach, ileum or medicine that lowers B12",
            Token("b12_risk"),
        ),
    ],
    excluding: &[excludes(
        "both_normal",
        "B12 >=221 pmol/L and folate >=7 nmol/L",
        All(&[
            NotBelow(B12, &B12_BORDERLINE),
            NotBelow(FOLATE, &FOLATE_LOW),
        ]),
    )],
    priors: priors("-1 +1 +1 0 +1 +1 +1 +2"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "MCV above the limit and B12 not sent: indeterminate.",
    urgency: &[(U3, Same(&VERY_LOW)), (U2, Always)],
    next: "B12, methylmalonic acid and homocysteine or holotranscobalamin, folate, intrinsic factor antibodies; discuss replacement before a marrow examination unless blasts are seen; repeat CBC 1-2 weeks after replacement (reticulocytes rise on days 5-7).",
    source: BSH,
    confidence: High,
};
