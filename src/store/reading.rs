//! What is read back from a store.

use std::collections::BTreeSet;

use serde_json::{Map, Value};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    delivery::Hold,
    lease::{PatientId, TargetId},
    submission::HeldFinding,
};
use crate::clinical::{assessment::Urgency, timeline::Timeline};

/// A version of a resource.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldResource {
    /// `resourceType`.
    pub kind: String,
    /// Logical id.
    pub id: String,
    /// Version.
    pub version: i64,
    /// When it was stored.
    pub last_updated: OffsetDateTime,
    /// Whose; `None`: of no patient.
    pub patient: Option<PatientId>,
    /// The resource, with `id`, `meta.versionId` and `meta.lastUpdated` as they are here.
    pub body: Value,
}

impl HeldResource {
    /// Write id, version and time into the body, as they are here.
    pub(crate) fn stamp(&mut self) {
        let at = self.last_updated.format(&Rfc3339).unwrap_or_default();
        let Some(body) = self.body.as_object_mut() else {
            return;
        };
        body.insert("id".to_owned(), Value::from(self.id.as_str()));
        let meta = body
            .entry("meta")
            .or_insert_with(|| Value::Object(Map::new()));
        if let Some(meta) = meta.as_object_mut() {
            meta.insert(
                "versionId".to_owned(),
                Value::from(self.version.to_string()),
            );
            meta.insert("lastUpdated".to_owned(), Value::from(at));
        }
    }
}

/// Type and id of every relative reference to a resource of ours.
pub(crate) fn collect_references(value: &Value, found: &mut BTreeSet<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(text) if name == "reference" => {
                        if let Some((kind, id)) = text.split_once('/')
                            && id.starts_with("mf-")
                        {
                            found.insert((kind.to_owned(), id.to_owned()));
                        }
                    }
                    other => collect_references(other, found),
                }
            }
        }
        Value::Array(items) => {
            for item in items {
                collect_references(item, found);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// What is searched for among our own resources.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// Tenant.
    pub tenant: String,
    /// `resourceType`.
    pub kind: String,
    /// Of these patients; `None`: of all.
    pub patients: Option<Vec<PatientId>>,
    /// Stored at or after.
    pub since: Option<OffsetDateTime>,
    /// Stored before.
    pub before: Option<OffsetDateTime>,
    /// Leave out so many.
    pub offset: usize,
    /// Not more than this; the store's own limit is 1,000.
    pub limit: usize,
}

/// What a search found, the newest first.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// Resources.
    pub resources: Vec<HeldResource>,
    /// There are more.
    pub more: bool,
}

/// Everything known of one patient.
#[derive(Debug, Clone)]
pub struct KnownPatient {
    /// Row id.
    pub id: PatientId,
    /// The key that ids are formed from.
    pub key: [u8; 32],
    /// The timeline.
    pub timeline: Timeline,
    /// The findings.
    pub findings: Vec<HeldFinding>,
    /// Time of the last assessment.
    pub last_as_of: Option<OffsetDateTime>,
    /// Identifiers as sent.
    pub identifiers: Vec<(String, String)>,
    /// References as sent.
    pub references: Vec<String>,
}

/// A FHIR server that is or was written to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetRow {
    /// Row id.
    pub id: TargetId,
    /// Name.
    pub name: String,
    /// Address.
    pub base_url: String,
    /// Held, and since when.
    pub hold: Option<(Hold, OffsetDateTime)>,
}

/// Which deliveries.
#[derive(Debug, Clone, Default)]
pub struct DeliveryFilter {
    /// This one.
    pub id: Option<i64>,
    /// Of this target (name).
    pub target: Option<String>,
    /// In this state: `queued`, `in_flight`, `later`, `delivered`, `superseded`, `parked`,
    /// `discarded`.
    pub state: Option<String>,
    /// Parked for this reason.
    pub reason: Option<String>,
    /// Older than this delivery.
    pub before: Option<i64>,
    /// Not more than this; 0: the store's own limit, 1,000.
    pub limit: usize,
}

/// A delivery in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliverySummary {
    /// Row id.
    pub id: i64,
    /// Name of the target.
    pub target: String,
    /// Whose.
    pub patient: PatientId,
    /// Order within the lane.
    pub seq: i64,
    /// How soon.
    pub urgency: Urgency,
    /// State.
    pub state: String,
    /// What comes before the next request.
    pub first: Option<String>,
    /// Attempts.
    pub attempts: u32,
    /// When it was made.
    pub created_at: OffsetDateTime,
    /// When its lane is due, while it is open.
    pub due_at: Option<OffsetDateTime>,
    /// When it was settled.
    pub settled_at: Option<OffsetDateTime>,
    /// Why it is parked.
    pub parked_reason: Option<String>,
    /// When it is looked at again by itself.
    pub recheck_at: Option<OffsetDateTime>,
}

/// A delivery with everything in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryDetail {
    /// The row.
    pub summary: DeliverySummary,
    /// What goes to the target as `X-Correlation-Id`.
    pub correlation_id: String,
    /// Items, in sending order.
    pub items: Vec<DeliveryItem>,
    /// Attempts, the newest first.
    pub attempts: Vec<DeliveryAttempt>,
}

/// An item of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryItem {
    /// `resourceType`.
    pub kind: String,
    /// Logical id.
    pub id: String,
    /// Version.
    pub revision: i64,
    /// `open`, `written`, `not-writable`, `human-edited`, `human-deleted`, `superseded`, `skipped`.
    pub state: String,
}

/// An attempt of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryAttempt {
    /// The first is 1.
    pub number: u32,
    /// When it began.
    pub started_at: OffsetDateTime,
    /// When it ended.
    pub ended_at: OffsetDateTime,
    /// How it ended.
    pub class: String,
    /// HTTP status that decided.
    pub http_status: Option<u16>,
    /// First `issue.code` of its OperationOutcome.
    pub outcome_code: Option<String>,
    /// First 2 kB of the answer: patient data.
    pub reply: Option<String>,
}

/// Figures for metrics.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// Submissions waiting for the writer.
    pub queue_length: usize,
    /// Deliveries that are open or parked: target, state, how many.
    pub deliveries: Vec<(String, String, u64)>,
    /// Since when the longest due lane of each target waits.
    pub oldest_due: Vec<(String, OffsetDateTime)>,
    /// Bytes in the write-ahead log.
    pub wal_bytes: u64,
    /// Bytes that are free on the disk of the database; another machine's disk is not known.
    pub free_bytes: Option<u64>,
    /// Groups committed since the start.
    pub groups: u64,
    /// Submissions committed since the start.
    pub commits: u64,
}
