//! What every store promises, asked of each engine in the same words.
//!
//! The model here is a toy: a haemoglobin below 100 raises one Flag, anything else closes it.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that fails here has found something"
)]

mod postgres_server;
mod store_toy;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use marrowflag::{
    clinical::{
        assessment::Urgency,
        timeline::{Fact, Measurement, Person, Sex, Source},
        truth::Truth,
    },
    store::{
        OpenError, Store, StoreError,
        delivery::{Class, First, Hold, Next, Why},
        keys::{digest, parse_logical_id},
        lease::{Fate, Leased, PatientId, Written},
        postgres::{self, Postgres, Timing},
        reading::{DeliveryFilter, Search},
        removal::{CountedFrom, Retention},
        sqlite::{Options, Sqlite},
        submission::{
            Accepted, Envelope, EnvelopeKind, Incoming, IncomingResource, IncomingValue,
            OutboxTarget, Withdrawal,
        },
    },
};
use serde_json::json;
use store_toy::*;
use time::{Duration, macros::datetime};

/// An engine under test: opens, and opens again, the same data.
trait Engine {
    fn open(&self) -> Arc<dyn Store>;
    /// Opens it as a copy that was restored.
    fn restored(&self) -> Arc<dyn Store>;
    /// As after a crash: what is on disk now, opened by another process.
    fn after_crash(&self) -> Box<dyn Engine>;
}

struct OnSqlite {
    directory: tempfile::TempDir,
}

impl OnSqlite {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("test.db")
    }
}

fn options(path: &Path) -> Options {
    Options::new(path, NOW, [7; 32])
}

impl Engine for OnSqlite {
    fn open(&self) -> Arc<dyn Store> {
        Arc::new(Sqlite::open(&options(&self.path())).unwrap())
    }

    fn restored(&self) -> Arc<dyn Store> {
        let options = Options {
            restored: true,
            ..options(&self.path())
        };
        Arc::new(Sqlite::open(&options).unwrap())
    }

    fn after_crash(&self) -> Box<dyn Engine> {
        let copy = Self::new();
        for suffix in ["", "-wal", ".identity-key"] {
            let mut from = self.path().into_os_string();
            from.push(suffix);
            let mut to = copy.path().into_os_string();
            to.push(suffix);
            std::fs::copy(from, to).unwrap();
        }
        Box::new(copy)
    }
}

struct OnPostgres {
    server: Arc<postgres_server::Server>,
    database: String,
    key: tempfile::NamedTempFile,
}

impl OnPostgres {
    /// `None`: PostgreSQL is not installed.
    fn new(test: &str) -> Option<Self> {
        let server = postgres_server::Server::shared(test)?;
        let key = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(key.path(), "07".repeat(32)).unwrap();
        Some(Self {
            database: server.database(None),
            server,
            key,
        })
    }

    fn options(&self) -> postgres::Options {
        let replica = uuid::Uuid::new_v4().to_string();
        postgres::Options {
            // Fast enough to wait for.
            timing: Timing {
                beat: std::time::Duration::from_millis(50),
                late: std::time::Duration::from_secs(10),
                standstill: std::time::Duration::from_millis(300),
            },
            ..postgres::Options::new(
                self.server.url(&self.database),
                self.key.path(),
                replica,
                NOW,
            )
        }
    }

    fn try_open(options: &postgres::Options) -> Result<Postgres, OpenError> {
        std::thread::scope(|scope| scope.spawn(|| Postgres::open(options)).join().unwrap())
    }

    /// Until nobody owns a lane who does not live.
    async fn wait_for_takeover(server: &postgres_server::Server, database: &str) {
        const LEFT: &str = "SELECT count(*) FROM lane WHERE owner IS NOT NULL";
        let client = server.client(database).await;
        for _ in 0..200 {
            let left: i64 = client.query_one(LEFT, &[]).await.unwrap().get(0);
            if left == 0 {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("nobody took the lanes over");
    }
}

impl Engine for OnPostgres {
    fn open(&self) -> Arc<dyn Store> {
        let store = Self::try_open(&self.options()).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap()
                    .block_on(Self::wait_for_takeover(&self.server, &self.database));
            });
            waiting.join().unwrap();
        });
        Arc::new(store)
    }

    fn restored(&self) -> Arc<dyn Store> {
        let options = postgres::Options {
            restored: true,
            ..self.options()
        };
        Arc::new(Self::try_open(&options).unwrap())
    }

    fn after_crash(&self) -> Box<dyn Engine> {
        let key = tempfile::NamedTempFile::new().unwrap();
        std::fs::copy(self.key.path(), key.path()).unwrap();
        Box::new(Self {
            database: self.server.database(Some(&self.database)),
            server: Arc::clone(&self.server),
            key,
        })
    }
}

mod contract {
    use super::*;

    pub(super) async fn the_same_bundle_twice_is_answered_twice_and_done_once(engine: &dyn Engine) {
        let store = engine.open();
        let send = || sending("a").of(&["p1"], vec![hb("1", 90)]);
        let Accepted::New { receipt } = send().accept(&store).await.unwrap() else {
            panic!("the first is new");
        };
        assert!(String::from_utf8_lossy(&receipt).contains("Created"));
        let Accepted::Replayed { receipt: again } = send().accept(&store).await.unwrap() else {
            panic!("the second is a repeat");
        };
        assert_eq!(again, receipt);
        assert_eq!(flag(&store, "p1").await, Some(("Active".to_owned(), 1)));
        // Another client has its own receipts.
        let other = send().with(|incoming| incoming.client = Arc::from("ward"));
        assert!(matches!(
            other.accept(&store).await.unwrap(),
            Accepted::New { .. }
        ));
        // After its time a repeat runs, and finds everything as it is.
        let late = send().with(|incoming| incoming.received_at = NOW + Duration::hours(25));
        assert!(late.receipt(&store).await.contains("Unchanged"));
        assert_eq!(timeline(&store, "p1").await, ["90 Final"]);
    }

    pub(super) async fn a_key_for_another_body_is_refused(engine: &dyn Engine) {
        let store = engine.open();
        let send = |body: &str, value| {
            sending(body)
                .of(&["p1"], vec![hb("1", value)])
                .with(|incoming| {
                    incoming.claims.idempotency_key = Some("POST /fhir|k".to_owned());
                })
        };
        send("a", 90).receipt(&store).await;
        assert!(matches!(
            send("a", 90).accept(&store).await.unwrap(),
            Accepted::Replayed { .. }
        ));
        assert!(matches!(
            send("b", 80).accept(&store).await.unwrap(),
            Accepted::KeyReused
        ));
        assert_eq!(timeline(&store, "p1").await, ["90 Final"]);
    }

    pub(super) async fn envelopes_decide_by_their_kind(engine: &dyn Engine) {
        let store = engine.open();
        let send = |body: &str, value, kind: EnvelopeKind| {
            sending(body)
                .of(&["p1"], vec![hb("1", value)])
                .with(move |incoming| {
                    incoming.claims.envelope = Some(Envelope {
                        key: digest(&[format!("{kind:?}").split(' ').next().unwrap().as_bytes()]),
                        kind,
                    });
                })
        };
        let bundle = || EnvelopeKind::Bundle;
        assert!(
            send("a", 90, bundle())
                .receipt(&store)
                .await
                .contains("seen false")
        );
        assert!(
            send("b", 91, bundle())
                .receipt(&store)
                .await
                .contains("seen true")
        );
        let document = |hours| EnvelopeKind::Document {
            timestamp: NOW + Duration::hours(hours),
        };
        send("c", 92, document(1)).receipt(&store).await;
        assert!(matches!(
            send("d", 93, document(0)).accept(&store).await.unwrap(),
            Accepted::OlderDocument
        ));
        send("e", 94, document(2)).receipt(&store).await;
        let message = |header: &str| EnvelopeKind::Message {
            header: header.to_owned(),
        };
        send("f", 95, message("h1")).receipt(&store).await;
        assert!(matches!(
            send("g", 96, message("h1")).accept(&store).await.unwrap(),
            Accepted::Replayed { .. }
        ));
        assert!(matches!(
            send("h", 97, message("h2")).accept(&store).await.unwrap(),
            Accepted::EnvelopeReused
        ));
        assert_eq!(timeline(&store, "p1").await, ["95 Final"]);
    }

