use std::sync::LazyLock;

use serde_json::{Value, json};

use super::*;
use crate::fhir::{
    profiles::SiteProfile,
    tree::{self, Limits},
};

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
    } else if let Ok(index) = name.parse::<usize>() {
        parent[index] = value;
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

fn only(word: &str, expression: &str) -> Vec<String> {
    vec![format!("error {word} {expression}")]
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn what_an_observation_gets_wrong_is_named_where_it_stands() {
    let quantity = "Observation.value";
    for (pointer, value, word, expression) in [
        ("/status", Value::Null, "required", "Observation.status"),
        (
            "/status",
            json!("done"),
            "code-invalid",
            "Observation.status",
        ),
        ("/status", json!("final "), "value", "Observation.status"),
        ("/subject", Value::Null, "required", "Observation.subject"),
        (
            "/subject",
            json!({ "display": "x" }),
            "required",
            "Observation.subject",
        ),
        (
            "/subject",
            json!({ "reference": " " }),
            "value",
            "Observation.subject.reference",
        ),
        (
            "/subject",
            json!({ "reference": "#p" }),
            "not-found",
            "Observation.subject.reference",
        ),
        (
            "/category",
            json!({ "text": "x" }),
            "json-type",
            "Observation.category",
        ),
        (
            "/code/coding",
            json!({ "code": "x" }),
            "json-type",
            "Observation.code.coding",
        ),
        (
            "/subject",
            json!([{ "reference": "Patient/1" }]),
            "json-type",
            "Observation.subject",
        ),
        (
            "/subject",
            json!("Patient/1"),
            "json-type",
            "Observation.subject",
        ),
        (
            "/status",
            json!(["final"]),
            "json-type",
            "Observation.status",
        ),
        (
            "/status",
            json!({ "id": "a" }),
            "json-type",
            "Observation.status",
        ),
        ("/status", json!(1), "value", "Observation.status"),
        ("/status", json!(true), "value", "Observation.status"),
        (
            "/fhir_comments",
            json!(["x"]),
            "unknown-element",
            "Observation.fhir_comments",
        ),
        (
            "/code/texts",
            json!("x"),
            "unknown-element",
            "Observation.code.texts",
        ),
        (
            "/_code",
            json!({ "id": "x" }),
            "unknown-element",
            "Observation.code",
        ),
        (
            "/triggeredBy",
            json!([{ "id": "x" }]),
            "unknown-element",
            "Observation.triggeredBy",
        ),
        ("/valueString", json!("a"), "invariant", quantity),
        ("/_valueString", json!({ "id": "a" }), "invariant", quantity),
        (
            "/valueQuantity/value",
            json!("9.4"),
            "value",
            "Observation.value.value",
        ),
        (
            "/valueQuantity/value",
            json!("abc"),
            "value",
            "Observation.value.value",
        ),
        (
            "/valueQuantity/value",
            json!(true),
            "value",
            "Observation.value.value",
        ),
        (
            "/valueQuantity/value",
            json!({ "a": 1 }),
            "json-type",
            "Observation.value.value",
        ),
        (
            "/valueQuantity/code",
            json!(" g/dL"),
            "value",
            "Observation.value.code",
        ),
        (
            "/valueQuantity/comparator",
            json!("<>"),
            "code-invalid",
            "Observation.value.comparator",
        ),
        (
            "/valueQuantity/comparator",
            json!("ad"),
            "code-invalid",
            "Observation.value.comparator",
        ),
        ("/valueQuantity", Value::Null, "invariant", "Observation"),
        (
            "/dataAbsentReason",
            json!({ "text": "x" }),
            "invariant",
            "Observation",
        ),
        (
            "/referenceRange",
            json!([{ "id": "a" }]),
            "invariant",
            "Observation.referenceRange[0]",
        ),
        (
            "/effectiveDateTime",
            json!("2024-02-31"),
            "value",
            "Observation.effective",
        ),
        (
            "/effectiveDateTime",
            json!("2024-05-01T08:00"),
            "value",
            "Observation.effective",
        ),
        (
            "/effectiveDateTime",
            json!("yesterday"),
            "value",
            "Observation.effective",
        ),
        (
            "/issued",
            json!("2024-05-01"),
            "value",
            "Observation.issued",
        ),
        (
            "/meta",
            json!({ "lastUpdated": "2024-05-01" }),
            "value",
            "Observation.meta.lastUpdated",
        ),
        ("/id", json!("a b"), "value", "Observation.id"),
        ("/id", json!("a".repeat(65)), "value", "Observation.id"),
        (
            "/implicitRules",
            json!("http://x.org/r"),
            "not-supported",
            "Observation.implicitRules",
        ),
        (
            "/modifierExtension",
            json!([{ "url": "http://x.org/e", "valueBoolean": true }]),
            "extension",
            "Observation.modifierExtension",
        ),
        (
            "/extension",
            json!([{ "url": "http://x.org/e" }]),
            "invariant",
            "Observation.extension[0]",
        ),
        (
            "/extension",
            json!([{ "valueString": "x" }]),
            "required",
            "Observation.extension[0].url",
        ),
        (
            "/extension",
            json!([{ "url": "http://x.org/e", "valueDate": "2024-02-31" }]),
            "value",
            "Observation.extension[0].value",
        ),
        (
            "/text",
            json!({ "status": "generated" }),
            "required",
            "Observation.text.div",
        ),
        (
            "/component",
            json!([{ "code": { "text": "x" }, "valueInteger": 1.5 }]),
            "value",
            "Observation.component[0].value",
        ),
        (
            "/component",
            json!([{ "code": { "coding": [{ "system": "http://loinc.org", "code": "718-7" }] } }]),
            "invariant",
            "Observation.component[0].code",
        ),
        (
            "/resourceType",
            json!("Observatio"),
            "resource-type",
            "Resource",
        ),
        ("/resourceType", json!(7), "resource-type", "Resource"),
    ] {
        assert_eq!(
            single(pointer, value.clone()),
            only(word, expression),
            "{pointer} {value}"
        );
    }
}

#[test]
fn what_may_be_missing_or_odd_passes() {
    for (pointer, value) in [
        ("/effectiveDateTime", Value::Null),
        ("/effectiveDateTime", json!("2024-05")),
        ("/valueQuantity", json!({ "value": 9.4 })),
        ("/valueQuantity/comparator", json!("=")),
        ("/valueQuantity/value", json!(-1)),
        (
            "/valueQuantity",
            json!({ "_value": { "extension": [
            { "url": "http://hl7.org/fhir/StructureDefinition/data-absent-reason", "valueCode": "unknown" },
        ] } }),
        ),
        ("/subject", json!({ "identifier": { "value": "1" } })),
        ("/_status", json!({ "id": "a" })),
        ("/category", json!([{ "text": "x" }])),
        (
            "/meta",
            json!({ "profile": ["http://nobody.example/StructureDefinition/x"] }),
        ),
        ("/hasMember", json!([{ "reference": "Observation/2" }])),
        (
            "/text",
            json!({ "status": "generated", "div": "<div xmlns=\"http://www.w3.org/1999/xhtml\">x</div>" }),
        ),
    ] {
        let (refused, _, issues) = decode(&with(haemoglobin(), pointer, value.clone()), At::Door);
        assert_eq!((refused, issues), (None, vec![]), "{pointer} {value}");
    }
    for status in ["registered", "cancelled", "entered-in-error"] {
        let empty = with(haemoglobin(), "/valueQuantity", Value::Null);
        let (refused, ..) = decode(&with(empty, "/status", json!(status)), At::Door);
        assert_eq!(refused, None, "{status}");
    }
    let names = json!({ "resourceType": "Patient", "id": "p", "name": [
        { "given": ["A", null], "_given": [null, { "id": "x" }] }] });
    assert_eq!(decode(&names, At::Door), (None, vec![None], vec![]));
}

#[test]
fn the_profile_is_for_blood_counts_only() {
    let other = with(haemoglobin(), "/code/coding/0/code", json!("8302-2"));
    let bare = with(
        with(other, "/subject", Value::Null),
        "/valueQuantity",
        Value::Null,
    );
    assert_eq!(decode(&bare, At::Door).2, Vec::<String>::new());
    let panel = json!({
        "resourceType": "Observation", "status": "final", "code": { "text": "CBC" },
        "component": [{ "code": { "coding": [{ "system": "http://loinc.org", "code": "718-7" }] } }],
    });
    assert_eq!(
        decode(&panel, At::Door).2,
        only("required", "Observation.subject")
    );
}

#[test]
fn a_patient_must_be_recognisable() {
    let patient = |more: Value| {
        let mut patient = json!({ "resourceType": "Patient" });
        patient
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        decode(&patient, At::Door).2
    };
    assert_eq!(patient(json!({ "id": "p" })), Vec::<String>::new());
    let full = json!({ "identifier": [{ "value": "1" }, { "system": "urn:s", "value": "1" }] });
    assert_eq!(patient(full), Vec::<String>::new());
    assert_eq!(
        patient(json!({ "identifier": [{ "value": "1" }] })),
        only("required", "Patient.identifier")
    );
    assert_eq!(
        patient(json!({ "id": "p", "gender": "F" })),
        only("code-invalid", "Patient.gender")
    );
    assert_eq!(
        patient(json!({ "id": "p", "birthDate": "1961-02-30" })),
        only("value", "Patient.birthDate")
    );
    assert_eq!(
        patient(json!({ "id": "p", "deceasedBoolean": true, "deceasedDateTime": "2024" })),
        only("invariant", "Patient.deceased")
    );
}

#[test]
fn broken_fhir_costs_its_own_entry_in_a_batch_and_all_in_a_transaction() {
    let category = with(haemoglobin(), "/category", json!([]));
    let bad = [haemoglobin(), category, haemoglobin()];
    let at = only("empty-value", "Bundle.entry[1].resource.category");
    let malformed = Some(Refusal::Malformed);
    assert_eq!(
        decode(&batch("batch", &bad), At::Door),
        (None, vec![None, malformed, None], at.clone())
    );
    assert_eq!(
        decode(&batch("transaction", &bad), At::Door),
        (malformed, vec![None, malformed, None], at)
    );
    let text = batch("batch", &bad).to_string().replace(
        "\"category\":[]",
        "\"valueString\":\"a\",\"valueString\":\"b\"",
    );
    let (refused, entries, issues) = decode_text(&text, At::Door);
    assert_eq!((refused, entries), (None, vec![None, malformed, None]));
    assert!(issues.contains(&"error duplicate-key Bundle.entry[1].resource.value".to_owned()));
    assert_eq!(
        decode(&with(haemoglobin(), "/category", json!([])), At::Door).0,
        malformed
    );
}

#[test]
fn an_entry_without_status_is_refused_alone() {
    let bad = [
        haemoglobin(),
        with(haemoglobin(), "/status", Value::Null),
        haemoglobin(),
    ];
    let invalid = Some(Refusal::Invalid);
    let issue = only("required", "Bundle.entry[1].resource.status");
    for kind in ["batch", "transaction"] {
        let whole = if kind == "batch" { None } else { invalid };
        assert_eq!(
            decode(&batch(kind, &bad), At::Door),
            (whole, vec![None, invalid, None], issue.clone())
        );
    }
    let mut collection = batch("collection", &bad);
    for entry in collection["entry"].as_array_mut().unwrap() {
        entry.as_object_mut().unwrap().remove("request");
    }
    assert_eq!(
        decode(&collection, At::Door),
        (None, vec![None, invalid, None], issue)
    );
}

#[test]
fn what_lies_outside_of_the_entries_refuses_the_whole() {
    let malformed = Some(Refusal::Malformed);
    let bundle = with(batch("batch", &[haemoglobin()]), "/identifier", json!({}));
    let (refused, entries, issues) = decode(&bundle, At::Door);
    assert_eq!((refused, entries), (malformed, vec![None]));
    assert_eq!(issues, only("empty-value", "Bundle.identifier"));
    for text in [
        "null",
        "[]",
        "{}",
        "1",
        "\"x\"",
        "[{\"resourceType\":\"Bundle\"}]",
        "{\"a\":1}",
    ] {
        let (refused, _, issues) = decode_text(text, At::Door);
        assert_eq!(refused, malformed, "{text}");
        assert!(!issues.is_empty());
    }
    let entries = with(
        batch("batch", &[haemoglobin()]),
        "/entry",
        json!({ "resource": 1 }),
    );
    assert_eq!(
        decode(&entries, At::Door),
        (
            Some(Refusal::Invalid),
            vec![],
            only("json-type", "Bundle.entry")
        )
    );
    let entry = with(batch("batch", &[haemoglobin()]), "/entry/0", json!("x"));
    assert_eq!(decode(&entry, At::Door).1, [Some(Refusal::Invalid)]);
}

#[test]
fn an_empty_bundle_is_fine() {
    for kind in ["batch", "transaction", "collection"] {
        let empty = json!({ "resourceType": "Bundle", "type": kind });
        assert_eq!(decode(&empty, At::Door), (None, vec![], vec![]), "{kind}");
    }
}

/// A batch of one with its entry changed.
fn entry(pointer: &str, value: Value) -> Seen {
    decode(
        &with(
            batch("batch", &[haemoglobin()]),
            &format!("/entry/0{pointer}"),
            value,
        ),
        At::Door,
    )
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn a_request_must_fit_its_resource() {
    use Refusal::{Invalid, Malformed, Unsupported};
    let url = "Bundle.entry[0].request.url";
    let method = "Bundle.entry[0].request.method";
    for (pointer, value, refusal, word, expression) in [
        (
            "/request",
            Value::Null,
            Invalid,
            "invariant",
            "Bundle.entry[0].request",
        ),
        ("/request/url", json!("Patient"), Invalid, "value", url),
        (
            "/request/url",
            json!("https://a.example/Observation"),
            Invalid,
            "value",
            url,
        ),
        (
            "/request/url",
            json!("Observation/1"),
            Invalid,
            "value",
            url,
        ),
        (
            "/request/url",
            json!("Nonsense"),
            Unsupported,
            "not-supported",
            url,
        ),
        (
            "/request/url",
            json!("$run"),
            Unsupported,
            "not-supported",
            url,
        ),
        (
            "/request/url",
            json!("Observation?identifier=a|b"),
            Malformed,
            "not-supported",
            url,
        ),
        ("/request/url", Value::Null, Invalid, "required", url),
        (
            "/request/method",
            json!("PATCH"),
            Invalid,
            "not-supported",
            method,
        ),
        (
            "/request/method",
            json!("PST"),
            Invalid,
            "code-invalid",
            method,
        ),
        ("/request/method", Value::Null, Invalid, "required", method),
        (
            "/request/ifNoneExist",
            json!("code=718-7"),
            Malformed,
            "not-supported",
            "Bundle.entry[0].request.ifNoneExist",
        ),
        (
            "/request/ifMatch",
            json!("1"),
            Malformed,
            "value",
            "Bundle.entry[0].request.ifMatch",
        ),
        (
            "/request",
            json!({ "method": "PUT", "url": "Observation/x/_history/1" }),
            Invalid,
            "value",
            url,
        ),
        (
            "/resource",
            Value::Null,
            Invalid,
            "required",
            "Bundle.entry[0].resource",
        ),
        (
            "/resource",
            json!("x"),
            Invalid,
            "json-type",
            "Bundle.entry[0].resource",
        ),
        (
            "/resource/resourceType",
            Value::Null,
            Malformed,
            "resource-type",
            "Bundle.entry[0].resource",
        ),
        (
            "/resource/resourceType",
            json!("Nonsense"),
            Invalid,
            "value",
            url,
        ),
        (
            "/nonsense",
            json!(1),
            Invalid,
            "unknown-element",
            "Bundle.entry[0].nonsense",
        ),
    ] {
        let (whole, entries, issues) = entry(pointer, value.clone());
        assert_eq!(
            (whole, entries),
            (None, vec![Some(refusal)]),
            "{pointer} {value} {issues:?}"
        );
        assert!(
            issues.contains(&format!("error {word} {expression}")),
            "{pointer} {value}: {issues:?}"
        );
    }
    let put = |id: &str| {
        let bundle = with(
            batch("batch", &[haemoglobin()]),
            "/entry/0/resource/id",
            json!("x1"),
        );
        let request = json!({ "method": "PUT", "url": format!("Observation/{id}") });
        decode(&with(bundle, "/entry/0/request", request), At::Door)
    };
    assert_eq!(put("x1"), (None, vec![None], vec![]));
    assert_eq!(put("x2").1, [Some(Malformed)]);
    assert_eq!(
        entry(
            "/request",
            json!({ "method": "POST", "url": "/Observation", "ifNoneExist": "identifier=urn:s|v" })
        ),
        (None, vec![None], vec![])
    );
}

#[test]
fn a_type_nobody_knows_is_not_found_in_a_batch_and_malformed_in_a_transaction() {
    let nonsense = json!({ "resourceType": "Nonsense" });
    let bundle = |kind| {
        with(
            batch(kind, std::slice::from_ref(&nonsense)),
            "/entry/0/request/url",
            json!("Nonsense"),
        )
    };
    assert_eq!(
        decode(&bundle("batch"), At::Door).1,
        [Some(Refusal::Unsupported)]
    );
    let (refused, ..) = decode(&bundle("transaction"), At::Door);
    assert!(refused.is_some());
}

/// What the envelope of a Bundle is told at the door and in a command.
fn envelope_of(bundle: &Value) -> (Option<Refusal>, Vec<String>, Option<Refusal>, Vec<String>) {
    let door = decode(bundle, At::Door);
    let command = decode(bundle, At::Command);
    (door.0, door.2, command.0, command.2)
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn the_envelope_is_strict_at_the_door_and_lenient_in_a_command() {
    let document = json!({
        "resourceType": "Bundle", "type": "document", "timestamp": "2026-11-18T08:00:00Z",
        "identifier": { "system": "urn:s", "value": "1" },
        "entry": [{ "fullUrl": "urn:uuid:1", "resource": {
            "resourceType": "Composition", "status": "final", "type": { "text": "x" },
            "date": "2026-11-18", "author": [{ "display": "x" }], "title": "x",
        } }],
    });
    assert_eq!(decode(&document, At::Door), (None, vec![None], vec![]));
    let message = json!({
        "resourceType": "Bundle", "type": "message", "entry": [{ "resource": {
            "resourceType": "MessageHeader", "eventUri": "urn:e", "source": { "endpoint": "urn:x" },
        } }],
    });
    assert_eq!(decode(&message, At::Door), (None, vec![None], vec![]));
    let plain = batch("batch", &[haemoglobin(), haemoglobin()]);
    let collection = with(plain.clone(), "/type", json!("collection"));
    let url = |at: usize, url: &str| {
        let all = with(plain.clone(), "/entry/0/fullUrl", json!("urn:uuid:a"));
        with(all, &format!("/entry/{at}/fullUrl"), json!(url))
    };
    for (bundle, word, key, expression) in [
        (
            with(plain.clone(), "/type", Value::Null),
            "required",
            "type",
            "Bundle.type",
        ),
        (
            with(plain.clone(), "/type", json!("pile")),
            "code-invalid",
            "type",
            "Bundle.type",
        ),
        (
            with(plain.clone(), "/total", json!(2)),
            "invariant",
            "bdl-1",
            "Bundle.total",
        ),
        (
            with(plain.clone(), "/entry/0/search", json!({ "mode": "match" })),
            "invariant",
            "bdl-2",
            "Bundle.entry[0].search",
        ),
        (
            with(collection, "/entry/1/request", Value::Null),
            "invariant",
            "bdl-3",
            "Bundle.entry[0].request",
        ),
        (
            with(
                plain.clone(),
                "/entry/0/response",
                json!({ "status": "200" }),
            ),
            "invariant",
            "bdl-4",
            "Bundle.entry[0].response",
        ),
        (
            url(1, "urn:uuid:a"),
            "invariant",
            "bdl-7",
            "Bundle.entry[1].fullUrl",
        ),
        (
            url(1, "https://a.example/Observation/1/_history/1"),
            "invariant",
            "bdl-8",
            "Bundle.entry[1].fullUrl",
        ),
        (
            url(1, "Observation/1"),
            "value",
            "absolute",
            "Bundle.entry[1].fullUrl",
        ),
        (
            with(document.clone(), "/identifier/system", Value::Null),
            "invariant",
            "bdl-9",
            "Bundle.identifier",
        ),
        (
            with(document.clone(), "/timestamp", Value::Null),
            "invariant",
            "bdl-10",
            "Bundle.timestamp",
        ),
        (
            with(document.clone(), "/entry/0/resource", haemoglobin()),
            "invariant",
            "bdl-11",
            "Bundle.entry[0].resource",
        ),
        (
            with(message, "/entry/0/resource", haemoglobin()),
            "invariant",
            "bdl-12",
            "Bundle.entry[0].resource",
        ),
    ] {
        let (door, told, command, told_mildly) = envelope_of(&bundle);
        assert_eq!(door, Some(Refusal::Invalid), "{key}");
        assert_eq!(told, only(word, expression), "{key}");
        assert_eq!(command, None, "{key}");
        assert_eq!(
            told_mildly,
            [format!("warning {word} {expression}")],
            "{key}"
        );
        let text = bundle.to_string();
        let parsed = tree::parse(text.as_bytes(), &Limits::default()).unwrap();
        let submission = CHECKER.decode(&parsed, Release::R4, At::Door);
        assert!(submission.issues[0].text.contains(key), "{key}");

        // The schema of the envelope says the same, as far as it can.
        if key != "bdl-7" {
            let place = crate::fhir::model::Place {
                expression: "Bundle",
                pointer: "",
            };
            let breaches = CHECKER.profiles().check(
                "submission-bundle",
                CHECKER.model(Release::R4),
                &parsed.root,
                &place,
                10,
            );
            assert!(!breaches.is_empty(), "{key}");
        }
    }
    for good in [&plain, &document, &url(1, "urn:oid:1.2.3")] {
        let text = good.to_string();
        let parsed = tree::parse(text.as_bytes(), &Limits::default()).unwrap();
        let place = crate::fhir::model::Place {
            expression: "Bundle",
            pointer: "",
        };
        let breaches = CHECKER.profiles().check(
            "submission-bundle",
            CHECKER.model(Release::R4),
            &parsed.root,
            &place,
            10,
        );
        assert_eq!(breaches, []);
    }
}

#[test]
fn a_fullurl_may_return_in_another_version_only() {
    let versions = |first: &str, second: &str| {
        let mut bundle = batch("batch", &[haemoglobin(), haemoglobin()]);
        for (index, version) in [first, second].into_iter().enumerate() {
            bundle["entry"][index]["fullUrl"] = json!("https://a.example/Observation/1");
            bundle["entry"][index]["resource"]["meta"] = json!({ "versionId": version });
        }
        decode(&bundle, At::Door).0
    };
    assert_eq!(versions("1", "2"), None);
    assert_eq!(versions("1", "1"), Some(Refusal::Invalid));
}

#[test]
fn types_of_bundle_that_are_answers_are_for_commands_only() {
    for kind in [
        "searchset",
        "history",
        "batch-response",
        "transaction-response",
    ] {
        let bundle = json!({ "resourceType": "Bundle", "type": kind, "entry": [{ "resource": haemoglobin() }] });
        let (door, told, command, told_mildly) = envelope_of(&bundle);
        assert_eq!(
            (door, told),
            (Some(Refusal::Invalid), only("not-supported", "Bundle.type"))
        );
        assert_eq!((command, told_mildly), (None, vec![]));
    }
}

#[test]
fn a_transaction_must_not_write_one_resource_twice() {
    let mut bundle = batch("transaction", &[haemoglobin(), haemoglobin()]);
    for index in 0..2 {
        bundle["entry"][index]["request"] = json!({ "method": "PUT", "url": "Observation/1" });
    }
    assert_eq!(
        decode(&bundle, At::Door),
        (
            Some(Refusal::Invalid),
            vec![None, None],
            only("conflict", "Bundle.entry[1].request.url")
        )
    );
}

#[test]
fn too_many_entries_are_refused_unread() {
    let entries = |count: usize| {
        decode(
            &batch("batch", &vec![json!({ "resourceType": "Basic" }); count]),
            At::Door,
        )
    };
    assert_ne!(entries(1_000).0, Some(Refusal::TooLarge));
    assert_eq!(
        entries(1_001),
        (
            Some(Refusal::TooLarge),
            vec![],
            vec!["fatal too-long Bundle.entry".to_owned()]
        )
    );
}

#[test]
fn a_byte_order_mark_is_a_warning() {
    let text = format!("\u{feff}{}", haemoglobin());
    assert_eq!(
        decode_text(&text, At::Door),
        (
            None,
            vec![None],
            vec!["warning byte-order-mark -".to_owned()]
        )
    );
}

#[test]
fn what_is_contained_must_be_found_and_be_used() {
    let subject = |contained: Value, reference: &str| {
        let resource = with(haemoglobin(), "/contained", contained);
        decode(
            &with(resource, "/subject/reference", json!(reference)),
            At::Door,
        )
        .2
    };
    let patient = json!({ "resourceType": "Patient", "id": "p" });
    assert_eq!(subject(json!([patient]), "#p"), Vec::<String>::new());
    assert_eq!(
        subject(json!([patient]), "#q"),
        [
            "error not-found Observation.subject.reference",
            "warning invariant Observation.contained[0]"
        ]
    );
    let nested = with(
        patient.clone(),
        "/contained",
        json!([{ "resourceType": "Basic", "id": "b" }]),
    );
    let nested = subject(json!([nested]), "#p");
    assert!(nested.contains(&"error invariant Observation.contained[0].contained".to_owned()));
    let labelled = with(
        patient.clone(),
        "/meta",
        json!({ "versionId": "1", "security": [{ "code": "R" }] }),
    );
    assert_eq!(
        subject(json!([labelled]), "#p"),
        vec!["warning invariant Observation.contained[0].meta"; 2]
    );
    let back = json!({ "resourceType": "Specimen", "id": "s", "parent": [{ "reference": "#" }] });
    assert_eq!(subject(json!([back]), "Patient/1"), Vec::<String>::new());
    let wrong = with(patient, "/gender", json!(1));
    assert_eq!(
        subject(json!([wrong]), "#p"),
        only("value", "Observation.contained[0].gender")
    );
}

#[test]
fn r4b_knows_its_own_types() {
    for name in ["NutritionProduct", "Evidence", "Observation"] {
        assert!(CHECKER.model(Release::R4b).knows_resource(name), "{name}");
    }
    assert!(
        !CHECKER
            .model(Release::R4)
            .knows_resource("NutritionProduct")
    );
    assert!(!CHECKER.model(Release::R4).knows_resource("Quantity"));
    let text = haemoglobin().to_string();
    let parsed = tree::parse(text.as_bytes(), &Limits::default()).unwrap();
    assert_eq!(
        CHECKER.decode(&parsed, Release::R4b, At::Door).refused,
        None
    );
}

#[test]
fn a_name_that_could_be_a_patients_stays_out_of_messages() {
    for name in ["Jane Roe", "Jane", "x/y", &"a".repeat(65)] {
        let mut bad = haemoglobin();
        bad["code"][name] = json!("secret");
        let text = bad.to_string();
        let parsed = tree::parse(text.as_bytes(), &Limits::default()).unwrap();
        let submission = CHECKER.decode(&parsed, Release::R4, At::Door);
        let told =
            format!("{:?}", submission.issues) + &format!("{:?}", submission.entries[0].issues);
        assert!(told.contains("Observation.code\""), "{told}");
        assert!(!told.contains("Jane") && !told.contains("secret") && !told.contains("x/y"));
    }
}

#[test]
fn issues_never_quote_what_was_sent() {
    for pointer in [
        "/status",
        "/subject/reference",
        "/valueQuantity/comparator",
        "/effectiveDateTime",
        "/id",
        "/issued",
    ] {
        let text = with(haemoglobin(), pointer, json!("SENTINEL 1")).to_string();
        let parsed = tree::parse(text.as_bytes(), &Limits::default()).unwrap();
        let submission = CHECKER.decode(&parsed, Release::R4, At::Door);
        assert!(submission.refused.is_some(), "{pointer}");
        assert!(!format!("{:?}", submission.all_issues().collect::<Vec<_>>()).contains("SENTINEL"));
    }
}

#[test]
fn issues_of_a_hostile_bundle_stay_few() {
    let many: serde_json::Map<_, _> = (0..500).map(|i| (format!("x{i}"), json!(i))).collect();
    let mut bad = haemoglobin();
    bad.as_object_mut().unwrap().extend(many);
    let (_, entries, issues) = decode(&batch("batch", &vec![bad; 200]), At::Door);
    assert!(entries.iter().all(Option::is_some));
    assert!(issues.len() < 3_000, "{}", issues.len());
}

#[test]
fn a_sites_own_profile_holds_for_what_claims_it() {
    let url = "https://site.example/StructureDefinition/strict";
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://site.example/strict.schema.json",
        "required": ["issued"],
        "properties": { "code": { "$ref": "https://marrowflag.org/fhir/schema/r4/datatypes.schema.json#/$defs/CodeableConcept" } },
    });
    let checker = Checker::new(vec![SiteProfile {
        url: url.to_owned(),
        schema,
    }])
    .unwrap();
    let told = |profile: &str| {
        let text = with(haemoglobin(), "/meta", json!({ "profile": [profile] })).to_string();
        let parsed = tree::parse(text.as_bytes(), &Limits::default()).unwrap();
        let submission = checker.decode(&parsed, Release::R4, At::Door);
        submission
            .all_issues()
            .map(|issue| issue.expression.clone().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(told(url), ["Observation.issued"]);
    assert_eq!(told(&format!("{url}|1.0")), ["Observation.issued"]);
    assert_eq!(told("https://site.example/other"), Vec::<String>::new());
    let fetching = json!({ "$ref": "https://site.example/elsewhere.json" });
    let backtracking = json!({ "pattern": "(?=a)b" });
    for schema in [fetching, backtracking, json!({ "type": "nonsense" })] {
        let site = vec![SiteProfile {
            url: url.to_owned(),
            schema,
        }];
        assert!(matches!(Checker::new(site), Err(CheckerError::Profile(_))));
    }
}

#[test]
fn what_we_send_is_checked_the_same_way() {
    assert_eq!(
        CHECKER.check_output("blood-count-observation", &haemoglobin()),
        []
    );
    for (pointer, value) in [
        ("/status", Value::Null),
        ("/status", json!("x")),
        ("/category", json!([])),
        ("/nonsense", json!(1)),
        ("/subject", json!({})),
    ] {
        let bad = with(haemoglobin(), pointer, value);
        assert!(
            !CHECKER
                .check_output("blood-count-observation", &bad)
                .is_empty(),
            "{pointer}"
        );
    }
    assert!(
        !CHECKER
            .check_output("no-such-profile", &haemoglobin())
            .is_empty()
    );
    assert!(
        !CHECKER
            .check_output("subject-patient", &haemoglobin())
            .is_empty()
    );
}
