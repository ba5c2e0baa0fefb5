//! D13 Thrombocytopenia with absent radii.

use crate::clinical::rule::prelude::*;

const GENEREVIEWS: &str = "GeneReviews TAR";
const OURS: &str = "project choice";
static PLT_LOW: Limit = limit("D13.plt", "50", "1", "10*9/L", GENEREVIEWS, Medium);
static EOS_HIGH: Limit = limit("D13.eos", "0.7", "0.1", "10*9/L", OURS, Low);
static WBC_HIGH: Limit = limit("D13.wbc", "20", "0.1", "10*9/L", OURS, Low);

/// The rule.
pub static RULE: Rule = Rule {
    id: "D13",
    slug: "tar-suspected",
    name: "Thrombocytopenia with absent radii",
    kind: Kind::Inherited,
    sentence: "Absent forearm radius bones with thumbs present and low platelets is the defining combination of TAR syndrome.",
    gate: All(&[Token("absent_radii"), IsLow(Platelet)]),
    required: "PLT and a recorded condition",
    evidence: &[
        line(
            "bilateral",
            2,
            "absent radii on both sides",
            Token("absent_radii_bilateral"),
        ),
        line("thumbs", 3, "thumbs present", Token("thumbs_present")),
        line(
            "platelets",
            2,
            "platelets <50 x10^9/L",
            Below(PLT, &PLT_LOW),
        ),
        line(
            "leukaemoid",
            1,
            "eosinophils >0.7 or white cells >20 x10^9/L",
            Any(&[Above(EOS, &EOS_HIGH), Above(WBC, &WBC_HIGH)]),
        ),
        line(
            "gene",
            6,
            "RBM8A null and hypomorphic alleles",
            Token("gene:RBM8A"),
        ),
        line("milk", 1, "cow milk intolerance", Token("cmpa")),
        line(
            "no_thumbs",
            -6,
            "thumbs absent (Fanconi anaemia)",
            Token("thumbs_absent"),
        ),
        line(
            "macrocytic",
            -1,
            "MCV above the limit for age",
            AboveRange(Analyte::Mcv),
        ),
    ],
    excluding: &[excludes(
        "breakage",
        "chromosome breakage positive",
        Token("breakage_positive"),
    )],
    priors: priors("+2 +2 +1 0 -1 -1 -1 -1"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Platelets may be within limits after 1-2 years: that does not argue against it.",
    urgency: &[(U3, Below(PLT, &PLT_LOW)), (U2, Always)],
    next: "Forearm X-ray; breakage test once to look for Fanconi anaemia; RBM8A and 1q21.1 testing; echocardiogram, renal ultrasound; avoidance of cow milk if symptomatic.",
    source: GENEREVIEWS,
    confidence: High,
};
