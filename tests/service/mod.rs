//! The binary under load: laboratories that keep a ledger of receipts, a FHIR server that keeps
//! everything, and the comparison of the two with the store.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "shared by several tests, of which none uses everything"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use marrowflag::{
    fhir::{read::PatientKey, write::identity},
    store::{
        Store,
        postgres::{self, Postgres},
        reading::{DeliveryFilter, HeldResource, Search},
        sqlite::{self, Sqlite},
    },
};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use time::{OffsetDateTime, macros::datetime};
use tokio::sync::watch;

use crate::{
    hospital::{
        Defect, Hospital, MRN, Request, Way, content_hash,
        counts::{Promised, Submission, count},
    },
    postgres_server::{self, Server},
};

/// When the laboratories' days are.
const START: OffsetDateTime = datetime!(2026-11-20 12:00 UTC);
/// Longer than anything takes, on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_mins(3);

/// A number that an environment variable may change.
pub(crate) fn number(name: &str, usual: usize) -> usize {
    std::env::var(name).map_or(usual, |text| text.parse().unwrap())
}

/// The crash points that the source names.
pub(crate) fn points_in_source() -> BTreeSet<String> {
    fn walk(directory: &Path, found: &mut BTreeSet<String>) {
        let point = regex::Regex::new(r#"crash_point(?:_meanwhile)?!\("([^"]+)"\)"#).unwrap();
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else {
                let text = std::fs::read_to_string(&path).unwrap();
                found.extend(point.captures_iter(&text).map(|one| one[1].to_owned()));
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut found,
    );
    found
}

/// A FHIR server that keeps everything; real sockets.
pub(crate) struct Keeper {
    pub(crate) base: String,
    pub(crate) hospital: Arc<Mutex<Hospital>>,
    server: actix_web::dev::ServerHandle,
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.server.stop(false));
    }
}

impl Keeper {
    pub(crate) fn start(patients: impl IntoIterator<Item = String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/fhir", listener.local_addr().unwrap());
        let mut hospital = Hospital::new(Way::Transaction, Defect::None);
        hospital.known.extend(patients);
        let hospital = Arc::new(Mutex::new(hospital));
        let state = web::Data::from(Arc::clone(&hospital));
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let app = move || {
                App::new()
                    .app_data(state.clone())
                    .app_data(web::PayloadConfig::new(16 << 20))
                    .default_service(web::to(keep))
            };
            actix_web::rt::System::new().block_on(async move {
                let server = HttpServer::new(app)
                    .workers(1)
                    .disable_signals()
                    .listen(listener)
                    .unwrap()
                    .run();
                sender.send(server.handle()).unwrap();
                server.await.unwrap();
            });
        });
        Self {
            base,
            hospital,
            server: receiver.recv().unwrap(),
        }
    }
}

async fn keep(
    request: HttpRequest,
    body: web::Bytes,
    hospital: web::Data<Mutex<Hospital>>,
) -> HttpResponse {
    let text = |name: &str| {
        let value = request.headers().get(name)?;
        Some(value.to_str().unwrap().to_owned())
    };
    let asked = Request {
        method: request.method().as_str().parse().unwrap(),
        path: request.path().strip_prefix("/fhir").unwrap().to_owned(),
        query: request.query_string().to_owned(),
        if_match: text("if-match"),
        if_none_exist: text("if-none-exist"),
        body: if body.is_empty() {
            Value::Null
        } else {
            serde_json::from_slice(&body).unwrap()
        },
    };
    let answer = hospital.lock().unwrap().handle(&asked, &|_| false);
    let status = actix_web::http::StatusCode::from_u16(answer.status.as_u16()).unwrap();
    let mut response = HttpResponse::build(status);
    for (name, value) in &answer.headers {
        response.insert_header((name.as_str(), value.to_str().unwrap()));
    }
    response.content_type("application/fhir+json");
    response.body(answer.bytes)
}

/// Where a service keeps what it has.
pub(crate) enum Place {
    Sqlite(tempfile::TempDir),
    Postgres(postgres_server::Place),
}

impl Place {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub(crate) fn postgres(server: &Arc<Server>) -> Self {
        Self::Postgres(postgres_server::Place::on(server))
    }

    fn arguments(&self) -> Vec<String> {
        match self {
            Self::Sqlite(_) => vec![
                "--database".to_owned(),
                format!("sqlite:{}", self.file("marrowflag.db").display()),
            ],
            Self::Postgres(place) => place.arguments(),
        }
    }