    pub(super) async fn a_repeat_runs_again_once_its_values_were_changed(engine: &dyn Engine) {
        let store = engine.open();
        let send = |body: &str, value| sending(body).of(&["p1"], vec![hb("1", value)]);
        send("nine", 90).receipt(&store).await;
        // Found unchanged, by another body.
        assert!(
            send("nine again", 90)
                .receipt(&store)
                .await
                .contains("Unchanged")
        );
        let corrected = send("eight", 80).receipt(&store).await;
        assert!(corrected.contains("changed_final: true"), "{corrected}");
        assert!(
            send("nine", 90)
                .receipt(&store)
                .await
                .contains("version: 3")
        );
        send("eight", 80).receipt(&store).await;
        assert!(
            send("nine again", 90)
                .receipt(&store)
                .await
                .contains("version: 5")
        );
        assert_eq!(timeline(&store, "p1").await, ["90 Final"]);
    }

    pub(super) async fn several_keys_lead_to_one_patient_and_two_patients_to_none(
        engine: &dyn Engine,
    ) {
        let store = engine.open();
        sending("a")
            .of(&["mrn", "ref"], vec![hb("1", 90)])
            .receipt(&store)
            .await;
        sending("b")
            .of(&["ref", "other"], vec![hb("2", 120)])
            .receipt(&store)
            .await;
        sending("c")
            .of(&["other"], vec![hb("3", 130)])
            .receipt(&store)
            .await;
        assert_eq!(
            timeline(&store, "mrn").await,
            ["120 Final", "130 Final", "90 Final"]
        );
        // Ids stay formed from the first key ever seen.
        assert!(flag(&store, "mrn").await.is_some());
        assert!(flag(&store, "ref").await.is_none());

        sending("d")
            .of(&["stranger"], vec![hb("4", 140)])
            .receipt(&store)
            .await;
        let both = sending("e")
            .of(&["mrn", "stranger"], vec![hb("5", 10)])
            .of(&["third"], vec![hb("6", 150)])
            .receipt(&store)
            .await;
        assert!(
            both.contains("(0, AmbiguousPatient), (1, Created"),
            "{both}"
        );
        assert_eq!(timeline(&store, "stranger").await, ["140 Final"]);
        assert_eq!(timeline(&store, "third").await, ["150 Final"]);
        let all = sending("f")
            .of(&["mrn", "stranger"], vec![hb("5", 10)])
            .of(&["third"], vec![hb("7", 151)])
            .with(|incoming| incoming.all_or_nothing = true)
            .receipt(&store)
            .await;
        assert!(all.contains("failed true"), "{all}");
        assert_eq!(timeline(&store, "third").await, ["150 Final"]);
    }

    pub(super) async fn two_new_patients_that_share_a_key_are_one(engine: &dyn Engine) {
        let store = engine.open();
        sending("a")
            .of(&["mrn", "ref-1"], vec![hb("1", 90)])
            .of(&["mrn", "ref-2"], vec![hb("2", 95)])
            .receipt(&store)
            .await;
        assert_eq!(timeline(&store, "ref-2").await, ["90 Final", "95 Final"]);
    }

    pub(super) async fn older_results_are_ignored(engine: &dyn Engine) {
        let store = engine.open();
        let send = |body: &str, value, change: fn(&mut IncomingResource)| {
            let mut one = hb("1", value);
            change(&mut one);
            sending(body).of(&["p1"], vec![one])
        };
        send("a", 90, |one| one.issued = Some(NOW))
            .receipt(&store)
            .await;
        let older = send("b", 80, |one| one.issued = Some(NOW - Duration::hours(1)))
            .receipt(&store)
            .await;
        assert!(older.contains("Older"), "{older}");
        let preliminary = send("c", 70, |one| "preliminary".clone_into(&mut one.status))
            .receipt(&store)
            .await;
        assert!(preliminary.contains("Older"), "{preliminary}");
        assert_eq!(timeline(&store, "p1").await, ["90 Final"]);
        let newer = send("d", 60, |one| one.issued = Some(NOW + Duration::hours(1)))
            .receipt(&store)
            .await;
        assert!(newer.contains("Updated"), "{newer}");
        assert_eq!(timeline(&store, "p1").await, ["60 Final"]);
    }

