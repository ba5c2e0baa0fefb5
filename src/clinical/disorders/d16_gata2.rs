//! D16 GATA2 deficiency.

use crate::clinical::rule::prelude::*;

const SPINNER: &str =
    "Spinner, Blood 2014; Ganapathi, Blood 2015;125:56; the monocyte limits are project choices";
const OURS: &str = "project choice";
static ONE_YEAR: Limit = limit("D16.age", "1", "1", "a", OURS, Medium);
static AMC_LOW: Limit = limit("D16.amc", "0.2", "0.01", "10*9/L", OURS, Medium);
static AMC_VERY_LOW: Limit = limit("D16.amc_very_low", "0.1", "0.01", "10*9/L", OURS, Medium);
static OLDER: Limit = limit("D16.older", "60", "1", "a", OURS, Low);

/// What GATA2 deficiency is recognised by beside the counts.
static PHENOTYPE: &[Criterion] = &[
    Token("warts"),
    Token("ntm"),
    Token("lymphoedema"),
    Token("pap"),
    Token("blow"),
    Token("nklow"),
    Token("family_mds_aml"),
];

/// The rule.
pub static RULE: Rule = Rule {
    id: "D16",
    slug: "gata2-suspected",
    name: "GATA2 deficiency",
    kind: Kind::Inherited,
    sentence: "Very low monocytes, particularly with low B and NK cells, unusual infections, warts or lymphoedema, is the pattern of GATA2 deficiency.",
    gate: All(&[
        AtAge(&ONE_YEAR),
        Any(&[
            All(&[
                Optional(&Below(AMC, &AMC_LOW)),
                Any(&[LowLineages(1), AtLeast(1, PHENOTYPE)]),
            ]),
            All(&[Surely(&AtLeast(2, PHENOTYPE)), Below(AMC, &AMC_LOW)]),
            AtLeast(3, PHENOTYPE),
        ]),
    ]),
    required: "monocytes",
    evidence: &[
        line(
            "monocytes",
            2,
            "monocytes <0.1 x10^9/L",
            Below(AMC, &AMC_VERY_LOW),
        ),
        line("b_cells", 2, "B-cell lymphopenia", Token("blow")),
        line("nk_cells", 2, "NK-cell lymphopenia", Token("nklow")),
        line("warts", 2, "extensive warts", Token("warts")),
        line(
            "mycobacteria",
            3,
            "non-tuberculous mycobacterial or invasive fungal infection",
            Token("ntm"),
        ),
        line(
            "lymphoedema",
            3,
            "primary lymphoedema",
            Token("lymphoedema"),
        ),
        line("pap", 2, "pulmonary alveolar proteinosis", Token("pap")),
        line("deafness", 1, "sensorineural deafness", Token("deafness")),
        line(
            "family",
            2,
            "MDS or AML in the family",
            Token("family_mds_aml"),
        ),
        line(
            "chromosomes",
            2,
            "monosomy 7 or trisomy 8",
            AnyToken(&["monosomy7", "trisomy8"]),
        ),
        line("gene", 6, "pathogenic GATA2 variant", Token("gene:GATA2")),
        line("hairy_cell", -4, "hairy cell leukaemia", Token("hcl")),
        line(
            "cytotoxic",
            -4,
            "cytotoxic drug in the last 42 d",
            Token("chemo_42"),
        ),
        line(
            "acute",
            -1,
            "high-dose steroid or acute sepsis",
            AnyToken(&["steroid_high", "sepsis"]),
        ),
        line("older", -1, "60 years or older", AtAge(&OLDER)),
        line(
            "aplasia",
            -1,
            "counts of severe aplastic anaemia without phenotype or subset data",
            All(&[
                Same(&super::d01_aplastic_anaemia::SEVERE),
                NotTrue("warts"),
                NotTrue("ntm"),
                NotTrue("lymphoedema"),
                NotTrue("pap"),
                NotTrue("family_mds_aml"),
                NotTrue("blow"),
                NotTrue("nklow"),
                NotTrue("monosomy7"),
                NotTrue("trisomy8"),
            ]),
        ),
    ],
    excluding: &[],
    priors: priors("- - -2 -1 0 0 -1 -2"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Monocytes missing with two phenotype items: indeterminate; monocyte count and lymphocyte subsets are needed.",
    urgency: &[(U2, Always)],
    next: "Lymphocyte subsets (B, NK, CD4), monocyte count on a manual differential; GATA2 sequencing with the intron enhancer; marrow with cytogenetics; mycobacterial cultures; hearing; family.",
    source: SPINNER,
    confidence: High,
};
