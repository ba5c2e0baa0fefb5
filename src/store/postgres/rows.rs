//! Rows to values and back. A patient's rows go over in arrays: one statement, however many.

use std::{borrow::Cow, sync::Arc};

use tokio_postgres::Row;

use super::connection::{Connection, Millis, Tried, bytes, column};
use crate::{
    clinical::{
        assessment::{Family, Finding},
        time::SampleTime,
        timeline::{Measurement, Person, Reason, Received, Sex, Source, Status},
    },
    store::{
        codec,
        error::{Result, StoreError},
        keys::{Hash, ResultId},
        lease::PatientId,
        plan::{Known, PatientRow, StoredFact, StoredValue},
        submission::HeldFinding,
    },
};

/// PostgreSQL has no NUL in a text; what was sent with one keeps a mark in its place.
pub(super) fn text(sent: &str) -> Cow<'_, str> {
    if sent.contains('\0') {
        Cow::Owned(sent.replace('\0', "\u{fffd}"))
    } else {
        Cow::Borrowed(sent)
    }
}

fn shown(sent: Option<&str>) -> Option<Cow<'_, str>> {
    sent.map(text)
}

fn instant(at: Option<Millis>) -> Result<Option<time::OffsetDateTime>> {
    at.map(|at| codec::instant(at.0)).transpose()
}

/// Tenant and row of a patient.
pub(super) async fn patient(
    connection: &Connection,
    id: PatientId,
) -> Tried<Option<(String, PatientRow)>> {
    const PATIENT: &str = "SELECT tenant, key_hash, seq, identifiers, birth_date, sex, deceased, \
         deceased_at, traits, last_as_of FROM patient WHERE id = $1";
    let row = connection.first(PATIENT, &[&id.0]).await?;
    Ok(row.as_ref().map(patient_row).transpose()?)
}

fn patient_row(row: &Row) -> Result<(String, PatientRow)> {
    let names = codec::names(column(row, 3)?)?;
    let mut person = Person {
        birth: column::<Option<&str>>(row, 4)?
            .map(codec::birth)
            .transpose()?,
        sex: match column::<Option<&str>>(row, 5)? {
            Some(word) => codec::sex(word)?,
            None => Sex::Unknown,
        },
        deceased: column(row, 6)?,
        deceased_at: instant(column(row, 7)?)?,
        ..Person::default()
    };
    let pregnancies = match column::<Option<&str>>(row, 8)? {
        Some(text) => codec::set_traits(&mut person, text)?,
        None => Vec::new(),
    };
    Ok((
        column(row, 0)?,
        PatientRow {
            key: bytes(row, 1)?,
            seq: column(row, 2)?,
            identifiers: names.identifiers,
            references: names.references,
            person,
            pregnancies,
            last_as_of: instant(column(row, 9)?)?,
        },
    ))
}

/// Write the row of a patient that is locked.
pub(super) async fn put_patient(
    connection: &Connection,
    id: PatientId,
    row: &PatientRow,
    now: i64,
) -> Tried<()> {
    const UPDATE: &str = "UPDATE patient SET seq = $2, identifiers = $3, birth_date = $4, \
         sex = $5, deceased = $6, deceased_at = $7, traits = $8, last_as_of = $9, \
         updated_at = $10 WHERE id = $1";
    let person = &row.person;
    let touched = connection
        .run(
            UPDATE,
            &[
                &id.0,
                &row.seq,
                &codec::names_text(&row.identifiers, &row.references)?,
                &person.birth.map(codec::birth_text),
                &codec::sex_word(person.sex),
                &person.deceased,
                &person.deceased_at.map(codec::millis).map(Millis),
                &codec::traits_text(person, &row.pregnancies)?,
                &row.last_as_of.map(codec::millis).map(Millis),
                &Millis(now),
            ],
        )
        .await?;
    if touched == 1 {
        Ok(())
    } else {
        Err(StoreError::Unreadable("a locked patient is gone").into())
    }
}

const OBSERVATION: &str = "SELECT l3_key, version, content, status, issued_at, source_version, \
     patient_seq, ordinal, filed_at, code, analyte, value, unit, value_si, effective_at, \
     effective_offset, effective_precision, usable, why_not, why_text, state, specimen, report, \
     preference, detail, identifier_system, identifier_value, loinc FROM observation \
     WHERE patient_id = $1";

