//! Floor 2, what must not be lost: inbox, timeline, findings, outbox. The only SQL.

pub mod delivery;
pub mod lease;
