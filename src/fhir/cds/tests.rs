//! Calls to cards, through the real reader and the real model.

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime, macros::datetime};

use super::{
    Hook, Service,
    card::{self, Card, View},
    discovery::{self, Key},
    feedback,
    gather::{self, Gathered, Standing},
    orders, request, response,
};
use crate::{
    clinical::decide,
    fhir::{
        codes::CodeMap,
        outcome::Issue,
        submission::Checker,
        tree::{self, Limits},
    },
};

const NOW: OffsetDateTime = datetime!(2026-11-20 09:00 UTC);

fn checker() -> &'static Checker {
    static CHECKER: std::sync::LazyLock<Checker> =
        std::sync::LazyLock::new(|| Checker::new(Vec::new()).unwrap());
    &CHECKER
}

fn observation(loinc: &str, value: f64, unit: &str, day: &str) -> Value {
    json!({
        "resourceType": "Observation",
        "id": format!("{loinc}-{day}"),
        "status": "final",
        "code": { "coding": [{ "system": "http://loinc.org", "code": loinc }] },
        "subject": { "reference": "Patient/p1" },
        "effectiveDateTime": format!("{day}T08:00:00Z"),
        "valueQuantity": {
            "value": value, "unit": unit, "system": "http://unitsofmeasure.org", "code": unit
        }
    })
}

fn bundle(resources: &[Value]) -> Value {
    let entries: Vec<Value> = resources
        .iter()
        .map(|one| json!({ "resource": one }))
        .collect();
    if entries.is_empty() {
        return json!({ "resourceType": "Bundle", "type": "searchset", "total": 0 });
    }
    json!({ "resourceType": "Bundle", "type": "searchset", "total": entries.len(), "entry": entries })
}

/// A call of `patient-view` with one count for each day: haemoglobin g/L, platelets, white cells,
/// neutrophils.
fn call(days: &[(&str, [f64; 4])]) -> Value {
    let of = |loinc: &str, unit: &str, at: usize| {
        let all: Vec<Value> = days
            .iter()
            .map(|(day, values)| observation(loinc, values[at], unit, day))
            .collect();
        bundle(&all)
    };
    json!({
        "hook": "patient-view",
        "hookInstance": "d1577c69-dfbe-44ad-ba6d-3e05e953b2ea",
        "context": { "userId": "Practitioner/1", "patientId": "p1" },
        "prefetch": {
            "patient": {
                "resourceType": "Patient", "id": "p1", "gender": "male", "birthDate": "1970-05-01"
            },
            "hb": of("718-7", "g/L", 0),
            "plt": of("777-3", "10*9/L", 1),
            "wbc": of("6690-2", "10*9/L", 2),
            "anc": of("751-8", "10*9/L", 3)
        }
    })
}

const SEVERE: &[(&str, [f64; 4])] = &[
    ("2026-11-19", [68.0, 12.0, 1.1, 0.3]),
    ("2026-10-01", [82.0, 30.0, 1.9, 0.7]),
];
const LOW: &[(&str, [f64; 4])] = &[
    ("2026-11-19", [89.0, 84.0, 5.0, 3.0]),
    ("2026-09-19", [92.0, 80.0, 5.0, 3.0]),
    ("2026-07-19", [95.0, 90.0, 5.0, 3.0]),
];
const HEALTHY: &[(&str, [f64; 4])] = &[("2026-11-19", [150.0, 250.0, 6.0, 4.0])];

/// What a call came to.
#[derive(Debug)]
enum Answer {
    Wrong(Vec<Issue>),
    Incomplete(Issue),
    Card(Option<Card>, Vec<(Key, Standing)>),
}

impl Answer {
    fn card(self) -> Card {
        match self {
            Self::Card(Some(card), _) => card,
            other => panic!("no card: {other:?}"),
        }
    }

    fn standing(&self, wanted: Key) -> Standing {
        let Self::Card(_, standings) = self else {
            panic!("refused: {self:?}");
        };
        standings.iter().find(|(key, _)| *key == wanted).unwrap().1
    }
}

