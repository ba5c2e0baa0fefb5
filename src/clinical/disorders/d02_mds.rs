//! D02 Myelodysplastic neoplasm.

use crate::clinical::{
    mimics::{
        DEFICIENCY,
        m04_b12_folate::{B12_LOW, FOLATE_LOW},
    },
    rule::prelude::*,
};

const WHO: &str = "WHO 5th edition (Leukemia 2022) and ICC 2022 (Blood 2022)";
const VALENT: &str = "Valent, Oncotarget 2017";
const OURS: &str = "project choice";

static ADULT: Limit = limit("D02.adult", "18", "1", "a", OURS, High);
static HB_MALE: Limit = limit("D02.hb_male", "130", "1", "g/L", WHO, High);
static HB_FEMALE: Limit = limit("D02.hb_female", "120", "1", "g/L", WHO, High);
static ANC_LIMIT: Limit = limit("D02.anc", "1.8", "0.01", "10*9/L", WHO, High);
static PLT_LIMIT: Limit = limit("D02.plt", "150", "1", "10*9/L", WHO, High);
static PERSISTENT: Limit = limit("D02.persistent", "120", "1", "d", VALENT, Medium);
static MARROW_BLASTS_LOW: Limit = limit("D02.marrow_blasts", "5", "1", "%", WHO, High);
static MARROW_BLASTS_HIGH: Limit = limit("D02.marrow_blasts_high", "20", "1", "%", WHO, High);
static BLOOD_BLASTS: Limit = limit("D02.blasts", "1", "0.1", "%", WHO, High);
static BLOOD_BLASTS_HIGH: Limit = limit("D02.blasts_high", "20", "0.1", "%", WHO, High);
static MCV_HIGH: Limit = limit("D02.mcv", "100", "0.1", "fL", OURS, Medium);
static MCV_LOW: Limit = limit("D02.mcv_low", "80", "0.1", "fL", OURS, Medium);
static RDW_HIGH: Limit = limit("D02.rdw", "15", "0.1", "%", OURS, Low);
static RING: Limit = limit("D02.ring", "15", "1", "%", WHO, High);
static RING_SF3B1: Limit = limit("D02.ring_sf3b1", "5", "1", "%", WHO, High);
static EGFR_LIMIT: Limit = limit("D02.egfr", "45", "1", "mL/min/{1.73_m2}", OURS, Low);
static CRP_LIMIT: Limit = limit("D02.crp", "10", "1", "mg/L", OURS, Low);

const RINGS: Input = Input::Of(Analyte::RingSideroblasts);

/// Measured haemoglobin; unknown sex: 120.
static HB_BELOW: Criterion = Any(&[
    Below(HB, &HB_FEMALE),
    All(&[Surely(&OfSex(Sex::Male)), Below(HB, &HB_MALE)]),
]);
static ANC_BELOW: Criterion = Below(ANC, &ANC_LIMIT);
static PLT_BELOW: Criterion = Below(PLT, &PLT_LIMIT);

static CYTOPENIA: Criterion = Any(&[Same(&HB_BELOW), Same(&ANC_BELOW), Same(&PLT_BELOW)]);
static TWO_CYTOPENIAS: Criterion =
    AtLeast(2, &[Same(&HB_BELOW), Same(&ANC_BELOW), Same(&PLT_BELOW)]);
static MARROW_BLASTS_RAISED: Criterion = Optional(&Between(
    MARROW_BLASTS,
    &MARROW_BLASTS_LOW,
    &MARROW_BLASTS_HIGH,
));
static BLOOD_BLASTS_RAISED: Criterion = Between(BLASTS, &BLOOD_BLASTS, &BLOOD_BLASTS_HIGH);

/// A marrow that was looked at, without dysplasia and without a clonal marker.
static MARROW_WITHOUT_DYSPLASIA: Criterion = All(&[
    Known(CELLULARITY),
    Refuted("dysplasia"),
    NotTrue("mds_cytogenetics"),
]);

