//! What was found, as whoever reads it sees it.

use reqwest::Method;
use serde_json::Value;

use crate::app::{TestApp, batch, fixture, haemoglobin, pancytopenia, resources, send};

#[tokio::test]
async fn a_flag_is_found_by_every_name_the_sender_gave_the_patient() {
    let app = TestApp::spawn().await;
    app.post("/fhir", &batch(&pancytopenia("p1"))).await;
    let everything = [
        "p1",
        "Patient/p1",
        "https://hospital.example/fhir/Patient/p1",
    ]
    .map(|patient| format!("/fhir/Flag?patient={patient}"))
    .into_iter()
    .chain(["/fhir/Flag?patient:identifier=https://hospital.example/mrn%7Cp1".to_owned()]);
    for path in everything {
        let answer = app.get(&path).await.json();
        assert_eq!(answer["resourceType"], "Bundle", "{answer}");
        assert_eq!(answer["type"], "searchset");
        assert_eq!(answer["total"], 1, "{path}: {answer}");
        let flag = &answer["entry"][0]["resource"];
        assert_eq!(flag["resourceType"], "Flag");
        assert_eq!(flag["status"], "active");
        assert_eq!(answer["entry"][0]["search"]["mode"], "match");
        let url = answer["entry"][0]["fullUrl"].as_str().unwrap();
        assert_eq!(
            url,
            format!("{}/fhir/Flag/{}", app.base, flag["id"].as_str().unwrap())
        );
    }
    let nobody = app.get("/fhir/Flag?patient=somebody-else").await;
    assert_eq!(nobody.status, 200);
    assert_eq!(nobody.json()["total"], 0);
    assert!(nobody.json().get("entry").is_none());
}

#[tokio::test]
async fn a_report_says_what_was_found_and_leads_to_its_device() {
    let app = TestApp::spawn().await;
    app.post("/fhir", &batch(&pancytopenia("p1"))).await;
    let reports = resources(&app.get("/fhir/DiagnosticReport?patient=p1").await.json());
    assert_eq!(reports.len(), 1);
    let report = &reports[0];
    assert_eq!(report["status"], "partial");
    assert!(
        report["conclusion"]
            .as_str()
            .unwrap()
            .to_lowercase()
            .contains("pancytopenia"),
        "{report}"
    );
    let id = report["id"].as_str().unwrap();
    let read = app.get(&format!("/fhir/DiagnosticReport/{id}")).await;
    assert_eq!(&read.json(), report);
    assert!(read.header("etag").starts_with("W/\""));
    assert!(!read.header("last-modified").is_empty());
}

#[tokio::test]
async fn searches_filter_by_status_code_and_time() {
    let app = TestApp::spawn().await;
    app.post("/fhir", &batch(&pancytopenia("p1"))).await;
    app.post("/fhir", &batch(&pancytopenia("p2"))).await;
    let total = async |query: &str| {
        let answer = app.get(&format!("/fhir/{query}")).await;
        assert_eq!(answer.status, 200, "{query}: {}", answer.text);
        answer.json()["total"].as_u64().unwrap()
    };
    assert_eq!(total("Flag").await, 2);
    assert_eq!(total("Flag?status=active").await, 2);
    assert_eq!(total("Flag?status=inactive").await, 0);
    assert_eq!(total("Flag?patient=p1&status=active").await, 1);
    assert_eq!(total("Flag?_lastUpdated=ge2026-11-18").await, 2);
    assert_eq!(total("Flag?_lastUpdated=gt2026-11-19").await, 0);
    assert_eq!(
        total("DiagnosticReport?patient=p1&date=2026-11-18").await,
        1
    );
    assert_eq!(
        total("DiagnosticReport?patient=p1&date=lt2026-11-18").await,
        0
    );
    let flag = app.flags("p1").await.remove(0);
    let code = flag["code"]["coding"][0]["code"].as_str().unwrap();
    let system = flag["code"]["coding"][0]["system"].as_str().unwrap();
    assert_eq!(total(&format!("Flag?code={code}")).await, 2);
    assert_eq!(total(&format!("Flag?code={system}%7C{code}")).await, 2);
    assert_eq!(total("Flag?code=nothing").await, 0);
    let page = app.get("/fhir/Flag?_count=1").await.json();
    assert_eq!(page["total"], 2, "{page}");
    assert_eq!(page["entry"].as_array().unwrap().len(), 1);

    app.get("/fhir/Flag?_lastUpdated=yesterday")
        .await
        .assert_refused(400, "value");
    let strict = send(
        app.request(Method::GET, "/fhir/Flag?colour=red")
            .header("prefer", "handling=strict"),
    )
    .await;
    strict.assert_refused(400, "parameter-unknown");
    let lenient = app.get("/fhir/Flag?colour=red").await;
    assert_eq!(lenient.status, 200);
    assert!(
        lenient.text.contains("parameter-unknown"),
        "{}",
        lenient.text
    );
}

