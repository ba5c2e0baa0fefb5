//! The whole service: the binary with a FHIR server as its target, from the posted count to what a
//! reader of that server sees, with SIGKILL in between.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    engines::{self, Engine},
    misbehaving::{Fault, Misbehaving, On, Promise, TRANSACTION},
};

pub(crate) const PANCYTOPENIA: &str = include_str!("../../fixtures/bundles/pancytopenia.json");
const LOW: &str = include_str!("../../fixtures/bundles/recovery-1-low.json");
const FIRST_NORMAL: &str = include_str!("../../fixtures/bundles/recovery-2-first-normal.json");
const STILL_NORMAL: &str = include_str!("../../fixtures/bundles/recovery-3-still-normal.json");
/// The numbers of the patients in these Bundles.
const NUMBERS: [&str; 2] = ["4711", "4713"];
const MRN: &str = "https://hospital.example/mrn";
/// Longer than a leased delivery waits after its answer was lost, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// A fixture, of another patient.
pub(crate) fn of(bundle: &str, mrn: &str) -> Value {
    let mut text = bundle.to_owned();
    for number in NUMBERS {
        text = text.replace(number, mrn);
    }
    serde_json::from_str(&text).unwrap()
}

/// `marrowflag serve`; killed when dropped.
pub(crate) struct Service {
    child: Child,
    pub(crate) base: String,
    pub(crate) client: reqwest::Client,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    /// On the database in `directory`, writing to `target`.
    fn start(directory: &Path, target: &str) -> Self {
        Self::start_with(directory, target, "sampled", &[])
    }

    /// With further flags.
    pub(crate) fn start_with(directory: &Path, target: &str, as_of: &str, flags: &[&str]) -> Self {
        let database = directory.join("marrowflag.db");
        let mut child = Command::new(env!("CARGO_BIN_EXE_marrowflag"))
            .args(["serve", "--listen", "127.0.0.1:0", "--as-of", as_of])
            .args(["--database", &format!("sqlite:{}", database.display())])
            .args(["--fhir-server", target])
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let (_, base) = line.trim().split_once("listening on ").expect(&line);
        Self {
            base: base.to_owned(),
            child,
            client: reqwest::Client::builder().no_proxy().build().unwrap(),
        }
    }

    /// Posts a Bundle; it must be taken.
    pub(crate) async fn post(&self, bundle: &Value) -> Value {
        let request = self.client.post(format!("{}/fhir", self.base));
        let request = request.header("Content-Type", "application/fhir+json");
        let answer = request.body(bundle.to_string()).send().await.unwrap();
        let status = answer.status();
        let body: Value = answer.json().await.unwrap();
        assert_eq!(status, 200, "{body:#}");
        body
    }

    /// SIGKILL, as when the machine goes.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Asks until the answer is there.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut ask: impl FnMut() -> F,
) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(
            start.elapsed() < PATIENCE,
            "{what}: not within {PATIENCE:?}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn patient(engine: &Engine, mrn: &str) -> String {
    let patient = json!({"resourceType": "Patient", "identifier": [{"system": MRN, "value": mrn}]});
    engine.create(&patient).await
}

/// The patient's only Flag, once it has this status.
async fn flag(engine: &Engine, patient: &str, status: &str) -> Value {
    eventually(&format!("a Flag that is {status}"), || async move {
        let flags = engine.search(&format!("Flag?patient={patient}")).await;
        assert!(flags.len() <= 1, "{flags:#?}");
        flags.into_iter().find(|flag| flag["status"] == status)
    })
    .await
}

