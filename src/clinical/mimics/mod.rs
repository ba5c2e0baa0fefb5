//! Mimics (M): what argues against, or explains the counts without, primary marrow failure.

use super::rule::Rule;

/// All, in the order of their ids.
pub static ALL: &[&Rule] = &[];
