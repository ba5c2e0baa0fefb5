//! How the results that a finding rests on are named: by identifier where they have one, else in
//! words. Never as a literal reference: the target of a write-back need not hold them.

use serde_json::{Value, json};

use super::{identifier_or_none, words};
use crate::clinical::{
    assessment::{Assessment, Doubt, Value as Used},
    timeline::Source,
};

/// What an assessment of one specimen rests on: the values used, then those of its day that could
/// not be used.
pub(super) fn all(assessment: &Assessment, most: usize) -> Vec<Value> {
    let mut inputs = used(assessment, most);
    let refused = words::refused_of_index(assessment);
    inputs.extend(refusals(refused, most.saturating_sub(inputs.len())));
    inputs
}

/// The values used; a line may rest on one of an older specimen.
pub(super) fn used(assessment: &Assessment, most: usize) -> Vec<Value> {
    let lines = assessment
        .lineages
        .iter()
        .filter_map(|line| line.value.as_ref());
    references(assessment.used.iter().chain(lines), most)
}

/// One reference for each input, at most `most`; several values of one Observation are one input.
pub(super) fn references<'v>(
    values: impl IntoIterator<Item = &'v Used>,
    most: usize,
) -> Vec<Value> {
    let mut inputs: Vec<(Option<Value>, Vec<String>)> = Vec::new();
    for value in values {
        let display = words::display(value);
        if value.sources.is_empty() {
            add(&mut inputs, None, &display);
        }
        for source in &value.sources {
            add(&mut inputs, named(source), &display);
        }
    }
    finish(inputs, most)
}

fn refusals<'v>(doubts: impl IntoIterator<Item = &'v Doubt>, most: usize) -> Vec<Value> {
    let mut inputs = Vec::new();
    for doubt in doubts {
        let display = format!("{} (not used)", words::as_sent(doubt));
        add(&mut inputs, named(&doubt.source), &display);
    }
    finish(inputs, most)
}

fn named(source: &Source) -> Option<Value> {
    source
        .identifier
        .as_ref()
        .and_then(|(system, value)| identifier_or_none(system, value))
}

fn add(inputs: &mut Vec<(Option<Value>, Vec<String>)>, name: Option<Value>, display: &str) {
    let known = inputs
        .iter_mut()
        .find(|(other, displays)| match (&name, other) {
            (Some(name), Some(other)) => name == other,
            (None, None) => displays.iter().any(|said| said == display),
            _ => false,
        });
    match known {
        Some((_, displays)) if displays.iter().any(|said| said == display) => {}
        Some((_, displays)) => displays.push(display.to_owned()),
        None => inputs.push((name, vec![display.to_owned()])),
    }
}

fn finish(inputs: Vec<(Option<Value>, Vec<String>)>, most: usize) -> Vec<Value> {
    inputs
        .into_iter()
        .take(most)
        .map(|(name, displays)| {
            let display = words::clean(&displays.join("; "), 250);
            match name {
                Some(identifier) => json!({"identifier": identifier, "display": display}),
                None => json!({"display": display}),
            }
        })
        .collect()
}
