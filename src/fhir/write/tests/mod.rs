//! What is written: shape, words, identities. The profiles have their own tests in `profiles`.

mod profiles;
mod samples;
mod wording;

use insta::assert_snapshot;
use serde_json::{Value, json};
use time::macros::datetime;

use self::samples::{change, context, key, pancytopenia, raised, subject};
use super::*;
use crate::{
    clinical::{
        assessment::{Assessment, Family, Grade, IndexSpecimen, Urgency, Verdict},
        quantity::Interval,
        time::{Precision, SampleTime},
        truth::Truth,
    },
    fhir::write::identity,
};

fn of<'r>(resources: &'r [Resource], kind: &str) -> Vec<&'r Resource> {
    resources
        .iter()
        .filter(|resource| resource.kind == kind)
        .collect()
}

fn only<'r>(resources: &'r [Resource], kind: &str) -> &'r Value {
    let found = of(resources, kind);
    assert_eq!(found.len(), 1, "{kind}");
    &found[0].body
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap()
}

#[test]
fn identities_are_the_frozen_ones() {
    let key = key();
    assert_eq!(
        data_encoding::HEXLOWER.encode(&key),
        "0d4c6f154017b819bd239789939f728d75c8ab5e65fc8dfa28abf8491bee8ee7"
    );
    assert_eq!(
        identity::flag_identifier("default", &key, Family::Pancytopenia),
        "AQ5BG7WYHSLVTNBVQZWLWW67HW"
    );
    assert_eq!(
        identity::flag_id("default", &key, Family::Pancytopenia),
        "mf-e930a7af-ab6b-5c24-a628-e5e2e595a69f"
    );
    let index = pancytopenia().index.unwrap();
    assert_eq!(
        identity::report_identifier("default", &key, &index),
        "AEQOQPYN2LS4QDTS5XWBEQ6JTZ"
    );
    assert_eq!(
        identity::report_id("default", &key, &index),
        "mf-6150e266-c144-5b0e-98e0-023a3974d107"
    );
    assert_eq!(
        identity::observation_id("AEQOQPYN2LS4QDTS5XWBEQ6JTZ", "summary"),
        "mf-462a53c6-bd73-5d73-a3f1-d25df8365742"
    );
    let provenance = identity::provenance_identifier(&[
        ("Flag/b".into(), "0000000000000002".into()),
        ("DiagnosticReport/a".into(), "0000000000000001".into()),
    ]);
    assert_eq!(provenance, "0d530c5d-da38-5867-b0a5-4b5e4f7a23af");
    assert_eq!(
        identity::content_hash(
            &json!({"resourceType": "Flag", "a": {"b": [1, serde_json::from_str::<Value>("6.40").unwrap(), "é\n"]}})
        ),
        "a0a047c61bc9d9f0"
    );
}

#[test]
fn a_severe_pancytopenia_is_written_whole() {
    let (key, subject) = (key(), subject());
    let mut ctx = context(&key, &subject);
    ctx.inbound = Some(("https://lab.example/bundles".into(), "B-1".into()));
    let bundle = writeback_bundle(&resources(&raised(), &ctx));
    assert_snapshot!("severe_pancytopenia", pretty(&bundle));
}

#[test]
fn every_switch_shows() {
    let (key, subject) = (key(), subject());
    let mut ctx = context(&key, &subject);
    ctx.organization = Some(("https://hospital.example/org".into(), "haem".into()));
    ctx.snomed = true;
    ctx.insecure = true;
    ctx.observations = true;
    ctx.encounter = Some("Encounter/e1");
    let orders = ["https://lab.example/orders|O-1".to_owned()];
    ctx.based_on = &orders;
    let bundle = writeback_bundle(&resources(&raised(), &ctx));
    assert_snapshot!("every_switch", pretty(&bundle));
}

#[test]
fn the_same_decision_gives_the_same_bytes() {
    let (key, subject) = (key(), subject());
    let ctx = context(&key, &subject);
    let bytes = || serde_json::to_vec(&writeback_bundle(&resources(&raised(), &ctx))).unwrap();
    assert_eq!(bytes(), bytes());
}

