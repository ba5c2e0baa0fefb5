//! Starts Medplum's FHIR engine, in memory, for the tests that want a real counterpart.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use serde_json::Value;

const FILES: [(&str, &str); 3] = [
    ("package.json", include_str!("medplum/package.json")),
    (
        "package-lock.json",
        include_str!("medplum/package-lock.json"),
    ),
    (
        "fhir-memory-server.mjs",
        include_str!("medplum/fhir-memory-server.mjs"),
    ),
];

/// The engine. It ends when this process does, for its input ends with it.
pub(crate) struct Medplum {
    pub(crate) base: String,
    client: reqwest::Client,
    _child: Child,
}

/// The one engine of this test run, or `None`: the test is skipped by name. With `CI=true` a skip
/// is a failure.
pub(crate) fn medplum(test: &str) -> Option<&'static Medplum> {
    static ENGINE: OnceLock<Result<Medplum, String>> = OnceLock::new();
    match ENGINE.get_or_init(start) {
        Ok(engine) => Some(engine),
        Err(why) => {
            assert!(!is_ci(), "{test} needs Medplum's FHIR engine: {why}");
            eprintln!("skipped: {test} needs Medplum's FHIR engine: {why}");
            None
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "CI says by its environment that it is one"
)]
fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

fn start() -> Result<Medplum, String> {
    let home = installed()?;
    let mut child = Command::new("node")
        .arg("fhir-memory-server.mjs")
        .current_dir(home)
        .env("STRICT", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("node does not start: {error}"))?;
    let output = child.stdout.take().ok_or("no output")?;
    let mut line = String::new();
    BufReader::new(output)
        .read_line(&mut line)
        .map_err(|error| error.to_string())?;
    let base = line
        .trim()
        .strip_prefix("listening ")
        .ok_or("the engine does not start")?;
    Ok(Medplum {
        base: base.to_owned(),
        client: reqwest::Client::builder()
            .no_proxy()
            .build()
            .map_err(|error| error.to_string())?,
        _child: child,
    })
}

/// The directory with its packages, installed once.
fn installed() -> Result<PathBuf, String> {
    for tool in ["node", "npm"] {
        let version = Command::new(tool).arg("--version").output();
        if !version.is_ok_and(|output| output.status.success()) {
            return Err(format!("{tool} is not installed"));
        }
    }
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("medplum");
    install(&home).map_err(|error| format!("its packages cannot be installed: {error}"))?;
    Ok(home)
}

fn install(home: &Path) -> Result<(), std::io::Error> {
    fs::create_dir_all(home)?;
    // Two test runs must not install at once.
    let lock = File::create(home.join("lock"))?;
    lock.lock()?;
    let done = home.join("installed.json");
    let (_, wanted) = FILES[1];
    for (name, text) in FILES {
        fs::write(home.join(name), text)?;
    }
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let output = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(home)
        .output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(std::io::Error::other(text));
    }
    fs::write(done, wanted)
}

impl Medplum {
    /// Makes a resource; its id.
    pub(crate) async fn create(&self, resource: &Value) -> String {
        let kind = resource["resourceType"].as_str().unwrap();
        let request = self.client.post(format!("{}/{kind}", self.base));
        let answer = request.json(resource).send().await.unwrap();
        assert_eq!(answer.status(), 201);
        let created: Value = answer.json().await.unwrap();
        created["id"].as_str().unwrap().to_owned()
    }

    /// What a search finds.
    pub(crate) async fn search(&self, query: &str) -> Vec<Value> {
        let request = self.client.get(format!("{}/{query}", self.base));
        let bundle: Value = request.send().await.unwrap().json().await.unwrap();
        assert_eq!(bundle["resourceType"], "Bundle", "{query}: {bundle}");
        let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
        entries
            .into_iter()
            .map(|mut entry| entry["resource"].take())
            .collect()
    }

    /// What a human's client does: reads a resource, edits it, writes it.
    pub(crate) async fn edit(&self, place: &str, edit: impl FnOnce(&mut Value)) {
        let url = format!("{}/{place}", self.base);
        let mut resource: Value = self
            .client
            .get(&url)
            .send()
            .await
            .unwrap()
            .json()
            .await
            .unwrap();
        edit(&mut resource);
        let answer = self.client.put(&url).json(&resource).send().await.unwrap();
        assert_eq!(answer.status(), 200);
    }

    /// How many versions a resource has.
    pub(crate) async fn versions(&self, place: &str) -> usize {
        self.search(&format!("{place}/_history")).await.len()
    }
}
