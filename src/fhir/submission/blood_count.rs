//! To which Observations the blood-count profile applies.

use std::{collections::HashSet, sync::LazyLock};

use crate::fhir::tree::Tree;

/// Whether an Observation carries a LOINC code of a blood count, itself or in a component.
pub(super) fn is_blood_count(resource: &Tree<'_>) -> bool {
    resource.resource_type() == Some("Observation")
        && (has_known_code(resource) || resource.items("component").iter().any(has_known_code))
}

fn has_known_code(owner: &Tree<'_>) -> bool {
    owner.get("code").is_some_and(|concept| {
        concept.items("coding").iter().any(|coding| {
            matches!(
                coding.text("system"),
                Some("http://loinc.org" | "urn:oid:2.16.840.1.113883.6.1")
            ) && coding.text("code").is_some_and(is_known_loinc)
        })
    })
}

/// The codes of the table whose role is not `do-not-use`.
static KNOWN: LazyLock<HashSet<&'static str>> = LazyLock::new(|| {
    include_str!("../loinc.tsv")
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut columns = line.split('\t');
            let code = columns.next()?;
            (columns.nth(7)? != "do-not-use").then_some(code)
        })
        .collect()
});

fn is_known_loinc(code: &str) -> bool {
    KNOWN.contains(code)
}
