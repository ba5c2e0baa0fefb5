//! Which results are one specimen, which value of an analyte is used, and what follows from the
//! others (sections 0, 0.1, DQ-09, DQ-10, DQ-14).

use std::{collections::HashMap, sync::Arc};

use rust_decimal::Decimal;
use time::{Date, Duration, OffsetDateTime};

use super::{
    analyte::Analyte,
    limits::{Confidence::Low, Confidence::Medium, Limit, Tuning},
    quantity::Interval,
    time::{Precision, SampleTime},
    timeline::{Draw, Measurement, Method, SpecimenProblem, Status, Timeline},
};

static CONFLICT_ABSOLUTE: Limit = Limit::new(
    "dq09.absolute",
    "0.1",
    "0.01",
    "10*9/L",
    "project choice",
    Low,
);
static CONFLICT_RELATIVE: Limit = Limit::new("dq09.percent", "15", "1", "%", "project choice", Low);
static CONFLICT_HB: Limit = Limit::new("dq14.hb", "20", "1", "g/L", "project choice", Low);
static CONFLICT_OTHER: Limit = Limit::new("dq15.percent", "30", "1", "%", "project choice", Low);
static RBC_HIGHEST: Limit = Limit::new(
    "arc.rbc_bound",
    "6.5",
    "0.1",
    "10*12/L",
    "project choice",
    Medium,
);

/// Limits of this module.
pub fn limits() -> Vec<&'static Limit> {
    vec![
        &CONFLICT_ABSOLUTE,
        &CONFLICT_RELATIVE,
        &CONFLICT_HB,
        &CONFLICT_OTHER,
        &RBC_HIGHEST,
    ]
}

/// A value as used: measured, or computed from measured ones.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent marks of one value"
)]
pub struct Reading {
    /// What.
    pub analyte: Analyte,
    /// In the canonical unit.
    pub interval: Interval,
    /// The measurements it rests on, as positions in the timeline; the first is the result itself.
    pub from: Vec<usize>,
    /// How it was computed, if it was.
    pub formula: Option<&'static str>,
    /// To be verified.
    pub suspect: bool,
    /// Rests on a preliminary result.
    pub preliminary: bool,
    /// ANC that is only known not to exceed the white cells, reticulocytes bounded by RBC 6.5.
    pub bounded: bool,
    /// Rests on a corrected or amended result.
    pub corrected: bool,
}

/// Why a measurement is refused or doubted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Why {
    /// Outcome word.
    pub word: &'static str,
    /// One sentence.
    pub text: String,
}

/// Judgement on one measurement.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mark {
    /// Not used, for this reason.
    pub refused: Option<Why>,
    /// Used, to be verified, for this reason.
    pub suspect: Option<Why>,
    /// Not looked at: withdrawn, not evaluated, outside the memory.
    pub ignored: bool,
}

impl Mark {
    /// Whether a rule may use it.
    pub fn usable(&self) -> bool {
        !self.ignored && self.refused.is_none()
    }
}

/// Results of one specimen.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent marks of one specimen"
)]
pub struct Specimen {
    /// When it was taken.
    pub at: SampleTime,
    /// Key of its own, if any.
    pub key: Option<Arc<str>>,
    /// Positions of its measurements in the timeline.
    pub members: Vec<usize>,
    /// Values used for grades, patterns and candidates.
    pub readings: Vec<Reading>,
    /// Values used for safety rules: preliminary ones too, and the lower of two that conflict.
    pub urgent: Vec<Reading>,
    /// Analytes whose values conflict.
    pub conflicts: Vec<Analyte>,
    /// Blood count analytes that were sent and refused.
    pub refused: Vec<usize>,
    /// Platelets clumped.
    pub clumped: bool,
    /// Withdrawn from judgement as possibly diluted (DQ-13).
    pub diluted: bool,
    /// Possible mix-up of patients (DQ-17) or wrong unit against the history (T4).
    pub doubtful_identity: bool,
    /// A core count of it was corrected or amended.
    pub corrected: bool,
}

impl Specimen {
    /// The value of an analyte.
    pub fn get(&self, analyte: Analyte) -> Option<&Reading> {
        find(&self.readings, analyte)
    }

