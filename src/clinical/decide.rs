//! The two questions floor 0 answers: what is there now ([`assess`]), and what has to be written
//! ([`decide`]).

use rust_decimal::{Decimal, prelude::ToPrimitive};
use time::OffsetDateTime;

use super::{
    analyte::Analyte,
    assessment::{
        Assessment, Candidate, CellResult, Decision, EvidenceLine, Family, Finding, IndexSpecimen,
        Lineage, LineageResult, Output, RuleFinding, TraceStep, Urgency, Value, Verdict,
    },
    candidates::{self, Weighed},
    context::{Case, Context, LINEAGES, Sent},
    cycle,
    evaluate::{Scope, answer},
    explain,
    grade::{self, Line},
    judge::{self, Hit, Judgement, Question},
    life_cycle,
    limits::{
        Confidence::{Low, Medium},
        Limit, Tuning,
    },
    mimics, patterns, quality,
    rule::{Level, Watch},
    safety,
    timeline::{Draw, Interpretation, Timeline},
    truth::Truth,
    wording,
};

const OURS: &str = "project choice";

static FEW_CELLS: Limit = Limit::new("dq10.cells", "100", "1", "1", OURS, Low);
static FEW_WHITE_CELLS: Limit = Limit::new("dq10.wbc", "1.0", "0.01", "10*9/L", OURS, Low);
static NEWBORN: Limit = Limit::new("dq16.newborn", "28", "1", "d", OURS, Medium);
static NUCLEATED: Limit = Limit::new("dq21.nrbc", "5", "0.1", "/100{WBCs}", OURS, Medium);
static REMIND_URGENT: Limit = Limit::new("remind.urgent", "7", "1", "d", OURS, Low);
static REMIND_SOON: Limit = Limit::new("remind.soon", "14", "1", "d", OURS, Low);
static REMIND_ROUTINE: Limit = Limit::new("remind.routine", "90", "1", "d", OURS, Low);

/// Limits of this module.
pub fn limits() -> Vec<&'static Limit> {
    vec![
        &FEW_CELLS,
        &FEW_WHITE_CELLS,
        &NEWBORN,
        &NUCLEATED,
        &REMIND_URGENT,
        &REMIND_SOON,
        &REMIND_ROUTINE,
    ]
}

/// Assesses one patient at `as_of`, without memory of earlier Flags.
pub fn assess(timeline: &Timeline, as_of: OffsetDateTime) -> Assessment {
    assess_with(timeline, as_of, &Tuning::none())
}

/// [`assess`] with limits and points moved: for tests only.
pub fn assess_with(timeline: &Timeline, as_of: OffsetDateTime, tuning: &Tuning) -> Assessment {
    let case = Case::new(timeline, as_of, tuning);
    assess_case(&case, as_of)
}

/// What has to be written after a submission: the assessment of the index specimen, the Flags of
/// all families, and the reports. The past is walked in sample-time order, so that the order in
/// which results arrived changes nothing.
pub fn decide(timeline: &Timeline, findings: &[Finding], as_of: OffsetDateTime) -> Decision {
    decide_with(timeline, findings, as_of, &Tuning::none())
}

/// [`decide`] with limits and points moved: for tests only.
pub fn decide_with(
    timeline: &Timeline,
    findings: &[Finding],
    as_of: OffsetDateTime,
    tuning: &Tuning,
) -> Decision {
    life_cycle::decide(timeline, findings, as_of, tuning)
}

/// Sample time of the newest specimen that can be an index, for `--as-of sampled`.
pub fn newest_sample(timeline: &Timeline) -> Option<OffsetDateTime> {
    timeline
        .measurements
        .iter()
        .filter(|measurement| super::specimen::CORE.contains(&measurement.analyte))
        .filter(|measurement| {
            !matches!(
                measurement.status,
                super::timeline::Status::EnteredInError | super::timeline::Status::NotEvaluated
            )
        })
        .filter_map(|measurement| Some(measurement.at?.instant))
        .max()
}

