//! Senders that keep what was acknowledged, and ask for it again.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

const MRN: &str = "https://hospital.example/mrn";
const SENDERS: usize = 4;
/// Submissions about one patient, one after another.
const EACH: usize = 4;

/// A count that is worse each time.
pub(crate) fn bundle(patient: &str, round: usize) -> Value {
    let worse = i32::try_from(round).unwrap();
    let counts = [
        ("718-7", format!("{}", 95 - 10 * worse), "g/L"),
        ("751-8", format!("0.{}", 9 - 2 * worse), "10*9/L"),
        ("777-3", format!("{}", 80 - 20 * worse), "10*9/L"),
    ];
    let observations = counts.into_iter().map(|(code, value, unit)| {
        json!({
            "resourceType": "Observation",
            "status": "final",
            "identifier": [{ "system": "https://laboratory.example/result", "value": format!("{patient}-{round}-{code}") }],
            "category": [{ "coding": [{ "system": "http://terminology.hl7.org/CodeSystem/observation-category", "code": "laboratory" }] }],
            "code": { "coding": [{ "system": "http://loinc.org", "code": code }] },
            "subject": { "reference": format!("Patient/{patient}") },
            "effectiveDateTime": format!("2026-11-{:02}T07:00:00Z", 10 + round),
            "valueQuantity": { "value": serde_json::from_str::<Value>(&value).unwrap(), "unit": unit, "system": "http://unitsofmeasure.org", "code": unit }
        })
    });
    let who = json!({
        "resourceType": "Patient", "id": patient, "gender": "female", "birthDate": "1958-03-14",
        "identifier": [{ "system": MRN, "value": patient }],
        "name": [{ "family": format!("Family-{patient}") }]
    });
    let entries: Vec<Value> = std::iter::once(who)
        .chain(observations)
        .enumerate()
        .map(|(index, resource)| {
            let kind = resource["resourceType"].as_str().unwrap();
            let full_url = match resource["id"].as_str() {
                Some(id) => format!("https://hospital.example/fhir/{kind}/{id}"),
                None => format!("urn:uuid:00000000-0000-4000-8000-{index:012}"),
            };
            json!({ "fullUrl": full_url, "request": { "method": "POST", "url": kind }, "resource": resource })
        })
        .collect();
    json!({ "resourceType": "Bundle", "type": "batch", "entry": entries })
}

/// Posts it; status, `Retry-After`, whether it is a repeat's answer, and the body. `None`: no
/// answer.
pub(crate) async fn post(base: &str, bundle: &str) -> Option<Answer> {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    post_by(&client, base, bundle).await
}

/// An answer of the door.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<String>,
    pub(crate) replayed: bool,
    pub(crate) text: String,
}

async fn post_by(client: &reqwest::Client, base: &str, bundle: &str) -> Option<Answer> {
    let answer = client
        .post(format!("{base}/fhir"))
        .header("content-type", "application/fhir+json")
        .body(bundle.to_owned())
        .send()
        .await
        .ok()?;
    let header = |name: &str| Some(answer.headers().get(name)?.to_str().unwrap().to_owned());
    Some(Answer {
        status: answer.status().as_u16(),
        retry_after: header("retry-after"),
        replayed: header("idempotency-replayed").is_some(),
        text: answer.text().await.ok()?,
    })
}

/// What was acknowledged.
pub(crate) struct Acknowledged {
    pub(crate) bundle: String,
    receipt: String,
}

/// Senders at work. Each awaits its receipts and sends again what was refused.
#[derive(Clone)]
pub(crate) struct Senders {
    state: Arc<State>,
    tasks: Arc<Mutex<Vec<tokio::task::JoinHandle<()>>>>,
}

#[derive(Default)]
struct State {
    acknowledged: Mutex<Vec<Acknowledged>>,
    refused: AtomicUsize,
    unanswered: AtomicUsize,
    stop: AtomicBool,
    /// When something first went wrong.
    trouble: Mutex<Option<Instant>>,
}

impl Senders {
    pub(crate) fn start(base: &str) -> Self {
        let senders = Self {
            state: Arc::default(),
            tasks: Arc::default(),
        };
        let tasks = (0..SENDERS)
            .map(|sender| tokio::spawn(send(base.to_owned(), sender, Arc::clone(&senders.state))))
            .collect();
        *senders.tasks.lock().unwrap() = tasks;
        senders
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.state.acknowledged.lock().unwrap().len()
    }

    pub(crate) fn refused(&self) -> usize {
        self.state.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn unanswered(&self) -> usize {
        self.state.unanswered.load(Ordering::Relaxed)
    }

    pub(crate) fn trouble(&self) -> Option<Instant> {
        *self.state.trouble.lock().unwrap()
    }

    /// Until this holds, for a minute at most.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..6_000 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{what}: not within a minute");
    }

    /// Stops them; what they were promised.
    pub(crate) async fn stop(self) -> Vec<Acknowledged> {
        self.state.stop.store(true, Ordering::Relaxed);
        let tasks = std::mem::take(&mut *self.tasks.lock().unwrap());
        for task in tasks {
            task.await.unwrap();
        }
        std::mem::take(&mut *self.state.acknowledged.lock().unwrap())
    }
}

async fn send(base: String, sender: usize, state: Arc<State>) {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut number = 0;
    while !state.stop.load(Ordering::Relaxed) {
        let patient = format!("s{sender}n{}", number / EACH);
        let bundle = bundle(&patient, number % EACH).to_string();
        match post_by(&client, &base, &bundle).await {
            Some(answer) if answer.status == 200 => {
                state.acknowledged.lock().unwrap().push(Acknowledged {
                    bundle,
                    receipt: answer.text,
                });
                number += 1;
                continue;
            }
            Some(answer) => {
                assert_eq!(answer.status, 503, "{answer:?}");
                assert!(answer.retry_after.is_some(), "{answer:?}");
                assert!(
                    answer.text.contains("no-store") || answer.text.contains("timeout"),
                    "{answer:?}"
                );
                state.refused.fetch_add(1, Ordering::Relaxed);
            }
            None => {
                state.unanswered.fetch_add(1, Ordering::Relaxed);
            }
        }
        state
            .trouble
            .lock()
            .unwrap()
            .get_or_insert_with(Instant::now);
        // Sooner than asked: the refusal has to hold.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Sends everything that was acknowledged once more: how much of it was forgotten.
pub(crate) async fn lost(base: &str, acknowledged: &[Acknowledged]) -> usize {
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut lost = 0;
    for one in acknowledged {
        let answer = post_by(&client, base, &one.bundle).await.unwrap();
        // Another port is another address in it.
        let same = places(&answer.text) == places(&one.receipt);
        lost += usize::from(answer.status != 200 || !answer.replayed || !same);
    }
    lost
}

fn places(receipt: &str) -> Vec<String> {
    let receipt: Value = serde_json::from_str(receipt).unwrap();
    let entries = receipt["entry"].as_array().unwrap();
    entries
        .iter()
        .filter_map(|entry| entry["response"]["location"].as_str())
        .filter_map(|place| Some(place.split("/fhir/").nth(1)?.to_owned()))
        .collect()
}
