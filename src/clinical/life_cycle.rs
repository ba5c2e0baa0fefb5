//! The life of a Flag (section 8.2): raised, updated, closed, reopened, withdrawn.
//!
//! The state of every family is computed anew by walking the blood counts in sample-time order.
//! What is stored of a Flag only answers what the counts cannot: when it was last notified, what a
//! clinician acknowledged, and what a human changed on the server.

use std::{borrow::Cow, sync::Arc};

use time::{Duration, OffsetDateTime};

use super::{
    analyte::Analyte,
    assessment::{
        Acknowledged, Assessment, Decision, Family, Finding, FlagChange, FlagState, Grade,
        IndexSpecimen, Lineage, Output, ReportChange, Urgency,
    },
    context::{Case, LINEAGES},
    decide,
    judge::{self, Judgement, Question},
    limits::{Confidence::Low, Limit, Tuning},
    series,
    specimen::{CORE, Specimen},
    time::{Precision, SampleTime},
    timeline::{Fact, Source, Status, Timeline},
    truth::Truth,
};

static RECOVERY_COUNTS: Limit = Limit::new("recovery.counts", "2", "1", "1", "project choice", Low);
static RECOVERY_DAYS: Limit = Limit::new("recovery.days", "7", "1", "d", "project choice", Low);
static CYCLE_COUNTS: Limit = Limit::new(
    "recovery.cycle_counts",
    "3",
    "1",
    "1",
    "project choice",
    Low,
);
static CYCLE_DAYS: Limit = Limit::new("recovery.cycle_days", "42", "1", "d", "project choice", Low);
static QUIET_INPATIENT: Limit =
    Limit::new("quiet.inpatient", "72", "1", "h", "project choice", Low);
static QUIET_OUTPATIENT: Limit =
    Limit::new("quiet.outpatient", "30", "1", "d", "project choice", Low);
static HALVED_DAYS: Limit = Limit::new("escalation.days", "7", "1", "d", "project choice", Low);
static FIRST_BLASTS: Limit =
    Limit::new("escalation.blasts", "1", "0.1", "%", "project choice", Low);
static FEVER_ANC: Limit = Limit::new(
    "escalation.fever_anc",
    "0.5",
    "0.01",
    "10*9/L",
    "project choice",
    Low,
);

/// Why a Flag closes that a clinician called not relevant, on a card or by closing it on a server.
const NOT_RELEVANT: &str = "not relevant";

/// Whether a Flag closes here because a human closed it on a server: there it stands as the human
/// left it.
pub fn closes_after_human(change: &FlagChange) -> bool {
    change.why == NOT_RELEVANT && change.finding.human.is_some()
}

/// Limits of this module.
pub fn limits() -> Vec<&'static Limit> {
    vec![
        &RECOVERY_COUNTS,
        &RECOVERY_DAYS,
        &CYCLE_COUNTS,
        &CYCLE_DAYS,
        &QUIET_INPATIENT,
        &QUIET_OUTPATIENT,
        &HALVED_DAYS,
        &FIRST_BLASTS,
        &FEVER_ANC,
    ]
}

