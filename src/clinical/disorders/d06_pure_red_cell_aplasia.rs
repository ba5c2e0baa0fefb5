//! D06 Pure red cell aplasia, acquired.

use crate::clinical::rule::prelude::*;

const MEANS: &str =
    "Means, Blood 2016 (reticulocytes <10); floors of the other lines are project choices";
const OURS: &str = "project choice";
static SCHOOL_AGE: Limit = limit("D06.age", "5", "1", "a", OURS, Low);
static ARC_LOW: Limit = limit("D06.arc", "10", "0.1", "10*9/L", MEANS, Medium);
static ARC_GREY: Limit = limit("D06.arc_indeterminate", "25", "0.1", "10*9/L", OURS, Low);
static PLT_KEPT: Limit = limit("D06.plt", "100", "1", "10*9/L", OURS, Low);
static ANC_KEPT: Limit = limit("D06.anc", "1.0", "0.01", "10*9/L", OURS, Low);
static MCV_FROM: Limit = limit("D06.mcv_from", "80", "0.1", "fL", OURS, Low);
static MCV_TO: Limit = limit("D06.mcv_to", "105", "0.1", "fL", OURS, Low);
static EGFR_LOW: Limit = limit("D06.egfr", "30", "1", "mL/min/{1.73_m2}", OURS, Medium);
static ADULT: Limit = limit("D06.adult", "18", "1", "a", OURS, Low);

/// The rule.
pub static RULE: Rule = Rule {
    id: "D06",
    slug: "prca-suspected",
    name: "Pure red cell aplasia, acquired",
    kind: Kind::Acquired,
    sentence: "The marrow seems to have stopped making red cells only: the anaemia comes with almost no reticulocytes while white cells and platelets are kept.",
    gate: All(&[
        AtAge(&SCHOOL_AGE),
        IsLow(Erythroid),
        Any(&[
            Optional(&Below(ARC, &ARC_LOW)),
            All(&[Optional(&Between(ARC, &ARC_LOW, &ARC_GREY)), Undecidable]),
        ]),
        NotBelow(PLT, &PLT_KEPT),
        NotBelow(ANC, &ANC_KEPT),
    ]),
    required: "Hb, reticulocytes, PLT, ANC",
    evidence: &[
        line("thymoma", 4, "thymoma", Token("thymoma")),
        line(
            "lymphoid",
            3,
            "large granular lymphocyte leukaemia, CLL or lymphoma",
            AnyToken(&["lgl", "lymphoma"]),
        ),
        line("parvovirus", 4, "parvovirus B19 proven", Token("parvo")),
        line(
            "esa",
            3,
            "current erythropoiesis-stimulating agent",
            Token("esa"),
        ),
        line(
            "abo",
            3,
            "ABO-mismatched stem cell transplant",
            Token("abo_hsct"),
        ),
        line("autoimmune", 1, "autoimmune disease", Token("autoimmune")),
        line(
            "immunosuppressed",
            1,
            "immunosuppressed",
            Token("immunosuppressed"),
        ),
        line("drug", 2, "causal drug", Token("drug_prca")),
        line(
            "marrow",
            5,
            "marrow erythroblasts <5 % with the other lines kept",
            Token("bm_erythroid_aplasia"),
        ),
        line(
            "mcv",
            1,
            "MCV 80-105 fL",
            All(&[NotBelow(MCV, &MCV_FROM), AtMost(MCV, &MCV_TO)]),
        ),
        line(
            "kidney",
            -2,
            "eGFR <30 without an erythropoiesis-stimulating agent",
            All(&[Below(EGFR, &EGFR_LOW), NotTrue("esa")]),
        ),
        line("spleen", -1, "splenomegaly", Token("splenomegaly")),
        line("young", -1, "younger than 18 years", Younger(&ADULT)),
        line(
            "microcytic",
            -2,
            "MCV below the limit for age",
            BelowRange(Analyte::Mcv),
        ),
        line(
            "haemolysis",
            -2,
            "known chronic haemolysis (aplastic crisis)",
            Token("haemolysis_known"),
        ),
        line(
            "other_lines",
            -3,
            "both other lines low",
            All(&[IsLow(Neutrophil), IsLow(Platelet)]),
        ),
    ],
    excluding: &[],
    priors: priors("- - - -1 -1 0 +1 +1"),
    caps: &[],
    labels: &[Label {
        text: "aplastic crisis",
        when: Token("haemolysis_known"),
    }],
    suffixes: &[],
    remarks: &[],
    if_missing: "Reticulocytes missing: not evaluable, a reticulocyte count is needed. 10-<25: indeterminate.",
    urgency: &[(U3, Graded(Erythroid, Grade::Severe)), (U2, Always)],
    next: "Reticulocytes again; parvovirus B19 PCR; review of drugs and erythropoiesis-stimulating agents; CT of the thorax (thymoma); T-cell receptor and flow cytometry for large granular lymphocytes; ANA; anti-erythropoietin antibodies under treatment; marrow.",
    source: MEANS,
    confidence: Medium,
};
