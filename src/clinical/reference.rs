//! Reference limits by age, sex and pregnancy (section 2) and severity bands (section 3).

use rust_decimal::Decimal;

use super::{
    age::Age,
    analyte::Analyte,
    assessment::{Grade, Lineage},
    limits::{
        Confidence::{High, Low, Medium},
        Limit, Tuning,
    },
    timeline::{Person, Sex, Smoking},
};

const WHO: &str = "WHO 2024";
const DALLMAN: &str = "Dallman, mean -2 SD";
const GBD: &str = "GBD 2019 neonatal";
const NTS: &str = "NTS 213-2024 table 13";
const OURS: &str = "project choice";
const EHA: &str = "EHA/EuNet-INNOCHRON 2023";

/// What a limit depends on, beside age.
#[derive(Debug, Clone, Copy)]
pub struct Group<'a> {
    /// The person: sex, gestation at birth, altitude, smoking.
    pub person: &'a Person,
    /// Duffy-null by typing or by a coded Condition.
    pub duffy_null: bool,
    /// Pregnant, with the trimester if known.
    pub pregnant: Option<Option<u8>>,
}

/// Haemoglobin: not anaemic from `normal`; mild from `mild` (when there is a mild band), moderate
/// from `moderate`, severe below.
#[derive(Debug)]
pub struct HbRow {
    /// Up to this age, exclusive; `None`: no upper bound.
    until: Option<Limit>,
    normal: Limit,
    mild: Option<Limit>,
    moderate: Limit,
}

macro_rules! age_limit {
    ($id:expr, $value:literal, $unit:literal) => {
        Limit::new($id, $value, "1", $unit, "bands of section 2", High)
    };
}

macro_rules! hb_row {
    ($id:literal, $until:expr, $normal:literal, $mild:literal, $moderate:literal, $source:expr, $confidence:expr) => {
        HbRow {
            until: $until,
            normal: Limit::new(
                concat!("hb.", $id, ".normal"),
                $normal,
                "1",
                "g/L",
                $source,
                $confidence,
            ),
            mild: Some(Limit::new(
                concat!("hb.", $id, ".mild"),
                $mild,
                "1",
                "g/L",
                $source,
                $confidence,
            )),
            moderate: Limit::new(
                concat!("hb.", $id, ".moderate"),
                $moderate,
                "1",
                "g/L",
                $source,
                $confidence,
            ),
        }
    };
    ($id:literal, $until:expr, $normal:literal, none, $moderate:literal, $source:expr, $confidence:expr) => {
        HbRow {
            until: $until,
            normal: Limit::new(
                concat!("hb.", $id, ".normal"),
                $normal,
                "1",
                "g/L",
                $source,
                $confidence,
            ),
            mild: None,
            moderate: Limit::new(
                concat!("hb.", $id, ".moderate"),
                $moderate,
                "1",
                "g/L",
                $source,
                $confidence,
            ),
        }
    };
}

macro_rules! until {
    ($id:literal, $value:literal, $unit:literal) => {
        Some(age_limit!(concat!($id, ".until"), $value, $unit))
    };
}

