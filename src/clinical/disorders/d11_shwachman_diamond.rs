//! D11 Shwachman-Diamond syndrome.

use crate::clinical::rule::prelude::*;

const DROR: &str = "Dror 2011, Ann NY Acad Sci; Ip, J Pediatr 2002";
const OURS: &str = "project choice";
static AGE_MAX: Limit = limit("D11.age", "40", "1", "a", OURS, Low);
static ELASTASE_LOW: Limit = limit("D11.elastase", "200", "1", "ug/g", DROR, Medium);
static THREE_YEARS: Limit = limit("D11.three_years", "3", "1", "a", DROR, High);
static LACTATE_HIGH: Limit =
    limit("D11.lactate", "2.5", "0.1", "mmol/L", OURS, Medium).or(&[in_unit("mg/dL", "22.5")]);

/// Growth failure alone, pancreas not tested: cannot be decided.
static GROWTH_FAILURE_UNTESTED: Criterion = All(&[
    AnyToken(&["failure_to_thrive", "short_stature"]),
    Not(&Known(ELASTASE)),
    Undecided(&Blocking(&Token("trypsinogen_low"))),
    Undecided(&Blocking(&Token("isoamylase_low"))),
    Undecidable,
]);

/// The rule.
pub static RULE: Rule = Rule {
    id: "D11",
    slug: "shwachman-diamond-suspected",
    name: "Shwachman-Diamond syndrome",
    kind: Kind::Inherited,
    sentence: "Low neutrophils together with poor pancreatic function or bone changes is the pattern of Shwachman-Diamond syndrome.",
    gate: All(&[
        Younger(&AGE_MAX),
        Any(&[IsLow(Neutrophil), Blocking(&Token("neutropenia_past"))]),
        Any(&[
            Optional(&Below(ELASTASE, &ELASTASE_LOW)),
            All(&[Younger(&THREE_YEARS), Token("trypsinogen_low")]),
            All(&[AtAge(&THREE_YEARS), Token("isoamylase_low")]),
            AnyToken(&[
                "pancreatic_insufficiency",
                "steatorrhoea",
                "skeletal_dysplasia",
            ]),
            Same(&GROWTH_FAILURE_UNTESTED),
        ]),
    ]),
    required: "ANC and a pancreatic marker",
    evidence: &[
        line(
            "elastase",
            3,
            "faecal elastase <200 ug/g",
            Below(ELASTASE, &ELASTASE_LOW),
        ),
        line(
            "trypsinogen",
            3,
            "trypsinogen low below 3 years",
            All(&[Token("trypsinogen_low"), Younger(&THREE_YEARS)]),
        ),
        line(
            "isoamylase",
            2,
            "pancreatic isoamylase low from 3 years",
            All(&[Token("isoamylase_low"), AtAge(&THREE_YEARS)]),
        ),
        line(
            "steatorrhoea",
            2,
            "steatorrhoea or pancreatic lipomatosis",
            AnyToken(&["steatorrhoea", "pancreatic_insufficiency"]),
        ),
        line(
            "skeleton",
            2,
            "skeletal dysplasia",
            Token("skeletal_dysplasia"),
        ),
        line(
            "growth",
            1,
            "short stature or failure to thrive",
            AnyToken(&["short_stature", "failure_to_thrive"]),
        ),
        line("hbf", 1, "HbF high for age", Token("hbf_high")),
        line(
            "macrocytic",
            1,
            "MCV above the limit for age",
            AboveRange(Analyte::Mcv),
        ),
        line(
            "second_line",
            1,
            "a second line low",
            Any(&[IsLow(Erythroid), IsLow(Platelet)]),
        ),
        line(
            "gene",
            6,
            "biallelic SBDS variants or a related gene",
            Token("gene:SBDS"),
        ),
        line(
            "cystic_fibrosis",
            -6,
            "cystic fibrosis",
            Token("cystic_fibrosis"),
        ),
        line(
            "pearson",
            -3,
            "lactate >2.5 mmol/L or vacuolated precursors (Pearson syndrome)",
            Any(&[
                Above(LACTATE, &LACTATE_HIGH),
                AnyToken(&["lactate_high", "bm_vacuoles"]),
            ]),
        ),
        line(
            "elastase_kept",
            -3,
            "faecal elastase >=200 ug/g below 3 years",
            All(&[NotBelow(ELASTASE, &ELASTASE_LOW), Younger(&THREE_YEARS)]),
        ),
    ],
    excluding: &[],
    priors: priors("-2 0 0 -1 -2 -3 - -"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Neutropenia is intermittent: one ANC within limits does not argue against it; without earlier counts indeterminate, two CBC a week for 3 weeks are asked for.",
    urgency: &[(U2, Always)],
    next: "Faecal elastase; trypsinogen (below 3 years) or isoamylase (from 3 years); sweat test; skeletal survey; SBDS gene; marrow with cytogenetics yearly once established.",
    source: DROR,
    confidence: High,
};