/// Assesses a case at its newest blood count.
pub fn assess_case(case: &Case<'_>, as_of: OffsetDateTime) -> Assessment {
    match judge_case(case, as_of) {
        Some(judgement) => report(&judgement, as_of),
        None => without_index(case, as_of),
    }
}

/// Judges a case at its newest blood count.
pub fn judge_case<'a>(case: &'a Case<'a>, as_of: OffsetDateTime) -> Option<Judgement<'a>> {
    let index = case.blood_counts().last().copied()?;
    let question = Question {
        as_of,
        staleness: true,
    };
    judge::judge(case, index, question)
}

/// No blood count: nothing to say but what could not be used.
fn without_index(case: &Case<'_>, as_of: OffsetDateTime) -> Assessment {
    Assessment {
        as_of,
        index: None,
        verdict: Verdict::InsufficientData,
        lineages: LINEAGES
            .into_iter()
            .map(|lineage| LineageResult {
                lineage,
                low: Truth::Unknown,
                grade: None,
                at_least: None,
                value: None,
                limit: None,
                note: None,
            })
            .collect(),
        cells: Vec::new(),
        patterns: Vec::new(),
        safety: Vec::new(),
        candidates: Vec::new(),
        argued_against: Vec::new(),
        first_look: Vec::new(),
        doubts: quality::doubts(case.timeline, &case.record, |_| true),
        used: Vec::new(),
        span: None,
        notes: vec!["No blood count that can be assessed was received.".to_owned()],
        urgency: Urgency::U0,
        output: Output::Nothing,
        output_row: 0,
        family: None,
        slug: None,
        headline: "Insufficient data".to_owned(),
        trace: Vec::new(),
    }
}

/// A judgement in words.
pub fn report(judgement: &Judgement<'_>, as_of: OffsetDateTime) -> Assessment {
    let context = &judgement.context;
    let timeline = context.timeline();
    let specimen = context.specimen;
    let deceased = timeline.person.deceased;
    let output = if deceased {
        Output::Nothing
    } else {
        judgement.output
    };
    let used: Vec<Value> = specimen
        .urgent
        .iter()
        .map(|reading| wording::reported(reading, specimen, timeline))
        .collect();
    let first_used = context
        .lines
        .iter()
        .filter_map(|line| line.borrowed_days)
        .max()
        .and_then(|days| specimen.at.instant.checked_sub(time::Duration::days(days)));
    let mut listed: Vec<&Weighed> = judgement
        .candidates
        .iter()
        .filter(|candidate| candidate.listed())
        .collect();
    candidates::rank(&mut listed);
    let mut against: Vec<&Weighed> = judgement
        .candidates
        .iter()
        .filter(|candidate| !candidate.excluded.is_empty())
        .collect();
    candidates::rank(&mut against);
    let mut safety: Vec<RuleFinding> = judgement
        .safety
        .iter()
        .map(|hit| finding(hit, context, Scope::SAFETY))
        .collect();
    safety.sort_by(|one, two| {
        (two.truth, two.urgency)
            .cmp(&(one.truth, one.urgency))
            .then_with(|| one.id.cmp(two.id))
    });
    Assessment {
        as_of,
        index: Some(IndexSpecimen {
            at: specimen.at,
            specimen: specimen.key.clone(),
        }),
        verdict: judgement.verdict,
        lineages: lineages(context),
        cells: cells(context),
        patterns: judgement
            .patterns
            .iter()
            .map(|hit| finding(hit, context, Scope::PLAIN))
            .collect(),
        safety,
        candidates: listed
            .iter()
            .map(|weighed| candidate(weighed, context))
            .collect(),
        argued_against: against
            .iter()
            .map(|weighed| candidate(weighed, context))
            .collect(),
        first_look: first_look(judgement, &listed),
        doubts: doubts(context),
        used,
        span: Some((
            first_used.map_or(specimen.at, |instant| super::time::SampleTime {
                instant,
                ..specimen.at
            }),
            specimen.at,
        )),
        notes: notes(judgement, as_of),
        urgency: judgement.urgency,
        output,
        output_row: judgement.row,
        family: judgement.family.filter(|_| !deceased),
        slug: slug(judgement),
        headline: headline(judgement),
        trace: Vec::new(),
    }
}

