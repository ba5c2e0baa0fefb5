//! Database files that are not as they should be, and those of earlier versions.

use std::{
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use rusqlite::Connection;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    figure,
    postgres_server::{Place, Server},
    process::{Ended, Process, is_root, program, serve, skipped, sqlite},
    senders::{Acknowledged, Senders, lost, post},
};

/// A database with something in it, stopped as it should be.
struct Kept {
    directory: tempfile::TempDir,
    acknowledged: Vec<Acknowledged>,
    /// What it answered.
    answers: Vec<Value>,
}

const NAME: &str = "m.db";

impl Kept {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let process = start(&directory.path().join(NAME));
        let senders = Senders::start(&process.base);
        senders
            .until("enough is stored", |senders| senders.acknowledged() >= 120)
            .await;
        let acknowledged = senders.stop().await;
        let answers = answers(&process.base).await.unwrap();
        assert_eq!(process.stop().code, Some(0));
        Self {
            directory,
            acknowledged,
            answers,
        }
    }

    /// A copy, with its key.
    fn copy(&self) -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(NAME);
        for suffix in ["", ".identity-key"] {
            let name = format!("{NAME}{suffix}");
            std::fs::copy(
                self.directory.path().join(&name),
                directory.path().join(&name),
            )
            .unwrap();
        }
        (directory, path)
    }
}

fn start(path: &Path) -> Process {
    Process::start(serve(&["--log", "error", "--database", &sqlite(path)]))
}

/// What it answers about everything, without its address. `Err`: the status it answers with.
async fn answers(base: &str) -> Result<Vec<Value>, u16> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut answers = Vec::new();
    for kind in ["Flag", "DiagnosticReport"] {
        let url = format!("{base}/fhir/{kind}?_count=200");
        let Ok(answer) = client.get(url).send().await else {
            return Err(0);
        };
        let status = answer.status().as_u16();
        if status != 200 {
            return Err(status);
        }
        let text = answer.text().await.unwrap().replace(base, "");
        answers.push(serde_json::from_str(&text).unwrap());
    }
    Ok(answers)
}

fn hash(path: &Path) -> Vec<u8> {
    Sha256::digest(std::fs::read(path).unwrap()).to_vec()
}

/// Refused with 65, in a line that names the file and says what to do; nothing is touched.
fn refused(what: &str, path: &Path, remedy: &str, command: Command) {
    let before = hash(path);
    let ended = Process::try_start(command).err();
    let ended = ended.unwrap_or_else(|| panic!("{what}: it started"));
    let line = ended.log.lines().find(|line| line.contains(NAME));
    let line = line.unwrap_or_else(|| panic!("{what}: {ended:?}"));
    assert_eq!(ended.code, Some(65), "{what}: {line}");
    assert!(line.contains(remedy), "{what}: {line}");
    assert_eq!(hash(path), before, "{what}: it was changed");
}

/// What is done to the bytes of a file.
type Damage<'a> = &'a dyn Fn(&mut Vec<u8>);

