//! D01 Aplastic anaemia.

use crate::clinical::{mimics::DEFICIENCY, rule::prelude::*};

const CAMITTA: &str = "Camitta 1976/1979; IAASG 1987; BSH adult AA guideline 2024";
const OURS: &str = "project choice";

static HB_LIMIT: Limit = limit("D01.hb", "100", "1", "g/L", CAMITTA, High);
static PLT_LIMIT: Limit = limit("D01.plt", "50", "1", "10*9/L", CAMITTA, High);
static ANC_LIMIT: Limit = limit("D01.anc", "1.5", "0.01", "10*9/L", CAMITTA, High);
static SEVERE_ANC: Limit = limit("D01.severe_anc", "0.5", "0.01", "10*9/L", CAMITTA, High);
static VERY_SEVERE_ANC: Limit = limit("D01.vsaa_anc", "0.2", "0.01", "10*9/L", CAMITTA, High);
static SEVERE_PLT: Limit = limit("D01.severe_plt", "20", "1", "10*9/L", CAMITTA, High);
static SEVERE_ARC: Limit = limit("D01.severe_arc", "60", "1", "10*9/L", CAMITTA, High);
static SEVERE_ARC_MANUAL: Limit =
    limit("D01.severe_arc_manual", "20", "1", "10*9/L", CAMITTA, High);
static HYPOCELLULAR: Limit = limit("D01.hypocellular", "25", "1", "%", CAMITTA, High);
static NOT_CLEARLY: Limit = limit(
    "D01.not_clearly_hypocellular",
    "50",
    "1",
    "%",
    CAMITTA,
    High,
);
static CELLULAR: Limit = limit("D01.cellular", "50", "1", "%", OURS, Medium);
static CELLULAR_OLD: Limit = limit("D01.cellular_old", "35", "1", "%", OURS, Low);
static OLD: Limit = limit("D01.old", "70", "1", "a", OURS, Low);
static CLONE: Limit = limit("D01.pnh_clone", "0.1", "0.01", "%", OURS, Medium);
static LYMPHOCYTES: Limit = limit("D01.lymphocytes", "60", "0.1", "%", OURS, Low);
static LYMPHOCYTES_ANC: Limit = limit("D01.lymphocytes_anc", "1.0", "0.01", "10*9/L", OURS, Low);
static NRBC_LIMIT: Limit = limit("D01.nrbc", "1", "0.1", "/100{WBCs}", OURS, Low);
static NRBC_AGE: Limit = limit("D01.nrbc_age", "28", "1", "d", OURS, Low);
static RESPONDING: Limit = limit("D01.arc_responding", "100", "1", "10*9/L", OURS, Low);
static MCV_VERY_HIGH: Limit = limit("D01.mcv_very_high", "115", "0.1", "fL", OURS, Low);
static ADULT: Limit = limit("D01.adult", "18", "1", "a", OURS, High);
static FERRITIN_LIMIT: Limit = limit("D01.ferritin", "2000", "1", "ug/L", OURS, Low);
static FERRITIN_DAYS: Days = Days(limit("D01.ferritin_days", "7", "1", "d", OURS, Low));
static BLASTS_LIMIT: Limit = limit("D01.blasts", "1", "0.1", "%", OURS, Medium);

static COUNTS: Criterion = AtLeast(
    2,
    &[
        Below(HB, &HB_LIMIT),
        Below(PLT, &PLT_LIMIT),
        Below(ANC, &ANC_LIMIT),
    ],
);

static MARROW_EMPTY: Criterion = Optional(&Below(CELLULARITY, &HYPOCELLULAR));

static HYPOCELLULAR_MARROW: Criterion = Any(&[Same(&MARROW_EMPTY), Token("bm_hypocellular")]);

/// Two of the three counts of severe aplastic anaemia. Reticulocytes not sent: the two others
/// alone, and undecided when exactly one of them is met.
pub(super) static SEVERE: Criterion = AtLeast(
    2,
    &[
        Below(ANC, &SEVERE_ANC),
        Below(PLT, &SEVERE_PLT),
        Any(&[
            All(&[NotTrue("arc_manual"), Below(ARC, &SEVERE_ARC)]),
            Below(ARC, &SEVERE_ARC_MANUAL),
        ]),
    ],
);