async fn pancytopenia_reaches_the_server(engine: &Engine) {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path(), &engine.base);
    let id = patient(engine, "w1").await;
    service.post(&of(PANCYTOPENIA, "w1")).await;

    let flag = flag(engine, &id, "active").await;
    let code = &flag["code"]["coding"][0];
    assert_eq!(
        code["system"],
        "https://marrowflag.org/fhir/CodeSystem/finding"
    );
    assert_eq!(code["code"], "pancytopenia");
    assert_eq!(flag["subject"]["reference"], format!("Patient/{id}"));
    let author = flag["author"]["reference"].as_str().unwrap();
    let devices = engine
        .search(&format!("Device?_id={}", &author["Device/".len()..]))
        .await;
    assert_eq!(devices.len(), 1, "{author}");

    let reports = eventually("a report", || async {
        let found = engine
            .search(&format!("DiagnosticReport?subject=Patient/{id}"))
            .await;
        (!found.is_empty()).then_some(found)
    })
    .await;
    assert_eq!(reports[0]["status"], "partial");
    assert!(
        reports[0]["conclusion"]
            .as_str()
            .unwrap()
            .contains("not a diagnosis")
    );

    // The same Bundle again writes nothing.
    let place = format!("Flag/{}", flag["id"].as_str().unwrap());
    let versions = engine.versions(&place).await;
    service.post(&of(PANCYTOPENIA, "w1")).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(engine.versions(&place).await, versions);
}

async fn a_recovery_closes_the_flag(engine: &Engine) {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path(), &engine.base);
    let id = patient(engine, "w2").await;
    service.post(&of(LOW, "w2")).await;
    let raised = flag(engine, &id, "active").await;
    service.post(&of(FIRST_NORMAL, "w2")).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    flag(engine, &id, "active").await;
    service.post(&of(STILL_NORMAL, "w2")).await;
    let closed = flag(engine, &id, "inactive").await;
    assert_eq!(closed["id"], raised["id"]);
    assert!(closed["period"]["end"].is_string());
}

async fn a_withdrawal_takes_the_flag_back(engine: &Engine) {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path(), &engine.base);
    let id = patient(engine, "w3").await;
    service.post(&of(LOW, "w3")).await;
    flag(engine, &id, "active").await;
    let mut withdrawn = of(LOW, "w3");
    for entry in withdrawn["entry"].as_array_mut().unwrap() {
        if entry["resource"]["resourceType"] == "Observation" {
            entry["resource"]["status"] = json!("entered-in-error");
        }
    }
    service.post(&withdrawn).await;
    flag(engine, &id, "entered-in-error").await;
    let reports = engine
        .search(&format!("DiagnosticReport?subject=Patient/{id}"))
        .await;
    assert!(
        reports
            .iter()
            .all(|report| report["status"] == "entered-in-error")
    );
}

/// What a human closed on the server stays closed.
async fn a_humans_decision_stands(engine: &Engine) {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path(), &engine.base);
    let id = patient(engine, "w4").await;
    service.post(&of(LOW, "w4")).await;
    let raised = flag(engine, &id, "active").await;
    let place = format!("Flag/{}", raised["id"].as_str().unwrap());
    engine
        .edit(&place, |flag| flag["status"] = json!("inactive"))
        .await;
    // The same counts a few days later: nothing new.
    let again = of(LOW, "w4")
        .to_string()
        .replace("2026-10-05", "2026-10-09");
    service.post(&serde_json::from_str(&again).unwrap()).await;
    eventually("the later report", || async {
        let found = engine
            .search(&format!("DiagnosticReport?subject=Patient/{id}"))
            .await;
        (found.len() > 1).then_some(())
    })
    .await;
    flag(engine, &id, "inactive").await;
}

