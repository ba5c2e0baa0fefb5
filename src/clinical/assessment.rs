//! What an assessment says: everything a finding rests on is in the finding.

use std::sync::Arc;

use time::OffsetDateTime;

use super::{
    analyte::Analyte,
    quantity::Interval,
    time::SampleTime,
    timeline::{Received, Source},
    truth::Truth,
};

/// How soon a clinician should look (clinical specification 0.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Urgency {
    /// Information only.
    U0,
    /// Routine: next visit.
    U1,
    /// Soon: within 14 days.
    U2,
    /// Urgent: within 24 hours.
    U3,
    /// Emergency: now.
    U4,
}

/// The three blood lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lineage {
    /// E: haemoglobin.
    Erythroid,
    /// N: neutrophils.
    Neutrophil,
    /// P: platelets.
    Platelet,
}

/// Severity of a low count (section 3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Grade {
    /// Not low.
    None,
    /// Mild.
    Mild,
    /// Moderate.
    Moderate,
    /// Severe.
    Severe,
    /// Very severe.
    VerySevere,
    /// Critical.
    Critical,
}

/// A value as a rule used it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// What.
    pub analyte: Analyte,
    /// In the canonical unit.
    pub interval: Interval,
    /// As received; empty for a derived value.
    pub received: Received,
    /// When sampled.
    pub at: SampleTime,
    /// How it was computed, when it was (`WBC x (segs + bands) / 100`).
    pub derived: Option<String>,
    /// To be verified (data quality).
    pub suspect: bool,
    /// Preliminary result.
    pub preliminary: bool,
    /// The results it rests on.
    pub sources: Vec<Source>,
}

/// One blood line in the index specimen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineageResult {
    /// Which.
    pub lineage: Lineage,
    /// Low, not low, or not decided.
    pub low: Truth,
    /// The grade, when one grade is certain.
    pub grade: Option<Grade>,
    /// The least severe grade still possible, when only that is certain (`at least severe`).
    pub at_least: Option<Grade>,
    /// The value it rests on.
    pub value: Option<Value>,
    /// The limit below which it is low, in the canonical unit.
    pub limit: Option<rust_decimal::Decimal>,
    /// Why it is unknown, or what the reader must know (`limit of 120 used: sex unknown`).
    pub note: Option<String>,
}

/// White cells or lymphocytes of the index specimen, graded for display (3.1): rules have numbers of
/// their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellResult {
    /// White cells or lymphocytes.
    pub analyte: Analyte,
    /// The grade, when only one is possible.
    pub grade: Option<Grade>,
    /// The value it rests on.
    pub value: Value,
    /// The limit below which it is low, where the age is known.
    pub limit: Option<rust_decimal::Decimal>,
}

/// A count pattern (C) or safety rule (S) that is present, or that could not be assessed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleFinding {
    /// Rule id: `C1`, `C2+`, `S03`.
    pub id: &'static str,
    /// Name for a reader: `Pancytopenia`.
    pub name: &'static str,
    /// Slug of the finding code system, if it has one.
    pub slug: Option<&'static str>,
    /// [`Truth::True`], or [`Truth::Unknown`] with `needs` filled.
    pub truth: Truth,
    /// How soon.
    pub urgency: Urgency,
    /// The sentence for the clinician, with its numbers filled in.
    pub sentence: String,
    /// Values it rests on.
    pub values: Vec<Value>,
    /// Thresholds it compared with, in words (`PLT <10 x10^9/L`).
    pub thresholds: Vec<String>,
    /// What is missing, when it could not be assessed.
    pub needs: Vec<String>,
    /// Suggested work-up.
    pub next: &'static str,
    /// Source of the rule.
    pub source: &'static str,
}

/// How well the data fit a candidate (section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Fit {
    /// Score below 2: kept in the trace only.
    Hidden,
    /// 2 to 4, or the gate is unknown.
    Weak,
    /// 5 to 7.
    Moderate,
    /// 8 and more.
    Strong,
}

/// One line of evidence that counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceLine {
    /// Points it gave; 0 for an excluding line.
    pub points: i32,
    /// What it says, with the value (`reticulocyte class low (ARC 14 x10^9/L)`).
    pub text: String,
    /// The results or facts it comes from.
    pub sources: Vec<Source>,
}

