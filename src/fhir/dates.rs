//! Dates and times in the forms of FHIR: `date`, `dateTime`, `instant` and `time`, on days that
//! exist. The `time` crate checks the calendar; the forms are FHIR's own, narrower than ISO 8601.

use time::{Date, Month, OffsetDateTime, format_description::well_known::Rfc3339};

/// A `date` or `dateTime`, as precisely as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// With a time of day and an offset.
    Instant(OffsetDateTime),
    /// A day.
    Day(Date),
    /// A month.
    Month(i32, Month),
    /// A year.
    Year(i32),
}

/// Reads a `date`, `dateTime` or `instant`.
pub fn moment(text: &str) -> Option<Moment> {
    if text.contains('T') {
        let instant = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        return Some(Moment::Instant(instant));
    }
    date(text)
}

/// `date`: a year, a month or a day.
pub fn is_date(text: &str) -> bool {
    date(text).is_some()
}

/// `dateTime`: a `date`, or a full one with time to the second and a zone.
pub fn is_date_time(text: &str) -> bool {
    match text.split_once('T') {
        None => is_date(text),
        Some(_) => is_instant(text),
    }
}

/// `instant`: day, time to the second, zone.
pub fn is_instant(text: &str) -> bool {
    let Some((date, rest)) = text.split_once('T') else {
        return false;
    };
    let Some((clock, zone)) = rest
        .find(['Z', '+', '-'])
        .and_then(|at| rest.split_at_checked(at))
    else {
        return false;
    };
    matches!(self::date(date), Some(Moment::Day(_))) && is_clock(clock) && is_zone(zone)
}

/// `time`: hours, minutes, seconds, no zone.
pub fn is_time(text: &str) -> bool {
    is_clock(text)
}

fn date(text: &str) -> Option<Moment> {
    let mut parts = text.split('-');
    let year = digits(parts.next()?, 4).filter(|year| *year > 0)?;
    let year = i32::try_from(year).ok()?;
    let Some(month) = parts.next() else {
        return Some(Moment::Year(year));
    };
    let month = Month::try_from(u8::try_from(digits(month, 2)?).ok()?).ok()?;
    let Some(day) = parts.next() else {
        return Some(Moment::Month(year, month));
    };
    let day = u8::try_from(digits(day, 2)?).ok()?;
    let date = Date::from_calendar_date(year, month, day).ok()?;
    parts.next().is_none().then_some(Moment::Day(date))
}

/// `hh:mm:ss` with any fraction; a leap second may be written.
fn is_clock(text: &str) -> bool {
    let (whole, rest) = match text.split_once('.') {
        Some((whole, rest)) => (whole, Some(rest)),
        None => (text, None),
    };
    let mut parts = whole.split(':').map(|part| digits(part, 2));
    let within =
        |part: Option<Option<u32>>, most: u32| part.flatten().is_some_and(|number| number <= most);
    within(parts.next(), 23)
        && within(parts.next(), 59)
        && within(parts.next(), 60)
        && parts.next().is_none()
        && rest
            .is_none_or(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// `Z`, or hours and minutes up to 14:00.
fn is_zone(text: &str) -> bool {
    if text == "Z" {
        return true;
    }
    let Some((hours, minutes)) = text
        .strip_prefix(['+', '-'])
        .and_then(|rest| rest.split_once(':'))
    else {
        return false;
    };
    matches!((digits(hours, 2), digits(minutes, 2)),
        (Some(hours), Some(minutes)) if minutes < 60 && hours * 60 + minutes <= 14 * 60)
}

/// A number of exactly `count` digits.
fn digits(text: &str, count: usize) -> Option<u32> {
    (text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_must_exist() {
        for text in ["2024", "2024-02", "2024-02-29", "0001-01-01"] {
            assert!(is_date(text) && is_date_time(text), "{text}");
        }
        for text in [
            "2024-02-31",
            "2023-02-29",
            "2024-13",
            "2024-00",
            "0000",
            "24-01-01",
            "2024-1-1",
            "",
            "2024-02-29-",
            "2024-02-29T",
            "2024/02/01",
            "+024",
            "２０２４",
        ] {
            assert!(!is_date(text) && !is_date_time(text), "{text}");
        }
    }

    #[test]
    fn a_time_of_day_needs_seconds_and_a_zone() {
        for text in [
            "2024-05-01T08:00:00Z",
            "2024-05-01T08:00:00.123456789+02:00",
            "2024-05-01T23:59:60-14:00",
        ] {
            assert!(is_date_time(text) && is_instant(text), "{text}");
        }
        for text in [
            "2024-05-01T08:00",
            "2024-05-01T08:00Z",
            "2024-05-01T08:00:00",
            "2024-05T08:00:00Z",
            "2024-05-01T24:00:00Z",
            "2024-05-01T08:00:00.Z",
            "2024-05-01T08:00:00+0200",
            "2024-05-01T08:00:00+14:01",
            "2024-05-01 08:00:00Z",
            "2024-05-01T08:00:00ZZ",
            "2024-02-31T08:00:00Z",
            "2024-05-01t08:00:00z",
        ] {
            assert!(!is_date_time(text) && !is_instant(text), "{text}");
        }
        assert!(!is_instant("2024-05-01"));
        assert!(is_time("08:00:00.5") && !is_time("08:00") && !is_time("08:00:00Z"));
    }
}
