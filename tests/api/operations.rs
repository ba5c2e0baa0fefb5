//! Operations that store nothing.

use serde_json::{Value, json};

use crate::app::{TestApp, batch, fixture, haemoglobin, pancytopenia, patient, word};

fn part<'a>(parameters: &'a Value, name: &str) -> Vec<&'a Value> {
    assert_eq!(parameters["resourceType"], "Parameters", "{parameters}");
    parameters["parameter"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|parameter| parameter["name"] == name)
        .collect()
}

#[tokio::test]
async fn an_assessment_stores_nothing_and_is_the_same_each_time() {
    let app = TestApp::spawn().await;
    let first = app
        .post("/fhir/$assess-cytopenia", &batch(&pancytopenia("p1")))
        .await;
    assert_eq!(first.status, 200, "{}", first.text);
    let parameters = first.json();
    assert_eq!(part(&parameters, "result")[0]["valueCode"], "cytopenia");
    assert!(
        ["flag", "flag-safety"].contains(
            &part(&parameters, "output")[0]["valueCode"]
                .as_str()
                .unwrap()
        )
    );
    assert_eq!(
        part(&parameters, "flag")[0]["resource"]["resourceType"],
        "Flag"
    );
    assert_eq!(
        part(&parameters, "report")[0]["resource"]["resourceType"],
        "DiagnosticReport"
    );
    assert!(part(&parameters, "trace").is_empty());
    let second = app
        .post("/fhir/$assess-cytopenia", &batch(&pancytopenia("p1")))
        .await;
    assert_eq!(second.text, first.text);
    assert_eq!(app.get("/fhir/Flag").await.json()["total"], 0);
}

#[tokio::test]
async fn an_assessment_takes_parameters_and_explains_itself() {
    let app = TestApp::spawn().await;
    let parameters = json!({
        "resourceType": "Parameters",
        "parameter": [
            { "name": "bundle", "resource": batch(&pancytopenia("p1")) },
            { "name": "asOf", "valueDateTime": "2026-11-18T12:00:00Z" },
            { "name": "explain", "valueBoolean": true }
        ]
    });
    let answer = app.post("/fhir/$assess-cytopenia", &parameters).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(!part(&answer.json(), "trace").is_empty());
}

#[tokio::test]
async fn an_assessment_reads_searchsets_and_what_breaks_only_the_envelope() {
    let app = TestApp::spawn().await;
    let searchset = app
        .post_text("/fhir/$assess-cytopenia", fixture("wild-searchset.json"))
        .await;
    assert_eq!(searchset.status, 200, "{}", searchset.text);
    assert_eq!(
        part(&searchset.json(), "result")[0]["valueCode"],
        "cytopenia"
    );
    let mut bare = batch(&pancytopenia("p1"));
    bare.as_object_mut().unwrap().remove("type");
    for entry in bare["entry"].as_array_mut().unwrap() {
        entry.as_object_mut().unwrap().remove("request");
    }
    let answer = app.post("/fhir/$assess-cytopenia", &bare).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(
        !part(&answer.json(), "outcome").is_empty(),
        "the missing type is a warning"
    );
}

#[tokio::test]
async fn without_counts_nothing_is_said_to_be_normal() {
    let app = TestApp::spawn().await;
    let answer = app
        .post(
            "/fhir/$assess-cytopenia",
            &batch(&[patient("p1"), haemoglobin("p1", "14.1")]),
        )
        .await;
    assert_eq!(
        part(&answer.json(), "result")[0]["valueCode"],
        "insufficient-data",
        "{}",
        answer.text
    );
    assert!(part(&answer.json(), "flag").is_empty());
}

#[tokio::test]
async fn an_assessment_of_what_cannot_be_read_is_refused() {
    let app = TestApp::spawn().await;
    app.post_text("/fhir/$assess-cytopenia", "{")
        .await
        .assert_refused(400, "broken-text");
}

#[tokio::test]
async fn validation_answers_200_whether_or_not_it_is_valid() {
    let app = TestApp::spawn().await;
    let good = app
        .post("/fhir/Observation/$validate", &haemoglobin("p1", "8.4"))
        .await;
    assert_eq!(good.status, 200, "{}", good.text);
    let severities = |outcome: &Value| -> Vec<String> {
        outcome["issue"]
            .as_array()
            .unwrap()
            .iter()
            .map(|issue| issue["severity"].as_str().unwrap().to_owned())
            .collect()
    };
    assert!(
        !severities(&good.json()).contains(&"error".to_owned()),
        "{}",
        good.text
    );

    let mut broken = haemoglobin("p1", "8.4");
    broken.as_object_mut().unwrap().remove("status");
    let answer = app.post("/fhir/Observation/$validate", &broken).await;
    assert_eq!(answer.status, 200);
    assert_eq!(word(&answer.json()["issue"][0]), "required");

    let wrapped = json!({
        "resourceType": "Parameters",
        "parameter": [{ "name": "resource", "resource": broken }]
    });
    let answer = app.post("/fhir/Observation/$validate", &wrapped).await;
    assert_eq!(answer.status, 200);
    assert!(
        severities(&answer.json()).contains(&"error".to_owned()),
        "{}",
        answer.text
    );

    let answer = app
        .post("/fhir/Bundle/$validate", &batch(&pancytopenia("p1")))
        .await;
    assert!(
        !severities(&answer.json()).contains(&"error".to_owned()),
        "{}",
        answer.text
    );

    let other = app
        .post("/fhir/Flag/$validate", &haemoglobin("p1", "8.4"))
        .await;
    assert_eq!(other.status, 200);
    assert!(
        severities(&other.json()).contains(&"error".to_owned()),
        "{}",
        other.text
    );
}

#[tokio::test]
async fn what_we_emit_passes_our_own_validation() {
    let app = TestApp::spawn().await;
    let answer = app
        .post("/fhir/$assess-cytopenia", &batch(&pancytopenia("p1")))
        .await
        .json();
    for name in ["flag", "report"] {
        let resource = &part(&answer, name)[0]["resource"];
        let kind = resource["resourceType"].as_str().unwrap();
        let outcome = app.post(&format!("/fhir/{kind}/$validate"), resource).await;
        assert!(
            !outcome.text.contains("\"error\""),
            "{kind}: {}",
            outcome.text
        );
    }
}
