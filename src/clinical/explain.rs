//! Why a rule answered as it did: inputs, missing ones, evidence with its values, the trace. All
//! of it is read from the same trees that were evaluated.

use std::{collections::HashMap, sync::OnceLock};

use super::{
    assessment::{EvidenceLine, TraceStep},
    candidates,
    context::{Context, LINEAGES, Sent},
    evaluate::{Scope, answer},
    grade,
    limits::{Limit, Tuning},
    patterns,
    rule::{Criterion, Evidence, Input, ReticulocyteClass, Rule, Watch},
    safety,
    timeline::{Sex, Source},
    truth::Truth,
    wording,
};

/// Calls `visit` for a criterion and everything inside it.
pub fn walk(criterion: &'static Criterion, visit: &mut impl FnMut(&'static Criterion)) {
    visit(criterion);
    match criterion {
        Criterion::All(parts) | Criterion::Any(parts) | Criterion::AtLeast(_, parts) => {
            for part in *parts {
                walk(part, visit);
            }
        }
        Criterion::Not(inner)
        | Criterion::Same(inner)
        | Criterion::Undecided(inner)
        | Criterion::Surely(inner)
        | Criterion::Doubtful(inner)
        | Criterion::Optional(inner)
        | Criterion::Blocking(inner)
        | Criterion::NotBlocking(inner)
        | Criterion::Persists(inner, _) => walk(inner, visit),
        _ => {}
    }
}

/// The limits a criterion compares with.
pub fn limits_of(criterion: &'static Criterion, found: &mut Vec<&'static Limit>) {
    walk(criterion, &mut |part| match part {
        Criterion::Below(_, limit)
        | Criterion::AtMost(_, limit)
        | Criterion::Above(_, limit)
        | Criterion::NotBelow(_, limit)
        | Criterion::Younger(limit)
        | Criterion::AtAge(limit)
        | Criterion::PostPartum(limit)
        | Criterion::Persists(_, limit) => found.push(limit),
        Criterion::Between(_, low, high) => found.extend([low, high]),
        Criterion::Custom(named) => found.extend(named.limits),
        _ => {}
    });
    walk(criterion, &mut |part| {
        if let Some(Input::Within(_, days)) = input_of(part) {
            found.push(&days.0);
        }
    });
}

/// The tokens a criterion reads.
pub fn tokens_of(criterion: &'static Criterion, found: &mut Vec<&'static str>) {
    walk(criterion, &mut |part| match part {
        Criterion::Token(token) | Criterion::Refuted(token) | Criterion::NotTrue(token) => {
            found.push(token);
        }
        Criterion::AnyToken(tokens) => found.extend(*tokens),
        Criterion::Custom(named) => found.extend(named.tokens),
        _ => {}
    });
}

/// The input of a comparison.
pub fn input_of(criterion: &Criterion) -> Option<Input> {
    match criterion {
        Criterion::Below(input, _)
        | Criterion::AtMost(input, _)
        | Criterion::Above(input, _)
        | Criterion::NotBelow(input, _)
        | Criterion::Between(input, ..)
        | Criterion::Known(input)
        | Criterion::Trusted(input) => Some(*input),
        Criterion::BelowRange(analyte) | Criterion::AboveRange(analyte) => {
            Some(Input::Of(*analyte))
        }
        Criterion::Reticulocytes(_) => Some(Input::Of(super::analyte::Analyte::Arc)),
        Criterion::IsLow(lineage) | Criterion::Graded(lineage, _) => {
            Some(Input::Of(grade::analyte_of(*lineage)))
        }
        _ => None,
    }
}