fn stored_value(row: &Row) -> Result<StoredValue> {
    Ok(StoredValue {
        id: ResultId(bytes(row, 0)?),
        version: column(row, 1)?,
        content: bytes(row, 2)?,
        status: column(row, 3)?,
        issued: column::<Option<Millis>>(row, 4)?.map(|at| at.0),
        source_version: column(row, 5)?,
        seq: column(row, 6)?,
        ordinal: column(row, 7)?,
        filed_at: Some(column::<Millis>(row, 8)?.0),
        code: column(row, 9)?,
        measurement: measurement(row)?,
    })
}

fn measurement(row: &Row) -> Result<Option<Measurement>> {
    let Some(analyte) = column::<Option<&str>>(row, 10)? else {
        return Ok(None);
    };
    let text = |index| column::<Option<&str>>(row, index);
    let owned = |index| column::<Option<String>>(row, index);
    let shared = |index| -> Result<Option<Arc<str>>> { Ok(text(index)?.map(Arc::from)) };
    let at = match (column::<Option<Millis>>(row, 14)?, text(16)?) {
        (Some(at), Some(precision)) => Some(SampleTime {
            instant: codec::instant_at(at.0, column::<Option<i64>>(row, 15)?.unwrap_or(0))?,
            precision: codec::precision(precision)?,
        }),
        _ => None,
    };
    let unusable = match text(18)? {
        None => None,
        Some(word) => Some(Reason {
            word: codec::outcome_word(word)?,
            text: owned(19)?.unwrap_or_default(),
        }),
    };
    let identifier = match (shared(25)?, shared(26)?) {
        (Some(system), Some(value)) => Some((system, value)),
        _ => None,
    };
    let mut measurement = Measurement {
        analyte: codec::analyte(analyte)?,
        value: text(13)?.map(codec::interval).transpose()?,
        received: Received {
            value: owned(11)?.unwrap_or_default(),
            unit: owned(12)?.unwrap_or_default(),
        },
        at,
        specimen: shared(21)?,
        report: shared(22)?,
        status: match text(20)? {
            Some(word) => codec::status(word)?,
            None => Status::Final,
        },
        method: codec::method("")?,
        preference: column::<Option<i64>>(row, 23)?
            .map(u8::try_from)
            .transpose()
            .map_err(|_| StoreError::Unreadable("observation.preference"))?
            .unwrap_or(0),
        draw: codec::draw("")?,
        problems: Vec::new(),
        cells_counted: None,
        interpretation: None,
        upper_limit: None,
        unusable,
        filed_at: None,
        source: Source {
            handle: 0,
            identifier,
            loinc: shared(27)?,
        },
    };
    if let Some(detail) = text(24)? {
        codec::set_measurement_detail(&mut measurement, detail)?;
    }
    Ok(Some(measurement))
}

/// Rows of the timeline, column by column.
#[derive(Default)]
struct Columns<'a> {
    l3_key: Vec<&'a [u8]>,
    version: Vec<i64>,
    content: Vec<&'a [u8]>,
    status: Vec<Cow<'a, str>>,
    issued_at: Vec<Option<Millis>>,
    source_version: Vec<Option<Cow<'a, str>>>,
    patient_seq: Vec<i64>,
    ordinal: Vec<i64>,
    filed_at: Vec<Millis>,
    code: Vec<Option<Cow<'a, str>>>,
    analyte: Vec<Option<&'a str>>,
    value: Vec<Option<Cow<'a, str>>>,
    unit: Vec<Option<Cow<'a, str>>>,
    value_si: Vec<Option<String>>,
    effective_at: Vec<Option<Millis>>,
    effective_offset: Vec<Option<i64>>,
    effective_precision: Vec<Option<&'a str>>,
    usable: Vec<bool>,
    why_not: Vec<Option<&'a str>>,
    why_text: Vec<Option<Cow<'a, str>>>,
    state: Vec<Option<&'a str>>,
    specimen: Vec<Option<Cow<'a, str>>>,
    report: Vec<Option<Cow<'a, str>>>,
    preference: Vec<Option<i64>>,
    detail: Vec<Option<String>>,
    identifier_system: Vec<Option<Cow<'a, str>>>,
    identifier_value: Vec<Option<Cow<'a, str>>>,
    loinc: Vec<Option<Cow<'a, str>>>,
}

