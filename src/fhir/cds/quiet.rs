//! When a card is not shown again (clinical specification 8.2): alert fatigue is a defect.
//!
//! The card of a family stays away for 72 h in hospital and 30 days outside, counted from the last
//! one shown to the same client, and outside for the rest of the same encounter (a stay in hospital
//! is one encounter, in which the 72 h count); longer when a clinician has answered it. An escalation
//! breaks all of these.

use serde::{Deserialize, Serialize};
use time::{Duration, OffsetDateTime};

use crate::clinical::{
    analyte::Analyte,
    assessment::{Acknowledged, Assessment, Grade, Lineage, Urgency},
};

/// What an escalation is measured by.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// Urgency, 0 to 4.
    pub urgency: u8,
    /// Grades of haemoglobin, neutrophils and platelets, 0 (not low) to 5.
    pub grades: [u8; 3],
    /// Neutrophils, 10*9/L, when one number is certain.
    pub anc: Option<String>,
    /// Platelets, 10*9/L.
    pub plt: Option<String>,
    /// Blasts of 1 % and more.
    pub blasts: bool,
    /// Fever with neutrophils below 0.5.
    pub fever: bool,
    /// Counts as in aplastic anaemia: 0 none, 1 not severe, 2 severe, 3 very severe.
    pub aplastic: u8,
    /// When the index specimen was taken, in seconds.
    pub index: i64,
}

impl Marks {
    /// Of an assessment, with the urgency that its card has.
    pub fn of(assessment: &Assessment, urgency: Urgency) -> Self {
        let lineage = |wanted: Lineage| {
            assessment
                .lineages
                .iter()
                .find(|result| result.lineage == wanted)
        };
        let rank = |wanted| {
            lineage(wanted).map_or(0, |result| {
                let grade = result.grade.or(result.at_least);
                match grade {
                    Some(grade) => grade_rank(grade),
                    None => u8::from(result.low.is_true()),
                }
            })
        };
        let number = |wanted| {
            lineage(wanted)
                .and_then(|result| result.value.as_ref()?.interval.as_exact())
                .map(|value| value.normalize().to_string())
        };
        let aplastic = assessment
            .candidates
            .iter()
            .find(|candidate| candidate.id == "D01")
            .and_then(|candidate| candidate.label.as_deref())
            .map_or(0, |label| {
                if label.contains("VSAA") {
                    3
                } else if label.contains("NSAA") {
                    1
                } else {
                    u8::from(label.contains("SAA")) * 2
                }
            });
        Self {
            urgency: urgency_rank(urgency),
            grades: [
                rank(Lineage::Erythroid),
                rank(Lineage::Neutrophil),
                rank(Lineage::Platelet),
            ],
            anc: number(Lineage::Neutrophil),
            plt: number(Lineage::Platelet),
            blasts: assessment.used.iter().any(|value| {
                value.analyte == Analyte::Blasts
                    && value
                        .interval
                        .low
                        .is_some_and(|low| low.value >= rust_decimal::Decimal::ONE)
            }),
            fever: assessment
                .safety
                .iter()
                .any(|rule| rule.id == "S02" && rule.truth.is_true()),
            aplastic,
            index: assessment
                .index
                .as_ref()
                .map_or(0, |index| index.at.instant.unix_timestamp()),
        }
    }

    /// Worse than `before` in a way that must be said again.
    pub fn escalates(&self, before: &Self) -> bool {
        let halved = |now: &Option<String>, then: &Option<String>, grade: u8| {
            let parse = |text: &Option<String>| -> Option<rust_decimal::Decimal> {
                text.as_deref()?.parse().ok()
            };
            let (Some(now), Some(then)) = (parse(now), parse(then)) else {
                return false;
            };
            now.checked_mul(rust_decimal::Decimal::TWO)
                .is_some_and(|twice| twice <= then)
                && now < then
                && grade >= grade_rank(Grade::Severe)
                && self.index.saturating_sub(before.index) <= Duration::WEEK.whole_seconds()
        };
        let [_, anc, plt] = self.grades;
        self.urgency > before.urgency
            || self
                .grades
                .iter()
                .zip(&before.grades)
                .any(|(now, then)| now > then)
            || (self.blasts && !before.blasts)
            || (self.fever && !before.fever)
            || (self.aplastic > before.aplastic && before.aplastic > 0)
            || halved(&self.anc, &before.anc, anc)
            || halved(&self.plt, &before.plt, plt)
    }
}

fn grade_rank(grade: Grade) -> u8 {
    match grade {
        Grade::None => 0,
        Grade::Mild => 1,
        Grade::Moderate => 2,
        Grade::Severe => 3,
        Grade::VerySevere => 4,
        Grade::Critical => 5,
    }
}

/// Urgency as a number.
pub fn urgency_rank(urgency: Urgency) -> u8 {
    match urgency {
        Urgency::U0 => 0,
        Urgency::U1 => 1,
        Urgency::U2 => 2,
        Urgency::U3 => 3,
        Urgency::U4 => 4,
    }
}

/// The last card of a family that a client was shown for a patient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its id.
    pub uuid: String,
    /// What it said.
    pub marks: Marks,
    /// Encounter it was shown in.
    pub encounter: Option<String>,
    /// When.
    pub at: OffsetDateTime,
}