fn lineages(context: &Context<'_>) -> Vec<LineageResult> {
    LINEAGES
        .into_iter()
        .map(|lineage| {
            let line = context.line(lineage);
            let known = line.low.is_true() || line.grade().is_some();
            LineageResult {
                lineage,
                low: line.low,
                grade: line.grade(),
                at_least: (known && line.grade().is_none()).then_some(line.mildest),
                value: line.reading.as_ref().map(|reading| {
                    wording::reported(reading, context.specimen, context.timeline())
                }),
                limit: line.limit,
                note: line_note(lineage, line, context),
            }
        })
        .collect()
}

fn cells(context: &Context<'_>) -> Vec<CellResult> {
    let (specimen, timeline) = (context.specimen, context.timeline());
    [Analyte::Wbc, Analyte::Alc]
        .into_iter()
        .filter_map(|analyte| specimen.get(analyte))
        .map(|reading| {
            let (limit, grade) = grade::cells(reading, context.ages.as_ref(), context.tuning());
            CellResult {
                analyte: reading.analyte,
                grade,
                value: wording::reported(reading, specimen, timeline),
                limit,
            }
        })
        .collect()
}

fn line_note(lineage: Lineage, line: &Line, context: &Context<'_>) -> Option<String> {
    let borrowed = || {
        line.borrowed_days
            .map(|days| format!("from a specimen {days} d older"))
    };
    let note = line.note.clone().or_else(borrowed);
    // Two scales give different words for one number: the second one only where it is used.
    let trial = context
        .token("chemo_42")
        .truth
        .is_true()
        .then(|| grade::ctcae(lineage, line, context.tuning()))
        .flatten()
        .map(|grade| format!("CTCAE v5.0 grade {grade}"));
    match (note, trial) {
        (Some(note), Some(trial)) => Some(format!("{note}; {trial}")),
        (note, trial) => note.or(trial),
    }
}

fn finding(hit: &Hit, context: &Context<'_>, scope: Scope) -> RuleFinding {
    let mut values: Vec<Value> = Vec::new();
    let mut thresholds = Vec::new();
    explain::walk(&hit.level.when, &mut |part| {
        if let Some(input) = explain::input_of(part) {
            let super::rule::Input::Of(analyte) = input else {
                return;
            };
            let found = context.urgent(analyte);
            for (reading, specimen) in found.iter().take(3) {
                let value = wording::reported(reading, specimen, context.timeline());
                if !values.contains(&value) {
                    values.push(value);
                }
            }
            let text = explain::words(part, context.tuning());
            if answer(part, context, scope).truth == hit.truth && !thresholds.contains(&text) {
                thresholds.push(text);
            }
        }
        if matches!(
            part,
            super::rule::Criterion::LowLineages(_) | super::rule::Criterion::OnlyLow(_)
        ) {
            for line in &context.lines {
                if let (true, Some(reading)) = (line.low.is_true(), &line.reading) {
                    let value = wording::reported(reading, context.specimen, context.timeline());
                    if !values.contains(&value) {
                        values.push(value);
                    }
                    if let Some(limit) = line.limit {
                        thresholds.push(format!(
                            "{} <{} {}",
                            wording::short(reading.analyte),
                            wording::number(limit, reading.analyte),
                            wording::unit(reading.analyte)
                        ));
                    }
                }
            }
        }
    });
    let needs = if hit.truth.is_unknown() {
        explain::needs(&hit.level.when, context, scope)
    } else {
        Vec::new()
    };
    RuleFinding {
        id: hit.watch.id,
        name: hit
            .level
            .name
            .filter(|_| hit.truth.is_true())
            .unwrap_or(hit.watch.name),
        slug: hit.watch.slug,
        truth: hit.truth,
        urgency: hit.urgency,
        sentence: if hit.truth.is_true() {
            sentence(hit.watch, hit.level, context, scope)
        } else {
            format!("Not assessable: needs {}.", needs.join(", "))
        },
        values,
        thresholds,
        needs,
        next: hit.watch.next,
        source: hit.watch.source,
    }
}

