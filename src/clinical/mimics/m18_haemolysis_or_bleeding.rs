//! M18 Haemolysis or bleeding with a working marrow.

use crate::clinical::rule::prelude::*;

const OURS: &str = "project choice";
static LDH_HIGH: Limit = limit("M18.ldh", "1.5", "0.1", "1", OURS, Medium);
static HAPTO_LOW: Limit = limit("M18.hapto", "0.3", "0.01", "g/L", OURS, Medium);
static BILI_HIGH: Limit = limit("M18.bili", "20", "1", "umol/L", OURS, Low);

/// The rule.
pub static RULE: Rule = Rule {
    id: "M18",
    slug: "mimic-haemolysis-bleeding",
    name: "Haemolysis or bleeding with a working marrow",
    kind: Kind::Mimic,
    sentence: "The marrow is answering the anaemia with many reticulocytes, so red cells are being lost or destroyed rather than not made.",
    gate: All(&[
        IsLow(Erythroid),
        Optional(&Reticulocytes(Retics::Regenerative)),
    ]),
    required: "Hb, reticulocytes",
    evidence: &[
        line(
            "dat",
            4,
            "direct antiglobulin test positive",
            Token("dat_positive"),
        ),
        line(
            "ldh",
            2,
            "LDH >=1.5x upper limit",
            NotBelow(LDH_X, &LDH_HIGH),
        ),
        line(
            "haptoglobin",
            2,
            "haptoglobin <0.3 g/L",
            Below(HAPTOGLOBIN, &HAPTO_LOW),
        ),
        line(
            "bleeding",
            3,
            "recent or chronic bleeding",
            AnyToken(&["bleeding", "bleeding_chronic"]),
        ),
        line(
            "known",
            3,
            "known haemoglobinopathy or haemolytic disease",
            AnyToken(&["haemoglobinopathy", "haemolysis_known"]),
        ),
        line(
            "bilirubin",
            1,
            "indirect bilirubin >20 umol/L",
            Above(Input::Of(Analyte::BilirubinIndirect), &BILI_HIGH),
        ),
    ],
    excluding: &[],
    priors: priors("+1 +1 +1 +1 +1 +1 +1 +1"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Reticulocytes missing: indeterminate.",
    urgency: &[(U3, Graded(Erythroid, Grade::Severe)), (U1, Always)],
    next: "DAT, LDH, haptoglobin, bilirubin, film; source of bleeding.",
    source: "textbook",
    confidence: High,
};
