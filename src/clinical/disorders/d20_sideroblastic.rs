//! D20 Sideroblastic anaemia.

use crate::clinical::{mimics::m05_copper::COPPER_LOW, rule::prelude::*};

const WHO: &str = "WHO/ICC 2022 (15 %, or 5 % with SF3B1); the iron limits are project choices";
const OURS: &str = "project choice";
static RING: Limit = limit("D20.ring", "15", "1", "%", WHO, High);
static TSAT_HIGH: Limit = limit("D20.tsat", "45", "1", "%", OURS, Medium);
static FERRITIN_HIGH: Limit = limit("D20.ferritin", "300", "1", "ug/L", OURS, Medium);
static RDW_HIGH: Limit = limit("D20.rdw", "15", "0.1", "%", OURS, Low);
static OLDER: Limit = limit("D20.older", "60", "1", "a", OURS, Low);
static MCV_HIGH: Limit = limit("D20.mcv", "100", "0.1", "fL", OURS, Low);
static FERRITIN_LOW: Limit = limit("D20.ferritin_low", "30", "1", "ug/L", OURS, Medium);
static CRP_HIGH: Limit = limit("D20.crp", "10", "0.1", "mg/L", OURS, Medium);

/// Ring sideroblasts, by number or as reported.
static RINGS: Criterion = Any(&[
    Token("bm_ring"),
    Optional(&NotBelow(Input::Of(Analyte::RingSideroblasts), &RING)),
]);

/// The rule.
pub static RULE: Rule = Rule {
    id: "D20",
    slug: "sideroblastic-suspected",
    name: "Sideroblastic anaemia",
    kind: Kind::Inherited,
    sentence: "Iron is plentiful but is not being used properly to make haemoglobin, which is the hallmark of sideroblastic anaemia.",
    gate: All(&[
        IsLow(Erythroid),
        Any(&[
            Same(&RINGS),
            Token("dimorphic"),
            All(&[
                Optional(&BelowRange(Analyte::Mcv)),
                Any(&[
                    Optional(&NotBelow(TSAT, &TSAT_HIGH)),
                    Optional(&Above(FERRITIN, &FERRITIN_HIGH)),
                ]),
            ]),
        ]),
    ]),
    required: "Hb, MCV, iron studies or marrow",
    evidence: &[
        line("rings", 5, "ring sideroblasts >=15 %", Same(&RINGS)),
        line("sf3b1", 4, "SF3B1 mutation", Token("gene:SF3B1")),
        line(
            "iron_microcytic",
            3,
            "MCV low with transferrin saturation >=45 %, no red cell transfusion recorded",
            All(&[
                BelowRange(Analyte::Mcv),
                NotBelow(TSAT, &TSAT_HIGH),
                NotTrue("rbc_transfusion_120d"),
                NotTrue("transfusion_dependent"),
            ]),
        ),
        line("rdw", 1, "RDW >15 %", Above(RDW, &RDW_HIGH)),
        line(
            "film",
            2,
            "dimorphic film or Pappenheimer bodies",
            Token("dimorphic"),
        ),
        line(
            "drug",
            2,
            "isoniazid, linezolid or chloramphenicol",
            Token("drug_sidero"),
        ),
        line("alcohol", 2, "harmful alcohol use", Token("alcohol")),
        line(
            "copper",
            3,
            "copper <10 umol/L (secondary form)",
            Below(COPPER, &COPPER_LOW),
        ),
        line(
            "gene",
            6,
            "pathogenic variant of ALAS2 or a related gene",
            Token("gene:ALAS2"),
        ),
        line(
            "clonal_age",
            1,
            "60 years or older with MCV >100 fL",
            All(&[AtAge(&OLDER), Above(MCV, &MCV_HIGH)]),
        ),
        line(
            "iron_low",
            -5,
            "ferritin <30 ug/L",
            Below(FERRITIN, &FERRITIN_LOW),
        ),
        line(
            "thalassaemia",
            -4,
            "thalassaemia or other haemoglobinopathy",
            Token("haemoglobinopathy"),
        ),
        line(
            "crp",
            -2,
            "CRP >10 mg/L (ferritin unreliable)",
            Above(CRP, &CRP_HIGH),
        ),
    ],
    excluding: &[],
    priors: priors("- -1 -1 -1 -1 -1 0 +1"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Iron studies missing with microcytosis: iron deficiency is looked for first.",
    urgency: &[(U3, Graded(Erythroid, Grade::Severe)), (U2, Always)],
    next: "Film; ferritin and transferrin saturation; lead; copper and zinc; drug and alcohol review; marrow iron stain; SF3B1; ALAS2, SLC25A38; pyridoxine trial under a specialist.",
    source: WHO,
    confidence: High,
};
