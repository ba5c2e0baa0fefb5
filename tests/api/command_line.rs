//! The commands, as a user types them.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::app::{batch, fixture, haemoglobin, pancytopenia, patient};

fn marrowflag(args: &[&str], input: Option<&str>) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_marrowflag"))
        .args(args)
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bundles"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that refuses its input does not read it to the end.
    let _ = child
        .stdin
        .take()
        .unwrap()
        .write_all(input.unwrap_or_default().as_bytes());
    child.wait_with_output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn assess_writes_one_transaction_bundle() {
    let output = marrowflag(&["assess", "pancytopenia.json"], None);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let bundle: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(bundle["resourceType"], "Bundle");
    assert_eq!(bundle["type"], "transaction");
    let kinds: Vec<&str> = bundle["entry"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["resource"]["resourceType"].as_str().unwrap())
        .collect();
    for kind in ["Device", "DiagnosticReport", "Flag", "Provenance"] {
        assert!(kinds.contains(&kind), "{kinds:?}");
    }
    assert_eq!(
        marrowflag(&["assess", "pancytopenia.json"], None).stdout,
        output.stdout,
        "deterministic"
    );
}

#[test]
fn assess_without_a_finding_writes_a_bundle_without_entries() {
    let output = marrowflag(&["assess", "normal.json"], None);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let bundle: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert!(bundle.get("entry").is_none(), "{bundle}");
    assert!(
        stderr(&output).contains("no cytopenia"),
        "{}",
        stderr(&output)
    );
    let alone = batch(&[patient("p1"), haemoglobin("p1", "14.0")]);
    let single = marrowflag(&["assess"], Some(&alone.to_string()));
    assert_eq!(single.status.code(), Some(0), "{}", stderr(&single));
    assert!(
        stderr(&single).contains("insufficient data"),
        "{}",
        stderr(&single)
    );
}

#[test]
fn assess_as_text_is_what_a_clinician_reads() {
    let output = marrowflag(&["assess", "--format", "text", "pancytopenia.json"], None);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(text.starts_with('U'), "{text}");
    for expected in ["Pancytopenia", "Candidates", "Output: "] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let explained = stdout(&marrowflag(
        &[
            "assess",
            "--format",
            "text",
            "--explain",
            "pancytopenia.json",
        ],
        None,
    ));
    assert!(explained.len() > text.len());
}

#[test]
fn assess_takes_standard_input_single_resources_and_lines() {
    let bundle = fixture("pancytopenia.json");
    assert_eq!(
        marrowflag(&["assess", "-"], Some(&bundle)).status.code(),
        Some(0)
    );
    assert_eq!(
        marrowflag(&["assess", "wild-panel.json"], None)
            .status
            .code(),
        Some(0)
    );
    let lines = marrowflag(&["assess", "--format", "text", "wild-results.ndjson"], None);
    assert_eq!(lines.status.code(), Some(0), "{}", stderr(&lines));
    assert!(!stdout(&lines).is_empty());
    for name in [
        "wild-searchset.json",
        "wild-collection.json",
        "wild-document.json",
        "wild-spellings.json",
    ] {
        let output = marrowflag(&["assess", name], None);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", stderr(&output));
        let bundle: Value = serde_json::from_str(&stdout(&output)).unwrap();
        assert!(bundle["entry"].is_array(), "{name}: {bundle}");
    }
}

#[test]
fn what_is_unreadable_ends_with_2_and_says_where() {
    for text in ["", "{", "not json", "{\"resourceType\":\"Bundle\"} x"] {
        let output = marrowflag(&["assess"], Some(text));
        assert_eq!(output.status.code(), Some(2), "{text}: {}", stderr(&output));
        assert_eq!(stdout(&output), "");
        let outcome: Value = serde_json::from_str(&stderr(&output)).unwrap();
        assert_eq!(outcome["resourceType"], "OperationOutcome");
        assert!(
            outcome["issue"][0]["diagnostics"]
                .as_str()
                .unwrap()
                .contains("line"),
            "{outcome}"
        );
    }
    assert_eq!(
        marrowflag(&["assess", "no-such-file.json"], None)
            .status
            .code(),
        Some(74)
    );
}

