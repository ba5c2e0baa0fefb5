//! Everything written passes its profile, and each rule of each profile refuses what breaks it.

use std::sync::LazyLock;

use jsonschema::{PatternOptions, Registry, Validator};
use serde_json::{Value, json};

use super::super::{Resource, resources, writeback_bundle};
use super::samples::{change, context, key, raised, subject};
use crate::{
    clinical::assessment::{FlagState, ReportChange},
    fhir::submission::Checker,
};

macro_rules! schemas {
    ($($name:literal),*) => {
        &[$(($name, include_str!(concat!("../../../../profiles/", $name, ".schema.json")))),*]
    };
}

const SCHEMAS: &[(&str, &str)] = schemas![
    "output-datatypes",
    "cytopenia-flag",
    "cytopenia-report",
    "lineage-observation",
    "marrowflag-device",
    "assessment-provenance",
    "writeback-bundle"
];

static VALIDATORS: LazyLock<Vec<(&str, Validator)>> = LazyLock::new(|| {
    let schemas: Vec<(&str, Value)> = SCHEMAS
        .iter()
        .map(|(name, text)| (*name, serde_json::from_str(text).unwrap()))
        .collect();
    let registry = schemas
        .iter()
        .fold(Registry::new(), |registry, (_, schema)| {
            let id = schema["$id"].as_str().unwrap();
            registry.add(id, schema).unwrap()
        })
        .prepare()
        .unwrap();
    schemas
        .iter()
        .map(|(name, schema)| {
            let validator = jsonschema::options()
                .with_registry(&registry)
                .with_pattern_options(PatternOptions::regex())
                .build(schema)
                .unwrap_or_else(|error| panic!("{name}: {error}"));
            (*name, validator)
        })
        .collect()
});

/// The gate that stands before the store.
static CHECKER: LazyLock<Checker> = LazyLock::new(|| Checker::new(Vec::new()).unwrap());

fn errors(profile: &str, body: &Value) -> Vec<String> {
    let (_, validator) = VALIDATORS
        .iter()
        .find(|(name, _)| *name == profile)
        .unwrap_or_else(|| panic!("{profile}"));
    validator
        .iter_errors(body)
        .map(|error| format!("{} at {}", error, error.instance_path()))
        .collect()
}

/// All of it passes its profile, and the Bundle of it too.
pub(super) fn assert_valid(made: &[Resource]) {
    for resource in made {
        let errors = errors(resource.profile(), &resource.body);
        assert!(errors.is_empty(), "{errors:#?}\n{:#}", resource.body);
    }
    let bundle = writeback_bundle(made);
    let errors = errors("writeback-bundle", &bundle);
    assert!(errors.is_empty(), "{errors:#?}");
    let issues = CHECKER.check_output("writeback-bundle", &bundle);
    assert!(issues.is_empty(), "{issues:#?}\n{bundle:#}");
}

/// And the gate that stands before the store: base specification and profile, over the text.
#[test]
fn everything_written_passes_the_gate() {
    let made = made();
    for resource in &made {
        let issues = CHECKER.check_output(resource.profile(), &resource.body);
        assert!(issues.is_empty(), "{}: {issues:#?}", resource.kind);
    }
    let issues = CHECKER.check_output("writeback-bundle", &writeback_bundle(&made));
    assert!(issues.is_empty(), "{issues:#?}");
    let mut wrong = made[0].body.clone();
    wrong["status"] = json!("unknown");
    assert!(!CHECKER.check_output(made[0].profile(), &wrong).is_empty());
}

fn made() -> Vec<Resource> {
    let (key, subject) = (key(), subject());
    let mut ctx = context(&key, &subject);
    ctx.observations = true;
    ctx.snomed = true;
    ctx.insecure = true;
    ctx.organization = Some(("https://hospital.example/org".into(), "haem".into()));
    ctx.inbound = Some(("https://lab.example/bundles".into(), "B-1".into()));
    ctx.encounter = Some("Encounter/e1");
    let orders = ["https://lab.example/orders|O-1".to_owned()];
    ctx.based_on = &orders;
    resources(&raised(), &ctx)
}

fn first(kind: &str) -> Value {
    made()
        .into_iter()
        .find(|resource| resource.kind == kind)
        .unwrap()
        .body
}

