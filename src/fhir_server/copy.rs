//! The copy of a resource for one target: its patient, its ids.

use std::collections::{BTreeSet, HashMap};

use serde_json::{Value, json};

use crate::fhir::write::{self, Resource};

/// Ids on the target by our own `Type/id`.
pub(super) type RemoteIds = HashMap<String, String>;

/// The copy of a stored resource of ours whose subject is the target's patient; `None` when it is
/// none of ours.
pub(super) fn for_patient(body: &Value, patient: &str) -> Option<Value> {
    Resource::stored(body.clone()).map(|resource| write::for_target(&resource, patient))
}

/// Takes out what points to resources that a human deleted (`Type/id`): list items, and extensions.
/// Servers refuse a reference to what is deleted, and the rest must not fail with it.
pub(super) fn without(value: &mut Value, gone: &BTreeSet<String>) {
    match value {
        Value::Array(items) => {
            items.retain(|item| {
                let reference = item
                    .get("reference")
                    .or(item.pointer("/valueReference/reference"));
                !reference
                    .and_then(Value::as_str)
                    .is_some_and(|reference| gone.contains(bare(reference)))
            });
            for item in items {
                without(item, gone);
            }
        }
        // An empty list is no FHIR.
        Value::Object(members) => members.retain(|_, member| {
            without(member, gone);
            !member.as_array().is_some_and(Vec::is_empty)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// A reference without its version.
fn bare(reference: &str) -> &str {
    reference
        .split_once("/_history/")
        .map_or(reference, |(bare, _)| bare)
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
    let ours = bare(reference);
    let there = remote.get(ours)?;
    let (kind, _) = ours.split_once('/')?;
    Some(format!("{kind}/{there}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_not_pointed_to() {
        let mut body = json!({
            "target": [{"reference": "Flag/mf-1"}, {"reference": "DiagnosticReport/mf-2/_history/1"}],
            "extension": [{"url": "u", "valueReference": {"reference": "DiagnosticReport/mf-2"}}],
            "agent": [{"who": {"reference": "Device/mf-d"}}]
        });
        without(
            &mut body,
            &BTreeSet::from(["DiagnosticReport/mf-2".to_owned()]),
        );
        let left = json!({
            "target": [{"reference": "Flag/mf-1"}],
            "agent": [{"who": {"reference": "Device/mf-d"}}]
        });
        assert_eq!(body, left);
    }

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
