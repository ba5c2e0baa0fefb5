//! The life of Flags, one row per submission; a row without results is an event alone.

use std::sync::Arc;

use marrowflag::clinical::{
    assessment::{Acknowledged, Decision, Family, Finding, FlagState, ReportChange, Urgency},
    decide::{decide_with, newest_sample},
    limits::Tuning,
    time::{BirthDate, Precision, SampleTime},
    timeline::{Sex, Status, Timeline},
    truth::Truth,
};
use time::{Duration, OffsetDateTime};

use super::{INDEX, Row, add_results, fact};

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

pub(crate) struct Patient {
    pub(crate) timeline: Timeline,
    pub(crate) findings: Vec<Finding>,
    pub(crate) as_of: OffsetDateTime,
}

impl Patient {
    pub(crate) fn new() -> Self {
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

    pub(crate) fn receive(&mut self, when: &str, results: &str) {
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

    pub(crate) fn event(&mut self, event: &str) {
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
            ["acknowledge", family, "as", "not", "relevant"] => {
                let for_ever = self.as_of + Duration::days(10_000);
                self.finding(family).acknowledged = Some((Acknowledged::NotRelevant, for_ever));
            }
            ["deceased"] => {
                self.timeline.person.deceased = true;
            }
            ["fact", token, "since", when] => {
                let mut since = fact(token, Truth::True);
                since.from = Some(moment(when));
                self.timeline.facts.push(since);
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

    pub(crate) fn submit(&mut self, as_of: &str, tuning: &Tuning) -> Decision {
        let newest = newest_sample(&self.timeline).unwrap_or(self.as_of);
        self.as_of = if as_of.is_empty() {
            self.as_of.max(newest)
        } else {
            moment(as_of)
        };
        let decision = decide_with(&self.timeline, &self.findings, self.as_of, tuning);
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

pub(crate) fn flags(findings: &[Finding]) -> String {
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

pub(crate) fn none_if_empty(texts: &[String]) -> String {
    if texts.is_empty() {
        "none".to_owned()
    } else {
        texts.join("; ")
    }
}

pub(crate) fn reports(decision: &Decision) -> String {
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

/// Takes a row in: its event, its results, and the submission.
pub(crate) fn take(patient: &mut Patient, row: &Row, tuning: &Tuning) -> Decision {
    patient.event(row.get("event"));
    if !row.get("day").is_empty() {
        patient.receive(row.get("day"), row.get("results"));
    }
    patient.submit(row.get("as_of"), tuning)
}

/// Why Flags got a new version.
pub(crate) fn reasons(decision: &Decision) -> String {
    let reasons: Vec<String> = decision
        .flags
        .iter()
        .filter(|change| change.write)
        .map(|change| change.why.to_owned())
        .collect();
    none_if_empty(&reasons)
}

/// The families that are told again.
pub(crate) fn told(decision: &Decision) -> String {
    let told: Vec<String> = decision
        .flags
        .iter()
        .filter(|change| change.notify)
        .map(|change| change.finding.family.as_str().to_owned())
        .collect();
    none_if_empty(&told)
}
