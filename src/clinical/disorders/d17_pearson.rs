//! D17 Pearson marrow-pancreas syndrome.

use crate::clinical::{mimics::m05_copper::COPPER_LOW, rule::prelude::*};

const REVIEW: &str = "Front Genet 2022, review of 139 cases; the lactate limit is a project choice";
const OURS: &str = "project choice";
static TODDLER: Limit = limit("D17.age", "3", "1", "a", REVIEW, Medium);
static LACTATE_HIGH: Limit =
    limit("D17.lactate", "2.5", "0.1", "mmol/L", OURS, Medium).or(&[in_unit("mg/dL", "22.5")]);
static ELASTASE_LOW: Limit = limit("D17.elastase", "200", "1", "ug/g", OURS, Medium);
static MCV_HIGH: Limit = limit("D17.mcv", "100", "0.1", "fL", OURS, Low);
static MCV_FROM: Limit = limit("D17.mcv_from", "61", "1", "d", OURS, Low);
static MCV_TO: Limit = limit("D17.mcv_to", "1", "1", "a", OURS, Low);

/// The rule.
pub static RULE: Rule = Rule {
    id: "D17",
    slug: "pearson-suspected",
    name: "Pearson marrow-pancreas syndrome",
    kind: Kind::Inherited,
    sentence: "Macrocytic, poorly regenerating anaemia in infancy with high lactate, poor growth or pancreatic problems fits Pearson syndrome (usually a new mitochondrial DNA deletion, not inherited).",
    gate: All(&[
        Younger(&TODDLER),
        IsLow(Erythroid),
        NotBlocking(&Not(&Reticulocytes(Retics::Regenerative))),
        Any(&[
            Optional(&Above(LACTATE, &LACTATE_HIGH)),
            Optional(&Below(ELASTASE, &ELASTASE_LOW)),
            AnyToken(&[
                "lactate_high",
                "pancreatic_insufficiency",
                "bm_vacuoles",
                "bm_ring",
                "acidosis",
                "failure_to_thrive",
                "renal_tubulopathy",
                "liver_failure",
            ]),
        ]),
    ]),
    required: "Hb and one systemic marker",
    evidence: &[
        line(
            "lactate",
            3,
            "lactate >2.5 mmol/L or reported high",
            Any(&[Above(LACTATE, &LACTATE_HIGH), Token("lactate_high")]),
        ),
        line(
            "pancreas",
            2,
            "pancreatic insufficiency or faecal elastase <200 ug/g",
            Any(&[
                Token("pancreatic_insufficiency"),
                Below(ELASTASE, &ELASTASE_LOW),
            ]),
        ),
        line(
            "vacuoles",
            4,
            "vacuolated marrow precursors",
            Token("bm_vacuoles"),
        ),
        line("ring", 3, "ring sideroblasts", Token("bm_ring")),
        line(
            "macrocytic",
            1,
            "MCV above the limit for age, or >=100 fL between day 61 and 1 year",
            Any(&[
                AboveRange(Analyte::Mcv),
                All(&[NotBelow(MCV, &MCV_HIGH), AtAge(&MCV_FROM), Younger(&MCV_TO)]),
            ]),
        ),
        line(
            "other_lines",
            1,
            "neutrophils or platelets low too",
            Any(&[IsLow(Neutrophil), IsLow(Platelet)]),
        ),
        line("thrive", 1, "failure to thrive", Token("failure_to_thrive")),
        line(
            "organs",
            1,
            "liver or renal tubular disease",
            AnyToken(&["renal_tubulopathy", "liver_failure"]),
        ),
        line("hbf", 1, "HbF high for age", Token("hbf_high")),
        line(
            "gene",
            8,
            "large deletion of mitochondrial DNA",
            Token("gene:mtDNA"),
        ),
        line(
            "copper",
            -4,
            "copper <10 umol/L",
            Below(COPPER, &COPPER_LOW),
        ),
        line(
            "eada",
            -2,
            "erythrocyte adenosine deaminase raised",
            Token("eada_high"),
        ),
        line("sbds", -4, "pathogenic SBDS variant", Token("gene:SBDS")),
        line(
            "microcytic",
            -3,
            "MCV below the limit for age",
            BelowRange(Analyte::Mcv),
        ),
    ],
    excluding: &[],
    priors: priors("-1 -1 -2 - - - - -"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Lactate missing in macrocytic anaemia of infancy: part of the work-up.",
    urgency: &[
        (U3, Any(&[Graded(Erythroid, Grade::Severe), LowLineages(2)])),
        (U2, Always),
    ],
    next: "Lactate and pyruvate, blood gas, glucose, amino and organic acids, faecal elastase; marrow with iron stain; mitochondrial DNA deletion test (blood); echocardiogram, renal tubular screen.",
    source: REVIEW,
    confidence: High,
};