#[rustfmt::skip]
static HB: [HbRow; 13] = [
    hb_row!("0d", until!("hb.0d", "1", "d"), "135", "130", "90", GBD, Medium),
    hb_row!("1d", until!("hb.1d", "4", "d"), "145", "130", "90", GBD, Medium),
    hb_row!("4d", until!("hb.4d", "11", "d"), "135", "130", "90", GBD, Medium),
    hb_row!("11d", until!("hb.11d", "22", "d"), "125", none, "90", GBD, Medium),
    hb_row!("22d", until!("hb.22d", "28", "d"), "100", none, "90", GBD, Medium),
    hb_row!("28d", until!("hb.28d", "46", "d"), "100", "90", "70", DALLMAN, Medium),
    hb_row!("46d", until!("hb.46d", "91", "d"), "90", "80", "70", DALLMAN, Medium),
    hb_row!("91d", until!("hb.91d", "183", "d"), "95", "85", "70", DALLMAN, Medium),
    hb_row!("183d", until!("hb.183d", "2", "a"), "105", "95", "70", WHO, High),
    hb_row!("2a", until!("hb.2a", "5", "a"), "110", "100", "70", WHO, High),
    hb_row!("5a", until!("hb.5a", "12", "a"), "115", "110", "80", WHO, High),
    hb_row!("12a", until!("hb.12a", "15", "a"), "120", "110", "80", WHO, High),
    hb_row!("female", None, "120", "110", "80", WHO, High),
];
static HB_MALE: HbRow = hb_row!("male", None, "130", "110", "80", WHO, High);
#[rustfmt::skip]
static HB_PRETERM: [HbRow; 3] = [
    hb_row!("preterm0d", until!("hb.preterm0d", "7", "d"), "130", none, "90", NTS, Medium),
    hb_row!("preterm7d", until!("hb.preterm7d", "28", "d"), "100", none, "90", NTS, Medium),
    hb_row!("preterm28d", until!("hb.preterm28d", "56", "d"), "80", none, "70", NTS, Medium),
];
static HB_TRIMESTER_1: HbRow = hb_row!("trimester1", None, "110", "100", "70", WHO, High);
static HB_TRIMESTER_2: HbRow = hb_row!("trimester2", None, "105", "95", "70", WHO, High);
static HB_TRIMESTER_3: HbRow = hb_row!("trimester3", None, "110", "100", "70", WHO, High);
static PRETERM: Limit = Limit::new("hb.preterm", "37", "1", "wk", NTS, Medium);

/// Adjusted from this age on.
static ADJUSTED_FROM: Limit = Limit::new("hb.adjusted_from", "183", "1", "d", WHO, High);

/// Residence from this altitude (m) on: subtract so many g/L.
macro_rules! altitude {
    ($from:literal, $subtract:literal) => {
        (
            Limit::new(concat!("hb.altitude", $from), $from, "1", "m", WHO, High),
            Limit::new(
                concat!("hb.altitude", $from, ".subtract"),
                $subtract,
                "1",
                "g/L",
                WHO,
                High,
            ),
        )
    };
}
static ALTITUDE: [(Limit, Limit); 9] = [
    altitude!("500", "4"),
    altitude!("1000", "8"),
    altitude!("1500", "11"),
    altitude!("2000", "14"),
    altitude!("2500", "18"),
    altitude!("3000", "21"),
    altitude!("3500", "25"),
    altitude!("4000", "29"),
    altitude!("4500", "33"),
];
static SMOKING_SOME: Limit = Limit::new("hb.smoking.some", "3", "1", "g/L", WHO, Medium);
static SMOKING_10: Limit = Limit::new("hb.smoking.10", "5", "1", "g/L", WHO, Medium);
static SMOKING_20: Limit = Limit::new("hb.smoking.20", "6", "1", "g/L", WHO, Medium);

/// Lower and upper limit up to an age.
#[derive(Debug)]
pub struct RangeRow {
    until: Option<Limit>,
    lower: Limit,
    upper: Option<Limit>,
}

macro_rules! range_row {
    ($key:literal, $id:literal, $until:expr, $lower:literal, none, $step:literal, $unit:literal, $source:expr, $confidence:expr) => {
        RangeRow {
            until: $until,
            lower: Limit::new(
                concat!($key, ".", $id, ".lower"),
                $lower,
                $step,
                $unit,
                $source,
                $confidence,
            ),
            upper: None,
        }
    };
    ($key:literal, $id:literal, $until:expr, $lower:literal, $upper:literal, $step:literal, $unit:literal, $source:expr, $confidence:expr) => {
        RangeRow {
            until: $until,
            lower: Limit::new(
                concat!($key, ".", $id, ".lower"),
                $lower,
                $step,
                $unit,
                $source,
                $confidence,
            ),
            upper: Some(Limit::new(
                concat!($key, ".", $id, ".upper"),
                $upper,
                $step,
                $unit,
                $source,
                $confidence,
            )),
        }
    };
}

