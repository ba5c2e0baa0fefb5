//! Flag: the alert beside the patient's name. One for each patient and family, which toggles.

use serde_json::{Value, json};

use super::{
    Resource, WriteContext, assemble, coding, device, identity, inputs, narrative::Narrative, put,
    reissue, words,
};
use crate::clinical::assessment::{
    Assessment, Family, Finding, FlagChange, FlagState, Lineage, Urgency,
};

const DETAIL: &str = "http://hl7.org/fhir/StructureDefinition/flag-detail";

/// Days after which a low count is called persistent.
const PERSISTENT_DAYS: i64 = 28;

/// Inputs that a Flag links to.
const MOST_INPUTS: usize = 20;

/// The Flag as it is to be from now on; `report`: logical id of the report it leads to.
pub fn flag(
    change: &FlagChange,
    assessment: &Assessment,
    ctx: &WriteContext<'_>,
    report: Option<&str>,
) -> Resource {
    let finding = &change.finding;
    let identifier = identity::flag_identifier(ctx.tenant, ctx.patient_key, finding.family);
    let previous = ctx.previous_of("Flag", &identity::resource_id("Flag", &identifier));
    match (finding.state, previous) {
        (FlagState::EnteredInError, Some(previous)) => withdrawn(change, previous, ctx),
        (FlagState::Inactive, Some(previous)) => closed(change, assessment, previous, ctx, report),
        _ => whole(change, assessment, ctx, &identifier, report),
    }
}

fn whole(
    change: &FlagChange,
    assessment: &Assessment,
    ctx: &WriteContext<'_>,
    identifier: &str,
    report: Option<&str>,
) -> Resource {
    let finding = &change.finding;
    let mut extension = vec![priority(finding.urgency)];
    extension.extend(details(assessment, report));
    let code = code(finding, assessment, ctx, identifier);
    let headline = text_of(&code).unwrap_or_default();
    let rest = json!({
        "extension": extension,
        "identifier": [{
            "use": "official",
            "system": identity::FLAG_SYSTEM,
            "value": identifier
        }],
        "status": status(finding.state),
        "category": categories(finding.urgency),
        "code": code,
        "subject": super::subject(ctx.subject),
        "period": period(finding, assessment),
        "author": device::reference(ctx)
    });
    let narrative = Narrative::default()
        .headline(&headline)
        .paragraph(words::urgency(finding.urgency))
        .paragraph(&why(change))
        .values(assessment)
        .paragraph("ICD-10-CM codes, where given, are a coding aid.")
        .paragraph(&words::horizon(assessment))
        .paragraph(words::CAVEAT);
    assemble(
        ctx,
        "Flag",
        "cytopenia-flag",
        Some((identity::FLAG_SYSTEM, identifier)),
        rest,
        narrative,
    )
}

/// Recovered, replaced by another family, or the patient has died: what it said stands, with an
/// end.
fn closed(
    change: &FlagChange,
    assessment: &Assessment,
    previous: &Resource,
    ctx: &WriteContext<'_>,
    report: Option<&str>,
) -> Resource {
    let finding = &change.finding;
    let narrative = Narrative::default()
        .headline(
            &previous
                .body
                .get("code")
                .and_then(text_of)
                .unwrap_or_else(|| text(finding, assessment)),
        )
        .paragraph("No longer active.")
        .paragraph(&why(change))
        .values(assessment)
        .paragraph(&words::horizon(assessment))
        .paragraph(words::CAVEAT);
    reissue(ctx, "cytopenia-flag", previous, narrative, |body| {
        put(body, "status", json!("inactive"));
        put(body, "period", period(finding, assessment));
        put(body, "author", device::reference(ctx));
        if report.is_some() {
            let mut extension = vec![priority(finding.urgency)];
            extension.extend(details(assessment, report));
            put(body, "extension", Value::Array(extension));
        }
    })
}

/// A result it rested on was withdrawn: code and period stay as they were.
fn withdrawn(change: &FlagChange, previous: &Resource, ctx: &WriteContext<'_>) -> Resource {
    let because = match change.why {
        "deleted" => {
            "What was kept about this patient is deleted on request, and this Flag is withdrawn with it."
        }
        _ => {
            "A result that this Flag rested on was withdrawn or corrected; what remains would not have raised it."
        }
    };
    let narrative = Narrative::default()
        .headline("Entered in error")
        .paragraph(because)
        .paragraph(&why(change))
        .paragraph(words::CAVEAT);
    reissue(ctx, "cytopenia-flag", previous, narrative, |body| {
        put(body, "status", json!("entered-in-error"));
        put(body, "author", device::reference(ctx));
    })
}

fn status(state: FlagState) -> &'static str {
    match state {
        FlagState::Active => "active",
        FlagState::Inactive => "inactive",
        FlagState::EnteredInError => "entered-in-error",
    }
}

fn why(change: &FlagChange) -> String {
    if change.why.is_empty() {
        String::new()
    } else {
        format!("Reason of this version: {}.", change.why)
    }
}

