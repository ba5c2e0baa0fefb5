//! Rows to values, whichever engine they come from, and the queries that are the same on both.
//!
//! The parameters of a query here first stand in it in the order of their numbers: SQLite numbers
//! `$1` and `$2` by that.

use std::sync::Arc;

use serde_json::Value;
use time::OffsetDateTime;

use super::{
    codec,
    delivery::{Class, First, Hold},
    error::{Result, StoreError},
    keys::ResultId,
    lease::{FIRST_WATCHED, Item, PatientId, TargetId, Unconfirmed},
    plan::{PatientRow, StoredFact, StoredValue},
    reading::{DeliveryAttempt, DeliveryItem, DeliverySummary, HeldResource, TargetRow},
    submission::HeldFinding,
};
use crate::{
    clinical::{
        assessment::{Family, Finding},
        time::SampleTime,
        timeline::{Measurement, Person, Reason, Received, Sex, Source, Status},
    },
    fhir::{
        cds::{
            feedback::acknowledges,
            quiet::{Answered, Marks, Shown},
        },
        write::Resource,
    },
};

/// Parked deliveries that are looked at again at once.
pub(crate) const RECHECKS: i64 = 100;
/// Classes of earlier attempts that go with a lease.
pub(crate) const EARLIER: i64 = 32;
/// Rows in one answer, or changed by one command.
pub(crate) const PAGE: usize = 1_000;
/// 9999-12-31: until something else happens.
pub(crate) const FOR_EVER: i64 = 253_402_214_400_000;
/// How long attempts of deliveries are kept, in milliseconds.
pub(crate) const ATTEMPTS_KEPT: i64 = 30 * 24 * 3_600_000;

/// A row of a query.
pub(crate) trait Row {
    /// A number.
    fn number(&self, at: usize) -> Result<Option<i64>>;
    /// Yes or no.
    fn truth(&self, at: usize) -> Result<Option<bool>>;
    /// A text.
    fn text(&self, at: usize) -> Result<Option<&str>>;
    /// Bytes.
    fn bytes(&self, at: usize) -> Result<Option<&[u8]>>;
    /// A point in time, as `codec::millis`.
    fn millis(&self, at: usize) -> Result<Option<i64>>;
}

/// What a column can be read as.
pub(crate) trait Column<'r>: Sized {
    /// `None`: it is empty.
    fn read(row: &'r impl Row, at: usize) -> Result<Option<Self>>;
}

/// A column that always has a value.
pub(crate) fn get<'r, T: Column<'r>>(row: &'r impl Row, at: usize) -> Result<T> {
    T::read(row, at)?.ok_or(StoreError::Unreadable("a column without a value"))
}

/// A column that may be empty.
pub(crate) fn find<'r, T: Column<'r>>(row: &'r impl Row, at: usize) -> Result<Option<T>> {
    T::read(row, at)
}

impl Column<'_> for i64 {
    fn read(row: &impl Row, at: usize) -> Result<Option<Self>> {
        row.number(at)
    }
}

impl Column<'_> for bool {
    fn read(row: &impl Row, at: usize) -> Result<Option<Self>> {
        row.truth(at)
    }
}

impl<'r> Column<'r> for &'r str {
    fn read(row: &'r impl Row, at: usize) -> Result<Option<Self>> {
        row.text(at)
    }
}

impl Column<'_> for String {
    fn read(row: &impl Row, at: usize) -> Result<Option<Self>> {
        Ok(row.text(at)?.map(str::to_owned))
    }
}

impl Column<'_> for Arc<str> {
    fn read(row: &impl Row, at: usize) -> Result<Option<Self>> {
        Ok(row.text(at)?.map(Arc::from))
    }
}

impl Column<'_> for Vec<u8> {
    fn read(row: &impl Row, at: usize) -> Result<Option<Self>> {
        Ok(row.bytes(at)?.map(<[u8]>::to_vec))
    }
}

impl<const N: usize> Column<'_> for [u8; N] {
    fn read(row: &impl Row, at: usize) -> Result<Option<Self>> {
        let bytes = row.bytes(at)?;
        let exactly = bytes.map(|bytes| {
            bytes
                .try_into()
                .map_err(|_| StoreError::Unreadable("a hash or key"))
        });
        exactly.transpose()
    }
}

