//! D08 Transient erythroblastopenia of childhood.

use crate::clinical::rule::prelude::*;

const REVIEW: &str = "Pediatr Emerg Care 2019;35:237; weights are project choices";
const OURS: &str = "project choice";
static HALF_YEAR: Limit = limit("D08.half_year", "183", "1", "d", REVIEW, Medium);
static FIVE_YEARS: Limit = limit("D08.age", "5", "1", "a", REVIEW, Medium);
static ANC_KEPT: Limit = limit("D08.anc", "0.5", "0.01", "10*9/L", OURS, Low);
static ONE_YEAR: Limit = limit("D08.one_year", "1", "1", "a", REVIEW, Medium);
static FOUR_YEARS: Limit = limit("D08.four_years", "4", "1", "a", REVIEW, Medium);
static PLT_HIGH: Limit = limit("D08.plt", "400", "1", "10*9/L", OURS, Low);
static UNRESOLVED: Limit = limit("D08.unresolved", "60", "1", "d", REVIEW, Medium);
static FERRITIN_LOW: Limit = limit("D08.ferritin", "15", "1", "ug/L", OURS, Medium);
static BLASTS_SEEN: Limit = limit("D08.blasts", "1", "0.1", "%", OURS, Medium);

/// The rule.
pub static RULE: Rule = Rule {
    id: "D08",
    slug: "tec-suspected",
    name: "Transient erythroblastopenia of childhood",
    kind: Kind::Acquired,
    sentence: "A toddler whose haemoglobin was previously normal and whose marrow has paused red cell production often recovers within 1-2 months; this should be shown by repeat counts.",
    gate: All(&[
        AtAge(&HALF_YEAR),
        Younger(&FIVE_YEARS),
        IsLow(Erythroid),
        Any(&[
            Reticulocytes(Retics::Low),
            All(&[
                Reticulocytes(Retics::Inadequate),
                Graded(Erythroid, Grade::Severe),
            ]),
            Token("recovered_hb"),
        ]),
        Not(&IsLow(Platelet)),
        NotBelow(ANC, &ANC_KEPT),
    ]),
    required: "Hb, reticulocytes, PLT, ANC",
    evidence: &[
        line(
            "age",
            2,
            "age 1 to under 4 years",
            All(&[AtAge(&ONE_YEAR), Younger(&FOUR_YEARS)]),
        ),
        line(
            "normal_before",
            3,
            "haemoglobin not low after 6 months of age",
            Token("prev_normal_hb"),
        ),
        line(
            "mcv",
            2,
            "MCV within the limits for age",
            All(&[
                Not(&BelowRange(Analyte::Mcv)),
                Not(&AboveRange(Analyte::Mcv)),
            ]),
        ),
        line("hbf", 1, "HbF not raised", Token("hbf_normal")),
        line(
            "eada",
            1,
            "erythrocyte adenosine deaminase not raised",
            Refuted("eada_high"),
        ),
        line(
            "viral",
            1,
            "viral illness in the last 42 d",
            Token("viral_recent"),
        ),
        line(
            "platelets",
            1,
            "platelets >400 x10^9/L",
            Above(PLT, &PLT_HIGH),
        ),
        line(
            "recovered",
            3,
            "recovered without transfusion within 60 d",
            Token("recovered_hb"),
        ),
        line(
            "macrocytic",
            -3,
            "MCV above the limit for age",
            AboveRange(Analyte::Mcv),
        ),
        line(
            "anomaly",
            -3,
            "congenital anomaly",
            AnyToken(&[
                "thumb_radial_anomaly",
                "craniofacial",
                "cardiac_defect",
                "short_stature",
            ]),
        ),
        line(
            "unresolved",
            -3,
            "low for at least 60 d",
            Surely(&Persists(&IsLow(Erythroid), &UNRESOLVED)),
        ),
        line("spleen", -1, "splenomegaly", Token("splenomegaly")),
        line(
            "eada_high",
            -3,
            "erythrocyte adenosine deaminase raised",
            Token("eada_high"),
        ),
        line(
            "iron",
            -2,
            "MCV low and ferritin <15 ug/L",
            All(&[BelowRange(Analyte::Mcv), Below(FERRITIN, &FERRITIN_LOW)]),
        ),
    ],
    excluding: &[excludes(
        "blasts",
        "blasts >=1 % in blood, or blasts seen on the film",
        Any(&[NotBelow(BLASTS, &BLASTS_SEEN), Token("blasts_flagged_film")]),
    )],
    priors: priors("- 0 +2 - - - - -"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Reticulocytes missing: indeterminate.",
    urgency: &[(U3, Graded(Erythroid, Grade::Severe)), (U2, Always)],
    next: "CBC and reticulocytes weekly until the reticulocytes rise; parvovirus B19; HbF and eADA below 1 year or with macrocytosis; film for blasts; marrow only with two lines low, blasts or no recovery by 8 weeks.",
    source: REVIEW,
    confidence: Medium,
};
