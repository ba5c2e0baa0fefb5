//! The life of Flags as clinicians wrote it down (`fixtures/cases/life_cycle.csv`), through the
//! service itself: every row is posted, and what it says must stand at our own endpoint and at the
//! FHIR server beside it.
//!
//! `tests/cases.rs` runs the same rows through the rules alone, with notifications, which FHIR does
//! not show.
#![expect(
    clippy::disallowed_methods,
    reason = "the service under test reads the clock, so the days of a row are counted from today"
)]

use std::{collections::BTreeMap, path::Path, sync::Arc};

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, format_description::well_known::Rfc3339, macros::datetime};

use crate::{
    engines::{self, Engine},
    service::Service,
};

const MRN: &str = "https://hospital.example/mrn";
const LOINC: &str = "http://loinc.org";
/// Name, code, unit and the value of a row that does not say one.
const COUNTS: [(&str, &str, &str, &str); 3] = [
    ("Hb", "718-7", "g/L", "130"),
    ("ANC", "751-8", "10*9/L", "3"),
    ("PLT", "777-3", "10*9/L", "250"),
];
/// What a human writes over the text of a Flag.
const HUMAN_TEXT: &str = "Known to haematology";

/// A submission of the table.
#[derive(Debug, Clone)]
struct Row {
    day: String,
    results: String,
    event: String,
    /// Not empty: judged at the time of receipt, this many days after day 0.
    as_of: String,
    flags: String,
    reports: String,
}

/// The cases in the order of the table.
fn cases() -> Vec<(String, Vec<Row>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/cases/life_cycle.csv");
    let mut reader = csv::Reader::from_path(path).unwrap();
    let mut cases: Vec<(String, Vec<Row>)> = Vec::new();
    for record in reader.deserialize::<BTreeMap<String, String>>() {
        let mut cells = record.unwrap();
        let mut cell = |name: &str| cells.remove(name).unwrap_or_else(|| panic!("no {name}"));
        let case = cell("case");
        let row = Row {
            day: cell("day"),
            results: cell("results"),
            event: cell("event"),
            as_of: cell("as_of"),
            flags: cell("flags"),
            reports: cell("reports"),
        };
        match cases.last_mut() {
            Some((last, rows)) if *last == case => rows.push(row),
            _ => cases.push((case, vec![row])),
        }
    }
    cases
}

/// A patient whose case is played.
struct Play {
    service: Arc<Service>,
    engine: &'static Engine,
    case: String,
    mrn: String,
    /// Its id on the target.
    id: String,
    day_zero: OffsetDateTime,
    /// Results by day, as they were sent last.
    sent: BTreeMap<OffsetDateTime, Vec<Value>>,
    last: Value,
    /// Reports that must stand there, with their status.
    reports: BTreeMap<String, &'static str>,
}

impl Play {
    fn moment(&self, text: &str) -> OffsetDateTime {
        let text = text.trim_start_matches('d');
        match text.strip_suffix('h') {
            Some(hours) => self.day_zero + Duration::hours(hours.parse().unwrap()),
            None => self.day_zero + Duration::days(text.parse().unwrap()),
        }
    }

    fn day(&self, instant: &Value) -> String {
        let instant = OffsetDateTime::parse(instant.as_str().unwrap(), &Rfc3339).unwrap();
        format!("d{}", (instant - self.day_zero).whole_days())
    }

    fn subject(&self) -> Value {
        json!({"reference": "urn:uuid:6f1f3a1e-2b7c-4f2e-9f55-0d6a3a1f0001",
               "identifier": {"system": MRN, "value": self.mrn}})
    }

    fn count(&self, at: OffsetDateTime, name: &str, value: &str, status: &str) -> Value {
        let (_, loinc, unit, _) = COUNTS.iter().find(|count| count.0 == name).unwrap();
        let value: Value = serde_json::from_str(value).unwrap();
        let at = at.format(&Rfc3339).unwrap();
        json!({
            "resourceType": "Observation", "status": status,
            "identifier": [{"system": "https://lab.example/result",
                            "value": format!("{}-{at}-{name}", self.mrn)}],
            "code": {"coding": [{"system": LOINC, "code": loinc}]},
            "subject": self.subject(), "effectiveDateTime": at,
            "valueQuantity": {"value": value, "unit": unit,
                              "system": "http://unitsofmeasure.org", "code": unit}
        })
    }

