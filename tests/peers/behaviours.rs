//! The misbehaving FHIR server, M01 to M42: the class each behaviour is put in, and what becomes of the
//! finding. The clock is the test's own, and so are hours and days.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::Write as _,
    sync::{Arc, Mutex},
};

use flate2::{Compression, write::GzEncoder};
use marrowflag::{
    fhir_server::{Connection, FhirServer, Limits, Smart, TlsFiles, Token},
    store::{
        delivery::{Class, First, Hold, Next},
        lease::{Fate, Leased},
    },
};
use serde_json::json;

use crate::{
    authority::Authority,
    courier::Run,
    deliveries::{NOW, flag, four, known, leased, limits, server},
    misbehaving::{Etag, Fault, Misbehaving, On, PUT_ID, Promise, TRANSACTION},
    smart::registration,
    tls::{Authorities, Secured, serving},
};

const FLAG: &str = "Flag/mf-flag-1";
const REVISED: &str = "Flag, revised";

/// Neither our ids nor conditions: search, then write.
const SEARCH: Promise = Promise {
    update_create: false,
    ..PUT_ID
};

const CREATE_ONCE: Promise = Promise {
    conditional_create: true,
    ..SEARCH
};

/// Rows of the table, printed when the last one is there.
static TABLE: Mutex<BTreeMap<&str, String>> = Mutex::new(BTreeMap::new());
const ROWS: usize = 42;

/// Adds a row; a behaviour with several faces has their worst classes in it.
fn row(number: &'static str, what: &str, classes: &[Class], end: &str) {
    let mut names: Vec<_> = classes
        .iter()
        .filter(|class| **class != Class::Delivered)
        .map(|class| class.as_str())
        .collect();
    names.dedup();
    let classes = if names.is_empty() {
        "delivered".to_owned()
    } else {
        names.join(", ")
    };
    let line = format!("{number}  {what:<48} {classes:<30} {end}");
    let mut table = TABLE.lock().unwrap();
    table.insert(number, line);
    if table.len() == ROWS {
        let mut text = String::new();
        for line in table.values() {
            writeln!(text, "{line}").unwrap();
        }
        println!("{text}");
    }
}

/// A run against a server that promises this.
async fn against(promise: Promise) -> Run {
    let hostile = Misbehaving::start(promise).await;
    let target = server(&hostile.base);
    Run::with(hostile, target)
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

fn one() -> Leased {
    leased("1", vec![flag("1", "a", "active", "low")])
}

fn all_four() -> Leased {
    leased("1", four("1", "a", "active", "low"))
}

/// The next revision of the Flag of delivery 1.
fn revised(run: &Run) -> Leased {
    let memory = run.outbox.0.lock().unwrap();
    let written = &memory.deliveries[&1].written;
    leased("1", vec![known(flag("1", "b", "active", REVISED), written)])
}

impl Run {
    /// Delivers this until it is settled, and then what else is due; its classes.
    async fn course(&self, delivery: i64, lease: Leased) -> Vec<Class> {
        self.outbox.put(delivery, lease);
        self.finish(delivery).await
    }

    /// Goes on until a delivery is done or parked.
    async fn finish(&self, delivery: i64) -> Vec<Class> {
        for _ in 0..5000 {
            self.deliver().await;
            let due = {
                let memory = self.outbox.0.lock().unwrap();
                let entry = &memory.deliveries[&delivery];
                match entry.settled {
                    Some(Next::Delivered | Next::Parked(_)) => return entry.classes.clone(),
                    _ => entry.due_at.unwrap(),
                }
            };
            let wait = (due - self.now()).whole_seconds();
            // A target that is held or down is looked at every few seconds.
            self.pass(u64::try_from(wait).unwrap_or(0).max(5));
        }
        panic!("{delivery} does not end");
    }

    /// An operator retries.
    async fn retry(&self, delivery: i64) -> Vec<Class> {
        {
            let mut memory = self.outbox.0.lock().unwrap();
            let entry = memory.deliveries.get_mut(&delivery).unwrap();
            entry.settled = None;
            entry.due_at = Some(NOW);
            entry.lease.first = First::Verify;
            entry.lease.earlier.clear();
        }
        let all = self.finish(delivery).await;
        all.last().copied().into_iter().collect()
    }

    fn parked_as(&self, delivery: i64) -> &'static str {
        match self.outbox.settled(delivery) {
            Some(Next::Parked(why)) => why.as_str(),
            other => panic!("{delivery} is not parked: {other:?}"),
        }
    }

    fn fates(&self, delivery: i64) -> Vec<Fate> {
        let memory = self.outbox.0.lock().unwrap();
        let written = memory.deliveries[&delivery].written.iter();
        written.map(|written| written.fate).collect()
    }

    fn waits(&self, delivery: i64) -> Vec<i64> {
        let memory = self.outbox.0.lock().unwrap();
        let waits = memory.deliveries[&delivery].waits.iter();
        waits.map(|wait| wait.whole_seconds()).collect()
    }

    /// How many Flags stand there.
    fn flags(&self) -> usize {
        let truth = self.hostile.truth();
        let places = truth.resources.keys();
        places.filter(|place| place.starts_with("Flag/")).count()
    }

    fn text(&self) -> String {
        let truth = self.hostile.truth();
        let text = truth.resources[FLAG].1["code"]["text"].as_str();
        text.unwrap().to_owned()
    }
}

