//! A FHIR server that misbehaves on purpose: real sockets, scripted faults, and the truth about
//! what it stored.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig, server::TlsStream};

use crate::authority::Authority;

/// What goes wrong at one request.
#[derive(Clone)]
pub(crate) enum Fault {
    /// An answer of this status, these header lines and this body; nothing is stored.
    Answer(u16, &'static str, String),
    /// The same with a body that is no text.
    Bytes(&'static str, Vec<u8>),
    /// It is stored, then the inner fault.
    Stored(Box<Fault>),
    /// No answer, ever.
    Silence,
    /// The body is not even read, and there is no answer.
    Deaf,
    /// The connection is reset.
    Reset,
    /// The connection is reset before the body is read.
    ResetMidway,
    /// An answer of this status before the body is read; nothing is stored.
    Early(u16),
    /// It answers well, and closes the connection when the next request comes on it.
    CloseAtReuse,
    /// On a connection: the alert of a server that is too old for our TLS.
    OldTls,
    /// The head of an answer and half of its body.
    Truncated,
    /// One byte a second.
    Drip,
    /// 100 MiB of body.
    Huge,
    /// Chunks without end.
    Endless,
    /// It answers well, and then a human closes this resource.
    ThenClosed(String),
    /// Nothing goes wrong.
    Fine,
}

impl Fault {
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer(status, "", String::new())
    }
}

/// Which requests a fault waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum On {
    Connection,
    Discovery,
    Token,
    Metadata,
    Patient,
    Read,
    Write,
}

/// What it writes into `ETag`.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Etag {
    /// The version, as FHIR has it: `W/"1"`.
    #[default]
    Version,
    /// The version, as HTTP alone has it: `"1"`.
    Strong,
    /// Something else than the version, and another thing each time.
    Changing,
    /// Nothing.
    Absent,
}

/// What it does at all times.
#[derive(Clone, Copy, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a way to misbehave, and they are told apart by name"
)]
pub(crate) struct Habits {
    pub(crate) etag: Etag,
    pub(crate) ignores_if_match: bool,
    pub(crate) ignores_if_none_exist: bool,
    /// It forgets extensions and identifiers.
    pub(crate) forgets: bool,
    /// Its searches do not find what was written lately.
    pub(crate) searches_lag: bool,
    /// It knows nobody who is not called what [`Truth::patients_are_called`] says.
    pub(crate) checks_subjects: bool,
    /// It refuses the token of every second request.
    pub(crate) refuses_every_second: bool,
    /// It refuses for ever what says `poison`.
    pub(crate) refuses_poison: bool,
    /// It answers 202 to every write, and does nothing.
    pub(crate) only_accepts: bool,
    /// The bytes of its CapabilityStatement that say nothing.
    pub(crate) capability_padding: usize,
}

/// What it promises.
#[derive(Clone, Copy, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "they are the flags of a CapabilityStatement"
)]
pub(crate) struct Promise {
    pub(crate) transaction: bool,
    pub(crate) update_create: bool,
    pub(crate) conditional_update: bool,
    pub(crate) conditional_create: bool,
    /// Flag cannot be written, as at Epic.
    pub(crate) no_flag: bool,
}

/// PUT by id, one by one.
pub(crate) const PUT_ID: Promise = Promise {
    transaction: false,
    update_create: true,
    conditional_update: false,
    conditional_create: false,
    no_flag: false,
};

/// PUT by id in transactions.
pub(crate) const TRANSACTION: Promise = Promise {
    transaction: true,
    ..PUT_ID
};

