//! A FHIR server as a state machine: what it holds, what it was told in which order, and whether
//! that was ever wrong. And the laboratory on the other side.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "shared by several tests, of which none uses everything"
)]

pub(crate) mod counts;

use std::collections::{BTreeMap, BTreeSet};

use marrowflag::fhir_server::Answer;
use reqwest::{
    Method, StatusCode,
    header::{HeaderMap, HeaderValue},
};
use serde_json::{Value, json};

/// Where it is said to be.
pub(crate) const BASE: &str = "http://hospital.test/fhir";
/// What patients are known by.
pub(crate) const MRN: &str = "https://hospital.example/mrn";
/// Ends the system of the tag that carries our content hash.
const CONTENT_HASH: &str = "/CodeSystem/mf-content-hash";

/// How it lets itself be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Our ids, all in one transaction.
    Transaction,
    /// Our ids, one by one.
    OurIds,
    /// Its own ids, by `If-None-Exist`.
    Conditional,
    /// Its own ids, by searching first.
    Search,
}

/// What is wrong with it on purpose: to see that the checks notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum Defect {
    /// Nothing.
    #[default]
    None,
    /// It writes whatever version is asked for.
    IgnoresIfMatch,
    /// It answers well and keeps nothing.
    Forgets,
    /// It takes every creation for a new one.
    CreatesAgain,
}

/// A resource there.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) version: u64,
    pub(crate) body: Value,
    /// A human wrote it last.
    pub(crate) human: bool,
    /// We have read what the human wrote.
    seen: bool,
}

/// A request, as far as it matters.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: Method,
    /// Below the base.
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) if_match: Option<String>,
    pub(crate) if_none_exist: Option<String>,
    pub(crate) body: Value,
}

impl Request {
    pub(crate) fn of(request: &reqwest::Request) -> Self {
        let text = |name: &str| {
            let value = request.headers().get(name)?;
            Some(value.to_str().unwrap().to_owned())
        };
        let bytes = request.body().and_then(reqwest::Body::as_bytes);
        Self {
            method: request.method().clone(),
            path: request
                .url()
                .path()
                .strip_prefix("/fhir")
                .unwrap()
                .to_owned(),
            query: request.url().query().unwrap_or_default().to_owned(),
            if_match: text("if-match"),
            if_none_exist: text("if-none-exist"),
            body: bytes.map_or(Value::Null, |bytes| serde_json::from_slice(bytes).unwrap()),
        }
    }

    pub(crate) fn writes(&self) -> bool {
        self.method != Method::GET
    }

    /// Whether no Flag and no report can be written by it over a version it does not name.
    pub(crate) fn names_versions(&self) -> bool {
        match self.body.get("entry").and_then(Value::as_array) {
            Some(entries) => entries
                .iter()
                .filter(|entry| revision(&entry["resource"]).is_some())
                .all(|entry| entry["request"]["ifMatch"].is_string()),
            None => self.if_match.is_some(),
        }
    }
}

/// The server.
#[derive(Clone, Debug)]
pub(crate) struct Hospital {
    pub(crate) way: Way,
    pub(crate) defect: Defect,
    pub(crate) resources: BTreeMap<String, Held>,
    /// Who is a patient there: number in the hospital.
    pub(crate) known: BTreeSet<String>,
    /// Patients whose Flags it does not take, whatever they say.
    pub(crate) refused: BTreeSet<String>,
    /// Highest revision of ours that was written, by place.
    revisions: BTreeMap<String, u64>,
    pub(crate) writes: u64,
    /// Writes that left what was there.
    pub(crate) repeats: u64,
    /// Writes of an older revision over a newer one.
    pub(crate) regressions: Vec<String>,
    /// Writes over a human's edit that did not outrank it.
    pub(crate) overwritten: Vec<String>,
}

/// What an answer is made of.
type Plain = (u16, Option<(String, u64)>, Value);

impl Hospital {
    pub(crate) fn new(way: Way, defect: Defect) -> Self {
        Self {
            way,
            defect,
            resources: BTreeMap::new(),
            known: BTreeSet::new(),
            refused: BTreeSet::new(),
            revisions: BTreeMap::new(),
            writes: 0,
            repeats: 0,
            regressions: Vec::new(),
            overwritten: Vec::new(),
        }
    }