/// One fault at the first write, at a server that takes our ids: the Flag stands there in the end,
/// once, and was stored once.
async fn once(number: &'static str, what: &str, fault: Fault, class: Class) {
    once_at(number, what, On::Write, fault, class).await;
}

async fn once_at(number: &'static str, what: &str, on: On, fault: Fault, class: Class) {
    let run = against(PUT_ID).await;
    run.hostile.script(on, [fault]);
    let classes = run.course(1, one()).await;
    assert_eq!(classes, [class, Class::Delivered], "{number}");
    assert_eq!(run.writes(), 1, "{number}");
    assert_eq!(run.text(), "low", "{number}");
    row(
        number,
        what,
        &classes,
        "delivered at the second attempt, stored once",
    );
}

#[tokio::test]
async fn m01_it_accepts_a_connection_and_never_answers() {
    once_at(
        "M01",
        "accepts TCP, never answers",
        On::Connection,
        Fault::Silence,
        Class::Unknown,
    )
    .await;
}

#[tokio::test]
async fn m02_it_reads_the_head_and_is_silent() {
    once(
        "M02",
        "head read, then silence",
        Fault::Deaf,
        Class::Unknown,
    )
    .await;
}

#[tokio::test]
async fn m03_it_commits_and_hangs() {
    once(
        "M03",
        "commits, then hangs",
        stored(Fault::Silence),
        Class::Unknown,
    )
    .await;
}

#[tokio::test]
async fn m04_it_commits_and_resets() {
    once(
        "M04",
        "commits, then resets",
        stored(Fault::Reset),
        Class::Unknown,
    )
    .await;
}

#[tokio::test]
async fn m05_it_commits_and_answers_500() {
    once(
        "M05",
        "commits, then 500",
        stored(Fault::status(500)),
        Class::ServerFault,
    )
    .await;
}

#[tokio::test]
async fn m06_it_answers_500_and_commits_nothing() {
    once(
        "M06",
        "500, not committed",
        Fault::status(500),
        Class::ServerFault,
    )
    .await;
}

#[tokio::test]
async fn m07_it_resets_in_mid_request() {
    once(
        "M07",
        "resets in mid-request",
        Fault::ResetMidway,
        Class::Unknown,
    )
    .await;
}

#[tokio::test]
async fn m08_it_answers_before_the_body_is_read() {
    once(
        "M08",
        "answers 503 before the body is read",
        Fault::Early(503),
        Class::Unavailable,
    )
    .await;
}

#[tokio::test]
async fn m09_one_byte_a_second() {
    once(
        "M09",
        "one byte a second",
        stored(Fault::Drip),
        Class::Unknown,
    )
    .await;
}

#[tokio::test]
async fn m10_a_truncated_answer() {
    once(
        "M10",
        "truncated answer",
        stored(Fault::Truncated),
        Class::Unknown,
    )
    .await;
}

#[tokio::test]
async fn m11_chunks_without_end() {
    once(
        "M11",
        "endless chunks",
        stored(Fault::Endless),
        Class::Unknown,
    )
    .await;
}

#[tokio::test]
async fn m12_a_connection_that_is_closed_when_it_is_used_again() {
    once_at(
        "M12",
        "keep-alive closed at reuse",
        On::Metadata,
        Fault::CloseAtReuse,
        Class::Unknown,
    )
    .await;
}

#[tokio::test]
async fn m13_an_answer_of_100_mib() {
    once(
        "M13",
        "answer of 100 MiB",
        stored(Fault::Huge),
        Class::Unknown,
    )
    .await;
}

#[tokio::test]
async fn m14_a_gzip_bomb_although_identity_was_asked_for() {
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..20 {
        bomb.write_all(&vec![b' '; 1 << 20]).unwrap();
    }
    let bomb = bomb.finish().unwrap();
    assert!(
        bomb.len() < limits().response,
        "it comes through whole, and stays packed"
    );
    let headers = "Content-Type: application/fhir+json\r\nContent-Encoding: gzip\r\n";
    once(
        "M14",
        "gzip bomb of 20 MiB",
        stored(Fault::Bytes(headers, bomb)),
        Class::LyingSuccess,
    )
    .await;
}

