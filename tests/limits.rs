//! Every number of the model is moved one step up and one step down: at least one row of the case
//! tables must notice. What none notices is printed; in a gate, an excluding line or a grade that
//! fails, unless it is listed below with its reason.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::similar_names,
    reason = "a broken table fails its test; the environment narrows a run; what survives is printed"
)]

mod case_table;

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use case_table::{
    INDEX, Row, aplasia, as_of, grade_row,
    life::{self, Patient, flags, reports, told},
    outcome::{grades, label, lineage_text, listed, output, patterns, urgency},
    rows, statement, timeline,
};
use marrowflag::clinical::{
    decide::assess_with,
    explain,
    limits::{Limit, Tuning},
    rule_book,
    timeline::Timeline,
};

/// Survivors in a gate, an excluding line or a grade that cannot be noticed, and why.
const UNNOTICED: &[(&str, &str)] = &[
    ("D02.adult 18-", "the age band below 18 years is not asked"),
    ("D03.age 18+", "the age band from 18 years is not asked"),
    ("D06.age 5-", "the age band below 5 years is not asked"),
    ("D07.age 5+", "the age band from 5 years is not asked"),
    ("D08.age 5+", "the age band from 5 years is not asked"),
    ("D11.age 40+", "the age band from 40 years is not asked"),
    ("D14.age 18+", "the age band from 18 years is not asked"),
    ("D16.age 1-", "the age band below 1 year is not asked"),
    ("M01.age 1-", "the age band below 1 year is not asked"),
    ("anc.infant 1.0-", "0.99 is moderate by the grade limit 1.0"),
    (
        "anc.duffy_null_child 1.0-",
        "0.99 is moderate by the grade limit 1.0",
    ),
    (
        "anc.duffy_null_floor",
        "below 1.0 the grade limits decide; it bites only with a lower site limit",
    ),
];

/// One row, or for the life of Flags one case of several rows, of one table.
struct Entry {
    table: &'static str,
    rule: String,
    rows: Vec<Row>,
    timeline: Timeline,
}

/// What the columns of a row say of it under a tuning.
fn outcome(entry: &Entry, tuning: &Tuning) -> String {
    let [row, ..] = entry.rows.as_slice() else {
        return String::new();
    };
    let assess = || assess_with(&entry.timeline, as_of(row), tuning);
    match entry.table {
        "rules" => format!("{:?}", statement::differences(row, &entry.timeline, tuning)),
        "grades" => assess().lineages.iter().map(lineage_text).collect(),
        "aplasia_labels" => label(&assess()),
        "life_cycle" => {
            let mut patient = Patient::new();
            let mut text = String::new();
            for row in &entry.rows {
                let decision = life::take(&mut patient, row, tuning);
                text.push_str(&flags(&patient.findings));
                text.push_str(&told(&decision));
                text.push_str(&reports(&decision));
            }
            text
        }
        _ => {
            let assessment = assess();
            let doubts: BTreeSet<String> = assessment
                .doubts
                .iter()
                .map(|doubt| format!("{}:{}", doubt.analyte.key(), doubt.word))
                .collect();
            let said = |column: &str, text: String| {
                if row.get(column).is_empty() {
                    String::new()
                } else {
                    text
                }
            };
            [
                said("grades", grades(&assessment)),
                said("patterns", patterns(&assessment)),
                said("candidates", listed(&assessment, 9)),
                said("urgency", urgency(&assessment).to_owned()),
                said("output", output(&assessment).to_owned()),
                said("patterns", label(&assessment)),
                said("doubts", format!("{doubts:?}")),
                said("says", assessment.notes.join(" ")),
            ]
            .join("|")
        }
    }
}

fn entries() -> Vec<Entry> {
    let mut entries: Vec<Entry> = Vec::new();
    for table in [
        "rules",
        "limits",
        "worked",
        "quality",
        "grades",
        "aplasia_labels",
    ] {
        for row in rows(table) {
            entries.push(Entry {
                table,
                rule: row.get("rule").to_owned(),
                timeline: match table {
                    "grades" => grade_row(&row),
                    "aplasia_labels" => aplasia(&row),
                    _ => timeline(&row),
                },
                rows: vec![row],
            });
        }
    }
    let mut case = String::new();
    for row in rows("life_cycle") {
        if row.get("case") == case {
            entries.last_mut().expect("a case").rows.push(row);
        } else {
            row.get("case").clone_into(&mut case);
            entries.push(Entry {
                table: "life_cycle",
                rule: "life".to_owned(),
                timeline: Timeline::default(),
                rows: vec![row],
            });
        }
    }
    entries
}

/// One number, one step away.
struct Move {
    id: String,
    rule: String,
    name: String,
    tuning: Tuning,
    severe: bool,
}

fn rule_of(id: &str) -> String {
    id.split('.').next().unwrap_or_default().to_owned()
}