#[rustfmt::skip]
static MCV: [RangeRow; 12] = [
    range_row!("mcv", "0d", until!("mcv.0d", "1", "d"), "98", "118", "0.1", "fL", DALLMAN, Medium),
    range_row!("mcv", "1d", until!("mcv.1d", "4", "d"), "95", "121", "0.1", "fL", DALLMAN, Medium),
    range_row!("mcv", "4d", until!("mcv.4d", "11", "d"), "88", "126", "0.1", "fL", DALLMAN, Medium),
    range_row!("mcv", "11d", until!("mcv.11d", "22", "d"), "86", "124", "0.1", "fL", DALLMAN, Medium),
    range_row!("mcv", "22d", until!("mcv.22d", "46", "d"), "85", "123", "0.1", "fL", DALLMAN, Medium),
    range_row!("mcv", "46d", until!("mcv.46d", "91", "d"), "77", "115", "0.1", "fL", DALLMAN, Medium),
    range_row!("mcv", "91d", until!("mcv.91d", "183", "d"), "74", "108", "0.1", "fL", DALLMAN, Medium),
    range_row!("mcv", "183d", until!("mcv.183d", "2", "a"), "70", "86", "0.1", "fL", DALLMAN, Medium),
    range_row!("mcv", "2a", until!("mcv.2a", "6", "a"), "75", "87", "0.1", "fL", DALLMAN, Medium),
    range_row!("mcv", "6a", until!("mcv.6a", "12", "a"), "77", "95", "0.1", "fL", DALLMAN, Medium),
    range_row!("mcv", "12a", until!("mcv.12a", "18", "a"), "78", "100", "0.1", "fL", DALLMAN, Low),
    range_row!("mcv", "18a", None, "80", "100", "0.1", "fL", DALLMAN, High),
];

#[rustfmt::skip]
static WBC: [RangeRow; 11] = [
    range_row!("wbc", "0d", until!("wbc.0d", "1", "d"), "9.0", "30.0", "0.1", "10*9/L", DALLMAN, Medium),
    range_row!("wbc", "1d", until!("wbc.1d", "7", "d"), "5.0", "34.0", "0.1", "10*9/L", DALLMAN, Medium),
    range_row!("wbc", "7d", until!("wbc.7d", "28", "d"), "5.0", "21.0", "0.1", "10*9/L", DALLMAN, Medium),
    range_row!("wbc", "28d", until!("wbc.28d", "183", "d"), "5.0", "19.5", "0.1", "10*9/L", DALLMAN, Medium),
    range_row!("wbc", "183d", until!("wbc.183d", "2", "a"), "6.0", "17.5", "0.1", "10*9/L", DALLMAN, Medium),
    range_row!("wbc", "2a", until!("wbc.2a", "4", "a"), "6.0", "17.0", "0.1", "10*9/L", DALLMAN, Medium),
    range_row!("wbc", "4a", until!("wbc.4a", "6", "a"), "5.5", "15.5", "0.1", "10*9/L", DALLMAN, Medium),
    range_row!("wbc", "6a", until!("wbc.6a", "8", "a"), "5.0", "14.5", "0.1", "10*9/L", DALLMAN, Medium),
    range_row!("wbc", "8a", until!("wbc.8a", "16", "a"), "4.5", "13.5", "0.1", "10*9/L", DALLMAN, Medium),
    range_row!("wbc", "16a", until!("wbc.16a", "18", "a"), "4.0", "11.0", "0.1", "10*9/L", DALLMAN, Medium),
    range_row!("wbc", "18a", None, "4.0", "11.0", "0.1", "10*9/L", DALLMAN, High),
];
static WBC_PREGNANT: Limit =
    Limit::new("wbc.pregnant.upper", "16", "0.1", "10*9/L", DALLMAN, Medium);

#[rustfmt::skip]
static ALC: [RangeRow; 7] = [
    range_row!("alc", "0d", until!("alc.0d", "28", "d"), "2.0", none, "0.01", "10*9/L", DALLMAN, Medium),
    range_row!("alc", "28d", until!("alc.28d", "183", "d"), "2.5", none, "0.01", "10*9/L", DALLMAN, Medium),
    range_row!("alc", "183d", until!("alc.183d", "1", "a"), "4.0", none, "0.01", "10*9/L", DALLMAN, Medium),
    range_row!("alc", "1a", until!("alc.1a", "2", "a"), "3.0", none, "0.01", "10*9/L", OURS, Low),
    range_row!("alc", "2a", until!("alc.2a", "4", "a"), "2.0", none, "0.01", "10*9/L", DALLMAN, Medium),
    range_row!("alc", "4a", until!("alc.4a", "12", "a"), "1.5", none, "0.01", "10*9/L", DALLMAN, Medium),
    range_row!("alc", "12a", until!("alc.12a", "18", "a"), "1.2", none, "0.01", "10*9/L", DALLMAN, Medium),
];
static ALC_ADULT: RangeRow = range_row!(
    "alc", "18a", None, "1.0", none, "0.01", "10*9/L", DALLMAN, High
);

