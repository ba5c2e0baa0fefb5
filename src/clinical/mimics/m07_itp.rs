//! M07 Immune thrombocytopenia (ITP).

use crate::clinical::rule::prelude::*;

const IWG: &str = "IWG, Rodeghiero, Blood 2009";
const OURS: &str = "project choice";
static PLT_ITP: Limit = limit("M07.plt", "100", "1", "10*9/L", IWG, High);
static PLT_LOW: Limit = limit("M07.plt_low", "20", "1", "10*9/L", OURS, Medium);
static PLT_MODERATE: Limit = limit("M07.plt_moderate", "50", "1", "10*9/L", OURS, Medium);
static IPF_HIGH: Limit = limit("M07.ipf_high", "10", "0.1", "%", OURS, Low);
static IPF_LOW: Limit = limit("M07.ipf_low", "5", "0.1", "%", OURS, Low);
static MPV_HIGH: Limit = limit("M07.mpv", "11.5", "0.1", "fL", OURS, Low);
static CHILD: Limit = limit("M07.child", "18", "1", "a", OURS, Medium);
static YOUNG_INFANT: Limit = limit("M07.infant", "90", "1", "d", OURS, Low);
static OLDER: Limit = limit("M07.older", "60", "1", "a", OURS, Medium);
static BLASTS_SEEN: Limit = limit("M07.blasts", "1", "0.1", "%", OURS, Medium);

/// The rule.
pub static RULE: Rule = Rule {
    id: "M07",
    slug: "mimic-itp",
    name: "Immune thrombocytopenia (ITP)",
    kind: Kind::Mimic,
    sentence: "Platelets alone are low with otherwise normal counts; destruction by antibodies (ITP) is commoner than marrow failure.",
    gate: All(&[
        Optional(&Below(PLT, &PLT_ITP)),
        Not(&IsLow(Erythroid)),
        Not(&IsLow(Neutrophil)),
        Not(&Token("clumped")),
    ]),
    required: "PLT, Hb, ANC",
    evidence: &[
        line(
            "ipf_high",
            3,
            "immature platelet fraction >=10 %",
            NotBelow(IPF, &IPF_HIGH),
        ),
        line(
            "mpv",
            1,
            "mean platelet volume >11.5 fL",
            Above(MPV, &MPV_HIGH),
        ),
        line(
            "normal_before",
            2,
            "platelets not low in the 24 months before",
            Token("prev_normal_plt"),
        ),
        line(
            "viral",
            1,
            "child with a viral illness in the last 6 weeks",
            All(&[Token("viral_recent"), Younger(&CHILD)]),
        ),
        line("autoimmune", 1, "autoimmune disease", Token("autoimmune")),
        line("very_low", 1, "platelets <20 x10^9/L", Below(PLT, &PLT_LOW)),
        line(
            "response",
            3,
            "response to immunoglobulin or steroid",
            Token("itp_response"),
        ),
        line("spleen", -3, "splenomegaly", Token("splenomegaly")),
        line(
            "anomaly",
            -4,
            "congenital anomaly",
            AnyToken(&[
                "thumb_radial_anomaly",
                "absent_radii",
                "cardiac_defect",
                "craniofacial",
                "short_stature",
            ]),
        ),
        line(
            "macrocytic",
            -2,
            "MCV above the limit for age",
            AboveRange(Analyte::Mcv),
        ),
        line(
            "ipf_low",
            -2,
            "immature platelet fraction <5 % with platelets <50",
            All(&[Below(IPF, &IPF_LOW), Below(PLT, &PLT_MODERATE)]),
        ),
        line("young", -3, "younger than 90 d", Younger(&YOUNG_INFANT)),
        line(
            "since_birth",
            -4,
            "low since birth",
            Token("plt_low_since_birth"),
        ),
        line(
            "family",
            -2,
            "thrombocytopenia in the family",
            Token("family_thrombocytopenia"),
        ),
        line(
            "microangiopathy",
            -2,
            "fever with acute neurological signs or kidney injury",
            All(&[Token("fever"), AnyToken(&["neuro_signs", "aki"])]),
        ),
        line("older", -1, "60 years or older", AtAge(&OLDER)),
    ],
    excluding: &[excludes(
        "blasts",
        "blasts >=1 % in blood, or blasts seen on the film",
        Any(&[NotBelow(BLASTS, &BLASTS_SEEN), Token("blasts_flagged_film")]),
    )],
    priors: priors("-2 +1 +3 +3 +2 +3 +2 +1"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Immature platelet fraction missing: not needed.",
    urgency: &[
        (U4, Token("bleeding")),
        (U3, Below(PLT, &PLT_LOW)),
        (U2, Below(PLT, &PLT_MODERATE)),
        (U1, Always),
    ],
    next: "Film (clumps, giant platelets, schistocytes, blasts); HIV, hepatitis C, H. pylori; drug history; immunoglobulins; ANA in adolescents and adults; marrow examination only if atypical or from 60 years with other changes.",
    source: IWG,
    confidence: High,
};
