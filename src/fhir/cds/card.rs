//! Assessment to card: the same words as the report, for one glance.
//!
//! One card at most, only when the assessment earns a Flag at U2 or more (clinical specification
//! 8.1), and with the age of the counts taken into account (DQ-22).

use std::fmt::Write as _;

use rust_decimal::Decimal;
use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::{
    discovery::Key,
    feedback,
    gather::{STALE, Standing},
    markdown,
    quiet::Marks,
    request::Call,
    work_up,
};
use crate::{
    clinical::{
        analyte::Analyte,
        assessment::{
            Assessment, Candidate, Family, Fit, LineageResult, Output, RuleFinding, Urgency,
        },
        time::SampleTime,
        timeline::{Measurement, Status, Timeline},
        truth::Truth,
    },
    fhir::write::words,
};

/// Name space of the ids of cards and suggestions.
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_34b2_54c7_4c1e_9d4a_02a9_7b60_5e11);
/// Characters of a summary: fewer than 140.
const SUMMARY: usize = 139;
/// Counts older than this make no card.
const TOO_OLD: Duration = Duration::days(90);
/// Specimens in the table.
const ROWS: usize = 6;
/// Candidates that a card names.
const CANDIDATES: usize = 3;
/// Lines of each kind of evidence.
const EVIDENCE: usize = 4;
/// Code system of what cards are about.
const TOPICS: &str = "https://marrowflag.org/fhir/CodeSystem/mf-topic";

/// Everything a card is made of.
#[derive(Debug, Clone)]
pub struct View<'a> {
    /// The call.
    pub call: &'a Call<'a>,
    /// What was found.
    pub assessment: &'a Assessment,
    /// What it was found in.
    pub timeline: &'a Timeline,
    /// How each key of the prefetch ended.
    pub standings: &'a [(Key, Standing)],
    /// Discharge, and no blood count is ordered.
    pub discharge_without_count: bool,
    /// Our own history of the patient joined the answer.
    pub with_history: bool,
    /// The time of the call.
    pub now: OffsetDateTime,
    /// Our public address, without a slash at the end.
    pub base: &'a str,
    /// Page of the patient in our console, when there is one.
    pub page: Option<&'a str>,
    /// The site's SMART app, when it has one.
    pub app: Option<SmartApp>,
}

/// A SMART app that a card offers to launch; the EHR adds `iss` and `launch`.
#[derive(Debug, Clone)]
pub struct SmartApp {
    /// Its launch address.
    pub url: String,
    /// Id of the report that it is to show.
    pub report: Option<String>,
}

/// A card, and what has to be remembered of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Card {
    /// Its id: the same for the same call.
    pub uuid: String,
    /// What it is about: a family, or an order check.
    pub family: String,
    /// Rules it rests on.
    pub rules: Vec<String>,
    /// What an escalation is measured by.
    pub marks: Marks,
    /// The card.
    pub body: Value,
}

