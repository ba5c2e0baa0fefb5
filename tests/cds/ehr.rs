//! An EHR: the calls it makes, and its FHIR server.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use serde_json::{Value, json};

use super::app::Answer;

/// One count of a day: haemoglobin g/L, platelets, white cells, neutrophils (10*9/L).
pub type Count = (&'static str, [&'static str; 4]);

pub const SEVERE: &[Count] = &[
    ("2026-11-17", ["68", "12", "1.1", "0.3"]),
    ("2026-10-01", ["82", "30", "1.9", "0.7"]),
];
pub const LOW: &[Count] = &[
    ("2026-11-17", ["89", "84", "5.0", "3.0"]),
    ("2026-09-17", ["92", "80", "5.2", "3.1"]),
    ("2026-07-17", ["95", "90", "5.1", "3.0"]),
];
pub const HEALTHY: &[Count] = &[("2026-11-17", ["150", "250", "6.0", "4.0"])];

pub fn observation(patient: &str, loinc: &str, value: &str, unit: &str, day: &str) -> Value {
    let value: Value = serde_json::from_str(value).unwrap();
    json!({
        "resourceType": "Observation",
        "id": format!("{loinc}-{day}"),
        "status": "final",
        "code": { "coding": [{ "system": "http://loinc.org", "code": loinc }] },
        "subject": { "reference": format!("Patient/{patient}") },
        "effectiveDateTime": format!("{day}T08:00:00Z"),
        "valueQuantity": {
            "value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit
        }
    })
}

pub fn searchset(resources: &[Value]) -> Value {
    let entries: Vec<Value> = resources
        .iter()
        .map(|one| json!({ "resource": one, "search": { "mode": "match" } }))
        .collect();
    let mut bundle =
        json!({ "resourceType": "Bundle", "type": "searchset", "total": entries.len() });
    if !entries.is_empty() {
        bundle["entry"] = entries.into();
    }
    bundle
}

pub fn patient(id: &str) -> Value {
    json!({ "resourceType": "Patient", "id": id, "gender": "male", "birthDate": "1970-05-01" })
}

/// What is under each key of the prefetch.
pub fn prefetch(patient_id: &str, counts: &[Count]) -> Value {
    let of = |loinc: &str, unit: &str, at: usize| {
        let all: Vec<Value> = counts
            .iter()
            .map(|(day, values)| observation(patient_id, loinc, values[at], unit, day))
            .collect();
        searchset(&all)
    };
    json!({
        "patient": patient(patient_id),
        "hb": of("718-7", "g/L", 0),
        "plt": of("777-3", "10*9/L", 1),
        "wbc": of("6690-2", "10*9/L", 2),
        "anc": of("751-8", "10*9/L", 3)
    })
}

/// A call of `patient-view`.
pub fn call(patient_id: &str, counts: &[Count]) -> Value {
    json!({
        "hook": "patient-view",
        "hookInstance": uuid::Uuid::new_v4().to_string(),
        "context": { "userId": "Practitioner/1", "patientId": patient_id },
        "prefetch": prefetch(patient_id, counts)
    })
}

/// A call without prefetch, that names a FHIR server.
pub fn bare_call(patient_id: &str, server: &str) -> Value {
    json!({
        "hook": "patient-view",
        "hookInstance": uuid::Uuid::new_v4().to_string(),
        "context": { "userId": "Practitioner/1", "patientId": patient_id },
        "fhirServer": server,
        "fhirAuthorization": {
            "access_token": "the-token", "token_type": "Bearer", "expires_in": 300,
            "scope": "patient/*.rs", "subject": "marrowflag"
        }
    })
}

pub const SERVICE: &str = "/cds-services/marrowflag-cytopenia";
pub const ORDER_CHECK: &str = "/cds-services/marrowflag-order-check";
pub const FEEDBACK: &str = "/cds-services/marrowflag-cytopenia/feedback";

impl Answer {
    /// Cards of an answer that is one.
    #[track_caller]
    pub fn cards(&self) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()["cards"].as_array().unwrap().clone()
    }

    #[track_caller]
    pub fn card(&self) -> Value {
        let cards = self.cards();
        assert_eq!(cards.len(), 1, "{}", self.text);
        cards[0].clone()
    }
}