/// Inputs of a criterion that leave it undecided, for the reader.
pub fn needs(criterion: &'static Criterion, context: &Context<'_>, scope: Scope) -> Vec<String> {
    let mut needs: Vec<String> = Vec::new();
    let mut add = |text: String| {
        if !needs.contains(&text) {
            needs.push(text);
        }
    };
    walk(criterion, &mut |part| match part {
        Criterion::LowLineages(_) | Criterion::OnlyLow(_) => {
            for lineage in LINEAGES {
                if context.line(lineage).low.is_unknown() {
                    add(wording::input(Input::Of(grade::analyte_of(lineage))));
                }
            }
        }
        Criterion::Token(token) => {
            if answer(part, context, scope).truth.is_unknown() {
                add(wording::token(token));
            }
        }
        Criterion::AnyToken(tokens) => {
            if answer(part, context, scope).truth.is_unknown() {
                for token in *tokens {
                    if context.token(token).truth.is_unknown() {
                        add(wording::token(token));
                    }
                }
            }
        }
        Criterion::Persists(..) => {
            if answer(part, context, scope).truth.is_unknown() {
                add("repeat count (earlier results too few or too close)".to_owned());
            }
        }
        Criterion::OfSex(_) => {
            if context.timeline().person.sex == Sex::Unknown {
                add("sex".to_owned());
            }
        }
        Criterion::DuffyNull => {
            if answer(part, context, scope).truth.is_unknown() {
                add("Duffy status".to_owned());
            }
        }
        Criterion::Custom(named) => {
            if answer(part, context, scope).truth.is_unknown() {
                for input in named.inputs {
                    add(wording::input(*input));
                }
            }
        }
        Criterion::Younger(_) | Criterion::AtAge(_) => {
            if context.ages.is_none() {
                add("age".to_owned());
            }
        }
        other => {
            if let Some(input) = input_of(other)
                && answer(other, context, scope).truth.is_unknown()
            {
                add(wording::input(input));
            }
        }
    });
    needs
}

/// Inputs of evidence lines that were not received and would count.
pub fn not_received(rule: &'static Rule, context: &Context<'_>) -> Vec<String> {
    let mut missing = needs(&rule.gate, context, Scope::GATE);
    for line in rule.evidence.iter().chain(rule.excluding) {
        walk(&line.when, &mut |part| {
            if let Some(input) = input_of(part)
                && matches!(context.input(input), (Sent::No, None))
            {
                let name = wording::input(input);
                if !missing.contains(&name) {
                    missing.push(name);
                }
            }
        });
    }
    missing
}

/// An evidence line with the values and sources it rests on.
pub fn evidence(line: &'static Evidence, points: i32, context: &Context<'_>) -> EvidenceLine {
    let mut values: Vec<String> = Vec::new();
    let mut sources: Vec<Source> = Vec::new();
    walk(&line.when, &mut |part| {
        if let Some(input) = input_of(part)
            && let (Sent::Value(reading, _), Some(interval)) = context.input(input)
            && !answer(part, context, Scope::PLAIN).truth.is_false()
        {
            let text = match input {
                Input::TimesUpperLimit(analyte) => format!(
                    "{} {} x upper limit",
                    wording::short(analyte),
                    wording::interval(&interval, super::analyte::Analyte::ReticulocytePercent)
                ),
                _ => wording::value(reading.analyte, &reading.interval),
            };
            if !values.contains(&text) {
                values.push(text);
                sources.extend(reading.from.iter().filter_map(|position| {
                    Some(
                        context
                            .timeline()
                            .measurements
                            .get(*position)?
                            .source
                            .clone(),
                    )
                }));
            }
        }
        let tokens: &[&str] = match part {
            Criterion::Token(token) => std::slice::from_ref(token),
            Criterion::AnyToken(tokens) => tokens,
            _ => &[],
        };
        for token in tokens {
            if context.token(token).truth.is_true() {
                sources.extend(context.facts().sources(token));
            }
        }
    });
    let text = if values.is_empty() {
        line.text.to_owned()
    } else {
        format!("{} ({})", line.text, values.join(", "))
    };
    EvidenceLine {
        points,
        text,
        sources,
    }
}

