//! M06 Microcytic anaemia: iron deficiency, thalassaemia or lead.

use crate::clinical::rule::prelude::*;

const WHO: &str = "WHO ferritin guideline 2020";
const MENTZER: &str = "Mentzer, Lancet 1973";
const OURS: &str = "project choice";
static SMALL_CHILD: Limit = limit("M06.child", "5", "1", "a", WHO, High);
static FERRITIN_LOW: Limit = limit("M06.ferritin", "15", "1", "ug/L", WHO, High);
static FERRITIN_LOW_CHILD: Limit = limit("M06.ferritin_child", "12", "1", "ug/L", WHO, High);
static FERRITIN_INFLAMED: Limit = limit("M06.ferritin_inflamed", "70", "1", "ug/L", WHO, High);
static FERRITIN_INFLAMED_CHILD: Limit =
    limit("M06.ferritin_inflamed_child", "30", "1", "ug/L", WHO, High);
static FERRITIN_BORDERLINE: Limit =
    limit("M06.ferritin_borderline", "30", "1", "ug/L", OURS, Medium);
static FERRITIN_HIGH: Limit = limit("M06.ferritin_high", "100", "1", "ug/L", OURS, Medium);
static CRP_HIGH: Limit = limit("M06.crp", "5", "0.1", "mg/L", WHO, High);
static TSAT_LOW: Limit = limit("M06.tsat", "16", "1", "%", OURS, Medium);
static RDW_HIGH: Limit = limit("M06.rdw", "15", "0.1", "%", OURS, Low);
static PLT_HIGH: Limit = limit("M06.plt", "450", "1", "10*9/L", OURS, Low);
static MENTZER_LOW: Limit = limit("M06.mentzer", "13", "0.1", "1", MENTZER, Medium);

static INFLAMED: Criterion = Above(CRP, &CRP_HIGH);

/// Iron stores empty, by the limit for age and inflammation.
static IRON_LOW: Criterion = Any(&[
    All(&[
        Not(&Surely(&INFLAMED)),
        AtAge(&SMALL_CHILD),
        Below(FERRITIN, &FERRITIN_LOW),
    ]),
    All(&[
        Not(&Surely(&INFLAMED)),
        Younger(&SMALL_CHILD),
        Below(FERRITIN, &FERRITIN_LOW_CHILD),
    ]),
    All(&[
        Same(&INFLAMED),
        AtAge(&SMALL_CHILD),
        Below(FERRITIN, &FERRITIN_INFLAMED),
    ]),
    All(&[
        Same(&INFLAMED),
        Younger(&SMALL_CHILD),
        Below(FERRITIN, &FERRITIN_INFLAMED_CHILD),
    ]),
]);

/// The rule.
pub static RULE: Rule = Rule {
    id: "M06",
    slug: "mimic-microcytic",
    name: "Microcytic anaemia: iron deficiency, thalassaemia or lead",
    kind: Kind::Mimic,
    sentence: "Small red cells usually mean iron lack or thalassaemia rather than marrow failure.",
    gate: Optional(&All(&[IsLow(Erythroid), BelowRange(Analyte::Mcv)])),
    required: "Hb, MCV",
    evidence: &[
        line(
            "iron",
            5,
            "ferritin <15 ug/L (<12 below 5 years; with CRP >5: <70, below 5 years <30)",
            Same(&IRON_LOW),
        ),
        line(
            "iron_borderline",
            3,
            "ferritin 15-<30 ug/L from 5 years, CRP not above 5",
            All(&[
                Between(FERRITIN, &FERRITIN_LOW, &FERRITIN_BORDERLINE),
                AtAge(&SMALL_CHILD),
                Not(&Surely(&INFLAMED)),
            ]),
        ),
        line(
            "tsat",
            2,
            "transferrin saturation <16 %",
            Below(TSAT, &TSAT_LOW),
        ),
        line("rdw", 1, "RDW >15 %", Above(RDW, &RDW_HIGH)),
        line(
            "platelets",
            1,
            "platelets >450 x10^9/L",
            Above(PLT, &PLT_HIGH),
        ),
        line(
            "mentzer",
            1,
            "Mentzer index MCV/RBC <13 (thalassaemia)",
            Below(Mentzer, &MENTZER_LOW),
        ),
        line(
            "thalassaemia",
            5,
            "HbA2 >3.5 % or known haemoglobinopathy",
            AnyToken(&["haemoglobinopathy", "hba2_high"]),
        ),
        line(
            "loss",
            1,
            "blood loss, milk-heavy diet or pregnancy",
            Any(&[AnyToken(&["bleeding_chronic", "diet_iron"]), Pregnant]),
        ),
        line(
            "stores_full",
            -2,
            "ferritin >100 ug/L with CRP <=5",
            All(&[Above(FERRITIN, &FERRITIN_HIGH), AtMost(CRP, &CRP_HIGH)]),
        ),
        line(
            "other_lines",
            -3,
            "both other lines low too",
            LowLineages(3),
        ),
    ],
    excluding: &[],
    priors: priors("- +1 +2 +2 +2 +2 +2 +1"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "MCV missing: not evaluable.",
    urgency: &[(U3, Graded(Erythroid, Grade::Severe)), (U1, Always)],
    next: "Ferritin, transferrin saturation, CRP; HbA2 or HPLC; lead in children; look for blood loss; CBC again after 4 weeks of iron.",
    source: WHO,
    confidence: High,
};