/// What one blood count said, as far as later ones need it.
#[derive(Debug, Clone)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts of one blood count"
)]
struct Step {
    at: SampleTime,
    urgency: Urgency,
    safety_urgency: Urgency,
    output: Output,
    family: Option<Family>,
    present: Vec<Family>,
    slugs: Vec<(Family, &'static str)>,
    grades: [Option<Grade>; 3],
    /// Families whose criteria are decided not to be met.
    absent: Vec<Family>,
    quiet: bool,
    palliative: bool,
    known_failure: bool,
    corrected: bool,
    cyclic: bool,
    leukaemia_by_blasts: bool,
    /// Blasts counted and none seen, or a film reviewed without any.
    without_blasts: bool,
    first_blasts: bool,
    fever_with_low_anc: bool,
    counts: [Option<rust_decimal::Decimal>; 2],
    aplasia: u8,
    /// When the first result of it was filed; `None`: now.
    filed: Option<OffsetDateTime>,
}

impl Step {
    fn of(judgement: &Judgement<'_>) -> Self {
        let context = &judgement.context;
        let tuning = context.tuning();
        let low = [
            context.line(Lineage::Erythroid).low,
            context.line(Lineage::Neutrophil).low,
            context.line(Lineage::Platelet).low,
        ];
        let absent = Family::ALL
            .into_iter()
            .filter(|family| is_absent(*family, judgement, low))
            .collect();
        let blasts = context.specimen.get(Analyte::Blasts);
        let token = |token: &str| context.token(token).truth;
        let exact = |analyte| {
            context
                .specimen
                .get(analyte)
                .filter(|reading| !reading.bounded)
                .and_then(|reading| reading.interval.anchor())
        };
        let anc_low = context.specimen.get(Analyte::Anc).is_some_and(|reading| {
            reading
                .interval
                .is_below(tuning.value(&FEVER_ANC))
                .is_true()
        });
        Self {
            at: context.specimen.at,
            urgency: judgement.urgency,
            safety_urgency: judgement.safety_urgency(),
            output: judgement.output,
            family: judgement.family,
            slugs: judgement
                .present
                .iter()
                .map(|family| (*family, judgement.slug(*family)))
                .collect(),
            present: judgement.present.clone(),
            grades: judgement.grades(),
            absent,
            quiet: judgement.quiet,
            palliative: judgement.palliative,
            known_failure: judgement.known_failure,
            corrected: context.specimen.corrected,
            cyclic: ["D11", "D14", "D15"].iter().any(|id| {
                judgement.candidate(id).is_some_and(|candidate| {
                    candidate.listed() || (*id == "D15" && !candidate.gate.is_false())
                })
            }),
            leukaemia_by_blasts: judgement.acute_leukaemia(),
            without_blasts: blasts.is_some_and(|reading| {
                reading
                    .interval
                    .is_above(rust_decimal::Decimal::ZERO)
                    .is_false()
            }) || (token("film_reviewed").is_true()
                && !token("blasts_flagged_film").is_true()),
            first_blasts: blasts.is_some_and(|reading| {
                reading
                    .interval
                    .is_below(tuning.value(&FIRST_BLASTS))
                    .is_false()
            }),
            fever_with_low_anc: anc_low && token("fever").is_true(),
            counts: [exact(Analyte::Platelets), exact(Analyte::Anc)],
            aplasia: judgement
                .candidate("D01")
                .and_then(|candidate| candidate.label.as_deref())
                .map_or(0, |label| match label.split('-').next() {
                    Some("VSAA") => 3,
                    Some("SAA") => 2,
                    Some("NSAA") => 1,
                    _ => 0,
                }),
            filed: context
                .specimen
                .members
                .iter()
                .filter_map(|member| context.timeline().measurements.get(*member))
                .map(|measurement| measurement.filed_at)
                .min_by_key(Option::is_some)
                .flatten(),
        }
    }

    fn slug(&self, family: Family) -> Option<&'static str> {
        self.slugs
            .iter()
            .find(|(one, _)| *one == family)
            .map(|(_, slug)| *slug)
    }
}

/// Whether this count decides that the criteria of a family are not met.
fn is_absent(family: Family, judgement: &Judgement<'_>, low: [Truth; 3]) -> bool {
    if judgement.present.contains(&family) {
        return false;
    }
    let [erythroid, neutrophil, platelet] = low;
    let decided_false = |id: &str| !judgement.safety.iter().any(|hit| hit.watch.id == id);
    match family {
        Family::Pancytopenia => Truth::at_least(2, low).is_false(),
        Family::Anaemia => erythroid.is_false(),
        Family::Neutropenia => neutrophil.is_false(),
        Family::Thrombocytopenia => platelet.is_false(),
        // Blasts have a rule of their own; white cells alone are outside once they are counted.
        Family::Leukaemia => {
            decided_false("S06") && judgement.context.specimen.urgent(Analyte::Wbc).is_some()
        }
        Family::NeutropenicFever => decided_false("S02"),
        Family::InfantImmunity => decided_false("S07"),
        Family::CriticalValue => true,
        Family::ClonalPattern | Family::InheritedPattern => low.iter().all(|low| !low.is_unknown()),
    }
}

/// Families that close with the next valid count outside their trigger.
fn is_trigger(family: Family) -> bool {
    matches!(
        family,
        Family::NeutropenicFever | Family::InfantImmunity | Family::CriticalValue
    )
}