#[test]
fn resources_come_in_sending_order() {
    let (key, subject) = (key(), subject());
    let made = resources(&raised(), &context(&key, &subject));
    let kinds: Vec<_> = made.iter().map(|resource| resource.kind).collect();
    assert_eq!(
        kinds,
        [
            "Device",
            "Observation",
            "Observation",
            "Observation",
            "Observation",
            "Observation",
            "DiagnosticReport",
            "Flag",
            "Provenance"
        ]
    );
    let kinds: Vec<String> = writeback_bundle(&made)["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            entry["resource"]["resourceType"]
                .as_str()
                .unwrap()
                .to_owned()
        })
        .collect();
    assert_eq!(kinds, ["Device", "DiagnosticReport", "Flag", "Provenance"]);
}

#[test]
fn nothing_to_write_gives_a_bundle_without_entries() {
    let (key, subject) = (key(), subject());
    let made = resources(&samples::unremarkable(), &context(&key, &subject));
    assert!(made.is_empty());
    assert_eq!(
        writeback_bundle(&made),
        json!({"resourceType": "Bundle", "type": "transaction"})
    );
}

#[test]
fn the_same_content_again_is_no_news_even_later() {
    let (key, subject) = (key(), subject());
    let first = resources(&raised(), &context(&key, &subject));
    let mut later = raised();
    later.assessment.as_of = datetime!(2026-11-20 12:00 UTC);
    let mut ctx = context(&key, &subject);
    ctx.previous = &first;
    assert_eq!(resources(&later, &ctx), Vec::new());
}

#[test]
fn a_change_is_the_next_revision_and_leaves_the_rest_alone() {
    let (key, subject) = (key(), subject());
    let first = resources(&raised(), &context(&key, &subject));
    let mut ctx = context(&key, &subject);
    ctx.previous = &first;
    let mut escalated = raised();
    escalated.flags[0].finding.urgency = Urgency::U4;
    escalated.flags[0].why = "escalated";
    let second = resources(&escalated, &ctx);
    let kinds: Vec<_> = second.iter().map(|resource| resource.kind).collect();
    assert_eq!(kinds, ["Device", "Flag", "Provenance"]);
    let flag = only(&second, "Flag");
    assert_eq!(
        flag["meta"]["source"],
        "https://marrowflag.org/fhir/revision/2"
    );
    assert_eq!(flag["category"][1]["coding"][0]["code"], "safety");
    let provenance = only(&second, "Provenance");
    assert_eq!(provenance["activity"]["coding"][0]["code"], "UPDATE");
    assert_eq!(provenance["reason"][0]["text"], "escalated");
    assert_ne!(
        of(&first, "Provenance")[0].id,
        of(&second, "Provenance")[0].id
    );
}

#[test]
fn affected_names_what_resources_looks_for() {
    let (key, subject) = (key(), subject());
    let made = resources(&raised(), &context(&key, &subject));
    let affected = affected(&raised(), "default", &key);
    for resource in made
        .iter()
        .filter(|resource| !matches!(resource.kind, "Device" | "Provenance"))
    {
        assert!(affected.contains(&(resource.kind, resource.id.clone())));
    }
}

#[test]
fn a_stored_version_reads_back_as_it_was() {
    let (key, subject) = (key(), subject());
    for resource in resources(&raised(), &context(&key, &subject)) {
        let mut body = resource.body.clone();
        body["meta"]["versionId"] = json!("3");
        body["meta"]["lastUpdated"] = json!("2026-11-18T09:00:00Z");
        let back = Resource::stored(body).unwrap();
        assert_eq!(back.content_hash, resource.content_hash);
        assert_eq!(back.identifier, resource.identifier);
        assert_eq!(back.revision(), 1);
    }
}

#[test]
fn a_flag_that_closes_keeps_its_code_and_gets_an_end() {
    let (key, subject) = (key(), subject());
    let first = resources(&raised(), &context(&key, &subject));
    let mut ctx = context(&key, &subject);
    ctx.previous = &first;
    let mut recovered = samples::unremarkable();
    recovered.flags = vec![change(FlagState::Inactive, "recovered")];
    recovered.reports = vec![ReportChange::Write];
    let made = resources(&recovered, &ctx);
    let flag = only(&made, "Flag");
    let before = only(&first, "Flag");
    assert_eq!(flag["status"], "inactive");
    assert_eq!(flag["period"]["end"], "2026-11-18T08:15:00+01:00");
    assert_eq!(flag["code"], before["code"]);
    let conclusion = only(&made, "DiagnosticReport")["conclusion"]
        .as_str()
        .unwrap();
    assert!(conclusion.contains("No cytopenia pattern in the results received."));
}

