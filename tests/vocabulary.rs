//! Rules, tokens, codes and catalogue speak of the same things.

use std::collections::BTreeSet;

use marrowflag::clinical::{
    analyte::Analyte,
    candidates,
    catalogue::{self, Use},
    explain, patterns,
    rule::{Criterion, Input},
    safety, tokens,
};

/// Tokens that counts, dates and people give, not codes: the series (4.7.1), fever by temperature,
/// and tests that are read by their interpretation.
const DERIVED: &[&str] = &[
    "anc_falling",
    "anc_recovers",
    "anc_stable",
    "arc_manual",
    "clumped",
    "cycle",
    "cycle_deep",
    "cycle_partial",
    "drug_timing",
    "fever",
    "gcsf_refractory",
    "itp_response",
    "first_low",
    "known_stable",
    "known_stable_E",
    "known_stable_N",
    "known_stable_P",
    "late_recovery",
    "mono_persist",
    "neutropenia_past",
    "onset_birth",
    "onset_gt3y",
    "onset_lt6mo",
    "plt_clump",
    "plt_low_since_birth",
    "plt_recovered",
    "predates",
    "prev_normal",
    "prev_normal_hb",
    "prev_normal_plt",
    "recovered",
    "recovered_anc",
    "recovered_hb",
    "transfusion_dependent",
    "hsct_allo",
    "prior_mds",
];

fn criteria() -> Vec<&'static Criterion> {
    let mut found: Vec<&'static Criterion> = Vec::new();
    for rule in candidates::rules() {
        found.push(&rule.gate);
        found.extend(rule.evidence.iter().map(|line| &line.when));
        found.extend(rule.excluding.iter().map(|line| &line.when));
        found.extend(rule.caps.iter().map(|cap| &cap.when));
        found.extend(rule.labels.iter().map(|label| &label.when));
        found.extend(rule.suffixes.iter().map(|label| &label.when));
        found.extend(rule.remarks.iter().map(|label| &label.when));
        found.extend(rule.urgency.iter().map(|(_, when)| when));
    }
    for watch in patterns::MAIN
        .iter()
        .chain(patterns::FURTHER)
        .chain(safety::ALL)
    {
        for level in watch.levels {
            found.push(&level.when);
            found.extend(level.urgency.iter().map(|(_, when)| when));
            found.extend(level.remarks.iter().map(|label| &label.when));
        }
    }
    found
}

fn tokens_of_rules() -> BTreeSet<&'static str> {
    let mut found = Vec::new();
    for criterion in criteria() {
        explain::tokens_of(criterion, &mut found);
    }
    found.into_iter().collect()
}

/// Tokens that the table of codes can bring about, with what they become by their dates.
fn tokens_of_codes() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in include_str!("../src/fhir/findings.tsv").lines().skip(1) {
        let token = line.split('\t').next().unwrap_or_default();
        if token.starts_with("not:") {
            continue;
        }
        let token = token.strip_prefix("weak:").unwrap_or(token);
        found.insert(token.to_owned());
        let becomes: &[&str] = match token {
            "chemo" => &["chemo_21", "chemo_42", "chemo_past"],
            "rt" => &["rt_60", "chemo_past"],
            "hsct" => &["hsct_28", "hsct_recent", "post_hsct_status"],
            "gcsf" | "gcsf_peg" => &["gcsf_14"],
            "steroid" => &["steroid_high"],
            "rbc_transfusion" => &["rbc_transfusion_120d"],
            "viral" => &["viral_recent"],
            "bacterial" => &["bacterial_recent"],
            "hepatitis" => &["hepatitis_recent"],
            _ => &[],
        };
        found.extend(becomes.iter().map(|token| (*token).to_owned()));
    }
    found
}

#[test]
fn every_token_of_a_rule_can_be_brought_about() {
    let known = tokens_of_codes();
    let lost: Vec<&str> = tokens_of_rules()
        .into_iter()
        .filter(|token| !known.contains(*token) && !DERIVED.contains(token))
        .collect();
    assert!(lost.is_empty(), "no code and no series gives: {lost:?}");
}

#[test]
fn qualifiers_are_no_tokens() {
    for token in tokens_of_rules() {
        assert_eq!(tokens::base(token), token);
    }
}

#[test]
fn every_entry_of_the_catalogue_is_taken_up() {
    let rules: BTreeSet<&str> = candidates::rules()
        .map(|rule| rule.id)
        .chain(
            patterns::MAIN
                .iter()
                .chain(patterns::FURTHER)
                .chain(safety::ALL)
                .map(|watch| watch.id),
        )
        .collect();
    let tokens = tokens_of_rules();
    let codes = tokens_of_codes();
    let mut measured = BTreeSet::new();
    for criterion in criteria() {
        explain::walk(criterion, &mut |part| {
            let input = explain::input_of(part);
            if let Some(
                Input::Of(analyte) | Input::Within(analyte, _) | Input::TimesUpperLimit(analyte),
            ) = input
            {
                measured.insert(analyte);
            }
        });
    }
    let mut wrong = Vec::new();
    for entry in catalogue::ALL {
        assert!(!entry.uses.is_empty(), "{}: taken up nowhere", entry.name);
        for used in entry.uses {
            let right = match used {
                Use::Rule(id) => rules.contains(id),
                Use::Token(token) => tokens.contains(token) || codes.contains(*token),
                Use::WorkUp(id, words) => candidates::rules()
                    .map(|rule| (rule.id, rule.next))
                    .chain(
                        patterns::MAIN
                            .iter()
                            .chain(patterns::FURTHER)
                            .chain(safety::ALL)
                            .map(|watch| (watch.id, watch.next)),
                    )
                    .any(|(rule, next)| rule == *id && next.contains(words)),
                Use::Measured(key) => {
                    Analyte::from_key(key).is_some_and(|analyte| measured.contains(&analyte))
                }
                Use::Said(words) => !words.is_empty(),
            };
            if !right {
                wrong.push(format!("{}: {used:?}", entry.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