    /// The value of an analyte for safety rules.
    pub fn urgent(&self, analyte: Analyte) -> Option<&Reading> {
        find(&self.urgent, analyte)
    }

    /// Calendar day in the sender's offset.
    pub fn day(&self) -> Date {
        self.at.day()
    }
}

fn find(readings: &[Reading], analyte: Analyte) -> Option<&Reading> {
    readings.iter().find(|reading| reading.analyte == analyte)
}

/// Counts that make a specimen a blood count (index result, section 0).
pub const CORE: [Analyte; 8] = [
    Analyte::Hb,
    Analyte::Anc,
    Analyte::AncManual,
    Analyte::Platelets,
    Analyte::Wbc,
    Analyte::WbcCorrected,
    Analyte::Blasts,
    Analyte::BlastsAbsolute,
];

/// Everything a blood count consists of: what a clotted specimen spoils.
pub fn of_blood_count(analyte: Analyte) -> bool {
    analyte <= Analyte::IpfAbsolute
}

/// Whether it was measured in citrate.
pub fn of_citrate(measurement: &Measurement) -> bool {
    measurement.problems.contains(&SpecimenProblem::Citrate)
}

/// Platelets measured in citrate at most so long before or after a moment.
pub fn citrate_platelets(
    timeline: &Timeline,
    moment: OffsetDateTime,
    within: Duration,
) -> impl Iterator<Item = &Measurement> {
    timeline.measurements.iter().filter(move |measurement| {
        measurement.analyte == Analyte::Platelets
            && of_citrate(measurement)
            && measurement.unusable.is_none()
            && !matches!(
                measurement.status,
                Status::EnteredInError | Status::NotEvaluated
            )
            && measurement
                .at
                .is_some_and(|at| (at.instant - moment).abs() <= within)
    })
}

/// Groups the given measurements into specimens, oldest first. The result does not depend on the
/// order in which the measurements came.
pub fn group(timeline: &Timeline, usable: impl Fn(usize) -> bool) -> Vec<Specimen> {
    let mut order: Vec<(usize, &Measurement, SampleTime)> = timeline
        .measurements
        .iter()
        .enumerate()
        .filter(|(position, _)| usable(*position))
        .filter_map(|(position, measurement)| Some((position, measurement, measurement.at?)))
        .collect();
    order.sort_by(|one, two| {
        (
            one.2,
            one.1.specimen.is_none(),
            &one.1.specimen,
            &one.1.report,
        )
            .cmp(&(
                two.2,
                two.1.specimen.is_none(),
                &two.1.specimen,
                &two.1.report,
            ))
            .then_with(|| identity(one.1).cmp(&identity(two.1)))
    });
    let mut specimens: Vec<Specimen> = Vec::new();
    let mut by_key: HashMap<Arc<str>, usize> = HashMap::new();
    let mut by_report: HashMap<(Arc<str>, Date), usize> = HashMap::new();
    let mut by_minute: HashMap<i64, usize> = HashMap::new();
    for (position, measurement, at) in order {
        let minute = (at.precision == Precision::Instant)
            .then(|| at.instant.unix_timestamp().div_euclid(60));
        let report = measurement
            .report
            .as_ref()
            .map(|report| (Arc::clone(report), at.day()));
        // Somebody else's specimen key never joins, whatever else agrees.
        let fits = |home: &&usize| {
            specimens.get(**home).is_some_and(|specimen: &Specimen| {
                measurement.specimen.is_none()
                    || specimen.key.is_none()
                    || specimen.key == measurement.specimen
            })
        };
        let home = measurement
            .specimen
            .as_ref()
            .and_then(|key| by_key.get(key))
            .or_else(|| {
                report
                    .as_ref()
                    .and_then(|report| by_report.get(report))
                    .filter(fits)
            })
            .or_else(|| {
                minute
                    .and_then(|minute| by_minute.get(&minute))
                    .filter(fits)
            })
            .copied();
        let home = home.unwrap_or_else(|| {
            specimens.push(Specimen {
                at,
                key: None,
                members: Vec::new(),
                readings: Vec::new(),
                urgent: Vec::new(),
                conflicts: Vec::new(),
                refused: Vec::new(),
                clumped: false,
                diluted: false,
                doubtful_identity: false,
                corrected: false,
            });
            specimens.len() - 1
        });
        if let Some(specimen) = specimens.get_mut(home) {
            specimen.members.push(position);
            specimen.at = specimen.at.max(at);
            if specimen.key.is_none() {
                specimen.key.clone_from(&measurement.specimen);
            }
        }
        if let Some(key) = &measurement.specimen {
            by_key.entry(Arc::clone(key)).or_insert(home);
        }
        if let Some(report) = report {
            by_report.entry(report).or_insert(home);
        }
        if let Some(minute) = minute {
            by_minute.entry(minute).or_insert(home);
        }
    }
    specimens.sort_by(|one, two| (one.at, &one.key).cmp(&(two.at, &two.key)));
    specimens
}

