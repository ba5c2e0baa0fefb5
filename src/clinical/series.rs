//! What follows from the series of counts: persistence, reticulocyte class, and the tokens of
//! 4.7.1. A token that was given by name has already been taken; here it is derived.

use rust_decimal::Decimal;
use time::{Date, Duration, OffsetDateTime};

use super::{
    age::{Age, Ages},
    analyte::Analyte,
    assessment::{Grade, Lineage},
    context::{Context, LINEAGES, Sent},
    cycle, facts,
    grade::{Line, days},
    limits::{
        Confidence::{High, Low, Medium},
        Limit,
    },
    quantity::Interval,
    rule::Answer,
    specimen::{Reading, Specimen},
    truth::Truth,
};

macro_rules! ours {
    ($name:ident, $id:literal, $value:literal, $step:literal, $unit:literal) => {
        static $name: Limit = Limit::new($id, $value, $step, $unit, "project choice", Low);
    };
}

ours!(LOOK_BACK, "persistence.look_back", "1095", "1", "d");
ours!(FIRST_LOW, "first_low.days", "42", "1", "d");
ours!(STABLE_FROM, "known_stable.from", "28", "1", "d");
ours!(STABLE_TO, "known_stable.to", "365", "1", "d");
ours!(FALLING_RATIO, "anc_falling.percent", "50", "1", "%");
ours!(FALLING_DAYS, "anc_falling.days", "730", "1", "d");
ours!(FALLING_COUNT, "anc_falling.results", "3", "1", "1");
ours!(STABLE_ANC_LOW, "anc_stable.low", "0.8", "0.01", "10*9/L");
ours!(STABLE_ANC_HIGH, "anc_stable.high", "2.5", "0.01", "10*9/L");
ours!(STABLE_ANC_DAYS, "anc_stable.days", "90", "1", "d");
ours!(NORMAL_DAYS, "prev_normal.days", "730", "1", "d");
ours!(ONCE_ANC, "anc.well", "1.5", "0.01", "10*9/L");
ours!(DEEP_ANC, "anc.deep", "0.5", "0.01", "10*9/L");
ours!(PAST_RESULTS, "neutropenia_past.results", "3", "1", "1");
ours!(PAST_DAYS, "neutropenia_past.days", "7", "1", "d");
ours!(BIRTH_ANC, "onset_birth.days", "28", "1", "d");
ours!(SIX_MONTHS, "onset.months", "6", "1", "mo");
ours!(THREE_YEARS, "onset.years", "3", "1", "a");
ours!(BIRTH_PLT, "plt_birth.days", "7", "1", "d");
ours!(BIRTH_PLT_SPAN, "plt_birth.span", "28", "1", "d");
ours!(RECOVERED_PLT, "plt_recovered.from", "100", "1", "10*9/L");
ours!(RECOVERED_PLT_LOW, "plt_recovered.low", "50", "1", "10*9/L");
ours!(RECOVERED_PLT_DAYS, "plt_recovered.days", "7", "1", "d");
ours!(RECOVERED_HB_DAYS, "recovered.hb_days", "60", "1", "d");
ours!(RECOVERED_ARC, "recovered.arc", "75", "1", "10*9/L");
ours!(RECOVERED_ARC_LOW, "recovered.arc_low", "25", "1", "10*9/L");
ours!(RECOVERED_ANC_DAYS, "recovered.anc_days", "7", "1", "d");
ours!(RESPONSE_DAYS, "response.days", "28", "1", "d");
ours!(RESPONSE_PLT, "itp_response.plt", "30", "1", "10*9/L");
ours!(GCSF_ACTS, "gcsf_refractory.from", "7", "1", "d");
ours!(CYCLE_DAYS, "cycle.days", "365", "1", "d");
ours!(CYCLE_GCSF, "cycle.after_gcsf", "7", "1", "d");
ours!(CYCLE_GCSF_PEG, "cycle.after_gcsf_peg", "21", "1", "d");
ours!(CYCLE_CHEMO, "cycle.after_chemo", "42", "1", "d");
ours!(LATE_DAYS, "late_recovery.days", "42", "1", "d");
ours!(LATE_ANC, "late_recovery.anc", "1.0", "0.01", "10*9/L");
ours!(TIMING_FROM, "drug_timing.from", "7", "1", "d");
ours!(TIMING_TO, "drug_timing.to", "84", "1", "d");
ours!(MONO_DAYS, "mono_persist.days", "28", "1", "d");
ours!(MONO_OLD, "mono_persist.from_1a", "1.0", "0.01", "10*9/L");
ours!(MONO_INFANT, "mono_persist.infant", "1.5", "0.01", "10*9/L");
ours!(
    MONO_NEWBORN,
    "mono_persist.newborn",
    "3.0",
    "0.01",
    "10*9/L"
);
ours!(HBF_6, "hbf_high.6mo", "5", "0.1", "%");
ours!(HBF_12, "hbf_high.12mo", "2", "0.1", "%");
ours!(HBF_24, "hbf_high.24mo", "1", "0.1", "%");
ours!(FEVER_BEFORE, "fever.before", "24", "1", "h");
ours!(FEVER_AFTER, "fever.after", "7", "1", "d");
ours!(FEVER_AGAIN, "fever.again", "1", "1", "h");
ours!(FEVER_ANC, "fever.anc", "1.0", "0.01", "10*9/L");
ours!(HEPATITIS_DAYS, "hepatitis.days", "180", "1", "d");
ours!(HEPATITIS_ALT, "hepatitis.alt", "5", "0.1", "1");
ours!(HELLP_PLT, "hellp.plt", "100", "1", "10*9/L");
ours!(HELLP_LIVER, "hellp.liver", "2", "0.1", "1");
ours!(HELLP_LDH, "hellp.ldh", "600", "1", "U/L");
ours!(HELLP_HAPTOGLOBIN, "hellp.haptoglobin", "0.3", "0.01", "g/L");
static FEVER_ONCE: Limit = Limit::new("fever.once", "38.3", "0.1", "Cel", "IDSA 2010", High);
static FEVER_TWICE: Limit = Limit::new("fever.twice", "38.0", "0.1", "Cel", "IDSA 2010", High);

