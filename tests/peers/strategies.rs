//! Writing to real engines. Medplum's gives every resource an id of its own, rolls nothing back,
//! and takes at most eight entries in a transaction with conditions: it is written to by identifier,
//! one resource after another. HAPI's takes our ids, without saying so: it gets transactions.

use marrowflag::store::{
    delivery::{First, Outcome},
    lease::{Fate, Leased},
};
use serde_json::{Value, json};

use crate::{
    deliveries::{CANON, MRN, again, fate, four, known, leased, send},
    engines::{self, Engine},
};

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
    a_finding_is_found_by_the_servers_own_search
    a_second_delivery_makes_no_second_resource
    a_later_revision_is_a_new_version_of_the_same_flag
    a_humans_edit_of_the_flag_is_kept_until_it_is_outranked
    an_edit_that_changes_nothing_of_substance_is_written_over
    patients_are_found_by_identifier_and_never_made
    eight_at_once_make_one_device
}

on! { hapi:
    a_finding_is_found_by_the_servers_own_search
    a_second_delivery_makes_no_second_resource
    a_later_revision_is_a_new_version_of_the_same_flag
    a_humans_edit_of_the_flag_is_kept_until_it_is_outranked
    an_edit_that_changes_nothing_of_substance_is_written_over
    patients_are_found_by_identifier_and_never_made
    eight_at_once_make_one_device
    what_a_human_deleted_stays_deleted
}

/// Makes a patient with this number; the id there.
async fn patient(engine: &Engine, mrn: &str) -> String {
    let patient = json!({"resourceType": "Patient", "identifier": [{"system": MRN, "value": mrn}]});
    engine.create(&patient).await
}

async fn by_identifier(engine: &Engine, kind: &str, mrn: &str) -> Vec<Value> {
    let (system, name) = match kind {
        "Flag" => ("mf-flag", "flag"),
        _ => ("mf-report", "report"),
    };
    let identifier = format!("{CANON}/NamingSystem/{system}%7Cmf-{name}-{mrn}-value");
    engine
        .search(&format!("{kind}?identifier={identifier}"))
        .await
}

/// The four resources of an assessment, as the store leases them after `sent`.
fn revision(mrn: &str, hash: &str, status: &str, sent: &marrowflag::fhir_server::Sent) -> Leased {
    let items = four(mrn, hash, status, hash);
    let items = items.into_iter().map(|item| match item.kind.as_str() {
        "Provenance" => item,
        _ => known(item, &sent.items),
    });
    leased(mrn, items.collect())
}

async fn a_finding_is_found_by_the_servers_own_search(engine: &Engine) {
    let id = patient(engine, "s1").await;
    let target = engine.server();
    let sent = send(&target, &leased("s1", four("s1", "a", "active", "low"))).await;
    assert_eq!(sent.outcome, Outcome::Delivered, "{:?}", sent.reply);
    assert!(
        sent.items
            .iter()
            .all(|written| written.fate == Fate::Written)
    );

    let flags = engine.search(&format!("Flag?patient={id}")).await;
    let reports = engine
        .search(&format!("DiagnosticReport?subject=Patient/{id}"))
        .await;
    assert_eq!((flags.len(), reports.len()), (1, 1));
    let (flag, report) = (&flags[0], &reports[0]);
    assert_eq!(flag["subject"]["reference"], format!("Patient/{id}"));
    let place = |resource: &Value| {
        let text = |name: &str| resource[name].as_str().unwrap().to_owned();
        format!("{}/{}", text("resourceType"), text("id"))
    };
    let detail = &flag["extension"][0]["valueReference"]["reference"];
    assert_eq!(
        *detail,
        json!(place(report)),
        "references carry the server's ids"
    );
    let device = flag["author"]["reference"].as_str().unwrap();
    let devices = engine.search(&format!("Device?_id={}", &device[7..])).await;
    assert_eq!(devices.len(), 1);
    let provenance = engine
        .search(&format!("Provenance?target={}", place(flag)))
        .await;
    assert_eq!(provenance.len(), 1);
    assert_eq!(
        provenance[0]["target"][1]["reference"],
        json!(place(report))
    );
}

