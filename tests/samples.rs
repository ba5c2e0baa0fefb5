//! Files that others wrote, read with the real decoder: what is understood, and what is not.
//!
//! `fixtures/wild/` holds the files that may be carried here (sources and licences in its
//! `README.md`); `fixtures/wild.csv` is what must come out of them. With `MARROWFLAG_SAMPLES`
//! pointing to a folder, every `.json` and `.ndjson` file below it is read as well, and a table by
//! source is printed.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a fixture that is not there fails the test"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use marrowflag::fhir::{
    codes::{self, CodeMap, Role},
    read::{
        self, Reading,
        table::{self, Format, Row},
    },
    submission::{At, Checker, Release},
    tree::{self, Limits},
};
use serde_json::Value;

/// Everything that one file gave.
#[derive(Default)]
struct File {
    rows: Vec<Row>,
    /// Paths of values whose LOINC code is of the blood count.
    counts: BTreeSet<String>,
    /// The same, found without the reader.
    expected: BTreeSet<String>,
    unreadable: usize,
}

fn documents(path: &Path, bytes: &[u8]) -> Vec<Vec<u8>> {
    if path
        .extension()
        .is_some_and(|extension| extension == "ndjson")
    {
        bytes
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(<[u8]>::to_vec)
            .collect()
    } else {
        vec![bytes.to_vec()]
    }
}

fn read_file(checker: &Checker, path: &Path) -> File {
    let bytes = fs::read(path).expect("a sample that can be read");
    let limits = Limits {
        entries: usize::MAX,
        ..Limits::default()
    };
    let mut file = File::default();
    for (number, document) in documents(path, &bytes).iter().enumerate() {
        let Ok(parsed) = tree::parse(document, &limits) else {
            file.unreadable += 1;
            continue;
        };
        let submission = checker.decode(&parsed, Release::R4, At::Command);
        let reading = read::read(&submission, &CodeMap::default());
        let line = format!("{number}:");
        file.counts
            .extend(counts(&reading).map(|path| format!("{line}{path}")));
        file.rows.extend(table::rows(&reading, &[]));
        if let Ok(value) = serde_json::from_slice::<Value>(document) {
            expect(&value, "", &mut |path| {
                file.expected.insert(format!("{line}{path}"));
            });
        }
    }
    file
}

fn is_count(role: &str) -> bool {
    matches!(role, "core" | "differential" | "red-cell" | "reticulocyte")
}

fn counts(reading: &Reading) -> impl Iterator<Item = String> {
    reading
        .patients
        .iter()
        .flat_map(|patient| &patient.values)
        .chain(&reading.aside)
        .filter(|value| value.role.as_deref().is_some_and(is_count))
        .map(|value| value.path.clone())
}

/// Finds blood counts by their LOINC code, without our tree, gate or reader.
fn expect(value: &Value, path: &str, found: &mut impl FnMut(String)) {
    match value {
        Value::Object(members) => {
            let kind = members.get("resourceType").and_then(Value::as_str);
            let path = match (path, kind) {
                ("", Some(kind)) => kind.to_owned(),
                _ => path.to_owned(),
            };
            if kind == Some("Observation") {
                if is_blood_count(value) {
                    found(path.clone());
                }
                for (place, component) in value["component"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .enumerate()
                {
                    if is_blood_count(component) {
                        found(format!("{path}.component[{place}]"));
                    }
                }
            }
            for (name, member) in members {
                if let Value::Array(items) = member {
                    for (place, item) in items.iter().enumerate() {
                        expect(item, &format!("{path}.{name}[{place}]"), found);
                    }
                } else {
                    expect(member, &format!("{path}.{name}"), found);
                }
            }
        }
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                expect(item, &format!("{path}[{place}]"), found);
            }
        }
        _ => {}
    }
}

fn is_blood_count(holder: &Value) -> bool {
    holder["code"]["coding"]
        .as_array()
        .into_iter()
        .flatten()
        .any(|coding| {
            coding["system"] == "http://loinc.org"
                && coding["code"]
                    .as_str()
                    .and_then(codes::term)
                    .is_some_and(|term| {
                        matches!(
                            term.role,
                            Role::Core | Role::Differential | Role::RedCell | Role::Reticulocyte
                        )
                    })
        })
}

