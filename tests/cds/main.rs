//! CDS Hooks through the door: what EHRs, their FHIR servers and pages in browsers do.

#![expect(
    unreachable_pub,
    reason = "one binary: `pub` says what its other modules use"
)]

#[path = "../api/app.rs"]
#[expect(dead_code, reason = "shared with the tests of the FHIR door")]
mod app;
mod browser;
mod calls;
mod ehr;
mod feedback;
mod fetching;
mod model;
mod pages;
mod samples;
mod tokens;
