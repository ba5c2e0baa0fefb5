//! Findings on the blood film, and their thresholds.

use rust_decimal::Decimal;

use crate::{
    clinical::truth::Truth,
    fhir::{
        codes::Term,
        units,
        values::{self, Flags, Numbers, Presence, Value},
    },
};

/// What an answer says.
pub(super) struct Answer {
    /// Whether it is there; `None`: not understood.
    pub(super) presence: Option<Presence>,
    /// Word and text of a warning.
    pub(super) note: Option<(&'static str, &'static str)>,
}

/// Reads coding, text, boolean, grade or per cent; the interpretation only where there is no value.
pub(super) fn presence(value: &Value<'_>, flags: Flags) -> Answer {
    let mut note = None;
    let presence = match value {
        Value::Coded(concept) => values::answer(concept),
        Value::Text(text) => values::presence_word(text),
        Value::Boolean(there) => {
            note = Some((
                "value-kind",
                "a boolean for a finding; read as present or absent",
            ));
            Some(if *there {
                Presence::Present
            } else {
                Presence::Absent
            })
        }
        Value::Quantity(quantity) => match quantity.numbers {
            Numbers::One(None, number) => values::decimal(number)
                .ok()
                .and_then(|number| amount(number, quantity.unit)),
            _ => None,
        },
        Value::Absent(_) | Value::Unsupported(_) | Value::Nothing => None,
    };
    Answer {
        presence: presence.or(flags.presence),
        note,
    }
}

/// A grade from 0 to 4, or a share of the cells.
fn amount(number: Decimal, unit: units::Sent<'_>) -> Option<Presence> {
    if number.is_sign_negative() && !number.is_zero() {
        return None;
    }
    if number.is_zero() {
        return Some(Presence::Absent);
    }
    match unit.code.or(unit.unit).map(str::trim) {
        Some("%" | "percent") => Some(Presence::Percent(number)),
        None | Some("" | "1" | "{score}" | "{grade}") => u8::try_from(number)
            .ok()
            .filter(|grade| *grade <= 4 && number.fract().is_zero())
            .map(Presence::Grade),
        Some(_) => None,
    }
}

/// Codes whose value names a finding or tells a story.
pub(super) fn is_narrative(term: &Term) -> bool {
    matches!(
        term.key,
        "smear_finding"
            | "rbc_morphology"
            | "wbc_morphology"
            | "plt_morphology"
            | "smear_text"
            | "plt_adequacy"
    )
}

/// Whether the finding counts as there (thresholds of the terminology).
pub(super) fn is_true(term: &Term, presence: Option<Presence>) -> Truth {
    let grade_needed = if term.key == "schistocytes" { 2 } else { 1 };
    match presence {
        None | Some(Presence::Unknown) => Truth::Unknown,
        Some(Presence::Absent) => Truth::False,
        // 1+ schistocytes are recorded and not scored.
        Some(Presence::Grade(grade)) if grade < grade_needed => Truth::Unknown,
        Some(Presence::Percent(share)) => {
            let needed = match term.key {
                "schistocytes" => Decimal::ONE,
                "hypersegmented" => Decimal::from(5),
                _ => Decimal::ZERO,
            };
            if share >= needed {
                Truth::True
            } else {
                Truth::Unknown
            }
        }
        // "Present" without an amount does not reach a grade of 2.
        Some(Presence::Present) if grade_needed > 1 => Truth::Unknown,
        Some(Presence::Present | Presence::Grade(_)) => Truth::True,
    }
}

/// The tokens of the model that a finding sets.
pub(super) fn tokens(
    term: &Term,
    presence: Option<Presence>,
    value: &Value<'_>,
) -> Vec<(&'static str, Truth)> {
    let truth = is_true(term, presence);
    if term.key == "plt_adequacy" {
        let text = match value {
            Value::Text(text) => Some(*text),
            Value::Coded(concept) => values::text_of(concept),
            _ => None,
        };
        return match text.and_then(values::word) {
            Some(values::Word::Decreased) => vec![("plt_smear_low", Truth::True)],
            _ => Vec::new(),
        };
    }
    if presence.is_none() {
        return Vec::new();
    }
    match (term.key, term.code) {
        // The flag of an analyser alone is a suspicion.
        ("plt_clump", "40741-1") => vec![(
            "plt_clump",
            if truth.is_true() {
                Truth::Unknown
            } else {
                truth
            },
        )],
        ("plt_clump", _) => vec![("plt_clump", truth)],
        ("plt_satellitism", _) => vec![("plt_satellitism", truth)],
        ("schistocytes", _) => vec![("schistocytes", truth)],
        ("teardrops", _) => vec![("teardrops", truth)],
        // A number per volume has no threshold.
        ("hypersegmented", "30449-3") => Vec::new(),
        ("hypersegmented", _) => vec![("hypersegmented", truth)],
        ("dimorphic" | "pappenheimer", _) => vec![("dimorphic", truth)],
        // Pelger-Huet is inherited as well: alone it is no dysplasia, and its absence no proof.
        ("dysplasia", "18311-1") => vec![("dysplasia", Truth::Unknown)],
        ("dysplasia", _) => vec![("dysplasia", truth)],
        // Auer rods are blasts, whatever their share; no rods are no answer about blasts.
        ("auer_rods", _) if truth.is_true() => vec![("blasts_flagged_film", Truth::True)],
        _ => Vec::new(),
    }
}
