//! The house rules that the compiler does not guard, read from the source text.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test panics when something is not as it says"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// Modules and the floor each is on. A file uses its own floor and those below.
const FLOORS: &[(&str, u8)] = &[
    ("clinical", 0),
    ("fhir", 1),
    ("store", 2),
    ("fhir_server", 2),
    ("fault", 2),
    ("intake", 3),
    ("courier", 3),
    ("screen", 3),
    ("http", 4),
    ("app", 5),
    ("cli", 5),
    ("config", 5),
    ("telemetry", 5),
    ("main", 6),
    ("lib", 6),
];

/// Words that only one place may say, and the place.
struct Reserved {
    words: &'static [&'static str],
    only: &'static [&'static str],
    why: &'static str,
}

const RESERVED: &[Reserved] = &[
    Reserved {
        words: &[
            "INSERT INTO",
            "SELECT ",
            "DELETE FROM",
            "CREATE TABLE",
            "PRAGMA ",
            "rusqlite",
        ],
        only: &["store/"],
        why: "only store/ contains SQL",
    },
    Reserved {
        words: &[
            "StatusCode::",
            "HttpResponse::Ok",
            "HttpResponse::Created",
            "HttpResponse::BadRequest",
        ],
        // A client of someone else's server names the statuses it is sent.
        only: &["http/error.rs", "fhir_server/", "cli/deliveries.rs"],
        why: "only http/error.rs names a status code that we answer with",
    },
    Reserved {
        words: &["now_utc", "SystemTime::now", "now_local"],
        only: &["app.rs"],
        why: "only app.rs reads the time",
    },
    Reserved {
        words: &["env::var", "env = \"MARROWFLAG_"],
        only: &["config.rs"],
        why: "only config.rs reads the environment",
    },
];

/// What the two pure floors may not touch.
const IMPURE: &[&str] = &[
    "std::fs",
    "std::net",
    "std::process",
    "std::thread",
    "tokio",
    "reqwest",
    "actix",
    "async fn",
    ".await",
    "Instant::now",
    "rand::",
];

/// What `clinical` may take from outside.
const CLINICAL_CRATES: &[&str] = &[
    "std",
    "core",
    "rust_decimal",
    "time",
    "super",
    "self",
    "crate",
];

struct Source {
    /// Path below `src/`, with slashes.
    name: String,
    /// Lines of code with their number: no comments, and nothing of the test module.
    lines: Vec<(usize, String)>,
}

impl Source {
    fn module(&self) -> &str {
        let first = self.name.split('/').next().unwrap();
        first.trim_end_matches(".rs")
    }

    fn floor(&self) -> u8 {
        floor(self.module())
            .unwrap_or_else(|| panic!("{}: say in tests/floors.rs on which floor it is", self.name))
    }
}

fn floor(module: &str) -> Option<u8> {
    FLOORS
        .iter()
        .find(|(name, _)| *name == module)
        .map(|(_, floor)| *floor)
}

fn sources() -> Vec<Source> {
    fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, files);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    files
        .iter()
        .map(|path| {
            let name = path
                .strip_prefix(&root)
                .unwrap()
                .to_str()
                .unwrap()
                .replace('\\', "/");
            let text = fs::read_to_string(path).unwrap();
            Source {
                name,
                lines: code_lines(&text),
            }
        })
        .collect()
}

/// Test modules come last in a file of this house, and may use what they like.
fn code_lines(text: &str) -> Vec<(usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let end = lines
        .windows(2)
        .position(|pair| {
            pair[0].trim() == "#[cfg(test)]" && pair[1].trim_start().starts_with("mod ")
        })
        .unwrap_or(lines.len());
    lines[..end]
        .iter()
        .enumerate()
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
        .map(|(number, line)| (number + 1, (*line).to_owned()))
        .collect()
}

