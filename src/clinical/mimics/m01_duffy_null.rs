//! M01 Duffy-null associated neutrophil count.

use crate::clinical::rule::prelude::*;

const MERZ: &str = "Merz, JAMA 2023;329:2088; Hibbs/Merz, Blood 2025";
const OURS: &str = "project choice";
static ADULT_ENOUGH: Limit = limit("M01.age", "1", "1", "a", OURS, Low);
static FLOOR: Limit = limit("M01.anc_low", "0.8", "0.01", "10*9/L", MERZ, High);
static CEILING: Limit = limit("M01.anc_high", "1.8", "0.01", "10*9/L", OURS, Medium);
static SAFE: Limit = limit("M01.anc_isolated", "1.0", "0.01", "10*9/L", OURS, Low);

/// The rule.
pub static RULE: Rule = Rule {
    id: "M01",
    slug: "mimic-duffy-null",
    name: "Duffy-null associated neutrophil count",
    kind: Kind::Mimic,
    sentence: "People who are Duffy-null normally have lower neutrophil counts without more infections.",
    gate: All(&[
        AtAge(&ADULT_ENOUGH),
        Between(ANC, &FLOOR, &CEILING),
        Not(&IsLow(Erythroid)),
        Not(&IsLow(Platelet)),
        DuffyNull,
    ]),
    required: "ANC, Hb, PLT; Duffy phenotype or genotype",
    evidence: &[
        line(
            "duffy",
            8,
            "Duffy-null confirmed by phenotype Fy(a-b-) or genotype",
            DuffyNull,
        ),
        line(
            "stable",
            2,
            "neutrophils stable between 0.8 and 2.5 for at least 90 d",
            Token("anc_stable"),
        ),
        line(
            "isolated",
            1,
            "neutrophils at or above 1.0, the other lines not low",
            All(&[
                NotBelow(ANC, &SAFE),
                Not(&IsLow(Erythroid)),
                Not(&IsLow(Platelet)),
            ]),
        ),
        line(
            "no_infections",
            1,
            "recurrent infections recorded as absent",
            Refuted("recurrent_infection"),
        ),
        line(
            "infections",
            -3,
            "severe or recurrent bacterial infection",
            AnyToken(&["severe_infection", "recurrent_infection"]),
        ),
        line(
            "falling",
            -3,
            "neutrophils at half of their own median or less",
            Token("anc_falling"),
        ),
    ],
    excluding: &[],
    priors: priors("- - 0 0 0 0 0 0"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Never inferred from ancestry, name or place. Status unknown: red cell Fy typing is suggested, no Flag.",
    urgency: &[(U0, Always)],
    next: "Red cell Fy(a)/Fy(b) phenotype or rs2814778; if Duffy-null, record it and use its limits; no marrow examination for an isolated stable ANC above that limit.",
    source: MERZ,
    confidence: High,
};
