//! Procedures: transplants, transfusions, radiotherapy, operations.

use super::{
    Reader,
    code::{self, Hit},
    table::{Use, Voice},
    when::When,
};
use crate::clinical::{tokens, truth::Truth};

/// SNOMED CT concept that says whose marrow it was.
const ALLOGENEIC: &str = "58390007";

/// Reads a Procedure. A `ServiceRequest` or an Appointment is a plan and is not read.
pub(super) fn read(reader: &mut Reader<'_, '_>) {
    let procedure = reader.resource;
    let done = match procedure.text("status") {
        Some("completed" | "in-progress") => true,
        Some("not-done") => false,
        _ => return,
    };
    let Some(concept) = procedure.get("code") else {
        return;
    };
    let begun = When::member(procedure, "performedDateTime")
        .or_else(|| When::start(procedure, "performedPeriod"));
    let ended = When::member(procedure, "performedDateTime")
        .or_else(|| When::end(procedure, "performedPeriod"))
        .or(begun);
    let begun = begun.or(ended);
    for hit in code::hits(concept, Use::Procedure) {
        if hit.row.voice == Voice::Never {
            continue;
        }
        let mut truth = if !done {
            Truth::False
        } else if hit.says() {
            Truth::True
        } else {
            Truth::Unknown
        };
        let dated = ended.is_some_and(|when| when.to_the_day);
        let needs_date = !matches!(
            tokens::span(hit.row.token),
            tokens::Span::Ever | tokens::Span::State
        );
        if (tokens::silences(hit.row.token) && !hit.row.verified) || (needs_date && !dated) {
            truth = truth.and(Truth::Unknown);
        }
        if hit.row.token == "rbc_transfusion" && is_unnamed_component(&hit) {
            reader.warn(
                "value-kind",
                "Transfusion without its component: red cells assumed",
                "code",
            );
        }
        // What was not done is no exposure, whatever else is known.
        if truth.is_false() && needs_date {
            continue;
        }
        if hit.row.token == "postpartum" && truth.is_true() {
            reader.state("pregnant@ended", truth, begun.map(|when| when.first), None);
        }
        reader.state(
            qualified(&hit),
            truth,
            begun.map(|when| when.first),
            ended.map(|when| when.last),
        );
    }
}

fn is_unnamed_component(hit: &Hit) -> bool {
    matches!(hit.code.as_str(), "5447007" | "116859006")
}

/// A transplant with its donor, as far as the code says: the 7th character of ICD-10-PCS is 0 for
/// autologous, 2 to 4 for allogeneic.
fn qualified(hit: &Hit) -> String {
    let token = hit.token();
    if hit.row.token != "hsct" {
        return token;
    }
    let is_pcs = hit.code.len() == 7 && hit.code.starts_with("30");
    let donor = match hit.code.chars().last() {
        Some('0') if is_pcs => Some("autologous"),
        Some('2'..='4') if is_pcs => Some("allogeneic"),
        _ if hit.code == ALLOGENEIC => Some("allogeneic"),
        _ => None,
    };
    match donor {
        Some(donor) => format!("{token}@{donor}"),
        None => token,
    }
}