/// A disorder (D), mimic (M) or S01, weighed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Rule id: `D01`.
    pub id: &'static str,
    /// Slug of the finding code system.
    pub slug: &'static str,
    /// Name for a reader: `Aplastic anaemia`.
    pub name: &'static str,
    /// Sub-label: `SAA-COUNTS`.
    pub label: Option<String>,
    /// The gate.
    pub gate: Truth,
    /// Prior plus evidence, after caps.
    pub score: i32,
    /// Fit label.
    pub fit: Fit,
    /// Evidence with positive points, and the prior when it is not 0.
    pub for_it: Vec<EvidenceLine>,
    /// Evidence with negative points.
    pub against: Vec<EvidenceLine>,
    /// Excluding lines that are true: then it is listed as argued against.
    pub excluded_by: Vec<EvidenceLine>,
    /// What was not received and would count.
    pub missing: Vec<String>,
    /// How soon.
    pub urgency: Urgency,
    /// The sentence for the clinician, filled in.
    pub sentence: String,
    /// Suggested work-up.
    pub next: &'static str,
    /// Source and confidence.
    pub source: &'static str,
}

/// A value that was not used, or used with doubt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Doubt {
    /// The result.
    pub source: Source,
    /// What it is of.
    pub analyte: Analyte,
    /// As received.
    pub received: Received,
    /// When sampled.
    pub at: Option<SampleTime>,
    /// `false`: not used. `true`: used, "please verify".
    pub used: bool,
    /// Outcome word (`value-implausible`, `unit-inconsistent`, ...).
    pub word: &'static str,
    /// One sentence.
    pub text: String,
}

/// What an assessment leads to (section 8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Output {
    /// Nothing.
    Nothing,
    /// A DiagnosticReport.
    Report,
    /// A Flag and a DiagnosticReport.
    Flag,
    /// A Flag of category safety and a DiagnosticReport.
    SafetyFlag,
}

/// What a Flag is about; at most one per patient and family (section 8.2). Frozen: the strings
/// are hashed into ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// S01, S06.
    Leukaemia,
    /// S02.
    NeutropenicFever,
    /// S07, D18.
    InfantImmunity,
    /// C1, C2, C2+.
    Pancytopenia,
    /// C3, C0 (E), S04.
    Anaemia,
    /// C4, C0 (N), S03.
    Neutropenia,
    /// C5, C0 (P), S05.
    Thrombocytopenia,
    /// Clonal candidates without a low lineage.
    ClonalPattern,
    /// Inherited candidates without a low lineage.
    InheritedPattern,
    /// S08 without a low lineage.
    CriticalValue,
}

impl Family {
    /// All, in order of precedence.
    pub const ALL: [Self; 10] = [
        Self::Leukaemia,
        Self::NeutropenicFever,
        Self::InfantImmunity,
        Self::Pancytopenia,
        Self::Anaemia,
        Self::Neutropenia,
        Self::Thrombocytopenia,
        Self::ClonalPattern,
        Self::InheritedPattern,
        Self::CriticalValue,
    ];

    /// The frozen string.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leukaemia => "leukaemia",
            Self::NeutropenicFever => "neutropenic-fever",
            Self::InfantImmunity => "infant-immunity",
            Self::Pancytopenia => "pancytopenia",
            Self::Anaemia => "anaemia",
            Self::Neutropenia => "neutropenia",
            Self::Thrombocytopenia => "thrombocytopenia",
            Self::ClonalPattern => "clonal-pattern",
            Self::InheritedPattern => "inherited-pattern",
            Self::CriticalValue => "critical-value",
        }
    }

    /// The family with this frozen string.
    pub fn from_str_exact(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.as_str() == text)
    }
}

/// The overall answer in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// At least one lineage is low.
    Cytopenia,
    /// All three lineages are not low.
    NoCytopenia,
    /// Anything else.
    InsufficientData,
}

/// Which specimen an assessment is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IndexSpecimen {
    /// When it was taken.
    pub at: SampleTime,
    /// Its specimen key, when it has one of its own.
    pub specimen: Option<Arc<str>>,
}

/// One step of the evaluation, for the clinician who wants to see why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceStep {
    /// Rule or step: `grade.E`, `C1`, `D01.gate`, `D01.+marrow`.
    pub id: String,
    /// What was asked, with thresholds.
    pub question: String,
    /// What it was asked of (values with units and times).
    pub inputs: Vec<String>,
    /// The answer: `TRUE`, `FALSE`, `UNKNOWN`, a grade, points.
    pub answer: String,
}

