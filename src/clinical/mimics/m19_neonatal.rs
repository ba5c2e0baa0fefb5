//! M19 Neonatal transient or immune cytopenia.

use crate::clinical::{rule::prelude::*, series};

const SOURCE: &str = "Wiedmeier, J Perinatol 2009; Manroe 1979";
const OURS: &str = "project choice";

static YOUNG: Limit = limit("M19.age", "60", "1", "d", OURS, Medium);
static PLT_URGENT: Limit = limit("M19.plt", "50", "1", "10*9/L", OURS, Medium);

static STAYED_LOW: Criterion = Custom(&Named {
    text: "low on at least two results, the first at 28 d of age or before, the index after",
    limits: &[],
    inputs: &[],
    tokens: &[],
    evaluate: stayed_low,
});

fn stayed_low(context: &Context<'_>) -> Answer {
    series::low_since_newborn(context).into()
}

/// The rule.
pub static RULE: Rule = Rule {
    id: "M19",
    slug: "mimic-neonatal",
    name: "Neonatal transient or immune cytopenia",
    kind: Kind::Mimic,
    sentence: "Most low platelets or neutrophils in the first weeks of life have a transient maternal \
               or neonatal cause.",
    gate: All(&[
        Younger(&YOUNG),
        Any(&[IsLow(Platelet), IsLow(Neutrophil)]),
        AnyToken(&[
            "nait",
            "maternal_itp",
            "maternal_pih",
            "sepsis",
            "iugr",
            "torch",
            "maternal_drug",
        ]),
    ]),
    required: "CBC and what is recorded of pregnancy and birth",
    evidence: &[
        line(
            "nait",
            5,
            "incompatibility or antibody against platelet antigens",
            Token("nait"),
        ),
        line(
            "maternal_itp",
            4,
            "mother with immune thrombocytopenia",
            Token("maternal_itp"),
        ),
        line(
            "hypertension",
            3,
            "maternal hypertension, HELLP or growth restriction",
            AnyToken(&["maternal_pih", "iugr"]),
        ),
        line(
            "sepsis",
            3,
            "sepsis or necrotising enterocolitis",
            Token("sepsis"),
        ),
        line("torch", 2, "congenital infection", Token("torch")),
        line(
            "stayed_low",
            -3,
            "still low after four weeks of life",
            Same(&STAYED_LOW),
        ),
    ],
    excluding: &[],
    priors: priors("+2 0 - - - - - -"),
    caps: &[],
    labels: &[],
    suffixes: &[],
    remarks: &[],
    if_missing: "What was not sent of pregnancy and birth counts as not so.",
    urgency: &[(U3, Below(PLT, &PLT_URGENT)), (U2, Always)],
    next: "Mother's blood count, platelet antigen typing and antibodies, cultures, CMV; repeat; refer \
           if still low at four weeks.",
    source: SOURCE,
    confidence: High,
};