/// A family while the counts are walked.
#[derive(Debug, Clone, Default)]
struct Walk {
    /// Start of the present run.
    run: Option<SampleTime>,
    /// Counts outside the criteria since the last one inside.
    clear: Vec<SampleTime>,
    /// A Flag is open.
    open: bool,
    /// A Flag was raised at some count.
    raised: bool,
    /// Start of the last episode in which it was open.
    start: Option<SampleTime>,
    /// End of it.
    end: Option<SampleTime>,
    /// The Flag was raised by S01, so that S06 rules do not close it.
    by_blasts: bool,
    /// The last count at which the family was present while open.
    last: Option<usize>,
    why: &'static str,
}

impl Walk {
    fn open(&mut self, step: &Step, position: usize, why: &'static str) {
        if !self.open {
            self.why = why;
        }
        self.open = true;
        self.raised = true;
        self.start = Some(self.run.unwrap_or(step.at));
        self.end = None;
        self.last = Some(position);
    }

    fn close(&mut self, at: SampleTime, why: &'static str) {
        if self.open {
            self.open = false;
            self.end = Some(at);
            self.why = why;
        }
        self.by_blasts = false;
    }
}

fn at(family: Family) -> usize {
    Family::ALL
        .iter()
        .position(|one| *one == family)
        .unwrap_or_default()
}

/// Walks the counts; one entry per family, in the order of [`Family::ALL`].
fn walk(steps: &[Step], tuning: &Tuning) -> Vec<Walk> {
    let mut walks: Vec<Walk> = Family::ALL.iter().map(|_| Walk::default()).collect();
    let mut known_before = steps.first().is_some_and(|step| step.known_failure);
    for (position, step) in steps.iter().enumerate() {
        let mut closed_trigger = false;
        for family in Family::ALL {
            let Some(walk) = walks.get_mut(at(family)) else {
                continue;
            };
            if step.present.contains(&family) {
                walk.run.get_or_insert(step.at);
                walk.clear.clear();
                walk.by_blasts |= family == Family::Leukaemia && step.leukaemia_by_blasts;
                if walk.open {
                    walk.last = Some(position);
                    walk.start = walk.run;
                }
            } else if outside(family, walk, step) {
                walk.clear.push(step.at);
                let at_once = step.corrected
                    || is_trigger(family)
                    || (family == Family::Leukaemia && !walk.by_blasts);
                if at_once || recovered(family, walk, step, tuning) {
                    closed_trigger |=
                        walk.open && (is_trigger(family) || family == Family::Leukaemia);
                    walk.run = None;
                    walk.close(
                        step.at,
                        if step.corrected {
                            "corrected"
                        } else {
                            "recovered"
                        },
                    );
                }
            }
        }
        // A diagnosis recorded after the Flag was raised ends it; what is known is not flagged.
        if step.known_failure && !known_before && step.urgency < Urgency::U3 {
            for walk in &mut walks {
                walk.close(step.at, "diagnosis recorded");
            }
        }
        known_before = step.known_failure;

        let leukaemia_open = walks
            .get(at(Family::Leukaemia))
            .is_some_and(|walk| walk.open && walk.by_blasts);
        let earned = step
            .family
            .filter(|_| step.output >= Output::Flag)
            .map(|family| {
                if leukaemia_open {
                    Family::Leukaemia
                } else {
                    family
                }
            });
        let raised = earned.filter(|family| {
            let open = walks.get(at(*family)).is_some_and(|walk| walk.open);
            open || may_raise(step)
        });
        let raised = raised.or_else(|| {
            // What is left after a trigger has gone keeps a Flag of its own.
            closed_trigger
                .then(|| {
                    step.present.iter().copied().find(|family| {
                        matches!(
                            family,
                            Family::Pancytopenia
                                | Family::Anaemia
                                | Family::Neutropenia
                                | Family::Thrombocytopenia
                        )
                    })
                })
                .flatten()
        });
        if let Some(family) = raised {
            for other in Family::ALL {
                if other != family
                    && let Some(walk) = walks.get_mut(at(other))
                {
                    walk.close(step.at, "family changed");
                }
            }
            if let Some(walk) = walks.get_mut(at(family)) {
                let why = if walk.raised { "relapsed" } else { "raised" };
                walk.open(step, position, why);
            }
        }
    }
    walks
}

/// Whether a count lies outside the criteria of a family, as far as its recovery rule counts it.
fn outside(family: Family, walk: &Walk, step: &Step) -> bool {
    if family == Family::Leukaemia && walk.by_blasts {
        return step.without_blasts;
    }
    step.absent.contains(&family)
}

