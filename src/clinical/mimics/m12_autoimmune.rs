//! M12 Autoimmune cytopenia.

use crate::clinical::rule::prelude::*;

const EHA: &str = "EHA/EuNet-INNOCHRON guideline 2023";
const OURS: &str = "project choice";
static FROM: Limit = limit("M12.from", "3", "1", "mo", OURS, Low);
static TO: Limit = limit("M12.to", "5", "1", "a", OURS, Low);
static TYPICAL_FROM: Limit = limit("M12.typical_from", "5", "1", "mo", EHA, Medium);
static TYPICAL_TO: Limit = limit("M12.typical_to", "36", "1", "mo", EHA, Medium);

/// The rule.
pub static RULE: Rule = Rule {
    id: "M12",
    slug: "mimic-autoimmune",
    name: "Autoimmune cytopenia",
    kind: Kind::Mimic,
    sentence: "The immune system may be removing blood cells; in toddlers isolated neutropenia is usually autoimmune and outgrown.",
    gate: Any(&[
        All(&[
            LowLineages(1),
            AnyToken(&["autoimmune", "antineutrophil_ab", "lgl", "dat_positive"]),
        ]),
        All(&[
            AtAge(&FROM),
            Younger(&TO),
            OnlyLow(Neutrophil),
            NotTrue("severe_infection"),
        ]),
    ]),
    required: "CBC; recorded condition or antibody",
    evidence: &[
        line(
            "antibody",
            5,
            "anti-neutrophil antibody positive",
            Token("antineutrophil_ab"),
        ),
        line("disease", 3, "autoimmune disease", Token("autoimmune")),
        line(
            "lgl",
            4,
            "large granular lymphocyte expansion",
            Token("lgl"),
        ),
        line(
            "dat",
            4,
            "direct antiglobulin test positive with anaemia or low platelets",
            All(&[
                Token("dat_positive"),
                Any(&[IsLow(Erythroid), IsLow(Platelet)]),
            ]),
        ),
        line(
            "toddler",
            2,
            "age 5-36 months with isolated neutropenia",
            All(&[
                AtAge(&TYPICAL_FROM),
                Younger(&TYPICAL_TO),
                OnlyLow(Neutrophil),
            ]),
        ),
        line(
            "infection",
            -2,
            "severe infection",
            Token("severe_infection"),
        ),
        line("birth", -2, "low since birth", Token("onset_birth")),
        line(
            "arrest",
            -3,
            "marrow arrest at the promyelocyte",
            Token("bm_myeloid_arrest"),
        ),
    ],
    excluding: &[],
    priors: priors("-2 +2 +2 0 0 0 0 0"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "A negative antibody test does not argue against it: it is often falsely negative.",
    urgency: &[(U2, Graded(Neutrophil, Grade::Severe)), (U1, Always)],
    next: "Anti-neutrophil antibodies (repeat twice); DAT; ANA, dsDNA, rheumatoid factor; immunoglobulins; flow cytometry and T-cell receptor for large granular lymphocytes; serial ANC.",
    source: EHA,
    confidence: Medium,
};
