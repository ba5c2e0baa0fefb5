//! Data quality (section 7): what is refused, what is doubted, and why. Nothing is ever re-scaled.
//!
//! Whether a unit is known and a number readable is decided where values are read; here a value is
//! judged against its range, its companions in the specimen and the patient's own history.

use rust_decimal::Decimal;
use time::{Duration, OffsetDateTime};

use super::{
    age::Ages,
    analyte::Analyte,
    assessment::Doubt,
    facts,
    limits::{
        Confidence::{Low, Medium},
        Limit, Tuning,
    },
    specimen::{self, CORE, Mark, Reading, Specimen, Why, of_blood_count},
    timeline::{Interpretation, Measurement, Method, SpecimenProblem, Status, Timeline},
    truth::Truth,
};

const OURS: &str = "project choice";

macro_rules! dq {
    ($name:ident, $id:literal, $value:literal, $step:literal, $unit:literal) => {
        static $name: Limit = Limit::new($id, $value, $step, $unit, OURS, Low);
    };
}

dq!(FUTURE, "dq.future", "24", "1", "h");
dq!(PG_REJECT_LOW, "dq02.pg_reject_low", "5", "0.1", "pg");
dq!(PG_REJECT_HIGH, "dq02.pg_reject_high", "150", "0.1", "pg");
dq!(PG_SUSPECT_LOW, "dq02.pg_suspect_low", "10", "0.1", "pg");
dq!(PG_SUSPECT_HIGH, "dq02.pg_suspect_high", "60", "0.1", "pg");
dq!(HCT_FACTOR, "dq02.hct_factor", "333", "1", "g/L");
dq!(HCT_REJECT, "dq02.hct_reject_factor", "3", "0.1", "1");
dq!(HCT_SUSPECT, "dq02.hct_suspect_percent", "20", "1", "%");
dq!(OVER_WBC, "dq04.over_wbc", "1.05", "0.01", "1");
dq!(SUM_LOW, "dq04.sum_low", "95", "1", "%");
dq!(SUM_HIGH, "dq04.sum_high", "105", "1", "%");
dq!(MCV_HCT, "dq04.mcv_hct_percent", "5", "1", "%");
dq!(MCHC_HIGH, "dq04.mchc_high", "370", "1", "g/L");
dq!(MCHC_LOW, "dq04.mchc_low", "270", "1", "g/L");
dq!(CITRATE_RATIO, "dq11.citrate", "1.5", "0.1", "1");
dq!(CITRATE_HOURS, "dq11.citrate_hours", "24", "1", "h");
dq!(WBC_INTERFERES, "dq12.wbc", "100", "1", "10*9/L");
dq!(DILUTION_HOURS, "dq13.hours", "24", "1", "h");
dq!(DILUTION_FALL, "dq13.fall_percent", "20", "1", "%");
dq!(DILUTION_RATIO, "dq13.ratio", "1.15", "0.01", "1");
dq!(DELTA_DAYS, "dq17.days", "7", "1", "d");
dq!(DELTA_MCV, "dq17.mcv", "5", "0.1", "fL");
dq!(DELTA_HB, "dq17.hb_rise", "30", "1", "g/L");
dq!(DELTA_FACTOR, "dq17.factor", "3", "0.1", "1");
dq!(DELTA_BLASTS, "dq17.blasts", "1", "0.1", "%");
dq!(LABORATORY_MCV, "dq25.mcv", "5", "0.1", "fL");
dq!(UNIT_DELTA_DAYS, "t4.days", "14", "1", "d");
dq!(UNIT_DELTA_SPREAD, "t4.spread_percent", "25", "1", "%");
dq!(UNIT_DELTA_QUIET, "t4.other_percent", "30", "1", "%");
dq!(ZONE_HB_HIGH, "t2.hb_high", "25", "1", "g/L");
dq!(ZONE_HB_OTHER, "t2.hb_other", "60", "1", "g/L");
dq!(ZONE_HB_DAYS, "t2.hb_days", "7", "1", "d");
dq!(ZONE_HB_MMOL, "t2.hb_mmol", "3.0", "0.1", "mmol/L");
dq!(ZONE_HB_MMOL_FROM, "t2.hb_mmol_from", "1.0", "0.1", "mmol/L");
dq!(ZONE_WHITE, "t2.white_per_ul", "20", "1", "/uL");
dq!(
    ZONE_WHITE_DECIMALS,
    "t2.white_decimals_per_ul",
    "100",
    "1",
    "/uL"
);
dq!(ZONE_WBC_HIGH, "t2.wbc_high", "300", "1", "10*9/L");
dq!(ZONE_PLT, "t2.plt_per_ul", "1000", "1", "/uL");
dq!(ZONE_PLT_HIGH, "t2.plt_high", "1000", "1", "10*9/L");
dq!(ZONE_ARC, "t2.arc", "1", "0.1", "10*9/L");
dq!(ZONE_HCT, "t2.hct", "0.08", "0.01", "L/L");
dq!(ZONE_PERCENT, "t2.percent", "1", "0.1", "%");
dq!(ZONE_SUM_LOW, "t2.sum_low", "0.95", "0.01", "1");
dq!(ZONE_SUM_HIGH, "t2.sum_high", "1.05", "0.01", "1");
dq!(MPV_PLT, "mpv.plt", "20", "1", "10*9/L");
dq!(SUSPECT_HB_LOW, "dq03.hb_suspect_low", "30", "1", "g/L");
dq!(SUSPECT_HB_HIGH, "dq03.hb_suspect_high", "220", "1", "g/L");
dq!(SUSPECT_WBC, "dq03.wbc_suspect", "100", "1", "10*9/L");
dq!(
    SUSPECT_HB_NEONATE,
    "dq03.hb_suspect_neonate",
    "250",
    "1",
    "g/L"
);
dq!(NEONATE, "dq03.neonate", "28", "1", "d");

