//! What may never be said, over everything that is written.

use proptest::prelude::*;
use regex::Regex;
use serde_json::Value;

use super::super::{Resource, resources, text, words, writeback_bundle};
use super::samples::{change, context, key, raised, subject, unremarkable};
use crate::clinical::{
    assessment::{Decision, Family, Fit, FlagState, Grade, Output, ReportChange, Urgency, Verdict},
    quantity::Interval,
    truth::Truth,
};

/// Clinical specification 6.2, case-insensitive.
const FORBIDDEN: [&str; 14] = [
    r"the patient has",
    r"is diagnosed",
    r"diagnosis of",
    r"confirms?\b",
    r"ruled out",
    r"(has|have) been excluded",
    r"is excluded",
    r"normal marrow",
    r"no action needed",
    r"is safe",
    r"usually harmless",
    r"\d ?% (risk|chance|probability)",
    r"(^|[.;]\s*)(give|start|stop|transfuse|treat with) ",
    r"\b(african|asian|caucasian|hispanic|jewish|ashkenazi|arab|ethnic\w*|racial|race|ancestry)\b",
];

/// Where the word "diagnosis" may stand.
const ALLOWED: [&str; 2] = [
    "This is a suggestion for review, not a diagnosis.",
    "Decision support, not a diagnosis.",
];

fn strings(value: &Value, into: &mut Vec<String>) {
    match value {
        Value::String(text) => into.push(text.clone()),
        Value::Array(items) => items.iter().for_each(|item| strings(item, into)),
        Value::Object(members) => {
            for (name, value) in members {
                if name == "data" {
                    let bytes = data_encoding::BASE64
                        .decode(value.as_str().unwrap_or_default().as_bytes())
                        .unwrap();
                    into.push(String::from_utf8(bytes).unwrap());
                } else {
                    strings(value, into);
                }
            }
        }
        _ => {}
    }
}

fn said(decision: &Decision, made: &[Resource]) -> Vec<String> {
    let mut said = Vec::new();
    strings(&writeback_bundle(made), &mut said);
    for resource in made {
        strings(&resource.body, &mut said);
    }
    said.extend(
        text::render(&decision.assessment, true)
            .lines()
            .map(str::to_owned),
    );
    said.push(decision.assessment.headline.clone());
    said
}

fn check(said: &[String]) {
    let forbidden: Vec<Regex> = FORBIDDEN
        .iter()
        .map(|pattern| Regex::new(&format!("(?i){pattern}")).unwrap())
        .collect();
    for text in said {
        for pattern in &forbidden {
            assert!(!pattern.is_match(text), "{pattern}: {text}");
        }
        let mut rest = text.clone();
        for allowed in ALLOWED {
            rest = rest.replace(allowed, "");
        }
        let rest = rest.to_lowercase();
        assert!(
            !["diagnosis", "diagnoses", "diagnosed"]
                .iter()
                .any(|word| rest.contains(word)),
            "{text}"
        );
    }
}

#[test]
fn the_list_would_catch_what_it_is_for() {
    for text in [
        "The patient has aplastic anaemia",
        "This confirms MDS",
        "leukaemia is excluded",
        "80 % probability of MDS",
        "Low platelets. Transfuse now",
        "a diagnosis",
    ] {
        assert!(
            std::panic::catch_unwind(|| check(&[text.to_owned()])).is_err(),
            "{text}"
        );
    }
}

fn truth() -> impl Strategy<Value = Truth> {
    prop_oneof![Just(Truth::True), Just(Truth::False), Just(Truth::Unknown)]
}

fn grade() -> impl Strategy<Value = Option<Grade>> {
    prop_oneof![
        Just(None),
        Just(Some(Grade::None)),
        Just(Some(Grade::Mild)),
        Just(Some(Grade::Moderate)),
        Just(Some(Grade::Severe)),
        Just(Some(Grade::VerySevere)),
        Just(Some(Grade::Critical)),
    ]
}

fn urgency() -> impl Strategy<Value = Urgency> {
    prop_oneof![
        Just(Urgency::U0),
        Just(Urgency::U1),
        Just(Urgency::U2),
        Just(Urgency::U3),
        Just(Urgency::U4),
    ]
}

fn state() -> impl Strategy<Value = FlagState> {
    prop_oneof![
        Just(FlagState::Active),
        Just(FlagState::Inactive),
        Just(FlagState::EnteredInError),
    ]
}

