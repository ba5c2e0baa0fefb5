//! Every number of the model is moved one step up and one step down: at least one row of the case
//! tables must notice, unless it is listed below with the reason why none can.

#![expect(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::similar_names,
    reason = "a broken table fails its test; the environment narrows a run; what survives is printed"
)]

mod case_table;

use std::{
    collections::{BTreeSet, HashMap},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use case_table::{
    Row, aplasia, as_of, grade_row,
    life::{self, Patient, flags, reports, told},
    outcome::{graded, grades, label, limit_text, listed, output, patterns, texts, urgency},
    rows, statement, timeline,
};
use marrowflag::clinical::{
    candidates,
    decide::assess_with,
    explain,
    limits::{Limit, Tuning},
    rule::Band,
    rule_book,
    timeline::Timeline,
};

/// Age limits at the edge of a band in which the rule is not asked: the move, the rule, the band.
const EDGES: &[(&str, &str, Band)] = &[
    ("D02.adult-", "D02", Band::Adolescent),
    ("D03.age+", "D03", Band::Young),
    ("D06.age-", "D06", Band::Toddler),
    ("D07.age+", "D07", Band::Child),
    ("D08.age+", "D08", Band::Child),
    ("D11.age+", "D11", Band::Middle),
    ("D14.age+", "D14", Band::Young),
    ("D16.age-", "D16", Band::Infant),
    ("M01.age-", "M01", Band::Infant),
];

/// Moves that no row can notice, and why. A star stands for anything.
const UNNOTICED: &[(&str, &str)] = &[
    (
        "anc.duffy_null_floor*",
        "below 1.0 the grades decide; it bites only with a lower site limit",
    ),
    ("ctcae.anc2+", "neutrophils of 1.5 are not low"),
    ("wbc.*.upper*", "no rule asks for many white cells by age"),
    ("wbc.1d.until*", "the lower limit stays the same"),
    ("wbc.7d.until*", "the lower limit stays the same"),
    ("wbc.183d.until*", "the lower limit stays the same"),
    ("wbc.16a.until*", "the lower limit stays the same"),
    ("amc.*.lower*", "C8 has a number of its own"),
    (
        "arc.*.*",
        "the reticulocyte classes have numbers of their own",
    ),
    ("window.gcsf-", "`gcsf_14` says the same of the 14th day"),
    (
        "window.gcsf_peg-",
        "`gcsf_14` says the same of the 21st day",
    ),
    (
        "window.transfused-",
        "`rbc_transfusion_120d` says the same of the 120th day",
    ),
    ("late_recovery.days-", "`chemo_42` covers the 42nd day"),
    (
        "fever.anc*",
        "asked only of counts before the newest one, and they are not judged for fever in a row",
    ),
    (
        "t2.wbc_high*",
        "only white cells of exactly 1000 lie in the zone",
    ),
    ("t2.plt_high+", "only multiples of 1000 lie in the zone"),
    (
        "output.d18_anc*",
        "S03 says as much, and the gate of D18 ends there",
    ),
    ("output.m10_plt+", "the gate of M10 ends there"),
    ("recovery.counts-", "one count spans no 7 d"),
    (
        "recovery.cycle_counts-",
        "two counts 42 d apart are no longer one series",
    ),
    (
        "escalation.blasts*",
        "blasts of 1 % raise a Flag of another family",
    ),
    (
        "escalation.fever_anc*",
        "fever with ANC up to 0.5 raises a Flag of another family",
    ),
    ("S06.blasts+", "blasts of 1 % are an emergency by S01"),
    (
        "D01.not_clearly_hypocellular+",
        "from 50 % on the rule is argued against",
    ),
    (
        "D17.mcv_to+",
        "from 183 d on the limit for age lies below 100 fL",
    ),
    ("M13.plt_ceiling+", "platelets of 150 are not low"),
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
        "grades" => {
            let assessment = assess();
            let grades = graded(&assessment).concat();
            if row.get("limit").is_empty() {
                grades
            } else {
                grades + &limit_text(&assessment, row.get("lineage"))
            }
        }
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
                .filter(|doubt| {
                    let asked = row.get("doubts");
                    asked == "none" || asked.split_whitespace().any(|one| one == doubt)
                })
                .collect();
            let read = texts(&assessment).join("\n");
            let phrases: Vec<bool> = row
                .get("says")
                .split('|')
                .map(|phrase| read.contains(phrase.trim_start_matches('!')))
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
                said("says", format!("{phrases:?}")),
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
                rule: match (table, row.get("lineage")) {
                    ("grades", "E") => "hb".to_owned(),
                    ("grades", "N") => "anc".to_owned(),
                    ("grades", "WBC") => "wbc".to_owned(),
                    ("grades", "ALC") => "alc".to_owned(),
                    ("grades", _) => "plt".to_owned(),
                    _ => row.get("rule").to_owned(),
                },
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
    /// The id with the direction: `D01.hb+`.
    way: String,
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
    for rule in candidates::rules() {
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
                way: format!("{}{sign}", limit.id),
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
                way: id.clone(),
                id: id.clone(),
                rule: rule_of(&id),
                tuning: Tuning::none().with_points(&id, moved),
                severe: false,
            });
        }
    }
    moves
}