fn sentence(
    watch: &'static Watch,
    level: &'static Level,
    context: &Context<'_>,
    scope: Scope,
) -> String {
    let mut text = level.sentence.to_owned();
    let worst = |analyte: Analyte| {
        context
            .urgent(analyte)
            .iter()
            .filter(|(reading, _)| !reading.bounded)
            .map(|(reading, _)| reading.interval)
            .min_by_key(super::quantity::Interval::anchor)
            .map_or_else(
                || "not received".to_owned(),
                |interval| {
                    format!(
                        "{} {}",
                        wording::interval(&interval, analyte),
                        wording::unit(analyte)
                    )
                },
            )
    };
    for (mark, analyte) in [
        ("{hb}", Analyte::Hb),
        ("{anc}", Analyte::Anc),
        ("{plt}", Analyte::Platelets),
        ("{wbc}", Analyte::Wbc),
        ("{alc}", Analyte::Alc),
    ] {
        if text.contains(mark) {
            text = text.replace(mark, &worst(analyte));
        }
    }
    if text.contains("{cause}") {
        text = text.replace("{cause}", &fever_cause(context));
    }
    if text.contains("{days}") {
        let days = context
            .lines
            .iter()
            .filter_map(|line| line.borrowed_days)
            .max()
            .unwrap_or_default();
        text = text.replace("{days}", &days.to_string());
    }
    for remark in level.remarks {
        if answer(&remark.when, context, scope).truth.is_true() {
            text.push(' ');
            text.push_str(remark.text);
        }
    }
    if context.ages.is_none() && watch.id.starts_with('S') {
        text.push_str(" Age unknown.");
    }
    let preliminary = context
        .specimen
        .urgent
        .iter()
        .any(|reading| reading.preliminary);
    if preliminary && watch.id.starts_with('S') {
        text.push_str(" Preliminary result.");
    }
    text
}

/// `Temperature 38.9 C`, `Fever recorded`, `Sepsis is recorded`.
fn fever_cause(context: &Context<'_>) -> String {
    let index = context.specimen.at.instant;
    let hottest = context
        .timeline()
        .measurements
        .iter()
        .filter(|measurement| measurement.analyte == Analyte::Temperature)
        .filter(|measurement| {
            measurement.at.is_some_and(|at| {
                at.instant >= index - time::Duration::hours(24)
                    && at.instant <= index + time::Duration::days(7)
            })
        })
        .filter_map(|measurement| measurement.value)
        .max_by_key(super::quantity::Interval::anchor);
    if context.token("fever").truth.is_true() {
        return hottest.map_or_else(
            || "Fever".to_owned(),
            |value| {
                format!(
                    "Temperature {} C",
                    wording::interval(&value, Analyte::Temperature)
                )
            },
        );
    }
    "Sepsis is recorded:".trim_end_matches(':').to_owned()
}