impl Column<'_> for OffsetDateTime {
    fn read(row: &impl Row, at: usize) -> Result<Option<Self>> {
        row.millis(at)?.map(codec::instant).transpose()
    }
}

/// Numbers that are kept in a wider column.
macro_rules! narrow {
    ($($type:ty),*) => {$(
        impl Column<'_> for $type {
            fn read(row: &impl Row, at: usize) -> Result<Option<Self>> {
                let number = row.number(at)?;
                let narrow = number.map(|number| {
                    Self::try_from(number).map_err(|_| StoreError::Unreadable("a small number"))
                });
                narrow.transpose()
            }
        }
    )*};
}

narrow!(u8, u16, u32, u64);

/// Tenant and row of a patient. `$1`: who.
pub(crate) const PATIENT: &str = "SELECT tenant, key_hash, seq, identifiers, birth_date, sex, \
     deceased, deceased_at, traits, last_as_of FROM patient WHERE id = $1";

pub(crate) fn patient(row: &impl Row) -> Result<(String, PatientRow)> {
    let names = codec::names(get(row, 3)?)?;
    let mut person = Person {
        birth: find(row, 4)?.map(codec::birth).transpose()?,
        sex: find(row, 5)?.map_or(Ok(Sex::Unknown), codec::sex)?,
        deceased: get(row, 6)?,
        deceased_at: find(row, 7)?,
        ..Person::default()
    };
    let pregnancies = match find(row, 8)? {
        Some(text) => codec::set_traits(&mut person, text)?,
        None => Vec::new(),
    };
    Ok((
        get(row, 0)?,
        PatientRow {
            key: get(row, 1)?,
            seq: get(row, 2)?,
            identifiers: names.identifiers,
            references: names.references,
            person,
            pregnancies,
            last_as_of: find(row, 9)?,
        },
    ))
}

/// The timeline of a patient. `$1`: whose.
pub(crate) const VALUES: &str = "SELECT l3_key, version, content, status, issued_at, \
     source_version, patient_seq, ordinal, filed_at, code, analyte, value, unit, value_si, \
     effective_at, effective_offset, effective_precision, usable, why_not, why_text, state, \
     specimen, report, preference, detail, identifier_system, identifier_value, loinc \
     FROM observation WHERE patient_id = $1";

pub(crate) fn value(row: &impl Row) -> Result<StoredValue> {
    Ok(StoredValue {
        id: ResultId(get(row, 0)?),
        version: get(row, 1)?,
        content: get(row, 2)?,
        status: get(row, 3)?,
        issued: row.millis(4)?,
        source_version: find(row, 5)?,
        seq: get(row, 6)?,
        ordinal: get(row, 7)?,
        filed_at: row.millis(8)?,
        code: find(row, 9)?,
        measurement: measurement(row)?,
    })
}

fn measurement(row: &impl Row) -> Result<Option<Measurement>> {
    let Some(analyte) = find(row, 10)? else {
        return Ok(None);
    };
    let at = match (row.millis(14)?, find(row, 16)?) {
        (Some(at), Some(precision)) => Some(SampleTime {
            instant: codec::instant_at(at, find(row, 15)?.unwrap_or(0))?,
            precision: codec::precision(precision)?,
        }),
        _ => None,
    };
    let unusable = match find(row, 18)? {
        None => None,
        Some(word) => Some(Reason {
            word: codec::outcome_word(word)?,
            text: find(row, 19)?.unwrap_or_default(),
        }),
    };
    let value = find(row, 13)?.map(codec::interval).transpose()?;
    let mut measurement = Measurement {
        received: Received {
            value: find(row, 11)?.unwrap_or_default(),
            unit: find(row, 12)?.unwrap_or_default(),
        },
        specimen: find(row, 21)?,
        report: find(row, 22)?,
        status: find(row, 20)?.map_or(Ok(Status::Final), codec::status)?,
        preference: find(row, 23)?.unwrap_or(0),
        unusable,
        source: Source {
            handle: 0,
            identifier: find(row, 25)?.zip(find(row, 26)?),
            loinc: find(row, 27)?,
        },
        ..Measurement::of(codec::analyte(analyte)?, value, at)
    };
    if let Some(detail) = find(row, 24)? {
        codec::set_measurement_detail(&mut measurement, detail)?;
    }
    Ok(Some(measurement))
}

