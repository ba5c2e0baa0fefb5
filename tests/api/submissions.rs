//! Bundles and single results: what is stored, and what is answered.

use reqwest::Method;
use serde_json::json;

use crate::app::{
    Answer, TestApp, batch, bundle, entry_words, fixture, haemoglobin, neutrophils, observation,
    pancytopenia, patient, platelets, send, word,
};

async fn post_preferring(app: &TestApp, preference: &str, body: &serde_json::Value) -> Answer {
    send(
        app.fhir(Method::POST, "/fhir")
            .header("prefer", preference)
            .body(body.to_string()),
    )
    .await
}

#[tokio::test]
async fn a_batch_is_answered_entry_by_entry_in_order() {
    let app = TestApp::spawn().await;
    let answer = app
        .post(
            "/fhir",
            &batch(&[
                haemoglobin("p1", "13.5"),
                neutrophils("p1", "3.1"),
                platelets("p1", "250"),
            ]),
        )
        .await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!(body["resourceType"], "Bundle");
    assert_eq!(body["type"], "batch-response");
    assert_eq!(answer.entry_statuses(), [201, 201, 201]);
    for entry in body["entry"].as_array().unwrap() {
        let response = &entry["response"];
        assert_eq!(response["status"], "201 Created");
        assert_eq!(response["etag"], "W/\"1\"");
        let location = response["location"].as_str().unwrap();
        assert!(
            location.contains("/fhir/Observation/mf-") && location.ends_with("/_history/1"),
            "{location}"
        );
        assert_eq!(response["lastModified"], "2026-11-18T09:00:00Z");
        assert!(entry.get("resource").is_none());
        let address = location.trim_start_matches(&app.base);
        assert_eq!(app.get(address).await.status, 200, "the Location is true");
        let address = address.trim_end_matches("/_history/1");
        let stored = app.get(address).await;
        assert_eq!(stored.status, 200, "{address}");
        assert_eq!(stored.header("etag"), "W/\"1\"");
    }
}

#[tokio::test]
async fn what_was_found_stands_at_the_last_used_result() {
    let app = TestApp::spawn().await;
    let answer = app.post("/fhir", &batch(&pancytopenia("p1"))).await.json();
    let issues = answer["entry"][3]["response"]["outcome"]["issue"]
        .as_array()
        .unwrap();
    let found = issues
        .iter()
        .find(|issue| word(issue) == "assessment")
        .expect("an assessment");
    assert_eq!(found["severity"], "information");
    let text = found["details"]["text"].as_str().unwrap();
    assert!(text.contains("ancytopenia"), "{text}");
    let places: Vec<&str> = found["diagnostics"]
        .as_str()
        .unwrap()
        .split_whitespace()
        .collect();
    assert!(
        places
            .iter()
            .any(|place| place.starts_with("DiagnosticReport/mf-")),
        "{places:?}"
    );
    assert!(
        places.iter().any(|place| place.starts_with("Flag/mf-")),
        "{places:?}"
    );
    for place in places {
        assert_eq!(
            app.get(&format!("/fhir/{place}")).await.status,
            200,
            "{place}"
        );
    }
}

#[tokio::test]
async fn prefer_decides_what_comes_back() {
    let app = TestApp::spawn().await;
    let whole = post_preferring(&app, "return=representation", &batch(&pancytopenia("p1"))).await;
    assert_eq!(whole.header("preference-applied"), "return=representation");
    let whole = whole.json();
    assert_eq!(whole["entry"][1]["resource"]["resourceType"], "Observation");
    assert_eq!(whole["entry"][1]["resource"]["meta"]["versionId"], "1");
    assert_eq!(
        whole["entry"][1]["resource"]["valueQuantity"]["value"].to_string(),
        "8.4"
    );

    let outcomes = post_preferring(&app, "return=OperationOutcome", &batch(&pancytopenia("p2")))
        .await
        .json();
    for entry in outcomes["entry"].as_array().unwrap() {
        assert_eq!(
            entry["response"]["outcome"]["resourceType"], "OperationOutcome",
            "{entry}"
        );
    }

    let minimal = post_preferring(&app, "return=minimal", &batch(&pancytopenia("p3")))
        .await
        .json();
    for (index, _) in minimal["entry"].as_array().unwrap().iter().enumerate() {
        assert!(entry_words(&minimal, index).is_empty(), "{minimal}");
    }
}

#[tokio::test]
async fn a_broken_entry_of_a_batch_costs_only_itself() {
    let app = TestApp::spawn().await;
    let mut results = pancytopenia("p1");
    results[2].as_object_mut().unwrap().remove("status");
    let answer = app.post("/fhir", &batch(&results)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.entry_statuses(), [202, 201, 422, 201]);
    let issue = &answer.json()["entry"][2]["response"]["outcome"]["issue"][0];
    assert_eq!(word(issue), "required");
    assert_eq!(issue["expression"][0], "Bundle.entry[2].resource.status");
}

