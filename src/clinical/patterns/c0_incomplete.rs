//! C0 One lineage low, another one not known.

use super::{ANAEMIA, NEUTROPENIA, THROMBOCYTOPENIA};
use crate::clinical::rule::prelude::*;

const SENTENCE: &str = "Only part of the blood count was received.";
const NEXT: &str = "Complete blood count with differential.";
const SOURCE: &str = "clinical specification 4.1";

/// C0 (E).
pub static ERYTHROID: Watch = Watch {
    id: "C0",
    name: "Haemoglobin low; another lineage unknown",
    slug: Some("anemia"),
    levels: &[Level {
        id: "E",
        name: None,
        when: All(&[IsLow(Erythroid), Not(&Surely(&LowLineages(2)))]),
        urgency: ANAEMIA,
        sentence: SENTENCE,
        remarks: &[],
    }],
    next: NEXT,
    source: SOURCE,
    confidence: High,
};

/// C0 (N).
pub static NEUTROPHIL: Watch = Watch {
    id: "C0",
    name: "Neutrophils low; another lineage unknown",
    slug: Some("neutropenia"),
    levels: &[Level {
        id: "N",
        name: None,
        when: All(&[IsLow(Neutrophil), Not(&Surely(&LowLineages(2)))]),
        urgency: NEUTROPENIA,
        sentence: SENTENCE,
        remarks: &[],
    }],
    next: NEXT,
    source: SOURCE,
    confidence: High,
};

/// C0 (P).
pub static PLATELET: Watch = Watch {
    id: "C0",
    name: "Platelets low; another lineage unknown",
    slug: Some("thrombocytopenia"),
    levels: &[Level {
        id: "P",
        name: None,
        when: All(&[IsLow(Platelet), Not(&Surely(&LowLineages(2)))]),
        urgency: THROMBOCYTOPENIA,
        sentence: SENTENCE,
        remarks: &[],
    }],
    next: NEXT,
    source: SOURCE,
    confidence: High,
};
