//! D21 Barth syndrome.

use crate::clinical::rule::prelude::*;

const CLARKE: &str = "Clarke, OJRD 2013;8:23; GeneReviews NBK247162";
const OURS: &str = "project choice";
static YOUNG: Limit = limit("D21.age", "25", "1", "a", OURS, Low);
static LACTATE_HIGH: Limit =
    limit("D21.lactate", "2.5", "0.1", "mmol/L", OURS, Medium).or(&[in_unit("mg/dL", "22.5")]);
static ANC_SEVERE: Limit = limit("D21.anc", "0.5", "0.01", "10*9/L", OURS, Medium);

/// The rule.
pub static RULE: Rule = Rule {
    id: "D21",
    slug: "barth-suspected",
    name: "Barth syndrome",
    kind: Kind::Inherited,
    sentence: "A boy with low neutrophils and heart-muscle or skeletal-muscle disease should be tested for Barth syndrome.",
    gate: All(&[
        Not(&Surely(&OfSex(Sex::Female))),
        Younger(&YOUNG),
        Any(&[IsLow(Neutrophil), Blocking(&Token("neutropenia_past"))]),
        AnyToken(&["cardiomyopathy", "mga_high", "myopathy", "gene:TAFAZZIN"]),
    ]),
    required: "sex, ANC, recorded conditions",
    evidence: &[
        line("heart", 4, "cardiomyopathy", Token("cardiomyopathy")),
        line("acid", 4, "3-methylglutaconic aciduria", Token("mga_high")),
        line("muscle", 2, "myopathy or hypotonia", Token("myopathy")),
        line(
            "growth",
            1,
            "growth delay",
            AnyToken(&["short_stature", "failure_to_thrive"]),
        ),
        line(
            "monocytes",
            1,
            "monocytes above the limit for age",
            AboveRange(Analyte::Amc),
        ),
        line(
            "lactate",
            1,
            "lactate >2.5 mmol/L or reported high",
            Any(&[Above(LACTATE, &LACTATE_HIGH), Token("lactate_high")]),
        ),
        line(
            "cardiolipin",
            8,
            "ratio of monolysocardiolipin to cardiolipin raised",
            Token("mlcl_high"),
        ),
        line(
            "gene",
            8,
            "hemizygous TAFAZZIN variant",
            Token("gene:TAFAZZIN"),
        ),
        line(
            "family",
            2,
            "male relatives with early cardiac or infective death",
            Token("family_xlinked_death"),
        ),
        line(
            "antibody",
            -2,
            "anti-neutrophil antibody positive",
            Token("antineutrophil_ab"),
        ),
    ],
    excluding: &[],
    priors: priors("-1 -1 -1 -2 -2 -3 - -"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Neutropenia can be absent, intermittent or cyclic: an ANC within limits does not argue against it.",
    urgency: &[(U3, Below(ANC, &ANC_SEVERE)), (U2, Always)],
    next: "Echocardiogram, ECG; urine organic acids (can be normal in infancy); monolysocardiolipin ratio; TAFAZZIN; serial ANC.",
    source: CLARKE,
    confidence: High,
};
