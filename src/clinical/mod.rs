//! Floor 0, the medicine: measurements in, findings out.
//!
//! Knows numbers, words and dates. It must not know FHIR, JSON, HTTP, SQL, the clock or the
//! environment; `tests/floors.rs` holds it to that.

pub mod age;
pub mod analyte;
pub mod assessment;
pub mod context;
pub mod disorders;
pub mod facts;
pub mod limits;
pub mod mimics;
pub mod quality;
pub mod quantity;
pub mod reference;
pub mod rule;
pub mod specimen;
pub mod time;
pub mod timeline;
pub mod tokens;
pub mod truth;
pub mod catalogue;