/// A pointer, and what is put there; `None` takes it away.
type Breach = (&'static str, Option<Value>);

fn breaks(profile: &str, sound: &Value, breaches: Vec<Breach>) {
    assert_eq!(errors(profile, sound), Vec::<String>::new());
    for (pointer, value) in breaches {
        let mut body = sound.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = body
            .pointer_mut(parent)
            .unwrap_or_else(|| panic!("{pointer}"));
        match (parent, value) {
            (Value::Object(members), Some(value)) => {
                members.insert(name.to_owned(), value);
            }
            (Value::Object(members), None) => {
                assert!(members.remove(name).is_some(), "{pointer} was not there");
            }
            (Value::Array(items), Some(value)) if name == "-" => items.push(value),
            (Value::Array(items), Some(value)) => {
                items[name.parse::<usize>().unwrap()] = value;
            }
            (Value::Array(items), None) => {
                items.remove(name.parse().unwrap());
            }
            _ => panic!("{pointer}"),
        }
        assert_ne!(&body, sound, "{pointer}: nothing changed");
        assert!(
            !errors(profile, &body).is_empty(),
            "{profile} lets pass: {pointer}\n{body:#}"
        );
    }
}

/// What every resource of ours must have.
fn common() -> Vec<Breach> {
    vec![
        ("/resourceType", Some(json!("Basic"))),
        ("/id", None),
        ("/id", Some(json!("4711"))),
        ("/meta", None),
        ("/meta/profile", None),
        ("/meta/profile", Some(json!(["https://example.org/other"]))),
        ("/meta/security", None),
        ("/meta/security/0/code", Some(json!("AIAST"))),
        (
            "/meta/security/-",
            Some(json!({
                "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue", "code": "DEVAST"
            })),
        ),
        ("/meta/tag", None),
        ("/meta/tag/0/code", Some(json!("not-hex"))),
        ("/meta/source", None),
        (
            "/meta/source",
            Some(json!("https://marrowflag.org/fhir/revision/0")),
        ),
        ("/language", None),
        ("/language", Some(json!("de"))),
        ("/text", None),
        ("/text/status", Some(json!("empty"))),
        ("/text/div", Some(json!("<div>no namespace</div>"))),
        (
            "/text/div",
            Some(json!("<div xmlns=\"http://www.w3.org/1999/xhtml\"></div>")),
        ),
        ("/contained", Some(json!([{"resourceType": "Patient"}]))),
        ("/unknownElement", Some(json!(1))),
        ("/meta/unknown", Some(json!("x"))),
        ("/text/unknown", Some(json!("x"))),
    ]
}

fn subject_rules() -> Vec<Breach> {
    vec![
        ("/subject", None),
        ("/subject", Some(json!({"display": "somebody"}))),
        ("/subject/unknown", Some(json!("x"))),
    ]
}

fn with(parts: impl IntoIterator<Item = Vec<Breach>>) -> Vec<Breach> {
    parts.into_iter().flatten().collect()
}

#[test]
fn everything_written_passes_its_profile() {
    assert_valid(&made());
    let (key, subject) = (key(), subject());
    let first = resources(&raised(), &context(&key, &subject));
    assert_valid(&first);
    for (state, why) in [
        (FlagState::Inactive, "recovered"),
        (FlagState::EnteredInError, "withdrawn"),
    ] {
        let mut ctx = context(&key, &subject);
        ctx.previous = &first;
        let mut decision = super::samples::unremarkable();
        decision.flags = vec![change(state, why)];
        decision.reports = vec![ReportChange::Retract(
            super::samples::pancytopenia().index.unwrap(),
        )];
        assert_valid(&resources(&decision, &ctx));
    }
}

#[test]
fn copies_as_served_and_as_sent_pass_too() {
    for resource in made() {
        let mut served = resource.body.clone();
        served["meta"]["versionId"] = json!("2");
        served["meta"]["lastUpdated"] = json!("2026-11-18T09:00:00.123Z");
        let profile = resource.profile();
        assert_eq!(errors(profile, &served), Vec::<String>::new());
        let sent = super::super::for_target(&resource, "77");
        assert_eq!(errors(profile, &sent), Vec::<String>::new());
    }
}

#[test]
fn rules_of_the_flag() {
    let flag = first("Flag");
    let own = vec![
        ("/identifier", None),
        ("/identifier/0/system", Some(json!("urn:x"))),
        ("/identifier/0/value", Some(json!("short"))),
        ("/identifier/0/use", Some(json!("temp"))),
        ("/status", None),
        ("/status", Some(json!("on-hold"))),
        ("/category", None),
        ("/category/0/coding/0/code", Some(json!("drug"))),
        ("/category/1/coding/0/code", Some(json!("drug"))),
        ("/category/1/coding/0/code", Some(json!("lab"))),
        ("/category/-", Some(json!({"text": "third"}))),
        ("/code", None),
        ("/code/text", None),
        ("/code/text", Some(json!("x".repeat(81)))),
        ("/code/coding/0/code", Some(json!("no-cytopenia"))),
        (
            "/code/coding/0/code",
            Some(json!("aplastic-anemia-suspected")),
        ),
        ("/code/coding/0/system", Some(json!("urn:x"))),
        (
            "/code/coding/-",
            Some(json!({
                "system": "https://marrowflag.org/fhir/CodeSystem/finding", "code": "neutropenia"
            })),
        ),
        ("/period", None),
        ("/period/start", None),
        ("/period/start", Some(json!("18.11.2026"))),
        ("/period/end", Some(json!("2026-11-19"))),
        ("/status", Some(json!("inactive"))),
        ("/author", None),
        ("/author/reference", Some(json!("Practitioner/1"))),
        ("/encounter", Some(json!({"reference": "Encounter/1"}))),
        ("/code/unknown", Some(json!("x"))),
        ("/period/unknown", Some(json!("x"))),
        ("/category/0/coding/0/unknown", Some(json!("x"))),
        ("/identifier/0/unknown", Some(json!("x"))),
        (
            "/extension/0/valueCodeableConcept/unknown",
            Some(json!("x")),
        ),
        ("/extension/1/valueReference/unknown", Some(json!("x"))),
        ("/extension", None),
        ("/extension/0", None),
        (
            "/extension/0/valueCodeableConcept/coding/0/code",
            Some(json!("PN")),
        ),
        (
            "/extension/-",
            Some(json!({"url": "https://example.org/x", "valueDecimal": 1})),
        ),
        (
            "/extension/1",
            Some(json!({"url": "http://hl7.org/fhir/StructureDefinition/flag-detail"})),
        ),
    ];
    breaks(
        "cytopenia-flag",
        &flag,
        with([common(), subject_rules(), own]),
    );
}

#[test]
fn an_inactive_flag_needs_its_end_and_a_wrong_one_needs_none() {
    let mut flag = first("Flag");
    flag["status"] = json!("entered-in-error");
    assert!(errors("cytopenia-flag", &flag).is_empty());
    flag["period"]["end"] = json!("2026-11-20");
    assert!(errors("cytopenia-flag", &flag).is_empty());
    flag["status"] = json!("inactive");
    assert!(errors("cytopenia-flag", &flag).is_empty());
    flag["status"] = json!("active");
    assert!(!errors("cytopenia-flag", &flag).is_empty());
}

#[test]
fn rules_of_the_report() {
    let report = first("DiagnosticReport");
    let own = vec![
        ("/identifier", None),
        ("/identifier/0/system", Some(json!("urn:x"))),
        ("/identifier/0/value", Some(json!("short"))),
        ("/status", None),
        ("/status", Some(json!("preliminary"))),
        ("/status", Some(json!("final"))),
        ("/category", None),
        ("/category/0/coding/0/code", Some(json!("MB"))),
        ("/code", None),
        ("/code/coding/0/code", Some(json!("other"))),
        ("/effectivePeriod", None),
        ("/effectivePeriod/start", None),
        ("/effectivePeriod/end", None),
        ("/effectiveDateTime", Some(json!("2026-11-18"))),
        ("/issued", None),
        ("/issued", Some(json!("2026-11-18"))),
        ("/performer", None),
        ("/performer/0/extension", None),
        (
            "/performer/0/extension/0/valueReference/reference",
            Some(json!("Organization/1")),
        ),
        (
            "/resultsInterpreter",
            Some(json!([{"reference": "Device/1"}])),
        ),
        ("/result", None),
        ("/result", Some(json!([]))),
        ("/result/0", Some(json!({}))),
        ("/conclusion", None),
        (
            "/conclusion",
            Some(json!("Decision support, but too short an ending.")),
        ),
        (
            "/conclusion",
            Some(json!(format!(
                "{}Decision support, not a diagnosis. Not reviewed by a clinician.",
                "x".repeat(1000)
            ))),
        ),
        ("/conclusionCode/0/coding/0/code", Some(json!("unheard-of"))),
        ("/presentedForm", None),
        ("/presentedForm/0/contentType", Some(json!("text/html"))),
        ("/presentedForm/0/data", Some(json!("not base64!"))),
        ("/presentedForm/0/hash", None),
        ("/presentedForm/0/hash", Some(json!("AAAA"))),
        ("/presentedForm/0/size", None),
        ("/presentedForm/0/size", Some(json!(262_145))),
        ("/presentedForm/0/creation", None),
        ("/presentedForm/0/language", None),
        ("/presentedForm/0/title", None),
        ("/imagingStudy", Some(json!([{"display": "x"}]))),
    ];
    breaks(
        "cytopenia-report",
        &report,
        with([common(), subject_rules(), own]),
    );
    let mut many = report.clone();
    many["presentedForm"] = json!(vec![report["presentedForm"][0].clone(); 3]);
    assert!(!errors("cytopenia-report", &many).is_empty());
    let mut verified = report;
    verified["status"] = json!("final");
    verified["resultsInterpreter"] = json!([{"reference": "Practitioner/1"}]);
    assert!(errors("cytopenia-report", &verified).is_empty());
}

#[test]
fn rules_of_a_derived_grade() {
    let grade = first("Observation");
    let own = vec![
        ("/identifier", None),
        ("/identifier/0/system", Some(json!("urn:x"))),
        ("/identifier/0/value", Some(json!("short"))),
        ("/status", None),
        ("/status", Some(json!("final"))),
        ("/category", None),
        ("/category/0/coding/0/code", Some(json!("vital-signs"))),
        ("/category/1/coding/0/code", Some(json!("other"))),
        ("/code", None),
        ("/code/coding/0/code", Some(json!("718-7"))),
        ("/code/coding/0/system", Some(json!("http://loinc.org"))),
        ("/effectiveDateTime", None),
        ("/issued", None),
        ("/performer", None),
        ("/valueCodeableConcept", None),
        (
            "/valueCodeableConcept/coding/0/code",
            Some(json!("terrible")),
        ),
        ("/valueQuantity", Some(json!({"value": 68}))),
        (
            "/dataAbsentReason",
            Some(json!({"coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "unknown"
            }]})),
        ),
        ("/method", None),
        ("/device", None),
        ("/device/reference", Some(json!("Device/analyser"))),
        ("/derivedFrom", None),
        ("/derivedFrom", Some(json!([]))),
        (
            "/derivedFrom",
            Some(json!(vec![json!({"display": "x"}); 21])),
        ),
        (
            "/component/0/valueCodeableConcept/coding/0/code",
            Some(json!("maybe")),
        ),
        ("/component/0/code/coding/0/code", Some(json!("slope"))),
        (
            "/component/0/valueCodeableConcept/unknown",
            Some(json!("x")),
        ),
        ("/component/0/valueQuantity", Some(json!({"value": 1}))),
    ];
    breaks(
        "lineage-observation",
        &grade,
        with([common(), subject_rules(), own]),
    );
    let mut absent = grade;
    absent
        .as_object_mut()
        .unwrap()
        .remove("valueCodeableConcept");
    absent["dataAbsentReason"] = json!({"coding": [{
        "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason", "code": "unknown"
    }]});
    assert!(errors("lineage-observation", &absent).is_empty());
    absent["dataAbsentReason"]["coding"][0]["code"] = json!("error");
    assert!(!errors("lineage-observation", &absent).is_empty());
}