/// The last answer to a card of the family, by anyone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// What it means.
    pub what: Acknowledged,
    /// When.
    pub at: OffsetDateTime,
    /// What the card said that it answers.
    pub marks: Marks,
}

/// The card that could be shown.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its id: a repeated call gets the same card.
    pub uuid: &'a str,
    /// What it says.
    pub marks: &'a Marks,
    /// Encounter of the call.
    pub encounter: Option<&'a str>,
    /// The stay has not ended.
    pub inpatient: bool,
    /// Now.
    pub at: OffsetDateTime,
}

/// Whether the card stays away.
pub fn is_quiet(card: &Candidate<'_>, shown: Option<&Shown>, answered: Option<&Answered>) -> bool {
    let within = |since: OffsetDateTime, period: Duration| card.at < since.saturating_add(period);
    if shown.is_some_and(|shown| shown.uuid == card.uuid) {
        return false;
    }
    let by_answer = answered.is_some_and(|answered| {
        !card.marks.escalates(&answered.marks)
            && match answered.what {
                Acknowledged::Known => within(answered.at, Duration::days(90)),
                // Until a new episode or an escalation.
                Acknowledged::NotRelevant => true,
                Acknowledged::Other => within(answered.at, Duration::days(30)),
            }
    });
    let by_showing = shown.is_some_and(|shown| {
        let period = if card.inpatient {
            Duration::hours(72)
        } else {
            Duration::days(30)
        };
        let same_encounter = !card.inpatient
            && card.encounter.is_some()
            && card.encounter == shown.encounter.as_deref();
        !card.marks.escalates(&shown.marks) && (same_encounter || within(shown.at, period))
    });
    by_answer || by_showing
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    fn marks(urgency: u8, grades: [u8; 3]) -> Marks {
        Marks {
            urgency,
            grades,
            ..Marks::default()
        }
    }

    fn quiet(now: &Marks, before: &Marks, days: i64, inpatient: bool, encounter: bool) -> bool {
        let start = datetime!(2026-11-01 08:00 UTC);
        let shown = Shown {
            uuid: "first".to_owned(),
            marks: before.clone(),
            encounter: Some("e1".to_owned()),
            at: start,
        };
        let card = Candidate {
            uuid: "second",
            marks: now,
            encounter: Some(if encounter { "e1" } else { "e2" }),
            inpatient,
            at: start + Duration::days(days),
        };
        is_quiet(&card, Some(&shown), None)
    }

    #[test]
    fn a_card_comes_back_after_its_time_and_at_once_when_worse() {
        let before = marks(2, [2, 1, 0]);
        assert!(quiet(&before, &before, 29, false, false));
        assert!(!quiet(&before, &before, 30, false, false));
        assert!(quiet(&before, &before, 2, true, false));
        assert!(!quiet(&before, &before, 3, true, false));
        assert!(!quiet(&before, &before, 3, true, true));
        assert!(quiet(&before, &before, 200, false, true));
        assert!(!quiet(&marks(3, [2, 1, 0]), &before, 0, false, true));
        assert!(!quiet(&marks(2, [2, 2, 0]), &before, 1, false, true));
        assert!(!quiet(&marks(2, [2, 1, 1]), &before, 1, false, true));
        assert!(quiet(&marks(1, [1, 0, 0]), &before, 1, false, false));
    }

    #[test]
    fn halving_within_a_week_counts_at_severe_grades() {
        let with = |plt: &str, grade, index| Marks {
            plt: Some(plt.to_owned()),
            grades: [0, 0, grade],
            index,
            ..Marks::default()
        };
        let day = 86_400;
        assert!(with("20", 3, 7 * day).escalates(&with("40", 3, 0)));
        assert!(!with("20", 3, 8 * day).escalates(&with("40", 3, 0)));
        assert!(!with("60", 2, day).escalates(&with("120", 2, 0)));
        assert!(!with("21", 3, day).escalates(&with("40", 3, 0)));
    }

    #[test]
    fn answers_have_their_own_times() {
        let start = datetime!(2026-11-01 08:00 UTC);
        let asked = |what, days, now: &Marks| {
            let answered = Answered {
                what,
                at: start,
                marks: marks(2, [2, 1, 0]),
            };
            let card = Candidate {
                uuid: "second",
                marks: now,
                encounter: None,
                inpatient: true,
                at: start + Duration::days(days),
            };
            is_quiet(&card, None, Some(&answered))
        };
        let same = marks(2, [2, 1, 0]);
        assert!(asked(Acknowledged::Known, 89, &same));
        assert!(!asked(Acknowledged::Known, 90, &same));
        assert!(asked(Acknowledged::Other, 29, &same));
        assert!(!asked(Acknowledged::Other, 30, &same));
        assert!(asked(Acknowledged::NotRelevant, 900, &same));
        let worse = marks(3, [2, 1, 0]);
        for what in [
            Acknowledged::Known,
            Acknowledged::Other,
            Acknowledged::NotRelevant,
        ] {
            assert!(!asked(what, 1, &worse));
        }
    }
}
