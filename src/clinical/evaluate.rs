//! Answers a [`Criterion`]: the one place where a rule's tree is given a meaning.

use rust_decimal::Decimal;

use super::{
    age::Ages,
    analyte::Analyte,
    context::{Context, LINEAGES, Sent},
    grade,
    limits::{Limit, OtherUnit},
    quality,
    quantity::Interval,
    reference,
    rule::{Answer, Criterion, Input, ReticulocyteClass},
    series,
    specimen::Reading,
    timeline::{Duffy, Measurement, Sex},
    truth::Truth,
};

/// What an input that was never sent stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Absent {
    /// The default of the place: FALSE for tokens in gates, else UNKNOWN.
    Default,
    /// FALSE.
    False,
    /// UNKNOWN.
    Unknown,
}

/// Where a criterion is asked.
#[derive(Debug, Clone, Copy)]
pub struct Scope {
    /// A gate: tokens that were not sent count as FALSE.
    gate: bool,
    /// Safety rules: worst valid value of 24 h, preliminary ones too.
    urgent: bool,
    /// An earlier specimen instead of the index, for persistence.
    at: Option<usize>,
    absent: Absent,
}

impl Scope {
    /// Gates of candidates.
    pub const GATE: Self = Self {
        gate: true,
        urgent: false,
        at: None,
        absent: Absent::Default,
    };
    /// Evidence, patterns, urgencies.
    pub const PLAIN: Self = Self {
        gate: false,
        ..Self::GATE
    };
    /// Safety rules.
    pub const SAFETY: Self = Self {
        urgent: true,
        ..Self::PLAIN
    };
}

/// Direction of a comparison.
#[derive(Clone, Copy)]
enum Is {
    Below,
    AtMost,
    Above,
    NotBelow,
}

impl Is {
    fn holds(self, interval: &Interval, limit: Decimal) -> Truth {
        match self {
            Self::Below => interval.is_below(limit),
            Self::NotBelow => !interval.is_below(limit),
            Self::Above => interval.is_above(limit),
            Self::AtMost => !interval.is_above(limit),
        }
    }
}

