//! Whether a series of neutrophil counts rises and falls with a period of about three weeks.
//!
//! The algorithm of the clinical specification 4.3: episodes below 0.5 x10^9/L, their intervals,
//! and a Lomb-Scargle periodogram of the logarithm of the counts that has to agree with them. It
//! was tried on simulated series only, so its thresholds are project choices; the sampling that
//! makes it `adequate` is that of the severe chronic neutropenia registry.

use std::f64::consts::TAU;

use rust_decimal::{Decimal, prelude::ToPrimitive};

const fn thousandths(value: u32) -> Decimal {
    Decimal::from_parts(value, 0, 0, false, 3)
}

/// An episode opens below this, x10^9/L.
const OPENS: Decimal = thousandths(500);
/// An episode closes from this, x10^9/L.
const CLOSES: Decimal = thousandths(1000);
/// A nadir below this is deep, x10^9/L.
const DEEP: Decimal = thousandths(200);
/// A longer gap splits the series, days.
const SPLIT: i32 = 35;
/// Episodes closer than this are one, days.
const MERGE: i32 = 10;
/// Intervals of a regular cycle, days.
const INTERVALS: std::ops::RangeInclusive<i32> = 14..=36;
/// Largest difference between intervals, days: of three episodes, and without a periodogram.
const SPREAD: i32 = 8;
const SPREAD_STRICT: i32 = 4;
/// Sampling: results, days from first to last, median and largest gap in days.
const ADEQUATE_RESULTS: usize = 12;
const LIMITED_RESULTS: usize = 8;
const SPAN: i32 = 40;
const MEDIAN_GAP: f64 = 4.0;
const LARGEST_GAP: i32 = 10;
/// Counts are cut off here before the logarithm, x10^9/L.
const FLOOR: f64 = 0.05;
const CEILING: f64 = 3.0;
/// Trial periods, days, in steps of a quarter.
const FIRST_PERIOD: f64 = 12.0;
const LAST_PERIOD: f64 = 40.0;
const PERIOD_STEP: f64 = 0.25;
const PERIODS: u32 = 112;
/// False-alarm probability below which a period counts.
const FALSE_ALARM: f64 = 0.001;
/// The series must last this many periods.
const PERIODS_SEEN: f64 = 1.8;
/// Largest difference between the period and the median interval, days.
const DISAGREEMENT: f64 = 5.0;
/// Days of nothing but counts below 0.5 that point to a congenital neutropenia.
const ALWAYS_LOW: i32 = 90;

/// One count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Day, counted from any fixed day.
    pub day: i32,
    /// Neutrophils, x10^9/L; of `<x` half of x, of `>x` x.
    pub anc: Decimal,
}

/// Density of the samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sampling {
    /// Too few or too short.
    Insufficient,
    /// Enough for a periodogram.
    Limited,
    /// Close enough to see every nadir.
    Adequate,
}

/// One dip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Episode {
    /// Day of its lowest count.
    pub day: i32,
    /// That count.
    pub nadir: Decimal,
}

/// How the episodes follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rhythm {
    /// No rhythm.
    None,
    /// Two or more at plausible intervals.
    Two,
    /// Three or more at like intervals.
    Three,
}

/// The strongest period.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Period {
    /// Days.
    pub days: f64,
    /// Power.
    pub power: f64,
    /// Probability that noise reaches this power.
    pub false_alarm: f64,
}

/// The answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// A regular cycle.
    Met,
    /// Episodes in rhythm, but not proven: sample properly.
    Partial,
    /// Well sampled, no cycle.
    NotMet,
    /// Too few samples to say.
    Indeterminate,
}

/// What else the series says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hint {
    /// Below 0.5 throughout three months: severe congenital neutropenia.
    AlwaysLow,
    /// Low at times without a regular cycle.
    Fluctuating,
}

