//! What the dates of a result say: when it was sampled, and how precisely that is known.

use time::{Date, OffsetDateTime, Time, UtcOffset};

use crate::{
    clinical::time::{BirthDate, Precision, SampleTime},
    fhir::{
        dates::{self, Moment},
        tree::Tree,
    },
};

/// An instant, for `issued`, `deceasedDateTime` and the like; a day begins at its midnight (UTC).
pub(super) fn instant(text: &str) -> Option<OffsetDateTime> {
    match dates::moment(text.trim())? {
        Moment::Instant(instant) => Some(instant),
        Moment::Day(day) => Some(midnight(day)),
        Moment::Month(..) | Moment::Year(_) => None,
    }
}

/// A birth date as far as it was sent.
pub(super) fn birth_date(text: &str) -> Option<BirthDate> {
    match dates::moment(text.trim())? {
        Moment::Instant(instant) => Some(BirthDate::Day(instant.date())),
        Moment::Day(day) => Some(BirthDate::Day(day)),
        Moment::Month(year, month) => Some(BirthDate::Month(year, month)),
        Moment::Year(year) => Some(BirthDate::Year(year)),
    }
}

fn midnight(day: Date) -> OffsetDateTime {
    day.with_time(Time::MIDNIGHT).assume_offset(UtcOffset::UTC)
}

/// What `effective[x]` or `collected[x]` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum When {
    /// A sample time, with warnings (word, text).
    At(SampleTime, Vec<(&'static str, &'static str)>),
    /// Something that cannot be used, and why.
    Not(&'static str, &'static str),
}

/// Reads a choice element (`effective`, `collected`) of a resource; `None`: it is not there.
pub(super) fn choice(holder: &Tree<'_>, name: &str) -> Option<When> {
    let Tree::Object(members) = holder else {
        return None;
    };
    members.iter().find_map(|(key, value)| {
        let shape = key.strip_prefix(name)?;
        Some(match shape {
            "DateTime" | "Instant" => sample(value.as_str()?),
            "Period" => period(value)?,
            "Timing" => When::Not("not-supported", "a Timing is no time of sampling"),
            _ => return None,
        })
    })
}

fn period(value: &Tree<'_>) -> Option<When> {
    let (start, end) = (value.text("start"), value.text("end"));
    let mut when = sample(end.or(start)?);
    if let (When::At(at, notes), Some(start)) = (&mut when, start.and_then(instant))
        && at.instant - start > time::Duration::DAY
    {
        notes.push((
            "period-long",
            "the period of sampling is longer than a day; its end is used",
        ));
    }
    Some(when)
}

fn sample(text: &str) -> When {
    const DAY: (&str, &str) = ("day-precision", "no time of day; the day is used");
    match dates::moment(text.trim()) {
        Some(Moment::Instant(instant)) if instant.time() == Time::MIDNIGHT => When::At(
            SampleTime {
                instant,
                precision: Precision::Day,
            },
            vec![("day-precision", "exactly midnight; the day is used")],
        ),
        Some(Moment::Instant(instant)) => When::At(
            SampleTime {
                instant,
                precision: Precision::Instant,
            },
            Vec::new(),
        ),
        Some(Moment::Day(day)) => When::At(
            SampleTime {
                instant: midnight(day),
                precision: Precision::Day,
            },
            vec![DAY],
        ),
        Some(Moment::Month(..) | Moment::Year(_)) => {
            When::Not("time-imprecise", "month or year only; not used in series")
        }
        None => When::Not("value", "not a date that exists"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn local_midnight_is_a_date_in_disguise() {
        let precision = |text| match sample(text) {
            When::At(at, _) => Some(at.precision),
            When::Not(..) => None,
        };
        assert_eq!(precision("2021-12-01T00:00:00+01:00"), Some(Precision::Day));
        assert_eq!(
            precision("2021-12-01T00:00:01+01:00"),
            Some(Precision::Instant)
        );
        assert_eq!(precision("2021-12-01"), Some(Precision::Day));
        assert_eq!(precision("2021-12"), None);
        assert_eq!(precision("2021-02-30"), None);
        assert_eq!(precision("2021-12-01T10:00:00"), None, "no zone");
    }

    #[test]
    fn a_period_counts_by_its_end() {
        let tree = |start: &'static str, end: &'static str| {
            Tree::Object(vec![(
                "effectivePeriod".into(),
                Tree::Object(vec![
                    ("start".into(), Tree::String(start.into())),
                    ("end".into(), Tree::String(end.into())),
                ]),
            )])
        };
        let Some(When::At(at, notes)) = choice(
            &tree("2021-12-01T08:00:00Z", "2021-12-03T08:00:00Z"),
            "effective",
        ) else {
            panic!("a time");
        };
        assert_eq!(at.instant, datetime!(2021-12-03 08:00 UTC));
        assert_eq!(notes.len(), 1);
    }
}
