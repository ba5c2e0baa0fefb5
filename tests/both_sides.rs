//! The case tables against the rules: every criterion of a gate and every excluding line is fired
//! by a row, denied by a row, and met by a row that lacks its input; every emergency is found in
//! one row and not shouted for nothing in another. What the rows say is checked by
//! `tests/cases.rs`; here it is counted what they reach.

#![expect(clippy::expect_used, reason = "a broken table fails its test")]

mod case_table;

use std::collections::BTreeSet;

use case_table::{Row, as_of, rows, timeline};
use marrowflag::clinical::{
    assessment::Urgency,
    candidates,
    context::{Case, Context},
    decide::judge_case,
    evaluate::{Scope, answer},
    explain,
    judge::Judgement,
    limits::Tuning,
    rule::Criterion,
    safety,
    timeline::Timeline,
    truth::Truth,
};

/// What a criterion is called in a message.
fn name(criterion: &Criterion) -> String {
    explain::words(criterion, &Tuning::none())
}

/// The criteria that ask something of the patient, without those that only join them. A list of
/// tokens is one criterion per token.
fn leaves(criterion: &'static Criterion, found: &mut Vec<Criterion>) {
    match criterion {
        Criterion::All(parts) | Criterion::Any(parts) | Criterion::AtLeast(_, parts) => {
            for part in *parts {
                leaves(part, found);
            }
        }
        Criterion::Not(inner)
        | Criterion::Same(inner)
        | Criterion::Undecided(inner)
        | Criterion::Surely(inner)
        | Criterion::Doubtful(inner)
        | Criterion::Optional(inner)
        | Criterion::Blocking(inner)
        | Criterion::NotBlocking(inner) => leaves(inner, found),
        Criterion::AnyToken(tokens) => {
            found.extend(tokens.iter().map(|token| Criterion::Token(token)));
        }
        Criterion::Always | Criterion::Undecidable => {}
        other => found.push(Criterion::Same(other)),
    }
}

/// What the rows of a rule say of one criterion.
#[derive(Default)]
struct Seen {
    holds: BTreeSet<Outcome>,
    fails: BTreeSet<Outcome>,
    missing: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Yes,
    No,
    Unknown,
}

impl From<Truth> for Outcome {
    fn from(truth: Truth) -> Self {
        match truth {
            Truth::True => Self::Yes,
            Truth::False => Self::No,
            Truth::Unknown => Self::Unknown,
        }
    }
}

impl Seen {
    fn take(&mut self, leaf: &Criterion, whole: Truth, context: &Context<'_>) {
        let ask = |scope| answer(leaf, context, scope).truth;
        match ask(Scope::GATE) {
            Truth::True => {
                self.holds.insert(whole.into());
            }
            Truth::False => {
                self.fails.insert(whole.into());
            }
            Truth::Unknown => {}
        }
        self.missing |= ask(Scope::PLAIN).is_unknown();
    }

    /// What is missing: a row on which it holds and one on which it does not, with different
    /// answers of the whole, and one without its input.
    fn lacks(&self, can_be_missing: bool) -> Option<&'static str> {
        if self.holds.is_empty() {
            Some("no row fires it")
        } else if self.fails.is_empty() {
            Some("no row denies it")
        } else if self.holds.len() == 1 && self.holds == self.fails {
            Some("no row shows what it decides")
        } else if can_be_missing && !self.missing {
            Some("no row lacks its input")
        } else {
            None
        }
    }
}

/// Age is never missing here: without it no rule of this kind is asked. The others are answered
/// from what is recorded, so that nothing recorded is an answer.
fn can_be_missing(leaf: &Criterion) -> bool {
    let leaf = match leaf {
        Criterion::Same(leaf) => leaf,
        leaf => leaf,
    };
    !matches!(
        leaf,
        Criterion::Token("clumped")
            | Criterion::Custom(_)
            | Criterion::Younger(_)
            | Criterion::AtAge(_)
            | Criterion::Pregnant
            | Criterion::PostPartum(_)
            | Criterion::Known(_)
            | Criterion::Refuted(_)
            | Criterion::NotTrue(_)
    )
}

fn gate_of(judgement: &Judgement<'_>, id: &str) -> Truth {
    judgement
        .context
        .gates
        .iter()
        .find(|(rule, _)| *rule == id)
        .map_or(Truth::False, |(_, answer)| answer.truth)
}

