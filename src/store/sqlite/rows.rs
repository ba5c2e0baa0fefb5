//! Rows to values and back, and what an error of the engine means.

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params, types::ValueRef};

use crate::store::{
    codec,
    error::{Fatal, Result, StoreError},
    keys::Hash,
    lease::PatientId,
    plan::{Known, PatientRow, StoredFact, StoredValue},
    row,
    submission::HeldFinding,
};

/// Said when the disk is full.
pub(super) const DISK_FULL: &str = "the disk is full";

/// Said when the file may not be written.
pub(super) const READ_ONLY: &str = "the database is read-only";

/// What an error of the engine means. Its texts name tables and columns, never values.
#[expect(
    clippy::needless_pass_by_value,
    reason = "it is what `map_err` hands over"
)]
pub(super) fn failure(error: rusqlite::Error) -> StoreError {
    let rusqlite::Error::SqliteFailure(code, _) = &error else {
        return StoreError::Unforeseen(error.to_string());
    };
    match code.code {
        ErrorCode::DiskFull => StoreError::NoStore(DISK_FULL),
        ErrorCode::ReadOnly => StoreError::NoStore(READ_ONLY),
        ErrorCode::CannotOpen => StoreError::NoStore("the database cannot be opened"),
        ErrorCode::SystemIoFailure => StoreError::Fatal(Fatal::Io),
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => StoreError::Fatal(Fatal::Corrupt),
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => {
            StoreError::Transient("another process holds the database")
        }
        ErrorCode::OperationInterrupted => StoreError::Deadline,
        _ => StoreError::Unforeseen(error.to_string()),
    }
}

impl row::Row for Row<'_> {
    fn number(&self, at: usize) -> Result<Option<i64>> {
        match self.get_ref(at).map_err(failure)? {
            ValueRef::Null => Ok(None),
            ValueRef::Integer(number) => Ok(Some(number)),
            _ => Err(OTHER_TYPE),
        }
    }

    fn truth(&self, at: usize) -> Result<Option<bool>> {
        Ok(row::Row::number(self, at)?.map(|number| number != 0))
    }

    fn text(&self, at: usize) -> Result<Option<&str>> {
        match self.get_ref(at).map_err(failure)? {
            ValueRef::Null => Ok(None),
            ValueRef::Text(text) => Ok(Some(str::from_utf8(text).map_err(|_| OTHER_TYPE)?)),
            _ => Err(OTHER_TYPE),
        }
    }

    fn bytes(&self, at: usize) -> Result<Option<&[u8]>> {
        match self.get_ref(at).map_err(failure)? {
            ValueRef::Null => Ok(None),
            ValueRef::Blob(bytes) => Ok(Some(bytes)),
            _ => Err(OTHER_TYPE),
        }
    }

    fn millis(&self, at: usize) -> Result<Option<i64>> {
        row::Row::number(self, at)
    }
}

const OTHER_TYPE: StoreError = StoreError::Unreadable("a column of another type");

/// Every row of a query, as `T`.
pub(super) fn all<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    mut read: impl FnMut(&Row<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut statement = connection.prepare_cached(sql).map_err(failure)?;
    let mut rows = statement.query(parameters).map_err(failure)?;
    let mut values = Vec::new();
    while let Some(row) = rows.next().map_err(failure)? {
        values.push(read(row)?);
    }
    Ok(values)
}

/// The first row of a query, as `T`.
pub(super) fn first<T>(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
    read: impl FnOnce(&Row<'_>) -> Result<T>,
) -> Result<Option<T>> {
    let mut statement = connection.prepare_cached(sql).map_err(failure)?;
    let mut rows = statement.query(parameters).map_err(failure)?;
    match rows.next().map_err(failure)? {
        Some(row) => read(row).map(Some),
        None => Ok(None),
    }
}

/// Execute a statement; how many rows it touched.
pub(super) fn execute(
    connection: &Connection,
    sql: &str,
    parameters: impl rusqlite::Params,
) -> Result<usize> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.execute(parameters))
        .map_err(failure)
}

/// Tenant and row of a patient.
pub(super) fn patient(
    connection: &Connection,
    id: PatientId,
) -> Result<Option<(String, PatientRow)>> {
    first(connection, row::PATIENT, params![id.0], |row| {
        row::patient(row)
    })
}

/// The row of `patient`, new or changed. `false`: it is not as it was seen.
pub(super) fn put_patient(
    connection: &Connection,
    tenant: &str,
    id: PatientId,
    row: &PatientRow,
    seen_seq: Option<i64>,
    now: i64,
) -> Result<bool> {
    const INSERT: &str = "INSERT INTO patient (id, tenant, key_hash, seq, identifiers, birth_date, \
         sex, deceased, deceased_at, traits, last_as_of, updated_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT DO NOTHING";
    const UPDATE: &str = "UPDATE patient SET seq = ?2, identifiers = ?3, birth_date = ?4, sex = ?5, \
         deceased = ?6, deceased_at = ?7, traits = ?8, last_as_of = ?9, updated_at = ?10 \
         WHERE id = ?1 AND seq = ?11";
    let names = codec::names_text(&row.identifiers, &row.references)?;
    let person = &row.person;
    let birth = person.birth.map(codec::birth_text);
    let sex = codec::sex_word(person.sex);
    let deceased_at = person.deceased_at.map(codec::millis);
    let traits = codec::traits_text(person, &row.pregnancies)?;
    let last_as_of = row.last_as_of.map(codec::millis);
    let touched = match seen_seq {
        None => execute(
            connection,
            INSERT,
            params![
                id.0,
                tenant,
                row.key,
                row.seq,
                names,
                birth,
                sex,
                person.deceased,
                deceased_at,
                traits,
                last_as_of,
                now
            ],
        )?,
        Some(seen) => execute(
            connection,
            UPDATE,
            params![
                id.0,
                row.seq,
                names,
                birth,
                sex,
                person.deceased,
                deceased_at,
                traits,
                last_as_of,
                now,
                seen
            ],
        )?,
    };
    Ok(touched == 1)
}