fn change(path: &Path, sql: &str) {
    let connection = Connection::open(path).unwrap();
    connection.execute_batch(sql).unwrap();
    connection.close().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_cannot_be_used_are_refused_and_left_as_they_are() {
    let kept = Kept::new().await;
    let serve_at = |path: &Path| serve(&["--database", &sqlite(path)]);
    let restore = "restore the last backup";
    let cases: [(&str, &str, Damage<'_>); 5] = [
        ("empty text", "name another file", &|bytes| {
            *bytes = b"this is a text and no database at all".to_vec();
        }),
        ("half of it", restore, &|bytes| {
            bytes.truncate(bytes.len() / 2);
        }),
        ("a page short", restore, &|bytes| {
            bytes.truncate(bytes.len() - 4096);
        }),
        ("the schema's page", restore, &|bytes| {
            bytes[100..4096].iter_mut().for_each(|byte| *byte ^= 0x5a);
        }),
        ("a foreign mark", "name another file", &|bytes| {
            bytes[68] ^= 0x5a;
        }),
    ];
    for (what, remedy, how) in cases {
        let (_directory, path) = kept.copy();
        let mut bytes = std::fs::read(&path).unwrap();
        how(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        refused(what, &path, remedy, serve_at(&path));
    }
    let (_directory, path) = kept.copy();
    change(
        &path,
        "INSERT INTO schema_migration VALUES (1000, 'later', x'00', 0, '9.9.9')",
    );
    refused(
        "a newer schema",
        &path,
        "start the version that wrote it",
        serve_at(&path),
    );
    // Another key: ids would be others.
    let (_directory, path) = kept.copy();
    let key = path.with_extension("db.identity-key");
    std::fs::write(&key, "08".repeat(32)).unwrap();
    let ended = Process::try_start(serve_at(&path)).err().unwrap();
    assert_eq!(ended.code, Some(78), "{}", ended.log);
    println!(
        "P7c files: {} kinds refused with 65, file and remedy named, sha256 unchanged",
        cases.len() + 1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_may_not_be_written_is_refused() {
    let name = "a_file_that_may_not_be_written_is_refused";
    let kept = Kept::new().await;
    let (directory, path) = kept.copy();
    let mut command = serve(&["--database", &sqlite(&path)]);
    // To root nothing is read-only.
    if is_root() {
        const NOBODY: u32 = 65_534;
        if program("setpriv").is_none() {
            skipped(name, "setpriv");
            return;
        }
        let key = path.with_extension("db.identity-key");
        for owned in [directory.path(), &path, &key] {
            chown(owned, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut unprivileged = Command::new("setpriv");
        unprivileged
            .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
            .arg(command.get_program())
            .args(command.get_args());
        command = unprivileged;
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o444)).unwrap();
    refused("mode 0444", &path, "may write", command);
}

/// What became of one damaged page.
#[derive(Default)]
struct Tally {
    refused: usize,
    ended: usize,
    errors: usize,
    well: usize,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_damaged_page_makes_a_wrong_answer() {
    const PAGE: usize = 4096;
    let kept = Kept::new().await;
    let pages = std::fs::read(kept.directory.path().join(NAME))
        .unwrap()
        .len()
        / PAGE;
    let flips = figure("MARROWFLAG_PAGES", 12).min(pages - 1);
    let mut tally = Tally::default();
    for flip in 0..flips {
        // Spread over the file, each run the same; the first page is asked for elsewhere.
        let page = 1 + flip * (pages - 1) / flips;
        let (_directory, path) = kept.copy();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[page * PAGE..(page + 1) * PAGE]
            .iter_mut()
            .for_each(|byte| *byte ^= 0x5a);
        std::fs::write(&path, bytes).unwrap();
        let before = hash(&path);
        let command = serve(&["--log", "error", "--database", &sqlite(&path)]);
        match Process::try_start(command) {
            Err(Ended { code, log }) => {
                assert_eq!(code, Some(65), "page {page}: {log}");
                assert!(log.contains("restore the last backup"), "{log}");
                assert_eq!(hash(&path), before, "page {page}: it was changed");
                tally.refused += 1;
            }
            Ok(process) => ask(&kept, process, page, &mut tally).await,
        }
    }
    println!(
        "P7c pages: {flips} of {pages} damaged: {} refused at the start, {} ended with 65, {} answered 5xx, {} not touched \
         by what was asked; wrong answers 0",
        tally.refused, tally.ended, tally.errors, tally.well
    );
}

/// Whatever it answers with 200 is what it answered before.
async fn ask(kept: &Kept, mut process: Process, page: usize, tally: &mut Tally) {
    let mut errors = 0;
    match answers(&process.base).await {
        Ok(now) => assert_eq!(now, kept.answers, "page {page}"),
        Err(status) => {
            assert!(status == 0 || status >= 500, "page {page}: {status}");
            errors += 1;
        }
    }
    for one in kept.acknowledged.iter().step_by(10) {
        match post(&process.base, &one.bundle).await {
            Some(answer) if answer.status == 200 => {
                assert!(answer.replayed, "page {page}: {}", answer.text);
            }
            Some(answer) => {
                assert!(answer.status >= 500, "page {page}: {answer:?}");
                errors += 1;
            }
            None => errors += 1,
        }
    }
    if process.has_ended() {
        let ended = process.wait();
        assert_eq!(ended.code, Some(65), "page {page}: {}", ended.log);
        tally.ended += 1;
    } else if errors > 0 {
        tally.errors += 1;
    } else {
        tally.well += 1;
    }
}

/// What the steps after the first did is taken back.
const BACK_TO_1: &str = "DROP TABLE feedback; DROP TABLE card; DROP TABLE jti_seen; \
     DELETE FROM schema_migration WHERE version > 1;";

/// No version was released yet: what earlier ones would have left is made by taking back what
/// later steps did.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn earlier_schemas_are_migrated_and_keep_everything() {
    let kept = Kept::new().await;
    let (_directory, path) = kept.copy();
    change(&path, BACK_TO_1);
    let process = start(&path);
    assert_eq!(answers(&process.base).await.unwrap(), kept.answers);
    let lost = lost(&process.base, &kept.acknowledged).await;
    assert_eq!(process.stop().code, Some(0));
    let steps: i64 = Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM schema_migration", [], |row| {
            row.get(0)
        })
        .unwrap();
    println!(
        "P8 migration on SQLite: schema 1 to {steps}, {} receipts, Flags and reports the same, lost={lost}",
        kept.acknowledged.len()
    );
    assert_eq!((lost, steps), (0, 2));
}

/// A service on it, until it waits to note the step of the schema that it has made; then it is
/// killed.
async fn kill_in_a_step(place: &Place) {
    const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 \
         AND application_name = 'marrowflag' AND wait_event_type = 'Lock'";
    const THERE: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = $1 \
         AND application_name = 'marrowflag'";
    let mut client = place.client().await;
    let before = steps(&client).await;
    let holding = client.transaction().await.unwrap();
    holding
        .batch_execute("LOCK TABLE schema_migration IN EXCLUSIVE MODE")
        .await
        .unwrap();
    let observer = place.server.client("postgres").await;
    let mut starting = serve(&[])
        .args(place.arguments())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until(&observer, WAITING, place, 1).await;
    starting.kill().unwrap();
    starting.wait().unwrap();
    holding.rollback().await.unwrap();
    until(&observer, THERE, place, 0).await;
    assert_eq!(steps(&client).await, before, "half a step stands");
}

async fn steps(client: &tokio_postgres::Client) -> i64 {
    const STEPS: &str = "SELECT count(*) FROM schema_migration";
    client.query_one(STEPS, &[]).await.unwrap().get(0)
}

/// Until so many are counted of a database, for a minute at most.
async fn until(observer: &tokio_postgres::Client, sql: &str, place: &Place, count: i64) {
    for _ in 0..1_200 {
        let row = observer.query_one(sql, &[&place.database]).await.unwrap();
        if row.get::<_, i64>(0) == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("not {count} within a minute: {sql}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrations_of_postgresql_are_resumed_and_newer_ones_refused() {
    const ALL_BUT_STEPS: &str = "DO $$ DECLARE one text; BEGIN \
         FOR one IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' \
         AND tablename <> 'schema_migration' LOOP EXECUTE format('DROP TABLE %I CASCADE', one); \
         END LOOP; DELETE FROM schema_migration; END $$";
    const NEWER: &str = "INSERT INTO schema_migration SELECT version + 1, 'newer', checksum, \
         applied_at, app_version FROM schema_migration ORDER BY version DESC LIMIT 1";
    const NOT_NEWER: &str = "DELETE FROM schema_migration WHERE name = 'newer'";
    let name = "migrations_of_postgresql_are_resumed_and_newer_ones_refused";
    let Some(server) = Server::shared(name) else {
        return;
    };
    let place = Place::on(&server);
    let try_start = || {
        let mut command = serve(&[]);
        command.args(place.arguments());
        Process::try_start(command)
    };
    assert_eq!(try_start().unwrap().stop().code, Some(0));
    let client = place.client().await;
    let all = steps(&client).await;
    client.batch_execute(ALL_BUT_STEPS).await.unwrap();
    kill_in_a_step(&place).await;

    let process = try_start().unwrap();
    assert_eq!(steps(&client).await, all);
    let senders = Senders::start(&process.base);
    senders
        .until("enough is stored", |senders| senders.acknowledged() >= 60)
        .await;
    let acknowledged = senders.stop().await;
    let before = answers(&process.base).await.unwrap();
    assert_eq!(process.stop().code, Some(0));
    client.batch_execute(BACK_TO_1).await.unwrap();
    kill_in_a_step(&place).await;

    let process = try_start().unwrap();
    assert_eq!(answers(&process.base).await.unwrap(), before);
    assert_eq!(process.stop().code, Some(0));
    client.batch_execute(NEWER).await.unwrap();
    let refused = try_start().err().unwrap();
    assert_eq!(refused.code, Some(65), "{}", refused.log);
    assert!(
        refused.log.contains("newer than this program knows"),
        "{}",
        refused.log
    );
    client.batch_execute(NOT_NEWER).await.unwrap();
    let process = try_start().unwrap();
    assert_eq!(answers(&process.base).await.unwrap(), before);
    let lost = lost(&process.base, &acknowledged).await;
    assert_eq!(process.stop().code, Some(0));
    println!(
        "P8 migration on PostgreSQL: killed in both of {all} steps and resumed, schema {} refused with 65, \
         {} receipts, Flags and reports the same, lost={lost}",
        all + 1,
        acknowledged.len()
    );
    assert_eq!((lost, all), (0, 2));
}
