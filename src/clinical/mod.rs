//! Floor 0, the medicine: measurements in, findings out.
//!
//! Knows numbers, words and dates. It must not know FHIR, JSON, HTTP, SQL, the clock or the
//! environment; `tests/floors.rs` holds it to that.

pub mod age;
pub mod analyte;
pub mod assessment;
pub mod candidates;
pub mod catalogue;
pub mod context;
pub mod cycle;
pub mod decide;
pub mod disorders;
pub mod evaluate;
pub mod explain;
pub mod facts;
pub mod grade;
pub mod judge;
pub mod life_cycle;
pub mod limits;
pub mod mimics;
pub mod patterns;
pub mod quality;
pub mod quantity;
pub mod reference;
pub mod rule;
pub mod rule_book;
pub mod safety;
pub mod series;
pub mod specimen;
pub mod time;
pub mod timeline;
pub mod tokens;
pub mod truth;
pub mod wording;
