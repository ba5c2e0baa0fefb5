//! Calls of CDS Hooks beside an empty answer of the same server in the same run.
//!
//! `cargo bench --bench cds_hooks` starts `marrowflag serve` on a fresh SQLite file, and has 16
//! callers send, in turns: `GET /livez` (the empty answer), `patient-view` with a prefetch of 25 kB
//! and healthy counts (no card), and the same with low counts of another patient each time (a card,
//! which is kept). It prints requests a second, median and 99th percentile, and the ratios.
//!
//! Beside it, in the same rounds and with the same calls, the two peers of `benches/peers`, which
//! keep one rule and check nothing: a service in Node and one in `HealthChain` (Python, installed
//! into `target/peers` on the first run). A peer whose runtime is missing is said to be.
//!
//! Own code and not `wrk`: every call needs another hookInstance and patient.

#![expect(clippy::print_stdout, reason = "a bench says what it measured")]
#![expect(clippy::expect_used, reason = "a bench stops when something is wrong")]
#![expect(
    clippy::cast_precision_loss,
    reason = "counts and times are far below 2^52"
)]

use std::{
    fmt::Write as _,
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

const CALLERS: usize = 16;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(3);
/// Counts of each blood line in a prefetch: 4 lines of 12 make 25 kB.
const COUNTS: usize = 12;
const PATIENT: &str = "pppppppp";

fn main() {
    let scratch = tempfile::tempdir().expect("a directory for the database");
    let ours = Server::marrowflag(&scratch.path().join("bench.db").display().to_string());
    let peers: Vec<(&str, Server)> = [("node", Server::node()), ("healthchain", Server::python())]
        .into_iter()
        .filter_map(|(name, server)| match server {
            Ok(server) => Some((name, server)),
            Err(why) => {
                println!("{name}: not measured ({why})");
                None
            }
        })
        .collect();
    let healthy = template(["150", "250", "6.0", "4.0"]);
    let low = template(["89", "84", "5.0", "3.0"]);
    println!(
        "{CALLERS} callers, prefetch of {} bytes, {ROUNDS} rounds of {} s each, in turns",
        healthy.len(),
        ROUND.as_secs()
    );
    let next = AtomicU64::new(0);
    let mut cases = vec![
        ("empty", &ours, Case::Empty),
        ("no card", &ours, Case::Hook(&healthy)),
        ("card", &ours, Case::Hook(&low)),
    ];
    cases.extend(
        peers
            .iter()
            .map(|(name, server)| (*name, server, Case::Hook(&low))),
    );
    // The answers are looked at once: a fast refusal would be no feat.
    for (name, server, case) in &cases {
        let answer = case.once(server, &next);
        let good = match *name {
            "empty" => answer.starts_with("HTTP/1.1 200"),
            "no card" => answer.ends_with(r#"{"cards":[]}"#),
            _ => answer.contains(r#""indicator":"warning""#),
        };
        assert!(good, "{name}: {answer}");
    }
    let mut all: Vec<Vec<Measured>> = cases.iter().map(|_| Vec::new()).collect();
    for round in 1..=ROUNDS {
        for ((name, server, case), measured) in cases.iter().zip(&mut all) {
            let one = measure(server, case, &next);
            println!(
                "round {round}: {name:11} {:8.0}/s   p50 {:7.2} ms   p99 {:7.2} ms",
                one.rate, one.p50, one.p99
            );
            measured.push(one);
        }
    }
    let Some((empty, others)) = all.split_first() else {
        return;
    };
    for ((name, ..), measured) in cases.iter().skip(1).zip(others) {
        let mut ratios: Vec<f64> = measured
            .iter()
            .zip(empty)
            .map(|(one, empty)| one.rate / empty.rate)
            .collect();
        ratios.sort_by(f64::total_cmp);
        let p99 = measured.iter().map(|one| one.p99).fold(0.0, f64::max);
        println!(
            "median: {name}: {:.3} of the empty answer's rate; worst p99 {p99:.2} ms",
            ratios.get(ROUNDS / 2).copied().unwrap_or(f64::NAN)
        );
    }
}

enum Case<'a> {
    Empty,
    Hook(&'a str),
}

impl Case<'_> {
    fn request(&self, server: &Server, next: &AtomicU64) -> String {
        let address = &server.address;
        match self {
            Self::Empty => format!("GET /livez HTTP/1.1\r\nHost: {address}\r\n\r\n"),
            Self::Hook(template) => {
                let body = template.replace(
                    PATIENT,
                    &format!("{:08}", next.fetch_add(1, Ordering::Relaxed)),
                );
                format!(
                    "POST {} HTTP/1.1\r\nHost: {address}\r\n\
                     Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                    server.path,
                    body.len()
                )
            }
        }
    }

    fn once(&self, server: &Server, next: &AtomicU64) -> String {
        let mut stream = server.connect();
        let request = self.request(server, next);
        stream.write_all(request.as_bytes()).expect("send");
        let mut answer = vec![0; 64 << 10];
        let length = read_answer(&mut stream, &mut answer);
        String::from_utf8_lossy(answer.get(..length).expect("within")).into_owned()
    }
}

/// A call whose patient is [`PATIENT`], sampled two days before the clock of the newest sample.
fn template(values: [&str; 4]) -> String {
    let kinds = [
        ("hb", "718-7", "g/L"),
        ("plt", "777-3", "10*9/L"),
        ("wbc", "6690-2", "10*9/L"),
        ("anc", "751-8", "10*9/L"),
    ];
    let mut prefetch = format!(
        r#""patient":{{"resourceType":"Patient","id":"{PATIENT}","gender":"male","birthDate":"1970-05-01"}}"#
    );
    for ((key, loinc, unit), value) in kinds.into_iter().zip(values) {
        let mut entries = Vec::new();
        for month in 0..COUNTS {
            let (year, month) = (2026 - month / 11, 11 - month % 11);
            entries.push(format!(
                r#"{{"fullUrl":"https://ehr.example/fhir/Observation/{loinc}-{year}-{month}","resource":{{"resourceType":"Observation","id":"{loinc}-{year}-{month}","status":"final","category":[{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory"}}]}}],"code":{{"coding":[{{"system":"http://loinc.org","code":"{loinc}"}}]}},"subject":{{"reference":"Patient/{PATIENT}"}},"effectiveDateTime":"{year}-{month:02}-10T08:00:00Z","valueQuantity":{{"value":{value},"unit":"{unit}","system":"http://unitsofmeasure.org","code":"{unit}"}}}},"search":{{"mode":"match"}}}}"#
            ));
        }
        let _ = write!(
            prefetch,
            r#","{key}":{{"resourceType":"Bundle","type":"searchset","total":{COUNTS},"entry":[{}]}}"#,
            entries.join(",")
        );
    }
    format!(
        r#"{{"hook":"patient-view","hookInstance":"{PATIENT}","context":{{"userId":"Practitioner/1","patientId":"{PATIENT}"}},"prefetch":{{{prefetch}}}}}"#
    )
}

struct Measured {
    rate: f64,
    p50: f64,
    p99: f64,
}

fn measure(server: &Server, case: &Case<'_>, next: &AtomicU64) -> Measured {
    let stop = AtomicBool::new(false);
    let times = Mutex::new(Vec::new());
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                let mut stream = server.connect();
                let mut answer = vec![0; 64 << 10];
                let mut own = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let request = case.request(server, next);
                    let sent = Instant::now();
                    stream.write_all(request.as_bytes()).expect("send");
                    read_answer(&mut stream, &mut answer);
                    own.push(sent.elapsed().as_secs_f64() * 1000.0);
                }
                times.lock().expect("no panic").append(&mut own);
            });
        }
        std::thread::sleep(ROUND);
        stop.store(true, Ordering::Relaxed);
    });
    let seconds = start.elapsed().as_secs_f64();
    let mut times = times.into_inner().expect("no panic");
    times.sort_by(f64::total_cmp);
    let at = |hundredths: usize| {
        times
            .get(times.len() * hundredths / 100)
            .copied()
            .unwrap_or(f64::NAN)
    };
    Measured {
        rate: times.len() as f64 / seconds,
        p50: at(50),
        p99: at(99),
    }
}