impl<'a> Columns<'a> {
    fn push(&mut self, value: &'a StoredValue, now: i64) -> Result<()> {
        let measurement = value.measurement.as_ref();
        let reason = measurement.and_then(|one| one.unusable.as_ref());
        let identifier = measurement.and_then(|one| one.source.identifier.as_ref());
        let at = measurement.and_then(|one| one.at);
        self.l3_key.push(&value.id.0);
        self.version.push(value.version);
        self.content.push(&value.content);
        self.status.push(text(&value.status));
        self.issued_at.push(value.issued.map(Millis));
        self.source_version
            .push(shown(value.source_version.as_deref()));
        self.patient_seq.push(value.seq);
        self.ordinal.push(value.ordinal);
        self.filed_at.push(Millis(value.filed_at.unwrap_or(now)));
        self.code.push(shown(value.code.as_deref()));
        self.analyte.push(measurement.map(|one| one.analyte.key()));
        self.value
            .push(measurement.map(|one| text(&one.received.value)));
        self.unit
            .push(measurement.map(|one| text(&one.received.unit)));
        self.value_si.push(
            measurement
                .and_then(|one| one.value.as_ref())
                .map(codec::interval_text),
        );
        self.effective_at
            .push(at.map(|at| Millis(codec::millis(at.instant))));
        self.effective_offset
            .push(at.map(|at| codec::offset_minutes(at.instant)));
        self.effective_precision
            .push(at.map(|at| codec::precision_word(at.precision)));
        self.usable
            .push(measurement.is_some_and(|one| one.unusable.is_none()));
        self.why_not.push(reason.map(|one| one.word));
        self.why_text.push(reason.map(|one| text(&one.text)));
        // The ordinary status is left out: most rows have it.
        self.state.push(
            measurement
                .map(|one| one.status)
                .filter(|status| *status != Status::Final)
                .map(codec::status_word),
        );
        self.specimen
            .push(shown(measurement.and_then(|one| one.specimen.as_deref())));
        self.report
            .push(shown(measurement.and_then(|one| one.report.as_deref())));
        self.preference.push(
            measurement
                .map(|one| i64::from(one.preference))
                .filter(|one| *one != 0),
        );
        self.detail.push(
            measurement
                .map(codec::measurement_detail)
                .transpose()?
                .flatten(),
        );
        self.identifier_system
            .push(identifier.map(|(system, _)| text(system)));
        self.identifier_value
            .push(identifier.map(|(_, value)| text(value)));
        self.loinc.push(shown(
            measurement.and_then(|one| one.source.loinc.as_deref()),
        ));
        Ok(())
    }
}

/// Write rows of the timeline, over what stands. No row may come twice.
pub(super) async fn put_values(
    connection: &Connection,
    patient: PatientId,
    values: &[&StoredValue],
    now: i64,
) -> Tried<()> {
    const PUT: &str = "INSERT INTO observation (patient_id, l3_key, version, content, status, \
         issued_at, source_version, patient_seq, ordinal, filed_at, code, analyte, value, unit, \
         value_si, effective_at, effective_offset, effective_precision, usable, why_not, why_text, \
         state, specimen, report, preference, detail, identifier_system, identifier_value, loinc) \
         SELECT $1, * FROM unnest($2::bytea[], $3::bigint[], $4::bytea[], $5::text[], \
         $6::timestamptz[], $7::text[], $8::bigint[], $9::bigint[], $10::timestamptz[], \
         $11::text[], $12::text[], $13::text[], $14::text[], $15::text[], $16::timestamptz[], \
         $17::bigint[], $18::text[], $19::boolean[], $20::text[], $21::text[], $22::text[], \
         $23::text[], $24::text[], $25::bigint[], $26::text[], $27::text[], $28::text[], \
         $29::text[]) \
         ON CONFLICT (patient_id, l3_key) DO UPDATE SET version = excluded.version, \
         content = excluded.content, status = excluded.status, issued_at = excluded.issued_at, \
         source_version = excluded.source_version, patient_seq = excluded.patient_seq, \
         ordinal = excluded.ordinal, filed_at = excluded.filed_at, code = excluded.code, \
         analyte = excluded.analyte, value = excluded.value, unit = excluded.unit, \
         value_si = excluded.value_si, effective_at = excluded.effective_at, \
         effective_offset = excluded.effective_offset, \
         effective_precision = excluded.effective_precision, usable = excluded.usable, \
         why_not = excluded.why_not, why_text = excluded.why_text, state = excluded.state, \
         specimen = excluded.specimen, report = excluded.report, \
         preference = excluded.preference, detail = excluded.detail, \
         identifier_system = excluded.identifier_system, \
         identifier_value = excluded.identifier_value, loinc = excluded.loinc";
    if values.is_empty() {
        return Ok(());
    }
    let mut rows = Columns::default();
    for value in values {
        rows.push(value, now)?;
    }
    connection
        .run(
            PUT,
            &[
                &patient.0,
                &rows.l3_key,
                &rows.version,
                &rows.content,
                &rows.status,
                &rows.issued_at,
                &rows.source_version,
                &rows.patient_seq,
                &rows.ordinal,
                &rows.filed_at,
                &rows.code,
                &rows.analyte,
                &rows.value,
                &rows.unit,
                &rows.value_si,
                &rows.effective_at,
                &rows.effective_offset,
                &rows.effective_precision,
                &rows.usable,
                &rows.why_not,
                &rows.why_text,
                &rows.state,
                &rows.specimen,
                &rows.report,
                &rows.preference,
                &rows.detail,
                &rows.identifier_system,
                &rows.identifier_value,
                &rows.loinc,
            ],
        )
        .await?;
    Ok(())
}