fn samples_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of samples") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "json" || extension == "ndjson")
            {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

#[test]
fn the_files_we_carry_are_understood_as_written_down() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let checker = Checker::new(Vec::new()).expect("our own profiles");
    let mut text = String::from("file,");
    for (place, path) in samples_below(&folder.join("wild")).iter().enumerate() {
        let file = read_file(&checker, path);
        let name = path
            .strip_prefix(folder.join("wild"))
            .expect("below it")
            .display()
            .to_string();
        let lines = table::render(&file.rows, Format::Csv);
        for (number, line) in lines.lines().enumerate() {
            match number {
                0 if place == 0 => writeln!(text, "{line}").expect("a string"),
                0 => {}
                _ => writeln!(text, "{name},{line}").expect("a string"),
            }
        }
        let missing: Vec<_> = file.expected.difference(&file.counts).collect();
        assert!(missing.is_empty(), "{name}: no row for {missing:?}");
    }
    let snapshot = folder.join("wild.csv");
    let known = fs::read_to_string(&snapshot).unwrap_or_default();
    if known != text {
        let now = folder.join("wild.csv.new");
        fs::write(&now, &text).expect("the new rows");
        panic!(
            "what is understood has changed: compare {} with {}",
            snapshot.display(),
            now.display()
        );
    }
}

/// One line of the table by source.
#[derive(Default)]
struct Source {
    files: usize,
    unreadable: usize,
    expected: usize,
    used: usize,
    missing: usize,
    unused: BTreeMap<String, usize>,
}

#[test]
fn every_sample_of_the_folder_is_read_or_says_why_not() {
    let Some(folder) = std::env::var_os("MARROWFLAG_SAMPLES").map(PathBuf::from) else {
        println!("skipped: MARROWFLAG_SAMPLES names no folder of samples");
        return;
    };
    let checker = Checker::new(Vec::new()).expect("our own profiles");
    let mut by_source: BTreeMap<String, Source> = BTreeMap::new();
    let mut missing = Vec::new();
    for path in samples_below(&folder) {
        let name = path.strip_prefix(&folder).expect("below it").to_owned();
        let source = name
            .components()
            .next()
            .map(|part| part.as_os_str().to_string_lossy().into_owned());
        let file = read_file(&checker, &path);
        let line = by_source.entry(source.unwrap_or_default()).or_default();
        line.files += 1;
        line.unreadable += file.unreadable;
        line.expected += file.expected.len();
        let count_paths: BTreeSet<&str> = file
            .expected
            .iter()
            .filter_map(|path| path.split_once(':').map(|(_, path)| path))
            .collect();
        for row in &file.rows {
            if !count_paths.contains(row.path.as_str()) {
                continue;
            }
            if row.used {
                line.used += 1;
            } else {
                let word = row.why.split(':').next().unwrap_or_default().to_owned();
                *line.unused.entry(word).or_default() += 1;
                if std::env::var_os("MARROWFLAG_SAMPLES_UNUSED").is_some() {
                    println!(
                        "unused {} {} {} {} [{}] {}",
                        name.display(),
                        row.path,
                        row.analyte,
                        row.value,
                        row.unit,
                        row.why
                    );
                }
            }
        }
        let lost: Vec<_> = file.expected.difference(&file.counts).cloned().collect();
        line.missing += lost.len();
        missing.extend(
            lost.into_iter()
                .map(|path| format!("{} {path}", name.display())),
        );
    }
    println!(
        "{:32} {:>5} {:>10} {:>8} {:>6} {:>7}  unused",
        "source", "files", "unreadable", "expected", "used", "missing"
    );
    for (source, line) in &by_source {
        println!(
            "{source:32} {:>5} {:>10} {:>8} {:>6} {:>7}  {:?}",
            line.files, line.unreadable, line.expected, line.used, line.missing, line.unused
        );
    }
    for line in &missing {
        println!("missing {line}");
    }
}
