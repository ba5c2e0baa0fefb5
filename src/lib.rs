//! marrowflag: blood counts in, suspected bone-marrow-failure patterns out.

pub mod clinical;
pub mod fhir;
pub mod store;
pub mod fhir_server;
pub mod courier;
pub mod config;
pub mod telemetry;
