//! What CDS Hooks keeps: cards shown, what became of them, and tokens that were used.

use time::OffsetDateTime;

use super::{Pending, keys::Hash};
use crate::fhir::cds::{
    feedback::Feedback,
    quiet::{Answered, Marks, Shown},
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
