//! What a rule may look at: one patient, one index specimen, and what came before it.

use std::{
    cell::{OnceCell, RefCell},
    collections::HashMap,
};

use rust_decimal::Decimal;
use time::{Duration, OffsetDateTime};

use super::{
    age::Ages,
    analyte::Analyte,
    assessment::{Grade, Lineage, Urgency},
    cycle::Cycle,
    facts::{self, Facts},
    grade::{self, Line, days},
    limits::{
        Confidence::{Low, Medium},
        Limit, Tuning,
    },
    quality::{self, Record},
    quantity::Interval,
    rule::{Answer, Input},
    series,
    specimen::{Reading, Specimen, draw_rank},
    timeline::{Measurement, Timeline},
    truth::Truth,
};

macro_rules! window {
    ($name:ident, $id:literal, $value:literal, $unit:literal) => {
        static $name: Limit = Limit::new($id, $value, "1", $unit, "project choice", Low);
    };
}

window!(MEMORY, "memory", "1200", "d");
window!(EPISODE, "episode.borrow", "7", "d");
window!(URGENT_HOURS, "safety.hours", "24", "h");
window!(RETICULOCYTES, "window.reticulocytes", "72", "h");
window!(CHEMISTRY, "window.chemistry", "7", "d");
window!(CHEMISTRY_AFTER, "window.chemistry_after", "2", "d");
window!(NUTRIENTS, "window.nutrients", "90", "d");
window!(ADAMTS13, "window.adamts13", "30", "d");
window!(CLONE, "window.pnh_negative", "180", "d");
window!(MARROW, "window.marrow", "180", "d");
window!(ELASTASE, "window.elastase", "730", "d");
window!(TRANSFUSED, "window.transfused", "120", "d");
static CLONE_POSITIVE: Limit = Limit::new(
    "window.pnh_positive",
    "0.01",
    "0.01",
    "%",
    "ICCS/ESCCA 2018",
    Medium,
);

/// Limits of this module.
pub fn limits() -> Vec<&'static Limit> {
    vec![
        &MEMORY,
        &EPISODE,
        &URGENT_HOURS,
        &RETICULOCYTES,
        &CHEMISTRY,
        &CHEMISTRY_AFTER,
        &NUTRIENTS,
        &ADAMTS13,
        &CLONE,
        &CLONE_POSITIVE,
        &MARROW,
        &ELASTASE,
        &TRANSFUSED,
    ]
}

/// A patient's timeline, judged, with everything that does not depend on the index.
#[derive(Debug)]
pub struct Case<'a> {
    /// What is known of the patient.
    pub timeline: &'a Timeline,
    /// Marks and specimens.
    pub record: Record,
    /// Limits and points in force.
    pub tuning: &'a Tuning,
    /// E, N, P of every specimen, in the order of the specimens.
    pub lines: Vec<[Line; 3]>,
    /// Specimens with a value (or a refused one) of an analyte, oldest first.
    by_analyte: HashMap<Analyte, Vec<usize>>,
}

/// The three lineages, in the order of every array of three.
pub const LINEAGES: [Lineage; 3] = [Lineage::Erythroid, Lineage::Neutrophil, Lineage::Platelet];

impl<'a> Case<'a> {
    /// Judges a timeline at `as_of`.
    pub fn new(timeline: &'a Timeline, as_of: OffsetDateTime, tuning: &'a Tuning) -> Self {
        let record = quality::examine(timeline, as_of, tuning);
        let lines = record
            .specimens
            .iter()
            .map(|specimen| {
                LINEAGES.map(|lineage| {
                    let reading = specimen.get(grade::analyte_of(lineage));
                    grade::line(lineage, reading, timeline, specimen, tuning)
                })
            })
            .collect();
        let mut by_analyte: HashMap<Analyte, Vec<usize>> = HashMap::new();
        for (position, specimen) in record.specimens.iter().enumerate() {
            let measured = specimen
                .members
                .iter()
                .filter_map(|member| Some(timeline.measurements.get(*member)?.analyte));
            for analyte in specimen
                .readings
                .iter()
                .map(|reading| reading.analyte)
                .chain(measured)
            {
                let places = by_analyte.entry(analyte).or_default();
                if places.last() != Some(&position) {
                    places.push(position);
                }
            }
        }
        Self {
            timeline,
            record,
            tuning,
            lines,
            by_analyte,
        }
    }

