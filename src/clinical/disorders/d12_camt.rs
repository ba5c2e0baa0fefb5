//! D12 Congenital amegakaryocytic thrombocytopenia.

use crate::clinical::rule::prelude::*;

const BALLMAIER: &str = "Ballmaier and Germeshausen; Blood 2006;108:1109";
const OURS: &str = "project choice";
static ONE_YEAR: Limit = limit("D12.age", "1", "1", "a", BALLMAIER, Medium);
static PLT_LOW: Limit = limit("D12.plt", "50", "1", "10*9/L", BALLMAIER, Medium);
static PERSISTENT: Limit = limit("D12.persistent", "28", "1", "d", OURS, Low);
static MPV_FROM: Limit = limit("D12.mpv_from", "7", "0.1", "fL", OURS, Low);
static MPV_TO: Limit = limit("D12.mpv_to", "11", "0.1", "fL", OURS, Low);
static MPV_LARGE: Limit = limit("D12.mpv_large", "12", "0.1", "fL", OURS, Low);
static IPF_LOW: Limit = limit("D12.ipf_low", "5", "0.1", "%", OURS, Low);
static IPF_HIGH: Limit = limit("D12.ipf_high", "10", "0.1", "%", OURS, Low);

/// The rule.
pub static RULE: Rule = Rule {
    id: "D12",
    slug: "camt-suspected",
    name: "Congenital amegakaryocytic thrombocytopenia",
    kind: Kind::Inherited,
    sentence: "Severe low platelets from birth that do not recover point to failure of platelet production; megakaryocytes seen early in life do not argue against it.",
    gate: All(&[
        Any(&[Younger(&ONE_YEAR), Token("plt_low_since_birth")]),
        Below(PLT, &PLT_LOW),
        Not(&Token("absent_radii")),
        Any(&[
            Persists(&Below(PLT, &PLT_LOW), &PERSISTENT),
            Token("plt_low_since_birth"),
        ]),
    ]),
    required: "PLT on two dates at least",
    evidence: &[
        line("birth", 2, "low at birth", Token("plt_low_since_birth")),
        line(
            "mpv",
            1,
            "mean platelet volume 7-11 fL",
            All(&[NotBelow(MPV, &MPV_FROM), AtMost(MPV, &MPV_TO)]),
        ),
        line(
            "ipf",
            2,
            "immature platelet fraction <5 %",
            Below(IPF, &IPF_LOW),
        ),
        line(
            "marrow",
            5,
            "megakaryocytes absent or severely reduced",
            Token("bm_no_megas"),
        ),
        line("tpo", 2, "thrombopoietin raised", Token("tpo_high")),
        line(
            "gene",
            6,
            "biallelic MPL or THPO variants",
            Token("gene:MPL"),
        ),
        line(
            "no_nait",
            2,
            "alloimmune thrombocytopenia recorded as absent",
            Refuted("nait"),
        ),
        line("consanguinity", 1, "consanguinity", Token("consanguinity")),
        line(
            "progression",
            2,
            "a second line low",
            Any(&[IsLow(Erythroid), IsLow(Neutrophil)]),
        ),
        line(
            "mpv_large",
            -2,
            "mean platelet volume >12 fL",
            Above(MPV, &MPV_LARGE),
        ),
        line(
            "ipf_high",
            -2,
            "immature platelet fraction >=10 %",
            NotBelow(IPF, &IPF_HIGH),
        ),
        line("nait", -4, "HPA incompatibility or antibody", Token("nait")),
        line("maternal_itp", -4, "maternal ITP", Token("maternal_itp")),
        line("torch", -2, "TORCH infection", Token("torch")),
        line(
            "sepsis",
            -3,
            "sepsis or necrotising enterocolitis",
            Token("sepsis"),
        ),
        line(
            "wiskott",
            -3,
            "male with eczema and mean platelet volume <7 fL (Wiskott-Aldrich)",
            All(&[OfSex(Sex::Male), Token("eczema"), Below(MPV, &MPV_FROM)]),
        ),
        line(
            "recovered",
            -4,
            "platelets >=100 without transfusion",
            Token("plt_recovered"),
        ),
    ],
    excluding: &[],
    priors: priors("-1 0 -1 -2 - - - -"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "One result or less than 28 d: indeterminate (alloimmune thrombocytopenia usually resolves by 4 weeks).",
    urgency: &[(U3, Always)],
    next: "HPA typing and antibodies, maternal platelets, TORCH and CMV, film with MPV and IPF; thrombopoietin; marrow (again at 2-3 months); MPL, THPO, MECOM, RUNX1, WAS genes; forearm X-ray; transplant centre referral.",
    source: BALLMAIER,
    confidence: Medium,
};