#[test]
fn rules_of_the_device() {
    let own = vec![
        ("/identifier", None),
        ("/identifier/0/system", Some(json!("urn:x"))),
        ("/identifier/0/value", Some(json!("marrowflag"))),
        ("/status", None),
        ("/status", Some(json!("unknown"))),
        ("/manufacturer", None),
        ("/manufacturer", Some(json!("somebody"))),
        ("/deviceName", None),
        ("/deviceName/0/type", Some(json!("other"))),
        ("/modelNumber", None),
        ("/type", None),
        ("/version", None),
        ("/version/1", None),
        ("/version/1/type/text", Some(json!("software"))),
        ("/version/1/value", None),
        ("/safety", None),
        ("/patient", Some(json!({"reference": "Patient/1"}))),
    ];
    breaks("marrowflag-device", &first("Device"), with([common(), own]));
}

#[test]
fn rules_of_the_provenance() {
    let own = vec![
        ("/target", None),
        ("/target", Some(json!([]))),
        ("/target/0/reference", Some(json!("Patient/1"))),
        ("/occurredDateTime", None),
        ("/recorded", None),
        ("/recorded", Some(json!("2026-11-18"))),
        ("/policy", None),
        ("/policy/0", Some(json!("https://example.org/rules"))),
        ("/activity", None),
        ("/activity/coding/0/code", Some(json!("DELETE"))),
        ("/agent", None),
        ("/agent/0/who", None),
        ("/agent/0/who/reference", Some(json!("Practitioner/1"))),
        ("/agent/0/type", None),
        ("/agent/0/type/coding/0/code", Some(json!("author"))),
        (
            "/agent/-",
            Some(json!({"who": {"reference": "Practitioner/1"}})),
        ),
        ("/entity/0/role", Some(json!("revision"))),
        ("/entity/0/what", None),
        ("/signature", Some(json!([{}]))),
        ("/activity/unknown", Some(json!("x"))),
        ("/agent/0/type/unknown", Some(json!("x"))),
        ("/agent/0/unknown", Some(json!("x"))),
        ("/entity/0/what/unknown", Some(json!("x"))),
    ];
    breaks(
        "assessment-provenance",
        &first("Provenance"),
        with([common(), own]),
    );
}