/// Write a row of the timeline, over what stands.
pub(super) fn put_value(
    connection: &Connection,
    patient: PatientId,
    value: &StoredValue,
    now: i64,
) -> Result<()> {
    const PUT: &str = "INSERT OR REPLACE INTO observation (patient_id, l3_key, version, content, \
         status, issued_at, source_version, patient_seq, ordinal, filed_at, code, analyte, value, \
         unit, value_si, effective_at, effective_offset, effective_precision, usable, why_not, \
         why_text, state, specimen, report, preference, detail, identifier_system, \
         identifier_value, loinc) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, \
         ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29)";
    let columns = row::MeasurementColumns::of(value.measurement.as_ref())?;
    execute(
        connection,
        PUT,
        params![
            patient.0,
            value.id.0,
            value.version,
            value.content,
            value.status,
            value.issued,
            value.source_version,
            value.seq,
            value.ordinal,
            value.filed_at.unwrap_or(now),
            value.code,
            columns.analyte,
            columns.value,
            columns.unit,
            columns.value_si,
            columns.effective_at,
            columns.effective_offset,
            columns.effective_precision,
            columns.usable,
            columns.why_not,
            columns.why_text,
            columns.state,
            columns.specimen,
            columns.report,
            columns.preference,
            columns.detail,
            columns.identifier_system,
            columns.identifier_value,
            columns.loinc,
        ],
    )?;
    Ok(())
}

/// Write a fact, over what stands.
pub(super) fn put_fact(
    connection: &Connection,
    patient: PatientId,
    fact: &StoredFact,
    now: i64,
) -> Result<()> {
    const PUT: &str = "INSERT OR REPLACE INTO fact (patient_id, key, version, content, fhir_type, \
         status, issued_at, source_version, tokens, filed_at, patient_seq, ordinal) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    execute(
        connection,
        PUT,
        params![
            patient.0,
            fact.id.0,
            fact.version,
            fact.content,
            fact.kind,
            fact.status,
            fact.issued,
            fact.source_version,
            codec::tokens_text(&fact.facts)?,
            fact.filed_at.unwrap_or(now),
            fact.seq,
            fact.ordinal,
        ],
    )?;
    Ok(())
}

/// Everything held of a patient, with its tenant.
pub(super) fn known(connection: &Connection, id: PatientId) -> Result<Option<(String, Known)>> {
    let Some((tenant, row)) = patient(connection, id)? else {
        return Ok(None);
    };
    let of = params![id.0];
    Ok(Some((
        tenant,
        Known {
            row: Some(row),
            values: all(connection, row::VALUES, of, |row| row::value(row))?,
            facts: all(connection, row::FACTS, of, |row| row::fact(row))?,
            findings: all(connection, row::FINDINGS, of, |row| row::finding(row))?,
        },
    )))
}

/// Write a finding, over what stands.
pub(super) fn put_finding(
    connection: &Connection,
    patient: PatientId,
    held: &HeldFinding,
    now: i64,
) -> Result<()> {
    const PUT: &str = "INSERT INTO finding (patient_id, family, state, slug, grade, \
         lineage_grades, urgency, episode_start, episode_start_detail, episode_end, \
         episode_end_detail, notified_at, acknowledged_until, acknowledged_why, revision, \
         flag_id, human_hash, updated_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18) \
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
    execute(
        connection,
        PUT,
        params![
            patient.0,
            finding.family.as_str(),
            codec::flag_state_word(finding.state),
            finding.slug,
            finding.grade.map(codec::grade_word),
            codec::lineage_grades_text(finding.lineage_grades),
            codec::urgency_number(finding.urgency),
            codec::millis(finding.episode_start.instant),
            codec::sample_detail(finding.episode_start),
            finding.episode_end.map(|at| codec::millis(at.instant)),
            finding.episode_end.map(codec::sample_detail),
            finding.notified_at.map(codec::millis),
            finding.acknowledged.map(|(_, until)| codec::millis(until)),
            finding
                .acknowledged
                .map(|(why, _)| codec::acknowledged_word(why)),
            held.revision,
            held.flag_id,
            finding.human.as_deref(),
            now,
        ],
    )?;
    Ok(())
}

/// The patient that a key leads to.
pub(super) fn patient_of_key(
    connection: &Connection,
    tenant: &str,
    key: &Hash,
) -> Result<Option<PatientId>> {
    connection
        .prepare_cached("SELECT patient_id FROM patient_key WHERE tenant = ?1 AND key_hash = ?2")
        .and_then(|mut statement| {
            statement
                .query_row(params![tenant, key], |row| row.get(0).map(PatientId))
                .optional()
        })
        .map_err(failure)
}
