//! D07 Diamond-Blackfan anaemia syndrome.

use crate::clinical::rule::prelude::*;

const VLACHOS: &str = "Vlachos, BJH 2008; consensus 2024, Lancet Haematol 2024;11:e368 (page to confirm); age gate and floors are project choices";
const OURS: &str = "project choice";
static FIVE_YEARS: Limit = limit("D07.age", "5", "1", "a", OURS, Low);
static ANC_KEPT: Limit = limit("D07.anc", "0.5", "0.01", "10*9/L", OURS, Low);
static PLT_KEPT: Limit = limit("D07.plt", "100", "1", "10*9/L", OURS, Low);
static ONE_YEAR: Limit = limit("D07.one_year", "1", "1", "a", VLACHOS, High);
static HALF_YEAR: Limit = limit("D07.half_year", "183", "1", "d", OURS, Low);
static MCV_HIGH: Limit = limit("D07.mcv", "100", "0.1", "fL", OURS, Low);
static MCV_FROM: Limit = limit("D07.mcv_from", "61", "1", "d", OURS, Low);
static LACTATE_HIGH: Limit =
    limit("D07.lactate", "2.5", "0.1", "mmol/L", OURS, Medium).or(&[in_unit("mg/dL", "22.5")]);
static UNRESOLVED: Limit = limit("D07.unresolved", "60", "1", "d", OURS, Low);

/// The rule.
pub static RULE: Rule = Rule {
    id: "D07",
    slug: "dba-suspected",
    name: "Diamond-Blackfan anaemia syndrome",
    kind: Kind::Inherited,
    sentence: "An infant with a low haemoglobin, very few reticulocytes and otherwise preserved counts fits the published pattern of Diamond-Blackfan anaemia; a temporary cause (TEC, parvovirus) must be looked for.",
    gate: All(&[
        Younger(&FIVE_YEARS),
        Graded(Erythroid, Grade::Moderate),
        Any(&[
            Reticulocytes(Retics::Low),
            All(&[
                Reticulocytes(Retics::Inadequate),
                Graded(Erythroid, Grade::Severe),
            ]),
        ]),
        NotBelow(ANC, &ANC_KEPT),
        NotBelow(PLT, &PLT_KEPT),
    ]),
    required: "Hb, reticulocytes, ANC, PLT",
    evidence: &[
        line("infant", 2, "younger than 1 year", Younger(&ONE_YEAR)),
        line("half_year", 1, "younger than 6 months", Younger(&HALF_YEAR)),
        line(
            "macrocytic",
            2,
            "MCV above the limit for age, or >=100 fL between day 61 and 1 year",
            Any(&[
                AboveRange(Analyte::Mcv),
                All(&[
                    NotBelow(MCV, &MCV_HIGH),
                    AtAge(&MCV_FROM),
                    Younger(&ONE_YEAR),
                ]),
            ]),
        ),
        line("hbf", 1, "HbF high for age", Token("hbf_high")),
        line(
            "eada",
            4,
            "erythrocyte adenosine deaminase raised before transfusion",
            Token("eada_high"),
        ),
        line(
            "anomaly",
            3,
            "thumb, craniofacial, cardiac or urogenital anomaly",
            AnyToken(&[
                "thumb_radial_anomaly",
                "craniofacial",
                "cardiac_defect",
                "renal_gu_anomaly",
                "cleft",
            ]),
        ),
        line(
            "stature",
            1,
            "short stature or growth restriction",
            Token("short_stature"),
        ),
        line(
            "family",
            2,
            "Diamond-Blackfan anaemia or marrow failure in the family",
            AnyToken(&["family_dba", "family_bmf"]),
        ),
        line(
            "gene",
            6,
            "pathogenic variant of a ribosomal protein gene, GATA1 or TSR2",
            AnyToken(&["gene:RPS19", "gene:RP"]),
        ),
        line(
            "unresolved",
            1,
            "low for at least 60 d, or transfusion-dependent",
            Any(&[
                Surely(&Persists(&IsLow(Erythroid), &UNRESOLVED)),
                Token("transfusion_dependent"),
            ]),
        ),
        line("older", -2, "1 year or older", AtAge(&ONE_YEAR)),
        line(
            "microcytic",
            -3,
            "MCV below the limit for age",
            BelowRange(Analyte::Mcv),
        ),
        line("parvovirus", -2, "parvovirus B19 positive", Token("parvo")),
        line(
            "normal_before",
            -3,
            "haemoglobin not low after 6 months of age",
            Token("prev_normal_hb"),
        ),
        line(
            "eada_normal",
            -2,
            "erythrocyte adenosine deaminase not raised",
            Refuted("eada_high"),
        ),
        line(
            "lactate",
            -2,
            "lactate >2.5 mmol/L or reported high",
            Any(&[Above(LACTATE, &LACTATE_HIGH), Token("lactate_high")]),
        ),
        line(
            "recovered",
            -4,
            "recovered without transfusion within 60 d",
            Token("recovered_hb"),
        ),
    ],
    excluding: &[excludes(
        "regenerative",
        "reticulocytes regenerative without high-dose steroid",
        All(&[Reticulocytes(Retics::Regenerative), NotTrue("steroid_high")]),
    )],
    priors: priors("0 +2 -1 - - - - -"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Reticulocytes missing: indeterminate. After a red cell transfusion MCV, HbF and eADA are ignored.",
    urgency: &[(U3, Graded(Erythroid, Grade::Severe)), (U2, Always)],
    next: "Before a transfusion: eADA, HbF, blood for a ribosomal protein gene panel; parvovirus B19 PCR; CBC and eADA of the parents; marrow; echocardiogram, renal ultrasound; look for Pearson syndrome (lactate) and Fanconi anaemia (breakage).",
    source: VLACHOS,
    confidence: High,
};
