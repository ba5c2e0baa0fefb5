//! M14 Anaemia of kidney disease, inflammation, endocrine, alcohol or liver disease.

use crate::clinical::rule::prelude::*;

const KDIGO: &str = "KDIGO 2012; textbook";
const OURS: &str = "project choice";
static EGFR_LOW: Limit = limit("M14.egfr", "45", "1", "mL/min/{1.73_m2}", KDIGO, High);
static EGFR_VERY_LOW: Limit = limit(
    "M14.egfr_very_low",
    "30",
    "1",
    "mL/min/{1.73_m2}",
    KDIGO,
    High,
);
static CRP_HIGH: Limit = limit("M14.crp", "10", "0.1", "mg/L", OURS, Medium);
static FERRITIN_KEPT: Limit = limit("M14.ferritin", "100", "1", "ug/L", KDIGO, High);
static TSAT_LOW: Limit = limit("M14.tsat", "20", "1", "%", KDIGO, High);
static MCV_HIGH: Limit = limit("M14.mcv", "105", "0.1", "fL", OURS, Low);

/// The rule.
pub static RULE: Rule = Rule {
    id: "M14",
    slug: "mimic-chronic-disease",
    name: "Anaemia of kidney disease, inflammation, endocrine, alcohol or liver disease",
    kind: Kind::Mimic,
    sentence: "Kidney, inflammatory, thyroid, liver disease or alcohol commonly lower haemoglobin without marrow disease.",
    gate: All(&[
        IsLow(Erythroid),
        Any(&[
            Optional(&Below(EGFR, &EGFR_LOW)),
            All(&[
                Optional(&Above(CRP, &CRP_HIGH)),
                NotBelow(FERRITIN, &FERRITIN_KEPT),
            ]),
            AnyToken(&[
                "hypothyroid",
                "alcohol",
                "chronic_liver",
                "chronic_inflammation",
            ]),
        ]),
    ]),
    required: "Hb, creatinine, CRP",
    evidence: &[
        line("kidney_severe", 4, "eGFR <30", Below(EGFR, &EGFR_VERY_LOW)),
        line(
            "kidney",
            3,
            "eGFR 30-<45",
            Between(EGFR, &EGFR_VERY_LOW, &EGFR_LOW),
        ),
        line("crp", 2, "CRP >10 mg/L", Above(CRP, &CRP_HIGH)),
        line(
            "iron_held",
            2,
            "ferritin >=100 ug/L and transferrin saturation <20 %",
            All(&[NotBelow(FERRITIN, &FERRITIN_KEPT), Below(TSAT, &TSAT_LOW)]),
        ),
        line("thyroid", 2, "hypothyroidism", Token("hypothyroid")),
        line(
            "liver",
            2,
            "harmful alcohol use or chronic liver disease",
            AnyToken(&["alcohol", "chronic_liver"]),
        ),
        line(
            "inflammation",
            2,
            "chronic inflammatory disease",
            Token("chronic_inflammation"),
        ),
        line("other_lines", -2, "two or more lines low", LowLineages(2)),
        line("macrocytic", -1, "MCV >105 fL", Above(MCV, &MCV_HIGH)),
    ],
    excluding: &[],
    priors: priors("- -1 -1 0 0 0 +1 +1"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "CRP >10 mg/L and ferritin not sent: indeterminate.",
    urgency: &[(U1, Always)],
    next: "Creatinine, CRP, ferritin and transferrin saturation, TSH, LFT; review of the cause.",
    source: KDIGO,
    confidence: High,
};
