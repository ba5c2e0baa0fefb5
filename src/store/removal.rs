//! What is removed, and in which order: a patient on request, and what is older than it is kept.
//!
//! The statements are the same on every engine. Parameters are numbered in the order in which they
//! first stand in a statement: SQLite numbers `$1` and `$2` by that.

use time::{Duration, OffsetDateTime};

use super::{
    codec,
    error::{Result, StoreError},
    lease::PatientId,
    row::{Row, get},
};
use crate::clinical::timeline::Fact;

/// How long what is kept.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// Counts and facts.
    pub timeline: Duration,
    /// From when that is counted back.
    pub counted_from: CountedFrom,
    /// Findings and what was made of them: resources, closed deliveries, cards and their feedback.
    pub findings: Duration,
}

/// From when the time of counts and facts is counted back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountedFrom {
    /// The clock.
    Clock,
    /// The newest assessment of their patient: history that is loaded must not be gone at once.
    NewestAssessment,
}

/// Before when what is removed of one patient, as `codec::millis`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cutoffs {
    pub(crate) timeline: i64,
    pub(crate) findings: i64,
}

impl Retention {
    pub(crate) fn cutoffs(&self, now: OffsetDateTime, last_as_of: Option<i64>) -> Cutoffs {
        let now = codec::millis(now);
        let newest = match self.counted_from {
            CountedFrom::Clock => now,
            CountedFrom::NewestAssessment => last_as_of.unwrap_or(now),
        };
        Cutoffs {
            timeline: newest.saturating_sub(millis(self.timeline)),
            findings: now.saturating_sub(millis(self.findings)),
        }
    }
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.whole_milliseconds()).unwrap_or(i64::MAX)
}

/// A patient of whom something is to be removed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Due {
    pub(crate) patient: PatientId,
    pub(crate) cutoffs: Cutoffs,
}

/// What one look for old things found.
pub(crate) struct Found {
    pub(crate) due: Vec<Due>,
    /// Cards shown before this are over.
    pub(crate) cards: Option<i64>,
    /// Where to go on.
    pub(crate) next: Option<PatientId>,
}

/// Patients that one call of `forget` looks at.
pub(crate) const PATIENTS: i64 = 100;

/// Whether a fact is over: it ended, or, without an end, was last said to be true, before `cutoff`.
fn is_over(facts: &[Fact], filed_at: i64, cutoff: i64) -> bool {
    let ended = |fact: &Fact| fact.until.map_or(filed_at, codec::millis);
    facts.iter().map(ended).max().unwrap_or(filed_at) < cutoff
}

/// The next patients and their newest assessments. `$1`: after this one; `$2`: how many.
pub(crate) const NEXT_PATIENTS: &str =
    "SELECT id, last_as_of FROM patient WHERE id > $1 ORDER BY id LIMIT $2";

/// Where to go on after these patients: nowhere when they were the last.
pub(crate) fn next(looked_at: &[Due]) -> Option<PatientId> {
    let more = i64::try_from(looked_at.len()) == Ok(PATIENTS);
    looked_at.last().map(|due| due.patient).filter(|_| more)
}

impl Retention {
    /// From a row of [`NEXT_PATIENTS`].
    pub(crate) fn due(&self, row: &impl Row, now: OffsetDateTime) -> Result<Due> {
        Ok(Due {
            patient: PatientId(get(row, 0)?),
            cutoffs: self.cutoffs(now, row.millis(1)?),
        })
    }
}

/// Whether a patient has values that are over. `$1`: whose; `$2`: before when.
pub(crate) const OLD_VALUES: &str = "SELECT 1 WHERE EXISTS (SELECT 1 FROM observation \
     WHERE patient_id = $1 AND coalesce(effective_at, filed_at) < $2) \
     OR EXISTS (SELECT 1 FROM observation_version \
     WHERE patient_id = $1 AND coalesce(effective_at, filed_at) < $2)";

