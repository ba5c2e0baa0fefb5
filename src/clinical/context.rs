//! What a rule may look at.

use super::limits::Tuning;

/// One patient at one index specimen.
#[derive(Debug)]
pub struct Context<'a> {
    /// Limits and points in force.
    pub tuning: &'a Tuning,
}
