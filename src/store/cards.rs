//! What CDS Hooks keeps: cards shown, what became of them, and tokens that were used.

use std::collections::BTreeMap;

use time::{Duration, OffsetDateTime};

use super::{
    Pending, codec,
    error::{Result, StoreError},
    keys::Hash,
    row,
};
use crate::{
    clinical::assessment::Acknowledged,
    fhir::cds::{
        feedback::Feedback,
        quiet::{Answered, Marks, Shown},
    },
};

/// A card that is about to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownCard {
    /// Tenant.
    pub tenant: String,
    /// Its id.
    pub uuid: String,
    /// Who asked.
    pub client: String,
    /// Whose chart.
    pub patient: Hash,
    /// What it is about.
    pub family: String,
    /// Rules it rests on.
    pub rules: Vec<String>,
    /// What an escalation is measured by.
    pub marks: Marks,
    /// Hook it answered.
    pub hook: String,
    /// Encounter of the call.
    pub encounter: Option<String>,
    /// When.
    pub at: OffsetDateTime,
}

/// What is known of a family's cards for one patient.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CardHistory {
    /// The last one this client was shown.
    pub shown: Option<Shown>,
    /// The last answer to one, by anyone of the tenant.
    pub answered: Option<Answered>,
}

/// How much of some feedback meant something.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Kept {
    /// Kept now.
    pub new: usize,
    /// Kept before.
    pub repeated: usize,
    /// About cards that nobody here knows.
    pub unknown_card: usize,
}

/// What clinicians did with the cards of one rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleFeedback {
    /// Rule id.
    pub rule: String,
    /// Cards that rested on it.
    pub shown: u64,
    /// Accepted.
    pub accepted: u64,
    /// Overridden: already being investigated.
    pub known: u64,
    /// Overridden: known cause.
    pub not_relevant: u64,
    /// Overridden: waiting for results.
    pub waiting: u64,
    /// Overridden for another reason or none.
    pub other: u64,
}

/// The store as the CDS Hooks services use it.
pub trait CardStore: Send + Sync {
    /// Uses up a token. `false`: it was used before.
    fn use_token(
        &self,
        issuer: &str,
        jti: Hash,
        expires_at: OffsetDateTime,
        now: OffsetDateTime,
    ) -> Pending<'_, bool>;

    /// The last card of a family, and the last answer.
    fn card_history(
        &self,
        tenant: &str,
        client: &str,
        patient: Hash,
        family: &str,
    ) -> Pending<'_, CardHistory>;

    /// Keeps a card. The same card again changes nothing.
    fn keep_card(&self, card: ShownCard) -> Pending<'_, ()>;

    /// Keeps what clinicians did; an answer to a family's card is told to its finding.
    fn keep_feedback(
        &self,
        tenant: &str,
        feedback: Vec<Feedback>,
        now: OffsetDateTime,
    ) -> Pending<'_, Kept>;

    /// Acceptance and override, rule by rule.
    fn feedback_report(&self) -> Pending<'_, Vec<RuleFeedback>>;
}

/// Until when an answer given at `at` keeps a finding quiet; as `codec::millis`.
pub(crate) fn acknowledged_until(what: Acknowledged, at: OffsetDateTime) -> i64 {
    match what {
        Acknowledged::NotRelevant => row::FOR_EVER,
        Acknowledged::Known => codec::millis(at.saturating_add(Duration::days(90))),
        Acknowledged::Other => codec::millis(at.saturating_add(Duration::days(30))),
    }
}

/// Acceptance and override by rule, from every card: its rules (JSON list) and the last answer to
/// it, `outcome/reason`.
pub(crate) fn rule_feedback(cards: Vec<(String, Option<String>)>) -> Result<Vec<RuleFeedback>> {
    let mut by_rule: BTreeMap<String, RuleFeedback> = BTreeMap::new();
    for (rules, answer) in cards {
        let rules: Vec<String> =
            serde_json::from_str(&rules).map_err(|_| StoreError::Unreadable("card.rules"))?;
        for rule in rules {
            let line = by_rule.entry(rule.clone()).or_insert_with(|| RuleFeedback {
                rule,
                ..RuleFeedback::default()
            });
            line.shown += 1;
            match answer.as_deref().and_then(|answer| answer.split_once('/')) {
                None => {}
                Some(("accepted", _)) => line.accepted += 1,
                Some((_, "action-completed")) => line.known += 1,
                Some((_, "patient-ineligible")) => line.not_relevant += 1,
                Some((_, "need-more-info")) => line.waiting += 1,
                Some(_) => line.other += 1,
            }
        }
    }
    Ok(by_rule.into_values().collect())
}
