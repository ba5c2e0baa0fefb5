//! Age as the rules mean it: calendar years and months, whole days, and both ends of a birth date
//! that is only known to the month or year.

use rust_decimal::prelude::ToPrimitive;
use time::{Date, Duration, Month};

use super::{
    limits::{Limit, Tuning},
    rule::Band,
    time::BirthDate,
    truth::Truth,
};

/// "6 months" of the limits tables, in days.
const SIX_MONTHS: (u32, i64) = (6, 183);

/// Age on a day, for one possible day of birth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Age {
    birth: Date,
    on: Date,
}

impl Age {
    /// Age on `on` of somebody born on `birth`; `None` before birth.
    pub fn new(birth: Date, on: Date) -> Option<Self> {
        (birth <= on).then_some(Self { birth, on })
    }

    /// Whole days since birth.
    pub fn days(&self) -> i64 {
        (self.on - self.birth).whole_days()
    }

    /// Whether the `years`-th birthday has been reached.
    pub fn has_years(&self, years: u32) -> bool {
        anniversary(self.birth, years.saturating_mul(12)).is_some_and(|day| day <= self.on)
    }

    /// Whether so many calendar months are completed; 6 months are 183 days.
    pub fn has_months(&self, months: u32) -> bool {
        if months == SIX_MONTHS.0 {
            return self.days() >= SIX_MONTHS.1;
        }
        anniversary(self.birth, months).is_some_and(|day| day <= self.on)
    }

    /// Whether the age has reached `limit` (unit `a`, `mo` or `d`).
    pub fn reaches(&self, limit: &Limit, tuning: &Tuning) -> bool {
        let number = tuning.value(limit);
        match limit.unit {
            "a" => self.has_years(number.to_u32().unwrap_or(0)),
            "mo" => self.has_months(number.to_u32().unwrap_or(0)),
            _ => self.days() >= number.to_i64().unwrap_or(0),
        }
    }

    /// Completed years, for a reader.
    pub fn years(&self) -> u32 {
        let mut years = u32::try_from((self.on.year() - self.birth.year()).max(0)).unwrap_or(0);
        while years > 0 && !self.has_years(years) {
            years -= 1;
        }
        years
    }

    /// Band of the priors.
    pub fn band(&self) -> Band {
        let days = self.days();
        if days < 28 {
            Band::Neonate
        } else if !self.has_years(1) {
            Band::Infant
        } else if !self.has_years(5) {
            Band::Toddler
        } else if !self.has_years(12) {
            Band::Child
        } else if !self.has_years(18) {
            Band::Adolescent
        } else if !self.has_years(40) {
            Band::Young
        } else if !self.has_years(60) {
            Band::Middle
        } else {
            Band::Old
        }
    }
}

/// The day `months` after `birth`; a day that the month does not have falls on the first of the
/// next one (29 February: 1 March).
fn anniversary(birth: Date, months: u32) -> Option<Date> {
    let month_index =
        i64::from(birth.year()) * 12 + i64::from(u8::from(birth.month()) - 1) + i64::from(months);
    let year = i32::try_from(month_index.div_euclid(12)).ok()?;
    let month = Month::try_from(u8::try_from(month_index.rem_euclid(12)).ok()? + 1).ok()?;
    Date::from_calendar_date(year, month, birth.day())
        .ok()
        .or_else(|| {
            Date::from_calendar_date(year, month, 28)
                .ok()
                .and_then(|day| day.checked_add(Duration::days(4)))
                .and_then(|day| day.replace_day(1).ok())
        })
}

/// Age at both ends of what is known of the birth date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ages {
    /// With the latest possible day of birth.
    pub young: Age,
    /// With the earliest possible day of birth.
    pub old: Age,
}

impl Ages {
    /// Ages on a day; `None` when the day lies before birth.
    pub fn new(birth: BirthDate, on: Date) -> Option<Self> {
        let (first, last) = match birth {
            BirthDate::Day(day) => (day, day),
            BirthDate::Month(year, month) => (
                Date::from_calendar_date(year, month, 1).ok()?,
                Date::from_calendar_date(year, month, month.length(year)).ok()?,
            ),
            BirthDate::Year(year) => (
                Date::from_calendar_date(year, Month::January, 1).ok()?,
                Date::from_calendar_date(year, Month::December, 31).ok()?,
            ),
        };
        let old = Age::new(first, on)?;
        // A count cannot be older than its patient.
        let young = Age::new(last.min(on), on)?;
        Some(Self { young, old })
    }

    /// What both ends say, or UNKNOWN.
    pub fn agree(&self, question: impl Fn(&Age) -> bool) -> Truth {
        match (question(&self.young), question(&self.old)) {
            (true, true) => Truth::True,
            (false, false) => Truth::False,
            _ => Truth::Unknown,
        }
    }

    /// Whether the age has reached `limit`.
    pub fn reach(&self, limit: &Limit, tuning: &Tuning) -> Truth {
        self.agree(|age| age.reaches(limit, tuning))
    }

    /// Whether both ends are the same day.
    pub fn exact(&self) -> bool {
        self.young == self.old
    }
}

#[cfg(test)]
mod tests {
    use time::macros::date;

    use super::*;

    fn age(birth: Date, on: Date) -> Age {
        Age::new(birth, on).expect("born before")
    }

    #[test]
    fn years_are_birthdays() {
        let born = date!(2008 - 06 - 15);
        assert!(!age(born, date!(2026 - 06 - 14)).has_years(18));
        assert!(age(born, date!(2026 - 06 - 15)).has_years(18));
    }

    #[test]
    fn a_leap_day_birthday_falls_on_the_first_of_march() {
        let born = date!(2008 - 02 - 29);
        assert!(!age(born, date!(2026 - 02 - 28)).has_years(18));
        assert!(age(born, date!(2026 - 03 - 01)).has_years(18));
        assert!(age(born, date!(2024 - 02 - 29)).has_years(16));
    }

    #[test]
    fn six_months_are_183_days_and_other_months_are_calendar_months() {
        let born = date!(2026 - 01 - 31);
        assert!(!age(born, date!(2026 - 02 - 28)).has_months(1));
        assert!(age(born, date!(2026 - 03 - 01)).has_months(1));
        assert!(!age(born, born + Duration::days(182)).has_months(6));
        assert!(age(born, born + Duration::days(183)).has_months(6));
    }

    #[test]
    fn bands_are_half_open() {
        let born = date!(2020 - 01 - 01);
        assert_eq!(age(born, born + Duration::days(27)).band(), Band::Neonate);
        assert_eq!(age(born, born + Duration::days(28)).band(), Band::Infant);
        assert_eq!(age(born, date!(2021 - 01 - 01)).band(), Band::Toddler);
        assert_eq!(age(born, date!(2025 - 01 - 01)).band(), Band::Child);
    }

    #[test]
    fn a_partial_birth_date_is_judged_at_both_ends() {
        let ages = Ages::new(BirthDate::Year(2011), date!(2026 - 06 - 01)).expect("ages");
        assert_eq!(ages.agree(|age| age.has_years(15)), Truth::Unknown);
        assert_eq!(ages.agree(|age| age.has_years(14)), Truth::True);
        assert_eq!(ages.agree(|age| age.has_years(16)), Truth::False);
        assert!(Ages::new(BirthDate::Year(2027), date!(2026 - 06 - 01)).is_none());
    }
}
