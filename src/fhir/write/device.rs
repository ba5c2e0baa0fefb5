//! The software as author: one Device for each version and configuration.

use serde_json::{Value, json};

use super::{Resource, WriteContext, assemble, identity, narrative::Narrative};

/// Version of the rule set.
pub const RULES_VERSION: &str = "1.0.0";
/// Version of the code and unit tables.
pub const TERMINOLOGY_VERSION: &str = "1.0.0";

/// Logical id of the Device that a context writes under.
pub fn id(ctx: &WriteContext<'_>) -> String {
    identity::resource_id("Device", &identifier(ctx))
}

fn identifier(ctx: &WriteContext<'_>) -> String {
    let organization = match &ctx.organization {
        Some((system, value)) => format!("{system}|{value}"),
        None => String::new(),
    };
    let switch = |on: bool| if on { "on" } else { "off" };
    let configuration = identity::configuration_hash(&[
        &organization,
        switch(ctx.snomed),
        switch(ctx.insecure),
        switch(ctx.observations),
        ctx.code_map.unwrap_or_default(),
        RULES_VERSION,
        TERMINOLOGY_VERSION,
    ]);
    identity::device_identifier(&configuration)
}

/// The Device.
pub fn device(ctx: &WriteContext<'_>) -> Resource {
    let identifier = identifier(ctx);
    let version = |kind: &str, value: &str| json!({"type": {"text": kind}, "value": value});
    let mut rest = json!({
        "identifier": [{
            "use": "official",
            "system": identity::DEVICE_SYSTEM,
            "value": identifier
        }],
        "status": "active",
        "manufacturer": "marrowflag",
        "deviceName": [{"name": "marrowflag", "type": "model-name"}],
        "modelNumber": env!("CARGO_PKG_VERSION"),
        "type": {"text": "Software"},
        "version": [
            version("software", env!("CARGO_PKG_VERSION")),
            version("rules", RULES_VERSION),
            version("terminology", TERMINOLOGY_VERSION)
        ],
        "url": "https://marrowflag.org",
        "safety": [{"text": "Not a certified medical device."}]
    });
    if let Some((system, value)) = &ctx.organization {
        super::put(
            &mut rest,
            "owner",
            json!({"identifier": super::identifier(system, value)}),
        );
    }
    let narrative = Narrative::default().paragraph(&format!(
        "marrowflag {}, rules {RULES_VERSION}, terminology {TERMINOLOGY_VERSION}. Decision-support software; not a certified medical device.",
        env!("CARGO_PKG_VERSION")
    ));
    assemble(
        ctx,
        "Device",
        "marrowflag-device",
        Some((identity::DEVICE_SYSTEM, &identifier)),
        rest,
        narrative,
    )
}

/// Reference to the Device.
pub fn reference(ctx: &WriteContext<'_>) -> Value {
    json!({"reference": format!("Device/{}", id(ctx)), "display": "marrowflag"})
}

/// Performer of reports and derived Observations. R4 allows no Device there, hence the standard
/// extension that names one behind a display; the organization follows where the site has said it.
pub fn performer(ctx: &WriteContext<'_>) -> Value {
    let mut performers = vec![json!({
        "extension": [{
            "url": "http://hl7.org/fhir/StructureDefinition/alternate-reference",
            "valueReference": {"reference": format!("Device/{}", id(ctx))}
        }],
        "display": "marrowflag"
    })];
    if let Some((system, value)) = &ctx.organization {
        performers.push(json!({
            "type": "Organization",
            "identifier": super::identifier(system, value)
        }));
    }
    Value::Array(performers)
}
