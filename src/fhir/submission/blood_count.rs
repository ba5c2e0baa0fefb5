//! To which Observations the blood-count profile applies.

use crate::fhir::{codes, tree::Tree};

/// Whether an Observation carries a LOINC code of a blood count, itself or in a component.
pub(super) fn is_blood_count(resource: &Tree<'_>) -> bool {
    resource.resource_type() == Some("Observation")
        && (has_known_code(resource) || resource.items("component").iter().any(has_known_code))
}

fn has_known_code(owner: &Tree<'_>) -> bool {
    owner.get("code").is_some_and(|concept| {
        concept.items("coding").iter().any(|coding| {
            let loinc = coding.text("system").and_then(codes::loinc_system);
            loinc.is_some() && coding.text("code").is_some_and(codes::is_known_loinc)
        })
    })
}