#[derive(Default)]
pub(crate) struct Truth {
    faults: Vec<(On, VecDeque<Fault>)>,
    /// `Type/id` to version and content.
    pub(crate) resources: BTreeMap<String, (u64, Value)>,
    /// Every stored write, in order.
    pub(crate) writes: Vec<String>,
    /// Every request: method, address, If-Match, Authorization.
    pub(crate) requests: Vec<Request>,
    /// How many patients carry an identifier; 1 unless it says otherwise.
    pub(crate) patients: Option<usize>,
    /// The id of every patient, instead of one of its own.
    pub(crate) patients_are_called: Option<String>,
    pub(crate) habits: Habits,
    /// What it promises from now on, instead of what it promised at first.
    pub(crate) promises_now: Option<Promise>,
    /// Who has to have given the token of a request; `None`: nobody is asked for one.
    pub(crate) authority: Option<Authority>,
    etags: u64,
    calls: u64,
    /// Writes that showed an older revision of ours than what they were written over.
    pub(crate) set_back: Vec<String>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: BTreeMap<String, String>,
    /// The body, if it is no JSON.
    pub(crate) form: String,
    body: Value,
}

/// The server; it stops when dropped.
pub(crate) struct Misbehaving {
    pub(crate) base: String,
    truth: Arc<Mutex<Truth>>,
    task: AbortHandle,
}

impl Drop for Misbehaving {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Misbehaving {
    pub(crate) async fn start(promise: Promise) -> Self {
        Self::listen(promise, None).await
    }

    /// Over TLS, each connection by what is asked for then. It is called `localhost`.
    pub(crate) async fn start_tls(
        promise: Promise,
        tls: impl Fn() -> Arc<ServerConfig> + Send + Sync + 'static,
    ) -> Self {
        Self::listen(promise, Some(Box::new(tls))).await
    }

    async fn listen(promise: Promise, tls: Option<Tls>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let base = match &tls {
            None => format!("http://{address}/fhir"),
            Some(_) => format!("https://localhost:{}/fhir", address.port()),
        };
        let truth = Arc::new(Mutex::new(Truth::default()));
        let shared = Arc::clone(&truth);
        let task = tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = tls.as_ref().map(|tls| TlsAcceptor::from(tls()));
                tokio::spawn(connect(socket, acceptor, Arc::clone(&shared), promise));
            }
        });
        Self {
            base,
            truth,
            task: task.abort_handle(),
        }
    }

    pub(crate) fn truth(&self) -> MutexGuard<'_, Truth> {
        self.truth.lock().unwrap()
    }

    /// These faults, one for each matching request from now on.
    pub(crate) fn script(&self, on: On, faults: impl IntoIterator<Item = Fault>) {
        let faults = faults.into_iter().collect();
        self.truth().faults.push((on, faults));
    }

    /// A human edits a resource.
    pub(crate) fn edit(&self, place: &str, edit: impl FnOnce(&mut Value)) {
        self.truth().edit(place, edit);
    }
}

/// Says by which certificate the next connection is served.
type Tls = Box<dyn Fn() -> Arc<ServerConfig> + Send + Sync>;

/// A connection, encrypted or not.
enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    async fn read(&mut self, bytes: &mut Vec<u8>) -> std::io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.read_buf(bytes).await,
            Self::Tls(socket) => socket.read_buf(bytes).await,
        }
    }

    async fn write_all(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self {
            Self::Plain(socket) => socket.write_all(bytes).await,
            Self::Tls(socket) => {
                socket.write_all(bytes).await?;
                socket.flush().await
            }
        }
    }

    /// Its end is a reset.
    fn reset(&self) {
        match self {
            Self::Plain(socket) => socket.set_zero_linger().unwrap(),
            Self::Tls(socket) => socket.get_ref().0.set_zero_linger().unwrap(),
        }
    }
}

async fn connect(
    mut socket: TcpStream,
    acceptor: Option<TlsAcceptor>,
    truth: Arc<Mutex<Truth>>,
    promise: Promise,
) {
    let fault = truth.lock().unwrap().fault(On::Connection);
    match fault {
        Some(Fault::OldTls) => {
            // Fatal, protocol_version.
            let _ = socket.write_all(&[0x15, 3, 1, 0, 2, 2, 70]).await;
            // What was sent to it is read, or the alert would be lost in a reset.
            let _ = socket.read_buf(&mut Vec::new()).await;
            return;
        }
        Some(_) => return tokio::time::sleep(Duration::from_mins(1)).await,
        None => {}
    }
    let socket = match acceptor {
        None => Socket::Plain(socket),
        Some(acceptor) => match acceptor.accept(socket).await {
            Ok(socket) => Socket::Tls(Box::new(socket)),
            Err(_) => return,
        },
    };
    serve(socket, truth, promise).await;
}

