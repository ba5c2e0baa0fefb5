//! Provenance: which software made the resources of one write, from which results, by which rules.

use serde_json::{Value, json};

use super::{
    Resource, WriteContext, assemble, device, identifier_or_none, identity, inputs,
    narrative::Narrative, put, words,
};
use crate::clinical::assessment::Decision;

/// Inputs that are named.
const MOST_INPUTS: usize = 100;

/// The Provenance of everything new; `None` when all of it stays here.
pub fn provenance(
    decision: &Decision,
    ctx: &WriteContext<'_>,
    news: &[Resource],
) -> Option<Resource> {
    let targets: Vec<&Resource> = news
        .iter()
        .filter(|resource| resource.kind != "Observation" || ctx.observations)
        .collect();
    if targets.is_empty() {
        return None;
    }
    let named: Vec<(String, String)> = targets
        .iter()
        .map(|target| {
            (
                format!("{}/{}", target.kind, target.id),
                target.content_hash.clone(),
            )
        })
        .collect();
    let name = identity::provenance_identifier(&named);
    let created = targets
        .iter()
        .all(|target| ctx.previous_of(target.kind, &target.id).is_none());
    let (activity, display) = if created {
        ("CREATE", "create")
    } else {
        ("UPDATE", "revise")
    };
    let at = words::instant(decision.assessment.as_of);
    let assessment = &decision.assessment;
    let mut sources = inputs::all(assessment, MOST_INPUTS);
    let inbound = ctx
        .inbound
        .as_ref()
        .and_then(|(system, value)| identifier_or_none(system, value));
    sources.extend(inbound.map(|name| json!({"identifier": name})));
    let mut reasons: Vec<&str> = decision
        .flags
        .iter()
        .filter(|change| change.write && !change.why.is_empty())
        .map(|change| change.why)
        .collect();
    reasons.dedup();

    let mut rest = json!({
        "target": named.iter().map(|(reference, _)| json!({"reference": reference})).collect::<Vec<_>>(),
        "occurredDateTime": at,
        "recorded": at,
        "policy": [format!("{}/Library/cytopenia-rules|{}", identity::CANON, device::RULES_VERSION)]
    });
    if !reasons.is_empty() {
        let reasons: Vec<Value> = reasons.iter().map(|why| json!({"text": why})).collect();
        put(&mut rest, "reason", Value::Array(reasons));
    }
    put(
        &mut rest,
        "activity",
        json!({"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/v3-DataOperation",
            "code": activity,
            "display": display
        }]}),
    );
    put(
        &mut rest,
        "agent",
        json!([{
            "type": {"coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
                "code": "assembler",
                "display": "Assembler"
            }]},
            "who": device::reference(ctx)
        }]),
    );
    if !sources.is_empty() {
        let entity: Vec<Value> = sources
            .into_iter()
            .map(|what| json!({"role": "source", "what": what}))
            .collect();
        put(&mut rest, "entity", Value::Array(entity));
    }
    let narrative = Narrative::default().paragraph(&format!(
        "Made by marrowflag {} with rules {} at {at}. {}",
        env!("CARGO_PKG_VERSION"),
        device::RULES_VERSION,
        words::CAVEAT
    ));
    Some(assemble(
        ctx,
        "Provenance",
        "assessment-provenance",
        Some(("", &name)),
        rest,
        narrative,
    ))
}