    /// Does what is asked. `outranks` says of our own id whether its new state outranks a human.
    pub(crate) fn handle(&mut self, request: &Request, outranks: &dyn Fn(&str) -> bool) -> Answer {
        let segments: Vec<_> = request
            .path
            .split('/')
            .filter(|part| !part.is_empty())
            .collect();
        self.note_read(request, &segments);
        let plain = match (request.method.as_str(), segments.as_slice()) {
            ("GET", ["metadata"]) => (200, None, self.metadata()),
            ("GET", ["Patient"]) => (200, None, self.patients(&request.query)),
            ("GET", [kind]) => (200, None, self.search(kind, &request.query)),
            ("GET", [_, _]) => self.read(&segments.join("/")),
            ("POST", []) => self.transaction(&request.body, outranks),
            ("PUT", [_, _]) => {
                let place = segments.join("/");
                self.put(&place, request.if_match.as_deref(), &request.body, outranks)
            }
            ("POST", [kind]) => self.create(kind, request, outranks),
            _ => refusal(404),
        };
        answer(plain)
    }

    fn note_read(&mut self, request: &Request, segments: &[&str]) {
        let places = match (request.method.as_str(), segments) {
            ("GET", [kind, id]) => vec![format!("{kind}/{id}")],
            ("GET", [kind]) => {
                let ids = self.matching(kind, &request.query);
                ids.iter().map(|id| format!("{kind}/{id}")).collect()
            }
            _ => Vec::new(),
        };
        for place in places {
            if let Some(held) = self.resources.get_mut(&place) {
                held.seen = held.human;
            }
        }
    }

    fn read(&self, place: &str) -> Plain {
        match self.resources.get(place) {
            Some(held) => (
                200,
                Some((place.to_owned(), held.version)),
                held.body.clone(),
            ),
            None => refusal(404),
        }
    }

    fn create(&mut self, kind: &str, request: &Request, outranks: &dyn Fn(&str) -> bool) -> Plain {
        if let Some(query) = &request.if_none_exist
            && self.defect != Defect::CreatesAgain
        {
            let found = self.matching(kind, query);
            if let Some(id) = found.first() {
                return self.read(&format!("{kind}/{id}"));
            }
        }
        let id = format!("{}", 1000 + self.resources.len());
        let mut body = request.body.clone();
        body["id"] = json!(id);
        self.put(&format!("{kind}/{id}"), None, &body, outranks)
    }

    fn put(
        &mut self,
        place: &str,
        if_match: Option<&str>,
        body: &Value,
        outranks: &dyn Fn(&str) -> bool,
    ) -> Plain {
        if self.refuses(body) {
            return refusal(422);
        }
        if !self.is_current(place, if_match) {
            return refusal(412);
        }
        let known = self.resources.get(place);
        let code = if known.is_some() { 200 } else { 201 };
        let version = known.map_or(0, |held| held.version) + 1;
        self.note(place, body, outranks);
        if self.defect != Defect::Forgets {
            self.resources.insert(
                place.to_owned(),
                Held {
                    version,
                    body: body.clone(),
                    human: false,
                    seen: false,
                },
            );
        }
        (code, Some((place.to_owned(), version)), body.clone())
    }

    fn transaction(&mut self, bundle: &Value, outranks: &dyn Fn(&str) -> bool) -> Plain {
        let entries = bundle["entry"].as_array().unwrap();
        if entries.iter().any(|entry| self.refuses(&entry["resource"])) {
            return refusal(422);
        }
        let current = |entry: &Value| {
            let place = entry["request"]["url"].as_str().unwrap();
            self.is_current(place, entry["request"]["ifMatch"].as_str())
        };
        if !entries.iter().all(current) {
            return refusal(412);
        }
        let answers: Vec<_> = entries
            .iter()
            .map(|entry| {
                let place = entry["request"]["url"].as_str().unwrap();
                let (code, version, _) = self.put(place, None, &entry["resource"], outranks);
                let version = version.unwrap().1;
                json!({"response": {
                    "status": code.to_string(), "etag": format!("W/\"{version}\""),
                    "location": format!("{place}/_history/{version}")
                }})
            })
            .collect();
        let body =
            json!({"resourceType": "Bundle", "type": "transaction-response", "entry": answers});
        (200, None, body)
    }