/// The rule.
pub static RULE: Rule = Rule {
    id: "D01",
    slug: "aplastic-anemia-suspected",
    name: "Aplastic anaemia",
    kind: Kind::Acquired,
    sentence: "Two or more blood lines are low enough to meet the published count thresholds for \
               {label}; a marrow biopsy is needed to tell an empty marrow from other causes.",
    gate: All(&[
        Any(&[Same(&COUNTS), All(&[Same(&MARROW_EMPTY), LowLineages(1)])]),
        NotBlocking(&Not(&Reticulocytes(Retics::Regenerative))),
    ]),
    required: "Hb, PLT, ANC (2 of 3 suffice); reticulocytes for severity",
    evidence: &[
        line(
            "marrow",
            6,
            "marrow cellularity <25 %, or 25-50 % with <30 % residual haematopoietic cells",
            Same(&HYPOCELLULAR_MARROW),
        ),
        line(
            "reticulocytes",
            2,
            "reticulocyte class low or inadequate",
            Any(&[
                Reticulocytes(Retics::Low),
                Reticulocytes(Retics::Inadequate),
            ]),
        ),
        line(
            "hepatitis",
            2,
            "acute hepatitis in the last 180 d, or ALT >5x upper limit",
            // The token is also TRUE by an ALT above 5 times the limit in that time (4.7).
            Token("hepatitis_recent"),
        ),
        line(
            "pnh",
            3,
            "PNH clone >=0.1 % of granulocytes",
            NotBelow(PNH, &CLONE),
        ),
        line(
            "exposure",
            1,
            "exposure to benzene, solvents, pesticides, radiation accident or a listed drug",
            AnyToken(&[
                "tox_benzene",
                "tox_pesticide",
                "rad_accident",
                "drug_high",
                "drug_other",
            ]),
        ),
        line(
            "no_organs",
            1,
            "spleen and lymph nodes recorded as not enlarged",
            All(&[Refuted("splenomegaly"), Refuted("lymphadenopathy")]),
        ),
        line(
            "lymphocytes",
            1,
            "lymphocytes >60 % of white cells with ANC <1.0",
            All(&[
                Above(LymphocytePercent, &LYMPHOCYTES),
                Below(ANC, &LYMPHOCYTES_ANC),
            ]),
        ),
        line("spleen", -3, "splenomegaly", Token("splenomegaly")),
        line("nodes", -2, "lymphadenopathy", Token("lymphadenopathy")),
        line(
            "cytotoxic",
            -4,
            "cytotoxic chemotherapy in the last 42 d or radiotherapy in the last 60 d",
            AnyToken(&["chemo_42", "rt_60"]),
        ),
        line(
            "deficiency",
            -4,
            "B12 <148 pmol/L, folate <7 nmol/L or copper <10 umol/L",
            Same(&DEFICIENCY),
        ),
        line(
            "microcytic",
            -2,
            "MCV below the limit for age",
            BelowRange(Analyte::Mcv),
        ),
        line(
            "leukoerythroblastic",
            -4,
            "leukoerythroblastic film, or nucleated red cells >=1/100 from 28 d of age",
            Any(&[
                Token("leukoerythroblastic"),
                All(&[NotBelow(NRBC, &NRBC_LIMIT), AtAge(&NRBC_AGE)]),
            ]),
        ),
        line(
            "responding",
            -3,
            "reticulocytes >=100 x10^9/L: the marrow is responding (PNH, TMA, recovery or pooling)",
            NotBelow(ARC, &RESPONDING),
        ),
        line(
            "macrocytic",
            -1,
            "MCV >115 fL in an adult",
            All(&[Above(MCV, &MCV_VERY_HIGH), AtAge(&ADULT)]),
        ),
        line(
            "ferritin",
            -4,
            "ferritin >=2000 ug/L: hyper-inflammation",
            NotBelow(Within(Analyte::Ferritin, &FERRITIN_DAYS), &FERRITIN_LIMIT),
        ),
    ],
    excluding: &[
        excludes(
            "blasts",
            "blasts >=1 % in blood, or blasts seen on the film",
            Any(&[
                NotBelow(BLASTS, &BLASTS_LIMIT),
                Token("blasts_flagged_film"),
            ]),
        ),
        excludes(
            "cellular",
            "marrow cellularity >=50 % (>=35 % from 70 years)",
            Any(&[
                NotBelow(CELLULARITY, &CELLULAR),
                All(&[NotBelow(CELLULARITY, &CELLULAR_OLD), AtAge(&OLD)]),
            ]),
        ),
    ],
    priors: priors("-3 -2 0 +1 +1 +2 +1 +1"),
    caps: &[],
    labels: &[
        Label {
            text: "HYPO-BELOW-AA",
            when: All(&[Not(&Surely(&COUNTS)), Same(&MARROW_EMPTY)]),
        },
        Label {
            text: "VSAA",
            when: All(&[Same(&SEVERE), Below(ANC, &VERY_SEVERE_ANC)]),
        },
        Label {
            text: "SAA",
            when: Same(&SEVERE),
        },
        Label {
            text: "AA severity INDETERMINATE",
            when: Undecided(&SEVERE),
        },
        Label {
            text: "NSAA",
            when: Always,
        },
    ],
    suffixes: &[
        Label {
            text: "",
            when: All(&[Not(&Surely(&COUNTS)), Same(&MARROW_EMPTY)]),
        },
        Label {
            text: "-MARROW",
            when: Same(&HYPOCELLULAR_MARROW),
        },
        Label {
            text: "-COUNTS",
            when: Always,
        },
    ],
    remarks: &[
        Label {
            text: "Marrow not clearly hypocellular.",
            when: All(&[
                Between(CELLULARITY, &HYPOCELLULAR, &NOT_CLEARLY),
                NotTrue("bm_hypocellular"),
            ]),
        },
        Label {
            text: "A reticulocyte count would decide the severity.",
            when: Undecided(&SEVERE),
        },
    ],
    if_missing: "Reticulocytes missing: severity uses ANC and PLT only; if exactly one of them is \
                 met, severity is indeterminate. Marrow missing: only the count thresholds are named.",
    urgency: &[
        (U4, All(&[Same(&SEVERE), Fired("S02")])),
        (U3, Surely(&SEVERE)),
        (
            U3,
            All(&[
                Undecided(&SEVERE),
                Any(&[Below(ANC, &SEVERE_ANC), Below(PLT, &SEVERE_PLT)]),
            ]),
        ),
        (U2, Always),
    ],
    next: "Repeat CBC, film and reticulocytes; discuss stopping suspect drugs with the prescriber; \
           B12, folate, copper; viral screen (hepatitis A/B/C/E, HIV, EBV, CMV, parvovirus B19); \
           pregnancy test; ANA; LFT; marrow aspirate, trephine and cytogenetics; PNH flow; \
           chromosome breakage (DEB/MMC) below 50 years; telomere flow-FISH; inherited marrow \
           failure gene panel; irradiated products; transplant-centre referral.",
    source: CAMITTA,
    confidence: High,
};
