//! From a `CodeableConcept` to the rows of the table that it meets.

use super::{
    table::{Condition, Row, System, TABLE, Use, Voice},
    text,
};
use crate::fhir::tree::Tree;

/// Diagnostic certainty that ICD-10-GM codes carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Certainty {
    /// A: excluded.
    Excluded,
    /// V: suspected.
    Suspected,
    /// Z: state after.
    Past,
    /// G: confirmed.
    Confirmed,
}

/// One row that a concept meets, after all its codings were weighed.
#[derive(Debug, Clone)]
pub(super) struct Hit {
    /// The row.
    pub(super) row: &'static Row,
    /// The code as it was compared; empty when words matched.
    pub(super) code: String,
    /// Certainty of the coding it came from.
    pub(super) certainty: Option<Certainty>,
    /// Whether the row's text condition holds.
    pub(super) text_fits: bool,
    /// Whether it was words that matched.
    pub(super) by_text: bool,
    /// Whether the words stood beside a cue of doubt or negation.
    pub(super) cancelled: bool,
}

impl Hit {
    /// The token with the qualifier of its row.
    pub(super) fn token(&self) -> String {
        match self.row.qualifier() {
            // Where the words decide, nothing else needs to.
            Some(_) if self.row.voice == Voice::Mentions && self.says() => {
                self.row.token.to_owned()
            }
            Some(qualifier) => format!("{}@{qualifier}", self.row.token),
            None => self.row.token.to_owned(),
        }
    }

    /// Whether the row itself says the token is so: not only mentioned, and its text fits.
    pub(super) fn says(&self) -> bool {
        !self.cancelled
            && match self.row.voice {
                Voice::Says => true,
                Voice::Mentions => self.text_fits,
                Voice::Never => false,
            }
    }
}

/// The codings of a concept that have a system we read.
pub(super) fn codings<'t>(
    concept: &'t Tree<'t>,
) -> impl Iterator<Item = (System, &'t str, &'t Tree<'t>)> {
    concept.items("coding").iter().filter_map(|coding| {
        let system = System::from_uri(coding.text("system")?)?;
        Some((system, coding.text("code")?, coding))
    })
}

/// Whether the concept has any coding at all, of whatever system.
pub(super) fn is_coded(concept: &Tree<'_>) -> bool {
    concept
        .items("coding")
        .iter()
        .any(|coding| coding.text("code").is_some())
}

/// The rows a concept meets: per token the longest code wins, a row that forbids the token wins
/// ties and beats shorter codes; words only when there is no coding.
pub(super) fn hits(concept: &Tree<'_>, kind: Use) -> Vec<Hit> {
    let words = concept.text("text").unwrap_or_default();
    let mut best: Vec<(Hit, usize)> = Vec::new();
    for (system, code, coding) in codings(concept) {
        let certainty = certainty(coding);
        for (row, length) in TABLE.rows_of(system, code) {
            if !usable(row, system, kind) {
                continue;
            }
            let hit = Hit {
                row,
                code: system.normal(code),
                certainty,
                text_fits: text_fits(row, words),
                by_text: false,
                cancelled: false,
            };
            keep_longest(&mut best, hit, length);
        }
    }
    let mut hits: Vec<Hit> = best.into_iter().map(|(hit, _)| hit).collect();
    if hits.is_empty() && !is_coded(concept) && !words.is_empty() {
        hits.extend(by_text(words, kind));
    }
    hits
}

/// Rows whose phrase stands in a text of its own.
pub(super) fn by_text(words: &str, kind: Use) -> Vec<Hit> {
    TABLE
        .texts()
        .filter(|row| row.usable_by(kind))
        .filter_map(|row| {
            let found = text::find(words, &row.code)?;
            Some(Hit {
                row,
                code: String::new(),
                certainty: None,
                text_fits: true,
                by_text: true,
                cancelled: found == text::Found::Cancelled,
            })
        })
        .collect()
}

fn usable(row: &Row, system: System, kind: Use) -> bool {
    // A procedure with an ICD diagnosis code (Z51.0) can only arrive as a diagnosis.
    row.usable_by(kind)
        || (kind == Use::Condition
            && matches!(system, System::Icd10Cm | System::Icd10)
            && row.usable_by(Use::Procedure))
}

fn keep_longest(best: &mut Vec<(Hit, usize)>, hit: Hit, length: usize) {
    let strength = |hit: &Hit| match hit.row.voice {
        Voice::Never => 2,
        Voice::Says => 1,
        Voice::Mentions => 0,
    };
    match best
        .iter_mut()
        .find(|(other, _)| other.row.token == hit.row.token)
    {
        None => best.push((hit, length)),
        Some(other) => {
            if (length, strength(&hit)) > (other.1, strength(&other.0)) {
                *other = (hit, length);
            }
        }
    }
}

fn text_fits(row: &Row, words: &str) -> bool {
    row.when.iter().any(|condition| match condition {
        Condition::Text(alternatives) => alternatives
            .iter()
            .any(|phrase| text::find(words, phrase) == Some(text::Found::Said)),
        _ => false,
    })
}

fn certainty(coding: &Tree<'_>) -> Option<Certainty> {
    coding.items("extension").iter().find_map(|extension| {
        let url = extension.text("url")?;
        if !url.ends_with("icd-10-gm-diagnosesicherheit") {
            return None;
        }
        match extension.get("valueCoding")?.text("code")? {
            "A" => Some(Certainty::Excluded),
            "V" => Some(Certainty::Suspected),
            "Z" => Some(Certainty::Past),
            "G" => Some(Certainty::Confirmed),
            _ => None,
        }
    })
}
