//! What came out of an assessment, in the words of the tables.

use marrowflag::clinical::{
    analyte::Analyte,
    assessment::{Assessment, CellResult, Fit, Grade, Lineage, LineageResult, Output, Urgency},
    truth::Truth,
};

pub(crate) fn grade_word(grade: Grade) -> &'static str {
    match grade {
        Grade::None => "none",
        Grade::Mild => "mild",
        Grade::Moderate => "moderate",
        Grade::Severe => "severe",
        Grade::VerySevere => "very severe",
        Grade::Critical => "critical",
    }
}

pub(crate) fn lineage_text(result: &LineageResult) -> String {
    let letter = match result.lineage {
        Lineage::Erythroid => "E",
        Lineage::Neutrophil => "N",
        Lineage::Platelet => "P",
    };
    match (result.grade, result.at_least) {
        (Some(grade), _) => format!("{letter} {}", grade_word(grade)),
        (None, Some(grade)) => format!("{letter} ≥{}", grade_word(grade)),
        (None, None) => format!("{letter} ?"),
    }
}

/// White cells and lymphocytes, as a row of `grades.csv` says them.
pub(crate) fn cell_text(result: &CellResult) -> String {
    let name = match result.analyte {
        Analyte::Alc => "ALC",
        _ => "WBC",
    };
    format!("{name} {}", result.grade.map_or("?", grade_word))
}

/// Everything that is graded, each beginning with its letter or name.
pub(crate) fn graded(assessment: &Assessment) -> Vec<String> {
    let lineages = assessment.lineages.iter().map(lineage_text);
    let cells = assessment.cells.iter().map(cell_text);
    lineages.chain(cells).collect()
}

/// The printed limit of a lineage by its letter.
pub(crate) fn limit_text(assessment: &Assessment, letter: &str) -> String {
    let lineages = assessment
        .lineages
        .iter()
        .map(|result| (lineage_text(result), result.limit));
    let cells = assessment
        .cells
        .iter()
        .map(|result| (cell_text(result), result.limit));
    lineages
        .chain(cells)
        .find(|(text, _)| text.starts_with(letter))
        .and_then(|(_, limit)| limit)
        .map(|limit| limit.to_string())
        .unwrap_or_default()
}

pub(crate) fn grades(assessment: &Assessment) -> String {
    let parts: Vec<String> = assessment.lineages.iter().map(lineage_text).collect();
    parts.join("; ")
}

pub(crate) fn urgency(assessment: &Assessment) -> &'static str {
    match assessment.urgency {
        Urgency::U0 => "U0",
        Urgency::U1 => "U1",
        Urgency::U2 => "U2",
        Urgency::U3 => "U3",
        Urgency::U4 => "U4",
    }
}

pub(crate) fn output(assessment: &Assessment) -> &'static str {
    match (assessment.output, assessment.urgency >= Urgency::U2) {
        (Output::Nothing, _) => "NONE",
        (Output::Report, _) => "DR",
        (Output::Flag, true) => "FLAG+CARD",
        (Output::Flag, false) => "FLAG",
        (Output::SafetyFlag, _) => "FLAG(safety)+CARD",
    }
}

pub(crate) fn patterns(assessment: &Assessment) -> String {
    let ids: Vec<&str> = assessment
        .patterns
        .iter()
        .map(|hit| hit.id)
        .chain({
            let mut safety: Vec<&str> = assessment
                .safety
                .iter()
                .filter(|hit| hit.truth == Truth::True)
                .map(|hit| hit.id)
                .collect();
            safety.sort_unstable();
            safety
        })
        .collect();
    if ids.is_empty() {
        "none".to_owned()
    } else {
        ids.join("; ")
    }
}

pub(crate) fn listed(assessment: &Assessment, most: usize) -> String {
    let texts: Vec<String> = assessment
        .candidates
        .iter()
        .take(most)
        .map(|candidate| {
            let fit = match candidate.fit {
                Fit::Hidden => "hidden",
                Fit::Weak => "weak",
                Fit::Moderate => "moderate",
                Fit::Strong => "strong",
            };
            let gate = if candidate.gate == Truth::Unknown {
                ",gate?"
            } else {
                ""
            };
            format!("{} {fit}({}{gate})", candidate.id, candidate.score)
        })
        .collect();
    if texts.is_empty() {
        "none".to_owned()
    } else {
        texts.join(", ")
    }
}

/// Label of the aplastic anaemia counts, empty when it is not listed.
pub(crate) fn label(assessment: &Assessment) -> String {
    assessment
        .candidates
        .iter()
        .find(|candidate| candidate.id == "D01")
        .and_then(|candidate| candidate.label.clone())
        .unwrap_or_default()
}

/// The same as `aplasia_labels.csv` writes it.
pub(crate) fn counts_label(assessment: &Assessment) -> String {
    match label(assessment) {
        label if label.is_empty() => "none".to_owned(),
        label => label.replace("-COUNTS", ""),
    }
}

/// Everything a reader may see: it must keep the wording rules.
pub(crate) fn texts(assessment: &Assessment) -> Vec<String> {
    let mut texts: Vec<String> = assessment.notes.clone();
    texts.push(assessment.headline.clone());
    texts.extend(assessment.first_look.iter().cloned());
    texts.extend(assessment.doubts.iter().map(|doubt| doubt.text.clone()));
    for hit in assessment.patterns.iter().chain(&assessment.safety) {
        texts.push(hit.sentence.clone());
        texts.push(hit.next.to_owned());
    }
    for candidate in assessment
        .candidates
        .iter()
        .chain(&assessment.argued_against)
    {
        texts.push(candidate.sentence.clone());
        texts.push(candidate.next.to_owned());
        let lines = candidate
            .for_it
            .iter()
            .chain(&candidate.against)
            .chain(&candidate.excluded_by);
        texts.extend(lines.map(|line| line.text.clone()));
        texts.extend(candidate.missing.iter().cloned());
    }
    texts.extend(
        assessment
            .lineages
            .iter()
            .filter_map(|line| line.note.clone()),
    );
    texts
}
