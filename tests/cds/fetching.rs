//! What was not sent is fetched, from servers of the list and nowhere else.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{
    app::TestApp,
    ehr::{Ehr, HEALTHY, LOW, Manners, SERVICE, SEVERE, bare_call, call},
};

async fn app_for(ehr: &Ehr) -> TestApp {
    TestApp::spawn_with(&["--fhir-server", &ehr.base]).await
}

#[tokio::test(flavor = "multi_thread")]
async fn required_keys_are_read_with_the_token_of_the_call() {
    let ehr = Ehr::start("p1", LOW, Manners::default());
    let app = app_for(&ehr).await;
    let card = app.post(SERVICE, &bare_call("p1", &ehr.base)).await.card();
    let seen: Vec<_> = ehr
        .seen
        .lock()
        .unwrap()
        .iter()
        .filter(|(url, _)| !url.contains("metadata"))
        .cloned()
        .collect();
    assert_eq!(seen.len(), 5, "{seen:?}");
    assert!(
        seen.iter().all(|(_, token)| token == "Bearer the-token"),
        "{seen:?}"
    );
    assert!(seen.iter().any(|(url, _)| url == "/fhir/Patient/p1"));
    assert!(
        seen.iter()
            .any(|(url, _)| url.contains("http://loinc.org%7C718-7")
                && url.contains("_sort=-date&_count=12"))
    );
    // T-122.
    let detail = card["detail"].as_str().unwrap();
    assert!(
        detail.contains("Not looked at: red cell indices"),
        "{detail}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_is_not_asked_for_again() {
    let ehr = Ehr::start("p1", LOW, Manners::default());
    let app = app_for(&ehr).await;
    let mut request = call("p1", LOW);
    request["fhirServer"] = json!(ehr.base);
    request["prefetch"]["hb"] = json!({ "resourceType": "OperationOutcome",
        "issue": [{ "severity": "error", "code": "exception" }] });
    request["prefetch"]["anc"] = json!(null);
    let before = ehr.contacts();
    let answer = app.post(SERVICE, &request).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(ehr.contacts(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_outside_the_list_is_never_contacted() {
    let own = Ehr::start("p1", LOW, Manners::default());
    let other = Ehr::start("p1", LOW, Manners::default());
    let app = app_for(&own).await;
    for server in [
        other.base.clone(),
        other.base.replace("127.0.0.1", "localhost"),
        format!("{}@{}", own.base, other.base.trim_start_matches("http://")),
        format!("{}/../../x", own.base),
    ] {
        app.post(SERVICE, &bare_call("p1", &server))
            .await
            .assert_refused(412, "data-incomplete");
    }
    assert_eq!(other.contacts(), 0);
    // With everything in the prefetch it does not matter.
    let mut whole = call("p1", LOW);
    whole["fhirServer"] = json!(other.base);
    app.post(SERVICE, &whole).await.card();
    assert_eq!(other.contacts(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed() {
    let elsewhere = Ehr::start("p1", LOW, Manners::default());
    let ehr = Ehr::start(
        "p1",
        LOW,
        Manners {
            redirects_to: Some(format!("{}/Patient/p1", elsewhere.base)),
            ..Manners::default()
        },
    );
    let app = app_for(&ehr).await;
    app.post(SERVICE, &bare_call("p1", &ehr.base))
        .await
        .assert_refused(412, "data-incomplete");
    assert_eq!(elsewhere.contacts(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_server_costs_its_part_and_not_the_answer() {
    let manners = Manners {
        slow: Duration::from_secs(5),
        slow_keys: vec!["anc", "wbc"],
        ..Manners::default()
    };
    let ehr = Ehr::start("p1", LOW, manners);
    let app = app_for(&ehr).await;
    let start = Instant::now();
    let card = app.post(SERVICE, &bare_call("p1", &ehr.base)).await.card();
    assert!(start.elapsed() < Duration::from_millis(2500));
    let detail = card["detail"].as_str().unwrap();
    assert!(
        detail.contains("Could not be had: white cells, neutrophils."),
        "{detail}"
    );

    let all_slow = Ehr::start(
        "p1",
        LOW,
        Manners {
            slow: Duration::from_secs(5),
            ..Manners::default()
        },
    );
    let app = app_for(&all_slow).await;
    let start = Instant::now();
    app.post(SERVICE, &bare_call("p1", &all_slow.base))
        .await
        .assert_refused(412, "data-incomplete");
    assert!(start.elapsed() < Duration::from_millis(2500));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_or_refuses_is_no_answer() {
    let ehr = Ehr::start(
        "p1",
        LOW,
        Manners {
            status: Some(500),
            ..Manners::default()
        },
    );
    let app = app_for(&ehr).await;
    app.post(SERVICE, &bare_call("p1", &ehr.base))
        .await
        .assert_refused(412, "data-incomplete");
    let nobody = "http://127.0.0.1:9/fhir";
    let app = TestApp::spawn_with(&["--fhir-server", nobody]).await;
    app.post(SERVICE, &bare_call("p1", nobody))
        .await
        .assert_refused(412, "data-incomplete");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_followed_and_lies_about_the_total_are_told() {
    let paged = Ehr::start(
        "p1",
        SEVERE,
        Manners {
            paged: true,
            ..Manners::default()
        },
    );
    let app = app_for(&paged).await;
    let card = app
        .post(SERVICE, &bare_call("p1", &paged.base))
        .await
        .card();
    let detail = card["detail"].as_str().unwrap();
    assert!(detail.contains("| 2026-10-01 | 82 |"), "{detail}");
    assert!(!detail.contains("partial"), "{detail}");

    let lying = Ehr::start(
        "p1",
        LOW,
        Manners {
            lies: true,
            ..Manners::default()
        },
    );
    let app = app_for(&lying).await;
    let card = app
        .post(SERVICE, &bare_call("p1", &lying.base))
        .await
        .card();
    assert!(
        card["detail"]
            .as_str()
            .unwrap()
            .contains("data-sufficiency: partial")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn results_filed_earlier_join_the_answer() {
    let ehr = Ehr::start(
        "p1",
        HEALTHY,
        Manners {
            status: Some(404),
            ..Manners::default()
        },
    );
    let app = app_for(&ehr).await;
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
    let card = app.post(SERVICE, &bare_call("p1", &ehr.base)).await;
    let card = card.card();
    assert!(
        card["detail"].as_str().unwrap().contains("filed earlier"),
        "{card}"
    );
    // Who is on file has a page, and the card leads there.
    let link = &card["links"][0];
    assert_eq!(link["type"], "absolute", "{card}");
    let page = link["url"]
        .as_str()
        .and_then(|url| url.strip_prefix(&app.base))
        .unwrap();
    let page = app.get(page).await;
    assert_eq!(page.status, 200);
    for said in ["Pancytopenia", "<svg", "Haemoglobin (g/L)", "class=\"low\""] {
        assert!(page.text.contains(said), "{said}: {}", page.text);
    }
}