/// Factors by which units of one quantity differ.
const UNIT_FACTORS: [i64; 4] = [10, 18, 100, 1000];

/// Hard ranges of section 1 (T1): the reader refuses them first; repeated here so that a timeline
/// from anywhere is judged alike.
struct HardRange {
    analyte: Analyte,
    low: Limit,
    high: Limit,
}

macro_rules! hard {
    ($analyte:ident, $key:literal, $low:literal, $high:literal, $step:literal, $unit:literal) => {
        HardRange {
            analyte: Analyte::$analyte,
            low: Limit::new(
                concat!("dq03.", $key, ".low"),
                $low,
                $step,
                $unit,
                OURS,
                Medium,
            ),
            high: Limit::new(
                concat!("dq03.", $key, ".high"),
                $high,
                $step,
                $unit,
                OURS,
                Medium,
            ),
        }
    };
}

static HARD: [HardRange; 14] = [
    hard!(Hb, "hb", "15", "270", "1", "g/L"),
    hard!(Hct, "hct", "0.04", "0.80", "0.01", "L/L"),
    hard!(Rbc, "rbc", "0.3", "10", "0.1", "10*12/L"),
    hard!(Mcv, "mcv", "40", "165", "1", "fL"),
    hard!(Mch, "mch", "8", "60", "1", "pg"),
    hard!(Mchc, "mchc", "200", "450", "1", "g/L"),
    hard!(Rdw, "rdw", "8", "50", "1", "%"),
    hard!(Wbc, "wbc", "0", "1000", "1", "10*9/L"),
    hard!(WbcCorrected, "wbc_corr", "0", "1000", "1", "10*9/L"),
    hard!(Platelets, "plt", "0", "5000", "1", "10*9/L"),
    hard!(Arc, "arc", "0", "1500", "1", "10*9/L"),
    hard!(ReticulocytePercent, "retp", "0", "60", "1", "%"),
    hard!(Mpv, "mpv", "4", "25", "1", "fL"),
    hard!(Blasts, "blast", "0", "100", "1", "%"),
];

/// Limits of this module.
pub fn limits() -> Vec<&'static Limit> {
    let mut all = vec![
        &FUTURE,
        &PG_REJECT_LOW,
        &PG_REJECT_HIGH,
        &PG_SUSPECT_LOW,
        &PG_SUSPECT_HIGH,
        &HCT_FACTOR,
        &HCT_REJECT,
        &HCT_SUSPECT,
        &OVER_WBC,
        &SUM_LOW,
        &SUM_HIGH,
        &MCV_HCT,
        &MCHC_HIGH,
        &MCHC_LOW,
        &CITRATE_RATIO,
        &CITRATE_HOURS,
        &WBC_INTERFERES,
        &DILUTION_HOURS,
        &DILUTION_FALL,
        &DILUTION_RATIO,
        &DELTA_DAYS,
        &DELTA_MCV,
        &LABORATORY_MCV,
        &DELTA_HB,
        &DELTA_FACTOR,
        &DELTA_BLASTS,
        &UNIT_DELTA_DAYS,
        &UNIT_DELTA_SPREAD,
        &UNIT_DELTA_QUIET,
        &ZONE_HB_HIGH,
        &ZONE_HB_OTHER,
        &ZONE_HB_DAYS,
        &ZONE_HB_MMOL,
        &ZONE_HB_MMOL_FROM,
        &ZONE_WHITE,
        &ZONE_WHITE_DECIMALS,
        &ZONE_WBC_HIGH,
        &ZONE_PLT,
        &ZONE_PLT_HIGH,
        &ZONE_ARC,
        &ZONE_HCT,
        &ZONE_PERCENT,
        &ZONE_SUM_LOW,
        &ZONE_SUM_HIGH,
        &MPV_PLT,
        &SUSPECT_HB_LOW,
        &SUSPECT_HB_HIGH,
        &SUSPECT_HB_NEONATE,
        &SUSPECT_WBC,
        &NEONATE,
    ];
    all.extend(HARD.iter().flat_map(|range| [&range.low, &range.high]));
    all
}

/// A timeline after judgement: every measurement marked, specimens oldest first with their values.
#[derive(Debug)]
pub struct Record {
    /// One per measurement of the timeline.
    pub marks: Vec<Mark>,
    /// Oldest first.
    pub specimens: Vec<Specimen>,
}

/// Values that are not used, or used with doubt, over the whole timeline.
pub fn review(timeline: &Timeline, as_of: OffsetDateTime) -> Vec<Doubt> {
    let record = examine(timeline, as_of, &Tuning::none());
    doubts(timeline, &record, |_| true)
}

/// Judges every measurement.
pub fn examine(timeline: &Timeline, as_of: OffsetDateTime, tuning: &Tuning) -> Record {
    let hours = i64::try_from(tuning.value(&FUTURE)).unwrap_or(24);
    let latest = as_of.checked_add(Duration::hours(hours)).unwrap_or(as_of);
    let mut marks: Vec<Mark> = timeline
        .measurements
        .iter()
        .map(|measurement| first_look(measurement, latest, tuning))
        .collect();
    // Refused values keep their place in the specimen: a refused count is unknown there.
    let mut specimens = specimen::group(timeline, |position| {
        let sampled = timeline
            .measurements
            .get(position)
            .and_then(|measurement| measurement.at)
            .is_some_and(|at| at.instant <= latest);
        sampled && marks.get(position).is_some_and(|mark| !mark.ignored)
    });
    let mut done: Vec<Specimen> = Vec::with_capacity(specimens.len());
    for mut specimen in specimens.drain(..) {
        let mut judge = Judge {
            timeline,
            marks: &mut marks,
            tuning,
        };
        judge.problems(&mut specimen);
        judge.alias_zones(&specimen, &done);
        judge.companions(&specimen);
        specimen::choose(&mut specimen, timeline, judge.marks, tuning);
        if judge.history(&mut specimen, &done) {
            specimen::choose(&mut specimen, timeline, judge.marks, tuning);
        }
        specimen.refused = specimen
            .members
            .iter()
            .copied()
            .filter(|position| {
                judge
                    .marks
                    .get(*position)
                    .is_some_and(|mark| mark.refused.is_some())
                    && timeline
                        .measurements
                        .get(*position)
                        .is_some_and(|measurement| of_blood_count(measurement.analyte))
            })
            .collect();
        done.push(specimen);
    }
    Record {
        marks,
        specimens: done,
    }
}

