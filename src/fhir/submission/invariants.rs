//! Invariants of FHIR that no schema can say, because they compare one part with another.

use crate::fhir::{
    model::{Model, Place},
    outcome::{Issue, word},
    path::{Path, Step},
    tree::Tree,
};

/// obs-7: where a component has the code of the Observation, the Observation has no value.
pub(super) fn obs_7(model: &Model, resource: &Tree<'_>, place: &Place<'_>) -> Option<Issue> {
    let has_value = resource
        .members()
        .iter()
        .any(|(name, _)| name.starts_with("value"));
    if !has_value {
        return None;
    }
    let own = codings(resource);
    let twin = resource
        .items("component")
        .iter()
        .position(|component| codings(component).iter().any(|code| own.contains(code)))?;
    let text = "obs-7: A component repeats the code of the Observation, which has a value too";
    let path = Path(vec![Step::Name("component".into()), Step::Index(twin)]).child("code");
    Some(model.locate(Issue::error(word::INVARIANT, text), resource, &path, place))
}

/// System and code of each coding.
fn codings<'t>(owner: &'t Tree<'_>) -> Vec<(Option<&'t str>, &'t str)> {
    owner
        .get("code")
        .map_or(&[][..], |concept| concept.items("coding"))
        .iter()
        .filter_map(|coding| Some((coding.text("system"), coding.text("code")?)))
        .collect()
}
