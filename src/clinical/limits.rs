//! A number of the rule book: written once, with its source, and movable by one step.
//!
//! Rules compare with a [`Limit`], never with a bare number. That way the rule book, the trace and
//! the answer cannot disagree, and a test can move every limit and see which cases notice.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
};

use rust_decimal::Decimal;

/// How sure we are of a number or criterion (clinical specification, head).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Confidence {
    /// Published criterion, well known.
    High,
    /// Between published and plausible.
    Medium,
    /// Pragmatic choice of this project.
    Low,
}

impl Confidence {
    /// The word printed in the rule book.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

/// A threshold, a window or an age bound.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// Stable id, `rule.name`: `D01.hb`.
    pub id: &'static str,
    /// The number, in `unit`.
    pub value: Decimal,
    /// The smallest change that matters: what "one step up or down" means in tests.
    pub step: Decimal,
    /// UCUM unit; `a`, `mo` and `d` for ages are calendar years, calendar months and days.
    pub unit: &'static str,
    /// Where the number comes from.
    pub source: &'static str,
    /// How sure we are.
    pub confidence: Confidence,
    /// The same limit as guidelines print it in a second unit: a value received in that unit is
    /// compared with this number, not with the converted one.
    pub other_units: &'static [OtherUnit],
}

/// A limit as printed in another unit.
#[derive(Debug, Clone, Copy)]
pub struct OtherUnit {
    /// The UCUM unit a value must have been received in.
    pub unit: &'static str,
    /// The limit in that unit.
    pub value: Decimal,
}

impl Limit {
    /// A limit from its text forms (`limit("D01.hb", "100", "1", "g/L", SOURCE, High)`).
    pub const fn new(
        id: &'static str,
        value: &str,
        step: &str,
        unit: &'static str,
        source: &'static str,
        confidence: Confidence,
    ) -> Self {
        Self {
            id,
            value: decimal(value),
            step: decimal(step),
            unit,
            source,
            confidence,
            other_units: &[],
        }
    }

    /// The same limit with its printed forms in other units.
    pub const fn or(mut self, other_units: &'static [OtherUnit]) -> Self {
        self.other_units = other_units;
        self
    }
}

/// Short form of [`Limit::new`] for the rule files.
pub const fn limit(
    id: &'static str,
    value: &str,
    step: &str,
    unit: &'static str,
    source: &'static str,
    confidence: Confidence,
) -> Limit {
    Limit::new(id, value, step, unit, source, confidence)
}

/// A limit as printed in another unit.
pub const fn in_unit(unit: &'static str, value: &str) -> OtherUnit {
    OtherUnit {
        unit,
        value: decimal(value),
    }
}

/// An exact decimal from its text, at compile time: `rust_decimal` has no such `const fn` without
/// a procedural macro.
///
/// # Panics
/// When compiling, on a text that is no number.
#[expect(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "evaluated when compiling; bounds and width are asserted"
)]
pub const fn decimal(text: &str) -> Decimal {
    let bytes = text.as_bytes();
    let negative = !bytes.is_empty() && bytes[0] == b'-';
    let mut position = if negative { 1 } else { 0 };
    assert!(position < bytes.len(), "a number needs digits");
    let (mut digits, mut scale, mut fraction) = (0_u64, 0_u32, false);
    while position < bytes.len() {
        let byte = bytes[position];
        if byte == b'.' {
            assert!(!fraction, "one decimal point");
            fraction = true;
        } else {
            assert!(byte.is_ascii_digit(), "digits and a point only");
            digits = digits * 10 + (byte - b'0') as u64;
            if fraction {
                scale += 1;
            }
        }
        position += 1;
    }
    assert!(digits <= u32::MAX as u64, "too many digits");
    Decimal::from_parts(digits as u32, 0, 0, negative, scale)
}

/// Limits and points that differ from the rule book: for tests that move one at a time, never set
/// by a running service.
#[derive(Debug, Clone, Default)]
pub struct Tuning {
    limits: HashMap<String, Decimal>,
    points: HashMap<String, i32>,
    asked: Option<Arc<Mutex<BTreeSet<String>>>>,
}

impl Tuning {
    /// Nothing moved.
    pub fn none() -> Self {
        Self::default()
    }

    /// Nothing moved, but what is asked for is written down: see [`Tuning::asked`].
    pub fn recording() -> Self {
        Self {
            asked: Some(Arc::default()),
            ..Self::default()
        }
    }

    /// The ids of the limits and points that were asked for, by a [`Tuning::recording`].
    pub fn asked(&self) -> BTreeSet<String> {
        self.asked.as_ref().map_or_else(BTreeSet::new, |asked| {
            asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
        })
    }

    fn record(&self, id: &str) {
        if let Some(asked) = &self.asked {
            let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
            if !asked.contains(id) {
                asked.insert(id.to_owned());
            }
        }
    }

    /// `limit` has another value.
    pub fn with_limit(mut self, id: &str, value: Decimal) -> Self {
        self.limits.insert(id.to_owned(), value);
        self
    }

    /// The evidence line or prior `rule.line` (`D01.marrow`, `D01.prior.N`) has other points.
    pub fn with_points(mut self, id: &str, points: i32) -> Self {
        self.points.insert(id.to_owned(), points);
        self
    }

    /// Whether anything is moved.
    pub fn is_moved(&self) -> bool {
        !self.limits.is_empty() || !self.points.is_empty()
    }

    /// The value in force.
    pub fn value(&self, limit: &Limit) -> Decimal {
        self.record(limit.id);
        if self.limits.is_empty() {
            return limit.value;
        }
        self.limits.get(limit.id).copied().unwrap_or(limit.value)
    }

    /// The value in force in another unit, moved by the same number of steps as `value`.
    pub fn other_value(&self, limit: &Limit, other: &OtherUnit) -> Decimal {
        let moved = self.value(limit);
        if moved == limit.value || limit.value.is_zero() {
            return other.value;
        }
        other.value * moved / limit.value
    }

    /// The points in force.
    pub fn points(&self, rule: &str, line: &str, points: i32) -> i32 {
        if self.points.is_empty() && self.asked.is_none() {
            return points;
        }
        let id = format!("{rule}.{line}");
        self.record(&id);
        self.points.get(&id).copied().unwrap_or(points)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_as_written() {
        assert_eq!(decimal("0.50").to_string(), "0.50");
        assert_eq!(decimal("-3"), Decimal::from(-3));
        assert_eq!(decimal("1200"), Decimal::from(1200));
    }

    #[test]
    fn a_moved_limit_moves_alone() {
        const HB: Limit = limit("x.hb", "100", "1", "g/L", "test", Confidence::Low);
        const PLT: Limit = limit("x.plt", "50", "1", "10*9/L", "test", Confidence::Low);
        let tuning = Tuning::none().with_limit("x.hb", decimal("101"));
        assert_eq!(tuning.value(&HB), decimal("101"));
        assert_eq!(tuning.value(&PLT), decimal("50"));
    }
}