/// What the columns of a measurement are written as.
pub(crate) struct MeasurementColumns<'a> {
    pub(crate) analyte: Option<&'static str>,
    pub(crate) value: Option<&'a str>,
    pub(crate) unit: Option<&'a str>,
    pub(crate) value_si: Option<String>,
    pub(crate) effective_at: Option<i64>,
    pub(crate) effective_offset: Option<i64>,
    pub(crate) effective_precision: Option<&'static str>,
    pub(crate) usable: bool,
    pub(crate) why_not: Option<&'static str>,
    pub(crate) why_text: Option<&'a str>,
    pub(crate) state: Option<&'static str>,
    pub(crate) specimen: Option<&'a str>,
    pub(crate) report: Option<&'a str>,
    pub(crate) preference: Option<i64>,
    pub(crate) detail: Option<String>,
    pub(crate) identifier_system: Option<&'a str>,
    pub(crate) identifier_value: Option<&'a str>,
    pub(crate) loinc: Option<&'a str>,
}

impl<'a> MeasurementColumns<'a> {
    /// All of them are empty when a row has no measurement.
    pub(crate) fn of(measurement: Option<&'a Measurement>) -> Result<Self> {
        let reason = measurement.and_then(|one| one.unusable.as_ref());
        let identifier = measurement.and_then(|one| one.source.identifier.as_ref());
        let at = measurement.and_then(|one| one.at);
        Ok(Self {
            analyte: measurement.map(|one| one.analyte.key()),
            value: measurement.map(|one| one.received.value.as_str()),
            unit: measurement.map(|one| one.received.unit.as_str()),
            value_si: measurement
                .and_then(|one| one.value.as_ref())
                .map(codec::interval_text),
            effective_at: at.map(|at| codec::millis(at.instant)),
            effective_offset: at.map(|at| codec::offset_minutes(at.instant)),
            effective_precision: at.map(|at| codec::precision_word(at.precision)),
            usable: measurement.is_some_and(|one| one.unusable.is_none()),
            why_not: reason.map(|one| one.word),
            why_text: reason.map(|one| one.text.as_str()),
            // The ordinary status is left out: most rows have it.
            state: measurement
                .map(|one| one.status)
                .filter(|status| *status != Status::Final)
                .map(codec::status_word),
            specimen: measurement.and_then(|one| one.specimen.as_deref()),
            report: measurement.and_then(|one| one.report.as_deref()),
            preference: measurement
                .map(|one| i64::from(one.preference))
                .filter(|one| *one != 0),
            detail: measurement
                .map(codec::measurement_detail)
                .transpose()?
                .flatten(),
            identifier_system: identifier.map(|(system, _)| system.as_ref()),
            identifier_value: identifier.map(|(_, value)| value.as_ref()),
            loinc: measurement.and_then(|one| one.source.loinc.as_deref()),
        })
    }
}

/// The facts of a patient. `$1`: whose.
pub(crate) const FACTS: &str = "SELECT key, version, content, fhir_type, status, issued_at, \
     source_version, tokens, filed_at, patient_seq, ordinal FROM fact WHERE patient_id = $1";

pub(crate) fn fact(row: &impl Row) -> Result<StoredFact> {
    Ok(StoredFact {
        id: ResultId(get(row, 0)?),
        version: get(row, 1)?,
        content: get(row, 2)?,
        kind: get(row, 3)?,
        status: get(row, 4)?,
        issued: row.millis(5)?,
        source_version: find(row, 6)?,
        facts: codec::tokens(get(row, 7)?)?,
        filed_at: row.millis(8)?,
        seq: get(row, 9)?,
        ordinal: get(row, 10)?,
    })
}

/// The findings of a patient. `$1`: whose.
pub(crate) const FINDINGS: &str = "SELECT family, state, slug, grade, lineage_grades, urgency, \
     episode_start, episode_start_detail, episode_end, episode_end_detail, notified_at, \
     acknowledged_until, acknowledged_why, revision, flag_id, human_hash \
     FROM finding WHERE patient_id = $1 ORDER BY id";