fn answer_at(request: &Value, now: OffsetDateTime) -> Answer {
    let text = request.to_string();
    let parsed = tree::parse(text.as_bytes(), &Limits::default()).unwrap();
    let service = request["hook"]
        .as_str()
        .and_then(Hook::from_name)
        .map_or(Service::Cytopenia, Hook::service);
    let call = match request::decode(&parsed, service, checker()) {
        Ok(call) => call,
        Err(issues) => return Answer::Wrong(issues),
    };
    let gathered = Gathered::new(&call, Vec::new());
    let standings = gathered.standings();
    if let Some(issue) = gathered.incomplete() {
        return Answer::Incomplete(issue);
    }
    let mut timeline = gathered.read(checker(), &CodeMap::default());
    let as_of = gather::as_of(&mut timeline, now);
    let assessment = decide::assess(&timeline, as_of);
    let made = match service {
        Service::Cytopenia => card::cytopenia(&View {
            call: &call,
            assessment: &assessment,
            timeline: &timeline,
            standings: &standings,
            discharge_without_count: gathered.count_ordered() == Some(false),
            with_history: false,
            now,
            base: "https://mf.example",
            page: None,
            app: None,
        }),
        Service::OrderCheck => orders::drugs(&call)
            .and_then(|drugs| orders::check(&call, &drugs, &assessment, now, "https://mf.example")),
    };
    if let Some(card) = &made {
        let sent = response(Some(card), Vec::new());
        let issues = checker().profiles().check_json(
            "cds-response",
            "CDSHooksResponse",
            &tree::from_value(&sent),
            50,
        );
        assert!(issues.is_empty(), "{issues:#?}\n{sent:#}");
        for suggestion in card.body["suggestions"].as_array().into_iter().flatten() {
            for action in suggestion["actions"].as_array().unwrap() {
                let order = tree::from_value(&action["resource"]);
                let place = crate::fhir::model::Place {
                    expression: "ServiceRequest",
                    pointer: "",
                };
                let model = checker().model(crate::fhir::submission::Release::R4);
                assert_eq!(model.check(&order, &place, 10), Vec::new());
            }
        }
    }
    Answer::Card(made, standings)
}

fn answer(request: &Value) -> Answer {
    answer_at(request, NOW)
}

fn is_nothing(answer: &Answer) -> bool {
    matches!(answer, Answer::Card(None, _))
}

#[test]
fn discovery_asks_for_each_parameter_once() {
    let document = &*discovery::ALL_SERVICES;
    let services = document["services"].as_array().unwrap();
    assert_eq!(services.len(), 5);
    for service in services {
        for name in ["hook", "id", "title", "description"] {
            assert!(service[name].as_str().is_some_and(|text| !text.is_empty()));
        }
        for (key, template) in service["prefetch"].as_object().unwrap() {
            assert!(Key::from_name(key).is_some());
            let template = template.as_str().unwrap();
            let mut names: Vec<&str> = template
                .split_once('?')
                .map_or("", |(_, query)| query)
                .split('&')
                .filter_map(|pair| Some(pair.split_once('=')?.0))
                .collect();
            let all = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), all, "{template}");
            assert!(template.len() < 2000, "{key}: {}", template.len());
        }
    }
    let hb = services[0]["prefetch"]["hb"].as_str().unwrap();
    assert!(hb.starts_with(
        "Observation?patient={{context.patientId}}&code=http://loinc.org|718-7,http://loinc.org|"
    ));
    assert!(hb.ends_with("&_sort=-date&_count=12"));
    // Every code that the specification of the interface names is asked for.
    for (key, codes) in [
        ("hb", &["718-7", "20509-6", "59260-0"][..]),
        ("plt", &["777-3", "778-1", "26515-7"]),
        ("wbc", &["6690-2", "26464-8"]),
        ("anc", &["751-8", "26499-4", "753-4"]),
        ("indices", &["787-2", "788-0", "789-8", "4544-3"]),
        ("diff", &["770-8", "731-0", "742-7", "709-6", "58413-6"]),
        ("retic", &["60474-4", "17849-1"]),
        ("chem", &["2276-4", "2132-9", "2284-8", "2532-0"]),
        ("temp", &["8310-5"]),
    ] {
        for code in codes {
            let template = services[0]["prefetch"][key].as_str().unwrap();
            assert!(template.contains(&format!("|{code}")), "{key} {code}");
        }
    }
    assert_eq!(
        services[2]["prefetch"]["activeOrders"].as_str(),
        Some("ServiceRequest?patient={{context.patientId}}&status=active&_count=50")
    );
    assert_eq!(services[3]["prefetch"].as_object().unwrap().len(), 1);
}