fn recovered(family: Family, walk: &Walk, step: &Step, tuning: &Tuning) -> bool {
    let cycle = family == Family::Neutropenia && step.cyclic;
    let (counts, days) = if cycle {
        (&CYCLE_COUNTS, &CYCLE_DAYS)
    } else {
        (&RECOVERY_COUNTS, &RECOVERY_DAYS)
    };
    let (Some(first), Some(last)) = (walk.clear.first(), walk.clear.last()) else {
        return false;
    };
    rust_decimal::Decimal::from(walk.clear.len()) >= tuning.value(counts)
        && last.day() - first.day() >= super::grade::days(days, tuning)
}

/// Quiet contexts: no new Flag below U3; palliative care: only U4 or a safety rule at U3.
fn may_raise(step: &Step) -> bool {
    if step.palliative {
        return step.urgency == Urgency::U4 || step.safety_urgency >= Urgency::U3;
    }
    !step.quiet || step.urgency >= Urgency::U3
}

/// Whether the index says more than what was told before (8.2, escalation).
fn escalates(finding: &Finding, step: &Step, before: Option<&Step>, tuning: &Tuning) -> bool {
    let worse = finding
        .lineage_grades
        .iter()
        .zip(&step.grades)
        .any(|(then, now)| now.unwrap_or(Grade::None) > then.unwrap_or(Grade::None));
    let since = before.is_some_and(|before| {
        let near = step.at.instant - before.at.instant <= super::grade::days(&HALVED_DAYS, tuning);
        let halved = before.counts.iter().zip(&step.counts).enumerate().any(
            |(position, (then, now))| match (then, now) {
                (Some(then), Some(now)) => {
                    let grade = step
                        .grades
                        .get(if position == 0 { 2 } else { 1 })
                        .copied()
                        .flatten();
                    *now * rust_decimal::Decimal::TWO <= *then && grade >= Some(Grade::Severe)
                }
                _ => false,
            },
        );
        (near && halved)
            || (step.first_blasts && !before.first_blasts)
            || (step.fever_with_low_anc && !before.fever_with_low_anc)
            || (before.aplasia > 0 && step.aplasia > before.aplasia)
    });
    step.urgency > finding.urgency || worse || since
}

/// Decides what to write.
pub fn decide(
    timeline: &Timeline,
    findings: &[Finding],
    as_of: OffsetDateTime,
    tuning: &Tuning,
) -> Decision {
    let timeline = with_acknowledgements(timeline, findings);
    let case = Case::new(&timeline, as_of, tuning);
    let counts = case.blood_counts();
    let newest = newest_core(&timeline);
    // Loading history (`sampled`): the past is judged as if it had arrived in time.
    let staleness = newest != Some(as_of);
    let judgements: Vec<Judgement<'_>> = counts
        .iter()
        .filter_map(|count| judge::judge(&case, *count, Question { as_of, staleness }))
        .collect();
    let steps: Vec<Step> = judgements.iter().map(Step::of).collect();
    let walks = walk(&steps, tuning);
    let mut assessment = match judgements.last() {
        Some(index) => decide::report(index, as_of),
        None => decide::assess_case(&case, as_of),
    };
    let flags: Vec<FlagChange> = if timeline.person.deceased {
        deceased(&timeline, findings, as_of)
    } else {
        Family::ALL
            .into_iter()
            .filter_map(|family| {
                let stored = findings.iter().find(|finding| finding.family == family);
                let walk = walks.get(at(family))?;
                change(family, walk, stored, &steps, &timeline, as_of, tuning)
            })
            .collect()
    };
    if let Some(open) = flags
        .iter()
        .find(|change| change.finding.state == FlagState::Active)
    {
        let family = open.finding.family;
        assessment.family = Some(family);
        if let Some(slug) = steps.last().and_then(|step| step.slug(family)) {
            assessment.slug = Some(slug);
        }
    }
    let reports = if timeline.person.deceased {
        Vec::new()
    } else {
        reports(&case, &judgements, &assessment, &walks, as_of)
    };
    Decision {
        assessment,
        flags,
        reports,
    }
}