/// Answers a criterion.
#[expect(
    clippy::too_many_lines,
    reason = "one arm per criterion; splitting them would hide that the list is complete"
)]
pub fn answer(criterion: &Criterion, context: &Context<'_>, scope: Scope) -> Answer {
    let ask = |inner: &Criterion| answer(inner, context, scope);
    match criterion {
        Criterion::All(parts) => all(parts.iter().map(ask)),
        Criterion::Any(parts) => any(parts.iter().map(ask)),
        Criterion::AtLeast(k, parts) => {
            let answers: Vec<Answer> = parts.iter().map(ask).collect();
            Answer {
                truth: Truth::at_least(*k, answers.iter().map(|part| part.truth)),
                not_sent: only_not_sent(answers.iter()),
            }
        }
        Criterion::Not(inner) => {
            let inner = ask(inner);
            Answer {
                truth: !inner.truth,
                ..inner
            }
        }
        Criterion::Same(inner) => ask(inner),
        Criterion::Undecided(inner) => ask(inner).truth.is_unknown().into(),
        Criterion::Surely(inner) => ask(inner).truth.is_true().into(),
        Criterion::Doubtful(inner) => {
            if ask(inner).truth.is_true() {
                Answer::UNDECIDED
            } else {
                false.into()
            }
        }
        Criterion::Optional(inner) => answer(
            inner,
            context,
            Scope {
                absent: Absent::False,
                ..scope
            },
        ),
        Criterion::Blocking(inner) => answer(
            inner,
            context,
            Scope {
                absent: Absent::Unknown,
                ..scope
            },
        ),
        Criterion::NotBlocking(inner) => {
            let answer = answer(
                inner,
                context,
                Scope {
                    absent: Absent::Unknown,
                    ..scope
                },
            );
            if answer.truth.is_unknown() && answer.not_sent {
                Truth::True.into()
            } else {
                answer
            }
        }
        Criterion::Below(input, limit) => compare(*input, Is::Below, limit, context, scope),
        Criterion::AtMost(input, limit) => compare(*input, Is::AtMost, limit, context, scope),
        Criterion::Above(input, limit) => compare(*input, Is::Above, limit, context, scope),
        Criterion::NotBelow(input, limit) => compare(*input, Is::NotBelow, limit, context, scope),
        Criterion::Between(input, low, high) => all([
            compare(*input, Is::NotBelow, low, context, scope),
            compare(*input, Is::Below, high, context, scope),
        ]
        .into_iter()),
        Criterion::Known(input) => context.input(*input).1.is_some().into(),
        Criterion::Trusted(input) => {
            matches!(context.input(*input).0, Sent::Value(reading, _) if !reading.suspect).into()
        }
        Criterion::BelowRange(analyte) => settle(in_range(*analyte, true, context), scope),
        Criterion::AboveRange(analyte) => settle(in_range(*analyte, false, context), scope),
        Criterion::Younger(limit) => !age(limit, context, scope),
        Criterion::AtAge(limit) => age(limit, context, scope),
        Criterion::OfSex(sex) => match context.timeline().person.sex {
            Sex::Unknown => Answer::NOT_SENT,
            known => (known == *sex).into(),
        },
        Criterion::Pregnant => pregnancy(context).is_some().into(),
        Criterion::Trimester(number) => match pregnancy(context) {
            Some(Some(trimester)) => (trimester == *number).into(),
            Some(None) => Answer::NOT_SENT,
            None => false.into(),
        },
        Criterion::PostPartum(limit) => {
            grade::days_post_partum(context.timeline(), context.specimen)
                .is_some_and(|days| Decimal::from(days) <= context.tuning().value(limit))
                .into()
        }
        Criterion::DuffyNull => match context.timeline().person.duffy {
            Duffy::Null => true.into(),
            Duffy::Positive => false.into(),
            Duffy::Unknown => context.token("duffy_null"),
        },
        Criterion::IsLow(lineage) => settle(
            lineage_answer(context, scope, *lineage, |line| line.low),
            scope,
        ),
        Criterion::Graded(lineage, grade) => settle(
            lineage_answer(context, scope, *lineage, |line| line.is_at_least(*grade)),
            scope,
        ),
        Criterion::LowLineages(k) => {
            let answers =
                LINEAGES.map(|lineage| lineage_answer(context, scope, lineage, |line| line.low));
            let answer = Answer {
                truth: Truth::at_least(*k, answers.iter().map(|part| part.truth)),
                not_sent: only_not_sent(answers.iter()),
            };
            settle(answer, scope)
        }
        Criterion::OnlyLow(lineage) => all(LINEAGES.into_iter().map(|other| {
            let low = lineage_answer(context, scope, other, |line| line.low);
            if other == *lineage {
                low
            } else {
                Answer {
                    truth: !low.truth,
                    ..low
                }
            }
        })),
        Criterion::Reticulocytes(class) => settle(reticulocytes(*class, context), scope),
        Criterion::Token(token) => token_answer(token, context, scope),
        Criterion::AnyToken(tokens) => any(tokens
            .iter()
            .map(|token| token_answer(token, context, scope))),
        Criterion::Refuted(token) => context.token(token).truth.is_false().into(),
        Criterion::NotTrue(token) => (!context.token(token).truth.is_true()).into(),
        Criterion::Persists(inner, limit) => series::persists(context, limit, |place| {
            answer(
                inner,
                context,
                Scope {
                    at: Some(place),
                    ..scope
                },
            )
            .truth
        })
        .into(),
        Criterion::Gate(rule) => context
            .gates
            .iter()
            .find(|(id, _)| id == rule)
            .map_or(Answer::from(false), |(_, answer)| *answer),
        Criterion::Fired(rule) => Truth::any(
            context
                .fired
                .iter()
                .filter(|(id, ..)| id == rule)
                .map(|(_, truth, _)| *truth),
        )
        .into(),
        Criterion::Custom(named) => settle((named.evaluate)(context), scope),
        Criterion::Always => true.into(),
        Criterion::Undecidable => Answer::UNDECIDED,
    }
}