#[test]
fn an_inactive_flag_without_history_still_has_an_end() {
    let (key, subject) = (key(), subject());
    let mut decision = raised();
    decision.flags = vec![change(FlagState::Inactive, "family changed")];
    decision.flags[0].finding.episode_end = None;
    let made = resources(&decision, &context(&key, &subject));
    assert!(only(&made, "Flag")["period"]["end"].is_string());
}

#[test]
fn the_open_flag_comes_before_the_one_it_replaces() {
    let (key, subject) = (key(), subject());
    let mut decision = raised();
    let mut closing = change(FlagState::Inactive, "family changed");
    closing.finding.family = Family::Neutropenia;
    closing.finding.slug = "neutropenia".into();
    decision.flags.insert(0, closing);
    let made = resources(&decision, &context(&key, &subject));
    let states: Vec<_> = of(&made, "Flag")
        .iter()
        .map(|flag| flag.body["status"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["active", "inactive"]);
    let flags = of(&made, "Flag");
    assert_ne!(flags[0].id, flags[1].id);
}

#[test]
fn what_rested_on_a_withdrawn_result_is_entered_in_error() {
    let (key, subject) = (key(), subject());
    let mut ctx = context(&key, &subject);
    let first = resources(&raised(), &ctx);
    ctx.previous = &first;
    let mut withdrawn = samples::unremarkable();
    withdrawn.assessment.index = None;
    withdrawn.flags = vec![change(FlagState::EnteredInError, "withdrawn")];
    withdrawn.reports = vec![ReportChange::Retract(pancytopenia().index.unwrap())];
    let made = resources(&withdrawn, &ctx);
    for kind in ["Flag", "DiagnosticReport"] {
        let before = only(&first, kind);
        let body = only(&made, kind);
        assert_eq!(body["status"], "entered-in-error");
        assert_eq!(body["code"], before["code"]);
        assert_eq!(body["period"], before["period"]);
        assert_eq!(
            body["meta"]["source"],
            "https://marrowflag.org/fhir/revision/2"
        );
        assert!(body["text"]["div"].as_str().unwrap().contains("withdrawn"));
    }
    for observation in of(&made, "Observation") {
        assert_eq!(observation.body["status"], "entered-in-error");
    }
    assert_eq!(of(&made, "Observation").len(), 5);
}

#[test]
fn only_a_report_that_was_written_is_rewritten_or_withdrawn() {
    let (key, subject) = (key(), subject());
    let mut decision = samples::unremarkable();
    decision.reports = vec![
        ReportChange::Retract(pancytopenia().index.unwrap()),
        ReportChange::Rewrite(Box::new(pancytopenia())),
    ];
    assert!(resources(&decision, &context(&key, &subject)).is_empty());
}

#[test]
fn one_specimen_is_one_entry_even_if_named_twice() {
    let (key, subject) = (key(), subject());
    let first = resources(&raised(), &context(&key, &subject));
    let mut ctx = context(&key, &subject);
    ctx.previous = &first;
    let mut decision = raised();
    decision.assessment.urgency = Urgency::U4;
    decision
        .reports
        .push(ReportChange::Rewrite(Box::new(pancytopenia())));
    assert_eq!(of(&resources(&decision, &ctx), "DiagnosticReport").len(), 1);
}

#[test]
fn patients_share_one_device_in_a_bundle() {
    let (key, subject) = (key(), subject());
    let other = [7; 32];
    let mut all = resources(&raised(), &context(&key, &subject));
    all.extend(resources(&raised(), &context(&other, &subject)));
    let bundle = writeback_bundle(&all);
    let kinds: Vec<_> = bundle["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["resource"]["resourceType"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "Device",
            "DiagnosticReport",
            "Flag",
            "Provenance",
            "DiagnosticReport",
            "Flag",
            "Provenance"
        ]
    );
}