    pub(super) async fn what_is_withdrawn_is_seen_as_withdrawn(engine: &dyn Engine) {
        let store = engine.open();
        sending("a")
            .of(&["p1"], vec![hb("1", 90), hb("2", 150), hb("3", 95)])
            .receipt(&store)
            .await;
        assert_eq!(flag(&store, "p1").await, Some(("Active".to_owned(), 1)));
        // By status, without a value of its own.
        let mut retraction = hb("1", 0);
        retraction.withdrawn = true;
        "entered-in-error".clone_into(&mut retraction.status);
        retraction.values[0].measurement = None;
        sending("b")
            .of(&["p1"], vec![retraction])
            .receipt(&store)
            .await;
        // By its id.
        let patient = store
            .find_patients("default", vec![key("p1")])
            .await
            .unwrap()[0];
        let id = marrowflag::store::keys::logical_id(patient, result("3"));
        assert_eq!(parse_logical_id(&id), Some((patient, result("3"))));
        let delete = |body: &str, id: &str, tenant: &str| {
            let (id, tenant) = (id.to_owned(), tenant.to_owned());
            sending(body).with(move |incoming| {
                incoming.tenant = Arc::from(tenant);
                incoming.withdrawals = vec![Withdrawal {
                    entry: 0,
                    kind: "Observation".to_owned(),
                    id,
                    if_match: None,
                }];
            })
        };
        delete("c", &id, "another").receipt(&store).await;
        assert_eq!(flag(&store, "p1").await, Some(("Active".to_owned(), 1)));
        delete("d", &id, "default").receipt(&store).await;
        // A late repeat does not bring back what its laboratory took back.
        let repeat = sending("e")
            .of(&["p1"], vec![hb("1", 90)])
            .receipt(&store)
            .await;
        assert!(repeat.contains("Older"), "{repeat}");
        assert_eq!(
            timeline(&store, "p1").await,
            ["150 Final", "90 EnteredInError", "95 EnteredInError"]
        );
        assert_eq!(flag(&store, "p1").await, Some(("Inactive".to_owned(), 2)));
        let held = store
            .read_sent("default", "lab", "Observation", &id, None)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (held.version, &held.body["status"]),
            (2, &json!("entered-in-error"))
        );
        let before = store
            .read_sent("default", "lab", "Observation", &id, Some(1))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(before.body["status"], json!("final"));
        // What was withdrawn by its id may be sent again.
        let again = sending("f")
            .of(&["p1"], vec![hb("3", 95)])
            .receipt(&store)
            .await;
        assert!(again.contains("version: 3"), "{again}");
        assert_eq!(flag(&store, "p1").await, Some(("Active".to_owned(), 3)));
    }

    pub(super) async fn an_id_given_by_put_is_known_and_may_change_patients(engine: &dyn Engine) {
        let store = engine.open();
        let put = |body: &str, patient: &str, value, if_match| {
            let mut one = hb(&format!("Observation/x of {patient}"), value);
            one.put_id = Some("x".to_owned());
            one.if_match = if_match;
            sending(body).of(&[patient], vec![one])
        };
        assert!(
            put("a", "p1", 90, None)
                .receipt(&store)
                .await
                .contains("id: \"x\", version: 1")
        );
        assert!(
            put("b", "p1", 91, Some(7))
                .receipt(&store)
                .await
                .contains("VersionMismatch")
        );
        assert!(
            put("c", "p1", 92, Some(1))
                .receipt(&store)
                .await
                .contains("id: \"x\", version: 2")
        );
        let held = store
            .read_sent("default", "lab", "Observation", "x", None)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((held.version, held.id.as_str()), (2, "x"));
        assert_eq!(held.body["id"], json!("x"));
        let elsewhere = store
            .read_sent("default", "ward", "Observation", "x", None)
            .await
            .unwrap();
        assert!(elsewhere.is_none(), "an id is of the client that gave it");
        // It was the wrong patient.
        put("d", "p2", 93, None).receipt(&store).await;
        assert_eq!(timeline(&store, "p1").await, ["92 EnteredInError"]);
        assert_eq!(timeline(&store, "p2").await, ["93 Final"]);
    }

    pub(super) async fn a_new_id_may_be_given_twice_in_one_submission(engine: &dyn Engine) {
        let store = engine.open();
        let put = |name: &str, value| {
            let mut one = hb(name, value);
            one.put_id = Some("x".to_owned());
            one
        };
        // The same result, another result, and another patient's.
        let receipt = sending("a")
            .of(&["p1"], vec![put("1", 90), put("1", 91), put("2", 150)])
            .of(&["p2"], vec![put("3", 92)])
            .receipt(&store)
            .await;
        assert_eq!(receipt.matches("id: \"x\"").count(), 4, "{receipt}");
        let held = store
            .read_sent("default", "lab", "Observation", "x", None)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(held.body["value"], json!(92), "the last one stands");
        assert_eq!(timeline(&store, "p1").await, ["150 Final", "91 Final"]);
        assert_eq!(timeline(&store, "p2").await, ["92 Final"]);
    }

    pub(super) async fn a_component_that_is_gone_is_not_used(engine: &dyn Engine) {
        let store = engine.open();
        let panel = |body: &str, values: &[(&str, i64)]| {
            let mut one = hb("panel", values.iter().map(|(_, value)| value).sum());
            one.values = std::iter::once(IncomingValue {
                path: "Observation".to_owned(),
                component: None,
                code: None,
                measurement: None,
            })
            .chain(values.iter().map(|(code, value)| IncomingValue {
                path: "Observation.component[0]".to_owned(),
                component: Some((*code).to_owned()),
                code: Some("hb".to_owned()),
                measurement: Some(measurement(*value)),
            }))
            .collect();
            sending(body).of(&["p1"], vec![one])
        };
        panel("a", &[("718-7", 90), ("777-3", 200)])
            .receipt(&store)
            .await;
        assert_eq!(timeline(&store, "p1").await, ["200 Final", "90 Final"]);
        panel("b", &[("777-3", 201)]).receipt(&store).await;
        assert_eq!(timeline(&store, "p1").await, ["201 Final"]);
        assert_eq!(flag(&store, "p1").await, Some(("Inactive".to_owned(), 2)));
    }

    pub(super) async fn a_result_may_come_twice_in_one_submission(engine: &dyn Engine) {
        let store = engine.open();
        let twice = sending("a")
            .of(&["p1"], vec![hb("1", 90), hb("1", 91)])
            .receipt(&store)
            .await;
        assert!(
            twice.contains("Created") && twice.contains("Updated"),
            "{twice}"
        );
        // Unchanged at first, and then changed.
        let again = sending("b")
            .of(&["p1"], vec![hb("1", 91), hb("1", 92)])
            .receipt(&store)
            .await;
        assert!(
            again.contains("Unchanged") && again.contains("version: 3"),
            "{again}"
        );
        assert_eq!(timeline(&store, "p1").await, ["92 Final"]);
    }

    pub(super) async fn receipts_are_forgotten_in_their_time(engine: &dyn Engine) {
        let store = engine.open();
        let send = || sending("a").of(&["p1"], vec![hb("1", 90)]);
        send().receipt(&store).await;
        assert_eq!(store.expire(NOW + Duration::hours(23)).await.unwrap(), 0);
        assert_eq!(store.expire(NOW + Duration::hours(24)).await.unwrap(), 1);
        assert_eq!(store.expire(NOW + Duration::hours(24)).await.unwrap(), 0);
        assert!(send().receipt(&store).await.contains("Unchanged"));
    }

    pub(super) async fn everything_about_a_value_comes_back(engine: &dyn Engine) {
        let store = engine.open();
        let sent = measurement(90);
        sending("a")
            .of(&["p1"], vec![hb("1", 90)])
            .with(|incoming| {
                incoming.patients[0].person = Some(Person {
                    birth: Some(marrowflag::clinical::time::BirthDate::Month(
                        1962,
                        time::Month::April,
                    )),
                    sex: Sex::Female,
                    gestation_weeks: Some(38),
                    deceased: true,
                    deceased_at: Some(datetime!(2026-11-19 08:00 +02:00)),
                    ..Person::default()
                });
            })
            .receipt(&store)
            .await;
        let id = store
            .find_patients("default", vec![key("p1")])
            .await
            .unwrap()[0];
        let known = store.patient("default", id).await.unwrap().unwrap();
        let back = Measurement {
            filed_at: None,
            ..known.timeline.measurements[0].clone()
        };
        assert_eq!(back, sent);
        assert_eq!(known.timeline.measurements[0].filed_at, Some(NOW));
        let person = &known.timeline.person;
        assert_eq!(person.sex, Sex::Female);
        assert_eq!(person.gestation_weeks, Some(38));
        assert_eq!(person.deceased_at, Some(datetime!(2026-11-19 08:00 +02:00)));
        assert_eq!(known.identifiers, [("urn:mrn".to_owned(), "p1".to_owned())]);
        assert!(store.patient("another", id).await.unwrap().is_none());
    }

    pub(super) async fn concurrent_senders_lose_nothing(engine: &dyn Engine) {
        const SENDERS: i64 = 64;
        const EACH: i64 = 8;
        let store = engine.open();
        let mut tasks = Vec::new();
        for sender in 0..SENDERS {
            let store = Arc::clone(&store);
            tasks.push(tokio::spawn(async move {
                for number in 0..EACH {
                    let name = format!("{sender}-{number}");
                    // A quarter of them all write to one patient.
                    let patient = if sender % 4 == 0 {
                        "shared".to_owned()
                    } else {
                        format!("p{sender}")
                    };
                    let receipt = sending(&name)
                        .of(&[&patient], vec![hb(&name, 200 + sender * EACH + number)])
                        .receipt(&store)
                        .await;
                    assert!(receipt.contains("Created"), "{receipt}");
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert_eq!(timeline(&store, "shared").await.len(), 16 * 8);
        assert_eq!(timeline(&store, "p1").await.len(), 8);
        let figures = store.figures().await.unwrap();
        assert_eq!(figures.commits, 64 * 8);
        assert!(figures.groups < figures.commits, "{figures:?}");
        // The report says what was there when it was written: the last one saw everything.
        let report = store
            .read(
                "default",
                "DiagnosticReport",
                &report_id(&key("shared")),
                None,
            )
            .await
            .unwrap()
            .unwrap();
        assert_eq!(report.version, 16 * 8);
        assert_eq!(
            report.body["conclusion"]
                .as_str()
                .unwrap()
                .split(", ")
                .count(),
            16 * 8
        );
    }

    pub(super) async fn a_panic_or_a_defect_costs_only_its_own_submission(engine: &dyn Engine) {
        let store = engine.open();
        let send = |body: &'static str, value| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                sending(body)
                    .of(&[body], vec![hb(body, value)])
                    .accept(&store)
                    .await
            })
        };
        let tasks = [send("a", 90), send("b", 13), send("c", 91), send("d", 6666)];
        let mut results = Vec::new();
        for task in tasks {
            results.push(task.await.unwrap());
        }
        assert!(matches!(results[0], Ok(Accepted::New { .. })));
        assert!(matches!(results[1], Err(StoreError::ModelPanicked)));
        assert!(matches!(results[2], Ok(Accepted::New { .. })));
        assert!(matches!(results[3], Err(StoreError::Defect(_))));
        assert_eq!(timeline(&store, "b").await, Vec::<String>::new());
        assert_eq!(timeline(&store, "d").await, Vec::<String>::new());
        assert_eq!(timeline(&store, "c").await, ["91 Final"]);
        assert!(store.ready());
    }

    pub(super) async fn what_was_acknowledged_survives_a_crash(engine: &dyn Engine) {
        let store = engine.open();
        let target = store.target("main", "http://fhir.test").await.unwrap();
        for number in 0..20 {
            sending(&format!("s{number}"))
                .of(&["p1"], vec![hb(&format!("{number}"), 80 + number)])
                .to(target)
                .receipt(&store)
                .await;
        }
        let leased = store.lease(target, NOW, 1).await.unwrap();
        assert!(!leased[0].verify_first);
        let crashed = engine.after_crash();
        let again = crashed.open();
        assert_eq!(timeline(&again, "p1").await.len(), 20);
        let repeat = sending("s7").of(&["p1"], vec![hb("7", 87)]);
        assert!(matches!(
            repeat.accept(&again).await.unwrap(),
            Accepted::Replayed { .. }
        ));
        let taken = again.lease(target, NOW, 1).await.unwrap();
        assert!(taken[0].verify_first, "what was under way is read first");
        assert_eq!(taken[0].first, First::Verify);
        assert!(taken[0].fence > leased[0].fence);
    }

    pub(super) async fn it_stops_cleanly_and_starts_again(engine: &dyn Engine) {
        let store = engine.open();
        sending("a")
            .of(&["p1"], vec![hb("1", 90)])
            .receipt(&store)
            .await;
        store.close().await.unwrap();
        assert!(!store.ready());
        let late = sending("b").of(&["p1"], vec![hb("2", 90)]);
        assert_eq!(late.accept(&store).await.err(), Some(StoreError::Closed));
        drop(store);
        let again = engine.open();
        sending("b")
            .of(&["p2"], vec![hb("2", 90)])
            .receipt(&again)
            .await;
        assert_eq!(timeline(&again, "p1").await, ["90 Final"]);
        assert_eq!(timeline(&again, "p2").await, ["90 Final"]);
    }

    pub(super) async fn a_lane_is_leased_once_and_settled_by_its_owner(engine: &dyn Engine) {
        let store = engine.open();
        let target = store.target("main", "http://fhir.test").await.unwrap();
        assert_eq!(
            store.target("main", "http://fhir.test").await.unwrap(),
            target
        );
        sending("a")
            .of(&["p1"], vec![hb("1", 90)])
            .to(target)
            .receipt(&store)
            .await;
        assert!(
            store
                .lease(target, NOW - Duration::hours(1), 9)
                .await
                .unwrap()
                .len()
                == 1
        );
        // (a lane scheduled in the future is due: the clock went back)
        assert!(store.lease(target, NOW, 9).await.unwrap().is_empty());
        let crashed = engine.after_crash();
        drop(store);
        let store = crashed.open();
        let leased = store.lease(target, NOW, 9).await.unwrap().remove(0);
        assert_eq!(kinds(&leased), ["Device", "DiagnosticReport", "Flag"]);
        assert_eq!(leased.patient_identifiers[0].1, "p1");
        assert_eq!(leased.patient_references, ["Patient/p1"]);
        let stale = Leased {
            fence: leased.fence - 1,
            ..leased.clone()
        };
        let done = || settlement(Next::Delivered, all_written(&leased), NOW);
        assert!(!store.settle(&stale, done()).await.unwrap(), "fenced");
        assert!(store.settle(&leased, done()).await.unwrap());
        assert!(!store.settle(&leased, done()).await.unwrap(), "only once");
        assert!(store.lease(target, NOW, 9).await.unwrap().is_empty());
        let list = store.deliveries(DeliveryFilter::default()).await.unwrap();
        assert_eq!((list.len(), list[0].state.as_str()), (1, "delivered"));
        // The next write knows what stands there.
        sending("b")
            .of(&["p1"], vec![hb("1", 120)])
            .to(target)
            .receipt(&store)
            .await;
        let next = store.lease(target, NOW, 9).await.unwrap().remove(0);
        let flag = next.items.iter().find(|item| item.kind == "Flag").unwrap();
        assert_eq!(flag.revision, 2);
        assert_eq!(flag.etag.as_deref(), Some("W/\"1\""));
        assert_eq!(flag.remote_id, Some(format!("remote-{}", flag.id)));
        assert_eq!(flag.body["status"], json!("Inactive"));
    }

    pub(super) async fn a_failed_send_waits_and_comes_back(engine: &dyn Engine) {
        let store = engine.open();
        let target = store.target("main", "http://fhir.test").await.unwrap();
        sending("a")
            .of(&["p1"], vec![hb("1", 90)])
            .to(target)
            .receipt(&store)
            .await;
        let leased = store.lease(target, NOW, 1).await.unwrap().remove(0);
        let at = NOW + Duration::minutes(5);
        let later = Next::Later {
            at,
            first: First::Verify,
        };
        assert!(
            store
                .settle(&leased, settlement(later, Vec::new(), NOW))
                .await
                .unwrap()
        );
        assert!(store.lease(target, NOW, 1).await.unwrap().is_empty());
        let again = store.lease(target, at, 1).await.unwrap().remove(0);
        assert_eq!((again.attempt, again.first), (1, First::Verify));
        assert_eq!(again.earlier, [Class::Unavailable]);
        assert_eq!(again.reachable_ms, 5);
        assert!(store.release(&again, at).await.unwrap());
        let third = store.lease(target, at, 1).await.unwrap().remove(0);
        assert_eq!(third.attempt, 1, "released is not tried");
        // The target's fault: it is held, the delivery waits.
        let held = Next::Held {
            hold: Hold::Certificate,
            at: at + Duration::minutes(5),
            first: First::Nothing,
        };
        store
            .settle(&third, settlement(held, Vec::new(), at))
            .await
            .unwrap();
        assert_eq!(
            store.targets().await.unwrap()[0].hold,
            Some((Hold::Certificate, at))
        );
        store.hold(target, None, at).await.unwrap();
        assert_eq!(store.targets().await.unwrap()[0].hold, None);
    }

    pub(super) async fn newer_content_replaces_what_was_not_sent(engine: &dyn Engine) {
        let store = engine.open();
        let target = store.target("main", "http://fhir.test").await.unwrap();
        let send = |body: &str, value| sending(body).of(&["p1"], vec![hb("1", value)]).to(target);
        send("a", 90).receipt(&store).await;
        let under_way = store.lease(target, NOW, 1).await.unwrap().remove(0);
        send("b", 80).receipt(&store).await;
        send("c", 120).receipt(&store).await;
        let list = store.deliveries(DeliveryFilter::default()).await.unwrap();
        let states: Vec<&str> = list.iter().map(|one| one.state.as_str()).collect();
        // "b" changed the report only, and "c" has a newer one.
        assert_eq!(states, ["queued", "superseded", "in_flight"]);
        let later = Next::Later {
            at: NOW + Duration::hours(1),
            first: First::Nothing,
        };
        store
            .settle(&under_way, settlement(later, Vec::new(), NOW))
            .await
            .unwrap();
        let leased = store.lease(target, NOW, 1).await.unwrap().remove(0);
        assert_eq!(kinds(&leased), ["Device", "DiagnosticReport", "Flag"]);
        assert_eq!(leased.items[1].revision, 3);
        store
            .settle(
                &leased,
                settlement(Next::Delivered, all_written(&leased), NOW),
            )
            .await
            .unwrap();
        let list = store.deliveries(DeliveryFilter::default()).await.unwrap();
        let states: Vec<&str> = list.iter().map(|one| one.state.as_str()).collect();
        assert_eq!(states, ["delivered", "superseded", "superseded"]);
    }

    pub(super) async fn what_may_stand_there_goes_with_what_replaces_it(engine: &dyn Engine) {
        let store = engine.open();
        let target = store.target("main", "http://fhir.test").await.unwrap();
        let send = |body: &str, value| sending(body).of(&["p1"], vec![hb("1", value)]).to(target);
        send("a", 90).receipt(&store).await;
        let first = store.lease(target, NOW, 1).await.unwrap().remove(0);
        let done = settlement(Next::Delivered, all_written(&first), NOW);
        store.settle(&first, done).await.unwrap();
        send("b", 120).receipt(&store).await;
        // Nobody knows whether it arrived, and it is replaced.
        let second = store.lease(target, NOW, 1).await.unwrap().remove(0);
        let later = Next::Later {
            at: NOW,
            first: First::Verify,
        };
        let unknown = settlement(later, Vec::new(), NOW);
        store.settle(&second, unknown).await.unwrap();
        send("c", 80).receipt(&store).await;
        let third = store.lease(target, NOW, 1).await.unwrap().remove(0);
        let flag = |leased: &Leased| {
            let mut items = leased.items.iter();
            items.find(|item| item.kind == "Flag").unwrap().clone()
        };
        assert_eq!(flag(&third).revision, 3);
        let unconfirmed = flag(&third).unconfirmed;
        assert_eq!(unconfirmed.len(), 1);
        assert_eq!(unconfirmed[0].content_hash, flag(&second).content_hash);
        assert_eq!(unconfirmed[0].body, flag(&second).body);
        let done = settlement(Next::Delivered, all_written(&third), NOW);
        store.settle(&third, done).await.unwrap();
        send("d", 130).receipt(&store).await;
        let fourth = store.lease(target, NOW, 1).await.unwrap().remove(0);
        assert!(flag(&fourth).unconfirmed.is_empty(), "the third is known");
    }

    pub(super) async fn parked_ones_are_stepped_over_and_come_back_on_command(engine: &dyn Engine) {
        let store = engine.open();
        let target = store.target("main", "http://fhir.test").await.unwrap();
        let send = |body: &str, value| sending(body).of(&["p1"], vec![hb("1", value)]).to(target);
        send("a", 90).receipt(&store).await;
        let leased = store.lease(target, NOW, 1).await.unwrap().remove(0);
        let parked = Next::Parked(Why::Rejected);
        store
            .settle(&leased, settlement(parked, Vec::new(), NOW))
            .await
            .unwrap();
        send("b", 120).receipt(&store).await;
        let second = store.lease(target, NOW, 1).await.unwrap().remove(0);
        assert_ne!(second.delivery, leased.delivery);
        store
            .settle(
                &second,
                settlement(Next::Delivered, all_written(&second), NOW),
            )
            .await
            .unwrap();
        let filter = || DeliveryFilter {
            state: Some("parked".to_owned()),
            reason: Some("rejected".to_owned()),
            target: Some("main".to_owned()),
            ..DeliveryFilter::default()
        };
        assert_eq!(store.deliveries(filter()).await.unwrap().len(), 1);
        assert_eq!(store.retry(filter(), NOW).await.unwrap(), 1);
        // Everything in it has a newer version there: nothing is set back.
        assert!(store.lease(target, NOW, 1).await.unwrap().is_empty());

        // The patient is not known there: looked at again by itself.
        send("c", 70).receipt(&store).await;
        let third = store.lease(target, NOW, 1).await.unwrap().remove(0);
        let tomorrow = NOW + Duration::days(1);
        let unknown = Next::Parked(Why::PatientUnknown {
            recheck_at: Some(tomorrow),
        });
        store
            .settle(&third, settlement(unknown, Vec::new(), NOW))
            .await
            .unwrap();
        assert!(store.lease(target, NOW, 1).await.unwrap().is_empty());
        let again = store.lease(target, tomorrow, 1).await.unwrap().remove(0);
        assert_eq!(
            (again.delivery, again.first),
            (third.delivery, First::Verify)
        );
        store.release(&again, tomorrow).await.unwrap();
        assert!(store.discard(third.delivery, NOW).await.unwrap());
        assert!(!store.discard(third.delivery, NOW).await.unwrap());
        assert!(store.lease(target, tomorrow, 1).await.unwrap().is_empty());
        let detail = store.delivery(third.delivery).await.unwrap().unwrap();
        assert_eq!(detail.summary.state, "discarded");
        assert_eq!(detail.attempts.len(), 1);
    }

    pub(super) async fn the_urgent_go_first_and_the_longest_due_are_not_forgotten(
        engine: &dyn Engine,
    ) {
        let store = engine.open();
        let target = store.target("main", "http://fhir.test").await.unwrap();
        let send = |name: String, value, minutes| {
            sending(&name)
                .of(&[&name], vec![hb(&name, value)])
                .to(target)
                .with(move |incoming| incoming.received_at = NOW + Duration::minutes(minutes))
        };
        for number in 0..4 {
            send(format!("calm{number}"), 150, number)
                .receipt(&store)
                .await;
        }
        for number in 0..4 {
            send(format!("low{number}"), 90, 10 + number)
                .receipt(&store)
                .await;
        }
        let leased = store
            .lease(target, NOW + Duration::hours(1), 8)
            .await
            .unwrap();
        let order: Vec<Urgency> = leased.iter().map(|one| one.urgency).collect();
        assert_eq!(
            order,
            [
                Urgency::U3,
                Urgency::U3,
                Urgency::U3,
                Urgency::U1,
                Urgency::U3,
                Urgency::U1,
                Urgency::U1,
                Urgency::U1
            ]
        );
    }

    pub(super) async fn a_probe_is_any_of_the_most_urgent(engine: &dyn Engine) {
        let store = engine.open();
        let target = store.target("main", "http://fhir.test").await.unwrap();
        for (name, value) in [("calm", 150), ("low1", 90), ("low2", 90), ("low3", 90)] {
            sending(name)
                .of(&[name], vec![hb(name, value)])
                .to(target)
                .receipt(&store)
                .await;
        }
        let mut probed = std::collections::BTreeSet::new();
        // One of three is left out of a hundred once in 10^17 times.
        for _ in 0..100 {
            let one = store.probe(target, NOW).await.unwrap();
            assert_eq!((one.len(), one[0].urgency), (1, Urgency::U3));
            probed.insert(one[0].delivery);
            assert!(store.release(&one[0], NOW).await.unwrap());
        }
        assert_eq!(probed.len(), 3);
    }

    pub(super) async fn what_a_human_did_reaches_the_next_decision(engine: &dyn Engine) {
        let store = engine.open();
        let target = store.target("main", "http://fhir.test").await.unwrap();
        sending("a")
            .of(&["p1"], vec![hb("1", 90)])
            .to(target)
            .receipt(&store)
            .await;
        let leased = store.lease(target, NOW, 1).await.unwrap().remove(0);
        let mut done = all_written(&leased);
        done[2].fate = Fate::HumanEdited { inactive: true };
        store
            .settle(&leased, settlement(Next::Delivered, done, NOW))
            .await
            .unwrap();
        let id = store
            .find_patients("default", vec![key("p1")])
            .await
            .unwrap()[0];
        let known = store.patient("default", id).await.unwrap().unwrap();
        let finding = &known.findings[0].finding;
        assert_eq!(finding.human.as_deref(), Some("there"));
        assert_eq!(
            finding.acknowledged.map(|(why, _)| why),
            Some(marrowflag::clinical::assessment::Acknowledged::NotRelevant)
        );
        // The order goes on.
        sending("b")
            .of(&["p1"], vec![hb("2", 95)])
            .to(target)
            .receipt(&store)
            .await;
        assert_eq!(store.lease(target, NOW, 1).await.unwrap().len(), 1);
    }

    pub(super) async fn an_open_flag_is_watched_by_what_does_not_write_it(engine: &dyn Engine) {
        let store = engine.open();
        let target = store.target("main", "http://fhir.test").await.unwrap();
        let send = async |name: &str, value| {
            sending(&format!("{name} {value}"))
                .of(&["p1"], vec![hb(name, value)])
                .to(target)
                .receipt(&store)
                .await;
            store.lease(target, NOW, 1).await.unwrap().remove(0)
        };
        let first = send("1", 90).await;
        assert!(first.watched.is_empty(), "it is about to be written");
        let settle = async |leased: &Leased, done| {
            let settled = settlement(Next::Delivered, done, NOW);
            assert!(store.settle(leased, settled).await.unwrap());
        };
        settle(&first, all_written(&first)).await;

        let second = send("2", 95).await;
        assert!(second.items.iter().all(|item| item.kind != "Flag"));
        let [watched] = second.watched.as_slice() else {
            panic!("{:?}", second.watched);
        };
        assert_eq!(watched.kind, "Flag");
        assert_eq!(watched.written_hash.as_deref(), Some("there"));
        assert_eq!(
            (second.tenant.as_str(), second.patient_key),
            ("default", key("p1"))
        );
        let mut done = all_written(&second);
        done.push(Written {
            ordinal: watched.ordinal,
            fate: Fate::HumanEdited { inactive: true },
            ..done[0].clone()
        });
        settle(&second, done).await;
        let id = second.patient;
        let known = store.patient("default", id).await.unwrap().unwrap();
        assert!(known.findings[0].finding.human.is_some());

        // A Flag that is closed is not looked at any more.
        for (name, value) in [("1", 150), ("2", 151)] {
            let leased = send(name, value).await;
            settle(&leased, all_written(&leased)).await;
        }
        assert_eq!(flag(&store, "p1").await.unwrap().0, "Inactive");
        let last = send("1", 152).await;
        assert!(last.watched.is_empty(), "{:?}", last.watched);
    }

    pub(super) async fn what_was_decided_before_a_humans_edit_was_read(engine: &dyn Engine) {
        let store = engine.open();
        let target = store.target("main", "http://fhir.test").await.unwrap();
        // What is decided while the Flag is looked at, and whether it is written all the same.
        for (patient, decided, written) in [("p1", 150, false), ("p2", 40, true)] {
            let send = async |name: &str, value| {
                sending(&format!("{patient} {name} {value}"))
                    .of(&[patient], vec![hb(&format!("{patient}-{name}"), value)])
                    .to(target)
                    .receipt(&store)
                    .await;
            };
            let lease = async || store.lease(target, NOW, 1).await.unwrap().remove(0);
            let settle = async |leased: &Leased, done| {
                let settled = settlement(Next::Delivered, done, NOW);
                assert!(store.settle(leased, settled).await.unwrap());
            };
            send("1", 90).await;
            let first = lease().await;
            settle(&first, all_written(&first)).await;
            send("2", 95).await;
            let second = lease().await;
            send("2", decided.max(150)).await;
            send("1", decided).await;
            let mut done = all_written(&second);
            done.push(Written {
                ordinal: second.watched[0].ordinal,
                fate: Fate::HumanEdited { inactive: true },
                ..done[0].clone()
            });
            settle(&second, done).await;
            let known = store.patient("default", second.patient).await;
            let known = known.unwrap().unwrap();
            assert_eq!(known.findings[0].finding.human.is_some(), !written);
            let third = lease().await;
            let flags = third.items.iter().filter(|item| item.kind == "Flag");
            assert_eq!(flags.count(), usize::from(written), "{patient}");
            settle(&third, all_written(&third)).await;
            assert!(store.lease(target, NOW, 1).await.unwrap().is_empty());
        }
    }

    pub(super) async fn types_that_a_target_does_not_take_are_skipped(engine: &dyn Engine) {
        let store = engine.open();
        let target = store.target("main", "http://fhir.test").await.unwrap();
        let without = |types: &[&str]| {
            let types = types.iter().map(|one| (*one).to_owned()).collect();
            move |incoming: &mut Incoming| {
                incoming.targets = Arc::from([OutboxTarget {
                    id: target,
                    unwritable: types,
                }]);
            }
        };
        sending("a")
            .of(&["p1"], vec![hb("1", 90)])
            .with(without(&["Flag"]))
            .receipt(&store)
            .await;
        let leased = store.lease(target, NOW, 1).await.unwrap().remove(0);
        assert_eq!(kinds(&leased), ["Device", "DiagnosticReport"]);
        sending("b")
            .of(&["p2"], vec![hb("2", 90)])
            .with(without(&["Flag", "DiagnosticReport"]))
            .receipt(&store)
            .await;
        assert!(store.lease(target, NOW, 1).await.unwrap().is_empty());
    }

    pub(super) async fn a_deleted_patient_is_nowhere_and_may_come_back(engine: &dyn Engine) {
        let store = engine.open();
        let target = store.target("main", "http://fhir.test").await.unwrap();
        let both = || {
            sending("a")
                .of(&["p1"], vec![hb("1", 90)])
                .of(&["p2"], vec![hb("2", 80)])
                .to(target)
        };
        both().receipt(&store).await;
        // Found unchanged: this receipt names the patient too.
        let again = || sending("b").of(&["p1"], vec![hb("1", 90)]);
        again().receipt(&store).await;
        sending("c")
            .of(&["p1", "p1-too"], vec![hb("1", 85)])
            .to(target)
            .receipt(&store)
            .await;
        let leased = store.lease(target, NOW, 9).await.unwrap();
        assert_eq!(leased.len(), 2);
        assert_eq!(
            store.erase("another", vec![key("p1-too")]).await.unwrap(),
            0
        );
        assert_eq!(timeline(&store, "p1").await, ["85 Final"]);

        assert_eq!(
            store.erase("default", vec![key("p1-too")]).await.unwrap(),
            1
        );
        let gone = [key("p1"), key("p1-too")].to_vec();
        assert!(
            store
                .find_patients("default", gone)
                .await
                .unwrap()
                .is_empty()
        );
        assert!(flag(&store, "p1").await.is_none());
        let left = store.deliveries(DeliveryFilter::default()).await.unwrap();
        assert_eq!(left.len(), 1, "{left:?}");
        for one in leased {
            let done = settlement(Next::Delivered, all_written(&one), NOW);
            let other = left[0].id == one.delivery;
            assert_eq!(store.settle(&one, done).await.unwrap(), other, "fenced");
        }
        assert_eq!(timeline(&store, "p2").await, ["80 Final"]);
        assert_eq!(flag(&store, "p2").await, Some(("Active".to_owned(), 1)));
        // No receipt is left that could answer for it: what comes again is new.
        let receipt = both().receipt(&store).await;
        assert!(
            receipt.contains("(0, Created") && receipt.contains("(1, Unchanged"),
            "{receipt}"
        );
        assert!(again().receipt(&store).await.contains("Unchanged"));
        assert_eq!(flag(&store, "p1").await, Some(("Active".to_owned(), 1)));
        assert_eq!(store.erase("default", vec![key("p9")]).await.unwrap(), 0);
    }

    pub(super) async fn a_patient_is_deleted_before_or_after_what_is_filed(engine: &dyn Engine) {
        let store = engine.open();
        let filing = {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for number in 0..40 {
                    let name = format!("{number}");
                    sending(&name)
                        .of(&["p1"], vec![hb(&name, 90), hb(&format!("{name} b"), 91)])
                        .receipt(&store)
                        .await;
                }
            })
        };
        let mut deleted = 0;
        while !filing.is_finished() {
            deleted += store.erase("default", vec![key("p1")]).await.unwrap();
            tokio::task::yield_now().await;
        }
        filing.await.unwrap();
        assert!(deleted > 0);
        let left = timeline(&store, "p1").await;
        let of = |value: &str| left.iter().filter(|one| one.starts_with(value)).count();
        assert_eq!(of("90"), of("91"), "{left:?}");
        store.erase("default", vec![key("p1")]).await.unwrap();
        assert!(timeline(&store, "p1").await.is_empty());
        assert!(flag(&store, "p1").await.is_none());
    }

    pub(super) async fn counts_and_facts_are_forgotten_in_their_time(engine: &dyn Engine) {
        let store = engine.open();
        let days = |days| NOW + Duration::days(days);
        let old = |name: &str, value, days| {
            let mut one = hb(name, value);
            let sampled = sampled(NOW - Duration::days(days));
            one.values[0].measurement.as_mut().unwrap().at = Some(sampled);
            one.put_id = Some(name.to_owned());
            one
        };
        let condition = |name: &str, until: Option<i64>| IncomingResource {
            kind: "Condition".to_owned(),
            values: Vec::new(),
            facts: vec![Fact {
                token: Arc::from(name),
                truth: Truth::True,
                from: None,
                until: until.map(|days| NOW - Duration::days(days)),
                filed_at: None,
                source: Source::default(),
            }],
            ..hb(name, 0)
        };
        sending("a")
            .of(
                &["p1"],
                vec![old("a", 95, 1190), old("b", 96, 1300), old("c", 120, 0)],
            )
            .receipt(&store)
            .await;
        sending("b")
            .of(
                &["p1"],
                vec![condition("over", Some(1300)), condition("lasting", None)],
            )
            .receipt(&store)
            .await;
        sending("c")
            .of(&["p2"], vec![old("d", 97, 1300)])
            .receipt(&store)
            .await;
        let forget = async |counted_from, now| {
            let retention = Retention {
                timeline: Duration::days(1200),
                counted_from,
                findings: Duration::days(3650),
            };
            assert_eq!(
                store.forget(retention, now, PatientId(0)).await.unwrap(),
                None
            );
        };
        let facts = async || {
            let id = store
                .find_patients("default", vec![key("p1")])
                .await
                .unwrap()[0];
            let known = store.patient("default", id).await.unwrap().unwrap();
            known
                .timeline
                .facts
                .iter()
                .map(|fact| fact.token.to_string())
                .collect::<Vec<_>>()
        };
        forget(CountedFrom::NewestAssessment, days(20)).await;
        assert_eq!(timeline(&store, "p1").await, ["120 Final", "95 Final"]);
        assert!(timeline(&store, "p2").await.is_empty());
        assert_eq!(facts().await, ["lasting"]);
        let read = async |id: &str| {
            let kind = "Observation";
            store
                .read_sent("default", "lab", kind, id, None)
                .await
                .unwrap()
        };
        assert!(read("b").await.is_none() && read("d").await.is_none());
        assert!(read("a").await.is_some(), "its body has more in it");
        // By the clock what nobody speaks of any more goes too.
        forget(CountedFrom::Clock, days(20)).await;
        assert_eq!(timeline(&store, "p1").await, ["120 Final"]);
        forget(CountedFrom::Clock, days(1201)).await;
        assert!(timeline(&store, "p1").await.is_empty());
        assert!(facts().await.is_empty());
        assert!(
            flag(&store, "p1").await.is_some(),
            "findings are kept longer"
        );
        // The same again is new.
        let again = sending("e").of(&["p1"], vec![hb("1", 95)]);
        assert!(again.receipt(&store).await.contains("Created"));
    }

    pub(super) async fn findings_are_forgotten_in_their_time(engine: &dyn Engine) {
        let store = engine.open();
        let target = store.target("main", "http://fhir.test").await.unwrap();
        let send = |body: &str, patient: &str, value| {
            sending(body)
                .of(&[patient], vec![hb(body, value)])
                .to(target)
        };
        // One whose Flag stands and is delivered, one whose delivery waits, one with nothing.
        send("a", "stands", 90).receipt(&store).await;
        let leased = store.lease(target, NOW, 1).await.unwrap().remove(0);
        let done = settlement(Next::Delivered, all_written(&leased), NOW);
        store.settle(&leased, done).await.unwrap();
        send("b", "waits", 150).receipt(&store).await;
        sending("c")
            .of(&["gone"], vec![hb("c", 150)])
            .receipt(&store)
            .await;
        let retention = Retention {
            timeline: Duration::days(1200),
            counted_from: CountedFrom::Clock,
            findings: Duration::days(3650),
        };
        let after = |days| NOW + Duration::days(days);
        let report = async |name: &str| {
            let id = report_id(&key(name));
            store
                .read("default", "DiagnosticReport", &id, None)
                .await
                .unwrap()
        };
        for (days, reports) in [(3649, [true, true, true]), (3651, [false, true, false])] {
            while store.expire(after(days)).await.unwrap() > 0 {}
            store
                .forget(retention, after(days), PatientId(0))
                .await
                .unwrap();
            for (name, held) in ["stands", "waits", "gone"].into_iter().zip(reports) {
                assert_eq!(
                    report(name).await.is_some(),
                    held,
                    "{name} after {days} days"
                );
            }
        }
        assert!(flag(&store, "stands").await.is_some());
        let known = |name: &str| store.find_patients("default", vec![key(name)]);
        assert_eq!(known("stands").await.unwrap().len(), 1);
        assert!(
            known("gone").await.unwrap().is_empty(),
            "nothing is left of it"
        );
        let open = store.lease(target, after(3651), 9).await.unwrap();
        assert_eq!(kinds(&open[0]), ["Device", "DiagnosticReport"]);
    }

    pub(super) async fn after_a_restore_everything_is_read_before_it_is_written(
        engine: &dyn Engine,
    ) {
        let store = engine.open();
        let target = store.target("main", "http://fhir.test").await.unwrap();
        let send =
            |body: &str, patient: &str| sending(body).of(&[patient], vec![hb(body, 90)]).to(target);
        send("a", "p1").receipt(&store).await;
        let leased = store.lease(target, NOW, 1).await.unwrap().remove(0);
        assert!(!leased.verify_first);
        let done = settlement(Next::Delivered, all_written(&leased), NOW);
        store.settle(&leased, done).await.unwrap();
        store.close().await.unwrap();
        drop(store);

        // One that was known, and one that is new, every time.
        let store = engine.restored();
        for (number, name) in ["p1", "p2", "p1", "p2"].into_iter().enumerate() {
            send(&format!("after {number}"), name).receipt(&store).await;
            let leased = store.lease(target, NOW, 1).await.unwrap().remove(0);
            assert!(leased.verify_first, "{name}");
            let done = settlement(Next::Delivered, all_written(&leased), NOW);
            store.settle(&leased, done).await.unwrap();
        }
        store.close().await.unwrap();
        drop(store);
        let store = engine.open();
        send("again", "p1").receipt(&store).await;
        let leased = store.lease(target, NOW, 1).await.unwrap().remove(0);
        assert!(!leased.verify_first);
        let report = leased
            .items
            .iter()
            .find(|item| item.kind == "DiagnosticReport")
            .unwrap();
        assert_eq!(report.written_revision, Some(report.revision - 1));
    }

    pub(super) async fn searches_find_current_versions_of_their_tenant(engine: &dyn Engine) {
        let store = engine.open();
        sending("a")
            .of(&["p1"], vec![hb("1", 90)])
            .receipt(&store)
            .await;
        sending("b")
            .of(&["p1"], vec![hb("1", 120)])
            .receipt(&store)
            .await;
        sending("c")
            .of(&["p2"], vec![hb("2", 80)])
            .receipt(&store)
            .await;
        let search = |tenant: &str, patients| Search {
            tenant: tenant.to_owned(),
            kind: "Flag".to_owned(),
            patients,
            limit: 10,
            ..Search::default()
        };
        let all = store.search(search("default", None)).await.unwrap();
        assert_eq!(all.resources.len(), 2);
        let one = store
            .find_patients("default", vec![key("p1")])
            .await
            .unwrap();
        let mine = store.search(search("default", Some(one))).await.unwrap();
        assert_eq!(mine.resources.len(), 1);
        assert_eq!(mine.resources[0].version, 2);
        assert_eq!(mine.resources[0].body["meta"]["versionId"], json!("2"));
        assert!(
            store
                .search(search("another", None))
                .await
                .unwrap()
                .resources
                .is_empty()
        );
        assert!(
            store
                .search(search("default", Some(Vec::new())))
                .await
                .unwrap()
                .resources
                .is_empty()
        );
        let first = store
            .read("default", "Flag", &flag_id(&key("p1")), Some(1))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(first.body["status"], json!("Active"));
        let other = store
            .read("another", "Flag", &flag_id(&key("p1")), None)
            .await
            .unwrap();
        assert!(other.is_none());
        // What is of no patient is of every tenant.
        assert!(
            store
                .read("another", "Device", "mf-device", None)
                .await
                .unwrap()
                .is_some()
        );
    }
}