#[tokio::test]
async fn a_broken_entry_of_a_transaction_costs_all() {
    let app = TestApp::spawn().await;
    let mut results = pancytopenia("p1");
    results[2].as_object_mut().unwrap().remove("status");
    let answer = app.post("/fhir", &bundle("transaction", &results)).await;
    let outcome = answer.assert_refused(422, "required");
    assert_eq!(
        outcome["issue"][0]["expression"][0],
        "Bundle.entry[2].resource.status"
    );
    assert_eq!(app.get("/fhir/Flag?patient=p1").await.json()["total"], 0);
    // Nothing of it was stored: without the neutrophils the same results are new.
    results.remove(2);
    let answer = app.post("/fhir", &bundle("transaction", &results)).await;
    assert_eq!(answer.json()["type"], "transaction-response");
    assert_eq!(answer.entry_statuses(), [202, 201, 201]);
}

#[tokio::test]
async fn an_empty_bundle_is_fine() {
    let app = TestApp::spawn().await;
    for kind in ["batch", "transaction"] {
        let answer = app.post("/fhir", &bundle(kind, &[])).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let body = answer.json();
        assert_eq!(body["type"], format!("{kind}-response"));
        assert!(body.get("entry").is_none());
    }
}

#[tokio::test]
async fn rules_of_the_envelope_are_kept() {
    let app = TestApp::spawn().await;
    let mut bare = batch(&pancytopenia("p1"));
    bare["entry"][1].as_object_mut().unwrap().remove("request");
    let answer = app.post("/fhir", &bare).await;
    assert_eq!(answer.entry_statuses()[1], 422, "{}", answer.text);
    assert!(
        answer.json()["entry"][1]["response"]["outcome"]
            .to_string()
            .contains("bdl-3")
    );

    let mut collection = batch(&pancytopenia("p2"));
    collection["type"] = "collection".into();
    assert!(app.post("/fhir", &collection).await.text.contains("bdl-3"));

    let mut twice = bundle("transaction", &pancytopenia("p3"));
    twice["entry"][2]["fullUrl"] = twice["entry"][1]["fullUrl"].clone();
    let answer = app.post("/fhir", &twice).await;
    answer.assert_refused(422, "invariant");
    assert!(answer.text.contains("bdl-7"), "{}", answer.text);

    let mut versioned = bundle("transaction", &pancytopenia("p4"));
    versioned["entry"][1]["fullUrl"] = "https://lab.example/fhir/Observation/1/_history/1".into();
    let answer = app.post("/fhir", &versioned).await;
    answer.assert_refused(422, "invariant");
    assert!(answer.text.contains("bdl-8"), "{}", answer.text);

    let mut document: serde_json::Value =
        serde_json::from_str(&fixture("wild-document.json")).unwrap();
    document.as_object_mut().unwrap().remove("timestamp");
    let answer = app.post("/fhir", &document).await;
    answer.assert_refused(422, "invariant");
    assert!(answer.text.contains("bdl-10"), "{}", answer.text);

    for kind in ["transaction-response", "searchset", "history"] {
        let mut other = bundle("batch", &[]);
        other["type"] = kind.into();
        let outcome = app
            .post("/fhir", &other)
            .await
            .assert_refused(422, "not-supported");
        assert_eq!(outcome["issue"][0]["expression"][0], "Bundle.type");
    }
}

#[tokio::test]
async fn documents_and_collections_are_read() {
    let app = TestApp::spawn().await;
    for (name, mrn) in [
        ("wild-document.json", "4721"),
        ("wild-collection.json", "4717"),
    ] {
        let answer = app.post_text("/fhir", fixture(name)).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text);
        assert_eq!(answer.json()["type"], "batch-response");
        assert!(
            answer
                .entry_statuses()
                .iter()
                .all(|status| [201, 202].contains(status)),
            "{name}: {}",
            answer.text
        );
        let flags = app
            .get(&format!(
                "/fhir/Flag?patient:identifier=https://hospital.example/mrn%7C{mrn}"
            ))
            .await
            .json();
        assert_eq!(flags["total"], 1, "{name}: {flags}");
    }
}

