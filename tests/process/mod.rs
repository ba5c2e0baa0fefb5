//! `marrowflag` as an operator runs it: a process of its own, its log, and how it ends.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "shared by several tests, of which none uses everything"
)]

use std::{
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_marrowflag");

/// A running service. It ends with the test.
pub(crate) struct Process {
    child: Child,
    log: tempfile::NamedTempFile,
    pub(crate) base: String,
}

/// How a service ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) log: String,
}

/// `marrowflag serve` on a free port, with these further arguments.
pub(crate) fn serve(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--as-of", "sampled"])
        .args(arguments);
    command
}

/// Runs another command of `marrowflag` to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The argument of `--database` for a file.
pub(crate) fn sqlite(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}

impl Process {
    /// Starts a service; it has to get as far as listening.
    #[track_caller]
    pub(crate) fn start(command: Command) -> Self {
        match Self::try_start(command) {
            Ok(process) => process,
            Err(ended) => panic!("it did not start: {ended:?}"),
        }
    }

    /// Starts a service, or says how it ended before it listened.
    pub(crate) fn try_start(mut command: Command) -> Result<Self, Ended> {
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log.reopen().unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let base = line.trim().rsplit(' ').next().unwrap_or_default();
        let process = Self {
            base: base.to_owned(),
            child,
            log,
        };
        if process.base.is_empty() {
            return Err(process.wait());
        }
        Ok(process)
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    /// Until it ends by itself.
    pub(crate) fn wait(mut self) -> Ended {
        let code = self.child.wait().unwrap().code();
        Ended {
            code,
            log: self.log(),
        }
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Tells it to stop, and waits until it has.
    pub(crate) fn stop(self) -> Ended {
        self.signal("-TERM");
        self.wait()
    }

    /// As a crash.
    pub(crate) fn kill(self) {
        self.signal("-KILL");
        self.wait();
    }

    fn signal(&self, signal: &str) {
        let told = Command::new("kill")
            .args([signal, &self.id().to_string()])
            .status()
            .unwrap();
        assert!(told.success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a command wrote to standard output.
pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What a command complained of.
pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Whether a test that needs `what` is to be left out, which is said; in CI nothing is.
pub(crate) fn skipped(test: &str, what: &str) -> bool {
    assert!(
        std::env::var("CI").as_deref() != Ok("true"),
        "{test}: {what} is missing, and in CI nothing is skipped"
    );
    eprintln!("skipped: {test} ({what} is missing)");
    true
}

/// Whether nothing is forbidden to us.
pub(crate) fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
}

/// A program on the path.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH")?)
        .map(|folder| folder.join(name))
        .find(|path| path.exists())
}
