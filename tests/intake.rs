//! From bytes to a receipt, a Flag and a report that can be read, over the real store and model.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that fails here has found something"
)]

use std::sync::{Arc, LazyLock};

use marrowflag::{
    fhir::{
        submission::{Checker, Refusal, Release},
        write::identity,
    },
    intake::{
        AsOf, Intake, IntakeError, Interaction, Sent, Settings, assess_only,
        receipt::{EntryOutcome, Receipt},
    },
    store::{
        Store,
        delivery::{Class, Next},
        lease::{AttemptRecord, Fate, Leased, Settlement, TargetId, Written},
        reading::Search,
        sqlite::{Options, Sqlite},
        submission::OutboxTarget,
    },
};
use serde_json::{Value, json};
use time::{OffsetDateTime, macros::datetime};

const NOW: OffsetDateTime = datetime!(2026-11-20 12:00 UTC);

static CHECKER: LazyLock<Arc<Checker>> =
    LazyLock::new(|| Arc::new(Checker::new(Vec::new()).unwrap()));

struct Service {
    intake: Intake,
    store: Arc<dyn Store>,
    _directory: tempfile::TempDir,
}

fn start() -> Service {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new(directory.path().join("test.db"), NOW, [7; 32]);
    let store: Arc<dyn Store> = Arc::new(Sqlite::open(&options).unwrap());
    let settings = Settings {
        as_of: AsOf::Sampled,
        ..Settings::default()
    };
    Service {
        intake: Intake::new(Arc::clone(&store), Arc::clone(&CHECKER), settings),
        store,
        _directory: directory,
    }
}

fn sent(interaction: Interaction) -> Sent {
    Sent {
        tenant: Arc::from("default"),
        client: Arc::from("lab"),
        request_id: "r-1".to_owned(),
        received_at: NOW,
        release: Release::R4,
        idempotency_key: None,
        interaction,
    }
}

impl Service {
    /// From now on findings go to a FHIR server.
    async fn target(&self) -> TargetId {
        let target = self.store.target("main", "http://fhir.test").await;
        let target = target.unwrap();
        self.intake.set_targets(vec![OutboxTarget {
            id: target,
            unwritable: Vec::new(),
        }]);
        target
    }

    async fn post(&self, bundle: &Value) -> Result<Receipt, IntakeError> {
        self.send(Interaction::Bundle, bundle).await
    }

    async fn send(&self, interaction: Interaction, body: &Value) -> Result<Receipt, IntakeError> {
        let body = body.to_string().into_bytes();
        self.intake.accept(sent(interaction), body).await
    }

    async fn current(&self, kind: &str) -> Vec<Value> {
        let page = self
            .store
            .search(Search {
                tenant: "default".to_owned(),
                kind: kind.to_owned(),
                limit: 100,
                ..Search::default()
            })
            .await
            .unwrap();
        page.resources.into_iter().map(|one| one.body).collect()
    }
}

fn observation(code: &str, value: &str, unit: &str, at: &str, accession: &str) -> Value {
    json!({
        "resourceType": "Observation",
        "identifier": [{"system": "urn:lab:result", "value": format!("{accession}-{code}")}],
        "status": "final",
        "category": [{"coding": [{
            "system": "http://terminology.hl7.org/CodeSystem/observation-category",
            "code": "laboratory"}]}],
        "code": {"coding": [{"system": "http://loinc.org", "code": code}]},
        "subject": {"reference": "urn:uuid:11111111-1111-4111-8111-111111111111"},
        "effectiveDateTime": at,
        "specimen": {"identifier": {"system": "urn:lab:accession", "value": accession}},
        "valueQuantity": {
            "value": serde_json::from_str::<Value>(value).unwrap(),
            "unit": unit,
            "system": "http://unitsofmeasure.org",
            "code": unit
        }
    })
}

fn patient() -> Value {
    json!({
        "resourceType": "Patient",
        "identifier": [{"system": "urn:mrn", "value": "4711"}],
        "gender": "female",
        "birthDate": "1962-04-17"
    })
}

