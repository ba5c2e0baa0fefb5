//! The clinical answer at one index specimen: patterns, safety rules, candidates, urgency, and
//! what is written about it (sections 4.0, 6.1, 8.1). No words are made here.

use time::{Duration, OffsetDateTime};

use super::{
    analyte::Analyte,
    assessment::{Family, Fit, Grade, Lineage, Output, Urgency, Verdict},
    candidates::{self, Weighed},
    context::{Case, Context, LINEAGES},
    evaluate::{Scope, answer},
    limits::{Confidence::Low, Limit},
    patterns, quality,
    rule::{Level, Watch},
    safety,
    truth::Truth,
};

static STALE: Limit = Limit::new("dq22.hours", "72", "1", "h", "project choice", Low);
static LONG_LOW: Limit = Limit::new("output.low_days", "28", "1", "d", "project choice", Low);
static D18_ANC: Limit = Limit::new(
    "output.d18_anc",
    "0.5",
    "0.01",
    "10*9/L",
    "project choice",
    Low,
);
static M10_PLT: Limit = Limit::new(
    "output.m10_plt",
    "100",
    "1",
    "10*9/L",
    "project choice",
    Low,
);
static CHILD_FROM: Limit = Limit::new("output.child_from", "6", "1", "mo", "project choice", Low);
static CHILD_TO: Limit = Limit::new("output.child_to", "5", "1", "a", "project choice", Low);

/// Limits of this module.
pub fn limits() -> Vec<&'static Limit> {
    vec![
        &STALE,
        &LONG_LOW,
        &D18_ANC,
        &M10_PLT,
        &CHILD_FROM,
        &CHILD_TO,
    ]
}

/// A pattern or safety rule that holds, or that could not be assessed.
#[derive(Debug, Clone)]
pub struct Hit {
    /// The rule.
    pub watch: &'static Watch,
    /// The level that holds, or the first undecided one.
    pub level: &'static Level,
    /// TRUE or UNKNOWN.
    pub truth: Truth,
    /// How soon.
    pub urgency: Urgency,
}

/// Everything decided at one index specimen.
#[derive(Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of the index that the decision table asks for"
)]
pub struct Judgement<'a> {
    /// What the rules looked at.
    pub context: Context<'a>,
    /// C0 to C5 (at most one), then C6 to C9.
    pub patterns: Vec<Hit>,
    /// S02 to S08.
    pub safety: Vec<Hit>,
    /// Everything weighed, listed or not.
    pub candidates: Vec<Weighed>,
    /// The answer in one word.
    pub verdict: Verdict,
    /// Overall.
    pub urgency: Urgency,
    /// What it leads to.
    pub output: Output,
    /// Row of the decision table.
    pub row: u8,
    /// Families whose criteria are met, in order of precedence.
    pub present: Vec<Family>,
    /// The family of the Flag, when one is earned or an open one would be updated.
    pub family: Option<Family>,
    /// A Hb, ANC or PLT of the index was rejected.
    pub rejected: bool,
    /// Older than 72 h when it was filed.
    pub stale: bool,
    /// A known marrow failure: no candidate list.
    pub known_failure: bool,
    /// A quiet context (8.2): no new Flag below U3.
    pub quiet: bool,
    /// Palliative care: only row 1, a safety rule at U3, or escalation.
    pub palliative: bool,
    /// Rests on preliminary results.
    pub preliminary: bool,
    /// Why a Flag that the table gives was not raised.
    pub held: Option<&'static str>,
}

/// How a judgement is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Question {
    /// The time of the assessment.
    pub as_of: OffsetDateTime,
    /// Whether age and filing of the index matter (the walk over the past asks without).
    pub staleness: bool,
}

