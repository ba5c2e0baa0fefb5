//! Which finding tokens hold at a specimen.
//!
//! A token that is given with its own name and is valid at the index is taken as given; tokens that
//! follow from base tokens and dates are made in their own module.

use time::{Duration, OffsetDateTime};

use super::{
    timeline::{Fact, Source, Timeline},
    truth::Truth,
};

/// The tokens of a patient at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    timeline: &'a Timeline,
    at: OffsetDateTime,
}

/// The tokens at a moment.
pub fn at(timeline: &Timeline, at: OffsetDateTime) -> Facts<'_> {
    Facts { timeline, at }
}

impl<'a> Facts<'a> {
    /// The facts of a token that hold at the moment.
    pub fn of(&self, token: &str) -> impl Iterator<Item = &'a Fact> {
        let at = self.at;
        self.timeline.facts.iter().filter(move |fact| {
            &*fact.token == token
                && fact.from.is_none_or(|from| from <= at)
                && fact.until.is_none_or(|until| until >= at)
        })
    }

    /// What is known of a token; `None`: nothing was sent. Any TRUE wins, then an explicit FALSE.
    pub fn get(&self, token: &str) -> Option<Truth> {
        self.of(token)
            .map(|fact| fact.truth)
            .max_by_key(|truth| match truth {
                Truth::True => 2,
                Truth::False => 1,
                Truth::Unknown => 0,
            })
    }

    /// Where a token that is TRUE comes from.
    pub fn sources(&self, token: &str) -> Vec<Source> {
        self.of(token)
            .filter(|fact| fact.truth.is_true())
            .map(|fact| fact.source.clone())
            .collect()
    }

    /// Every token that is TRUE at the moment and starts with `prefix`.
    pub fn with_prefix(&self, prefix: &str) -> impl Iterator<Item = &'a Fact> {
        let at = self.at;
        let prefix = prefix.to_owned();
        self.timeline.facts.iter().filter(move |fact| {
            fact.token.starts_with(&prefix)
                && fact.truth.is_true()
                && fact.from.is_none_or(|from| from <= at)
                && fact.until.is_none_or(|until| until >= at)
        })
    }
}

/// Whether an act (transfusion, growth factor) ended at most `within` before the moment.
pub fn happened(
    timeline: &Timeline,
    token: &str,
    moment: OffsetDateTime,
    within: Duration,
) -> bool {
    timeline.facts.iter().any(|fact| {
        &*fact.token == token
            && fact.truth.is_true()
            && fact
                .until
                .or(fact.from)
                .is_some_and(|done| done <= moment && moment - done <= within)
    })
}

/// Whether an act lies between two moments.
pub fn happened_between(
    timeline: &Timeline,
    tokens: &[&str],
    first: OffsetDateTime,
    last: OffsetDateTime,
) -> bool {
    timeline.facts.iter().any(|fact| {
        tokens.contains(&&*fact.token)
            && fact.truth.is_true()
            && fact
                .until
                .or(fact.from)
                .is_some_and(|done| done >= first && done <= last)
    })
}