#[tokio::test]
async fn a_patient_by_urn_is_context_and_its_results_are_stored() {
    let app = TestApp::spawn().await;
    let answer = app.post_text("/fhir", fixture("pancytopenia.json")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let statuses = answer.entry_statuses();
    assert_eq!(statuses[0], 202);
    assert!(
        statuses[1..].iter().all(|status| *status == 201),
        "{statuses:?}"
    );
    let body = answer.json();
    assert_eq!(entry_words(&body, 0), ["context"]);
}

#[tokio::test]
async fn a_conditional_reference_is_for_transactions_only() {
    let app = TestApp::spawn().await;
    let mut result = haemoglobin("p1", "8.4");
    result["subject"]["reference"] = "Patient?identifier=https://hospital.example/mrn|p1".into();
    let answer = app
        .post("/fhir", &bundle("transaction", &[result.clone()]))
        .await;
    assert_eq!(answer.entry_statuses(), [201], "{}", answer.text);
    let answer = app.post("/fhir", &batch(&[result])).await;
    assert_eq!(answer.entry_statuses(), [422], "{}", answer.text);
}

#[tokio::test]
async fn a_single_result_is_created_once() {
    let app = TestApp::spawn().await;
    let mut result = haemoglobin("p1", "8.4");
    result["id"] = "abc".into();
    let first = app.post("/fhir/Observation", &result).await;
    assert_eq!(first.status, 201, "{}", first.text);
    assert_eq!(first.header("etag"), "W/\"1\"");
    assert!(first.header("location").contains("/fhir/Observation/mf-"));
    let stored = first.json();
    assert_ne!(stored["id"], "abc");
    assert_eq!(stored["valueQuantity"]["value"].to_string(), "8.4");

    let again = app.post("/fhir/Observation", &result).await;
    assert_eq!(again.status, 200, "{}", again.text);
    assert_eq!(again.json()["id"], stored["id"]);
    assert_eq!(again.json()["meta"]["versionId"], "1");

    let minimal = send(
        app.fhir(Method::POST, "/fhir/Observation")
            .header("prefer", "return=minimal")
            .body(platelets("p1", "30").to_string()),
    )
    .await;
    assert_eq!((minimal.status.as_u16(), minimal.text.as_str()), (201, ""));
    assert!(!minimal.header("location").is_empty());
}

#[tokio::test]
async fn a_conditional_create_meets_what_is_held() {
    let app = TestApp::spawn().await;
    let create = |criteria: &'static str, value: &str| {
        send(
            app.fhir(Method::POST, "/fhir/Observation")
                .header("if-none-exist", criteria)
                .body(haemoglobin("p1", value).to_string()),
        )
    };
    let criteria = "identifier=https://lab.example/result|p1-718-7";
    let first = create(criteria, "8.4").await;
    assert_eq!(first.status, 201, "{}", first.text);
    let second = create(criteria, "9.9").await;
    assert_eq!(second.status, 200, "{}", second.text);
    assert_eq!(second.json()["id"], first.json()["id"]);
    assert_eq!(second.json()["valueQuantity"]["value"].to_string(), "8.4");
    create("code=718-7", "8.4")
        .await
        .assert_refused(400, "not-supported");
    assert_eq!(create("", "8.4").await.status, 400);
}

#[tokio::test]
async fn a_result_put_keeps_the_callers_id() {
    let app = TestApp::spawn().await;
    let put = |id: &'static str, value: &str, if_match: Option<&'static str>| {
        let mut result = haemoglobin("p1", value);
        result["id"] = id.into();
        let mut request = app
            .fhir(Method::PUT, "/fhir/Observation/x1")
            .body(result.to_string());
        if let Some(tag) = if_match {
            request = request.header("if-match", tag);
        }
        send(request)
    };
    let first = put("x1", "8.4", None).await;
    assert_eq!(first.status, 201, "{}", first.text);
    assert!(
        first
            .header("location")
            .ends_with("/fhir/Observation/x1/_history/1"),
        "{}",
        first.header("location")
    );
    let second = put("x1", "8.6", None).await;
    assert_eq!(second.status, 200, "{}", second.text);
    assert_eq!(second.header("etag"), "W/\"2\"");
    put("x1", "8.7", Some("W/\"9\""))
        .await
        .assert_refused(412, "conflict");
    assert_eq!(put("x1", "8.7", Some("nine")).await.status, 400);
    assert_eq!(put("x1", "8.7", Some("W/\"2\"")).await.status, 200);
    put("other", "8.4", None).await.assert_refused(400, "value");
    let stored = app.get("/fhir/Observation/x1").await;
    assert_eq!(stored.status, 200);
    assert_eq!(stored.json()["id"], "x1");
    assert_eq!(stored.header("etag"), "W/\"3\"");
}

#[tokio::test]
async fn verbs_of_entries_that_we_do_not_serve_are_refused_alone() {
    let app = TestApp::spawn().await;
    let mut patched = batch(&[haemoglobin("p1", "8.4"), platelets("p1", "32")]);
    patched["entry"][0]["request"]["method"] = "PATCH".into();
    let answer = app.post("/fhir", &patched).await;
    assert_eq!(answer.entry_statuses(), [422, 201], "{}", answer.text);
}

