//! A service under test, and the resources that tests send.

use std::{path::Path, sync::Arc};

use marrowflag::{
    app::App,
    cli::Exit,
    config::{Cli, Command},
};
use reqwest::{Method, RequestBuilder, StatusCode, header::HeaderMap};
use serde_json::{Value, json};
use tempfile::TempDir;
use time::{OffsetDateTime, macros::datetime};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::oneshot,
    task::JoinHandle,
};

/// The time at which everything in these tests happens: two hours after the newest sample.
pub const NOW: OffsetDateTime = datetime!(2026-11-18 09:00 UTC);

/// When samples were taken, unless a test says otherwise.
pub const SAMPLED: &str = "2026-11-18T07:00:00Z";

/// A running service. It ends with the test.
pub struct TestApp {
    pub base: String,
    pub client: reqwest::Client,
    stop: Option<oneshot::Sender<()>>,
    task: Option<JoinHandle<Exit>>,
    pub dir: Arc<TempDir>,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
    }

    /// Word of the first issue, of an answer that is an `OperationOutcome`.
    pub fn word(&self) -> String {
        let outcome = self.json();
        assert_eq!(outcome["resourceType"], "OperationOutcome", "{outcome}");
        word(&outcome["issue"][0])
    }

    /// Refused with this status and word.
    #[track_caller]
    pub fn assert_refused(&self, status: u16, word: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        assert_eq!(self.word(), word, "{}", self.text);
        assert!(
            self.header("content-type")
                .starts_with("application/fhir+json")
        );
        assert!(!self.header("x-request-id").is_empty());
        self.json()
    }

    /// First three digits of the status of each entry.
    pub fn entry_statuses(&self) -> Vec<u16> {
        self.json()["entry"]
            .as_array()
            .unwrap_or_else(|| panic!("no entries: {}", self.text))
            .iter()
            .map(|entry| {
                entry["response"]["status"].as_str().unwrap()[..3]
                    .parse()
                    .unwrap()
            })
            .collect()
    }
}

