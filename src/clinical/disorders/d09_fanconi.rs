//! D09 Fanconi anaemia.

use crate::clinical::rule::prelude::*;

const FARF: &str = "FARF care guidelines; BSH AA 2024; scoring is a project choice";
const OURS: &str = "project choice";
static AGE_MAX: Limit = limit("D09.age", "50", "1", "a", FARF, Medium);
static SCREENING_AGE: Limit = limit("D09.screening_age", "40", "1", "a", OURS, Low);
static MIDPOINT: Limit = limit("D09.mcv_midpoint", "0", "0.1", "fL", OURS, Low);

/// The rule.
pub static RULE: Rule = Rule {
    id: "D09",
    slug: "fanconi-suspected",
    name: "Fanconi anaemia",
    kind: Kind::Inherited,
    sentence: "Low counts in a young person, with or without physical differences, should trigger a chromosome breakage test because Fanconi anaemia changes treatment choice and donor selection.",
    gate: All(&[
        Younger(&AGE_MAX),
        Any(&[
            Optional(&IsLow(Platelet)),
            Optional(&IsLow(Neutrophil)),
            Optional(&LowLineages(2)),
            Optional(&AboveRange(Analyte::Mcv)),
        ]),
        Any(&[
            AnyToken(&[
                "thumb_radial_anomaly",
                "cafe_au_lait",
                "pigment_change",
                "short_stature",
                "microcephaly",
                "renal_gu_anomaly",
                "family_bmf",
                "consanguinity",
                "breakage_positive",
            ]),
            All(&[Token("absent_radii"), Token("thumbs_absent")]),
            All(&[
                LowLineages(2),
                Younger(&SCREENING_AGE),
                NotBlocking(&Not(&Reticulocytes(Retics::Regenerative))),
            ]),
        ]),
    ]),
    required: "CBC and recorded conditions",
    evidence: &[
        line(
            "thumb",
            3,
            "thumb or radial ray anomaly",
            Any(&[
                Token("thumb_radial_anomaly"),
                All(&[Token("absent_radii"), Token("thumbs_absent")]),
            ]),
        ),
        line(
            "skin",
            2,
            "cafe-au-lait spots or pigment change",
            AnyToken(&["cafe_au_lait", "pigment_change"]),
        ),
        line("stature", 2, "short stature", Token("short_stature")),
        line("microcephaly", 1, "microcephaly", Token("microcephaly")),
        line(
            "kidney",
            1,
            "renal or urogenital anomaly",
            Token("renal_gu_anomaly"),
        ),
        line(
            "macrocytic",
            2,
            "MCV above the limit for age",
            AboveRange(Analyte::Mcv),
        ),
        line("hbf", 1, "HbF high for age", Token("hbf_high")),
        line(
            "family",
            1,
            "marrow failure in the family or consanguinity",
            AnyToken(&["family_bmf", "consanguinity"]),
        ),
        line("platelets", 1, "platelets low", IsLow(Platelet)),
        line(
            "toxicity",
            3,
            "severe toxicity from chemotherapy or radiotherapy",
            Token("chemo_hypersensitivity"),
        ),
        line(
            "cancer",
            3,
            "squamous cancer before 50 or AML/MDS before 40 years",
            AnyToken(&["scc_young", "aml_young"]),
        ),
        line(
            "breakage",
            8,
            "chromosome breakage (DEB/MMC) positive",
            Token("breakage_positive"),
        ),
        line("gene", 6, "biallelic FANC variants", Token("gene:FANC")),
        line(
            "breakage_negative",
            -6,
            "chromosome breakage negative in lymphocytes",
            Refuted("breakage_positive"),
        ),
        line(
            "small_cells",
            -1,
            "two or more lines low with MCV below the middle for age",
            All(&[LowLineages(2), Below(Input::McvFromMidpoint, &MIDPOINT)]),
        ),
    ],
    excluding: &[],
    priors: priors("-2 -2 -1 0 -1 -2 -3 -"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Conditions not sent are unknown, not absent: about a third of patients have no anomaly.",
    urgency: &[(U2, Always)],
    next: "DEB/MMC chromosome breakage on blood (fibroblasts if mosaicism is suspected); FANC gene panel; avoidance of alkylators and irradiation until the result; testing of siblings.",
    source: FARF,
    confidence: High,
};