ours!(RET_LOW, "retics.low", "25", "1", "10*9/L");
ours!(RET_INADEQUATE, "retics.inadequate", "75", "1", "10*9/L");
ours!(
    RET_REGENERATIVE,
    "retics.regenerative",
    "100",
    "1",
    "10*9/L"
);
ours!(RET_CLEARLY, "retics.without_rpi", "150", "1", "10*9/L");
ours!(RET_HB, "retics.hb", "100", "1", "g/L");
ours!(RET_NADIR_LOW, "retics.nadir_low", "10", "1", "10*9/L");
static RET_NEWBORN_LOW: Limit = Limit::new(
    "retics.newborn_low",
    "50",
    "1",
    "10*9/L",
    "Lilleyman & Hann 1992",
    Medium,
);
static RET_NEWBORN_HIGH: Limit = Limit::new(
    "retics.newborn_high",
    "445",
    "1",
    "10*9/L",
    "Lilleyman & Hann 1992",
    Medium,
);
ours!(RET_NEWBORN, "retics.newborn_until", "4", "1", "d");
ours!(RET_NADIR, "retics.nadir_until", "56", "1", "d");
ours!(RET_RPI_AGE, "retics.rpi_from", "12", "1", "a");
ours!(RET_RPI, "retics.rpi", "2", "0.1", "1");
ours!(RPI_HCT, "rpi.hct", "0.45", "0.01", "L/L");
ours!(RPI_40, "rpi.hct40", "0.40", "0.01", "L/L");
ours!(RPI_30, "rpi.hct30", "0.30", "0.01", "L/L");
ours!(RPI_20, "rpi.hct20", "0.20", "0.01", "L/L");

/// Limits of this module.
#[rustfmt::skip]
pub fn limits() -> Vec<&'static Limit> {
    vec![
        &LOOK_BACK, &FIRST_LOW, &STABLE_FROM, &STABLE_TO, &FALLING_RATIO, &FALLING_DAYS,
        &FALLING_COUNT, &STABLE_ANC_LOW, &STABLE_ANC_HIGH, &STABLE_ANC_DAYS, &NORMAL_DAYS,
        &ONCE_ANC, &DEEP_ANC, &PAST_RESULTS, &PAST_DAYS, &BIRTH_ANC, &SIX_MONTHS, &THREE_YEARS,
        &BIRTH_PLT, &BIRTH_PLT_SPAN, &RECOVERED_PLT, &RECOVERED_PLT_LOW, &RECOVERED_PLT_DAYS,
        &RECOVERED_HB_DAYS, &RECOVERED_ARC, &RECOVERED_ARC_LOW, &RECOVERED_ANC_DAYS, &RESPONSE_DAYS,
        &RESPONSE_PLT, &GCSF_ACTS, &CYCLE_DAYS, &CYCLE_GCSF, &CYCLE_GCSF_PEG, &CYCLE_CHEMO, &LATE_DAYS,
        &LATE_ANC, &TIMING_FROM, &TIMING_TO, &MONO_DAYS, &MONO_OLD, &MONO_INFANT, &MONO_NEWBORN,
        &HBF_6, &HBF_12, &HBF_24, &FEVER_BEFORE, &FEVER_AFTER, &FEVER_AGAIN, &FEVER_ANC,
        &HEPATITIS_DAYS, &HEPATITIS_ALT, &HELLP_PLT, &HELLP_LIVER, &HELLP_LDH, &HELLP_HAPTOGLOBIN,
        &FEVER_ONCE, &FEVER_TWICE, &RET_LOW, &RET_INADEQUATE,
        &RET_REGENERATIVE, &RET_CLEARLY, &RET_HB, &RET_NADIR_LOW, &RET_NEWBORN_LOW,
        &RET_NEWBORN_HIGH, &RET_NEWBORN, &RET_NADIR, &RET_RPI_AGE, &RET_RPI, &RPI_HCT, &RPI_40,
        &RPI_30, &RPI_20,
    ]
}

/// Whether a statement held on an unbroken run, back from the index, that spans at least `limit`
/// days: two results or more; shorter and stopped by a FALSE: FALSE; shorter without one: UNKNOWN.
pub fn persists(context: &Context<'_>, limit: &Limit, statement: impl Fn(usize) -> Truth) -> Truth {
    let tuning = context.tuning();
    let needed = days(limit, tuning);
    let mut run: Option<(Date, Date, usize)> = None;
    let mut stopped = false;
    for (day, places) in days_back(context, days(&LOOK_BACK, tuning)) {
        // DQ-15: of several results of one day the better one decides.
        let decided = places
            .iter()
            .map(|place| statement(*place))
            .find(|truth| !truth.is_unknown());
        match decided {
            Some(Truth::True) => {
                let (_, last, count) = run.unwrap_or((day, day, 0));
                run = Some((day, last, count + 1));
                if count >= 1 && last - day >= needed {
                    return Truth::True;
                }
            }
            Some(_) => {
                stopped = true;
                break;
            }
            None => {}
        }
    }
    if stopped {
        Truth::False
    } else {
        Truth::Unknown
    }
}

/// Specimens up to the index, newest day first; of one day the preferred one first.
fn days_back(context: &Context<'_>, window: Duration) -> Vec<(Date, Vec<usize>)> {
    let mut result: Vec<(Date, Vec<usize>)> = Vec::new();
    let specimens = context
        .case
        .record
        .specimens
        .get(..=context.index)
        .unwrap_or_default();
    for (place, specimen) in specimens.iter().enumerate().rev() {
        if context.specimen.at.instant - specimen.at.instant > window
            || !context.remembers(specimen)
        {
            break;
        }
        if context
            .case
            .lines
            .get(place)
            .is_some_and(|lines| lines.iter().all(|line| line.reading.is_none()))
            && specimen.readings.is_empty()
        {
            continue;
        }
        match result.last_mut() {
            Some((day, places)) if *day == specimen.day() => places.push(place),
            _ => result.push((specimen.day(), vec![place])),
        }
    }
    for (_, places) in &mut result {
        places.sort_by_key(|place| {
            context
                .case
                .specimen(*place)
                .map_or((u8::MAX, true), |specimen| rank(context, specimen))
        });
    }
    result
}

fn rank(context: &Context<'_>, specimen: &Specimen) -> (u8, bool) {
    specimen
        .members
        .iter()
        .filter_map(|member| context.timeline().measurements.get(*member))
        .map(|measurement| {
            (
                super::specimen::draw_rank(measurement.draw),
                measurement.method == super::timeline::Method::PointOfCare,
            )
        })
        .min()
        .unwrap_or((u8::MAX, true))
}

