//! Floor 2, what must not be lost: inbox, timeline, findings, outbox. The only SQL.

mod codec;
pub mod delivery;
pub mod error;
pub mod keys;
pub mod lease;
mod plan;
pub mod submission;