/// Everything the algorithm found.
#[derive(Debug, Clone, PartialEq)]
pub struct Cycle {
    /// Density of the samples.
    pub sampling: Sampling,
    /// Dips, oldest first.
    pub episodes: Vec<Episode>,
    /// Days between them.
    pub intervals: Vec<i32>,
    /// How they follow each other.
    pub rhythm: Rhythm,
    /// Dips below 0.2.
    pub deep: usize,
    /// The strongest period, with enough samples and a rhythm to compare it with.
    pub period: Option<Period>,
    /// Period and intervals say the same.
    pub agree: bool,
    /// The answer.
    pub status: Status,
    /// What else the series says.
    pub hint: Option<Hint>,
}

/// Looks for a cycle in counts sorted by day, one a day.
///
/// Only the last stretch without a gap of more than 35 days is used.
pub fn evaluate(samples: &[Sample]) -> Cycle {
    let samples = last_stretch(samples);
    let span = span(samples);
    let sampling = sampling(samples, span);
    let episodes = episodes(samples);
    let intervals: Vec<i32> = episodes
        .iter()
        .zip(episodes.iter().skip(1))
        .map(|(one, next)| next.day.saturating_sub(one.day))
        .collect();
    let rhythm = rhythm(&episodes, &intervals);
    let deep = episodes
        .iter()
        .filter(|episode| episode.nadir < DEEP)
        .count();
    // Without a rhythm no period could agree with it.
    let period = if sampling >= Sampling::Limited && rhythm != Rhythm::None {
        period(samples, span)
    } else {
        None
    };
    let agree = period.is_some_and(|period| {
        period.false_alarm < FALSE_ALARM
            && period.days >= f64::from(*INTERVALS.start())
            && period.days <= f64::from(*INTERVALS.end())
            && f64::from(span) >= PERIODS_SEEN * period.days
            && median(&intervals).is_some_and(|median| (period.days - median).abs() <= DISAGREEMENT)
    });
    let adequate = sampling == Sampling::Adequate;
    let met = match rhythm {
        Rhythm::Three => {
            (agree && deep >= 2)
                || (adequate && deep == episodes.len() && spread(&intervals) <= SPREAD_STRICT)
        }
        Rhythm::Two => agree && adequate && deep >= 2,
        Rhythm::None => false,
    };
    let status = if met {
        Status::Met
    } else if rhythm != Rhythm::None {
        Status::Partial
    } else if adequate {
        Status::NotMet
    } else {
        Status::Indeterminate
    };
    let hint = if !samples.is_empty()
        && span >= ALWAYS_LOW
        && samples.iter().all(|sample| sample.anc < OPENS)
    {
        Some(Hint::AlwaysLow)
    } else if adequate && !met && samples.iter().any(|sample| sample.anc < OPENS) {
        Some(Hint::Fluctuating)
    } else {
        None
    };
    Cycle {
        sampling,
        episodes,
        intervals,
        rhythm,
        deep,
        period,
        agree,
        status,
        hint,
    }
}

fn last_stretch(samples: &[Sample]) -> &[Sample] {
    let start = samples
        .iter()
        .zip(samples.iter().skip(1))
        .rposition(|(one, next)| next.day.saturating_sub(one.day) > SPLIT)
        .map_or(0, |gap| gap + 1);
    samples.get(start..).unwrap_or_default()
}

fn span(samples: &[Sample]) -> i32 {
    match (samples.first(), samples.last()) {
        (Some(first), Some(last)) => last.day.saturating_sub(first.day),
        _ => 0,
    }
}

fn sampling(samples: &[Sample], span: i32) -> Sampling {
    let gaps: Vec<i32> = samples
        .iter()
        .zip(samples.iter().skip(1))
        .map(|(one, next)| next.day.saturating_sub(one.day))
        .collect();
    let close = median(&gaps).is_some_and(|median| median <= MEDIAN_GAP)
        && gaps.iter().all(|gap| *gap <= LARGEST_GAP);
    if samples.len() >= ADEQUATE_RESULTS && span >= SPAN && close {
        Sampling::Adequate
    } else if samples.len() >= LIMITED_RESULTS && span >= SPAN {
        Sampling::Limited
    } else {
        Sampling::Insufficient
    }
}

