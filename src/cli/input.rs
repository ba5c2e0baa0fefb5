//! What a reading command is given: a Bundle, a single resource, or NDJSON; from a file or standard
//! input.

use std::{
    fs,
    io::{self, Read as _},
    path::Path,
};

/// More than this in one document is a job for a database, not for a command line.
const LARGEST: u64 = 1 << 30;

/// One document to work on.
#[derive(Debug)]
pub(super) struct Document {
    /// JSON.
    pub(super) bytes: Vec<u8>,
    /// Lines that became entries of one collection: entry `n` of the document was line `lines[n]`.
    pub(super) lines: Vec<usize>,
}

/// Reads `path` (`-`: standard input) and takes NDJSON apart.
pub(super) fn documents(path: &Path) -> io::Result<Vec<Document>> {
    let mut bytes = Vec::new();
    if path.as_os_str() == "-" {
        io::stdin().lock().take(LARGEST.saturating_add(1)).read_to_end(&mut bytes)?;
    } else {
        fs::File::open(path)?.take(LARGEST.saturating_add(1)).read_to_end(&mut bytes)?;
    }
    if u64::try_from(bytes.len()).is_ok_and(|size| size > LARGEST) {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 GiB"));
    }
    Ok(if is_ndjson(&bytes) {
        of_lines(&bytes)
    } else {
        vec![Document { bytes, lines: Vec::new() }]
    })
}

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
        bytes: br#"{"resourceType":"Bundle","type":"collection","entry":["#.to_vec(),
        lines: Vec::new(),
    };
    for (number, line) in lines(bytes) {
        let bundle = serde_json::from_slice::<Kind>(line).is_ok_and(|line| line.kind == "Bundle");
        if bundle {
            documents.push(Document { bytes: line.to_vec(), lines: vec![number] });
            continue;
        }
        if !loose.lines.is_empty() {
            loose.bytes.push(b',');
        }
        loose.bytes.extend_from_slice(br#"{"resource":"#);
        loose.bytes.extend_from_slice(line);
        loose.bytes.push(b'}');
        loose.lines.push(number);
    }
    if !loose.lines.is_empty() {
        loose.bytes.extend_from_slice(b"]}");
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

/// The first line that is not JSON, when a document made of lines cannot be read.
pub(super) fn broken_line(document: &Document, source: &Path) -> Option<usize> {
    if document.lines.len() < 2 || source.as_os_str() == "-" {
        return None;
    }
    let bytes = fs::read(source).ok()?;
    lines(&bytes)
        .find(|(_, line)| serde_json::from_slice::<serde::de::IgnoredAny>(line).is_err())
        .map(|(number, _)| number)
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
        assert_eq!(collection["entry"][1]["resource"]["resourceType"], "Observation");
        assert_eq!(documents[1].lines, [1, 4]);
    }
}