fn bundle(kind: &str, resources: Vec<Value>) -> Value {
    let entries: Vec<Value> = resources
        .into_iter()
        .map(|resource| {
            let name = resource["resourceType"].as_str().unwrap().to_owned();
            let mut entry = json!({"resource": resource});
            if name == "Patient" {
                entry["fullUrl"] = json!("urn:uuid:11111111-1111-4111-8111-111111111111");
            }
            if matches!(kind, "batch" | "transaction") {
                entry["request"] = json!({"method": "POST", "url": name});
            }
            entry
        })
        .collect();
    json!({"resourceType": "Bundle", "type": kind, "entry": entries})
}

/// Three lines low: haemoglobin, neutrophils, platelets.
fn pancytopenia(accession: &str, at: &str) -> Vec<Value> {
    vec![
        patient(),
        observation("718-7", "8.2", "g/dL", at, accession),
        observation("751-8", "0.9", "10*9/L", at, accession),
        observation("777-3", "41", "10*9/L", at, accession),
        observation("6690-2", "1.9", "10*9/L", at, accession),
    ]
}

const MORNING: &str = "2026-11-20T08:00:00Z";

#[tokio::test(flavor = "multi_thread")]
async fn a_pancytopenia_becomes_a_flag_and_a_report() {
    let service = start();
    let target = service.target().await;
    let receipt = service
        .post(&bundle("batch", pancytopenia("A1", MORNING)))
        .await
        .unwrap();
    let outcomes: Vec<bool> = receipt
        .entries
        .iter()
        .map(|entry| matches!(entry.outcome, EntryOutcome::Created { version: 1, .. }))
        .collect();
    assert_eq!(outcomes, [false, true, true, true, true]);
    assert_eq!(receipt.entries[0].outcome, EntryOutcome::Accepted);
    let note = receipt.entries[4].assessment.as_ref().unwrap();
    assert!(!note.headline.is_empty());
    let issue = receipt.entries[4]
        .issues
        .iter()
        .find(|issue| issue.word == "assessment")
        .unwrap();
    let named = issue.diagnostics.as_deref().unwrap();
    assert!(named.contains("DiagnosticReport/mf-") && named.contains("Flag/mf-"));

    let flags = service.current("Flag").await;
    assert_eq!(flags.len(), 1);
    assert_eq!(flags[0]["status"], json!("active"));
    assert_eq!(flags[0]["subject"]["identifier"]["value"], json!("4711"));
    let id = flags[0]["id"].as_str().unwrap();
    assert!(note.references.contains(&format!("Flag/{id}")));
    assert_eq!(service.current("DiagnosticReport").await.len(), 1);

    let leased = service.store.lease(target, NOW, 10).await.unwrap();
    let kinds: Vec<&str> = leased[0]
        .items
        .iter()
        .map(|item| item.kind.as_str())
        .collect();
    assert_eq!(kinds, ["Device", "DiagnosticReport", "Flag", "Provenance"]);
    assert_eq!(
        leased[0].patient_identifiers,
        [("urn:mrn".to_owned(), "4711".to_owned())]
    );
}

/// Takes the next delivery and settles it; a Flag in it ends as `fate` says. Its items.
async fn deliver(service: &Service, target: TargetId, fate: Fate) -> Leased {
    let leased = service.store.lease(target, NOW, 1).await.unwrap().remove(0);
    let done = leased
        .items
        .iter()
        .map(|item| Written {
            ordinal: item.ordinal,
            remote_id: None,
            etag: None,
            hash: None,
            fate: if item.kind == "Flag" {
                fate
            } else {
                Fate::Written
            },
        })
        .collect();
    let settlement = Settlement {
        next: Next::Delivered,
        attempt: AttemptRecord {
            started_at: NOW,
            ended_at: NOW,
            class: Class::Delivered,
            http_status: Some(200),
            outcome_code: None,
            retry_after_ms: None,
            reply: None,
        },
        items_done: done,
        reachable_ms: 0,
    };
    assert!(service.store.settle(&leased, settlement).await.unwrap());
    leased
}

