//! Each way a FHIR server can misbehave, the outcome it must have, and that the next attempt puts
//! things right.

use std::time::Duration;

use marrowflag::{
    fhir_server::{FhirServer, Token},
    store::{
        delivery::{First, Hold, Next, Outcome, Why},
        lease::{Fate, Item, Leased},
    },
};
use serde_json::json;

use crate::{
    deliveries::{NOW, again, fate, flag, four, known, leased, limits, next, send, server},
    misbehaving::{Fault, Misbehaving, On, PUT_ID, Promise, TRANSACTION},
};

const FLAG: &str = "Flag/mf-flag-1";

fn one_flag() -> Leased {
    leased("1", vec![flag("1", "a", "active", "low")])
}

fn later(millis: u64, first: First) -> Next {
    Next::Later {
        at: NOW + Duration::from_millis(millis),
        first,
    }
}

fn held(hold: Hold, seconds: u64, first: First) -> Next {
    Next::Held {
        hold,
        at: NOW + Duration::from_secs(seconds),
        first,
    }
}

/// Sends a Flag to a server with this fault, then again without: outcome, next step, and that one
/// Flag stands there in the end, written at most `writes` times.
async fn fault(name: &str, fault: Fault, outcome: Outcome, expected: Next, writes: usize) {
    let hostile = Misbehaving::start(PUT_ID).await;
    hostile.script(On::Write, [fault]);
    let target = server(&hostile.base);
    let lease = one_flag();
    let sent = send(&target, &lease).await;
    assert_eq!(sent.outcome, outcome, "{name}");
    assert_eq!(next(&sent), expected, "{name}");
    assert!(sent.items.is_empty(), "{name}: nothing is settled");
    let sent = send(&target, &again(&lease, &sent)).await;
    assert_eq!(sent.outcome, Outcome::Delivered, "{name}");
    assert_eq!(fate(&sent, 2), Some(Fate::Written), "{name}");
    let truth = hostile.truth();
    assert!(truth.writes.len() <= writes, "{name}: {:?}", truth.writes);
    assert_eq!(truth.resources[FLAG].1["code"]["text"], "low", "{name}");
}

fn stored(then: Fault) -> Fault {
    Fault::Stored(Box::new(then))
}

fn ok(body: &(impl ToString + ?Sized)) -> Fault {
    Fault::Answer(
        200,
        "Content-Type: application/fhir+json\r\n",
        body.to_string(),
    )
}

fn retry_after(status: u16, header: &'static str) -> Fault {
    Fault::Answer(status, header, String::new())
}

#[tokio::test]
async fn refusals() {
    let parked = Next::Parked;
    for (status, outcome, next) in [
        (400, Outcome::Rejected, parked(Why::Rejected)),
        (413, Outcome::Rejected, parked(Why::Rejected)),
        (422, Outcome::Rejected, parked(Why::Rejected)),
        (402, Outcome::Unforeseen, parked(Why::Unforeseen)),
        (501, Outcome::Unforeseen, parked(Why::Unforeseen)),
        (505, Outcome::Unforeseen, parked(Why::Unforeseen)),
        (
            403,
            Outcome::Forbidden { others_pass: false },
            held(Hold::Forbidden, 300, First::Nothing),
        ),
        (408, Outcome::NotSent, later(1000, First::Nothing)),
        (425, Outcome::NotSent, later(1000, First::Nothing)),
    ] {
        fault(&status.to_string(), Fault::status(status), outcome, next, 1).await;
    }
}

#[tokio::test]
async fn a_server_that_asks_to_wait_is_waited_for() {
    let asked = |seconds| Some(Duration::from_secs(seconds));
    for (header, wait, at_least) in [
        ("Retry-After: 7\r\n", asked(7), 7000),
        ("Retry-After: 0\r\n", asked(0), 1000),
        ("Retry-After: -1\r\n", None, 1000),
        ("Retry-After: soon\r\n", None, 1000),
        ("Retry-After: 999999999\r\n", asked(999_999_999), 3_600_000),
        (
            "Retry-After: Sat, 21 Nov 2026 09:30:40 GMT\r\n",
            asked(40),
            40_000,
        ),
        (
            "x-ms-retry-after-ms: 1600\r\n",
            Some(Duration::from_millis(1600)),
            1600,
        ),
        ("", None, 1000),
    ] {
        // Half of the quarter that may be added, or half of the first backoff.
        let millis = match wait {
            Some(_) => at_least + (at_least / 8).min(15_000),
            None => at_least,
        };
        let expected = later(millis, First::Nothing);
        for status in [429, 423] {
            let outcome = Outcome::Throttled { retry_after: wait };
            fault(header, retry_after(status, header), outcome, expected, 1).await;
        }
        let outcome = Outcome::Unavailable { retry_after: wait };
        fault(header, retry_after(503, header), outcome, expected, 1).await;
    }
}