type Identity<'m> = (Analyte, Option<&'m (Arc<str>, Arc<str>)>, &'m str);

/// Something to sort by that does not depend on when a result arrived.
fn identity(measurement: &Measurement) -> Identity<'_> {
    (
        measurement.analyte,
        measurement.source.identifier.as_ref(),
        measurement.received.value.as_str(),
    )
}

/// Order of preference between two values of one analyte, the better one first.
fn preference(measurement: &Measurement) -> (u8, u8, u8, u8) {
    let status = match measurement.status {
        Status::Corrected | Status::Amended => 0,
        Status::Final => 1,
        _ => 2,
    };
    (
        status,
        draw_rank(measurement.draw),
        method_rank(measurement.method),
        measurement.preference,
    )
}

/// Venous before arterial before capillary; not said counts as venous.
pub fn draw_rank(draw: Draw) -> u8 {
    match draw {
        Draw::Venous | Draw::Unspecified => 0,
        Draw::Arterial => 1,
        Draw::Capillary => 2,
    }
}

fn method_rank(method: Method) -> u8 {
    match method {
        Method::PointOfCare => 1,
        Method::BloodGas => 2,
        _ => 0,
    }
}

/// Fills in the values of a specimen from its usable measurements.
pub fn choose(specimen: &mut Specimen, timeline: &Timeline, marks: &[Mark], tuning: &Tuning) {
    let usable = |early: bool| {
        specimen
            .members
            .iter()
            .copied()
            .filter_map(|position| {
                let measurement = timeline.measurements.get(position)?;
                let mark = marks.get(position)?;
                let allowed = early || measurement.status != Status::Preliminary;
                (mark.usable() && allowed && measurement.value.is_some()).then_some((
                    position,
                    measurement,
                    mark,
                ))
            })
            .collect::<Vec<_>>()
    };
    let settled = usable(false);
    let early = usable(true);
    let mut conflicts = Vec::new();
    let readings = Chooser::new(&settled, tuning).run(specimen.clumped, false, &mut conflicts);
    let differs = early.len() != settled.len() || !conflicts.is_empty();
    let urgent = if differs {
        Chooser::new(&early, tuning).run(specimen.clumped, true, &mut Vec::new())
    } else {
        readings.clone()
    };
    specimen.corrected = readings
        .iter()
        .any(|reading| reading.corrected && CORE.contains(&reading.analyte));
    specimen.readings = readings;
    specimen.urgent = urgent;
    specimen.conflicts = conflicts;
}

type Usable<'a> = (usize, &'a Measurement, &'a Mark);

struct Chooser<'a> {
    best: Vec<Reading>,
    usable: &'a [Usable<'a>],
    tuning: &'a Tuning,
}

