//! Derived Observations: the grade of each blood line, kept and served here, sent on request.
//!
//! Never a Quantity: a grade must not be mistaken for a count.

use serde_json::{Value, json};

use super::{
    Resource, WriteContext, assemble, coding, device, identity, inputs, narrative::Narrative, put,
    reissue, words,
};
use crate::clinical::{
    analyte::Analyte,
    assessment::{Assessment, CellResult, Grade, IndexSpecimen, Lineage, LineageResult, Verdict},
    truth::Truth,
};

/// Codes of `CodeSystem/mf-lineage` that are written.
pub const CODES: [&str; 6] = [
    "anaemia-grade",
    "neutropenia-grade",
    "thrombocytopenia-grade",
    "leukopenia-grade",
    "lymphopenia-grade",
    "summary",
];

/// `Observation.derivedFrom` at most.
const MOST_INPUTS: usize = 20;

/// Code and display of a line's grade.
fn code(lineage: Lineage) -> (&'static str, &'static str) {
    match lineage {
        Lineage::Erythroid => ("anaemia-grade", "Grade of anaemia"),
        Lineage::Neutrophil => ("neutropenia-grade", "Grade of neutropenia"),
        Lineage::Platelet => ("thrombocytopenia-grade", "Grade of thrombocytopenia"),
    }
}

/// One for each line, for white cells and lymphocytes that were counted, and the summary; none for a specimen without a result to derive from.
pub fn observations(assessment: &Assessment, ctx: &WriteContext<'_>) -> Vec<Resource> {
    let Some(index) = &assessment.index else {
        return Vec::new();
    };
    let report = identity::report_identifier(ctx.tenant, ctx.patient_key, index);
    let mut made: Vec<Resource> = assessment
        .lineages
        .iter()
        .filter_map(|result| line(result, assessment, ctx, &report))
        .collect();
    made.extend(
        assessment
            .cells
            .iter()
            .filter_map(|result| cells(result, assessment, ctx, &report)),
    );
    made.extend(summary(assessment, ctx, &report));
    made
}

/// Those of a withdrawn specimen.
pub fn withdrawn(index: &IndexSpecimen, ctx: &WriteContext<'_>) -> Vec<Resource> {
    let report = identity::report_identifier(ctx.tenant, ctx.patient_key, index);
    CODES
        .iter()
        .filter_map(|code| ctx.previous_of("Observation", &identity::observation_id(&report, code)))
        .map(|previous| {
            let narrative = Narrative::default()
                .headline("Entered in error")
                .paragraph("The result that this grade was derived from was withdrawn.");
            reissue(ctx, "lineage-observation", previous, narrative, |body| {
                put(body, "status", json!("entered-in-error"));
            })
        })
        .collect()
}

/// What one Observation says.
struct Content {
    code: &'static str,
    display: &'static str,
    grade: Option<Grade>,
    method: String,
    note: String,
    sufficiency: &'static str,
    derived_from: Vec<Value>,
}

fn line(
    result: &LineageResult,
    assessment: &Assessment,
    ctx: &WriteContext<'_>,
    report: &str,
) -> Option<Resource> {
    let (code, display) = code(result.lineage);
    let derived_from = match &result.value {
        Some(value) => inputs::references([value], MOST_INPUTS),
        None => inputs::all(assessment, MOST_INPUTS),
    };
    let sufficiency = match (result.grade, result.low) {
        (Some(_), _) => "sufficient",
        (None, Truth::True) => "partial",
        (None, _) => "insufficient",
    };
    let rule = match result.lineage {
        Lineage::Erythroid => "grade.E",
        Lineage::Neutrophil => "grade.N",
        Lineage::Platelet => "grade.P",
    };
    let index = assessment.index.as_ref().map(|index| index.at.day());
    observation(
        Content {
            code,
            display,
            grade: result.grade,
            method: rule.to_owned(),
            note: words::lineage(result, index),
            sufficiency,
            derived_from,
        },
        assessment,
        ctx,
        report,
    )
}