/// The id of something that belongs to a call.
pub(super) fn uuid(call: &Call<'_>, what: &str) -> Uuid {
    // Clients that send "test" as hookInstance for everyone must not meet another patient's card.
    let name = [call.hook_instance, call.patient_id, what].join("\u{1f}");
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

/// `source` of every card.
pub(super) fn source(base: &str, code: &str, display: &str) -> Value {
    json!({
        "label": format!("marrowflag {}", env!("CARGO_PKG_VERSION")),
        "url": format!("{base}/"),
        "topic": { "system": TOPICS, "code": code, "display": display }
    })
}

/// The card for an assessment, if it is worth one.
pub fn cytopenia(view: &View<'_>) -> Option<Card> {
    let assessment = view.assessment;
    if !matches!(assessment.output, Output::Flag | Output::SafetyFlag)
        || view.timeline.person.deceased
    {
        return None;
    }
    let index = assessment.index.as_ref()?;
    let age = view.now - index.at.instant;
    if age > TOO_OLD {
        return None;
    }
    let urgency = if age > STALE {
        let most = if stays_critical(assessment) {
            Urgency::U3
        } else {
            Urgency::U2
        };
        assessment.urgency.min(most)
    } else {
        assessment.urgency
    };
    if urgency < Urgency::U2 {
        return None;
    }
    let family = assessment.family?;
    let uuid = uuid(view.call, family.as_str()).to_string();
    let mut body = Map::new();
    body.insert("uuid".to_owned(), json!(uuid));
    let summary = summary(assessment, urgency, &index.at, age);
    body.insert("summary".to_owned(), json!(summary));
    let detail = detail(view, urgency, age);
    body.insert("detail".to_owned(), json!(detail));
    let indicator = if urgency == Urgency::U4 {
        "critical"
    } else {
        "warning"
    };
    body.insert("indicator".to_owned(), json!(indicator));
    let source = source(view.base, "cytopenia", "Cytopenia review");
    body.insert("source".to_owned(), source);
    let suggestions = suggestions(view, family, urgency);
    if !suggestions.is_empty() {
        body.insert("suggestions".to_owned(), json!(suggestions));
        body.insert("selectionBehavior".to_owned(), json!("any"));
    }
    body.insert("overrideReasons".to_owned(), override_reasons());
    let links = links(view);
    if !links.is_empty() {
        body.insert("links".to_owned(), Value::Array(links));
    }
    let rules = assessment
        .patterns
        .iter()
        .chain(&assessment.safety)
        .filter(|rule| rule.truth.is_true())
        .map(|rule| rule.id.to_owned())
        .collect();
    Some(Card {
        uuid,
        family: family.as_str().to_owned(),
        rules,
        marks: Marks::of(assessment, urgency),
        body: Value::Object(body),
    })
}

fn links(view: &View<'_>) -> Vec<Value> {
    let page = view
        .page
        .map(|page| json!({ "label": "Open count timeline", "url": page, "type": "absolute" }));
    let app = view.app.as_ref().map(|app| {
        let mut link = json!({ "label": "Open in app", "url": app.url, "type": "smart" });
        if let (Some(report), Some(link)) = (&app.report, link.as_object_mut()) {
            let context = json!({ "report": report }).to_string();
            link.insert("appContext".to_owned(), Value::from(context));
        }
        link
    });
    page.into_iter().chain(app).collect()
}

/// The reasons a card may be overridden for.
fn override_reasons() -> Value {
    feedback::OFFERED
        .iter()
        .map(|(code, display)| {
            json!({ "system": feedback::REASONS, "code": code, "display": display })
        })
        .collect()
}

/// DQ-22: what stays urgent although the counts are old.
fn stays_critical(assessment: &Assessment) -> bool {
    let rule = |rule: &RuleFinding| {
        let listed = matches!(rule.id, "S01" | "S02" | "S04" | "S05" | "S06" | "S07");
        let present = rule.truth.is_true() || (rule.id == "S01" && rule.truth.is_unknown());
        listed && present && rule.urgency >= Urgency::U3
    };
    let candidate = |candidate: &Candidate| {
        matches!(candidate.id, "S01" | "M09" | "M10" | "D18" | "M13")
            && candidate.urgency >= Urgency::U3
            && candidate.gate != Truth::False
            && (candidate.fit != Fit::Hidden || candidate.id == "S01")
    };
    assessment.safety.iter().any(rule) || assessment.candidates.iter().any(candidate)
}

/// What the card is about, in a word or two.
fn name(assessment: &Assessment) -> String {
    let urgent = assessment
        .safety
        .iter()
        .filter(|rule| rule.truth.is_true())
        .max_by_key(|rule| rule.urgency);
    let pattern = assessment.patterns.iter().find(|rule| rule.truth.is_true());
    match (urgent, pattern) {
        (Some(rule), Some(pattern)) if rule.urgency > pattern.urgency => rule.name,
        (_, Some(pattern)) => pattern.name,
        (Some(rule), None) => rule.name,
        (None, None) => "Blood count",
    }
    .to_owned()
}

fn summary(assessment: &Assessment, urgency: Urgency, at: &SampleTime, age: Duration) -> String {
    let counts: Vec<String> = assessment
        .lineages
        .iter()
        .filter(|result: &&LineageResult| result.low.is_true())
        .filter_map(|result| {
            let value = result.value.as_ref()?;
            Some(format!(
                "{} {} {}",
                words::lineage_label(result.lineage),
                words::number(value, result.limit),
                words::unit(value.analyte)
            ))
        })
        .collect();
    let old = match age.whole_days() {
        ..=0 => String::new(),
        1 => " (1 day old)".to_owned(),
        days => format!(" ({days} days old)"),
    };
    let what = if counts.is_empty() {
        String::new()
    } else {
        format!(": {}", counts.join(", "))
    };
    let name = name(assessment);
    let base = format!("{name}{what}, {}{old}.", at.day());
    let full = match urgency {
        Urgency::U4 => format!("{base} Contact a clinician now."),
        Urgency::U3 => format!("{base} Contact a clinician within 24 h."),
        _ => format!("{base} Review within 14 days."),
    };
    let fits = |text: &String| text.chars().count() <= SUMMARY;
    [full, base]
        .into_iter()
        .find(fits)
        .unwrap_or_else(|| words::clean(&format!("{name}, {}{old}", at.day()), SUMMARY))
}

fn detail(view: &View<'_>, urgency: Urgency, age: Duration) -> String {
    let assessment = view.assessment;
    let mut page = Page::default();
    page.line(&format!("**{}**", markdown::text(words::urgency(urgency))));
    if age > STALE {
        let days = age.whole_days();
        let advice = if urgency >= Urgency::U3 {
            "older critical result: check today that it was acted on"
        } else {
            "older result, repeat if not already done"
        };
        page.line(&format!("The counts are {days} days old: {advice}."));
    }
    for rule in assessment
        .patterns
        .iter()
        .chain(&assessment.safety)
        .filter(|rule| rule.truth.is_true())
    {
        page.rule(rule, assessment);
    }
    table(&mut page, view);
    if !assessment.first_look.is_empty() {
        page.line(&format!(
            "Look first for: {}.",
            markdown::text(&words::list(&assessment.first_look, ""))
        ));
    }
    candidates(&mut page, assessment);
    let mut said: Vec<&str> = Vec::new();
    for rule in assessment.patterns.iter().chain(&assessment.safety) {
        if rule.truth.is_true() && !rule.next.is_empty() && !said.contains(&rule.next) {
            let next = markdown::text(rule.next.trim_end_matches('.'));
            page.line(&format!("Suggested work-up: {next}."));
            said.push(rule.next);
        }
    }
    for rule in &assessment.safety {
        if rule.truth.is_unknown() {
            page.line(&format!(
                "{}.",
                markdown::text(&words::not_assessable(rule))
            ));
        }
    }
    doubts(&mut page, assessment);
    for note in &assessment.notes {
        page.line(&markdown::text(note));
    }
    coverage(&mut page, view);
    page.line(&markdown::text(&words::horizon(assessment)));
    page.line(&format!("*{}*", words::CAVEAT));
    page.0
}

/// Paragraphs.
#[derive(Default)]
struct Page(String);

impl Page {
    fn line(&mut self, line: &str) {
        if !self.0.is_empty() {
            self.0.push_str("\n\n");
        }
        self.0.push_str(line);
    }

    fn rule(&mut self, rule: &RuleFinding, assessment: &Assessment) {
        let words = if rule.id.starts_with('C') {
            words::pattern(rule, assessment)
        } else {
            words::named(rule)
        };
        let mut line = format!(
            "{} {}",
            rule.id,
            markdown::text(words.trim_end_matches('.'))
        );
        if !rule.thresholds.is_empty() {
            let thresholds = words::list(&rule.thresholds, "");
            let _ = write!(line, " (threshold: {})", markdown::text(&thresholds));
        }
        line.push('.');
        if !rule.source.is_empty() {
            let _ = write!(
                line,
                " Source: {}.",
                markdown::text(rule.source.trim_end_matches('.'))
            );
        }
        self.line(&line);
    }
}

/// The newest specimens with their counts; what is low in the index stands out.
fn table(page: &mut Page, view: &View<'_>) {
    const COLUMNS: [(&str, &[Analyte]); 4] = [
        ("Hb g/L", &[Analyte::Hb]),
        ("ANC x10^9/L", &[Analyte::Anc, Analyte::AncManual]),
        ("PLT x10^9/L", &[Analyte::Platelets]),
        ("WBC x10^9/L", &[Analyte::Wbc]),
    ];
    let mut usable: Vec<(&Measurement, SampleTime)> = view
        .timeline
        .measurements
        .iter()
        .filter(|measurement| is_shown(measurement, view.assessment))
        .filter_map(|measurement| Some((measurement, measurement.at?)))
        .filter(|(measurement, _)| {
            COLUMNS
                .iter()
                .any(|(_, analytes)| analytes.contains(&measurement.analyte))
        })
        .collect();
    usable.sort_by_key(|(measurement, at)| (std::cmp::Reverse(at.instant), measurement.preference));
    let mut times: Vec<OffsetDateTime> = usable.iter().map(|(_, at)| at.instant).collect();
    times.dedup();
    let more = times.len().saturating_sub(ROWS);
    if times.is_empty() {
        return;
    }
    let index = view.assessment.index.as_ref().map(|index| index.at.instant);
    let mut lines = String::from("| Date |");
    for (title, _) in COLUMNS {
        let _ = write!(lines, " {title} |");
    }
    lines.push_str("\n|---|---|---|---|---|");
    for time in times.iter().take(ROWS) {
        let _ = write!(lines, "\n| {} |", time.date());
        for (_, analytes) in COLUMNS {
            let value = usable
                .iter()
                .find(|(measurement, at)| {
                    at.instant == *time && analytes.contains(&measurement.analyte)
                })
                .and_then(|(measurement, _)| {
                    let value = measurement.value.as_ref()?;
                    Some(words::interval(value, measurement.analyte.decimals(), None))
                });
            let is_low = index == Some(*time)
                && view.assessment.lineages.iter().any(|result| {
                    result.low.is_true()
                        && result
                            .value
                            .as_ref()
                            .is_some_and(|value| analytes.contains(&value.analyte))
                });
            let _ = match value {
                Some(value) if is_low => write!(lines, " **{}** |", markdown::text(&value)),
                Some(value) => write!(lines, " {} |", markdown::text(&value)),
                None => write!(lines, " |"),
            };
        }
    }
    page.line(&lines);
    let limits: Vec<String> = view
        .assessment
        .lineages
        .iter()
        .filter_map(|result| {
            let limit: Decimal = result.limit?;
            let label = words::lineage_label(result.lineage);
            Some(format!("{label} {}", limit.normalize()))
        })
        .collect();
    let mut note = Vec::new();
    if !limits.is_empty() {
        note.push(format!("Lower limits used: {}.", limits.join(", ")));
    }
    if more > 0 {
        note.push(format!("{more} earlier specimens are not shown."));
    }
    if !note.is_empty() {
        page.line(&note.join(" "));
    }
}

fn is_shown(measurement: &Measurement, assessment: &Assessment) -> bool {
    let refused = assessment.doubts.iter().any(|doubt| {
        !doubt.used
            && doubt.analyte == measurement.analyte
            && doubt.at == measurement.at
            && doubt.received == measurement.received
    });
    measurement.unusable.is_none()
        && measurement.value.is_some()
        && !matches!(
            measurement.status,
            Status::EnteredInError | Status::NotEvaluated
        )
        && !refused
}

fn candidates(page: &mut Page, assessment: &Assessment) {
    let shown: Vec<&Candidate> = words::shown(assessment).take(CANDIDATES).collect();
    if shown.is_empty() {
        return;
    }
    page.line("Explanations to consider:");
    for (position, candidate) in shown.iter().enumerate() {
        let mut line = format!(
            "- {} {} ({})",
            candidate.id,
            markdown::text(candidate.name),
            words::fit(candidate.fit)
        );
        if !candidate.sentence.is_empty() {
            let _ = write!(line, ": {}", markdown::text(&candidate.sentence));
        }
        for (what, lines) in [("for", &candidate.for_it), ("against", &candidate.against)] {
            let texts: Vec<String> = lines
                .iter()
                .take(EVIDENCE)
                .map(|line| markdown::text(&line.text))
                .collect();
            if !texts.is_empty() {
                let _ = write!(line, " *{what}:* {}.", texts.join("; "));
            }
        }
        if !candidate.missing.is_empty() {
            let missing: Vec<String> = candidate
                .missing
                .iter()
                .take(EVIDENCE)
                .map(|missing| markdown::text(missing))
                .collect();
            let _ = write!(line, " *missing:* {}.", missing.join(", "));
        }
        if position == 0 {
            page.line(&line);
        } else {
            page.0.push('\n');
            page.0.push_str(&line);
        }
    }
    if shown.len() == 1 {
        page.line("Other causes possible.");
    }
}

fn doubts(page: &mut Page, assessment: &Assessment) {
    for (title, used) in [("Not used", false), ("Used, please verify", true)] {
        let said: Vec<String> = assessment
            .doubts
            .iter()
            .filter(|doubt| doubt.used == used)
            .take(6)
            .map(|doubt| {
                format!(
                    "{}: {}",
                    markdown::code(&words::as_sent(doubt)),
                    markdown::text(doubt.text.trim_end_matches('.'))
                )
            })
            .collect();
        if !said.is_empty() {
            page.line(&format!("{title}: {}.", said.join("; ")));
        }
    }
}

/// What the answer rests on, and what nobody looked at.
fn coverage(page: &mut Page, view: &View<'_>) {
    let sent = view
        .timeline
        .measurements
        .iter()
        .filter(|measurement| is_shown(measurement, view.assessment))
        .count();
    let mut line = format!("Based on {sent} results");
    line.push_str(if view.with_history {
        " sent with this call or filed earlier."
    } else {
        " sent with this call."
    });
    for (title, standings) in [
        ("Not looked at", &[Standing::NotLookedAt][..]),
        ("Could not be had", &[Standing::Unavailable][..]),
        (
            "Put aside because it was not about this patient or not what was asked for",
            &[Standing::PutAside][..],
        ),
        (
            "Only part was sent (data-sufficiency: partial)",
            &[Standing::Partial][..],
        ),
    ] {
        let keys: Vec<&str> = view
            .standings
            .iter()
            .filter(|(key, standing)| key.is_assessed() && standings.contains(standing))
            .map(|(key, _)| key.label())
            .collect();
        if !keys.is_empty() {
            let _ = write!(line, " {title}: {}.", keys.join(", "));
        }
    }
    page.line(&line);
}

fn suggestions(view: &View<'_>, family: Family, urgency: Urgency) -> Vec<Value> {
    work_up::suggestions(view, family, urgency)
        .into_iter()
        .enumerate()
        .map(|(position, (label, actions))| {
            let uuid = uuid(view.call, &format!("{}/{position}", family.as_str()));
            json!({ "label": label, "uuid": uuid.to_string(), "actions": actions })
        })
        .collect()
}