/// One earlier or present result of a lineage.
struct Point<'a> {
    day: Date,
    at: OffsetDateTime,
    line: &'a Line,
    reading: &'a Reading,
}

/// Evaluable results of a lineage up to the index, oldest first, one a day.
fn results<'c>(context: &'c Context<'_>, lineage: Lineage) -> Vec<Point<'c>> {
    let position = LINEAGES.iter().position(|one| *one == lineage).unwrap_or(0);
    let mut found: Vec<Point<'c>> = Vec::new();
    for (place, specimen) in context.case.record.specimens.iter().enumerate() {
        if place > context.index || !context.remembers(specimen) {
            continue;
        }
        let line = context
            .case
            .lines
            .get(place)
            .and_then(|lines| lines.get(position));
        if let Some(line) = line
            && let Some(reading) = &line.reading
            && !reading.bounded
        {
            if found.last().is_some_and(|last| last.day == specimen.day()) {
                found.pop();
            }
            found.push(Point {
                day: specimen.day(),
                at: specimen.at.instant,
                line,
                reading,
            });
        }
    }
    found
}

fn earlier<'r, 'c>(context: &Context<'_>, all: &'r [Point<'c>]) -> &'r [Point<'c>] {
    match all.last() {
        Some(last) if last.day == context.specimen.day() => {
            all.get(..all.len() - 1).unwrap_or_default()
        }
        _ => all,
    }
}

fn is(reading: &Reading, below: Decimal) -> Truth {
    reading.interval.is_below(below)
}

/// Derives a token from the series; what cannot be derived was not sent.
pub fn token(context: &Context<'_>, token: &str) -> Answer {
    let given = |other: &str| context.facts().get(other).is_some_and(Truth::is_true);
    let known = |truth: bool| {
        if truth {
            Answer::from(true)
        } else {
            Answer::NOT_SENT
        }
    };
    match token {
        "chemo_42" => known(given("chemo_21")),
        "hsct_recent" => known(given("hsct_28")),
        "chronic_liver" => known(given("cirrhosis")),
        "rbc_transfusion_120d" => known(context.transfused()),
        "known_stable" => known_stable(context),
        "known_stable_E" => known_stable_lineage(context, Lineage::Erythroid),
        "known_stable_N" => known_stable_lineage(context, Lineage::Neutrophil),
        "known_stable_P" => known_stable_lineage(context, Lineage::Platelet),
        "first_low" => first_low(context),
        "anc_falling" => anc_falling(context),
        "anc_stable" => anc_stable(context),
        "anc_recovers" => anc_recovers(context),
        "neutropenia_past" => neutropenia_past(context),
        "prev_normal" => {
            let low: Vec<Lineage> = LINEAGES
                .into_iter()
                .filter(|lineage| context.line(*lineage).low.is_true())
                .collect();
            if low.is_empty() {
                return Answer::NOT_SENT;
            }
            Answer {
                truth: Truth::all(
                    low.into_iter()
                        .map(|lineage| prev_normal(context, lineage).truth),
                ),
                not_sent: true,
            }
        }
        "prev_normal_hb" => prev_normal(context, Lineage::Erythroid),
        "prev_normal_plt" => prev_normal(context, Lineage::Platelet),
        "onset_birth" => onset_birth(context),
        "onset_lt6mo" => onset_lt6mo(context),
        "onset_gt3y" => onset_gt3y(context),
        "plt_low_since_birth" => plt_low_since_birth(context),
        "plt_recovered" => plt_recovered(context),
        "itp_response" => itp_response(context),
        "gcsf_refractory" => gcsf_refractory(context),
        "recovered_hb" => recovered_or(context, recovered_hb),
        "recovered_anc" => recovered_or(context, recovered_anc),
        "recovered" => recovered(context),
        "clumped" => context.specimen.clumped.into(),
        "cycle" | "cycle_partial" | "cycle_deep" => cycle_token(context, token),
        "late_recovery" => late_recovery(context),
        "predates" => predates(context),
        "drug_timing" => drug_timing(context),
        "mono_persist" => mono_persist(context),
        "fever" => fever(context),
        "hbf_high" => hbf(context),
        "hepatitis_recent" => hepatitis(context),
        "hellp_labs" => hellp(context),
        "arc_manual" => match context.sent(Analyte::Arc) {
            Sent::Value(reading, _) => {
                known(context.measurement(reading).is_some_and(|measurement| {
                    measurement.method == super::timeline::Method::Manual
                }))
            }
            _ => Answer::NOT_SENT,
        },
        _ => Answer::NOT_SENT,
    }
}

/// Diagnoses that explain a lastingly low lineage, and findings that do. A diagnosis of one line
/// must not quieten another one.
const CAUSES: [(&str, &[Lineage]); 24] = {
    use Lineage::{Erythroid as E, Neutrophil as N, Platelet as P};
    [
        ("dx:aplastic_anaemia", &[E, N, P]),
        ("dx:ibmf_unspecified", &[E, N, P]),
        ("dx:fanconi", &[E, N, P]),
        ("dx:telomere", &[E, N, P]),
        ("dx:mds", &[E, N, P]),
        ("dx:pnh", &[E, N, P]),
        ("dx:sds", &[E, N, P]),
        ("dx:gata2", &[E, N, P]),
        ("dx:hypersplenism", &[E, N, P]),
        ("dx:dba", &[E]),
        ("dx:cda", &[E]),
        ("dx:sideroblastic", &[E]),
        ("dx:prca", &[E]),
        ("dx:ckd", &[E]),
        ("dx:anaemia_chronic", &[E]),
        ("dx:itp", &[P]),
        ("dx:hereditary_thrombocytopenia", &[P]),
        ("dx:autoimmune_neutropenia", &[N]),
        ("dx:duffy_null_neutropenia", &[N]),
        ("dx:scn", &[N]),
        ("cirrhosis", &[E, N, P]),
        ("portal_htn", &[N, P]),
        ("splenomegaly", &[N, P]),
        ("alcohol", &[E, P]),
    ]
};

fn known_stable(context: &Context<'_>) -> Answer {
    let low: Vec<&str> = LINEAGES
        .into_iter()
        .filter(|lineage| context.line(*lineage).low.is_true())
        .map(|lineage| match lineage {
            Lineage::Erythroid => "known_stable_E",
            Lineage::Neutrophil => "known_stable_N",
            Lineage::Platelet => "known_stable_P",
        })
        .collect();
    if low.is_empty() {
        return Answer::NOT_SENT;
    }
    Answer {
        truth: Truth::all(low.into_iter().map(|token| context.token(token).truth)),
        not_sent: true,
    }
}

fn known_stable_lineage(context: &Context<'_>, lineage: Lineage) -> Answer {
    let line = context.line(lineage);
    if !line.low.is_true() {
        return Answer::NOT_SENT;
    }
    let (from, to) = (
        days(&STABLE_FROM, context.tuning()),
        days(&STABLE_TO, context.tuning()),
    );
    let all = results(context, lineage);
    let before = earlier(context, &all).iter().rev().find(|result| {
        let age = context.specimen.day() - result.day;
        age >= from && age <= to && result.line.low.is_true() && result.line.mildest >= line.worst
    });
    let Some(before) = before else {
        return Answer::NOT_SENT;
    };
    let cause = CAUSES
        .iter()
        .filter(|(_, lineages)| lineages.contains(&lineage))
        .any(|(token, _)| context.facts().is_confirmed(token, before.at))
        || context
            .facts()
            .get(acknowledged(lineage))
            .is_some_and(Truth::is_true);
    if cause { true.into() } else { Answer::NOT_SENT }
}

/// The token by which the life cycle says that a clinician called this lineage known.
pub fn acknowledged(lineage: Lineage) -> &'static str {
    match lineage {
        Lineage::Erythroid => "acknowledged_E",
        Lineage::Neutrophil => "acknowledged_N",
        Lineage::Platelet => "acknowledged_P",
    }
}

fn first_low(context: &Context<'_>) -> Answer {
    let window = days(&FIRST_LOW, context.tuning());
    let mut known = false;
    for lineage in LINEAGES {
        if !context.line(lineage).low.is_true() {
            continue;
        }
        let all = results(context, lineage);
        let Some(normal) = all.iter().rposition(|result| result.line.low.is_false()) else {
            continue;
        };
        known = true;
        let first = all
            .get(normal + 1..)
            .unwrap_or_default()
            .iter()
            .find(|result| result.line.low.is_true());
        if first.is_some_and(|first| context.specimen.day() - first.day < window) {
            return true.into();
        }
    }
    if known {
        false.into()
    } else {
        Answer::NOT_SENT
    }
}

/// The first low result of the present run, and whether a non-low one precedes it.
fn run_start<'r, 'c>(all: &'r [Point<'c>]) -> Option<(&'r Point<'c>, bool)> {
    let normal = all.iter().rposition(|result| result.line.low.is_false());
    let start = normal.map_or(0, |normal| normal + 1);
    let first = all
        .get(start..)?
        .iter()
        .find(|result| result.line.low.is_true())?;
    Some((first, normal.is_some()))
}

