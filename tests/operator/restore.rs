//! A copy is made under load, and restored on an empty host.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use rusqlite::Connection;

use crate::{
    misbehaving::{Misbehaving, PUT_ID},
    process::{Process, run, serve, sqlite, stderr, stdout},
    senders::{Senders, bundle, lost, post},
};

fn start(database: &Path, target: &Misbehaving, restored: bool) -> Process {
    let database = sqlite(database);
    let mut arguments = vec!["--log", "error", "--database", &database];
    arguments.extend(["--fhir-server", &target.base]);
    if restored {
        arguments.push("--restored");
    }
    Process::start(serve(&arguments))
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_made_under_load_is_restored_and_sets_nothing_back() {
    let target = Misbehaving::start(PUT_ID).await;
    let old = tempfile::tempdir().unwrap();
    let process = start(&old.path().join("m.db"), &target, false);
    let senders = Senders::start(&process.base);
    senders
        .until("something is stored", |senders| {
            senders.acknowledged() >= 30
        })
        .await;
    let older = senders.acknowledged();
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("copy.db");
    let copying = Instant::now();
    let (file, server) = (copy.display().to_string(), process.base.clone());
    let copied = tokio::task::spawn_blocking(move || {
        let first = run(&["backup", &file, "--server", &server]);
        let again = run(&["backup", &file, "--server", &server]);
        (first, again)
    })
    .await
    .unwrap();
    let took = copying.elapsed();
    let (first, again) = copied;
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    assert!(stdout(&first).contains("copy.db.identity-key"));
    assert_eq!(again.status.code(), Some(1), "nothing is written over");
    assert!(
        stderr(&again).contains("is there already"),
        "{}",
        stderr(&again)
    );
    for name in ["copy.db", "copy.db.identity-key"] {
        let mode = std::fs::metadata(elsewhere.path().join(name)).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::mode(&mode.permissions());
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let verdict: String =
        Connection::open_with_flags(&copy, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
            .unwrap()
            .query_row("PRAGMA integrity_check", [], |row| row.get(0))
            .unwrap();
    assert_eq!(verdict, "ok");
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

    let restored = start(&copy, &target, true);
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
        "P9 backup: {} acknowledged, {older} before the copy ({took:.1?} under load, integrity ok), older receipts lost \
         {forgotten}; {} Flags on the target, {} writes after the restore, set back {}",
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