#[tokio::test]
async fn an_unknown_outcome_is_verified_and_written_once() {
    let verify = later(1000, First::Verify);
    for status in [500, 502, 504, 507] {
        let fails = Fault::status(status);
        let name = status.to_string();
        fault(&name, fails.clone(), Outcome::ServerFault, verify, 1).await;
        fault(&name, stored(fails), Outcome::ServerFault, verify, 1).await;
    }
    for (name, fails) in [
        ("silence", Fault::Silence),
        ("reset", Fault::Reset),
        ("truncated", Fault::Truncated),
        ("one byte a second", Fault::Drip),
        ("100 MiB", Fault::Huge),
        ("endless chunks", Fault::Endless),
    ] {
        fault(name, fails.clone(), Outcome::Unknown, verify, 1).await;
        fault(name, stored(fails), Outcome::Unknown, verify, 1).await;
    }
    fault("202", Fault::status(202), Outcome::AcceptedOnly, verify, 1).await;
}

#[tokio::test]
async fn a_lying_success_is_none() {
    let error = json!({"resourceType": "OperationOutcome", "issue": [{"severity": "error"}]});
    let other = json!({"resourceType": "Flag", "id": "another"});
    let kind = json!({"resourceType": "Patient", "id": "mf-flag-1"});
    for (name, lie) in [
        ("HTML", ok("<html><body>Log in</body></html>")),
        ("not JSON", ok("{\"resourceType\":\"Flag\",")),
        ("UTF-16", ok("\u{feff}{\0\"\0")),
        ("array", ok("[]")),
        ("an error inside", ok(&error)),
        ("another id", ok(&other)),
        ("another type", ok(&kind)),
    ] {
        let verify = later(1000, First::Verify);
        fault(name, lie.clone(), Outcome::LyingSuccess, verify, 1).await;
        fault(name, stored(lie), Outcome::LyingSuccess, verify, 1).await;
    }
}

#[tokio::test]
async fn the_third_lie_in_a_row_parks() {
    let hostile = Misbehaving::start(PUT_ID).await;
    hostile.script(On::Write, vec![ok("{}"); 3]);
    let target = server(&hostile.base);
    let mut lease = one_flag();
    for _ in 0..2 {
        let sent = send(&target, &lease).await;
        assert!(matches!(next(&sent), Next::Later { .. }));
        lease = again(&lease, &sent);
    }
    let sent = send(&target, &lease).await;
    let attempt = marrowflag::store::delivery::Attempt {
        number: 3,
        earlier: &lease.earlier,
        reachable: Duration::ZERO,
    };
    assert_eq!(
        marrowflag::store::delivery::next_step(&attempt, &sent.outcome, NOW, 0.5),
        Next::Parked(Why::BadAnswer)
    );
}