/// A criterion in words, with its numbers.
pub fn words(criterion: &Criterion, tuning: &Tuning) -> String {
    let limit = |limit: &Limit| {
        let unit = match limit.unit {
            "a" => " years",
            "mo" => " months",
            "d" => " d",
            "1" => "",
            "10*9/L" => " x10^9/L",
            other => return format!("{} {other}", tuning.value(limit)),
        };
        format!("{}{unit}", tuning.value(limit))
    };
    let list = |parts: &[Criterion], glue: &str| {
        let parts: Vec<String> = parts.iter().map(|part| words(part, tuning)).collect();
        format!("({})", parts.join(glue))
    };
    match criterion {
        Criterion::All(parts) => list(parts, " AND "),
        Criterion::Any(parts) => list(parts, " OR "),
        Criterion::AtLeast(k, parts) => format!("at least {k} of {}", list(parts, ", ")),
        Criterion::Not(inner) => format!("not {}", words(inner, tuning)),
        Criterion::Same(inner) => words(inner, tuning),
        Criterion::Undecided(inner) => format!("undecided: {}", words(inner, tuning)),
        Criterion::Surely(inner) => format!("surely {}", words(inner, tuning)),
        Criterion::Doubtful(inner) => format!("(UNKNOWN if {})", words(inner, tuning)),
        Criterion::Optional(inner) => format!("{} [not sent: FALSE]", words(inner, tuning)),
        Criterion::Blocking(inner) => format!("{} [not sent: UNKNOWN]", words(inner, tuning)),
        Criterion::NotBlocking(inner) => format!("{} [not sent: met]", words(inner, tuning)),
        Criterion::Below(input, bound) => format!("{} <{}", input_words(*input), limit(bound)),
        Criterion::AtMost(input, bound) => format!("{} <={}", input_words(*input), limit(bound)),
        Criterion::Above(input, bound) => format!("{} >{}", input_words(*input), limit(bound)),
        Criterion::NotBelow(input, bound) => format!("{} >={}", input_words(*input), limit(bound)),
        Criterion::Between(input, low, high) => format!(
            "{} from {} to <{}",
            input_words(*input),
            limit(low),
            limit(high)
        ),
        Criterion::Known(input) => format!("{} known", input_words(*input)),
        Criterion::Trusted(input) => format!("{} not suspect", input_words(*input)),
        Criterion::BelowRange(analyte) => {
            format!("{} below the limit for age", wording::short(*analyte))
        }
        Criterion::AboveRange(analyte) => {
            format!("{} above the limit for age", wording::short(*analyte))
        }
        Criterion::Younger(bound) => format!("age <{}", limit(bound)),
        Criterion::AtAge(bound) => format!("age >={}", limit(bound)),
        Criterion::OfSex(Sex::Male) => "male".to_owned(),
        Criterion::OfSex(Sex::Female) => "female".to_owned(),
        Criterion::OfSex(Sex::Unknown) => "sex unknown".to_owned(),
        Criterion::Pregnant => "pregnant".to_owned(),
        Criterion::Trimester(number) => format!("trimester {number}"),
        Criterion::PostPartum(bound) => format!("at most {} after delivery", limit(bound)),
        Criterion::DuffyNull => "Duffy-null".to_owned(),
        Criterion::IsLow(lineage) => format!("{} low", wording::lineage(*lineage)),
        Criterion::LowLineages(1) => "any lineage low".to_owned(),
        Criterion::LowLineages(k) => format!("at least {k} lineages low"),
        Criterion::OnlyLow(lineage) => format!("only {} low", wording::lineage(*lineage)),
        Criterion::Graded(lineage, grade) => format!(
            "{} grade {} or worse",
            wording::lineage(*lineage),
            grade::grade_word(*grade)
        ),
        Criterion::Reticulocytes(class) => format!("reticulocyte class {}", class_word(*class)),
        Criterion::Token(token) => format!("`{token}`"),
        Criterion::AnyToken(tokens) => {
            let tokens: Vec<String> = tokens.iter().map(|token| format!("`{token}`")).collect();
            format!("({})", tokens.join(" OR "))
        }
        Criterion::Refuted(token) => format!("`!{token}`"),
        Criterion::NotTrue(token) => format!("`?{token}`"),
        Criterion::Persists(inner, bound) => {
            format!(
                "{} on >=2 results over >={}",
                words(inner, tuning),
                limit(bound)
            )
        }
        Criterion::Gate(rule) => format!("gate of {rule}"),
        Criterion::Fired(rule) => format!("{rule} fired"),
        Criterion::Custom(named) => {
            let mut text = named.text.to_owned();
            for (position, bound) in named.limits.iter().enumerate() {
                text = text.replace(&format!("{{{position}}}"), &tuning.value(bound).to_string());
            }
            text
        }
        Criterion::Always => "always".to_owned(),
        Criterion::Undecidable => "more is needed to decide".to_owned(),
    }
}

