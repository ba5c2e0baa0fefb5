//! The form every disorder, mimic, pattern and safety rule is written in.
//!
//! A rule is data: its gate and its evidence are trees of [`Criterion`] over measured values,
//! lineages, age and finding tokens. Evaluation, trace, missing inputs and the rule book all read
//! the same tree, so that they cannot drift apart.
//!
//! # Writing a rule
//! - One file per rule; its numbers are `static` [`Limit`]s at the top, named for what they bound.
//! - The gate is three-valued. In a gate a finding token or film, marrow or genetic statement
//!   that was not sent counts as FALSE; a laboratory number that was not sent makes it UNKNOWN.
//!   Where the rule says otherwise: [`Criterion::Optional`] (not sent = FALSE),
//!   [`Criterion::Blocking`] (not sent = UNKNOWN), [`Criterion::NotBlocking`] (not sent = met).
//!   A marker that was sent but does not decide stays UNKNOWN whatever the wrapper.
//! - Evidence scores only when TRUE, so it needs no wrapper.
//! - Tests that are reported as positive or negative are tokens with both answers:
//!   `dat_positive`, `breakage_positive`, `eada_high`, `trypsinogen_low`, `isoamylase_low`,
//!   `hba2_high`, `telomere_below_1`, `telomere_below_10`, `telomere_from_50`, `zinc_high`,
//!   `plt_clump`. "DAT negative" is `Refuted("dat_positive")`.

use super::{
    analyte::Analyte,
    assessment::{Grade, Lineage, Urgency},
    context::Context,
    limits::{Confidence, Limit},
    timeline::Sex,
    truth::Truth,
};

/// Something with a number that a criterion can compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Input {
    /// The newest valid value inside the window of its analyte (4.4.2); blood counts: the index
    /// specimen. Haemoglobin as measured; ANC, ARC, blasts and the other derived quantities as
    /// derived (0.1), with their bounds.
    Of(Analyte),
    /// The same, but not older than this many days, where a rule asks for a shorter window.
    Within(Analyte, &'static Days),
    /// Value divided by the upper limit of the laboratory that measured it.
    TimesUpperLimit(Analyte),
    /// Reticulocyte production index.
    Rpi,
    /// Mentzer index, MCV/RBC.
    Mentzer,
    /// Lymphocytes in % of white cells, sent or computed.
    LymphocytePercent,
    /// MCV minus the middle of its range for age, fL.
    McvFromMidpoint,
    /// Gestational age at birth, completed weeks; not sent counts as 40.
    GestationAtBirth,
}

/// A window in days, as a type of its own so that an [`Input`] stays comparable.
#[derive(Debug)]
pub struct Days(pub Limit);

impl PartialEq for Days {
    fn eq(&self, other: &Self) -> bool {
        self.0.id == other.0.id
    }
}

impl Eq for Days {}

impl std::hash::Hash for Days {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.id.hash(state);
    }
}

/// Class of the reticulocyte count (0.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReticulocyteClass {
    /// Hardly any new red cells.
    Low,
    /// Too few for the anaemia.
    Inadequate,
    /// Neither.
    Intermediate,
    /// The marrow answers.
    Regenerative,
}