/// Judges a case at the specimen `index`.
pub fn judge<'a>(case: &'a Case<'a>, index: usize, question: Question) -> Option<Judgement<'a>> {
    let mut judgement = evaluate(case, index, false)?;
    let urgency = judgement.urgency;
    judgement.stale = question.staleness && is_stale(&judgement.context, question.as_of);
    let mut effective = urgency;
    if judgement.stale {
        effective = if judgement.still_critical() {
            urgency.min(Urgency::U3)
        } else {
            urgency.min(Urgency::U2)
        };
    }
    let (mut output, row) = judgement.table(effective);
    judgement.row = row;
    let flag = |output: Output| output >= Output::Flag;
    let keep_back = |output: &mut Output, why: &'static str, held: &mut Option<&'static str>| {
        if flag(*output) {
            *output = Output::Report;
            *held = Some(why);
        }
    };
    let mut held = None;
    if judgement.stale && !judgement.still_critical() {
        keep_back(&mut output, "older result", &mut held);
    }
    if judgement.preliminary && row != 1 {
        keep_back(&mut output, "preliminary result", &mut held);
    }
    let safety_urgency = judgement.safety_urgency();
    if judgement.context.specimen.diluted && safety_urgency < Urgency::U3 {
        keep_back(&mut output, "possible dilution", &mut held);
    }
    if flag(output) && effective < Urgency::U3 && has_suspect(&judgement.context) {
        let sober = evaluate(case, index, true);
        let lower = sober.is_none_or(|sober| !flag(sober.table(sober.urgency).0));
        if lower {
            keep_back(&mut output, "rests on values to be verified", &mut held);
        }
    }
    if judgement.context.specimen.doubtful_identity && effective < Urgency::U3 {
        keep_back(&mut output, "verify patient and sample", &mut held);
    }
    judgement.rejected = rejected_core(&judgement.context);
    if judgement.rejected {
        effective = effective.max(Urgency::U3);
        output = output.max(Output::Report);
    } else if output == Output::Nothing && judgement.has_refused_values() {
        output = Output::Report;
    }
    judgement.urgency = effective;
    judgement.output = output;
    judgement.held = held;
    judgement.present = judgement.families();
    judgement.family = judgement.main_family();
    if flag(judgement.output) && judgement.family.is_none() {
        judgement.output = Output::Report;
    }
    Some(judgement)
}

/// Judges a case at a specimen, with or without the values that are to be verified.
fn evaluate<'a>(case: &'a Case<'a>, index: usize, without_suspect: bool) -> Option<Judgement<'a>> {
    let mut context = Context::new(case, index, without_suspect)?;
    let reasons = context.facts().quiet();
    let known_failure = reasons.known_bmf.is_some();
    candidates::gates(&mut context);
    let mut found = Vec::new();
    for watch in safety::ALL {
        let hit = watch_one(watch, &context, Scope::SAFETY);
        if let Some(hit) = &hit {
            context.fired.push((watch.id, hit.truth, hit.urgency));
        }
        found.extend(hit);
    }
    if context.ages.is_none() {
        found.retain(|hit| hit.watch.id != "S07");
    }
    let mut patterns = Vec::new();
    if context.ages.is_some() {
        patterns.extend(patterns::MAIN.iter().find_map(|watch| {
            watch_one(watch, &context, Scope::PLAIN).filter(|hit| hit.truth.is_true())
        }));
        patterns.extend(patterns::FURTHER.iter().filter_map(|watch| {
            watch_one(watch, &context, Scope::PLAIN).filter(|hit| hit.truth.is_true())
        }));
    }
    for hit in &patterns {
        context.fired.push((hit.watch.id, hit.truth, hit.urgency));
    }
    let weighed = candidates::weigh(&context, known_failure);
    let preliminary = context
        .specimen
        .urgent
        .iter()
        .any(|reading| reading.preliminary);
    let verdict = verdict(&context);
    let quiet = known_failure || reasons.chemotherapy || reasons.transplant || reasons.palliative;
    let palliative = reasons.palliative;
    let mut judgement = Judgement {
        context,
        patterns,
        safety: found,
        candidates: weighed,
        verdict,
        urgency: Urgency::U0,
        output: Output::Nothing,
        row: 0,
        present: Vec::new(),
        family: None,
        rejected: false,
        stale: false,
        known_failure,
        quiet,
        palliative,
        preliminary,
        held: None,
    };
    judgement.urgency = judgement.overall();
    Some(judgement)
}

