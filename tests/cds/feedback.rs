//! What clinicians do with a card.

use std::process::Command;

use marrowflag::{
    clinical::assessment::Acknowledged,
    fhir::{read::PatientKey, write::identity},
    store::{
        Store as _,
        sqlite::{Options, Sqlite},
    },
};

use serde_json::{Value, json};

use super::{
    app::{NOW, TestApp},
    ehr::{FEEDBACK, LOW, SERVICE, SEVERE, call},
};

fn overridden(card: &Value, reason: &str) -> Value {
    json!({ "feedback": [{
        "card": card["uuid"], "outcome": "overridden", "outcomeTimestamp": "2026-11-18T08:59:00Z",
        "overrideReason": {
            "reason": {
                "system": "http://terminology.hl7.org/CodeSystem/non-adherence-reason-codes",
                "code": reason
            },
            "userComment": "Mrs Example, seen today"
        }
    }] })
}

#[tokio::test(flavor = "multi_thread")]
async fn feedback_is_taken_and_taken_once() {
    let app = TestApp::spawn().await;
    let card = app.post(SERVICE, &call("p1", LOW)).await.card();
    let suggestion = &card["suggestions"][0]["uuid"];
    let accepted = json!({ "feedback": [{
        "card": card["uuid"], "outcome": "accepted", "acceptedSuggestions": [{ "id": suggestion }],
        "outcomeTimestamp": "2026-11-18T08:59:00Z"
    }] });
    for _ in 0..2 {
        let answer = app.post(FEEDBACK, &accepted).await;
        assert_eq!(
            (answer.status.as_u16(), answer.text.as_str()),
            (200, r#"{"received":1}"#)
        );
    }
    let unknown = json!({ "feedback": [{
        "card": "nobody-knows-it", "outcome": "overridden", "outcomeTimestamp": "2026-11-18T08:59:00Z"
    }] });
    assert_eq!(app.post(FEEDBACK, &unknown).await.status, 200);
    let metrics = app.get("/metrics").await.text;
    assert!(metrics.contains("marrowflag_cds_total{event=\"unknown-card\"} 1"));
    assert!(metrics.contains("marrowflag_cds_total{event=\"feedback\"} 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_feedback_is_refused_with_its_place() {
    let app = TestApp::spawn().await;
    let wrong = json!({ "feedback": [{ "card": "c", "outcome": "accepted", "outcomeTimestamp": "2026-11-18T08:59:00Z" }] });
    let outcome = app
        .post(FEEDBACK, &wrong)
        .await
        .assert_refused(400, "required");
    let place = outcome["issue"][0]["expression"][0].as_str().unwrap();
    assert!(place.contains("feedback[0]"), "{place}");
    let commented = "{\"feedback\": [ // a comment\n]}";
    app.post_text(FEEDBACK, commented)
        .await
        .assert_refused(400, "broken-text");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overridden_card_stays_away_unless_it_gets_worse() {
    let app = TestApp::spawn().await;
    let card = app.post(SERVICE, &call("p1", LOW)).await.card();
    let answer = app
        .post(FEEDBACK, &overridden(&card, "patient-ineligible"))
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(app.post(SERVICE, &call("p1", LOW)).await.cards().is_empty());
    app.post(SERVICE, &call("p1", SEVERE)).await.card();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_report_counts_answers_rule_by_rule_and_keeps_no_comment() {
    let app = TestApp::spawn().await;
    for (patient, reason) in [
        ("p1", "action-completed"),
        ("p2", "patient-ineligible"),
        ("p3", "weather"),
    ] {
        let card = app.post(SERVICE, &call(patient, LOW)).await.card();
        assert_eq!(
            app.post(FEEDBACK, &overridden(&card, reason)).await.status,
            200
        );
    }
    app.post(SERVICE, &call("p4", LOW)).await.card();
    let database = app.dir.path().join("marrowflag.db");
    let run = |format: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_marrowflag"))
            .args(["feedback", "--format", format, "--database"])
            .arg(format!("sqlite:{}", database.display()))
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    };
    let lines = run("ndjson");
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["rule"], "C2");
    assert_eq!(first["shown"], 4);
    assert_eq!(first["known"], 1);
    assert_eq!(first["not_relevant"], 1);
    assert_eq!(first["other"], 1);
    assert!(run("table").contains("C2"));
    let dir = std::sync::Arc::clone(&app.dir);
    app.stop().await;
    let bytes = std::fs::read(database).unwrap();
    drop(dir);
    assert!(!bytes.windows(11).any(|window| window == b"Mrs Example"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_reaches_the_finding_of_the_patient() {
    let ehr = super::ehr::Ehr::start("p1", LOW, super::ehr::Manners::default());
    let app = TestApp::spawn_with(&["--fhir-server", &ehr.base]).await;
    let filed = super::app::bundle(
        "batch",
        &[
            super::app::patient("p1"),
            super::app::haemoglobin("p1", "6.5"),
            super::app::platelets("p1", "11"),
            super::app::neutrophils("p1", "0.2"),
        ],
    );
    assert_eq!(app.post("/fhir", &filed).await.status, 200);
    let flags = app.flags("p1").await;
    assert_eq!(flags[0]["status"], "active");
    let mut request = call("p1", &[]);
    request["fhirServer"] = json!(ehr.base);
    let card = app.post(SERVICE, &request).await.card();
    assert_eq!(
        app.post(FEEDBACK, &overridden(&card, "patient-ineligible"))
            .await
            .status,
        200
    );
    // The next results do not raise it again: they close it.
    let mut later = super::app::haemoglobin("p1", "6.6");
    later["effectiveDateTime"] = json!("2026-11-18T08:30:00Z");
    later["identifier"][0]["value"] = json!("later");
    assert_eq!(
        app.post("/fhir", &super::app::batch(&[later])).await.status,
        200
    );
    let flags = app.flags("p1").await;
    assert_eq!(flags[0]["status"], "inactive", "{flags:#?}");
    // And it stays acknowledged.
    let dir = std::sync::Arc::clone(&app.dir);
    app.stop().await;
    let path = dir.path().join("marrowflag.db");
    let store = Sqlite::open(&Options::new(path, NOW, [7; 32])).unwrap();
    let key = identity::patient_key(
        store.identity_key().as_bytes(),
        "default",
        "anonymous",
        &PatientKey::Reference("Patient/p1".to_owned()),
    );
    let patients = store.find_patients("default", vec![key]).await.unwrap();
    let known = store
        .patient("default", patients[0])
        .await
        .unwrap()
        .unwrap();
    let (what, until) = known.findings[0].finding.acknowledged.unwrap();
    assert_eq!(what, Acknowledged::NotRelevant);
    assert!(until > NOW + time::Duration::days(36_500));
}