/// Everything said about one patient at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// The time it is made for.
    pub as_of: OffsetDateTime,
    /// The index specimen; `None`: no usable blood count.
    pub index: Option<IndexSpecimen>,
    /// The answer in one word.
    pub verdict: Verdict,
    /// E, N, P, in this order.
    pub lineages: Vec<LineageResult>,
    /// White cells and lymphocytes, as far as they were counted.
    pub cells: Vec<CellResult>,
    /// Count patterns: at most one of C0 to C5 first, then C6 to C9.
    pub patterns: Vec<RuleFinding>,
    /// Safety rules, the most urgent first; those not assessable last.
    pub safety: Vec<RuleFinding>,
    /// Candidates and mimics that are listed, in rank order (all; a reader is shown five).
    pub candidates: Vec<Candidate>,
    /// Candidates with an excluding line.
    pub argued_against: Vec<Candidate>,
    /// Reversible or urgent causes to look for first (section 6.1, step 6).
    pub first_look: Vec<String>,
    /// Values not used or used with doubt.
    pub doubts: Vec<Doubt>,
    /// Values of the index specimen that were used.
    pub used: Vec<Value>,
    /// Sample times of the first and the last value used.
    pub span: Option<(SampleTime, SampleTime)>,
    /// Further sentences for the reader (`Hb not adjusted for altitude or smoking`).
    pub notes: Vec<String>,
    /// How soon, overall.
    pub urgency: Urgency,
    /// What it leads to.
    pub output: Output,
    /// Row of the decision table that decided, 0 for the lines above it.
    pub output_row: u8,
    /// Family, when a Flag is earned or an open one is still present.
    pub family: Option<Family>,
    /// Slug for `Flag.code` and the first `conclusionCode`.
    pub slug: Option<&'static str>,
    /// One line: `Pancytopenia, U3`.
    pub headline: String,
    /// The trace; empty unless [`super::decide::trace`] was asked for it.
    pub trace: Vec<TraceStep>,
}

/// State of a Flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FlagState {
    /// Should be displayed.
    Active,
    /// No longer needs to be displayed.
    Inactive,
    /// Rested on a withdrawn result.
    EnteredInError,
}

/// Why a clinician does not want to be told again (section 8.2, acknowledged).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Acknowledged {
    /// Known, under care.
    Known,
    /// Not relevant for this patient.
    NotRelevant,
    /// Anything else.
    Other,
}

/// What is stored of a Flag between assessments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Family.
    pub family: Family,
    /// State.
    pub state: FlagState,
    /// Slug it carries now.
    pub slug: String,
    /// Urgency it carries now.
    pub urgency: Urgency,
    /// Worst grade among the lineages.
    pub grade: Option<Grade>,
    /// Grades of E, N, P.
    pub lineage_grades: [Option<Grade>; 3],
    /// Start of the episode.
    pub episode_start: SampleTime,
    /// End of the episode, when inactive.
    pub episode_end: Option<SampleTime>,
    /// When it was last notified.
    pub notified_at: Option<OffsetDateTime>,
    /// What was acknowledged, and until when it counts.
    pub acknowledged: Option<(Acknowledged, OffsetDateTime)>,
    /// Whether a human changed or closed it on the server: hash of what was left there.
    pub human: Option<Arc<str>>,
}

/// What has to happen to one Flag after an assessment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagChange {
    /// The Flag as it is to be from now on.
    pub finding: Finding,
    /// `false`: nothing to write (unchanged, or a human's edit stands).
    pub write: bool,
    /// Whether this is worth a notification (raised, escalated, quiet period over).
    pub notify: bool,
    /// Why it changed: `raised`, `escalated`, `improved`, `recovered`, `relapsed`, `family changed`,
    /// `withdrawn`, `corrected`, `deceased`, `deleted` (the patient is, on request).
    pub why: &'static str,
}

/// What has to happen to one DiagnosticReport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportChange {
    /// Write the report of the assessment's index specimen (first version or a new one).
    Write,
    /// The report of an earlier specimen, assessed again (correction or withdrawal): only if one
    /// had been written.
    Rewrite(Box<Assessment>),
    /// Withdraw the report of this specimen, if one had been written.
    Retract(IndexSpecimen),
}

/// The result of deciding on one submission of one patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The assessment of the index specimen.
    pub assessment: Assessment,
    /// Flags: at most one raised or updated, plus those that close. Complete: every stored finding
    /// comes back, changed or not.
    pub flags: Vec<FlagChange>,
    /// Reports.
    pub reports: Vec<ReportChange>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_family_is_read_as_it_is_written() {
        for family in Family::ALL {
            assert_eq!(Family::from_str_exact(family.as_str()), Some(family));
        }
        assert_eq!(Family::from_str_exact("Anaemia"), None);
    }
}
