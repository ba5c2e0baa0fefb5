//! When a sample was taken, and how precisely that is known.

use time::{Date, OffsetDateTime};

/// How much of a sample time is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Precision {
    /// The calendar day only (a date, or exactly local midnight).
    Day,
    /// To the time of day.
    Instant,
}

/// Time of sampling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SampleTime {
    /// The instant, with the offset it was sent with; for day precision that day's midnight.
    pub instant: OffsetDateTime,
    /// How precise it is.
    pub precision: Precision,
}

impl SampleTime {
    /// The calendar day, in the sender's own offset.
    pub fn day(&self) -> Date {
        self.instant.date()
    }
}

/// Date of birth as far as it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BirthDate {
    /// Known to the day.
    Day(Date),
    /// Year and month only.
    Month(i32, time::Month),
    /// Year only.
    Year(i32),
}