    fn is_current(&self, place: &str, if_match: Option<&str>) -> bool {
        let known = self.resources.get(place);
        self.defect == Defect::IgnoresIfMatch
            || if_match.is_none_or(|asked| {
                known.is_some_and(|held| asked == format!("W/\"{}\"", held.version))
            })
    }

    fn refuses(&self, body: &Value) -> bool {
        let subject = body["subject"]["reference"].as_str().unwrap_or_default();
        body["resourceType"] == "Flag"
            && subject
                .strip_prefix("Patient/p-")
                .is_some_and(|mrn| self.refused.contains(mrn))
    }

    /// Looks at a write before it is done.
    fn note(&mut self, place: &str, body: &Value, outranks: &dyn Fn(&str) -> bool) {
        self.writes += 1;
        if let Some(held) = self.resources.get(place) {
            if content_hash(&held.body) == content_hash(body) && !held.human {
                // Every patient's first delivery brings the Device.
                if revision(body).is_some() {
                    self.repeats += 1;
                }
            }
            let value = identifier(body).unwrap_or_default();
            // What the human closed is opened again by what outranks it only; anything else may
            // follow only from having read it.
            let reopened = body["status"] == "active";
            if held.human && !outranks(&value) && (reopened || !held.seen) {
                self.overwritten.push(place.to_owned());
            }
        }
        let Some(revision) = revision(body) else {
            return;
        };
        let highest = self.revisions.entry(place.to_owned()).or_insert(0);
        if revision < *highest {
            self.regressions
                .push(format!("{place}: {revision} after {highest}"));
        }
        *highest = revision.max(*highest);
    }

    /// A human closes a Flag that is open; which it was.
    pub(crate) fn close_a_flag(&mut self, choice: usize) -> Option<String> {
        let open: Vec<_> = self
            .resources
            .iter()
            .filter(|(_, held)| {
                held.body["resourceType"] == "Flag" && held.body["status"] == "active"
            })
            .map(|(place, _)| place.clone())
            .collect();
        let place = open.get(choice % open.len().max(1))?;
        let held = self.resources.get_mut(place)?;
        held.version += 1;
        held.body["status"] = json!("inactive");
        held.human = true;
        held.seen = false;
        Some(place.clone())
    }

    /// Identifiers of Flags and reports that are there more than once.
    pub(crate) fn duplicates(&self) -> Vec<String> {
        let mut seen = BTreeSet::new();
        self.resources
            .iter()
            .filter(|(place, _)| place.starts_with("Flag/") || is_report(place))
            .filter_map(|(place, held)| Some((place, identifier(&held.body)?)))
            .filter(|(_, identifier)| !seen.insert(identifier.clone()))
            .map(|(place, _)| place.clone())
            .collect()
    }

    /// Content hash of the resource with this identifier, and whether a human wrote it.
    pub(crate) fn content(&self, kind: &str, value: &str) -> Option<(String, bool)> {
        let prefix = format!("{kind}/");
        let held = self.resources.iter().find(|(place, held)| {
            place.starts_with(&prefix) && identifier(&held.body).as_deref() == Some(value)
        });
        held.map(|(_, held)| {
            let hash = content_hash(&held.body).unwrap_or_default();
            (hash.to_owned(), held.human)
        })
    }

    fn patients(&self, query: &str) -> Value {
        let value = identifier_asked(query);
        let found = self.known.get(&value).map(|mrn| {
            let identifier = json!([{"system": MRN, "value": mrn}]);
            json!({"resource": {
                "resourceType": "Patient", "id": format!("p-{mrn}"), "identifier": identifier
            }})
        });
        let entries: Vec<_> = found.into_iter().collect();
        json!({"resourceType": "Bundle", "type": "searchset", "entry": entries})
    }