impl<'a> Chooser<'a> {
    fn new(usable: &'a [Usable<'a>], tuning: &'a Tuning) -> Self {
        Self {
            best: Vec::with_capacity(usable.len() + 6),
            usable,
            tuning,
        }
    }

    fn run(mut self, clumped: bool, lower: bool, conflicts: &mut Vec<Analyte>) -> Vec<Reading> {
        self.measured(lower, conflicts);
        self.white_cells();
        self.fraction(
            Analyte::Alc,
            Analyte::LymphocytePercent,
            "WBC x lymphocytes % / 100",
            conflicts,
        );
        self.fraction(
            Analyte::Amc,
            Analyte::MonocytePercent,
            "WBC x monocytes % / 100",
            conflicts,
        );
        self.fraction(
            Analyte::Eosinophils,
            Analyte::EosinophilPercent,
            "WBC x eosinophils % / 100",
            conflicts,
        );
        self.neutrophils(conflicts);
        self.neutrophils_against_white_cells();
        self.per_white_cells(
            Analyte::Blasts,
            Analyte::BlastsAbsolute,
            "blasts / WBC x 100",
        );
        self.sum(
            Analyte::Blasts,
            &[
                Analyte::MyeloblastPercent,
                Analyte::MonoblastPercent,
                Analyte::LymphoblastPercent,
            ],
            "myeloblasts + monoblasts + lymphoblasts",
        );
        self.per_white_cells(
            Analyte::Nrbc,
            Analyte::NrbcAbsolute,
            "nucleated red cells / WBC x 100",
        );
        self.per_white_cells(
            Analyte::ImmatureGranulocytes,
            Analyte::ImmatureGranulocytesAbsolute,
            "immature granulocytes / WBC x 100",
        );
        self.sum(
            Analyte::ImmatureGranulocytes,
            &[
                Analyte::PromyelocytePercent,
                Analyte::MyelocytePercent,
                Analyte::MetamyelocytePercent,
            ],
            "promyelocytes + myelocytes + metamyelocytes",
        );
        self.lymphocyte_percent();
        self.reticulocytes();
        self.saturation();
        if clumped {
            self.best.retain(|reading| {
                !matches!(
                    reading.analyte,
                    Analyte::Mpv | Analyte::Ipf | Analyte::IpfAbsolute
                )
            });
        }
        self.best
    }

    fn get(&self, analyte: Analyte) -> Option<&Reading> {
        find(&self.best, analyte)
    }

    /// The preferred measurement of every analyte.
    fn measured(&mut self, lower: bool, conflicts: &mut Vec<Analyte>) {
        for &(position, measurement, mark) in self.usable {
            let Some(interval) = measurement.value else {
                continue;
            };
            let reading = Reading {
                analyte: measurement.analyte,
                interval,
                from: vec![position],
                formula: None,
                suspect: mark.suspect.is_some(),
                preliminary: measurement.status == Status::Preliminary,
                bounded: false,
                corrected: matches!(measurement.status, Status::Corrected | Status::Amended),
            };
            let Some(known) = self
                .best
                .iter_mut()
                .find(|known| known.analyte == measurement.analyte)
            else {
                self.best.push(reading);
                continue;
            };
            let rival = known
                .from
                .first()
                .and_then(|first| self.usable.iter().find(|(position, ..)| position == first));
            let Some(&(_, rival, _)) = rival else {
                continue;
            };
            let conflict =
                conflicting(measurement.analyte, &known.interval, &interval, self.tuning);
            if conflict && !conflicts.contains(&measurement.analyte) {
                conflicts.push(measurement.analyte);
            }
            let better = if lower && conflict {
                interval.anchor() < known.interval.anchor()
            } else {
                (preference(measurement), identity(rival))
                    .cmp(&(preference(rival), identity(measurement)))
                    .is_lt()
            };
            if better {
                *known = reading;
            }
        }
    }

    fn white_cells(&mut self) {
        let Some(corrected) = self.get(Analyte::WbcCorrected).cloned() else {
            return;
        };
        self.best.retain(|reading| reading.analyte != Analyte::Wbc);
        self.best.push(Reading {
            analyte: Analyte::Wbc,
            ..corrected
        });
    }

    /// `percent x WBC / 100`, with the flags of both.
    fn share(&self, analyte: Analyte, percent: &Reading, formula: &'static str) -> Option<Reading> {
        let white = self.get(Analyte::Wbc)?;
        let interval = white
            .interval
            .times(&percent.interval)?
            .scaled(Decimal::new(1, 2))?;
        Some(combine(analyte, interval, formula, &[percent, white]))
    }

    /// An absolute count, sent or from its percentage; the lower one when they conflict (DQ-09).
    fn fraction(
        &mut self,
        absolute: Analyte,
        percent: Analyte,
        formula: &'static str,
        conflicts: &mut Vec<Analyte>,
    ) {
        let derived = self
            .get(percent)
            .and_then(|percent| self.share(absolute, percent, formula));
        self.settle(absolute, derived, conflicts);
    }

    fn settle(
        &mut self,
        absolute: Analyte,
        derived: Option<Reading>,
        conflicts: &mut Vec<Analyte>,
    ) {
        let Some(derived) = derived else { return };
        match self.best.iter_mut().find(|known| known.analyte == absolute) {
            None => self.best.push(derived),
            Some(sent) => {
                let apart = match (sent.interval.as_exact(), derived.interval.as_exact()) {
                    (Some(sent), Some(derived)) => {
                        let allowed = (sent * self.tuning.value(&CONFLICT_RELATIVE)
                            / Decimal::ONE_HUNDRED)
                            .max(self.tuning.value(&CONFLICT_ABSOLUTE));
                        (sent - derived).abs() > allowed
                    }
                    _ => false,
                };
                if apart {
                    if !conflicts.contains(&absolute) {
                        conflicts.push(absolute);
                    }
                    if derived.interval.anchor() < sent.interval.anchor() {
                        *sent = derived;
                    }
                }
            }
        }
    }

    fn neutrophils(&mut self, conflicts: &mut Vec<Analyte>) {
        let present = |analyte| {
            self.get(analyte)
                .is_some_and(|reading: &Reading| reading.interval.is_above(Decimal::ZERO).is_true())
        };
        let manual_preferred = [
            Analyte::Blasts,
            Analyte::BlastsAbsolute,
            Analyte::Nrbc,
            Analyte::NrbcAbsolute,
            Analyte::ImmatureGranulocytes,
            Analyte::ImmatureGranulocytesAbsolute,
        ]
        .into_iter()
        .any(present);
        let segments = self.total(
            Analyte::NeutrophilPercent,
            &[Analyte::SegsPercent, Analyte::BandsPercent],
            "segs + bands",
        );
        let counted = segments
            .as_ref()
            .and_then(|percent| self.share(Analyte::Anc, percent, "WBC x (segs + bands) / 100"));
        let manual = self
            .get(Analyte::AncManual)
            .map(|reading| Reading {
                analyte: Analyte::Anc,
                ..reading.clone()
            })
            .or_else(|| {
                self.get(Analyte::SegsPercent)
                    .filter(|reading| self.is_manual(reading))
                    .and_then(|_| counted.clone())
            });
        if let Some(manual) = manual
            && (manual_preferred || self.get(Analyte::Anc).is_none())
        {
            self.best.retain(|reading| reading.analyte != Analyte::Anc);
            self.best.push(manual);
            return;
        }
        let by_percent = self
            .get(Analyte::NeutrophilPercent)
            .and_then(|percent| self.share(Analyte::Anc, percent, "WBC x neutrophils % / 100"))
            .or(counted);
        if self.get(Analyte::Anc).is_none()
            && let Some(sum) = self.total(
                Analyte::Anc,
                &[Analyte::SegsAbsolute, Analyte::BandsAbsolute],
                "segs + bands",
            )
        {
            self.best.push(sum);
        }
        self.settle(Analyte::Anc, by_percent, conflicts);
        if self.get(Analyte::Anc).is_some() {
            return;
        }
        // Three-part analysers count eosinophils and basophils among the granulocytes; white cells
        // of every kind bound the neutrophils when nothing else does.
        let ceiling = self
            .get(Analyte::GranulocytesAbsolute)
            .or_else(|| self.get(Analyte::Wbc))
            .and_then(|reading| {
                let high = reading.interval.high?;
                let mut interval = Interval::at_most(high.value);
                if !high.closed {
                    interval = Interval::below(high.value);
                }
                let formula = if reading.analyte == Analyte::Wbc {
                    "not more than WBC"
                } else {
                    "not more than granulocytes"
                };
                Some(Reading {
                    bounded: true,
                    ..combine(Analyte::Anc, interval, formula, &[reading])
                })
            });
        self.best.extend(ceiling);
    }

    /// More neutrophils than white cells: one of the two is wrong (DQ-04 marks both), so that only
    /// what both allow is decided.
    fn neutrophils_against_white_cells(&mut self) {
        let (Some(neutrophils), Some(white)) = (self.get(Analyte::Anc), self.get(Analyte::Wbc))
        else {
            return;
        };
        let exceeds = white
            .interval
            .high
            .is_some_and(|most| neutrophils.interval.is_above(most.value).is_true());
        if exceeds {
            let between = Interval {
                low: white.interval.low,
                high: neutrophils.interval.high,
            };
            let either = combine(
                Analyte::Anc,
                between,
                "between WBC and neutrophils as sent",
                &[neutrophils, white],
            );
            self.best.retain(|reading| reading.analyte != Analyte::Anc);
            self.best.push(either);
        }
    }

    fn is_manual(&self, reading: &Reading) -> bool {
        reading.from.first().is_some_and(|first| {
            self.usable.iter().any(|(position, measurement, _)| {
                position == first && measurement.method == Method::Manual
            })
        })
    }

    /// The sum of those that were sent; `None` when the first was not.
    fn total(&self, analyte: Analyte, parts: &[Analyte], formula: &'static str) -> Option<Reading> {
        let parts: Vec<&Reading> = parts.iter().filter_map(|part| self.get(*part)).collect();
        let (first, rest) = parts.split_first()?;
        let interval = rest
            .iter()
            .try_fold(first.interval, |sum, part| sum.plus(&part.interval))?;
        Some(combine(analyte, interval, formula, &parts))
    }

    fn sum(&mut self, analyte: Analyte, parts: &[Analyte], formula: &'static str) {
        if self.get(analyte).is_none()
            && let Some(sum) = self.total(analyte, parts, formula)
        {
            self.best.push(sum);
        }
    }

    fn per_white_cells(&mut self, percent: Analyte, absolute: Analyte, formula: &'static str) {
        if self.get(percent).is_some() {
            return;
        }
        let derived = self.get(absolute).and_then(|absolute| {
            let white = self.get(Analyte::Wbc)?;
            let ratio = absolute.interval.ratio(&white.interval)?;
            Some(combine(
                percent,
                Interval::exact(ratio.checked_mul(Decimal::ONE_HUNDRED)?),
                formula,
                &[absolute, white],
            ))
        });
        self.best.extend(derived);
    }

    fn lymphocyte_percent(&mut self) {
        self.per_white_cells(
            Analyte::LymphocytePercent,
            Analyte::Alc,
            "lymphocytes / WBC x 100",
        );
    }

    fn reticulocytes(&mut self) {
        if self.get(Analyte::Arc).is_some() {
            return;
        }
        let derived = self.get(Analyte::ReticulocytePercent).and_then(|percent| {
            let ten = |interval: Interval| interval.scaled(Decimal::TEN);
            if let Some(red) = self.get(Analyte::Rbc) {
                let interval = ten(percent.interval.times(&red.interval)?)?;
                return Some(combine(
                    Analyte::Arc,
                    interval,
                    "reticulocytes % x RBC x 10",
                    &[percent, red],
                ));
            }
            if let (Some(hct), Some(mcv)) = (self.get(Analyte::Hct), self.get(Analyte::Mcv))
                && let Some(red) = hct.interval.ratio(&mcv.interval)
            {
                let red = Interval::exact(red.checked_mul(Decimal::ONE_THOUSAND)?);
                let interval = ten(percent.interval.times(&red)?)?;
                return Some(combine(
                    Analyte::Arc,
                    interval,
                    "reticulocytes % x (Hct / MCV x 1000) x 10",
                    &[percent, hct, mcv],
                ));
            }
            let high = percent.interval.high?.value;
            let highest = high
                .checked_mul(Decimal::TEN)?
                .checked_mul(self.tuning.value(&RBC_HIGHEST))?;
            Some(Reading {
                bounded: true,
                ..combine(
                    Analyte::Arc,
                    Interval::at_most(highest),
                    "not more than reticulocytes % x 10 x 6.5",
                    &[percent],
                )
            })
        });
        self.best.extend(derived);
    }

    fn saturation(&mut self) {
        if self.get(Analyte::Tsat).is_some() {
            return;
        }
        let derived = self.get(Analyte::Iron).and_then(|iron| {
            let capacity = self.get(Analyte::Tibc)?;
            let ratio = iron.interval.ratio(&capacity.interval)?;
            Some(combine(
                Analyte::Tsat,
                Interval::exact(ratio.checked_mul(Decimal::ONE_HUNDRED)?),
                "iron / TIBC x 100",
                &[iron, capacity],
            ))
        });
        self.best.extend(derived);
    }
}