impl std::ops::Not for Answer {
    type Output = Self;

    fn not(self) -> Self {
        Self {
            truth: !self.truth,
            ..self
        }
    }
}

fn all(parts: impl Iterator<Item = Answer>) -> Answer {
    let mut result = Answer::from(true);
    let mut undecided = false;
    for part in parts {
        match part.truth {
            Truth::False => return part,
            Truth::Unknown => {
                undecided |= !part.not_sent;
                result = Answer {
                    truth: Truth::Unknown,
                    not_sent: !undecided,
                };
            }
            Truth::True => {}
        }
    }
    result
}

fn any(parts: impl Iterator<Item = Answer>) -> Answer {
    !all(parts.map(|part| !part))
}

fn only_not_sent<'a>(parts: impl Iterator<Item = &'a Answer>) -> bool {
    parts
        .filter(|part| part.truth.is_unknown())
        .all(|part| part.not_sent)
}

/// Applies what "not sent" means where the criterion stands.
fn settle(answer: Answer, scope: Scope) -> Answer {
    if answer.truth.is_unknown() && answer.not_sent && scope.absent == Absent::False {
        false.into()
    } else {
        answer
    }
}

fn token_answer(token: &str, context: &Context<'_>, scope: Scope) -> Answer {
    let answer = context.token(token);
    let absent_is_false =
        scope.absent == Absent::False || (scope.absent == Absent::Default && scope.gate);
    if answer.truth.is_unknown() && answer.not_sent && absent_is_false {
        false.into()
    } else {
        answer
    }
}

#[expect(
    clippy::option_option,
    reason = "not pregnant, pregnant, pregnant in a known trimester"
)]
fn pregnancy(context: &Context<'_>) -> Option<Option<u8>> {
    grade::pregnant(
        context.timeline(),
        context.specimen,
        context.ages.as_ref(),
        context.tuning(),
    )
}

fn age(limit: &Limit, context: &Context<'_>, scope: Scope) -> Answer {
    let ages = match scope.at {
        None => context.ages,
        Some(place) => context
            .case
            .specimen(place)
            .and_then(|specimen| Ages::new(context.timeline().person.birth?, specimen.day())),
    };
    ages.map_or(Answer::NOT_SENT, |ages| {
        ages.reach(limit, context.tuning()).into()
    })
}

fn lineage_answer(
    context: &Context<'_>,
    scope: Scope,
    lineage: super::assessment::Lineage,
    ask: impl Fn(&grade::Line) -> Truth,
) -> Answer {
    let line = match scope.at {
        None => Some(context.line(lineage)),
        Some(place) => context.case.lines.get(place).and_then(|lines| {
            LINEAGES
                .iter()
                .zip(lines)
                .find(|(one, _)| **one == lineage)
                .map(|(_, line)| line)
        }),
    };
    let Some(line) = line else {
        return Answer::NOT_SENT;
    };
    let truth = ask(line);
    Answer {
        truth,
        not_sent: line.reading.is_none() && !context.is_refused(grade::analyte_of(lineage)),
    }
}

