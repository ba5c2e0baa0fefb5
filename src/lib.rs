//! marrowflag: blood counts in, suspected bone-marrow-failure patterns out.

pub mod clinical;
pub mod config;
pub mod fhir;
pub mod telemetry;