#[test]
fn a_copy_for_a_server_names_its_patient_and_none_of_the_senders_places() {
    let (key, subject) = (key(), subject());
    let mut ctx = context(&key, &subject);
    ctx.encounter = Some("Encounter/e1");
    let orders = ["ServiceRequest/s1".to_owned()];
    ctx.based_on = &orders;
    let made = resources(&raised(), &ctx);
    let report = of(&made, "DiagnosticReport")[0];
    assert_eq!(report.body["subject"]["reference"], "Patient/p1");
    assert_eq!(report.body["encounter"]["reference"], "Encounter/e1");
    let copy = for_target(report, "77");
    assert_eq!(copy["subject"]["reference"], "Patient/77");
    assert_eq!(copy["subject"]["identifier"]["value"], "4711");
    assert!(copy.get("encounter").is_none() && copy.get("basedOn").is_none());
    let provenance = of(&made, "Provenance")[0];
    assert_eq!(for_target(provenance, "77"), provenance.body);
}

#[test]
fn the_page_is_what_hash_and_size_say() {
    use sha1::{Digest, Sha1};
    let (key, subject) = (key(), subject());
    let made = resources(&raised(), &context(&key, &subject));
    let form = &only(&made, "DiagnosticReport")["presentedForm"][0];
    let page = data_encoding::BASE64
        .decode(form["data"].as_str().unwrap().as_bytes())
        .unwrap();
    assert_eq!(form["size"], page.len());
    assert_eq!(
        form["hash"],
        data_encoding::BASE64.encode(&Sha1::digest(&page))
    );
    let page = String::from_utf8(page).unwrap();
    assert!(
        page.starts_with("U3 urgent: contact a clinician within 24 h\n"),
        "{page}"
    );
}

#[test]
fn a_rounded_number_never_crosses_its_limit() {
    let limit = Some("130".parse().unwrap());
    let print = |number: &str| words::interval(&Interval::exact(number.parse().unwrap()), 0, limit);
    assert_eq!(print("129.6"), "129.6");
    assert_eq!(print("129.96"), "129.96");
    assert_eq!(print("129.4"), "129");
    assert_eq!(print("130"), "130");
    let bounded = |interval: Interval| words::interval(&interval, 3, None);
    let tenth = "0.1".parse().unwrap();
    assert_eq!(bounded(Interval::below(tenth)), "<0.1");
    assert_eq!(bounded(Interval::at_most(tenth)), "<=0.1");
    assert_eq!(bounded(Interval::above(tenth)), ">0.1");
    assert_eq!(bounded(Interval::at_least(tenth)), ">=0.1");
}

#[test]
fn a_grade_that_is_not_certain_is_absent_with_a_reason() {
    let (key, subject) = (key(), subject());
    let mut decision = raised();
    let neutrophils = &mut decision.assessment.lineages[1];
    neutrophils.grade = None;
    neutrophils.at_least = Some(Grade::Severe);
    let made = resources(&decision, &context(&key, &subject));
    let observation = of(&made, "Observation")[1];
    assert!(observation.body.get("valueCodeableConcept").is_none());
    assert_eq!(
        observation.body["dataAbsentReason"]["coding"][0]["code"],
        "unknown"
    );
    assert!(
        observation.body["note"][0]["text"]
            .as_str()
            .unwrap()
            .contains("at least severe")
    );
}

#[test]
fn an_open_flag_keeps_its_words_while_the_lines_recover() {
    let (key, subject) = (key(), subject());
    let first = resources(&raised(), &context(&key, &subject));
    let mut ctx = context(&key, &subject);
    ctx.previous = &first;
    let mut recovering = raised();
    recovering.assessment.lineages[0].low = Truth::False;
    let made = resources(&recovering, &ctx);
    let flag = made.iter().find(|resource| resource.kind == "Flag");
    // Nothing else changed either, so there is no new version of the Flag at all.
    assert!(flag.is_none());
    let alone = resources(&recovering, &context(&key, &subject));
    assert_eq!(
        only(&alone, "Flag")["code"]["text"],
        "Three low cell lines — review within 24 h"
    );
}

