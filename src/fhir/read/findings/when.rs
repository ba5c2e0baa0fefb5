//! Dates of findings: FHIR date and dateTime as spans of time.

use time::{Date, Duration, Month, OffsetDateTime, Time};

use crate::fhir::{
    dates::{self, Moment},
    tree::Tree,
};

/// A date as sent, from its first to its last possible instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct When {
    /// First possible instant; midnight when only the day is known.
    pub(super) first: OffsetDateTime,
    /// Last possible day.
    pub(super) last: OffsetDateTime,
    /// Known to the day at least.
    pub(super) to_the_day: bool,
}

impl When {
    /// Reads `YYYY`, `YYYY-MM`, `YYYY-MM-DD` or a full dateTime.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let midnight = |date: Date| date.with_time(Time::MIDNIGHT).assume_utc();
        let span = |first: Date, last: Date| Self {
            first: midnight(first),
            last: midnight(last),
            to_the_day: false,
        };
        let day = |year, month, day| Date::from_calendar_date(year, month, day).ok();
        Some(match dates::moment(text)? {
            Moment::Instant(instant) => Self::at(instant),
            Moment::Day(date) => Self::at(midnight(date)),
            Moment::Month(year, month) => {
                span(day(year, month, 1)?, day(year, month, month.length(year))?)
            }
            Moment::Year(year) => span(
                day(year, Month::January, 1)?,
                day(year, Month::December, 31)?,
            ),
        })
    }

    fn at(instant: OffsetDateTime) -> Self {
        Self {
            first: instant,
            last: instant,
            to_the_day: true,
        }
    }

    /// The dateTime member `name` of `resource`.
    pub(super) fn member(resource: &Tree<'_>, name: &str) -> Option<Self> {
        Self::parse(resource.text(name)?)
    }

    /// Start of the Period member `name`.
    pub(super) fn start(resource: &Tree<'_>, name: &str) -> Option<Self> {
        Self::member(resource.get(name)?, "start")
    }

    /// End of the Period member `name`.
    pub(super) fn end(resource: &Tree<'_>, name: &str) -> Option<Self> {
        Self::member(resource.get(name)?, "end")
    }
}

/// `instant` moved by whole days; `None` when that leaves the calendar.
pub(super) fn days_after(instant: OffsetDateTime, days: i64) -> Option<OffsetDateTime> {
    // `Duration::days` cannot overflow for a number of days that a supply or cycle can have.
    (days.abs() < 100_000)
        .then(|| instant.checked_add(Duration::days(days)))
        .flatten()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn every_precision_of_fhir() {
        let day = When::parse("2026-11-18").unwrap();
        assert_eq!(day.first, datetime!(2026-11-18 00:00 UTC));
        assert!(day.to_the_day);
        let month = When::parse("2024-02").unwrap();
        assert_eq!(month.last, datetime!(2024-02-29 00:00 UTC));
        assert!(!month.to_the_day);
        let year = When::parse("1999").unwrap();
        assert_eq!(year.first, datetime!(1999-01-01 00:00 UTC));
        let instant = When::parse("2026-11-18T07:30:00+01:00").unwrap();
        assert_eq!(instant.first, datetime!(2026-11-18 07:30 +1));
    }

    #[test]
    fn what_is_no_date_is_none() {
        for text in [
            "",
            "26-11-18",
            "2026-13",
            "2026-02-30",
            "childhood",
            "2026-11-18T07:30",
        ] {
            assert_eq!(When::parse(text), None, "{text}");
        }
    }
}
