//! Conditions, drugs, procedures, relatives and coded results, as finding tokens with their dates.
//!
//! One resource in, the facts it states out. What a fact means at a given specimen (windows,
//! implied tokens, quiet contexts) is medicine and lives in [`crate::clinical::tokens`].
//!
//! - What is not sent is unknown; FALSE needs an explicit negative.
//! - A code that is wider than a token only mentions it: [`Truth::Unknown`].
//! - What silences an alarm needs better evidence than what raises one: a planned drug, a code
//!   whose meaning was not confirmed, a date that is only the day of filing never do.
//! - The codes are in `src/fhir/findings.tsv`. Text is matched only where no code was sent.
//!
//! A token may carry a qualifier behind an `@`: see [`crate::clinical::tokens`].

mod code;
mod condition;
mod family;
mod gene;
mod medication;
mod observation;
mod procedure;
mod table;
mod text;
mod value;
mod when;

use std::sync::Arc;

use time::OffsetDateTime;

use super::super::{
    outcome::{Issue, Severity},
    tree::Tree,
};
use crate::clinical::{
    timeline::{Fact, Source},
    truth::Truth,
};

/// Finds the resource that a reference of the submission points at (`#id`, `urn:uuid:`,
/// `Type/id`, absolute).
pub type Resolve<'r, 't> = &'r dyn Fn(&str) -> Option<&'t Tree<'t>>;

/// The facts that `resource` states, and what its sender should know about reading it.
///
/// Knows Condition, Encounter, Observation, DiagnosticReport, the medication resources, Procedure,
/// `FamilyMemberHistory` and Specimen; any other type states nothing. `Issue::expression` is
/// relative to the resource (`code`); [`Source::handle`] and `filed_at` are left to the caller.
pub fn facts(resource: &Tree<'_>, resolve: Resolve<'_, '_>) -> (Vec<Fact>, Vec<Issue>) {
    let mut reader = Reader {
        resource,
        resolve,
        source: source(resource),
        facts: Vec::new(),
        issues: Vec::new(),
    };
    match resource.resource_type() {
        Some("Condition") => condition::read(&mut reader),
        Some("Encounter") => condition::read_encounter(&mut reader),
        Some("Observation") => observation::read(&mut reader),
        Some("DiagnosticReport") => observation::read_report(&mut reader),
        Some("Specimen") => observation::read_specimen(&mut reader),
        Some(
            "MedicationAdministration"
            | "MedicationStatement"
            | "MedicationDispense"
            | "MedicationRequest",
        ) => medication::read(&mut reader),
        Some("Procedure") => procedure::read(&mut reader),
        Some("FamilyMemberHistory") => family::read(&mut reader),
        _ => {}
    }
    (reader.facts, reader.issues)
}

/// Groups of drugs that a draft order (`MedicationRequest` of a CDS Hooks call) is for, as the
/// tokens of the table: `chemo`, `drug_high`, `drug_other` ...
pub fn ordered_drugs(order: &Tree<'_>, resolve: Resolve<'_, '_>) -> Vec<&'static str> {
    medication::ordered_groups(&Reader {
        resource: order,
        resolve,
        source: Source::default(),
        facts: Vec::new(),
        issues: Vec::new(),
    })
}

/// What reading one resource needs and yields.
struct Reader<'r, 't> {
    resource: &'r Tree<'r>,
    resolve: Resolve<'r, 't>,
    source: Source,
    facts: Vec<Fact>,
    issues: Vec<Issue>,
}

impl<'t> Reader<'_, 't> {
    /// Adds a fact.
    fn state(
        &mut self,
        token: impl AsRef<str>,
        truth: Truth,
        from: Option<OffsetDateTime>,
        until: Option<OffsetDateTime>,
    ) {
        self.facts.push(Fact {
            token: Arc::from(token.as_ref()),
            truth,
            from,
            until,
            filed_at: None,
            source: self.source.clone(),
        });
    }

    /// The resource that the Reference member `name` points at.
    fn referenced(&self, holder: &Tree<'_>, name: &str) -> Option<&'t Tree<'t>> {
        (self.resolve)(holder.get(name)?.text("reference")?)
    }

    /// Adds a warning about the element `expression` of the resource.
    fn warn(&mut self, word: &'static str, text: &str, expression: &str) {
        self.issues.push(Issue {
            severity: Severity::Warning,
            word,
            text: text.to_owned(),
            diagnostics: None,
            expression: Some(expression.to_owned()),
        });
    }
}

fn source(resource: &Tree<'_>) -> Source {
    let identifier = resource.items("identifier").iter().find_map(|identifier| {
        Some((
            Arc::from(identifier.text("system")?),
            Arc::from(identifier.text("value")?),
        ))
    });
    Source {
        handle: 0,
        identifier,
        loinc: None,
    }
}

/// The first code of a `CodeableConcept`, whatever its system: for status elements, whose value sets
/// are required bindings.
fn status_code<'r>(resource: &'r Tree<'r>, name: &str) -> Option<&'r str> {
    resource
        .get(name)?
        .items("coding")
        .iter()
        .find_map(|coding| coding.text("code"))
}

#[cfg(test)]
mod tests;