/// White cells or lymphocytes: a grade for the reader, on which no rule rests.
fn cells(
    result: &CellResult,
    assessment: &Assessment,
    ctx: &WriteContext<'_>,
    report: &str,
) -> Option<Resource> {
    let (code, display, method) = match result.analyte {
        Analyte::Wbc => ("leukopenia-grade", "Grade of leukopenia", "grade.WBC"),
        Analyte::Alc => ("lymphopenia-grade", "Grade of lymphopenia", "grade.ALC"),
        _ => return None,
    };
    observation(
        Content {
            code,
            display,
            grade: result.grade,
            method: method.to_owned(),
            note: words::cells(result),
            sufficiency: if result.grade.is_some() {
                "sufficient"
            } else {
                "insufficient"
            },
            derived_from: inputs::references([&result.value], MOST_INPUTS),
        },
        assessment,
        ctx,
        report,
    )
}

/// Worst certain grade; not decided while a line is open that could be worse than "not low".
fn summary(assessment: &Assessment, ctx: &WriteContext<'_>, report: &str) -> Option<Resource> {
    let worst = assessment
        .lineages
        .iter()
        .filter_map(|result| result.grade)
        .max();
    let (grade, sufficiency) = match assessment.verdict {
        Verdict::NoCytopenia => (Some(Grade::None), "sufficient"),
        Verdict::Cytopenia => {
            let open = assessment
                .lineages
                .iter()
                .any(|result| result.grade.is_none());
            (
                worst.filter(|grade| *grade > Grade::None),
                if open { "partial" } else { "sufficient" },
            )
        }
        Verdict::InsufficientData => (None, "insufficient"),
    };
    let method = assessment
        .patterns
        .iter()
        .find(|pattern| pattern.truth.is_true())
        .map_or("none", |pattern| pattern.id);
    observation(
        Content {
            code: "summary",
            display: "Worst grade of the blood lines",
            grade,
            method: method.to_owned(),
            note: words::counts(assessment),
            sufficiency,
            derived_from: inputs::all(assessment, MOST_INPUTS),
        },
        assessment,
        ctx,
        report,
    )
}

fn observation(
    content: Content,
    assessment: &Assessment,
    ctx: &WriteContext<'_>,
    report: &str,
) -> Option<Resource> {
    let index = assessment.index.as_ref()?;
    if content.derived_from.is_empty() {
        return None;
    }
    let lineage_system = format!("{}/CodeSystem/mf-lineage", identity::CANON);
    let identifier = identity::observation_identifier(report, content.code);
    let mut rest = json!({
        "identifier": [{
            "use": "official",
            "system": identity::OBSERVATION_SYSTEM,
            "value": identifier
        }],
        "status": "preliminary",
        "category": [
            {"coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/observation-category",
                "code": "laboratory",
                "display": "Laboratory"
            }]},
            {"coding": [{
                "system": format!("{}/CodeSystem/mf-report", identity::CANON),
                "code": "mf-derived",
                "display": "Derived by marrowflag"
            }]}
        ],
        "code": {
            "coding": [{
                "system": lineage_system,
                "code": content.code,
                "display": content.display
            }],
            "text": content.display
        },
        "subject": super::subject(ctx.subject),
        "effectiveDateTime": words::date_time(&index.at),
        "issued": words::instant(assessment.as_of),
        "performer": device::performer(ctx)
    });
    match content.grade {
        Some(grade) => put(
            &mut rest,
            "valueCodeableConcept",
            json!({"coding": [coding::grade(grade)]}),
        ),
        None => put(
            &mut rest,
            "dataAbsentReason",
            json!({"coding": [{
                "system": "http://terminology.hl7.org/CodeSystem/data-absent-reason",
                "code": "unknown",
                "display": "Unknown"
            }]}),
        ),
    }
    let note = words::clean(&content.note, 600);
    put(&mut rest, "note", json!([{"text": note}]));
    put(&mut rest, "method", json!({"text": content.method}));
    put(&mut rest, "device", device::reference(ctx));
    put(&mut rest, "derivedFrom", Value::Array(content.derived_from));
    put(
        &mut rest,
        "component",
        json!([{
            "code": {"coding": [{
                "system": lineage_system,
                "code": "data-sufficiency",
                "display": "Whether the data decide"
            }]},
            "valueCodeableConcept": {"coding": [{
                "system": lineage_system,
                "code": content.sufficiency
            }]}
        }]),
    );
    let grade = content
        .grade
        .map_or("not decided from the data received", words::grade);
    let narrative = Narrative::default()
        .headline(&format!("{}: {grade}", content.display))
        .paragraph(&note)
        .paragraph(words::CAVEAT);
    Some(assemble(
        ctx,
        "Observation",
        "lineage-observation",
        Some((identity::OBSERVATION_SYSTEM, &identifier)),
        rest,
        narrative,
    ))
}
