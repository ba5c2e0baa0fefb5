//! Disorders (D): candidates of marrow failure, inherited and clonal disease.

pub mod d01_aplastic_anaemia;
pub mod d02_mds;

use super::rule::Rule;

/// All, in the order of their ids.
pub static ALL: &[&Rule] = &[&d01_aplastic_anaemia::RULE, &d02_mds::RULE];
