//! D14 Severe congenital neutropenia.

use crate::clinical::rule::prelude::*;

const EHA: &str = "EHA/EuNet-INNOCHRON guideline, HemaSphere 2023;7:e872; SCNIR";
const OURS: &str = "project choice";
static CHILD: Limit = limit("D14.age", "18", "1", "a", OURS, Medium);
static ANC_SEVERE: Limit = limit("D14.anc", "0.5", "0.01", "10*9/L", EHA, High);
static CHRONIC: Limit = limit("D14.chronic", "90", "1", "d", EHA, High);
static PLT_KEPT: Limit = limit("D14.plt", "100", "1", "10*9/L", OURS, Low);
static EOS_HIGH: Limit = limit("D14.eos", "0.7", "0.1", "10*9/L", OURS, Medium);

/// The rule.
pub static RULE: Rule = Rule {
    id: "D14",
    slug: "scn-suspected",
    name: "Severe congenital neutropenia",
    kind: Kind::Inherited,
    sentence: "Neutrophils below 0.5 throughout at least three months, starting early in life, fit severe congenital neutropenia; autoimmune neutropenia of infancy is far commoner and must be separated.",
    gate: All(&[
        Younger(&CHILD),
        Below(ANC, &ANC_SEVERE),
        Persists(&Below(ANC, &ANC_SEVERE), &CHRONIC),
        NotBlocking(&NotBelow(PLT, &PLT_KEPT)),
    ]),
    required: "series of ANC",
    evidence: &[
        line(
            "early",
            2,
            "first ANC <0.5 before 6 months of age",
            Token("onset_lt6mo"),
        ),
        line(
            "infection",
            3,
            "invasive bacterial infection",
            Token("severe_infection"),
        ),
        line(
            "monocytes",
            1,
            "monocytes above the limit for age",
            AboveRange(Analyte::Amc),
        ),
        line(
            "eosinophils",
            1,
            "eosinophils >0.7 x10^9/L",
            Above(EOS, &EOS_HIGH),
        ),
        line(
            "arrest",
            5,
            "marrow arrest at promyelocyte or myelocyte",
            Token("bm_myeloid_arrest"),
        ),
        line(
            "gene",
            6,
            "pathogenic variant of ELANE, HAX1 or another gene of the group",
            AnyToken(&["gene:ELANE", "gene:HAX1"]),
        ),
        line(
            "family",
            2,
            "neutropenia in the family",
            Token("family_neutropenia"),
        ),
        line(
            "mouth",
            1,
            "gingivitis or oral ulcers",
            Token("mouth_ulcers"),
        ),
        line(
            "neurology",
            1,
            "epilepsy or developmental delay",
            Token("neuro_delay"),
        ),
        line(
            "antibody",
            -4,
            "anti-neutrophil antibody positive",
            Token("antineutrophil_ab"),
        ),
        line(
            "recovers",
            -3,
            "ANC >=1.5 between low values while afebrile",
            Token("anc_recovers"),
        ),
        line("duffy", -2, "Duffy-null", DuffyNull),
        line(
            "resolved",
            -4,
            "recovered on two results at least 7 d apart",
            Token("recovered_anc"),
        ),
        line(
            "late",
            -2,
            "first low ANC after the third birthday",
            Token("onset_gt3y"),
        ),
        line("platelets", -2, "platelets low", IsLow(Platelet)),
    ],
    excluding: &[],
    priors: priors("-1 0 -1 -2 -3 - - -"),
    caps: &[],
    labels: &[Label {
        text: "Kostmann disease (HAX1)",
        when: Token("gene:HAX1"),
    }],
    suffixes: &[],
    remarks: &[],
    if_missing: "Less than 90 d of data: indeterminate; a new ANC <0.5 is urgent all the same.",
    urgency: &[(U3, Always)],
    next: "CBC 2-3 times a week for 6 weeks (looks for a cycle); anti-neutrophil antibodies; immunoglobulins, lymphocyte subsets; gene panel; marrow; emergency fever plan; the decision on G-CSF belongs to the haematologist.",
    source: EHA,
    confidence: High,
};
