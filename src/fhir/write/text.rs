//! The page for a person: `assess --format text`, and the text form of the report.

use std::fmt::Write as _;

use super::words;
use crate::clinical::assessment::{Assessment, Candidate, Doubt, EvidenceLine, Output, TraceStep};

/// Refused values that are listed; the rest is counted.
const MOST_DOUBTS: usize = 40;

/// One assessment as a page; with `explain` the trace follows.
pub fn render(assessment: &Assessment, explain: bool) -> String {
    let mut page = Page::default();
    match words::nothing(assessment) {
        Some(nothing) if assessment.output == Output::Nothing => page.line(0, &nothing),
        Some(nothing) => {
            page.line(0, words::urgency(assessment.urgency));
            page.line(0, &nothing);
        }
        None => page.line(0, words::urgency(assessment.urgency)),
    }
    for pattern in &assessment.patterns {
        if pattern.truth.is_true() {
            let words = words::pattern(pattern, assessment);
            page.line(0, &format!("{} {words}", pattern.id));
        } else {
            page.line(
                0,
                &format!("{} {}", pattern.id, words::not_assessable(pattern)),
            );
        }
    }
    for rule in &assessment.safety {
        let words = if rule.truth.is_true() {
            words::named(rule)
        } else {
            words::not_assessable(rule)
        };
        page.line(0, &format!("{} {words}", rule.id));
    }
    if !assessment.first_look.is_empty() {
        page.line(
            0,
            &format!(
                "Look first for: {}",
                words::list(&assessment.first_look, "")
            ),
        );
    }
    candidates(&mut page, assessment);
    work_up(&mut page, assessment);
    doubts(
        &mut page,
        "Not used:",
        assessment.doubts.iter().filter(|doubt| !doubt.used),
    );
    doubts(
        &mut page,
        "Used, please verify:",
        assessment.doubts.iter().filter(|doubt| doubt.used),
    );
    for note in &assessment.notes {
        page.line(0, note);
    }
    page.line(0, &words::horizon(assessment));
    page.line(0, words::CAVEAT);
    page.line(0, &format!("Output: {}", output(assessment.output)));
    if explain {
        trace(&mut page, &assessment.trace);
    }
    page.text
}

/// What is written back, in words.
pub fn output(output: Output) -> &'static str {
    match output {
        Output::Nothing => "nothing",
        Output::Report => "report",
        Output::Flag | Output::SafetyFlag => "Flag and report",
    }
}

fn candidates(page: &mut Page, assessment: &Assessment) {
    let shown: Vec<&Candidate> = words::shown(assessment).collect();
    if !shown.is_empty() {
        page.line(0, "Candidates");
        for candidate in &shown {
            entry(page, candidate);
        }
        if shown.len() == 1 {
            // Never one candidate alone (clinical specification 6.1, step 6).
            page.line(1, "Other causes possible.");
        }
    }
    if !assessment.argued_against.is_empty() {
        page.line(0, "Considered, argued against");
        for candidate in assessment.argued_against.iter().take(words::SHOWN) {
            page.line(1, &format!("{} {}", candidate.id, candidate.name));
            for line in &candidate.excluded_by {
                page.labelled(2, "against", &line.text);
            }
        }
    }
}

fn entry(page: &mut Page, candidate: &Candidate) {
    let label = match &candidate.label {
        Some(label) => format!(", {label}"),
        None => String::new(),
    };
    page.line(
        1,
        &format!(
            "{} {}: {} ({}){label}",
            candidate.id,
            candidate.name,
            words::fit(candidate.fit),
            candidate.score
        ),
    );
    page.line(2, &candidate.sentence);
    let evidence = |page: &mut Page, name: &str, lines: &[EvidenceLine]| {
        for line in lines {
            page.labelled(2, name, &format!("{:+} {}", line.points, line.text));
        }
    };
    evidence(page, "for", &candidate.for_it);
    evidence(page, "against", &candidate.against);
    if !candidate.missing.is_empty() {
        page.labelled(2, "missing", &words::list(&candidate.missing, ""));
    }
    if !candidate.next.is_empty() {
        page.labelled(2, "next", candidate.next);
    }
}

/// Work-up of the patterns: what to do next even where no candidate stands.
fn work_up(page: &mut Page, assessment: &Assessment) {
    let mut said: Vec<&str> = Vec::new();
    for finding in assessment.patterns.iter().chain(&assessment.safety) {
        let next = finding.next;
        if finding.truth.is_true() && !next.is_empty() && !said.contains(&next) {
            page.line(0, &format!("Suggested work-up ({}): {next}", finding.id));
            said.push(next);
        }
    }
}

fn doubts<'a>(page: &mut Page, title: &str, doubts: impl Iterator<Item = &'a Doubt>) {
    let doubts: Vec<_> = doubts.collect();
    if doubts.is_empty() {
        return;
    }
    page.line(0, title);
    for doubt in doubts.iter().take(MOST_DOUBTS) {
        let at = doubt
            .at
            .map_or_else(String::new, |at| format!(", {}", at.day()));
        page.line(1, &format!("{}{at}: {}", words::as_sent(doubt), doubt.text));
    }
    if let Some(more @ 1..) = doubts.len().checked_sub(MOST_DOUBTS) {
        page.line(1, &format!("and {more} more"));
    }
}

fn trace(page: &mut Page, steps: &[TraceStep]) {
    page.line(0, "Trace");
    for step in steps {
        page.line(
            1,
            &format!("{}: {} = {}", step.id, step.question, step.answer),
        );
        for input in &step.inputs {
            page.line(2, input);
        }
    }
}

/// Lines, indented by two spaces a level; each one cleaned, so that nothing sent can forge one.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn line(&mut self, level: usize, text: &str) {
        self.push(level, "", text);
    }

    fn labelled(&mut self, level: usize, label: &str, text: &str) {
        self.push(level, &format!("{label:<8} "), text);
    }

    fn push(&mut self, level: usize, label: &str, text: &str) {
        let line = words::clean(text, 1000);
        if !line.is_empty() {
            // Writing to a String cannot fail.
            let _ = writeln!(self.text, "{:1$}{label}{line}", "", level * 2);
        }
    }
}