#[rustfmt::skip]
static AMC: [RangeRow; 3] = [
    range_row!("amc", "0d", until!("amc.0d", "28", "d"), "0.3", "3.0", "0.01", "10*9/L", OURS, Low),
    range_row!("amc", "28d", until!("amc.28d", "1", "a"), "0.2", "1.5", "0.01", "10*9/L", DALLMAN, Medium),
    range_row!("amc", "1a", None, "0.2", "1.0", "0.01", "10*9/L", DALLMAN, Medium),
];

#[rustfmt::skip]
static ARC: [RangeRow; 7] = [
    range_row!("arc", "0d", until!("arc.0d", "4", "d"), "110", "445", "1", "10*9/L", "Lilleyman & Hann 1992", Medium),
    range_row!("arc", "4d", until!("arc.4d", "15", "d"), "10", "80", "1", "10*9/L", "Lilleyman & Hann 1992", Medium),
    range_row!("arc", "15d", until!("arc.15d", "43", "d"), "10", "65", "1", "10*9/L", "Lilleyman & Hann 1992", Medium),
    range_row!("arc", "43d", until!("arc.43d", "71", "d"), "10", "125", "1", "10*9/L", "Lilleyman & Hann 1992", Medium),
    range_row!("arc", "71d", until!("arc.71d", "91", "d"), "15", "75", "1", "10*9/L", "Lilleyman & Hann 1992", Medium),
    range_row!("arc", "91d", until!("arc.91d", "2", "a"), "25", "105", "1", "10*9/L", "Lilleyman & Hann 1992", Medium),
    range_row!("arc", "2a", None, "25", "120", "1", "10*9/L", "Lilleyman & Hann 1992", High),
];

static ANC_NEWBORN: Limit = Limit::new("anc.newborn", "1.75", "0.01", "10*9/L", "Manroe 1979", Low);
static ANC_NEWBORN_UNTIL: Limit = age_limit!("anc.newborn.until", "7", "d");
static ANC_VERY_PRETERM: Limit = Limit::new(
    "anc.very_preterm",
    "1.1",
    "0.01",
    "10*9/L",
    "Mouzinho 1994",
    Medium,
);
static ANC_VERY_PRETERM_UNTIL: Limit = age_limit!("anc.very_preterm.until", "28", "d");
static ANC_VERY_PRETERM_WEEKS: Limit = Limit::new(
    "anc.very_preterm.weeks",
    "32",
    "1",
    "wk",
    "Mouzinho 1994",
    Medium,
);
static ANC_INFANT: Limit = Limit::new("anc.infant", "1.0", "0.01", "10*9/L", EHA, Medium);
static ANC_INFANT_UNTIL: Limit = age_limit!("anc.infant.until", "1", "a");
static ANC: Limit = Limit::new("anc.from_1a", "1.5", "0.01", "10*9/L", EHA, High);
static ANC_DUFFY_ADULT: Limit = Limit::new(
    "anc.duffy_null",
    "1.2",
    "0.01",
    "10*9/L",
    "Merz, JAMA 2023",
    Medium,
);
static ANC_DUFFY_CHILD: Limit =
    Limit::new("anc.duffy_null_child", "1.0", "0.01", "10*9/L", OURS, Low);
static ANC_DUFFY_FLOOR: Limit =
    Limit::new("anc.duffy_null_floor", "0.8", "0.01", "10*9/L", OURS, Low);
static ADULT: Limit = age_limit!("adult", "18", "a");

static PLT_NEWBORN: Limit = Limit::new("plt.newborn", "123", "1", "10*9/L", "Wiedmeier 2009", High);
static PLT_PRETERM: Limit = Limit::new("plt.preterm", "104", "1", "10*9/L", "Wiedmeier 2009", High);
static PLT_PRETERM_WEEKS: Limit =
    Limit::new("plt.preterm.weeks", "33", "1", "wk", "Wiedmeier 2009", High);
static PLT_NEWBORN_UNTIL: Limit = age_limit!("plt.newborn.until", "91", "d");
static PLT: Limit = Limit::new("plt.from_91d", "150", "1", "10*9/L", "convention", High);