/// Adds what a clinician called known as tokens, so that `known_stable` finds a recorded cause.
fn with_acknowledgements<'t>(timeline: &'t Timeline, findings: &[Finding]) -> Cow<'t, Timeline> {
    let known = findings.iter().filter(|finding| {
        finding
            .acknowledged
            .is_some_and(|(why, _)| why == Acknowledged::Known)
    });
    let mut timeline = Cow::Borrowed(timeline);
    for finding in known {
        let lineages: &[Lineage] = match finding.family {
            Family::Anaemia => &[Lineage::Erythroid],
            Family::Neutropenia => &[Lineage::Neutrophil],
            Family::Thrombocytopenia => &[Lineage::Platelet],
            Family::Pancytopenia => &LINEAGES,
            _ => &[],
        };
        for lineage in lineages {
            timeline.to_mut().facts.push(Fact {
                token: Arc::from(series::acknowledged(*lineage)),
                truth: Truth::True,
                from: None,
                until: None,
                filed_at: None,
                source: Source::default(),
            });
        }
    }
    timeline
}

/// The newest sample that could ever have been an index, withdrawn ones included.
fn newest_core(timeline: &Timeline) -> Option<OffsetDateTime> {
    timeline
        .measurements
        .iter()
        .filter(|measurement| CORE.contains(&measurement.analyte))
        .filter_map(|measurement| Some(measurement.at?.instant))
        .max()
}

fn deceased(timeline: &Timeline, findings: &[Finding], as_of: OffsetDateTime) -> Vec<FlagChange> {
    let end = SampleTime {
        instant: timeline.person.deceased_at.unwrap_or(as_of),
        precision: Precision::Instant,
    };
    findings
        .iter()
        .map(|finding| {
            let open = finding.state == FlagState::Active;
            let mut finding = finding.clone();
            if open {
                finding.state = FlagState::Inactive;
                finding.episode_end = Some(end);
            }
            FlagChange {
                finding,
                write: open,
                notify: false,
                why: "deceased",
            }
        })
        .collect()
}

/// Whether a result that an episode may have rested on was withdrawn or corrected.
fn withdrawn_since(timeline: &Timeline, start: SampleTime) -> Option<&'static str> {
    let mut why = None;
    for measurement in &timeline.measurements {
        let in_episode = measurement
            .at
            .is_some_and(|at| at.instant >= start.instant || at.day() == start.day());
        if !in_episode {
            continue;
        }
        match measurement.status {
            Status::EnteredInError => return Some("withdrawn"),
            Status::Corrected | Status::Amended => why = Some("corrected"),
            _ => {}
        }
    }
    why
}

fn worst(grades: [Option<Grade>; 3]) -> Option<Grade> {
    grades.into_iter().flatten().max()
}

/// What becomes of one family.
fn change(
    family: Family,
    walk: &Walk,
    stored: Option<&Finding>,
    steps: &[Step],
    timeline: &Timeline,
    as_of: OffsetDateTime,
    tuning: &Tuning,
) -> Option<FlagChange> {
    let index = steps.last();
    let unchanged = |finding: &Finding| FlagChange {
        finding: finding.clone(),
        write: false,
        notify: false,
        why: "unchanged",
    };
    if walk.open {
        let index = index?;
        let start = walk.start?;
        return Some(open(
            family, walk, start, stored, index, steps, timeline, as_of, tuning,
        ));
    }
    let Some(stored) = stored else {
        // Raised and closed again in the past that was just loaded.
        let last = walk.last.and_then(|last| steps.get(last))?;
        return walk.raised.then(|| FlagChange {
            finding: Finding {
                family,
                state: FlagState::Inactive,
                slug: last.slug(family).unwrap_or_default().to_owned(),
                urgency: last.urgency,
                grade: worst(last.grades),
                lineage_grades: last.grades,
                episode_start: walk.start.unwrap_or(last.at),
                episode_end: walk.end,
                notified_at: None,
                acknowledged: None,
                human: None,
            },
            write: true,
            notify: false,
            why: walk.why,
        });
    };
    if stored.state == FlagState::EnteredInError && !walk.raised {
        return Some(unchanged(stored));
    }
    if !walk.raised {
        if let Some(why) = withdrawn_since(timeline, stored.episode_start) {
            let mut finding = stored.clone();
            finding.state = FlagState::EnteredInError;
            return Some(FlagChange {
                finding,
                write: true,
                notify: false,
                why,
            });
        }
        // Raised once by what is no longer remembered or counts less today: it stays while its
        // criteria are met.
        let present = index.is_some_and(|index| index.present.contains(&family));
        if stored.state == FlagState::Active
            && !present
            && let Some(index) = index.filter(|index| index.absent.contains(&family))
        {
            let mut finding = stored.clone();
            finding.state = FlagState::Inactive;
            finding.episode_end = Some(index.at);
            return Some(FlagChange {
                finding,
                write: stored.human.is_none(),
                notify: false,
                why: "recovered",
            });
        }
        return Some(unchanged(stored));
    }
    // Raised and closed: the state the remaining values give.
    let mut finding = stored.clone();
    finding.state = FlagState::Inactive;
    finding.episode_start = walk.start.unwrap_or(stored.episode_start);
    finding.episode_end = walk.end;
    // A count of that episode may have arrived after its end.
    if let Some(last) = walk.last.and_then(|last| steps.get(last)) {
        finding.urgency = last.urgency;
        finding.grade = worst(last.grades);
        finding.lineage_grades = last.grades;
        if let Some(slug) = last.slug(family) {
            slug.clone_into(&mut finding.slug);
        }
    }
    if finding == *stored {
        return Some(unchanged(stored));
    }
    // A human who closed it chose the end.
    if stored.human.is_some() && stored.state == FlagState::Inactive {
        return Some(unchanged(stored));
    }
    let write = stored.human.is_none() || stored.state == FlagState::Active;
    Some(FlagChange {
        finding,
        write,
        notify: false,
        why: walk.why,
    })
}

