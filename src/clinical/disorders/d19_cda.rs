//! D19 Congenital dyserythropoietic anaemia.

use crate::clinical::{
    mimics::m04_b12_folate::{B12_LOW, FOLATE_LOW},
    rule::prelude::*,
};

const IOLASCON: &str = "Iolascon, Blood 2020";
const OURS: &str = "project choice";
static BILI_HIGH: Limit = limit("D19.bili", "20", "1", "umol/L", OURS, Low);
static HAPTO_LOW: Limit = limit("D19.hapto", "0.3", "0.01", "g/L", OURS, Medium);
static ULN: Limit = limit("D19.uln", "1", "0.1", "1", OURS, Medium);
static TSAT_HIGH: Limit = limit("D19.tsat", "45", "1", "%", OURS, Medium);

const INDIRECT_BILIRUBIN: Input = Input::Of(Analyte::BilirubinIndirect);

/// Iron overload by number, not explained by transfusion.
static IRON_LOADED: Criterion = All(&[
    NotTrue("rbc_transfusion_120d"),
    NotTrue("transfusion_dependent"),
    Any(&[
        Optional(&Above(TSAT, &TSAT_HIGH)),
        Optional(&Above(TimesUpperLimit(Analyte::Ferritin), &ULN)),
    ]),
]);

/// The rule.
pub static RULE: Rule = Rule {
    id: "D19",
    slug: "cda-suspected",
    name: "Congenital dyserythropoietic anaemia",
    kind: Kind::Inherited,
    sentence: "Anaemia with signs of red cell destruction but too few reticulocytes suggests that red cells are dying inside the marrow.",
    gate: All(&[
        OnlyLow(Erythroid),
        Any(&[
            Reticulocytes(Retics::Inadequate),
            Reticulocytes(Retics::Intermediate),
        ]),
        Any(&[
            Optional(&Above(INDIRECT_BILIRUBIN, &BILI_HIGH)),
            Optional(&Below(HAPTOGLOBIN, &HAPTO_LOW)),
            Optional(&Above(LDH_X, &ULN)),
            AnyToken(&["splenomegaly", "jaundice", "gallstones", "iron_overload"]),
            Optional(&IRON_LOADED),
        ]),
    ]),
    required: "Hb, reticulocytes, one marker of haemolysis",
    evidence: &[
        line(
            "lifelong",
            2,
            "anaemia since childhood or for 2 years",
            Token("lifelong_anaemia"),
        ),
        line(
            "jaundice",
            1,
            "jaundice or indirect bilirubin >20 umol/L",
            Any(&[Token("jaundice"), Above(INDIRECT_BILIRUBIN, &BILI_HIGH)]),
        ),
        line("spleen", 1, "splenomegaly", Token("splenomegaly")),
        line("gallstones", 1, "gallstones", Token("gallstones")),
        line(
            "iron",
            2,
            "iron overload without recorded red cell transfusion",
            Any(&[Same(&IRON_LOADED), Token("iron_overload")]),
        ),
        line(
            "macrocytic",
            1,
            "MCV above the limit for age",
            AboveRange(Analyte::Mcv),
        ),
        line(
            "binucleate",
            5,
            "binucleate erythroblasts or internuclear bridges in the marrow",
            Token("bm_binucleate"),
        ),
        line(
            "gene",
            6,
            "pathogenic variant of a CDA gene",
            Token("gene:CDA"),
        ),
        DAT_NEGATIVE,
        line(
            "family",
            1,
            "sibling affected or consanguinity",
            AnyToken(&["family_bmf", "consanguinity"]),
        ),
        line(
            "dat_positive",
            -5,
            "direct antiglobulin test positive",
            Token("dat_positive"),
        ),
        line(
            "haemoglobin",
            -4,
            "thalassaemia, sickle cell or HbE disease, or HbA2 >3.5 %",
            AnyToken(&["haemoglobinopathy", "hba2_high"]),
        ),
        line(
            "deficiency",
            -5,
            "B12 <148 pmol/L or folate <7 nmol/L",
            Any(&[Below(B12, &B12_LOW), Below(FOLATE, &FOLATE_LOW)]),
        ),
        line(
            "microcytic",
            -2,
            "MCV below the limit for age",
            BelowRange(Analyte::Mcv),
        ),
        line(
            "alcohol",
            -3,
            "harmful alcohol use or cirrhosis",
            AnyToken(&["alcohol", "cirrhosis"]),
        ),
    ],
    excluding: &[],
    priors: priors("-1 -1 -1 0 0 -1 -3 -"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Reticulocytes missing: indeterminate.",
    urgency: &[(U3, Graded(Erythroid, Grade::Severe)), (U2, Always)],
    next: "Film; B12 and folate; haemoglobin electrophoresis or HPLC; DAT; bilirubin; ferritin and transferrin saturation; marrow; CDA gene panel; liver iron MRI.",
    source: IOLASCON,
    confidence: Medium,
};