fn episodes(samples: &[Sample]) -> Vec<Episode> {
    let mut found: Vec<Episode> = Vec::new();
    let mut open: Option<Episode> = None;
    for sample in samples {
        open = match open {
            Some(episode) if sample.anc >= CLOSES => {
                found.push(episode);
                None
            }
            Some(episode) if sample.anc < episode.nadir => Some(Episode {
                day: sample.day,
                nadir: sample.anc,
            }),
            None if sample.anc < OPENS => Some(Episode {
                day: sample.day,
                nadir: sample.anc,
            }),
            same => same,
        };
    }
    found.extend(open);
    let mut merged: Vec<Episode> = Vec::new();
    for episode in found {
        match merged.last_mut() {
            Some(last) if episode.day.saturating_sub(last.day) < MERGE => {
                if episode.nadir < last.nadir {
                    *last = episode;
                }
            }
            _ => merged.push(episode),
        }
    }
    merged
}

fn rhythm(episodes: &[Episode], intervals: &[i32]) -> Rhythm {
    let plausible = intervals
        .iter()
        .all(|interval| INTERVALS.contains(interval));
    if episodes.len() >= 3 && plausible && spread(intervals) <= SPREAD {
        Rhythm::Three
    } else if episodes.len() >= 2 && plausible {
        Rhythm::Two
    } else {
        Rhythm::None
    }
}

fn spread(intervals: &[i32]) -> i32 {
    match (intervals.iter().max(), intervals.iter().min()) {
        (Some(longest), Some(shortest)) => longest.saturating_sub(*shortest),
        _ => 0,
    }
}

fn median(values: &[i32]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable();
    let middle = sorted.len() / 2;
    let upper = f64::from(*sorted.get(middle)?);
    if sorted.len() % 2 == 1 {
        return Some(upper);
    }
    let lower = f64::from(*sorted.get(middle.checked_sub(1)?)?);
    Some(f64::midpoint(lower, upper))
}

/// Lomb-Scargle periodogram (Scargle 1982), with the distribution of its peak for a variance
/// taken from the same data.
fn period(samples: &[Sample], span: i32) -> Option<Period> {
    let points: Vec<(f64, f64)> = samples
        .iter()
        .filter_map(|sample| {
            let anc = sample.anc.to_f64()?.clamp(FLOOR, CEILING);
            Some((f64::from(sample.day), anc.log10()))
        })
        .collect();
    let count = f64::from(u32::try_from(points.len()).ok()?);
    let mean = points.iter().map(|(_, value)| value).sum::<f64>() / count;
    let variance = points
        .iter()
        .map(|(_, value)| (value - mean).powi(2))
        .sum::<f64>()
        / (count - 1.0);
    let flat = Period {
        days: FIRST_PERIOD,
        power: 0.0,
        false_alarm: 1.0,
    };
    // Rounding would leave a constant series a variance, and with it a power of noise.
    let (_, first) = points.first()?;
    if points
        .iter()
        .all(|(_, value)| value.total_cmp(first).is_eq())
    {
        return Some(flat);
    }
    let mut best = flat;
    for step in 0..=PERIODS {
        let days = FIRST_PERIOD + PERIOD_STEP * f64::from(step);
        let power = power(&points, mean, variance, days);
        if power > best.power {
            best = Period {
                days,
                power,
                ..best
            };
        }
    }
    let single = (1.0 - 2.0 * best.power / (count - 1.0))
        .max(0.0)
        .powf((count - 3.0) / 2.0);
    let trials = (f64::from(span) * (1.0 / FIRST_PERIOD - 1.0 / LAST_PERIOD)).max(1.0);
    // 1 - (1 - p)^M without losing a small p to rounding.
    best.false_alarm = -((-single).ln_1p() * trials).exp_m1();
    Some(best)
}