pub(crate) fn finding(row: &impl Row) -> Result<HeldFinding> {
    let time = |at| {
        row.millis(at)?
            .ok_or(StoreError::Unreadable("finding.episode_start"))
    };
    let episode_end = match (row.millis(8)?, find(row, 9)?) {
        (Some(at), Some(detail)) => Some(codec::sample_time(at, detail)?),
        _ => None,
    };
    let acknowledged = match (find(row, 12)?, find(row, 11)?) {
        (Some(why), Some(until)) => Some((codec::acknowledged(why)?, until)),
        _ => None,
    };
    Ok(HeldFinding {
        finding: Finding {
            family: Family::from_str_exact(get(row, 0)?)
                .ok_or(StoreError::Unreadable("finding.family"))?,
            state: codec::flag_state(get(row, 1)?)?,
            slug: get(row, 2)?,
            urgency: codec::urgency(get(row, 5)?)?,
            grade: find(row, 3)?.map(codec::grade).transpose()?,
            lineage_grades: codec::lineage_grades(get(row, 4)?)?,
            episode_start: codec::sample_time(time(6)?, get(row, 7)?)?,
            episode_end,
            notified_at: find(row, 10)?,
            acknowledged,
            human: find(row, 15)?,
        },
        revision: get(row, 13)?,
        flag_id: find(row, 14)?,
    })
}

/// What begins a query for resources of ours.
pub(crate) const RESOURCE: &str = "SELECT fhir_type, fhir_id, version, last_updated, body, \
     resource.patient_id FROM resource LEFT JOIN patient ON patient.id = resource.patient_id";

pub(crate) fn resource(row: &impl Row) -> Result<HeldResource> {
    let mut held = HeldResource {
        kind: get(row, 0)?,
        id: get(row, 1)?,
        version: get(row, 2)?,
        last_updated: get(row, 3)?,
        patient: find(row, 5)?.map(PatientId),
        body: resource_body(row, 4)?,
    };
    held.stamp();
    Ok(held)
}

fn resource_body(row: &impl Row, at: usize) -> Result<Value> {
    let body = row.bytes(at)?.unwrap_or_default();
    serde_json::from_slice(&codec::decompress(body)?)
        .map_err(|_| StoreError::Unreadable("resource.body"))
}

/// The last version of a resource of ours. `$1`: type; `$2`: id.
pub(crate) const LAST_VERSION: &str = "SELECT version, body FROM resource WHERE fhir_type = $1 \
     AND fhir_id = $2 ORDER BY version DESC LIMIT 1";

pub(crate) fn last_version(row: &impl Row) -> Result<Option<(i64, Resource)>> {
    let version = get(row, 0)?;
    let resource = Resource::stored(resource_body(row, 1)?);
    Ok(resource.map(|resource| (version, resource)))
}

/// Where the text of a version of something sent is: version, status, submission, line.
pub(crate) struct Place {
    version: i64,
    status: String,
    pub(crate) seq: i64,
    ordinal: i64,
}

pub(crate) fn place(row: &impl Row) -> Result<Place> {
    Ok(Place {
        version: get(row, 0)?,
        status: get(row, 1)?,
        seq: get(row, 2)?,
        ordinal: get(row, 3)?,
    })
}

/// The texts of a patient in a submission. `$1`: whose; `$2`: which.
pub(crate) const TEXTS: &str = "SELECT mine.body, inbox.received_at FROM inbox_patient AS mine \
     LEFT JOIN inbox ON inbox.id = mine.inbox_id \
     WHERE mine.patient_id = $1 AND mine.patient_seq = $2";