fn prev_normal(context: &Context<'_>, lineage: Lineage) -> Answer {
    let all = results(context, lineage);
    let Some(first) = all.iter().find(|result| result.line.low.is_true()) else {
        return Answer::NOT_SENT;
    };
    // The first low one of the present run: a normal result between two episodes counts.
    let first = run_start(&all).map_or(first, |(first, _)| first);
    let window = days(&NORMAL_DAYS, context.tuning());
    let old_enough = |day: Date| {
        lineage != Lineage::Erythroid
            || ages_on(context, day)
                .is_some_and(|ages| ages.young.reaches(&SIX_MONTHS, context.tuning()))
    };
    let normal = all.iter().any(|result| {
        result.day < first.day
            && first.day - result.day <= window
            && result.line.low.is_false()
            && old_enough(result.day)
    });
    if normal {
        true.into()
    } else {
        Answer::NOT_SENT
    }
}

fn ages_on(context: &Context<'_>, day: Date) -> Option<Ages> {
    Ages::new(context.timeline().person.birth?, day)
}

fn anc_falling(context: &Context<'_>) -> Answer {
    let tuning = context.tuning();
    let Sent::Value(now, _) = context.at_index(Analyte::Anc) else {
        return Answer::NOT_SENT;
    };
    let Some(now) = now.interval.anchor().filter(|_| !now.bounded) else {
        return Answer::NOT_SENT;
    };
    let window = days(&FALLING_DAYS, tuning);
    let all = results(context, Lineage::Neutrophil);
    let mut values: Vec<Decimal> = earlier(context, &all)
        .iter()
        .filter(|result| context.specimen.day() - result.day <= window)
        .filter_map(|result| result.reading.interval.anchor())
        .collect();
    if Decimal::from(values.len()) < tuning.value(&FALLING_COUNT) {
        return Answer::NOT_SENT;
    }
    values.sort_unstable();
    let Some(median) = median(&values) else {
        return Answer::NOT_SENT;
    };
    (now * Decimal::ONE_HUNDRED <= median * tuning.value(&FALLING_RATIO)).into()
}

fn median(sorted: &[Decimal]) -> Option<Decimal> {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted.get(middle).copied()
    } else {
        Some((sorted.get(middle.checked_sub(1)?)? + sorted.get(middle)?) / Decimal::TWO)
    }
}

fn anc_stable(context: &Context<'_>) -> Answer {
    let tuning = context.tuning();
    let all = results(context, Lineage::Neutrophil);
    let (Some(first), Some(last)) = (all.first(), all.last()) else {
        return Answer::NOT_SENT;
    };
    let inside = Truth::all(all.iter().map(|result| {
        let interval = &result.reading.interval;
        (!interval.is_below(tuning.value(&STABLE_ANC_LOW)))
            .and(!interval.is_above(tuning.value(&STABLE_ANC_HIGH)))
    }));
    if inside.is_false() {
        return false.into();
    }
    if all.len() >= 2 && last.day - first.day >= days(&STABLE_ANC_DAYS, tuning) {
        inside.into()
    } else {
        Answer::NOT_SENT
    }
}

fn anc_recovers(context: &Context<'_>) -> Answer {
    let tuning = context.tuning();
    let all = results(context, Lineage::Neutrophil);
    let deep = |result: &Point<'_>| is(result.reading, tuning.value(&DEEP_ANC)).is_true();
    let (Some(first), Some(last)) = (all.iter().position(deep), all.iter().rposition(deep)) else {
        return Answer::NOT_SENT;
    };
    let between = all.get(first..last).unwrap_or_default();
    let well = between.iter().any(|result| {
        is(result.reading, tuning.value(&ONCE_ANC)).is_false()
            && !facts::at(context.timeline(), result.at)
                .get("fever")
                .is_some_and(Truth::is_true)
    });
    if well { true.into() } else { Answer::NOT_SENT }
}

