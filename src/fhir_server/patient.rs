//! Who the patient is on the target.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use serde_json::Value;
use time::{Duration, OffsetDateTime};

/// How long an answer holds.
const FRESH: Duration = Duration::minutes(10);
/// More patients than this are not remembered.
const CAPACITY: usize = 10_000;

/// How a patient was looked up.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Key {
    /// By identifier (system, value).
    Identifier(String, String),
    /// By id on the target.
    Id(String),
}

/// Ids of patients found lately.
#[derive(Debug, Default)]
pub(super) struct Known(Mutex<HashMap<Key, (OffsetDateTime, String)>>);

impl Known {
    pub(super) fn get(&self, key: &Key, now: OffsetDateTime) -> Option<String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, id) = known.get(key)?;
        // A clock that went back makes an answer stale, not eternal.
        ((now - *at).abs() < FRESH).then(|| id.clone())
    }

    pub(super) fn forget(&self, key: &Key) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(key);
    }

    pub(super) fn put(&self, key: Key, id: String, now: OffsetDateTime) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= CAPACITY {
            known.retain(|_, (at, _)| (now - *at).abs() < FRESH);
        }
        if known.len() < CAPACITY {
            known.insert(key, (now, id));
        }
    }
}

/// The id in a reference that means a patient of the server at `base`: a relative one, or an
/// absolute one below it.
pub(super) fn local_id(reference: &str, base: &str) -> Option<String> {
    let relative = reference
        .strip_prefix(base)
        .map_or(reference, |rest| rest.trim_start_matches('/'));
    let id = relative.strip_prefix("Patient/")?;
    let id = id.split_once("/_history/").map_or(id, |(id, _)| id);
    is_id(id).then(|| id.to_owned())
}

/// The FHIR data type id: what may become part of an address.
pub(super) fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
        && text.bytes().any(|byte| byte != b'.')
}

/// The id of a patient, or of the one that took its place in a merge.
pub(super) fn surviving_id(patient: &Value) -> Option<String> {
    let links = patient.get("link").and_then(Value::as_array);
    let replaced = links
        .into_iter()
        .flatten()
        .find(|link| link.get("type").and_then(Value::as_str) == Some("replaced-by"));
    let id = match replaced {
        None => patient.get("id")?.as_str()?,
        Some(link) => link
            .pointer("/other/reference")?
            .as_str()?
            .strip_prefix("Patient/")?,
    };
    is_id(id).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;

    use super::*;

    const NOW: OffsetDateTime = datetime!(2026-11-21 09:30 UTC);

    #[test]
    fn an_answer_holds_for_ten_minutes() {
        let known = Known::default();
        let key = Key::Identifier("s".to_owned(), "v".to_owned());
        known.put(key.clone(), "1".to_owned(), NOW);
        let at = |minutes| known.get(&key, NOW + Duration::minutes(minutes));
        assert_eq!(at(9).as_deref(), Some("1"));
        assert_eq!(at(10), None);
        assert_eq!(at(-10), None, "the clock went back");
    }

    #[test]
    fn only_a_reference_that_means_the_target_gives_an_id() {
        let base = "https://f.example/fhir";
        for reference in [
            "Patient/p1",
            "https://f.example/fhir/Patient/p1",
            "Patient/p1/_history/3",
        ] {
            assert_eq!(
                local_id(reference, base).as_deref(),
                Some("p1"),
                "{reference}"
            );
        }
        for reference in [
            "https://other.example/fhir/Patient/p1",
            "https://f.example/fhir-two/Patient/p1",
            "urn:uuid:5b1a2d10-0000-4000-8000-000000000001",
            "Patient/../Flag/x",
            "Patient/..",
            "Patient/",
            "Patient/p1?x=y",
            "Practitioner/p1",
            "#p",
        ] {
            assert_eq!(local_id(reference, base), None, "{reference}");
        }
    }

    #[test]
    fn a_merged_patient_is_the_one_that_survived() {
        let id = |patient| surviving_id(&patient);
        assert_eq!(id(json!({"id": "a"})).as_deref(), Some("a"));
        let merged = json!({"id": "a", "link": [
            {"type": "seealso", "other": {"reference": "Patient/c"}},
            {"type": "replaced-by", "other": {"reference": "Patient/b"}}
        ]});
        assert_eq!(id(merged).as_deref(), Some("b"));
        assert_eq!(id(json!({"id": "../x"})), None);
    }
}