/// A version of something sent, from a row of [`TEXTS`]; `None`: it is of another type.
pub(crate) fn sent(
    row: &impl Row,
    place: &Place,
    patient: PatientId,
    kind: &str,
    id: &str,
) -> Result<Option<HeldResource>> {
    const UNREADABLE: StoreError = StoreError::Unreadable("inbox_patient.body");
    let lines = codec::decompress(row.bytes(0)?.unwrap_or_default())?;
    let line = usize::try_from(place.ordinal)
        .ok()
        .and_then(|ordinal| lines.split(|byte| *byte == b'\n').nth(ordinal))
        .ok_or(UNREADABLE)?;
    let mut body: Value = serde_json::from_slice(line).map_err(|_| UNREADABLE)?;
    if body.get("resourceType").and_then(Value::as_str) != Some(kind) {
        return Ok(None);
    }
    // Withdrawn by its id: the text is that of the version before.
    if let Some(status) = body.get_mut("status") {
        *status = Value::from(place.status.as_str());
    }
    let mut held = HeldResource {
        kind: kind.to_owned(),
        id: id.to_owned(),
        version: place.version,
        last_updated: codec::instant(row.millis(1)?.unwrap_or(0))?,
        patient: Some(patient),
        body,
    };
    held.stamp();
    Ok(Some(held))
}

/// How many deliveries of each target are in each state that is not over.
pub(crate) const COUNTS: &str = "SELECT target.name, delivery.state, count(*) FROM delivery \
     JOIN target ON target.id = delivery.target_id \
     WHERE delivery.state IN ('queued', 'in_flight', 'later') GROUP BY 1, 2 \
     UNION ALL SELECT target.name, delivery.state, count(*) FROM delivery \
     JOIN target ON target.id = delivery.target_id \
     WHERE delivery.state = 'parked' GROUP BY 1, 2";

pub(crate) fn count(row: &impl Row) -> Result<(String, String, u64)> {
    Ok((get(row, 0)?, get(row, 1)?, get(row, 2)?))
}

/// Since when the longest due lane of each target waits.
pub(crate) const OLDEST_DUE: &str = "SELECT target.name, min(lane.due_at) FROM lane \
     JOIN target ON target.id = lane.target_id WHERE lane.due_at IS NOT NULL GROUP BY 1";

pub(crate) fn oldest_due(row: &impl Row) -> Result<(String, OffsetDateTime)> {
    Ok((get(row, 0)?, get(row, 1)?))
}

/// Every target.
pub(crate) const TARGETS: &str =
    "SELECT id, name, base_url, hold, hold_since FROM target ORDER BY id";

pub(crate) fn target(row: &impl Row) -> Result<TargetRow> {
    let hold = match (find(row, 3)?, find(row, 4)?) {
        (Some(name), Some(since)) => Some((
            Hold::from_name(name).ok_or(StoreError::Unreadable("target.hold"))?,
            since,
        )),
        _ => None,
    };
    Ok(TargetRow {
        id: TargetId(get(row, 0)?),
        name: get(row, 1)?,
        base_url: get(row, 2)?,
        hold,
    })
}

/// The oldest open delivery of a lane. `$1`: target; `$2`: patient.
pub(crate) const NEXT_DELIVERY: &str = "SELECT id, urgency, before, attempt, waiting_since, \
     reachable_ms, correlation_id FROM delivery WHERE target_id = $1 AND patient_id = $2 \
     AND state IN ('queued', 'in_flight', 'later') ORDER BY seq, part LIMIT 1";

/// A delivery that is about to be leased.
pub(crate) struct OpenDelivery {
    pub(crate) id: i64,
    pub(crate) urgency: i64,
    pub(crate) first: First,
    pub(crate) attempt: u32,
    pub(crate) waiting_since: OffsetDateTime,
    pub(crate) reachable_ms: i64,
    pub(crate) correlation_id: String,
}

pub(crate) fn open_delivery(row: &impl Row) -> Result<OpenDelivery> {
    let before = find(row, 2)?.unwrap_or("");
    Ok(OpenDelivery {
        id: get(row, 0)?,
        urgency: get(row, 1)?,
        first: First::from_name(before).ok_or(StoreError::Unreadable("delivery.before"))?,
        attempt: get(row, 3)?,
        waiting_since: get(row, 4)?,
        reachable_ms: get(row, 5)?,
        correlation_id: get(row, 6)?,
    })
}

/// How the last attempts of a delivery ended, the newest first. `$1`: which; `$2`: how many.
pub(crate) const CLASSES: &str = "SELECT class FROM delivery_attempt WHERE delivery_id = $1 \
     ORDER BY number DESC LIMIT $2";

pub(crate) fn class(row: &impl Row) -> Result<Class> {
    Class::from_name(get(row, 0)?).ok_or(StoreError::Unreadable("delivery_attempt.class"))
}

