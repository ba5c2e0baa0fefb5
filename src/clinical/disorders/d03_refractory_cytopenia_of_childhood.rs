//! D03 Refractory cytopenia of childhood (childhood MDS with low blasts).

use crate::clinical::{mimics::DEFICIENCY, rule::prelude::*};

const WHO: &str = "WHO 2008-2017 RCC; WHO 2022; ICC 2022; the 60 d are a project choice";
const OURS: &str = "project choice";
static CHILD: Limit = limit("D03.age", "18", "1", "a", WHO, High);
static PERSISTENT: Limit = limit("D03.persistent", "60", "1", "d", OURS, Low);
static BLASTS_HIGH: Limit = limit("D03.blasts", "2", "0.1", "%", WHO, High);
static MARROW_BLASTS_HIGH: Limit = limit("D03.marrow_blasts", "5", "1", "%", WHO, High);
static FERRITIN_LOW: Limit = limit("D03.ferritin", "15", "1", "ug/L", OURS, Medium);

/// The rule.
pub static RULE: Rule = Rule {
    id: "D03",
    slug: "refractory-cytopenia-childhood-suspected",
    name: "Refractory cytopenia of childhood (childhood MDS with low blasts)",
    kind: Kind::Clonal,
    sentence: "Low counts in a child have not recovered over at least two months; childhood myelodysplasia and inherited marrow failure cannot be told apart from blood counts.",
    gate: All(&[
        Younger(&CHILD),
        LowLineages(1),
        Persists(&LowLineages(1), &PERSISTENT),
        NotBlocking(&Below(BLASTS, &BLASTS_HIGH)),
    ]),
    required: "CBC on two dates at least",
    evidence: &[
        line("lines", 2, "two or more lines low", LowLineages(2)),
        line("platelets", 1, "platelets low", IsLow(Platelet)),
        line(
            "macrocytic",
            1,
            "MCV above the limit for age",
            AboveRange(Analyte::Mcv),
        ),
        line("hbf", 1, "HbF high for age", Token("hbf_high")),
        line("dysplasia", 4, "marrow dysplasia", Token("dysplasia")),
        line(
            "hypocellular",
            1,
            "marrow reported hypocellular",
            Token("bm_hypocellular"),
        ),
        line(
            "chromosomes",
            5,
            "monosomy 7, trisomy 8 or another clonal abnormality",
            AnyToken(&["monosomy7", "trisomy8", "mds_cytogenetics"]),
        ),
        line(
            "down",
            -4,
            "Down syndrome (classified separately)",
            Token("down_syndrome"),
        ),
        line(
            "deficiency",
            -4,
            "B12, folate or copper deficiency",
            Same(&DEFICIENCY),
        ),
        line(
            "iron",
            -3,
            "MCV low with ferritin <15 ug/L",
            All(&[BelowRange(Analyte::Mcv), Below(FERRITIN, &FERRITIN_LOW)]),
        ),
        line(
            "single",
            -2,
            "one line low only",
            Any(&[OnlyLow(Erythroid), OnlyLow(Neutrophil), OnlyLow(Platelet)]),
        ),
        line(
            "inherited",
            -4,
            "a specific inherited test is positive",
            AnyToken(&[
                "breakage_positive",
                "telomere_below_1",
                "gene:RP",
                "gene:RPS19",
                "gene:FANC",
                "gene:SBDS",
                "gene:MPL",
                "gene:RBM8A",
                "gene:ELANE",
                "gene:HAX1",
                "gene:AK2",
                "gene:CDA",
                "gene:mtDNA",
                "gene:TAFAZZIN",
                "gene:NSUN2",
            ]),
        ),
    ],
    excluding: &[excludes(
        "blasts",
        "blasts >=2 % in blood, blasts seen on the film, or marrow blasts >=5 %",
        Any(&[
            NotBelow(BLASTS, &BLASTS_HIGH),
            Token("blasts_flagged_film"),
            NotBelow(MARROW_BLASTS, &MARROW_BLASTS_HIGH),
        ]),
    )],
    priors: priors("-3 -1 0 +1 0 - - -"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "One date only: indeterminate.",
    urgency: &[(U2, Always)],
    next: "Film review; marrow aspirate and trephine; cytogenetics with monosomy 7; Fanconi breakage test, telomere length, inherited panel with GATA2, SAMD9 and SAMD9L before this label.",
    source: WHO,
    confidence: High,
};