async fn a_second_delivery_makes_no_second_resource(engine: &Engine) {
    let id = patient(engine, "s2").await;
    let target = engine.server();
    let lease = leased("s2", four("s2", "a", "active", "low"));
    let first = send(&target, &lease).await;
    assert_eq!(first.outcome, Outcome::Delivered, "{:?}", first.reply);

    // As after a crash between the answer and the settlement: nothing is remembered.
    let after_crash = Leased {
        verify_first: true,
        ..lease.clone()
    };
    let second = send(&target, &after_crash).await;
    assert_eq!(second.outcome, Outcome::Delivered, "{:?}", second.reply);
    let flag = &by_identifier(engine, "Flag", "s2").await[0];
    let place = format!("Flag/{}", flag["id"].as_str().unwrap());
    assert_eq!(engine.versions(&place).await, 1, "it was read, not written");
    let provenance = engine.search(&format!("Provenance?target={place}")).await;
    assert_eq!(provenance.len(), 1);

    // Even without reading first the identifier holds it together.
    let blind = Leased {
        items: lease.items.iter().take(3).cloned().collect(),
        first: First::Nothing,
        ..lease
    };
    let third = send(&target, &blind).await;
    assert_eq!(third.outcome, Outcome::Delivered);
    assert_eq!(by_identifier(engine, "Flag", "s2").await.len(), 1);
    assert_eq!(
        by_identifier(engine, "DiagnosticReport", "s2").await.len(),
        1
    );
    assert_eq!(engine.search(&format!("Flag?patient={id}")).await.len(), 1);
}

async fn a_later_revision_is_a_new_version_of_the_same_flag(engine: &Engine) {
    patient(engine, "s3").await;
    let target = engine.server();
    let sent = send(&target, &leased("s3", four("s3", "a", "active", "a"))).await;
    let sent = send(&target, &revision("s3", "b", "inactive", &sent)).await;
    assert_eq!(sent.outcome, Outcome::Delivered, "{:?}", sent.reply);
    let flags = by_identifier(engine, "Flag", "s3").await;
    assert_eq!(flags.len(), 1);
    assert_eq!(flags[0]["status"], "inactive");
    let place = format!("Flag/{}", flags[0]["id"].as_str().unwrap());
    assert_eq!(engine.versions(&place).await, 2);
}

async fn a_humans_edit_of_the_flag_is_kept_until_it_is_outranked(engine: &Engine) {
    patient(engine, "s4").await;
    let target = engine.server();
    let first = send(&target, &leased("s4", four("s4", "a", "active", "a"))).await;
    let flag = first
        .items
        .iter()
        .find(|written| written.ordinal == 2)
        .unwrap();
    let place = format!("Flag/{}", flag.remote_id.as_ref().unwrap());
    engine
        .edit(&place, |flag| flag["status"] = json!("inactive"))
        .await;

    let kept = send(&target, &revision("s4", "b", "active", &first)).await;
    assert_eq!(kept.outcome, Outcome::Delivered, "{:?}", kept.reply);
    assert_eq!(fate(&kept, 2), Some(Fate::HumanEdited { inactive: true }));
    assert_eq!(fate(&kept, 1), Some(Fate::Written));
    assert_eq!(
        by_identifier(engine, "Flag", "s4").await[0]["status"],
        "inactive"
    );

    // The human edits once more, so that our version is stale, and then it gets worse.
    engine
        .edit(&place, |flag| flag["code"]["text"] = json!("known to us"))
        .await;
    let mut worse = revision("s4", "c", "active", &kept);
    worse.items[2].outranks_human = true;
    let written = send(&target, &worse).await;
    assert_eq!(
        fate(&written, 2),
        Some(Fate::Written),
        "{:?}",
        written.reply
    );
    let flags = by_identifier(engine, "Flag", "s4").await;
    assert_eq!(flags.len(), 1);
    assert_eq!(flags[0]["status"], "active");
    assert_eq!(flags[0]["code"]["text"], "c");
}