/// Whether a patient has findings, resources or closed deliveries that are over, or is itself.
/// `$1`: whose; `$2`: before when.
pub(crate) const OLD_FINDINGS: &str = "SELECT 1 WHERE EXISTS (SELECT 1 FROM finding \
     WHERE patient_id = $1 AND updated_at < $2) \
     OR EXISTS (SELECT 1 FROM resource WHERE patient_id = $1 AND last_updated < $2) \
     OR EXISTS (SELECT 1 FROM patient WHERE id = $1 AND updated_at < $2)";

/// Facts of a patient. `$1`: whose.
pub(crate) const FACTS: &str = "SELECT key, tokens, filed_at FROM fact WHERE patient_id = $1";

/// The key of a fact that is over, from a row of [`FACTS`].
pub(crate) fn old_fact(row: &impl Row, cutoff: i64) -> Result<Option<Vec<u8>>> {
    let facts = codec::tokens(get(row, 1)?)?;
    let filed_at = row
        .millis(2)?
        .ok_or(StoreError::Unreadable("fact.filed_at"))?;
    let key = get(row, 0)?;
    Ok(is_over(&facts, filed_at, cutoff).then_some(key))
}

/// A fact goes. `$1`: whose; `$2`: which.
pub(crate) const FACT: &str = "DELETE FROM fact WHERE patient_id = $1 AND key = $2";

/// Values that are over go. `$1`: whose; `$2`: before when.
pub(crate) const VALUES: [&str; 2] = [
    "DELETE FROM observation WHERE patient_id = $1 AND coalesce(effective_at, filed_at) < $2",
    "DELETE FROM observation_version \
     WHERE patient_id = $1 AND coalesce(effective_at, filed_at) < $2",
];

/// What nothing points to any more goes: ids given by PUT, bodies, submissions; and whoever has
/// read the timeline has to read it again. `$1`: whose.
pub(crate) const LEFTOVERS: [&str; 4] = [
    "DELETE FROM observation_alias WHERE patient_id = $1 \
     AND NOT EXISTS (SELECT 1 FROM observation WHERE observation.patient_id = $1 \
     AND observation.l3_key = observation_alias.l3_key) \
     AND NOT EXISTS (SELECT 1 FROM fact WHERE fact.patient_id = $1 \
     AND fact.key = observation_alias.l3_key)",
    "DELETE FROM inbox WHERE receipt IS NULL \
     AND id IN (SELECT inbox_id FROM inbox_patient WHERE patient_id = $1 AND patient_seq NOT IN \
     (SELECT patient_seq FROM observation WHERE patient_id = $1 \
     UNION SELECT patient_seq FROM observation_version WHERE patient_id = $1 \
     UNION SELECT patient_seq FROM fact WHERE patient_id = $1)) \
     AND NOT EXISTS (SELECT 1 FROM inbox_patient \
     WHERE inbox_patient.inbox_id = inbox.id AND inbox_patient.patient_id <> $1)",
    "DELETE FROM inbox_patient WHERE patient_id = $1 AND patient_seq NOT IN \
     (SELECT patient_seq FROM observation WHERE patient_id = $1 \
     UNION SELECT patient_seq FROM observation_version WHERE patient_id = $1 \
     UNION SELECT patient_seq FROM fact WHERE patient_id = $1)",
    "UPDATE patient SET seq = seq + 1 WHERE id = $1",
];

/// Findings that are over go, with what was made of them. What stands as a Flag, and what is
/// still to be delivered, stays. `$1`: whose; `$2`: before when.
pub(crate) const FINDINGS: [&str; 5] = [
    "DELETE FROM finding WHERE patient_id = $1 AND updated_at < $2 AND state <> 'active'",
    "DELETE FROM delivery_attempt WHERE delivery_id IN (SELECT delivery.id FROM target \
     JOIN delivery ON delivery.target_id = target.id WHERE delivery.patient_id = $1 \
     AND delivery.state IN ('delivered', 'superseded', 'discarded') AND delivery.settled_at < $2)",
    "DELETE FROM delivery_item WHERE delivery_id IN (SELECT delivery.id FROM target \
     JOIN delivery ON delivery.target_id = target.id WHERE delivery.patient_id = $1 \
     AND delivery.state IN ('delivered', 'superseded', 'discarded') AND delivery.settled_at < $2)",
    "DELETE FROM delivery WHERE id IN (SELECT delivery.id FROM target \
     JOIN delivery ON delivery.target_id = target.id WHERE delivery.patient_id = $1 \
     AND delivery.state IN ('delivered', 'superseded', 'discarded') AND delivery.settled_at < $2)",
    "DELETE FROM resource WHERE patient_id = $1 AND last_updated < $2 \
     AND NOT EXISTS (SELECT 1 FROM finding \
     WHERE finding.patient_id = $1 AND finding.flag_id = resource.fhir_id) \
     AND NOT EXISTS (SELECT 1 FROM delivery_item WHERE delivery_item.fhir_type = resource.fhir_type \
     AND delivery_item.fhir_id = resource.fhir_id AND delivery_item.revision = resource.version)",
];

