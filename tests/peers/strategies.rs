//! Writing to Medplum's engine: it gives every resource an id of its own, rolls nothing back, and
//! takes at most eight entries in a transaction with conditions; so it is written to by identifier,
//! one resource after another.

use marrowflag::store::{
    delivery::{First, Outcome},
    lease::{Fate, Leased},
};
use serde_json::{Value, json};

use crate::{
    deliveries::{CANON, MRN, fate, four, known, leased, send, server},
    medplum::{Medplum, medplum},
};

/// Makes a patient with this number; the id there.
async fn patient(engine: &Medplum, mrn: &str) -> String {
    let patient = json!({"resourceType": "Patient", "identifier": [{"system": MRN, "value": mrn}]});
    engine.create(&patient).await
}

async fn by_identifier(engine: &Medplum, kind: &str, mrn: &str) -> Vec<Value> {
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

#[tokio::test]
async fn a_finding_is_found_by_the_servers_own_search() {
    let Some(engine) = medplum("a_finding_is_found_by_the_servers_own_search") else {
        return;
    };
    let id = patient(engine, "s1").await;
    let target = server(&engine.base);
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

#[tokio::test]
async fn a_second_delivery_makes_no_second_resource() {
    let Some(engine) = medplum("a_second_delivery_makes_no_second_resource") else {
        return;
    };
    let id = patient(engine, "s2").await;
    let target = server(&engine.base);
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

#[tokio::test]
async fn a_later_revision_is_a_new_version_of_the_same_flag() {
    let Some(engine) = medplum("a_later_revision_is_a_new_version_of_the_same_flag") else {
        return;
    };
    patient(engine, "s3").await;
    let target = server(&engine.base);
    let sent = send(&target, &leased("s3", four("s3", "a", "active", "a"))).await;
    let sent = send(&target, &revision("s3", "b", "inactive", &sent)).await;
    assert_eq!(sent.outcome, Outcome::Delivered, "{:?}", sent.reply);
    let flags = by_identifier(engine, "Flag", "s3").await;
    assert_eq!(flags.len(), 1);
    assert_eq!(flags[0]["status"], "inactive");
    let place = format!("Flag/{}", flags[0]["id"].as_str().unwrap());
    assert_eq!(engine.versions(&place).await, 2);
}

#[tokio::test]
async fn a_humans_edit_of_the_flag_is_kept_until_it_is_outranked() {
    let Some(engine) = medplum("a_humans_edit_of_the_flag_is_kept_until_it_is_outranked") else {
        return;
    };
    patient(engine, "s4").await;
    let target = server(&engine.base);
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

#[tokio::test]
async fn an_edit_that_changes_nothing_of_substance_is_written_over() {
    let Some(engine) = medplum("an_edit_that_changes_nothing_of_substance_is_written_over") else {
        return;
    };
    patient(engine, "s5").await;
    let target = server(&engine.base);
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

#[tokio::test]
async fn patients_are_found_by_identifier_and_never_made() {
    let Some(engine) = medplum("patients_are_found_by_identifier_and_never_made") else {
        return;
    };
    let target = server(&engine.base);
    let sent = send(&target, &leased("s6", four("s6", "a", "active", "a"))).await;
    assert_eq!(sent.outcome, Outcome::PatientUnknown);
    patient(engine, "s6").await;
    patient(engine, "s6").await;
    let sent = send(&target, &leased("s6", four("s6", "a", "active", "a"))).await;
    assert_eq!(sent.outcome, Outcome::MultipleMatches);
    assert!(by_identifier(engine, "Flag", "s6").await.is_empty());
}