macro_rules! every_engine {
    ($($promise:ident),* $(,)?) => {
        mod sqlite {
            use super::*;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    contract::$promise(&OnSqlite::new()).await;
                }
            )*
        }

        mod on_postgres {
            use super::*;

            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $promise() {
                    if let Some(engine) = OnPostgres::new(stringify!($promise)) {
                        contract::$promise(&engine).await;
                    }
                }
            )*
        }
    };
}

every_engine!(
    the_same_bundle_twice_is_answered_twice_and_done_once,
    a_key_for_another_body_is_refused,
    envelopes_decide_by_their_kind,
    a_repeat_runs_again_once_its_values_were_changed,
    several_keys_lead_to_one_patient_and_two_patients_to_none,
    two_new_patients_that_share_a_key_are_one,
    older_results_are_ignored,
    what_is_withdrawn_is_seen_as_withdrawn,
    an_id_given_by_put_is_known_and_may_change_patients,
    a_new_id_may_be_given_twice_in_one_submission,
    a_component_that_is_gone_is_not_used,
    a_result_may_come_twice_in_one_submission,
    receipts_are_forgotten_in_their_time,
    everything_about_a_value_comes_back,
    concurrent_senders_lose_nothing,
    a_panic_or_a_defect_costs_only_its_own_submission,
    what_was_acknowledged_survives_a_crash,
    it_stops_cleanly_and_starts_again,
    a_lane_is_leased_once_and_settled_by_its_owner,
    a_failed_send_waits_and_comes_back,
    newer_content_replaces_what_was_not_sent,
    what_may_stand_there_goes_with_what_replaces_it,
    parked_ones_are_stepped_over_and_come_back_on_command,
    the_urgent_go_first_and_the_longest_due_are_not_forgotten,
    a_probe_is_any_of_the_most_urgent,
    what_a_human_did_reaches_the_next_decision,
    an_open_flag_is_watched_by_what_does_not_write_it,
    what_was_decided_before_a_humans_edit_was_read,
    types_that_a_target_does_not_take_are_skipped,
    searches_find_current_versions_of_their_tenant,
    a_deleted_patient_is_nowhere_and_may_come_back,
    a_patient_is_deleted_before_or_after_what_is_filed,
    counts_and_facts_are_forgotten_in_their_time,
    findings_are_forgotten_in_their_time,
    after_a_restore_everything_is_read_before_it_is_written,
);