    /// The results of a row; what it does not name is within limits.
    fn counts(&self, at: OffsetDateTime, results: &str) -> Vec<Value> {
        let named: Vec<(&str, &str)> = results
            .split(',')
            .filter_map(|result| result.trim().split_once(' '))
            .collect();
        COUNTS
            .iter()
            .map(|(name, _, _, usual)| {
                let value = named.iter().find(|one| one.0 == *name);
                self.count(at, name, value.map_or(usual, |one| one.1), "final")
            })
            .collect()
    }

    /// A batch of these resources about the patient, who may have died.
    fn batch(&self, resources: &[Value], deceased: bool) -> Value {
        let mut patient = json!({
            "resourceType": "Patient", "identifier": [{"system": MRN, "value": self.mrn}],
            "gender": "female", "birthDate": "1986-06-15"
        });
        if deceased {
            patient["deceasedBoolean"] = json!(true);
        }
        let mut entries = vec![json!({
            "fullUrl": self.subject()["reference"], "resource": patient,
            "request": {"method": "POST", "url": "Patient"}
        })];
        entries.extend(resources.iter().enumerate().map(|(position, resource)| {
            let fallback = format!("urn:uuid:6f1f3a1e-2b7c-4f2e-9f55-{position:012}");
            let url = match resource["id"].as_str() {
                Some(id) => format!("urn:uuid:{id}"),
                None => fallback,
            };
            json!({"fullUrl": url, "resource": resource,
                   "request": {"method": "POST", "url": resource["resourceType"]}})
        }));
        json!({"resourceType": "Bundle", "type": "batch", "entry": entries})
    }

