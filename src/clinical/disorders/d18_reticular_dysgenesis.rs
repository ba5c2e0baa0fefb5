//! D18 Reticular dysgenesis.

use crate::clinical::rule::prelude::*;

const HOENIG: &str = "Hoenig, Blood 2017;129:2928; the count limits are project choices";
const OURS: &str = "project choice";
static NEWBORN: Limit = limit("D18.age", "90", "1", "d", HOENIG, Medium);
static ANC_SEVERE: Limit = limit("D18.anc", "0.5", "0.01", "10*9/L", OURS, Medium);
static ALC_SEVERE: Limit = limit("D18.alc", "1.0", "0.01", "10*9/L", OURS, Medium);
static ANC_NONE: Limit = limit("D18.anc_none", "0.2", "0.01", "10*9/L", OURS, Low);
static ALC_NONE: Limit = limit("D18.alc_none", "0.5", "0.01", "10*9/L", OURS, Low);
static PRETERM: Limit = limit("D18.preterm", "32", "1", "wk", OURS, Low);

/// The rule.
pub static RULE: Rule = Rule {
    id: "D18",
    slug: "reticular-dysgenesis-suspected",
    name: "Reticular dysgenesis",
    kind: Kind::Inherited,
    sentence: "A newborn with almost no neutrophils and almost no lymphocytes needs immediate immunology and haematology advice; red cells and platelets are usually normal.",
    gate: All(&[
        Younger(&NEWBORN),
        Below(ANC, &ANC_SEVERE),
        Below(ALC, &ALC_SEVERE),
    ]),
    required: "ANC, lymphocytes",
    evidence: &[
        line(
            "neutrophils",
            2,
            "neutrophils <0.2 x10^9/L",
            Below(ANC, &ANC_NONE),
        ),
        line(
            "lymphocytes",
            2,
            "lymphocytes <0.5 x10^9/L",
            Below(ALC, &ALC_NONE),
        ),
        line("deafness", 4, "sensorineural deafness", Token("deafness")),
        line(
            "trec",
            3,
            "TREC absent or newborn screen positive",
            Token("trec_absent"),
        ),
        line(
            "gcsf",
            2,
            "no response of neutrophils to G-CSF",
            Token("gcsf_refractory"),
        ),
        line("sepsis", 1, "sepsis", Token("sepsis")),
        line(
            "others_kept",
            1,
            "haemoglobin and platelets within limits",
            All(&[Not(&IsLow(Erythroid)), Not(&IsLow(Platelet))]),
        ),
        line("gene", 6, "biallelic AK2 variants", Token("gene:AK2")),
        line("thymus", 2, "no thymic shadow", Token("no_thymus")),
        line(
            "preterm",
            -1,
            "born before 32 weeks",
            Below(GestationAtBirth, &PRETERM),
        ),
        line(
            "maternal_pressure",
            -2,
            "maternal hypertension or HELLP",
            Token("maternal_pih"),
        ),
        line(
            "maternal_drug",
            -2,
            "maternal immunosuppressant or chemotherapy",
            Token("maternal_drug"),
        ),
    ],
    excluding: &[],
    priors: priors("-1 -2 - - - - - -"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Lymphocytes missing with ANC <0.5: indeterminate and urgent, differential now; maternal T cells can raise the lymphocyte count.",
    urgency: &[(U4, Always)],
    next: "Manual differential; lymphocyte subsets, TREC; isolation per local policy; irradiated CMV-negative products, no live vaccines; hearing test; AK2; transplant centre today.",
    source: HOENIG,
    confidence: High,
};