fn watch_one(watch: &'static Watch, context: &Context<'_>, scope: Scope) -> Option<Hit> {
    let mut undecided = None;
    for level in watch.levels {
        let truth = answer(&level.when, context, scope).truth;
        if truth.is_true() {
            let urgency = level
                .urgency
                .iter()
                .find(|(_, when)| answer(when, context, scope).truth.is_true())
                .map_or(Urgency::U0, |(urgency, _)| *urgency);
            return Some(Hit {
                watch,
                level,
                truth,
                urgency,
            });
        }
        if truth.is_unknown() {
            undecided.get_or_insert(level);
        }
    }
    undecided.map(|level| Hit {
        watch,
        level,
        truth: Truth::Unknown,
        urgency: Urgency::U0,
    })
}

fn verdict(context: &Context<'_>) -> Verdict {
    if context.lines.iter().any(|line| line.low.is_true()) {
        Verdict::Cytopenia
    } else if context.lines.iter().all(|line| line.low.is_false()) {
        Verdict::NoCytopenia
    } else {
        Verdict::InsufficientData
    }
}

fn is_stale(context: &Context<'_>, as_of: OffsetDateTime) -> bool {
    let filed = context
        .specimen
        .members
        .iter()
        .filter_map(|member| context.timeline().measurements.get(*member))
        .map(|measurement| measurement.filed_at.unwrap_or(as_of))
        .min()
        .unwrap_or(as_of);
    let hours = i64::try_from(context.tuning().value(&STALE)).unwrap_or_default();
    filed - context.specimen.at.instant > Duration::hours(hours)
}

fn has_suspect(context: &Context<'_>) -> bool {
    context
        .specimen
        .readings
        .iter()
        .any(|reading| reading.suspect)
}

/// Whether a Hb, ANC or PLT of the index was rejected for unit or plausibility and nothing else of
/// the specimen stands for it.
fn rejected_core(context: &Context<'_>) -> bool {
    let core = [
        Analyte::Hb,
        Analyte::Anc,
        Analyte::AncManual,
        Analyte::Platelets,
    ];
    context.specimen.refused.iter().any(|member| {
        let measurement = context.timeline().measurements.get(*member);
        let mark = context.case.record.marks.get(*member);
        let (Some(measurement), Some(mark)) = (measurement, mark) else {
            return false;
        };
        core.contains(&measurement.analyte)
            && mark
                .refused
                .as_ref()
                .is_some_and(|why| quality::is_rejection(why.word))
    })
}