fn candidate(weighed: &Weighed, context: &Context<'_>) -> Candidate {
    let rule = weighed.rule;
    let mut for_it: Vec<EvidenceLine> = Vec::new();
    let mut against: Vec<EvidenceLine> = Vec::new();
    for (line, points) in &weighed.lines {
        let line = explain::evidence(line, *points, context);
        if *points >= 0 {
            for_it.push(line);
        } else {
            against.push(line);
        }
    }
    if weighed.prior != 0 {
        let line = EvidenceLine {
            points: weighed.prior,
            text: "how common it is at this age".to_owned(),
            sources: Vec::new(),
        };
        if weighed.prior > 0 {
            for_it.push(line);
        } else {
            against.push(line);
        }
    }
    let mut sentence = rule.sentence.replace(
        "{label}",
        weighed
            .label
            .as_deref()
            .map_or(rule.name, |label| label.split('-').next().unwrap_or(label)),
    );
    let needs = if weighed.gate.is_unknown() {
        explain::needs(&rule.gate, context, Scope::GATE)
    } else {
        Vec::new()
    };
    if weighed.gate.is_unknown() {
        sentence = format!(
            "Not assessable yet for {}: needs {}.",
            rule.name,
            if needs.is_empty() {
                rule.required.to_owned()
            } else {
                needs.join(", ")
            }
        );
    }
    if rule.id == "D01"
        && weighed
            .label
            .as_deref()
            .is_some_and(|label| label.starts_with("HYPO"))
    {
        "The marrow was reported hypocellular; counts are above the thresholds."
            .clone_into(&mut sentence);
    }
    for remark in rule.remarks {
        if answer(&remark.when, context, Scope::PLAIN).truth.is_true() {
            sentence.push(' ');
            sentence.push_str(remark.text);
        }
    }
    for reason in &weighed.capped {
        sentence.push(' ');
        sentence.push_str(reason);
    }
    if rule.id == "M09" {
        sentence.push(' ');
        sentence.push_str(&mimics::m09_hlh::items(context));
    }
    let mut missing = explain::not_received(rule, context);
    missing.dedup();
    Candidate {
        id: rule.id,
        slug: rule.slug,
        name: rule.name,
        label: weighed.label.clone(),
        gate: weighed.gate,
        score: weighed.score,
        fit: weighed.fit,
        for_it,
        against,
        excluded_by: weighed
            .excluded
            .iter()
            .map(|line| explain::evidence(line, 0, context))
            .collect(),
        missing,
        urgency: weighed.urgency,
        sentence,
        next: rule.next,
        source: rule.source,
    }
}

/// DQ-10: between what numbers 95 % of counts of the same blood would lie (Wilson), when few cells
/// were counted by hand.
/// Laboratories and methods may be mixed in a trend; the reader knows what a step may come from.
fn measured_elsewhere(context: &Context<'_>) -> Option<String> {
    let (timeline, specimens) = (context.timeline(), &context.case.record.specimens);
    let (before, specimen) =
        quality::measured_elsewhere(timeline, specimens, context.specimen, context.tuning())
            .filter(|_| !context.transfused())?;
    Some(format!(
        "MCV {} fL on {} was measured by another laboratory or method: part of the change may come \
         from that.",
        before.normalize(),
        specimen.day()
    ))
}

fn counting_range(context: &Context<'_>) -> Option<String> {
    let Sent::Value(reading, specimen) = context.at_index(Analyte::Anc) else {
        return None;
    };
    let counted = reading
        .from
        .iter()
        .filter_map(|position| {
            context
                .timeline()
                .measurements
                .get(*position)?
                .cells_counted
        })
        .min()?;
    let white = specimen.get(Analyte::Wbc)?.interval.as_exact()?;
    let tuning = context.tuning();
    if Decimal::from(counted) >= tuning.value(&FEW_CELLS) && white >= tuning.value(&FEW_WHITE_CELLS)
    {
        return None;
    }
    let share = reading.interval.as_exact()?.checked_div(white)?.to_f64()?;
    let (cells, deviations) = (f64::from(counted), 1.96_f64);
    let weight = deviations.powi(2) / cells;
    let middle = (share + weight / 2.0) / (1.0 + weight);
    let half = deviations * (share * (1.0 - share) / cells + weight / (4.0 * cells)).sqrt()
        / (1.0 + weight);
    let number = |share: f64| {
        let anc = Decimal::from_f64_retain(share.clamp(0.0, 1.0))?.checked_mul(white)?;
        Some(anc.round_dp(2))
    };
    Some(format!(
        "Neutrophils of {counted} cells counted: 95 % of such counts lie between {} and {} x10^9/L.",
        number(middle - half)?,
        number(middle + half)?,
    ))
}