#[tokio::test]
async fn m15_redirects_round_and_round_to_another_host_and_to_the_metadata_address() {
    let run = against(PUT_ID).await;
    let elsewhere = Misbehaving::start(PUT_ID).await;
    let to = |place: &str| {
        let location = format!("Location: {place}\r\n");
        Fault::Answer(307, location.leak(), String::new())
    };
    let round = format!("{}/{FLAG}", run.hostile.base);
    let another = format!("{}/{FLAG}", elsewhere.base);
    let places = [&round, &another, "http://169.254.169.254/latest/meta-data/"];
    run.hostile.script(On::Write, places.map(to));
    run.outbox.put(1, one());
    run.deliver().await;
    assert_eq!(run.hold(), Some(Hold::Operator));
    let classes = run.finish(1).await;
    assert_eq!(classes[..3], [Class::Redirected; 3]);
    assert_eq!((classes.len(), run.hold()), (4, None));
    assert_eq!(run.waits(1), [300; 3]);
    assert!(elsewhere.truth().requests.is_empty());
    let end = "never followed; target held (operator), probed every 5 min, delivered";
    row(
        "M15",
        "redirects: loop, other host, metadata address",
        &classes,
        end,
    );
}

#[tokio::test]
async fn m16_a_clock_a_day_off() {
    let run = against(PUT_ID).await;
    let ahead =
        "Date: Sun, 22 Nov 2026 09:30:00 GMT\r\nRetry-After: Sun, 22 Nov 2026 09:30:00 GMT\r\n";
    let behind =
        "Date: Fri, 20 Nov 2026 09:30:00 GMT\r\nRetry-After: Fri, 20 Nov 2026 09:30:00 GMT\r\n";
    let faults = [ahead, behind].map(|headers| Fault::Answer(503, headers, String::new()));
    run.hostile.script(On::Write, faults);
    let classes = run.course(1, one()).await;
    assert_eq!(
        classes,
        [Class::Unavailable, Class::Unavailable, Class::Delivered]
    );
    assert_eq!(
        run.waits(1),
        [3630, 1],
        "at most an hour, at least a second"
    );
    let end = "its dates are believed between 1 s and 1 h, delivered";
    row("M16", "clock a day off", &classes, end);
}

#[tokio::test]
async fn m17_down_for_an_hour() {
    let run = against(PUT_ID).await;
    for on in [On::Metadata, On::Patient, On::Read, On::Write] {
        run.hostile.script(on, vec![Fault::status(503); 1000]);
    }
    for patient in 1..=20 {
        let mrn = patient.to_string();
        run.outbox.put(
            patient,
            leased(&mrn, vec![flag(&mrn, "a", "active", "low")]),
        );
    }
    for _ in 0..720 {
        run.deliver().await;
        run.pass(5);
    }
    let tried = run.hostile.truth().requests.len();
    assert!(tried <= 60, "{tried} requests in an hour");
    run.hostile.truth().end_faults();
    let mut classes = Vec::new();
    for patient in 1..=20 {
        classes.extend(run.finish(patient).await);
    }
    assert_eq!(run.writes(), 20);
    classes.sort_unstable();
    classes.dedup();
    assert_eq!(classes, [Class::Delivered, Class::Unavailable]);
    let end = format!("{tried} requests in the hour, then 20 of 20 delivered");
    row("M17", "503 for an hour, then well", &classes, &end);
}

/// By these certificates one after another, then by a good one.
async fn certificates(number: &'static str, what: &str, faults: &[Faulty], end: &str) {
    let secured = Secured::start().await;
    let target = secured.client(None).unwrap();
    let Secured {
        hostile,
        authorities,
        tls,
        directory: _directory,
    } = secured;
    let run = Run::with(hostile, target);
    run.outbox.put(1, one());
    let strangers = Authorities::new();
    for faulty in faults {
        let pair = match faulty {
            Faulty::Expired => authorities.certify_until("localhost", 2020),
            Faulty::Name => authorities.certify("other.example"),
            Faulty::SelfSigned => strangers.certify("localhost"),
            Faulty::OldTls => {
                run.hostile.script(On::Connection, [Fault::OldTls]);
                authorities.certify("localhost")
            }
        };
        *tls.lock().unwrap() = serving(&pair, None);
        run.deliver().await;
        assert_eq!(run.hold(), Some(Hold::Certificate), "{number}");
        run.pass(300);
    }
    assert!(
        run.hostile.truth().requests.is_empty(),
        "{number}: nothing was told to them"
    );
    *tls.lock().unwrap() = serving(&authorities.certify("localhost"), None);
    let classes = run.finish(1).await;
    assert_eq!(classes.len(), faults.len() + 1, "{number}: {classes:?}");
    assert!(
        classes[..faults.len()]
            .iter()
            .all(|class| *class == Class::Certificate)
    );
    assert_eq!((run.hold(), run.writes()), (None, 1), "{number}");
    row(number, what, &classes, end);
}

