//! Floor 1, translation: FHIR in, FHIR out. No network, no database, no clock.

pub mod cds;
pub mod codes;
pub mod dates;
pub mod model;
pub mod outcome;
pub mod path;
pub mod profiles;
pub mod read;
pub mod submission;
pub mod tree;
pub mod units;
pub mod values;
pub mod write;