/// Write a fact, over what stands.
pub(super) async fn put_fact(
    connection: &Connection,
    patient: PatientId,
    fact: &StoredFact,
    now: i64,
) -> Tried<()> {
    const PUT: &str = "INSERT INTO fact (patient_id, key, version, content, fhir_type, status, \
         issued_at, source_version, tokens, filed_at, patient_seq, ordinal) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
         ON CONFLICT (patient_id, key) DO UPDATE SET version = excluded.version, \
         content = excluded.content, fhir_type = excluded.fhir_type, status = excluded.status, \
         issued_at = excluded.issued_at, source_version = excluded.source_version, \
         tokens = excluded.tokens, filed_at = excluded.filed_at, \
         patient_seq = excluded.patient_seq, ordinal = excluded.ordinal";
    connection
        .run(
            PUT,
            &[
                &patient.0,
                &fact.id.0.as_slice(),
                &fact.version,
                &fact.content.as_slice(),
                &fact.kind,
                &text(&fact.status),
                &fact.issued.map(Millis),
                &shown(fact.source_version.as_deref()),
                &codec::tokens_text(&fact.facts)?,
                &Millis(fact.filed_at.unwrap_or(now)),
                &fact.seq,
                &fact.ordinal,
            ],
        )
        .await?;
    Ok(())
}

/// Everything held of a patient, with its tenant.
pub(super) async fn known(
    connection: &Connection,
    id: PatientId,
) -> Tried<Option<(String, Known)>> {
    const FACTS: &str = "SELECT key, version, content, fhir_type, status, issued_at, \
         source_version, tokens, filed_at, patient_seq, ordinal FROM fact WHERE patient_id = $1";
    let Some((tenant, row)) = patient(connection, id).await? else {
        return Ok(None);
    };
    let values = connection.all(OBSERVATION, &[&id.0]).await?;
    let facts = connection.all(FACTS, &[&id.0]).await?;
    Ok(Some((
        tenant,
        Known {
            row: Some(row),
            values: values.iter().map(stored_value).collect::<Result<_>>()?,
            facts: facts.iter().map(stored_fact).collect::<Result<_>>()?,
            findings: findings(connection, id).await?,
        },
    )))
}

fn stored_fact(row: &Row) -> Result<StoredFact> {
    Ok(StoredFact {
        id: ResultId(bytes(row, 0)?),
        version: column(row, 1)?,
        content: bytes(row, 2)?,
        kind: column(row, 3)?,
        status: column(row, 4)?,
        issued: column::<Option<Millis>>(row, 5)?.map(|at| at.0),
        source_version: column(row, 6)?,
        facts: codec::tokens(column(row, 7)?)?,
        filed_at: Some(column::<Millis>(row, 8)?.0),
        seq: column(row, 9)?,
        ordinal: column(row, 10)?,
    })
}

async fn findings(connection: &Connection, id: PatientId) -> Tried<Vec<HeldFinding>> {
    const SELECT: &str = "SELECT family, state, slug, grade, lineage_grades, urgency, \
         episode_start, episode_start_detail, episode_end, episode_end_detail, notified_at, \
         acknowledged_until, acknowledged_why, revision, flag_id, human_hash \
         FROM finding WHERE patient_id = $1 ORDER BY id";
    let rows = connection.all(SELECT, &[&id.0]).await?;
    Ok(rows.iter().map(held_finding).collect::<Result<_>>()?)
}

