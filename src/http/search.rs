//! Search parameters: what was asked, and whether a resource fits.

use serde_json::Value;
use time::{Date, Duration, Month, OffsetDateTime, Time, format_description::well_known::Rfc3339};

use super::{error::Error, negotiate::Wish};
use crate::fhir::{outcome::Issue, read::PatientKey};

/// Resources of one page, unless said otherwise, and at most.
const PAGE: usize = 50;
const LARGEST_PAGE: usize = 200;

/// A search, understood.
#[derive(Debug, Default)]
pub(super) struct Query {
    /// The patient, if one was named: every way the name can be meant.
    pub(super) patient: Option<Vec<PatientKey>>,
    statuses: Vec<String>,
    codes: Vec<Vec<Code>>,
    dates: Vec<When>,
    updated: Vec<When>,
    /// Resources of this page.
    pub(super) count: usize,
    /// Resources before this page.
    pub(super) offset: usize,
    /// Parameters that were ignored.
    pub(super) warnings: Vec<Issue>,
}

/// `code`, `system|code`, `|code` or `system|`.
#[derive(Debug)]
struct Code {
    system: Option<String>,
    code: String,
}

/// A prefix and the interval that a date stands for, its end excluded.
#[derive(Debug)]
struct When {
    prefix: Prefix,
    from: OffsetDateTime,
    until: OffsetDateTime,
}

#[derive(Debug, Clone, Copy)]
enum Prefix {
    Equal,
    NotEqual,
    After,
    AtOrAfter,
    Before,
    AtOrBefore,
}

impl Query {
    /// Reads the parameters of a search for `kind`.
    pub(super) fn read(wish: &Wish, kind: &str) -> Result<Self, Error> {
        let mut known = vec![
            "patient",
            "patient:identifier",
            "subject",
            "status",
            "code",
            "_lastUpdated",
            "_count",
            "_offset",
        ];
        if kind == "DiagnosticReport" {
            known.push("date");
        }
        let mut query = Self {
            count: PAGE,
            warnings: wish.only(&known)?,
            ..Self::default()
        };
        for (name, value) in &wish.query {
            match name.as_str() {
                "patient" | "subject" => query.name(references(value))?,
                "patient:identifier" => query.name(vec![identifier(value)?])?,
                "status" => query.statuses.extend(value.split(',').map(str::to_owned)),
                "code" => query.codes.push(value.split(',').map(code).collect()),
                "date" if kind == "DiagnosticReport" => query.dates.push(when(value)?),
                "_lastUpdated" => query.updated.push(when(value)?),
                "_count" => query.count = number(value)?.min(LARGEST_PAGE),
                "_offset" => query.offset = number(value)?,
                _ => {}
            }
        }
        Ok(query)
    }

    fn name(&mut self, keys: Vec<PatientKey>) -> Result<(), Error> {
        if self.patient.is_some() {
            return Err(Error::Malformed(vec![Issue::error(
                "value",
                "a search names one patient, once",
            )]));
        }
        self.patient = Some(keys);
        Ok(())
    }

    /// Bounds of `_lastUpdated`, for the store to narrow the search by.
    pub(super) fn updated_within(&self) -> (Option<OffsetDateTime>, Option<OffsetDateTime>) {
        let since = self.updated.iter().filter_map(|when| match when.prefix {
            Prefix::Equal | Prefix::AtOrAfter => Some(when.from),
            Prefix::After => Some(when.until),
            _ => None,
        });
        let before = self.updated.iter().filter_map(|when| match when.prefix {
            Prefix::Equal | Prefix::AtOrBefore => Some(when.until),
            Prefix::Before => Some(when.from),
            _ => None,
        });
        (since.max(), before.min())
    }

