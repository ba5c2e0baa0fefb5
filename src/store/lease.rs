//! What the store leases to the courier, and what the courier settles with it.

use time::OffsetDateTime;

use super::{
    delivery::{Class, First, Next},
    keys::Hash,
};
use crate::clinical::assessment::Urgency;

/// A FHIR server that is written to; row id in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetId(pub i64);

/// A patient; row id in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PatientId(pub i64);

/// Which of the lanes that are due.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Pick {
    /// The most urgent that waits longest; at every fourth turn the longest due.
    InTurn(u64),
    /// One of the most urgent, by chance: what fails for ever must not stand for its target.
    Probe,
}

impl Pick {
    /// For the next lane.
    pub(crate) fn next(self) -> Self {
        match self {
            Self::InTurn(turn) => Self::InTurn(turn.wrapping_add(1)),
            Self::Probe => Self::Probe,
        }
    }
}

/// A delivery whose lane is leased: one write-back of one assessment to one target.
#[derive(Debug, Clone)]
pub struct Leased {
    /// Where to.
    pub target: TargetId,
    /// Whose; with `target` it is the lane.
    pub patient: PatientId,
    /// The tenant of the patient.
    pub tenant: String,
    /// The key that the patient's ids are formed from.
    pub patient_key: Hash,
    /// Fence of the lane when it was leased; a settlement with an older one is refused.
    pub fence: i64,
    /// Row id.
    pub delivery: i64,
    /// How often it was tried before; 0 the first time.
    pub attempt: u32,
    /// How the attempts before this one ended, the newest first. The last 32 are enough.
    pub earlier: Vec<Class>,
    /// The lane was taken over from a replica that stopped, or the store is a restored copy: read
    /// before writing, and a later revision that stands there stays.
    pub verify_first: bool,
    /// What the last settlement asked to be done first.
    pub first: First,
    /// How soon a clinician should look.
    pub urgency: Urgency,
    /// Identifiers (system, value) to find the patient on the target with.
    pub patient_identifiers: Vec<(String, String)>,
    /// References as senders wrote them: `Patient/p1`, or absolute.
    pub patient_references: Vec<String>,
    /// What is still open, in sending order.
    pub items: Vec<Item>,
    /// Open Flags of the patient that stand on the target and that no delivery writes, as they were
    /// written last: a human may have closed one. No item of the delivery has their ordinals.
    pub watched: Vec<Item>,
    /// What the items' references to our other resources are called on the target, where it gave
    /// them ids of its own. Items settled earlier in this delivery are among them.
    pub remote_ids: Vec<RemoteId>,
    /// Since when it has waited for this attempt (made, or settled last).
    pub waiting_since: OffsetDateTime,
    /// Age that counts, in milliseconds: time in which the target could be reached.
    pub reachable_ms: i64,
    /// Goes to the target as `X-Correlation-Id`.
    pub correlation_id: String,
}

/// Ordinals of [`Leased::watched`] begin here: no delivery has so many items.
pub(crate) const FIRST_WATCHED: u32 = 1_000_000;

impl Leased {
    /// The item with this ordinal, watched ones included.
    pub fn item(&self, ordinal: u32) -> Option<&Item> {
        self.items
            .iter()
            .chain(&self.watched)
            .find(|item| item.ordinal == ordinal)
    }
}

/// What a resource of ours is called on a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteId {
    /// `resourceType`.
    pub kind: String,
    /// Our logical id.
    pub id: String,
    /// The id there.
    pub remote_id: String,
}

/// One resource of a delivery.
#[derive(Debug, Clone)]
pub struct Item {
    /// Position in the delivery.
    pub ordinal: u32,
    /// `resourceType`.
    pub kind: String,
    /// Our logical id, `mf-...`.
    pub id: String,
    /// Our business identifier (system, value); Provenance has none.
    pub identifier: Option<(String, String)>,
    /// Revision of the finding it shows.
    pub revision: i64,
    /// Hash of the content, as in `meta.tag`.
    pub content_hash: String,
    /// Our own copy.
    pub body: serde_json::Value,
    /// Id on the target, when it was written there before.
    pub remote_id: Option<String>,
    /// The version known there: of our last write, or of a human's edit that we read.
    pub etag: Option<String>,
    /// Fingerprint of what is known there ([`Written::hash`]).
    pub written_hash: Option<String>,
    /// The revision that was written there last.
    pub written_revision: Option<i64>,
    /// A new episode or an escalation: it is written over a human's edit.
    pub outranks_human: bool,
    /// Our revisions between the one known there and this one, the newest first. One of them may
    /// stand there or be on its way: it was replaced while nobody knew what had become of it.
    pub unconfirmed: Vec<Unconfirmed>,
}

impl Item {
    /// Whether revisions of ours lie between this one and the one that is known there.
    pub(crate) fn has_skipped(&self) -> bool {
        self.revision > self.written_revision.unwrap_or(0) + 1
    }
}

/// A revision of ours of which nobody knows whether it was written.
#[derive(Debug, Clone)]
pub struct Unconfirmed {
    /// Hash of its content, as in `meta.tag`.
    pub content_hash: String,
    /// Our own copy.
    pub body: serde_json::Value,
}

/// What the courier tells the store after a send.
#[derive(Debug, Clone, PartialEq)]
pub struct Settlement {
    /// What becomes of the delivery.
    pub next: Next,
    /// For the list of attempts.
    pub attempt: AttemptRecord,
    /// Items that need not be sent again.
    pub items_done: Vec<Written>,
    /// [`Leased::reachable_ms`] from now on.
    pub reachable_ms: i64,
}

/// One row of the attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttemptRecord {
    /// When it began.
    pub started_at: OffsetDateTime,
    /// When it ended.
    pub ended_at: OffsetDateTime,
    /// How it ended.
    pub class: Class,
    /// HTTP status of the answer that decided.
    pub http_status: Option<u16>,
    /// First `issue.code` of an OperationOutcome in it.
    pub outcome_code: Option<String>,
    /// `Retry-After`, as it was understood.
    pub retry_after_ms: Option<i64>,
    /// The first 2 kB of the answer: patient data, for `mf/admin` only.
    pub reply: Option<String>,
}

/// An item that is settled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Which.
    pub ordinal: u32,
    /// Its id on the target.
    pub remote_id: Option<String>,
    /// The version on the target.
    pub etag: Option<String>,
    /// Fingerprint of what stands there now in the elements that humans edit: it comes back as
    /// [`Item::written_hash`]. Opaque to the store.
    pub hash: Option<String>,
    /// How it was settled.
    pub fate: Fate,
}

/// How an item was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It stands on the target as we want it.
    Written,
    /// The target does not let us write this type.
    NotWritable,
    /// A human edited it after our last write: left as it is. `hash` is what the human left.
    HumanEdited {
        /// The human's version is `inactive`: not relevant for this patient.
        inactive: bool,
    },
    /// A human deleted it: left so.
    HumanDeleted,
}

impl Fate {
    /// A human took it off the charts.
    pub fn is_closed_by_human(self) -> bool {
        matches!(
            self,
            Self::HumanDeleted | Self::HumanEdited { inactive: true }
        )
    }

    /// Frozen: stands in the database and in the console.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Written => "written",
            Self::NotWritable => "not-writable",
            Self::HumanEdited { .. } => "human-edited",
            Self::HumanDeleted => "human-deleted",
        }
    }
}