fn held_finding(row: &Row) -> Result<HeldFinding> {
    let text = |index| column::<Option<&str>>(row, index);
    let time = |index| column::<Option<Millis>>(row, index);
    let episode_end = match (time(8)?, text(9)?) {
        (Some(at), Some(detail)) => Some(codec::sample_time(at.0, detail)?),
        _ => None,
    };
    let acknowledged = match (text(12)?, time(11)?) {
        (Some(why), Some(until)) => Some((codec::acknowledged(why)?, codec::instant(until.0)?)),
        _ => None,
    };
    Ok(HeldFinding {
        finding: Finding {
            family: Family::from_str_exact(column(row, 0)?)
                .ok_or(StoreError::Unreadable("finding.family"))?,
            state: codec::flag_state(column(row, 1)?)?,
            slug: column(row, 2)?,
            urgency: codec::urgency(column(row, 5)?)?,
            grade: text(3)?.map(codec::grade).transpose()?,
            lineage_grades: codec::lineage_grades(column(row, 4)?)?,
            episode_start: codec::sample_time(column::<Millis>(row, 6)?.0, column(row, 7)?)?,
            episode_end,
            notified_at: instant(time(10)?)?,
            acknowledged,
            human: text(15)?.map(Arc::from),
        },
        revision: column(row, 13)?,
        flag_id: column(row, 14)?,
    })
}

/// Write a finding, over what stands.
pub(super) async fn put_finding(
    connection: &Connection,
    patient: PatientId,
    held: &HeldFinding,
    now: i64,
) -> Tried<()> {
    const PUT: &str = "INSERT INTO finding (patient_id, family, state, slug, grade, \
         lineage_grades, urgency, episode_start, episode_start_detail, episode_end, \
         episode_end_detail, notified_at, acknowledged_until, acknowledged_why, revision, \
         flag_id, human_hash, updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, \
         $12, $13, $14, $15, $16, $17, $18) \
         ON CONFLICT (patient_id, family) DO UPDATE SET state = excluded.state, \
         slug = excluded.slug, grade = excluded.grade, lineage_grades = excluded.lineage_grades, \
         urgency = excluded.urgency, episode_start = excluded.episode_start, \
         episode_start_detail = excluded.episode_start_detail, episode_end = excluded.episode_end, \
         episode_end_detail = excluded.episode_end_detail, notified_at = excluded.notified_at, \
         acknowledged_until = excluded.acknowledged_until, \
         acknowledged_why = excluded.acknowledged_why, revision = excluded.revision, \
         flag_id = excluded.flag_id, human_hash = excluded.human_hash, \
         updated_at = excluded.updated_at";
    let finding = &held.finding;
    connection
        .run(
            PUT,
            &[
                &patient.0,
                &finding.family.as_str(),
                &codec::flag_state_word(finding.state),
                &finding.slug,
                &finding.grade.map(codec::grade_word),
                &codec::lineage_grades_text(finding.lineage_grades),
                &codec::urgency_number(finding.urgency),
                &Millis(codec::millis(finding.episode_start.instant)),
                &codec::sample_detail(finding.episode_start),
                &finding
                    .episode_end
                    .map(|at| Millis(codec::millis(at.instant))),
                &finding.episode_end.map(codec::sample_detail),
                &finding.notified_at.map(codec::millis).map(Millis),
                &finding
                    .acknowledged
                    .map(|(_, until)| Millis(codec::millis(until))),
                &finding
                    .acknowledged
                    .map(|(why, _)| codec::acknowledged_word(why)),
                &held.revision,
                &held.flag_id,
                &finding.human.as_deref(),
                &Millis(now),
            ],
        )
        .await?;
    Ok(())
}

/// The patients that keys lead to, each at the place of its key.
pub(super) async fn patients_of_keys(
    connection: &Connection,
    tenant: &str,
    keys: &[&Hash],
) -> Tried<Vec<Option<PatientId>>> {
    const SELECT: &str = "SELECT patient_key.patient_id \
         FROM unnest($2::bytea[]) WITH ORDINALITY AS asked (key_hash, place) \
         LEFT JOIN patient_key ON patient_key.tenant = $1 \
         AND patient_key.key_hash = asked.key_hash ORDER BY asked.place";
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<&[u8]> = keys.iter().map(|key| key.as_slice()).collect();
    let rows = connection.all(SELECT, &[&tenant, &keys]).await?;
    Ok(rows
        .iter()
        .map(|row| Ok(column::<Option<i64>>(row, 0)?.map(PatientId)))
        .collect::<Result<_>>()?)
}
