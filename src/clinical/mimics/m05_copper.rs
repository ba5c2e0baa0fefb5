//! M05 Copper deficiency or zinc excess.

use crate::clinical::{patterns::VERY_LOW, rule::prelude::*};

const GREGG: &str = "Gregg, Blood 2002;100:1493; Blood 2019;133:883";
const OURS: &str = "project choice";
/// Copper below this is a lack.
pub static COPPER_LOW: Limit =
    limit("M05.copper", "10", "0.1", "umol/L", GREGG, Medium).or(&[in_unit("ug/dL", "64")]);
static COPPER_VERY_LOW: Limit =
    limit("M05.copper_very_low", "5", "0.1", "umol/L", OURS, Low).or(&[in_unit("ug/dL", "32")]);

/// The rule.
pub static RULE: Rule = Rule {
    id: "M05",
    slug: "mimic-copper",
    name: "Copper deficiency or zinc excess",
    kind: Kind::Mimic,
    sentence: "Low copper causes low neutrophils and anaemia with normal platelets and can be mistaken for myelodysplasia; it is reversible.",
    gate: All(&[
        Any(&[IsLow(Erythroid), IsLow(Neutrophil)]),
        Any(&[
            Optional(&Below(COPPER, &COPPER_LOW)),
            All(&[
                AnyToken(&["bariatric", "zinc_excess", "tpn", "malabsorption"]),
                Below(COPPER, &COPPER_LOW),
            ]),
        ]),
    ]),
    required: "serum copper",
    evidence: &[
        line("copper", 7, "copper <10 umol/L", Below(COPPER, &COPPER_LOW)),
        line(
            "copper_very_low",
            1,
            "copper <5 umol/L",
            Below(COPPER, &COPPER_VERY_LOW),
        ),
        line(
            "zinc",
            2,
            "zinc above the upper limit of the laboratory",
            Token("zinc_high"),
        ),
        line(
            "risk",
            3,
            "bariatric or gastric surgery, zinc, parenteral nutrition or malabsorption",
            AnyToken(&["bariatric", "zinc_excess", "tpn", "malabsorption"]),
        ),
        line("neuropathy", 1, "myeloneuropathy", Token("neuropathy")),
        line(
            "platelets_kept",
            1,
            "platelets not low",
            Not(&IsLow(Platelet)),
        ),
    ],
    excluding: &[excludes(
        "copper_normal",
        "copper >=10 umol/L",
        NotBelow(COPPER, &COPPER_LOW),
    )],
    priors: priors("-1 -1 -1 -1 -1 0 +1 +1"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "Copper not sent with a risk factor: indeterminate.",
    urgency: &[(U3, Same(&VERY_LOW)), (U2, Always)],
    next: "Serum copper, caeruloplasmin, zinc, CRP; neurological examination; discuss stopping zinc and replacing copper; CBC again at 4-6 weeks before a marrow label.",
    source: GREGG,
    confidence: High,
};
