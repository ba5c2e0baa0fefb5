//! `marrowflag validate`: against the base specification and our profiles.

use serde_json::json;

use super::{Exit, input, print};
use crate::{
    config::Validate,
    fhir::{
        outcome::{Issue, operation_outcome},
        submission::{At, Release},
    },
};

/// Prints one `OperationOutcome` per document.
pub(super) fn run(args: &Validate) -> Exit {
    let mut exit = Exit::Done;
    for file in &args.files {
        let (source, checker, _) = match input::open(file, None) {
            Ok(opened) => opened,
            Err(exit) => return exit,
        };
        for document in &source.documents {
            let issues = match source.try_parse(document) {
                Ok(parsed) => checker
                    .decode(&parsed, Release::R4, At::Door)
                    .all_issues()
                    .cloned()
                    .collect::<Vec<Issue>>(),
                Err(issue) => vec![issue],
            };
            if issues.iter().any(Issue::is_error) {
                exit = Exit::Failed;
            }
            let outcome = if issues.is_empty() {
                // An OperationOutcome has at least one issue.
                json!({
                    "resourceType": "OperationOutcome",
                    "issue": [{ "severity": "information", "code": "informational", "details": { "text": "No problem found" } }]
                })
            } else {
                operation_outcome(&issues)
            };
            let printed = print(format!("{outcome:#}\n"));
            if printed != Exit::Done {
                return printed;
            }
        }
    }
    exit
}
