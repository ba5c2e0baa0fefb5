//! Rows to values and back, and what an error of the engine means.

use std::sync::Arc;

use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, params};

use super::super::{
    codec,
    error::{Fatal, Result, StoreError},
    keys::{Hash, ResultId},
    lease::PatientId,
    plan::{Known, PatientRow, StoredFact, StoredValue},
    submission::HeldFinding,
};
use crate::clinical::{
    assessment::{Family, Finding},
    time::SampleTime,
    timeline::{Measurement, Person, Reason, Received, Sex, Source, Status},
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

/// A column as `T`.
pub(super) fn column<T: rusqlite::types::FromSql>(row: &Row<'_>, index: usize) -> Result<T> {
    row.get(index).map_err(failure)
}

/// A column of so many bytes.
pub(super) fn bytes<const N: usize>(row: &Row<'_>, index: usize) -> Result<[u8; N]> {
    row.get_ref(index)
        .map_err(failure)?
        .as_blob()
        .ok()
        .and_then(|blob| blob.try_into().ok())
        .ok_or(StoreError::Unreadable("a hash or key"))
}

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

const PATIENT: &str = "SELECT tenant, key_hash, seq, identifiers, birth_date, sex, deceased, \
     deceased_at, traits, last_as_of FROM patient WHERE id = ?1";

/// Tenant and row of a patient.
pub(super) fn patient(
    connection: &Connection,
    id: PatientId,
) -> Result<Option<(String, PatientRow)>> {
    first(connection, PATIENT, params![id.0], |row| {
        let names = codec::names(&column::<String>(row, 3)?)?;
        let mut person = Person {
            birth: column::<Option<String>>(row, 4)?
                .map(|text| codec::birth(&text))
                .transpose()?,
            sex: match column::<Option<String>>(row, 5)? {
                Some(word) => codec::sex(&word)?,
                None => Sex::Unknown,
            },
            deceased: column(row, 6)?,
            deceased_at: column::<Option<i64>>(row, 7)?
                .map(codec::instant)
                .transpose()?,
            ..Person::default()
        };
        let pregnancies = match column::<Option<String>>(row, 8)? {
            Some(text) => codec::set_traits(&mut person, &text)?,
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
                last_as_of: column::<Option<i64>>(row, 9)?
                    .map(codec::instant)
                    .transpose()?,
            },
        ))
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

const OBSERVATION: &str = "l3_key, version, content, status, issued_at, source_version, \
     patient_seq, ordinal, filed_at, code, analyte, value, unit, value_si, effective_at, \
     effective_offset, effective_precision, usable, why_not, why_text, state, specimen, report, \
     preference, detail, identifier_system, identifier_value, loinc";

fn stored_value(row: &Row<'_>) -> Result<StoredValue> {
    Ok(StoredValue {
        id: ResultId(bytes(row, 0)?),
        version: column(row, 1)?,
        content: bytes(row, 2)?,
        status: column(row, 3)?,
        issued: column(row, 4)?,
        source_version: column(row, 5)?,
        seq: column(row, 6)?,
        ordinal: column(row, 7)?,
        filed_at: Some(column(row, 8)?),
        code: column(row, 9)?,
        measurement: measurement(row)?,
    })
}

fn measurement(row: &Row<'_>) -> Result<Option<Measurement>> {
    let Some(analyte) = column::<Option<String>>(row, 10)? else {
        return Ok(None);
    };
    let text = |index| column::<Option<String>>(row, index);
    let shared = |index| -> Result<Option<Arc<str>>> { Ok(text(index)?.map(Arc::from)) };
    let at = match (column::<Option<i64>>(row, 14)?, text(16)?) {
        (Some(at), Some(precision)) => Some(SampleTime {
            instant: codec::instant_at(at, column::<Option<i64>>(row, 15)?.unwrap_or(0))?,
            precision: codec::precision(&precision)?,
        }),
        _ => None,
    };
    let unusable = match text(18)? {
        None => None,
        Some(word) => Some(Reason {
            word: codec::outcome_word(&word)?,
            text: text(19)?.unwrap_or_default(),
        }),
    };
    let identifier = match (shared(25)?, shared(26)?) {
        (Some(system), Some(value)) => Some((system, value)),
        _ => None,
    };
    let mut measurement = Measurement {
        analyte: codec::analyte(&analyte)?,
        value: text(13)?.map(|text| codec::interval(&text)).transpose()?,
        received: Received {
            value: text(11)?.unwrap_or_default(),
            unit: text(12)?.unwrap_or_default(),
        },
        at,
        specimen: shared(21)?,
        report: shared(22)?,
        status: match text(20)? {
            Some(word) => codec::status(&word)?,
            None => Status::Final,
        },
        method: codec::method("")?,
        preference: column::<Option<u8>>(row, 23)?.unwrap_or(0),
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
        codec::set_measurement_detail(&mut measurement, &detail)?;
    }
    Ok(Some(measurement))
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
    let measurement = value.measurement.as_ref();
    let reason = measurement.and_then(|one| one.unusable.as_ref());
    let identifier = measurement.and_then(|one| one.source.identifier.as_ref());
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
            measurement.map(|one| one.analyte.key()),
            measurement.map(|one| one.received.value.as_str()),
            measurement.map(|one| one.received.unit.as_str()),
            measurement
                .and_then(|one| one.value.as_ref())
                .map(codec::interval_text),
            measurement
                .and_then(|one| one.at)
                .map(|at| codec::millis(at.instant)),
            measurement
                .and_then(|one| one.at)
                .map(|at| codec::offset_minutes(at.instant)),
            measurement
                .and_then(|one| one.at)
                .map(|at| codec::precision_word(at.precision)),
            measurement.is_some_and(|one| one.unusable.is_none()),
            reason.map(|one| one.word),
            reason.map(|one| one.text.as_str()),
            // The ordinary status is left out: most rows have it.
            measurement
                .map(|one| one.status)
                .filter(|status| *status != Status::Final)
                .map(codec::status_word),
            measurement.and_then(|one| one.specimen.as_deref()),
            measurement.and_then(|one| one.report.as_deref()),
            measurement
                .map(|one| one.preference)
                .filter(|one| *one != 0),
            measurement
                .map(codec::measurement_detail)
                .transpose()?
                .flatten(),
            identifier.map(|(system, _)| system.as_ref()),
            identifier.map(|(_, value)| value.as_ref()),
            measurement.and_then(|one| one.source.loinc.as_deref()),
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
    let values = all(
        connection,
        &format!("SELECT {OBSERVATION} FROM observation WHERE patient_id = ?1"),
        params![id.0],
        stored_value,
    )?;
    let facts = all(
        connection,
        "SELECT key, version, content, fhir_type, status, issued_at, source_version, tokens, \
         filed_at, patient_seq, ordinal FROM fact WHERE patient_id = ?1",
        params![id.0],
        |row| {
            Ok(StoredFact {
                id: ResultId(bytes(row, 0)?),
                version: column(row, 1)?,
                content: bytes(row, 2)?,
                kind: column(row, 3)?,
                status: column(row, 4)?,
                issued: column(row, 5)?,
                source_version: column(row, 6)?,
                facts: codec::tokens(&column::<String>(row, 7)?)?,
                filed_at: Some(column(row, 8)?),
                seq: column(row, 9)?,
                ordinal: column(row, 10)?,
            })
        },
    )?;
    Ok(Some((
        tenant,
        Known {
            row: Some(row),
            values,
            facts,
            findings: findings(connection, id)?,
        },
    )))
}

fn findings(connection: &Connection, id: PatientId) -> Result<Vec<HeldFinding>> {
    const SELECT: &str = "SELECT family, state, slug, grade, lineage_grades, urgency, \
         episode_start, episode_start_detail, episode_end, episode_end_detail, notified_at, \
         acknowledged_until, acknowledged_why, revision, flag_id, human_hash \
         FROM finding WHERE patient_id = ?1";
    all(connection, SELECT, params![id.0], |row| {
        let text = |index| column::<Option<String>>(row, index);
        let episode_end = match (column::<Option<i64>>(row, 8)?, text(9)?) {
            (Some(at), Some(detail)) => Some(codec::sample_time(at, &detail)?),
            _ => None,
        };
        let acknowledged = match (text(12)?, column::<Option<i64>>(row, 11)?) {
            (Some(why), Some(until)) => Some((codec::acknowledged(&why)?, codec::instant(until)?)),
            _ => None,
        };
        Ok(HeldFinding {
            finding: Finding {
                family: Family::from_str_exact(&column::<String>(row, 0)?)
                    .ok_or(StoreError::Unreadable("finding.family"))?,
                state: codec::flag_state(&column::<String>(row, 1)?)?,
                slug: column(row, 2)?,
                urgency: codec::urgency(column(row, 5)?)?,
                grade: text(3)?.map(|word| codec::grade(&word)).transpose()?,
                lineage_grades: codec::lineage_grades(&column::<String>(row, 4)?)?,
                episode_start: codec::sample_time(column(row, 6)?, &column::<String>(row, 7)?)?,
                episode_end,
                notified_at: column::<Option<i64>>(row, 10)?
                    .map(codec::instant)
                    .transpose()?,
                acknowledged,
                human: text(15)?.map(Arc::from),
            },
            revision: column(row, 13)?,
            flag_id: text(14)?,
        })
    })
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