/// Whether nothing but its name is left of a patient that nobody has spoken of. `$1`: who; `$2`:
/// since when.
pub(crate) const EMPTY: &str = "SELECT 1 FROM patient WHERE id = $1 AND updated_at < $2 \
     AND NOT EXISTS (SELECT 1 FROM observation WHERE patient_id = $1) \
     AND NOT EXISTS (SELECT 1 FROM fact WHERE patient_id = $1) \
     AND NOT EXISTS (SELECT 1 FROM finding WHERE patient_id = $1) \
     AND NOT EXISTS (SELECT 1 FROM resource WHERE patient_id = $1) \
     AND NOT EXISTS (SELECT 1 FROM target JOIN delivery ON delivery.target_id = target.id \
     WHERE delivery.patient_id = $1)";

/// Cards that are over go. `$1`: shown before.
pub(crate) const CARDS: [&str; 2] = [
    "DELETE FROM feedback WHERE (tenant, card_uuid) IN \
     (SELECT tenant, uuid FROM card WHERE shown_at < $1)",
    "DELETE FROM card WHERE shown_at < $1",
];

/// Whether there are such cards. `$1`: shown before.
pub(crate) const OLD_CARDS: &str = "SELECT 1 WHERE EXISTS (SELECT 1 FROM card WHERE shown_at < $1)";

/// Everything about one patient goes, the row last: it is the lock. `$1`: who.
pub(crate) const PATIENT: [&str; 17] = [
    "DELETE FROM feedback WHERE (tenant, card_uuid) IN (SELECT card.tenant, card.uuid \
     FROM patient_key JOIN card ON card.tenant = patient_key.tenant \
     AND card.key_hash = patient_key.key_hash WHERE patient_key.patient_id = $1)",
    "DELETE FROM card WHERE (tenant, key_hash) IN \
     (SELECT tenant, key_hash FROM patient_key WHERE patient_id = $1)",
    "DELETE FROM delivery_attempt WHERE delivery_id IN (SELECT delivery.id FROM target \
     JOIN delivery ON delivery.target_id = target.id WHERE delivery.patient_id = $1)",
    "DELETE FROM delivery_item WHERE delivery_id IN (SELECT delivery.id FROM target \
     JOIN delivery ON delivery.target_id = target.id WHERE delivery.patient_id = $1)",
    "DELETE FROM delivery WHERE id IN (SELECT delivery.id FROM target \
     JOIN delivery ON delivery.target_id = target.id WHERE delivery.patient_id = $1)",
    // Whoever has it leased is fenced by its absence.
    "DELETE FROM lane WHERE patient_id = $1 AND target_id IN (SELECT id FROM target)",
    "DELETE FROM remote_resource WHERE (target_id, fhir_type, fhir_id) IN \
     (SELECT target.id, resource.fhir_type, resource.fhir_id FROM resource CROSS JOIN target \
     WHERE resource.patient_id = $1)",
    "DELETE FROM resource WHERE patient_id = $1",
    "DELETE FROM finding WHERE patient_id = $1",
    "DELETE FROM observation_alias WHERE patient_id = $1",
    "DELETE FROM observation_version WHERE patient_id = $1",
    "DELETE FROM observation WHERE patient_id = $1",
    "DELETE FROM fact WHERE patient_id = $1",
    "DELETE FROM inbox WHERE id IN (SELECT inbox_id FROM inbox_patient WHERE patient_id = $1) \
     AND NOT EXISTS (SELECT 1 FROM inbox_patient \
     WHERE inbox_patient.inbox_id = inbox.id AND inbox_patient.patient_id <> $1)",
    // Of a submission about several patients the others' part stays; its receipt names them all.
    "UPDATE inbox SET receipt = NULL, idem_key = NULL, content_hash = NULL, envelope_key = NULL, \
     envelope_detail = NULL, unchanged = NULL \
     WHERE id IN (SELECT inbox_id FROM inbox_patient WHERE patient_id = $1)",
    "DELETE FROM inbox_patient WHERE patient_id = $1",
    "DELETE FROM patient_key WHERE patient_id = $1",
];