/// DQ-16, DQ-21: what the reader must know of the sample.
fn of_the_sample(context: &Context<'_>) -> Vec<&'static str> {
    let tuning = context.tuning();
    let mut notes = Vec::new();
    let newborn = context
        .ages
        .is_some_and(|ages| !ages.young.reaches(&NEWBORN, tuning));
    let capillary = context.specimen.readings.iter().any(|reading| {
        context
            .measurement(reading)
            .is_some_and(|measurement| measurement.draw == Draw::Capillary)
    });
    if newborn && capillary {
        notes.push(
            "Capillary sample of a newborn: haemoglobin and white cells read higher, platelets \
             lower; repeat from a vein.",
        );
    }
    let nucleated = match context.at_index(Analyte::Nrbc) {
        Sent::Value(reading, _) => reading.interval.is_below(tuning.value(&NUCLEATED)),
        _ => Truth::Unknown,
    };
    if nucleated.is_false() {
        notes.push("Nucleated red cells: white cells are taken as corrected by the analyser.");
    }
    notes
}

/// What the series of neutrophils says beside its rhythm (4.3, step 7).
fn rhythm(context: &Context<'_>) -> Option<&'static str> {
    match context.cycle().hint? {
        cycle::Hint::AlwaysLow => Some(
            "Every neutrophil count of three months and more lies below 0.5: severe congenital \
             neutropenia is to be considered.",
        ),
        cycle::Hint::Fluctuating => Some(
            "Neutrophils fluctuate without a regular cycle, as in autoimmune neutropenia, \
             Shwachman-Diamond or Barth syndrome.",
        ),
    }
}

/// Reversible or urgent causes (6.1, step 6): listed mimics and safety rules, and what was not
/// tested.
fn first_look(judgement: &Judgement<'_>, listed: &[&Weighed]) -> Vec<String> {
    let mut causes: Vec<String> = Vec::new();
    if !judgement
        .context
        .lines
        .iter()
        .any(|line| line.low.is_true())
        && listed.is_empty()
    {
        return causes;
    }
    for hit in judgement.safety.iter().filter(|hit| hit.truth.is_true()) {
        causes.push(format!(
            "{} {}",
            hit.watch.id,
            hit.level.name.unwrap_or(hit.watch.name)
        ));
    }
    for candidate in listed {
        if candidate.rule.id.starts_with('M') || candidate.rule.id == "S01" {
            causes.push(format!("{} {}", candidate.rule.id, candidate.rule.name));
        }
    }
    for (analyte, name) in [
        (Analyte::B12, "B12"),
        (Analyte::Folate, "folate"),
        (Analyte::Copper, "copper"),
    ] {
        if matches!(judgement.context.sent(analyte), Sent::No) {
            causes.push(format!("{name} not received"));
        }
    }
    for (tokens, text) in [
        (
            ["drug_high", "drug_other", "drug_prca"].as_slice(),
            "medication list not available to marrowflag",
        ),
        (
            ["viral_recent", "hiv", "parvo"].as_slice(),
            "virus tests not received",
        ),
    ] {
        if tokens
            .iter()
            .all(|token| judgement.context.token(token).truth.is_unknown())
        {
            causes.push(text.to_owned());
        }
    }
    causes
}

fn doubts(context: &Context<'_>) -> Vec<super::assessment::Doubt> {
    let index = context.specimen.at.instant;
    let mut doubts = quality::doubts(context.timeline(), &context.case.record, |position| {
        context
            .timeline()
            .measurements
            .get(position)
            .is_some_and(|measurement| {
                measurement.at.is_none_or(|at| {
                    let age = index - at.instant;
                    age <= time::Duration::days(7)
                })
            })
    });
    // The sender calls high what lies below our limit; the number stands.
    doubts.extend(context.lines.iter().filter_map(|line| {
        let measurement = context.measurement(line.reading.as_ref()?)?;
        let differs =
            line.low.is_true() && measurement.interpretation == Some(Interpretation::High);
        differs.then(|| {
            quality::doubt_of(
                measurement,
                true,
                "interpretation-differs",
                "Flagged high by the sender, and below the limit used here: used as sent.",
            )
        })
    }));
    doubts
}

fn notes(judgement: &Judgement<'_>, as_of: OffsetDateTime) -> Vec<String> {
    let context = &judgement.context;
    let timeline = context.timeline();
    let mut notes = Vec::new();
    if context.ages.is_none() {
        notes.push("Insufficient demographics: date of birth.".to_owned());
    }
    for member in &context.specimen.refused {
        let measurement = timeline.measurements.get(*member);
        let mark = context.case.record.marks.get(*member);
        if let (Some(measurement), Some(why)) =
            (measurement, mark.and_then(|mark| mark.refused.as_ref()))
        {
            notes.push(refused_note(measurement, why.word));
        }
    }
    if judgement.stale {
        let days = (as_of - context.specimen.at.instant).whole_days();
        notes.push(if judgement.urgency >= Urgency::U3 {
            format!("Older critical result ({days} d): check today that it was acted on.")
        } else {
            format!("Older result ({days} d), repeat if not already done.")
        });
    }
    if judgement.preliminary {
        notes.push("Preliminary result.".to_owned());
    }
    if context.specimen.diluted {
        notes.push("Possible dilution: repeat.".to_owned());
    }
    if context.specimen.doubtful_identity {
        notes.push("Verify patient and sample: larger change than expected.".to_owned());
    }
    if context
        .specimen
        .readings
        .iter()
        .any(|reading| reading.suspect)
    {
        notes.push("Please verify.".to_owned());
    }
    if context.specimen.clumped {
        notes.push("Platelets clumped: the platelet number is unknown.".to_owned());
    }
    if timeline.person.altitude_m.is_none()
        && timeline.person.smoking == super::timeline::Smoking::Unknown
    {
        notes.push("Hb not adjusted for altitude or smoking (not received).".to_owned());
    }
    if grade::pregnancy_conflicts(timeline, context.ages.as_ref(), context.tuning())
        && !timeline.pregnancies.is_empty()
    {
        notes.push("A recorded pregnancy does not fit sex or age: not used.".to_owned());
    }
    notes.extend(measured_elsewhere(context));
    notes.extend(counting_range(context));
    notes.extend(of_the_sample(context).into_iter().map(str::to_owned));
    notes.extend(rhythm(context).map(str::to_owned));
    notes.extend(reminder(judgement, as_of));
    if judgement.known_failure {
        notes.push("A known marrow failure is recorded: candidates are not listed.".to_owned());
    }
    if let Some(held) = judgement.held {
        notes.push(format!("No Flag: {held}."));
    }
    if context.transfused() {
        notes
            .push("Red cells transfused in the last 120 d: MCV, HbF and eADA not used.".to_owned());
    }
    notes
}

/// What has waited too long for a new count (8.2): said in the report, never a Flag of its own.
fn reminder(judgement: &Judgement<'_>, as_of: OffsetDateTime) -> Option<String> {
    let age = (as_of - judgement.context.specimen.at.instant).whole_days();
    let tuning = judgement.context.tuning();
    let longer = |limit: &Limit| Decimal::from(age) > tuning.value(limit);
    let waited = match judgement.urgency {
        Urgency::U4 | Urgency::U3 => {
            longer(&REMIND_URGENT) && judgement.safety_urgency() >= Urgency::U3
        }
        Urgency::U2 => longer(&REMIND_SOON),
        Urgency::U1 => longer(&REMIND_ROUTINE),
        Urgency::U0 => false,
    };
    waited.then(|| format!("No follow-up CBC received for {age} d."))
}

fn refused_note(measurement: &super::timeline::Measurement, word: &str) -> String {
    let raw = wording::received(&measurement.received);
    let name = wording::short(measurement.analyte);
    match word {
        "unit-suspect" => format!(
            "{name} {raw} not usable: verify today; possible unit error, critical if the unit is right."
        ),
        "unit-inconsistent" => {
            format!("{name} {raw} not usable: verify today; unit error suspected.")
        }
        "clotted" => format!("{name} {raw} not used: clotted specimen, repeat sample."),
        "clumped" => format!("{name} {raw} not used: platelets clumped."),
        word if quality::is_rejection(word) => {
            format!("{name} {raw} not usable: verify today.")
        }
        _ => format!("{name} {raw} not used."),
    }
}

fn slug(judgement: &Judgement<'_>) -> Option<&'static str> {
    judgement
        .family
        .map(|family: Family| judgement.slug(family))
        .or_else(|| judgement.main_pattern().and_then(|hit| hit.watch.slug))
        .or_else(|| judgement.patterns.first().and_then(|hit| hit.watch.slug))
}

fn headline(judgement: &Judgement<'_>) -> String {
    let urgency = wording::urgency_code(judgement.urgency);
    let what = judgement
        .main_pattern()
        .or_else(|| judgement.patterns.first())
        .map(|hit| hit.watch.name.to_owned())
        .or_else(|| {
            judgement
                .safety
                .iter()
                .find(|hit| hit.truth.is_true())
                .map(|hit| hit.level.name.unwrap_or(hit.watch.name).to_owned())
        })
        .or_else(|| {
            judgement
                .candidates
                .iter()
                .find(|candidate| {
                    candidate.strong() || candidate.rule.id == "S01" && candidate.listed()
                })
                .map(|candidate| candidate.rule.name.to_owned())
        })
        .or_else(|| judgement.rejected.then(|| "Result not usable".to_owned()));
    match (what, judgement.verdict) {
        (Some(what), _) => format!("{what}, {urgency}"),
        (None, Verdict::NoCytopenia) => "No cytopenia pattern in the results received".to_owned(),
        (None, _) => format!("Insufficient data, {urgency}"),
    }
}

/// Every rule asked at the newest blood count, with its inputs, thresholds and answer, in the
/// order of evaluation. It costs more than the assessment itself and few readers want it, so that
/// it is made on demand and [`Assessment::trace`] stays empty until somebody fills it in.
pub fn trace(timeline: &Timeline, as_of: OffsetDateTime) -> Vec<TraceStep> {
    trace_with(timeline, as_of, &Tuning::none())
}

/// [`trace`] with limits and points moved: for tests only.
pub fn trace_with(timeline: &Timeline, as_of: OffsetDateTime, tuning: &Tuning) -> Vec<TraceStep> {
    let case = Case::new(timeline, as_of, tuning);
    judge_case(&case, as_of)
        .map(|judgement| steps(&judgement))
        .unwrap_or_default()
}

fn steps(judgement: &Judgement<'_>) -> Vec<TraceStep> {
    let context = &judgement.context;
    let mut trace = Vec::new();
    explain::trace_grades(context, &mut trace);
    for watch in patterns::MAIN.iter().chain(patterns::FURTHER) {
        explain::trace_watch(watch, context, Scope::PLAIN, &mut trace);
    }
    for watch in safety::ALL {
        explain::trace_watch(watch, context, Scope::SAFETY, &mut trace);
    }
    for rule in candidates::rules() {
        explain::trace_rule(rule, context, &mut trace);
    }
    trace.push(TraceStep {
        id: "output".to_owned(),
        question: format!("row {} of the decision table", judgement.row),
        inputs: vec![wording::urgency_code(judgement.urgency).to_owned()],
        answer: match judgement.output {
            Output::Nothing => "nothing",
            Output::Report => "report",
            Output::Flag => "flag",
            Output::SafetyFlag => "safety flag",
        }
        .to_owned(),
    });
    trace
}
