//! The same again is done once.

use std::{
    process::{Command, Stdio},
    sync::Arc,
};

use reqwest::Method;

use crate::app::{NOW, TestApp, batch, entry_words, haemoglobin, pancytopenia, platelets, send};

#[tokio::test]
async fn the_same_bundle_is_answered_with_the_same_receipt() {
    let app = TestApp::spawn().await;
    let bundle = batch(&pancytopenia("p1"));
    let first = app.post("/fhir", &bundle).await;
    let second = app.post("/fhir", &bundle).await;
    assert_eq!(second.status, 200);
    assert_eq!(second.text, first.text);
    assert_eq!(second.header("idempotency-replayed"), "true");
    assert_eq!(first.header("idempotency-replayed"), "");
    assert_eq!(app.flags("p1").await.len(), 1);
}

#[tokio::test]
async fn the_same_bundle_is_answered_with_the_same_receipt_after_a_restart() {
    let app = TestApp::spawn().await;
    let bundle = batch(&pancytopenia("p1"));
    let first = app.post("/fhir", &bundle).await;
    let dir = Arc::clone(&app.dir);
    app.stop().await;
    let app = TestApp::spawn_in(dir, &[], NOW).await;
    let second = app.post("/fhir", &bundle).await;
    assert_eq!(second.header("idempotency-replayed"), "true");
    let locations = |answer: &crate::app::Answer| -> Vec<String> {
        answer.json()["entry"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|entry| {
                Some(
                    entry["response"]["location"]
                        .as_str()?
                        .split("/fhir/")
                        .nth(1)?
                        .to_owned(),
                )
            })
            .collect()
    };
    assert_eq!(locations(&second), locations(&first));
    assert_eq!(app.flags("p1").await.len(), 1);
}

#[tokio::test]
async fn a_key_replays_its_body_and_refuses_another() {
    let app = TestApp::spawn().await;
    let post = |key: &'static str, body: String| {
        send(
            app.fhir(Method::POST, "/fhir/Observation")
                .header("idempotency-key", key)
                .body(body),
        )
    };
    let first = post("\"k1\"", haemoglobin("p1", "8.4").to_string()).await;
    assert_eq!(first.status, 201, "{}", first.text);
    let second = post("k1", haemoglobin("p1", "8.4").to_string()).await;
    assert_eq!(
        (second.status, second.text.as_str()),
        (first.status, first.text.as_str())
    );
    assert_eq!(second.header("idempotency-replayed"), "true");
    post("k1", haemoglobin("p1", "8.5").to_string())
        .await
        .assert_refused(422, "duplicate");
}

#[tokio::test]
async fn twins_at_the_same_moment_are_stored_once() {
    let app = TestApp::spawn().await;
    let bundle = batch(&pancytopenia("p1")).to_string();
    let post = || {
        send(
            app.fhir(Method::POST, "/fhir")
                .header("idempotency-key", "twin")
                .body(bundle.clone()),
        )
    };
    let answers = futures_util::future::join_all((0..8).map(|_| post())).await;
    for answer in &answers {
        assert!(
            answer.status == 200
                || (answer.status == 409 && !answer.header("retry-after").is_empty()),
            "{}",
            answer.text
        );
    }
    assert!(answers.iter().any(|answer| answer.status == 200));
    assert_eq!(app.flags("p1").await.len(), 1);
}