#[expect(
    clippy::too_many_arguments,
    reason = "one family's state is all of this; a struct would only rename it"
)]
fn open(
    family: Family,
    walk: &Walk,
    start: SampleTime,
    stored: Option<&Finding>,
    index: &Step,
    steps: &[Step],
    timeline: &Timeline,
    as_of: OffsetDateTime,
    tuning: &Tuning,
) -> FlagChange {
    let shown = walk.last.and_then(|last| steps.get(last)).unwrap_or(index);
    let mut finding = Finding {
        family,
        state: FlagState::Active,
        slug: shown.slug(family).map_or_else(
            || stored.map(|stored| stored.slug.clone()).unwrap_or_default(),
            str::to_owned,
        ),
        urgency: shown.urgency,
        grade: worst(shown.grades),
        lineage_grades: shown.grades,
        episode_start: start,
        episode_end: None,
        notified_at: Some(as_of),
        acknowledged: None,
        human: None,
    };
    let told = |finding: Finding, why| FlagChange {
        finding,
        write: true,
        notify: true,
        why,
    };
    let Some(stored) = stored.filter(|stored| stored.state != FlagState::EnteredInError) else {
        return told(finding, "raised");
    };
    let before = steps.len().checked_sub(2).and_then(|last| steps.get(last));
    // What changed since the count before was told when this one was filed.
    let untold = stored
        .notified_at
        .is_none_or(|notified| notified < index.filed.unwrap_or(as_of));
    let escalated = escalates(stored, index, before.filter(|_| untold), tuning);
    let ended = stored
        .episode_end
        .map_or(stored.episode_start, |end| end.max(stored.episode_start));
    let new_episode = start.instant > ended.instant;
    if stored.state == FlagState::Inactive {
        let silenced = stored.human.is_some()
            || matches!(stored.acknowledged, Some((Acknowledged::NotRelevant, _)));
        if silenced && !escalated && !(new_episode && walk.why == "relapsed") {
            return FlagChange {
                finding: stored.clone(),
                write: false,
                notify: false,
                why: "unchanged",
            };
        }
        return told(
            finding,
            if escalated && !new_episode {
                "escalated"
            } else {
                "relapsed"
            },
        );
    }
    if escalated {
        return told(finding, "escalated");
    }
    // Not relevant for this patient, said on a card or by closing it on the server.
    if matches!(stored.acknowledged, Some((Acknowledged::NotRelevant, _))) {
        return FlagChange {
            finding: Finding {
                state: FlagState::Inactive,
                episode_end: Some(index.at),
                ..stored.clone()
            },
            write: true,
            notify: false,
            why: NOT_RELEVANT,
        };
    }
    finding.notified_at = stored.notified_at;
    finding.acknowledged = stored.acknowledged;
    if stored.human.is_some() {
        return FlagChange {
            finding: stored.clone(),
            write: false,
            notify: false,
            why: "unchanged",
        };
    }
    if index.present.contains(&family) && quiet_is_over(stored, timeline, as_of, tuning) {
        finding.notified_at = Some(as_of);
        return told(finding, "quiet period over");
    }
    let same = finding == *stored;
    FlagChange {
        write: !same,
        notify: false,
        why: if same {
            "unchanged"
        } else if finding.urgency < stored.urgency || finding.grade < stored.grade {
            "improved"
        } else {
            "updated"
        },
        finding,
    }
}

