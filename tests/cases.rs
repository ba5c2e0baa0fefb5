//! The clinicians' case tables in `fixtures/cases`: edit a cell, run `cargo test --test cases`.
//!
//! A row names the rules it needs; where one of them is not written yet the row waits, and only
//! its grades are checked. The counts of rows that ran and that wait are printed.
#![expect(
    clippy::print_stdout,
    reason = "the counts of rows are what a run is to show"
)]

mod case_table;

use std::collections::{BTreeMap, BTreeSet};

use case_table::{
    INDEX, Row, aplasia, as_of, grade_row,
    life::{self, Patient, flags, reports, told},
    outcome::{
        counts_label, graded, grades, label, limit_text, listed, output, patterns, texts, urgency,
    },
    rows, statement, timeline,
};
use marrowflag::clinical::{
    candidates,
    decide::{assess, decide, trace},
    limits::Tuning,
    wording,
};

fn written(rule: &str) -> bool {
    candidates::rules().any(|known| known.id == rule)
}

/// What of a row did not come out as it says.
#[derive(Default)]
struct Mismatches(Vec<String>);

impl Mismatches {
    fn compare(&mut self, id: &str, what: &str, expected: &str, found: &str) {
        if expected != found {
            self.0.push(format!(
                "{id} {what}: expected {expected:?}, found {found:?}"
            ));
        }
    }

    fn check(self, table: &str, ran: usize, waiting: &BTreeMap<String, usize>) {
        let rows: usize = waiting.values().sum();
        println!("{table}: {ran} rows ran, {rows} wait {waiting:?}");
        assert!(self.0.is_empty(), "{}", self.0.join("\n"));
        assert!(ran > 0, "the table {table} is empty");
    }
}

fn run(row: &Row, mismatches: &mut Mismatches) -> bool {
    let id = row.get("id");
    let assessment = assess(&timeline(row), as_of(row));
    for text in texts(&assessment) {
        if let Some(found) = wording::forbidden(&text) {
            mismatches.0.push(format!("{id} says {found:?}: {text}"));
        }
    }
    let mut check = |what: &str, found: &str| {
        let expected = row.get(what);
        if !expected.is_empty() {
            mismatches.compare(id, what, expected, found);
        }
    };
    check("grades", &grades(&assessment));
    check("patterns", &patterns(&assessment));
    if !row.get("needs").split_whitespace().all(written) {
        let found = listed(&assessment, usize::MAX);
        for expected in row.get("candidates").split(", ") {
            let rule = expected.split(' ').next().unwrap_or_default();
            if written(rule) && !found.contains(expected) {
                mismatches.0.push(format!(
                    "{id} candidates: expected {expected:?} in {found:?}"
                ));
            }
        }
        return false;
    }
    let most = if row.get("candidates").split(',').count() >= 4 {
        4
    } else {
        9
    };
    // Tables name at most four.
    check("candidates", &listed(&assessment, most));
    check("urgency", urgency(&assessment));
    check("output", output(&assessment));
    if !row.get("patterns").is_empty() {
        mismatches.compare(id, "label", row.get("label"), &label(&assessment));
    }
    let doubts: Vec<String> = assessment
        .doubts
        .iter()
        .map(|doubt| format!("{}:{}", doubt.analyte.key(), doubt.word))
        .collect();
    let none = row.get("doubts") == "none";
    if none && !doubts.is_empty() {
        mismatches
            .0
            .push(format!("{id}: doubts where none are expected: {doubts:?}"));
    }
    for doubt in row.get("doubts").split_whitespace().filter(|_| !none) {
        if !doubts.iter().any(|found| found == doubt) {
            mismatches
                .0
                .push(format!("{id}: no doubt {doubt:?} among {doubts:?}"));
        }
    }
    let said = texts(&assessment).join("\n");
    for phrase in row
        .get("says")
        .split('|')
        .filter(|phrase| !phrase.is_empty())
    {
        let absent = phrase.strip_prefix('!');
        if absent.map_or(!said.contains(phrase), |phrase| said.contains(phrase)) {
            mismatches
                .0
                .push(format!("{id} does not say {phrase:?}:\n{said}"));
        }
    }
    true
}

fn run_table(name: &str) {
    let mut mismatches = Mismatches::default();
    let mut waiting: BTreeMap<String, usize> = BTreeMap::new();
    let mut ran = 0;
    for row in rows(name) {
        if run(&row, &mut mismatches) {
            ran += 1;
        } else {
            let missing = row
                .get("needs")
                .split_whitespace()
                .find(|rule| !written(rule))
                .unwrap_or_default();
            *waiting.entry(missing.to_owned()).or_default() += 1;
        }
    }
    mismatches.check(name, ran, &waiting);
}

/// Every numbered case that clinicians worked out has a row, so that none is lost.
#[test]
fn every_numbered_case_has_a_row() {
    let mut known: BTreeSet<String> = BTreeSet::new();
    for table in ["worked", "quality"] {
        known.extend(rows(table).iter().map(|row| row.get("id").to_owned()));
    }
    for row in rows("life_cycle") {
        known.extend(row.get("case").split(' ').next().map(str::to_owned));
    }
    let numbered = (1..=163)
        .map(|number| format!("W{number:02}"))
        .chain((1..=30).map(|number| format!("Q{number:02}")))
        .chain((1..=20).map(|number| format!("L{number:02}")));
    let lost: Vec<String> = numbered.filter(|id| !known.contains(id)).collect();
    assert!(lost.is_empty(), "no row for {lost:?}");
}

