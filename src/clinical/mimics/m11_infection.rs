//! M11 Infection-associated suppression.

use crate::clinical::rule::prelude::*;

const TEXTBOOK: &str = "textbook; Rauff, Virol J 2011 (after hepatitis)";
const OURS: &str = "project choice";
static CHILD: Limit = limit("M11.child", "18", "1", "a", OURS, Medium);
static UNRESOLVED: Limit = limit("M11.unresolved", "61", "1", "d", OURS, Low);
static ANC_LOW: Limit = limit("M11.anc", "0.5", "0.01", "10*9/L", OURS, Medium);
static PLT_LOW: Limit = limit("M11.plt", "20", "1", "10*9/L", OURS, Medium);
static BLASTS_SEEN: Limit = limit("M11.blasts", "5", "0.1", "%", OURS, Medium);

/// The rule.
pub static RULE: Rule = Rule {
    id: "M11",
    slug: "mimic-infection",
    name: "Infection-associated suppression",
    kind: Kind::Mimic,
    sentence: "Counts can fall for a few weeks during or after an infection and then recover.",
    gate: All(&[
        LowLineages(1),
        AnyToken(&[
            "viral_recent",
            "ebv",
            "cmv",
            "parvo",
            "hiv",
            "hepatitis_recent",
            "malaria",
            "tb",
            "leishmania",
            "sepsis",
            "bacterial_recent",
        ]),
    ]),
    required: "CBC; recorded infection or proven pathogen",
    evidence: &[
        line(
            "pathogen",
            3,
            "pathogen proven (EBV, CMV, parvovirus B19, HIV, malaria, tuberculosis, leishmania)",
            AnyToken(&["ebv", "cmv", "parvo", "hiv", "malaria", "tb", "leishmania"]),
        ),
        line(
            "illness",
            2,
            "viral or bacterial illness in the last 42 d",
            AnyToken(&["viral_recent", "bacterial_recent", "sepsis"]),
        ),
        line(
            "hepatitis",
            2,
            "acute hepatitis in the last 180 d",
            Token("hepatitis_recent"),
        ),
        line("new", 1, "low for less than 42 d", Token("first_low")),
        line(
            "child",
            1,
            "child with mild or moderate neutropenia",
            All(&[
                Younger(&CHILD),
                IsLow(Neutrophil),
                Not(&Graded(Neutrophil, Grade::Severe)),
            ]),
        ),
        line(
            "unresolved",
            -3,
            "low for more than 60 d",
            Surely(&Persists(&LowLineages(1), &UNRESOLVED)),
        ),
        line(
            "very_low",
            -2,
            "all three lines low, one of them very low",
            All(&[
                LowLineages(3),
                Any(&[
                    Graded(Erythroid, Grade::Severe),
                    Below(ANC, &ANC_LOW),
                    Below(PLT, &PLT_LOW),
                ]),
            ]),
        ),
    ],
    excluding: &[excludes(
        "blasts",
        "blasts >=5 % in blood",
        NotBelow(BLASTS, &BLASTS_SEEN),
    )],
    priors: priors("0 +1 +2 +1 0 0 0 0"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Nothing is inferred without a recorded infection.",
    urgency: &[(U1, Always)],
    next: "Repeat CBC in 2-4 weeks; targeted serology or PCR (hepatitis, EBV, CMV, parvovirus, HIV); escalate if falling or lasting more than 6 weeks.",
    source: TEXTBOOK,
    confidence: High,
};
