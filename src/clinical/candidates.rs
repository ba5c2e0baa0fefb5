//! Weighs disorders, mimics and S01: gate, excluding lines, points, fit (section 6.1).

use super::{
    assessment::{Fit, Urgency},
    context::Context,
    disorders,
    evaluate::{Scope, answer},
    limits::{Confidence::Low, Limit},
    mimics,
    rule::{Answer, Evidence, Label, Rule},
    safety,
    truth::Truth,
};

static STRONG: Limit = Limit::new("fit.strong", "8", "1", "1", "project choice", Low);
static MODERATE: Limit = Limit::new("fit.moderate", "5", "1", "1", "project choice", Low);
static WEAK: Limit = Limit::new("fit.weak", "2", "1", "1", "project choice", Low);

/// Limits of this module.
pub fn limits() -> Vec<&'static Limit> {
    vec![&STRONG, &MODERATE, &WEAK]
}

/// Every weighed rule, in the order of the report: D, M, S01.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    disorders::ALL
        .iter()
        .chain(mimics::ALL)
        .copied()
        .chain([&safety::s01_acute_leukaemia::RULE])
}

/// A rule as weighed at one index.
#[derive(Debug, Clone)]
pub struct Weighed {
    /// Which.
    pub rule: &'static Rule,
    /// Its gate.
    pub gate: Truth,
    /// Prior of the age band.
    pub prior: i32,
    /// Prior and points, after caps.
    pub score: i32,
    /// Fit label.
    pub fit: Fit,
    /// Lines that counted, with the points in force.
    pub lines: Vec<(&'static Evidence, i32)>,
    /// Excluding lines that are true.
    pub excluded: Vec<&'static Evidence>,
    /// Sub-label, with its suffix.
    pub label: Option<String>,
    /// Reasons of the caps that held.
    pub capped: Vec<&'static str>,
    /// How soon.
    pub urgency: Urgency,
}

impl Weighed {
    /// Shown among the candidates: gate not FALSE, no excluding line, score enough.
    pub fn listed(&self) -> bool {
        self.excluded.is_empty() && self.fit > Fit::Hidden
    }

    /// Listed with its gate TRUE and a strong fit.
    pub fn strong(&self) -> bool {
        self.listed() && self.gate.is_true() && self.fit == Fit::Strong
    }
}

/// Rules that a known marrow failure leaves in the list.
const ACUTE: [&str; 3] = ["S01", "M09", "M10"];

/// After an allogeneic transplant the blood is the donor's: inherited rules are not asked.
fn of_the_donor(id: &str) -> bool {
    matches!(
        id,
        "D03"
            | "D07"
            | "D08"
            | "D09"
            | "D10"
            | "D11"
            | "D12"
            | "D13"
            | "D14"
            | "D15"
            | "D16"
            | "D17"
            | "D18"
            | "D19"
            | "D20"
            | "D21"
            | "D22"
    )
}

/// Decides all gates; other rules may ask for them afterwards.
pub fn gates(context: &mut Context<'_>) {
    let transplanted = context.token("hsct_allo").truth.is_true();
    for rule in rules() {
        if transplanted && of_the_donor(rule.id)
            || context.ages.is_none() && rule.id != "S01"
            || prior(rule, context).is_none()
        {
            continue;
        }
        let gate = answer(&rule.gate, context, Scope::GATE);
        context.gates.push((rule.id, gate));
    }
}

/// The prior of the patient's age band; an unknown age takes the adult one. A birth date that
/// allows two bands takes the lower prior of those in which the rule is asked.
fn prior(rule: &Rule, context: &Context<'_>) -> Option<i32> {
    let Some(ages) = context.ages else {
        return rule.priors.of(super::rule::Band::Young);
    };
    let of = |band: super::rule::Band| {
        rule.priors.of(band).map(|points| {
            let tuning = context.tuning();
            tuning.points(rule.id, band.key(), points)
        })
    };
    match (of(ages.young.band()), of(ages.old.band())) {
        (Some(young), Some(old)) => Some(young.min(old)),
        (young, old) => young.or(old),
    }
}

/// Weighs every rule whose gate is not FALSE.
pub fn weigh(context: &Context<'_>, known_failure: bool) -> Vec<Weighed> {
    rules()
        .filter(|rule| !known_failure || ACUTE.contains(&rule.id))
        .filter_map(|rule| {
            let gate = gate_of(rule.id, context)?;
            (!gate.truth.is_false()).then(|| weigh_one(rule, gate.truth, context))
        })
        .collect()
}

fn gate_of(id: &str, context: &Context<'_>) -> Option<Answer> {
    context
        .gates
        .iter()
        .find(|(rule, _)| *rule == id)
        .map(|(_, answer)| *answer)
}

fn weigh_one(rule: &'static Rule, gate: Truth, context: &Context<'_>) -> Weighed {
    let tuning = context.tuning();
    let holds = |criterion| answer(criterion, context, Scope::PLAIN).truth.is_true();
    let excluded: Vec<&'static Evidence> = rule
        .excluding
        .iter()
        .filter(|line| holds(&line.when))
        .collect();
    let lines: Vec<(&'static Evidence, i32)> = rule
        .evidence
        .iter()
        .filter(|line| holds(&line.when))
        .map(|line| (line, tuning.points(rule.id, line.id, line.points)))
        .collect();
    let prior = prior(rule, context).unwrap_or_default();
    let mut score = prior + lines.iter().map(|(_, points)| points).sum::<i32>();
    let mut capped = Vec::new();
    for cap in rule.caps {
        if score > cap.score && holds(&cap.when) {
            score = cap.score;
            capped.push(cap.text);
        }
    }
    let reaches = |limit: &Limit| rust_decimal::Decimal::from(score) >= tuning.value(limit);
    let mut fit = if reaches(&STRONG) {
        Fit::Strong
    } else if reaches(&MODERATE) {
        Fit::Moderate
    } else if reaches(&WEAK) {
        Fit::Weak
    } else {
        Fit::Hidden
    };
    if gate.is_unknown() {
        fit = fit.min(Fit::Weak);
    }
    if rule.id == "S01" && gate.is_true() {
        fit = fit.max(Fit::Weak);
    }
    let urgency = rule
        .urgency
        .iter()
        .find(|(_, when)| holds(when))
        .map_or(Urgency::U1, |(urgency, _)| *urgency);
    let first = |labels: &'static [Label]| labels.iter().find(|label| holds(&label.when));
    let label = (gate.is_true() && excluded.is_empty() && fit > Fit::Hidden)
        .then(|| {
            let label = first(rule.labels)?;
            let suffix = first(rule.suffixes).map_or("", |label| label.text);
            Some(format!("{}{suffix}", label.text))
        })
        .flatten();
    Weighed {
        rule,
        gate,
        prior,
        score,
        fit,
        lines,
        excluded,
        label,
        capped,
        urgency,
    }
}

/// Sorts as a reader is to see them: gate TRUE first, then by score, then by id.
pub fn rank(candidates: &mut [&Weighed]) {
    candidates.sort_by(|one, two| {
        (two.gate, two.score)
            .cmp(&(one.gate, one.score))
            .then_with(|| one.rule.id.cmp(two.rule.id))
    });
}
