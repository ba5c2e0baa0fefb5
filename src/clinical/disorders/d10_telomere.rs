//! D10 Dyskeratosis congenita and other telomere biology disorders.

use crate::clinical::rule::prelude::*;

const ALTER: &str = "Alter, Blood 2007 and Haematologica 2012; Du, Blood 2009";

/// The mucocutaneous triad.
static TRIAD: &[Criterion] = &[
    Token("nail_dystrophy"),
    Token("reticular_pigmentation"),
    Token("oral_leukoplakia"),
];

/// The rule.
pub static RULE: Rule = Rule {
    id: "D10",
    slug: "telomere-suspected",
    name: "Dyskeratosis congenita and other telomere biology disorders",
    kind: Kind::Inherited,
    sentence: "Low counts together with nail, skin, mouth, lung or liver findings are the pattern in which telomere length should be measured.",
    gate: All(&[
        Any(&[
            Optional(&IsLow(Erythroid)),
            Optional(&IsLow(Neutrophil)),
            Optional(&IsLow(Platelet)),
            Optional(&AboveRange(Analyte::Mcv)),
        ]),
        AnyToken(&[
            "nail_dystrophy",
            "reticular_pigmentation",
            "oral_leukoplakia",
            "early_grey_hair",
            "pulmonary_fibrosis",
            "cryptogenic_cirrhosis",
            "family_tbd",
            "telomere_below_1",
            "telomere_below_10",
        ]),
    ]),
    required: "CBC and recorded conditions or telomere length",
    evidence: &[
        line("nails", 2, "nail dystrophy", Token("nail_dystrophy")),
        line(
            "skin",
            2,
            "lacy reticular pigmentation",
            Token("reticular_pigmentation"),
        ),
        line("mouth", 2, "oral leukoplakia", Token("oral_leukoplakia")),
        line(
            "hair",
            1,
            "grey hair before 30 years",
            Token("early_grey_hair"),
        ),
        line("lung", 3, "pulmonary fibrosis", Token("pulmonary_fibrosis")),
        line(
            "liver",
            2,
            "cryptogenic cirrhosis or hepatopulmonary syndrome",
            Token("cryptogenic_cirrhosis"),
        ),
        line(
            "family",
            2,
            "telomere disorder, early pulmonary fibrosis or AML in the family",
            Token("family_tbd"),
        ),
        line(
            "telomere_very_short",
            6,
            "telomere length below the 1st centile",
            Token("telomere_below_1"),
        ),
        line(
            "telomere_short",
            1,
            "telomere length between the 1st and 10th centile",
            All(&[Token("telomere_below_10"), NotTrue("telomere_below_1")]),
        ),
        line(
            "macrocytic",
            1,
            "MCV above the limit for age",
            AboveRange(Analyte::Mcv),
        ),
        line("platelets", 1, "platelets low", IsLow(Platelet)),
        line(
            "other",
            1,
            "dental loss or cerebellar hypoplasia",
            AnyToken(&["dental_loss", "cerebellar_hypoplasia"]),
        ),
        line(
            "telomere_long",
            -4,
            "telomere length at or above the 50th centile",
            Token("telomere_from_50"),
        ),
    ],
    excluding: &[],
    priors: priors("-3 -2 -2 -1 -1 -1 -2 -2"),
    caps: &[Cap {
        score: 7,
        text: "telomere length unknown and fewer than two of nails, pigmentation and leukoplakia",
        when: All(&[
            Undecided(&Token("telomere_below_1")),
            Undecided(&Token("telomere_below_10")),
            NotTrue("telomere_from_50"),
            Not(&Surely(&AtLeast(2, TRIAD))),
        ]),
    }],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Telomere length unknown and fewer than two of the triad: at most a moderate fit.",
    urgency: &[(U2, Always)],
    next: "Telomere length by flow-FISH of lymphocyte subsets; telomere gene panel (TERT, TERC, DKC1, TINF2, RTEL1, PARN); lung function with DLCO; liver elastography; family cascade.",
    source: ALTER,
    confidence: High,
};