/// Calls `look` with the judgement of every row of these tables.
fn each(tables: &[&str], mut look: impl FnMut(&Row, &Judgement<'_>)) {
    for table in tables {
        for row in rows(table) {
            let timeline: Timeline = timeline(&row);
            let tuning = Tuning::none();
            let case = Case::new(&timeline, as_of(&row), &tuning);
            let judgement = judge_case(&case, as_of(&row)).expect("a blood count");
            look(&row, &judgement);
        }
    }
}

#[test]
fn every_criterion_of_a_gate_has_its_rows() {
    let mut seen: Vec<(&'static str, Criterion, Seen)> = Vec::new();
    for rule in candidates::rules() {
        let mut found = Vec::new();
        leaves(&rule.gate, &mut found);
        seen.extend(
            found
                .into_iter()
                .map(|leaf| (rule.id, leaf, Seen::default())),
        );
    }
    each(&["rules"], |row, judgement| {
        if row.get("gate").is_empty() {
            return;
        }
        let whole = gate_of(judgement, row.get("rule"));
        for (_, leaf, seen) in seen.iter_mut().filter(|(id, ..)| *id == row.get("rule")) {
            seen.take(leaf, whole, &judgement.context);
        }
    });
    let open: BTreeSet<String> = seen
        .iter()
        .filter_map(|(id, leaf, seen)| {
            let lacks = seen.lacks(can_be_missing(leaf))?;
            Some(format!("{id} {}: {lacks}", name(leaf)))
        })
        .collect();
    assert!(open.is_empty(), "{open:#?}");
}

/// Where the gate already says no whenever the line holds, a row that says so is enough.
#[test]
fn every_excluding_line_has_its_rows() {
    let mut seen: BTreeSet<(&str, &str, Outcome)> = BTreeSet::new();
    each(&["rules"], |row, judgement| {
        let rule = candidates::rules()
            .find(|rule| rule.id == row.get("rule"))
            .expect("a rule");
        let gate = gate_of(judgement, rule.id);
        let said = !row.get("against").is_empty() || row.get("gate") == "no";
        for line in rule.excluding.iter().filter(|_| said) {
            let truth = answer(&line.when, &judgement.context, Scope::PLAIN).truth;
            if truth.is_true() || !gate.is_false() {
                seen.insert((rule.id, line.id, truth.into()));
            }
        }
    });
    let mut open = Vec::new();
    for rule in candidates::rules() {
        for line in rule.excluding {
            for outcome in [Outcome::Yes, Outcome::No, Outcome::Unknown] {
                if !seen.contains(&(rule.id, line.id, outcome)) {
                    open.push(format!("{} {}: {outcome:?}", rule.id, line.id));
                }
            }
        }
    }
    assert!(open.is_empty(), "{open:#?}");
}

/// The tables whose rows say how urgent a patient is.
const URGENT: [&str; 3] = ["worked", "quality", "limits"];

/// Every level of a safety rule is reported by a row, and a row that all but meets it is left at
/// less than U3.
#[test]
fn no_emergency_is_missed_or_shouted_for_nothing() {
    let mut found = BTreeSet::new();
    let mut quiet = BTreeSet::new();
    each(&URGENT, |row, judgement| {
        for watch in safety::ALL {
            for level in watch.levels {
                let id = (watch.id, level.id);
                let reported = judgement
                    .fired(watch.id)
                    .is_some_and(|hit| std::ptr::eq(hit.level, level));
                if reported && !row.get("patterns").is_empty() {
                    found.insert(id);
                }
                let context = &judgement.context;
                let asked = answer(&level.when, context, Scope::SAFETY).truth;
                let known_urgency = row.get("urgency");
                if asked.is_false()
                    && judgement.urgency < Urgency::U3
                    && !known_urgency.is_empty()
                    && nearly(&level.when, context)
                {
                    quiet.insert(id);
                }
            }
        }
    });
    let open: Vec<String> = safety::ALL
        .iter()
        .flat_map(|watch| watch.levels.iter().map(|level| (watch.id, level.id)))
        .filter_map(|id| match (found.contains(&id), quiet.contains(&id)) {
            (true, true) => None,
            (missed, _) => Some(format!(
                "{id:?}: {}",
                if missed { "shouted" } else { "missed" }
            )),
        })
        .collect();
    assert!(open.is_empty(), "{open:#?}");
}

/// Emergencies that hide behind what was not sent.
#[test]
fn missing_tests_hide_no_emergency() {
    type Pattern = fn(&Judgement<'_>) -> bool;
    let patterns: [(&str, Pattern); 3] = [
        ("blasts of the analyser, not counted by hand", |judgement| {
            is_true(judgement, "blast_analyser_flag")
        }),
        ("sepsis without a temperature", |judgement| {
            is_true(judgement, "sepsis") && !is_true(judgement, "fever")
        }),
        ("fever without a differential", |judgement| {
            let context = &judgement.context;
            is_true(judgement, "fever")
                && answer(&safety::NOT_COUNTED, context, Scope::SAFETY)
                    .truth
                    .is_true()
        }),
    ];
    for (what, holds) in patterns {
        let (mut urgent, mut quiet) = (false, false);
        each(&URGENT, |row, judgement| {
            if !row.get("urgency").is_empty() && holds(judgement) {
                urgent |= judgement.urgency >= Urgency::U3;
                quiet |= judgement.urgency < Urgency::U3;
            }
        });
        assert!(urgent, "{what}: missed");
        assert!(quiet, "{what}: shouted in every row");
    }
}

fn is_true(judgement: &Judgement<'_>, token: &str) -> bool {
    judgement.context.token(token).truth.is_true()
}

/// All parts of a trigger but one hold; of a single comparison, its input is there.
fn nearly(criterion: &'static Criterion, context: &Context<'_>) -> bool {
    match criterion {
        Criterion::All(parts) => {
            let open = parts
                .iter()
                .filter(|part| !answer(part, context, Scope::SAFETY).truth.is_true());
            open.count() == 1
        }
        _ => true,
    }
}