#[test]
fn a_severe_pancytopenia_is_one_card() {
    let card = answer(&call(SEVERE)).card();
    insta::assert_snapshot!(serde_json::to_string_pretty(&card.body).unwrap());
    assert_eq!(card.family, "pancytopenia");
}

#[test]
fn two_low_lines_are_a_warning_and_healthy_counts_are_nothing() {
    let card = answer(&call(LOW)).card();
    assert_eq!(card.body["indicator"], "warning");
    assert!(card.body["summary"].as_str().unwrap().contains("Hb 89"));
    assert!(is_nothing(&answer(&call(HEALTHY))));
    assert_eq!(response(None, Vec::new()).to_string(), r#"{"cards":[]}"#);
}

#[test]
fn the_same_call_makes_the_same_card() {
    let first = answer(&call(SEVERE)).card();
    assert_eq!(first, answer(&call(SEVERE)).card());
    let mut other = call(SEVERE);
    other["hookInstance"] = json!("another");
    assert_ne!(first.uuid, answer(&other).card().uuid);
}

#[test]
fn the_age_of_the_counts_matters() {
    let fresh = answer(&call(SEVERE)).card();
    assert_eq!(fresh.marks.urgency, 3);
    let at = |days| answer_at(&call(SEVERE), NOW + Duration::days(days));
    // Haemoglobin below 70 is on the list of what stays urgent.
    let old = at(10).card();
    assert_eq!(old.marks.urgency, 3);
    assert!(
        old.body["summary"]
            .as_str()
            .unwrap()
            .contains("(11 days old)")
    );
    assert!(
        old.body["detail"]
            .as_str()
            .unwrap()
            .contains("older critical result")
    );
    let mut milder = call(SEVERE);
    milder["prefetch"]["hb"] = bundle(&[observation("718-7", 90.0, "g/L", "2026-11-19")]);
    milder["prefetch"]["plt"] = bundle(&[observation("777-3", 60.0, "10*9/L", "2026-11-19")]);
    assert_eq!(answer(&milder).card().marks.urgency, 3);
    let capped = answer_at(&milder, NOW + Duration::days(10)).card();
    assert_eq!(capped.marks.urgency, 2);
    assert!(is_nothing(&at(91)));
}

#[test]
fn null_is_an_answer_and_absence_is_not() {
    let mut request = call(HEALTHY);
    for key in ["patient", "hb", "plt", "wbc", "anc"] {
        request["prefetch"][key] = Value::Null;
    }
    assert!(is_nothing(&answer(&request)));
    request.as_object_mut().unwrap().remove("prefetch");
    let Answer::Incomplete(issue) = answer(&request) else {
        panic!("answered");
    };
    assert_eq!(issue.word, "data-incomplete");
    assert_eq!(issue.diagnostics.as_deref(), Some("hb, plt, wbc, anc"));
}

#[test]
fn what_failed_is_told_and_the_rest_is_used() {
    let mut request = call(SEVERE);
    request["prefetch"]["hb"] = json!({
        "resourceType": "OperationOutcome",
        "issue": [{ "severity": "error", "code": "exception" }]
    });
    let answered = answer(&request);
    assert_eq!(answered.standing(Key::Hb), Standing::Unavailable);
    assert_eq!(answered.standing(Key::Diff), Standing::NotLookedAt);
    let detail = answered.card().body["detail"].as_str().unwrap().to_owned();
    assert!(
        detail.contains("Could not be had: haemoglobin."),
        "{detail}"
    );
    assert!(
        detail.contains("Not looked at: red cell indices"),
        "{detail}"
    );
}

#[test]
fn another_patients_results_are_put_aside() {
    let mut request = call(HEALTHY);
    request["prefetch"]["hb"]["entry"][0]["resource"]["subject"]["reference"] = json!("Patient/p2");
    let answered = answer(&request);
    assert_eq!(answered.standing(Key::Hb), Standing::PutAside);
    for key in ["plt", "wbc", "anc"] {
        request["prefetch"][key]["entry"][0]["resource"]["subject"]["reference"] =
            json!("https://ehr.example/fhir/Patient/p2");
    }
    assert!(matches!(answer(&request), Answer::Incomplete(_)));
    let mut patient = call(LOW);
    patient["prefetch"]["patient"]["id"] = json!("p2");
    assert_eq!(answer(&patient).standing(Key::Patient), Standing::PutAside);
}

#[test]
fn what_clients_really_send_is_understood() {
    // Absolute and versioned references, a wrapper of old clients, a Bundle without type, a
    // Bundle without entry, the patient's id with its type, a long id, a hookInstance of "test".
    let mut request = call(LOW);
    request["context"]["patientId"] = json!("Patient/p1");
    request["hookInstance"] = json!("test");
    for entry in request["prefetch"]["hb"]["entry"].as_array_mut().unwrap() {
        entry["resource"]["subject"]["reference"] =
            json!("https://ehr.example/fhir/Patient/p1/_history/3");
        entry["fullUrl"] = json!("https://ehr.example/fhir/Observation/1");
    }
    let plt = request["prefetch"]["plt"].clone();
    request["prefetch"]["plt"] = json!({ "response": { "status": "200 OK" }, "resource": plt });
    request["prefetch"]["wbc"]
        .as_object_mut()
        .unwrap()
        .remove("type");
    request["prefetch"]["wbc"]
        .as_object_mut()
        .unwrap()
        .remove("resourceType");
    request["prefetch"]["anc"] = json!({ "resourceType": "Bundle", "total": 0 });
    let answered = answer(&request);
    assert_eq!(answered.standing(Key::Plt), Standing::Whole);
    assert_eq!(answered.standing(Key::Wbc), Standing::Whole);
    assert_eq!(answered.standing(Key::Anc), Standing::Whole);
    let card = answered.card();
    assert!(card.body["summary"].as_str().unwrap().contains("Hb 89"));

    let long = format!("e{}", "x.y-".repeat(40));
    let text = call(SEVERE)
        .to_string()
        .replace("\"p1\"", &format!("\"{long}\""));
    let text = text.replace("Patient/p1", &format!("Patient/{long}"));
    let request: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(answer(&request).card().family, "pancytopenia");
}

#[test]
fn truncation_and_lies_are_partial() {
    let mut request = call(LOW);
    request["prefetch"]["hb"]["total"] = json!(40);
    request["prefetch"]["plt"]["link"] = json!([{ "relation": "next", "url": "https://x/next" }]);
    let answered = answer(&request);
    assert_eq!(answered.standing(Key::Hb), Standing::Partial);
    assert_eq!(answered.standing(Key::Plt), Standing::Partial);
    assert_eq!(answered.standing(Key::Wbc), Standing::Whole);
    let detail = answered.card().body["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("data-sufficiency: partial"), "{detail}");
    // A full page that begins with the oldest is not the newest twelve.
    let days: Vec<Value> = (1..=12)
        .map(|day| observation("718-7", 90.0, "g/L", &format!("2026-11-{day:02}")))
        .collect();
    request["prefetch"]["hb"] = bundle(&days);
    assert_eq!(answer(&request).standing(Key::Hb), Standing::Partial);
    let newest_first: Vec<Value> = days.into_iter().rev().collect();
    request["prefetch"]["hb"] = bundle(&newest_first);
    assert_eq!(answer(&request).standing(Key::Hb), Standing::Whole);
}

#[test]
fn wrong_calls_say_where() {
    let wrong = |change: &dyn Fn(&mut Value)| {
        let mut request = call(HEALTHY);
        change(&mut request);
        match answer(&request) {
            Answer::Wrong(issues) => issues[0].expression.clone().unwrap(),
            other => panic!("taken: {other:?}"),
        }
    };
    let place = |name: &str| format!("CDSHooksRequest.{name}");
    assert_eq!(
        wrong(&|r| r["hook"] = json!("appointment-book")),
        place("hook")
    );
    assert_eq!(
        wrong(&|r| r["context"] = json!({ "userId": "Practitioner/1" })),
        place("context.patientId")
    );
    for id in ["a/b", "a?b", "..", "a b", "a#b", "%2e", "", "a..b"] {
        assert_eq!(
            wrong(&|r| r["context"]["patientId"] = json!(id)),
            place("context.patientId"),
            "{id}"
        );
    }
    assert_eq!(
        wrong(&|r| r["prefetch"]["hb"] = json!([])),
        place("prefetch.hb")
    );
    assert_eq!(
        wrong(&|r| {
            r["fhirAuthorization"] = json!({
                "access_token": "t", "token_type": "Bearer", "expires_in": 300, "scope": "s", "subject": "c"
            });
        }),
        place("fhirServer")
    );
    assert_eq!(
        wrong(&|r| {
            r.as_object_mut().unwrap().remove("hookInstance");
        }),
        place("hookInstance")
    );
    let text =
        r#"{"hook":"patient-view","hookInstance":"x","context":{"patientId":"a","patientId":"b"}}"#;
    let parsed = tree::parse(text.as_bytes(), &Limits::default()).unwrap();
    let issues = request::decode(&parsed, Service::Cytopenia, checker()).unwrap_err();
    assert_eq!(issues[0].word, "duplicate-key");
}

#[test]
fn a_token_does_not_show() {
    let mut request = call(HEALTHY);
    request["fhirServer"] = json!("https://ehr.example/fhir");
    request["fhirAuthorization"] = json!({
        "access_token": "very-secret", "token_type": "Bearer", "expires_in": 300,
        "scope": "user/*.rs", "subject": "cds"
    });
    let text = request.to_string();
    let parsed = tree::parse(text.as_bytes(), &Limits::default()).unwrap();
    let call = request::decode(&parsed, Service::Cytopenia, checker()).unwrap();
    assert!(!format!("{:?}", call.token).contains("very-secret"));
    assert_eq!(call.token.unwrap().reveal(), "very-secret");
    let used_up = text.replace("\"expires_in\":300", "\"expires_in\":0");
    let parsed = tree::parse(used_up.as_bytes(), &Limits::default()).unwrap();
    assert!(
        request::decode(&parsed, Service::Cytopenia, checker())
            .unwrap()
            .token
            .is_none()
    );
}

fn order(hook: &str, system: &str, code: &str, anc: f64, day: &str) -> Value {
    json!({
        "hook": hook,
        "hookInstance": "3f1c8b1e-3f3f-4d33-9f0a-0d3b7c6c2f11",
        "context": {
            "userId": "Practitioner/1", "patientId": "p1",
            "selections": ["MedicationRequest/m1"],
            "draftOrders": { "entry": [{ "resource": {
                "resourceType": "MedicationRequest", "id": "m1", "status": "draft", "intent": "order",
                "medicationCodeableConcept": {
                    "coding": [{ "system": system, "code": code }], "text": "a drug <b>"
                },
                "subject": { "reference": "Patient/p1" }
            } }] }
        },
        "prefetch": { "anc": bundle(&[observation("751-8", anc, "10*9/L", day)]) }
    })
}

#[test]
fn a_cytotoxic_order_meets_low_neutrophils() {
    const ATC: &str = "http://www.whocc.no/atc";
    let sign = |code, anc, day| answer(&order("order-sign", ATC, code, anc, day));
    // Doxorubicin.
    let card = sign("L01DB01", 0.8, "2026-11-19").card();
    assert_eq!(card.body["indicator"], "info");
    let detail = card.body["detail"].as_str().unwrap();
    assert!(detail.contains("`a drug \u{2039}b>`"), "{detail}");
    assert_eq!(
        sign("L01DB01", 0.4, "2026-11-19").card().body["indicator"],
        "warning"
    );
    // Clozapine.
    assert_eq!(
        sign("N05AH02", 0.4, "2026-11-19").card().body["indicator"],
        "warning"
    );
    assert!(is_nothing(&sign("L01DB01", 1.0, "2026-11-19")));
    assert!(is_nothing(&sign("L01DB01", 0.4, "2026-11-11")));
    // Paracetamol.
    assert!(is_nothing(&sign("N02BE01", 0.4, "2026-11-19")));
    let select = order("order-select", ATC, "L01DB01", 0.4, "2026-11-19");
    let selected = answer(&select).card();
    let signed = sign("L01DB01", 0.4, "2026-11-19").card();
    assert_eq!(selected.family, signed.family);
    let mut other = select;
    other["context"]["selections"] = json!(["MedicationRequest/m2"]);
    assert!(is_nothing(&answer(&other)));
}

#[test]
fn a_discharge_without_a_count_ordered_suggests_one() {
    let mut request = call(LOW);
    request["hook"] = json!("encounter-discharge");
    request["context"]["encounterId"] = json!("e1");
    request["prefetch"]["activeOrders"] = bundle(&[]);
    let labels = |request: &Value| -> Vec<String> {
        answer(request).card().body["suggestions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["label"].as_str().unwrap().to_owned())
            .collect()
    };
    assert!(
        labels(&request)
            .iter()
            .any(|label| label.contains("2 to 4 weeks"))
    );
    request["prefetch"]["activeOrders"] = bundle(&[json!({
        "resourceType": "ServiceRequest", "id": "s1", "status": "active", "intent": "order",
        "code": { "coding": [{ "system": "http://loinc.org", "code": "57021-8" }] },
        "subject": { "reference": "Patient/p1" }
    })]);
    assert!(
        !labels(&request)
            .iter()
            .any(|label| label.contains("2 to 4 weeks"))
    );
}

#[test]
fn feedback_is_decoded_and_wrong_feedback_says_which() {
    let decode = |value: &Value| {
        let text = value.to_string();
        let parsed = tree::parse(text.as_bytes(), &Limits::default()).unwrap();
        feedback::decode(&parsed, checker())
    };
    let good = decode(&json!({ "feedback": [
        { "card": "A1", "outcome": "accepted", "acceptedSuggestions": [{ "id": "s" }],
          "outcomeTimestamp": "2026-11-20T08:00:00Z" },
        { "card": "a2", "outcome": "overridden", "outcomeTimestamp": "2026-11-20T08:00:00Z",
          "overrideReason": { "reason": { "code": "patient-ineligible", "system": feedback::REASONS },
                              "userComment": "seen by me" } }
    ] }))
    .unwrap();
    assert_eq!(good[0].card, "a1");
    assert_eq!(good[1].reason, Some("patient-ineligible"));
    let wrong = |item: Value| {
        let fine = json!({ "card": "c", "outcome": "overridden", "outcomeTimestamp": "2026-11-20T08:00:00Z" });
        decode(&json!({ "feedback": [fine, item] })).unwrap_err()[0]
            .expression
            .clone()
            .unwrap()
    };
    let time = "2026-11-20T08:00:00Z";
    for item in [
        json!({ "card": "c", "outcome": "accepted", "outcomeTimestamp": time }),
        json!({ "card": "c", "outcome": "ignored", "outcomeTimestamp": time }),
        json!({ "card": "c", "outcome": "overridden" }),
        json!({ "card": "c", "outcome": "overridden", "outcomeTimestamp": "2026-02-30T08:00:00Z" }),
        json!({ "card": "c", "outcome": "overridden", "outcomeTimestamp": "yesterday" }),
        json!({ "card": "c", "outcome": "overridden", "acceptedSuggestions": [{ "id": "s" }], "outcomeTimestamp": time }),
        json!({ "card": "c", "outcome": "accepted", "acceptedSuggestions": [{ "id": "s" }],
                "overrideReason": {}, "outcomeTimestamp": time }),
    ] {
        assert!(
            wrong(item.clone()).starts_with("CDSHooksFeedback.feedback[1]"),
            "{item}"
        );
    }
    assert!(decode(&json!({})).is_err());
}
