//! C6 Macrocytosis without anaemia.

use crate::clinical::rule::prelude::*;

/// The rule.
pub static RULE: Watch = Watch {
    id: "C6",
    name: "Macrocytosis without anaemia",
    slug: Some("macrocytosis"),
    levels: &[Level {
        id: "mcv",
        name: None,
        when: All(&[
            Not(&IsLow(Erythroid)),
            AboveRange(Analyte::Mcv),
            Trusted(MCV),
        ]),
        urgency: &[(U1, Always)],
        sentence: "Large red cells can be the first sign of B12 lack, alcohol, drugs, MDS, Fanconi \
                   anaemia or telomere disease.",
        remarks: &[],
    }],
    next: "B12, folate, TSH, LFT, drug and alcohol review; film.",
    source: "clinical specification 4.1",
    confidence: Medium,
};