#[tokio::test]
async fn a_minimal_answer_without_etag_and_location_is_enough() {
    for answer in [Fault::status(200), Fault::status(201), Fault::status(204)] {
        let hostile = Misbehaving::start(PUT_ID).await;
        hostile.script(On::Write, [stored(answer)]);
        let target = server(&hostile.base);
        let first = one_flag();
        let sent = send(&target, &first).await;
        assert_eq!(sent.outcome, Outcome::Delivered);
        // No version is known, so the next write reads first and still sends If-Match.
        let item = known(flag("1", "b", "active", "lower"), &sent.items);
        assert_eq!(item.etag, None);
        let sent = send(&target, &leased("1", vec![item])).await;
        assert_eq!(sent.outcome, Outcome::Delivered);
        let truth = hostile.truth();
        let last = truth.requests.last().unwrap();
        assert_eq!(last.headers["if-match"], "W/\"1\"");
        assert_eq!(truth.resources[FLAG].1["code"]["text"], "lower");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_the_token_stays_home() {
    let elsewhere = Misbehaving::start(PUT_ID).await;
    for on in [On::Metadata, On::Patient, On::Write] {
        let hostile = Misbehaving::start(PUT_ID).await;
        let location = format!("Location: {}/Flag/mf-flag-1\r\n", elsewhere.base);
        hostile.script(on, [Fault::Answer(302, location.leak(), String::new())]);
        let token = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(token.path(), "secret").unwrap();
        let target =
            FhirServer::new(&hostile.base, Token::File(token.path().into()), limits()).unwrap();
        let sent = send(&target, &one_flag()).await;
        assert_eq!(sent.outcome, Outcome::Redirected);
        assert_eq!(next(&sent), held(Hold::Operator, 300, First::Nothing));
    }
    assert!(elsewhere.truth().requests.is_empty());
}

#[tokio::test]
async fn nothing_listens() {
    let hostile = Misbehaving::start(PUT_ID).await;
    let target = server(&hostile.base);
    drop(hostile);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let sent = send(&target, &one_flag()).await;
    assert_eq!(sent.outcome, Outcome::NotSent);
    assert_eq!(next(&sent), later(1000, First::Nothing));
}

#[tokio::test]
async fn a_refused_token_is_read_again_once() {
    let hostile = Misbehaving::start(PUT_ID).await;
    let token = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(token.path(), "one").unwrap();
    let target =
        FhirServer::new(&hostile.base, Token::File(token.path().into()), limits()).unwrap();
    hostile.script(On::Write, [Fault::status(401)]);
    let sent = send(&target, &one_flag()).await;
    assert_eq!(sent.outcome, Outcome::Delivered);
    let bearer = hostile.truth().requests[0].headers["authorization"].clone();
    assert_eq!(bearer, "Bearer one");

    // Renewed under us: the next send uses it without asking anyone.
    std::fs::write(token.path(), "two").unwrap();
    hostile.script(On::Write, vec![Fault::status(401); 2]);
    let sent = send(&target, &one_flag()).await;
    assert_eq!(sent.outcome, Outcome::Unauthorized);
    assert_eq!(next(&sent), held(Hold::Forbidden, 60, First::Token));
    let last = hostile.truth().requests.last().unwrap().headers["authorization"].clone();
    assert_eq!(last, "Bearer two");

    std::fs::remove_file(token.path()).unwrap();
    let sent = send(&target, &one_flag()).await;
    assert_eq!(sent.outcome, Outcome::Unauthorized, "no token, no request");
}

#[tokio::test]
async fn every_second_call_refused_still_gets_through() {
    let hostile = Misbehaving::start(PUT_ID).await;
    for on in [On::Metadata, On::Patient, On::Write] {
        hostile.script(on, [Fault::status(401), Fault::Fine, Fault::status(401)]);
    }
    let sent = send(&server(&hostile.base), &one_flag()).await;
    assert_eq!(sent.outcome, Outcome::Delivered);
}

#[tokio::test]
async fn what_is_no_fhir_server_is_held_for_an_operator() {
    let r5 = json!({"resourceType": "CapabilityStatement", "fhirVersion": "5.0.0"});
    for (name, answer) in [
        ("404", Fault::status(404)),
        ("HTML", ok("<html></html>")),
        ("R5", ok(&r5)),
    ] {
        let hostile = Misbehaving::start(PUT_ID).await;
        hostile.script(On::Metadata, [answer]);
        let target = server(&hostile.base);
        let sent = send(&target, &one_flag()).await;
        assert_eq!(sent.outcome, Outcome::NoFhirServer, "{name}");
        assert_eq!(next(&sent), held(Hold::Operator, 300, First::Nothing));
        let sent = send(&target, &one_flag()).await;
        assert_eq!(sent.outcome, Outcome::Delivered, "{name}: it came back");
    }
}

#[tokio::test]
async fn the_capability_statement_is_read_once_a_day() {
    let hostile = Misbehaving::start(PUT_ID).await;
    let target = server(&hostile.base);
    let metadata = || {
        let truth = hostile.truth();
        let requests = truth.requests.iter();
        requests.filter(|one| one.path == "/fhir/metadata").count()
    };
    for (hours, reads) in [(0, 1), (23, 1), (24, 2), (25, 2)] {
        let now = NOW + time::Duration::hours(hours);
        let sent = target.send(&one_flag(), now, &|| true).await;
        assert_eq!(sent.outcome, Outcome::Delivered);
        assert_eq!(metadata(), reads, "after {hours} h");
    }
}

#[tokio::test]
async fn a_patient_who_is_not_there_or_there_twice_gets_nothing() {
    for (patients, outcome, why) in [
        (
            0,
            Outcome::PatientUnknown,
            Why::PatientUnknown {
                recheck_at: Some(NOW + Duration::from_hours(24)),
            },
        ),
        (2, Outcome::MultipleMatches, Why::MultipleMatches),
    ] {
        let hostile = Misbehaving::start(TRANSACTION).await;
        hostile.truth().patients = Some(patients);
        let sent = send(&server(&hostile.base), &one_flag()).await;
        assert_eq!(sent.outcome, outcome);
        assert_eq!(next(&sent), Next::Parked(why));
        assert!(hostile.truth().writes.is_empty());
    }
}

#[tokio::test]
async fn two_identifiers_of_two_patients_get_nothing() {
    let hostile = Misbehaving::start(PUT_ID).await;
    let mut lease = one_flag();
    lease
        .patient_identifiers
        .push(("http://hospital.example.org/mrn".to_owned(), "2".to_owned()));
    let sent = send(&server(&hostile.base), &lease).await;
    assert_eq!(sent.outcome, Outcome::MultipleMatches);
    assert!(hostile.truth().writes.is_empty());
}

#[tokio::test]
async fn a_search_that_ignores_its_parameter_finds_nobody() {
    let hostile = Misbehaving::start(PUT_ID).await;
    let stranger = json!({"resourceType": "Bundle", "type": "searchset", "entry": [
        {"resource": {"resourceType": "Patient", "id": "9", "identifier": [{"system": "x", "value": "9"}]}}
    ]});
    hostile.script(On::Patient, [ok(&stranger)]);
    let sent = send(&server(&hostile.base), &one_flag()).await;
    assert_eq!(sent.outcome, Outcome::PatientUnknown);
    assert!(hostile.truth().writes.is_empty());
}

#[tokio::test]
async fn without_identifier_the_reference_decides() {
    let hostile = Misbehaving::start(PUT_ID).await;
    let target = server(&hostile.base);
    let by = |reference: String| Leased {
        patient_identifiers: Vec::new(),
        patient_references: vec![reference],
        ..one_flag()
    };
    for reference in [
        "Patient/7".to_owned(),
        format!("{}/Patient/7", hostile.base),
    ] {
        let sent = send(&target, &by(reference)).await;
        assert_eq!(sent.outcome, Outcome::Delivered);
        let subject = hostile.truth().resources[FLAG].1["subject"]["reference"].clone();
        assert_eq!(subject, "Patient/7");
    }
    let sent = send(
        &target,
        &by("https://elsewhere.example/Patient/7".to_owned()),
    )
    .await;
    assert_eq!(sent.outcome, Outcome::PatientUnknown);
    let fresh = server(&hostile.base);
    hostile.script(On::Patient, [Fault::status(404)]);
    let sent = send(&fresh, &by("Patient/7".to_owned())).await;
    assert_eq!(sent.outcome, Outcome::PatientUnknown);
}

#[tokio::test]
async fn a_media_type_that_is_not_known_is_made_plainer() {
    for status in [406, 415] {
        let hostile = Misbehaving::start(PUT_ID).await;
        let target = server(&hostile.base);
        hostile.script(On::Write, [Fault::status(status)]);
        let sent = send(&target, &one_flag()).await;
        assert_eq!(sent.outcome, Outcome::Delivered, "{status}");
        {
            let truth = hostile.truth();
            let types: Vec<_> = truth
                .requests
                .iter()
                .filter(|request| request.method == "PUT")
                .map(|request| request.headers["content-type"].as_str())
                .collect();
            assert_eq!(
                types,
                [
                    "application/fhir+json; fhirVersion=4.0; charset=utf-8",
                    "application/fhir+json"
                ]
            );
        }
        hostile.script(On::Write, [Fault::status(status)]);
        let sent = send(&target, &one_flag()).await;
        assert_eq!(next(&sent), Next::Parked(Why::Undeliverable));
    }
}

/// The CapabilityStatement promises update-as-create and more, and the server refuses it.
#[tokio::test]
async fn a_refused_way_of_writing_gives_way_to_the_next() {
    let promise = Promise {
        conditional_update: true,
        conditional_create: true,
        ..PUT_ID
    };
    for status in [404, 405] {
        let hostile = Misbehaving::start(promise).await;
        hostile.script(On::Write, vec![Fault::status(status); 3]);
        let target = server(&hostile.base);
        let mut lease = one_flag();
        for _ in 0..3 {
            let sent = send(&target, &lease).await;
            assert_eq!(sent.outcome, Outcome::WayRefused { another_way: true });
            assert_eq!(next(&sent), later(1000, First::Capability));
            lease = again(&lease, &sent);
        }
        let sent = send(&target, &lease).await;
        assert_eq!(sent.outcome, Outcome::Delivered);
        let truth = hostile.truth();
        let ways: Vec<_> = truth
            .requests
            .iter()
            .filter(|request| request.method != "GET")
            .map(|request| {
                let conditional = request.headers.contains_key("if-none-exist");
                let query = request.path.contains('?');
                (request.method.as_str(), query, conditional)
            })
            .collect();
        assert_eq!(
            ways,
            [
                ("PUT", false, false),
                ("PUT", true, false),
                ("POST", false, true),
                ("POST", false, false)
            ]
        );
    }
}

#[tokio::test]
async fn when_no_way_is_left_it_is_undeliverable() {
    let hostile = Misbehaving::start(PUT_ID).await;
    hostile.script(On::Write, vec![Fault::status(405); 2]);
    let target = server(&hostile.base);
    let lease = one_flag();
    let sent = send(&target, &lease).await;
    assert_eq!(sent.outcome, Outcome::WayRefused { another_way: true });
    let sent = send(&target, &again(&lease, &sent)).await;
    assert_eq!(next(&sent), Next::Parked(Why::Undeliverable));
}

#[tokio::test]
async fn a_type_that_is_not_writable_is_skipped() {
    let promise = Promise {
        no_flag: true,
        ..TRANSACTION
    };
    let hostile = Misbehaving::start(promise).await;
    let target = server(&hostile.base);
    let sent = send(&target, &leased("1", four("1", "a", "active", "low"))).await;
    assert_eq!(sent.outcome, Outcome::Delivered);
    assert_eq!(fate(&sent, 2), Some(Fate::NotWritable));
    assert_eq!(target.unwritable(&["Device", "Flag"]), ["Flag"]);
    assert_eq!(hostile.truth().writes.len(), 3);
}

#[tokio::test]
async fn a_human_who_deleted_it_is_respected() {
    let hostile = Misbehaving::start(PUT_ID).await;
    hostile.script(On::Write, [Fault::status(410)]);
    let sent = send(&server(&hostile.base), &one_flag()).await;
    assert_eq!(sent.outcome, Outcome::Delivered);
    assert_eq!(fate(&sent, 2), Some(Fate::HumanDeleted));
    assert!(hostile.truth().writes.is_empty());
}

#[tokio::test]
async fn a_conflict_that_shows_our_content_is_a_success() {
    let hostile = Misbehaving::start(PUT_ID).await;
    let ours = flag("1", "a", "active", "low").body.to_string();
    let conflict = Fault::Answer(409, "", ours);
    hostile.script(On::Write, [stored(conflict)]);
    let sent = send(&server(&hostile.base), &one_flag()).await;
    assert_eq!(sent.outcome, Outcome::Delivered);
    assert_eq!(hostile.truth().writes.len(), 1);
}

#[tokio::test]
async fn a_conflict_is_read_again_at_once_and_a_storm_later() {
    for status in [409, 412] {
        let hostile = Misbehaving::start(PUT_ID).await;
        hostile.script(On::Write, vec![Fault::status(status); 3]);
        let target = server(&hostile.base);
        let lease = one_flag();
        let sent = send(&target, &lease).await;
        assert_eq!(sent.outcome, Outcome::Conflict);
        assert_eq!(next(&sent), later(1000, First::Reread));
        let sent = send(&target, &again(&lease, &sent)).await;
        assert_eq!(sent.outcome, Outcome::Conflict);
        let sent = send(&target, &again(&lease, &sent)).await;
        assert_eq!(sent.outcome, Outcome::Delivered);
    }
}

/// Writes revision `a`, lets a human edit it, and delivers revision `b`.
async fn after_edit(
    outranks_human: bool,
    text: &str,
) -> (Misbehaving, marrowflag::fhir_server::Sent) {
    let hostile = Misbehaving::start(TRANSACTION).await;
    let target = server(&hostile.base);
    let sent = send(&target, &leased("1", four("1", "a", "active", "low"))).await;
    assert_eq!(sent.outcome, Outcome::Delivered);
    assert_eq!(hostile.truth().writes.len(), 4);
    hostile.edit(FLAG, |flag| {
        flag["status"] = json!("inactive");
        flag["code"]["text"] = json!(text);
    });
    let mut items: Vec<_> = four("1", "b", "active", "lower")
        .into_iter()
        .take(3)
        .collect();
    items = items
        .into_iter()
        .map(|item| known(item, &sent.items))
        .collect();
    items[2].outranks_human = outranks_human;
    let sent = send(&target, &leased("1", items)).await;
    (hostile, sent)
}

#[tokio::test]
async fn a_humans_edit_is_kept() {
    let (hostile, sent) = after_edit(false, "seen, known").await;
    assert_eq!(sent.outcome, Outcome::Delivered);
    assert_eq!(fate(&sent, 2), Some(Fate::HumanEdited { inactive: true }));
    assert_eq!(fate(&sent, 1), Some(Fate::Written), "the report is written");
    let human = sent
        .items
        .iter()
        .find(|written| written.ordinal == 2)
        .unwrap();
    {
        let truth = hostile.truth();
        assert_eq!(truth.resources[FLAG].1["code"]["text"], "seen, known");
        assert_eq!(truth.resources[FLAG].1["status"], "inactive");
    }
    // What the human left is known now: a new episode is written over it, and over nothing else.
    let items = vec![known(
        flag("1", "c", "active", "lowest"),
        std::slice::from_ref(human),
    )];
    let sent = send(&server(&hostile.base), &leased("1", items)).await;
    assert_eq!(fate(&sent, 2), Some(Fate::Written));
    let truth = hostile.truth();
    assert_eq!(truth.resources[FLAG].1["code"]["text"], "lowest");
    assert_eq!(
        truth.requests.last().unwrap().headers["if-match"],
        "W/\"2\""
    );
}

/// A delivery that does not write the open Flag looks at it all the same.
#[tokio::test]
async fn what_a_human_did_to_a_flag_is_seen_with_the_next_report() {
    let hostile = Misbehaving::start(TRANSACTION).await;
    let target = server(&hostile.base);
    let sent = send(&target, &leased("1", four("1", "a", "active", "low"))).await;
    let report_of = |hash: &str, watched: Item| {
        let report = four("1", hash, "active", "low").remove(1);
        Leased {
            watched: vec![watched],
            ..leased("1", vec![report])
        }
    };
    let mut watched = known(flag("1", "a", "active", "low"), &sent.items);
    watched.ordinal = 1_000_000;
    let seen = send(&target, &report_of("b", watched.clone())).await;
    assert_eq!(seen.outcome, Outcome::Delivered);
    assert_eq!(fate(&seen, watched.ordinal), None, "nothing happened");

    hostile.edit(FLAG, |flag| flag["status"] = json!("inactive"));
    hostile.script(On::Read, [Fault::status(500)]);
    let blind = send(&target, &report_of("c", watched.clone())).await;
    assert_eq!(blind.outcome, Outcome::Delivered, "the report is there");
    assert_eq!(fate(&blind, watched.ordinal), None);

    let seen = send(&target, &report_of("d", watched.clone())).await;
    assert_eq!(seen.outcome, Outcome::Delivered);
    assert_eq!(
        fate(&seen, watched.ordinal),
        Some(Fate::HumanEdited { inactive: true })
    );
    let again = known(watched.clone(), &seen.items);
    let seen = send(&target, &report_of("e", again)).await;
    assert_eq!(fate(&seen, watched.ordinal), None, "said once");
    assert_eq!(hostile.truth().resources[FLAG].1["status"], "inactive");
}

#[tokio::test]
async fn an_escalation_is_written_over_a_humans_edit_with_if_match() {
    let (hostile, sent) = after_edit(true, "seen, known").await;
    assert_eq!(sent.outcome, Outcome::Delivered);
    assert_eq!(fate(&sent, 2), Some(Fate::Written));
    let truth = hostile.truth();
    assert_eq!(truth.resources[FLAG].1["code"]["text"], "lower");
    assert_eq!(truth.resources[FLAG].1["status"], "active");
}

/// The human comes between our read and our write: `If-Match` holds the write back.
#[tokio::test]
async fn a_humans_edit_between_read_and_write_is_kept() {
    for promise in [PUT_ID, TRANSACTION] {
        let hostile = Misbehaving::start(promise).await;
        let target = server(&hostile.base);
        let sent = send(&target, &leased("1", four("1", "a", "active", "low"))).await;
        hostile.script(On::Read, [Fault::ThenClosed(FLAG.to_owned())]);
        let items = four("1", "b", "active", "lower").into_iter().take(3);
        let items = items.map(|item| known(item, &sent.items)).collect();
        let sent = send(&target, &leased("1", items)).await;
        assert_eq!(sent.outcome, Outcome::Delivered);
        assert_eq!(fate(&sent, 2), Some(Fate::HumanEdited { inactive: true }));
        assert_eq!(hostile.truth().resources[FLAG].1["code"]["text"], "low");
    }
}

#[tokio::test]
async fn what_a_human_closed_after_an_unknown_outcome_stays_closed() {
    let hostile = Misbehaving::start(PUT_ID).await;
    hostile.script(On::Write, [stored(Fault::Reset)]);
    let target = server(&hostile.base);
    let mut lease = one_flag();
    lease.items[0].outranks_human = true;
    let sent = send(&target, &lease).await;
    assert_eq!(sent.outcome, Outcome::Unknown);
    hostile.edit(FLAG, |flag| flag["status"] = json!("inactive"));
    let sent = send(&target, &again(&lease, &sent)).await;
    assert_eq!(fate(&sent, 2), Some(Fate::HumanEdited { inactive: true }));
    assert_eq!(hostile.truth().resources[FLAG].1["status"], "inactive");
}

#[tokio::test]
async fn a_lane_taken_over_is_read_before_it_is_written() {
    let hostile = Misbehaving::start(PUT_ID).await;
    let target = server(&hostile.base);
    send(&target, &one_flag()).await;
    let lease = Leased {
        verify_first: true,
        ..one_flag()
    };
    let sent = send(&target, &lease).await;
    assert_eq!(fate(&sent, 2), Some(Fate::Written));
    assert_eq!(hostile.truth().writes.len(), 1);
}

fn inner(statuses: [&str; 4]) -> Fault {
    let entries: Vec<_> = statuses
        .into_iter()
        .map(|status| json!({"response": {"status": status}}))
        .collect();
    ok(&json!({"resourceType": "Bundle", "type": "transaction-response", "entry": entries}))
}

#[tokio::test]
async fn a_transaction_that_failed_inside_failed() {
    let entry = json!({"response": {"status": "201"}});
    let missing =
        json!({"resourceType": "Bundle", "type": "transaction-response", "entry": [entry]});
    for (name, answer, outcome) in [
        (
            "422",
            inner(["201", "201", "422", "201"]),
            Outcome::Rejected,
        ),
        (
            "500",
            inner(["201", "500", "422", "201"]),
            Outcome::ServerFault,
        ),
        ("missing", ok(&missing), Outcome::LyingSuccess),
        ("HTML", ok("<html>"), Outcome::LyingSuccess),
        ("500 of all", Fault::status(500), Outcome::ServerFault),
        ("reset", stored(Fault::Reset), Outcome::Unknown),
    ] {
        let hostile = Misbehaving::start(TRANSACTION).await;
        hostile.script(On::Write, [answer]);
        let target = server(&hostile.base);
        let lease = leased("1", four("1", "a", "active", "low"));
        let sent = send(&target, &lease).await;
        assert_eq!(sent.outcome, outcome, "{name}");
        assert!(sent.items.is_empty(), "{name}");
        let sent = send(&target, &again(&lease, &sent)).await;
        assert_eq!(sent.outcome, Outcome::Delivered, "{name}");
        let truth = hostile.truth();
        assert_eq!(truth.resources.len(), 4, "{name}");
        assert_eq!(truth.writes.len(), 4, "{name}: nothing was written twice");
    }
}

/// 412 inside a 200: read again, and written with what was read.
#[tokio::test]
async fn an_inner_412_is_a_conflict() {
    let hostile = Misbehaving::start(TRANSACTION).await;
    hostile.script(On::Write, [inner(["201", "201", "412", "201"])]);
    let target = server(&hostile.base);
    let sent = send(&target, &leased("1", four("1", "a", "active", "low"))).await;
    assert_eq!(sent.outcome, Outcome::Delivered);
    assert_eq!(hostile.truth().resources.len(), 4);
}

#[tokio::test]
async fn a_transaction_that_is_refused_goes_one_by_one() {
    for status in [404, 405, 413, 501] {
        let hostile = Misbehaving::start(TRANSACTION).await;
        hostile.script(On::Write, [Fault::status(status)]);
        let lease = leased("1", four("1", "a", "active", "low"));
        let sent = send(&server(&hostile.base), &lease).await;
        assert_eq!(sent.outcome, Outcome::Delivered, "{status}");
        let order = [
            "Device/mf-device",
            "DiagnosticReport/mf-report-1",
            FLAG,
            "Provenance/mf-prov-1-a",
        ];
        assert_eq!(hostile.truth().writes, order, "{status}");
    }
}

#[tokio::test]
async fn one_by_one_resumes_where_it_stopped() {
    let hostile = Misbehaving::start(PUT_ID).await;
    hostile.script(On::Write, [Fault::Fine, Fault::Fine, Fault::status(503)]);
    let target = server(&hostile.base);
    let lease = leased("1", four("1", "a", "active", "low"));
    let sent = send(&target, &lease).await;
    assert_eq!(sent.outcome, Outcome::Unavailable { retry_after: None });
    assert_eq!(sent.items.len(), 2);
    let rest = again(&lease, &sent);
    assert_eq!(rest.items.len(), 2);
    let sent = send(&target, &rest).await;
    assert_eq!(sent.outcome, Outcome::Delivered);
    assert_eq!(hostile.truth().writes.len(), 4);
}

#[tokio::test]
async fn nothing_starts_when_we_may_not() {
    let hostile = Misbehaving::start(PUT_ID).await;
    let target = server(&hostile.base);
    let sent = target.send(&one_flag(), NOW, &|| false).await;
    assert_eq!(sent.outcome, Outcome::NotTried);
    assert_eq!(next(&sent), later(0, First::Nothing));
    assert!(hostile.truth().requests.is_empty());
}

#[tokio::test]
async fn a_request_says_what_it_is_and_nothing_more() {
    let hostile = Misbehaving::start(PUT_ID).await;
    send(&server(&hostile.base), &one_flag()).await;
    let truth = hostile.truth();
    for request in &truth.requests {
        assert_eq!(request.headers["accept-encoding"], "identity");
        assert_eq!(request.headers["x-correlation-id"], "test");
        assert!(request.headers.contains_key("x-request-id"));
        if request.method == "GET" {
            assert_eq!(request.headers["cache-control"], "no-cache");
        }
    }
}

/// Two patients' first deliveries looked for it before either had written it.
#[tokio::test]
async fn of_two_devices_always_the_same_is_taken() {
    let hostile = Misbehaving::start(Promise::default()).await;
    let items = four("1", "a", "active", "low");
    for id in ["1002", "1001"] {
        let mut device = items[0].body.clone();
        device["id"] = json!(id);
        let place = format!("Device/{id}");
        hostile.truth().resources.insert(place, (1, device));
    }
    let sent = send(&server(&hostile.base), &leased("1", items)).await;
    assert_eq!(sent.outcome, Outcome::Delivered);
    assert_eq!(sent.items[0].remote_id.as_deref(), Some("1001"));
    let truth = hostile.truth();
    assert!(!truth.writes.iter().any(|place| place.starts_with("Device")));
}
