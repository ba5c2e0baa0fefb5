//! The commands beside `serve`: what each prints, and how it ends.

mod admin;
mod assess;
mod backup;
mod deliveries;
mod feedback;
mod input;
mod look;
mod patients;
mod read;
mod rules;
mod validate;

use std::io::{self, Write};

use crate::config::Command;

/// How a command ends; `main` makes it the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// `validate` found errors; a delivery could not be changed.
    Failed,
    /// The input cannot be read.
    Unreadable,
    /// The input is not valid FHIR, or not our profile.
    Breach,
    /// The command line is wrong.
    Usage,
    /// The data cannot be used.
    Data,
    /// An error of ours.
    Bug,
    /// Reading or writing failed.
    Io,
    /// Another process has it.
    Locked,
    /// The configuration is wrong.
    Config,
}

impl Exit {
    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Unreadable => 2,
            Self::Breach => 3,
            Self::Usage => 64,
            Self::Data => 65,
            Self::Bug => 70,
            Self::Io => 74,
            Self::Locked => 75,
            Self::Config => 78,
        }
    }
}

/// Runs every command but `serve`, which is [`crate::app`]'s.
pub async fn run(command: Command) -> Exit {
    match command {
        Command::Serve(_) => Exit::Usage,
        Command::Assess(args) => assess::run(&args),
        Command::Read(args) => read::run(&args),
        Command::Validate(args) => validate::run(&args),
        Command::Rules(args) => rules::rules(&args),
        Command::Profiles(args) => rules::profiles(&args),
        Command::Deliveries(args) => deliveries::run(args).await,
        Command::Patients(args) => patients::run(args).await,
        Command::Backup(args) => backup::run(&args).await,
        Command::Feedback(args) => feedback::run(&args).await,
    }
}

/// Writes to standard output. A reader that has seen enough (`| head`) is no failure.
fn print(text: impl AsRef<[u8]>) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(format!("standard output: {error}"));
            Exit::Io
        }
        _ => Exit::Done,
    }
}

/// Writes a line to standard error.
fn complain(line: impl AsRef<str>) {
    // Nothing is left to tell about a standard error that is closed.
    let _ = writeln!(io::stderr().lock(), "{}", line.as_ref());
}