/// Open items with their texts and what is known of them on the target. `$1`: target; `$2`:
/// delivery.
pub(crate) const ITEMS: &str = "SELECT item.ordinal, item.fhir_type, item.fhir_id, item.revision, \
     item.content_hash, item.outranks_human, resource.identifier_system, \
     resource.identifier_value, resource.body, remote.remote_id, remote.etag, \
     remote.written_hash, remote.written_revision FROM delivery_item AS item \
     JOIN resource ON resource.fhir_type = item.fhir_type \
     AND resource.fhir_id = item.fhir_id AND resource.version = item.revision \
     LEFT JOIN remote_resource AS remote ON remote.target_id = $1 \
     AND remote.fhir_type = item.fhir_type AND remote.fhir_id = item.fhir_id \
     WHERE item.delivery_id = $2 AND item.state = 'open' ORDER BY item.ordinal";

/// Open Flags of a patient as they were written to a target last, unless one is about to be written
/// again; columns as in [`ITEMS`]. `$1`: target; `$2`: patient.
pub(crate) const WATCHED: &str = "SELECT CAST(0 AS bigint), resource.fhir_type, resource.fhir_id, resource.version, \
     resource.content_hash, false, resource.identifier_system, resource.identifier_value, \
     resource.body, remote.remote_id, remote.etag, remote.written_hash, remote.written_revision \
     FROM finding JOIN remote_resource AS remote ON remote.target_id = $1 \
     AND remote.fhir_type = 'Flag' AND remote.fhir_id = finding.flag_id \
     JOIN resource ON resource.fhir_type = 'Flag' AND resource.fhir_id = finding.flag_id \
     AND resource.version = remote.written_revision \
     WHERE finding.patient_id = $2 AND finding.state = 'active' AND NOT EXISTS (\
     SELECT 1 FROM delivery_item AS item JOIN delivery ON delivery.id = item.delivery_id \
     WHERE delivery.target_id = $1 AND item.state = 'open' AND item.fhir_type = 'Flag' \
     AND item.fhir_id = finding.flag_id) ORDER BY resource.fhir_id";

/// A human's edit was read: what was decided before that was known, and does not outrank it, is not
/// written. `$1`: state of the item; `$2`: the Flag; `$3`: target.
pub(crate) const LEAVE_TO_HUMAN: &str = "UPDATE delivery_item SET state = $1 \
     WHERE fhir_type = 'Flag' AND fhir_id = $2 AND state = 'open' AND NOT outranks_human \
     AND EXISTS (SELECT 1 FROM delivery \
     WHERE delivery.id = delivery_item.delivery_id AND delivery.target_id = $3)";

/// Whether a new episode or an escalation of a Flag waits to be written: it was decided after the
/// human's edit and outranks it. `$1`: the Flag; `$2`: target.
pub(crate) const OUTRANKED: &str = "SELECT 1 FROM delivery_item AS item \
     JOIN delivery ON delivery.id = item.delivery_id \
     WHERE item.fhir_type = 'Flag' AND item.fhir_id = $1 AND item.state = 'open' \
     AND item.outranks_human AND delivery.target_id = $2 LIMIT 1";

/// Gives watched items ordinals that no item of the delivery has.
pub(crate) fn number_watched(items: &mut [Item]) {
    for (ordinal, item) in (FIRST_WATCHED..).zip(items) {
        item.ordinal = ordinal;
    }
}

pub(crate) fn item(row: &impl Row) -> Result<Item> {
    Ok(Item {
        ordinal: get(row, 0)?,
        kind: get(row, 1)?,
        id: get(row, 2)?,
        identifier: find(row, 6)?.zip(find(row, 7)?),
        revision: get(row, 3)?,
        content_hash: get(row, 4)?,
        body: resource_body(row, 8)?,
        remote_id: find(row, 9)?,
        etag: find(row, 10)?,
        written_hash: find(row, 11)?,
        written_revision: find(row, 12)?,
        outranks_human: get(row, 5)?,
        unconfirmed: Vec::new(),
    })
}

/// Revisions of a Flag that may stand on a target unknown to us.
pub(crate) const MOST_UNCONFIRMED: i64 = 16;

