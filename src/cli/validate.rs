//! `marrowflag validate`: against the base specification and our profiles.

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
            let issues = match document.try_parse() {
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
            let printed = print(format!("{:#}\n", operation_outcome(&issues)));
            if printed != Exit::Done {
                return printed;
            }
        }
    }
    exit
}
