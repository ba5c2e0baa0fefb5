//! Looking at a database beside the processes that serve it: read-only, without their key.

use deadpool_postgres::Pool;

use super::{cards, connection::read, open::Server, outbox};
use crate::store::{
    cards::RuleFeedback,
    error::{OpenError, Result},
    reading::{DeliveryDetail, DeliveryFilter, DeliverySummary},
};

/// A database that is looked at.
pub struct Look {
    pool: Pool,
    name: String,
}

impl Look {
    /// At this address. Nothing is connected yet.
    pub fn new(url: &str) -> std::result::Result<Self, OpenError> {
        let server = Server::new(url)?;
        Ok(Self {
            pool: server.pool(1)?,
            name: server.name().to_owned(),
        })
    }

    /// The address, without user and password.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Deliveries, newest first.
    pub async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliverySummary>> {
        read(&self.pool, |connection| {
            Box::pin(async move { outbox::list(connection, &filter).await })
        })
        .await
    }

    /// One delivery with its items and attempts.
    pub async fn delivery(&self, id: i64) -> Result<Option<DeliveryDetail>> {
        read(&self.pool, |connection| {
            Box::pin(outbox::show(connection, id))
        })
        .await
    }

    /// What clinicians did with cards, rule by rule.
    pub async fn feedback(&self) -> Result<Vec<RuleFeedback>> {
        read(&self.pool, |connection| Box::pin(cards::report(connection))).await
    }
}