/// Limits that stand in a gate, a trigger, an excluding line or a grade.
fn severe() -> BTreeSet<&'static str> {
    let mut found: Vec<&'static Limit> = Vec::new();
    for rule in marrowflag::clinical::candidates::rules() {
        explain::limits_of(&rule.gate, &mut found);
        for line in rule.excluding {
            explain::limits_of(&line.when, &mut found);
        }
    }
    for watch in rule_book::watches().map(|(watch, _)| watch) {
        for level in watch.levels {
            explain::limits_of(&level.when, &mut found);
        }
    }
    let mut ids: BTreeSet<&'static str> = found.into_iter().map(|limit| limit.id).collect();
    ids.extend(
        rule_book::limits()
            .into_iter()
            .map(|limit| limit.id)
            .filter(|id| {
                ["hb.", "anc.", "plt."]
                    .iter()
                    .any(|grade| id.starts_with(grade))
            }),
    );
    ids
}

fn moves() -> Vec<Move> {
    let severe = severe();
    let mut moves = Vec::new();
    for limit in rule_book::limits() {
        for (sign, step) in [("+", limit.step), ("-", -limit.step)] {
            moves.push(Move {
                name: format!("{} {}{} {}", limit.id, limit.value, sign, limit.step),
                id: limit.id.to_owned(),
                rule: rule_of(limit.id),
                tuning: Tuning::none().with_limit(limit.id, limit.value + step),
                severe: severe.contains(limit.id),
            });
        }
    }
    for (id, points) in rule_book::points() {
        for moved in [points + 1, points - 1] {
            moves.push(Move {
                name: format!("{id} {points:+} -> {moved:+}"),
                id: id.clone(),
                rule: rule_of(&id),
                tuning: Tuning::none().with_points(&id, moved),
                severe: false,
            });
        }
    }
    moves
}

/// Whether a row notices; only rows that ask for the number are tried, those of its own rule
/// first, then those that noticed something before.
fn noticed(moved: &Move, usual: &[Usual], hits: &[AtomicUsize]) -> bool {
    let mut order: Vec<(&Usual, &AtomicUsize)> = usual
        .iter()
        .zip(hits)
        .filter(|(row, _)| row.asked.contains(&moved.id))
        .collect();
    order.sort_by_key(|(row, hits)| {
        let own = row.entry.rule == moved.rule;
        (!own, std::cmp::Reverse(hits.load(Ordering::Relaxed)))
    });
    order.into_iter().any(|(row, hits)| {
        let changed = outcome(&row.entry, &moved.tuning) != row.outcome;
        if changed {
            hits.fetch_add(1, Ordering::Relaxed);
        }
        changed
    })
}

/// A row with what it says when nothing is moved, and the numbers it asks for.
struct Usual {
    entry: Entry,
    outcome: String,
    asked: BTreeSet<String>,
}

fn usual(entry: Entry) -> Usual {
    let tuning = Tuning::recording();
    let outcome = outcome(&entry, &tuning);
    Usual {
        asked: tuning.asked(),
        entry,
        outcome,
    }
}

#[test]
#[ignore = "rows on both sides of every limit are still being written; `just limits` lists what is open"]
fn every_number_is_noticed_by_a_row() {
    let usual: Vec<Usual> = entries().into_iter().map(usual).collect();
    let only = std::env::var("MARROWFLAG_LIMITS").unwrap_or_default();
    let moves: Vec<Move> = moves()
        .into_iter()
        .filter(|moved| moved.name.starts_with(&only))
        .collect();
    let hits: Vec<AtomicUsize> = usual.iter().map(|_| AtomicUsize::new(0)).collect();
    let next = AtomicUsize::new(0);
    let workers = thread::available_parallelism().map_or(2, usize::from);
    let mut survivors: Vec<usize> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers)
            .map(|_| {
                scope.spawn(|| {
                    let mut survivors = Vec::new();
                    loop {
                        let place = next.fetch_add(1, Ordering::Relaxed);
                        let Some(moved) = moves.get(place) else {
                            return survivors;
                        };
                        if !noticed(moved, &usual, &hits) {
                            survivors.push(place);
                        }
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .flat_map(|worker| worker.join().expect("a worker"))
            .collect()
    });
    survivors.sort_unstable();
    println!(
        "{} moves over {} rows, {} survivors",
        moves.len(),
        usual.len(),
        survivors.len()
    );
    let mut unexplained = Vec::new();
    for moved in survivors.iter().filter_map(|place| moves.get(*place)) {
        let reason = UNNOTICED
            .iter()
            .find(|(id, _)| moved.name.starts_with(id))
            .map(|(_, reason)| *reason);
        println!(
            "survivor{} {} {}",
            if moved.severe {
                " (gate, exclusion or grade)"
            } else {
                ""
            },
            moved.name,
            reason.unwrap_or_default()
        );
        if moved.severe && reason.is_none() {
            unexplained.push(moved.name.clone());
        }
    }
    assert!(unexplained.is_empty(), "no row notices {unexplained:#?}");
}