/// What can be said of a measurement alone.
fn first_look(measurement: &Measurement, latest: OffsetDateTime, tuning: &Tuning) -> Mark {
    let mut mark = Mark::default();
    if matches!(
        measurement.status,
        Status::EnteredInError | Status::NotEvaluated
    ) {
        mark.ignored = true;
        return mark;
    }
    if let Some(reason) = &measurement.unusable {
        mark.refused = Some(Why {
            word: reason.word,
            text: reason.text.clone(),
        });
        return mark;
    }
    let Some(at) = measurement.at else {
        mark.refused = Some(why("time-missing", "It has no sample time."));
        return mark;
    };
    if at.instant > latest {
        mark.refused = Some(why(
            "future",
            "It was sampled more than 24 h after the time of the assessment.",
        ));
        return mark;
    }
    let Some(value) = measurement.value else {
        mark.refused = Some(why("unit-unknown", "It could not be converted."));
        return mark;
    };
    if let Some(range) = HARD
        .iter()
        .find(|range| range.analyte == measurement.analyte)
        && (value.is_below(tuning.value(&range.low)).is_true()
            || value.is_above(tuning.value(&range.high)).is_true())
    {
        mark.refused = Some(why(
            "value-implausible",
            "It lies outside what is possible; a unit error is suspected.",
        ));
    }
    mark
}

fn why(word: &'static str, text: &str) -> Why {
    Why {
        word,
        text: text.to_owned(),
    }
}

/// The number as it was written, without comparator.
pub fn received_number(measurement: &Measurement) -> Option<Decimal> {
    let text = measurement
        .received
        .value
        .trim()
        .trim_start_matches(['<', '>', '=', '≤', '≥', '~', ' ']);
    Decimal::from_str_exact(text)
        .or_else(|_| Decimal::from_scientific(text))
        .ok()
}

fn per_microlitre(unit: &str) -> bool {
    matches!(
        unit,
        "/uL" | "1/uL" | "{cells}/uL" | "/mm3" | "10*6/L" | "/ul" | "/UL" | "cells/uL" | "/cumm"
    )
}

struct Judge<'a> {
    timeline: &'a Timeline,
    marks: &'a mut Vec<Mark>,
    tuning: &'a Tuning,
}

