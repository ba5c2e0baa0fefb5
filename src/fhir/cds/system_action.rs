//! The Flag that a client creates by itself, where it was agreed that it does.

use serde_json::{Value, json};

use crate::{
    clinical::assessment::{Assessment, Finding, FlagChange, FlagState, Lineage},
    fhir::{
        read::Subject,
        write::{self, WriteContext, flag},
    },
};

/// `systemActions` for a card: one Flag, with the subject of the call and without an id, as a
/// client creates it.
pub fn create_flag(
    assessment: &Assessment,
    tenant: &str,
    patient_key: &[u8; 32],
    patient_id: &str,
) -> Option<Value> {
    let index = assessment.index.as_ref()?;
    let grade = |wanted: Lineage| {
        assessment
            .lineages
            .iter()
            .find(|result| result.lineage == wanted)
            .filter(|result| result.low.is_true())
            .and_then(|result| result.grade.or(result.at_least))
    };
    let lineage_grades = [
        grade(Lineage::Erythroid),
        grade(Lineage::Neutrophil),
        grade(Lineage::Platelet),
    ];
    let change = FlagChange {
        finding: Finding {
            family: assessment.family?,
            state: FlagState::Active,
            slug: assessment.slug?.to_owned(),
            urgency: assessment.urgency,
            grade: lineage_grades.into_iter().flatten().max(),
            lineage_grades,
            episode_start: index.at,
            episode_end: None,
            notified_at: None,
            acknowledged: None,
            human: None,
        },
        write: true,
        notify: true,
        why: "raised",
    };
    let subject = Subject {
        reference: Some(format!("Patient/{patient_id}")),
        identifier: None,
    };
    let context = WriteContext::new(tenant, patient_key, &subject);
    let made = flag::flag(&change, assessment, &context, None);
    let mut body = write::for_target(&made, patient_id);
    if let Value::Object(members) = &mut body {
        members.remove("id");
        // Our Device is not there; its identifier says who it is.
        if let Some(Value::Object(author)) = members.get_mut("author") {
            author.remove("reference");
        }
    }
    Some(json!({
        "type": "create",
        "description": "Flag for the finding of this card",
        "resource": body,
    }))
}
