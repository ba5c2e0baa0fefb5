//! C3 Isolated anaemia, by what the reticulocytes say.

use super::ANAEMIA;
use crate::clinical::rule::prelude::*;

const SOURCE: &str = "clinical specification 4.1";

/// C3h.
pub static HYPOPROLIFERATIVE: Watch = Watch {
    id: "C3h",
    name: "Isolated hypoproliferative anaemia",
    slug: Some("anemia-hyporegenerative"),
    levels: &[Level {
        id: "low",
        name: None,
        when: All(&[
            OnlyLow(Erythroid),
            Any(&[
                Reticulocytes(Retics::Low),
                Reticulocytes(Retics::Inadequate),
            ]),
        ]),
        urgency: ANAEMIA,
        sentence: "Haemoglobin is low and the marrow is not making enough new red cells.",
        remarks: &[],
    }],
    next: "Ferritin, B12, folate, CRP, creatinine, TSH, film; by age also the causes of low red \
           cell production.",
    source: SOURCE,
    confidence: Medium,
};

/// C3r.
pub static REGENERATIVE: Watch = Watch {
    id: "C3r",
    name: "Isolated regenerative anaemia",
    slug: Some("anemia"),
    levels: &[Level {
        id: "high",
        name: None,
        when: All(&[OnlyLow(Erythroid), Reticulocytes(Retics::Regenerative)]),
        urgency: ANAEMIA,
        sentence: "The marrow is responding; loss or destruction is likelier than failure.",
        remarks: &[],
    }],
    next: "DAT, LDH, haptoglobin, bilirubin, film; bleeding source.",
    source: SOURCE,
    confidence: Medium,
};

/// C3i.
pub static INTERMEDIATE: Watch = Watch {
    id: "C3i",
    name: "Isolated anaemia, reticulocytes intermediate",
    slug: Some("anemia"),
    levels: &[Level {
        id: "between",
        name: None,
        when: All(&[OnlyLow(Erythroid), Reticulocytes(Retics::Intermediate)]),
        urgency: ANAEMIA,
        sentence: "Reticulocytes are neither clearly low nor high.",
        remarks: &[],
    }],
    next: "Repeat reticulocytes, haemolysis markers.",
    source: SOURCE,
    confidence: Medium,
};

/// C3u: the indeterminate form.
pub static UNKNOWN: Watch = Watch {
    id: "C3u",
    name: "Isolated anaemia, reticulocytes unknown",
    slug: Some("anemia"),
    levels: &[Level {
        id: "unknown",
        name: None,
        when: OnlyLow(Erythroid),
        urgency: ANAEMIA,
        sentence: "A reticulocyte count is needed to tell low production from loss.",
        remarks: &[],
    }],
    next: "Reticulocyte count on the same or the next sample.",
    source: SOURCE,
    confidence: High,
};
