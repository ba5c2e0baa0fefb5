//! Floor 0, the medicine: measurements in, findings out.
//!
//! Knows numbers, words and dates. It must not know FHIR, JSON, HTTP, SQL, the clock or the
//! environment; `tests/floors.rs` holds it to that.

pub mod analyte;
pub mod assessment;
pub mod context;
pub mod disorders;
pub mod limits;
pub mod mimics;
pub mod quantity;
pub mod rule;
pub mod time;
pub mod timeline;
pub mod tokens;
pub mod truth;
pub mod catalogue;