/// SIGKILL right after each receipt, at whatever step the delivery then is.
async fn a_receipt_outlives_the_process(engine: &Engine) {
    let directory = tempfile::tempdir().unwrap();
    let mut ids = Vec::new();
    for round in 0..6 {
        let mrn = format!("w5-{round}");
        ids.push(patient(engine, &mrn).await);
        let service = Service::start(directory.path(), &engine.base);
        service.post(&of(PANCYTOPENIA, &mrn)).await;
        tokio::time::sleep(Duration::from_millis(round * 15)).await;
        service.kill();
    }
    let _service = Service::start(directory.path(), &engine.base);
    for id in &ids {
        flag(engine, id, "active").await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    for id in &ids {
        let found = engine
            .search(&format!("DiagnosticReport?subject=Patient/{id}"))
            .await;
        assert_eq!(found.len(), 1, "one report");
        flag(engine, id, "active").await;
    }
}

macro_rules! on {
    ($engine:ident: $($test:ident)*) => {
        mod $engine {
            $(
                #[tokio::test]
                async fn $test() {
                    if let Some(engine) = super::engines::$engine(stringify!($test)) {
                        super::$test(engine).await;
                    }
                }
            )*
        }
    };
}

on! { medplum:
    pancytopenia_reaches_the_server
    a_recovery_closes_the_flag
    a_withdrawal_takes_the_flag_back
    a_humans_decision_stands
    a_receipt_outlives_the_process
}

on! { hapi:
    pancytopenia_reaches_the_server
    a_recovery_closes_the_flag
    a_withdrawal_takes_the_flag_back
    a_humans_decision_stands
    a_receipt_outlives_the_process
}

/// Killed after the server stored everything and before it answered: the next start reads, and
/// writes nothing twice.
#[tokio::test]
async fn a_write_whose_answer_was_lost_is_not_repeated() {
    let hostile = Misbehaving::start(TRANSACTION).await;
    hostile.script(On::Write, [Fault::Stored(Box::new(Fault::Silence))]);
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path(), &hostile.base);
    service.post(&of(PANCYTOPENIA, "1")).await;
    let stored = || async { (!hostile.truth().writes.is_empty()).then_some(()) };
    eventually("a write", stored).await;
    service.kill();
    let written = hostile.truth().writes.clone();

    let reads = hostile.truth().requests.len();
    let _service = Service::start(directory.path(), &hostile.base);
    eventually("the look at what stands there", || async {
        let truth = hostile.truth();
        let looked = truth.requests.iter().skip(reads);
        let looked = looked.filter(|request| request.path.starts_with("/fhir/Flag/"));
        (looked.count() > 0).then_some(())
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(hostile.truth().writes, written);
}

/// A type that the server does not take is told to whoever looks, and the rest arrives.
#[tokio::test]
async fn what_a_server_does_not_take_is_told() {
    let promise = Promise {
        no_flag: true,
        ..TRANSACTION
    };
    let hostile = Misbehaving::start(promise).await;
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path(), &hostile.base);
    let get = async |path: &str| {
        let answer = service.client.get(format!("{}{path}", service.base));
        answer.send().await.unwrap().text().await.unwrap()
    };
    assert!(get("/readyz").await.contains("\"degraded\":[]"));
    service.post(&of(PANCYTOPENIA, "1")).await;
    let arrived = || async {
        let truth = hostile.truth();
        let mut writes = truth.writes.iter();
        writes
            .any(|place| place.starts_with("DiagnosticReport/"))
            .then_some(())
    };
    eventually("the report", arrived).await;
    let ready = get("/readyz").await;
    assert!(ready.contains("\"ready\":true"), "{ready}");
    assert!(
        ready.contains("\"default: Flag cannot be written\""),
        "{ready}"
    );
    let metrics = get("/metrics").await;
    for line in [
        "marrowflag_target_type_unwritable{target=\"default\",type=\"Flag\"} 1",
        "marrowflag_breaker_state{target=\"default\"} 0",
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}

/// The target is down when the count comes, and the process goes before it is back.
#[tokio::test]
async fn a_finding_waits_for_its_target_across_a_crash() {
    let hostile = Misbehaving::start(TRANSACTION).await;
    hostile.script(On::Metadata, vec![Fault::status(503); 2]);
    let directory = tempfile::tempdir().unwrap();
    let service = Service::start(directory.path(), &hostile.base);
    service.post(&of(PANCYTOPENIA, "1")).await;
    let tried = || async { (!hostile.truth().requests.is_empty()).then_some(()) };
    eventually("a try", tried).await;
    service.kill();
    let _service = Service::start(directory.path(), &hostile.base);
    let arrived = || async {
        let truth = hostile.truth();
        let flags = truth
            .writes
            .iter()
            .filter(|place| place.starts_with("Flag/"));
        (flags.count() == 1).then_some(())
    };
    eventually("the Flag", arrived).await;
}