fn input_words(input: Input) -> String {
    match input {
        Input::Of(analyte) => wording::short(analyte).to_owned(),
        Input::Within(analyte, days) => format!(
            "{} (at most {} d old)",
            wording::short(analyte),
            days.0.value
        ),
        Input::TimesUpperLimit(analyte) => format!("{} / upper limit", wording::short(analyte)),
        Input::Rpi => "RPI".to_owned(),
        Input::Mentzer => "MCV/RBC".to_owned(),
        Input::LymphocytePercent => "lymphocytes %".to_owned(),
        Input::McvFromMidpoint => "MCV minus the middle of its range".to_owned(),
        Input::GestationAtBirth => "gestation at birth".to_owned(),
    }
}

/// The word of a reticulocyte class.
pub fn class_word(class: ReticulocyteClass) -> &'static str {
    match class {
        ReticulocyteClass::Low => "low",
        ReticulocyteClass::Inadequate => "inadequate",
        ReticulocyteClass::Intermediate => "intermediate",
        ReticulocyteClass::Regenerative => "regenerative",
    }
}

fn truth_word(truth: Truth) -> &'static str {
    match truth {
        Truth::True => "TRUE",
        Truth::False => "FALSE",
        Truth::Unknown => "UNKNOWN",
    }
}

/// The values and tokens a criterion looked at.
fn inputs(criterion: &'static Criterion, context: &Context<'_>) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    walk(criterion, &mut |part| {
        if let Some(input) = input_of(part) {
            let text = match context.input(input) {
                (Sent::Value(reading, specimen), Some(_)) => format!(
                    "{} ({})",
                    wording::value(reading.analyte, &reading.interval),
                    specimen.day()
                ),
                (_, Some(interval)) => format!(
                    "{} {}",
                    input_words(input),
                    wording::interval(&interval, super::analyte::Analyte::ReticulocytePercent)
                ),
                (Sent::Unusable, None) => format!("{} not usable", input_words(input)),
                (_, None) => format!("{} not received", input_words(input)),
            };
            if !found.contains(&text) {
                found.push(text);
            }
        }
    });
    let mut tokens = Vec::new();
    tokens_of(criterion, &mut tokens);
    for token in tokens {
        let truth = context.token(token).truth;
        if !truth.is_unknown() {
            found.push(format!("{token} {}", truth_word(truth)));
        }
    }
    found
}

/// The words of every question of the trace as it stands in the rule book: they never change
/// while a program runs, and making them anew costs more than judging.
fn question(criterion: &'static Criterion, tuning: &Tuning) -> String {
    static WORDS: OnceLock<HashMap<usize, String>> = OnceLock::new();
    if tuning.is_moved() {
        return words(criterion, tuning);
    }
    let known = WORDS.get_or_init(|| {
        let levels = patterns::MAIN
            .iter()
            .chain(patterns::FURTHER)
            .chain(safety::ALL)
            .flat_map(|watch| watch.levels)
            .map(|level| &level.when);
        let lines = candidates::rules().flat_map(|rule| {
            let lines = rule.excluding.iter().chain(rule.evidence);
            std::iter::once(&rule.gate).chain(lines.map(|line| &line.when))
        });
        levels
            .chain(lines)
            .map(|criterion| (address(criterion), words(criterion, tuning)))
            .collect()
    });
    known
        .get(&address(criterion))
        .cloned()
        .unwrap_or_else(|| words(criterion, tuning))
}

/// Criteria are statics: where one lies names it.
fn address(criterion: &'static Criterion) -> usize {
    std::ptr::from_ref(criterion).addr()
}

fn step(
    id: String,
    criterion: &'static Criterion,
    context: &Context<'_>,
    scope: Scope,
) -> TraceStep {
    TraceStep {
        id,
        question: question(criterion, context.tuning()),
        inputs: inputs(criterion, context),
        answer: truth_word(answer(criterion, context, scope).truth).to_owned(),
    }
}