enum Faulty {
    Expired,
    Name,
    SelfSigned,
    OldTls,
}

const CERTIFIED: &str = "target held (certificate), probed every 5 min, delivered when mended";

#[tokio::test]
async fn m18_an_expired_certificate() {
    certificates("M18", "expired certificate", &[Faulty::Expired], CERTIFIED).await;
}

#[tokio::test]
async fn m19_a_wrong_name_an_unknown_authority_and_tls_1_0() {
    let faults = [Faulty::Name, Faulty::SelfSigned, Faulty::OldTls];
    certificates(
        "M19",
        "wrong name, self-signed, TLS 1.0",
        &faults,
        CERTIFIED,
    )
    .await;
}

#[tokio::test]
async fn m20_html_as_success() {
    once(
        "M20",
        "200 with HTML",
        ok("<html><body>Log in</body></html>"),
        Class::LyingSuccess,
    )
    .await;
}

#[tokio::test]
async fn m21_an_operation_outcome_error_as_success() {
    let run = against(PUT_ID).await;
    let error = json!({"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "exception"}]});
    run.hostile.script(On::Write, vec![ok(&error); 3]);
    let classes = run.course(1, one()).await;
    assert_eq!(classes, [Class::LyingSuccess; 3]);
    assert_eq!(run.parked_as(1), "bad-answer");
    assert_eq!(run.retry(1).await, [Class::Delivered]);
    assert_eq!(run.writes(), 1);
    row(
        "M21",
        "200 with OperationOutcome error, three times",
        &classes,
        "parked bad-answer; delivered by retry",
    );
}

#[tokio::test]
async fn m22_201_without_location_and_etag() {
    let run = against(PUT_ID).await;
    run.hostile.truth().habits.etag = Etag::Absent;
    run.hostile.script(On::Write, [stored(Fault::status(201))]);
    assert_eq!(run.course(1, one()).await, [Class::Delivered]);
    let classes = run.course(2, revised(&run)).await;
    assert_eq!(classes, [Class::Delivered]);
    assert_eq!(run.text(), REVISED);
    let truth = run.hostile.truth();
    assert_eq!(
        truth.requests.last().unwrap().headers["if-match"],
        "W/\"1\""
    );
    row(
        "M22",
        "201 without Location and ETag",
        &classes,
        "delivered; its version is read before the next write",
    );
}

#[tokio::test]
async fn m23_etags_that_are_strong_changing_or_missing() {
    let mut all = Vec::new();
    for (etag, expected) in [
        (Etag::Strong, vec![Class::Delivered]),
        (Etag::Changing, vec![Class::Conflict, Class::Delivered]),
        (Etag::Absent, vec![Class::Delivered]),
    ] {
        let run = against(PUT_ID).await;
        run.hostile.truth().habits.etag = etag;
        assert_eq!(run.course(1, one()).await, [Class::Delivered]);
        let classes = run.course(2, revised(&run)).await;
        assert_eq!(classes, expected);
        assert_eq!((run.text().as_str(), run.writes()), (REVISED, 2));
        all.extend(classes);
    }
    row(
        "M23",
        "ETag strong, wrong and changing, missing",
        &all,
        "delivered; meta.versionId stands in for a wrong one",
    );
}

#[tokio::test]
async fn m24_another_type_or_id_in_the_answer() {
    for lie in [
        json!({"resourceType": "Flag", "id": "another"}),
        json!({"resourceType": "Patient", "id": "mf-flag-1"}),
    ] {
        once(
            "M24",
            "other type or id in the answer",
            stored(ok(&lie)),
            Class::LyingSuccess,
        )
        .await;
    }
}

#[tokio::test]
async fn m25_invalid_json_duplicate_keys_and_utf_16() {
    let utf_16: Vec<u8> = "{\"resourceType\":\"Flag\"}"
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let json = "Content-Type: application/fhir+json\r\n";
    for lie in [
        ok("{\"resourceType\":\"Flag\","),
        ok("{\"resourceType\":\"Flag\",\"id\":\"other\",\"id\":\"mf-flag-1\"}"),
        ok("{\"resourceType\":\"Flag\",\"id\":\"mf-flag-1\",\"id\":\"other\"}"),
        Fault::Bytes(json, utf_16),
    ] {
        once(
            "M25",
            "invalid JSON, duplicate keys, UTF-16",
            stored(lie),
            Class::LyingSuccess,
        )
        .await;
    }
}

fn transaction_response(statuses: &[&str]) -> Fault {
    let entries: Vec<_> = statuses
        .iter()
        .map(|status| json!({"response": {"status": status}}))
        .collect();
    ok(&json!({"resourceType": "Bundle", "type": "transaction-response", "entry": entries}))
}

#[tokio::test]
async fn m26_a_transaction_response_with_mixed_statuses() {
    let run = against(TRANSACTION).await;
    run.hostile.script(
        On::Write,
        [transaction_response(&["201", "500", "201", "201"])],
    );
    let mut classes = run.course(1, all_four()).await;
    assert_eq!(classes, [Class::ServerFault, Class::Delivered]);
    assert_eq!(run.writes(), 4);

    let run = against(TRANSACTION).await;
    let mixed = transaction_response(&["201", "500", "422", "201"]);
    run.hostile.script(
        On::Write,
        [
            stored(mixed),
            transaction_response(&["200", "200", "422", "200"]),
        ],
    );
    assert_eq!(
        run.course(1, all_four()).await,
        [Class::ServerFault, Class::Delivered]
    );
    assert_eq!(run.writes(), 4, "what was stored all the same is found");
    let two = leased("2", four("2", "a", "active", "low"));
    let refused = run.course(2, two).await;
    assert_eq!(refused, [Class::Rejected]);
    assert_eq!(run.parked_as(2), "rejected");
    classes.extend(refused);
    row(
        "M26",
        "transaction-response with mixed statuses",
        &classes,
        "as the worst of them: verified, or parked rejected",
    );
}

#[tokio::test]
async fn m27_a_transaction_response_with_entries_missing_or_reordered() {
    let reordered = json!({"resourceType": "Bundle", "type": "transaction-response", "entry": [
        {"response": {"status": "201", "location": "Flag/mf-flag-1/_history/1"}},
        {"response": {"status": "201", "location": "Device/mf-device/_history/1"}},
        {"response": {"status": "201"}}, {"response": {"status": "201"}}
    ]});
    for lie in [transaction_response(&["201", "201", "201"]), ok(&reordered)] {
        let run = against(TRANSACTION).await;
        run.hostile.script(On::Write, [stored(lie)]);
        let classes = run.course(1, all_four()).await;
        assert_eq!(classes, [Class::LyingSuccess, Class::Delivered]);
        assert_eq!(run.writes(), 4);
        row(
            "M27",
            "entries missing or reordered",
            &classes,
            "verified, stored once each",
        );
    }
}

#[tokio::test]
async fn m28_storms_of_409() {
    for storm in [1, 19, 20] {
        let run = against(PUT_ID).await;
        run.hostile
            .script(On::Write, vec![Fault::status(409); storm]);
        let classes = run.course(1, one()).await;
        assert_eq!(*classes.last().unwrap(), Class::Delivered, "{storm} times");
        assert!(
            run.waits(1).iter().take(5).sum::<i64>() <= 60,
            "five repeats within a minute"
        );
        assert_eq!(run.writes(), 1);
    }
    let run = against(PUT_ID).await;
    run.hostile.script(On::Write, vec![Fault::status(409); 30]);
    let classes = run.course(1, one()).await;
    assert_eq!(classes, [Class::Conflict; 20]);
    assert_eq!(run.parked_as(1), "contended");
    run.hostile.truth().end_faults();
    assert_eq!(run.retry(1).await, [Class::Delivered]);
    row(
        "M28",
        "409 storm, 1 to 30 times",
        &classes,
        "up to 20: delivered; 30: parked contended; delivered by retry",
    );
}

#[tokio::test]
async fn m29_412_though_nothing_changed() {
    let run = against(PUT_ID).await;
    assert_eq!(run.course(1, one()).await, [Class::Delivered]);
    run.hostile.script(On::Write, vec![Fault::status(412); 3]);
    let classes = run.course(2, revised(&run)).await;
    assert_eq!(
        classes,
        [Class::Conflict, Class::Conflict, Class::Delivered]
    );
    assert_eq!((run.text().as_str(), run.writes()), (REVISED, 2));
    row(
        "M29",
        "412 though nothing changed, three times",
        &classes,
        "read again each time, delivered",
    );
}

#[tokio::test]
async fn m30_a_second_copy_on_a_repeated_post() {
    for promise in [CREATE_ONCE, SEARCH] {
        let run = against(promise).await;
        run.hostile.truth().habits.ignores_if_none_exist = true;
        run.hostile.script(On::Write, [stored(Fault::status(500))]);
        let classes = run.course(1, one()).await;
        assert_eq!(classes.first(), Some(&Class::ServerFault));
        assert_eq!(classes.last(), Some(&Class::Delivered));
        assert_eq!((run.flags(), run.writes()), (1, 1));
        row(
            "M30",
            "a second copy on a repeated POST",
            &classes,
            "searched for instead of repeated: one copy",
        );
    }
}

#[tokio::test]
async fn m31_404_and_then_201() {
    let run = against(PUT_ID).await;
    run.hostile.script(On::Write, [Fault::status(404)]);
    let classes = run.course(1, one()).await;
    assert_eq!(classes, [Class::WayRefused, Class::Delivered]);
    assert_eq!(run.flags(), 1);
    row(
        "M31",
        "404, then 201",
        &classes,
        "capability read again, next way of writing, one copy",
    );
}

#[tokio::test]
async fn m32_a_search_that_finds_after_ten_seconds() {
    for promise in [CREATE_ONCE, SEARCH] {
        let run = against(promise).await;
        run.hostile.truth().habits.ignores_if_none_exist = true;
        run.hostile.truth().habits.searches_lag = true;
        run.hostile.script(On::Write, [stored(Fault::Reset)]);
        run.outbox.put(1, one());
        while run.now() - NOW < time::Duration::seconds(10) {
            run.deliver().await;
            run.pass(1);
        }
        run.hostile.truth().habits.searches_lag = false;
        let classes = run.finish(1).await;
        assert_eq!(classes.first(), Some(&Class::Unknown));
        assert_eq!(classes.last(), Some(&Class::Delivered));
        assert_eq!((run.flags(), run.writes()), (1, 1));
        row(
            "M32",
            "search finds it after 10 s",
            &classes,
            "not written again until 15 s have passed: one copy",
        );
    }
}

/// The Device, which all patients share, is no second copy either.
#[tokio::test]
async fn eight_at_once_make_one_device_although_searches_lag() {
    for promise in [CREATE_ONCE, SEARCH] {
        let run = against(promise).await;
        run.hostile.truth().habits.ignores_if_none_exist = true;
        run.hostile.truth().habits.searches_lag = true;
        for patient in 1..=8 {
            let mrn = patient.to_string();
            let mut lease = leased(&mrn, four(&mrn, "a", "active", "low"));
            lease.patient.0 = patient;
            run.outbox.put(patient, lease);
        }
        assert_eq!(run.deliver().await, 8);
        let truth = run.hostile.truth();
        let standing = |kind: &str| {
            let places = truth.resources.keys();
            places.filter(|place| place.starts_with(kind)).count()
        };
        assert_eq!((standing("Flag/"), standing("Device/")), (8, 1));
    }
}

#[tokio::test]
async fn m33_a_search_that_finds_two() {
    let run = against(SEARCH).await;
    let item = flag("1", "a", "active", "low");
    for id in ["7", "8"] {
        let mut copy = item.body.clone();
        copy["id"] = json!(id);
        run.hostile
            .truth()
            .resources
            .insert(format!("Flag/{id}"), (1, copy));
    }
    let classes = run.course(1, one()).await;
    assert_eq!(classes, [Class::MultipleMatches]);
    assert_eq!(run.parked_as(1), "multiple-matches");
    assert_eq!(run.writes(), 0);
    let run = against(PUT_ID).await;
    run.hostile.truth().patients = Some(2);
    assert_eq!(run.course(1, one()).await, [Class::MultipleMatches]);
    assert_eq!(run.writes(), 0);
    row(
        "M33",
        "search finds two",
        &classes,
        "parked multiple-matches, nothing written",
    );
}

#[tokio::test]
async fn m34_it_drops_extensions_and_identifiers() {
    let run = against(PUT_ID).await;
    run.hostile.truth().habits.forgets = true;
    run.hostile.script(On::Write, [stored(Fault::Reset)]);
    let mut classes = run.course(1, one()).await;
    assert_eq!(classes, [Class::Unknown, Class::Delivered]);
    assert_eq!(run.writes(), 1, "known again without them");
    classes.extend(run.course(2, revised(&run)).await);
    assert_eq!(
        run.fates(2),
        [Fate::Written],
        "not taken for a human's edit"
    );
    assert_eq!((run.flags(), run.text().as_str()), (1, REVISED));
    row(
        "M34",
        "drops extensions and identifiers",
        &classes,
        "known by id and tag; delivered, stored once",
    );
}

/// Its first step: what a human wrote before our read is kept, and so it is after a takeover.
#[tokio::test]
async fn m35_it_ignores_if_match() {
    let run = against(PUT_ID).await;
    run.hostile.truth().habits.ignores_if_match = true;
    assert_eq!(run.course(1, one()).await, [Class::Delivered]);
    run.hostile
        .edit(FLAG, |flag| flag["status"] = json!("inactive"));
    let classes = run
        .course(
            2,
            Leased {
                verify_first: true,
                ..revised(&run)
            },
        )
        .await;
    assert_eq!(classes, [Class::Delivered]);
    assert_eq!(run.fates(2), [Fate::HumanEdited { inactive: true }]);
    assert_eq!(run.writes(), 1);
    row(
        "M35",
        "ignores If-Match (first step)",
        &classes,
        "a Flag is read before it is written: the human's edit kept",
    );
}

#[tokio::test]
async fn m36_a_capability_statement_that_lies_changes_and_is_5_mib() {
    let all = Promise {
        conditional_update: true,
        ..PUT_ID
    };
    let run = against(all).await;
    run.hostile.script(On::Write, [Fault::status(405)]);
    let classes = run.course(1, one()).await;
    assert_eq!(classes, [Class::WayRefused, Class::Delivered]);
    assert_eq!(
        run.hostile.truth().asked(On::Metadata),
        2,
        "read again after the lie"
    );

    let run = against(PUT_ID).await;
    assert_eq!(run.course(1, one()).await, [Class::Delivered]);
    run.hostile.truth().promises_now = Some(Promise {
        no_flag: true,
        ..PUT_ID
    });
    run.pass(24 * 3600);
    assert_eq!(run.course(2, revised(&run)).await, [Class::Delivered]);
    assert_eq!(
        run.fates(2),
        [Fate::NotWritable],
        "it changed, and that is noticed within a day"
    );

    let hostile = Misbehaving::start(PUT_ID).await;
    hostile.truth().habits.capability_padding = 5 << 20;
    let wide = Limits {
        response: Limits::default().response,
        ..limits()
    };
    let target = FhirServer::new(&hostile.base, Token::None, wide).unwrap();
    let run = Run::with(hostile, target);
    assert_eq!(run.course(1, one()).await, [Class::Delivered]);
    row(
        "M36",
        "capability statement lies, changes, is 5 MiB",
        &classes,
        "next way of writing; new promises within a day; read whole",
    );
}

#[tokio::test]
async fn m37_202_and_never_done() {
    let run = against(PUT_ID).await;
    run.hostile.truth().habits.only_accepts = true;
    let classes = run.course(1, one()).await;
    assert_eq!(run.parked_as(1), "expired");
    assert!(classes.iter().all(|class| *class == Class::AcceptedOnly));
    let days = (run.now() - NOW).whole_hours();
    assert!((72..73).contains(&days), "{days} h");
    assert!(run.waits(1).iter().skip(10).all(|wait| *wait >= 299));
    run.hostile.truth().habits.only_accepts = false;
    assert_eq!(run.retry(1).await, [Class::Delivered]);
    assert_eq!(run.writes(), 1);
    let end = format!(
        "read back {} times in 72 h, parked expired; delivered by retry",
        classes.len()
    );
    row("M37", "202 and never done", &classes, &end);
}

#[tokio::test]
async fn m38_a_human_edits_between_our_read_and_our_write() {
    let run = against(PUT_ID).await;
    assert_eq!(run.course(1, one()).await, [Class::Delivered]);
    run.hostile
        .script(On::Read, [Fault::ThenClosed(FLAG.to_owned())]);
    let classes = run.course(2, revised(&run)).await;
    assert_eq!(classes, [Class::Delivered]);
    assert_eq!(run.fates(2), [Fate::HumanEdited { inactive: true }]);
    assert_eq!((run.text().as_str(), run.writes()), ("low", 1));
    row(
        "M38",
        "a human edits between our read and our write",
        &classes,
        "If-Match lost, read again: the human's edit kept",
    );
}

#[tokio::test]
async fn m39_a_patient_merged_or_deleted_between_deliveries() {
    let called =
        |run: &Run, name: &str| run.hostile.truth().patients_are_called = Some(name.to_owned());
    let run = against(PUT_ID).await;
    run.hostile.truth().habits.checks_subjects = true;
    called(&run, "first");
    assert_eq!(run.course(1, one()).await, [Class::Delivered]);
    called(&run, "survivor");
    let mut classes = run.course(2, revised(&run)).await;
    assert_eq!(classes, [Class::Delivered], "merged");
    let subject = run.hostile.truth().resources[FLAG].1["subject"]["reference"].clone();
    assert_eq!(subject, "Patient/survivor");

    let run = against(PUT_ID).await;
    run.hostile.truth().habits.checks_subjects = true;
    called(&run, "first");
    assert_eq!(run.course(1, one()).await, [Class::Delivered]);
    called(&run, "nobody");
    run.hostile.truth().patients = Some(0);
    classes.extend(run.course(2, revised(&run)).await);
    assert_eq!(run.parked_as(2), "patient-unknown", "deleted");
    row(
        "M39",
        "patient merged or deleted between deliveries",
        &classes,
        "looked up again: the survivor's; or parked patient-unknown",
    );
}

#[tokio::test]
async fn m40_429_with_any_retry_after() {
    let run = against(PUT_ID).await;
    let headers = [
        "",
        "Retry-After: 7\r\n",
        "Retry-After: Sat, 21 Nov 2026 10:00:00 GMT\r\n",
        "Retry-After: 0\r\n",
        "Retry-After: -1\r\n",
        "Retry-After: 999999999\r\n",
        "Retry-After: in a moment\r\n",
    ];
    let faults = headers.map(|header| Fault::Answer(429, header, String::new()));
    run.hostile.script(On::Write, faults);
    let classes = run.course(1, one()).await;
    assert_eq!(classes[..7], [Class::Throttled; 7]);
    assert_eq!(classes.len(), 8);
    let waits = run.waits(1);
    // Seconds, a date (less what has passed), none, and the clamp of one hour; with the jitter at
    // its end.
    assert_eq!((waits[0], waits[1], waits[3], waits[4]), (2, 8, 1, 32));
    assert!((1700..=1830).contains(&waits[2]), "{waits:?}");
    assert_eq!((waits[5], waits[6]), (3630, 128));
    assert!(!run.courier.status()[0].open, "it is no failure");
    row(
        "M40",
        "429 with Retry-After of any kind",
        &classes,
        "waited for between 1 s and 1 h, else backoff; delivered",
    );
}

/// A client of SMART Backend Services, and its authorization server.
async fn smart() -> (Run, tempfile::TempDir) {
    let hostile = Misbehaving::start(PUT_ID).await;
    let directory = tempfile::tempdir().unwrap();
    registration(directory.path(), &[("e", "ES384")], "");
    let connection = Arc::new(Connection::new(limits(), TlsFiles::default()).unwrap());
    let file = directory.path().join("smart.toml");
    let smart = Smart::load(&file, &hostile.base, false, connection, rand::random).unwrap();
    let mut authority = Authority::at(&hostile.base, smart.public_keys(NOW).await);
    authority.ends_are_checked = false;
    hostile.truth().authority = Some(authority);
    let token = Token::Smart(Arc::new(smart));
    let target = FhirServer::new(&hostile.base, token, limits()).unwrap();
    (Run::with(hostile, target), directory)
}

fn authority(run: &Run, change: impl FnOnce(&mut Authority)) {
    change(run.hostile.truth().authority.as_mut().unwrap());
}

#[tokio::test]
async fn m41_a_token_endpoint_that_misbehaves() {
    let (run, _directory) = smart().await;
    let faults = [Fault::status(500), Fault::status(401), ok("<html></html>")];
    run.hostile.script(On::Token, faults);
    let mut classes = run.course(1, one()).await;
    assert_eq!(
        classes,
        [
            Class::NotSent,
            Class::Unauthorized,
            Class::Unauthorized,
            Class::Delivered
        ]
    );
    assert_eq!(
        run.waits(1)[1..],
        [60, 60],
        "asked once a minute while it refuses"
    );

    for (expires_in, an_hour_later) in [
        (json!(0), 2),
        (json!(-1), 2),
        (json!(null), 2),
        (json!("3600"), 2),
        (json!(1_000_000_000), 1),
    ] {
        let (run, _directory) = smart().await;
        authority(&run, |authority| authority.expires_in = expires_in.clone());
        assert_eq!(
            run.course(1, one()).await,
            [Class::Delivered],
            "{expires_in}"
        );
        run.pass(3600);
        assert_eq!(
            run.course(2, revised(&run)).await,
            [Class::Delivered],
            "{expires_in}"
        );
        assert_eq!(
            run.hostile.truth().asked(On::Token),
            an_hour_later,
            "{expires_in}"
        );
    }

    let (run, _directory) = smart().await;
    authority(&run, |authority| authority.nodes = 3);
    run.outbox.put(1, one());
    run.deliver().await;
    assert_eq!(run.hold(), Some(Hold::Forbidden), "refused twice");
    let node = run.finish(1).await;
    assert_eq!(
        node,
        [Class::Unauthorized, Class::Unauthorized, Class::Delivered]
    );
    assert_eq!(run.hold(), None);
    classes.extend(node);
    row(
        "M41",
        "token endpoint: 500, 401, HTML, lives, one node",
        &classes,
        "backoff, or target held and asked every 60 s; delivered",
    );
}

#[tokio::test]
async fn m42_401_at_every_second_call() {
    let (run, _directory) = smart().await;
    run.hostile.truth().habits.refuses_every_second = true;
    let classes = run.course(1, all_four()).await;
    assert_eq!(classes, [Class::Delivered]);
    assert_eq!((run.writes(), run.hold()), (4, None));
    let truth = run.hostile.truth();
    let refused = truth
        .requests
        .iter()
        .filter(|request| request.headers.contains_key("authorization"));
    assert!(
        truth.asked(On::Token) <= refused.count(),
        "at most one renewal for each refusal"
    );
    row(
        "M42",
        "401 at every second call",
        &classes,
        "one renewal and one repeat each time, delivered",
    );
}
