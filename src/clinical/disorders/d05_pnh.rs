//! D05 Paroxysmal nocturnal haemoglobinuria (PNH).

use crate::clinical::rule::prelude::*;

const PARKER: &str = "Parker, Blood 2005; ICCS/ESCCA 2018";
const OURS: &str = "project choice";
static CLONE_SEEN: Limit = limit("D05.clone_seen", "0.01", "0.01", "%", PARKER, Medium);
static CLONE_MINOR: Limit = limit("D05.clone_minor", "1", "0.01", "%", PARKER, Medium);
static CLONE_LARGE: Limit = limit("D05.clone_large", "10", "0.1", "%", OURS, Medium);
static LDH_HIGH: Limit = limit("D05.ldh", "1.5", "0.1", "1", PARKER, High);
static HAPTO_LOW: Limit = limit("D05.hapto", "0.3", "0.01", "g/L", OURS, Medium);
static FERRITIN_LOW: Limit = limit("D05.ferritin", "30", "1", "ug/L", OURS, Low);
static MCV_HIGH: Limit = limit("D05.mcv", "110", "0.1", "fL", OURS, Low);

static HAEMOLYTIC: Criterion = All(&[NotBelow(PNH, &CLONE_LARGE), NotBelow(LDH_X, &LDH_HIGH)]);

static SUBCLINICAL: Criterion = All(&[
    NotBelow(PNH, &CLONE_SEEN),
    Below(LDH_X, &LDH_HIGH),
    NotTrue("thrombosis_unusual"),
]);

/// The rule.
pub static RULE: Rule = Rule {
    id: "D05",
    slug: "pnh-suspected",
    name: "Paroxysmal nocturnal haemoglobinuria (PNH)",
    kind: Kind::Acquired,
    sentence: "Coombs-negative haemolysis with low counts or thrombosis is the pattern in which PNH should be tested; PNH is acquired (somatic PIGA), not inherited.",
    gate: Any(&[
        Optional(&NotBelow(PNH, &CLONE_SEEN)),
        All(&[
            IsLow(Erythroid),
            Optional(&NotBelow(LDH_X, &LDH_HIGH)),
            Any(&[
                Optional(&Below(HAPTOGLOBIN, &HAPTO_LOW)),
                Token("haemoglobinuria"),
            ]),
            Blocking(&Not(&Token("dat_positive"))),
        ]),
        All(&[Token("thrombosis_unusual"), LowLineages(1)]),
    ]),
    required: "PNH clone, or LDH, haptoglobin and DAT",
    evidence: &[
        line(
            "clone_large",
            6,
            "clone >=10 % of granulocytes",
            NotBelow(PNH, &CLONE_LARGE),
        ),
        line(
            "clone",
            4,
            "clone 1-<10 % of granulocytes",
            Between(PNH, &CLONE_MINOR, &CLONE_LARGE),
        ),
        line(
            "clone_small",
            1,
            "clone 0.01-<1 % of granulocytes",
            Between(PNH, &CLONE_SEEN, &CLONE_MINOR),
        ),
        line(
            "ldh",
            2,
            "LDH >=1.5x upper limit",
            NotBelow(LDH_X, &LDH_HIGH),
        ),
        line(
            "haemoglobinuria",
            3,
            "haemoglobinuria",
            Token("haemoglobinuria"),
        ),
        line(
            "thrombosis",
            2,
            "thrombosis at an unusual site",
            Token("thrombosis_unusual"),
        ),
        line(
            "other_lines",
            1,
            "neutropenia or thrombocytopenia",
            Any(&[IsLow(Neutrophil), IsLow(Platelet)]),
        ),
        line(
            "haptoglobin",
            1,
            "haptoglobin <0.3 g/L",
            Below(HAPTOGLOBIN, &HAPTO_LOW),
        ),
        DAT_NEGATIVE,
        line(
            "iron",
            1,
            "ferritin <30 ug/L",
            Below(FERRITIN, &FERRITIN_LOW),
        ),
        line(
            "dat_positive",
            -4,
            "direct antiglobulin test positive",
            Token("dat_positive"),
        ),
        line(
            "schistocytes",
            -3,
            "red cell fragments on the film",
            Token("schistocytes"),
        ),
        line(
            "hellp",
            -4,
            "HELLP pattern in pregnancy",
            Token("hellp_labs"),
        ),
        line(
            "macrocytic",
            -2,
            "MCV >110 fL without regenerative reticulocytes (B12 lack)",
            All(&[
                Above(MCV, &MCV_HIGH),
                Not(&Reticulocytes(Retics::Regenerative)),
            ]),
        ),
    ],
    excluding: &[excludes(
        "no_clone",
        "PNH flow cytometry done, clone <0.01 %",
        Below(PNH, &CLONE_SEEN),
    )],
    priors: priors("- - -3 -3 -1 0 0 -1"),
    caps: &[Cap {
        score: 7,
        text: "PNH flow cytometry not done",
        when: Not(&Known(PNH)),
    }],
    labels: &[
        Label {
            text: "haemolytic",
            when: Same(&HAEMOLYTIC),
        },
        Label {
            text: "PNH in marrow failure",
            when: All(&[
                NotBelow(PNH, &CLONE_MINOR),
                Any(&[Gate("D01"), Gate("D02")]),
            ]),
        },
        Label {
            text: "subclinical",
            when: Same(&SUBCLINICAL),
        },
    ],
    suffixes: &[],
    remarks: &[],
    if_missing: "Flow cytometry not done: at most a moderate fit. DAT missing in the haemolysis arm: indeterminate.",
    urgency: &[
        (U3, Any(&[Same(&HAEMOLYTIC), Token("thrombosis_unusual")])),
        (U1, Same(&SUBCLINICAL)),
        (U2, Always),
    ],
    next: "High-sensitivity PNH flow cytometry (FLAER with CD24/CD14; red cell CD59); LDH, haptoglobin, reticulocytes, DAT, urine haemosiderin, D-dimer and imaging if symptoms; clone again every 6-12 months in aplastic anaemia.",
    source: PARKER,
    confidence: Medium,
};
