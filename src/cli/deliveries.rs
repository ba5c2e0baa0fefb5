//! `marrowflag deliveries`: looking works on the database, beside a running service; changing
//! goes through the service, which alone writes.

use std::fmt::Write as _;

use comfy_table::{Table, presets};
use serde_json::Value;

use super::{Exit, admin, complain, look::Look, print};
use crate::{
    config::{Database, Deliveries, ListFormat},
    http::{detail_json, summary_json},
    store::reading::{DeliveryFilter, DeliverySummary},
};

/// Columns of the list, as the admin API names them.
const COLUMNS: [&str; 8] = [
    "id", "target", "state", "urgency", "attempts", "created", "due", "parked",
];

/// Runs one of the subcommands.
pub(super) async fn run(args: Deliveries) -> Exit {
    match args {
        Deliveries::List {
            database,
            state,
            target,
            format,
        } => {
            let filter = DeliveryFilter {
                target,
                state,
                ..DeliveryFilter::default()
            };
            list(&database, filter, format).await
        }
        Deliveries::Show { id, database } => show(&database, id).await,
        Deliveries::Retry { id, server } => change(&server, id, "retry").await,
        Deliveries::Discard { id, server } => change(&server, id, "discard").await,
    }
}

async fn list(database: &Database, filter: DeliveryFilter, format: ListFormat) -> Exit {
    let deliveries = match Look::at(database) {
        Err(error) => return unusable(&error),
        Ok(look) => match look.deliveries(filter).await {
            Ok(deliveries) => deliveries,
            Err(error) => return unusable(&format!("{}: {error}", look.name())),
        },
    };
    match format {
        ListFormat::Ndjson => {
            let mut lines = String::new();
            for delivery in &deliveries {
                // Writing into a String cannot fail.
                let _ = writeln!(lines, "{}", summary_json(delivery));
            }
            print(lines)
        }
        ListFormat::Table => print(table(&deliveries)),
    }
}

fn table(deliveries: &[DeliverySummary]) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(COLUMNS);
    for delivery in deliveries {
        let row = summary_json(delivery);
        table.add_row(COLUMNS.map(|column| match row.get(column) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }));
    }
    format!("{table}\n")
}

async fn show(database: &Database, id: i64) -> Exit {
    let look = match Look::at(database) {
        Ok(look) => look,
        Err(error) => return unusable(&error),
    };
    match look.delivery(id).await {
        Ok(Some(delivery)) => print(format!("{:#}\n", detail_json(&delivery))),
        Ok(None) => {
            complain(format!("there is no delivery {id}"));
            Exit::Failed
        }
        Err(error) => unusable(&format!("{}: {error}", look.name())),
    }
}

fn unusable(what: &str) -> Exit {
    complain(what);
    Exit::Io
}

async fn change(server: &reqwest::Url, id: i64, what: &str) -> Exit {
    let path = format!("deliveries/{id}/{what}");
    admin::ask(server, &path, None, &format!("delivery {id}"), |answer| {
        let state = answer.get("state").and_then(Value::as_str);
        format!("delivery {id}: {}\n", state.unwrap_or("changed"))
    })
    .await
}