#[test]
fn worked_cases() {
    run_table("worked");
}

#[test]
fn data_quality_cases() {
    run_table("quality");
}

/// Windows, patterns and safety rules on both sides of each limit.
#[test]
fn limits_of_patterns_and_windows() {
    run_table("limits");
}

/// One statement about one rule per row: its gate, its points, what argues against it.
#[test]
fn statements_about_rules() {
    let mut mismatches = Mismatches::default();
    let mut ran = 0;
    for row in rows("rules") {
        for (column, expected, found) in
            statement::differences(&row, &timeline(&row), &Tuning::none())
        {
            let id = format!("{} {:?}", row.get("rule"), row.get("why"));
            mismatches.compare(&id, column, &expected, &found);
        }
        ran += 1;
    }
    mismatches.check("rules", ran, &BTreeMap::new());
}

/// What is said of a row of any table, and its whole trace, keeps the wording rules.
#[test]
fn every_row_is_worded_as_it_may_be() {
    let mut said = BTreeSet::new();
    for row in ["rules", "limits", "worked", "quality"]
        .map(rows)
        .iter()
        .flatten()
    {
        let (timeline, as_of) = (timeline(row), as_of(row));
        said.extend(texts(&assess(&timeline, as_of)));
        for step in trace(&timeline, as_of) {
            said.insert(step.question);
            said.extend(step.inputs);
        }
    }
    let broken: Vec<_> = said
        .iter()
        .filter_map(|text| Some((wording::forbidden(text)?, text)))
        .collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn boundaries_of_the_grades() {
    let mut mismatches = Mismatches::default();
    let mut ran = 0;
    for row in rows("grades") {
        let assessment = assess(&grade_row(&row), INDEX);
        let found = graded(&assessment)
            .into_iter()
            .find(|text| text.starts_with(row.get("lineage")))
            .unwrap_or_default();
        let expected = format!("{} {}", row.get("lineage"), row.get("grade"));
        mismatches.compare(row.get("id"), "grade", &expected, &found);
        if !row.get("limit").is_empty() {
            let found = limit_text(&assessment, row.get("lineage"));
            mismatches.compare(row.get("id"), "limit", row.get("limit"), &found);
        }
        ran += 1;
    }
    mismatches.check("grades", ran, &BTreeMap::new());
}

/// The label of the aplastic anaemia counts, which is printed only when the rule is listed.
#[test]
fn labels_of_aplastic_anaemia() {
    let mut mismatches = Mismatches::default();
    let mut ran = 0;
    for row in rows("aplasia_labels") {
        let assessment = assess(&aplasia(&row), INDEX);
        let label = counts_label(&assessment);
        mismatches.compare(row.get("id"), "label", row.get("label"), &label);
        ran += 1;
    }
    mismatches.check("aplasia_labels", ran, &BTreeMap::new());
}

#[test]
fn life_cycle_cases() {
    let mut mismatches = Mismatches::default();
    let mut patient = Patient::new();
    let mut case = String::new();
    let mut ran = 0;
    for row in rows("life_cycle") {
        if row.get("case") != case {
            row.get("case").clone_into(&mut case);
            patient = Patient::new();
        }
        let decision = life::take(&mut patient, &row, &Tuning::none());
        let id = format!("{case} {}{}", row.get("day"), row.get("event"));
        mismatches.compare(&id, "flags", row.get("flags"), &flags(&patient.findings));
        mismatches.compare(&id, "told", row.get("told"), &told(&decision));
        mismatches.compare(&id, "reports", row.get("reports"), &reports(&decision));
        if !row.get("reason").is_empty() {
            mismatches.compare(&id, "reason", row.get("reason"), &life::reasons(&decision));
        }
        // The same again changes nothing.
        let again = decide(&patient.timeline, &patient.findings, patient.as_of);
        if again
            .flags
            .iter()
            .any(|change| change.write || change.notify)
        {
            mismatches
                .0
                .push(format!("{id}: a replay writes {:?}", again.flags));
        }
        ran += 1;
    }
    mismatches.check("life_cycle", ran, &BTreeMap::new());
}

/// Whatever the order of arrival, the Flags end the same (`--as-of sampled`).
#[test]
fn order_of_arrival_changes_nothing() {
    let counts = [
        ("0", "ANC 0.4"),
        ("3", "ANC 2.0"),
        ("12", "ANC 2.1"),
        ("40", "ANC 0.8, PLT 60"),
        ("47", "ANC 0.9, PLT 40"),
    ];
    let mut seen: Option<String> = None;
    for rotation in 0..counts.len() {
        for reversed in [false, true] {
            let mut order = counts;
            order.rotate_left(rotation);
            if reversed {
                order.reverse();
            }
            let mut patient = Patient::new();
            for (when, results) in order {
                patient.receive(when, results);
                patient.submit("", &Tuning::none());
            }
            let text = flags(&patient.findings);
            assert_eq!(seen.get_or_insert_with(|| text.clone()), &text, "{order:?}");
        }
    }
}