/// Compares an input with a limit, in the unit it was received in where the limit has one.
fn compare(
    input: Input,
    is: Is,
    limit: &'static Limit,
    context: &Context<'_>,
    scope: Scope,
) -> Answer {
    let tuning = context.tuning();
    if let Some(place) = scope.at {
        let Input::Of(analyte) = input else {
            return Answer::UNDECIDED;
        };
        let reading = context
            .case
            .specimen(place)
            .and_then(|specimen| specimen.get(analyte));
        return reading.map_or(Answer::NOT_SENT, |reading| {
            is.holds(&reading.interval, tuning.value(limit)).into()
        });
    }
    if scope.urgent
        && let Input::Of(analyte) = input
    {
        let values = context.urgent(analyte);
        if values.is_empty() {
            let answer = if context.is_refused(analyte) {
                Answer::UNDECIDED
            } else {
                Answer::NOT_SENT
            };
            return settle(answer, scope);
        }
        return Truth::any(
            values
                .iter()
                .map(|(reading, _)| is.holds(&reading.interval, tuning.value(limit))),
        )
        .into();
    }
    let (sent, interval) = context.input(input);
    match (sent, interval) {
        (Sent::Value(reading, _), Some(interval)) => {
            let received = matches!(input, Input::Of(_) | Input::Within(..))
                .then(|| in_received_unit(reading, limit, context))
                .flatten();
            match received {
                Some((interval, other)) => {
                    is.holds(&interval, tuning.other_value(limit, other)).into()
                }
                None => is.holds(&interval, tuning.value(limit)).into(),
            }
        }
        (_, Some(interval)) => is.holds(&interval, tuning.value(limit)).into(),
        (Sent::No, None) => settle(Answer::NOT_SENT, scope),
        (_, None) => Answer::UNDECIDED,
    }
}

fn in_received_unit(
    reading: &Reading,
    limit: &'static Limit,
    context: &Context<'_>,
) -> Option<(Interval, &'static OtherUnit)> {
    if limit.other_units.is_empty() {
        return None;
    }
    let measurement = context.measurement(reading)?;
    let other = limit
        .other_units
        .iter()
        .find(|other| other.unit == measurement.received.unit)?;
    Some((received_interval(measurement)?, other))
}

fn received_interval(measurement: &Measurement) -> Option<Interval> {
    let number = quality::received_number(measurement)?;
    let text = measurement.received.value.trim();
    Some(if text.starts_with("<=") || text.starts_with('≤') {
        Interval::at_most(number)
    } else if text.starts_with('<') {
        Interval::below(number)
    } else if text.starts_with(">=") || text.starts_with('≥') {
        Interval::at_least(number)
    } else if text.starts_with('>') {
        Interval::above(number)
    } else {
        Interval::exact(number)
    })
}

fn in_range(analyte: Analyte, below: bool, context: &Context<'_>) -> Answer {
    let reading = match context.sent(analyte) {
        Sent::Value(reading, _) => reading,
        Sent::Unusable => return Answer::UNDECIDED,
        Sent::No => return Answer::NOT_SENT,
    };
    let Some(ages) = context.ages else {
        return Answer::NOT_SENT;
    };
    let pregnant = pregnancy(context).is_some();
    let ask = |age| {
        let (lower, upper) = reference::range(analyte, age, pregnant, context.tuning())?;
        Some(if below {
            reading.interval.is_below(lower)
        } else {
            reading.interval.is_above(upper?)
        })
    };
    match (ask(&ages.young), ask(&ages.old)) {
        (Some(young), Some(old)) if young == old => young.into(),
        (Some(_), Some(_)) => Answer::UNDECIDED,
        _ => Answer::NOT_SENT,
    }
}

/// The class of the reticulocyte count (0.2); the first that fits is the class.
fn reticulocytes(asked: ReticulocyteClass, context: &Context<'_>) -> Answer {
    let reading = match context.sent(Analyte::Arc) {
        Sent::Value(reading, _) => reading,
        Sent::Unusable => return Answer::UNDECIDED,
        Sent::No => return Answer::NOT_SENT,
    };
    let Some(ages) = context.ages else {
        return Answer::NOT_SENT;
    };
    let young = series::reticulocyte_classes(context, &reading.interval, &ages.young);
    let old = series::reticulocyte_classes(context, &reading.interval, &ages.old);
    if young != old {
        return Answer::UNDECIDED;
    }
    let of = |class: ReticulocyteClass| young.get(class as usize).copied().unwrap_or(Truth::False);
    if young.iter().any(|truth| truth.is_true()) {
        return of(asked).into();
    }
    if young.iter().all(|truth| truth.is_false()) {
        return Answer::NOT_SENT;
    }
    of(asked).into()
}