#[tokio::test]
async fn an_older_version_of_a_result_is_ignored() {
    let app = TestApp::spawn().await;
    let with = |value: &str, issued: &str| {
        let mut result = haemoglobin("p1", value);
        result["issued"] = issued.into();
        result
    };
    let first = app
        .post("/fhir", &batch(&[with("8.4", "2026-11-18T08:00:00Z")]))
        .await;
    assert_eq!(first.entry_statuses(), [201]);
    let older = app
        .post("/fhir", &batch(&[with("9.9", "2026-11-18T07:30:00Z")]))
        .await;
    assert_eq!(older.entry_statuses(), [200], "{}", older.text);
    assert!(
        entry_words(&older.json(), 0).contains(&"conflict".to_owned()),
        "{}",
        older.text
    );
    let location = first.json()["entry"][0]["response"]["location"]
        .as_str()
        .unwrap()
        .to_owned();
    let address = location
        .trim_start_matches(&app.base)
        .split("/_history")
        .next()
        .unwrap()
        .to_owned();
    assert_eq!(
        app.get(&address).await.json()["valueQuantity"]["value"].to_string(),
        "8.4"
    );
    let newer = app
        .post("/fhir", &batch(&[with("8.9", "2026-11-18T08:30:00Z")]))
        .await;
    assert_eq!(newer.entry_statuses(), [200], "{}", newer.text);
    assert!(
        entry_words(&newer.json(), 0).contains(&"changed-final".to_owned()),
        "{}",
        newer.text
    );
    assert_eq!(
        app.get(&address).await.json()["valueQuantity"]["value"].to_string(),
        "8.9"
    );
}

/// A service in a process of its own, so that it can be killed.
struct Process {
    child: std::process::Child,
    base: String,
}

impl Process {
    fn start(database: &str) -> Self {
        use std::io::BufRead as _;
        let mut child = Command::new(env!("CARGO_BIN_EXE_marrowflag"))
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--as-of",
                "sampled",
                "--database",
                database,
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let expected = format!(
            "marrowflag {} listening on http://127.0.0.1:",
            env!("CARGO_PKG_VERSION")
        );
        assert!(line.starts_with(&expected), "{line}");
        let base = line.trim().rsplit(' ').next().unwrap().to_owned();
        Self { child, base }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_and_a_repeat_doubles_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", dir.path().join("m.db").display());
    let client = reqwest::Client::builder().build().unwrap();
    let post = async |base: &str, body: String| {
        let answer = client
            .post(format!("{base}/fhir"))
            .header("content-type", "application/fhir+json")
            .body(body)
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        answer.json::<serde_json::Value>().await.unwrap()
    };
    let total = async |base: &str, path: &str| {
        let answer = client.get(format!("{base}{path}")).send().await.unwrap();
        answer.json::<serde_json::Value>().await.unwrap()["total"]
            .as_u64()
            .unwrap()
    };
    let bodies: Vec<String> = (0..20)
        .map(|n| batch(&pancytopenia(&format!("k{n}"))).to_string())
        .collect();
    let first = Process::start(&database);
    for body in &bodies {
        post(&first.base, body.clone()).await;
    }
    drop(first);
    let second = Process::start(&database);
    for (number, body) in bodies.iter().enumerate() {
        assert_eq!(
            total(&second.base, &format!("/fhir/Flag?patient=k{number}")).await,
            1,
            "k{number}"
        );
        post(&second.base, body.clone()).await;
        assert_eq!(
            total(&second.base, &format!("/fhir/Flag?patient=k{number}")).await,
            1,
            "k{number}"
        );
        assert_eq!(
            total(
                &second.base,
                &format!("/fhir/DiagnosticReport?patient=k{number}")
            )
            .await,
            1,
            "k{number}"
        );
    }
}

#[tokio::test]
async fn a_second_service_on_the_same_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", dir.path().join("m.db").display());
    let _first = Process::start(&database);
    let second = Command::new(env!("CARGO_BIN_EXE_marrowflag"))
        .args(["serve", "--listen", "127.0.0.1:0", "--database", &database])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(75));
    assert_eq!(second.stdout, b"");
}

#[tokio::test]
async fn the_same_result_in_another_bundle_is_not_stored_twice() {
    let app = TestApp::spawn().await;
    app.post("/fhir", &batch(&pancytopenia("p1"))).await;
    let mut more = pancytopenia("p1");
    more.push(platelets("p2", "250"));
    let answer = app.post("/fhir", &batch(&more)).await;
    assert_eq!(
        answer.entry_statuses(),
        [202, 200, 200, 200, 201],
        "{}",
        answer.text
    );
    assert_eq!(app.flags("p1").await.len(), 1);
}