fn power(points: &[(f64, f64)], mean: f64, variance: f64, period: f64) -> f64 {
    let speed = TAU / period;
    // One sine and cosine per sample; the shift tau then turns the sums instead of every angle.
    let mut sums = [0.0_f64; 5];
    let [cosines, sines, both, by_cosine, by_sine] = &mut sums;
    for (day, value) in points {
        let (sine, cosine) = (speed * day).sin_cos();
        *cosines += cosine * cosine;
        *sines += sine * sine;
        *both += sine * cosine;
        *by_cosine += (value - mean) * cosine;
        *by_sine += (value - mean) * sine;
    }
    let [cosines, sines, both, by_cosine, by_sine] = sums;
    let (sine, cosine) = (f64::atan2(2.0 * both, cosines - sines) / 2.0).sin_cos();
    let cosine_part = by_cosine * cosine + by_sine * sine;
    let sine_part = by_sine * cosine - by_cosine * sine;
    let crossed = 2.0 * both * sine * cosine;
    let cosine_norm = cosines * cosine * cosine + crossed + sines * sine * sine;
    let sine_norm = sines * cosine * cosine - crossed + cosines * sine * sine;
    let share = |part: f64, norm: f64| {
        if norm > 1e-12 {
            part * part / norm
        } else {
            0.0
        }
    };
    (share(cosine_part, cosine_norm) + share(sine_part, sine_norm)) / (2.0 * variance)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::*;

    fn series(text: &str) -> Vec<Sample> {
        text.split(", ")
            .map(|pair| {
                let (day, anc) = pair.split_once(' ').unwrap();
                Sample {
                    day: day.parse().unwrap(),
                    anc: anc.parse().unwrap(),
                }
            })
            .collect()
    }

    fn days(cycle: &Cycle) -> Vec<i32> {
        cycle.episodes.iter().map(|episode| episode.day).collect()
    }

    #[test]
    fn a_gap_of_more_than_35_days_begins_anew() {
        assert_eq!(last_stretch(&series("0 2.0, 35 2.0")).len(), 2);
        assert_eq!(last_stretch(&series("0 2.0, 36 2.0")).len(), 1);
        assert_eq!(
            last_stretch(&series("0 2.0, 36 2.0, 40 2.0, 76 1.0")).len(),
            1
        );
    }

    #[test]
    fn a_constant_series_has_no_power() {
        for anc in ["0.3", "0.7", "1.1"] {
            let days: Vec<String> = (0..19)
                .map(|visit| format!("{} {anc}", visit * 3))
                .collect();
            let period = period(&series(&days.join(", ")), 54).unwrap();
            assert_eq!((period.power, period.false_alarm), (0.0, 1.0), "{anc}");
        }
    }

    #[test]
    fn an_episode_is_on_the_first_day_of_its_lowest_count() {
        let found = episodes(&series("0 2.0, 3 0.3, 5 0.1, 7 0.1, 9 0.2, 12 1.8"));
        let days: Vec<i32> = found.iter().map(|episode| episode.day).collect();
        assert_eq!(days, [5]);
    }

    #[test]
    fn cyv1_two_deep_nadirs_and_a_clear_period() {
        let cycle = evaluate(&series(
            "0 2.4, 2 2.1, 4 1.3, 7 0.21, 9 0.08, 11 0.35, 14 1.9, 16 2.6, 18 2.2, 21 2.5, \
             23 2.3, 25 1.2, 28 0.18, 30 0.05, 32 0.42, 35 1.7, 37 2.5, 39 2.4, 42 2.3",
        ));
        assert_eq!(cycle.sampling, Sampling::Adequate);
        assert_eq!(
            cycle.episodes,
            [
                Episode {
                    day: 9,
                    nadir: "0.08".parse().unwrap()
                },
                Episode {
                    day: 30,
                    nadir: "0.05".parse().unwrap()
                }
            ]
        );
        assert_eq!(cycle.intervals, [21]);
        let period = cycle.period.unwrap();
        assert!((period.days - 20.5).abs() < 1e-9, "{period:?}");
        assert!((period.power - 7.37).abs() < 0.005, "{period:?}");
        assert!((period.false_alarm - 2.8e-6).abs() < 0.05e-6, "{period:?}");
        assert_eq!(cycle.status, Status::Met);
    }

    #[test]
    fn cyv2_three_regular_deep_episodes_need_no_periodogram() {
        let cycle = evaluate(&series(
            "0 2.2, 3 1.4, 7 0.1, 10 1.6, 14 2.4, 21 1.9, 24 0.9, 28 0.12, 31 1.5, 38 2.3, \
             45 1.1, 49 0.08, 52 1.7, 59 2.2, 63 2.0",
        ));
        assert_eq!(cycle.sampling, Sampling::Adequate);
        assert_eq!(days(&cycle), [7, 28, 49]);
        assert_eq!(cycle.intervals, [21, 21]);
        let period = cycle.period.unwrap();
        assert!((period.days - 20.75).abs() < 1e-9, "{period:?}");
        assert!((period.false_alarm - 0.037).abs() < 0.0005, "{period:?}");
        assert!(!cycle.agree);
        assert_eq!(cycle.status, Status::Met);
    }

    #[test]
    fn cyv3_irregular_shallow_dips() {
        let cycle = evaluate(&series(
            "0 0.9, 2 1.1, 4 0.6, 7 0.45, 9 0.8, 11 1.2, 14 0.7, 16 1.0, 18 0.48, 21 0.9, \
             23 1.3, 25 0.6, 28 0.8, 30 1.1, 32 0.49, 35 0.7, 37 1.0, 39 0.9, 42 1.2",
        ));
        assert_eq!(cycle.sampling, Sampling::Adequate);
        assert_eq!(days(&cycle), [7, 18, 32]);
        assert_eq!(cycle.intervals, [11, 14]);
        assert_eq!(cycle.status, Status::NotMet);
        assert_eq!(cycle.hint, Some(Hint::Fluctuating));
    }

    #[test]
    fn cyv4_always_low_is_one_episode() {
        let anc = [
            "0.30", "0.05", "0.10", "0.22", "0.15", "0.08", "0.28", "0.12", "0.19", "0.25", "0.06",
            "0.11", "0.09", "0.21", "0.17", "0.14", "0.26", "0.07", "0.20",
        ];
        let on = [
            0, 2, 4, 7, 9, 11, 14, 16, 18, 21, 23, 25, 28, 30, 32, 35, 37, 39, 42,
        ];
        let samples = |stretch: i32| -> Vec<Sample> {
            on.iter()
                .zip(anc)
                .map(|(day, anc)| Sample {
                    day: day * stretch,
                    anc: anc.parse().unwrap(),
                })
                .collect()
        };
        let cycle = evaluate(&samples(1));
        assert_eq!(days(&cycle), [2]);
        assert_eq!(cycle.status, Status::NotMet);
        assert_ne!(cycle.hint, Some(Hint::AlwaysLow));
        assert_eq!(evaluate(&samples(3)).hint, Some(Hint::AlwaysLow));
    }

    #[test]
    fn cyv5_two_episodes_in_few_samples() {
        let cycle = evaluate(&series("0 1.8, 10 0.15, 20 2.0, 31 0.2, 45 1.9"));
        assert_eq!(cycle.sampling, Sampling::Insufficient);
        assert_eq!(cycle.intervals, [21]);
        assert_eq!(cycle.period, None);
        assert_eq!(cycle.status, Status::Partial);
    }

    #[test]
    fn odd_series_are_answered() {
        assert_eq!(evaluate(&[]).status, Status::Indeterminate);
        let flat: Vec<Sample> = (0..30)
            .map(|place| Sample {
                day: place * 2,
                anc: CLOSES,
            })
            .collect();
        assert_eq!(evaluate(&flat).status, Status::NotMet);
        assert!((period(&flat, 58).unwrap().false_alarm - 1.0).abs() < 1e-12);
        let mut gap = series("0 0.1, 21 0.1, 60 2.0, 62 2.1");
        assert_eq!(evaluate(&gap).episodes.len(), 0);
        for sample in &mut gap {
            sample.day = i32::MAX;
        }
        evaluate(&gap);
    }

    #[test]
    fn close_dips_are_one_and_an_open_one_counts() {
        let cycle = evaluate(&series(
            "0 0.4, 3 1.0, 6 0.3, 9 1.2, 11 0.35, 14 1.5, 30 0.49",
        ));
        // 0 and 6 merge into 6, and 11 into that one.
        assert_eq!(days(&cycle), [6, 30]);
    }

    // Simulated children, not patients: how often each picture is called a cycle.

    /// A normal deviate (Box-Muller).
    fn normal(random: &mut StdRng) -> f64 {
        let one: f64 = random.random_range(1e-12..1.0);
        let two: f64 = random.random();
        (-2.0 * one.ln()).sqrt() * (TAU * two).cos()
    }

    /// Around 2.2, with a dip to 0.1 in every period, and noise.
    fn cyclic(random: &mut StdRng, on: &[i32], period: f64) -> Vec<f64> {
        let phase: f64 = random.random_range(0.0..period);
        on.iter()
            .map(|day| {
                let into = (f64::from(*day) + phase) % period;
                let away = (into - period / 2.0).abs();
                // Nadir of five days, three days down and up again.
                let depth = ((5.5 - away) / 3.0).clamp(0.0, 1.0);
                let logarithm = 2.2_f64.ln() * (1.0 - depth) + 0.1_f64.ln() * depth;
                (logarithm + 0.35 * normal(random)).exp()
            })
            .collect()
    }

    /// Noise around a mean, each value leaning on the one before.
    fn noise(random: &mut StdRng, on: &[i32], mean: f64, deviation: f64, memory: f64) -> Vec<f64> {
        let mut last = normal(random);
        let mut previous = on.first().copied().unwrap_or(0);
        on.iter()
            .map(|day| {
                let kept = (-f64::from(day - previous) / memory).exp();
                last = kept * last + (1.0 - kept * kept).sqrt() * normal(random);
                previous = *day;
                mean * (deviation * last).exp()
            })
            .collect()
    }

    /// Percent MET and PARTIAL of 300 series.
    fn rates(
        on: impl Fn(&mut StdRng) -> Vec<i32>,
        counts: impl Fn(&mut StdRng, &[i32]) -> Vec<f64>,
    ) -> (u32, u32) {
        let mut random = StdRng::seed_from_u64(20_261_118);
        let (mut met, mut partial) = (0, 0);
        for _ in 0..300 {
            let on = on(&mut random);
            let samples: Vec<Sample> = on
                .iter()
                .zip(counts(&mut random, &on))
                .map(|(day, anc)| Sample {
                    day: *day,
                    anc: Decimal::from_f64_retain(anc).unwrap().round_dp(3),
                })
                .collect();
            match evaluate(&samples).status {
                Status::Met => met += 1,
                Status::Partial => partial += 1,
                _ => {}
            }
        }
        (met / 3, partial / 3)
    }

    fn three_a_week(weeks: i32) -> impl Fn(&mut StdRng) -> Vec<i32> {
        move |_| {
            (0..weeks)
                .flat_map(|week| [0, 2, 4].map(|day| week * 7 + day))
                .chain([weeks * 7])
                .collect()
        }
    }

    fn two_a_week(_: &mut StdRng) -> Vec<i32> {
        (0..=12).map(|half| half / 2 * 7 + half % 2 * 3).collect()
    }

    fn weekly(_: &mut StdRng) -> Vec<i32> {
        (0..=12).map(|week| week * 7).collect()
    }

    fn on_random_days(count: usize, span: i32) -> impl Fn(&mut StdRng) -> Vec<i32> {
        move |random| {
            let mut on = std::collections::BTreeSet::new();
            while on.len() < count {
                on.insert(random.random_range(0..span));
            }
            on.into_iter().collect()
        }
    }

    /// The other schedules of the table. How often a cycle is found is as good as the sampling; a
    /// stable or a congenital neutropenia is never called one, an autoimmune one hardly ever.
    #[test]
    fn fewer_samples_find_fewer_cycles_and_invent_none() {
        type Schedule = Box<dyn Fn(&mut StdRng) -> Vec<i32>>;
        let schedules: [(&str, Schedule, [u32; 2]); 5] = [
            ("two a week, 6 weeks", Box::new(two_a_week), [94, 80]),
            (
                "three a week, 8 weeks",
                Box::new(three_a_week(8)),
                [98, 100],
            ),
            ("weekly, 12 weeks", Box::new(weekly), [86, 88]),
            ("16 days of 90", Box::new(on_random_days(16, 90)), [39, 35]),
            ("8 days of 180", Box::new(on_random_days(8, 180)), [0, 0]),
        ];
        for (name, on, [fixed, varied]) in schedules {
            let (met, _) = rates(&on, |random, on| cyclic(random, on, 21.0));
            assert!(met.abs_diff(fixed) <= 10, "{name}, 21 d: {met} of {fixed}");
            let (met, _) = rates(&on, |random, on| {
                let period = random.random_range(18.0..24.0);
                cyclic(random, on, period)
            });
            assert!(
                met.abs_diff(varied) <= 10,
                "{name}, 18 to 24 d: {met} of {varied}"
            );
            for mean in [1.8, 1.2] {
                let both = rates(&on, |random, on| noise(random, on, mean, 0.2, 3.0));
                assert_eq!(both, (0, 0), "{name}, stable {mean}");
            }
            let (met, _) = rates(&on, |random, on| noise(random, on, 0.15, 0.4, 3.0));
            assert_eq!(met, 0, "{name}, congenital");
            for mean in [0.5, 0.8] {
                let (met, _) = rates(&on, |random, on| noise(random, on, mean, 0.6, 4.0));
                assert!(met < 3, "{name}, autoimmune {mean}: {met}");
            }
        }
    }

    /// Percentages of the clinical specification, whose generators are not given in full: ours
    /// have to come within ten points for cycles, and stay below two for what is no cycle.
    #[test]
    fn simulated_cycles_are_found_and_noise_is_not() {
        let six = three_a_week(6);
        let near = |rate: u32, expected: u32| rate.abs_diff(expected) <= 10;

        let (met, _) = rates(&six, |random, on| cyclic(random, on, 21.0));
        assert!(near(met, 99), "21 d, three a week: {met}");
        let (met, _) = rates(&six, |random, on| {
            let period = random.random_range(18.0..24.0);
            cyclic(random, on, period)
        });
        assert!(near(met, 88), "18 to 24 d, three a week: {met}");

        for mean in [1.8, 1.2] {
            let both = rates(&six, |random, on| noise(random, on, mean, 0.2, 3.0));
            assert_eq!(both, (0, 0), "stable {mean}");
        }
        let both = rates(&six, |random, on| noise(random, on, 0.15, 0.4, 3.0));
        assert_eq!(both, (0, 0), "congenital");
        for mean in [0.5, 0.8] {
            let (met, partial) = rates(&six, |random, on| noise(random, on, mean, 0.6, 4.0));
            assert!(met < 2, "autoimmune {mean}: {met}");
            // Autoimmune neutropenia reaches PARTIAL: it may only ask for proper sampling.
            assert!((10..=60).contains(&partial), "autoimmune {mean}: {partial}");
        }
    }
}
