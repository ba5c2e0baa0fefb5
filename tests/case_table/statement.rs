//! `rules.csv`: one row says one thing about one rule, on one side of one of its limits.

use marrowflag::clinical::{
    candidates::{self, Weighed},
    context::Case,
    decide::judge_case,
    judge::Judgement,
    limits::Tuning,
    timeline::Timeline,
    truth::Truth,
};

use super::{INDEX, Row};

/// What a row says, column by column, for the columns it fills in.
const COLUMNS: [&str; 5] = ["gate", "score", "against", "label", "urgency"];

/// The columns of a row that differ from what came out: column, expected, found.
pub(crate) fn differences(
    row: &Row,
    timeline: &Timeline,
    tuning: &Tuning,
) -> Vec<(&'static str, String, String)> {
    let case = Case::new(timeline, INDEX, tuning);
    let judgement = judge_case(&case, INDEX).expect("a blood count");
    let rule = row.get("rule");
    assert!(
        candidates::rules().any(|known| known.id == rule),
        "no rule {rule:?}"
    );
    let weighed = judgement.candidate(rule);
    COLUMNS
        .into_iter()
        .filter(|column| !row.get(column).is_empty())
        .map(|column| {
            let found = match column {
                "gate" => gate(&judgement, rule).to_owned(),
                "score" => of(weighed, |weighed| weighed.score.to_string()),
                "against" => of(weighed, against),
                "label" => of(weighed, |weighed| {
                    weighed.label.clone().unwrap_or_else(|| "none".to_owned())
                }),
                _ => of(weighed, |weighed| format!("{:?}", weighed.urgency)),
            };
            (column, row.get(column).to_owned(), found)
        })
        .filter(|(_, expected, found)| expected != found)
        .collect()
}

fn gate(judgement: &Judgement<'_>, rule: &str) -> &'static str {
    let gates = &judgement.context.gates;
    match gates.iter().find(|(id, _)| *id == rule) {
        None => "not asked",
        Some((_, answer)) => match answer.truth {
            Truth::True => "yes",
            Truth::False => "no",
            Truth::Unknown => "unknown",
        },
    }
}

fn of(weighed: Option<&Weighed>, ask: impl Fn(&Weighed) -> String) -> String {
    weighed.map_or_else(|| "not weighed".to_owned(), ask)
}

fn against(weighed: &Weighed) -> String {
    let lines: Vec<&str> = weighed.excluded.iter().map(|line| line.id).collect();
    if lines.is_empty() {
        "none".to_owned()
    } else {
        lines.join(" ")
    }
}
