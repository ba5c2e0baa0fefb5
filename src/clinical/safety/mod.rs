//! Safety rules (4.2): worst valid value of the 24 h before and including the index specimen,
//! without adjustment. S01 is weighed like a candidate.

pub mod s01_acute_leukaemia;
pub mod s02_febrile_neutropenia;
pub mod s03_severe_neutropenia;
pub mod s04_very_low_haemoglobin;
pub mod s05_very_low_platelets;
pub mod s06_very_high_white_cells;
pub mod s07_newborn_lymphopenia;
pub mod s08_laboratory_critical;

use super::{analyte::Analyte, context::Context, rule::prelude::*};

/// S02 to S08, in the order of evaluation.
pub static ALL: &[&Watch] = &[
    &s02_febrile_neutropenia::RULE,
    &s03_severe_neutropenia::RULE,
    &s04_very_low_haemoglobin::RULE,
    &s05_very_low_platelets::RULE,
    &s06_very_high_white_cells::RULE,
    &s07_newborn_lymphopenia::RULE,
    &s08_laboratory_critical::RULE,
];

/// Fever or recorded sepsis.
pub static FEVER: Criterion = AnyToken(&["fever", "sepsis"]);

/// Neutrophils were not sent, or are only bounded by the white cells.
pub static NOT_COUNTED: Criterion = Custom(&Named {
    text: "neutrophils not counted (not sent, or only bounded by the white cells)",
    limits: &[],
    inputs: &[ANC],
    tokens: &[],
    evaluate: not_counted,
});

fn not_counted(context: &Context<'_>) -> Answer {
    (!context.is_refused(Analyte::Anc)
        && context
            .urgent(Analyte::Anc)
            .iter()
            .all(|(reading, _)| reading.bounded))
    .into()
}