/// Our revisions before this one and since the one that is known there, the newest first. `$1`:
/// target; `$2`, `$3`: type and id; `$4`: this one; `$5`: how many.
pub(crate) const UNCONFIRMED: &str = "SELECT resource.content_hash, resource.body FROM resource \
     LEFT JOIN remote_resource AS remote ON remote.target_id = $1 \
     AND remote.fhir_type = resource.fhir_type AND remote.fhir_id = resource.fhir_id \
     WHERE resource.fhir_type = $2 AND resource.fhir_id = $3 AND resource.version < $4 \
     AND resource.version > coalesce(remote.written_revision, 0) \
     ORDER BY resource.version DESC LIMIT $5";

pub(crate) fn unconfirmed(row: &impl Row) -> Result<Unconfirmed> {
    Ok(Unconfirmed {
        content_hash: get(row, 0)?,
        body: resource_body(row, 1)?,
    })
}

/// What begins a query for deliveries in a list.
pub(crate) const SUMMARY: &str = "SELECT delivery.id, target.name, delivery.patient_id, \
     delivery.seq, delivery.urgency, delivery.state, delivery.before, delivery.attempt, \
     delivery.created_at, lane.due_at, delivery.settled_at, delivery.parked_reason, \
     delivery.recheck_at, delivery.correlation_id FROM delivery \
     JOIN target ON target.id = delivery.target_id \
     LEFT JOIN lane ON lane.target_id = delivery.target_id \
     AND lane.patient_id = delivery.patient_id";

pub(crate) fn summary(row: &impl Row) -> Result<DeliverySummary> {
    let state: String = get(row, 5)?;
    let open = matches!(state.as_str(), "queued" | "in_flight" | "later");
    Ok(DeliverySummary {
        id: get(row, 0)?,
        target: get(row, 1)?,
        patient: PatientId(get(row, 2)?),
        seq: get(row, 3)?,
        urgency: codec::urgency(get(row, 4)?)?,
        first: find(row, 6)?,
        attempts: get(row, 7)?,
        created_at: get(row, 8)?,
        due_at: find(row, 9)?.filter(|_| open),
        settled_at: find(row, 10)?,
        parked_reason: find(row, 11)?,
        recheck_at: find(row, 12)?,
        state,
    })
}

/// A delivery and its correlation id, of a query that [`SUMMARY`] begins.
pub(crate) fn detail(row: &impl Row) -> Result<(DeliverySummary, String)> {
    Ok((summary(row)?, get(row, 13)?))
}

/// Items of a delivery in a list. `$1`: which.
pub(crate) const LISTED_ITEMS: &str = "SELECT fhir_type, fhir_id, revision, state \
     FROM delivery_item WHERE delivery_id = $1 ORDER BY ordinal";

pub(crate) fn listed_item(row: &impl Row) -> Result<DeliveryItem> {
    Ok(DeliveryItem {
        kind: get(row, 0)?,
        id: get(row, 1)?,
        revision: get(row, 2)?,
        state: get(row, 3)?,
    })
}

/// Attempts of a delivery, the newest first. `$1`: which.
pub(crate) const ATTEMPTS: &str = "SELECT number, started_at, ended_at, class, http_status, \
     outcome_code, reply FROM delivery_attempt WHERE delivery_id = $1 \
     ORDER BY number DESC LIMIT 100";

pub(crate) fn attempt(row: &impl Row) -> Result<DeliveryAttempt> {
    Ok(DeliveryAttempt {
        number: get(row, 0)?,
        started_at: get(row, 1)?,
        ended_at: get(row, 2)?,
        class: get(row, 3)?,
        http_status: find(row, 4)?,
        outcome_code: find(row, 5)?,
        reply: find(row, 6)?,
    })
}

/// An older row of the inbox gives up what identified it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GiveUp {
    IdempotencyKey(i64),
    Content(i64),
    Envelope(i64),
}

impl GiveUp {
    /// What does it, and of which row. `$1`: the row.
    pub(crate) fn statement(self) -> (&'static str, i64) {
        match self {
            Self::IdempotencyKey(id) => ("UPDATE inbox SET idem_key = NULL WHERE id = $1", id),
            Self::Content(id) => ("UPDATE inbox SET content_hash = NULL WHERE id = $1", id),
            Self::Envelope(id) => ("UPDATE inbox SET envelope_key = NULL WHERE id = $1", id),
        }
    }
}