#[test]
fn an_edit_shows_in_the_edit_hash_and_a_servers_additions_do_not() {
    let (key, subject) = (key(), subject());
    let made = resources(&raised(), &context(&key, &subject));
    let flag = only(&made, "Flag");
    let mut stored = for_target(of(&made, "Flag")[0], "77");
    stored["meta"]["versionId"] = json!("1");
    stored["extension"][1]["valueReference"]["display"] = json!("resolved");
    assert_eq!(identity::edit_hash(flag), identity::edit_hash(&stored));
    for (pointer, value) in [
        ("/status", "inactive"),
        ("/code/text", "known, haematology informed"),
        ("/category/1/coding/0/code", "admin"),
        ("/period/start", "2026-01-01"),
        ("/extension/0/valueCodeableConcept/coding/0/code", "PL"),
    ] {
        let mut edited = stored.clone();
        *edited.pointer_mut(pointer).unwrap() = json!(value);
        assert_ne!(
            identity::edit_hash(flag),
            identity::edit_hash(&edited),
            "{pointer}"
        );
    }
}

#[test]
fn old_refusals_stay_out_of_the_conclusion() {
    let (key, subject) = (key(), subject());
    let conclusion = |days: i64| {
        let mut decision = raised();
        let doubt = &mut decision.assessment.doubts[0];
        doubt.analyte = crate::clinical::analyte::Analyte::Platelets;
        doubt.text = "not usable: verify today; possible unit error".into();
        doubt.at.as_mut().unwrap().instant -= time::Duration::days(days);
        let made = resources(&decision, &context(&key, &subject));
        let report = only(&made, "DiagnosticReport");
        assert_eq!(
            report["result"].as_array().unwrap().len(),
            if days == 0 { 4 } else { 3 }
        );
        report["conclusion"].as_str().unwrap().to_owned()
    };
    assert!(conclusion(0).contains(" PLT 940 fL not usable: verify today; possible unit error. "));
    assert!(!conclusion(3).contains("not usable"));
}

#[test]
fn a_day_stays_a_day() {
    let (key, subject) = (key(), subject());
    let mut decision = raised();
    let day = SampleTime {
        instant: datetime!(2026-11-18 00:00 +1),
        precision: Precision::Day,
    };
    decision.assessment.index = Some(IndexSpecimen {
        at: day,
        specimen: None,
    });
    decision.assessment.span = Some((day, day));
    decision.flags[0].finding.episode_start = day;
    let made = resources(&decision, &context(&key, &subject));
    assert_eq!(only(&made, "Flag")["period"]["start"], "2026-11-18");
    assert_eq!(
        only(&made, "DiagnosticReport")["effectivePeriod"]["end"],
        "2026-11-18"
    );
}

#[test]
fn persistent_needs_four_weeks() {
    let (key, subject) = (key(), subject());
    let text = |days: i64| {
        let mut decision = raised();
        decision.flags[0].finding.episode_start.instant -= time::Duration::days(days);
        let made = resources(&decision, &context(&key, &subject));
        only(&made, "Flag")["code"]["text"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(
        text(27),
        "Three low cell lines (Hb, ANC, PLT) — review within 24 h"
    );
    assert_eq!(
        text(28),
        "Persistent three low cell lines (Hb, ANC, PLT) — review within 24 h"
    );
}

fn page(assessment: &Assessment) -> String {
    text::render(assessment, false)
}

#[test]
fn the_page_of_a_severe_pancytopenia() {
    assert_snapshot!("page", text::render(&pancytopenia(), true));
}

#[test]
fn the_page_says_when_there_is_nothing_and_when_nobody_can_tell() {
    let mut assessment = samples::unremarkable().assessment;
    assert!(page(&assessment).starts_with("no cytopenia\n"));
    assert!(page(&assessment).ends_with("Output: nothing\n"));
    assessment.verdict = Verdict::InsufficientData;
    assessment.lineages[1].low = Truth::Unknown;
    assessment.lineages[1].value = None;
    assert!(page(&assessment).starts_with("insufficient data: ANC not received\n"));
    assessment.index = None;
    assert!(page(&assessment).starts_with("insufficient data: no usable blood count\n"));
}

#[test]
fn a_line_that_was_sent_cannot_forge_another() {
    let mut assessment = pancytopenia();
    assessment.doubts[0].received.unit = "fL\nOutput: nothing".into();
    assert!(!page(&assessment).contains("\nOutput: nothing"));
}