/// Modules of this crate named on a line, as `crate::module` or in a `use crate::{...}` group.
fn modules_used(source: &Source) -> Vec<(usize, String)> {
    let mut used = Vec::new();
    let mut group: Option<(i32, usize)> = None;
    for (number, line) in &source.lines {
        for (at, _) in line.match_indices("crate::") {
            let word: String = line[at + 7..]
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            if !word.is_empty() {
                used.push((*number, word));
            }
        }
        // Members of `use crate::{` at depth one.
        let mut rest = line.as_str();
        if group.is_none() {
            let Some(at) = line.find("crate::{") else {
                continue;
            };
            group = Some((1, *number));
            rest = &line[at + 8..];
        }
        let (mut depth, start) = group.unwrap();
        let mut word = String::new();
        let mut fresh = true;
        for letter in rest.chars() {
            match letter {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' => fresh = true,
                ':' => fresh = false,
                c if c.is_alphanumeric() || c == '_' => {
                    if depth == 1 && fresh {
                        word.push(c);
                    }
                    continue;
                }
                _ => {}
            }
            if !word.is_empty() {
                used.push((start, std::mem::take(&mut word)));
                fresh = letter == ',';
            }
            if depth == 0 {
                break;
            }
        }
        if !word.is_empty() {
            used.push((start, word));
        }
        group = (depth > 0).then_some((depth, start));
    }
    used
}

#[test]
fn no_file_uses_a_floor_above_its_own() {
    let mut broken = Vec::new();
    for source in sources() {
        for (number, module) in modules_used(&source) {
            let Some(used) = floor(&module) else { continue };
            if used > source.floor() {
                broken.push(format!("src/{}:{number} uses {module}", source.name));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "a floor is crossed:\n{}",
        broken.join("\n")
    );
}

#[test]
fn clinical_knows_only_numbers_words_and_dates() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.floor() == 0) {
        for (number, line) in &source.lines {
            let Some(path) = line
                .trim()
                .strip_prefix("use ")
                .or_else(|| line.trim().strip_prefix("pub use "))
            else {
                continue;
            };
            let krate: String = path
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            let own = sources()
                .iter()
                .any(|other| other.name == format!("clinical/{krate}.rs"));
            if !CLINICAL_CRATES.contains(&krate.as_str())
                && !own
                && krate.chars().next().is_some_and(char::is_lowercase)
            {
                broken.push(format!("src/{}:{number} uses {krate}", source.name));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "clinical uses what it may not know:\n{}",
        broken.join("\n")
    );
}

#[test]
fn the_two_pure_floors_do_no_input_or_output() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.floor() <= 1) {
        for (number, line) in &source.lines {
            if let Some(word) = IMPURE.iter().find(|word| line.contains(**word)) {
                broken.push(format!("src/{}:{number} says {word}", source.name));
            }
        }
    }
    assert!(
        broken.is_empty(),
        "clinical and fhir are plain functions:\n{}",
        broken.join("\n")
    );
}

#[test]
fn some_words_are_said_in_one_place_only() {
    let mut broken = Vec::new();
    for source in sources() {
        for reserved in RESERVED {
            if reserved
                .only
                .iter()
                .any(|place| source.name.starts_with(place))
            {
                continue;
            }
            for (number, line) in &source.lines {
                if let Some(word) = reserved.words.iter().find(|word| line.contains(**word)) {
                    broken.push(format!(
                        "src/{}:{number} says {word:?}: {}",
                        source.name, reserved.why
                    ));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_reader_of_use_lines_sees_groups_and_paths() {
    let source = Source {
        name: "fhir/example.rs".to_owned(),
        lines: code_lines(
            "use crate::{clinical::time::SampleTime, store::{Store, lease}};\nuse crate::{\n    http::Door,\n    app,\n};\nfn f() { crate::intake::go(); }\n// crate::courier\n",
        ),
    };
    let mut used: Vec<String> = modules_used(&source)
        .into_iter()
        .map(|(_, module)| module)
        .collect();
    used.sort();
    assert_eq!(used, ["app", "clinical", "http", "intake", "store"]);
}
