//! What a reading command is given: a Bundle, a single resource, or NDJSON; from a file or standard
//! input.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

use super::{Exit, complain};
use crate::fhir::{
    codes::CodeMap,
    outcome::{Issue, operation_outcome},
    submission::Checker,
    tree::{self, Limits, Parsed},
};

/// More than this in one document is a job for a database, not for a command line.
const LARGEST: u64 = 1 << 30;

/// One document to work on.
#[derive(Debug)]
pub(super) struct Document {
    /// JSON.
    bytes: Vec<u8>,
    /// Lines that became entries of one collection: entry `n` of the document was line `lines[n]`.
    lines: Vec<usize>,
}

/// Everything a command was given.
#[derive(Debug)]
pub(super) struct Source {
    /// The documents, at least one.
    pub(super) documents: Vec<Document>,
}

/// Reads a file, and makes what every reading command needs. Complains and says how to end
/// otherwise.
pub(super) fn open(
    path: &Path,
    code_map: Option<&Path>,
) -> Result<(Source, Checker, CodeMap), Exit> {
    let documents = documents(path).map_err(|error| {
        complain(format!("{}: {error}", path.display()));
        Exit::Io
    })?;
    let checker = Checker::new(Vec::new()).map_err(|error| {
        complain(format!("the profiles cannot be used: {error}"));
        Exit::Bug
    })?;
    let codes = match code_map {
        None => CodeMap::default(),
        Some(path) => fs::read(path)
            .map_err(|error| error.to_string())
            .and_then(|bytes| {
                CodeMap::from_json(&path.display().to_string(), &bytes)
                    .map_err(|error| error.to_string())
            })
            .map_err(|error| {
                complain(format!("{}: {error}", path.display()));
                Exit::Config
            })?,
    };
    Ok((Source { documents }, checker, codes))
}

/// Nobody else waits for a command: a Bundle may have as many entries as an array may have items.
pub(super) fn limits() -> Limits {
    let limits = Limits::default();
    Limits {
        entries: limits.items,
        ..limits
    }
}

impl Document {
    /// The JSON.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The document as a tree. Not JSON: complains with an `OperationOutcome`.
    pub(super) fn parsed(&self) -> Result<Parsed<'_>, Exit> {
        self.try_parse().map_err(|issue| {
            complain(operation_outcome(&[issue]).to_string());
            Exit::Unreadable
        })
    }

    /// The document as a tree, or what is wrong with it.
    pub(super) fn try_parse(&self) -> Result<Parsed<'_>, Issue> {
        let limits = limits();
        tree::parse(&self.bytes, &limits).map_err(|broken| match self.broken_line(&limits) {
            Some(issue) => issue,
            None => broken.issue(),
        })
    }

    /// What is wrong with the first line that is, when the document was made of lines.
    fn broken_line(&self, limits: &Limits) -> Option<Issue> {
        let inner = self
            .bytes
            .strip_prefix(OPENING)
            .filter(|_| !self.lines.is_empty())?;
        lines(inner)
            .zip(&self.lines)
            .find_map(|((_, line), number)| {
                let line = line.trim_ascii().strip_prefix(b",").unwrap_or(line);
                let line = line.strip_prefix(ENTRY)?.strip_suffix(b"}")?;
                let broken = tree::parse(line, limits).err()?;
                Some(
                    Issue::fatal(broken.word, broken.text)
                        .diagnosed(format!("line {number}, column {}", broken.column)),
                )
            })
    }
}

/// An issue as a line for a terminal.
pub(super) fn line(issue: &Issue) -> String {
    let place = issue
        .expression
        .as_deref()
        .map(|place| format!(" at {place}"))
        .unwrap_or_default();
    let detail = issue
        .diagnostics
        .as_deref()
        .map(|detail| format!(" ({detail})"))
        .unwrap_or_default();
    format!(
        "{}: {}: {}{place}{detail}",
        issue.severity.code(),
        issue.word,
        issue.text
    )
}

