//! Suggestions: the work-up of the pattern found, as draft orders.
//!
//! Source of what is asked for: the work-up column of the count patterns (clinical specification
//! 4.1). What was measured already is not asked for again.

use serde_json::{Map, Value, json};
use time::{Duration, OffsetDateTime};

use super::card::View;
use crate::{
    clinical::{
        analyte::Analyte,
        assessment::{Family, Urgency},
    },
    fhir::{codes, write::words},
};

/// A test that can be ordered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Test {
    Film,
    Reticulocytes,
    Count,
    B12,
    Folate,
    Ferritin,
    Copper,
    Ldh,
}

impl Test {
    fn label(self) -> &'static str {
        match self {
            Self::Film => "Blood film review",
            Self::Reticulocytes => "Reticulocyte count",
            Self::Count => "Complete blood count with differential",
            Self::B12 => "Vitamin B12",
            Self::Folate => "Folate",
            Self::Ferritin => "Ferritin",
            Self::Copper => "Copper",
            Self::Ldh => "Lactate dehydrogenase",
        }
    }

    /// LOINC code of the order.
    fn loinc(self) -> &'static str {
        match self {
            Self::Film => "5909-7",
            Self::Reticulocytes => "14196-0",
            Self::Count => "57021-8",
            Self::B12 => "2132-9",
            Self::Folate => "2284-8",
            Self::Ferritin => "2276-4",
            Self::Copper => "5631-7",
            Self::Ldh => "2532-0",
        }
    }

    /// For how long a result makes another one needless.
    fn lasts(self) -> Option<(&'static [Analyte], Duration)> {
        Some(match self {
            Self::Film | Self::Count => return None,
            Self::Reticulocytes => (
                &[Analyte::Arc, Analyte::ReticulocytePercent],
                Duration::days(7),
            ),
            Self::B12 => (&[Analyte::B12], Duration::days(180)),
            Self::Folate => (&[Analyte::Folate], Duration::days(180)),
            Self::Ferritin => (&[Analyte::Ferritin], Duration::days(90)),
            Self::Copper => (&[Analyte::Copper], Duration::days(180)),
            Self::Ldh => (&[Analyte::Ldh], Duration::days(30)),
        })
    }
}

/// What is suggested: a line and its draft orders.
pub(super) fn suggestions(
    view: &View<'_>,
    family: Family,
    urgency: Urgency,
) -> Vec<(String, Vec<Value>)> {
    let (first, second): (&[Test], &[Test]) = match family {
        Family::Pancytopenia => (
            &[Test::Film, Test::Reticulocytes],
            &[Test::B12, Test::Folate, Test::Copper, Test::Ldh],
        ),
        Family::Anaemia => (
            &[Test::Film, Test::Reticulocytes],
            &[Test::Ferritin, Test::B12, Test::Folate],
        ),
        Family::Leukaemia | Family::ClonalPattern | Family::InheritedPattern => {
            (&[Test::Film, Test::Reticulocytes], &[])
        }
        Family::Neutropenia
        | Family::NeutropenicFever
        | Family::Thrombocytopenia
        | Family::InfantImmunity
        | Family::CriticalValue => (&[Test::Film, Test::Count], &[]),
    };
    let open: Vec<Vec<Test>> = [first, second]
        .into_iter()
        .map(|tests| {
            tests
                .iter()
                .copied()
                .filter(|test| !is_known(view, *test))
                .collect()
        })
        .collect();
    let mut suggestions: Vec<(String, Vec<Value>)> = open
        .into_iter()
        .filter(|tests: &Vec<Test>| !tests.is_empty())
        .map(|tests| {
            let names: Vec<&str> = tests.iter().map(|test| test.label()).collect();
            let orders = tests
                .iter()
                .map(|test| action(view, *test, urgency, None))
                .collect();
            (format!("Order {}", joined(&names)), orders)
        })
        .collect();
    if view.discharge_without_count {
        let from = view.now.saturating_add(Duration::weeks(2));
        let until = view.now.saturating_add(Duration::weeks(4));
        suggestions.push((
            "Order a blood count in 2 to 4 weeks".to_owned(),
            vec![action(view, Test::Count, Urgency::U1, Some((from, until)))],
        ));
    }
    suggestions
}

/// `Blood film review and Reticulocyte count`, the later names in small letters.
fn joined(names: &[&str]) -> String {
    let small = |name: &str| {
        let mut characters = name.chars();
        match characters.next() {
            Some(first) => first.to_lowercase().chain(characters).collect::<String>(),
            None => String::new(),
        }
    };
    let names: Vec<String> = names.iter().map(|name| small(name)).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

fn is_known(view: &View<'_>, test: Test) -> bool {
    let Some((analytes, lasts)) = test.lasts() else {
        return false;
    };
    let since = view.now.saturating_sub(lasts);
    view.timeline.measurements.iter().any(|measurement| {
        analytes.contains(&measurement.analyte)
            && measurement.unusable.is_none()
            && measurement.at.is_some_and(|at| at.instant >= since)
    })
}

fn action(
    view: &View<'_>,
    test: Test,
    urgency: Urgency,
    when: Option<(OffsetDateTime, OffsetDateTime)>,
) -> Value {
    let display = codes::term(test.loinc()).map(|term| term.name);
    let mut coding = Map::new();
    coding.insert("system".to_owned(), json!(codes::LOINC));
    coding.insert("code".to_owned(), json!(test.loinc()));
    if let Some(display) = display {
        coding.insert("display".to_owned(), json!(display));
    }
    let priority = match urgency {
        Urgency::U4 => "stat",
        Urgency::U3 => "urgent",
        _ => "routine",
    };
    let mut order = json!({
        "resourceType": "ServiceRequest",
        "status": "draft",
        "intent": "proposal",
        "priority": priority,
        "code": { "coding": [coding], "text": test.label() },
        "subject": { "reference": format!("Patient/{}", view.call.patient_id) },
    });
    if let Value::Object(members) = &mut order {
        if let Some(encounter) = view.call.encounter_id {
            let reference = json!({ "reference": format!("Encounter/{encounter}") });
            members.insert("encounter".to_owned(), reference);
        }
        if let Some((from, until)) = when {
            let period = json!({
                "start": from.date().to_string(),
                "end": until.date().to_string()
            });
            members.insert("occurrencePeriod".to_owned(), period);
        }
        members.insert("authoredOn".to_owned(), json!(words::instant(view.now)));
        let reason = words::clean(&view.assessment.headline, 200);
        if !reason.is_empty() {
            members.insert("reasonCode".to_owned(), json!([{ "text": reason }]));
        }
    }
    json!({
        "type": "create",
        "description": format!("{} (draft order)", test.label()),
        "resource": order,
    })
}
