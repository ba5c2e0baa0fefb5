//! A toy of a model and what it is asked with, so that tests of a store say what the store does
//! and not what medicine says: a haemoglobin below 100 raises one Flag, one below 50 escalates it,
//! anything else closes it.
#![allow(
    dead_code,
    clippy::allow_attributes,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "shared by several tests, of which none uses everything"
)]

use std::sync::Arc;

use marrowflag::{
    clinical::{
        analyte::Analyte,
        assessment::{
            Assessment, Decision, Family, Finding, FlagChange, FlagState, Output as Earned,
            Urgency, Verdict,
        },
        quantity::Interval,
        time::{Precision, SampleTime},
        timeline::{Draw, Measurement, Method, Received, Source, Status, Timeline},
    },
    fhir::{
        read::ResultKey,
        write::{Resource, identity},
    },
    store::{
        Store, StoreError,
        delivery::{Class, Next},
        keys::{Hash, ResultId, digest},
        lease::{AttemptRecord, Fate, Leased, Settlement, TargetId, Written},
        submission::{
            Accepted, Case, Claims, Conclusion, Incoming, IncomingPatient, IncomingResource,
            IncomingValue, Model, OutboxTarget, Outcome, Output, Whose,
        },
    },
};
use serde_json::json;
use time::{Duration, OffsetDateTime, macros::datetime};

pub(crate) const NOW: OffsetDateTime = datetime!(2026-11-20 12:00 UTC);

/// A haemoglobin below 100 raises a Flag.
pub(crate) struct Toy;

pub(crate) fn lowest(timeline: &Timeline) -> Option<rust_decimal::Decimal> {
    timeline
        .measurements
        .iter()
        .filter(|one| one.status != Status::EnteredInError)
        .filter_map(|one| one.value.as_ref()?.as_exact())
        .min()
}

impl Model for Toy {
    fn conclude(&self, case: &Case<'_>) -> Conclusion {
        let lowest = lowest(case.timeline);
        assert_ne!(lowest, Some(13.into()), "this model does not like thirteen");
        let low = lowest.is_some_and(|lowest| lowest < 100.into());
        let held = case.findings.first().map(|held| held.finding.clone());
        let state = if low {
            FlagState::Active
        } else {
            FlagState::Inactive
        };
        let flags = match held {
            None if !low => Vec::new(),
            held => {
                let mut finding = held.unwrap_or_else(|| finding(state));
                if lowest.is_some_and(|lowest| lowest < 50.into()) {
                    finding.urgency = Urgency::U4;
                }
                vec![FlagChange {
                    write: true,
                    notify: false,
                    why: "raised",
                    finding: Finding { state, ..finding },
                }]
            }
        };
        let mut values: Vec<String> = case
            .timeline
            .measurements
            .iter()
            .map(|one| format!("{} {:?}", one.received.value, one.status))
            .collect();
        values.sort();
        Conclusion {
            wanted: vec![
                ("Flag", flag_id(case.key)),
                ("DiagnosticReport", report_id(case.key)),
            ],
            issues: Vec::new(),
            decision: Decision {
                assessment: assessment(&values.join(", "), low),
                flags,
                reports: Vec::new(),
            },
        }
    }

    fn write(
        &self,
        whose: &Whose<'_>,
        conclusion: &Conclusion,
        previous: &[Resource],
    ) -> Result<Vec<Output>, String> {
        let assessment = &conclusion.decision.assessment;
        let mut output = vec![output(
            "Device",
            "mf-device".to_owned(),
            json!({"resourceType": "Device", "id": "mf-device"}),
        )];
        let id = report_id(whose.key);
        output.push(output_of(
            "DiagnosticReport",
            &id,
            json!({"resourceType": "DiagnosticReport", "id": id, "conclusion": assessment.headline}),
        ));
        for change in &conclusion.decision.flags {
            let id = flag_id(whose.key);
            let escalated = change.finding.urgency == Urgency::U4;
            let mut flag = json!({"resourceType": "Flag", "id": id,
                "status": format!("{:?}", change.finding.state)});
            if escalated {
                flag["code"] = json!({"text": "very low"});
            }
            output.push(Output {
                family: Some(change.finding.family),
                outranks_human: escalated,
                ..output_of("Flag", &id, flag)
            });
        }
        output.retain(|one| {
            !previous.iter().any(|held| {
                held.id == one.resource.id && held.content_hash == one.resource.content_hash
            })
        });
        if assessment.headline.contains("6666 ") {
            return Err("the toy's output is wrong".to_owned());
        }
        Ok(output)
    }

