use std::sync::LazyLock;

use serde_json::{Value, json};

use super::*;
use crate::fhir::tree::{self, Limits};

static CHECKER: LazyLock<Checker> = LazyLock::new(|| Checker::new(Vec::new()).unwrap());

/// Refusal of the whole, refusals of the entries, and all issues as `severity word expression`.
type Seen = (Option<Refusal>, Vec<Option<Refusal>>, Vec<String>);

fn decode_text(text: &str, at: At) -> Seen {
    let parsed = tree::parse(text.as_bytes(), &Limits::default()).unwrap();
    let submission = CHECKER.decode(&parsed, Release::R4, at);
    let issues = submission
        .all_issues()
        .map(|issue| {
            let place = issue.expression.as_deref().unwrap_or("-");
            format!("{} {} {place}", issue.severity.code(), issue.word)
        })
        .collect();
    let entries = submission
        .entries
        .iter()
        .map(|entry| entry.refused)
        .collect();
    (submission.refused, entries, issues)
}

fn decode(value: &Value, at: At) -> Seen {
    decode_text(&value.to_string(), at)
}

fn haemoglobin() -> Value {
    json!({
        "resourceType": "Observation",
        "status": "final",
        "code": { "coding": [{ "system": "http://loinc.org", "code": "718-7" }] },
        "subject": { "reference": "Patient/p1" },
        "effectiveDateTime": "2026-11-18T08:00:00+01:00",
        "valueQuantity": {
            "value": 9.40, "unit": "g/dL", "system": "http://unitsofmeasure.org", "code": "g/dL",
        },
    })
}

fn with(mut resource: Value, pointer: &str, value: Value) -> Value {
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    let parent = resource.pointer_mut(parent).unwrap();
    if value == Value::Null {
        parent.as_object_mut().unwrap().remove(name);
    } else {
        parent[name] = value;
    }
    resource
}

fn batch(kind: &str, resources: &[Value]) -> Value {
    let entries: Vec<_> = resources
        .iter()
        .map(|resource| json!({ "resource": resource, "request": { "method": "POST", "url": "Observation" } }))
        .collect();
    json!({ "resourceType": "Bundle", "type": kind, "entry": entries })
}

/// Issues of a single Observation after one change.
fn single(pointer: &str, value: Value) -> Vec<String> {
    decode(&with(haemoglobin(), pointer, value), At::Door).2
}

#[test]
fn a_good_observation_passes_alone_and_in_every_bundle() {
    let clean = (None, vec![None], vec![]);
    assert_eq!(decode(&haemoglobin(), At::Door), clean);
    for kind in ["batch", "transaction"] {
        assert_eq!(
            decode(&batch(kind, &[haemoglobin()]), At::Door),
            clean,
            "{kind}"
        );
    }
}