fn neutropenia_past(context: &Context<'_>) -> Answer {
    let tuning = context.tuning();
    let all = results(context, Lineage::Neutrophil);
    let before = earlier(context, &all);
    if before.iter().any(|result| result.line.low.is_true()) {
        return true.into();
    }
    let mut apart = 0_i64;
    let mut last: Option<Date> = None;
    for result in before.iter().filter(|result| result.line.low.is_false()) {
        if last.is_none_or(|last| result.day - last >= days(&PAST_DAYS, tuning)) {
            apart += 1;
            last = Some(result.day);
        }
    }
    if Decimal::from(apart) >= tuning.value(&PAST_RESULTS)
        && before.iter().all(|result| result.line.low.is_false())
    {
        false.into()
    } else {
        // Intermittent: what was not seen is not known, even when nothing was sent.
        Answer::UNDECIDED
    }
}

fn onset_birth(context: &Context<'_>) -> Answer {
    let tuning = context.tuning();
    let hit = results(context, Lineage::Neutrophil).iter().any(|result| {
        result.line.low.is_true()
            && ages_on(context, result.day)
                .is_some_and(|ages| Decimal::from(ages.old.days()) <= tuning.value(&BIRTH_ANC))
    });
    if hit { true.into() } else { Answer::NOT_SENT }
}

fn onset_lt6mo(context: &Context<'_>) -> Answer {
    let tuning = context.tuning();
    let hit = results(context, Lineage::Neutrophil).iter().any(|result| {
        is(result.reading, tuning.value(&DEEP_ANC)).is_true()
            && ages_on(context, result.day)
                .is_some_and(|ages| !ages.old.reaches(&SIX_MONTHS, tuning))
    });
    if hit { true.into() } else { Answer::NOT_SENT }
}

fn onset_gt3y(context: &Context<'_>) -> Answer {
    let tuning = context.tuning();
    let all = results(context, Lineage::Neutrophil);
    let Some(first) = all
        .iter()
        .find(|result| is(result.reading, tuning.value(&DEEP_ANC)).is_true())
    else {
        return Answer::NOT_SENT;
    };
    let late =
        ages_on(context, first.day).is_some_and(|ages| ages.young.reaches(&THREE_YEARS, tuning));
    let normal = all.iter().any(|result| {
        result.day < first.day
            && is(result.reading, tuning.value(&ONCE_ANC)).is_false()
            && ages_on(context, result.day)
                .is_some_and(|ages| ages.young.reaches(&SIX_MONTHS, tuning))
    });
    if late && normal {
        true.into()
    } else {
        Answer::NOT_SENT
    }
}

fn plt_low_since_birth(context: &Context<'_>) -> Answer {
    let tuning = context.tuning();
    let all = results(context, Lineage::Platelet);
    let (Some(first), Some(last)) = (all.first(), all.last()) else {
        return Answer::NOT_SENT;
    };
    let newborn = ages_on(context, first.day)
        .is_some_and(|ages| Decimal::from(ages.old.days()) <= tuning.value(&BIRTH_PLT));
    if all.iter().any(|result| result.line.low.is_false()) {
        return if newborn {
            false.into()
        } else {
            Answer::NOT_SENT
        };
    }
    let hit = newborn
        && all.iter().all(|result| result.line.low.is_true())
        && last.day - first.day >= days(&BIRTH_PLT_SPAN, tuning);
    if hit { true.into() } else { Answer::NOT_SENT }
}

fn plt_recovered(context: &Context<'_>) -> Answer {
    let tuning = context.tuning();
    let all = results(context, Lineage::Platelet);
    let low = all
        .iter()
        .position(|result| is(result.reading, tuning.value(&RECOVERED_PLT_LOW)).is_true());
    let Some(low) = low else {
        return Answer::NOT_SENT;
    };
    let window = days(&RECOVERED_PLT_DAYS, tuning);
    let hit = all.get(low..).unwrap_or_default().iter().any(|result| {
        is(result.reading, tuning.value(&RECOVERED_PLT)).is_false()
            && !facts::happened(context.timeline(), "plt_transfusion", result.at, window)
            && !facts::happened(context.timeline(), "ivig", result.at, window)
    });
    if hit { true.into() } else { Answer::NOT_SENT }
}

/// Platelets 30 and more, and doubled, within four weeks of immunoglobulin or a steroid.
fn itp_response(context: &Context<'_>) -> Answer {
    let tuning = context.tuning();
    let all = results(context, Lineage::Platelet);
    let window = days(&RESPONSE_DAYS, tuning);
    let responded = ["ivig", "steroid"]
        .iter()
        .flat_map(|token| context.facts().of(token))
        .filter(|fact| fact.truth.is_true())
        .filter_map(|fact| fact.from)
        .any(|start| {
            let before = all.iter().rev().find(|result| result.at <= start);
            let Some(before) = before.and_then(|result| result.reading.interval.as_exact()) else {
                return false;
            };
            let Some(doubled) = before.checked_mul(Decimal::TWO) else {
                return false;
            };
            let enough = doubled.max(tuning.value(&RESPONSE_PLT));
            all.iter().any(|result| {
                result.at > start
                    && result.at - start <= window
                    && is(result.reading, enough).is_false()
                    && !facts::happened_between(
                        context.timeline(),
                        &["plt_transfusion"],
                        start,
                        result.at,
                    )
            })
        });
    if responded {
        true.into()
    } else {
        Answer::NOT_SENT
    }
}

/// Neutrophils below 0.5 before a growth factor and on every result one to four weeks after its
/// start.
fn gcsf_refractory(context: &Context<'_>) -> Answer {
    let tuning = context.tuning();
    let deep = tuning.value(&DEEP_ANC);
    let all = results(context, Lineage::Neutrophil);
    let first = ["gcsf", "gcsf_peg"]
        .iter()
        .flat_map(|token| context.facts().of(token))
        .filter(|fact| fact.truth.is_true())
        .filter_map(|fact| fact.from)
        .min();
    let Some(first) = first else {
        return Answer::NOT_SENT;
    };
    let low_before = all
        .iter()
        .rev()
        .find(|result| result.at <= first)
        .is_some_and(|result| is(result.reading, deep).is_true());
    let after: Vec<Truth> = all
        .iter()
        .filter(|result| {
            let since = result.at - first;
            since >= days(&GCSF_ACTS, tuning) && since <= days(&RESPONSE_DAYS, tuning)
        })
        .map(|result| is(result.reading, deep))
        .collect();
    if !low_before || after.is_empty() {
        return Answer::NOT_SENT;
    }
    after.into_iter().fold(Truth::True, Truth::and).into()
}