/// Why no row can notice a move.
fn reason(moved: &Move) -> Option<&'static str> {
    let edge = EDGES.iter().any(|(way, ..)| *way == moved.way);
    let fits = |pattern: &str| {
        let mut rest = moved.way.as_str();
        let mut parts = pattern.split('*');
        parts.next().is_some_and(|start| {
            rest.strip_prefix(start).is_some_and(|after| {
                rest = after;
                parts.all(|part| match rest.find(part) {
                    Some(at) => {
                        rest = rest.split_at(at + part.len()).1;
                        true
                    }
                    None => false,
                })
            })
        }) && (pattern.ends_with('*') || rest.is_empty())
    };
    UNNOTICED
        .iter()
        .find(|(pattern, _)| fits(pattern))
        .map(|(_, reason)| *reason)
        .or_else(|| edge.then_some("the band beyond is not asked"))
}

/// Whether one of the rows that ask for the number notices; those of its own rule are tried first,
/// then those that noticed something before.
fn noticed(moved: &Move, usual: &[Usual], asking: &Asking, hits: &[AtomicUsize]) -> bool {
    let rows = asking.get(&moved.id).map_or(&[][..], Vec::as_slice);
    let mut order: Vec<(&Usual, &AtomicUsize)> = rows
        .iter()
        .filter_map(|row| Some((usual.get(*row)?, hits.get(*row)?)))
        .collect();
    order.sort_by_cached_key(|(row, hits)| {
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

/// The rows that ask for a number, by its id.
type Asking = HashMap<String, Vec<usize>>;

/// A row with what it says when nothing is moved.
struct Usual {
    entry: Entry,
    outcome: String,
}

#[test]
fn a_rule_is_not_asked_beyond_its_edges() {
    for (way, id, band) in EDGES {
        let rule = candidates::rules().find(|rule| rule.id == *id);
        let prior = rule.expect("a rule").priors.of(*band);
        assert!(prior.is_none(), "{way}: {id} is asked in {band:?}");
    }
}

/// `MARROWFLAG_LIMITS=D01` tries the moves of one rule, and those too that no row can notice; set
/// to nothing it tries them all.
#[test]
fn every_number_is_noticed_by_a_row() {
    let mut usual: Vec<Usual> = Vec::new();
    let mut asking = Asking::new();
    for (row, entry) in entries().into_iter().enumerate() {
        let tuning = Tuning::recording();
        let outcome = outcome(&entry, &tuning);
        for id in tuning.asked() {
            asking.entry(id).or_default().push(row);
        }
        usual.push(Usual { entry, outcome });
    }
    let only = std::env::var("MARROWFLAG_LIMITS").ok();
    let moves: Vec<Move> = moves()
        .into_iter()
        .filter(|moved| match &only {
            Some(only) => moved.name.starts_with(only),
            None => reason(moved).is_none(),
        })
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
                        if !noticed(moved, &usual, &asking, &hits) {
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
        let reason = reason(moved);
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
        if reason.is_none() {
            unexplained.push(moved.name.clone());
        }
    }
    assert!(unexplained.is_empty(), "no row notices {unexplained:#?}");
}