impl Judge<'_> {
    fn measurement(&self, position: usize) -> Option<&Measurement> {
        self.timeline.measurements.get(position)
    }

    fn value(&self, limit: &Limit) -> Decimal {
        self.tuning.value(limit)
    }

    fn refuse(&mut self, position: usize, word: &'static str, text: &str) {
        if let Some(mark) = self.marks.get_mut(position)
            && mark.refused.is_none()
        {
            mark.refused = Some(why(word, text));
        }
    }

    fn doubt(&mut self, position: usize, word: &'static str, text: &str) {
        if let Some(mark) = self.marks.get_mut(position)
            && mark.suspect.is_none()
        {
            mark.suspect = Some(why(word, text));
        }
    }

    /// Usable members of these analytes.
    fn members(&self, specimen: &Specimen, analytes: &[Analyte]) -> Vec<usize> {
        specimen
            .members
            .iter()
            .copied()
            .filter(|position| {
                self.marks.get(*position).is_some_and(Mark::usable)
                    && self
                        .measurement(*position)
                        .is_some_and(|measurement| analytes.contains(&measurement.analyte))
            })
            .collect()
    }

    /// The exact value of the first usable member of an analyte.
    fn exact(&self, specimen: &Specimen, analyte: Analyte) -> Option<Decimal> {
        self.members(specimen, &[analyte])
            .into_iter()
            .find_map(|position| self.measurement(position)?.value?.as_exact())
    }

    /// DQ-08, DQ-11: what is wrong with the specimen itself; DQ-03: suspect haemoglobin.
    fn problems(&mut self, specimen: &mut Specimen) {
        let mut problems: Vec<SpecimenProblem> = specimen
            .members
            .iter()
            .filter_map(|position| self.measurement(*position))
            .flat_map(|measurement| measurement.problems.iter().copied())
            .collect();
        problems.sort_unstable();
        problems.dedup();
        let members = specimen.members.clone();
        for problem in problems {
            for &position in &members {
                let Some(analyte) = self.measurement(position).map(|found| found.analyte) else {
                    continue;
                };
                let blood = of_blood_count(analyte);
                match problem {
                    SpecimenProblem::Clotted if blood => {
                        self.refuse(position, "clotted", "The specimen was clotted: repeat it.");
                    }
                    SpecimenProblem::Diluted if blood => self.refuse(
                        position,
                        "not-measured",
                        "The specimen was diluted (drip arm): repeat it.",
                    ),
                    SpecimenProblem::Insufficient if blood => self.refuse(
                        position,
                        "not-measured",
                        "The specimen was insufficient: repeat it.",
                    ),
                    SpecimenProblem::Haemolysed => match analyte {
                        Analyte::Ldh => {
                            self.refuse(position, "not-measured", "The specimen was haemolysed.");
                        }
                        Analyte::Haptoglobin | Analyte::Rbc | Analyte::Hct => self.doubt(
                            position,
                            "unit-inconsistent",
                            "The specimen was haemolysed.",
                        ),
                        _ => {}
                    },
                    SpecimenProblem::Lipaemic if matches!(analyte, Analyte::Hb | Analyte::Mchc) => {
                        self.doubt(position, "unit-inconsistent", "The specimen was lipaemic.");
                    }
                    SpecimenProblem::Aged
                        if blood
                            && !matches!(
                                analyte,
                                Analyte::Hb | Analyte::Rbc | Analyte::Wbc | Analyte::Platelets
                            ) =>
                    {
                        self.doubt(
                            position,
                            "unit-inconsistent",
                            "The specimen was more than 24 h old.",
                        );
                    }
                    _ => {}
                }
            }
            specimen.clumped |= problem == SpecimenProblem::Clumped;
        }
        specimen.clumped |= facts::at(self.timeline, specimen.at.instant)
            .get("plt_clump")
            .is_some_and(Truth::is_true)
            || self.citrate_contradicts(specimen);
        if specimen.clumped {
            self.clumped(specimen);
        }
        self.suspect_haemoglobin(specimen);
        self.suspect_white_cells(specimen);
        // The volume of few platelets means nothing (section 1).
        if self
            .exact(specimen, Analyte::Platelets)
            .is_some_and(|platelets| platelets < self.value(&MPV_PLT))
        {
            for position in self.members(specimen, &[Analyte::Mpv]) {
                self.refuse(
                    position,
                    "not-measured",
                    "Mean platelet volume is not used below 20 platelets.",
                );
            }
        }
    }

    /// DQ-11: what clumps make unreliable. A count from citrate stays: it is taken because of them.
    fn clumped(&mut self, specimen: &Specimen) {
        for position in self.members(
            specimen,
            &[
                Analyte::Platelets,
                Analyte::Mpv,
                Analyte::Ipf,
                Analyte::IpfAbsolute,
            ],
        ) {
            if !self.measurement(position).is_some_and(specimen::of_citrate) {
                self.refuse(
                    position,
                    "clumped",
                    "Platelets were clumped: the number is not reliable.",
                );
            }
        }
    }

    /// Platelets half as many again in citrate, within a day: they clump in EDTA.
    fn citrate_contradicts(&self, specimen: &Specimen) -> bool {
        let hours = i64::try_from(self.value(&CITRATE_HOURS)).unwrap_or_default();
        let citrate =
            specimen::citrate_platelets(self.timeline, specimen.at.instant, Duration::hours(hours));
        let highest = citrate
            .filter_map(|measurement| measurement.value?.as_exact())
            .max();
        let Some(highest) = highest else {
            return false;
        };
        self.members(specimen, &[Analyte::Platelets])
            .into_iter()
            .filter_map(|position| self.measurement(position))
            .filter(|measurement| !specimen::of_citrate(measurement))
            .filter_map(|measurement| measurement.value?.as_exact())
            .any(|counted| highest >= counted * self.value(&CITRATE_RATIO))
    }

    fn suspect_haemoglobin(&mut self, specimen: &Specimen) {
        let neonate = self
            .timeline
            .person
            .birth
            .and_then(|birth| Ages::new(birth, specimen.day()))
            .is_some_and(|ages| !ages.young.reaches(&NEONATE, self.tuning));
        let high = if neonate {
            self.value(&SUSPECT_HB_NEONATE)
        } else {
            self.value(&SUSPECT_HB_HIGH)
        };
        let low = self.value(&SUSPECT_HB_LOW);
        for position in self.members(specimen, &[Analyte::Hb]) {
            let unlikely = self
                .measurement(position)
                .and_then(|found| found.value)
                .is_some_and(|value| {
                    value.is_below(low).is_true() || value.is_above(high).is_true()
                });
            if unlikely {
                self.doubt(position, "unit-suspect", "Hardly possible: please verify.");
            }
        }
    }

    /// Leukaemia or a unit error: both need a second look (section 1).
    fn suspect_white_cells(&mut self, specimen: &Specimen) {
        let high = self.value(&SUSPECT_WBC);
        for position in self.members(specimen, &[Analyte::Wbc]) {
            let unlikely = self
                .measurement(position)
                .and_then(|found| found.value)
                .is_some_and(|value| value.is_above(high).is_true());
            if unlikely {
                self.doubt(position, "unit-suspect", "Extreme: please verify.");
            }
        }
    }

    /// T2, with T3 as its judge where a companion exists.
    fn alias_zones(&mut self, specimen: &Specimen, earlier: &[Specimen]) {
        let sum = self.percent_sum(specimen);
        for position in specimen.members.clone() {
            if !self.marks.get(position).is_some_and(Mark::usable) {
                continue;
            }
            let Some(measurement) = self.measurement(position) else {
                continue;
            };
            let (Some(value), Some(raw)) = (
                measurement.value.and_then(|value| value.as_exact()),
                received_number(measurement),
            ) else {
                continue;
            };
            let unit = measurement.received.unit.as_str();
            let zone = match measurement.analyte {
                Analyte::Hb => self.haemoglobin_zone(specimen, earlier, value, raw, unit),
                Analyte::Wbc
                | Analyte::WbcCorrected
                | Analyte::Alc
                | Analyte::Anc
                | Analyte::Amc => {
                    let small = per_microlitre(unit)
                        && raw > Decimal::ZERO
                        && (raw < self.value(&ZONE_WHITE)
                            || (!raw.normalize().is_integer()
                                && raw < self.value(&ZONE_WHITE_DECIMALS)));
                    let large = measurement.analyte == Analyte::Wbc
                        && value > self.value(&ZONE_WBC_HIGH)
                        && matches!(unit, "10*3/uL" | "10*9/L" | "")
                        && raw >= Decimal::ONE_THOUSAND
                        && (raw % Decimal::TEN).is_zero();
                    small || large
                }
                Analyte::Platelets => {
                    let small =
                        per_microlitre(unit) && raw > Decimal::ZERO && raw < self.value(&ZONE_PLT);
                    let large = value > self.value(&ZONE_PLT_HIGH)
                        && !per_microlitre(unit)
                        && raw == value
                        && (raw % Decimal::ONE_THOUSAND).is_zero();
                    small || large
                }
                Analyte::Arc => {
                    value < self.value(&ZONE_ARC) && raw == value && !raw.normalize().is_integer()
                }
                Analyte::Hct => unit == "%" && value < self.value(&ZONE_HCT),
                analyte if is_share(analyte) => {
                    unit == "%"
                        && raw > Decimal::ZERO
                        && raw < self.value(&ZONE_PERCENT)
                        && sum.is_some_and(|sum| {
                            sum >= self.value(&ZONE_SUM_LOW) && sum <= self.value(&ZONE_SUM_HIGH)
                        })
                }
                _ => false,
            };
            if !zone {
                continue;
            }
            match self.companion_agrees(specimen, position, true) {
                Some(true) => {}
                Some(false) => self.refuse(
                    position,
                    "unit-inconsistent",
                    "Other values of the specimen contradict it: a unit error is suspected.",
                ),
                None => self.refuse(
                    position,
                    "unit-suspect",
                    "Not usable: verify today; possible unit error, critical if the unit is right.",
                ),
            }
        }
    }

    fn haemoglobin_zone(
        &self,
        specimen: &Specimen,
        earlier: &[Specimen],
        value: Decimal,
        raw: Decimal,
        unit: &str,
    ) -> bool {
        if unit == "mmol/L" {
            return value < self.value(&ZONE_HB_OTHER)
                && raw >= self.value(&ZONE_HB_MMOL_FROM)
                && raw <= self.value(&ZONE_HB_MMOL);
        }
        if value >= self.value(&ZONE_HB_HIGH) || !matches!(unit, "g/L" | "kg/m3" | "mg/mL" | "") {
            return false;
        }
        let days = i64::try_from(self.value(&ZONE_HB_DAYS)).unwrap_or(7);
        let known_low = earlier.iter().rev().any(|other| {
            (specimen.at.instant - other.at.instant).whole_days() <= days
                && other.get(Analyte::Hb).is_some_and(|reading| {
                    reading
                        .interval
                        .is_below(self.value(&ZONE_HB_OTHER))
                        .is_true()
                })
        });
        !known_low
    }

    /// T3 for a haemoglobin: `None` without a companion. A value in an alias zone has to agree
    /// within the narrower limits.
    fn companion_agrees(&self, specimen: &Specimen, position: usize, zone: bool) -> Option<bool> {
        let (low, high, factor) = if zone {
            (
                self.value(&PG_SUSPECT_LOW),
                self.value(&PG_SUSPECT_HIGH),
                Decimal::ONE + self.value(&HCT_SUSPECT) / Decimal::ONE_HUNDRED,
            )
        } else {
            (
                self.value(&PG_REJECT_LOW),
                self.value(&PG_REJECT_HIGH),
                self.value(&HCT_REJECT),
            )
        };
        let measurement = self.measurement(position)?;
        let value = measurement.value?.as_exact()?;
        if !matches!(measurement.analyte, Analyte::Hb) {
            return None;
        }
        let by_red = self.exact(specimen, Analyte::Rbc).and_then(|red| {
            let picograms = value.checked_div(red)?;
            Some(picograms >= low && picograms <= high)
        });
        let by_hct = self.haematocrit(specimen).and_then(|hct| {
            let expected = hct.checked_mul(self.value(&HCT_FACTOR))?;
            let ratio = expected.max(value).checked_div(expected.min(value))?;
            Some(ratio < factor)
        });
        match (by_red, by_hct) {
            (None, None) => None,
            (red, hct) => Some(red.unwrap_or(true) && hct.unwrap_or(true)),
        }
    }

    /// A measured haematocrit: one that was estimated from haemoglobin proves nothing about it.
    fn haematocrit(&self, specimen: &Specimen) -> Option<Decimal> {
        self.members(specimen, &[Analyte::Hct])
            .into_iter()
            .filter_map(|position| self.measurement(position))
            .filter(|measurement| {
                measurement.source.loinc.as_deref() != Some("48703-3")
                    && measurement.method != Method::Calculated
            })
            .find_map(|measurement| measurement.value?.as_exact())
    }

    /// Sum of the differential in %, when its main parts are there.
    fn percent_sum(&self, specimen: &Specimen) -> Option<Decimal> {
        let neutrophils = self
            .exact(specimen, Analyte::NeutrophilPercent)
            .or_else(|| {
                let segments = self.exact(specimen, Analyte::SegsPercent)?;
                Some(
                    segments
                        + self
                            .exact(specimen, Analyte::BandsPercent)
                            .unwrap_or_default(),
                )
            })?;
        let lymphocytes = self.exact(specimen, Analyte::LymphocytePercent)?;
        let monocytes = self.exact(specimen, Analyte::MonocytePercent)?;
        let rest: Decimal = [
            Analyte::EosinophilPercent,
            Analyte::BasophilPercent,
            Analyte::Blasts,
            Analyte::PromyelocytePercent,
            Analyte::MyelocytePercent,
            Analyte::MetamyelocytePercent,
            Analyte::AtypicalLymphocytesPercent,
            Analyte::PlasmaPercent,
            Analyte::OtherCellsPercent,
            Analyte::OtherWhiteCellsPercent,
        ]
        .into_iter()
        .filter_map(|analyte| self.exact(specimen, analyte))
        .sum();
        Some(neutrophils + lymphocytes + monocytes + rest)
    }

    /// DQ-02, DQ-04, DQ-12 (T3 outside the alias zones).
    fn companions(&mut self, specimen: &Specimen) {
        let agglutinin = self
            .exact(specimen, Analyte::Mchc)
            .is_some_and(|mchc| mchc > self.value(&MCHC_HIGH));
        if agglutinin {
            self.cold_agglutinin(specimen);
        } else {
            self.haemoglobin_companions(specimen);
        }
        if self
            .exact(specimen, Analyte::Mchc)
            .is_some_and(|mchc| mchc < self.value(&MCHC_LOW))
        {
            for position in self.members(specimen, &[Analyte::Mchc]) {
                self.doubt(
                    position,
                    "unit-inconsistent",
                    "MCHC below 270 g/L: please verify.",
                );
            }
        }
        if let Some(white) = self.exact(specimen, Analyte::Wbc) {
            let highest = white * self.value(&OVER_WBC);
            for analyte in [Analyte::Anc, Analyte::Alc, Analyte::Amc] {
                if self
                    .exact(specimen, analyte)
                    .is_some_and(|part| part > highest)
                {
                    for position in self.members(specimen, &[analyte, Analyte::Wbc]) {
                        self.doubt(
                            position,
                            "unit-inconsistent",
                            "One kind of white cell exceeds all white cells: please verify.",
                        );
                    }
                }
            }
            if white >= self.value(&WBC_INTERFERES) {
                for position in self.members(specimen, &[Analyte::Hb, Analyte::Mcv, Analyte::Mchc])
                {
                    self.doubt(
                        position,
                        "unit-inconsistent",
                        "White cells of 100 and more disturb this measurement: please verify.",
                    );
                }
            }
        }
        if let (Some(volume), Some(red), Some(hct)) = (
            self.exact(specimen, Analyte::Mcv),
            self.exact(specimen, Analyte::Rbc),
            self.exact(specimen, Analyte::Hct),
        ) {
            let expected = volume * red / Decimal::ONE_THOUSAND;
            if (expected - hct).abs() * Decimal::ONE_HUNDRED > hct * self.value(&MCV_HCT) {
                for position in self.members(specimen, &[Analyte::Mcv, Analyte::Rbc, Analyte::Hct])
                {
                    self.doubt(
                        position,
                        "unit-inconsistent",
                        "MCV, red cells and haematocrit do not agree: please verify.",
                    );
                }
            }
        }
        if self.percent_sum(specimen).is_some_and(|sum| {
            (sum < self.value(&SUM_LOW) || sum > self.value(&SUM_HIGH))
                && (sum < self.value(&ZONE_SUM_LOW) || sum > self.value(&ZONE_SUM_HIGH))
        }) {
            let parts: Vec<Analyte> = Analyte::all()
                .filter(|analyte| is_share(*analyte))
                .collect();
            for position in self.members(specimen, &parts) {
                self.doubt(
                    position,
                    "unit-inconsistent",
                    "The differential does not add up to 95-105 %: please verify.",
                );
            }
        }
    }

    fn cold_agglutinin(&mut self, specimen: &Specimen) {
        let lipaemic = specimen
            .members
            .iter()
            .filter_map(|position| self.measurement(*position))
            .any(|measurement| measurement.problems.contains(&SpecimenProblem::Lipaemic));
        for position in self.members(
            specimen,
            &[
                Analyte::Rbc,
                Analyte::Hct,
                Analyte::Mcv,
                Analyte::Mch,
                Analyte::Mchc,
                Analyte::Arc,
            ],
        ) {
            let optical_reticulocytes = self.measurement(position).is_some_and(|measurement| {
                measurement.analyte == Analyte::Arc && measurement.method == Method::Optical
            });
            if !optical_reticulocytes {
                self.refuse(
                    position,
                    "unit-inconsistent",
                    "MCHC above 370 g/L: red cell indices are not usable (cold agglutinin?).",
                );
            }
        }
        if lipaemic {
            for position in self.members(specimen, &[Analyte::Hb]) {
                self.doubt(position, "unit-inconsistent", "Lipaemia: please verify.");
            }
        }
    }

    fn haemoglobin_companions(&mut self, specimen: &Specimen) {
        let haemoglobins = self.members(specimen, &[Analyte::Hb]);
        for position in haemoglobins {
            let Some(value) = self
                .measurement(position)
                .and_then(|measurement| measurement.value?.as_exact())
            else {
                continue;
            };
            if self.companion_agrees(specimen, position, false) == Some(false) {
                self.refuse(
                    position,
                    "unit-inconsistent",
                    "Red cells or haematocrit contradict it: a unit error is suspected.",
                );
                continue;
            }
            let by_red = self.exact(specimen, Analyte::Rbc).is_some_and(|red| {
                value.checked_div(red).is_some_and(|picograms| {
                    picograms < self.value(&PG_SUSPECT_LOW)
                        || picograms > self.value(&PG_SUSPECT_HIGH)
                })
            });
            let by_hct = self.haematocrit(specimen).is_some_and(|hct| {
                (hct * self.value(&HCT_FACTOR) - value).abs() * Decimal::ONE_HUNDRED
                    > value * self.value(&HCT_SUSPECT)
            });
            if by_red || by_hct {
                for position in self.members(specimen, &[Analyte::Hb, Analyte::Hct]) {
                    self.doubt(
                        position,
                        "unit-inconsistent",
                        "Haemoglobin, red cells and haematocrit do not agree: please verify.",
                    );
                }
            }
        }
    }

    /// DQ-13, DQ-17 and T4, against the patient's earlier specimens. `true` when a mark changed.
    fn history(&mut self, specimen: &mut Specimen, earlier: &[Specimen]) -> bool {
        let past = Past {
            now: specimen,
            earlier,
        };
        let transfused = facts::at(self.timeline, specimen.at.instant)
            .get("rbc_transfusion_120d")
            .is_some_and(Truth::is_true);
        let diluted = self.dilution(&past, transfused);
        let odd = self.odd_changes(&past, transfused);
        let by_unit = self.unit_changes(&past);
        specimen.diluted = diluted;
        specimen.doubtful_identity = !odd.is_empty() || !by_unit.is_empty();
        let mut doubts = vec![
            (
                by_unit,
                "unit-delta",
                "Differs from the last value by a unit's factor: verify unit and patient.",
            ),
            (
                odd,
                "unit-inconsistent",
                "Changed more than expected since the last result: verify patient and sample.",
            ),
        ];
        if diluted {
            doubts.push((
                vec![Analyte::Hb, Analyte::Wbc, Analyte::Platelets],
                "unit-inconsistent",
                "Possible dilution: repeat.",
            ));
        }
        let mut changed = false;
        for (analytes, word, text) in doubts {
            for position in self.members(specimen, &analytes) {
                changed = true;
                self.doubt(position, word, text);
            }
        }
        changed
    }

    fn given(&self, specimen: &Specimen, tokens: &[&str]) -> bool {
        let facts = facts::at(self.timeline, specimen.at.instant);
        tokens
            .iter()
            .any(|token| facts.get(token).is_some_and(Truth::is_true))
    }

    fn days(&self, limit: &Limit) -> Duration {
        super::grade::days(limit, self.tuning)
    }

    /// DQ-13: Hb, WBC and PLT fall together by the same share within a day.
    fn dilution(&self, past: &Past<'_>, transfused: bool) -> bool {
        const TOGETHER: [Analyte; 3] = [Analyte::Hb, Analyte::Wbc, Analyte::Platelets];
        let hours = Duration::hours(i64::try_from(self.value(&DILUTION_HOURS)).unwrap_or_default());
        let Some(before) = past
            .within(hours)
            .find(|other| TOGETHER.iter().all(|analyte| other.get(*analyte).is_some()))
        else {
            return false;
        };
        let ratios: Option<Vec<Decimal>> = TOGETHER
            .into_iter()
            .map(|analyte| exact(past.now, analyte)?.checked_div(exact(before, analyte)?))
            .collect();
        let fallen = Decimal::ONE - self.value(&DILUTION_FALL) / Decimal::ONE_HUNDRED;
        let alike = ratios.is_some_and(|ratios| {
            let largest = ratios.iter().max().copied().unwrap_or_default();
            let smallest = ratios.iter().min().copied().unwrap_or_default();
            largest <= fallen && largest <= smallest * self.value(&DILUTION_RATIO)
        });
        alike && !transfused && !self.given(past.now, &["bleeding", "iv_fluids"])
    }

    /// DQ-17: changes that rather mean another patient's sample.
    fn odd_changes(&self, past: &Past<'_>, transfused: bool) -> Vec<Analyte> {
        let within = self.days(&DELTA_DAYS);
        let pair = |analyte| Some((exact(past.now, analyte)?, past.last(analyte, within)?));
        let mut odd = Vec::new();
        if let Some((now, then)) = pair(Analyte::Mcv)
            && (now - then).abs() > self.value(&DELTA_MCV)
            && !transfused
        {
            odd.push(Analyte::Mcv);
        }
        if let Some((now, then)) = pair(Analyte::Hb)
            && now - then > self.value(&DELTA_HB)
            && !transfused
        {
            odd.push(Analyte::Hb);
        }
        let factor = self.value(&DELTA_FACTOR);
        let jumped: Vec<Analyte> = [Analyte::Platelets, Analyte::Wbc]
            .into_iter()
            .filter(|analyte| {
                pair(*analyte).is_some_and(|(now, then)| {
                    now != then && now.max(then) >= now.min(then) * factor
                })
            })
            .collect();
        if !jumped.is_empty() && !self.jump_is_explained(past.now) {
            odd.extend(jumped);
        }
        odd
    }

    fn jump_is_explained(&self, specimen: &Specimen) -> bool {
        let blasts = specimen.get(Analyte::Blasts).is_some_and(|reading| {
            !reading
                .interval
                .is_below(self.value(&DELTA_BLASTS))
                .is_true()
        });
        blasts
            || self.given(
                specimen,
                &["chemo_21", "gcsf_14", "steroid_high", "steroid", "ivig"],
            )
            || facts::happened(
                self.timeline,
                "plt_transfusion",
                specimen.at.instant,
                Duration::days(3),
            )
    }

    /// T4: a jump by a unit's factor while the rest of the specimen stays as it was. Neutrophils
    /// and the other kinds of white cells swing tenfold by themselves and are not asked.
    fn unit_changes(&self, past: &Past<'_>) -> Vec<Analyte> {
        const ASKED: [Analyte; 4] = [Analyte::Hb, Analyte::Rbc, Analyte::Wbc, Analyte::Platelets];
        let within = self.days(&UNIT_DELTA_DAYS);
        let spread = self.value(&UNIT_DELTA_SPREAD) / Decimal::ONE_HUNDRED;
        let steady = |analyte| match (exact(past.now, analyte), past.last(analyte, within)) {
            (Some(now), Some(then)) => {
                (now - then).abs() * Decimal::ONE_HUNDRED < then * self.value(&UNIT_DELTA_QUIET)
            }
            _ => false,
        };
        let unit_like = |analyte| {
            let (Some(now), Some(then)) = (exact(past.now, analyte), past.last(analyte, within))
            else {
                return false;
            };
            now.max(then)
                .checked_div(now.min(then))
                .is_some_and(|ratio| {
                    UNIT_FACTORS.into_iter().map(Decimal::from).any(|factor| {
                        ratio >= factor * (Decimal::ONE - spread)
                            && ratio <= factor * (Decimal::ONE + spread)
                    })
                })
        };
        ASKED
            .into_iter()
            .filter(|analyte| {
                unit_like(*analyte)
                    && ASKED
                        .into_iter()
                        .chain([Analyte::Mcv])
                        .any(|other| other != *analyte && steady(other))
            })
            .collect()
    }
}