fn combine(
    analyte: Analyte,
    interval: Interval,
    formula: &'static str,
    parts: &[&Reading],
) -> Reading {
    Reading {
        analyte,
        interval,
        from: parts
            .iter()
            .flat_map(|part| part.from.iter().copied())
            .collect(),
        formula: Some(formula),
        suspect: parts.iter().any(|part| part.suspect),
        preliminary: parts.iter().any(|part| part.preliminary),
        bounded: parts.iter().any(|part| part.bounded),
        corrected: parts.iter().any(|part| part.corrected),
    }
}

/// Whether two values of one analyte in one specimen cannot both be right.
fn conflicting(analyte: Analyte, one: &Interval, two: &Interval, tuning: &Tuning) -> bool {
    let (Some(one), Some(two)) = (one.as_exact(), two.as_exact()) else {
        return false;
    };
    let apart = (one - two).abs();
    match analyte {
        Analyte::Hb => apart > tuning.value(&CONFLICT_HB),
        Analyte::Wbc | Analyte::Anc | Analyte::Platelets => {
            apart * Decimal::ONE_HUNDRED > one.max(two) * tuning.value(&CONFLICT_OTHER)
        }
        _ => false,
    }
}

#[cfg(test)]
pub(super) mod tests {
    use time::{Duration, OffsetDateTime, macros::datetime};