/// Recovery as stated, else as the counts show it.
fn recovered_or(context: &Context<'_>, shown: fn(&Context<'_>) -> bool) -> Answer {
    match context.facts().get("recovered") {
        Some(stated) => stated.into(),
        None if shown(context) => true.into(),
        None => Answer::NOT_SENT,
    }
}

/// Haemoglobin back within its limit, or reticulocytes from below 25 to 75 and more, within 60 d
/// of the first low haemoglobin and without transfusion.
fn recovered_hb(context: &Context<'_>) -> bool {
    let tuning = context.tuning();
    let window = days(&RECOVERED_HB_DAYS, tuning);
    let red = results(context, Lineage::Erythroid);
    let Some(first) = red.iter().find(|result| result.line.low.is_true()) else {
        return false;
    };
    let transfused = facts::happened_between(
        context.timeline(),
        &["rbc_transfusion"],
        first.at,
        context.specimen.at.instant,
    ) || context.transfused();
    let back = red.iter().any(|result| {
        result.day > first.day && result.day - first.day <= window && result.line.low.is_false()
    });
    let reticulocytes: Vec<(Date, Truth, Truth)> = context
        .case
        .places(Analyte::Arc)
        .iter()
        .filter_map(|place| context.case.specimen(*place))
        .filter(|specimen| specimen.at <= context.specimen.at)
        .filter_map(|specimen| {
            let reading = specimen.get(Analyte::Arc)?;
            Some((
                specimen.day(),
                is(reading, tuning.value(&RECOVERED_ARC_LOW)),
                !is(reading, tuning.value(&RECOVERED_ARC)),
            ))
        })
        .collect();
    let rising = reticulocytes.iter().any(|(low_day, low, _)| {
        low.is_true()
            && reticulocytes
                .iter()
                .any(|(day, _, high)| day > low_day && *day - first.day <= window && high.is_true())
    });
    !transfused && (back || rising)
}

/// Neutrophils 1.5 and more on two results a week apart, after a low one.
fn recovered_anc(context: &Context<'_>) -> bool {
    let well = context.tuning().value(&ONCE_ANC);
    came_back(context, Lineage::Neutrophil, |result| {
        is(result.reading, well).is_false()
    })
}

/// Any lineage not low on two results a week apart, after a low one; at the index it may be low
/// anew.
fn recovered(context: &Context<'_>) -> Answer {
    let back = LINEAGES
        .into_iter()
        .any(|lineage| came_back(context, lineage, |result| result.line.low.is_false()));
    if back { true.into() } else { Answer::NOT_SENT }
}