/// Whether an open Flag may be told again: neither acknowledged nor notified too recently.
fn quiet_is_over(
    stored: &Finding,
    timeline: &Timeline,
    as_of: OffsetDateTime,
    tuning: &Tuning,
) -> bool {
    let quiet = if timeline.inpatient {
        Duration::hours(i64::try_from(tuning.value(&QUIET_INPATIENT)).unwrap_or_default())
    } else {
        super::grade::days(&QUIET_OUTPATIENT, tuning)
    };
    let acknowledged = stored.acknowledged.is_some_and(|(_, until)| as_of < until);
    !acknowledged
        && stored
            .notified_at
            .is_none_or(|notified| as_of - notified >= quiet)
}

/// Which reports to write, write again or withdraw.
fn reports(
    case: &Case<'_>,
    judgements: &[Judgement<'_>],
    assessment: &Assessment,
    walks: &[Walk],
    as_of: OffsetDateTime,
) -> Vec<ReportChange> {
    let mut reports = Vec::new();
    // A report of a corrected value stays when the Flag it belonged to was right.
    let any_raised = walks.iter().any(|walk| walk.raised);
    if assessment.output >= Output::Report {
        reports.push(ReportChange::Write);
    } else if let Some(last) = judgements.last()
        && touched(last.context.specimen, case)
    {
        let specimen = index_of(last.context.specimen);
        reports.push(if any_raised {
            ReportChange::Rewrite(Box::new(assessment.clone()))
        } else {
            ReportChange::Retract(specimen)
        });
    }
    let earlier = judgements
        .len()
        .checked_sub(1)
        .and_then(|last| judgements.get(..last))
        .unwrap_or_default();
    for judgement in earlier {
        if touched(judgement.context.specimen, case) {
            reports.push(if judgement.output >= Output::Report || any_raised {
                ReportChange::Rewrite(Box::new(decide::report(judgement, as_of)))
            } else {
                ReportChange::Retract(index_of(judgement.context.specimen))
            });
        }
    }
    for specimen in withdrawn_specimens(case) {
        reports.push(ReportChange::Retract(specimen));
    }
    reports
}

fn index_of(specimen: &Specimen) -> IndexSpecimen {
    IndexSpecimen {
        at: specimen.at,
        specimen: specimen.key.clone(),
    }
}

/// Whether a result of this specimen was corrected, or withdrawn beside others that stay.
fn touched(specimen: &Specimen, case: &Case<'_>) -> bool {
    specimen.corrected
        || case.timeline.measurements.iter().any(|measurement| {
            measurement.status == Status::EnteredInError
                && measurement.at.is_some_and(|at| {
                    (measurement.specimen.is_some() && measurement.specimen == specimen.key)
                        || (at == specimen.at
                            && (measurement.specimen.is_none() || specimen.key.is_none()))
                })
        })
}

/// Specimens of which every blood count was withdrawn.
fn withdrawn_specimens(case: &Case<'_>) -> Vec<IndexSpecimen> {
    let mut found: Vec<IndexSpecimen> = Vec::new();
    for measurement in &case.timeline.measurements {
        if measurement.status != Status::EnteredInError || !CORE.contains(&measurement.analyte) {
            continue;
        }
        let Some(at) = measurement.at else { continue };
        let remains = case.record.specimens.iter().any(|specimen| {
            (measurement.specimen.is_some() && specimen.key == measurement.specimen)
                || (specimen.at == at && (measurement.specimen.is_none() || specimen.key.is_none()))
        });
        let specimen = IndexSpecimen {
            at,
            specimen: measurement.specimen.clone(),
        };
        if !remains && !found.contains(&specimen) {
            found.push(specimen);
        }
    }
    found.sort();
    found
}
