//! D22 Syndromic features for genetic evaluation (Dubowitz spectrum).

use crate::clinical::rule::prelude::*;

const REVIEW: &str =
    "Am J Med Genet C 2018;178:387 (heterogeneous, NSUN2 and LIG4 among the causes)";

/// The features of which three are asked.
static FEATURES: &[Criterion] = &[
    Token("microcephaly"),
    Token("short_stature"),
    Token("eczema"),
    Token("dubowitz_facies"),
    Token("neuro_delay"),
];

/// The rule.
pub static RULE: Rule = Rule {
    id: "D22",
    slug: "syndromic-suspected",
    name: "Syndromic features for genetic evaluation (Dubowitz spectrum)",
    kind: Kind::Inherited,
    sentence: "Growth, head-size and skin findings with low counts suggest a syndromic cause that needs genetic evaluation; Dubowitz syndrome is a descriptive label, not one disease.",
    gate: All(&[LowLineages(1), AtLeast(3, FEATURES)]),
    required: "CBC and recorded conditions",
    evidence: &[
        line("microcephaly", 1, "microcephaly", Token("microcephaly")),
        line("stature", 1, "short stature", Token("short_stature")),
        line("eczema", 1, "eczema", Token("eczema")),
        line(
            "facies",
            1,
            "typical facies recorded",
            Token("dubowitz_facies"),
        ),
        line(
            "development",
            1,
            "developmental delay",
            Token("neuro_delay"),
        ),
        line("gene", 3, "NSUN2 or LIG4 variants", Token("gene:NSUN2")),
        line(
            "breakage",
            -6,
            "chromosome breakage positive (Fanconi anaemia)",
            Token("breakage_positive"),
        ),
        line(
            "telomere",
            -4,
            "telomere length below the 1st centile",
            Token("telomere_below_1"),
        ),
    ],
    excluding: &[],
    priors: priors("-1 -1 -1 -1 -1 -3 -3 -3"),
    caps: &[Cap {
        score: 4,
        text: "a descriptive label: never more than a weak fit",
        when: Always,
    }],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Always a weak fit at most.",
    urgency: &[(U2, Always)],
    next: "Clinical genetics; microarray and exome or genome; Fanconi breakage test, telomere length, immunoglobulins and lymphocyte subsets; LIG4, NBN and Bloom spectrum.",
    source: REVIEW,
    confidence: High,
};
