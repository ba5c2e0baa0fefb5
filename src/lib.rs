//! marrowflag: blood counts in, suspected bone-marrow-failure patterns out.

pub mod clinical;
pub mod config;
pub mod courier;
pub mod fhir;
pub mod fhir_server;
pub mod store;
pub mod telemetry;