fn priority(urgency: Urgency) -> Value {
    let (code, display) = match urgency {
        Urgency::U4 | Urgency::U3 => ("PH", "High priority"),
        Urgency::U2 => ("PM", "Medium priority"),
        Urgency::U1 | Urgency::U0 => ("PL", "Low priority"),
    };
    json!({
        "url": identity::FLAG_PRIORITY,
        "valueCodeableConcept": {"coding": [{
            "system": "http://hl7.org/fhir/flag-priority-code",
            "code": code,
            "display": display
        }]}
    })
}

/// The only standard link from a Flag to its evidence.
fn details(assessment: &Assessment, report: Option<&str>) -> Vec<Value> {
    let report = report.map(|id| json!({"reference": format!("DiagnosticReport/{id}")}));
    report
        .into_iter()
        .chain(inputs::used(assessment, MOST_INPUTS))
        .map(|reference| json!({"url": DETAIL, "valueReference": reference}))
        .collect()
}

fn categories(urgency: Urgency) -> Value {
    const SYSTEM: &str = "http://terminology.hl7.org/CodeSystem/flag-category";
    let category = |code: &str, display: &str| json!({"coding": [{"system": SYSTEM, "code": code, "display": display}]});
    let second = if urgency == Urgency::U4 {
        category("safety", "Safety")
    } else {
        category("clinical", "Clinical")
    };
    json!([category("lab", "Lab"), second])
}

fn period(finding: &Finding, assessment: &Assessment) -> Value {
    let mut period = json!({"start": words::date_time(&finding.episode_start)});
    if finding.state != FlagState::Active {
        let end = match finding.state {
            // A closed Flag without an end would still be shown by its period.
            FlagState::Inactive => finding
                .episode_end
                .or(assessment.index.as_ref().map(|index| index.at))
                .map_or_else(
                    || words::instant(assessment.as_of),
                    |end| words::date_time(&end),
                )
                .into(),
            _ => finding.episode_end.map(|end| words::date_time(&end)),
        };
        if let Some(end) = end {
            put(&mut period, "end", json!(end));
        }
    }
    period
}

/// Code and text. A Flag that stays open while its lines recover keeps the words it was raised
/// with: the lines that are low today would no longer explain it.
fn code(
    finding: &Finding,
    assessment: &Assessment,
    ctx: &WriteContext<'_>,
    identifier: &str,
) -> Value {
    let low = coding::low_lines(assessment);
    let explained = match finding.slug.as_str() {
        "pancytopenia" => low.len() == 3,
        "bicytopenia" => low.len() == 2,
        _ => true,
    };
    let previous = ctx
        .previous_of("Flag", &identity::resource_id("Flag", identifier))
        .and_then(|previous| previous.body.get("code"))
        .filter(|code| {
            code.pointer("/coding/0/code").and_then(Value::as_str) == Some(&finding.slug)
        });
    match previous {
        Some(code) if !explained => code.clone(),
        _ => json!({
            "coding": coding::codings(&finding.slug, &low, ctx.snomed),
            "text": text(finding, assessment)
        }),
    }
}

fn text_of(code: &Value) -> Option<String> {
    code.get("text").and_then(Value::as_str).map(str::to_owned)
}

/// At most 80 characters: what it is, and how soon to look.
fn text(finding: &Finding, assessment: &Assessment) -> String {
    let low = coding::low_lines(assessment);
    let what = match finding.slug.as_str() {
        "pancytopenia" => lines("Three low cell lines", 3, &low),
        "bicytopenia" => lines("Two low cell lines", 2, &low),
        "anemia" => "Low haemoglobin".to_owned(),
        "anemia-hyporegenerative" => "Low haemoglobin, low reticulocytes".to_owned(),
        "neutropenia" => "Low neutrophils".to_owned(),
        "thrombocytopenia" => "Low platelets".to_owned(),
        "febrile-neutropenia" => "Fever with low neutrophils".to_owned(),
        other => coding::finding(other)
            .map_or("Blood count finding", |finding| finding.display)
            .to_owned(),
    };
    let what = if persistent(finding, assessment) {
        let mut letters = what.chars();
        letters.next().map_or_else(String::new, |first| {
            format!("Persistent {}{}", first.to_lowercase(), letters.as_str())
        })
    } else {
        what
    };
    let soon = match finding.urgency {
        Urgency::U4 => "review now",
        Urgency::U3 => "review within 24 h",
        _ => "review",
    };
    words::clean(&format!("{what} — {soon}"), 80)
}

fn lines(what: &str, expected: usize, low: &[Lineage]) -> String {
    let names: Vec<_> = low.iter().map(|line| words::lineage_label(*line)).collect();
    if names.len() == expected {
        format!("{what} ({})", names.join(", "))
    } else {
        what.to_owned()
    }
}

/// Only for families that are a low count, and only when the low count itself lasts.
fn persistent(finding: &Finding, assessment: &Assessment) -> bool {
    let counts = matches!(
        finding.family,
        Family::Pancytopenia | Family::Anaemia | Family::Neutropenia | Family::Thrombocytopenia
    );
    let days = assessment.index.as_ref().map_or(0, |index| {
        (index.at.instant - finding.episode_start.instant).whole_days()
    });
    counts && finding.state == FlagState::Active && days >= PERSISTENT_DAYS
}