    /// Ids of resources whose identifier is asked for, or that are about its target.
    fn matching(&self, kind: &str, query: &str) -> Vec<String> {
        let prefix = format!("{kind}/");
        let target = query
            .strip_prefix("target=")
            .map(|text| text.replace("%2F", "/"));
        let asked = identifier_asked(query);
        let matches = |body: &Value| match &target {
            Some(target) => body["target"][0]["reference"] == json!(target),
            None => identifier(body).as_deref() == Some(&asked),
        };
        self.resources
            .iter()
            .filter(|(_, held)| matches(&held.body))
            .filter_map(|(place, _)| place.strip_prefix(&prefix))
            .map(str::to_owned)
            .collect()
    }

    fn search(&self, kind: &str, query: &str) -> Value {
        let entries: Vec<_> = self
            .matching(kind, query)
            .iter()
            .map(|id| {
                let held = &self.resources[&format!("{kind}/{id}")];
                let mut body = held.body.clone();
                body["meta"]["versionId"] = json!(held.version.to_string());
                json!({"resource": body})
            })
            .collect();
        json!({"resourceType": "Bundle", "type": "searchset", "entry": entries})
    }

    fn metadata(&self) -> Value {
        let ours = matches!(self.way, Way::Transaction | Way::OurIds);
        let interaction: Vec<_> = ["read", "search-type", "create", "update"]
            .iter()
            .map(|code| json!({"code": code}))
            .collect();
        let resources: Vec<_> = ["Device", "DiagnosticReport", "Flag", "Provenance"]
            .into_iter()
            .map(|kind| {
                json!({
                    "type": kind, "interaction": interaction, "updateCreate": ours,
                    "conditionalCreate": self.way == Way::Conditional
                })
            })
            .collect();
        let system: Vec<_> = (self.way == Way::Transaction)
            .then(|| json!({"code": "transaction"}))
            .into_iter()
            .collect();
        json!({
            "resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "status": "active",
            "rest": [{"mode": "server", "interaction": system, "resource": resources}]
        })
    }
}

fn is_report(place: &str) -> bool {
    place.starts_with("DiagnosticReport/")
}

/// The value that a search asks for.
fn identifier_asked(query: &str) -> String {
    let value = query.rsplit("%7C").next().unwrap_or_default();
    value.replace("%3A", ":")
}

fn identifier(body: &Value) -> Option<String> {
    Some(body["identifier"][0]["value"].as_str()?.to_owned())
}

/// Our revision, as `meta.source` says it.
fn revision(body: &Value) -> Option<u64> {
    let kind = body["resourceType"].as_str()?;
    if !matches!(kind, "Flag" | "DiagnosticReport") {
        return None;
    }
    let source = body["meta"]["source"].as_str()?;
    source.rsplit('/').next()?.parse().ok()
}

/// Our content hash, as a tag says it.
pub(crate) fn content_hash(body: &Value) -> Option<&str> {
    let tags = body["meta"]["tag"].as_array()?;
    let tag = tags.iter().find(|tag| {
        let system = tag["system"].as_str();
        system.is_some_and(|system| system.ends_with(CONTENT_HASH))
    });
    tag?["code"].as_str()
}

fn refusal(status: u16) -> Plain {
    let issue = json!([{"severity": "error", "code": "processing"}]);
    let outcome = json!({"resourceType": "OperationOutcome", "issue": issue});
    (status, None, outcome)
}

/// An answer of this status that says nothing more.
pub(crate) fn refuse(status: u16, retry_after: Option<u64>) -> Answer {
    let mut answer = answer(refusal(status));
    if let Some(seconds) = retry_after {
        answer.headers.insert("retry-after", seconds.into());
    }
    answer
}

fn answer((status, version, body): Plain) -> Answer {
    let mut headers = HeaderMap::new();
    if let Some((place, version)) = version {
        let text = |text: String| HeaderValue::from_str(&text).unwrap();
        headers.insert("etag", text(format!("W/\"{version}\"")));
        let location = format!("{BASE}/{place}/_history/{version}");
        headers.insert("location", text(location));
    }
    Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers,
        bytes: body.to_string().into_bytes(),
    }
}