/// Head and body; how many bytes.
fn read_answer(stream: &mut TcpStream, answer: &mut [u8]) -> usize {
    let mut length = 0;
    loop {
        let read = stream
            .read(answer.get_mut(length..).expect("a small answer"))
            .expect("an answer");
        assert!(read > 0, "the server closed the connection");
        length += read;
        let text = answer.get(..length).expect("within");
        let Some(end) = text.windows(4).position(|window| window == b"\r\n\r\n") else {
            continue;
        };
        let head = String::from_utf8_lossy(text.get(..end).expect("within"));
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let body: usize = head
            .lines()
            .find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length")
                    .then(|| value.trim().parse().ok())?
            })
            .unwrap_or(0);
        if length >= end + 4 + body {
            return length;
        }
    }
}

struct Server {
    child: Child,
    address: String,
    /// Of the service that is called.
    path: &'static str,
    /// What else it prints must find a reader.
    _output: BufReader<ChildStdout>,
}

impl Server {
    fn marrowflag(database: &str) -> Self {
        let words = ["serve", "--listen", "127.0.0.1:0", "--as-of", "sampled"];
        let mut command = Command::new(env!("CARGO_BIN_EXE_marrowflag"));
        command
            .args(words)
            .args(["--log", "error", "--database"])
            .arg(format!("sqlite:{database}"));
        Self::start(&mut command, "/cds-services/marrowflag-cytopenia").expect("the server starts")
    }

    fn node() -> Result<Self, String> {
        let service = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/service.mjs");
        Self::start(
            Command::new("node").arg(service),
            "/cds-services/haemoglobin",
        )
    }

    fn python() -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let home = root.join("target/peers/healthchain");
        let python = home.join("bin/python");
        if !home.join("installed").exists() {
            run(Command::new("python3").args(["-m", "venv"]).arg(&home))?;
            run(Command::new(&python).args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "healthchain==0.16.1",
                "uvicorn",
            ]))?;
            std::fs::write(home.join("installed"), "").map_err(|why| why.to_string())?;
        }
        let service = root.join("benches/peers/service.py");
        Self::start(
            Command::new(&python).arg(service),
            "/cds/cds-services/haemoglobin",
        )
    }

    /// The first line on its standard output ends with its address.
    fn start(command: &mut Command, path: &'static str) -> Result<Self, String> {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|why| why.to_string())?;
        let mut output = BufReader::new(child.stdout.take().ok_or("no output")?);
        let mut line = String::new();
        output.read_line(&mut line).map_err(|why| why.to_string())?;
        let (_, address) = line.rsplit_once("http://").ok_or("it did not start")?;
        Ok(Self {
            child,
            address: address.trim().to_owned(),
            path,
            _output: output,
        })
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).expect("connect");
        stream.set_nodelay(true).expect("nodelay");
        stream
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.stdout(Stdio::null()).stderr(Stdio::null()).status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{}: {status}", command.get_program().display())),
        Err(why) => Err(format!("{}: {why}", command.get_program().display())),
    }
}