/// A specimen and those before it, oldest first.
struct Past<'a> {
    now: &'a Specimen,
    earlier: &'a [Specimen],
}

impl<'a> Past<'a> {
    /// Specimens at most so much older, newest first.
    fn within(&self, window: Duration) -> impl Iterator<Item = &'a Specimen> {
        let now = self.now.at.instant;
        self.earlier
            .iter()
            .rev()
            .take_while(move |other| now - other.at.instant <= window)
    }

    /// The last value of an analyte inside a window.
    fn last(&self, analyte: Analyte, window: Duration) -> Option<Decimal> {
        self.within(window).find_map(|other| exact(other, analyte))
    }
}

fn exact(specimen: &Specimen, analyte: Analyte) -> Option<Decimal> {
    specimen.get(analyte)?.interval.as_exact()
}

/// DQ-25: the last MCV before this specimen's, when it differs and another laboratory or method
/// measured it. Who or how is not said on one side: not known to be another.
pub fn measured_elsewhere<'s>(
    timeline: &Timeline,
    specimens: &'s [Specimen],
    now: &Specimen,
    tuning: &Tuning,
) -> Option<(Decimal, &'s Specimen)> {
    let mcv = |specimen: &Specimen| {
        let reading = specimen.get(Analyte::Mcv)?;
        let measured = timeline.measurements.get(*reading.from.first()?)?;
        Some((reading.interval.as_exact()?, measured))
    };
    let (value, here) = mcv(now)?;
    let (before, specimen, there) = specimens
        .iter()
        .rev()
        .filter(|other| other.at < now.at)
        .find_map(|other| mcv(other).map(|(before, there)| (before, other, there)))?;
    let known = |method| method != Method::Unspecified;
    let laboratory = here.laboratory.is_some()
        && there.laboratory.is_some()
        && here.laboratory != there.laboratory;
    let method = known(here.method) && known(there.method) && here.method != there.method;
    ((laboratory || method) && (value - before).abs() > tuning.value(&LABORATORY_MCV))
        .then_some((before, specimen))
}

