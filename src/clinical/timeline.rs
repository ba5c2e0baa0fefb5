//! What is known of one patient: the input of every assessment.

use std::sync::Arc;

use time::{Date, OffsetDateTime};

use super::{
    analyte::Analyte,
    quantity::Interval,
    time::{BirthDate, SampleTime},
    truth::Truth,
};

/// Sex for clinical use if sent, else administrative gender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sex {
    /// Female.
    Female,
    /// Male.
    Male,
    /// Not sent, `other` or `unknown`.
    #[default]
    Unknown,
}

/// Smoking as the haemoglobin adjustment asks for it (WHO 2024).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Smoking {
    /// Not sent: not adjusted, and said so.
    #[default]
    Unknown,
    /// Does not smoke.
    None,
    /// Smokes, number unknown.
    SomeNumberUnknown,
    /// Cigarettes a day.
    PerDay(u16),
}

/// Duffy status, from typing or a coded Condition only; never from ancestry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Duffy {
    /// Not known.
    #[default]
    Unknown,
    /// Fy(a-b-) or ACKR1 rs2814778 C/C.
    Null,
    /// Any other type.
    Positive,
}

/// The person the counts are of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Person {
    /// Date of birth as far as sent; `None`: age unknown.
    pub birth: Option<BirthDate>,
    /// Sex.
    pub sex: Sex,
    /// Completed weeks of gestation at birth; `None`: term is assumed.
    pub gestation_weeks: Option<u8>,
    /// Altitude of residence in metres over the last four months.
    pub altitude_m: Option<u32>,
    /// Smoking.
    pub smoking: Smoking,
    /// Duffy status.
    pub duffy: Duffy,
    /// `true` when death is recorded, with or without a date.
    pub deceased: bool,
    /// Time of death, if sent.
    pub deceased_at: Option<OffsetDateTime>,
}

/// A pregnancy as recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pregnancy {
    /// Day from which it is known.
    pub from: Date,
    /// Delivery or loss; `None`: 300 days after `from` at the latest.
    pub until: Option<Date>,
    /// Gestational age in completed days on a given day.
    pub gestation: Option<(u16, Date)>,
}

/// `Observation.status`, as far as a value can have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    /// Verified early result: safety rules only.
    Preliminary,
    /// Final.
    Final,
    /// Changed after being final (`amended`, `appended`).
    Amended,
    /// Corrected after being final.
    Corrected,
    /// Withdrawn: kept so that what rested on it can be withdrawn too.
    EnteredInError,
    /// `registered`, `cancelled`, `unknown`: kept, never used.
    NotEvaluated,
}

/// How a value was obtained, as far as the order of preference asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Method {
    /// Not said.
    #[default]
    Unspecified,
    /// Analyser.
    Automated,
    /// Analyser, optical or fluorescence.
    Optical,
    /// Analyser, impedance.
    Impedance,
    /// Microscope.
    Manual,
    /// Estimated or calculated by the sender.
    Calculated,
    /// Blood gas analyser or oximeter.
    BloodGas,
    /// Point of care.
    PointOfCare,
}

/// Where the blood came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Draw {
    /// Not said.
    #[default]
    Unspecified,
    /// Venous.
    Venous,
    /// Arterial or mixed venous.
    Arterial,
    /// Capillary (heel prick, finger prick).
    Capillary,
}

/// The sender's own flag, as far as a rule asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Interpretation {
    /// `LL`, `HH` or `AA`: critical by the laboratory.
    Critical,
    /// `L`, `LU`, `<`.
    Low,
    /// `H`, `HU`, `>`.
    High,
    /// `N`.
    Normal,
    /// `A`, `POS`, `DET`, `RR`.
    Abnormal,
}

/// Why a value cannot be used. The words are the outcome words of the interface, so that the
/// answer, the report and `marrowflag read` say the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reason {
    /// Outcome word: `unit-missing`, `value-implausible`, `clumped`, ...
    pub word: &'static str,
    /// One sentence for a reader, without patient identifiers.
    pub text: String,
}

/// A problem of the specimen that touches its values (DQ-08).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SpecimenProblem {
    /// Clotted: the whole blood count is refused.
    Clotted,
    /// Haemolysed.
    Haemolysed,
    /// Lipaemic.
    Lipaemic,
    /// Drip arm, diluted: refused.
    Diluted,
    /// Insufficient or underfilled.
    Insufficient,
    /// Older than 24 h when analysed.
    Aged,
    /// Platelets clumped or satellitism.
    Clumped,
    /// Taken into citrate: counts are diluted 9:1 and not multiplied here; says so, refuses nothing.
    Citrate,
}