#[test]
fn what_breaks_the_profile_ends_with_3_and_says_where() {
    let mut results = pancytopenia("p1");
    results[2].as_object_mut().unwrap().remove("status");
    let output = marrowflag(&["assess"], Some(&batch(&results).to_string()));
    assert_eq!(output.status.code(), Some(3), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("Bundle.entry[2].resource.status"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn xml_is_said_to_be_missing() {
    let output = marrowflag(&["assess", "--format", "xml", "pancytopenia.json"], None);
    assert_eq!(output.status.code(), Some(64));
    assert!(stderr(&output).contains("XML"), "{}", stderr(&output));
}

#[test]
fn read_has_the_promised_columns() {
    let output = marrowflag(
        &["read", "--format", "csv", "haemoglobin-in-wrong-unit.json"],
        None,
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    let mut rows = csv::Reader::from_reader(text.as_bytes());
    assert_eq!(
        rows.headers().unwrap().iter().collect::<Vec<_>>(),
        [
            "patient",
            "analyte",
            "value",
            "unit",
            "canonical_value",
            "canonical_unit",
            "effective",
            "path",
            "used",
            "why"
        ]
    );
    let rows: Vec<csv::StringRecord> = rows.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().any(|row| &row[8] == "true"));
    let line = marrowflag(&["read", "--format", "ndjson", "pancytopenia.json"], None);
    let first: Value = serde_json::from_str(stdout(&line).lines().next().unwrap()).unwrap();
    for column in [
        "patient",
        "analyte",
        "value",
        "unit",
        "canonical_value",
        "canonical_unit",
        "effective",
        "path",
        "used",
    ] {
        assert!(first.get(column).is_some(), "{column}: {first}");
    }
    assert!(
        stdout(&marrowflag(&["read", "pancytopenia.json"], None))
            .contains("Bundle.entry[1].resource")
    );
}

#[test]
fn validate_ends_with_1_when_something_is_wrong() {
    assert_eq!(
        marrowflag(&["validate", "pancytopenia.json", "normal.json"], None)
            .status
            .code(),
        Some(0)
    );
    let output = marrowflag(&["validate", "one-entry-without-status.json"], None);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stdout(&output).contains("Bundle.entry[2].resource.status"),
        "{}",
        stdout(&output)
    );
}

#[test]
fn rules_and_profiles_are_compiled_in() {
    let rules = stdout(&marrowflag(&["rules"], None));
    assert!(rules.starts_with('#'), "{rules}");
    let json: Value =
        serde_json::from_str(&stdout(&marrowflag(&["rules", "--format", "json"], None))).unwrap();
    assert!(json["rules"].as_array().unwrap().len() > 20, "{json}");
    let profiles = stdout(&marrowflag(&["profiles"], None));
    assert!(profiles.contains("blood-count-observation"), "{profiles}");
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        marrowflag(&["profiles", "--write", dir.path().to_str().unwrap()], None)
            .status
            .code(),
        Some(0)
    );
    assert!(
        dir.path()
            .join("blood-count-observation.schema.json")
            .exists()
    );
}

#[test]
fn a_wrong_command_line_ends_with_64_and_help_teaches() {
    assert_eq!(marrowflag(&["asses"], None).status.code(), Some(64));
    assert_eq!(
        marrowflag(&["serve", "--listen", "nowhere"], None)
            .status
            .code(),
        Some(64)
    );
    for command in [
        "serve",
        "assess",
        "read",
        "validate",
        "rules",
        "profiles",
        "deliveries",
    ] {
        let help = marrowflag(&[command, "--help"], None);
        assert_eq!(help.status.code(), Some(0));
        assert!(stdout(&help).contains("Example"), "{command}");
    }
}

#[test]
fn serving_strangers_without_meaning_to_ends_with_78() {
    let output = marrowflag(&["serve", "--listen", "0.0.0.0:0"], None);
    assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("--insecure"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn a_database_that_is_none_ends_with_65() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.db");
    std::fs::write(&path, "this is no database, but it is longer than a header of one hundred bytes, to be sure of it ......").unwrap();
    std::fs::write(dir.path().join("m.db.identity-key"), "00".repeat(32)).unwrap();
    let output = marrowflag(
        &[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--database",
            &format!("sqlite:{}", path.display()),
        ],
        None,
    );
    assert_eq!(output.status.code(), Some(65), "{}", stderr(&output));
}

#[cfg(unix)]
#[test]
fn a_service_told_to_stop_ends_with_0() {
    use std::io::{BufRead as _, BufReader};
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_marrowflag"))
        .args(["serve", "--listen", "127.0.0.1:0", "--database"])
        .arg(format!("sqlite:{}", dir.path().join("m.db").display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.starts_with("marrowflag "), "{line}");
    let killed = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn deliveries_are_listed_without_a_service() {
    let dir = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", dir.path().join("m.db").display());
    let output = marrowflag(&["deliveries", "list", "--database", &database], None);
    assert_ne!(output.status.code(), Some(0), "there is no database yet");
    assert!(
        !dir.path().join("m.db").exists(),
        "listing makes no database"
    );
}

#[tokio::test]
async fn no_line_of_the_log_repeats_what_was_sent() {
    use std::io::{BufRead as _, BufReader};
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_marrowflag"))
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--log",
            "trace",
            "--database",
        ])
        .arg(format!("sqlite:{}", dir.path().join("m.db").display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let base = line.trim().rsplit(' ').next().unwrap().to_owned();
    let client = reqwest::Client::builder().build().unwrap();
    let mut results = pancytopenia("MarkedPatient");
    results[1]["identifier"][0]["value"] = "MarkedResult".into();
    results[2]["status"] = "MarkedStatus".into();
    let whole = batch(&results).to_string();
    for body in [whole.clone(), whole[..whole.len() - 5].to_owned()] {
        client
            .post(format!("{base}/fhir?x=MarkedQuery"))
            .header("content-type", "application/fhir+json")
            .header("x-marked", "MarkedHeader")
            .body(body)
            .send()
            .await
            .unwrap();
    }
    for path in [
        "Flag?patient=MarkedPatient",
        "Flag/MarkedId",
        "Observation/MarkedId",
        "MarkedType/1",
    ] {
        client
            .get(format!("{base}/fhir/{path}"))
            .send()
            .await
            .unwrap();
    }
    let killed = Command::new("kill")
        .args(["-TERM", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(killed.success());
    let log = child.wait_with_output().unwrap().stderr;
    let log = String::from_utf8(log).unwrap();
    assert!(log.contains("answered"), "{log}");
    assert!(!log.to_lowercase().contains("marked"), "{log}");
}