/// The steps of a pattern or safety rule.
pub fn trace_watch(
    watch: &'static Watch,
    context: &Context<'_>,
    scope: Scope,
    trace: &mut Vec<TraceStep>,
) {
    for level in watch.levels {
        let id = if watch.levels.len() == 1 {
            watch.id.to_owned()
        } else {
            format!("{}.{}", watch.id, level.id)
        };
        trace.push(step(id, &level.when, context, scope));
    }
}

/// The steps of a weighed rule: its gate always; its lines when the gate is not FALSE.
pub fn trace_rule(rule: &'static Rule, context: &Context<'_>, trace: &mut Vec<TraceStep>) {
    let Some((_, gate)) = context.gates.iter().find(|(id, _)| *id == rule.id) else {
        return;
    };
    trace.push(step(
        format!("{}.gate", rule.id),
        &rule.gate,
        context,
        Scope::GATE,
    ));
    if gate.truth.is_false() {
        return;
    }
    for line in rule.excluding {
        trace.push(step(
            format!("{}.x.{}", rule.id, line.id),
            &line.when,
            context,
            Scope::PLAIN,
        ));
    }
    for line in rule.evidence {
        let mut step = step(
            format!("{}.{}", rule.id, line.id),
            &line.when,
            context,
            Scope::PLAIN,
        );
        if step.answer == "TRUE" {
            step.answer = format!(
                "TRUE {:+}",
                context.tuning().points(rule.id, line.id, line.points)
            );
        }
        trace.push(step);
    }
}

/// The steps of the grades.
pub fn trace_grades(context: &Context<'_>, trace: &mut Vec<TraceStep>) {
    for lineage in LINEAGES {
        let line = context.line(lineage);
        let letter = match lineage {
            super::assessment::Lineage::Erythroid => "E",
            super::assessment::Lineage::Neutrophil => "N",
            super::assessment::Lineage::Platelet => "P",
        };
        let answer = match (line.grade(), line.low) {
            (Some(grade), _) => grade::grade_word(grade).to_owned(),
            (None, Truth::True) => format!("at least {}", grade::grade_word(line.mildest)),
            _ => "UNKNOWN".to_owned(),
        };
        trace.push(TraceStep {
            id: format!("grade.{letter}"),
            question: line.limit.map_or_else(
                || "no limit: age or value unknown".to_owned(),
                |limit| format!("low below {limit}"),
            ),
            inputs: line
                .reading
                .iter()
                .map(|reading| wording::value(reading.analyte, &reading.interval))
                .chain(line.note.clone())
                .collect(),
            answer,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use time::macros::{date, datetime};

    use crate::clinical::{
        analyte::Analyte,
        candidates,
        decide::trace,
        specimen::tests::result,
        time::BirthDate,
        timeline::{Person, Sex, Timeline},
    };

    /// The lines of a rule are traced if its own gate is not FALSE.
    #[test]
    fn a_rule_is_traced_by_its_own_gate() {
        let timeline = Timeline {
            person: Person {
                birth: Some(BirthDate::Day(date!(1986 - 06 - 15))),
                sex: Sex::Female,
                ..Person::default()
            },
            measurements: vec![
                result(Analyte::Hb, 85),
                result(Analyte::Anc, 1),
                result(Analyte::Platelets, 15),
            ],
            ..Timeline::default()
        };
        let steps = trace(&timeline, datetime!(2026-06-15 09:00 UTC));
        let mut answers = BTreeSet::new();
        for rule in candidates::rules() {
            let gate = format!("{}.gate", rule.id);
            let Some(gate) = steps.iter().find(|step| step.id == gate) else {
                continue;
            };
            let closed = gate.answer == "FALSE";
            answers.insert(closed);
            let lines = rule
                .evidence
                .iter()
                .map(|line| format!("{}.{}", rule.id, line.id))
                .filter(|id| steps.iter().any(|step| step.id == *id))
                .count();
            assert_eq!(lines == 0, closed, "{}: {}", rule.id, gate.answer);
        }
        assert_eq!(answers.len(), 2, "open and closed gates");
    }
}
