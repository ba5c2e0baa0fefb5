//! The copy of a resource for one target: its patient, its ids.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::fhir::write::{self, Resource};

/// Ids on the target by our own `Type/id`.
pub(super) type RemoteIds = HashMap<String, String>;

/// The copy of a stored resource of ours whose subject is the target's patient; `None` when it is
/// none of ours.
pub(super) fn for_patient(body: &Value, patient: &str) -> Option<Value> {
    Resource::stored(body.clone()).map(|resource| write::for_target(&resource, patient))
}

/// Writes the target's ids into every reference to a resource of ours, and `id` as the own one.
pub(super) fn with_ids(mut copy: Value, id: Option<&str>, remote: &RemoteIds) -> Value {
    if let Some(resource) = copy.as_object_mut() {
        match id {
            Some(id) => resource.insert("id".to_owned(), json!(id)),
            None => resource.remove("id"),
        };
    }
    if !remote.is_empty() {
        rewrite(&mut copy, remote);
    }
    copy
}

fn rewrite(value: &mut Value, remote: &RemoteIds) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| rewrite(item, remote)),
        Value::Object(members) => {
            for (name, member) in members.iter_mut() {
                match member {
                    Value::String(reference) if name == "reference" => {
                        if let Some(there) = translated(reference, remote) {
                            *reference = there;
                        }
                    }
                    other => rewrite(other, remote),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// `Type/id` with the target's id; a version of ours is dropped, for the target counts its own.
pub(super) fn translated(reference: &str, remote: &RemoteIds) -> Option<String> {
    let ours = reference
        .split_once("/_history/")
        .map_or(reference, |(ours, _)| ours);
    let there = remote.get(ours)?;
    let (kind, _) = ours.split_once('/')?;
    Some(format!("{kind}/{there}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subject_and_references_become_the_targets() {
        let body = json!({
            "resourceType": "Flag", "id": "mf-1",
            "subject": {"reference": "Patient/p1", "identifier": {"system": "s", "value": "v"}},
            "author": {"reference": "Device/mf-d"},
            "extension": [{"valueReference": {"reference": "DiagnosticReport/mf-r/_history/2"}}],
            "code": {"text": "Device/mf-d"}
        });
        let remote = RemoteIds::from([
            ("Device/mf-d".to_owned(), "7".to_owned()),
            ("DiagnosticReport/mf-r".to_owned(), "8".to_owned()),
        ]);
        let copy = with_ids(for_patient(&body, "42").unwrap(), None, &remote);
        assert_eq!(
            copy,
            json!({
                "resourceType": "Flag",
                "subject": {"reference": "Patient/42", "identifier": {"system": "s", "value": "v"}},
                "author": {"reference": "Device/7"},
                "extension": [{"valueReference": {"reference": "DiagnosticReport/8"}}],
                "code": {"text": "Device/mf-d"}
            })
        );
        assert_eq!(
            with_ids(body.clone(), Some("mf-1"), &RemoteIds::new()),
            body
        );
    }
}