/// A statement about one patient that is TRUE, FALSE or UNKNOWN.
#[derive(Debug)]
pub enum Criterion {
    /// Every one of them.
    All(&'static [Criterion]),
    /// At least one of them.
    Any(&'static [Criterion]),
    /// At least this many of them.
    AtLeast(usize, &'static [Criterion]),
    /// Not so.
    Not(&'static Criterion),
    /// A criterion defined elsewhere, to share it.
    Same(&'static Criterion),
    /// TRUE when the inner one is UNKNOWN, else FALSE.
    Undecided(&'static Criterion),
    /// TRUE when the inner one is TRUE, else FALSE ("TRUE only").
    Surely(&'static Criterion),
    /// UNKNOWN when the inner one is TRUE, else FALSE: a gate that must stay indeterminate
    /// ("gate UNKNOWN when ...").
    Doubtful(&'static Criterion),

    /// Not sent counts as FALSE (4.4.1, first column).
    Optional(&'static Criterion),
    /// Not sent makes it UNKNOWN, for tokens that block (4.4.1, second column).
    Blocking(&'static Criterion),
    /// Not sent, or not assessable, counts as met (4.4.1, third column).
    NotBlocking(&'static Criterion),

    /// `input < limit`.
    Below(Input, &'static Limit),
    /// `input <= limit`.
    AtMost(Input, &'static Limit),
    /// `input > limit`.
    Above(Input, &'static Limit),
    /// `input >= limit`.
    NotBelow(Input, &'static Limit),
    /// `low <= input < high`.
    Between(Input, &'static Limit, &'static Limit),
    /// A usable value was sent.
    Known(Input),
    /// A usable value was sent and nothing makes it suspect.
    Trusted(Input),
    /// Below the lower limit for age (section 2) of an analyte that has one: MCV, ALC, AMC, WBC.
    BelowRange(Analyte),
    /// Above the upper limit for age (section 2): MCV, AMC, WBC, reticulocytes.
    AboveRange(Analyte),

    /// Age below the limit (calendar years, months or days by its unit).
    Younger(&'static Limit),
    /// Age at or above the limit.
    AtAge(&'static Limit),
    /// Sex is known and is this one; unknown sex: UNKNOWN.
    OfSex(Sex),
    /// Pregnant at the index.
    Pregnant,
    /// Pregnant in this trimester (1 to 3).
    Trimester(u8),
    /// Delivered at most this many days before the index.
    PostPartum(&'static Limit),
    /// Duffy-null by typing or coded Condition; unknown status: UNKNOWN.
    DuffyNull,

    /// The lineage is below its limit for age (section 2).
    IsLow(Lineage),
    /// At least this many of the three lineages are low.
    LowLineages(usize),
    /// Only this lineage is low, the other two are known not to be.
    OnlyLow(Lineage),
    /// The grade of the lineage is this or worse.
    Graded(Lineage, Grade),
    /// Reticulocyte class.
    Reticulocytes(ReticulocyteClass),

    /// The token is TRUE.
    Token(&'static str),
    /// Any of the tokens is TRUE.
    AnyToken(&'static [&'static str]),
    /// `!token`: explicitly FALSE.
    Refuted(&'static str),
    /// `?token`: not TRUE (FALSE or UNKNOWN).
    NotTrue(&'static str),

    /// The inner statement held on a run of at least two results, back from the index, that spans
    /// at least this many days (section 0, persistence). Inner: comparisons and lineage statements.
    Persists(&'static Criterion, &'static Limit),
    /// The gate of another rule.
    Gate(&'static str),
    /// A safety rule or count pattern fired at the index (`S02`, `C1`).
    Fired(&'static str),
    /// A statement that needs code of its own.
    Custom(&'static Named),
    /// TRUE.
    Always,
    /// UNKNOWN: closes an arm of a gate that can make it indeterminate, never TRUE.
    Undecidable,
}

/// A criterion in code, with everything the rule book and the trace need to know of it.
pub struct Named {
    /// What it asks, in words with its numbers as `{0}`, `{1}` for `limits`.
    pub text: &'static str,
    /// The limits it compares with.
    pub limits: &'static [&'static Limit],
    /// The inputs it reads.
    pub inputs: &'static [Input],
    /// The tokens it reads.
    pub tokens: &'static [&'static str],
    /// The answer.
    pub evaluate: fn(&Context<'_>) -> Answer,
}

impl std::fmt::Debug for Named {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.text)
    }
}

/// Answer to a criterion, and whether an UNKNOWN comes only from what was never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answer {
    /// The answer.
    pub truth: Truth,
    /// UNKNOWN only because something was not sent (an unusable or undecided value: `false`).
    pub not_sent: bool,
}

impl Answer {
    /// Nothing was sent.
    pub const NOT_SENT: Self = Self {
        truth: Truth::Unknown,
        not_sent: true,
    };
    /// Sent, but it does not decide.
    pub const UNDECIDED: Self = Self {
        truth: Truth::Unknown,
        not_sent: false,
    };
}

impl From<Truth> for Answer {
    fn from(truth: Truth) -> Self {
        Self {
            truth,
            not_sent: false,
        }
    }
}

impl From<bool> for Answer {
    fn from(known: bool) -> Self {
        Truth::from(known).into()
    }
}

/// A line of evidence: points when TRUE. In [`Rule::excluding`] the points are 0.
#[derive(Debug)]
pub struct Evidence {
    /// Short name, unique in its rule: `marrow`.
    pub id: &'static str,
    /// Points, positive for and negative against.
    pub points: i32,
    /// What it says, for the reader.
    pub text: &'static str,
    /// When it counts.
    pub when: Criterion,
}

/// Short form for the rule files: `line("marrow", 6, "marrow cellularity <25 %", criterion)`.
pub const fn line(id: &'static str, points: i32, text: &'static str, when: Criterion) -> Evidence {
    Evidence {
        id,
        points,
        text,
        when,
    }
}

/// An excluding line.
pub const fn excludes(id: &'static str, text: &'static str, when: Criterion) -> Evidence {
    line(id, 0, text, when)
}

/// A word that is printed with the rule when its criterion is TRUE; the first that fits is used.
#[derive(Debug)]
pub struct Label {
    /// `SAA`, `CCUS`.
    pub text: &'static str,
    /// When.
    pub when: Criterion,
}

/// An upper bound of the score.
#[derive(Debug)]
pub struct Cap {
    /// The bound.
    pub score: i32,
    /// Why, for the reader.
    pub text: &'static str,
    /// When.
    pub when: Criterion,
}

/// Kind of rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Marrow failure, acquired.
    Acquired,
    /// Inherited syndrome.
    Inherited,
    /// Clonal disease.
    Clonal,
    /// Explains the counts without primary marrow failure.
    Mimic,
    /// Safety (S01).
    Safety,
}

/// Age bands of the priors, half-open (section 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Band {
    /// 0 to 27 days.
    Neonate,
    /// 28 days to under 1 year.
    Infant,
    /// 1 to under 5 years.
    Toddler,
    /// 5 to under 12 years.
    Child,
    /// 12 to under 18 years.
    Adolescent,
    /// 18 to under 40 years.
    Young,
    /// 40 to under 60 years.
    Middle,
    /// 60 years and over.
    Old,
}

impl Band {
    /// All, youngest first.
    pub const ALL: [Self; 8] = [
        Self::Neonate,
        Self::Infant,
        Self::Toddler,
        Self::Child,
        Self::Adolescent,
        Self::Young,
        Self::Middle,
        Self::Old,
    ];

    /// Name of the prior of this band among the points of a rule.
    pub fn key(self) -> &'static str {
        match self {
            Self::Neonate => "prior.N",
            Self::Infant => "prior.I",
            Self::Toddler => "prior.T",
            Self::Child => "prior.C",
            Self::Adolescent => "prior.A",
            Self::Young => "prior.Y",
            Self::Middle => "prior.M",
            Self::Old => "prior.O",
        }
    }

    /// The letter of the rule book.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Neonate => "N",
            Self::Infant => "I",
            Self::Toddler => "T",
            Self::Child => "C",
            Self::Adolescent => "A",
            Self::Young => "Y",
            Self::Middle => "M",
            Self::Old => "O",
        }
    }
}

/// Prior points per age band; `None`: the rule is not evaluated there.
#[derive(Debug, Clone, Copy)]
pub struct Priors(pub [Option<i32>; 8]);

impl Priors {
    /// The prior of a band.
    pub fn of(&self, band: Band) -> Option<i32> {
        self.0.get(band as usize).copied().flatten()
    }
}

/// Priors in the order N I T C A Y M O, as the rule blocks print them: `"-3 -2 0 +1 +1 +2 +1 -"`,
/// a lone `-` for a band in which the rule is not evaluated.
///
/// # Panics
/// When compiling, on a text that is not eight bands.
#[expect(
    clippy::indexing_slicing,
    reason = "evaluated when compiling; a wrong text fails the build"
)]
pub const fn priors(text: &str) -> Priors {
    let bytes = text.as_bytes();
    let mut bands = [None; 8];
    let (mut band, mut position) = (0, 0);
    while position < bytes.len() {
        if bytes[position] == b' ' {
            position += 1;
            continue;
        }
        assert!(band < 8, "eight bands");
        let negative = bytes[position] == b'-';
        if negative || bytes[position] == b'+' {
            position += 1;
        }
        if position < bytes.len() && bytes[position].is_ascii_digit() {
            let value = (bytes[position] - b'0') as i32;
            bands[band] = Some(if negative { -value } else { value });
            position += 1;
        } else {
            assert!(negative, "a number or a dash");
        }
        band += 1;
    }
    assert!(band == 8, "eight bands");
    Priors(bands)
}

/// A disorder, mimic or S01: something the data can fit more or less well.
#[derive(Debug)]
pub struct Rule {
    /// `D01`.
    pub id: &'static str,
    /// Slug of the finding code system.
    pub slug: &'static str,
    /// Name for a reader: `Aplastic anaemia`.
    pub name: &'static str,
    /// Kind.
    pub kind: Kind,
    /// The sentence a clinician signs; `{label}` is replaced by the label.
    pub sentence: &'static str,
    /// Required criteria.
    pub gate: Criterion,
    /// Inputs without which it cannot be evaluated, in words.
    pub required: &'static str,
    /// Lines that add or take points.
    pub evidence: &'static [Evidence],
    /// Lines that move it to "considered, argued against by".
    pub excluding: &'static [Evidence],
    /// Prior by age band.
    pub priors: Priors,
    /// Upper bounds of the score.
    pub caps: &'static [Cap],
    /// Sub-label, first that fits.
    pub labels: &'static [Label],
    /// Appended to the label, first that fits.
    pub suffixes: &'static [Label],
    /// Further sentences printed when their criterion is TRUE.
    pub remarks: &'static [Label],
    /// What a missing input does, in words.
    pub if_missing: &'static str,
    /// How soon: the first criterion that is TRUE; none: U1.
    pub urgency: &'static [(Urgency, Criterion)],
    /// Suggested work-up.
    pub next: &'static str,
    /// Sources.
    pub source: &'static str,
    /// Confidence of the gate.
    pub confidence: Confidence,
}

/// A count pattern (C) or safety rule (S02 to S08): levels, each with its own urgency and words.
#[derive(Debug)]
pub struct Watch {
    /// `S03`, `C7`.
    pub id: &'static str,
    /// Name for a reader.
    pub name: &'static str,
    /// Slug of the finding code system, if it has one.
    pub slug: Option<&'static str>,
    /// Levels, most urgent first: the first TRUE one is reported. When none is TRUE and one is
    /// UNKNOWN, it is reported as not assessable.
    pub levels: &'static [Level],
    /// Suggested work-up.
    pub next: &'static str,
    /// Sources.
    pub source: &'static str,
    /// Confidence.
    pub confidence: Confidence,
}

/// One level of a [`Watch`].
#[derive(Debug)]
pub struct Level {
    /// Short name, unique in its rule: `a`, `lt50`.
    pub id: &'static str,
    /// Name printed instead of the rule's, where a level has its own (`Fever after chemotherapy`).
    pub name: Option<&'static str>,
    /// Trigger.
    pub when: Criterion,
    /// How soon: the first criterion that is TRUE; none: U0.
    pub urgency: &'static [(Urgency, Criterion)],
    /// The sentence for the clinician; `{anc}`, `{plt}`, `{hb}`, `{wbc}`, `{alc}`, `{temperature}`
    /// are replaced by the values used.
    pub sentence: &'static str,
    /// Further sentences printed when their criterion is TRUE.
    pub remarks: &'static [Label],
}

/// Everything a rule file needs.
pub mod prelude {
    pub use super::{
        Answer, Cap,
        Criterion::{
            self, Above, AboveRange, All, Always, Any, AnyToken, AtAge, AtLeast, AtMost, Below,
            BelowRange, Between, Blocking, Custom, Doubtful, DuffyNull, Fired, Gate, Graded, IsLow,
            Known, LowLineages, Not, NotBelow, NotBlocking, NotTrue, OfSex, OnlyLow, Optional,
            Persists, PostPartum, Pregnant, Refuted, Reticulocytes, Same, Surely, Token, Trimester,
            Trusted, Undecidable, Undecided, Younger,
        },
        Days, Evidence,
        Input::{self, GestationAtBirth, LymphocytePercent, Mentzer, Rpi, TimesUpperLimit, Within},
        Kind, Label, Level, Named, ReticulocyteClass as Retics, Rule, Watch, excludes, line,
        priors,
    };
    pub use crate::clinical::{
        analyte::Analyte,
        assessment::{
            Grade,
            Lineage::{self, Erythroid, Neutrophil, Platelet},
            Urgency::{self, U0, U1, U2, U3, U4},
        },
        context::Context,
        limits::{
            Confidence::{High, Low, Medium},
            Limit, in_unit, limit,
        },
        timeline::Sex,
        truth::Truth,
    };

    /// The direct antiglobulin test speaks against antibodies: the same line of several rules.
    pub const DAT_NEGATIVE: Evidence = line(
        "dat_negative",
        1,
        "direct antiglobulin test negative",
        Refuted("dat_positive"),
    );
    /// The exposure cannot be the cause: the same line of several rules.
    pub const PREDATES: Evidence = line(
        "predates",
        -4,
        "the low count is older than the exposure",
        Token("predates"),
    );

    /// Haemoglobin as measured.
    pub const HB: Input = Input::Of(Analyte::Hb);
    /// Neutrophils.
    pub const ANC: Input = Input::Of(Analyte::Anc);
    /// Platelets.
    pub const PLT: Input = Input::Of(Analyte::Platelets);
    /// White cells.
    pub const WBC: Input = Input::Of(Analyte::Wbc);
    /// Lymphocytes.
    pub const ALC: Input = Input::Of(Analyte::Alc);
    /// Monocytes.
    pub const AMC: Input = Input::Of(Analyte::Amc);
    /// Eosinophils.
    pub const EOS: Input = Input::Of(Analyte::Eosinophils);
    /// Mean cell volume.
    pub const MCV: Input = Input::Of(Analyte::Mcv);
    /// Red cell distribution width.
    pub const RDW: Input = Input::Of(Analyte::Rdw);
    /// Mean platelet volume.
    pub const MPV: Input = Input::Of(Analyte::Mpv);
    /// Immature platelet fraction.
    pub const IPF: Input = Input::Of(Analyte::Ipf);
    /// Reticulocytes.
    pub const ARC: Input = Input::Of(Analyte::Arc);
    /// Blasts, % of white cells, manual.
    pub const BLASTS: Input = Input::Of(Analyte::Blasts);
    /// Nucleated red cells per 100 white cells.
    pub const NRBC: Input = Input::Of(Analyte::Nrbc);
    /// Immature granulocytes, %.
    pub const IG: Input = Input::Of(Analyte::ImmatureGranulocytes);
    /// Vitamin B12.
    pub const B12: Input = Input::Of(Analyte::B12);
    /// Folate.
    pub const FOLATE: Input = Input::Of(Analyte::Folate);
    /// Copper.
    pub const COPPER: Input = Input::Of(Analyte::Copper);
    /// Ferritin, up to 90 days old.
    pub const FERRITIN: Input = Input::Of(Analyte::Ferritin);
    /// Transferrin saturation.
    pub const TSAT: Input = Input::Of(Analyte::Tsat);
    /// C-reactive protein.
    pub const CRP: Input = Input::Of(Analyte::Crp);
    /// Estimated glomerular filtration rate.
    pub const EGFR: Input = Input::Of(Analyte::Egfr);
    /// Lactate dehydrogenase over the laboratory's upper limit.
    pub const LDH_X: Input = TimesUpperLimit(Analyte::Ldh);
    /// Haptoglobin.
    pub const HAPTOGLOBIN: Input = Input::Of(Analyte::Haptoglobin);
    /// Marrow cellularity.
    pub const CELLULARITY: Input = Input::Of(Analyte::MarrowCellularity);
    /// Marrow blasts.
    pub const MARROW_BLASTS: Input = Input::Of(Analyte::MarrowBlasts);
    /// PNH clone of the granulocytes.
    pub const PNH: Input = Input::Of(Analyte::Pnh);
    /// Faecal elastase.
    pub const ELASTASE: Input = Input::Of(Analyte::FaecalElastase);
    /// Lactate.
    pub const LACTATE: Input = Input::Of(Analyte::Lactate);
}
