//! What clinicians did with a card.

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::{
    clinical::assessment::Acknowledged,
    fhir::{
        outcome::{Issue, word},
        submission::Checker,
        tree::{Parsed, Tree},
    },
};

/// Root of expressions about feedback.
const ROOT: &str = "CDSHooksFeedback";
/// Codes of the reasons that a card offers.
pub const REASONS: &str = "http://terminology.hl7.org/CodeSystem/non-adherence-reason-codes";

/// One answer to one card. Comments of the user are free text about a patient and are not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Feedback {
    /// Id of the card.
    pub card: String,
    /// `accepted` or `overridden`.
    pub accepted: bool,
    /// Code of the reason, when it is one that we offered; another code is `other`.
    pub reason: Option<&'static str>,
    /// When, as the client says.
    pub at: OffsetDateTime,
}

impl Feedback {
    /// `accepted` or `overridden`.
    pub fn outcome(&self) -> &'static str {
        if self.accepted {
            "accepted"
        } else {
            "overridden"
        }
    }

    /// What it means for the next card (clinical specification 8.2).
    pub fn acknowledges(&self) -> Acknowledged {
        acknowledges(self.outcome(), self.reason)
    }
}

/// What an outcome with its reason means for the next card.
pub fn acknowledges(outcome: &str, reason: Option<&str>) -> Acknowledged {
    match (outcome, reason) {
        ("overridden", Some("action-completed")) => Acknowledged::Known,
        ("overridden", Some("patient-ineligible")) => Acknowledged::NotRelevant,
        _ => Acknowledged::Other,
    }
}

/// Codes and words of the reasons offered on a card.
pub const OFFERED: [(&str, &str); 3] = [
    ("action-completed", "Already being investigated"),
    ("patient-ineligible", "Known cause, does not apply"),
    ("need-more-info", "Waiting for results"),
];

/// Decodes feedback; wrong one is answered with every issue that was found.
pub fn decode(parsed: &Parsed<'_>, checker: &Checker) -> Result<Vec<Feedback>, Vec<Issue>> {
    let root = &parsed.root;
    let mut issues: Vec<Issue> = parsed
        .broken
        .iter()
        .filter(|broken| broken.word == word::DUPLICATE_KEY)
        .map(|broken| {
            Issue::error(broken.word, "A member stands twice in one object")
                .at(format!("{ROOT}{}", broken.path.dotted()))
        })
        .collect();
    issues.extend(
        checker
            .profiles()
            .check_json("cds-feedback", ROOT, root, 50),
    );
    let mut all = Vec::new();
    for (index, item) in root.items("feedback").iter().enumerate() {
        match one(item) {
            Some(feedback) => all.push(feedback),
            // The form is right and the day does not exist.
            None if issues.is_empty() => {
                let text = "outcomeTimestamp is no time that exists";
                let place = format!("{ROOT}.feedback[{index}].outcomeTimestamp");
                issues.push(Issue::error(word::VALUE, text).at(place));
            }
            None => {}
        }
    }
    if issues.is_empty() {
        Ok(all)
    } else {
        Err(issues)
    }
}

fn one(item: &Tree<'_>) -> Option<Feedback> {
    let reason = item
        .get("overrideReason")
        .and_then(|reason| reason.get("reason"))
        .map(|reason| {
            let code = reason.text("code").unwrap_or_default();
            OFFERED
                .iter()
                .map(|(offered, _)| *offered)
                .find(|offered| *offered == code)
                .unwrap_or("other")
        });
    Some(Feedback {
        card: item.text("card")?.to_ascii_lowercase(),
        accepted: item.text("outcome")? == "accepted",
        reason,
        at: OffsetDateTime::parse(item.text("outcomeTimestamp")?, &Rfc3339).ok()?,
    })
}