    /// Whether a resource is what was asked for, in everything but patient and time stored.
    pub(super) fn fits(&self, resource: &Value, updated: OffsetDateTime) -> bool {
        let status = resource.get("status").and_then(Value::as_str);
        (self.statuses.is_empty()
            || status.is_some_and(|status| self.statuses.iter().any(|wanted| wanted == status)))
            && self
                .codes
                .iter()
                .all(|any| any.iter().any(|code| code.is_in(resource)))
            && self
                .dates
                .iter()
                .all(|when| effective(resource).is_some_and(|(from, until)| when.fits(from, until)))
            && self.updated.iter().all(|when| when.fits(updated, updated))
    }

    /// Whether the store alone can answer, so that it need not be asked for more than the page.
    pub(super) fn is_plain(&self) -> bool {
        self.statuses.is_empty()
            && self.codes.is_empty()
            && self.dates.is_empty()
            && self.updated.is_empty()
    }
}

impl Code {
    fn is_in(&self, resource: &Value) -> bool {
        let codings = resource.pointer("/code/coding").and_then(Value::as_array);
        codings.into_iter().flatten().any(|coding| {
            let text = |name: &str| coding.get(name).and_then(Value::as_str).unwrap_or_default();
            (self.code.is_empty() || text("code") == self.code)
                && self
                    .system
                    .as_deref()
                    .is_none_or(|system| text("system") == system)
        })
    }
}

impl When {
    /// Whether `from..=until` of a resource fits (R4 search, prefixes over intervals).
    fn fits(&self, from: OffsetDateTime, until: OffsetDateTime) -> bool {
        let equal = self.from <= from && until < self.until;
        match self.prefix {
            Prefix::Equal => equal,
            Prefix::NotEqual => !equal,
            Prefix::After => until >= self.until,
            Prefix::AtOrAfter => equal || until >= self.until,
            Prefix::Before => from < self.from,
            Prefix::AtOrBefore => equal || from < self.from,
        }
    }
}

/// `p1`, `Patient/p1` or an absolute URL, as a sender may have written it.
pub(super) fn references(value: &str) -> Vec<PatientKey> {
    let reference = if value.contains('/') || value.contains(':') {
        value.split("/_history/").next().unwrap_or(value).to_owned()
    } else {
        format!("Patient/{value}")
    };
    vec![PatientKey::Reference(reference)]
}

/// `system|value`.
pub(super) fn identifier(value: &str) -> Result<PatientKey, Error> {
    match value.split_once('|') {
        Some((system, value)) if !system.is_empty() && !value.is_empty() => {
            Ok(PatientKey::Identifier {
                system: system.to_owned(),
                value: value.to_owned(),
            })
        }
        _ => Err(Error::Malformed(vec![Issue::error(
            "value",
            "patient:identifier must be a system and a value with a bar between them",
        )])),
    }
}

fn code(value: &str) -> Code {
    match value.split_once('|') {
        Some((system, code)) => Code {
            system: Some(system.to_owned()),
            code: code.to_owned(),
        },
        None => Code {
            system: None,
            code: value.to_owned(),
        },
    }
}

fn number(value: &str) -> Result<usize, Error> {
    value.parse().map_err(|_| {
        Error::Malformed(vec![Issue::error(
            "value",
            "_count and _offset are numbers",
        )])
    })
}

fn when(value: &str) -> Result<When, Error> {
    let (prefix, date) = match value.split_at_checked(2) {
        Some(("eq", rest)) => (Prefix::Equal, rest),
        Some(("ne", rest)) => (Prefix::NotEqual, rest),
        Some(("gt" | "sa", rest)) => (Prefix::After, rest),
        Some(("ge", rest)) => (Prefix::AtOrAfter, rest),
        Some(("lt" | "eb", rest)) => (Prefix::Before, rest),
        Some(("le", rest)) => (Prefix::AtOrBefore, rest),
        _ => (Prefix::Equal, value),
    };
    interval(date)
        .map(|(from, until)| When { prefix, from, until })
        .ok_or_else(|| {
            Error::Malformed(vec![Issue::error(
                "value",
                "a date in a search is a year, month, day or instant, with one of eq ne gt ge lt le before it",
            )])
        })
}