    use super::*;

    const MORNING: OffsetDateTime = datetime!(2026-06-15 08:00:10 UTC);

    /// A result of 2026-06-15, 08:00:10, of which nothing else is known.
    pub(in crate::clinical) fn result(analyte: Analyte, value: i64) -> Measurement {
        let at = SampleTime {
            instant: MORNING,
            precision: Precision::Instant,
        };
        Measurement::of(analyte, Some(Interval::exact(value.into())), Some(at))
    }

    fn grouped(measurements: Vec<Measurement>) -> Vec<Specimen> {
        let timeline = Timeline {
            measurements,
            ..Timeline::default()
        };
        let mut specimens = group(&timeline, |_| true);
        let marks = vec![Mark::default(); timeline.measurements.len()];
        for specimen in &mut specimens {
            choose(specimen, &timeline, &marks, &Tuning::none());
        }
        specimens
    }

    #[test]
    fn one_minute_is_one_specimen_only_where_the_time_of_day_is_known() {
        let pair = |precision, later| {
            let at = |instant| Some(SampleTime { instant, precision });
            let hb = Measurement {
                at: at(MORNING),
                ..result(Analyte::Hb, 120)
            };
            let plt = Measurement {
                at: at(MORNING + later),
                ..result(Analyte::Platelets, 200)
            };
            grouped(vec![hb, plt]).len()
        };
        assert_eq!(pair(Precision::Instant, Duration::seconds(40)), 1);
        assert_eq!(pair(Precision::Instant, Duration::seconds(60)), 2);
        assert_eq!(pair(Precision::Day, Duration::ZERO), 2);
    }

    #[test]
    fn a_bound_says_what_it_comes_from() {
        for (analyte, formula) in [
            (Analyte::Wbc, "not more than WBC"),
            (Analyte::GranulocytesAbsolute, "not more than granulocytes"),
        ] {
            let specimens = grouped(vec![result(analyte, 2)]);
            let anc = specimens[0].get(Analyte::Anc).unwrap();
            assert!(anc.bounded);
            assert_eq!(anc.formula, Some(formula));
            assert_eq!(anc.interval, Interval::at_most(2.into()));
        }
    }
}
