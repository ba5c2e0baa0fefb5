//! Transport and conformance: media types, sizes, verbs, ids of requests.

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use reqwest::Method;

use crate::app::{TestApp, batch, pancytopenia, send};

#[tokio::test]
async fn the_capability_statement_is_served_to_anyone_and_stays_the_same() {
    let app = TestApp::spawn().await;
    let first = app.get("/fhir/metadata").await;
    assert_eq!(first.status, 200);
    assert!(
        first
            .header("content-type")
            .starts_with("application/fhir+json")
    );
    let statement = first.json();
    assert_eq!(statement["resourceType"], "CapabilityStatement");
    assert_eq!(statement["kind"], "instance");
    assert_eq!(statement["fhirVersion"], "4.0.1");
    assert!(
        statement["implementation"]["url"]
            .as_str()
            .unwrap()
            .ends_with("/fhir")
    );
    assert!(
        statement["format"]
            .as_array()
            .unwrap()
            .contains(&"json".into())
    );
    assert_eq!(app.get("/fhir/metadata").await.text, first.text);

    let etag = first.header("etag");
    let again = send(
        app.request(Method::GET, "/fhir/metadata")
            .header("if-none-match", etag),
    )
    .await;
    assert_eq!(again.status, 304);
    assert_eq!(again.text, "");
}

#[tokio::test]
async fn every_interaction_that_is_listed_is_served() {
    let app = TestApp::spawn().await;
    let statement = app.get("/fhir/metadata").await.json();
    for resource in statement["rest"][0]["resource"].as_array().unwrap() {
        let kind = resource["type"].as_str().unwrap();
        for interaction in resource["interaction"].as_array().unwrap() {
            let (method, path) = match interaction["code"].as_str().unwrap() {
                "read" => (Method::GET, format!("/fhir/{kind}/none")),
                "vread" => (Method::GET, format!("/fhir/{kind}/none/_history/1")),
                "search-type" => (Method::GET, format!("/fhir/{kind}?patient=none")),
                "create" => (Method::POST, format!("/fhir/{kind}")),
                "update" => (Method::PUT, format!("/fhir/{kind}/none")),
                other => panic!("no test for {other}"),
            };
            let read = method == Method::GET;
            let answer = send(app.fhir(method, &path).body(if read { "" } else { "{}" })).await;
            assert_ne!(answer.status, 405, "{kind} {interaction}");
            if answer.status == 404 {
                assert_eq!(
                    answer.word(),
                    "not-found",
                    "{kind} {interaction}: {}",
                    answer.text
                );
            }
        }
        for parameter in resource["searchParam"].as_array().into_iter().flatten() {
            let name = parameter["name"].as_str().unwrap();
            let answer = send(
                app.request(Method::GET, &format!("/fhir/{kind}?{name}=2026-01-01"))
                    .header("prefer", "handling=strict"),
            )
            .await;
            assert_eq!(answer.status, 200, "{kind} {name}: {}", answer.text);
        }
    }
}

#[tokio::test]
async fn what_cannot_be_answered_in_is_406() {
    let app = TestApp::spawn().await;
    app.get("/fhir/metadata?_format=xml")
        .await
        .assert_refused(406, "not-supported");
    let accept = |accept: &str| {
        send(
            app.request(Method::GET, "/fhir/metadata")
                .header("accept", accept),
        )
    };
    assert_eq!(
        accept("text/html,application/xhtml+xml,*/*;q=0.1")
            .await
            .status,
        200
    );
    accept("application/fhir+json; fhirVersion=5.0")
        .await
        .assert_refused(406, "not-supported");
    assert_eq!(
        app.get("/fhir/metadata?_format=application/fhir+json")
            .await
            .status,
        200
    );
    assert!(
        app.get("/fhir/metadata?_pretty=true")
            .await
            .text
            .contains("\n  \"resourceType\"")
    );
}

#[tokio::test]
async fn what_cannot_be_read_is_415() {
    let app = TestApp::spawn().await;
    let post = |media_type: &str| {
        send(
            app.request(Method::POST, "/fhir")
                .header("content-type", media_type)
                .body(batch(&pancytopenia("p1")).to_string()),
        )
    };
    for media_type in [
        "text/plain",
        "application/fhir+xml",
        "application/fhir+json; fhirVersion=3.0",
        "application/fhir+json; fhirVersion=5.0",
        "application/fhir+json; charset=iso-8859-1",
    ] {
        let answer = post(media_type).await;
        answer.assert_refused(415, "not-supported");
        assert_eq!(answer.header("accept-post"), "application/fhir+json");
    }
    let missing = send(app.request(Method::POST, "/fhir").body("{}")).await;
    missing.assert_refused(415, "not-supported");
    assert_eq!(
        post("application/fhir+json; fhirVersion=4.0; charset=UTF-8")
            .await
            .status,
        200
    );
    assert_eq!(post("application/json; fhirVersion=4.3").await.status, 200);
}

