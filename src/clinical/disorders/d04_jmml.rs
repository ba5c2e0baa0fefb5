//! D04 Juvenile myelomonocytic leukaemia.

use crate::clinical::rule::prelude::*;

const WHO: &str = "WHO 2016, WHO 2022, ICC 2022; age and infant limits are project choices";
const OURS: &str = "project choice";
static CHILD: Limit = limit("D04.age", "14", "1", "a", OURS, Low);
static ONE_YEAR: Limit = limit("D04.one_year", "1", "1", "a", OURS, Low);
static YOUNG_INFANT: Limit = limit("D04.infant", "60", "1", "d", OURS, Low);
static AMC_HIGH: Limit = limit("D04.amc", "1.0", "0.01", "10*9/L", WHO, High);
static AMC_HIGH_INFANT: Limit = limit("D04.amc_infant", "1.5", "0.01", "10*9/L", OURS, Low);
static AMC_HIGH_NEWBORN: Limit = limit("D04.amc_newborn", "3.0", "0.01", "10*9/L", OURS, Low);
static BLASTS_MAX: Limit = limit("D04.blasts", "20", "0.1", "%", WHO, High);
static BLASTS_SEEN: Limit = limit("D04.blasts_seen", "1", "0.1", "%", WHO, Medium);
static NRBC_SEEN: Limit = limit("D04.nrbc", "1", "0.1", "/100{WBCs}", OURS, Low);
static NRBC_FROM: Limit = limit("D04.nrbc_from", "8", "1", "d", OURS, Low);
static IG_HIGH: Limit = limit("D04.ig", "3", "0.1", "%", OURS, Low);
static WBC_HIGH: Limit = limit("D04.wbc", "10", "0.1", "10*9/L", WHO, High);
static PAST_NEONATE: Limit = limit("D04.wbc_from", "28", "1", "d", OURS, Low);
static WBC_VERY_HIGH: Limit = limit("D04.wbc_very_high", "100", "1", "10*9/L", OURS, Low);
static SCHOOL_AGE: Limit = limit("D04.older", "6", "1", "a", OURS, Low);

/// Monocytes above the limit for age.
static MONOCYTOSIS: Criterion = Any(&[
    All(&[AtAge(&ONE_YEAR), NotBelow(AMC, &AMC_HIGH)]),
    All(&[
        AtAge(&YOUNG_INFANT),
        Younger(&ONE_YEAR),
        NotBelow(AMC, &AMC_HIGH_INFANT),
    ]),
    All(&[Younger(&YOUNG_INFANT), NotBelow(AMC, &AMC_HIGH_NEWBORN)]),
]);

/// Immature cells in blood, by number.
static PRECURSORS: Criterion = Any(&[
    All(&[AtAge(&NRBC_FROM), Optional(&NotBelow(NRBC, &NRBC_SEEN))]),
    Optional(&NotBelow(IG, &IG_HIGH)),
]);

/// The rule.
pub static RULE: Rule = Rule {
    id: "D04",
    slug: "jmml-suspected",
    name: "Juvenile myelomonocytic leukaemia",
    kind: Kind::Clonal,
    sentence: "A persistently raised monocyte count in a young child, especially with a large spleen, is a recognised presentation of juvenile myelomonocytic leukaemia.",
    gate: All(&[
        Younger(&CHILD),
        Any(&[
            Optional(&MONOCYTOSIS),
            All(&[
                Optional(&Above(WBC, &WBC_HIGH)),
                Token("splenomegaly"),
                Optional(&IsLow(Platelet)),
                Blocking(&MONOCYTOSIS),
            ]),
        ]),
        NotBlocking(&Below(BLASTS, &BLASTS_MAX)),
        Any(&[
            AnyToken(&[
                "splenomegaly",
                "hbf_high",
                "leukoerythroblastic",
                "nf1",
                "noonan",
                "cbl_syndrome",
                "gene:RAS",
                "monosomy7",
                "mono_persist",
            ]),
            Optional(&IsLow(Platelet)),
            Same(&PRECURSORS),
            Optional(&NotBelow(BLASTS, &BLASTS_SEEN)),
        ]),
    ]),
    required: "monocytes",
    evidence: &[
        line("spleen", 3, "splenomegaly", Token("splenomegaly")),
        line("platelets", 1, "platelets low", IsLow(Platelet)),
        line("anaemia", 1, "anaemia", IsLow(Erythroid)),
        line(
            "white_cells",
            1,
            "white cells >10 x10^9/L from 28 d of age",
            All(&[Above(WBC, &WBC_HIGH), AtAge(&PAST_NEONATE)]),
        ),
        line("hbf", 2, "HbF high for age", Token("hbf_high")),
        line(
            "precursors",
            1,
            "myeloid or erythroid precursors in blood",
            Any(&[Token("leukoerythroblastic"), Same(&PRECURSORS)]),
        ),
        line(
            "syndrome",
            3,
            "NF1, Noonan or CBL syndrome",
            AnyToken(&["nf1", "noonan", "cbl_syndrome"]),
        ),
        line(
            "gene",
            6,
            "pathogenic variant of the RAS pathway",
            Token("gene:RAS"),
        ),
        line("monosomy7", 3, "monosomy 7", Token("monosomy7")),
        line(
            "persistent",
            1,
            "monocytosis on two results at least 28 d apart",
            Token("mono_persist"),
        ),
        line(
            "infection",
            -3,
            "acute EBV, CMV or parvovirus infection proven",
            AnyToken(&["ebv", "cmv", "parvo"]),
        ),
        line(
            "very_high",
            -1,
            "white cells >=100 x10^9/L",
            NotBelow(WBC, &WBC_VERY_HIGH),
        ),
        line("older", -2, "6 years or older", AtAge(&SCHOOL_AGE)),
    ],
    excluding: &[excludes("bcr_abl", "BCR::ABL1 present", Token("bcr_abl"))],
    priors: priors("-1 0 0 -2 -3 - - -"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Monocytes missing with white cells >10, a large spleen and low platelets: indeterminate, differential needed.",
    urgency: &[(U3, Always)],
    next: "Film; HbF; EBV, CMV, HHV6, parvovirus; BCR::ABL1; PTPN11, KRAS, NRAS, NF1, CBL (blood and germline tissue); marrow with karyotype; paediatric haemato-oncology referral.",
    source: WHO,
    confidence: High,
};