/// How the FHIR server behaves.
#[derive(Debug, Clone, Default)]
pub struct Manners {
    /// Answers after so long.
    pub slow: Duration,
    /// Only these types of query, by the key of the prefetch, are slow.
    pub slow_keys: Vec<&'static str>,
    /// Answers everything with this status.
    pub status: Option<u16>,
    /// Sends one result on a page.
    pub paged: bool,
    /// Says that there are more than it sends.
    pub lies: bool,
    /// Sends callers elsewhere.
    pub redirects_to: Option<String>,
}

/// A FHIR server that counts.
pub struct Ehr {
    pub base: String,
    pub contacts: Arc<AtomicUsize>,
    pub seen: Arc<Mutex<Vec<(String, String)>>>,
    handle: actix_web::dev::ServerHandle,
}

impl Drop for Ehr {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
    }
}

struct Held {
    data: HashMap<String, Value>,
    manners: Manners,
    base: String,
    contacts: Arc<AtomicUsize>,
    seen: Arc<Mutex<Vec<(String, String)>>>,
}

impl Ehr {
    /// With the results of one patient.
    pub fn start(patient_id: &str, counts: &[Count], manners: Manners) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}/fhir", listener.local_addr().unwrap());
        let contacts = Arc::new(AtomicUsize::new(0));
        let seen = Arc::default();
        let prefetch = prefetch(patient_id, counts);
        let held = web::Data::new(Held {
            data: prefetch
                .as_object()
                .unwrap()
                .iter()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
            manners,
            base: base.clone(),
            contacts: Arc::clone(&contacts),
            seen: Arc::clone(&seen),
        });
        let server = HttpServer::new(move || {
            App::new()
                .app_data(held.clone())
                .default_service(web::to(answer))
        })
        .workers(1)
        .disable_signals()
        .listen(listener)
        .unwrap()
        .run();
        let handle = server.handle();
        tokio::spawn(server);
        Self {
            base,
            contacts,
            seen,
            handle,
        }
    }

    pub fn contacts(&self) -> usize {
        self.contacts.load(Ordering::SeqCst)
    }
}

async fn answer(req: HttpRequest, held: web::Data<Held>) -> HttpResponse {
    held.contacts.fetch_add(1, Ordering::SeqCst);
    let token = req
        .headers()
        .get("authorization")
        .map_or("", |value| value.to_str().unwrap())
        .to_owned();
    held.seen
        .lock()
        .unwrap()
        .push((req.uri().to_string(), token));
    let query = req.query_string();
    let key = if req.path().contains("/Patient/") {
        "patient"
    } else if query.contains("718-7") {
        "hb"
    } else if query.contains("777-3") {
        "plt"
    } else if query.contains("6690-2") {
        "wbc"
    } else {
        "anc"
    };
    let manners = &held.manners;
    if manners.slow_keys.is_empty() || manners.slow_keys.contains(&key) {
        tokio::time::sleep(manners.slow).await;
    }
    if let Some(to) = &manners.redirects_to {
        return HttpResponse::TemporaryRedirect()
            .insert_header(("location", to.clone()))
            .finish();
    }
    if let Some(status) = manners.status {
        let status = actix_web::http::StatusCode::from_u16(status).unwrap();
        return HttpResponse::build(status).finish();
    }
    let mut value = held.data[key].clone();
    if manners.paged && value["resourceType"] == "Bundle" {
        let page: usize = query
            .split("_page=")
            .nth(1)
            .and_then(|page| page.parse().ok())
            .unwrap_or(0);
        let all = value["entry"].as_array().unwrap().clone();
        value["entry"] = json!([all[page]]);
        if page + 1 < all.len() {
            let code = match key {
                "hb" => "718-7",
                "plt" => "777-3",
                "wbc" => "6690-2",
                _ => "751-8",
            };
            let url = format!("{}/Observation?code={code}&_page={}", held.base, page + 1);
            value["link"] = json!([{ "relation": "next", "url": url }]);
        }
    }
    if manners.lies && value["resourceType"] == "Bundle" {
        value["total"] = json!(500);
    }
    HttpResponse::Ok()
        .content_type("application/fhir+json")
        .body(value.to_string())
}
