//! A patient is deleted: nothing of it is in any file of the database, while others are filed.

use std::{
    collections::HashSet,
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
};

use futures_util::TryStreamExt as _;
use rusqlite::Connection;
use serde_json::{Value, json};

use crate::{
    misbehaving::{Fault, Misbehaving, On, PUT_ID},
    postgres_server::{Place, Server},
    process::{PROGRAM, Process, run, serve, sqlite, stderr, stdout},
    senders::{Senders, bundle, lost, post},
};

/// In everything that is sent about the patient.
const MARK: &str = "Zaphodmarked";

/// As long as the mark.
type Trace = [u8; 12];

/// Texts and bytes that say something of the patient and of nobody else.
struct Traces(HashSet<Trace>);

impl Traces {
    /// The mark, and pieces of every body that is kept of the patient, which is compressed.
    async fn collect(held: &Held) -> Self {
        let own = held.bodies("LIKE").await;
        let mut traces = HashSet::from([Trace::try_from(MARK.as_bytes()).unwrap()]);
        for body in &own {
            // From its middle: the beginnings of bodies are alike. Pieces, for it may lie on two pages.
            for middle in [body.len() / 3, body.len() / 2, body.len() * 2 / 3] {
                traces.extend(body[middle..].first_chunk::<12>());
            }
        }
        Self(traces)
    }

    /// How many are found in these, and in no body of another patient: some of what compression
    /// leaves is alike in many.
    async fn hits(&self, held: &Held, places: Vec<Vec<u8>>) -> usize {
        let mut found: HashSet<Trace> = places
            .iter()
            .flat_map(|bytes| self.found_in(bytes))
            .collect();
        for body in held.bodies("NOT LIKE").await {
            for alike in self.found_in(&body) {
                found.remove(&alike);
            }
        }
        found.len()
    }

    fn found_in(&self, bytes: &[u8]) -> HashSet<Trace> {
        // Most places begin like none of them, and there are many places.
        let mut begins = vec![false; 1 << 16];
        for trace in &self.0 {
            begins[usize::from(trace[0]) << 8 | usize::from(trace[1])] = true;
        }
        bytes
            .array_windows()
            .filter(|[first, second, ..]: &&Trace| {
                begins[usize::from(*first) << 8 | usize::from(*second)]
            })
            .filter(|piece| self.0.contains(*piece))
            .copied()
            .collect()
    }
}

/// Where a service keeps what it has, as it lies there.
enum Held {
    Sqlite(PathBuf),
    Postgres(Box<Place>),
}

impl Held {
    fn arguments(&self) -> Vec<String> {
        match self {
            Self::Sqlite(file) => vec!["--database".to_owned(), sqlite(file)],
            Self::Postgres(place) => place.arguments(),
        }
    }