/// Lower ends of mild, moderate, severe and (PLT) very severe.
static ANC_BANDS: [Limit; 3] = [
    Limit::new("anc.mild", "1.0", "0.01", "10*9/L", "CTCAE v5.0", High),
    Limit::new("anc.moderate", "0.5", "0.01", "10*9/L", "CTCAE v5.0", High),
    Limit::new("anc.severe", "0.2", "0.01", "10*9/L", "convention", High),
];
static PLT_BANDS: [Limit; 4] = [
    Limit::new("plt.mild", "100", "1", "10*9/L", "convention", High),
    Limit::new("plt.moderate", "50", "1", "10*9/L", "CTCAE v5.0", High),
    Limit::new("plt.severe", "20", "1", "10*9/L", "convention", High),
    Limit::new("plt.very_severe", "10", "1", "10*9/L", "convention", High),
];

/// Lower ends of mild, moderate and severe of white cells, and of lymphocytes of adults.
static WBC_BANDS: [Limit; 3] = [
    Limit::new("wbc.mild", "3.0", "0.1", "10*9/L", "CTCAE v5.0", High),
    Limit::new("wbc.moderate", "2.0", "0.1", "10*9/L", "CTCAE v5.0", High),
    Limit::new("wbc.severe", "1.0", "0.1", "10*9/L", "CTCAE v5.0", High),
];
static ALC_BANDS: [Limit; 3] = [
    Limit::new("alc.mild", "0.8", "0.01", "10*9/L", "CTCAE v5.0", High),
    Limit::new("alc.moderate", "0.5", "0.01", "10*9/L", "CTCAE v5.0", High),
    Limit::new("alc.severe", "0.2", "0.01", "10*9/L", "CTCAE v5.0", High),
];
/// The same of children: shares of the limit for age, and what is very severe at any age.
static ALC_CHILD_SHARES: [Limit; 2] = [
    Limit::new("alc.child.mild", "0.75", "0.01", "1", OURS, Low),
    Limit::new("alc.child.moderate", "0.5", "0.01", "1", OURS, Low),
];
static ALC_CHILD_SEVERE: Limit = Limit::new("alc.child.severe", "0.5", "0.01", "10*9/L", OURS, Low);

fn row_at<'r, R>(
    rows: &'r [R],
    until: impl Fn(&R) -> Option<&Limit>,
    age: Age,
    tuning: &Tuning,
) -> Option<&'r R> {
    rows.iter()
        .find(|row| until(row).is_none_or(|limit| !age.reaches(limit, tuning)))
}

fn weeks(person: &Person) -> Decimal {
    Decimal::from(person.gestation_weeks.unwrap_or(40))
}

