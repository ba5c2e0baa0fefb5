//! What cannot be read is refused with its place, and nobody else notices.

use serde_json::{Value, json};

use crate::app::{TestApp, batch, haemoglobin, pancytopenia};

#[tokio::test]
async fn what_is_no_json_is_refused() {
    let app = TestApp::spawn().await;
    let whole = batch(&pancytopenia("p1")).to_string();
    let cut = &whole[..whole.len() / 2];
    let trailing = format!("{whole} garbage");
    for text in [
        "",
        "not json",
        cut,
        &trailing,
        "{\"a\":\"\\ud800\"}",
        "{\"resourceType\":\"Bundle\",}",
    ] {
        let answer = app.post_text("/fhir", text.to_owned()).await;
        let outcome = answer.assert_refused(400, "broken-text");
        assert_eq!(outcome["issue"][0]["severity"], "fatal");
        assert!(
            outcome["issue"][0]["diagnostics"]
                .as_str()
                .unwrap()
                .contains("line"),
            "{outcome}"
        );
    }
    app.post_text("/fhir", b"{\"resourceType\":\"\xff\"}".to_vec())
        .await
        .assert_refused(400, "broken-text");
}

#[tokio::test]
async fn what_is_json_but_no_bundle_is_refused() {
    let app = TestApp::spawn().await;
    for text in ["[]", "{}", "null", "1", "\"text\"", "true"] {
        let answer = app.post_text("/fhir", text).await;
        assert_eq!(answer.status, 400, "{text}: {}", answer.text);
        assert_eq!(answer.json()["resourceType"], "OperationOutcome");
    }
    let single = app.post("/fhir", &haemoglobin("p1", "8.4")).await;
    assert!(single.status.is_client_error(), "{}", single.text);
    let untyped = app
        .post("/fhir", &json!({ "resourceType": "Bundle" }))
        .await;
    let outcome = untyped.assert_refused(422, "required");
    assert_eq!(outcome["issue"][0]["expression"][0], "Bundle.type");
    let odd = app
        .post(
            "/fhir",
            &json!({ "resourceType": "Bundle", "type": "pile" }),
        )
        .await;
    odd.assert_refused(422, "code-invalid");
}

#[tokio::test]
async fn deep_nesting_is_refused_at_any_depth() {
    let app = TestApp::spawn().await;
    for depth in [70, 10_000, 100_000] {
        let text = format!(
            "{{\"resourceType\":\"Bundle\",\"entry\":{}{}}}",
            "[".repeat(depth),
            "]".repeat(depth)
        );
        app.post_text("/fhir", text)
            .await
            .assert_refused(400, "too-costly");
    }
    assert_eq!(app.get("/livez").await.status, 200);
}

/// Posts one result alone and beside a good one; the good one must not notice.
async fn refused_alone(app: &TestApp, status: u16, word: &str, broken: &str) -> Value {
    let outcome = app
        .post_text("/fhir/Observation", broken.to_owned())
        .await
        .assert_refused(status, word);
    let good = haemoglobin("neighbour", "13.5");
    let both = format!(
        "{{\"resourceType\":\"Bundle\",\"type\":\"batch\",\"entry\":[\
         {{\"fullUrl\":\"urn:uuid:00000000-0000-4000-8000-000000000001\",\"resource\":{broken},\
         \"request\":{{\"method\":\"POST\",\"url\":\"Observation\"}}}},\
         {{\"fullUrl\":\"urn:uuid:00000000-0000-4000-8000-000000000002\",\"resource\":{good},\
         \"request\":{{\"method\":\"POST\",\"url\":\"Observation\"}}}}]}}"
    );
    let answer = app.post_text("/fhir", both).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let statuses = answer.entry_statuses();
    assert_eq!(statuses[0], status, "{}", answer.text);
    assert!([200, 201].contains(&statuses[1]), "{}", answer.text);
    outcome
}