async fn serve(mut socket: Socket, truth: Arc<Mutex<Truth>>, promise: Promise) {
    let mut bytes = Vec::new();
    while let Some(mut request) = read_head(&mut socket, &mut bytes).await {
        let fault = truth.lock().unwrap().fault(kind(&request));
        match fault {
            Some(Fault::Deaf) => return tokio::time::sleep(Duration::from_mins(1)).await,
            Some(Fault::ResetMidway) => return socket.reset(),
            Some(Fault::Early(status)) => {
                write(&mut socket, status, "", "").await;
            }
            _ => {}
        }
        if read_body(&mut socket, &mut bytes, &mut request)
            .await
            .is_none()
        {
            return;
        }
        truth.lock().unwrap().requests.push(request.clone());
        if matches!(fault, Some(Fault::Early(_))) {
            continue;
        }
        let closes = matches!(fault, Some(Fault::CloseAtReuse));
        if !answer(&mut socket, &request, fault, &truth, promise).await {
            return;
        }
        if closes {
            let _ = socket.read(&mut bytes).await;
            return;
        }
    }
}

fn kind(request: &Request) -> On {
    match (request.method.as_str(), request.path.as_str()) {
        (_, "/fhir/metadata") => On::Metadata,
        (_, "/fhir/.well-known/smart-configuration") => On::Discovery,
        (_, "/token") => On::Token,
        ("GET", path) if path.starts_with("/fhir/Patient") => On::Patient,
        ("GET", _) => On::Read,
        _ => On::Write,
    }
}

/// `false`: the connection is done for.
async fn answer(
    socket: &mut Socket,
    request: &Request,
    fault: Option<Fault>,
    truth: &Mutex<Truth>,
    promise: Promise,
) -> bool {
    let mut fault = fault.unwrap_or(Fault::Fine);
    if let Fault::Stored(then) = fault {
        truth.lock().unwrap().handle(request, promise);
        fault = *then;
    }
    match fault {
        Fault::Fine | Fault::CloseAtReuse => {
            let (status, headers, body) = truth.lock().unwrap().handle(request, promise);
            write(socket, status, &headers, &body).await
        }
        Fault::ThenClosed(place) => {
            let (status, headers, body) = truth.lock().unwrap().handle(request, promise);
            truth
                .lock()
                .unwrap()
                .edit(&place, |resource| resource["status"] = json!("inactive"));
            write(socket, status, &headers, &body).await
        }
        Fault::Answer(status, headers, body) => write(socket, status, headers, &body).await,
        Fault::Bytes(headers, body) => {
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{headers}\r\n");
            socket.write_all(head.as_bytes()).await.is_ok() && socket.write_all(&body).await.is_ok()
        }
        Fault::Stored(_) | Fault::Deaf | Fault::ResetMidway | Fault::Early(_) | Fault::OldTls => {
            unreachable!("nested, or done before the body was read")
        }
        Fault::Silence => {
            tokio::time::sleep(Duration::from_mins(1)).await;
            false
        }
        Fault::Reset => {
            socket.reset();
            false
        }
        Fault::Truncated => {
            let half = "HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: 500\r\n\r\n{\"resourceType\":";
            let _ = socket.write_all(half.as_bytes()).await;
            false
        }
        Fault::Drip => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: 60\r\n\r\n";
            let _ = socket.write_all(head.as_bytes()).await;
            while socket.write_all(b" ").await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            false
        }
        Fault::Huge => {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: 104857600\r\n\r\n";
            let _ = socket.write_all(head.as_bytes()).await;
            while socket.write_all(&[b' '; 8192]).await.is_ok() {}
            false
        }
        Fault::Endless => {
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = socket.write_all(head.as_bytes()).await;
            while socket.write_all(b"400\r\n").await.is_ok() {
                let _ = socket.write_all(&[b' '; 1024]).await;
                let _ = socket.write_all(b"\r\n").await;
            }
            false
        }
    }
}

