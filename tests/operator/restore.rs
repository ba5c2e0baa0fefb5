//! A copy is made under load, and restored on an empty host.

use std::{
    fs::File,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use rusqlite::Connection;

use crate::{
    misbehaving::{Misbehaving, PUT_ID},
    postgres_server::{Place, Server},
    process::{Process, run, serve, sqlite, stderr, stdout},
    senders::{Senders, bundle, lost, post},
};

fn start(place: &[String], target: &Misbehaving, more: &[&str]) -> Process {
    let mut command = serve(&["--log", "error", "--fhir-server", &target.base]);
    // What is set back is looked for here, not the pace.
    command.args(["--fhir-server-rate", "10000"]);
    command.args(place).args(more);
    Process::start(command)
}

/// Until nothing is on its way any more.
async fn delivered(base: &str) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for _ in 0..2_400 {
        let mut open = 0;
        for state in ["queued", "in_flight", "later"] {
            let url = format!("{base}/admin/deliveries?state={state}&limit=1");
            let answer: serde_json::Value =
                client.get(url).send().await.unwrap().json().await.unwrap();
            open += answer["deliveries"].as_array().unwrap().len();
        }
        if open == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not delivered within two minutes");
}

fn file(path: &Path) -> Vec<String> {
    vec!["--database".to_owned(), sqlite(path)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_made_under_load_is_restored_and_sets_nothing_back() {
    let old = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("copy.db");
    let back_up = async |base: &str| {
        back_up(base, &copy).await;
        file(&copy)
    };
    sets_nothing_back("SQLite", &file(&old.path().join("m.db")), back_up).await;
}

async fn back_up(base: &str, copy: &Path) {
    let (to, server) = (copy.display().to_string(), base.to_owned());
    let copied = tokio::task::spawn_blocking(move || {
        let first = run(&["backup", &to, "--server", &server]);
        let again = run(&["backup", &to, "--server", &server]);
        (first, again)
    });
    let (first, again) = copied.await.unwrap();
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    assert!(stdout(&first).contains("copy.db.identity-key"));
    assert_eq!(again.status.code(), Some(1), "nothing is written over");
    assert!(
        stderr(&again).contains("is there already"),
        "{}",
        stderr(&again)
    );
    for suffix in ["", ".identity-key"] {
        let path = format!("{}{suffix}", copy.display());
        let mode = std::fs::metadata(&path).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions());
        assert_eq!(mode & 0o777, 0o600, "{path}");
    }
    let verdict: String =
        Connection::open_with_flags(copy, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
            .unwrap()
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
    assert_eq!(verdict, "ok");
}

/// With the server's own tools, as an operator copies it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_made_under_load_is_restored_and_sets_nothing_back() {
    let name = "a_dump_made_under_load_is_restored_and_sets_nothing_back";
    let Some(server) = Server::shared(name) else {
        return;
    };
    let (old, copy) = (Place::on(&server), Place::on(&server));
    let elsewhere = tempfile::tempdir().unwrap();
    let dump = elsewhere.path().join("dump");
    let tool = |program: &str, database: &str| {
        let mut command = server.command(program);
        command.args(["-h", "127.0.0.1", "-p", &server.port().to_string()]);
        command.args(["-U", "postgres", "-d", database]);
        command
    };
    let back_up = async |_: &str| {
        let mut dumping = tool("pg_dump", &old.database);
        dumping.arg("-Fc").stdout(File::create(&dump).unwrap());
        done(dumping).await;
        std::fs::copy(old.key.path(), copy.key.path()).unwrap();
        let mut restoring = tool("pg_restore", &copy.database);
        restoring.arg("--exit-on-error");
        restoring.stdin(File::open(&dump).unwrap());
        done(restoring).await;
        copy.arguments()
    };
    sets_nothing_back("PostgreSQL", &old.arguments(), back_up).await;
}

async fn done(mut command: Command) {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap());
    let output = output.await.unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
}

/// `back_up` makes a copy of what a service has, and says where another finds it.
async fn sets_nothing_back(
    engine: &str,
    old: &[String],
    back_up: impl AsyncFnOnce(&str) -> Vec<String>,
) {
    let target = Misbehaving::start(PUT_ID).await;
    let process = start(old, &target, &[]);
    let senders = Senders::start(&process.base);
    senders
        .until("something is stored", |senders| {
            senders.acknowledged() >= 30
        })
        .await;
    let older = senders.acknowledged();
    let copying = Instant::now();
    let copy = back_up(&process.base).await;
    let took = copying.elapsed();
    let during = senders.acknowledged();
    senders
        .until("more is stored after it", |senders| {
            senders.acknowledged() >= during + 30
        })
        .await;
    let acknowledged = senders.stop().await;
    delivered(&process.base).await;
    // The host is gone.
    process.kill();
    let (before, writes) = {
        let truth = target.truth();
        assert!(truth.set_back.is_empty(), "{:?}", truth.set_back);
        (truth.resources.clone(), truth.writes.len())
    };

    let restored = start(&copy, &target, &["--restored"]);
    let forgotten = lost(&restored.base, &acknowledged[..older]).await;
    // The engine sends everything again from then on, in its order.
    for one in &acknowledged[older..] {
        let answer = post(&restored.base, &one.bundle).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    // And something that nobody has seen yet.
    let news = bundle("news", 3).to_string();
    assert_eq!(post(&restored.base, &news).await.unwrap().status, 200);
    delivered(&restored.base).await;
    let ended = restored.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let truth = target.truth();
    let flags = |resources: &std::collections::BTreeMap<String, (u64, serde_json::Value)>| {
        resources
            .iter()
            .filter(|(place, _)| place.starts_with("Flag/"))
            .map(|(place, (_, flag))| (place.clone(), flag["status"].clone(), flag["code"].clone()))
            .collect::<Vec<_>>()
    };
    println!(
        "P9 backup on {engine}: {} acknowledged, {older} before the copy ({took:.1?} under load), older receipts \
         lost={forgotten}; {} Flags on the target, {} writes after the restore, set back {}",
        acknowledged.len(),
        flags(&before).len(),
        truth.writes.len() - writes,
        truth.set_back.len()
    );
    assert_eq!(forgotten, 0);
    assert_eq!(truth.set_back, Vec::<String>::new());
    let (now, before) = (flags(&truth.resources), flags(&before));
    assert!(before.iter().all(|flag| now.contains(flag)));
    assert_eq!(now.len(), before.len() + 1, "what is new is written");
}
