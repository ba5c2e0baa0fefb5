//! CDS Hooks through the door: what EHRs, their FHIR servers and pages in browsers do.

#![expect(
    unreachable_pub,
    reason = "one binary: `pub` says what its other modules use"
)]
#![allow(
    clippy::allow_attributes,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test that fails may panic, and its helpers say what was skipped"
)]

#[path = "../api/app.rs"]
#[expect(dead_code, reason = "shared with the tests of the FHIR door")]
mod app;
mod browser;
mod calls;
mod ehr;
mod feedback;
mod fetching;
mod life;
mod model;
mod pages;
mod samples;
mod tokens;
