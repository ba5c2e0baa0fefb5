//! Rows to values and back. A patient's rows go over in arrays: one statement, however many.

use std::borrow::Cow;

use super::connection::{Connection, Millis, Tried};
use crate::store::{
    codec,
    error::{Result, StoreError},
    keys::Hash,
    lease::PatientId,
    plan::{Known, PatientRow, StoredFact, StoredValue},
    row::{self, find},
    submission::HeldFinding,
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

/// Tenant and row of a patient.
pub(super) async fn patient(
    connection: &Connection,
    id: PatientId,
) -> Tried<Option<(String, PatientRow)>> {
    connection.one(row::PATIENT, &[&id.0], row::patient).await
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
        let columns = row::MeasurementColumns::of(value.measurement.as_ref())?;
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
        self.analyte.push(columns.analyte);
        self.value.push(shown(columns.value));
        self.unit.push(shown(columns.unit));
        self.value_si.push(columns.value_si);
        self.effective_at.push(columns.effective_at.map(Millis));
        self.effective_offset.push(columns.effective_offset);
        self.effective_precision.push(columns.effective_precision);
        self.usable.push(columns.usable);
        self.why_not.push(columns.why_not);
        self.why_text.push(shown(columns.why_text));
        self.state.push(columns.state);
        self.specimen.push(shown(columns.specimen));
        self.report.push(shown(columns.report));
        self.preference.push(columns.preference);
        self.detail.push(columns.detail);
        self.identifier_system
            .push(shown(columns.identifier_system));
        self.identifier_value.push(shown(columns.identifier_value));
        self.loinc.push(shown(columns.loinc));
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
    let Some((tenant, row)) = patient(connection, id).await? else {
        return Ok(None);
    };
    Ok(Some((
        tenant,
        Known {
            row: Some(row),
            values: connection.list(row::VALUES, &[&id.0], row::value).await?,
            facts: connection.list(row::FACTS, &[&id.0], row::fact).await?,
            findings: connection
                .list(row::FINDINGS, &[&id.0], row::finding)
                .await?,
        },
    )))
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
    connection
        .list(SELECT, &[&tenant, &keys], |row| {
            Ok(find(row, 0)?.map(PatientId))
        })
        .await
}
