//! marrowflag against other FHIR servers: one that misbehaves on purpose, and real ones.
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that fails here has found something"
)]

mod authority;
mod behaviours;
mod courier;
mod deliveries;
mod engines;
mod life_cycle;
mod misbehaving;
mod promises;
mod service;
mod smart;
mod strategies;
mod tls;
mod verdicts;