    /// Positions of the blood counts, oldest first.
    pub fn blood_counts(&self) -> Vec<usize> {
        self.record
            .specimens
            .iter()
            .enumerate()
            .filter(|(_, specimen)| quality::is_blood_count(specimen, self.timeline))
            .map(|(position, _)| position)
            .collect()
    }

    /// A specimen.
    pub fn specimen(&self, position: usize) -> Option<&Specimen> {
        self.record.specimens.get(position)
    }

    /// Specimens with a value of this analyte, oldest first.
    pub fn places(&self, analyte: Analyte) -> &[usize] {
        self.by_analyte.get(&analyte).map_or(&[], Vec::as_slice)
    }
}

/// What is there of an input.
#[derive(Debug, Clone, Copy)]
pub enum Sent<'c> {
    /// Nothing was sent inside its window.
    No,
    /// Something was sent that cannot be used.
    Unusable,
    /// A value.
    Value(&'c Reading, &'c Specimen),
}

/// One patient at one index specimen.
#[derive(Debug)]
pub struct Context<'a> {
    /// The whole case.
    pub case: &'a Case<'a>,
    /// Position of the index specimen.
    pub index: usize,
    /// The index specimen.
    pub specimen: &'a Specimen,
    /// Age at the index; `None`: unknown.
    pub ages: Option<Ages>,
    /// E, N, P, filled from older specimens of the same episode where the index lacks them.
    pub lines: [Line; 3],
    /// Gates already decided, by rule id.
    pub gates: Vec<(&'static str, Answer)>,
    /// Safety rules and patterns already decided.
    pub fired: Vec<(&'static str, Truth, Urgency)>,
    /// Every suspect value counts as unknown.
    pub without_suspect: bool,
    facts: Facts<'a>,
    /// Tokens already answered: many rules ask for the same ones.
    tokens: RefCell<HashMap<String, Answer>>,
    /// The rhythm of the neutrophils, worked out when first asked for.
    cycle: OnceCell<Cycle>,
    view: Vec<(&'a Reading, &'a Specimen)>,
    transfused: bool,
}

impl<'a> Context<'a> {
    /// The case at a specimen; `None` when there is no such specimen.
    pub fn new(case: &'a Case<'a>, index: usize, without_suspect: bool) -> Option<Self> {
        let specimen = case.specimen(index)?;
        let ages = case
            .timeline
            .person
            .birth
            .and_then(|birth| Ages::new(birth, specimen.day()));
        let facts = facts::at_index(case.timeline, specimen.at.instant);
        let transfused = facts
            .get("rbc_transfusion_120d")
            .is_some_and(Truth::is_true)
            || facts::happened(
                case.timeline,
                "rbc_transfusion",
                specimen.at.instant,
                days(&TRANSFUSED, case.tuning),
            );
        let mut context = Self {
            case,
            index,
            specimen,
            ages,
            lines: LINEAGES.map(|_| Line::unknown(None)),
            gates: Vec::new(),
            fired: Vec::new(),
            without_suspect,
            facts,
            tokens: RefCell::new(HashMap::new()),
            cycle: OnceCell::new(),
            view: specimen
                .readings
                .iter()
                .filter(|reading| !(without_suspect && reading.suspect))
                .map(|reading| (reading, specimen))
                .collect(),
            transfused,
        };
        context.prefer_better_of_the_day();
        context.lines = LINEAGES.map(|lineage| context.line_with_episode(lineage));
        Some(context)
    }

    /// DQ-15: of several values of one calendar day, a venous one goes before a capillary one and
    /// a laboratory's before a point-of-care one, even when it is a little older.
    fn prefer_better_of_the_day(&mut self) {
        let measurement_of = |reading: &Reading| {
            reading
                .from
                .first()
                .and_then(|first| self.case.timeline.measurements.get(*first))
        };
        let rank = |reading: &Reading| measurement_of(reading).map(quality_rank);
        let mut better: Vec<(usize, &'a Reading, &'a Specimen)> = Vec::new();
        for (place, (reading, _)) in self.view.iter().enumerate() {
            for specimen in self
                .case
                .record
                .specimens
                .get(..self.index)
                .unwrap_or_default()
                .iter()
                .rev()
                .take_while(|specimen| specimen.day() == self.specimen.day())
            {
                if let Some(other) = specimen.get(reading.analyte)
                    && !other.bounded
                    && rank(other) < rank(reading)
                {
                    better.push((place, other, specimen));
                    break;
                }
            }
        }
        for (place, reading, specimen) in better {
            if let Some(entry) = self.view.get_mut(place) {
                *entry = (reading, specimen);
            }
        }
    }

    fn line_with_episode(&self, lineage: Lineage) -> Line {
        let analyte = grade::analyte_of(lineage);
        let here = self
            .view
            .iter()
            .find(|(reading, _)| reading.analyte == analyte);
        let own = grade::line(
            lineage,
            here.map(|(reading, _)| *reading),
            self.case.timeline,
            self.specimen,
            self.case.tuning,
        );
        if self.ages.is_none() || self.is_refused(analyte) {
            return own;
        }
        let open = match &own.reading {
            None => true,
            Some(reading) => reading.bounded && own.low.is_unknown(),
        };
        if !open {
            return own;
        }
        let limit = days(&EPISODE, self.case.tuning);
        let places = self.case.places(analyte);
        let older = places
            .iter()
            .rev()
            .filter(|place| **place < self.index)
            .filter_map(|place| Some((*place, self.case.specimen(*place)?)))
            .take_while(|(_, specimen)| self.specimen.at.instant - specimen.at.instant <= limit)
            .find_map(|(place, specimen)| {
                let reading = specimen.get(analyte)?;
                let usable = !(reading.bounded || self.without_suspect && reading.suspect);
                usable.then_some((place, specimen))
            });
        let Some((place, specimen)) = older else {
            return own;
        };
        let acts = ["rbc_transfusion", "plt_transfusion", "gcsf", "gcsf_peg"];
        if facts::happened_between(
            self.case.timeline,
            &acts,
            specimen.at.instant,
            self.specimen.at.instant,
        ) {
            return own;
        }
        let position = LINEAGES.iter().position(|one| *one == lineage).unwrap_or(0);
        match self
            .case
            .lines
            .get(place)
            .and_then(|lines| lines.get(position))
        {
            Some(line) => Line {
                borrowed_days: Some((self.specimen.day() - specimen.day()).whole_days()),
                ..line.clone()
            },
            None => own,
        }
    }

    /// Limits and points in force.
    pub fn tuning(&self) -> &'a Tuning {
        self.case.tuning
    }

    /// The patient.
    pub fn timeline(&self) -> &'a Timeline {
        self.case.timeline
    }

    /// A lineage at the index.
    pub fn line(&self, lineage: Lineage) -> &Line {
        let [erythroid, neutrophil, platelet] = &self.lines;
        match lineage {
            Lineage::Erythroid => erythroid,
            Lineage::Neutrophil => neutrophil,
            Lineage::Platelet => platelet,
        }
    }

    /// The tokens given at the index.
    pub fn facts(&self) -> &Facts<'a> {
        &self.facts
    }

    /// A finding token: as given, else derived from the series.
    pub fn token(&self, token: &str) -> Answer {
        if self.transfused && matches!(token, "eada_high" | "hbf_high" | "hbf_normal") {
            // The donor's red cells answer, not the patient's.
            return Answer::NOT_SENT;
        }
        if let Some(answer) = self.tokens.borrow().get(token) {
            return *answer;
        }
        let answer = match self.facts.get(token) {
            // Only mentioned: the series may know better.
            Some(Truth::Unknown) => match series::token(self, token) {
                derived if derived.truth.is_unknown() => Answer::UNDECIDED,
                derived => derived,
            },
            Some(truth) => truth.into(),
            None => series::token(self, token),
        };
        self.tokens.borrow_mut().insert(token.to_owned(), answer);
        answer
    }

    /// The rhythm of the neutrophils up to the index (4.3).
    pub fn cycle(&self) -> &Cycle {
        self.cycle.get_or_init(|| series::cycle(self))
    }

    /// Whether red cells were transfused in the last 120 d.
    pub fn transfused(&self) -> bool {
        self.transfused
    }

    /// A blood count value of the index specimen.
    pub fn at_index(&self, analyte: Analyte) -> Sent<'_> {
        if let Some((reading, specimen)) = self
            .view
            .iter()
            .find(|(reading, _)| reading.analyte == analyte)
        {
            return Sent::Value(reading, specimen);
        }
        if self.is_refused(analyte) {
            return Sent::Unusable;
        }
        Sent::No
    }

    /// Whether a value of this analyte was sent with the index specimen and cannot be used.
    pub fn is_refused(&self, analyte: Analyte) -> bool {
        self.specimen.members.iter().any(|member| {
            self.case
                .timeline
                .measurements
                .get(*member)
                .is_some_and(|measurement| measurement.analyte == analyte)
                && self
                    .case
                    .record
                    .marks
                    .get(*member)
                    .is_some_and(|mark| mark.refused.is_some())
        }) || (self.without_suspect
            && self
                .specimen
                .get(analyte)
                .is_some_and(|reading| reading.suspect))
    }

    /// The newest valid value inside a window around the index.
    fn newest(&self, analyte: Analyte, before: Duration, after: Duration) -> Sent<'_> {
        let mut unusable = false;
        for place in self.case.places(analyte).iter().rev() {
            let Some(specimen) = self.case.specimen(*place) else {
                continue;
            };
            let age = self.specimen.at.instant - specimen.at.instant;
            // A value of the index day without a time of day belongs to the window.
            let same_day = specimen.day() == self.specimen.day();
            if -age > after && !same_day {
                continue;
            }
            if age > before && !same_day {
                break;
            }
            match specimen.get(analyte) {
                Some(reading) if !(self.without_suspect && reading.suspect) => {
                    return Sent::Value(reading, specimen);
                }
                _ => unusable = true,
            }
        }
        if unusable { Sent::Unusable } else { Sent::No }
    }

    /// The value of an analyte under its window (4.4.2).
    pub fn sent(&self, analyte: Analyte) -> Sent<'_> {
        let tuning = self.case.tuning;
        let window = |limit: &Limit| days(limit, tuning);
        match analyte {
            Analyte::Hb | Analyte::Anc | Analyte::Platelets => self.lineage_value(analyte),
            Analyte::Mcv if self.transfused => match self.at_index(analyte) {
                Sent::No => Sent::No,
                _ => Sent::Unusable,
            },
            Analyte::Arc
            | Analyte::ReticulocytePercent
            | Analyte::Irf
            | Analyte::ReticulocyteHb => {
                let hours = i64::try_from(tuning.value(&RETICULOCYTES)).unwrap_or_default();
                self.newest(analyte, Duration::hours(hours), Duration::ZERO)
            }
            Analyte::Ldh
            | Analyte::Haptoglobin
            | Analyte::Bilirubin
            | Analyte::BilirubinIndirect
            | Analyte::BilirubinDirect
            | Analyte::Alt
            | Analyte::Ast
            | Analyte::Creatinine
            | Analyte::Crp
            | Analyte::Lactate
            | Analyte::Fibrinogen
            | Analyte::Triglycerides
            | Analyte::SolubleCd25 => {
                self.newest(analyte, window(&CHEMISTRY), window(&CHEMISTRY_AFTER))
            }
            Analyte::Adamts13 => self.newest(analyte, window(&ADAMTS13), window(&CHEMISTRY_AFTER)),
            Analyte::Pnh | Analyte::PnhMonocytes | Analyte::PnhRedCells => {
                match self.newest(analyte, window(&MEMORY), Duration::ZERO) {
                    Sent::Value(reading, specimen)
                        if reading
                            .interval
                            .is_below(tuning.value(&CLONE_POSITIVE))
                            .is_true()
                            && self.specimen.at.instant - specimen.at.instant > window(&CLONE) =>
                    {
                        Sent::No
                    }
                    other => other,
                }
            }
            Analyte::MarrowCellularity | Analyte::MarrowBlasts | Analyte::RingSideroblasts => {
                self.newest(analyte, window(&MARROW), window(&CHEMISTRY_AFTER))
            }
            Analyte::HbF if self.transfused => Sent::No,
            Analyte::HbF => self.newest(analyte, window(&MEMORY), Duration::ZERO),
            Analyte::FaecalElastase => self.newest(analyte, window(&ELASTASE), Duration::ZERO),
            _ if super::specimen::of_blood_count(analyte) => self.at_index(analyte),
            _ => self.newest(analyte, window(&NUTRIENTS), window(&CHEMISTRY_AFTER)),
        }
    }

    fn lineage_value(&self, analyte: Analyte) -> Sent<'_> {
        match self.at_index(analyte) {
            Sent::Value(reading, specimen) if !reading.bounded => Sent::Value(reading, specimen),
            Sent::Unusable => Sent::Unusable,
            own => {
                let lineage = LINEAGES
                    .into_iter()
                    .find(|lineage| grade::analyte_of(*lineage) == analyte)
                    .unwrap_or(Lineage::Erythroid);
                match (
                    &self.line(lineage).borrowed_days,
                    &self.line(lineage).reading,
                ) {
                    (Some(_), Some(reading)) => Sent::Value(reading, self.specimen),
                    _ => own,
                }
            }
        }
    }

    /// The value of an input as an interval with its measurement, if it is a measured one.
    pub fn input(&self, input: Input) -> (Sent<'_>, Option<Interval>) {
        let plain = |sent: Sent<'_>| match sent {
            Sent::Value(reading, _) => Some(reading.interval),
            _ => None,
        };
        match input {
            Input::Of(analyte) => {
                let sent = self.sent(analyte);
                (sent, plain(sent))
            }
            Input::Within(analyte, limit) => {
                let sent = self.newest(
                    analyte,
                    days(&limit.0, self.case.tuning),
                    days(&CHEMISTRY_AFTER, self.case.tuning),
                );
                (sent, plain(sent))
            }
            Input::TimesUpperLimit(analyte) => {
                let sent = self.sent(analyte);
                let Sent::Value(reading, _) = sent else {
                    return (sent, None);
                };
                let upper = self
                    .measurement(reading)
                    .and_then(|measurement| measurement.upper_limit);
                let times = upper
                    .filter(|upper| *upper > Decimal::ZERO)
                    .and_then(|upper| Decimal::ONE.checked_div(upper))
                    .and_then(|factor| reading.interval.scaled(factor));
                match times {
                    Some(times) => (sent, Some(times)),
                    None => (Sent::Unusable, None),
                }
            }
            Input::Rpi => computed(self.rpi()),
            Input::Mentzer => computed(self.ratio(Analyte::Mcv, Analyte::Rbc)),
            Input::LymphocytePercent => {
                let sent = self.at_index(Analyte::LymphocytePercent);
                (sent, plain(sent))
            }
            Input::McvFromMidpoint => computed(self.mcv_from_midpoint()),
            Input::GestationAtBirth => (
                Sent::No,
                Some(Interval::exact(Decimal::from(
                    self.case.timeline.person.gestation_weeks.unwrap_or(40),
                ))),
            ),
        }
    }

    fn ratio(&self, one: Analyte, two: Analyte) -> Option<Decimal> {
        match (self.sent(one), self.sent(two)) {
            (Sent::Value(one, _), Sent::Value(two, _)) => one.interval.ratio(&two.interval),
            _ => None,
        }
    }

    fn mcv_from_midpoint(&self) -> Option<Decimal> {
        let age = self.ages?.old;
        let (low, high) = super::reference::range(Analyte::Mcv, &age, false, self.case.tuning)?;
        let Sent::Value(reading, _) = self.sent(Analyte::Mcv) else {
            return None;
        };
        Some(reading.interval.as_exact()? - (low + high?) / Decimal::TWO)
    }

    /// Reticulocyte production index; `None` when it cannot or must not be computed.
    pub fn rpi(&self) -> Option<Decimal> {
        series::rpi(self)
    }

    /// The measurement a reading was taken from, when it was not computed.
    pub fn measurement(&self, reading: &Reading) -> Option<&'a Measurement> {
        if reading.formula.is_some() {
            return None;
        }
        reading
            .from
            .first()
            .and_then(|first| self.case.timeline.measurements.get(*first))
    }

    /// Values of an analyte for safety rules: the index specimen and the 24 h before it,
    /// preliminary ones included.
    pub fn urgent(&self, analyte: Analyte) -> Vec<(&Reading, &Specimen)> {
        let hours = i64::try_from(self.case.tuning.value(&URGENT_HOURS)).unwrap_or_default();
        let window = Duration::hours(hours);
        self.case
            .record
            .specimens
            .get(..=self.index)
            .unwrap_or_default()
            .iter()
            .rev()
            .take_while(|specimen| self.specimen.at.instant - specimen.at.instant <= window)
            .filter_map(|specimen| Some((specimen.urgent(analyte)?, specimen)))
            .filter(|(reading, _)| !(self.without_suspect && reading.suspect))
            .collect()
    }

    /// Whether the grade of a lineage is this or worse.
    pub fn graded(&self, lineage: Lineage, grade: Grade) -> Truth {
        self.line(lineage).is_at_least(grade)
    }

    /// How far back a rule may look, as the first position inside the memory.
    pub fn remembers(&self, specimen: &Specimen) -> bool {
        self.specimen.at.instant - specimen.at.instant <= days(&MEMORY, self.case.tuning)
    }
}

/// A computed number has no measurement of its own.
fn computed<'c>(value: Option<Decimal>) -> (Sent<'c>, Option<Interval>) {
    (Sent::No, value.map(Interval::exact))
}

fn quality_rank(measurement: &Measurement) -> (u8, bool) {
    (
        draw_rank(measurement.draw),
        matches!(
            measurement.method,
            super::timeline::Method::PointOfCare | super::timeline::Method::BloodGas
        ),
    )
}
