//! Looking at a database beside the process that serves it: read-only, without its lock and key.

use std::path::Path;

use super::{cards, open, outbox};
use crate::store::{
    cards::RuleFeedback,
    error::Result,
    reading::{DeliveryDetail, DeliveryFilter, DeliverySummary},
};

/// Deliveries, newest first.
pub fn deliveries(path: &Path, filter: &DeliveryFilter) -> Result<Vec<DeliverySummary>> {
    outbox::list(&open::connect_reader(path)?, filter)
}

/// One delivery with its items and attempts.
pub fn delivery(path: &Path, id: i64) -> Result<Option<DeliveryDetail>> {
    outbox::show(&open::connect_reader(path)?, id)
}

/// What clinicians did with cards, rule by rule.
pub fn feedback(path: &Path) -> Result<Vec<RuleFeedback>> {
    cards::report(&open::connect_reader(path)?)
}
