//! The whole durable door beside a handler that only parses.
//!
//! `cargo bench --bench durable_door` starts `marrowflag serve` on a fresh SQLite file and `bare`
//! (see `benches/bare`), each pinned to the same core, and sends both, from 64 senders on the other
//! cores, Bundles of 25 kB that all differ, in turns, so that a busy machine slows both alike.
//! It prints requests a second and processor time a request of each, and their ratios.
//!
//! Own code and not `wrk`: every request needs another patient and other identifiers, or the second
//! one would be answered from its receipt.

#![expect(clippy::print_stdout, reason = "a bench says what it measured")]
#![expect(clippy::expect_used, reason = "a bench stops when something is wrong")]
#![expect(
    clippy::cast_precision_loss,
    reason = "counts and ticks are far below 2^52"
)]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

const SENDERS: u64 = 64;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(4);
const SERVER_CORE: &str = "0";

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let template = Template::new(&root.join("fixtures/bundles/full-blood-count.json"));
    let scratch = tempfile::tempdir().expect("a directory for the database");
    let door = Server::start(
        Command::new("taskset")
            .args(["-c", SERVER_CORE, env!("CARGO_BIN_EXE_marrowflag"), "serve"])
            .args([
                "--listen",
                "127.0.0.1:0",
                "--as-of",
                "sampled",
                "--log",
                "error",
                "--database",
            ])
            .arg(format!(
                "sqlite:{}",
                scratch.path().join("bench.db").display()
            )),
    );
    let bare = Server::start(
        Command::new("taskset")
            .args(["-c", SERVER_CORE])
            .arg(build_bare(root)),
    );

    println!(
        "{SENDERS} senders, Bundle of {} bytes with {} entries, {ROUNDS} rounds of {} s each, in turns",
        template.size(),
        template.entries,
        ROUND.as_secs()
    );
    let mut numbers = Numbers::default();
    // An answer of 200 alone says little: every result has to be stored and the patient assessed.
    let (mut stream, mut request, mut answer) = (door.connect(), Vec::new(), vec![0; 64 << 10]);
    template.request(&door, 0, &mut request);
    stream.write_all(&request).expect("send");
    let length = read_answer(&mut stream, &mut answer);
    let text = String::from_utf8_lossy(answer.get(..length).expect("within")).into_owned();
    assert_eq!(
        text.matches("\"201 Created\"").count(),
        template.entries - 1,
        "{text}"
    );
    assert!(text.contains("Flag/mf-"), "{text}");
    let mut next = 1_u64;
    // One short turn each, not counted: caches, allocator, first pages of the database.
    for server in [&bare, &door] {
        measure(server, &template, &mut next, Duration::from_secs(1));
    }
    for round in 1..=ROUNDS {
        let plain = measure(&bare, &template, &mut next, ROUND);
        let whole = measure(&door, &template, &mut next, ROUND);
        println!(
            "round {round}: parse only {:7.0}/s {:6.0} us CPU   durable door {:7.0}/s {:6.0} us CPU   throughput {:.2}   CPU {:.2}",
            plain.rate,
            plain.cpu_us,
            whole.rate,
            whole.cpu_us,
            whole.rate / plain.rate,
            whole.cpu_us / plain.cpu_us
        );
        numbers.throughput.push(whole.rate / plain.rate);
        numbers.cpu.push(whole.cpu_us / plain.cpu_us);
    }
    println!(
        "median: the durable door has {:.2} of the throughput of parsing only, and takes {:.2} of its CPU per request",
        median(&mut numbers.throughput),
        median(&mut numbers.cpu)
    );
}

