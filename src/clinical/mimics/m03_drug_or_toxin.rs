//! M03 Drug- or toxin-associated cytopenia.

use crate::clinical::rule::prelude::*;

const ANDRES: &str = "Andres, Garbe: reviews of drug-induced agranulocytosis; IAAAS 1986";
static ANC_LOW: Limit = limit("M03.anc", "0.5", "0.01", "10*9/L", ANDRES, High);

/// The rule.
pub static RULE: Rule = Rule {
    id: "M03",
    slug: "mimic-drug",
    name: "Drug- or toxin-associated cytopenia",
    kind: Kind::Mimic,
    sentence: "A medicine or exposure recorded for this patient is known to lower blood counts.",
    gate: All(&[
        LowLineages(1),
        AnyToken(&[
            "drug_high",
            "drug_other",
            "tox_benzene",
            "tox_pesticide",
            "rad_accident",
        ]),
    ]),
    required: "CBC; medication list or recorded exposure",
    evidence: &[
        line(
            "high_risk",
            4,
            "drug with a high risk of agranulocytosis or aplasia",
            Token("drug_high"),
        ),
        line(
            "listed",
            3,
            "other drug known to lower counts",
            Token("drug_other"),
        ),
        line(
            "toxin",
            2,
            "exposure to benzene, solvents, pesticides or a radiation accident",
            AnyToken(&["tox_benzene", "tox_pesticide", "rad_accident"]),
        ),
        line(
            "timing",
            2,
            "started 1 to 12 weeks before the first low count",
            Token("drug_timing"),
        ),
        line(
            "recovered",
            4,
            "recovered after stopping",
            Token("recovered"),
        ),
        line(
            "normal_before",
            1,
            "counts were not low before",
            Token("prev_normal"),
        ),
        PREDATES,
    ],
    excluding: &[],
    priors: priors("0 0 0 0 0 0 0 0"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Medication list not sent: not available to marrowflag.",
    urgency: &[(U3, Below(ANC, &ANC_LOW)), (U1, Always)],
    next: "Discuss stopping or replacing the suspect drug with the prescriber; CBC in 2-3 days if ANC <0.5; occupational history; if two or more lines are low without recovery: work-up for aplastic anaemia.",
    source: ANDRES,
    confidence: Medium,
};
