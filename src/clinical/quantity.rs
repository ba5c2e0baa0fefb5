//! A measured amount as an interval of exact decimals, so that `<0.1` is a value like any other.

use rust_decimal::Decimal;

use super::truth::Truth;

/// One end of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The number at this end.
    pub value: Decimal,
    /// Whether the number itself belongs to the interval.
    pub closed: bool,
}

/// All values that a result as sent can stand for: one number, or what a comparator leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interval {
    /// Lower end; `None`: unbounded below.
    pub low: Option<End>,
    /// Upper end; `None`: unbounded above.
    pub high: Option<End>,
}

impl Interval {
    /// Exactly `value`.
    pub fn exact(value: Decimal) -> Self {
        let end = Some(End {
            value,
            closed: true,
        });
        Self {
            low: end,
            high: end,
        }
    }

    /// `<value` of something that cannot be negative: `[0, value)`.
    pub fn below(value: Decimal) -> Self {
        Self {
            low: Some(End {
                value: Decimal::ZERO,
                closed: true,
            }),
            high: Some(End {
                value,
                closed: false,
            }),
        }
    }

    /// `<=value`: `[0, value]`.
    pub fn at_most(value: Decimal) -> Self {
        Self {
            low: Some(End {
                value: Decimal::ZERO,
                closed: true,
            }),
            high: Some(End {
                value,
                closed: true,
            }),
        }
    }

    /// `>value`: `(value, inf)`.
    pub fn above(value: Decimal) -> Self {
        Self {
            low: Some(End {
                value,
                closed: false,
            }),
            high: None,
        }
    }

    /// `>=value`: `[value, inf)`.
    pub fn at_least(value: Decimal) -> Self {
        Self {
            low: Some(End {
                value,
                closed: true,
            }),
            high: None,
        }
    }

    /// The number, if there is only one.
    pub fn as_exact(&self) -> Option<Decimal> {
        match (self.low, self.high) {
            (Some(low), Some(high)) if low.value == high.value && low.closed && high.closed => {
                Some(low.value)
            }
            _ => None,
        }
    }

    /// Whether the value is below `limit`; unknown when the interval does not decide it.
    pub fn is_below(&self, limit: Decimal) -> Truth {
        if self
            .high
            .is_some_and(|high| high.value < limit || (high.value == limit && !high.closed))
        {
            Truth::True
        } else if self.low.is_some_and(|low| low.value >= limit) {
            Truth::False
        } else {
            Truth::Unknown
        }
    }

    /// Whether the value is above `limit`; unknown when the interval does not decide it.
    pub fn is_above(&self, limit: Decimal) -> Truth {
        if self
            .low
            .is_some_and(|low| low.value > limit || (low.value == limit && !low.closed))
        {
            Truth::True
        } else if self.high.is_some_and(|high| high.value <= limit) {
            Truth::False
        } else {
            Truth::Unknown
        }
    }

    /// Both ends times a positive `factor`; `None` when the product does not fit a decimal.
    pub fn scaled(&self, factor: Decimal) -> Option<Self> {
        let scale = |end: Option<End>| match end {
            None => Some(None),
            Some(end) => end.value.checked_mul(factor).map(|value| {
                Some(End {
                    value,
                    closed: end.closed,
                })
            }),
        };
        Some(Self {
            low: scale(self.low)?,
            high: scale(self.high)?,
        })
    }

    /// The product of two amounts that cannot be negative; `None` when it does not fit.
    pub fn times(&self, other: &Self) -> Option<Self> {
        let multiply = |one: Option<End>, two: Option<End>| match (one, two) {
            (Some(one), Some(two)) => one.value.checked_mul(two.value).map(|value| {
                Some(End {
                    value,
                    closed: one.closed && two.closed,
                })
            }),
            _ => Some(None),
        };
        Some(Self {
            low: multiply(self.low, other.low)?,
            high: multiply(self.high, other.high)?,
        })
    }

    /// The sum of two amounts; `None` when it does not fit.
    pub fn plus(&self, other: &Self) -> Option<Self> {
        let add = |one: Option<End>, two: Option<End>| match (one, two) {
            (Some(one), Some(two)) => one.value.checked_add(two.value).map(|value| {
                Some(End {
                    value,
                    closed: one.closed && two.closed,
                })
            }),
            _ => Some(None),
        };
        Some(Self {
            low: add(self.low, other.low)?,
            high: add(self.high, other.high)?,
        })
    }

    /// Both ends less a number; `None` when it does not fit.
    pub fn less(&self, amount: Decimal) -> Option<Self> {
        self.plus(&Self::exact(-amount))
    }

    /// One exact amount divided by another; `None` for intervals and for zero.
    pub fn ratio(&self, other: &Self) -> Option<Decimal> {
        self.as_exact()?.checked_div(other.as_exact()?)
    }

    /// The number nearest to the value, for sorting and for "halved": the only one, or an end.
    pub fn anchor(&self) -> Option<Decimal> {
        self.low
            .filter(|low| !low.value.is_zero() || self.high.is_none())
            .or(self.high)
            .or(self.low)
            .map(|end| end.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_decides_only_what_holds_for_all_of_it() {
        const T: Truth = Truth::True;
        const F: Truth = Truth::False;
        const U: Truth = Truth::Unknown;
        let five = Decimal::from(5);
        // Below and above 4, 5 and 6.
        for (name, interval, below, above) in [
            ("5", Interval::exact(five), [F, F, T], [T, F, F]),
            ("<5", Interval::below(five), [U, T, T], [U, F, F]),
            ("<=5", Interval::at_most(five), [U, U, T], [U, F, F]),
            (">5", Interval::above(five), [F, F, U], [T, T, U]),
            (">=5", Interval::at_least(five), [F, F, U], [T, U, U]),
        ] {
            let limits = [4, 5, 6].map(Decimal::from);
            assert_eq!(
                limits.map(|limit| interval.is_below(limit)),
                below,
                "{name}"
            );
            assert_eq!(
                limits.map(|limit| interval.is_above(limit)),
                above,
                "{name}"
            );
        }
    }
}