    /// A file beside the database.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        match self {
            Self::Sqlite(directory) => directory.path().join(name),
            Self::Postgres(_) => panic!("PostgreSQL has its own files"),
        }
    }

    /// Values older than those of the last years, and bodies that no value points to: what a
    /// service forgets.
    pub(crate) async fn too_old(&self) -> i64 {
        let old = |table: &str, long_ago: &str| {
            format!("(SELECT count(*) FROM {table} WHERE effective_at < {long_ago})")
        };
        let sql = |long_ago: &str| {
            format!(
                "SELECT {} + {} + (SELECT count(*) FROM inbox_patient AS body \
                 WHERE NOT EXISTS (SELECT 1 FROM observation AS value \
                 WHERE value.patient_id = body.patient_id AND value.patient_seq = body.patient_seq) \
                 AND NOT EXISTS (SELECT 1 FROM observation_version AS value \
                 WHERE value.patient_id = body.patient_id AND value.patient_seq = body.patient_seq))",
                old("observation", long_ago),
                old("observation_version", long_ago),
            )
        };
        match self {
            Self::Sqlite(_) => {
                let file = self.file("marrowflag.db");
                let only = OpenFlags::SQLITE_OPEN_READ_ONLY;
                let connection = Connection::open_with_flags(file, only).unwrap();
                connection.busy_timeout(PATIENCE).unwrap();
                let sql = sql("1577836800000");
                connection.query_row(&sql, [], |row| row.get(0)).unwrap()
            }
            Self::Postgres(place) => {
                let client = place.client().await;
                let sql = sql("'2020-01-01'");
                client.query_one(&sql, &[]).await.unwrap().get(0)
            }
        }
    }

    /// The store itself, when no service runs on it.
    fn open(&self) -> Arc<dyn Store> {
        match self {
            Self::Sqlite(_) => open_file(self.file("marrowflag.db")),
            Self::Postgres(place) => {
                let options = postgres::Options::new(place.url(), place.key.path(), "check", START);
                // On a thread of its own: opening blocks.
                let open = || Postgres::open(&options).unwrap();
                let store = std::thread::scope(|scope| scope.spawn(open).join().unwrap());
                Arc::new(store)
            }
        }
    }
}

fn open_file(file: PathBuf) -> Arc<dyn Store> {
    Arc::new(Sqlite::open(&sqlite::Options::new(file, START, [0; 32])).unwrap())
}

/// What was promised before a copy and is not in it, which has to be a whole database with its
/// key; nor what was promised of it `since`, while it was made.
pub(crate) async fn missing_in_copy(
    copy: &Path,
    promised: &Promised,
    since: &Promised,
) -> Vec<String> {
    let store = open_file(copy.to_owned());
    let mut lost = missing(&store, promised).await;
    let not_corrected = missing(&store, since).await;
    lost.retain(|value| not_corrected.contains(value));
    store.close().await.unwrap();
    lost
}