    fn receipt(&self, outcome: &Outcome) -> Vec<u8> {
        let mut entries = outcome.entries.clone();
        entries.sort_by_key(|(entry, _)| *entry);
        format!(
            "{entries:?} seen {} failed {} assessed {}",
            outcome.envelope_seen,
            outcome.failed,
            outcome.patients.len()
        )
        .into_bytes()
    }
}

pub(crate) fn output_of(kind: &'static str, id: &str, body: serde_json::Value) -> Output {
    output(kind, id.to_owned(), body)
}

pub(crate) fn output(kind: &'static str, id: String, body: serde_json::Value) -> Output {
    Output {
        resource: Resource {
            kind,
            id,
            identifier: None,
            content_hash: identity::content_hash(&body),
            body,
        },
        family: None,
        send: true,
        outranks_human: false,
    }
}

pub(crate) fn flag_id(key: &Hash) -> String {
    identity::flag_id("default", key, Family::Anaemia)
}

pub(crate) fn report_id(key: &Hash) -> String {
    identity::resource_id("DiagnosticReport", &format!("{key:?}"))
}

pub(crate) fn sampled(at: OffsetDateTime) -> SampleTime {
    SampleTime {
        instant: at,
        precision: Precision::Instant,
    }
}

pub(crate) fn finding(state: FlagState) -> Finding {
    Finding {
        family: Family::Anaemia,
        state,
        slug: "anemia".to_owned(),
        urgency: Urgency::U2,
        grade: None,
        lineage_grades: [None; 3],
        episode_start: sampled(NOW),
        episode_end: None,
        notified_at: None,
        acknowledged: None,
        human: None,
    }
}

pub(crate) fn assessment(headline: &str, low: bool) -> Assessment {
    Assessment {
        as_of: NOW,
        index: None,
        verdict: Verdict::InsufficientData,
        lineages: Vec::new(),
        cells: Vec::new(),
        patterns: Vec::new(),
        safety: Vec::new(),
        candidates: Vec::new(),
        argued_against: Vec::new(),
        first_look: Vec::new(),
        doubts: Vec::new(),
        used: Vec::new(),
        span: None,
        notes: Vec::new(),
        urgency: if low { Urgency::U3 } else { Urgency::U1 },
        output: Earned::Report,
        output_row: 0,
        family: None,
        slug: None,
        headline: headline.to_owned(),
        trace: Vec::new(),
    }
}

/// A submission in the making.
pub(crate) struct Sending {
    pub(crate) incoming: Incoming,
}

pub(crate) fn key(name: &str) -> Hash {
    digest(&[name.as_bytes()])
}

pub(crate) fn sending(body: &str) -> Sending {
    Sending {
        incoming: Incoming {
            tenant: Arc::from("default"),
            client: Arc::from("lab"),
            kind: "batch",
            claims: Claims {
                idempotency_key: None,
                fingerprint: digest(&[body.as_bytes()]),
                by_content: true,
                envelope: None,
            },
            request_id: "r-1".to_owned(),
            received_at: NOW,
            expires_at: NOW + Duration::hours(24),
            all_or_nothing: false,
            anyway: false,
            patients: Vec::new(),
            withdrawals: Vec::new(),
            targets: Arc::from([]),
            model: Arc::new(Toy),
        },
    }
}