/// One value of one specimen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Measurement {
    /// What was measured.
    pub analyte: Analyte,
    /// The value in the analyte's canonical unit; `None` when it could not be brought there, then
    /// `unusable` says why.
    pub value: Option<Interval>,
    /// Value and unit as received, for printing and for limits given in the second unit.
    pub received: Received,
    /// When the sample was taken; `None`: not known, then `unusable` says so.
    pub at: Option<SampleTime>,
    /// Which specimen: equal keys are one specimen. Built by the reader from Specimen reference,
    /// identifier or accession, else from the report; `None`: only the minute can tell.
    pub specimen: Option<Arc<str>>,
    /// Which report lists it, if any: same day and same report is one specimen.
    pub report: Option<Arc<str>>,
    /// Who measured it: any text that is the same for the same laboratory. `None`: not said.
    pub laboratory: Option<Arc<str>>,
    /// Status of the result.
    pub status: Status,
    /// How it was obtained.
    pub method: Method,
    /// Order of preference among the codes of its analyte; 0 is best.
    pub preference: u8,
    /// Where the blood came from.
    pub draw: Draw,
    /// What is wrong with the specimen.
    pub problems: Vec<SpecimenProblem>,
    /// Cells counted in a manual differential.
    pub cells_counted: Option<u32>,
    /// The sender's own flag.
    pub interpretation: Option<Interpretation>,
    /// Upper limit of the laboratory's range in the canonical unit, for "x upper limit" only.
    pub upper_limit: Option<rust_decimal::Decimal>,
    /// Why it cannot be used; decided where it was read.
    pub unusable: Option<Reason>,
    /// When it came to us (as-of of the submission that brought it first); `None`: now.
    pub filed_at: Option<OffsetDateTime>,
    /// What it is called in the output.
    pub source: Source,
}

impl Measurement {
    /// A final result of which nothing else is said.
    pub fn of(analyte: Analyte, value: Option<Interval>, at: Option<SampleTime>) -> Self {
        Self {
            analyte,
            value,
            received: Received::default(),
            at,
            specimen: None,
            report: None,
            laboratory: None,
            status: Status::Final,
            method: Method::default(),
            preference: 0,
            draw: Draw::default(),
            problems: Vec::new(),
            cells_counted: None,
            interpretation: None,
            upper_limit: None,
            unusable: None,
            filed_at: None,
            source: Source::default(),
        }
    }
}

/// Value and unit as they were sent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Received {
    /// The number as written, with its comparator: `13.20`, `<0.1`.
    pub value: String,
    /// The unit as it was understood to be sent (UCUM code or alias); empty: none.
    pub unit: String,
}

/// Where a value or fact comes from, for the report and for warnings.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Source {
    /// Handle given by the caller; the core only hands it back.
    pub handle: u32,
    /// Business identifier of the Observation: system and value.
    pub identifier: Option<(Arc<str>, Arc<str>)>,
    /// LOINC code that was understood.
    pub loinc: Option<Arc<str>>,
}

/// A finding token of the model, with the time for which it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// Token: `fever`, `chemo_21`, `gene:ELANE`, `dx:fanconi`, base tokens such as `chemo`.
    pub token: Arc<str>,
    /// Yes, explicitly no, or mentioned without being certain.
    pub truth: Truth,
    /// Start (onset, dose, procedure); `None`: not known.
    pub from: Option<OffsetDateTime>,
    /// End; `None`: still so, or not known.
    pub until: Option<OffsetDateTime>,
    /// When it came to us; `None`: now.
    pub filed_at: Option<OffsetDateTime>,
    /// Where it comes from.
    pub source: Source,
}

/// Everything known of one patient when an assessment is made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Timeline {
    /// The person.
    pub person: Person,
    /// Every value, in any order.
    pub measurements: Vec<Measurement>,
    /// Every finding token, in any order.
    pub facts: Vec<Fact>,
    /// Pregnancies.
    pub pregnancies: Vec<Pregnancy>,
    /// Whether this submission belongs to an inpatient stay that has not ended.
    pub inpatient: bool,
}
