//! Calls with everything in the prefetch.

use serde_json::{Value, json};

use super::{
    app::TestApp,
    ehr::{HEALTHY, LOW, ORDER_CHECK, SERVICE, SEVERE, call, observation, searchset},
};

#[tokio::test(flavor = "multi_thread")]
async fn discovery_lists_five_services_without_a_token_on_this_machine() {
    let app = TestApp::spawn().await;
    let answer = app.get("/cds-services").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer
            .header("content-type")
            .starts_with("application/json")
    );
    let document = answer.json();
    let listed: Vec<(&str, &str)> = document["services"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["hook"].as_str().unwrap(), one["id"].as_str().unwrap()))
        .collect();
    assert_eq!(
        listed,
        [
            ("patient-view", "marrowflag-cytopenia"),
            ("encounter-start", "marrowflag-cytopenia"),
            ("encounter-discharge", "marrowflag-cytopenia"),
            ("order-select", "marrowflag-order-check"),
            ("order-sign", "marrowflag-order-check"),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persistent_bicytopenia_is_one_warning() {
    let app = TestApp::spawn().await;
    let card = app.post(SERVICE, &call("p1", LOW)).await.card();
    assert!(card["summary"].as_str().unwrap().chars().count() < 140);
    assert_eq!(card["indicator"], "warning");
    assert!(
        card["source"]["label"]
            .as_str()
            .unwrap()
            .starts_with("marrowflag ")
    );
    assert_eq!(card["source"]["topic"]["code"], "cytopenia");
    assert!(uuid::Uuid::parse_str(card["uuid"].as_str().unwrap()).is_ok());
    // T-108.
    assert_eq!(card["selectionBehavior"], "any");
    for suggestion in card["suggestions"].as_array().unwrap() {
        for action in suggestion["actions"].as_array().unwrap() {
            assert_eq!(action["type"], "create");
            assert!(action["description"].is_string());
            assert_eq!(action["resource"]["subject"]["reference"], "Patient/p1");
        }
    }
    assert_full(&card);
}

fn assert_full(value: &Value) {
    match value {
        Value::Null => panic!("null"),
        Value::String(text) => assert!(!text.is_empty()),
        Value::Array(items) => {
            assert!(!items.is_empty());
            items.iter().for_each(assert_full);
        }
        Value::Object(members) => {
            assert!(!members.is_empty());
            members.values().for_each(assert_full);
        }
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_to_say_is_exactly_nothing() {
    let app = TestApp::spawn().await;
    let answer = app.post(SERVICE, &call("p1", HEALTHY)).await;
    assert_eq!(answer.text, r#"{"cards":[]}"#);
    let mut nulls = call("p1", HEALTHY);
    for value in nulls["prefetch"].as_object_mut().unwrap().values_mut() {
        *value = Value::Null;
    }
    assert_eq!(app.post(SERVICE, &nulls).await.text, r#"{"cards":[]}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_data_there_is_no_answer() {
    let app = TestApp::spawn().await;
    let mut bare = call("p1", HEALTHY);
    bare.as_object_mut().unwrap().remove("prefetch");
    let outcome = app
        .post(SERVICE, &bare)
        .await
        .assert_refused(412, "data-incomplete");
    assert_eq!(outcome["issue"][0]["code"], "incomplete");
    assert_eq!(outcome["issue"][0]["diagnostics"], "hb, plt, wbc, anc");
    assert!(outcome["issue"][0].get("expression").is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_patients_data_are_put_aside_and_counted() {
    let app = TestApp::spawn().await;
    let mut mixed = call("p1", LOW);
    mixed["prefetch"]["anc"] = call("p2", LOW)["prefetch"]["anc"].clone();
    let card = app.post(SERVICE, &mixed).await.card();
    assert!(
        card["detail"]
            .as_str()
            .unwrap()
            .contains("Put aside because it was not about this patient")
    );
    let metrics = app.get("/metrics").await.text;
    assert!(
        metrics.contains("marrowflag_cds_total{event=\"mixed-up\"} 1"),
        "{metrics}"
    );
    let mut all = call("p1", LOW);
    all["prefetch"] = call("p2", LOW)["prefetch"].clone();
    app.post(SERVICE, &all)
        .await
        .assert_refused(412, "data-incomplete");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_calls_are_refused_with_their_place() {
    let app = TestApp::spawn().await;
    app.post("/cds-services/other", &call("p1", LOW))
        .await
        .assert_refused(404, "not-found");
    let outcome = app
        .post(ORDER_CHECK, &call("p1", LOW))
        .await
        .assert_refused(400, "value");
    assert_eq!(outcome["issue"][0]["expression"][0], "CDSHooksRequest.hook");
    app.post_text(SERVICE, "{")
        .await
        .assert_refused(400, "broken-text");
    let mut no_patient = call("p1", LOW);
    no_patient["context"]
        .as_object_mut()
        .unwrap()
        .remove("patientId");
    let outcome = app
        .post(SERVICE, &no_patient)
        .await
        .assert_refused(400, "required");
    assert_eq!(
        outcome["issue"][0]["expression"][0],
        "CDSHooksRequest.context.patientId"
    );
    let big = format!("{{\"hook\":\"{}\"}}", "x".repeat(2 << 20));
    app.post_text(SERVICE, big)
        .await
        .assert_refused(413, "too-long");
    let xml = app
        .request(reqwest::Method::POST, SERVICE)
        .header("content-type", "text/plain")
        .body("{}");
    super::app::send(xml)
        .await
        .assert_refused(415, "not-supported");
    assert_eq!(app.get(SERVICE).await.status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_is_shown_once_until_it_gets_worse() {
    let app = TestApp::spawn().await;
    let first = call("p1", LOW);
    let card = app.post(SERVICE, &first).await.card();
    // The same call again: the same card.
    assert_eq!(app.post(SERVICE, &first).await.card(), card);
    // The chart opened again: quiet. Another patient: not.
    assert!(app.post(SERVICE, &call("p1", LOW)).await.cards().is_empty());
    app.post(SERVICE, &call("p2", LOW)).await.card();
    // Worse: shown at once.
    let worse = app.post(SERVICE, &call("p1", SEVERE)).await.card();
    assert_ne!(worse["uuid"], card["uuid"]);
    assert!(
        app.post(SERVICE, &call("p1", SEVERE))
            .await
            .cards()
            .is_empty()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_encounter_hook_gets_the_same_card() {
    let app = TestApp::spawn().await;
    for (patient, hook) in [("p1", "encounter-start"), ("p2", "encounter-discharge")] {
        let mut request = call(patient, LOW);
        request["hook"] = json!(hook);
        app.post(SERVICE, &request)
            .await
            .assert_refused(400, "required");
        request["context"]["encounterId"] = json!("e1");
        request["prefetch"]["activeOrders"] = searchset(&[]);
        let card = app.post(SERVICE, &request).await.card();
        let follow_up = card["suggestions"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["label"] == "Order a blood count in 2 to 4 weeks");
        assert_eq!(follow_up, hook == "encounter-discharge");
    }
}

fn order(hook: &str, atc: &str, anc: &str, day: &str) -> Value {
    json!({
        "hook": hook,
        "hookInstance": uuid::Uuid::new_v4().to_string(),
        "context": {
            "userId": "Practitioner/1", "patientId": "p1",
            "selections": ["MedicationRequest/m1"],
            "draftOrders": { "resourceType": "Bundle", "entry": [{ "resource": {
                "resourceType": "MedicationRequest", "id": "m1", "status": "draft", "intent": "order",
                "medicationCodeableConcept": {
                    "coding": [{ "system": "http://www.whocc.no/atc", "code": atc }], "text": "Doxorubicin"
                },
                "subject": { "reference": "Patient/p1" }
            } }] }
        },
        "prefetch": { "anc": searchset(&[observation("p1", "751-8", anc, "10*9/L", day)]) }
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_meets_the_latest_counts_once() {
    let app = TestApp::spawn().await;
    let yesterday = "2026-11-17";
    let selected = app
        .post(
            ORDER_CHECK,
            &order("order-select", "L01DB01", "0.8", yesterday),
        )
        .await
        .card();
    assert_eq!(selected["indicator"], "info");
    // The same orders, the same count: nothing new to say at signing.
    assert!(
        app.post(
            ORDER_CHECK,
            &order("order-sign", "L01DB01", "0.8", yesterday)
        )
        .await
        .cards()
        .is_empty()
    );
    let lower = app
        .post(
            ORDER_CHECK,
            &order("order-sign", "L01CD01", "0.4", "2026-11-16"),
        )
        .await
        .card();
    assert_eq!(lower["indicator"], "warning");
    assert!(
        lower["summary"]
            .as_str()
            .unwrap()
            .starts_with("ANC 0.4 x10^9/L")
    );
    for (drug, day) in [("N02BE01", yesterday), ("L01DB01", "2026-11-09")] {
        let answer = app
            .post(ORDER_CHECK, &order("order-sign", drug, "0.4", day))
            .await;
        assert!(answer.cards().is_empty(), "{drug} {day}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_was_sent_is_markup() {
    let app = TestApp::spawn().await;
    let mut hostile = call("p1", LOW);
    let tag = "<img src=x onerror=alert(1)>|`**_[x](javascript:alert(1))";
    hostile["prefetch"]["hb"]["entry"][1]["resource"]["valueQuantity"] =
        json!({ "value": 92, "unit": tag, "code": tag });
    hostile["prefetch"]["hb"]["entry"][1]["resource"]["note"] = json!([{ "text": tag }]);
    let card = app.post(SERVICE, &hostile).await.card();
    let detail = card["detail"].as_str().unwrap();
    assert!(!detail.contains("<img"), "{detail}");
    assert!(!detail.contains("](javascript"), "{detail}");
    assert!(!card["summary"].as_str().unwrap().contains("img"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_words_of_a_card_keep_the_rules_of_the_report() {
    let app = TestApp::spawn().await;
    let banned = regex::RegexBuilder::new(
        r"the patient has|is diagnosed|diagnosis of|confirms?\b|ruled out|(has|have) been excluded|is excluded|normal marrow|no action needed|is safe|usually harmless|\d ?% (risk|chance|probability)|(^|[;.] )(give|start|stop|transfuse|treat with) ",
    )
    .case_insensitive(true)
    .multi_line(true)
    .build()
    .unwrap();
    let mut texts = Vec::new();
    for (patient, counts) in [("w1", SEVERE), ("w2", LOW)] {
        texts.push(
            app.post(SERVICE, &call(patient, counts))
                .await
                .card()
                .to_string(),
        );
    }
    texts.push(
        app.post(
            ORDER_CHECK,
            &order("order-sign", "L01DB01", "0.4", "2026-11-17"),
        )
        .await
        .card()
        .to_string(),
    );
    for text in texts {
        let text = text.replace("\\n", "\n");
        let found = banned.find(&text).map(|found| found.as_str());
        assert_eq!(found, None, "{text}");
        assert!(text.contains("not a diagnosis"));
        assert!(text.contains("Other data may exist that marrowflag cannot see."));
    }
}
