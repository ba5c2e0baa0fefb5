//! Hostile input is normal input: nothing that can be sent makes decoding panic, and what it says
//! about a body hangs together.

#![expect(
    clippy::expect_used,
    reason = "a test may stop where its data are wrong"
)]

use std::{fs, path::Path, sync::LazyLock};

use marrowflag::fhir::{
    model::Place,
    outcome,
    submission::{At, Checker, Kind, Refusal, Release, Submission},
    tree::{self, Limits},
};
use proptest::prelude::*;
use serde_json::Value;

static CHECKER: LazyLock<Checker> =
    LazyLock::new(|| Checker::new(Vec::new()).expect("the profiles compile"));

/// Name and text of each document of the fixtures, line by line where it is NDJSON.
static FIXTURES: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bundles");
    let mut found: Vec<(String, String)> = fs::read_dir(folder)
        .expect("the fixtures are there")
        .map(|file| file.expect("a file").path())
        .flat_map(|path| {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let text = fs::read_to_string(&path).expect("a text");
            let documents: Vec<String> = if name.ends_with(".ndjson") {
                text.lines().map(str::to_owned).collect()
            } else {
                vec![text]
            };
            documents
                .into_iter()
                .filter(|text| !text.trim().is_empty())
                .map(move |text| (name.clone(), text))
        })
        .collect();
    found.sort();
    found
});

/// What must hold of every submission, whatever was sent.
fn hangs_together(submission: &Submission<'_>) {
    for entry in &submission.entries {
        assert_eq!(
            entry.refused.is_some(),
            entry.issues.iter().any(outcome::Issue::is_error),
            "{entry:?}"
        );
    }
    let whole = submission.issues.iter().any(outcome::Issue::is_error);
    let some = submission
        .entries
        .iter()
        .any(|entry| entry.refused.is_some());
    let expected = whole || (submission.is_atomic() && some);
    assert_eq!(submission.refused.is_some(), expected);
    for issue in submission.all_issues() {
        assert!(outcome::lookup(issue.word).is_some(), "{}", issue.word);
        assert!(!issue.text.is_empty() && issue.text.chars().count() <= 200);
    }
    // What we answer is FHIR itself.
    let issues: Vec<_> = submission.all_issues().cloned().collect();
    let answer = outcome::operation_outcome(&issues);
    let text = answer.to_string();
    let parsed = tree::parse(text.as_bytes(), &Limits::default()).expect("JSON");
    assert_eq!(parsed.broken, []);
    let place = Place {
        expression: "OperationOutcome",
        pointer: "",
    };
    let wrong = CHECKER.model(Release::R4).check(&parsed.root, &place, 10);
    assert_eq!(wrong, [], "{answer}");
}

fn decode_everywhere(bytes: &[u8]) {
    let Ok(parsed) = tree::parse(bytes, &Limits::default()) else {
        return;
    };
    for release in [Release::R4, Release::R4b] {
        for at in [At::Door, At::Command] {
            hangs_together(&CHECKER.decode(&parsed, release, at));
        }
    }
}

#[test]
fn fixtures_are_refused_only_where_they_mean_to_be() {
    assert!(!FIXTURES.is_empty());
    for (name, text) in &*FIXTURES {
        let parsed = tree::parse(text.as_bytes(), &Limits::default()).expect("JSON");
        for release in [Release::R4, Release::R4b] {
            let submission = CHECKER.decode(&parsed, release, At::Command);
            hangs_together(&submission);
            let refused: Vec<_> = submission
                .entries
                .iter()
                .filter_map(|entry| entry.refused)
                .collect();
            let expected = if name == "one-entry-without-status.json" {
                vec![Refusal::Invalid]
            } else {
                Vec::new()
            };
            let told: Vec<_> = submission.all_issues().collect();
            assert_eq!(
                (submission.refused, refused),
                (None, expected),
                "{name} {told:?}"
            );
            let door = CHECKER.decode(&parsed, release, At::Door);
            let expected = (door.kind == Kind::Searchset).then_some(Refusal::Invalid);
            assert_eq!(door.refused, expected, "{name}");
        }
    }
}

#[test]
fn every_truncation_of_every_bundle_is_refused() {
    for (name, text) in &*FIXTURES {
        let text = text.trim_end();
        // Every place in a short one; a long one says little more at each of them.
        let step = 1 + text.len() / 4_000;
        for end in (0..text.len()).step_by(step) {
            let cut = text.as_bytes().get(..end).unwrap_or_default();
            let error = tree::parse(cut, &Limits::default()).expect_err("cut off");
            assert_eq!(error.word, "broken-text", "{name} cut at {end}");
        }
    }
}

