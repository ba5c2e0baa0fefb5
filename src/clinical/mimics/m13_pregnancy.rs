//! M13 Pregnancy-related thrombocytopenia or HELLP.

use crate::clinical::rule::prelude::*;

const REESE: &str = "Reese, NEJM 2018; HELLP: Tennessee criteria";
const OURS: &str = "project choice";
static POSTPARTUM: Limit = limit("M13.postpartum", "42", "1", "d", OURS, Medium);
static PLT_GESTATIONAL: Limit = limit("M13.plt_gestational", "100", "1", "10*9/L", REESE, Medium);
static PLT_CEILING: Limit = limit("M13.plt_ceiling", "150", "1", "10*9/L", REESE, High);
static PLT_FLOOR: Limit = limit("M13.plt_floor", "70", "1", "10*9/L", REESE, Medium);

/// The rule.
pub static RULE: Rule = Rule {
    id: "M13",
    slug: "mimic-pregnancy",
    name: "Pregnancy-related thrombocytopenia or HELLP",
    kind: Kind::Mimic,
    sentence: "Mildly low platelets late in pregnancy are common; falling below 100 or abnormal liver tests need same-day review.",
    gate: All(&[
        Optional(&Any(&[Pregnant, PostPartum(&POSTPARTUM)])),
        IsLow(Platelet),
    ]),
    required: "pregnancy status, PLT",
    evidence: &[
        line(
            "gestational",
            4,
            "platelets 100-149 x10^9/L alone, second or third trimester",
            All(&[
                Between(PLT, &PLT_GESTATIONAL, &PLT_CEILING),
                OnlyLow(Platelet),
                Any(&[Trimester(2), Trimester(3)]),
            ]),
        ),
        line(
            "lower",
            1,
            "platelets 70-99 x10^9/L alone",
            All(&[
                Between(PLT, &PLT_FLOOR, &PLT_GESTATIONAL),
                OnlyLow(Platelet),
            ]),
        ),
        line(
            "hellp",
            6,
            "HELLP pattern: platelets <100, transaminases >=2x, LDH >=600 U/L or haptoglobin <0.3 g/L",
            Token("hellp_labs"),
        ),
        line(
            "too_low",
            -2,
            "platelets <70 x10^9/L without the HELLP pattern",
            All(&[Below(PLT, &PLT_FLOOR), NotTrue("hellp_labs")]),
        ),
        line(
            "neutropenia",
            -2,
            "neutropenia without the HELLP pattern",
            All(&[IsLow(Neutrophil), NotTrue("hellp_labs")]),
        ),
        line(
            "predates",
            -2,
            "low before the pregnancy",
            Token("predates"),
        ),
    ],
    excluding: &[],
    priors: priors("- - - 0 0 0 0 -"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Trimester unknown: haemoglobin limit 105 and platelet limit 150 are used, and said so.",
    urgency: &[
        (U4, Token("hellp_labs")),
        (U2, Below(PLT, &PLT_GESTATIONAL)),
        (U1, Always),
    ],
    next: "Blood pressure, urine protein, LFT, LDH, haptoglobin, film; work-up for ITP or aplastic anaemia below 80 or in the first trimester.",
    source: REESE,
    confidence: High,
};
