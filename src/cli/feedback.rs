//! `marrowflag feedback`: what clinicians did with the cards, rule by rule. Reads the database
//! beside a running service.

use std::fmt::Write as _;

use comfy_table::{Table, presets};
use serde_json::{Value, json};

use super::{Exit, complain, look::Look, print};
use crate::{
    config::{Feedback, ListFormat},
    store::cards::RuleFeedback,
};

/// Columns of the list.
const COLUMNS: [&str; 8] = [
    "rule",
    "shown",
    "accepted",
    "known",
    "not_relevant",
    "waiting",
    "other",
    "unanswered",
];

/// Runs it.
pub(super) async fn run(args: &Feedback) -> Exit {
    let rules = match Look::at(&args.database) {
        Err(error) => Err(error),
        Ok(look) => look
            .feedback()
            .await
            .map_err(|error| format!("{}: {error}", look.name())),
    };
    let rules = match rules {
        Ok(rules) => rules,
        Err(error) => {
            complain(error);
            return Exit::Io;
        }
    };
    let rows = rules.iter().map(row);
    match args.format {
        ListFormat::Ndjson => {
            let mut lines = String::new();
            for row in rows {
                // Writing to a String cannot fail.
                let _ = writeln!(lines, "{row}");
            }
            print(lines)
        }
        ListFormat::Table => {
            let mut table = Table::new();
            table.load_preset(presets::NOTHING).set_header(COLUMNS);
            for row in rows {
                table.add_row(COLUMNS.map(|column| match row.get(column) {
                    None | Some(Value::Null) => String::new(),
                    Some(Value::String(text)) => text.clone(),
                    Some(other) => other.to_string(),
                }));
            }
            print(format!("{table}\n"))
        }
    }
}

fn row(rule: &RuleFeedback) -> Value {
    let answered = rule
        .accepted
        .saturating_add(rule.known)
        .saturating_add(rule.not_relevant)
        .saturating_add(rule.waiting)
        .saturating_add(rule.other);
    json!({
        "rule": rule.rule,
        "shown": rule.shown,
        "accepted": rule.accepted,
        "known": rule.known,
        "not_relevant": rule.not_relevant,
        "waiting": rule.waiting,
        "other": rule.other,
        "unanswered": rule.shown.saturating_sub(answered),
    })
}
