//! Servers as processes, senders over plain sockets, and what they measure: for every bench that
//! goes through the door.
//!
//! Own code and not `wrk`: every request needs another patient and other identifiers, or the second
//! one would be answered from its receipt.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::cast_precision_loss,
    clippy::expect_used,
    reason = "shared by several benches, of which none uses everything; counts and times are far below 2^52, and a \
              bench stops when something is wrong"
)]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::Value;

/// The core that a pinned server has for itself.
pub(crate) const SERVER_CORE: &str = "0";

/// A server process; its first line on standard output ends with its address.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    /// Whatever else it prints must find a reader.
    _output: BufReader<ChildStdout>,
}

impl Server {
    pub(crate) fn start(command: &mut Command) -> Self {
        Self::try_start(command).expect("the server starts")
    }

    pub(crate) fn try_start(command: &mut Command) -> Result<Self, String> {
        let program = command.get_program().display().to_string();
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|why| format!("{program}: {why}"))?;
        let mut output = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut line = String::new();
        output.read_line(&mut line).map_err(|why| why.to_string())?;
        let (_, address) = line.rsplit_once("http://").ok_or("it did not start")?;
        Ok(Self {
            child,
            address: address.trim().to_owned(),
            _output: output,
        })
    }

    pub(crate) fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        stream
    }

    /// One request and its answer, head and body.
    pub(crate) fn ask(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(request).expect("send");
        let mut answer = vec![0; 64 << 10];
        let length = read_answer(&mut stream, &mut answer);
        String::from_utf8_lossy(answer.get(..length).expect("within")).into_owned()
    }

    /// User and system time so far, in microseconds; of the thread with this name, or of all.
    fn cpu_us(&self, thread: Option<&str>) -> f64 {
        let tasks = format!("/proc/{}/task", self.child.id());
        let nanoseconds = |task: std::path::PathBuf| -> Option<f64> {
            let name = std::fs::read_to_string(task.join("comm")).ok()?;
            if thread.is_some_and(|thread| name.trim() != thread) {
                return None;
            }
            let text = std::fs::read_to_string(task.join("schedstat")).ok()?;
            text.split(' ').next()?.parse().ok()
        };
        let tasks = std::fs::read_dir(tasks).expect("/proc");
        let sum: f64 = tasks
            .flatten()
            .filter_map(|task| nanoseconds(task.path()))
            .sum();
        sum / 1_000.0
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `marrowflag serve` on a free port, with further arguments.
pub(crate) fn marrowflag(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_marrowflag"));
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--as-of", "sampled"])
        .args(["--log", "error"])
        .args(arguments);
    command
}

/// The same command on one core.
pub(crate) fn pinned(command: &Command) -> Command {
    let mut pinned = Command::new("taskset");
    pinned
        .args(["-c", SERVER_CORE])
        .arg(command.get_program())
        .args(command.get_args());
    pinned
}

/// The argument of `--database` for a new file in `folder`.
pub(crate) fn sqlite(folder: &Path) -> String {
    format!("sqlite:{}", folder.join("bench.db").display())
}

/// What came of some time of sending.
pub(crate) struct Measured {
    /// Answers a second.
    pub(crate) rate: f64,
    /// Milliseconds to an answer, median.
    pub(crate) p50: f64,
    /// And the slowest hundredth.
    pub(crate) p99: f64,
    /// Microseconds of the server's processor time per request.
    pub(crate) cpu_us: f64,
    /// And of the thread that writes to SQLite.
    pub(crate) writer_us: f64,
}

/// So many senders, each sending the next request when its last is answered.
pub(crate) fn measure(
    server: &Server,
    senders: usize,
    time: Duration,
    next: &AtomicU64,
    request: impl Fn(u64, &mut Vec<u8>) + Sync,
) -> Measured {
    const WRITER: Option<&str> = Some("store-writer");
    let stop = AtomicBool::new(false);
    let times = Mutex::new(Vec::new());
    let before = (server.cpu_us(None), server.cpu_us(WRITER));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..senders {
            scope.spawn(|| {
                let mut stream = server.connect();
                let (mut bytes, mut answer) = (Vec::new(), vec![0; 64 << 10]);
                let mut own = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    request(next.fetch_add(1, Ordering::Relaxed), &mut bytes);
                    let sent = Instant::now();
                    stream.write_all(&bytes).expect("send");
                    read_answer(&mut stream, &mut answer);
                    own.push(sent.elapsed().as_secs_f64() * 1000.0);
                }
                times.lock().expect("no panic").append(&mut own);
            });
        }
        std::thread::sleep(time);
        stop.store(true, Ordering::Relaxed);
    });
    let seconds = start.elapsed().as_secs_f64();
    let mut times = times.into_inner().expect("no panic");
    times.sort_by(f64::total_cmp);
    let requests = times.len() as f64;
    let at = |hundredths: usize| {
        let place = times.len() * hundredths / 100;
        times.get(place).copied().unwrap_or(f64::NAN)
    };
    Measured {
        rate: requests / seconds,
        p50: at(50),
        p99: at(99),
        cpu_us: (server.cpu_us(None) - before.0) / requests,
        writer_us: (server.cpu_us(WRITER) - before.1) / requests,
    }
}

pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
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

/// A full blood count of 25 kB, cut at the places where each copy differs.
pub(crate) struct Template {
    pieces: Vec<Vec<u8>>,
    /// Entries of the Bundle; the first is the patient.
    pub(crate) entries: usize,
}

/// Values of somebody healthy, in the units of the fixture.
const HEALTHY: [(&str, &str); 12] = [
    ("718-7", "13.9"),
    ("6690-2", "6.1"),
    ("777-3", "241"),
    ("789-8", "4.6"),
    ("4544-3", "41.2"),
    ("787-2", "90"),
    ("785-6", "30.1"),
    ("786-4", "33.6"),
    ("751-8", "3.6"),
    ("731-0", "1.9"),
    ("742-7", "0.4"),
    ("60474-4", "62"),
];

const PATIENT: &str = "4712";
const DIGITS: usize = 8;

impl Template {
    pub(crate) fn full_blood_count() -> Self {
        let path =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/bundles/full-blood-count.json");
        Self::new(&std::fs::read_to_string(path).expect("the fixture"))
    }

    /// The same with so many Observations: some of them once more, of the year before.
    pub(crate) fn with_observations(count: usize) -> Self {
        let mut bundle: Value =
            serde_json::from_str(&Self::full_blood_count().text(PATIENT)).expect("JSON");
        let entries = bundle
            .get_mut("entry")
            .and_then(Value::as_array_mut)
            .expect("entries");
        let missing = (count + 1).saturating_sub(entries.len());
        let earlier: Vec<_> = (0_u32..)
            .zip(entries.iter().skip(1).take(missing))
            .map(|(number, entry)| {
                let text = entry.to_string();
                let text = text
                    .replace("\"2026-", "\"2025-")
                    .replace("-2026-", "-2025-");
                let mut entry: Value = serde_json::from_str(&text).expect("JSON");
                if let Some(url) = entry.get_mut("fullUrl") {
                    *url = format!("urn:uuid:00000000-0000-4000-8000-{number:012}").into();
                }
                entry
            })
            .collect();
        entries.extend(earlier);
        Self::new(&bundle.to_string())
    }

    /// The same of somebody healthy: nothing to report.
    pub(crate) fn healthy_blood_count() -> Self {
        let mut bundle: Value =
            serde_json::from_str(&Self::full_blood_count().text(PATIENT)).expect("JSON");
        let entries = bundle.get_mut("entry").and_then(Value::as_array_mut);
        for entry in entries.expect("entries") {
            let loinc = entry
                .pointer("/resource/code/coding/0/code")
                .and_then(Value::as_str);
            let Some((_, value)) = HEALTHY.iter().find(|(code, _)| Some(*code) == loinc) else {
                continue;
            };
            if let Some(number) = entry.pointer_mut("/resource/valueQuantity/value") {
                *number = serde_json::from_str(value).expect("a number");
            }
            if let Some(flag) = entry.pointer_mut("/resource/interpretation/0/coding/0/code") {
                *flag = "N".into();
            }
        }
        // As long as the other: indented.
        Self::new(&serde_json::to_string_pretty(&bundle).expect("JSON"))
    }

    fn new(text: &str) -> Self {
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

    /// The Bundle of one patient.
    fn text(&self, patient: &str) -> String {
        let pieces: Vec<_> = self
            .pieces
            .iter()
            .map(|piece| String::from_utf8_lossy(piece))
            .collect();
        pieces.join(patient)
    }

    pub(crate) fn size(&self) -> usize {
        self.pieces.iter().map(Vec::len).sum::<usize>()
            + self.pieces.len().saturating_sub(1) * DIGITS
    }

    pub(crate) fn request(&self, server: &Server, path: &str, number: u64, bytes: &mut Vec<u8>) {
        bytes.clear();
        write!(
            bytes,
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/fhir+json\r\nContent-Length: {}\r\n\r\n",
            server.address,
            self.size()
        )
        .expect("memory");
        for (at, piece) in self.pieces.iter().enumerate() {
            if at > 0 {
                write!(bytes, "{number:0DIGITS$}").expect("memory");
            }
            bytes.extend_from_slice(piece);
        }
    }
}