#[tokio::test]
async fn a_result_deleted_is_withdrawn_and_the_patient_assessed_again() {
    let app = TestApp::spawn().await;
    let answer = app.post("/fhir", &batch(&pancytopenia("p1"))).await.json();
    let location = answer["entry"][3]["response"]["location"].as_str().unwrap();
    let id = location
        .split("/Observation/")
        .nth(1)
        .unwrap()
        .split('/')
        .next()
        .unwrap();
    let delete = json!({
        "resourceType": "Bundle",
        "type": "batch",
        "entry": [{ "request": { "method": "DELETE", "url": format!("Observation/{id}") } }]
    });
    let answer = app.post("/fhir", &delete).await;
    assert_eq!(answer.entry_statuses(), [204], "{}", answer.text);
    let report = app.get("/fhir/DiagnosticReport?patient=p1").await;
    assert!(
        !report.text.contains("\"32"),
        "the withdrawn count is still in the report: {}",
        report.text
    );
    assert_eq!(
        app.get(&format!("/fhir/Observation/{id}")).await.status,
        410
    );
}

#[tokio::test]
async fn a_bundle_of_too_many_entries_is_413() {
    let app = TestApp::spawn_with(&["--max-entries", "5"]).await;
    let results: Vec<_> = (0..6)
        .map(|n| observation(&format!("p{n}"), "718-7", "9.1", "g/dL"))
        .collect();
    let outcome = app
        .post("/fhir", &batch(&results))
        .await
        .assert_refused(413, "too-long");
    assert_eq!(outcome["issue"][0]["expression"][0], "Bundle.entry");
    assert_eq!(app.post("/fhir", &batch(&results[..5])).await.status, 200);
}

#[tokio::test]
async fn a_value_that_cannot_be_used_does_not_fail_its_entry() {
    let app = TestApp::spawn().await;
    let results = [
        patient("p1"),
        observation("p1", "718-7", "13", "g/L"),
        neutrophils("p1", "0.7"),
        platelets("p1", "32"),
    ];
    let answer = app.post("/fhir", &batch(&results)).await;
    assert_eq!(
        answer.entry_statuses(),
        [202, 201, 201, 201],
        "{}",
        answer.text
    );
    let body = answer.json();
    let issue = &body["entry"][1]["response"]["outcome"]["issue"][0];
    assert_eq!(issue["severity"], "warning", "{body}");
    assert!(
        issue["expression"][0]
            .as_str()
            .unwrap()
            .starts_with("Bundle.entry[1].resource"),
        "{issue}"
    );
    let report = app.get("/fhir/DiagnosticReport?patient=p1").await.json();
    assert_eq!(report["total"], 1, "{report}");
    assert!(
        !app.flags("p1").await.is_empty(),
        "neutrophils and platelets were assessed"
    );
}

#[tokio::test]
async fn what_is_not_a_count_is_context() {
    let app = TestApp::spawn().await;
    let encounter = json!({
        "resourceType": "Encounter",
        "status": "finished",
        "class": { "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "AMB" }
    });
    let unknown = json!({ "resourceType": "Spaceship" });
    let answer = app
        .post(
            "/fhir",
            &batch(&[patient("p1"), encounter, unknown, haemoglobin("p1", "13.5")]),
        )
        .await;
    assert_eq!(
        answer.entry_statuses(),
        [202, 202, 404, 201],
        "{}",
        answer.text
    );
}

#[tokio::test]
async fn a_message_is_answered_with_a_message_that_names_it() {
    let app = TestApp::spawn().await;
    let mut message = batch(&pancytopenia("p1"));
    message["type"] = "message".into();
    message["id"] = "bundle-1".into();
    let entries = message["entry"].as_array_mut().unwrap();
    for entry in entries.iter_mut() {
        entry.as_object_mut().unwrap().remove("request");
    }
    let header = json!({
        "resourceType": "MessageHeader",
        "id": "header-1",
        "eventCoding": { "system": "http://terminology.hl7.org/CodeSystem/v2-0003", "code": "R01" },
        "source": { "endpoint": "https://engine.example/fhir" }
    });
    entries.insert(
        0,
        json!({ "fullUrl": "urn:uuid:00000000-0000-4000-8000-00000000000a", "resource": header }),
    );
    let answer = app.post("/fhir", &message).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let body = answer.json();
    assert_eq!(body["type"], "message");
    let header = &body["entry"][0]["resource"];
    assert_eq!(header["resourceType"], "MessageHeader");
    assert_eq!(header["response"]["identifier"], "header-1");
    assert_eq!(header["response"]["code"], "ok");
    assert_eq!(header["eventCoding"]["code"], "R01");
    assert_eq!(
        header["destination"][0]["endpoint"],
        "https://engine.example/fhir"
    );
    assert_eq!(app.flags("p1").await.len(), 1);
    let again = app.post("/fhir", &message).await;
    assert_eq!(again.text, answer.text);
}
