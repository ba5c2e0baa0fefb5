//! The clinicians' case tables in `fixtures/cases`: edit a cell, run `cargo test --test cases`.
//!
//! A row names the rules it needs; where one of them is not written yet the row waits, and only
//! its grades are checked. The counts of rows that ran and that wait are printed.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a broken table fails its test, and the counts of rows are printed"
)]

mod case_table;

use std::collections::BTreeMap;

use case_table::{INDEX, Row, add_results, born, context, rows, timeline};
use marrowflag::clinical::{
    assessment::{Assessment, Fit, Grade, Lineage, LineageResult, Output, Urgency},
    candidates,
    decide::assess,
    time::{Precision, SampleTime},
    timeline::{Sex, Timeline},
    truth::Truth,
    wording,
};

fn grade_word(grade: Grade) -> &'static str {
    match grade {
        Grade::None => "none",
        Grade::Mild => "mild",
        Grade::Moderate => "moderate",
        Grade::Severe => "severe",
        Grade::VerySevere => "very severe",
        Grade::Critical => "critical",
    }
}

fn lineage_text(result: &LineageResult) -> String {
    let letter = match result.lineage {
        Lineage::Erythroid => "E",
        Lineage::Neutrophil => "N",
        Lineage::Platelet => "P",
    };
    match (result.grade, result.at_least) {
        (Some(grade), _) => format!("{letter} {}", grade_word(grade)),
        (None, Some(grade)) => format!("{letter} ≥{}", grade_word(grade)),
        (None, None) => format!("{letter} ?"),
    }
}

fn grades(assessment: &Assessment) -> String {
    let parts: Vec<String> = assessment.lineages.iter().map(lineage_text).collect();
    parts.join("; ")
}

fn urgency(assessment: &Assessment) -> &'static str {
    match assessment.urgency {
        Urgency::U0 => "U0",
        Urgency::U1 => "U1",
        Urgency::U2 => "U2",
        Urgency::U3 => "U3",
        Urgency::U4 => "U4",
    }
}

fn output(assessment: &Assessment) -> &'static str {
    match (assessment.output, assessment.urgency >= Urgency::U2) {
        (Output::Nothing, _) => "NONE",
        (Output::Report, _) => "DR",
        (Output::Flag, true) => "FLAG+CARD",
        (Output::Flag, false) => "FLAG",
        (Output::SafetyFlag, _) => "FLAG(safety)+CARD",
    }
}

fn patterns(assessment: &Assessment) -> String {
    let ids: Vec<&str> = assessment
        .patterns
        .iter()
        .map(|hit| hit.id)
        .chain({
            let mut safety: Vec<&str> = assessment
                .safety
                .iter()
                .filter(|hit| hit.truth == Truth::True)
                .map(|hit| hit.id)
                .collect();
            safety.sort_unstable();
            safety
        })
        .collect();
    if ids.is_empty() {
        "none".to_owned()
    } else {
        ids.join("; ")
    }
}

fn listed(assessment: &Assessment, most: usize) -> String {
    let texts: Vec<String> = assessment
        .candidates
        .iter()
        .take(most)
        .map(|candidate| {
            let fit = match candidate.fit {
                Fit::Hidden => "hidden",
                Fit::Weak => "weak",
                Fit::Moderate => "moderate",
                Fit::Strong => "strong",
            };
            let gate = if candidate.gate == Truth::Unknown {
                ",gate?"
            } else {
                ""
            };
            format!("{} {fit}({}{gate})", candidate.id, candidate.score)
        })
        .collect();
    if texts.is_empty() {
        "none".to_owned()
    } else {
        texts.join(", ")
    }
}

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

