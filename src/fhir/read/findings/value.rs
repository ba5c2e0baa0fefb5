//! What the value of a coded result says: present, absent, or neither.

use rust_decimal::Decimal;

use super::{code, table::System, text};
use crate::{clinical::truth::Truth, fhir::tree::Tree};

/// A JSON number as a decimal, with or without exponent.
pub(super) fn decimal(number: &Tree<'_>) -> Option<Decimal> {
    let text = number.as_number()?;
    text.parse()
        .ok()
        .or_else(|| Decimal::from_scientific(text).ok())
}

/// Whether there is a result in words, of any kind. A number under the code of an appearance is a
/// mistake of the sender.
pub(super) fn has_words(observation: &Tree<'_>) -> bool {
    ["valueString", "valueCodeableConcept", "valueBoolean"]
        .iter()
        .any(|name| observation.get(name).is_some())
}

/// Which side of the laboratory's range the token means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Above it, or present.
    High,
    /// Below it.
    Low,
    /// Inside it.
    Inside,
}

/// Whether the value of an Observation (or component) says that what its code names is there.
///
/// `None`: no value at all. Order: coded value, boolean, interpretation, number against its
/// reference range, exact words of absence.
pub(super) fn presence(observation: &Tree<'_>, side: Side) -> Option<Truth> {
    if observation.get("dataAbsentReason").is_some() {
        return Some(Truth::Unknown);
    }
    if let Some(concept) = observation.get("valueCodeableConcept")
        && let Some(truth) = coded(concept)
    {
        return Some(truth);
    }
    if let Some(value) = observation.get("valueBoolean").and_then(Tree::as_bool) {
        return Some(value.into());
    }
    if let Some(truth) = interpretation(observation, side) {
        return Some(truth);
    }
    if let Some(quantity) = observation.get("valueQuantity") {
        return Some(against_range(observation, quantity, side));
    }
    if let Some(words) = observation.text("valueString") {
        return Some(words_say(words));
    }
    observation
        .get("valueCodeableConcept")
        .map(|concept| words_say(concept.text("text").unwrap_or_default()))
}

fn words_say(words: &str) -> Truth {
    if text::says_absent(words) {
        return Truth::False;
    }
    match words.trim().to_ascii_lowercase().as_str() {
        "negative" | "neg" | "not detected" | "nonreactive" | "non-reactive" => Truth::False,
        "positive" | "pos" | "present" | "detected" | "reactive" => Truth::True,
        _ => Truth::Unknown,
    }
}

/// Answers of LOINC and SNOMED CT to "is it there".
fn coded(concept: &Tree<'_>) -> Option<Truth> {
    for coding in concept.items("coding") {
        let code = coding.text("code")?;
        let truth = match System::from_uri(coding.text("system").unwrap_or_default()) {
            Some(System::Loinc) => match code {
                "LA9633-4" | "LA6576-8" | "LA11882-0" | "LA15255-5" | "LA15173-0" => Truth::True,
                "LA9634-2" | "LA6577-6" | "LA11883-8" | "LA15256-3" | "LA26683-5" => Truth::False,
                "LA11884-6" | "LA4489-6" | "LA13538-6" => Truth::Unknown,
                _ => continue,
            },
            Some(System::Snomed) => match code {
                "52101004" | "10828004" | "260373001" | "11214006" => Truth::True,
                "2667000" | "260385009" | "260415000" | "131194007" => Truth::False,
                "82334004" => Truth::Unknown,
                _ => continue,
            },
            _ => continue,
        };
        return Some(truth);
    }
    if code::is_coded(concept) {
        None
    } else {
        concept.text("text").map(words_say)
    }
}

fn interpretation(observation: &Tree<'_>, side: Side) -> Option<Truth> {
    let code = observation
        .items("interpretation")
        .iter()
        .flat_map(|concept| concept.items("coding"))
        .find_map(|coding| coding.text("code"))?;
    Some(match (code, side) {
        ("IND" | "E", _) | ("A" | "AA", Side::Low | Side::Inside) => Truth::Unknown,
        ("N", Side::Inside)
        | ("POS" | "DET" | "RR" | "H" | "HH" | "HU" | "A" | "AA", Side::High)
        | ("L" | "LL" | "LU", Side::Low) => Truth::True,
        ("NEG" | "ND" | "NR" | "N" | "L" | "LL" | "LU", Side::High)
        | ("N" | "H" | "HH" | "HU", Side::Low)
        | ("H" | "HH" | "HU" | "L" | "LL" | "LU", Side::Inside) => Truth::False,
        _ => return None,
    })
}

fn against_range(observation: &Tree<'_>, quantity: &Tree<'_>, side: Side) -> Truth {
    if quantity.get("comparator").is_some() {
        return Truth::Unknown;
    }
    let Some(value) = quantity.get("value").and_then(decimal) else {
        return Truth::Unknown;
    };
    let unit = |quantity: &Tree<'_>| {
        quantity
            .text("code")
            .or_else(|| quantity.text("unit"))
            .map(str::to_owned)
    };
    let bound = |name: &str| {
        observation
            .items("referenceRange")
            .iter()
            .find(|range| range.get("type").is_none())
            .and_then(|range| range.get(name))
            .filter(|bound| unit(bound) == unit(quantity))
            .and_then(|bound| decimal(bound.get("value")?))
    };
    let (low, high) = (bound("low"), bound("high"));
    match side {
        Side::High => high.map_or(Truth::Unknown, |high| (value > high).into()),
        Side::Low => low.map_or(Truth::Unknown, |low| (value < low).into()),
        Side::Inside => match (low, high) {
            (None, None) => Truth::Unknown,
            _ => {
                (low.is_none_or(|low| value >= low) && high.is_none_or(|high| value <= high)).into()
            }
        },
    }
}

/// A test like `>=6`, `>3.5`, `<2.3` or `<224d` (days, weeks accepted) on the number sent.
pub(super) fn number_meets(observation: &Tree<'_>, test: &str) -> Truth {
    let meets = || {
        let (test, in_days) = match test.strip_suffix('d') {
            Some(test) => (test, true),
            None => (test, false),
        };
        let (value, unit) = match observation.get("valueQuantity") {
            Some(quantity) if quantity.get("comparator").is_none() => (
                decimal(quantity.get("value")?)?,
                quantity.text("code").or_else(|| quantity.text("unit")),
            ),
            Some(_) => return None,
            None => (decimal(observation.get("valueInteger")?)?, None),
        };
        let value = match (in_days, unit) {
            (true, Some("d")) | (false, _) => value,
            (true, Some("wk")) => value.checked_mul(Decimal::from(7))?,
            (true, _) => return None,
        };
        if let Some(limit) = test.strip_prefix(">=") {
            Some(value >= limit.parse::<Decimal>().ok()?)
        } else if let Some(limit) = test.strip_prefix('>') {
            Some(value > limit.parse::<Decimal>().ok()?)
        } else {
            Some(value < test.strip_prefix('<')?.parse::<Decimal>().ok()?)
        }
    };
    meets().map_or(Truth::Unknown, Truth::from)
}
