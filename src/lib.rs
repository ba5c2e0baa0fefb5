//! marrowflag: blood counts in, suspected bone-marrow-failure patterns out.

pub mod app;
pub mod cli;
pub mod clinical;
pub mod config;
pub mod courier;
mod fault;
pub mod fhir;
pub mod fhir_server;
pub mod http;
pub mod intake;
pub mod store;
pub mod telemetry;