/// `marrowflag serve`; killed when dropped.
pub(crate) struct Service {
    child: Child,
    pub(crate) base: String,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Service {
    /// `None`: it was gone before it said where it listens.
    pub(crate) fn start(place: &Place, target: &str, more: &[&str]) -> Option<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_marrowflag"))
            .args(["serve", "--listen", "127.0.0.1:0", "--as-of", "sampled"])
            .args(place.arguments())
            .args(["--fhir-server", target])
            // What is lost or doubled is looked for here, not the pace.
            .args(["--fhir-server-rate", "10000"])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let output = child.stdout.take().unwrap();
        BufReader::new(output).read_line(&mut line).unwrap();
        let base = line.trim().split_once("listening on ");
        let Some((_, base)) = base else {
            child.wait().unwrap();
            return None;
        };
        Some(Self {
            base: base.to_owned(),
            child,
        })
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it for a copy of its database; whether it says that this was made.
    pub(crate) async fn back_up(&self, to: &Path) -> bool {
        let mut command = Command::new(env!("CARGO_BIN_EXE_marrowflag"));
        command.arg("backup").arg(to).args(["--server", &self.base]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let asked = tokio::task::spawn_blocking(move || command.status().unwrap());
        asked.await.unwrap().success()
    }

    /// Asks it to stop.
    pub(crate) fn terminate(&self) {
        let id = self.child.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(asked.success());
    }

    /// The most memory it ever had, in KiB.
    pub(crate) fn most_memory(&self) -> u64 {
        let status = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(status).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let number = line.unwrap().trim().trim_end_matches(" kB");
        number.parse().unwrap()
    }

    /// Its exit code, once it is gone by itself; `None` for a signal.
    pub(crate) async fn gone(mut self, what: &str) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < PATIENCE, "{what}: it lives");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// What the laboratories saw.
#[derive(Default)]
pub(crate) struct Ledger {
    promised: Mutex<Promised>,
    pub(crate) receipts: AtomicU64,
    /// Sent, and no receipt came.
    pub(crate) unanswered: AtomicU64,
    /// Had been taken although no receipt came for it.
    pub(crate) replayed: AtomicU64,
    /// Told to come again.
    pub(crate) refused: AtomicU64,
}

impl Ledger {
    /// Receipts, sendings that none came for, and how many of these had been taken.
    pub(crate) fn figures(&self) -> (u64, u64, u64) {
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        (of(&self.receipts), of(&self.unanswered), of(&self.replayed))
    }

    /// What was promised so far.
    pub(crate) fn promised(&self) -> Promised {
        self.promised.lock().unwrap().clone()
    }
}

/// Laboratories that send until they have every receipt, wherever the service is.
pub(crate) struct Load {
    base: watch::Sender<Option<String>>,
    tasks: tokio::task::JoinSet<()>,
}

/// Patient numbers of so many laboratories.
pub(crate) fn patients(shift: usize, laboratories: usize) -> impl Iterator<Item = String> {
    (0..laboratories).map(move |number| format!("s{shift}p{number}"))
}

impl Load {
    /// Each of them sends `each` counts of a patient of its own. Patients of another `shift` are
    /// others.
    pub(crate) fn start(
        shift: usize,
        laboratories: usize,
        each: usize,
        ledger: &Arc<Ledger>,
    ) -> Self {
        Self::start_from(0, shift, laboratories, each, ledger)
    }

    /// The same, beginning with the count of another week.
    pub(crate) fn start_from(
        week: i64,
        shift: usize,
        laboratories: usize,
        each: usize,
        ledger: &Arc<Ledger>,
    ) -> Self {
        let (base, listen) = watch::channel(None);
        let mut tasks = tokio::task::JoinSet::new();
        for (number, mrn) in patients(shift, laboratories).enumerate() {
            let submissions = (0..each).map(|turn| {
                let (number, turn) = (i64::try_from(number).unwrap(), i64::try_from(turn).unwrap());
                // Up and down, so that most of them change something.
                let severity = usize::try_from((number + turn) % 4).unwrap();
                count(&mrn, week + turn / 2, turn % 2, severity, START)
            });
            let submissions: Vec<_> = submissions.collect();
            tasks.spawn(send(submissions, listen.clone(), Arc::clone(ledger)));
        }
        Self { base, tasks }
    }

    /// From now on the service is there.
    pub(crate) fn to(&self, service: &Service) {
        self.base.send_replace(Some(service.base.clone()));
    }

    /// From now on nothing is sent.
    pub(crate) fn pause(&self) {
        self.base.send_replace(None);
    }

    pub(crate) async fn done(&mut self) {
        let all = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended.unwrap();
            }
        };
        let ended = tokio::time::timeout(PATIENCE, all).await;
        ended.expect("the laboratories get no receipts");
    }
}