/// Pieces that have broken decoders before.
const PIECES: &[&str] = &[
    "[]",
    "{}",
    "null",
    "\"\"",
    "[null]",
    "true",
    "-1",
    "1e400",
    "1e99",
    "0.0",
    "\"abc\"",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u0000",
    "\\ud800",
    "\u{feff}",
    "\u{0}",
    "\u{fffd}",
    "\"value\":\"9.4\",",
    "\"_status\":{\"id\":\"a\"},",
    "\"resourceType\":\"Bundle\",",
    "\"resourceType\":1,",
    "\"entry\":[{\"entry\":[{}]}],",
    "\"fullUrl\":\"x\",",
    "\"contained\":[{\"resourceType\":\"Patient\",\"contained\":[{}]}],",
    "\"reference\":\"#\",",
    "\"extension\":[{\"extension\":[{\"url\":\"a\"}]}],",
    "\"$serde_json::private::Number\":\"1\",",
    "\"valueString\":\"x\",\"valueString\":\"y\",",
    "\"request\":{\"method\":\"PUT\",\"url\":\"Observation/%00?x=|\"},",
    "\"meta\":[],",
    "\"modifierExtension\":[{\"url\":\"x\",\"valueBoolean\":true}],",
    "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
];

#[derive(Debug, Clone)]
enum Change {
    Insert(prop::sample::Index, usize),
    Delete(prop::sample::Index, usize),
    Byte(prop::sample::Index, u8),
    Copy(prop::sample::Index, prop::sample::Index, usize),
}

fn change() -> impl Strategy<Value = Change> {
    use prop::sample::Index;
    prop_oneof![
        (any::<Index>(), 0..PIECES.len()).prop_map(|(at, piece)| Change::Insert(at, piece)),
        (any::<Index>(), 1..40_usize).prop_map(|(at, len)| Change::Delete(at, len)),
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        (any::<Index>(), any::<Index>(), 1..200_usize)
            .prop_map(|(from, to, len)| Change::Copy(from, to, len)),
    ]
}

/// Where JSON has its joints: a piece put there is more often still JSON.
fn joint(bytes: &[u8], at: usize) -> usize {
    bytes
        .iter()
        .enumerate()
        .skip(at)
        .find(|(_, byte)| matches!(byte, b'{' | b',' | b'[' | b':'))
        .map_or(at, |(at, _)| at + 1)
}

fn apply(bytes: &mut Vec<u8>, change: &Change) {
    if bytes.is_empty() {
        return;
    }
    match change {
        Change::Insert(at, piece) => {
            let at = joint(bytes, at.index(bytes.len())).min(bytes.len());
            let piece = PIECES.get(*piece).copied().unwrap_or_default();
            bytes.splice(at..at, piece.bytes());
        }
        Change::Delete(at, len) => {
            let at = at.index(bytes.len());
            let end = (at + len).min(bytes.len());
            bytes.drain(at..end);
        }
        Change::Byte(at, byte) => {
            let at = at.index(bytes.len());
            if let Some(place) = bytes.get_mut(at) {
                *place = *byte;
            }
        }
        Change::Copy(from, to, len) => {
            let from = from.index(bytes.len());
            let end = (from + len).min(bytes.len());
            let piece = bytes.get(from..end).unwrap_or_default().to_vec();
            let to = joint(bytes, to.index(bytes.len())).min(bytes.len());
            bytes.splice(to..to, piece);
        }
    }
}

/// The same bytes for `serde_json`: taken or refused alike, and with the same content.
fn as_serde_json_reads_it(bytes: &[u8]) {
    // It would take a member with this name for a number of its own.
    let reserved = b"$serde_json::private";
    if bytes
        .windows(reserved.len())
        .any(|window| window == reserved)
    {
        return;
    }
    let theirs = serde_json::from_slice::<Value>(bytes);
    match (tree::parse(bytes, &Limits::default()), theirs) {
        (Ok(parsed), Ok(value)) => {
            let twice = parsed
                .broken
                .iter()
                .any(|broken| broken.word == "duplicate-key");
            if !twice {
                assert_eq!(parsed.root.to_value(), value);
                assert_eq!(tree::from_value(&value), parsed.root);
            }
        }
        (Err(error), Ok(_)) => assert_ne!(error.word, "broken-text", "{error}"),
        (Ok(parsed), Err(error)) => assert!(parsed.byte_order_mark, "{error}"),
        (Err(_), Err(_)) => {}
    }
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_filter_map("finite", |number| {
            number.is_finite().then(|| Value::from(number))
        }),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-zA-Z_]{0,6}|.*", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        as_serde_json_reads_it(&bytes);
        decode_everywhere(&bytes);
    }

    #[test]
    fn mutated_bundles_never_panic(
        fixture in any::<prop::sample::Index>(),
        changes in prop::collection::vec(change(), 1..6),
    ) {
        let (_, text) = fixture.get(&FIXTURES);
        let mut bytes = text.clone().into_bytes();
        for change in &changes {
            apply(&mut bytes, change);
        }
        as_serde_json_reads_it(&bytes);
        decode_everywhere(&bytes);
    }

    #[test]
    fn json_is_read_as_serde_json_reads_it(value in json()) {
        as_serde_json_reads_it(value.to_string().as_bytes());
        as_serde_json_reads_it(serde_json::to_string_pretty(&value).unwrap().as_bytes());
    }
}