/// The haemoglobin row for an age: pregnancy first, then prematurity, then age and sex.
fn hb_row(age: Age, group: Group<'_>, tuning: &Tuning) -> &'static HbRow {
    match group.pregnant {
        Some(Some(1)) => return &HB_TRIMESTER_1,
        Some(Some(3)) => return &HB_TRIMESTER_3,
        Some(_) => return &HB_TRIMESTER_2,
        None => {}
    }
    if weeks(group.person) < tuning.value(&PRETERM)
        && let Some(row) = row_at(&HB_PRETERM, |row| row.until.as_ref(), age, tuning)
    {
        return row;
    }
    match row_at(&HB, |row| row.until.as_ref(), age, tuning) {
        Some(row) if row.until.is_some() => row,
        _ if group.person.sex == Sex::Male => &HB_MALE,
        Some(row) => row,
        None => &HB_MALE,
    }
}

/// Whether the limit for women was used because sex is not known.
pub fn hb_sex_assumed(age: &Age, group: Group<'_>, tuning: &Tuning) -> bool {
    group.person.sex == Sex::Unknown
        && hb_row(*age, group, tuning).until.is_none()
        && group.pregnant.is_none()
}

/// The limit that would have been used for a man.
pub fn hb_male_limit(tuning: &Tuning) -> Decimal {
    tuning.value(&HB_MALE.normal)
}

/// What altitude and smoking take from the measured haemoglobin before grading, g/L.
pub fn hb_adjustment(age: &Age, person: &Person, tuning: &Tuning) -> Decimal {
    if !age.reaches(&ADJUSTED_FROM, tuning) {
        return Decimal::ZERO;
    }
    let altitude = person.altitude_m.map_or(Decimal::ZERO, |metres| {
        ALTITUDE
            .iter()
            .rev()
            .find(|(from, _)| Decimal::from(metres) >= tuning.value(from))
            .map_or(Decimal::ZERO, |(_, subtract)| tuning.value(subtract))
    });
    let smoking = match person.smoking {
        Smoking::Unknown | Smoking::None | Smoking::PerDay(0) => Decimal::ZERO,
        Smoking::SomeNumberUnknown | Smoking::PerDay(1..=9) => tuning.value(&SMOKING_SOME),
        Smoking::PerDay(10..=19) => tuning.value(&SMOKING_10),
        Smoking::PerDay(_) => tuning.value(&SMOKING_20),
    };
    altitude + smoking
}

/// The limit below which a lineage is low.
pub fn lower_limit(lineage: Lineage, age: &Age, group: Group<'_>, tuning: &Tuning) -> Decimal {
    match lineage {
        Lineage::Erythroid => tuning.value(&hb_row(*age, group, tuning).normal),
        Lineage::Neutrophil => anc_limit(*age, group, tuning),
        Lineage::Platelet => {
            if age.reaches(&PLT_NEWBORN_UNTIL, tuning) {
                tuning.value(&PLT)
            } else if weeks(group.person) < tuning.value(&PLT_PRETERM_WEEKS) {
                tuning.value(&PLT_PRETERM)
            } else {
                tuning.value(&PLT_NEWBORN)
            }
        }
    }
}

fn anc_limit(age: Age, group: Group<'_>, tuning: &Tuning) -> Decimal {
    let very_preterm = weeks(group.person) < tuning.value(&ANC_VERY_PRETERM_WEEKS);
    if !age.reaches(&ANC_NEWBORN_UNTIL, tuning) && !very_preterm {
        return tuning.value(&ANC_NEWBORN);
    }
    if !age.reaches(&ANC_VERY_PRETERM_UNTIL, tuning) && very_preterm {
        return tuning.value(&ANC_VERY_PRETERM);
    }
    if !age.reaches(&ANC_INFANT_UNTIL, tuning) {
        return tuning.value(&ANC_INFANT);
    }
    if group.duffy_null {
        let own = if age.reaches(&ADULT, tuning) {
            tuning.value(&ANC_DUFFY_ADULT)
        } else {
            tuning.value(&ANC_DUFFY_CHILD)
        };
        return own.max(tuning.value(&ANC_DUFFY_FLOOR));
    }
    tuning.value(&ANC)
}

/// The bounds between grades, falling: below the n-th bound the grade is at least the n-th of
/// [`GRADES`]. Bounds that do not exist repeat the one above, so that their band is empty.
pub fn bounds(
    lineage: Lineage,
    age: &Age,
    group: Group<'_>,
    tuning: &Tuning,
) -> Vec<(Decimal, Grade)> {
    let normal = lower_limit(lineage, age, group, tuning);
    let mut bounds = Vec::with_capacity(5);
    match lineage {
        Lineage::Erythroid => {
            let row = hb_row(*age, group, tuning);
            match &row.mild {
                Some(mild) => {
                    bounds.push((normal, Grade::Mild));
                    bounds.push((tuning.value(mild), Grade::Moderate));
                }
                None => bounds.push((normal, Grade::Moderate)),
            }
            bounds.push((tuning.value(&row.moderate), Grade::Severe));
        }
        Lineage::Neutrophil => {
            let [mild, moderate, severe] = &ANC_BANDS;
            bounds.push((normal, Grade::Mild));
            bounds.push((tuning.value(mild), Grade::Moderate));
            bounds.push((tuning.value(moderate), Grade::Severe));
            bounds.push((tuning.value(severe), Grade::VerySevere));
        }
        Lineage::Platelet => {
            let [mild, moderate, severe, very_severe] = &PLT_BANDS;
            bounds.push((normal, Grade::Mild));
            bounds.push((tuning.value(mild), Grade::Moderate));
            bounds.push((tuning.value(moderate), Grade::Severe));
            bounds.push((tuning.value(severe), Grade::VerySevere));
            bounds.push((tuning.value(very_severe), Grade::Critical));
        }
    }
    bounds
}

/// The bounds between the grades of white cells or lymphocytes, as [`bounds`]; the first is the
/// limit for age. None of another analyte.
pub fn cell_bounds(analyte: Analyte, age: &Age, tuning: &Tuning) -> Vec<(Decimal, Grade)> {
    let Some((normal, _)) = range(analyte, age, false, tuning) else {
        return Vec::new();
    };
    let value = |limit: &Limit| tuning.value(limit);
    let lower_ends = match analyte {
        Analyte::Wbc => WBC_BANDS.each_ref().map(value),
        Analyte::Alc if age.reaches(&ADULT, tuning) => ALC_BANDS.each_ref().map(value),
        Analyte::Alc => {
            let [mild, moderate] = ALC_CHILD_SHARES.each_ref().map(value);
            [normal * mild, normal * moderate, value(&ALC_CHILD_SEVERE)]
        }
        _ => return Vec::new(),
    };
    let grades = [
        Grade::Mild,
        Grade::Moderate,
        Grade::Severe,
        Grade::VerySevere,
    ];
    std::iter::once(normal)
        .chain(lower_ends)
        .zip(grades)
        .collect()
}

/// Lower and upper limit for age of an analyte that has them (MCV, WBC, ALC, AMC, reticulocytes).
pub fn range(
    analyte: Analyte,
    age: &Age,
    pregnant: bool,
    tuning: &Tuning,
) -> Option<(Decimal, Option<Decimal>)> {
    let rows: &[RangeRow] = match analyte {
        Analyte::Mcv => &MCV,
        Analyte::Wbc => &WBC,
        Analyte::Alc => &ALC,
        Analyte::Amc => &AMC,
        Analyte::Arc => &ARC,
        _ => return None,
    };
    let row = row_at(rows, |row| row.until.as_ref(), *age, tuning).unwrap_or(&ALC_ADULT);
    let upper = match (&row.upper, analyte) {
        (Some(_), Analyte::Wbc) if pregnant && row.until.is_none() => {
            Some(tuning.value(&WBC_PREGNANT))
        }
        (upper, _) => upper.as_ref().map(|limit| tuning.value(limit)),
    };
    Some((tuning.value(&row.lower), upper))
}

/// Every limit of this module, for the rule book and for the test that moves each of them.
pub fn limits() -> Vec<&'static Limit> {
    let mut all: Vec<&'static Limit> = Vec::new();
    let hb_rows = HB.iter().chain([&HB_MALE]).chain(&HB_PRETERM).chain([
        &HB_TRIMESTER_1,
        &HB_TRIMESTER_2,
        &HB_TRIMESTER_3,
    ]);
    for row in hb_rows {
        all.extend(&row.until);
        all.push(&row.normal);
        all.extend(&row.mild);
        all.push(&row.moderate);
    }
    all.extend([&PRETERM, &ADJUSTED_FROM]);
    all.extend(
        ALTITUDE
            .iter()
            .flat_map(|(from, subtract)| [from, subtract]),
    );
    all.extend([&SMOKING_SOME, &SMOKING_10, &SMOKING_20]);
    let ranges = MCV
        .iter()
        .chain(&WBC)
        .chain(&ALC)
        .chain([&ALC_ADULT])
        .chain(&AMC)
        .chain(&ARC);
    for row in ranges {
        all.extend(&row.until);
        all.push(&row.lower);
        all.extend(&row.upper);
    }
    all.push(&WBC_PREGNANT);
    all.extend([
        &ANC_NEWBORN,
        &ANC_NEWBORN_UNTIL,
        &ANC_VERY_PRETERM,
        &ANC_VERY_PRETERM_UNTIL,
        &ANC_VERY_PRETERM_WEEKS,
        &ANC_INFANT,
        &ANC_INFANT_UNTIL,
        &ANC,
        &ANC_DUFFY_ADULT,
        &ANC_DUFFY_CHILD,
        &ANC_DUFFY_FLOOR,
        &ADULT,
        &PLT_NEWBORN,
        &PLT_PRETERM,
        &PLT_PRETERM_WEEKS,
        &PLT_NEWBORN_UNTIL,
        &PLT,
    ]);
    all.extend(&ANC_BANDS);
    all.extend(&PLT_BANDS);
    all.extend(WBC_BANDS.iter().chain(&ALC_BANDS).chain(&ALC_CHILD_SHARES));
    all.push(&ALC_CHILD_SEVERE);
    all
}