    /// A confirmed problem that stands for a token.
    fn condition(&self, token: &str, onset: Option<OffsetDateTime>) -> Value {
        let code = match token {
            "dx:aplastic_anaemia" => "D61.3",
            "palliative" => "Z51.5",
            other => panic!("fact {other:?}"),
        };
        let mut condition = json!({
            "resourceType": "Condition", "subject": self.subject(),
            "clinicalStatus": {"coding": [{"system":
                "http://terminology.hl7.org/CodeSystem/condition-clinical", "code": "active"}]},
            "verificationStatus": {"coding": [{"system":
                "http://terminology.hl7.org/CodeSystem/condition-ver-status", "code": "confirmed"}]},
            "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10", "code": code}]}
        });
        if let Some(onset) = onset {
            condition["onsetDateTime"] = json!(onset.format(&Rfc3339).unwrap());
        }
        condition
    }

    /// What is sent for a row, after what happened at the server.
    async fn bundle(&mut self, row: &Row) -> Value {
        let words: Vec<&str> = row.event.split_whitespace().collect();
        let mut resources = Vec::new();
        match words.as_slice() {
            [] => {}
            ["nothing"] => return self.last.clone(),
            ["inpatient"] => resources.push(json!({
                "resourceType": "Encounter", "status": "in-progress",
                "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
                "subject": self.subject()
            })),
            ["withdraw", when] => {
                let at = self.moment(when);
                for count in self.sent.get_mut(&at).unwrap() {
                    count["status"] = json!("entered-in-error");
                }
                resources.extend(self.sent.remove(&at).unwrap());
            }
            ["correct", when, name, value] => {
                resources.push(self.count(self.moment(when), name, value, "corrected"));
            }
            ["human", verb, _family] => {
                let flags = self.target("Flag?patient").await;
                let place = format!("Flag/{}", flags[0]["id"].as_str().unwrap());
                self.engine
                    .edit(&place, |flag| match *verb {
                        "closes" => flag["status"] = json!("inactive"),
                        "edits" => flag["code"]["text"] = json!(HUMAN_TEXT),
                        other => panic!("a human {other}?"),
                    })
                    .await;
            }
            ["deceased"] => return self.batch(&[], true),
            ["fact", token] => resources.push(self.condition(token, None)),
            ["fact", token, "since", when] => {
                resources.push(self.condition(token, Some(self.moment(when))));
            }
            ["red", "cells", when] => {
                let at = self.moment(when).format(&Rfc3339).unwrap();
                resources.push(json!({
                    "resourceType": "Procedure", "status": "completed", "subject": self.subject(),
                    "performedDateTime": at,
                    "code": {"coding": [{"system": "http://snomed.info/sct", "code": "116863004"}]}
                }));
            }
            other => panic!("event {other:?}"),
        }
        if !row.day.is_empty() {
            let at = self.moment(&row.day);
            let counts = self.counts(at, &row.results);
            resources.extend(counts.clone());
            self.sent.insert(at, counts);
        }
        self.batch(&resources, false)
    }

    /// Reports that a row asks for, beside those before it.
    fn expect_reports(&mut self, changes: &str) {
        for change in changes.split("; ") {
            match change.split_once(' ') {
                None if change == "none" => {}
                None if change == "write" => {
                    let newest = self.sent.keys().next_back().unwrap();
                    let day = (*newest - self.day_zero).whole_days();
                    self.reports.insert(format!("d{day}"), "partial");
                }
                Some(("rewrite", day)) => {
                    self.reports.insert(day.to_owned(), "partial");
                }
                Some(("retract", day)) => {
                    self.reports.insert(day.to_owned(), "entered-in-error");
                }
                _ => panic!("report {change:?}"),
            }
        }
    }

    /// What our own endpoint shows of the patient.
    async fn own(&self, search: &str) -> Vec<Value> {
        let (base, mrn) = (&self.service.base, &self.mrn);
        let url = format!("{base}/fhir/{search}:identifier={MRN}%7C{mrn}");
        let answer = self.service.client.get(url).send().await.unwrap();
        let bundle: Value = answer.json().await.unwrap();
        let entries = bundle["entry"].as_array().cloned().unwrap_or_default();
        entries
            .into_iter()
            .map(|mut entry| entry["resource"].take())
            .filter(|resource| resource["resourceType"] != "OperationOutcome")
            .collect()
    }

    /// What the FHIR server shows of the patient.
    async fn target(&self, search: &str) -> Vec<Value> {
        self.engine
            .search(&format!("{search}=Patient/{}", self.id))
            .await
    }

    /// Flags, said as the table says them.
    fn flags(&self, flags: &[Value]) -> String {
        let mut texts: Vec<(bool, String)> = flags
            .iter()
            .map(|flag| {
                let family = match flag["code"]["coding"][0]["code"].as_str().unwrap() {
                    "bicytopenia" => "pancytopenia",
                    slug if slug.starts_with("anemia") => "anaemia",
                    slug => slug,
                };
                let period = &flag["period"];
                let text = match flag["status"].as_str().unwrap() {
                    "active" => {
                        let extensions = flag["extension"].as_array().unwrap();
                        let priority = extensions
                            .iter()
                            .find(|one| one["url"].as_str().unwrap().ends_with("flag-priority"));
                        let code = &priority.unwrap()["valueCodeableConcept"]["coding"][0]["code"];
                        let urgency = match code.as_str().unwrap() {
                            "PH" => "U3",
                            "PM" => "U2",
                            _ => "U1",
                        };
                        assert!(period["end"].is_null(), "{flag:#}");
                        let human = if flag["code"]["text"] == HUMAN_TEXT {
                            " (human)"
                        } else {
                            ""
                        };
                        format!(
                            "{family} active {urgency} {}{human}",
                            self.day(&period["start"])
                        )
                    }
                    "inactive" if period["end"].is_null() => {
                        format!("{family} inactive {}", self.day(&period["start"]))
                    }
                    "inactive" => {
                        let (start, end) = (self.day(&period["start"]), self.day(&period["end"]));
                        format!("{family} inactive {start}-{end}")
                    }
                    status => format!("{family} {status}"),
                };
                (flag["status"] != "active", text)
            })
            .collect();
        texts.sort();
        let texts: Vec<String> = texts.into_iter().map(|(_, text)| text).collect();
        if texts.is_empty() {
            "none".to_owned()
        } else {
            texts.join("; ")
        }
    }

    fn reports(&self, reports: &[Value]) -> String {
        let mut texts: Vec<String> = reports
            .iter()
            .map(|report| {
                let end = &report["effectivePeriod"]["end"];
                format!("{} {}", self.day(end), report["status"].as_str().unwrap())
            })
            .collect();
        texts.sort();
        texts.join("; ")
    }

    /// Plays a row; what did not come out as it says.
    async fn play(&mut self, row: &Row) -> Vec<String> {
        let before = self.own("Flag?patient").await;
        let bundle = self.bundle(row).await;
        self.service.post(&bundle).await;
        self.last = bundle;
        self.expect_reports(&row.reports);
        let expected = (row.flags.clone(), {
            let mut texts: Vec<String> = self
                .reports
                .iter()
                .map(|(day, status)| format!("{day} {status}"))
                .collect();
            texts.sort();
            texts.join("; ")
        });
        let mut wrong = Vec::new();
        let closes = row.event.starts_with("human closes");
        // The human gives no end; our copy ends with the count it was learned at.
        let end = if closes {
            format!("-d{}", row.day)
        } else {
            String::new()
        };
        let ours = (
            format!("{}{end}", expected.0.replace(" (human)", "")),
            expected.1.clone(),
        );
        let mut here = self.here().await;
        // What a human did on the server is learned with the next delivery, not with the answer.
        if here != ours && !closes {
            wrong.push(format!("here: {here:?}"));
        }
        if row.event == "nothing" && self.own("Flag?patient").await != before {
            wrong.push("here: a repeat made a new version".to_owned());
        }
        let mut there = self.there().await;
        let start = std::time::Instant::now();
        while (there != expected || closes && here != ours)
            && start.elapsed() < std::time::Duration::from_mins(1)
        {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            there = self.there().await;
            here = self.here().await;
        }
        if there != expected {
            wrong.push(format!("there: {there:?}"));
        }
        if closes && here != ours {
            wrong.push(format!("here: {here:?}"));
        }
        for text in &mut wrong {
            *text = format!(
                "{} {}{}: expected {expected:?}, {text}",
                self.case, row.day, row.event
            );
        }
        wrong
    }

    async fn here(&self) -> (String, String) {
        (
            self.flags(&self.own("Flag?patient").await)
                .replace(" (human)", ""),
            self.reports(&self.own("DiagnosticReport?patient").await),
        )
    }

    async fn there(&self) -> (String, String) {
        (
            self.flags(&self.target("Flag?patient").await),
            self.reports(&self.target("DiagnosticReport?subject").await),
        )
    }
}

