//! How long the clinical answer takes for one patient with thirty values: ten counts of a year
//! with haemoglobin, neutrophils and platelets, all low, so that every rule has work.
//!
//! `cargo bench --bench assess`

use std::{hint::black_box, sync::Arc, time::Instant};

use marrowflag::clinical::{
    analyte::Analyte,
    decide::{assess, decide, trace},
    quantity::Interval,
    time::{BirthDate, Precision, SampleTime},
    timeline::{Fact, Measurement, Method, Received, Sex, Source, Timeline},
    truth::Truth,
};
use rust_decimal::Decimal;
use time::{Duration, OffsetDateTime, macros::datetime};

const INDEX: OffsetDateTime = datetime!(2026-06-15 08:00 UTC);

fn patient() -> Timeline {
    let mut timeline = Timeline::default();
    timeline.person.sex = Sex::Female;
    timeline.person.birth = Some(BirthDate::Day(INDEX.date() - Duration::days(22_000)));
    for count in 0..10_i64 {
        let at = INDEX - Duration::days(count * 36);
        for (analyte, number) in [
            (Analyte::Hb, Decimal::new(92 + count, 0)),
            (Analyte::Anc, Decimal::new(9 + count, 1)),
            (Analyte::Platelets, Decimal::new(61 + count, 0)),
        ] {
            timeline.measurements.push(measurement(analyte, number, at));
        }
    }
    for token in ["splenomegaly", "alcohol", "drug_other"] {
        timeline.facts.push(Fact {
            token: Arc::from(token),
            truth: Truth::True,
            from: None,
            until: None,
            filed_at: None,
            source: Source::default(),
        });
    }
    timeline
}

fn measurement(analyte: Analyte, number: Decimal, at: OffsetDateTime) -> Measurement {
    let sampled = SampleTime {
        instant: at,
        precision: Precision::Instant,
    };
    Measurement {
        received: Received {
            value: number.to_string(),
            unit: analyte.unit().to_owned(),
        },
        specimen: Some(Arc::from(at.date().to_string())),
        method: Method::Automated,
        ..Measurement::of(analyte, Some(Interval::exact(number)), Some(sampled))
    }
}

/// The middle of several hundred runs, in microseconds.
fn microseconds(mut work: impl FnMut()) -> f64 {
    let mut runs: Vec<f64> = (0..400)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64() * 1e6
        })
        .collect();
    runs.sort_by(f64::total_cmp);
    runs.get(runs.len() / 2).copied().unwrap_or_default()
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn main() {
    let timeline = patient();
    println!(
        "assess {:.0} us, decide {:.0} us, trace {:.0} us per patient with {} values",
        microseconds(|| drop(black_box(assess(&timeline, INDEX)))),
        microseconds(|| drop(black_box(decide(&timeline, &[], INDEX)))),
        microseconds(|| drop(black_box(trace(&timeline, INDEX)))),
        timeline.measurements.len()
    );
}