async fn an_edit_that_changes_nothing_of_substance_is_written_over(engine: &Engine) {
    patient(engine, "s5").await;
    let target = engine.server();
    let first = send(&target, &leased("s5", four("s5", "a", "active", "a"))).await;
    let flag = first
        .items
        .iter()
        .find(|written| written.ordinal == 2)
        .unwrap();
    let place = format!("Flag/{}", flag.remote_id.as_ref().unwrap());
    engine
        .edit(&place, |flag| flag["language"] = json!("en"))
        .await;
    let sent = send(&target, &revision("s5", "b", "active", &first)).await;
    assert_eq!(
        fate(&sent, 2),
        Some(Fate::Written),
        "If-Match was stale, and read again"
    );
    assert_eq!(
        by_identifier(engine, "Flag", "s5").await[0]["code"]["text"],
        "b"
    );
}

async fn patients_are_found_by_identifier_and_never_made(engine: &Engine) {
    let target = engine.server();
    let sent = send(&target, &leased("s6", four("s6", "a", "active", "a"))).await;
    assert_eq!(sent.outcome, Outcome::PatientUnknown);
    patient(engine, "s6").await;
    patient(engine, "s6").await;
    let sent = send(&target, &leased("s6", four("s6", "a", "active", "a"))).await;
    assert_eq!(sent.outcome, Outcome::MultipleMatches);
    assert!(by_identifier(engine, "Flag", "s6").await.is_empty());
}

async fn eight_at_once_make_one_device(engine: &Engine) {
    let mrns: Vec<_> = (0..8).map(|number| format!("s7-{number}")).collect();
    for mrn in &mrns {
        patient(engine, mrn).await;
    }
    let target = engine.server();
    let target = &target;
    let sends = mrns.iter().map(|mrn| async move {
        let mut lease = leased(mrn, four(mrn, "a", "active", "low"));
        // A conflict over the shared Device is repeated, as the courier would.
        for _ in 0..5 {
            let sent = send(target, &lease).await;
            if sent.outcome == Outcome::Delivered {
                return;
            }
            assert_eq!(sent.outcome, Outcome::Conflict, "{:?}", sent.reply);
            lease = again(&lease, &sent);
        }
        panic!("{mrn} is not delivered");
    });
    futures_util::future::join_all(sends).await;
    for mrn in &mrns {
        assert_eq!(by_identifier(engine, "Flag", mrn).await.len(), 1);
    }
    let identifier = format!("{CANON}/NamingSystem/mf-device%7Cmf-device-value");
    let devices = engine
        .search(&format!("Device?identifier={identifier}"))
        .await;
    assert_eq!(devices.len(), 1);
}

/// HAPI tells a deleted resource (410) from one that never was (404).
async fn what_a_human_deleted_stays_deleted(engine: &Engine) {
    patient(engine, "s8").await;
    let target = engine.server();
    let first = send(&target, &leased("s8", four("s8", "a", "active", "a"))).await;
    // HAPI deletes nothing that is still pointed to.
    engine.delete("Provenance/mf-prov-s8-a").await;
    engine.delete("Flag/mf-flag-s8").await;
    let sent = send(&target, &revision("s8", "b", "active", &first)).await;
    assert_eq!(sent.outcome, Outcome::Delivered, "{:?}", sent.reply);
    assert_eq!(fate(&sent, 2), Some(Fate::HumanDeleted));
    assert_eq!(fate(&sent, 1), Some(Fate::Written));
    let provenance = engine
        .search("Provenance?target=DiagnosticReport/mf-report-s8")
        .await;
    assert_eq!(provenance.len(), 1, "of the report alone");
    assert!(by_identifier(engine, "Flag", "s8").await.is_empty());
}
