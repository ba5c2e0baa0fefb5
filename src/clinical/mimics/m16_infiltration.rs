//! M16 Marrow infiltration, fibrosis or hairy cell leukaemia.

use crate::clinical::rule::prelude::*;

const OURS: &str = "project choice";
static PAST_NEONATE: Limit = limit("M16.age", "28", "1", "d", OURS, Low);
static NRBC_SEEN: Limit = limit("M16.nrbc", "1", "0.1", "/100{WBCs}", OURS, Low);
static IG_HIGH: Limit = limit("M16.ig", "3", "0.1", "%", OURS, Low);
static HAIRY_AGE: Limit = limit("M16.hairy_age", "30", "1", "a", OURS, Low);
static AMC_LOW: Limit = limit("M16.amc", "0.1", "0.01", "10*9/L", OURS, Medium);

/// Immature red and white cells by number.
static PRECURSORS: Criterion = All(&[
    AtAge(&PAST_NEONATE),
    Optional(&NotBelow(NRBC, &NRBC_SEEN)),
    Optional(&NotBelow(IG, &IG_HIGH)),
]);

/// Few monocytes and a large spleen in an adult.
static HAIRY: Criterion = All(&[
    AtAge(&HAIRY_AGE),
    Optional(&Below(AMC, &AMC_LOW)),
    Token("splenomegaly"),
]);

/// The rule.
pub static RULE: Rule = Rule {
    id: "M16",
    slug: "mimic-infiltration",
    name: "Marrow infiltration, fibrosis or hairy cell leukaemia",
    kind: Kind::Mimic,
    sentence: "Immature red and white cells in the blood together suggest that the marrow is crowded or scarred.",
    gate: All(&[
        Any(&[LowLineages(1), Token("leukoerythroblastic")]),
        Any(&[
            AnyToken(&["leukoerythroblastic", "teardrops"]),
            Same(&PRECURSORS),
            AnyToken(&["metastatic_cancer", "lymphoma"]),
            Same(&HAIRY),
        ]),
    ]),
    required: "CBC, film, recorded conditions",
    evidence: &[
        line(
            "film",
            4,
            "leukoerythroblastic film, or nucleated red cells >=1/100 with immature granulocytes >=3 %",
            Any(&[Token("leukoerythroblastic"), Same(&PRECURSORS)]),
        ),
        line("teardrops", 2, "teardrop cells", Token("teardrops")),
        line(
            "cancer",
            3,
            "metastatic cancer or lymphoma",
            AnyToken(&["metastatic_cancer", "lymphoma"]),
        ),
        line("spleen", 2, "splenomegaly", Token("splenomegaly")),
        line(
            "symptoms",
            1,
            "bone pain or weight loss",
            AnyToken(&["bone_pain", "weight_loss"]),
        ),
        line(
            "hairy",
            4,
            "monocytes <0.1 x10^9/L with splenomegaly from 30 years (hairy cell leukaemia)",
            Same(&HAIRY),
        ),
        line("reactive", -2, "sepsis (reactive)", Token("sepsis")),
    ],
    excluding: &[],
    priors: priors("-1 0 0 0 0 0 +1 +1"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Film not reported: nothing is inferred.",
    urgency: &[(U3, Always)],
    next: "Film review today; LDH, calcium, PSA and imaging as guided; flow cytometry (hairy cell); JAK2, CALR, MPL; marrow with trephine.",
    source: "textbook; the rule on nucleated red cells and immature granulocytes is a project choice",
    confidence: High,
};