async fn every_case(engine: &'static Engine, label: &str) {
    // The cases are many, and a hospital's server is spared by default.
    let start = |directory: &Path, as_of| {
        let rate = ["--fhir-server-rate", "1000"];
        Arc::new(Service::start_with(directory, &engine.base, as_of, &rate))
    };
    let directory = tempfile::tempdir().unwrap();
    let sampled = start(directory.path(), "sampled");
    let other = tempfile::tempdir().unwrap();
    let received = start(other.path(), "received");
    let mut playing = tokio::task::JoinSet::new();
    for (case, rows) in cases() {
        let mrn = format!("{label}-{}", case.split(' ').next().unwrap());
        let patient =
            json!({"resourceType": "Patient", "identifier": [{"system": MRN, "value": mrn}]});
        let as_of = rows[0].as_of.parse::<i64>().ok();
        let mut play = Play {
            service: Arc::clone(if as_of.is_some() { &received } else { &sampled }),
            engine,
            case,
            mrn,
            id: engine.create(&patient).await,
            day_zero: as_of.map_or(datetime!(2026-06-15 08:00 UTC), |days| {
                let today = OffsetDateTime::now_utc().replace_millisecond(0).unwrap();
                // Half an hour ahead: a result of 72 h before stays younger than that and one of 73 h
                // older, however slowly the rows are played.
                today - Duration::days(days) + Duration::minutes(30)
            }),
            sent: BTreeMap::new(),
            last: Value::Null,
            reports: BTreeMap::new(),
        };
        playing.spawn(async move {
            let mut wrong = Vec::new();
            // An acknowledgement comes by a card's feedback; the rows from there on are played by
            // the rules alone.
            for row in rows
                .iter()
                .take_while(|row| !row.event.starts_with("acknowledge"))
            {
                wrong.extend(play.play(row).await);
            }
            wrong
        });
    }
    let mut wrong: Vec<String> = playing.join_all().await.into_iter().flatten().collect();
    wrong.sort();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn medplum() {
    if let Some(engine) = engines::medplum("the life of Flags") {
        every_case(engine, "life").await;
    }
}
