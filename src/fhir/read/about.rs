//! Statements about the person that arrive as Observations: pregnancy, gestation, smoking,
//! altitude, Duffy status.

use rust_decimal::{Decimal, prelude::ToPrimitive};
use time::{Duration, OffsetDateTime};

use super::PatientReading;
use crate::{
    clinical::{
        timeline::{Duffy, Interpretation, Person, Pregnancy, Smoking},
        truth::Truth,
    },
    fhir::{
        codes::{About, Fact},
        tree::Tree,
        units,
        values::{self, Flags, Numbers, Presence, Value},
    },
};

/// One statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Statement {
    /// Completed weeks of gestation at birth.
    BornAtWeeks(u8),
    /// Smoking.
    Smoking(Smoking),
    /// Altitude in metres.
    Altitude(u32),
    /// Duffy status.
    Duffy(Duffy),
}

impl Statement {
    /// Writes it into the reading of the patient.
    pub(super) fn apply(self, reading: &mut PatientReading) {
        match self {
            Self::BornAtWeeks(weeks) => person(reading).gestation_weeks = Some(weeks),
            Self::Smoking(smoking) => person(reading).smoking = smoking,
            Self::Altitude(metres) => person(reading).altitude_m = Some(metres),
            Self::Duffy(duffy) => person(reading).duffy = duffy,
        }
    }
}

fn person(reading: &mut PatientReading) -> &mut Person {
    reading.person.get_or_insert_with(Person::default)
}

/// Reads a statement coded in LOINC. Pregnancy and its duration are findings, see [`pregnancies`].
pub(super) fn statement(about: About, value: &Value<'_>) -> Vec<Statement> {
    let found = match about {
        About::GestationAtBirth => number(value, "gestation")
            .and_then(|days| (days / Decimal::from(7)).floor().to_u8())
            .filter(|weeks| (20..=45).contains(weeks))
            .map(Statement::BornAtWeeks),
        About::Smoking => smoking(value).map(Statement::Smoking),
        About::Pregnancy | About::GestationNow | About::Temperature => None,
    };
    found.into_iter().collect()
}

/// A positive pregnancy test counts for two weeks (findings specification, section 7).
const TEST_HOLDS: Duration = Duration::days(14);

/// The pregnancies that findings speak of: states, tests, gestational ages, and what ends them.
pub(super) fn pregnancies(reading: &mut PatientReading) {
    let mut found = Vec::new();
    let mut ends = Vec::new();
    for fact in reading.facts.iter().flat_map(|read| &read.facts) {
        let Some(from) = fact.from.map(OffsetDateTime::date) else {
            continue;
        };
        let until = fact.until.map(OffsetDateTime::date);
        let (base, qualifier) = fact.token.split_once('@').unwrap_or((&fact.token, ""));
        match (base, qualifier, fact.truth) {
            ("pregnant", "ended" | "refuted", Truth::True) | ("pregnant", _, Truth::False) => {
                ends.push(from);
            }
            ("pregnant", "test", Truth::True) => found.push(Pregnancy {
                from,
                until: from.checked_add(TEST_HOLDS),
                gestation: None,
            }),
            ("pregnant", _, Truth::True) => found.push(Pregnancy {
                from,
                until,
                gestation: None,
            }),
            ("gestational_age", days, Truth::True) => {
                // 0 to 42 weeks and six days.
                if let Some(days) = days.parse().ok().filter(|days: &u16| *days <= 300) {
                    found.push(Pregnancy {
                        from,
                        until: None,
                        gestation: Some((days, from)),
                    });
                }
            }
            _ => {}
        }
    }
    for pregnancy in &mut found {
        let end = ends
            .iter()
            .copied()
            .filter(|end| *end > pregnancy.from)
            .min();
        pregnancy.until = match (pregnancy.until, end) {
            (Some(one), Some(two)) => Some(one.min(two)),
            (one, two) => one.or(two),
        };
    }
    reading.pregnancies.extend(found);
}

/// Reads a statement of our own code system.
pub(super) fn own(fact: Fact, value: &Value<'_>) -> Vec<Statement> {
    let there = || match value {
        // The code itself is the finding.
        Value::Nothing => Some(true),
        Value::Boolean(there) => Some(*there),
        Value::Coded(concept) => decided(values::answer(concept)),
        Value::Text(text) => decided(values::presence_word(text)),
        _ => None,
    };
    let found = match fact {
        Fact::AltitudeM => number(value, "altitude")
            .and_then(|metres| metres.round().to_u32())
            .filter(|metres| *metres <= 6000)
            .map(Statement::Altitude),
        Fact::DuffyNull => {
            there().map(|there| Statement::Duffy(if there { Duffy::Null } else { Duffy::Positive }))
        }
        Fact::DuffyPositive => {
            there().and_then(|there| there.then_some(Statement::Duffy(Duffy::Positive)))
        }
        Fact::Quantity(_) | Fact::Eada | Fact::Isoamylase => None,
    };
    found.into_iter().collect()
}

/// Tests that are read by their interpretation only.
pub(super) fn tokens(fact: Fact, flags: Flags) -> Vec<(&'static str, Truth)> {
    let direction = flags.interpretation;
    let high = matches!(direction, Some(Interpretation::High));
    let low = matches!(direction, Some(Interpretation::Low));
    match (fact, direction) {
        (Fact::Eada, Some(_)) => vec![("eada_high", Truth::from(high))],
        (Fact::Isoamylase, Some(_)) => vec![("isoamylase_low", Truth::from(low))],
        _ => Vec::new(),
    }
}

fn decided(presence: Option<Presence>) -> Option<bool> {
    match presence? {
        Presence::Absent => Some(false),
        Presence::Present | Presence::Grade(_) => Some(true),
        Presence::Percent(_) | Presence::Unknown => None,
    }
}

fn coded<'t>(value: &Value<'t>) -> impl Iterator<Item = &'t str> {
    let concept: Option<&'t Tree<'t>> = match value {
        Value::Coded(concept) => Some(concept),
        _ => None,
    };
    concept
        .into_iter()
        .flat_map(|concept| concept.items("coding"))
        .filter_map(|coding| coding.text("code"))
}

/// LOINC answers of 72166-2, and SNOMED CT. The number of cigarettes is never inferred.
fn smoking(value: &Value<'_>) -> Option<Smoking> {
    coded(value).find_map(|code| match code {
        "LA18976-3" | "LA18977-1" | "LA18979-7" | "LA18981-3" | "LA18982-1" | "449868002"
        | "428041000124106" | "77176002" | "428071000124103" | "428061000124105" => {
            Some(Smoking::SomeNumberUnknown)
        }
        "LA15920-4" | "LA18978-9" | "8517006" | "266919005" => Some(Smoking::None),
        "LA18980-5" | "266927001" => Some(Smoking::Unknown),
        _ => None,
    })
}

fn number(value: &Value<'_>, family: &'static str) -> Option<Decimal> {
    let Value::Quantity(quantity) = value else {
        return None;
    };
    let Numbers::One(None, number) = quantity.numbers else {
        return None;
    };
    let factor = units::simple_factor(family, quantity.unit)?;
    values::decimal(number)
        .ok()?
        .checked_mul(factor)
        .filter(|number| !number.is_sign_negative())
}
