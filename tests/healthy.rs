//! How often the rules speak about people who have nothing: simulated counts of healthy people.
//!
//! Each line has a set point drawn from a log-normal distribution whose stated centile is the
//! model's own lower limit, and varies from count to count within the person (haemoglobin 3 %,
//! platelets 9 %, neutrophils 17 %). It tests the arithmetic of the rules, not medicine.
//!
//! `cargo test --release --test healthy -- --ignored --nocapture` runs the hundred thousand.
#![expect(
    clippy::print_stdout,
    reason = "the table of what fired is what a run is to show"
)]

use std::{collections::BTreeMap, sync::Arc};

use marrowflag::clinical::{
    analyte::Analyte,
    assessment::Output,
    decide::assess,
    quantity::Interval,
    time::{BirthDate, Precision, SampleTime},
    timeline::{Measurement, Method, Received, Sex, Timeline},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use rust_decimal::{Decimal, prelude::FromPrimitive};
use time::{Duration, OffsetDateTime, macros::datetime};

const INDEX: OffsetDateTime = datetime!(2026-06-15 08:00 UTC);

/// A line of the count: its limit as the 2.5th centile of what is measured in healthy people, its
/// middle, and how much it varies within one person.
struct Line {
    analyte: Analyte,
    limit: f64,
    middle: f64,
    within: f64,
    digits: u32,
}

fn lines(sex: Sex) -> [Line; 3] {
    let line = |analyte, limit, middle, within, digits| Line {
        analyte,
        limit,
        middle,
        within,
        digits,
    };
    let (limit, middle) = if sex == Sex::Male {
        (130.0, 150.0)
    } else {
        (120.0, 135.0)
    };
    [
        line(Analyte::Hb, limit, middle, 0.03, 0),
        line(Analyte::Platelets, 150.0, 250.0, 0.09, 0),
        line(Analyte::Anc, 1.5, 3.6, 0.17, 2),
    ]
}

/// A standard normal deviate (Box and Muller).
fn normal(random: &mut StdRng) -> f64 {
    let (one, two): (f64, f64) = (random.random_range(f64::EPSILON..1.0), random.random());
    (-2.0 * one.ln()).sqrt() * (std::f64::consts::TAU * two).cos()
}

fn healthy(random: &mut StdRng, counts: u32) -> Timeline {
    let sex = if random.random() {
        Sex::Male
    } else {
        Sex::Female
    };
    let mut timeline = Timeline::default();
    timeline.person.sex = sex;
    let age = random.random_range(18..80_i64);
    timeline.person.birth = Some(BirthDate::Day(
        INDEX.date() - Duration::days(age * 365 + 100),
    ));
    for line in lines(sex) {
        // 1.96 deviations of the whole variation lie between the middle and the limit.
        let whole = (line.middle / line.limit).ln() / 1.96;
        let between = (whole.powi(2) - line.within.powi(2)).max(0.0).sqrt();
        let set_point = line.middle.ln() + between * normal(random);
        for count in 0..counts {
            let value = (set_point + line.within * normal(random)).exp();
            let number = Decimal::from_f64(value)
                .unwrap_or_default()
                .round_dp(line.digits);
            let at = INDEX - Duration::days(i64::from(count) * 61);
            timeline
                .measurements
                .push(measurement(line.analyte, number, at, count));
        }
    }
    timeline
}

fn measurement(analyte: Analyte, number: Decimal, at: OffsetDateTime, count: u32) -> Measurement {
    let sampled = SampleTime {
        instant: at,
        precision: Precision::Instant,
    };
    Measurement {
        received: Received {
            value: number.to_string(),
            unit: analyte.unit().to_owned(),
        },
        specimen: Some(Arc::from(format!("count {count}"))),
        method: Method::Automated,
        ..Measurement::of(analyte, Some(Interval::exact(number)), Some(sampled))
    }
}

/// How often each rule was reported, and how many Flags there were.
fn simulate(people: u32, counts: u32) -> (u32, BTreeMap<String, u32>) {
    let mut random = StdRng::seed_from_u64(20_260_615);
    let mut flags = 0;
    let mut fired: BTreeMap<String, u32> = BTreeMap::new();
    for _ in 0..people {
        let assessment = assess(&healthy(&mut random, counts), INDEX);
        if assessment.output >= Output::Flag {
            flags += 1;
            *fired
                .entry(format!("Flag by row {}", assessment.output_row))
                .or_default() += 1;
        } else if assessment.output == Output::Report {
            *fired.entry("report".to_owned()).or_default() += 1;
        }
        let hits = assessment
            .patterns
            .iter()
            .chain(assessment.safety.iter().filter(|hit| hit.truth.is_true()))
            .map(|hit| hit.id)
            .chain(assessment.candidates.iter().map(|candidate| candidate.id));
        for id in hits {
            *fired.entry(id.to_owned()).or_default() += 1;
        }
    }
    (flags, fired)
}

fn print(people: u32, counts: u32) -> u32 {
    let (flags, fired) = simulate(people, counts);
    println!("{people} healthy people, {counts} counts a year: {flags} Flags");
    for (rule, times) in fired {
        println!(
            "  {rule}: {times} ({:.2} in 1,000)",
            f64::from(times) * 1_000.0 / f64::from(people)
        );
    }
    flags
}

/// More than one Flag in 1,000 single counts is a defect.
#[test]
fn few_flags_for_single_counts() {
    let people = 4_000;
    let flags = print(people, 1);
    // Three standard deviations above one in a thousand.
    assert!(flags <= 4 + 6, "{flags} Flags in {people} single counts");
}

#[test]
#[ignore = "a hundred thousand people, for release builds"]
fn a_hundred_thousand_healthy_people() {
    let flags = print(100_000, 1);
    print(100_000, 6);
    assert!(flags <= 100, "{flags} Flags in 100,000 single counts");
}
