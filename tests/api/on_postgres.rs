//! The same service on a real PostgreSQL: what is said of the door holds there too.

use std::{io::Write as _, sync::Arc};

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::{
    app::{TestApp, batch, pancytopenia, resources, send},
    postgres_server::Server,
    process::{self, Process, serve, stderr, stdout},
};

/// A database on the server, and the key that its processes share.
struct Place {
    url: String,
    key: NamedTempFile,
    _server: Arc<Server>,
}

impl Place {
    /// `None`: PostgreSQL is not installed, which is said.
    fn new(test: &str) -> Option<Self> {
        let server = Server::shared(test)?;
        let mut key = NamedTempFile::new().unwrap();
        writeln!(key, "{}", "07".repeat(32)).unwrap();
        Some(Self {
            url: server.url(&server.database(None)),
            key,
            _server: server,
        })
    }

    fn start(&self) -> Process {
        let key = self.key.path().display().to_string();
        Process::start(serve(&[
            "--database",
            &self.url,
            "--identity-key-file",
            &key,
            "--fhir-server",
            // Nobody is there: what is to be delivered stays to be seen.
            "http://127.0.0.1:9/fhir",
        ]))
    }
}

/// A caller of a service that another process runs.
fn caller(process: &Process) -> TestApp {
    TestApp::at(process.base.clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_submission_goes_all_the_way_on_postgresql() {
    let Some(place) = Place::new("a_submission_goes_all_the_way_on_postgresql") else {
        return;
    };
    let process = place.start();
    let app = caller(&process);
    let ready = app.get("/readyz").await;
    assert_eq!(ready.status, 200, "{}", ready.text);
    let bundle = batch(&pancytopenia("p1"));
    let first = app.post("/fhir", &bundle).await;
    assert_eq!(first.status, 200, "{}", first.text);
    assert_eq!(first.entry_statuses(), [202, 201, 201, 201]);
    let flags = app.flags("p1").await;
    assert_eq!(flags.len(), 1, "{flags:?}");
    let again = app.post("/fhir", &bundle).await;
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(again.text, first.text);

    // Another process on the same database: the same patient, receipts and deliveries.
    let other = place.start();
    let beside = caller(&other);
    let repeated = beside.post("/fhir", &bundle).await;
    assert_eq!(repeated.header("idempotency-replayed"), "true");
    assert_eq!(
        beside.flags("p1").await[0]["id"],
        flags[0]["id"],
        "one key, one id"
    );
    let report = beside.get("/fhir/DiagnosticReport?patient=p1").await;
    assert_eq!(resources(&report.json()).len(), 1);
    assert_eq!(process.stop().code, Some(0));

    // The commands look at the database, and change through the service.
    let list = |format: &str| {
        process::run(&[
            "deliveries",
            "list",
            "--database",
            &place.url,
            "--format",
            format,
        ])
    };
    let listed = list("ndjson");
    assert_eq!(listed.status.code(), Some(0), "{}", stderr(&listed));
    let delivery: Value = serde_json::from_str(stdout(&listed).lines().next().unwrap()).unwrap();
    assert_eq!(delivery["target"], "default", "{delivery}");
    assert!(stdout(&list("table")).contains("default"));
    let id = delivery["id"].to_string();
    let shown = process::run(&["deliveries", "show", &id, "--database", &place.url]);
    let detail: Value = serde_json::from_str(&stdout(&shown)).unwrap();
    let kinds: Vec<&Value> = detail["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| &item["type"])
        .collect();
    assert!(kinds.iter().any(|kind| *kind == "Flag"), "{detail}");
    let discarded = loop {
        let answer = process::run(&["deliveries", "discard", &id, "--server", &other.base]);
        // Not while an attempt is under way.
        if answer.status.code() == Some(0) {
            break answer;
        }
        assert!(
            stderr(&answer).contains("not in a state"),
            "{}",
            stderr(&answer)
        );
    };
    assert!(stdout(&discarded).contains("discarded"));

    // A card, as CDS Hooks keeps it, and what feedback makes of it.
    let feedback = process::run(&["feedback", "--database", &place.url]);
    assert_eq!(feedback.status.code(), Some(0), "{}", stderr(&feedback));
    // The console and the figures for Prometheus.
    assert_eq!(beside.get("/").await.status, 200);
    let metrics = beside.get("/metrics").await;
    assert!(metrics.text.contains("marrowflag_"), "{}", metrics.text);
    let read = send(beside.client.get(format!(
        "{}/fhir/Flag/{}",
        beside.base,
        flags[0]["id"].as_str().unwrap()
    )))
    .await;
    assert_eq!(read.status, 200);
    // A patient goes on request; the database is copied by its own tools.
    let copied = process::run(&["backup", "/nowhere/copy", "--server", &other.base]);
    assert_eq!(copied.status.code(), Some(1));
    assert!(stderr(&copied).contains("pg_dump"), "{}", stderr(&copied));
    let delete = || process::run(&["patients", "delete", "Patient/p1", "--server", &other.base]);
    let (deleted, again) = (delete(), delete());
    assert!(
        stdout(&deleted).starts_with("deleted"),
        "{}",
        stderr(&deleted)
    );
    assert!(stdout(&again).contains("nothing is held"));
    assert!(beside.flags("p1").await.is_empty());
    let anew = beside.post("/fhir", &bundle).await;
    assert_eq!(
        anew.header("idempotency-replayed"),
        "",
        "its receipt is gone"
    );
    let ended = other.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    assert!(!ended.log.contains("sslmode"), "{}", ended.log);
}

#[test]
fn postgresql_without_a_key_or_with_another_ends_with_78() {
    let Some(place) = Place::new("postgresql_without_a_key_or_with_another_ends_with_78") else {
        return;
    };
    let refused = |key: Option<&NamedTempFile>| {
        let key = key.map(|key| key.path().display().to_string());
        let mut arguments = vec!["--database", place.url.as_str()];
        if let Some(key) = &key {
            arguments.extend(["--identity-key-file", key.as_str()]);
        }
        Process::try_start(serve(&arguments))
            .err()
            .expect("it does not start")
    };
    let without = refused(None);
    assert_eq!(without.code, Some(78), "{}", without.log);
    assert!(
        without.log.contains("--identity-key-file"),
        "{}",
        without.log
    );
    assert_eq!(place.start().stop().code, Some(0));
    let mut other = NamedTempFile::new().unwrap();
    writeln!(other, "{}", "08".repeat(32)).unwrap();
    let with_another = refused(Some(&other));
    assert_eq!(with_another.code, Some(78), "{}", with_another.log);
}
