//! Deliveries to send, as the store would lease them, and an outbox in memory.

use std::{
    collections::{BTreeMap, HashSet},
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use marrowflag::{
    clinical::assessment::Urgency,
    courier::Outbox,
    fhir_server::{FhirServer, Limits, Sent, Token},
    store::{
        delivery::{Attempt, Class, First, Hold, Next, next_step},
        lease::{Fate, Item, Leased, PatientId, Settlement, TargetId, Written},
    },
};
use serde_json::{Value, json};
use time::{OffsetDateTime, macros::datetime};

pub(crate) const NOW: OffsetDateTime = datetime!(2026-11-21 09:30 UTC);
pub(crate) const CANON: &str = "https://marrowflag.org/fhir";
pub(crate) const MRN: &str = "http://hospital.example.org/mrn";

/// A short temper, so that a test of a timeout takes a second, and no pace of our own.
pub(crate) fn limits() -> Limits {
    Limits {
        connect: Duration::from_millis(500),
        total: Duration::from_secs(1),
        response: 64 * 1024,
        per_second: 10_000,
    }
}

pub(crate) fn server(base: &str) -> FhirServer {
    FhirServer::new(base, Token::None, limits()).unwrap()
}

fn item(ordinal: u32, kind: &str, id: &str, hash: &str, body: Value) -> Item {
    let mut body = body;
    body["resourceType"] = json!(kind);
    body["id"] = json!(id);
    body["meta"] =
        json!({"tag": [{"system": format!("{CANON}/CodeSystem/mf-content-hash"), "code": hash}]});
    let identifier = (kind != "Provenance").then(|| {
        let system = match kind {
            "Device" => "mf-device",
            "DiagnosticReport" => "mf-report",
            _ => "mf-flag",
        };
        (
            format!("{CANON}/NamingSystem/{system}"),
            format!("{id}-value"),
        )
    });
    if let Some((system, value)) = &identifier {
        body["identifier"] = json!([{"system": system, "value": value}]);
    }
    Item {
        ordinal,
        kind: kind.to_owned(),
        id: id.to_owned(),
        identifier,
        revision: 1,
        content_hash: hash.to_owned(),
        body,
        remote_id: None,
        etag: None,
        written_hash: None,
        written_revision: None,
        outranks_human: false,
        unconfirmed: Vec::new(),
    }
}

/// A Flag of the patient `mrn`, saying `text`.
pub(crate) fn flag(mrn: &str, hash: &str, status: &str, text: &str) -> Item {
    let body = json!({
        "status": status,
        "category": [{"coding": [{"system": "http://terminology.hl7.org/CodeSystem/flag-category", "code": "lab"}]}],
        "code": {"coding": [{"system": format!("{CANON}/CodeSystem/finding"), "code": "pancytopenia"}], "text": text},
        "subject": {"identifier": {"system": MRN, "value": mrn}},
        "period": {"start": "2026-11-18T07:00:00Z"},
        "author": {"reference": "Device/mf-device"},
        "extension": [{
            "url": "http://hl7.org/fhir/StructureDefinition/flag-detail",
            "valueReference": {"reference": format!("DiagnosticReport/mf-report-{mrn}")}
        }]
    });
    item(2, "Flag", &format!("mf-flag-{mrn}"), hash, body)
}

/// Device, DiagnosticReport, Flag and Provenance of one assessment of the patient `mrn`.
pub(crate) fn four(mrn: &str, hash: &str, status: &str, text: &str) -> Vec<Item> {
    let device =
        json!({"status": "active", "deviceName": [{"name": "marrowflag", "type": "model-name"}]});
    let report = json!({
        "status": "partial",
        "code": {"coding": [{"system": "http://loinc.org", "code": "18723-7"}]},
        "subject": {"identifier": {"system": MRN, "value": mrn}},
        "effectiveDateTime": "2026-11-18T07:00:00Z",
        "conclusion": text
    });
    let provenance = json!({
        "target": [
            {"reference": format!("Flag/mf-flag-{mrn}")},
            {"reference": format!("DiagnosticReport/mf-report-{mrn}")}
        ],
        "recorded": "2026-11-21T09:30:00Z",
        "agent": [{"who": {"reference": "Device/mf-device"}}]
    });
    vec![
        item(0, "Device", "mf-device", "device", device),
        item(
            1,
            "DiagnosticReport",
            &format!("mf-report-{mrn}"),
            hash,
            report,
        ),
        flag(mrn, hash, status, text),
        item(
            3,
            "Provenance",
            &format!("mf-prov-{mrn}-{hash}"),
            hash,
            provenance,
        ),
    ]
}

/// A first attempt for the patient `mrn`.
pub(crate) fn leased(mrn: &str, items: Vec<Item>) -> Leased {
    Leased {
        target: TargetId(1),
        patient: PatientId(mrn.bytes().map(i64::from).sum()),
        tenant: "default".to_owned(),
        patient_key: [0; 32],
        fence: 1,
        delivery: 1,
        attempt: 0,
        earlier: Vec::new(),
        verify_first: false,
        first: First::Nothing,
        urgency: Urgency::U3,
        patient_identifiers: vec![(MRN.to_owned(), mrn.to_owned())],
        patient_references: Vec::new(),
        items,
        watched: Vec::new(),
        remote_ids: Vec::new(),
        waiting_since: NOW,
        reachable_ms: 0,
        correlation_id: "test".to_owned(),
    }
}

pub(crate) async fn send(server: &FhirServer, leased: &Leased) -> Sent {
    server.send(leased, NOW, &|| true).await
}

/// What follows from the first attempt.
pub(crate) fn next(sent: &Sent) -> Next {
    let attempt = Attempt {
        number: 1,
        earlier: &[],
        reachable: Duration::ZERO,
    };
    next_step(&attempt, &sent.outcome, NOW, 0.5)
}

/// The next attempt, with what the store remembers of the one before.
pub(crate) fn again(leased: &Leased, sent: &Sent) -> Leased {
    let first = match next(sent) {
        Next::Later { first, .. } | Next::Held { first, .. } => first,
        Next::Delivered | Next::Parked(_) => First::Verify,
    };
    let mut earlier = vec![sent.outcome.class()];
    earlier.extend(&leased.earlier);
    Leased {
        attempt: leased.attempt + 1,
        earlier,
        first,
        items: leased
            .items
            .iter()
            .filter(|item| !sent.items.iter().any(|done| done.ordinal == item.ordinal))
            .cloned()
            .collect(),
        remote_ids: leased.remote_ids.clone(),
        ..leased.clone()
    }
}

/// `item` as it comes back from the store when `written` was settled for the same resource.
pub(crate) fn known(item: Item, written: &[Written]) -> Item {
    let written = written.iter().find(|one| one.ordinal == item.ordinal);
    let written = written.expect("it was settled");
    Item {
        written_revision: Some(item.revision),
        remote_id: written.remote_id.clone(),
        etag: written.etag.clone(),
        written_hash: written.hash.clone(),
        ..item
    }
}

/// The fate of the item with this ordinal.
pub(crate) fn fate(sent: &Sent, ordinal: u32) -> Option<Fate> {
    let mut items = sent.items.iter();
    items
        .find(|written| written.ordinal == ordinal)
        .map(|written| written.fate)
}

/// An outbox in memory: one lane per patient, the oldest delivery first.
#[derive(Clone, Default)]
pub(crate) struct MemoryOutbox(pub(crate) Arc<Mutex<Memory>>);

#[derive(Default)]
pub(crate) struct Memory {
    /// By id: the lease to hand out next, when it is due, and what became of it.
    pub(crate) deliveries: BTreeMap<i64, Entry>,
    pub(crate) hold: Option<Hold>,
    pub(crate) holds_ended: u32,
}

pub(crate) struct Entry {
    pub(crate) lease: Leased,
    pub(crate) due_at: Option<OffsetDateTime>,
    pub(crate) in_flight: bool,
    pub(crate) settled: Option<Next>,
    pub(crate) classes: Vec<Class>,
    /// How long it was to wait after each attempt.
    pub(crate) waits: Vec<time::Duration>,
    pub(crate) written: Vec<Written>,
}

impl MemoryOutbox {
    pub(crate) fn put(&self, delivery: i64, lease: Leased) {
        let entry = Entry {
            lease: Leased { delivery, ..lease },
            due_at: Some(NOW),
            in_flight: false,
            settled: None,
            classes: Vec::new(),
            waits: Vec::new(),
            written: Vec::new(),
        };
        self.0.lock().unwrap().deliveries.insert(delivery, entry);
    }

    /// What became of a delivery.
    pub(crate) fn settled(&self, delivery: i64) -> Option<Next> {
        self.0.lock().unwrap().deliveries[&delivery].settled
    }
}

impl Outbox for MemoryOutbox {
    type Error = Infallible;

    async fn lease(
        &self,
        _: TargetId,
        now: OffsetDateTime,
        limit: usize,
    ) -> Result<Vec<Leased>, Infallible> {
        let mut memory = self.0.lock().unwrap();
        let mut leases = Vec::new();
        let mut lanes = HashSet::new();
        for entry in memory.deliveries.values_mut() {
            let Some(due_at) = entry.due_at else { continue };
            let parked = matches!(entry.settled, Some(Next::Parked(_)));
            if parked && due_at > now {
                continue;
            }
            // Strictly in order within a lane: one that waits holds back those behind it.
            let oldest = lanes.insert(entry.lease.patient);
            if oldest && !entry.in_flight && due_at <= now && leases.len() < limit {
                entry.in_flight = true;
                leases.push(entry.lease.clone());
            }
        }
        Ok(leases)
    }

    async fn probe(
        &self,
        target: TargetId,
        now: OffsetDateTime,
    ) -> Result<Vec<Leased>, Infallible> {
        self.lease(target, now, 1).await
    }

    async fn settle(&self, leased: &Leased, settlement: Settlement) -> Result<bool, Infallible> {
        let mut memory = self.0.lock().unwrap();
        if let Next::Held { hold, .. } = settlement.next {
            memory.hold = Some(hold);
        }
        let entry = memory.deliveries.get_mut(&leased.delivery).unwrap();
        let ended_at = settlement.attempt.ended_at;
        entry.in_flight = false;
        entry.lease.waiting_since = ended_at;
        entry.settled = Some(settlement.next);
        entry.classes.push(settlement.attempt.class);
        // A send that was not begun is no attempt.
        entry.lease.attempt += u32::from(settlement.attempt.class != Class::NotTried);
        entry.lease.earlier.insert(0, settlement.attempt.class);
        entry.lease.reachable_ms = settlement.reachable_ms;
        entry.lease.items.retain(|item| {
            let mut done = settlement.items_done.iter();
            !done.any(|done| done.ordinal == item.ordinal)
        });
        entry.written.extend(settlement.items_done);
        entry.due_at = match settlement.next {
            Next::Later { at, first } | Next::Held { at, first, .. } => {
                entry.lease.first = first;
                entry.waits.push(at - ended_at);
                Some(at)
            }
            Next::Delivered => None,
            Next::Parked(why) => why.recheck_at(),
        };
        Ok(true)
    }

    async fn hold(&self, _: TargetId) -> Result<Option<Hold>, Infallible> {
        Ok(self.0.lock().unwrap().hold)
    }

    async fn end_hold(&self, _: TargetId, _: OffsetDateTime) -> Result<(), Infallible> {
        let mut memory = self.0.lock().unwrap();
        memory.hold = None;
        memory.holds_ended += 1;
        Ok(())
    }

    async fn unpark(&self, deliveries: &[i64], now: OffsetDateTime) -> Result<(), Infallible> {
        let mut memory = self.0.lock().unwrap();
        for delivery in deliveries {
            let entry = memory.deliveries.get_mut(delivery).unwrap();
            entry.due_at = Some(now);
            entry.lease.first = First::Verify;
        }
        Ok(())
    }
}