#[derive(Default)]
struct Numbers {
    throughput: Vec<f64>,
    cpu: Vec<f64>,
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn build_bare(root: &Path) -> PathBuf {
    let target = root.join("target/bare");
    let status = Command::new(env!("CARGO"))
        .args([
            "build",
            "--release",
            "--locked",
            "--quiet",
            "--manifest-path",
        ])
        .arg(root.join("benches/bare/Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .status()
        .expect("cargo");
    assert!(status.success(), "benches/bare does not build");
    target.join("release/bare")
}

/// A server process; its first line on standard output ends with its address.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .expect("taskset and the server start");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped"))
            .read_line(&mut line)
            .expect("the first line");
        let address = line
            .rsplit("http://")
            .next()
            .expect("an address")
            .trim()
            .to_owned();
        Self { child, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        stream
    }

    /// User and system time so far, in microseconds.
    fn cpu_us(&self) -> f64 {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("/proc");
        // Fields are counted after the name, which may hold anything but ends with the last ')'.
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .expect("fields")
            .split_whitespace()
            .collect();
        let ticks = |field: usize| {
            fields
                .get(field)
                .and_then(|text| text.parse::<f64>().ok())
                .expect("ticks")
        };
        // A tick is 10 ms on every Linux.
        (ticks(11) + ticks(12)) * 10_000.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The Bundle cut at the places where each copy differs.
struct Template {
    pieces: Vec<Vec<u8>>,
    entries: usize,
}

const PATIENT: &str = "4712";
const DIGITS: usize = 8;

impl Template {
    fn new(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("the fixture");
        // The patient's number is in every identifier; the urn:uuid of an entry only has to be
        // unique inside its Bundle.
        let pieces = text
            .split(PATIENT)
            .map(|piece| piece.as_bytes().to_vec())
            .collect();
        Self {
            pieces,
            entries: text.matches("\"fullUrl\"").count(),
        }
    }

    fn size(&self) -> usize {
        self.pieces.iter().map(Vec::len).sum::<usize>()
            + self.pieces.len().saturating_sub(1) * DIGITS
    }

    fn request(&self, server: &Server, number: u64, body: &mut Vec<u8>) {
        body.clear();
        write!(
            body,
            "POST /fhir HTTP/1.1\r\nHost: {}\r\nContent-Type: application/fhir+json\r\nContent-Length: {}\r\n\r\n",
            server.address,
            self.size()
        )
        .expect("memory");
        for (at, piece) in self.pieces.iter().enumerate() {
            if at > 0 {
                write!(body, "{number:0DIGITS$}").expect("memory");
            }
            body.extend_from_slice(piece);
        }
    }
}

struct Measured {
    rate: f64,
    cpu_us: f64,
}

fn measure(server: &Server, template: &Template, next: &mut u64, time: Duration) -> Measured {
    let stop = AtomicBool::new(false);
    let number = Arc::new(AtomicU64::new(*next));
    let done = AtomicU64::new(0);
    let before = server.cpu_us();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..SENDERS {
            scope.spawn(|| {
                let mut stream = server.connect();
                let mut request = Vec::new();
                let mut answer = vec![0; 64 << 10];
                while !stop.load(Ordering::Relaxed) {
                    template.request(server, number.fetch_add(1, Ordering::Relaxed), &mut request);
                    stream.write_all(&request).expect("send");
                    read_answer(&mut stream, &mut answer);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
    });
    let seconds = start.elapsed().as_secs_f64();
    let requests = done.load(Ordering::Relaxed) as f64;
    *next = number.load(Ordering::Relaxed);
    Measured {
        rate: requests / seconds,
        cpu_us: (server.cpu_us() - before) / requests,
    }
}

/// Reads one answer with a `Content-Length` and says how long it is; anything but 200 stops the
/// bench.
fn read_answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> usize {
    let mut filled = 0;
    loop {
        if filled == buffer.len() {
            buffer.resize(buffer.len() * 2, 0);
        }
        let free = buffer.get_mut(filled..).expect("within the buffer");
        let read = stream.read(free).expect("receive");
        assert!(read > 0, "the server closed the connection");
        filled += read;
        let so_far = buffer.get(..filled).expect("within the buffer");
        let Some(head_end) = so_far.windows(4).position(|four| four == b"\r\n\r\n") else {
            continue;
        };
        let head =
            String::from_utf8_lossy(so_far.get(..head_end).expect("within")).to_ascii_lowercase();
        let length: usize = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length:"))
            .map_or(0, |length| length.trim().parse().expect("a length"));
        if filled >= head_end + 4 + length {
            assert!(
                head.starts_with("http/1.1 200"),
                "{}",
                String::from_utf8_lossy(so_far)
            );
            return filled;
        }
    }
}
