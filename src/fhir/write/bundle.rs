//! What leaves: copies for a server, and the transaction Bundle.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::{Resource, put};

/// The copy for a FHIR server: its own id of the patient as subject. Literal references that only
/// mean something where the data came from (encounter, order) are left out: a server that checks
/// references would refuse the whole write.
pub fn for_target(resource: &Resource, target_patient_id: &str) -> Value {
    let mut body = resource.body.clone();
    if let Some(subject) = body.get_mut("subject") {
        put(
            subject,
            "reference",
            json!(format!("Patient/{target_patient_id}")),
        );
    }
    let Value::Object(members) = &mut body else {
        return body;
    };
    let literal = |reference: &Value| reference.get("reference").is_some();
    if members.get("encounter").is_some_and(literal) {
        members.shift_remove("encounter");
    }
    if let Some(Value::Array(orders)) = members.get_mut("basedOn") {
        orders.retain(|order| !literal(order));
        if orders.is_empty() {
            members.shift_remove("basedOn");
        }
    }
    body
}

/// Transaction of PUTs in the order given: Device, reports, Flags, Provenance, one patient after
/// another, one Device for all. Derived Observations are in it only if a report links to them
/// ([`super::WriteContext::observations`]). Nothing to write: no `entry`.
pub fn writeback_bundle(resources: &[Resource]) -> Value {
    let mut bundle = json!({"resourceType": "Bundle", "type": "transaction"});
    let linked = linked_observations(resources);
    let mut seen = HashSet::new();
    let mut entries = Vec::new();
    for resource in resources {
        let stays_here = resource.kind == "Observation" && !linked.contains(resource.id.as_str());
        // Two entries of one identity: servers drop one of them silently.
        if stays_here || !seen.insert((resource.kind, resource.id.as_str())) {
            continue;
        }
        entries.push(json!({
            "resource": resource.body,
            "request": {"method": "PUT", "url": format!("{}/{}", resource.kind, resource.id)}
        }));
    }
    if !entries.is_empty() {
        put(&mut bundle, "entry", Value::Array(entries));
    }
    bundle
}

/// Ids of the Observations that a report or a Provenance of these links to.
fn linked_observations(resources: &[Resource]) -> HashSet<&str> {
    resources
        .iter()
        .flat_map(|resource| ["result", "target"].map(|name| resource.body.get(name)))
        .flatten()
        .filter_map(Value::as_array)
        .flatten()
        .filter_map(|link| {
            link.get("reference")?
                .as_str()?
                .strip_prefix("Observation/")
        })
        .collect()
}
