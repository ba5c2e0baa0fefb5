//! Looking at a database beside the service, whichever engine it is.

use std::path::{Path, PathBuf};

use crate::{
    config::Database,
    store::{
        cards::RuleFeedback,
        error::Result,
        postgres,
        reading::{DeliveryDetail, DeliveryFilter, DeliverySummary},
        sqlite,
    },
};

/// A database that is looked at.
pub(super) enum Look {
    Sqlite(PathBuf),
    Postgres(postgres::look::Look),
}

impl Look {
    /// At this database; says what is wrong with its address.
    pub(super) fn at(database: &Database) -> std::result::Result<Self, String> {
        match database {
            Database::Sqlite(path) => Ok(Self::Sqlite(path.clone())),
            Database::Postgres(address) => postgres::look::Look::new(address.as_str())
                .map(Self::Postgres)
                .map_err(|error| error.to_string()),
        }
    }

    /// What it is called in messages.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Sqlite(path) => Path::display(path).to_string(),
            Self::Postgres(look) => look.name().to_owned(),
        }
    }

    pub(super) async fn deliveries(&self, filter: DeliveryFilter) -> Result<Vec<DeliverySummary>> {
        match self {
            Self::Sqlite(path) => sqlite::look::deliveries(path, &filter),
            Self::Postgres(look) => look.deliveries(filter).await,
        }
    }

    pub(super) async fn delivery(&self, id: i64) -> Result<Option<DeliveryDetail>> {
        match self {
            Self::Sqlite(path) => sqlite::look::delivery(path, id),
            Self::Postgres(look) => look.delivery(id).await,
        }
    }

    pub(super) async fn feedback(&self) -> Result<Vec<RuleFeedback>> {
        match self {
            Self::Sqlite(path) => sqlite::look::feedback(path),
            Self::Postgres(look) => look.feedback().await,
        }
    }
}