#[tokio::test]
async fn broken_fhir_costs_the_entry_it_lies_in() {
    let app = TestApp::spawn().await;
    let good = haemoglobin("p1", "8.4");
    let with = |member: &str, value: Value| {
        let mut result = good.clone();
        result[member] = value;
        result.to_string()
    };
    let text = good.to_string();
    let twice = format!("{},\"status\":\"final\"}}", &text[..text.len() - 1]);
    refused_alone(&app, 400, "duplicate-key", &twice).await;
    let empty = refused_alone(&app, 400, "empty-value", &with("category", json!([]))).await;
    assert_eq!(empty["issue"][0]["expression"][0], "Observation.category");
    refused_alone(&app, 400, "empty-value", &with("code", json!({}))).await;
    refused_alone(&app, 400, "empty-value", &with("status", json!(""))).await;
    refused_alone(&app, 400, "empty-value", &with("issued", Value::Null)).await;
    refused_alone(&app, 422, "unknown-element", &with("colour", json!("red"))).await;
    refused_alone(
        &app,
        422,
        "unknown-element",
        &with("fhir_comments", json!(["x"])),
    )
    .await;
    refused_alone(
        &app,
        422,
        "json-type",
        &with("category", json!({ "text": "x" })),
    )
    .await;
    refused_alone(&app, 422, "value", &with("status", json!(7))).await;
    refused_alone(
        &app,
        422,
        "code-invalid",
        &with("status", json!("finished")),
    )
    .await;
    refused_alone(
        &app,
        422,
        "value",
        &with("effectiveDateTime", json!("2024-02-31")),
    )
    .await;
    refused_alone(
        &app,
        422,
        "extension",
        &with(
            "modifierExtension",
            json!([{ "url": "https://x.example/not", "valueBoolean": true }]),
        ),
    )
    .await;
    for value in ["abc", "9.4", "NaN", "Infinity"] {
        let quantity =
            json!({ "value": value, "system": "http://unitsofmeasure.org", "code": "g/dL" });
        let outcome = refused_alone(&app, 422, "value", &with("valueQuantity", quantity)).await;
        assert_eq!(
            outcome["issue"][0]["expression"][0], "Observation.value.value",
            "{outcome}"
        );
    }
}

#[tokio::test]
async fn numbers_nobody_can_mean_are_refused() {
    let app = TestApp::spawn().await;
    let text = haemoglobin("p1", "8.4").to_string();
    let with = |number: &str| text.replace(":8.4", &format!(":{number}"));
    assert!(with("1").contains(":1,") || with("1").contains(":1}"));
    for number in [
        "1".repeat(400),
        "1e999".to_owned(),
        "1e-999".to_owned(),
        format!("0.{}1", "0".repeat(400)),
    ] {
        let answer = app.post_text("/fhir/Observation", with(&number)).await;
        answer.assert_refused(400, "too-long");
    }
    for number in ["Infinity", "-Infinity", "NaN", "+1", "01", ".5", "1."] {
        app.post_text("/fhir/Observation", with(number))
            .await
            .assert_refused(400, "broken-text");
    }
}

#[tokio::test]
async fn references_that_lead_nowhere_are_refused() {
    let app = TestApp::spawn().await;
    let subject = |reference: &str| {
        let mut result = haemoglobin("p1", "8.4");
        result["subject"] = json!({ "reference": reference });
        result.to_string()
    };
    let outcome = refused_alone(&app, 422, "not-found", &subject("#nobody")).await;
    assert_eq!(
        outcome["issue"][0]["expression"][0],
        "Observation.subject.reference"
    );
    refused_alone(
        &app,
        422,
        "not-found",
        &subject("urn:uuid:5e0f7f8a-1c1e-4a52-9d43-000000000000"),
    )
    .await;
    let mut nobody = haemoglobin("p1", "8.4");
    nobody.as_object_mut().unwrap().remove("subject");
    let outcome = refused_alone(&app, 422, "required", &nobody.to_string()).await;
    assert_eq!(outcome["issue"][0]["expression"][0], "Observation.subject");
}

#[tokio::test]
async fn a_report_about_one_patient_with_a_result_of_another_is_refused() {
    let app = TestApp::spawn().await;
    let mut results = pancytopenia("p1");
    results.push(json!({
        "resourceType": "DiagnosticReport",
        "status": "final",
        "code": { "coding": [{ "system": "http://loinc.org", "code": "58410-2" }] },
        "subject": { "reference": "Patient/p2" },
        "result": [{ "reference": "urn:uuid:00000000-0000-4000-8000-000000000001" }]
    }));
    let mut bundle = batch(&results);
    bundle["type"] = "transaction".into();
    app.post("/fhir", &bundle)
        .await
        .assert_refused(422, "two-patients");
}

#[tokio::test]
async fn no_refusal_repeats_what_was_sent() {
    let app = TestApp::spawn().await;
    let marked = "Marked-Secret-4711";
    let mut result = haemoglobin("p1", "8.4");
    for (member, value) in [
        ("status", json!(marked)),
        ("effectiveDateTime", json!(marked)),
        ("valueQuantity", json!({ "value": marked })),
        ("subject", json!({ "reference": format!("#{marked}") })),
    ] {
        let kept = result[member].clone();
        result[member] = value;
        let answer = app.post("/fhir/Observation", &result).await;
        assert!(answer.status.is_client_error(), "{member}: {}", answer.text);
        assert!(!answer.text.contains(marked), "{member}: {}", answer.text);
        result[member] = kept;
    }
}