    /// Everything compressed that is kept of the patient, or of all others.
    async fn bodies(&self, of: &str) -> Vec<Vec<u8>> {
        let sql = format!(
            "WITH these AS (SELECT id FROM patient WHERE identifiers {of} '%{MARK}%') \
             SELECT body FROM inbox_patient WHERE patient_id IN (SELECT id FROM these) \
             UNION ALL SELECT body FROM resource WHERE patient_id IN (SELECT id FROM these) \
             UNION ALL SELECT receipt FROM inbox WHERE receipt IS NOT NULL AND id IN \
             (SELECT inbox_id FROM inbox_patient WHERE patient_id IN (SELECT id FROM these))"
        );
        match self {
            Self::Sqlite(file) => {
                let only = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
                let connection = Connection::open_with_flags(file, only).unwrap();
                let mut statement = connection.prepare(&sql).unwrap();
                let bodies = statement.query_map([], |row| row.get(0)).unwrap();
                bodies.collect::<Result<_, _>>().unwrap()
            }
            Self::Postgres(place) => {
                let rows = place.client().await.query(&sql, &[]).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
        }
    }

    /// What can still be read of it: the file with its log; every row of every table.
    async fn everything(&self) -> Vec<Vec<u8>> {
        const TABLES: &str = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'";
        match self {
            Self::Sqlite(file) => ["", "-wal", "-shm"]
                .map(|suffix| {
                    let mut path = file.clone().into_os_string();
                    path.push(suffix);
                    std::fs::read(PathBuf::from(path)).unwrap_or_default()
                })
                .into(),
            Self::Postgres(place) => {
                let client = place.client().await;
                let mut everything = Vec::new();
                for row in client.query(TABLES, &[]).await.unwrap() {
                    let table: String = row.get(0);
                    let copy = format!("COPY {table} TO STDOUT (FORMAT binary)");
                    let rows = client.copy_out(&copy).await.unwrap();
                    let rows: Vec<_> = rows.try_collect().await.unwrap();
                    everything.push(rows.concat());
                }
                everything
            }
        }
    }
}

/// Files of a database on a PostgreSQL, as they lie on its disk.
async fn files(place: &Place) -> Vec<Vec<u8>> {
    const OID: &str = "SELECT oid FROM pg_database WHERE datname = current_database()";
    let client = place.client().await;
    client.batch_execute("CHECKPOINT").await.unwrap();
    let oid: u32 = client.query_one(OID, &[]).await.unwrap().get(0);
    let folder = place.server.data().join("base").join(oid.to_string());
    let files = std::fs::read_dir(folder).unwrap();
    files
        // One that is gone by now holds nothing any more.
        .map(|file| std::fs::read(file.unwrap().path()).unwrap_or_default())
        .collect()
}

/// A call of CDS Hooks with low counts: a card, which is kept.
fn hook(patient: &str) -> Value {
    let searchset = |entries: Vec<Value>| json!({ "resourceType": "Bundle", "type": "searchset", "total": entries.len(), "entry": entries });
    let count = |code: &str, value: f64, unit: &str| {
        let resource = json!({
            "resourceType": "Observation", "id": format!("o{code}"), "status": "final",
            "category": [{ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory" }] }],
            "code": { "coding": [{ "system": "http://loinc.org", "code": code }] },
            "subject": { "reference": format!("Patient/{patient}") },
            "effectiveDateTime": "2026-11-10T08:00:00Z",
            "valueQuantity": { "value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit }
        });
        searchset(vec![json!({
            "fullUrl": format!("https://ehr.example/fhir/Observation/o{code}"),
            "resource": resource, "search": { "mode": "match" }
        })])
    };
    json!({
        "hook": "patient-view", "hookInstance": "1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed",
        "context": { "userId": "Practitioner/1", "patientId": patient, "encounterId": format!("{MARK}-encounter") },
        "prefetch": {
            "patient": { "resourceType": "Patient", "id": patient, "gender": "male", "birthDate": "1970-05-01" },
            "hgb": count("718-7", 80.0, "g/L"),
            "plt": count("777-3", 30.0, "10*9/L"),
            "wbc": count("6690-2", 2.0, "10*9/L"),
            "anc": count("751-8", 0.4, "10*9/L"),
        }
    })
}

fn delete(base: &str, patient: &str) -> (Option<i32>, String) {
    let mut child = Command::new(PROGRAM)
        .args(["patients", "delete", "-", "--server", base])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    writeln!(input, "{patient}").unwrap();
    drop(input);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), stdout(&output) + &stderr(&output))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_a_deleted_patient() {
    let directory = tempfile::tempdir().unwrap();
    let held = Held::Sqlite(directory.path().join("m.db"));
    nothing_is_left("SQLite", &held).await;
}

/// In no row, at once; in no file once PostgreSQL was told to write its files anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_of_a_deleted_patient_on_postgresql() {
    let name = "nothing_is_left_of_a_deleted_patient_on_postgresql";
    // Its catalogues are written anew too, which others would have to wait for.
    let Some(server) = Server::new(name, &[]) else {
        return;
    };
    let held = Held::Postgres(Box::new(Place::on(&Arc::new(server))));
    nothing_is_left("PostgreSQL", &held).await;
}

async fn nothing_is_left(engine: &str, held: &Held) {
    let start = || {
        let mut command = serve(&[]);
        command.args(held.arguments());
        Process::start(command)
    };
    let process = start();
    let senders = Senders::start(&process.base);
    senders
        .until("others are stored", |senders| senders.acknowledged() >= 20)
        .await;
    // Corrections too, so that there are older versions.
    let mut whole = String::new();
    for round in [0, 1, 2, 3] {
        whole = bundle(MARK, round).to_string();
        let answer = post(&process.base, &whole).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
        let corrected = whole.replace("\"value\":95", "\"value\":96");
        assert!(post(&process.base, &corrected).await.is_some());
    }
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let card = client
        .post(format!(
            "{}/cds-services/marrowflag-cytopenia",
            process.base
        ))
        .json(&hook(MARK))
        .send()
        .await
        .unwrap();
    let card: Value = card.json().await.unwrap();
    assert_eq!(card["cards"].as_array().map(Vec::len), Some(1), "{card}");
    senders
        .until("others go on", |senders| senders.acknowledged() >= 60)
        .await;
    if let Held::Postgres(place) = held {
        // Its statistics hold values too.
        place.client().await.batch_execute("ANALYZE").await.unwrap();
    }
    let traces = Traces::collect(held).await;
    let before = traces.hits(held, held.everything().await).await;
    assert!(before > 50, "{before}");

    let (code, said) = delete(
        &process.base,
        &format!("https://hospital.example/mrn|{MARK}"),
    );
    assert_eq!((code, said.contains("deleted")), (Some(0), true), "{said}");
    let after = traces.hits(held, held.everything().await).await;
    let still = senders.acknowledged();
    senders
        .until("others go on", |senders| {
            senders.acknowledged() >= still + 20
        })
        .await;
    let later = traces.hits(held, held.everything().await).await;
    let acknowledged = senders.stop().await;
    let (code, said) = delete(&process.base, &format!("Patient/{MARK}"));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("nothing is held"), "{said}");
    let others_lost = lost(&process.base, &acknowledged).await;
    let ended = process.stop();
    assert!(!ended.log.contains(MARK), "{}", ended.log);
    let in_files = match held {
        Held::Sqlite(_) => String::new(),
        Held::Postgres(place) => {
            let before = traces.hits(held, files(place).await).await;
            let client = place.client().await;
            for rewrite in ["ANALYZE", "VACUUM FULL"] {
                client.batch_execute(rewrite).await.unwrap();
            }
            let after = traces.hits(held, files(place).await).await;
            assert_eq!(after, 0, "its files were rewritten");
            format!(", {before} in its files until they are rewritten")
        }
    };
    // Sent again it is a new patient.
    let process = start();
    let again = post(&process.base, &whole).await.unwrap();
    assert!(
        !again.replayed && again.text.contains("201"),
        "{}",
        again.text
    );
    assert_eq!(process.stop().code, Some(0));
    println!(
        "P16 deletion on {engine}: {} traces, {before} hits before, {after} after the answer, {later} under load later{in_files}; \
         {} others acknowledged, lost={others_lost}",
        traces.0.len(),
        acknowledged.len()
    );
    assert_eq!((after, later, others_lost), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_flag_on_the_fhir_server_is_withdrawn_before_its_patient_is_deleted() {
    let target = Misbehaving::start(PUT_ID).await;
    let directory = tempfile::tempdir().unwrap();
    let database = sqlite(&directory.path().join("m.db"));
    let arguments = ["--database", &database, "--fhir-server", &target.base];
    let process = Process::start(serve(&arguments));
    let whole = bundle("p1", 3).to_string();
    assert_eq!(post(&process.base, &whole).await.unwrap().status, 200);
    let status = || {
        let truth = target.truth();
        let mut flags = truth
            .resources
            .iter()
            .filter(|(place, _)| place.starts_with("Flag/"));
        flags
            .next()
            .map(|(_, (_, flag))| flag["status"].as_str().unwrap().to_owned())
    };
    for _ in 0..400 {
        if status().is_some() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(status().as_deref(), Some("active"));
    let retract = || {
        let server = process.base.clone();
        tokio::task::spawn_blocking(move || {
            run(&[
                "patients",
                "delete",
                "--retract",
                "Patient/p1",
                "--server",
                &server,
            ])
        })
    };
    // It does not take it: nothing is deleted, and the operator is told what is in the way.
    target.script(On::Write, (0..8).map(|_| Fault::status(422)));
    let refused = retract().await.unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", stdout(&refused));
    let said = stderr(&refused);
    assert!(said.contains("nothing is deleted"), "{said}");
    assert!(said.contains("is parked"), "{said}");
    target.truth().end_faults();
    let listed = run(&[
        "deliveries",
        "list",
        "--database",
        &database,
        "--state",
        "parked",
        "--format",
        "ndjson",
    ]);
    let parked: Value = serde_json::from_str(stdout(&listed).lines().next().unwrap()).unwrap();
    let id = parked["id"].to_string();
    let retried = run(&["deliveries", "retry", &id, "--server", &process.base]);
    assert_eq!(retried.status.code(), Some(0), "{}", stderr(&retried));
    let done = retract().await.unwrap();
    assert!(stdout(&done).starts_with("deleted"), "{}", stderr(&done));
    assert_eq!(status().as_deref(), Some("entered-in-error"));
    let left: i64 = Connection::open(directory.path().join("m.db"))
        .unwrap()
        .query_row("SELECT count(*) FROM patient", [], |row| row.get(0))
        .unwrap();
    assert_eq!(left, 0);
    assert_eq!(process.stop().code, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_counts_are_forgotten_by_the_service_itself() {
    let directory = tempfile::tempdir().unwrap();
    let database = sqlite(&directory.path().join("m.db"));
    let start = |days: &str| Process::start(serve(&["--database", &database, "--retention", days]));
    let process = start("1200");
    for round in [0, 3] {
        // Ten years before the others.
        let text = bundle("p1", round).to_string();
        let text = match round {
            0 => text.replace("2026-11", "2016-11"),
            _ => text,
        };
        assert_eq!(post(&process.base, &text).await.unwrap().status, 200);
    }
    let report = |process: &Process| {
        let url = format!("{}/metrics", process.base);
        async move {
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            client.get(url).send().await.unwrap().status().as_u16()
        }
    };
    assert_eq!(report(&process).await, 200);
    assert_eq!(process.stop().code, Some(0));
    let values = || -> i64 {
        Connection::open(directory.path().join("m.db"))
            .unwrap()
            .query_row("SELECT count(*) FROM observation", [], |row| row.get(0))
            .unwrap()
    };
    assert_eq!(values(), 6);
    // It looks when it starts; a stop waits for what was begun.
    let process = start("1200");
    let mut left = 6;
    for _ in 0..200 {
        left = values();
        if left == 3 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(left, 3);
    assert_eq!(process.stop().code, Some(0));
}
