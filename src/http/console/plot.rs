//! A blood line over time, drawn as SVG.
//!
//! Own code: points, one limit and four labels need no plotting library, and the page may load no
//! script from elsewhere.

use std::fmt::Write as _;

use rust_decimal::{Decimal, prelude::ToPrimitive as _};
use time::OffsetDateTime;

use super::escaped;

/// Size of the drawing, and the part of it that the points have, in the units of its `viewBox`.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 52.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 24.0;

/// A value in the drawing.
pub(super) struct Point {
    pub(super) at: OffsetDateTime,
    /// In the canonical unit; of an interval its certain end.
    pub(super) value: Decimal,
    /// Certainly below the limit.
    pub(super) low: bool,
    /// What a reader is told of it: value, unit and day.
    pub(super) label: String,
}

/// What is drawn.
pub(super) struct Plot<'a> {
    /// `Haemoglobin (g/L)`.
    pub(super) title: &'a str,
    /// By time; at least one.
    pub(super) points: &'a [Point],
    /// Below it a value is low.
    pub(super) limit: Option<Decimal>,
    /// First and last time of all drawings of the page, so that they stand above each other.
    pub(super) span: (OffsetDateTime, OffsetDateTime),
}

impl Plot<'_> {
    /// The drawing. It says in words what it shows, for those who do not see it.
    pub(super) fn svg(&self) -> String {
        let highest = self
            .points
            .iter()
            .map(|point| point.value)
            .chain(self.limit)
            .max()
            .unwrap_or_default();
        let top = round_up(highest);
        let mut svg = String::with_capacity(256 + self.points.len() * 128);
        // Writing into a String cannot fail.
        let _ = writeln!(
            svg,
            "<figure><figcaption>{title}</figcaption><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"{title}: {count} values over time\">",
            title = escaped(self.title),
            count = self.points.len()
        );
        for share in [Decimal::ZERO, Decimal::new(5, 1), Decimal::ONE] {
            let value = top * share;
            let y = height_of(value, top);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{x2}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
                 <text class=\"scale\" x=\"{x:.1}\" y=\"{text:.1}\" text-anchor=\"end\">{value}</text>",
                x2 = WIDTH - RIGHT,
                x = LEFT - 6.0,
                text = y + 4.0,
                value = value.normalize()
            );
        }
        if let Some(limit) = self.limit {
            let y = height_of(limit, top);
            let _ = writeln!(
                svg,
                "<line class=\"limit\" x1=\"{LEFT}\" x2=\"{x2}\" y1=\"{y:.1}\" y2=\"{y:.1}\"><title>low below {limit}</title></line>",
                x2 = WIDTH - RIGHT,
                limit = limit.normalize()
            );
        }
        let places: Vec<(f64, f64, &Point)> = self
            .points
            .iter()
            .map(|point| (self.place_of(point.at), height_of(point.value, top), point))
            .collect();
        let line: Vec<String> = places
            .iter()
            .map(|(x, y, _)| format!("{x:.1},{y:.1}"))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline class=\"run\" points=\"{}\"/>",
            line.join(" ")
        );
        for (x, y, point) in places {
            let _ = writeln!(
                svg,
                "<circle class=\"{}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\"><title>{}</title></circle>",
                if point.low { "low" } else { "value" },
                escaped(&point.label)
            );
        }
        let (first, last) = self.span;
        let _ = writeln!(
            svg,
            "<text class=\"scale\" x=\"{LEFT}\" y=\"{y}\">{first}</text>\
             <text class=\"scale\" x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{last}</text></svg></figure>",
            y = HEIGHT - 6.0,
            x = WIDTH - RIGHT,
            first = first.date(),
            last = last.date()
        );
        svg
    }

    fn place_of(&self, at: OffsetDateTime) -> f64 {
        let (first, last) = self.span;
        let whole = (last - first).as_seconds_f64();
        let share = if whole > 0.0 {
            (at - first).as_seconds_f64() / whole
        } else {
            0.5
        };
        // Half a point's room at both ends.
        LEFT + 6.0 + share * (WIDTH - LEFT - RIGHT - 12.0)
    }
}

/// From the top, for a value of a scale that ends with `top`.
fn height_of(value: Decimal, top: Decimal) -> f64 {
    let share = value
        .checked_div(top)
        .and_then(|share| share.to_f64())
        .unwrap_or(0.0)
        .clamp(0.0, 1.0);
    TOP + (1.0 - share) * (HEIGHT - TOP - BOTTOM)
}

/// The next of 1, 2, 4, 5, 8 or 10 times a power of ten.
fn round_up(value: Decimal) -> Decimal {
    let mut power = Decimal::new(1, 3);
    for _ in 0..12 {
        for step in [1, 2, 4, 5, 8] {
            let candidate = power * Decimal::from(step);
            if candidate >= value {
                return candidate;
            }
        }
        power *= Decimal::TEN;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    fn number(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn point(at: OffsetDateTime, value: &str) -> Point {
        Point {
            at,
            value: number(value),
            low: false,
            label: format!("<{value}>"),
        }
    }

    #[test]
    fn scales_end_with_round_numbers() {
        for (highest, top) in [
            ("0", "0.001"),
            ("8.9", "10"),
            ("84", "100"),
            ("139", "200"),
            ("320", "400"),
        ] {
            assert_eq!(round_up(number(highest)), number(top), "{highest}");
        }
    }

    #[test]
    fn every_value_has_its_place_and_its_words() {
        let span = (
            datetime!(2026-01-01 0:00 UTC),
            datetime!(2026-03-01 0:00 UTC),
        );
        let points = [point(span.0, "50"), point(span.1, "100")];
        let svg = Plot {
            title: "Platelets <x10^9/L>",
            points: &points,
            limit: Some(number("75")),
            span,
        }
        .svg();
        assert_eq!(svg.matches("<circle").count(), 2, "{svg}");
        assert!(svg.contains("cx=\"58.0\" cy=\"68.0\""), "{svg}");
        assert!(svg.contains("cx=\"622.0\" cy=\"10.0\""), "{svg}");
        assert!(
            svg.contains("low below 75") && svg.contains("&lt;100&gt;"),
            "{svg}"
        );
        assert!(!svg.contains("<x10"), "{svg}");
    }

    #[test]
    fn one_value_stands_in_the_middle_and_nothing_divides_by_zero() {
        let at = datetime!(2026-01-01 0:00 UTC);
        let points = [point(at, "0")];
        let svg = Plot {
            title: "ANC",
            points: &points,
            limit: None,
            span: (at, at),
        }
        .svg();
        assert!(svg.contains("cx=\"340.0\""), "{svg}");
        assert!(!svg.contains("NaN"), "{svg}");
    }
}
