//! Disorders (D) and the acute-leukaemia rule (S01): candidates of marrow failure, inherited and
//! clonal disease.

pub mod d01_aplastic_anaemia;

use super::rule::Rule;

/// All, in the order of their ids.
pub static ALL: &[&Rule] = &[&d01_aplastic_anaemia::RULE];