/// Our copy closes at once, or with the next count when it did not come to that. The human's stays.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_human_closed_is_closed_here_and_not_sent() {
    let flag_of = |leased: &Leased| {
        leased
            .items
            .iter()
            .find(|item| item.kind == "Flag")
            .cloned()
    };
    for at_once in [true, false] {
        let service = start();
        let target = service.target().await;
        let count = async |accession: &str, at: &str, anc: &str| {
            let mut results = pancytopenia(accession, at);
            results[2] = observation("751-8", anc, "10*9/L", at, accession);
            service.post(&bundle("batch", results)).await.unwrap();
            service.current("Flag").await.remove(0)
        };
        let raised = count("A1", MORNING, "0.9").await;
        assert_eq!(raised["status"], "active");
        let closed = Fate::HumanEdited { inactive: true };
        let leased = deliver(&service, target, closed).await;
        if at_once {
            let (tenant, key) = (leased.tenant.as_str(), leased.patient_key);
            let done = service.intake.close(tenant, key, "r-2".to_owned(), NOW);
            done.await.unwrap();
            let flag = service.current("Flag").await.remove(0);
            assert_eq!(flag["status"], "inactive");
            assert_eq!(flag["period"]["start"], raised["period"]["start"]);
            let due = service.store.lease(target, NOW, 1).await.unwrap();
            assert!(due.is_empty(), "{due:?}");
        }
        let flag = count("A2", "2026-11-20T09:00:00Z", "0.9").await;
        assert_eq!(flag["status"], "inactive", "at once: {at_once}");
        let leased = deliver(&service, target, Fate::Written).await;
        assert!(flag_of(&leased).is_none(), "at once: {at_once}");

        let flag = count("A3", "2026-11-20T10:00:00Z", "0.3").await;
        assert_eq!(flag["status"], "active");
        let leased = deliver(&service, target, Fate::Written).await;
        assert!(flag_of(&leased).unwrap().outranks_human);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_makes_no_patient() {
    let service = start();
    let done = service
        .intake
        .close("default", [9; 32], "r-1".to_owned(), NOW);
    done.await.unwrap();
    let found = service.store.find_patients("default", vec![[9; 32]]).await;
    assert!(found.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_again_changes_nothing() {
    let service = start();
    let first = bundle("batch", pancytopenia("A1", MORNING));
    let receipt = service.post(&first).await.unwrap();
    let again = service.post(&first).await.unwrap();
    assert!(again.replayed);
    assert_eq!(
        Receipt {
            replayed: false,
            ..again
        },
        receipt
    );
    // The same results in another Bundle: every entry is known.
    let mut other = first.clone();
    other["id"] = json!("another");
    let known = service.post(&other).await.unwrap();
    assert!(!known.replayed);
    assert!(
        known.entries[1..]
            .iter()
            .all(|entry| matches!(entry.outcome, EntryOutcome::Ok { version: 1, .. }))
    );
    assert_eq!(
        service.current("Flag").await[0]["meta"]["versionId"],
        json!("1")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_entry_costs_a_batch_itself_and_a_transaction_everything() {
    let service = start();
    let mut resources = pancytopenia("A1", MORNING);
    resources[2]["status"] = json!("finished");
    let batch = service
        .post(&bundle("batch", resources.clone()))
        .await
        .unwrap();
    assert_eq!(
        batch.entries[2].outcome,
        EntryOutcome::Refused(Refusal::Invalid)
    );
    assert!(matches!(
        batch.entries[3].outcome,
        EntryOutcome::Created { .. }
    ));

    let other = start();
    let refused = other.post(&bundle("transaction", resources)).await;
    let Err(IntakeError::Refused { refusal, issues }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(refusal, Refusal::Invalid);
    assert!(issues.iter().any(|issue| {
        issue
            .expression
            .as_deref()
            .is_some_and(|place| place.starts_with("Bundle.entry[2]"))
    }));
    assert!(other.current("Flag").await.is_empty());
    assert!(other.current("DiagnosticReport").await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn single_results_are_put_read_and_withdrawn() {
    let service = start();
    service
        .post(&bundle("batch", pancytopenia("A1", MORNING)))
        .await
        .unwrap();
    let mut single = observation("718-7", "7.9", "g/dL", "2026-11-20T10:00:00Z", "A2");
    single["subject"] = json!({"identifier": {"system": "urn:mrn", "value": "4711"}});
    single["id"] = json!("hb-2");
    let put = Interaction::Update {
        kind: "Observation".to_owned(),
        id: "hb-2".to_owned(),
        if_match: None,
    };
    let receipt = service.send(put.clone(), &single).await.unwrap();
    assert_eq!(
        receipt.entries[0].outcome,
        EntryOutcome::Created {
            id: "hb-2".to_owned(),
            version: 1
        }
    );
    assert!(receipt.entries[0].assessment.is_some());
    let again = service.send(put.clone(), &single).await.unwrap();
    assert!(matches!(
        again.entries[0].outcome,
        EntryOutcome::Ok { version: 1, .. }
    ));
    single["valueQuantity"]["value"] = json!(9);
    let changed = service.send(put, &single).await.unwrap();
    assert!(matches!(
        changed.entries[0].outcome,
        EntryOutcome::Ok { version: 2, .. }
    ));
    assert!(
        changed.entries[0]
            .issues
            .iter()
            .any(|issue| issue.word == "changed-final")
    );
    let stale = service
        .send(
            Interaction::Update {
                kind: "Observation".to_owned(),
                id: "hb-2".to_owned(),
                if_match: Some("W/\"1\"".to_owned()),
            },
            &single,
        )
        .await;
    assert!(matches!(
        stale,
        Err(IntakeError::Refused {
            refusal: Refusal::Precondition,
            ..
        })
    ));
    let held = service
        .store
        .read_sent("default", "lab", "Observation", "hb-2", None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(held.body["valueQuantity"]["value"], json!(9));
    let deleted = service
        .intake
        .accept(
            sent(Interaction::Delete {
                kind: "Observation".to_owned(),
                id: "hb-2".to_owned(),
                if_match: None,
            }),
            Vec::new(),
        )
        .await
        .unwrap();
    assert_eq!(deleted.entries[0].outcome, EntryOutcome::NoContent);
    let held = service
        .store
        .read_sent("default", "lab", "Observation", "hb-2", None)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(held.body["status"], json!("entered-in-error"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_rested_on_withdrawn_results_is_withdrawn() {
    let service = start();
    let mut resources = pancytopenia("A1", MORNING);
    service
        .post(&bundle("batch", resources.clone()))
        .await
        .unwrap();
    for one in &mut resources[1..] {
        one["status"] = json!("entered-in-error");
    }
    let receipt = service.post(&bundle("batch", resources)).await.unwrap();
    assert!(
        receipt.entries[1..]
            .iter()
            .all(|entry| matches!(entry.outcome, EntryOutcome::Ok { version: 2, .. }))
    );
    for kind in ["Flag", "DiagnosticReport"] {
        let held = service.current(kind).await.remove(0);
        assert_eq!(held["status"], json!("entered-in-error"), "{kind}");
        // One count for both: what readers see as version is what targets see as revision.
        assert_eq!(held["meta"]["versionId"], json!("2"), "{kind}");
        let source = held["meta"]["source"].as_str().unwrap();
        assert!(source.ends_with("/revision/2"), "{kind}: {source}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_order_of_arrival_changes_nothing() {
    let mut ends = Vec::new();
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        let service = start();
        let days = [
            ("A1", "2026-09-01T08:00:00Z"),
            ("A2", "2026-10-01T08:00:00Z"),
            ("A3", "2026-11-20T08:00:00Z"),
        ];
        for position in order {
            let (accession, at) = days[position];
            let sent = bundle("batch", pancytopenia(accession, at));
            service.post(&sent).await.unwrap();
        }
        let flag = service.current("Flag").await.remove(0);
        ends.push((
            flag["id"].clone(),
            flag["status"].clone(),
            flag["code"].clone(),
            flag["period"]["start"].clone(),
        ));
    }
    assert_eq!(ends[0], ends[1]);
    assert_eq!(ends[0], ends[2]);
    assert!(ends[0].3.as_str().unwrap().starts_with("2026-09-01"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_may_read_what_is_held() {
    let service = start();
    let receipt = service
        .post(&bundle("batch", pancytopenia("A1", MORNING)))
        .await
        .unwrap();
    let EntryOutcome::Created { id, .. } = &receipt.entries[1].outcome else {
        panic!("stored");
    };
    let flag = service.current("Flag").await[0]["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let get = |url: String| json!({"request": {"method": "GET", "url": url}});
    let reads = json!({"resourceType": "Bundle", "type": "batch", "entry": [
        get(format!("Observation/{id}")),
        get(format!("Flag/{flag}")),
        get("Flag/mf-nothing".to_owned()),
    ]});
    let receipt = service.post(&reads).await.unwrap();
    let found = |position: usize| match &receipt.entries[position].outcome {
        EntryOutcome::Found(held) => held.body["resourceType"].clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(found(0), json!("Observation"));
    assert_eq!(found(1), json!("Flag"));
    assert_eq!(receipt.entries[2].outcome, EntryOutcome::Missing);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patient_is_found_by_what_the_sender_wrote() {
    let service = start();
    let mut resources = pancytopenia("A1", MORNING);
    resources.remove(0);
    for one in &mut resources {
        one["subject"] = json!({"reference": "Patient/p1"});
    }
    service.post(&bundle("batch", resources)).await.unwrap();
    let key = |client: &str, reference: &str| {
        identity::patient_key(
            service.store.identity_key().as_bytes(),
            "default",
            client,
            &marrowflag::fhir::read::PatientKey::Reference(reference.to_owned()),
        )
    };
    let found = |keys| service.store.find_patients("default", keys);
    assert_eq!(
        found(vec![key("lab", "Patient/p1")]).await.unwrap().len(),
        1
    );
    assert!(
        found(vec![key("ward", "Patient/p1")])
            .await
            .unwrap()
            .is_empty()
    );
    let known = service
        .store
        .patient(
            "default",
            found(vec![key("lab", "Patient/p1")]).await.unwrap()[0],
        )
        .await
        .unwrap()
        .unwrap();
    assert_eq!(known.timeline.measurements.len(), 4);
    assert_eq!(known.references, ["Patient/p1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_fhir_is_refused_and_leaves_no_trace() {
    let service = start();
    for body in [
        &b""[..],
        b"{",
        b"[]",
        b"null",
        b"{\"resourceType\":\"Bundle\"}",
        b"{\"resourceType\":\"Bundle\",\"type\":\"searchset\"}",
        b"{\"resourceType\":\"Observation\",\"status\":\"final\"}",
        b"\xff\xfe",
    ] {
        let answer = service
            .intake
            .accept(sent(Interaction::Bundle), body.to_vec())
            .await;
        assert!(
            matches!(&answer, Err(IntakeError::Refused { issues, .. }) if !issues.is_empty()),
            "{}: {answer:?}",
            String::from_utf8_lossy(body)
        );
    }
    let empty = json!({"resourceType": "Bundle", "type": "batch"});
    assert!(service.post(&empty).await.unwrap().entries.is_empty());
    assert!(service.current("Flag").await.is_empty());
}

#[test]
fn assessing_stores_nothing_and_knows_several_patients() {
    let settings = Settings {
        as_of: AsOf::Sampled,
        ..Settings::default()
    };
    let mut resources = pancytopenia("A1", MORNING);
    for mut one in pancytopenia("B1", MORNING).split_off(1) {
        one["subject"] = json!({"reference": "Patient/p2"});
        resources.push(one);
    }
    let body = bundle("collection", resources).to_string();
    let assessed = assess_only(&CHECKER, &settings, Release::R4, body.as_bytes(), NOW).unwrap();
    assert_eq!(assessed.patients.len(), 2);
    let made = assessed.bundle();
    assert_eq!(made["type"], json!("transaction"));
    let count = |kind: &str| {
        made["entry"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|entry| entry["resource"]["resourceType"] == json!(kind))
            .count()
    };
    // The second patient's age is not known: no pattern can be said, so no Flag.
    assert_eq!(
        (count("Device"), count("Flag"), count("DiagnosticReport")),
        (1, 1, 2)
    );
    let again = assess_only(&CHECKER, &settings, Release::R4, body.as_bytes(), NOW).unwrap();
    assert_eq!(again.bundle(), made);
}