fn came_back(
    context: &Context<'_>,
    lineage: Lineage,
    is_back: impl Fn(&Point<'_>) -> bool,
) -> bool {
    let all = results(context, lineage);
    let Some(first) = all.iter().position(|result| result.line.low.is_true()) else {
        return false;
    };
    let well: Vec<Date> = all
        .get(first..)
        .unwrap_or_default()
        .iter()
        .filter(|result| is_back(result))
        .map(|result| result.day)
        .collect();
    well.first()
        .zip(well.last())
        .is_some_and(|(one, two)| *two - *one >= days(&RECOVERED_ANC_DAYS, context.tuning()))
}

/// The series of neutrophils that [`cycle::evaluate`] looks at: one a day, of the last year,
/// without what a growth factor or cytotoxic drugs have bent.
pub fn cycle(context: &Context<'_>) -> cycle::Cycle {
    let tuning = context.tuning();
    let last = context.specimen.day();
    let bent = |at: OffsetDateTime| {
        [
            ("gcsf", &CYCLE_GCSF),
            ("gcsf_peg", &CYCLE_GCSF_PEG),
            ("chemo", &CYCLE_CHEMO),
        ]
        .into_iter()
        .any(|(token, window)| facts::happened(context.timeline(), token, at, days(window, tuning)))
    };
    let samples: Vec<cycle::Sample> = results(context, Lineage::Neutrophil)
        .iter()
        .filter(|result| last - result.day <= days(&CYCLE_DAYS, tuning) && !bent(result.at))
        .filter_map(|result| {
            Some(cycle::Sample {
                day: result.day.to_julian_day(),
                anc: representative(&result.reading.interval)?,
            })
        })
        .collect();
    cycle::evaluate(&samples)
}

/// Whether a low lineage has stayed low since the first four weeks of life, on two results or more
/// and beyond that age: then it is no passing trouble of the newborn.
pub fn low_since_newborn(context: &Context<'_>) -> Truth {
    let limit = context.tuning().value(&BIRTH_ANC);
    let age = |day: Date| ages_on(context, day).map(|ages| Decimal::from(ages.old.days()));
    let beyond = age(context.specimen.day()).is_some_and(|age| age > limit);
    let stayed = [Lineage::Neutrophil, Lineage::Platelet]
        .into_iter()
        .filter(|lineage| context.line(*lineage).low.is_true())
        .any(|lineage| {
            let low: Vec<Date> = results(context, lineage)
                .iter()
                .filter(|result| result.line.low.is_true())
                .map(|result| result.day)
                .collect();
            low.len() >= 2
                && low
                    .first()
                    .and_then(|first| age(*first))
                    .is_some_and(|age| age <= limit)
        });
    (beyond && stayed).into()
}

/// `<x` counts as half of x, `>x` as x.
fn representative(interval: &Interval) -> Option<Decimal> {
    interval
        .as_exact()
        .or_else(|| match (interval.low, interval.high) {
            (_, Some(high)) => high.value.checked_div(Decimal::TWO),
            (Some(low), None) => Some(low.value),
            (None, None) => None,
        })
}

fn cycle_token(context: &Context<'_>, token: &str) -> Answer {
    let cycle = context.cycle();
    match token {
        "cycle_partial" => (cycle.status == cycle::Status::Partial).into(),
        "cycle_deep" => (cycle.deep > 0).into(),
        _ => match cycle.status {
            cycle::Status::Met => true.into(),
            cycle::Status::Partial => Answer::UNDECIDED,
            cycle::Status::Indeterminate if cycle.episodes.len() >= 2 => Answer::UNDECIDED,
            cycle::Status::Indeterminate | cycle::Status::NotMet => false.into(),
        },
    }
}

fn late_recovery(context: &Context<'_>) -> Answer {
    let tuning = context.tuning();
    let given = |token: &str| context.token(token).truth.is_true();
    if given("chemo_42") || !(given("rt_60") || given("hsct_recent")) {
        return Answer::NOT_SENT;
    }
    let last_dose = context
        .facts()
        .of("chemo")
        .filter(|fact| fact.truth.is_true())
        .filter_map(|fact| fact.until.or(fact.from))
        .max();
    let Some(last_dose) = last_dose else {
        return Answer::NOT_SENT;
    };
    if context.specimen.at.instant - last_dose <= days(&LATE_DAYS, tuning) {
        return Answer::NOT_SENT;
    }
    let recovered = results(context, Lineage::Neutrophil).iter().any(|result| {
        result.at > last_dose && is(result.reading, tuning.value(&LATE_ANC)).is_false()
    });
    (!recovered).into()
}

const EXPOSURES: [&str; 12] = [
    "chemo",
    "chemo_21",
    "chemo_42",
    "rt",
    "rt_60",
    "hsct",
    "hsct_recent",
    "drug_high",
    "drug_other",
    "tox_benzene",
    "tox_pesticide",
    "rad_accident",
];

fn predates(context: &Context<'_>) -> Answer {
    let mut starts: Vec<OffsetDateTime> = EXPOSURES
        .iter()
        .flat_map(|token| context.facts().of(token))
        .filter(|fact| fact.truth.is_true())
        .filter_map(|fact| fact.from)
        .collect();
    starts.extend(
        context
            .timeline()
            .pregnancies
            .iter()
            .filter(|pregnancy| pregnancy.until.is_none())
            .map(|pregnancy| {
                pregnancy
                    .from
                    .midnight()
                    .assume_offset(context.specimen.at.instant.offset())
            }),
    );
    let Some(start) = starts.into_iter().min() else {
        return Answer::NOT_SENT;
    };
    let before = LINEAGES.into_iter().any(|lineage| {
        context.line(lineage).low.is_true()
            && results(context, lineage)
                .iter()
                .any(|result| result.at < start && result.line.low.is_true())
    });
    if before {
        true.into()
    } else {
        Answer::NOT_SENT
    }
}

fn drug_timing(context: &Context<'_>) -> Answer {
    let tuning = context.tuning();
    let starts: Vec<OffsetDateTime> = ["drug_high", "drug_other"]
        .iter()
        .flat_map(|token| context.facts().of(token))
        .filter(|fact| fact.truth.is_true())
        .filter_map(|fact| fact.from)
        .collect();
    let hit = LINEAGES.into_iter().any(|lineage| {
        let all = results(context, lineage);
        let Some(first) = all.iter().find(|result| result.line.low.is_true()) else {
            return false;
        };
        context.line(lineage).low.is_true()
            && starts.iter().any(|start| {
                let after = first.at - *start;
                after >= days(&TIMING_FROM, tuning) && after <= days(&TIMING_TO, tuning)
            })
    });
    if hit { true.into() } else { Answer::NOT_SENT }
}

fn mono_persist(context: &Context<'_>) -> Answer {
    let tuning = context.tuning();
    let high: Vec<Date> = context
        .case
        .places(Analyte::Amc)
        .iter()
        .filter(|place| **place <= context.index)
        .filter_map(|place| context.case.specimen(*place))
        .filter(|specimen| {
            let Some(reading) = specimen.get(Analyte::Amc) else {
                return false;
            };
            let limit = ages_on(context, specimen.day()).map(|ages| {
                if ages.young.has_years(1) {
                    tuning.value(&MONO_OLD)
                } else if ages.young.days() >= 60 {
                    tuning.value(&MONO_INFANT)
                } else {
                    tuning.value(&MONO_NEWBORN)
                }
            });
            limit.is_some_and(|limit| reading.interval.is_below(limit).is_false())
        })
        .map(Specimen::day)
        .collect();
    match (high.first(), high.last()) {
        (Some(first), Some(last))
            if *last == context.specimen.day() && *last - *first >= days(&MONO_DAYS, tuning) =>
        {
            true.into()
        }
        _ => Answer::NOT_SENT,
    }
}

fn fever(context: &Context<'_>) -> Answer {
    let tuning = context.tuning();
    let index = context.specimen.at.instant;
    let hours =
        |limit: &Limit| Duration::hours(i64::try_from(tuning.value(limit)).unwrap_or_default());
    let first = index - hours(&FEVER_BEFORE);
    // Until the next ANC that would end the danger, at most a week.
    let next = context
        .case
        .places(Analyte::Anc)
        .iter()
        .filter(|place| **place > context.index)
        .filter_map(|place| context.case.specimen(*place))
        .find(|specimen| {
            specimen
                .get(Analyte::Anc)
                .is_some_and(|reading| is(reading, tuning.value(&FEVER_ANC)).is_false())
        })
        .map(|specimen| specimen.at.instant);
    let last = next
        .unwrap_or(index + days(&FEVER_AFTER, tuning))
        .min(index + days(&FEVER_AFTER, tuning));
    let mut warm: Vec<OffsetDateTime> = Vec::new();
    let mut measured = false;
    for measurement in &context.timeline().measurements {
        if measurement.analyte != Analyte::Temperature || measurement.unusable.is_some() {
            continue;
        }
        let (Some(value), Some(at)) = (measurement.value, measurement.at) else {
            continue;
        };
        if at.instant < first || at.instant > last {
            continue;
        }
        measured = true;
        if value.is_below(tuning.value(&FEVER_ONCE)).is_false() {
            return true.into();
        }
        if value.is_below(tuning.value(&FEVER_TWICE)).is_false() {
            warm.push(at.instant);
        }
    }
    warm.sort_unstable();
    let twice = warm.iter().any(|one| {
        warm.iter().any(|two| {
            let apart = *two - *one;
            apart >= hours(&FEVER_AGAIN) && apart <= Duration::hours(24)
        })
    });
    if twice {
        true.into()
    } else if measured {
        false.into()
    } else {
        Answer::NOT_SENT
    }
}

fn hbf(context: &Context<'_>) -> Answer {
    let tuning = context.tuning();
    let (Sent::Value(reading, specimen), true) =
        (context.sent(Analyte::HbF), context.ages.is_some())
    else {
        return Answer::NOT_SENT;
    };
    let Some(age) = ages_on(context, specimen.day()).map(|ages| ages.young) else {
        return Answer::NOT_SENT;
    };
    let limit = if age.has_months(24) {
        &HBF_24
    } else if age.has_months(12) {
        &HBF_12
    } else if age.has_months(6) {
        &HBF_6
    } else {
        return Answer::NOT_SENT;
    };
    reading.interval.is_above(tuning.value(limit)).into()
}

fn hepatitis(context: &Context<'_>) -> Answer {
    let tuning = context.tuning();
    let window = days(&HEPATITIS_DAYS, tuning);
    let hit = context
        .case
        .places(Analyte::Alt)
        .iter()
        .filter_map(|place| context.case.specimen(*place))
        .filter(|specimen| {
            let age = context.specimen.at.instant - specimen.at.instant;
            age >= Duration::ZERO && age <= window
        })
        .filter_map(|specimen| specimen.get(Analyte::Alt))
        .any(|reading| {
            context
                .measurement(reading)
                .and_then(|measurement| measurement.upper_limit)
                .and_then(|upper| upper.checked_mul(tuning.value(&HEPATITIS_ALT)))
                .is_some_and(|limit| reading.interval.is_above(limit).is_true())
        });
    if hit { true.into() } else { Answer::NOT_SENT }
}

/// Low platelets, liver enzymes at twice their upper limit and haemolysis, from the numbers (4.7).
/// TRUE or open: what is not there cannot speak against it.
fn hellp(context: &Context<'_>) -> Answer {
    let tuning = context.tuning();
    let test = |analyte, holds: &dyn Fn(&Reading) -> Truth| match context.sent(analyte) {
        Sent::Value(reading, _) => holds(reading),
        Sent::Unusable | Sent::No => Truth::Unknown,
    };
    let below = |analyte, limit| {
        test(analyte, &|reading| {
            reading.interval.is_below(tuning.value(limit))
        })
    };
    let liver = |analyte| {
        test(analyte, &|reading| {
            let upper = context
                .measurement(reading)
                .and_then(|measurement| measurement.upper_limit);
            upper
                .and_then(|upper| upper.checked_mul(tuning.value(&HELLP_LIVER)))
                .map_or(Truth::Unknown, |limit| !reading.interval.is_below(limit))
        })
    };
    let haemolysis = test(Analyte::Ldh, &|reading| {
        !reading.interval.is_below(tuning.value(&HELLP_LDH))
    });
    let truth = Truth::all([
        below(Analyte::Platelets, &HELLP_PLT),
        Truth::any([liver(Analyte::Alt), liver(Analyte::Ast)]),
        Truth::any([haemolysis, below(Analyte::Haptoglobin, &HELLP_HAPTOGLOBIN)]),
    ]);
    if truth.is_unknown() {
        Answer::NOT_SENT
    } else {
        truth.into()
    }
}

/// Reticulocyte production index from 12 years on; not after a transfusion (0.1, 0).
pub fn rpi(context: &Context<'_>) -> Option<Decimal> {
    let tuning = context.tuning();
    if context.transfused() || !context.ages?.young.reaches(&RET_RPI_AGE, tuning) {
        return None;
    }
    let Sent::Value(percent, specimen) = context.sent(Analyte::ReticulocytePercent) else {
        return None;
    };
    let percent = percent.interval.as_exact()?;
    let hct = specimen
        .get(Analyte::Hct)
        .and_then(|reading| reading.interval.as_exact())
        .or_else(|| match context.at_index(Analyte::Hct) {
            Sent::Value(reading, _) => reading.interval.as_exact(),
            _ => None,
        })?;
    // Days by which reticulocytes leave the marrow early, per haematocrit.
    let maturation = if hct >= tuning.value(&RPI_40) {
        Decimal::ONE
    } else if hct >= tuning.value(&RPI_30) {
        Decimal::new(15, 1)
    } else if hct >= tuning.value(&RPI_20) {
        Decimal::TWO
    } else {
        Decimal::new(25, 1)
    };
    percent
        .checked_mul(hct)?
        .checked_div(tuning.value(&RPI_HCT))?
        .checked_div(maturation)
}

/// Truth of the four classes low, inadequate, intermediate, regenerative (0.2).
pub fn reticulocyte_classes(context: &Context<'_>, count: &Interval, age: &Age) -> [Truth; 4] {
    let tuning = context.tuning();
    let below = |limit: &Limit| count.is_below(tuning.value(limit));
    let from = |limit: &Limit| !count.is_below(tuning.value(limit));
    if !age.reaches(&RET_NEWBORN, tuning) {
        return [
            below(&RET_NEWBORN_LOW),
            Truth::False,
            Truth::False,
            from(&RET_NEWBORN_HIGH),
        ];
    }
    if !age.reaches(&RET_NADIR, tuning) {
        let severe = context.graded(Lineage::Erythroid, Grade::Severe);
        return [
            below(&RET_NADIR_LOW).or(below(&RET_LOW).and(severe)),
            from(&RET_LOW).and(below(&RET_INADEQUATE)).and(severe),
            Truth::False,
            from(&RET_REGENERATIVE),
        ];
    }
    if !age.reaches(&RET_RPI_AGE, tuning) {
        return [
            below(&RET_LOW),
            from(&RET_LOW).and(below(&RET_INADEQUATE)),
            from(&RET_INADEQUATE).and(below(&RET_REGENERATIVE)),
            from(&RET_REGENERATIVE),
        ];
    }
    let many = from(&RET_REGENERATIVE);
    let some = from(&RET_LOW).and(!many);
    if let Some(index) = rpi(context) {
        let answering = Truth::from(index >= tuning.value(&RET_RPI));
        return [
            below(&RET_LOW),
            some.and(!answering),
            some.and(answering).or(many.and(!answering)),
            many.and(answering),
        ];
    }
    let haemoglobin = match context.sent(Analyte::Hb) {
        Sent::Value(reading, _) => !reading.interval.is_below(tuning.value(&RET_HB)),
        _ => Truth::False,
    };
    let clearly = from(&RET_CLEARLY);
    let regenerative = clearly.or(many.and(haemoglobin));
    [
        below(&RET_LOW),
        from(&RET_LOW).and(below(&RET_INADEQUATE)),
        from(&RET_INADEQUATE)
            .and(!many)
            .or(many.and(!clearly).and(!haemoglobin)),
        regenerative,
    ]
}