/// What begins a query for a row of the inbox that has one of our keys; the key is `$3`. `$1`:
/// tenant; `$2`: client.
pub(crate) const EARLIER_SUBMISSION: &str = "SELECT id, fingerprint, envelope_detail, receipt, \
     unchanged, expires_at FROM inbox WHERE tenant = $1 AND client = $2 AND";

/// A row of the inbox that has one of our keys.
pub(crate) struct Earlier {
    pub(crate) id: i64,
    pub(crate) fingerprint: [u8; 32],
    pub(crate) detail: Option<String>,
    receipt: Option<Vec<u8>>,
    pub(crate) unchanged: Option<Vec<u8>>,
    expires_at: i64,
}

pub(crate) fn earlier(row: &impl Row) -> Result<Earlier> {
    Ok(Earlier {
        id: get(row, 0)?,
        fingerprint: get(row, 1)?,
        detail: find(row, 2)?,
        receipt: find(row, 3)?,
        unchanged: find(row, 4)?,
        expires_at: row
            .millis(5)?
            .ok_or(StoreError::Unreadable("inbox.expires_at"))?,
    })
}

impl Earlier {
    /// Whether its receipt is answered no more.
    pub(crate) fn is_expired(&self, now: OffsetDateTime) -> bool {
        self.expires_at <= codec::millis(now)
    }

    /// Its receipt.
    pub(crate) fn receipt(&self) -> Result<Vec<u8>> {
        let receipt = self.receipt.as_deref();
        codec::decompress(receipt.ok_or(StoreError::Unreadable("an inbox row without receipt"))?)
    }
}

/// Whether something that a submission wrote has a later version. `$1`: the submission.
pub(crate) const MOVED: &str = "SELECT 1 FROM inbox_patient AS mine \
     JOIN observation_version AS old \
     ON old.patient_id = mine.patient_id AND old.patient_seq = mine.patient_seq \
     WHERE mine.inbox_id = $1 LIMIT 1";

/// The last card of a family that a client was shown. `$1`: tenant; `$2`: whose; `$3`: family;
/// `$4`: client.
pub(crate) const SHOWN: &str = "SELECT uuid, marks, encounter, shown_at FROM card \
     WHERE tenant = $1 AND key_hash = $2 AND family = $3 AND client = $4 \
     ORDER BY shown_at DESC, urgency DESC LIMIT 1";

pub(crate) fn shown(row: &impl Row) -> Result<Shown> {
    Ok(Shown {
        uuid: get(row, 0)?,
        marks: marks(get(row, 1)?)?,
        encounter: find(row, 2)?,
        at: get(row, 3)?,
    })
}

/// The last answer to a card of a family. `$1`: tenant; `$2`: whose; `$3`: family.
pub(crate) const ANSWERED: &str = "SELECT feedback.outcome, feedback.reason, \
     feedback.outcome_at, card.marks FROM card JOIN feedback \
     ON feedback.tenant = card.tenant AND feedback.card_uuid = card.uuid \
     WHERE card.tenant = $1 AND card.key_hash = $2 AND card.family = $3 \
     ORDER BY feedback.outcome_at DESC LIMIT 1";

pub(crate) fn answered(row: &impl Row) -> Result<Answered> {
    Ok(Answered {
        what: acknowledges(get(row, 0)?, find(row, 1)?),
        at: get(row, 2)?,
        marks: marks(get(row, 3)?)?,
    })
}

fn marks(text: &str) -> Result<Marks> {
    codec::from_json(text, "card.marks")
}

/// Rules of every card, and the last answer to it.
pub(crate) const RULES_AND_ANSWERS: &str = "SELECT card.rules, \
     (SELECT outcome || '/' || coalesce(reason, '') FROM feedback \
     WHERE feedback.tenant = card.tenant AND feedback.card_uuid = card.uuid \
     ORDER BY outcome_at DESC LIMIT 1) FROM card";

pub(crate) fn rules_and_answer(row: &impl Row) -> Result<(String, Option<String>)> {
    Ok((get(row, 0)?, find(row, 1)?))
}
