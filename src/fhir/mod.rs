//! Floor 1, translation: FHIR in, FHIR out. No network, no database, no clock.

pub mod outcome;
pub mod path;
pub mod read;
pub mod submission;
pub mod tree;
pub mod write;