/// Text as only an attacker or a broken interface sends it.
fn hostile() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("<script>alert(1)</script>".to_owned()),
        Just("\"><img src=x onerror=alert(1)>".to_owned()),
        Just("]]></div></text>&lt;".to_owned()),
        Just("\u{202E}10*9/L\u{0}\u{7}".to_owned()),
        Just("javascript:alert(1)".to_owned()),
        Just("' OR 1=1 --".to_owned()),
        Just(String::new()),
        Just("x".repeat(5000)),
        ".{0,60}",
    ]
}

prop_compose! {
    /// A decision as the model could make it; what is sent stays benign.
    fn decision()(
        lows in prop::collection::vec((truth(), grade(), any::<bool>()), 3),
        verdict in prop_oneof![
            Just(Verdict::Cytopenia), Just(Verdict::NoCytopenia), Just(Verdict::InsufficientData)
        ],
        urgency in urgency(),
        flag_urgency in urgency(),
        state in state(),
        family in prop::sample::select(Family::ALL.to_vec()),
        slug in prop::sample::select(vec![
            "pancytopenia", "bicytopenia", "anemia", "anemia-hyporegenerative", "neutropenia",
            "thrombocytopenia", "lymphopenia", "febrile-neutropenia", "leukemia-alert",
            "leukocytosis-extreme", "mds-suspected", "inherited-bmf-suspected",
            "neutropenia-cyclic-suspected", "laboratory-critical",
        ]),
        patterns in 0_usize..2,
        candidates in 0_usize..3,
        doubted in any::<bool>(),
        pattern_truth in truth(),
        fit in prop_oneof![Just(Fit::Hidden), Just(Fit::Weak), Just(Fit::Moderate), Just(Fit::Strong)],
        days in 0_i64..400,
        output in prop_oneof![
            Just(Output::Nothing), Just(Output::Report), Just(Output::Flag), Just(Output::SafetyFlag)
        ],
    ) -> Decision {
        let mut decision = raised();
        let assessment = &mut decision.assessment;
        for (line, (low, grade, missing)) in assessment.lineages.iter_mut().zip(lows) {
            line.low = low;
            line.grade = grade;
            if missing {
                line.value = None;
            }
        }
        assessment.verdict = verdict;
        assessment.urgency = urgency;
        assessment.output = output;
        assessment.patterns.truncate(patterns);
        for pattern in &mut assessment.patterns {
            pattern.truth = pattern_truth;
        }
        assessment.candidates.truncate(candidates);
        for candidate in &mut assessment.candidates {
            candidate.fit = fit;
        }
        if !doubted {
            assessment.doubts.clear();
        }
        decision.flags = vec![change(state, "raised")];
        let finding = &mut decision.flags[0].finding;
        finding.family = family;
        slug.clone_into(&mut finding.slug);
        finding.urgency = flag_urgency;
        finding.episode_start.instant -= time::Duration::days(days);
        decision
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn nothing_forbidden_is_ever_said(decision in decision(), snomed: bool, observations: bool) {
        let (key, subject) = (key(), subject());
        let mut ctx = context(&key, &subject);
        ctx.snomed = snomed;
        ctx.observations = observations;
        let made = resources(&decision, &ctx);
        check(&said(&decision, &made));
        super::profiles::assert_valid(&made);
    }

    #[test]
    fn what_was_sent_stays_text(
        decision in decision(),
        texts in prop::collection::vec(hostile(), 8),
    ) {
        let mut decision = decision;
        let assessment = &mut decision.assessment;
        let text = |position: usize| texts[position % texts.len()].clone();
        for (position, value) in assessment.used.iter_mut().enumerate() {
            value.received.value = text(position);
            value.received.unit = text(position + 1);
            value.derived = Some(text(position + 2));
            for source in &mut value.sources {
                source.identifier = Some((text(3).as_str().into(), text(position + 4).as_str().into()));
            }
        }
        for line in &mut assessment.lineages {
            line.note = Some(text(5));
            if let Some(value) = &mut line.value {
                value.received.unit = text(6);
                value.received.value = text(0);
            }
        }
        for doubt in &mut assessment.doubts {
            doubt.received.unit = text(7);
            doubt.received.value = text(1);
            doubt.text = text(2);
        }
        assessment.notes.push(text(3));
        assessment.first_look.push(text(4));
        for candidate in &mut assessment.candidates {
            candidate.missing.push(text(5));
            for line in &mut candidate.for_it {
                line.text = text(6);
            }
        }
        let (key, subject) = (key(), subject());
        let mut ctx = context(&key, &subject);
        ctx.observations = true;
        ctx.inbound = Some((text(1), text(2)));
        let encounter = text(3);
        ctx.encounter = Some(&encounter);
        let orders = [text(4), format!("{}|{}", text(5), text(6))];
        ctx.based_on = &orders;
        let made = resources(&decision, &ctx);
        super::profiles::assert_valid(&made);
        let tag = Regex::new(r"</?(p|b|table|thead|tbody|tr|th|td)>").unwrap();
        for resource in &made {
            let div = resource.body["text"]["div"].as_str().unwrap();
            let inner = div
                .strip_prefix("<div xmlns=\"http://www.w3.org/1999/xhtml\">")
                .and_then(|rest| rest.strip_suffix("</div>"))
                .unwrap();
            let plain = tag.replace_all(inner, "");
            prop_assert!(!plain.contains(['<', '>', '"', '\'']), "{div}");
            prop_assert!(!plain.chars().any(char::is_control), "{div:?}");
        }
        if let Some(report) = made.iter().find(|resource| resource.kind == "DiagnosticReport") {
            let conclusion = report.body["conclusion"].as_str().unwrap();
            prop_assert!(conclusion.chars().count() <= 1000);
            prop_assert!(conclusion.ends_with(words::CAVEAT));
            prop_assert!(conclusion.contains("Other data may exist that marrowflag cannot see."));
        }
    }
}

/// A conclusion that would be too long drops whole parts, the least important first.
#[test]
fn a_long_conclusion_keeps_urgency_counts_and_endings() {
    let (key, subject) = (key(), subject());
    let mut decision = raised();
    decision.assessment.notes = vec!["long ".repeat(100), "words ".repeat(100)];
    decision.assessment.first_look = vec!["something to look for".to_owned(); 40];
    let made = resources(&decision, &context(&key, &subject));
    let conclusion = made
        .iter()
        .find(|resource| resource.kind == "DiagnosticReport")
        .and_then(|resource| resource.body["conclusion"].as_str())
        .unwrap();
    assert!(conclusion.chars().count() <= 1000);
    assert!(conclusion.starts_with(
        "U3 urgent: contact a clinician within 24 h. Pancytopenia: Hb 68 g/L (limit 120, severe), ANC 0.30 x10^9/L"
    ), "{conclusion}");
    assert!(conclusion.contains("More in the text of the report."));
}

/// No part of the record that names the person gets into words.
#[test]
fn no_word_names_the_patient() {
    let (key, subject) = (key(), subject());
    let made = resources(&raised(), &context(&key, &subject));
    for resource in &made {
        for place in ["/text/div", "/conclusion", "/code/text"] {
            let text = resource
                .body
                .pointer(place)
                .and_then(Value::as_str)
                .unwrap_or_default();
            assert!(
                !text.contains("4711") && !text.contains("Patient/p1"),
                "{place}"
            );
        }
    }
    let page = text::render(&raised().assessment, true);
    assert!(!page.contains("4711"));
}

/// A report that says nothing is wrong must not read as an all-clear when data are missing.
#[test]
fn missing_data_are_never_reassuring() {
    let (key, subject) = (key(), subject());
    let mut decision = unremarkable();
    decision.reports = vec![ReportChange::Write];
    decision.assessment.verdict = Verdict::InsufficientData;
    decision.assessment.lineages[2].low = Truth::Unknown;
    decision.assessment.lineages[2].grade = None;
    decision.assessment.lineages[2].value = None;
    decision.assessment.used[2].interval = Interval::below("400".parse().unwrap());
    let made = resources(&decision, &context(&key, &subject));
    let report = made
        .iter()
        .find(|resource| resource.kind == "DiagnosticReport")
        .unwrap();
    let conclusion = report.body["conclusion"].as_str().unwrap();
    assert!(!conclusion.contains("No cytopenia"), "{conclusion}");
    assert!(
        conclusion.contains("Insufficient data: PLT not received."),
        "{conclusion}"
    );
}