/// Percentages of the differential.
fn is_share(analyte: Analyte) -> bool {
    matches!(
        analyte,
        Analyte::NeutrophilPercent
            | Analyte::SegsPercent
            | Analyte::BandsPercent
            | Analyte::LymphocytePercent
            | Analyte::MonocytePercent
            | Analyte::EosinophilPercent
            | Analyte::BasophilPercent
    )
}

/// The doubts of the measurements that `wanted` picks.
pub fn doubts(timeline: &Timeline, record: &Record, wanted: impl Fn(usize) -> bool) -> Vec<Doubt> {
    let mut doubts = Vec::new();
    for (position, (measurement, mark)) in
        timeline.measurements.iter().zip(&record.marks).enumerate()
    {
        if mark.ignored || !wanted(position) {
            continue;
        }
        if let Some(reason) = mark.refused.as_ref().or(mark.suspect.as_ref()) {
            doubts.push(doubt_of(
                measurement,
                mark.refused.is_none(),
                reason.word,
                &reason.text,
            ));
        }
    }
    for specimen in &record.specimens {
        for analyte in &specimen.conflicts {
            let sent = specimen.members.iter().find(|member| {
                timeline
                    .measurements
                    .get(**member)
                    .is_some_and(|measurement| measurement.analyte == *analyte)
            });
            let used = sent.or_else(|| {
                specimen
                    .get(*analyte)
                    .and_then(|reading: &Reading| reading.from.first())
            });
            if let Some(position) = used
                && wanted(*position)
                && let Some(measurement) = timeline.measurements.get(*position)
            {
                doubts.push(doubt_of(
                    measurement,
                    true,
                    "conflict",
                    "Two values of one specimen differ; the lower one is used for safety. A \
                     manual differential or a repeat would decide.",
                ));
            }
        }
    }
    // Down to what was received, so that the order of arrival does not show.
    let place = |doubt: &Doubt| {
        (
            doubt.at,
            doubt.analyte,
            doubt.word,
            doubt.source.identifier.clone(),
            doubt.received.value.clone(),
            doubt.received.unit.clone(),
            doubt.source.handle,
        )
    };
    doubts.sort_by_cached_key(place);
    doubts
}

