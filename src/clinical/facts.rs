//! Which finding tokens hold at a specimen, and the acts they follow from.

use time::{Duration, OffsetDateTime};

use super::{
    timeline::{Fact, Source, Timeline},
    tokens::{self, State, Tokens},
    truth::Truth,
};

/// The tokens of a patient at one moment.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    timeline: &'a Timeline,
    at: OffsetDateTime,
    /// Worked out once where many tokens are asked for.
    all: Option<Tokens>,
}

/// The tokens at a moment, for a few questions.
pub fn at(timeline: &Timeline, at: OffsetDateTime) -> Facts<'_> {
    Facts {
        timeline,
        at,
        all: None,
    }
}

/// The tokens at the index, for every question there is.
pub fn at_index(timeline: &Timeline, at: OffsetDateTime) -> Facts<'_> {
    Facts {
        timeline,
        at,
        all: Some(Tokens::at(&timeline.facts, &timeline.person, at)),
    }
}

impl<'a> Facts<'a> {
    /// The facts behind a token, whatever its qualifier, that had begun by the moment.
    pub fn of(&self, token: &str) -> impl Iterator<Item = &'a Fact> {
        let at = self.at;
        self.timeline.facts.iter().filter(move |fact| {
            tokens::base(&fact.token) == token && fact.from.is_none_or(|from| from <= at)
        })
    }

    /// What is known of a token; `None`: nothing was sent.
    pub fn get(&self, token: &str) -> Option<Truth> {
        self.state(token).map(|state| state.truth)
    }

    fn state(&self, token: &str) -> Option<State> {
        match &self.all {
            Some(tokens) => tokens.get(token).cloned(),
            None => Tokens::one(token, &self.timeline.facts, &self.timeline.person, self.at),
        }
    }

    /// Where a token that is TRUE comes from.
    pub fn sources(&self, token: &str) -> Vec<Source> {
        self.state(token)
            .filter(|state| state.truth.is_true())
            .map(|state| state.sources)
            .unwrap_or_default()
    }

    /// Whether a diagnosis or cause is recorded well enough at `at` to be quiet about it.
    pub fn is_confirmed(&self, token: &str, at: OffsetDateTime) -> bool {
        tokens::is_confirmed(&self.timeline.facts, token, at)
    }

    /// Reasons to be quiet about what is known and under care.
    pub fn quiet(&self) -> tokens::Quiet {
        match &self.all {
            Some(all) => tokens::quiet(&self.timeline.facts, all, self.at),
            None => at_index(self.timeline, self.at).quiet(),
        }
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