/// Reads `path` (`-`: standard input) and takes NDJSON apart.
fn documents(path: &Path) -> io::Result<Vec<Document>> {
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        io::stdin()
            .lock()
            .take(LARGEST.saturating_add(1))
            .read_to_end(&mut bytes)?;
    } else {
        fs::File::open(path)?
            .take(LARGEST.saturating_add(1))
            .read_to_end(&mut bytes)?;
    }
    if u64::try_from(bytes.len()).is_ok_and(|size| size > LARGEST) {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "larger than 1 GiB",
        ));
    }
    Ok(if is_ndjson(&bytes) {
        of_lines(&bytes)
    } else {
        vec![Document {
            bytes,
            lines: Vec::new(),
        }]
    })
}

const OPENING: &[u8] = b"{\"resourceType\":\"Bundle\",\"type\":\"collection\",\"entry\":[";
const ENTRY: &[u8] = b"{\"resource\":";

/// NDJSON: the first line is a whole JSON value, and another line follows.
fn is_ndjson(bytes: &[u8]) -> bool {
    let mut lines = lines(bytes);
    lines
        .next()
        .is_some_and(|(_, first)| serde_json::from_slice::<serde::de::IgnoredAny>(first).is_ok())
        && lines.next().is_some()
}

/// Bundles are documents of their own; resources on lines belong together, as one collection.
fn of_lines(bytes: &[u8]) -> Vec<Document> {
    #[derive(serde::Deserialize)]
    struct Kind {
        #[serde(rename = "resourceType", default)]
        kind: String,
    }
    let mut documents = Vec::new();
    let mut loose = Document {
        bytes: OPENING.to_vec(),
        lines: Vec::new(),
    };
    for (number, line) in lines(bytes) {
        let bundle = serde_json::from_slice::<Kind>(line).is_ok_and(|line| line.kind == "Bundle");
        if bundle {
            documents.push(Document {
                bytes: line.to_vec(),
                lines: Vec::new(),
            });
            continue;
        }
        // One entry a line, so that a broken one can be found again.
        if !loose.lines.is_empty() {
            loose.bytes.extend_from_slice(b"\n,");
        }
        loose.bytes.extend_from_slice(ENTRY);
        loose.bytes.extend_from_slice(line);
        loose.bytes.push(b'}');
        loose.lines.push(number);
    }
    if !loose.lines.is_empty() {
        loose.bytes.extend_from_slice(b"\n]}");
        documents.push(loose);
    }
    documents
}

/// Lines that hold something, with their number from one; a byte order mark is left out.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    bytes
        .strip_prefix(b"\xef\xbb\xbf")
        .unwrap_or(bytes)
        .split(|byte| *byte == b'\n')
        .enumerate()
        .map(|(index, line)| (index.saturating_add(1), line.trim_ascii()))
        .filter(|(_, line)| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_over_many_lines_is_one_document() {
        assert!(!is_ndjson(b"{\n  \"resourceType\": \"Bundle\"\n}\n"));
        assert!(!is_ndjson(b"{\"resourceType\":\"Bundle\"}\n"));
        assert!(is_ndjson(b"{\"a\":1}\n{\"a\":2}\n"));
    }

    #[test]
    fn resources_on_lines_become_one_collection_and_bundles_stay_apart() {
        let text = b"\xef\xbb\xbf{\"resourceType\":\"Patient\"}\r\n\n{\"resourceType\":\"Bundle\"}\n{\"resourceType\":\"Observation\"}\n";
        let documents = of_lines(text);
        assert_eq!(documents.len(), 2);
        assert_eq!(documents[0].bytes, b"{\"resourceType\":\"Bundle\"}");
        let collection: serde_json::Value = serde_json::from_slice(&documents[1].bytes).unwrap();
        assert_eq!(
            collection["entry"][1]["resource"]["resourceType"],
            "Observation"
        );
        assert_eq!(documents[1].lines, [1, 4]);
    }

    #[test]
    fn a_broken_line_is_named() {
        let documents = of_lines(b"{\"resourceType\":\"Patient\"}\n\n{\"resourceType\":}\n");
        let source = Source { documents };
        let issue = source.documents[0].try_parse().unwrap_err();
        assert!(issue.diagnostics.unwrap().starts_with("line 3, column"));
    }
}