async fn send(
    submissions: Vec<Submission>,
    mut base: watch::Receiver<Option<String>>,
    ledger: Arc<Ledger>,
) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for submission in submissions {
        loop {
            let there = base.wait_for(Option::is_some).await.unwrap().clone();
            let request = client
                .post(format!("{}/fhir", there.unwrap()))
                .header("Content-Type", "application/fhir+json")
                .body(submission.body.clone());
            let mut come_again = false;
            let answer = match request.send().await {
                Ok(answer) => {
                    come_again = answer.headers().contains_key("retry-after");
                    let replayed = answer.headers().contains_key("idempotency-replayed");
                    ledger
                        .replayed
                        .fetch_add(u64::from(replayed), Ordering::Relaxed);
                    Some((answer.status().as_u16(), answer.bytes().await))
                }
                Err(_) => None,
            };
            match answer {
                Some((200, Ok(_))) => {
                    ledger.receipts.fetch_add(1, Ordering::Relaxed);
                    ledger.promised.lock().unwrap().note(&submission);
                    break;
                }
                // The head said yes: that is a receipt, and a laboratory may stop here.
                Some((200, Err(_))) => {
                    ledger.unanswered.fetch_add(1, Ordering::Relaxed);
                    ledger.promised.lock().unwrap().note(&submission);
                }
                Some((503 | 409 | 429, _)) => {
                    assert!(come_again, "told no, and not when to come again");
                    ledger.refused.fetch_add(1, Ordering::Relaxed);
                }
                Some((status, body)) => panic!("{status}: {body:?}"),
                None => {
                    ledger.unanswered.fetch_add(1, Ordering::Relaxed);
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// What came of it.
#[derive(Default, Debug)]
pub(crate) struct Verdict {
    pub(crate) lost: Vec<String>,
    pub(crate) duplicated: Vec<String>,
    pub(crate) flags: usize,
    pub(crate) reports: usize,
}

/// Waits until everything is delivered, stops the service, and compares ledger, timeline, outbox
/// and FHIR server.
pub(crate) async fn settle(
    service: Service,
    place: &Place,
    keeper: &Keeper,
    ledger: &Ledger,
) -> Verdict {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let start = Instant::now();
    loop {
        let mut open = 0;
        for state in ["queued", "in_flight", "later"] {
            let url = format!("{}/admin/deliveries?state={state}", service.base);
            let answer: Value = client.get(url).send().await.unwrap().json().await.unwrap();
            open += answer["deliveries"].as_array().unwrap().len();
        }
        if open == 0 {
            break;
        }
        assert!(start.elapsed() < PATIENCE, "{open} deliveries stay open");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    service.terminate();
    let exit = service.gone("SIGTERM").await;
    assert_eq!(exit, Some(0), "a stop that was asked for");
    compare(&place.open(), keeper, ledger).await
}

async fn compare(store: &Arc<dyn Store>, keeper: &Keeper, ledger: &Ledger) -> Verdict {
    let mut verdict = Verdict {
        lost: missing(store, &ledger.promised()).await,
        ..Verdict::default()
    };
    let not_sent = DeliveryFilter {
        state: Some("parked".to_owned()),
        ..DeliveryFilter::default()
    };
    for one in store.deliveries(not_sent).await.unwrap() {
        verdict
            .lost
            .push(format!("delivery {} {:?}", one.id, one.parked_reason));
    }
    for kind in ["Flag", "DiagnosticReport"] {
        let held = all(store, kind).await;
        let hospital = keeper.hospital.lock().unwrap();
        for one in &held {
            let identifier = one.body["identifier"][0]["value"].as_str().unwrap();
            let ours = content_hash(&one.body).unwrap_or_default();
            let there = hospital.content(kind, identifier);
            if there.is_none_or(|(there, _)| there != ours) {
                verdict.lost.push(format!("{kind}/{}", one.id));
            }
        }
        if kind == "Flag" {
            verdict.flags = held.len();
        } else {
            verdict.reports = held.len();
        }
    }
    let hospital = keeper.hospital.lock().unwrap();
    verdict.duplicated.extend(hospital.duplicates());
    verdict.duplicated.extend(hospital.regressions.clone());
    verdict
}

/// Values that were promised and are not there.
async fn missing(store: &Arc<dyn Store>, promised: &Promised) -> Vec<String> {
    let mut missing = Vec::new();
    for (mrn, values) in promised.values() {
        let held = timeline(store, mrn).await;
        for (identifier, value) in values {
            if held.get(identifier).map(String::as_str) != Some(value) {
                missing.push(format!("value {identifier}"));
            }
        }
    }
    missing
}

/// Every resource of a type.
async fn all(store: &Arc<dyn Store>, kind: &str) -> Vec<HeldResource> {
    let mut held = Vec::new();
    loop {
        let search = Search {
            tenant: "default".to_owned(),
            kind: kind.to_owned(),
            offset: held.len(),
            limit: 1_000,
            ..Search::default()
        };
        let page = store.search(search).await.unwrap();
        held.extend(page.resources);
        if !page.more {
            return held;
        }
    }
}

/// Identifier and value of every result of a patient.
async fn timeline(store: &Arc<dyn Store>, mrn: &str) -> BTreeMap<String, String> {
    let key = PatientKey::Identifier {
        system: MRN.to_owned(),
        value: mrn.to_owned(),
    };
    let identity_key = store.identity_key().as_bytes();
    let hash = identity::patient_key(identity_key, "default", "default", &key);
    let found = store.find_patients("default", vec![hash]).await.unwrap();
    let Some(id) = found.first() else {
        return BTreeMap::new();
    };
    let known = store.patient("default", *id).await.unwrap().unwrap();
    known
        .timeline
        .measurements
        .iter()
        .filter_map(|one| {
            let (_, identifier) = one.source.identifier.as_ref()?;
            Some((identifier.to_string(), one.received.value.clone()))
        })
        .collect()
}