impl Judgement<'_> {
    /// The pattern C0 to C5, if any.
    pub fn main_pattern(&self) -> Option<&Hit> {
        self.patterns.first().filter(|hit| {
            patterns::MAIN
                .iter()
                .any(|watch| std::ptr::eq(*watch, hit.watch))
        })
    }

    /// A weighed rule.
    pub fn candidate(&self, id: &str) -> Option<&Weighed> {
        self.candidates
            .iter()
            .find(|candidate| candidate.rule.id == id)
    }

    /// A safety rule that fired.
    pub fn fired(&self, id: &str) -> Option<&Hit> {
        self.safety
            .iter()
            .find(|hit| hit.watch.id == id && hit.truth.is_true())
    }

    fn gate(&self, id: &str) -> Truth {
        self.context
            .gates
            .iter()
            .find(|(rule, _)| *rule == id)
            .map_or(Truth::False, |(_, answer)| answer.truth)
    }

    fn token(&self, token: &str) -> bool {
        self.context.token(token).truth.is_true()
    }

    /// The most urgent safety rule.
    pub fn safety_urgency(&self) -> Urgency {
        self.safety
            .iter()
            .filter(|hit| hit.truth.is_true())
            .map(|hit| hit.urgency)
            .max()
            .unwrap_or(Urgency::U0)
    }

    /// The five rules whose urgency counts whenever they are listed.
    fn always_counts(&self, candidate: &Weighed) -> bool {
        match candidate.rule.id {
            "S01" | "M09" | "M10" | "D18" => true,
            "M13" => self.token("hellp_labs"),
            _ => false,
        }
    }

    fn overall(&self) -> Urgency {
        let mut urgency = self.safety_urgency();
        for hit in self.patterns.iter().filter(|hit| hit.truth.is_true()) {
            urgency = urgency.max(hit.urgency);
        }
        let suppressed = self.gate("M02").is_true();
        for candidate in &self.candidates {
            let counts_at_all = candidate.listed() || self.newborn_with_more_low(candidate);
            if !candidate.gate.is_true() || !counts_at_all {
                continue;
            }
            let counts =
                self.always_counts(candidate) || (!suppressed && candidate.fit >= Fit::Moderate);
            if counts {
                urgency = urgency.max(candidate.urgency);
            }
        }
        if self.film_today() {
            urgency = urgency.max(Urgency::U3);
        }
        urgency
    }

    /// D18 gains a point when the other lines are kept. That they are low too argues against the
    /// disorder, and never makes the newborn less urgent.
    fn newborn_with_more_low(&self, candidate: &Weighed) -> bool {
        let low = |lineage| self.context.line(lineage).low.is_true();
        candidate.rule.id == "D18" && (low(Lineage::Erythroid) || low(Lineage::Platelet))
    }

    /// Gates that stay UNKNOWN, or hidden, but must not wait (8.1, last paragraph).
    fn film_today(&self) -> bool {
        let tuning = self.context.tuning();
        let below = |analyte, limit| {
            self.context
                .input(super::rule::Input::Of(analyte))
                .1
                .is_some_and(|value| value.is_below(tuning.value(limit)).is_true())
        };
        let s01 = self.gate("S01").is_unknown();
        let d18 = self.gate("D18").is_unknown() && below(Analyte::Anc, &D18_ANC);
        let m10 = self.gate("M10").is_unknown()
            && below(Analyte::Platelets, &M10_PLT)
            && ["neuro_signs", "aki", "schistocytes"]
                .iter()
                .any(|token| self.token(token));
        let hidden = self.candidate("M10").is_some_and(|candidate| {
            candidate.gate.is_true()
                && candidate.excluded.is_empty()
                && candidate.fit == Fit::Hidden
        });
        s01 || d18 || m10 || hidden
    }

    /// Rules whose U3 or U4 survives an older result (DQ-22).
    fn still_critical(&self) -> bool {
        let safety = ["S02", "S04", "S05", "S06", "S07"]
            .iter()
            .any(|id| self.fired(id).is_some_and(|hit| hit.urgency >= Urgency::U3));
        let candidate = self.candidates.iter().any(|candidate| {
            self.always_counts(candidate)
                && candidate.urgency >= Urgency::U3
                && candidate.excluded.is_empty()
                && (candidate.gate.is_true() || candidate.rule.id == "S01")
        });
        safety || candidate || self.gate("S01").is_unknown()
    }

    /// The M02 exception of 4.1.
    pub fn expected_suppression(&self) -> bool {
        answer(&patterns::EXPECTED_SUPPRESSION, &self.context, Scope::PLAIN)
            .truth
            .is_true()
    }

    fn low_lineages(&self) -> Vec<Lineage> {
        LINEAGES
            .into_iter()
            .filter(|lineage| self.context.line(*lineage).low.is_true())
            .collect()
    }

    /// A strong disorder with its gate TRUE (M17 counts as one).
    fn strong_disorder(&self) -> Option<&Weighed> {
        self.candidates.iter().find(|candidate| {
            (candidate.rule.id.starts_with('D') || candidate.rule.id == "M17") && candidate.strong()
        })
    }

    /// The decision table 8.1: output and row.
    fn table(&self, urgency: Urgency) -> (Output, u8) {
        let low = self.low_lineages();
        let moderate = |lineage: Lineage| {
            self.context
                .line(lineage)
                .is_at_least(Grade::Moderate)
                .is_true()
        };
        if urgency == Urgency::U4 {
            return (Output::SafetyFlag, 1);
        }
        if self.context.specimen.clumped
            && urgency < Urgency::U3
            && low.iter().all(|lineage| *lineage == Lineage::Platelet)
        {
            return (Output::Report, 2);
        }
        if urgency < Urgency::U3 && self.expected_suppression() {
            return (Output::Report, 3);
        }
        let explained = ["M04", "M05", "M06", "M08", "M13", "M14"]
            .iter()
            .any(|id| self.candidate(id).is_some_and(Weighed::strong));
        if urgency < Urgency::U3 && explained && self.token("known_stable") {
            return (Output::Report, 4);
        }
        if urgency == Urgency::U3 {
            return (Output::Flag, 5);
        }
        let strong = self.strong_disorder().is_some();
        if low.is_empty() && !strong {
            let further = !self.patterns.is_empty();
            let listed = self
                .candidates
                .iter()
                .any(|candidate| candidate.rule.id != "M01" && candidate.listed());
            let unknown_age = self.context.ages.is_none();
            return if further || listed || unknown_age {
                (Output::Report, 6)
            } else {
                (Output::Nothing, 6)
            };
        }
        // Its gate leaves the neutrophils as the only low line.
        let duffy = self
            .candidate("M01")
            .is_some_and(|candidate| candidate.gate.is_true() && candidate.listed());
        if duffy && !strong {
            return (Output::Report, 7);
        }
        if low.len() >= 2 {
            let any_moderate = low.iter().any(|lineage| moderate(*lineage));
            let earns =
                (any_moderate && !self.infection_of_a_child(&low)) || low.len() == 3 || strong;
            return if earns {
                (Output::Flag, 8)
            } else {
                (Output::Report, 8)
            };
        }
        if strong {
            return (Output::Flag, 9);
        }
        let long_low = low.iter().any(|lineage| {
            moderate(*lineage)
                && super::series::persists(&self.context, &LONG_LOW, |place| {
                    self.context
                        .case
                        .lines
                        .get(place)
                        .and_then(|lines| {
                            LINEAGES
                                .iter()
                                .zip(lines)
                                .find(|(one, _)| *one == lineage)
                                .map(|(_, line)| line.low)
                        })
                        .unwrap_or(Truth::Unknown)
                })
                .is_true()
        });
        if long_low {
            return (Output::Flag, 10);
        }
        (Output::Report, 11)
    }

    /// Row 8: a small child whose neutrophils alone are moderately low in an infection.
    fn infection_of_a_child(&self, low: &[Lineage]) -> bool {
        let only_neutrophils = low.iter().all(|lineage| {
            let line = self.context.line(*lineage);
            if *lineage == Lineage::Neutrophil {
                line.grade() == Some(Grade::Moderate)
            } else {
                line.is_at_least(Grade::Moderate).is_false()
            }
        });
        let tuning = self.context.tuning();
        let age = self.context.ages.is_some_and(|ages| {
            ages.young.reaches(&CHILD_FROM, tuning) && !ages.old.reaches(&CHILD_TO, tuning)
        });
        only_neutrophils
            && age
            && self.gate("M11").is_true()
            && self.token("first_low")
            && !["sepsis", "severe_infection", "bleeding"]
                .iter()
                .any(|token| self.token(token))
    }

    fn has_refused_values(&self) -> bool {
        !self.context.specimen.refused.is_empty()
            || !self.context.specimen.conflicts.is_empty()
            || self.context.specimen.diluted
            || self.context.specimen.doubtful_identity
            || self.context.specimen.members.iter().any(|member| {
                self.context
                    .case
                    .record
                    .marks
                    .get(*member)
                    .is_some_and(|mark| {
                        mark.suspect
                            .as_ref()
                            .is_some_and(|why| why.word == "unit-inconsistent")
                    })
            })
    }

    /// Families whose criteria are met at this specimen (8.2), in order of precedence.
    fn families(&self) -> Vec<Family> {
        Family::ALL
            .into_iter()
            .filter(|family| self.is_present(*family))
            .collect()
    }

    fn pattern_is(&self, ids: &[&str]) -> bool {
        self.main_pattern()
            .is_some_and(|hit| ids.contains(&hit.watch.id))
    }

    fn incomplete(&self, lineage: &str) -> bool {
        self.main_pattern()
            .is_some_and(|hit| hit.watch.id == "C0" && hit.level.id == lineage)
    }

    fn is_present(&self, family: Family) -> bool {
        let none_low = self.low_lineages().is_empty();
        let listed = |ids: &[&str]| {
            self.candidates.iter().any(|candidate| {
                ids.contains(&candidate.rule.id) && candidate.gate.is_true() && candidate.listed()
            })
        };
        match family {
            Family::Leukaemia => self.acute_leukaemia() || self.fired("S06").is_some(),
            Family::NeutropenicFever => self.fired("S02").is_some(),
            Family::InfantImmunity => {
                self.fired("S07").is_some()
                    || listed(&["D18"])
                    || (self.gate("D18").is_unknown() && self.urgency >= Urgency::U3 && none_low)
            }
            Family::Pancytopenia => self.pattern_is(&["C1", "C2", "C2+"]),
            Family::Anaemia => {
                self.pattern_is(&["C3h", "C3r", "C3i", "C3u"])
                    || self.incomplete("E")
                    || self.fired("S04").is_some()
            }
            Family::Neutropenia => {
                self.pattern_is(&["C4"]) || self.incomplete("N") || self.fired("S03").is_some()
            }
            Family::Thrombocytopenia => {
                self.pattern_is(&["C5"]) || self.incomplete("P") || self.fired("S05").is_some()
            }
            Family::ClonalPattern => {
                none_low && listed(&["D02", "D03", "D04", "D05", "D20", "M16", "M17"])
            }
            Family::InheritedPattern => {
                none_low
                    && listed(&[
                        "D07", "D09", "D10", "D11", "D12", "D13", "D14", "D15", "D16", "D17",
                        "D19", "D21", "D22",
                    ])
            }
            Family::CriticalValue => self.fired("S08").is_some() && none_low,
        }
    }

    /// S01 with its gate TRUE, or UNKNOWN (then it is U3).
    pub fn acute_leukaemia(&self) -> bool {
        !self.gate("S01").is_false()
    }

    /// The family of the Flag: the first present one that earns it.
    fn main_family(&self) -> Option<Family> {
        if self.output < Output::Flag {
            return None;
        }
        self.present.first().copied().or_else(|| {
            // S08 and unknown lineages: the worst single lineage.
            self.worst_lineage().map(family_of)
        })
    }

    /// The low lineage with the worst grade; E before N before P.
    pub fn worst_lineage(&self) -> Option<Lineage> {
        let mut worst: Option<(Grade, Lineage)> = None;
        for lineage in self.low_lineages() {
            let grade = self.context.line(lineage).mildest;
            if worst.is_none_or(|(known, _)| grade > known) {
                worst = Some((grade, lineage));
            }
        }
        worst.map(|(_, lineage)| lineage)
    }

    /// The slug of a family at this specimen (8.2).
    pub fn slug(&self, family: Family) -> &'static str {
        let strongest = |ids: &[&str]| {
            let mut of: Vec<&Weighed> = self
                .candidates
                .iter()
                .filter(|candidate| ids.contains(&candidate.rule.id) && candidate.listed())
                .collect();
            candidates::rank(&mut of);
            of.first().map(|candidate| candidate.rule)
        };
        match family {
            Family::Leukaemia => {
                if self.acute_leukaemia() {
                    "leukemia-alert"
                } else {
                    "leukocytosis-extreme"
                }
            }
            Family::NeutropenicFever => "febrile-neutropenia",
            Family::InfantImmunity => "lymphopenia",
            Family::Pancytopenia => {
                if self.pattern_is(&["C1"]) {
                    "pancytopenia"
                } else {
                    "bicytopenia"
                }
            }
            Family::Anaemia => {
                if self.pattern_is(&["C3h"]) {
                    "anemia-hyporegenerative"
                } else {
                    "anemia"
                }
            }
            Family::Neutropenia => "neutropenia",
            Family::Thrombocytopenia => "thrombocytopenia",
            Family::ClonalPattern => strongest(&["D02", "D03", "D04", "D05", "D20", "M16", "M17"])
                .map_or("mds-suspected", |rule| rule.slug),
            Family::InheritedPattern => {
                if strongest(&["D15"]).is_some() {
                    "neutropenia-cyclic-suspected"
                } else {
                    "inherited-bmf-suspected"
                }
            }
            Family::CriticalValue => "laboratory-critical",
        }
    }

    /// Grades of E, N, P as far as they are certain.
    pub fn grades(&self) -> [Option<Grade>; 3] {
        let [erythroid, neutrophil, platelet] = &self.context.lines;
        [erythroid, neutrophil, platelet].map(|line| {
            line.grade()
                .or_else(|| line.low.is_true().then_some(line.mildest))
        })
    }
}

/// The family of a single low lineage.
pub fn family_of(lineage: Lineage) -> Family {
    match lineage {
        Lineage::Erythroid => Family::Anaemia,
        Lineage::Neutrophil => Family::Neutropenia,
        Lineage::Platelet => Family::Thrombocytopenia,
    }
}
