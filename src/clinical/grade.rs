//! Low or not, and how severe (section 3), for every lineage of every specimen.

use rust_decimal::Decimal;
use time::Duration;

use super::{
    age::Ages,
    analyte::Analyte,
    assessment::{Grade, Lineage},
    facts,
    limits::{
        Confidence::{High, Low},
        Limit, Tuning,
    },
    quantity::Interval,
    reference::{self, Group},
    specimen::{Reading, Specimen},
    timeline::{Duffy, Pregnancy, Sex, Timeline},
    truth::Truth,
};

static RBC_WINDOW: Limit = Limit::new(
    "window.rbc_transfusion",
    "28",
    "1",
    "d",
    "project choice",
    Low,
);
static PLT_WINDOW: Limit = Limit::new(
    "window.plt_transfusion",
    "3",
    "1",
    "d",
    "project choice",
    Low,
);
static GCSF_WINDOW: Limit = Limit::new("window.gcsf", "14", "1", "d", "project choice", Low);
static GCSF_PEG_WINDOW: Limit =
    Limit::new("window.gcsf_peg", "21", "1", "d", "project choice", Low);
static PREGNANCY_DAYS: Limit =
    Limit::new("pregnancy.longest", "300", "1", "d", "project choice", Low);
static PREGNANT_FROM: Limit =
    Limit::new("pregnancy.youngest", "10", "1", "a", "project choice", Low);
static PREGNANT_TO: Limit = Limit::new("pregnancy.oldest", "61", "1", "a", "project choice", Low);
static SECOND_TRIMESTER: Limit =
    Limit::new("pregnancy.trimester2", "98", "1", "d", "WHO 2024", High);
static THIRD_TRIMESTER: Limit =
    Limit::new("pregnancy.trimester3", "196", "1", "d", "WHO 2024", High);

macro_rules! ctcae {
    ($id:literal, $value:literal, $step:literal, $unit:literal) => {
        Limit::new($id, $value, $step, $unit, "CTCAE v5.0", High)
    };
}

/// Upper ends of grades 2, 3 and 4 of CTCAE; grade 4 of anaemia is not a number.
static CTCAE_HB: [Limit; 2] = [
    ctcae!("ctcae.hb2", "100", "1", "g/L"),
    ctcae!("ctcae.hb3", "80", "1", "g/L"),
];
static CTCAE_ANC: [Limit; 3] = [
    ctcae!("ctcae.anc2", "1.5", "0.01", "10*9/L"),
    ctcae!("ctcae.anc3", "1.0", "0.01", "10*9/L"),
    ctcae!("ctcae.anc4", "0.5", "0.01", "10*9/L"),
];
static CTCAE_PLT: [Limit; 3] = [
    ctcae!("ctcae.plt2", "75", "1", "10*9/L"),
    ctcae!("ctcae.plt3", "50", "1", "10*9/L"),
    ctcae!("ctcae.plt4", "25", "1", "10*9/L"),
];

/// The CTCAE grade of a line that is low, where its value decides one (3.1, side by side).
pub fn ctcae(lineage: Lineage, line: &Line, tuning: &Tuning) -> Option<usize> {
    let value = line.reading.as_ref()?.interval;
    let bounds: &[Limit] = match lineage {
        Lineage::Erythroid => &CTCAE_HB,
        Lineage::Neutrophil => &CTCAE_ANC,
        Lineage::Platelet => &CTCAE_PLT,
    };
    let below = |limit: &Limit| value.is_below(tuning.value(limit));
    if !line.low.is_true() || bounds.iter().any(|limit| below(limit).is_unknown()) {
        return None;
    }
    Some(1 + bounds.iter().filter(|limit| below(limit).is_true()).count())
}

/// Limits of this module.
pub fn limits() -> Vec<&'static Limit> {
    let mut all = vec![
        &RBC_WINDOW,
        &PLT_WINDOW,
        &GCSF_WINDOW,
        &GCSF_PEG_WINDOW,
        &PREGNANCY_DAYS,
        &PREGNANT_FROM,
        &PREGNANT_TO,
        &SECOND_TRIMESTER,
        &THIRD_TRIMESTER,
    ];
    all.extend(CTCAE_HB.iter().chain(&CTCAE_ANC).chain(&CTCAE_PLT));
    all
}

/// A limit in days as a duration.
pub fn days(limit: &Limit, tuning: &Tuning) -> Duration {
    Duration::days(i64::try_from(tuning.value(limit)).unwrap_or_default())
}

/// One lineage of one specimen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Below its limit or not.
    pub low: Truth,
    /// The least severe grade still possible.
    pub mildest: Grade,
    /// The most severe grade still possible.
    pub worst: Grade,
    /// The value it rests on.
    pub reading: Option<Reading>,
    /// The limit it was compared with.
    pub limit: Option<Decimal>,
    /// What the reader must know of it.
    pub note: Option<String>,
    /// Days by which the value is older than the index, when it was borrowed from an older
    /// specimen of the same episode.
    pub borrowed_days: Option<i64>,
}

