//! `marrowflag assess`: what would be written, or what a clinician would read.

use std::sync::Arc;

use time::OffsetDateTime;

use super::{
    Exit, complain,
    input::{self, Document, Source},
    print,
};
use crate::{
    clinical::assessment::{Assessment, Verdict},
    config::{Assess, AssessFormat},
    fhir::{
        outcome::{Issue, operation_outcome},
        submission::{Checker, Refusal, Release},
        write::text,
    },
    intake::{AsOf, Assessed, IntakeError, Settings, assess_only},
};

/// Assesses every document.
pub(super) fn run(args: &Assess) -> Exit {
    if args.format == AssessFormat::Xml {
        complain("XML is not built into this version; use --format json or text");
        return Exit::Usage;
    }
    let (source, checker, codes) = match input::open(&args.file, args.code_map.as_deref()) {
        Ok(opened) => opened,
        Err(exit) => return exit,
    };
    let settings = Settings {
        as_of: if args.as_of.is_some() {
            AsOf::Received
        } else {
            AsOf::Sampled
        },
        snomed: args.snomed,
        codes: Arc::new(codes),
        limits: input::limits(),
        ..Settings::default()
    };
    let mut exit = Exit::Done;
    for document in &source.documents {
        let ended = match assess(document, &checker, &settings, args.as_of) {
            Ok(assessed) => tell(&source, &assessed, args),
            Err(exit) => exit,
        };
        if ended == Exit::Io {
            return ended;
        }
        exit = worse(exit, ended);
    }
    exit
}

fn assess(
    document: &Document,
    checker: &Checker,
    settings: &Settings,
    as_of: Option<OffsetDateTime>,
) -> Result<Assessed, Exit> {
    // Without a sample there is nothing to assess, so that this time says nothing.
    let now = as_of.unwrap_or(OffsetDateTime::UNIX_EPOCH);
    document.parsed()?;
    assess_only(checker, settings, Release::R4, document.bytes(), now).map_err(
        |error| match error {
            IntakeError::Refused { refusal, issues } => {
                complain(operation_outcome(&issues).to_string());
                if refusal == Refusal::Malformed {
                    Exit::Unreadable
                } else {
                    Exit::Breach
                }
            }
            IntakeError::Store(error) => {
                complain(format!("an error of ours: {error}"));
                Exit::Bug
            }
        },
    )
}

fn tell(source: &Source, assessed: &Assessed, args: &Assess) -> Exit {
    let breach = assessed.issues.iter().any(Issue::is_error);
    if breach {
        complain(operation_outcome(&assessed.issues).to_string());
    } else {
        for issue in &assessed.issues {
            complain(input::line(issue));
        }
    }
    let printed = match args.format {
        AssessFormat::Text => {
            let pages: Vec<String> = assessed
                .patients
                .iter()
                .map(|patient| text::render(&patient.decision.assessment, args.explain))
                .collect();
            if pages.is_empty() {
                complain("insufficient data: no blood count was found");
            }
            print(pages.join("\n"))
        }
        AssessFormat::Json | AssessFormat::Xml => {
            summarise(assessed, args.explain);
            let bundle = assessed.bundle();
            // One Bundle for people, one a line for several.
            print(if source.documents.len() == 1 {
                format!("{bundle:#}\n")
            } else {
                format!("{bundle}\n")
            })
        }
    };
    if breach {
        worse(printed, Exit::Breach)
    } else {
        printed
    }
}

/// What the Bundle does not say, on standard error.
fn summarise(assessed: &Assessed, explain: bool) {
    if assessed.patients.is_empty() {
        complain("insufficient data: no blood count was found");
    }
    for patient in &assessed.patients {
        let assessment = &patient.decision.assessment;
        match assessment.verdict {
            Verdict::InsufficientData => {
                complain(format!("insufficient data: {}", undecided(assessment)));
            }
            Verdict::NoCytopenia if patient.resources.is_empty() => complain("no cytopenia"),
            Verdict::NoCytopenia | Verdict::Cytopenia => {}
        }
        if explain {
            for step in &assessment.trace {
                complain(format!(
                    "{}: {} [{}] {}",
                    step.id,
                    step.question,
                    step.inputs.join("; "),
                    step.answer
                ));
            }
        }
    }
}

/// The blood lines that were not decided, and why.
fn undecided(assessment: &Assessment) -> String {
    let lines: Vec<String> = assessment
        .lineages
        .iter()
        .filter(|line| line.low.is_unknown())
        .map(|line| match &line.note {
            Some(note) => format!("{:?} ({note})", line.lineage),
            None => format!("{:?}", line.lineage),
        })
        .collect();
    if lines.is_empty() {
        "no blood count was found".to_owned()
    } else {
        format!("not decided: {}", lines.join(", "))
    }
}

/// The exit code that tells more.
fn worse(one: Exit, other: Exit) -> Exit {
    if other.code() > one.code() {
        other
    } else {
        one
    }
}