/// Word of an issue.
pub fn word(issue: &Value) -> String {
    issue["details"]["coding"][0]["code"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

/// Words of the outcome of an entry.
pub fn entry_words(answer: &Value, entry: usize) -> Vec<String> {
    answer["entry"][entry]["response"]["outcome"]["issue"]
        .as_array()
        .map(|issues| issues.iter().map(word).collect())
        .unwrap_or_default()
}

impl TestApp {
    /// With the defaults.
    pub async fn spawn() -> Self {
        Self::spawn_with(&[]).await
    }

    /// With further flags of `serve`.
    pub async fn spawn_with(flags: &[&str]) -> Self {
        Self::spawn_in(Arc::new(tempfile::tempdir().unwrap()), flags, NOW).await
    }

    /// On the database in `dir`, at `now`.
    pub async fn spawn_in(dir: Arc<TempDir>, flags: &[&str], now: OffsetDateTime) -> Self {
        let database = format!("sqlite:{}", dir.path().join("marrowflag.db").display());
        let mut args = vec![
            "marrowflag",
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--database",
            &database,
        ];
        args.extend(flags);
        let cli = <Cli as clap::Parser>::parse_from(args);
        let Command::Serve(settings) = cli.command else {
            panic!("not serve");
        };
        let app = App::build_at(*settings, Arc::new(move || now))
            .await
            .expect("the service starts");
        let base = format!("http://{}", app.address());
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(app.run_until(async {
            let _ = stopped.await;
        }));
        Self {
            base,
            client: reqwest::Client::builder().build().unwrap(),
            stop: Some(stop),
            task: Some(task),
            dir,
        }
    }

    /// A service that another process runs.
    pub fn at(base: String) -> Self {
        Self {
            base,
            client: reqwest::Client::builder().build().unwrap(),
            stop: None,
            task: None,
            dir: Arc::new(tempfile::tempdir().unwrap()),
        }
    }

    /// Stops it and says how it ended.
    pub async fn stop(mut self) -> Exit {
        let _ = self.stop.take().unwrap().send(());
        self.task.take().unwrap().await.unwrap()
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base))
    }

    pub async fn get(&self, path: &str) -> Answer {
        send(self.request(Method::GET, path)).await
    }

    /// Posts FHIR JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, body.to_string()).await
    }

    /// Posts a text as FHIR JSON.
    pub async fn post_text(&self, path: &str, body: impl Into<reqwest::Body>) -> Answer {
        send(self.fhir(Method::POST, path).body(body)).await
    }

    /// A request with the media type of FHIR.
    pub fn fhir(&self, method: Method, path: &str) -> RequestBuilder {
        self.request(method, path)
            .header("content-type", "application/fhir+json")
    }

    /// Sends bytes as they are, and reads until the service closes the connection.
    pub async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = tokio::net::TcpStream::connect(self.base.trim_start_matches("http://"))
            .await
            .unwrap();
        // The service may answer and close before it has read everything.
        let _ = stream.write_all(bytes).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Flags of a patient.
    pub async fn flags(&self, patient: &str) -> Vec<Value> {
        let answer = self.get(&format!("/fhir/Flag?patient={patient}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        resources(&answer.json())
    }
}

/// Resources of a searchset that match.
pub fn resources(searchset: &Value) -> Vec<Value> {
    searchset["entry"]
        .as_array()
        .map(|entries| {
            entries
                .iter()
                .filter(|entry| entry["search"]["mode"] == "match")
                .map(|entry| entry["resource"].clone())
                .collect()
        })
        .unwrap_or_default()
}

pub async fn send(request: RequestBuilder) -> Answer {
    let response = request.send().await.expect("an answer");
    Answer {
        status: response.status(),
        headers: response.headers().clone(),
        text: response.text().await.expect("a whole answer"),
    }
}

/// A fixture of `fixtures/bundles`.
pub fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/bundles")
        .join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// An adult.
pub fn patient(id: &str) -> Value {
    json!({
        "resourceType": "Patient",
        "id": id,
        "identifier": [{ "system": "https://hospital.example/mrn", "value": id }],
        "gender": "female",
        "birthDate": "1958-03-14"
    })
}

/// One result in a UCUM unit.
pub fn observation(patient: &str, loinc: &str, value: &str, unit: &str) -> Value {
    let value: Value = serde_json::from_str(value).unwrap();
    json!({
        "resourceType": "Observation",
        "identifier": [{ "system": "https://lab.example/result", "value": format!("{patient}-{loinc}") }],
        "status": "final",
        "code": { "coding": [{ "system": "http://loinc.org", "code": loinc }] },
        "subject": { "reference": format!("Patient/{patient}") },
        "effectiveDateTime": SAMPLED,
        "valueQuantity": { "value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit }
    })
}

pub fn haemoglobin(patient: &str, value: &str) -> Value {
    observation(patient, "718-7", value, "g/dL")
}

pub fn neutrophils(patient: &str, value: &str) -> Value {
    observation(patient, "751-8", value, "10*9/L")
}

pub fn platelets(patient: &str, value: &str) -> Value {
    observation(patient, "777-3", value, "10*9/L")
}

/// A Bundle of type batch or transaction that creates these resources; a Patient keeps its id as
/// address.
pub fn bundle(kind: &str, resources: &[Value]) -> Value {
    let entries: Vec<Value> = resources
        .iter()
        .enumerate()
        .map(|(index, resource)| {
            let kind = resource["resourceType"].as_str().unwrap();
            let full_url = match resource["id"].as_str() {
                Some(id) => format!("https://hospital.example/fhir/{kind}/{id}"),
                None => format!("urn:uuid:00000000-0000-4000-8000-{index:012}"),
            };
            json!({ "fullUrl": full_url, "resource": resource, "request": { "method": "POST", "url": kind } })
        })
        .collect();
    let mut bundle = json!({ "resourceType": "Bundle", "type": kind });
    if !entries.is_empty() {
        bundle["entry"] = entries.into();
    }
    bundle
}

pub fn batch(resources: &[Value]) -> Value {
    bundle("batch", resources)
}

/// A patient and a count with three low lines.
pub fn pancytopenia(id: &str) -> Vec<Value> {
    vec![
        patient(id),
        haemoglobin(id, "8.4"),
        neutrophils(id, "0.7"),
        platelets(id, "32"),
    ]
}
