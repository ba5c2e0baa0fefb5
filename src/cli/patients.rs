//! `marrowflag patients delete`: everything about a patient, on request.

use std::io;

use serde_json::{Value, json};

use super::{Exit, admin, complain};
use crate::config::Patients;

/// Runs one of the subcommands.
pub(super) async fn run(args: Patients) -> Exit {
    let Patients::Delete {
        patient,
        retract,
        server,
    } = args;
    let patient = if patient == "-" {
        let mut line = String::new();
        if let Err(error) = io::stdin().read_line(&mut line) {
            complain(format!("standard input: {error}"));
            return Exit::Unreadable;
        }
        line.trim().to_owned()
    } else {
        patient
    };
    let body = json!({ "patient": patient, "retract": retract });
    admin::ask(
        &server,
        "patients/delete",
        Some(&body),
        "not deleted",
        |answer| match answer.get("deleted").and_then(Value::as_u64) {
            Some(0) => "nothing is held of this patient\n".to_owned(),
            _ => "deleted; backups hold the patient until they are replaced\n".to_owned(),
        },
    )
    .await
}