mod files {
    use super::*;

    #[tokio::test]
    async fn one_process_at_a_time() {
        let engine = OnSqlite::new();
        let store = engine.open();
        assert!(matches!(
            Sqlite::open(&options(&engine.path())),
            Err(OpenError::Locked { .. })
        ));
        store.close().await.unwrap();
        assert!(Sqlite::open(&options(&engine.path())).is_ok());
    }

    #[tokio::test]
    async fn another_key_is_refused_and_a_lost_one_is_not_replaced() {
        let engine = OnSqlite::new();
        engine.open().close().await.unwrap();
        let key_file = engine.directory.path().join("test.db.identity-key");
        let key = std::fs::read_to_string(&key_file).unwrap();
        assert_eq!(key.trim(), "07".repeat(32));
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(&key_file).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        std::fs::write(&key_file, "08".repeat(32)).unwrap();
        assert!(matches!(
            Sqlite::open(&options(&engine.path())),
            Err(OpenError::WrongIdentityKey { .. })
        ));
        std::fs::remove_file(&key_file).unwrap();
        assert!(matches!(
            Sqlite::open(&options(&engine.path())),
            Err(OpenError::Io { .. })
        ));
        assert!(!key_file.exists());
    }

    #[tokio::test]
    async fn what_is_not_ours_is_refused_and_left_as_it_is() {
        let refused = |bytes: &[u8]| {
            let engine = OnSqlite::new();
            std::fs::write(engine.path(), bytes).unwrap();
            let error = Sqlite::open(&options(&engine.path())).err();
            assert!(
                matches!(error, Some(OpenError::Unusable { .. })),
                "{error:?}"
            );
            assert_eq!(std::fs::read(engine.path()).unwrap(), bytes);
        };
        refused(b"not a database at all");
        // Of another program.
        let foreign = tempfile::tempdir().unwrap();
        let path = foreign.path().join("foreign.db");
        rusqlite::Connection::open(&path)
            .unwrap()
            .execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)")
            .unwrap();
        refused(&std::fs::read(&path).unwrap());
        // Ours, newer, and ours, damaged.
        let engine = OnSqlite::new();
        let store = engine.open();
        sending("a")
            .of(&["p1"], vec![hb("1", 90)])
            .receipt(&store)
            .await;
        store.close().await.unwrap();
        let ours = std::fs::read(engine.path()).unwrap();
        let newer = foreign.path().join("newer.db");
        std::fs::write(&newer, &ours).unwrap();
        rusqlite::Connection::open(&newer)
            .unwrap()
            .execute_batch(
                "PRAGMA journal_mode = DELETE; INSERT INTO schema_migration VALUES \
                 (1000, 'later', x'00', 0, '9.9.9')",
            )
            .unwrap();
        refused(&std::fs::read(&newer).unwrap());
        let truncated = &ours[..ours.len() / 2];
        let engine = OnSqlite::new();
        std::fs::write(engine.path(), truncated).unwrap();
        std::fs::write(
            engine.directory.path().join("test.db.identity-key"),
            "07".repeat(32),
        )
        .unwrap();
        assert!(Sqlite::open(&options(&engine.path())).is_err());
        assert_eq!(std::fs::read(engine.path()).unwrap(), truncated);
    }

    /// A courier asks for work all the time.
    #[tokio::test]
    async fn the_log_is_written_back_while_nothing_is_due() {
        let engine = OnSqlite::new();
        let store = engine.open();
        let target = store.target("t", "https://t.example/fhir").await.unwrap();
        sending("a")
            .of(&["p1"], vec![hb("1", 90)])
            .receipt(&store)
            .await;
        let mut log = store.figures().await.unwrap().wal_bytes;
        assert!(log > 0);
        for _ in 0..1_000 {
            assert!(store.lease(target, NOW, 8).await.unwrap().is_empty());
            log = store.figures().await.unwrap().wal_bytes;
            if log == 0 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        assert_eq!(log, 0);
    }

    #[tokio::test]
    async fn a_full_queue_refuses() {
        let engine = OnSqlite::new();
        let store: Arc<dyn Store> = Arc::new(
            Sqlite::open(&Options {
                queue: 0,
                ..options(&engine.path())
            })
            .unwrap(),
        );
        let refused = sending("a")
            .of(&["p1"], vec![hb("1", 90)])
            .accept(&store)
            .await;
        assert_eq!(refused.err(), Some(StoreError::Busy));
        assert!(timeline(&store, "p1").await.is_empty());
    }
}
