//! Starts real FHIR engines for the tests that want a counterpart: Medplum's (Node) and HAPI's
//! (Java). What is not installed is skipped by name, and is a failure where `CI=true`.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Error},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use marrowflag::fhir_server::{FhirServer, Limits, Token};
use serde_json::Value;

/// A program that serves FHIR.
struct Recipe {
    name: &'static str,
    /// What must be installed.
    tools: &'static [&'static str],
    /// What it is made of; the first names its packages and their versions.
    files: &'static [(&'static str, &'static str)],
    /// Fetches its packages.
    fetch: &'static [&'static str],
    /// Starts it.
    run: &'static [&'static str],
    /// Its packages are so many that they are fetched on request only.
    on_request: bool,
}

const MEDPLUM: Recipe = Recipe {
    name: "medplum",
    tools: &["node", "npm"],
    files: &[
        (
            "package-lock.json",
            include_str!("medplum/package-lock.json"),
        ),
        ("package.json", include_str!("medplum/package.json")),
        (
            "fhir-memory-server.mjs",
            include_str!("medplum/fhir-memory-server.mjs"),
        ),
    ],
    fetch: &["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
    run: &["node", "fhir-memory-server.mjs"],
    on_request: false,
};

/// 300 MB from Maven Central.
const HAPI: Recipe = Recipe {
    name: "hapi",
    tools: &["javac", "mvn"],
    files: &[
        ("pom.xml", include_str!("hapi/pom.xml")),
        ("HapiPeer.java", include_str!("hapi/HapiPeer.java")),
    ],
    fetch: &[
        "mvn",
        "--quiet",
        "--batch-mode",
        "dependency:copy-dependencies",
        "-DoutputDirectory=lib",
    ],
    run: &["java", "-cp", "lib/*", "HapiPeer.java"],
    on_request: true,
};

/// A running engine. It ends when this process does, for its input ends with it.
pub(crate) struct Engine {
    pub(crate) base: String,
    client: reqwest::Client,
    _child: Child,
}

/// Medplum's engine; `None`: `test` is skipped.
pub(crate) fn medplum(test: &str) -> Option<&'static Engine> {
    static ENGINE: OnceLock<Result<Engine, String>> = OnceLock::new();
    found(test, &MEDPLUM, ENGINE.get_or_init(|| MEDPLUM.start()))
}

/// HAPI's JPA server; `None`: `test` is skipped.
pub(crate) fn hapi(test: &str) -> Option<&'static Engine> {
    static ENGINE: OnceLock<Result<Engine, String>> = OnceLock::new();
    found(test, &HAPI, ENGINE.get_or_init(|| HAPI.start()))
}

fn found<'e>(
    test: &str,
    recipe: &Recipe,
    engine: &'e Result<Engine, String>,
) -> Option<&'e Engine> {
    match engine {
        Ok(engine) => Some(engine),
        Err(why) => {
            let reason = format!("{test} needs the FHIR engine {}: {why}", recipe.name);
            assert!(environment("CI").as_deref() != Some("true"), "{reason}");
            eprintln!("skipped: {reason}");
            None
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "how much is wanted of a test run is said by its environment"
)]
pub(crate) fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

impl Recipe {
    fn start(&self) -> Result<Engine, String> {
        let home = self.installed()?;
        let log = File::create(home.join("log")).map_err(|error| error.to_string())?;
        let mut child = command(self.run)
            .current_dir(home)
            .env("STRICT", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("it does not start: {error}"))?;
        let output = child.stdout.take().ok_or("no output")?;
        let mut lines = BufReader::new(output).lines().map_while(Result::ok);
        let base = lines
            .find_map(|line| line.strip_prefix("listening ").map(str::to_owned))
            .ok_or("it ends before it listens")?;
        // What it says later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Engine {
            base,
            client: reqwest::Client::builder()
                .no_proxy()
                // Every test has its own runtime; a connection dies with the one it was made in.
                .pool_max_idle_per_host(0)
                .build()
                .map_err(|error| error.to_string())?,
            _child: child,
        })
    }

    /// The directory with its packages, fetched once.
    fn installed(&self) -> Result<PathBuf, String> {
        for tool in self.tools {
            let version = Command::new(tool).arg("--version").output();
            if !version.is_ok_and(|output| output.status.success()) {
                return Err(format!("{tool} is not installed"));
            }
        }
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(self.name);
        self.install(&home)
            .map_err(|error| format!("its packages cannot be installed: {error}"))?;
        Ok(home)
    }

    fn install(&self, home: &Path) -> Result<(), Error> {
        fs::create_dir_all(home)?;
        // Two test runs must not install at once.
        let lock = File::create(home.join("lock"))?;
        lock.lock()?;
        for (name, text) in self.files {
            fs::write(home.join(name), text)?;
        }
        let done = home.join("installed");
        let (_, wanted) = self.files[0];
        if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
            return Ok(());
        }
        if self.on_request && !self.is_requested() {
            let text = format!("set MARROWFLAG_PEERS={} to fetch them", self.name);
            return Err(Error::other(text));
        }
        let output = command(self.fetch).current_dir(home).output()?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Error::other(text));
        }
        fs::write(done, wanted)
    }

    fn is_requested(&self) -> bool {
        environment("CI").as_deref() == Some("true")
            || environment("MARROWFLAG_PEERS")
                .is_some_and(|peers| peers.split(',').any(|peer| peer == self.name))
    }
}

fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    command
}

impl Engine {
    /// It, as marrowflag sees it.
    pub(crate) fn server(&self) -> FhirServer {
        FhirServer::new(&self.base, Token::None, Limits::default()).unwrap()
    }

    /// Makes a resource; its id.
    pub(crate) async fn create(&self, resource: &Value) -> String {
        let kind = resource["resourceType"].as_str().unwrap();
        let request = self.client.post(format!("{}/{kind}", self.base));
        let answer = fhir(request)
            .body(resource.to_string())
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 201);
        let created: Value = answer.json().await.unwrap();
        created["id"].as_str().unwrap().to_owned()
    }

    /// What a search finds.
    pub(crate) async fn search(&self, query: &str) -> Vec<Value> {
        let request = self.client.get(format!("{}/{query}", self.base));
        let bundle: Value = fhir(request).send().await.unwrap().json().await.unwrap();
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
        let answer = fhir(self.client.get(&url)).send().await.unwrap();
        let mut resource: Value = answer.json().await.unwrap();
        edit(&mut resource);
        let request = fhir(self.client.put(&url)).body(resource.to_string());
        assert_eq!(request.send().await.unwrap().status(), 200);
    }

    /// A human deletes a resource.
    pub(crate) async fn delete(&self, place: &str) {
        let request = self.client.delete(format!("{}/{place}", self.base));
        assert!(request.send().await.unwrap().status().is_success());
    }

    /// How many versions a resource has.
    pub(crate) async fn versions(&self, place: &str) -> usize {
        self.search(&format!("{place}/_history")).await.len()
    }
}

/// A search must not be answered from a cache, as HAPI would for a minute.
fn fhir(request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    request
        .header("Content-Type", "application/fhir+json")
        .header("Cache-Control", "no-cache")
}