/// The row itself. `$1`: who.
pub(crate) const PATIENT_ROW: &str = "DELETE FROM patient WHERE id = $1";

/// Cards about whom nothing else was ever filed. `$1`: tenant; `$2`: key.
pub(crate) const CARDS_OF_KEY: [&str; 2] = [
    "DELETE FROM feedback WHERE tenant = $1 AND card_uuid IN \
     (SELECT uuid FROM card WHERE card.tenant = $1 AND card.key_hash = $2)",
    "DELETE FROM card WHERE tenant = $1 AND key_hash = $2",
];

/// Receipts that only said that something of the patient is unchanged keep it in this list.
pub(crate) fn mark_of(patient: PatientId) -> [u8; 8] {
    patient.0.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use time::macros::datetime;

    use super::*;
    use crate::clinical::{timeline::Source, truth::Truth};

    /// SQLite would otherwise bind them the other way round.
    #[test]
    fn the_first_parameter_stands_first() {
        let statements = [
            &[
                NEXT_PATIENTS,
                OLD_VALUES,
                OLD_FINDINGS,
                FACTS,
                FACT,
                EMPTY,
                OLD_CARDS,
                PATIENT_ROW,
            ][..],
            &VALUES,
            &LEFTOVERS,
            &FINDINGS,
            &CARDS,
            &PATIENT,
            &CARDS_OF_KEY,
        ];
        for sql in statements.concat() {
            let first = sql.find("$1").expect(sql);
            assert!(sql.find("$2").is_none_or(|second| first < second), "{sql}");
        }
    }

    #[test]
    fn a_fact_is_over_when_it_ended_or_was_last_said() {
        let fact = |until| Fact {
            token: Arc::from("chemo"),
            truth: Truth::True,
            from: None,
            until,
            filed_at: None,
            source: Source::default(),
        };
        let said = codec::millis(datetime!(2026-01-01 0:00 UTC));
        let ended = Some(datetime!(2023-01-01 0:00 UTC));
        let cutoff = codec::millis(datetime!(2024-01-01 0:00 UTC));
        assert!(is_over(&[fact(ended)], said, cutoff));
        assert!(!is_over(&[fact(None)], said, cutoff));
        assert!(!is_over(&[fact(ended), fact(None)], said, cutoff));
        assert!(is_over(&[fact(None)], cutoff - 1, cutoff));
    }

    #[test]
    fn counts_are_counted_back_from_the_clock_or_the_newest_assessment() {
        let now = datetime!(2026-11-20 12:00 UTC);
        let assessed = codec::millis(datetime!(2019-03-01 0:00 UTC));
        let retention = |counted_from| Retention {
            timeline: Duration::days(1200),
            counted_from,
            findings: Duration::days(3650),
        };
        let days = |days: i64| days * 86_400_000;
        let by_clock = retention(CountedFrom::Clock).cutoffs(now, Some(assessed));
        assert_eq!(by_clock.timeline, codec::millis(now) - days(1200));
        let loaded = retention(CountedFrom::NewestAssessment).cutoffs(now, Some(assessed));
        assert_eq!(loaded.timeline, assessed - days(1200));
        assert_eq!(loaded.findings, codec::millis(now) - days(3650));
    }
}