impl Line {
    /// Nothing is known.
    pub fn unknown(note: Option<String>) -> Self {
        Self {
            low: Truth::Unknown,
            mildest: Grade::None,
            worst: Grade::Critical,
            reading: None,
            limit: None,
            note,
            borrowed_days: None,
        }
    }

    /// The grade, when only one is possible.
    pub fn grade(&self) -> Option<Grade> {
        (self.mildest == self.worst).then_some(self.worst)
    }

    /// Whether the grade is this or worse.
    pub fn is_at_least(&self, grade: Grade) -> Truth {
        if self.mildest >= grade {
            Truth::True
        } else if self.worst < grade {
            Truth::False
        } else {
            Truth::Unknown
        }
    }
}

/// Pregnancy on the day of a specimen: trimester if known; `None`: not pregnant as far as known.
pub fn pregnant(
    timeline: &Timeline,
    specimen: &Specimen,
    ages: Option<&Ages>,
    tuning: &Tuning,
) -> Option<Option<u8>> {
    let day = specimen.day();
    let pregnancy = current(timeline, specimen, ages, tuning)?;
    let trimester = pregnancy.gestation.and_then(|(completed, on)| {
        let completed = i64::from(completed) + (day - on).whole_days();
        let completed = Decimal::from(completed);
        if completed.is_sign_negative() {
            None
        } else if completed < tuning.value(&SECOND_TRIMESTER) {
            Some(1)
        } else if completed < tuning.value(&THIRD_TRIMESTER) {
            Some(2)
        } else {
            Some(3)
        }
    });
    Some(trimester)
}

fn current<'a>(
    timeline: &'a Timeline,
    specimen: &Specimen,
    ages: Option<&Ages>,
    tuning: &Tuning,
) -> Option<&'a Pregnancy> {
    if pregnancy_conflicts(timeline, ages, tuning) {
        return None;
    }
    let day = specimen.day();
    timeline.pregnancies.iter().find(|pregnancy| {
        let longest = pregnancy
            .from
            .checked_add(days(&PREGNANCY_DAYS, tuning))
            .unwrap_or(pregnancy.from);
        // Gestation known on a later day reaches back to the start of the pregnancy.
        let first = pregnancy
            .gestation
            .and_then(|(completed, on)| on.checked_sub(Duration::days(i64::from(completed))))
            .map_or(pregnancy.from, |start| start.min(pregnancy.from));
        first <= day && day < pregnancy.until.unwrap_or(longest)
    })
}

/// DQ-24: a pregnancy that cannot be.
pub fn pregnancy_conflicts(timeline: &Timeline, ages: Option<&Ages>, tuning: &Tuning) -> bool {
    timeline.person.sex == Sex::Male
        || ages.is_some_and(|ages| {
            ages.reach(&PREGNANT_FROM, tuning).is_false()
                || ages.reach(&PREGNANT_TO, tuning).is_true()
        })
}

/// Days since delivery or loss, when the newest pregnancy has ended.
pub fn days_post_partum(timeline: &Timeline, specimen: &Specimen) -> Option<i64> {
    timeline
        .pregnancies
        .iter()
        .filter_map(|pregnancy| pregnancy.until)
        .map(|end| (specimen.day() - end).whole_days())
        .filter(|since| *since >= 0)
        .min()
}

/// The count a lineage is judged by.
pub fn analyte_of(lineage: Lineage) -> Analyte {
    match lineage {
        Lineage::Erythroid => Analyte::Hb,
        Lineage::Neutrophil => Analyte::Anc,
        Lineage::Platelet => Analyte::Platelets,
    }
}

/// Whether "not low" cannot be trusted on the day of the specimen.
pub fn masked(
    lineage: Lineage,
    timeline: &Timeline,
    specimen: &Specimen,
    tuning: &Tuning,
) -> Option<&'static str> {
    let moment = specimen.at.instant;
    let done = |token, limit: &Limit| facts::happened(timeline, token, moment, days(limit, tuning));
    let given = |token| {
        facts::at(timeline, moment)
            .get(token)
            .is_some_and(Truth::is_true)
    };
    match lineage {
        Lineage::Erythroid => done("rbc_transfusion", &RBC_WINDOW)
            .then_some("red cells were transfused in the last 28 d"),
        Lineage::Platelet => done("plt_transfusion", &PLT_WINDOW)
            .then_some("platelets were transfused in the last 3 d"),
        Lineage::Neutrophil => {
            (done("gcsf", &GCSF_WINDOW) || done("gcsf_peg", &GCSF_PEG_WINDOW) || given("gcsf_14"))
                .then_some("a growth factor was given in the last days")
        }
    }
}

/// Duffy-null by typing, else by a coded Condition.
fn duffy_null(timeline: &Timeline, specimen: &Specimen) -> bool {
    match timeline.person.duffy {
        Duffy::Null => true,
        Duffy::Positive => false,
        Duffy::Unknown => facts::at(timeline, specimen.at.instant)
            .get("duffy_null")
            .is_some_and(Truth::is_true),
    }
}