/// The interval that a date of any precision stands for, in UTC where it names no zone.
fn interval(text: &str) -> Option<(OffsetDateTime, OffsetDateTime)> {
    if text.contains('T') {
        // A plus sign in an address is a space.
        let instant = OffsetDateTime::parse(&text.replace(' ', "+"), &Rfc3339).ok()?;
        return Some((instant, instant.checked_add(Duration::seconds(1))?));
    }
    let mut parts = text.split('-');
    let year: i32 = parts.next().filter(|year| year.len() == 4)?.parse().ok()?;
    let month: Option<u8> = parts.next().map(str::parse).transpose().ok()?;
    let day: Option<u8> = parts.next().map(str::parse).transpose().ok()?;
    if parts.next().is_some() {
        return None;
    }
    let month_of = |number: u8| Month::try_from(number).ok();
    let from =
        Date::from_calendar_date(year, month_of(month.unwrap_or(1))?, day.unwrap_or(1)).ok()?;
    let until = match (month, day) {
        (_, Some(_)) => from.next_day()?,
        (Some(12), None) | (None, _) => {
            Date::from_calendar_date(year.checked_add(1)?, Month::January, 1).ok()?
        }
        (Some(month), None) => {
            Date::from_calendar_date(year, month_of(month.checked_add(1)?)?, 1).ok()?
        }
    };
    let midnight = |date: Date| date.with_time(Time::MIDNIGHT).assume_utc();
    Some((midnight(from), midnight(until)))
}

/// First and last moment that a report is about.
fn effective(resource: &Value) -> Option<(OffsetDateTime, OffsetDateTime)> {
    let bounds = |pointer: &str| {
        let (from, until) = interval(resource.pointer(pointer)?.as_str()?)?;
        Some((from, until.checked_sub(Duration::nanoseconds(1))?))
    };
    if let Some(at) = bounds("/effectiveDateTime") {
        return Some(at);
    }
    let start = bounds("/effectivePeriod/start");
    let end = bounds("/effectivePeriod/end");
    match (start, end) {
        (Some((from, _)), Some((_, until))) => Some((from, until)),
        (one, other) => one.or(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_day_is_the_day_and_a_month_the_month() {
        assert_eq!(
            interval("2026-11-18"),
            Some((
                datetime!(2026-11-18 00:00 UTC),
                datetime!(2026-11-19 00:00 UTC)
            ))
        );
        assert_eq!(
            interval("2026-12"),
            Some((
                datetime!(2026-12-01 00:00 UTC),
                datetime!(2027-01-01 00:00 UTC)
            ))
        );
        assert_eq!(interval("2026").unwrap().1, datetime!(2027-01-01 00:00 UTC));
        for text in [
            "",
            "yesterday",
            "2026-13",
            "2026-02-30",
            "26",
            "2026-11-18T08:00",
            "2026-11-18-01",
        ] {
            assert_eq!(interval(text), None, "{text}");
        }
    }

    #[test]
    fn prefixes_compare_with_the_whole_interval() {
        let at = datetime!(2026-11-18 08:00 UTC);
        let fits = |text: &str| when(text).unwrap().fits(at, at);
        for yes in [
            "2026-11-18",
            "ge2026-11-18",
            "le2026-11-18",
            "gt2026-11-17",
            "lt2026-11-19",
            "ne2026-11-17",
        ] {
            assert!(fits(yes), "{yes}");
        }
        for no in [
            "2026-11-17",
            "gt2026-11-18",
            "lt2026-11-18",
            "ne2026",
            "ge2026-11-19",
        ] {
            assert!(!fits(no), "{no}");
        }
    }

    #[test]
    fn a_code_may_name_its_system() {
        let flag = json!({ "code": { "coding": [{ "system": "s", "code": "c" }] } });
        for yes in ["c", "s|c", "s|"] {
            assert!(code(yes).is_in(&flag), "{yes}");
        }
        for no in ["d", "t|c", "|c"] {
            assert!(!code(no).is_in(&flag), "{no}");
        }
    }
}
