//! D15 Cyclic neutropenia.
//!
//! `cycle` is TRUE when the series algorithm says MET, UNKNOWN for PARTIAL and for INDETERMINATE with
//! at least two episodes, FALSE otherwise.

use crate::clinical::rule::prelude::*;

const SCNIR: &str = "SCNIR; Blood 2017;130(S1):2275; the algorithm is a project choice, tried on simulated series only";

/// The rule.
pub static RULE: Rule = Rule {
    id: "D15",
    slug: "neutropenia-cyclic-suspected",
    name: "Cyclic neutropenia",
    kind: Kind::Inherited,
    sentence: "Neutrophils fall below 0.5 at roughly regular three-week intervals and recover in between.",
    gate: Token("cycle"),
    required: "series of ANC",
    evidence: &[
        line(
            "cycle",
            6,
            "regular cycle: every criterion of the series algorithm is met",
            Token("cycle"),
        ),
        line(
            "partial",
            2,
            "part of the criteria of the series algorithm is met",
            Token("cycle_partial"),
        ),
        line(
            "deep",
            1,
            "at least one nadir <0.2 x10^9/L",
            Token("cycle_deep"),
        ),
        line(
            "fever",
            2,
            "fever or mouth ulcers every 2-5 weeks",
            Token("periodic_fever"),
        ),
        line(
            "family",
            2,
            "neutropenia in the family",
            Token("family_neutropenia"),
        ),
        line("gene", 4, "pathogenic ELANE variant", Token("gene:ELANE")),
        line(
            "lgl",
            -2,
            "large granular lymphocyte expansion",
            Token("lgl"),
        ),
        line(
            "antibody",
            -2,
            "anti-neutrophil antibody positive",
            Token("antineutrophil_ab"),
        ),
    ],
    excluding: &[],
    priors: priors("-3 0 0 0 0 -1 -2 -2"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Too few samples: indeterminate, with the sampling plan as work-up.",
    urgency: &[(U2, Always)],
    next: "CBC with differential 3 times a week (at least every other day) for 6 weeks off G-CSF; ELANE; mouth examination and fever diary; emergency fever plan.",
    source: SCNIR,
    confidence: High,
};
