//! M17 VEXAS syndrome.

use crate::clinical::rule::prelude::*;

const OBIORAH: &str = "Obiorah, Blood Adv 2021;5:3203";
const OURS: &str = "project choice";
static OLD_ENOUGH: Limit = limit("M17.age", "45", "1", "a", OURS, Medium);
static MCV_GATE: Limit = limit("M17.mcv", "98", "0.1", "fL", OURS, Medium);
static CRP_HIGH: Limit = limit("M17.crp", "20", "0.1", "mg/L", OURS, Low);
static MCV_HIGH: Limit = limit("M17.mcv_high", "100", "0.1", "fL", OURS, Low);
static ALC_LOW: Limit = limit("M17.alc", "1.0", "0.01", "10*9/L", OBIORAH, Medium);

/// The rule.
pub static RULE: Rule = Rule {
    id: "M17",
    slug: "vexas-suspected",
    name: "VEXAS syndrome",
    kind: Kind::Clonal,
    sentence: "Macrocytic anaemia with unexplained inflammation in an older man fits VEXAS syndrome, an acquired UBA1 disorder often with MDS.",
    gate: All(&[
        OfSex(Sex::Male),
        AtAge(&OLD_ENOUGH),
        IsLow(Erythroid),
        NotBelow(MCV, &MCV_GATE),
        Any(&[
            Optional(&Above(CRP, &CRP_HIGH)),
            AnyToken(&["chondritis", "sweet", "scleritis", "inflammatory_phenotype"]),
        ]),
    ]),
    required: "sex, Hb, MCV, CRP",
    evidence: &[
        line(
            "chondritis",
            3,
            "relapsing polychondritis or chondritis",
            Token("chondritis"),
        ),
        line(
            "sweet",
            2,
            "Sweet syndrome or other neutrophilic dermatosis",
            Token("sweet"),
        ),
        line(
            "inflammation",
            1,
            "scleritis or other inflammatory feature",
            AnyToken(&["scleritis", "inflammatory_phenotype"]),
        ),
        line("crp", 1, "CRP >20 mg/L", Above(CRP, &CRP_HIGH)),
        line("macrocytic", 2, "MCV >=100 fL", NotBelow(MCV, &MCV_HIGH)),
        line(
            "lymphocytes",
            1,
            "lymphocytes <1.0 x10^9/L",
            Below(ALC, &ALC_LOW),
        ),
        line(
            "vacuoles",
            3,
            "vacuolated precursors in the marrow",
            Token("bm_vacuoles"),
        ),
        line(
            "gene",
            8,
            "UBA1 p.Met41 or splice variant",
            Token("gene:UBA1"),
        ),
    ],
    excluding: &[],
    priors: priors("- - - - - - 0 +1"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Sex unknown: indeterminate.",
    urgency: &[(U2, Always)],
    next: "UBA1 sequencing (blood); marrow; B12 and folate; rheumatology.",
    source: OBIORAH,
    confidence: High,
};