/// Everything a reader may see must keep the wording rules.
fn texts(assessment: &Assessment) -> Vec<String> {
    let mut texts: Vec<String> = assessment.notes.clone();
    texts.push(assessment.headline.clone());
    texts.extend(assessment.first_look.iter().cloned());
    texts.extend(assessment.doubts.iter().map(|doubt| doubt.text.clone()));
    for hit in assessment.patterns.iter().chain(&assessment.safety) {
        texts.push(hit.sentence.clone());
        texts.push(hit.next.to_owned());
    }
    for candidate in assessment
        .candidates
        .iter()
        .chain(&assessment.argued_against)
    {
        texts.push(candidate.sentence.clone());
        texts.push(candidate.next.to_owned());
        let lines = candidate
            .for_it
            .iter()
            .chain(&candidate.against)
            .chain(&candidate.excluded_by);
        texts.extend(lines.map(|line| line.text.clone()));
        texts.extend(candidate.missing.iter().cloned());
    }
    texts.extend(
        assessment
            .lineages
            .iter()
            .filter_map(|line| line.note.clone()),
    );
    texts
}

fn run(row: &Row, mismatches: &mut Mismatches) -> bool {
    let id = row.get("id");
    let assessment = assess(&timeline(row), INDEX);
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
        let label = assessment
            .candidates
            .iter()
            .find(|candidate| candidate.id == "D01")
            .and_then(|candidate| candidate.label.clone())
            .unwrap_or_default();
        mismatches.compare(id, "label", row.get("label"), &label);
    }
    let doubts: Vec<String> = assessment
        .doubts
        .iter()
        .map(|doubt| format!("{}:{}", doubt.analyte.key(), doubt.word))
        .collect();
    for doubt in row.get("doubts").split_whitespace() {
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
        if !said.contains(phrase) {
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

#[test]
fn worked_cases() {
    run_table("worked");
}

#[test]
fn data_quality_cases() {
    run_table("quality");
}

#[test]
fn boundaries_of_the_grades() {
    let mut mismatches = Mismatches::default();
    let mut ran = 0;
    for row in rows("grades") {
        let lineage = match row.get("lineage") {
            "E" => "Hb",
            "N" => "ANC",
            _ => "PLT",
        };
        let mut timeline = Timeline::default();
        timeline.person.birth = born(row.get("age"), INDEX.date());
        timeline.person.sex = match row.get("sex") {
            "F" => Sex::Female,
            "M" => Sex::Male,
            _ => Sex::Unknown,
        };
        for item in row.get("context").split(';').map(str::trim) {
            if !item.is_empty() {
                context(&mut timeline, item);
            }
        }
        let at = SampleTime {
            instant: INDEX,
            precision: Precision::Instant,
        };
        add_results(
            &mut timeline,
            &format!("{lineage} {}", row.get("value")),
            at,
            &"index".into(),
        );
        let assessment = assess(&timeline, INDEX);
        let found = assessment
            .lineages
            .iter()
            .map(lineage_text)
            .find(|text| text.starts_with(row.get("lineage")))
            .unwrap_or_default();
        let expected = format!("{} {}", row.get("lineage"), row.get("grade"));
        mismatches.compare(row.get("id"), "grade", &expected, &found);
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
        let mut timeline = Timeline::default();
        timeline.person.birth = born(row.get("age"), INDEX.date());
        timeline.person.sex = Sex::Female;
        let at = SampleTime {
            instant: INDEX,
            precision: Precision::Instant,
        };
        add_results(&mut timeline, row.get("results"), at, &"index".into());
        // Enough points for the rule to be listed, so that its label shows.
        timeline
            .facts
            .push(case_table::fact("hepatitis_recent", Truth::True));
        timeline
            .facts
            .push(case_table::fact("tox_benzene", Truth::True));
        let assessment = assess(&timeline, INDEX);
        let label = assessment
            .candidates
            .iter()
            .find(|candidate| candidate.id == "D01")
            .and_then(|candidate| candidate.label.clone())
            .map_or_else(|| "none".to_owned(), |label| label.replace("-COUNTS", ""));
        mismatches.compare(row.get("id"), "label", row.get("label"), &label);
        ran += 1;
    }
    mismatches.check("aplasia_labels", ran, &BTreeMap::new());
}

/// The life of Flags, one row per submission; a row without results is an event alone.
mod life_cycle {
    use std::sync::Arc;

    use marrowflag::clinical::{
        assessment::{Acknowledged, Decision, Family, Finding, FlagState, ReportChange, Urgency},
        decide::{decide, newest_sample},
        time::{BirthDate, Precision, SampleTime},
        timeline::{Sex, Status, Timeline},
        truth::Truth,
    };
    use time::{Duration, OffsetDateTime};

    use super::{
        INDEX, Mismatches,
        case_table::{add_results, fact, rows},
    };

    /// `0`, `-40`, `48h`, `d10`.
    fn moment(text: &str) -> OffsetDateTime {
        let text = text.trim_start_matches('d');
        match text.strip_suffix('h') {
            Some(hours) => INDEX + Duration::hours(hours.parse().expect("hours")),
            None => INDEX + Duration::days(text.parse().expect("days")),
        }
    }

    fn day(at: SampleTime) -> String {
        let days = (at.instant.date() - INDEX.date()).whole_days();
        format!("d{days}")
    }

    struct Patient {
        timeline: Timeline,
        findings: Vec<Finding>,
        as_of: OffsetDateTime,
    }

    impl Patient {
        fn new() -> Self {
            let mut timeline = Timeline::default();
            timeline.person.birth = Some(BirthDate::Day(
                INDEX.date().replace_year(1986).expect("a day"),
            ));
            timeline.person.sex = Sex::Female;
            Self {
                timeline,
                findings: Vec::new(),
                as_of: INDEX - Duration::days(10_000),
            }
        }

        fn receive(&mut self, when: &str, results: &str) {
            let mut results = results.to_owned();
            for (name, usual) in [("Hb", "Hb 130"), ("ANC", "ANC 3"), ("PLT", "PLT 250")] {
                if !results.contains(name) {
                    results = format!("{results}, {usual}");
                }
            }
            let at = SampleTime {
                instant: moment(when),
                precision: Precision::Instant,
            };
            let key: Arc<str> = Arc::from(format!("day {when}"));
            add_results(&mut self.timeline, &results, at, &key);
        }

        fn event(&mut self, event: &str) {
            self.timeline.inpatient = event == "inpatient";
            let words: Vec<&str> = event.split_whitespace().collect();
            match words.as_slice() {
                [] | ["nothing" | "inpatient"] => {}
                ["withdraw", when] => {
                    for measurement in &mut self.timeline.measurements {
                        if measurement.at.is_some_and(|at| at.instant == moment(when)) {
                            measurement.status = Status::EnteredInError;
                        }
                    }
                }
                ["correct", when, name, value] => {
                    let at = SampleTime {
                        instant: moment(when),
                        precision: Precision::Instant,
                    };
                    let mut corrected = Timeline::default();
                    add_results(&mut corrected, &format!("{name} {value}"), at, &"x".into());
                    let new = corrected.measurements.remove(0);
                    let old = self
                        .timeline
                        .measurements
                        .iter_mut()
                        .find(|old| old.analyte == new.analyte && old.at == new.at)
                        .expect("a result to correct");
                    old.value = new.value;
                    old.received = new.received;
                    old.status = Status::Corrected;
                }
                ["human", "closes", family] => {
                    let finding = self.finding(family);
                    finding.state = FlagState::Inactive;
                    finding.human = Some("hash".into());
                }
                ["human", "edits", family] => {
                    self.finding(family).human = Some("hash".into());
                }
                ["acknowledge", family, "until", until] => {
                    self.finding(family).acknowledged = Some((Acknowledged::Known, moment(until)));
                }
                ["deceased"] => {
                    self.timeline.person.deceased = true;
                }
                ["fact", token] => self.timeline.facts.push(fact(token, Truth::True)),
                ["red", "cells", when] => {
                    let mut given = fact("rbc_transfusion", Truth::True);
                    given.from = Some(moment(when));
                    given.until = given.from;
                    self.timeline.facts.push(given);
                }
                _ => panic!("event {event:?}"),
            }
        }

        fn finding(&mut self, family: &str) -> &mut Finding {
            self.findings
                .iter_mut()
                .find(|finding| finding.family.as_str() == family)
                .expect("a Flag of this family")
        }

        fn submit(&mut self, as_of: &str) -> Decision {
            let newest = newest_sample(&self.timeline).unwrap_or(self.as_of);
            self.as_of = if as_of.is_empty() {
                self.as_of.max(newest)
            } else {
                moment(as_of)
            };
            let decision = decide(&self.timeline, &self.findings, self.as_of);
            self.findings = decision
                .flags
                .iter()
                .map(|change| change.finding.clone())
                .collect();
            for measurement in &mut self.timeline.measurements {
                measurement.filed_at.get_or_insert(self.as_of);
            }
            decision
        }
    }

    pub(super) fn flags(findings: &[Finding]) -> String {
        let mut texts: Vec<(bool, Family, String)> = findings
            .iter()
            .map(|finding| {
                let family = finding.family.as_str();
                let start = day(finding.episode_start);
                let text = match (finding.state, finding.episode_end) {
                    (FlagState::Active, _) => {
                        let urgency = match finding.urgency {
                            Urgency::U0 => "U0",
                            Urgency::U1 => "U1",
                            Urgency::U2 => "U2",
                            Urgency::U3 => "U3",
                            Urgency::U4 => "U4",
                        };
                        let human = if finding.human.is_some() {
                            " (human)"
                        } else {
                            ""
                        };
                        format!("{family} active {urgency} {start}{human}")
                    }
                    (FlagState::Inactive, Some(end)) => {
                        format!("{family} inactive {start}-{}", day(end))
                    }
                    (FlagState::Inactive, None) => format!("{family} inactive {start}"),
                    (FlagState::EnteredInError, _) => format!("{family} entered-in-error"),
                };
                (finding.state != FlagState::Active, finding.family, text)
            })
            .collect();
        texts.sort();
        none_if_empty(
            &texts
                .into_iter()
                .map(|(_, _, text)| text)
                .collect::<Vec<_>>(),
        )
    }

    fn none_if_empty(texts: &[String]) -> String {
        if texts.is_empty() {
            "none".to_owned()
        } else {
            texts.join("; ")
        }
    }

    fn reports(decision: &Decision) -> String {
        let texts: Vec<String> = decision
            .reports
            .iter()
            .map(|change| match change {
                ReportChange::Write => "write".to_owned(),
                ReportChange::Rewrite(assessment) => format!(
                    "rewrite {}",
                    assessment
                        .index
                        .as_ref()
                        .map(|index| day(index.at))
                        .unwrap_or_default()
                ),
                ReportChange::Retract(specimen) => format!("retract {}", day(specimen.at)),
            })
            .collect();
        none_if_empty(&texts)
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
            patient.event(row.get("event"));
            if !row.get("day").is_empty() {
                patient.receive(row.get("day"), row.get("results"));
            }
            let decision = patient.submit(row.get("as_of"));
            let id = format!("{case} {}{}", row.get("day"), row.get("event"));
            mismatches.compare(&id, "flags", row.get("flags"), &flags(&patient.findings));
            let told: Vec<String> = decision
                .flags
                .iter()
                .filter(|change| change.notify)
                .map(|change| change.finding.family.as_str().to_owned())
                .collect();
            mismatches.compare(&id, "told", row.get("told"), &none_if_empty(&told));
            mismatches.compare(&id, "reports", row.get("reports"), &reports(&decision));
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
        mismatches.check("life_cycle", ran, &std::collections::BTreeMap::new());
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
                    patient.submit("");
                }
                let text = flags(&patient.findings);
                assert_eq!(seen.get_or_insert_with(|| text.clone()), &text, "{order:?}");
            }
        }
    }
}