async fn write(socket: &mut Socket, status: u16, headers: &str, body: &str) -> bool {
    let length = match status {
        204 => String::new(),
        _ => format!("Content-Length: {}\r\n", body.len()),
    };
    let text = format!("HTTP/1.1 {status} Something\r\n{length}{headers}\r\n{body}");
    socket.write_all(text.as_bytes()).await.is_ok()
}

async fn read_head(socket: &mut Socket, bytes: &mut Vec<u8>) -> Option<Request> {
    let end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        if socket.read(bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes.drain(..end).collect()).ok()?;
    let mut lines = head.lines();
    let mut words = lines.next()?.split(' ');
    let mut request = Request {
        method: words.next()?.to_owned(),
        path: words.next()?.to_owned(),
        ..Request::default()
    };
    for line in lines {
        if let Some((name, value)) = line.split_once(": ") {
            let name = name.to_ascii_lowercase();
            request.headers.insert(name, value.to_owned());
        }
    }
    Some(request)
}

/// `None`: it never came whole.
async fn read_body(socket: &mut Socket, bytes: &mut Vec<u8>, request: &mut Request) -> Option<()> {
    let length = request.headers.get("content-length");
    let length: usize = length.map_or(0, |text| text.parse().unwrap());
    while bytes.len() < length {
        if socket.read(bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body: Vec<_> = bytes.drain(..length).collect();
    match serde_json::from_slice(&body) {
        Ok(json) => request.body = json,
        Err(_) => request.form = String::from_utf8(body).unwrap(),
    }
    Some(())
}

type Answer = (u16, String, String);

fn ok(body: &Value) -> Answer {
    (200, String::new(), body.to_string())
}

fn status(status: u16) -> Answer {
    let outcome = json!({"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "processing"}]});
    (status, String::new(), outcome.to_string())
}

impl Truth {
    /// From now on it works.
    pub(crate) fn end_faults(&mut self) {
        self.faults.clear();
    }

    /// The next fault of this kind.
    fn fault(&mut self, on: On) -> Option<Fault> {
        let mut scripts = self.faults.iter_mut();
        let script = scripts.find(|(for_on, faults)| *for_on == on && !faults.is_empty());
        script.and_then(|(_, faults)| faults.pop_front())
    }

    /// How often something was asked.
    pub(crate) fn asked(&self, on: On) -> usize {
        let requests = self.requests.iter();
        requests.filter(|request| kind(request) == on).count()
    }

    fn edit(&mut self, place: &str, edit: impl FnOnce(&mut Value)) {
        let (version, resource) = self.resources.get_mut(place).unwrap();
        *version += 1;
        edit(resource);
    }

    /// What a server that works would do.
    fn handle(&mut self, request: &Request, promise: Promise) -> Answer {
        if let Some(authority) = &mut self.authority {
            match kind(request) {
                On::Discovery => return authority.configuration(),
                On::Token => return authority.give(&request.form),
                _ if !authority.takes(request.headers.get("authorization")) => return status(401),
                _ => {}
            }
        }
        self.calls += 1;
        if self.habits.refuses_every_second && self.calls.is_multiple_of(2) {
            return status(401);
        }
        let promise = self.promises_now.unwrap_or(promise);
        if self.habits.only_accepts && kind(request) == On::Write {
            let place = "Content-Location: /fhir/_async/1\r\n".to_owned();
            return (202, place, String::new());
        }
        let path = request.path.strip_prefix("/fhir").unwrap_or_default();
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let segments: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
        match (request.method.as_str(), segments.as_slice()) {
            ("GET", ["metadata"]) => ok(&metadata(promise, self.habits.capability_padding)),
            ("GET", ["Patient"]) => ok(&self.patients(query)),
            ("GET", [kind]) => ok(&self.search(kind, query)),
            ("GET", ["Patient", id]) => ok(&json!({"resourceType": "Patient", "id": id})),
            ("GET", [_, _]) => match self.resources.get(&segments.join("/")).cloned() {
                Some((version, mut resource)) => {
                    resource["meta"]["versionId"] = json!(version.to_string());
                    (200, self.etag(version), resource.to_string())
                }
                None => status(404),
            },
            ("POST", []) => self.transaction(&request.body),
            ("PUT", [_, id]) => {
                if request.body["id"] != json!(id) {
                    return status(400);
                }
                let version = request.headers.get("if-match");
                self.put(
                    &segments.join("/"),
                    version.map(String::as_str),
                    &request.body,
                )
            }
            ("PUT", [kind]) => {
                let found = self.matching(kind, query);
                let fresh = format!("{}", 1000 + self.resources.len());
                let id = found.first().cloned().unwrap_or(fresh);
                let mut body = request.body.clone();
                body["id"] = json!(id);
                self.put(&format!("{kind}/{id}"), None, &body)
            }
            ("POST", [kind]) => {
                let query = request.headers.get("if-none-exist");
                let query = query.filter(|_| !self.habits.ignores_if_none_exist);
                let found = query.map(|query| self.matching(kind, query));
                if let Some(id) = found.iter().flatten().next() {
                    return ok(&self.resources[&format!("{kind}/{id}")].1);
                }
                let id = format!("{}", 1000 + self.resources.len());
                let mut body = request.body.clone();
                body["id"] = json!(id);
                self.put(&format!("{kind}/{id}"), None, &body)
            }
            _ => status(404),
        }
    }

    fn put(&mut self, place: &str, if_match: Option<&str>, body: &Value) -> Answer {
        let known = self.resources.get(place).map(|(version, _)| *version);
        if if_match.is_some_and(|asked| !self.is_version(asked, known)) {
            return status(412);
        }
        if self.habits.refuses_poison && body["code"]["text"] == "poison" {
            return status(422);
        }
        if self.habits.checks_subjects && !self.knows_subject(body) {
            return status(422);
        }
        let version = known.unwrap_or(0) + 1;
        let before = self.resources.get(place).map(|(_, held)| revision(held));
        if before.is_some_and(|before| revision(body) < before) {
            self.set_back.push(place.to_owned());
        }
        let mut body = body.clone();
        if self.habits.forgets {
            let members = body.as_object_mut().unwrap();
            members.retain(|name, _| name != "extension" && name != "identifier");
        }
        self.resources
            .insert(place.to_owned(), (version, body.clone()));
        self.writes.push(place.to_owned());
        let etag = self.etag(version);
        let headers = format!("{etag}Location: /fhir/{place}/_history/{version}\r\n");
        let code = if known.is_some() { 200 } else { 201 };
        (code, headers, body.to_string())
    }

    /// Whether `If-Match` names the version that stands there.
    fn is_version(&self, asked: &str, known: Option<u64>) -> bool {
        let weak = if self.habits.etag == Etag::Strong {
            ""
        } else {
            "W/"
        };
        self.habits.ignores_if_match || known.is_some_and(|now| asked == format!("{weak}\"{now}\""))
    }

    fn etag(&mut self, version: u64) -> String {
        self.etags += 1;
        match self.habits.etag {
            Etag::Version => format!("ETag: W/\"{version}\"\r\n"),
            Etag::Strong => format!("ETag: \"{version}\"\r\n"),
            Etag::Changing => format!("ETag: \"x{}\"\r\n", self.etags),
            Etag::Absent => String::new(),
        }
    }

    fn knows_subject(&self, body: &Value) -> bool {
        let Some(called) = &self.patients_are_called else {
            return true;
        };
        let subject = body["subject"]["reference"].as_str();
        subject.is_none_or(|subject| subject == format!("Patient/{called}"))
    }

    fn transaction(&mut self, bundle: &Value) -> Answer {
        let entries = bundle["entry"].as_array().unwrap();
        let stale = entries.iter().any(|entry| {
            let known = self
                .resources
                .get(entry["request"]["url"].as_str().unwrap());
            let known = known.map(|(version, _)| *version);
            let asked = entry["request"]["ifMatch"].as_str();
            asked.is_some_and(|asked| !self.is_version(asked, known))
        });
        if stale {
            return status(412);
        }
        let answers: Vec<_> = entries
            .iter()
            .map(|entry| {
                let place = entry["request"]["url"].as_str().unwrap();
                let (code, ..) = self.put(place, None, &entry["resource"]);
                let version = self.resources[place].0;
                json!({"response": {"status": code.to_string(), "etag": format!("W/\"{version}\""), "location": format!("{place}/_history/{version}")}})
            })
            .collect();
        ok(&json!({"resourceType": "Bundle", "type": "transaction-response", "entry": answers}))
    }

    /// Everyone exists: as many as asked for carry the identifier.
    fn patients(&self, query: &str) -> Value {
        let url = reqwest::Url::parse(&format!("http://localhost/?{query}")).unwrap();
        let (_, identifier) = url.query_pairs().next().unwrap();
        let (system, value) = identifier.split_once('|').unwrap();
        let entries: Vec<_> = (0..self.patients.unwrap_or(1))
            .map(|number| {
                let own = format!("p{number}-{value}");
                let id = self.patients_are_called.clone().unwrap_or(own);
                let identifier = json!([{"system": system, "value": value}]);
                json!({"resource": {"resourceType": "Patient", "id": id, "identifier": identifier}})
            })
            .collect();
        json!({"resourceType": "Bundle", "type": "searchset", "entry": entries})
    }

    /// Ids of resources whose identifier value ends the query, or that are about its target.
    fn matching(&self, kind: &str, query: &str) -> Vec<String> {
        let prefix = format!("{kind}/");
        let value = query.rsplit("%7C").next().unwrap_or_default();
        let target = query
            .strip_prefix("target=")
            .map(|text| text.replace("%2F", "/"));
        let matches = |resource: &Value| match &target {
            Some(target) => resource["target"][0]["reference"] == json!(target),
            None => resource["identifier"][0]["value"] == json!(value),
        };
        self.resources
            .iter()
            .filter(|(_, (_, resource))| matches(resource))
            .filter_map(|(place, _)| place.strip_prefix(&prefix))
            .map(str::to_owned)
            .collect()
    }

    fn search(&self, kind: &str, query: &str) -> Value {
        if self.habits.searches_lag {
            return json!({"resourceType": "Bundle", "type": "searchset", "total": 0});
        }
        let entries: Vec<_> = self
            .matching(kind, query)
            .iter()
            .map(|id| {
                let (version, resource) = &self.resources[&format!("{kind}/{id}")];
                let mut resource = resource.clone();
                resource["meta"]["versionId"] = json!(version.to_string());
                json!({"resource": resource})
            })
            .collect();
        json!({"resourceType": "Bundle", "type": "searchset", "entry": entries})
    }
}

/// Our revision, as `meta.source` shows it.
fn revision(resource: &Value) -> u64 {
    resource["meta"]["source"]
        .as_str()
        .and_then(|source| source.rsplit('/').next()?.parse().ok())
        .unwrap_or(0)
}

fn metadata(promise: Promise, padding: usize) -> Value {
    let resources: Vec<_> = ["Device", "DiagnosticReport", "Flag", "Provenance"]
        .into_iter()
        .map(|kind| {
            let read_only = promise.no_flag && kind == "Flag";
            let codes: &[&str] = if read_only {
                &["read", "search-type"]
            } else {
                &["read", "search-type", "create", "update"]
            };
            let interaction: Vec<_> = codes.iter().map(|code| json!({"code": code})).collect();
            json!({
                "type": kind, "interaction": interaction,
                "updateCreate": promise.update_create && !read_only,
                "conditionalUpdate": promise.conditional_update && !read_only,
                "conditionalCreate": promise.conditional_create && !read_only
            })
        })
        .collect();
    let system: Vec<_> = promise
        .transaction
        .then(|| json!({"code": "transaction"}))
        .into_iter()
        .collect();
    json!({
        "resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "status": "active",
        "extension": vec![json!({"url": "urn:none", "valueString": "x".repeat(1000)}); padding / 1000],
        "rest": [{"mode": "server", "interaction": system, "resource": resources}]
    })
}
