//! Disks that are full, and disks that fail.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    figure,
    postgres_server::{Place, Server},
    process::{Process, is_root, program, serve, skipped, sqlite},
    senders::{Senders, lost},
};

/// A program that not everybody may use like this.
fn privileged(program: &str) -> Command {
    if is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

/// A small disk of our own, gone with the test.
struct Disk(tempfile::TempDir);

impl Disk {
    /// `None`: none can be made here.
    fn mount(size: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = privileged("mount")
            .args(["-t", "tmpfs", "-o"])
            .arg(format!("size={size},mode=1777"))
            .arg("marrowflag-test")
            .arg(directory.path())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        mounted.then_some(Self(directory))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = privileged("umount").arg(self.0.path()).status();
        if !unmounted.is_ok_and(|status| status.success()) {
            eprintln!("{} is still mounted", self.0.path().display());
        }
    }
}

/// Until nothing more goes onto it.
fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    for size in [1 << 20, 4 << 10, 1] {
        let zeros = vec![0; size];
        while file.write_all(&zeros).is_ok() {}
    }
}

async fn readiness(base: &str) -> u16 {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(format!("{base}/readyz")).send().await.unwrap();
    answer.status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_loses_nothing_and_recovers_by_itself() {
    let Some(disk) = small("a_full_disk_refuses_loses_nothing_and_recovers_by_itself") else {
        return;
    };
    let database = ["--database".to_owned(), sqlite(&disk.path("m.db"))];
    // It knows its disk, and says so to whoever sends requests here.
    a_full_disk("SQLite", &disk, &database, 503).await;
}

/// The rows are on the small disk and not the log, whose lack of room PostgreSQL does not survive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_of_postgresql_refuses_loses_nothing_and_recovers_by_itself() {
    let name = "a_full_disk_of_postgresql_refuses_loses_nothing_and_recovers_by_itself";
    let Some(disk) = small(name) else {
        return;
    };
    let Some(server) = Server::new(name, &[]) else {
        return;
    };
    let server = Arc::new(server);
    let place = Place::on(&server);
    let folder = disk.path("rows");
    server.folder(&folder);
    let client = server.client("postgres").await;
    for statement in [
        format!("CREATE TABLESPACE small LOCATION '{}'", folder.display()),
        format!("ALTER DATABASE {} SET TABLESPACE small", place.database),
    ] {
        client.batch_execute(&statement).await.unwrap();
    }
    a_full_disk("PostgreSQL", &disk, &place.arguments(), 200).await;
}

/// `None`: none can be made here, which is said.
fn small(test: &str) -> Option<Disk> {
    let disk = Disk::mount("48m");
    if disk.is_none() {
        skipped(test, "the right to mount a tmpfs");
    }
    disk
}

/// `ready` is what the service says of itself while the disk is full.
async fn a_full_disk(engine: &str, disk: &Disk, database: &[String], ready: u16) {
    let start = || {
        let mut command = serve(&["--log", "error"]);
        command.args(database);
        Process::start(command)
    };
    let full_for = Duration::from_secs(figure("MARROWFLAG_FULL_SECONDS", 6) as u64);
    let process = start();
    let senders = Senders::start(&process.base);
    senders
        .until("something is stored", |senders| {
            senders.acknowledged() >= 40
        })
        .await;
    let filler = disk.path("filler");
    fill(&filler);
    let full = Instant::now();
    senders
        .until("something is refused", |senders| {
            senders.refused() >= 20 && full.elapsed() >= full_for
        })
        .await;
    assert_eq!(readiness(&process.base).await, ready);
    assert_eq!(senders.unanswered(), 0, "it goes on answering");
    let before = senders.acknowledged();
    std::fs::remove_file(&filler).unwrap();
    let freed = Instant::now();
    senders
        .until("something is stored again", |senders| {
            senders.acknowledged() > before
        })
        .await;
    let recovered = freed.elapsed();
    assert_eq!(readiness(&process.base).await, 200);
    let refused = senders.refused();
    let acknowledged = senders.stop().await;
    let ended = process.stop();
    assert_eq!(ended.code, Some(0), "{}", ended.log);
    let process = start();
    let lost = lost(&process.base, &acknowledged).await;
    println!(
        "P7a disk full on {engine}: {} acknowledged, {refused} refused in {:.1?}, first 2xx {recovered:.1?} after, lost={lost}",
        acknowledged.len(),
        freed.duration_since(full)
    );
    assert_eq!(lost, 0);
}

/// `strace` on a running service, which makes one sync of each of its threads fail.
struct Injection(Child);

impl Injection {
    fn attach(process: u32, nth: usize) -> Self {
        let child = privileged("strace")
            .args([
                "-f",
                "-qqq",
                "-o",
                "/dev/null",
                "-e",
                "trace=fsync,fdatasync",
            ])
            .arg("-e")
            .arg(format!("inject=fsync,fdatasync:error=EIO:when={nth}"))
            .args(["-p", &process.to_string()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    /// Whether it watches every thread by now.
    fn watches(process: u32) -> bool {
        let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
        threads.flatten().all(|thread| {
            std::fs::read_to_string(thread.path().join("status"))
                .is_ok_and(|status| !status.contains("TracerPid:\t0\n"))
        })
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        // It ends with what it watches.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_ends_the_service_and_loses_nothing() {
    let name = "a_failed_sync_ends_the_service_and_loses_nothing";
    if program("strace").is_none() {
        skipped(name, "strace");
        return;
    }
    let positions = figure("MARROWFLAG_SYNC_POSITIONS", 5);
    let directory = tempfile::tempdir().unwrap();
    let database = sqlite(&directory.path().join("m.db"));
    let (mut acknowledged, mut refused, mut slowest) = (Vec::new(), 0, Duration::ZERO);
    for nth in 1..=positions {
        let process = Process::start(serve(&["--log", "error", "--database", &database]));
        let injection = Injection::attach(process.id(), nth);
        let attaching = Instant::now();
        while !Injection::watches(process.id()) {
            if attaching.elapsed() > Duration::from_secs(20) {
                skipped(name, "the right to trace a process");
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let senders = Senders::start(&process.base);
        let ended = tokio::task::spawn_blocking(move || process.wait())
            .await
            .unwrap();
        let over = Instant::now();
        drop(injection);
        assert_eq!(ended.code, Some(74), "sync {nth}: {}", ended.log);
        assert!(ended.log.contains("the store failed"), "{}", ended.log);
        if let Some(trouble) = senders.trouble() {
            slowest = slowest.max(over.duration_since(trouble));
        }
        refused += senders.refused() + senders.unanswered();
        let promised = senders.stop().await;
        // What was promised stands before anybody can be promised anything more.
        let process = Process::start(serve(&["--database", &database]));
        let forgotten = lost(&process.base, &promised).await;
        assert_eq!(forgotten, 0, "sync {nth}");
        assert_eq!(process.stop().code, Some(0));
        acknowledged.extend(promised);
    }
    println!(
        "P7b sync fails: {positions} positions, {} acknowledged, {refused} not, exit 74 each time, at most {slowest:.1?} \
         after the first that was not, lost 0",
        acknowledged.len()
    );
}
