//! `marrowflag backup`: the service copies its own database; nobody else may open the file.

use serde_json::{Value, json};

use super::{Exit, admin, complain};
use crate::config::Backup;

/// Runs it.
pub(super) async fn run(args: &Backup) -> Exit {
    // Relative to where the command is given, not to where the service was started.
    let file = match std::path::absolute(&args.file) {
        Ok(file) => file.display().to_string(),
        Err(error) => {
            complain(format!("{}: {error}", args.file.display()));
            return Exit::Io;
        }
    };
    let body = json!({ "file": file });
    admin::ask(&args.server, "backup", Some(&body), "backup", |answer| {
        let text = |name| answer.get(name).and_then(Value::as_str).unwrap_or_default();
        format!("{} and {}\n", text("file"), text("identity_key"))
    })
    .await
}