#[tokio::test]
async fn nothing_is_flagged_in_a_normal_count() {
    let app = TestApp::spawn().await;
    let answer = app.post_text("/fhir", fixture("normal.json")).await;
    assert!(
        answer.entry_statuses()[1..]
            .iter()
            .all(|status| *status == 201),
        "{}",
        answer.text
    );
    assert_eq!(app.get("/fhir/Flag").await.json()["total"], 0);
}

#[tokio::test]
async fn a_flag_closes_only_after_a_run_of_normal_counts() {
    let app = TestApp::spawn_with(&["--as-of", "sampled"]).await;
    let flag = async |name: &str| -> Value {
        let answer = app.post_text("/fhir", fixture(name)).await;
        assert!(
            answer.entry_statuses()[1..]
                .iter()
                .all(|status| *status == 201),
            "{}",
            answer.text
        );
        let flags = app
            .get("/fhir/Flag?patient:identifier=https://hospital.example/mrn%7C4713")
            .await;
        let mut flags = resources(&flags.json());
        assert_eq!(flags.len(), 1, "{name}");
        flags.remove(0)
    };
    let raised = flag("recovery-1-low.json").await;
    assert_eq!(raised["status"], "active");
    let first = flag("recovery-2-first-normal.json").await;
    assert_eq!(first["status"], "active", "one normal count closes nothing");
    let closed = flag("recovery-3-still-normal.json").await;
    assert_eq!(closed["status"], "inactive");
    assert_eq!(closed["id"], raised["id"]);
    assert!(closed["period"]["end"].is_string(), "{closed}");
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let app = TestApp::spawn().await;
    for path in [
        "Flag/mf-none",
        "DiagnosticReport/1",
        "Observation/unknown",
        "Provenance/x",
        "Device/x",
    ] {
        app.get(&format!("/fhir/{path}"))
            .await
            .assert_refused(404, "not-found");
    }
}

#[tokio::test]
async fn a_patient_named_twice_is_one_patient() {
    let app = TestApp::spawn().await;
    app.post("/fhir", &batch(&pancytopenia("p1"))).await;
    // The same person by identifier only.
    let mut result = haemoglobin("p1", "8.2");
    result["identifier"][0]["value"] = "another".into();
    result["effectiveDateTime"] = "2026-11-18T08:00:00Z".into();
    result["subject"] = serde_json::json!({
        "identifier": { "system": "https://hospital.example/mrn", "value": "p1" }
    });
    let answer = app.post("/fhir", &batch(&[result])).await;
    assert_eq!(answer.entry_statuses(), [201], "{}", answer.text);
    assert_eq!(app.get("/fhir/Flag").await.json()["total"], 1);
}

/// Clients that keep patients out of addresses search by form; the public CDS Hooks sandbox does,
/// and asks for the old name of the media type.
#[tokio::test]
async fn a_search_may_come_as_a_form() {
    const FORM: &str = "application/x-www-form-urlencoded";
    let app = TestApp::spawn().await;
    app.post("/fhir", &batch(&pancytopenia("p1"))).await;
    let form = |kind: &str, media_type: &str, body: &str| {
        app.request(Method::POST, &format!("/fhir/{kind}/_search"))
            .header("content-type", media_type.to_owned())
            .header("accept", "application/json+fhir")
            .body(body.to_owned())
    };
    for (kind, body, total) in [
        ("Flag", "patient=p1", 1),
        ("Flag", "patient=Patient%2Fp1&status=active", 1),
        ("Flag", "patient=p2", 0),
        ("DiagnosticReport", "patient=p1", 1),
    ] {
        let answer = send(form(kind, FORM, body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.json()["total"], total, "{kind} {body}");
    }
    let strange = form("Flag", FORM, "nonsense=1").header("prefer", "handling=strict");
    send(strange).await.assert_refused(400, "parameter-unknown");
    send(form("Flag", "application/json", "{}"))
        .await
        .assert_refused(415, "not-supported");
    let broken = send(form("Flag", FORM, "patient=%FF%FE\u{0}")).await;
    assert!(!broken.status.is_server_error(), "{}", broken.text);
    let large = format!("patient={}", "x".repeat(20_000));
    assert_eq!(send(form("Flag", FORM, &large)).await.status, 413);
    let get = app.get("/fhir/Flag/_search").await;
    assert_eq!(get.status, 405);
}