#[tokio::test]
async fn a_packed_body_is_read_and_a_bomb_is_not() {
    let app = TestApp::spawn().await;
    let pack = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let post = |coding: &str, body: Vec<u8>| {
        send(
            app.fhir(Method::POST, "/fhir")
                .header("content-encoding", coding)
                .body(body),
        )
    };
    let packed = pack(batch(&pancytopenia("p1")).to_string().as_bytes());
    assert_eq!(post("gzip", packed.clone()).await.status, 200);
    post("br", packed.clone())
        .await
        .assert_refused(415, "not-supported");
    post("gzip, gzip", packed.clone())
        .await
        .assert_refused(415, "not-supported");
    post("gzip", packed[..packed.len() / 2].to_vec())
        .await
        .assert_refused(400, "broken-text");
    post("gzip", pack(&vec![b' '; 200 << 20]))
        .await
        .assert_refused(413, "too-long");
}

#[tokio::test]
async fn a_body_over_the_limit_is_413() {
    let app = TestApp::spawn_with(&["--max-body", "64KiB"]).await;
    let at_limit = format!("null{}", " ".repeat(65_532));
    let answer = app.post_text("/fhir", at_limit).await;
    assert_eq!(answer.status, 400, "{}", answer.text);
    let over = format!("{{}}{}", " ".repeat(65_535));
    app.post_text("/fhir", over)
        .await
        .assert_refused(413, "too-long");
    // Without an announced length.
    let mut chunked = b"POST /fhir HTTP/1.1\r\nHost: x\r\nContent-Type: application/fhir+json\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..80 {
        chunked.extend_from_slice(b"400\r\n");
        chunked.extend_from_slice(&[b' '; 1024]);
        chunked.extend_from_slice(b"\r\n");
    }
    let answer = app.raw(&chunked).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(
        answer.contains("connection: close") && answer.contains("too-long"),
        "{answer}"
    );
}

#[tokio::test]
async fn too_many_bytes_at_once_are_told_to_come_back() {
    let app = TestApp::spawn_with(&["--max-inflight-bytes", "4KiB"]).await;
    let answer = app.post_text("/fhir", " ".repeat(8 * 1024)).await;
    answer.assert_refused(503, "throttled");
    assert!(answer.header("retry-after").parse::<u32>().unwrap() >= 1);
}

#[tokio::test]
async fn a_body_that_never_comes_is_408() {
    let app = TestApp::spawn_with(&["--body-timeout", "200ms"]).await;
    let answer = app
        .raw(b"POST /fhir HTTP/1.1\r\nHost: x\r\nContent-Type: application/fhir+json\r\nContent-Length: 100\r\n\r\n{")
        .await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn wrong_addresses_and_verbs_say_what_is_right() {
    let app = TestApp::spawn().await;
    let bundle = app
        .post("/fhir/Bundle", &batch(&[]))
        .await
        .assert_refused(404, "not-supported");
    assert!(
        bundle["issue"][0]["diagnostics"]
            .as_str()
            .unwrap()
            .contains("POST [base]"),
        "{bundle}"
    );
    app.get("/fhir/Medication/1")
        .await
        .assert_refused(404, "not-supported");
    app.get("/nowhere")
        .await
        .assert_refused(404, "not-supported");
    let delete = send(app.request(Method::DELETE, "/fhir/metadata")).await;
    delete.assert_refused(405, "not-supported");
    assert_eq!(delete.header("allow"), "GET, HEAD");
    let head = send(app.request(Method::HEAD, "/fhir/metadata")).await;
    assert_eq!((head.status.as_u16(), head.text.as_str()), (200, ""));
    let long = format!("/fhir/Flag?patient={}", "x".repeat(9000));
    app.get(&long).await.assert_refused(414, "too-long");
}

#[tokio::test]
async fn a_request_keeps_its_id() {
    let app = TestApp::spawn().await;
    let with = |id: &str| {
        send(
            app.request(Method::GET, "/livez")
                .header("x-request-id", id)
                .header("x-correlation-id", "c-7"),
        )
    };
    let answer = with("abc-1").await;
    assert_eq!(answer.header("x-request-id"), "abc-1");
    assert_eq!(answer.header("x-correlation-id"), "c-7");
    let made = app.get("/livez").await;
    assert_eq!(made.header("x-request-id").len(), 36);
    assert_ne!(
        with("no spaces please").await.header("x-request-id"),
        "no spaces please"
    );
}

#[tokio::test]
async fn a_page_of_another_origin_may_not_write() {
    let app = TestApp::spawn().await;
    let post = |origin: &str| {
        send(
            app.fhir(Method::POST, "/fhir")
                .header("origin", origin)
                .body(batch(&pancytopenia("p1")).to_string()),
        )
    };
    post("https://evil.example")
        .await
        .assert_refused(403, "forbidden");
    let own = app.base.clone();
    assert_eq!(post(&own).await.status, 200);
}

#[tokio::test]
async fn probes_answer_and_metrics_name_no_patient() {
    let app = TestApp::spawn().await;
    app.post("/fhir", &batch(&pancytopenia("marked-patient")))
        .await;
    app.get("/fhir/Flag?patient=marked-patient").await;
    assert_eq!(app.get("/livez").await.status, 200);
    assert_eq!(app.get("/readyz").await.status, 200);
    assert_eq!(
        app.get("/version").await.json()["version"],
        env!("CARGO_PKG_VERSION")
    );
    let metrics = app.get("/metrics").await;
    assert!(
        metrics.text.contains(
            "marrowflag_http_requests_total{route=\"/fhir\",method=\"POST\",class=\"2xx\"} 1"
        ),
        "{}",
        metrics.text
    );
    assert!(!metrics.text.contains("marked-patient"), "{}", metrics.text);
}
