//! Pages of other origins: what browsers ask before, and what they may read.

use reqwest::Method;
use serde_json::Value;

use super::{
    app::{TestApp, send},
    ehr::{FEEDBACK, LOW, SERVICE, bare_call, call, searchset},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_this_machine_may_call_and_others_may_not() {
    let app = TestApp::spawn().await;
    for path in ["/cds-services", SERVICE, FEEDBACK] {
        let ask = |origin: &str| {
            app.request(Method::OPTIONS, path)
                .header("origin", origin)
                .header("access-control-request-method", "POST")
                .header(
                    "access-control-request-headers",
                    "authorization,content-type",
                )
        };
        let answer = send(ask("http://localhost:8081")).await;
        assert_eq!(answer.status, 204, "{path}");
        assert_eq!(
            answer.header("access-control-allow-origin"),
            "http://localhost:8081"
        );
        assert_eq!(
            answer.header("access-control-allow-methods"),
            "GET, POST, OPTIONS"
        );
        assert_eq!(
            answer.header("access-control-allow-headers"),
            "authorization, content-type, x-request-id"
        );
        assert_eq!(answer.header("access-control-max-age"), "600");
        assert!(answer.header("vary").contains("Origin"));
        assert_eq!(answer.header("access-control-allow-credentials"), "");
        let stranger = send(ask("https://evil.example")).await;
        assert_eq!(stranger.header("access-control-allow-origin"), "");
    }
    let from = |origin: &str| {
        app.fhir(Method::POST, SERVICE)
            .header("origin", origin)
            .header("sec-fetch-site", "cross-site")
            .body(call("p1", LOW).to_string())
    };
    let answer = send(from("http://localhost:8081")).await;
    answer.card();
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "http://localhost:8081"
    );
    send(from("https://evil.example"))
        .await
        .assert_refused(403, "forbidden");
    // A refusal can be read too.
    let refused = send(
        app.fhir(Method::POST, SERVICE)
            .header("origin", "http://localhost:8081")
            .body("{"),
    )
    .await;
    assert_eq!(refused.status, 400);
    assert_eq!(
        refused.header("access-control-allow-origin"),
        "http://localhost:8081"
    );
    // The FHIR door is not for pages.
    let fhir = send(
        app.fhir(Method::POST, "/fhir")
            .header("origin", "http://localhost:8081")
            .body("{}"),
    )
    .await;
    assert_eq!(fhir.status, 403);
}

/// Demands of the public sandbox that are not about tokens.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_sandbox_sends_is_understood() {
    let app = TestApp::spawn().await;
    // Keys that failed are left out without notice; a search found nothing: no entry at all.
    let mut request = call("p1", LOW);
    request["prefetch"].as_object_mut().unwrap().remove("wbc");
    request["prefetch"]["anc"] = searchset(&[]);
    let card = app.post(SERVICE, &request).await.card();
    assert!(
        card["detail"]
            .as_str()
            .unwrap()
            .contains("Not looked at: white cells"),
        "{card}"
    );
    // Everything failed: an honest refusal.
    let mut nothing = call("p2", LOW);
    nothing["prefetch"] = Value::Object(serde_json::Map::new());
    app.post(SERVICE, &nothing)
        .await
        .assert_refused(412, "data-incomplete");
    // No fhirAuthorization with an open server.
    let mut open = bare_call("p3", "http://127.0.0.1:9/fhir");
    open.as_object_mut().unwrap().remove("fhirAuthorization");
    app.post(SERVICE, &open)
        .await
        .assert_refused(412, "data-incomplete");
}