impl Sending {
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Incoming)) -> Self {
        change(&mut self.incoming);
        self
    }

    pub(crate) fn to(self, target: TargetId) -> Self {
        self.with(|incoming| {
            incoming.targets = Arc::from([OutboxTarget {
                id: target,
                unwritable: Vec::new(),
            }]);
        })
    }

    /// A patient with these keys and these results.
    pub(crate) fn of(mut self, keys: &[&str], results: Vec<IncomingResource>) -> Self {
        let before: usize = self
            .incoming
            .patients
            .iter()
            .map(|patient| patient.resources.len())
            .sum();
        self.incoming.patients.push(IncomingPatient {
            keys: keys.iter().map(|name| key(name)).collect(),
            identifiers: vec![("urn:mrn".to_owned(), keys[0].to_owned())],
            references: vec![format!("Patient/{}", keys[0])],
            resources: results
                .into_iter()
                .enumerate()
                .map(|(position, mut one)| {
                    one.entry = before + position;
                    one
                })
                .collect(),
            ..IncomingPatient::default()
        });
        self
    }

    pub(crate) async fn accept(self, store: &Arc<dyn Store>) -> Result<Accepted, StoreError> {
        store.accept(Arc::new(self.incoming)).await
    }

    pub(crate) async fn receipt(self, store: &Arc<dyn Store>) -> String {
        match self.accept(store).await.unwrap() {
            Accepted::New { receipt } | Accepted::Failed { receipt } => {
                String::from_utf8(receipt).unwrap()
            }
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn hb(name: &str, value: i64) -> IncomingResource {
    let text = format!(r#"{{"resourceType":"Observation","status":"final","value":{value}}}"#);
    let mut content = [0; 8];
    content.copy_from_slice(&digest(&[b"final", text.as_bytes()])[..8]);
    IncomingResource {
        entry: 0,
        kind: "Observation".to_owned(),
        id: result(name),
        content,
        status: "final".to_owned(),
        withdrawn: false,
        issued: None,
        source_version: None,
        put_id: None,
        if_match: None,
        unless_held: None,
        values: vec![IncomingValue {
            path: "Bundle.entry[0].resource".to_owned(),
            component: None,
            code: Some("hb".to_owned()),
            measurement: Some(measurement(value)),
        }],
        facts: Vec::new(),
        text,
    }
}

pub(crate) fn result(name: &str) -> ResultId {
    ResultId::of("Observation", "lab", &ResultKey::Url(name.to_owned()))
}

pub(crate) fn measurement(value: i64) -> Measurement {
    Measurement {
        analyte: Analyte::Hb,
        value: Some(Interval::exact(value.into())),
        received: Received {
            value: value.to_string(),
            unit: "g/L".to_owned(),
        },
        at: Some(sampled(NOW)),
        specimen: Some(Arc::from("s1")),
        report: None,
        laboratory: Some("urn:lab|7".into()),
        status: Status::Final,
        method: Method::Automated,
        preference: 2,
        draw: Draw::Capillary,
        problems: Vec::new(),
        cells_counted: Some(100),
        interpretation: None,
        upper_limit: Some("175.5".parse().unwrap()),
        unusable: None,
        filed_at: None,
        source: Source {
            handle: 0,
            identifier: Some((Arc::from("urn:lab"), Arc::from("17"))),
            loinc: Some(Arc::from("718-7")),
        },
    }
}

pub(crate) async fn timeline(store: &Arc<dyn Store>, name: &str) -> Vec<String> {
    let found = store
        .find_patients("default", vec![key(name)])
        .await
        .unwrap();
    let Some(id) = found.first() else {
        return Vec::new();
    };
    let known = store.patient("default", *id).await.unwrap().unwrap();
    let mut values: Vec<String> = known
        .timeline
        .measurements
        .iter()
        .map(|one| format!("{} {:?}", one.received.value, one.status))
        .collect();
    values.sort();
    values
}

pub(crate) async fn flag(store: &Arc<dyn Store>, name: &str) -> Option<(String, i64)> {
    let held = store
        .read("default", "Flag", &flag_id(&key(name)), None)
        .await
        .unwrap()?;
    Some((held.body["status"].as_str()?.to_owned(), held.version))
}

pub(crate) fn settlement(next: Next, done: Vec<Written>, at: OffsetDateTime) -> Settlement {
    Settlement {
        next,
        attempt: AttemptRecord {
            started_at: at,
            ended_at: at,
            class: match next {
                Next::Delivered => Class::Delivered,
                Next::Parked(_) => Class::Rejected,
                _ => Class::Unavailable,
            },
            http_status: Some(200),
            outcome_code: None,
            retry_after_ms: None,
            reply: None,
        },
        items_done: done,
        reachable_ms: 5,
    }
}

pub(crate) fn all_written(leased: &Leased) -> Vec<Written> {
    leased
        .items
        .iter()
        .map(|item| Written {
            ordinal: item.ordinal,
            remote_id: Some(format!("remote-{}", item.id)),
            etag: Some("W/\"1\"".to_owned()),
            hash: Some("there".to_owned()),
            fate: Fate::Written,
        })
        .collect()
}

pub(crate) fn kinds(leased: &Leased) -> Vec<&str> {
    leased.items.iter().map(|item| item.kind.as_str()).collect()
}