/// The rule.
pub static RULE: Rule = Rule {
    id: "D02",
    slug: "mds-suspected",
    name: "Myelodysplastic neoplasm",
    kind: Kind::Clonal,
    sentence: "A low count has lasted at least four months (or a marrow or genetic finding points \
               this way) without an explanation in the data received; clonal marrow disease is one \
               of the explanations to consider.",
    gate: All(&[
        AtAge(&ADULT),
        Same(&CYTOPENIA),
        Any(&[
            Persists(&CYTOPENIA, &PERSISTENT),
            Token("mds_cytogenetics"),
            Same(&MARROW_BLASTS_RAISED),
            All(&[Token("dysplasia"), Token("clonal_mutation")]),
        ]),
    ]),
    required: "Hb, ANC, PLT, sex, two dates",
    evidence: &[
        line("macrocytic", 2, "MCV >100 fL", Above(MCV, &MCV_HIGH)),
        line(
            "two",
            2,
            "two or more of the MDS-threshold cytopenias",
            Same(&TWO_CYTOPENIAS),
        ),
        line("rdw", 1, "RDW >15 %", Above(RDW, &RDW_HIGH)),
        line(
            "blasts",
            4,
            "blasts 1-19 % in blood or 5-19 % in marrow",
            Any(&[Same(&BLOOD_BLASTS_RAISED), Same(&MARROW_BLASTS_RAISED)]),
        ),
        line(
            "dysplasia",
            3,
            "dysplasia on film or in the marrow",
            Token("dysplasia"),
        ),
        line(
            "chemo_past",
            2,
            "cytotoxic drug or radiotherapy a year ago or more",
            Token("chemo_past"),
        ),
        line(
            "ring",
            3,
            "ring sideroblasts >=15 % (>=5 % with an SF3B1 variant)",
            Any(&[
                Token("bm_ring"),
                NotBelow(RINGS, &RING),
                All(&[NotBelow(RINGS, &RING_SF3B1), Token("gene:SF3B1")]),
            ]),
        ),
        line(
            "clonal",
            4,
            "clonal somatic mutation, VAF >=2 %",
            Token("clonal_mutation"),
        ),
        line(
            "cytogenetics",
            5,
            "MDS-defining cytogenetic abnormality",
            Token("mds_cytogenetics"),
        ),
        line(
            "vitamins",
            1,
            "B12 >=148 pmol/L and folate >=7 nmol/L",
            All(&[NotBelow(B12, &B12_LOW), NotBelow(FOLATE, &FOLATE_LOW)]),
        ),
        line(
            "deficiency",
            -4,
            "B12, folate or copper deficiency",
            Same(&DEFICIENCY),
        ),
        line("kidney", -2, "eGFR <45", Below(EGFR, &EGFR_LIMIT)),
        line("inflammation", -1, "CRP >10 mg/L", Above(CRP, &CRP_LIMIT)),
        line(
            "liver",
            -2,
            "harmful alcohol use or chronic liver disease",
            AnyToken(&["alcohol", "chronic_liver"]),
        ),
        line(
            "regenerative",
            -3,
            "reticulocyte class regenerative",
            Reticulocytes(Retics::Regenerative),
        ),
        line(
            "drug",
            -3,
            "myelosuppressive drug active or stopped in the last 30 d",
            AnyToken(&["drug_high", "drug_other", "chemo_42"]),
        ),
        line("microcytic", -2, "MCV <80 fL", Below(MCV, &MCV_LOW)),
        line("spleen", -1, "splenomegaly", Token("splenomegaly")),
        line(
            "duffy",
            -4,
            "Duffy-null and neutropenia is the only cytopenia",
            All(&[
                DuffyNull,
                Same(&ANC_BELOW),
                Not(&Same(&HB_BELOW)),
                Not(&Same(&PLT_BELOW)),
            ]),
        ),
        line("pregnant", -2, "pregnant", Pregnant),
    ],
    excluding: &[],
    priors: priors("- - - - - -2 0 +2"),
    caps: &[],
    labels: &[
        Label {
            text: "CCUS",
            when: All(&[Same(&MARROW_WITHOUT_DYSPLASIA), Token("clonal_mutation")]),
        },
        Label {
            text: "ICUS",
            when: Same(&MARROW_WITHOUT_DYSPLASIA),
        },
    ],
    suffixes: &[],
    remarks: &[],
    if_missing: "Only one result, or less than 120 d: repeat to establish persistence. Sex unknown: \
                 120 g/L. B12 and folate unknown: first step of the work-up.",
    urgency: &[
        (
            U2,
            Any(&[
                LowLineages(2),
                Above(MCV, &MCV_HIGH),
                Same(&BLOOD_BLASTS_RAISED),
                Same(&MARROW_BLASTS_RAISED),
            ]),
        ),
        (U1, Always),
    ],
    next: "Film review; B12, folate, copper, TSH, creatinine, CRP, LFT, HIV and hepatitis, \
           reticulocytes, alcohol and drug review; myeloid NGS panel; marrow and cytogenetics after \
           reversible causes are looked for.",
    source: "WHO 5th edition, ICC 2022 (thresholds); Valent, Oncotarget 2017 (persistence)",
    confidence: High,
};