/// A doubt about a measurement.
pub fn doubt_of(measurement: &Measurement, used: bool, word: &'static str, text: &str) -> Doubt {
    Doubt {
        source: measurement.source.clone(),
        analyte: measurement.analyte,
        received: measurement.received.clone(),
        at: measurement.at,
        used,
        word,
        text: text.to_owned(),
    }
}

/// Words that mean a unit or plausibility error (DQ-01, DQ-02, DQ-03, T1 to T3).
pub fn is_rejection(word: &str) -> bool {
    matches!(
        word,
        "unit-missing"
            | "unit-unknown"
            | "unit-kind"
            | "unit-conflict"
            | "value-implausible"
            | "unit-suspect"
            | "unit-inconsistent"
    )
}

/// Whether the laboratory itself called the value critical (S08).
pub fn marked_critical(measurement: &Measurement) -> bool {
    measurement.interpretation == Some(Interpretation::Critical)
        && of_blood_count(measurement.analyte)
}

/// Whether a specimen is a blood count, evaluable or refused (index result, section 0).
pub fn is_blood_count(specimen: &Specimen, timeline: &Timeline) -> bool {
    specimen.members.iter().any(|position| {
        timeline
            .measurements
            .get(*position)
            .is_some_and(|measurement| CORE.contains(&measurement.analyte))
    })
}