/// Grades one lineage of a specimen by one of its readings.
pub fn line(
    lineage: Lineage,
    reading: Option<&Reading>,
    timeline: &Timeline,
    specimen: &Specimen,
    tuning: &Tuning,
) -> Line {
    let ages = timeline
        .person
        .birth
        .and_then(|birth| Ages::new(birth, specimen.day()));
    let Some(ages) = ages else {
        return Line {
            reading: reading.cloned(),
            ..Line::unknown(Some("age unknown".to_owned()))
        };
    };
    let Some(reading) = reading else {
        return Line::unknown(None);
    };
    let group = Group {
        person: &timeline.person,
        duffy_null: lineage == Lineage::Neutrophil && duffy_null(timeline, specimen),
        pregnant: pregnant(timeline, specimen, Some(&ages), tuning),
    };
    let (mut mildest, mut worst) = (Grade::Critical, Grade::None);
    for age in [&ages.young, &ages.old] {
        let interval = match lineage {
            Lineage::Erythroid => {
                let adjustment = reference::hb_adjustment(age, &timeline.person, tuning);
                reading
                    .interval
                    .less(adjustment)
                    .unwrap_or(reading.interval)
            }
            _ => reading.interval,
        };
        let bounds = reference::bounds(lineage, age, group, tuning);
        let (at_least, at_most) = between(interval, &bounds);
        mildest = mildest.min(at_least);
        worst = worst.max(at_most);
        if ages.exact() {
            break;
        }
    }
    let mut low = if mildest > Grade::None {
        Truth::True
    } else if worst == Grade::None {
        Truth::False
    } else {
        Truth::Unknown
    };
    let mut note = None;
    if !ages.exact() && mildest != worst && reading.interval.as_exact().is_some() {
        note = Some(format!(
            "birth date incomplete: between {} and {}",
            grade_word(mildest),
            grade_word(worst)
        ));
    }
    if !low.is_true()
        && let Some(reason) = masked(lineage, timeline, specimen, tuning)
    {
        low = Truth::Unknown;
        mildest = Grade::None;
        worst = Grade::Critical;
        note = Some(format!("not low cannot be concluded: {reason}"));
    }
    if reading.bounded {
        note = Some("differential not received: bounded by the white cell count".to_owned());
    }
    if lineage == Lineage::Erythroid && note.is_none() {
        note = hb_note(reading, &ages, group, tuning);
    }
    Line {
        low,
        mildest,
        worst,
        reading: Some(reading.clone()),
        limit: Some(reference::lower_limit(lineage, &ages.old, group, tuning)),
        note,
        borrowed_days: None,
    }
}

/// The least and the most severe grade of a value by these bounds.
fn between(value: Interval, bounds: &[(Decimal, Grade)]) -> (Grade, Grade) {
    let (mut at_least, mut at_most) = (Grade::None, Grade::None);
    for (bound, grade) in bounds {
        let below = value.is_below(*bound);
        if below.is_true() {
            at_least = *grade;
        }
        if !below.is_false() {
            at_most = *grade;
        }
    }
    (at_least, at_most)
}

/// The limit for age of white cells or lymphocytes, and their grade when only one is possible.
pub fn cells(
    reading: &Reading,
    ages: Option<&Ages>,
    tuning: &Tuning,
) -> (Option<Decimal>, Option<Grade>) {
    let Some(ages) = ages else {
        return (None, None);
    };
    let of = |age| reference::cell_bounds(reading.analyte, age, tuning);
    let (young, old) = (of(&ages.young), of(&ages.old));
    let (mildest, worst) = between(reading.interval, &old);
    let same = mildest == worst && between(reading.interval, &young) == (mildest, worst);
    (old.first().map(|(limit, _)| *limit), same.then_some(worst))
}

fn hb_note(reading: &Reading, ages: &Ages, group: Group<'_>, tuning: &Tuning) -> Option<String> {
    if reference::hb_sex_assumed(&ages.old, group, tuning) {
        let male = reference::hb_male_limit(tuning);
        let between = reading.interval.is_below(male).is_true()
            && reading
                .interval
                .is_below(reference::lower_limit(
                    Lineage::Erythroid,
                    &ages.old,
                    group,
                    tuning,
                ))
                .is_false();
        return Some(if between {
            format!("limit of 120 g/L used: sex unknown; would be below the male limit {male}")
        } else {
            "limit of 120 g/L used: sex unknown".to_owned()
        });
    }
    if group.pregnant == Some(None) {
        return Some("limit 105 used; 105-109 would be anaemia in trimester 1 or 3".to_owned());
    }
    let adjustment = reference::hb_adjustment(&ages.old, group.person, tuning);
    (!adjustment.is_zero())
        .then(|| format!("adjusted by -{adjustment} g/L for altitude and smoking"))
}

/// The word of a grade.
pub fn grade_word(grade: Grade) -> &'static str {
    match grade {
        Grade::None => "none",
        Grade::Mild => "mild",
        Grade::Moderate => "moderate",
        Grade::Severe => "severe",
        Grade::VerySevere => "very severe",
        Grade::Critical => "critical",
    }
}