#[test]
fn rules_of_the_bundle() {
    let bundle = writeback_bundle(&made());
    let flag = bundle["entry"]
        .as_array()
        .unwrap()
        .iter()
        .position(|entry| entry["resource"]["resourceType"] == "Flag")
        .unwrap();
    assert_eq!(flag, 7);
    let breaches = vec![
        ("/resourceType", Some(json!("List"))),
        ("/type", None),
        ("/type", Some(json!("batch"))),
        ("/total", Some(json!(1))),
        ("/entry", Some(json!([]))),
        ("/entry/0", None),
        ("/entry/8", None),
        ("/entry/-", Some(bundle["entry"][0].clone())),
        ("/entry/7/request", None),
        ("/entry/7/request/method", Some(json!("POST"))),
        ("/entry/7/request/url", Some(json!("Observation/mf-1"))),
        ("/entry/7/request/ifNoneExist", Some(json!("identifier=x"))),
        ("/entry/7/resource", None),
        ("/entry/7/resource/status", Some(json!("on-hold"))),
        ("/entry/7/resource/resourceType", Some(json!("Patient"))),
        ("/entry/7/fullUrl", Some(json!("urn:uuid:0"))),
    ];
    breaks("writeback-bundle", &bundle, breaches);
    let empty = json!({"resourceType": "Bundle", "type": "transaction"});
    assert!(errors("writeback-bundle", &empty).is_empty());
}

#[test]
fn schemas_name_themselves_and_know_every_finding() {
    for (name, text) in SCHEMAS {
        let schema: Value = serde_json::from_str(text).unwrap();
        assert_eq!(
            schema["$schema"],
            "https://json-schema.org/draft/2020-12/schema"
        );
        assert_eq!(
            schema["$id"],
            format!("https://marrowflag.org/fhir/schema/r4/{name}.schema.json")
        );
    }
    let report: Value = serde_json::from_str(SCHEMAS[2].1).unwrap();
    let listed = report
        .pointer("/properties/conclusionCode/items/properties/coding/contains/properties/code/enum")
        .and_then(Value::as_array)
        .unwrap();
    let table: Vec<Value> = super::super::coding::FINDINGS
        .iter()
        .map(|finding| json!(finding.slug))
        .collect();
    assert_eq!(listed, &table);
}
