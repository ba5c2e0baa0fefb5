//! Bytes to stored findings: parse, check, read, file, decide, write, keep; then the receipt.
//!
//! Everything up to the store is a plain function of what was sent. The store asks
//! [`model::SubmissionModel`] in the middle of its work, so that what is decided is decided on
//! everything that is known of the patient.

mod advice;
mod assess;
mod filing;
mod flags;
mod model;
mod prepare;
pub mod receipt;
mod review;

use std::sync::{Arc, PoisonError, RwLock};

use time::{Duration, OffsetDateTime};

pub use self::{
    advice::{Advice, Chart, ChartModel, advise, chart_model},
    assess::{Assessed, AssessedPatient, assess_only},
    review::Review,
};
use self::{
    model::SubmissionModel,
    prepare::Preparation,
    receipt::{EntryOutcome, Receipt},
};
use crate::{
    fault::crash_point,
    fhir::{
        codes::CodeMap,
        outcome::Issue,
        submission::{Checker, Refusal, Release},
        tree::Limits,
    },
    store::{
        Store, StoreError,
        submission::{Accepted, OutboxTarget},
    },
};

/// Bodies larger than this are decoded off the caller's thread.
const LARGE: usize = 256 << 10;

/// The time an assessment is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AsOf {
    /// The clock, when the results come in.
    #[default]
    Received,
    /// The newest specimen of the patient's timeline, never earlier than an earlier assessment's.
    Sampled,
}

/// How submissions are taken and findings written.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The time an assessment is made for.
    pub as_of: AsOf,
    /// Logical identifier (system, value) of the performing organization.
    pub organization: Option<(String, String)>,
    /// Add SNOMED CT codings.
    pub snomed: bool,
    /// Test data: label it so.
    pub insecure: bool,
    /// Write the derived lineage grades to targets too.
    pub write_observations: bool,
    /// Local codes to LOINC.
    pub codes: Arc<CodeMap>,
    /// Fingerprint of the code map, if there is one.
    pub code_map_fingerprint: Option<String>,
    /// How long a repeat is answered with its receipt.
    pub receipt_retention: Duration,
    /// Limits of a body.
    pub limits: Limits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            as_of: AsOf::Received,
            organization: None,
            snomed: false,
            insecure: false,
            write_observations: false,
            codes: Arc::default(),
            code_map_fingerprint: None,
            receipt_retention: Duration::hours(24),
            limits: Limits::default(),
        }
    }
}

/// Who sent something, when, and what it is to be.
#[derive(Debug, Clone)]
pub struct Sent {
    /// Tenant.
    pub tenant: Arc<str>,
    /// Client.
    pub client: Arc<str>,
    /// Correlation only.
    pub request_id: String,
    /// The clock.
    pub received_at: OffsetDateTime,
    /// Release it is written in.
    pub release: Release,
    /// Method, path and `Idempotency-Key`, if there is one.
    pub idempotency_key: Option<String>,
    /// What is asked for.
    pub interaction: Interaction,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interaction {
    /// A Bundle at the base.
    Bundle,
    /// A message Bundle.
    Message,
    /// `POST /{kind}`.
    Create {
        /// `resourceType` of the address.
        kind: String,
        /// `If-None-Exist`.
        if_none_exist: Option<String>,
    },
    /// `PUT /{kind}/{id}`.
    Update {
        /// `resourceType` of the address.
        kind: String,
        /// Id of the address.
        id: String,
        /// `If-Match`.
        if_match: Option<String>,
    },
    /// `DELETE /{kind}/{id}`; there is no body.
    Delete {
        /// `resourceType` of the address.
        kind: String,
        /// Id of the address.
        id: String,
        /// `If-Match`.
        if_match: Option<String>,
    },
}

/// Why a submission was not taken. Nothing of it was stored.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// What was sent cannot be taken as it is.
    #[error("refused")]
    Refused {
        /// The class of refusal.
        refusal: Refusal,
        /// What is wrong.
        issues: Vec<Issue>,
    },
    /// The store could not.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl IntakeError {
    fn refused(refusal: Refusal, issue: Issue) -> Self {
        Self::Refused {
            refusal,
            issues: vec![issue],
        }
    }
}

/// Takes submissions.
pub struct Intake {
    store: Arc<dyn Store>,
    checker: Arc<Checker>,
    settings: Arc<Settings>,
    targets: RwLock<Arc<[OutboxTarget]>>,
}

impl Intake {
    /// From its parts.
    pub fn new(store: Arc<dyn Store>, checker: Arc<Checker>, settings: Settings) -> Self {
        Self {
            store,
            checker,
            settings: Arc::new(settings),
            targets: RwLock::new(Arc::from([])),
        }
    }

    /// The store behind it.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// What everything is checked against.
    pub fn checker(&self) -> &Arc<Checker> {
        &self.checker
    }

    /// How submissions are taken.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// From now on findings are written to these.
    pub fn set_targets(&self, targets: Vec<OutboxTarget>) {
        *self.targets.write().unwrap_or_else(PoisonError::into_inner) = Arc::from(targets);
    }

    fn targets(&self) -> Arc<[OutboxTarget]> {
        Arc::clone(&self.targets.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Take a submission. The answer comes after everything in it is durable.
    pub async fn accept(&self, sent: Sent, body: Vec<u8>) -> Result<Receipt, IntakeError> {
        let preparation = Preparation {
            checker: Arc::clone(&self.checker),
            settings: Arc::clone(&self.settings),
            store: Arc::clone(&self.store),
            targets: self.targets(),
        };
        let tenant = Arc::clone(&sent.tenant);
        let client = Arc::clone(&sent.client);
        let prepared = if body.len() > LARGE {
            tokio::task::spawn_blocking(move || preparation.prepare(&sent, &body))
                .await
                .unwrap_or(Err(IntakeError::Store(StoreError::ModelPanicked)))?
        } else {
            preparation.prepare(&sent, &body)?
        };
        crash_point!("intake.decoded");
        let accepted = self.store.accept(Arc::new(prepared.incoming)).await?;
        let receipt = answer(accepted, &prepared.model)?;
        self.look_up(receipt, &tenant, &client).await
    }

    /// What GET entries asked for.
    async fn look_up(
        &self,
        mut receipt: Receipt,
        tenant: &str,
        client: &str,
    ) -> Result<Receipt, IntakeError> {
        for entry in &mut receipt.entries {
            let EntryOutcome::Look { id, version } = &entry.outcome else {
                continue;
            };
            let kind = entry.kind.as_deref().unwrap_or_default();
            let mut found = self.store.read(tenant, kind, id, *version).await?;
            if found.is_none() {
                found = self
                    .store
                    .read_sent(tenant, client, kind, id, *version)
                    .await?;
            }
            entry.outcome = match found {
                Some(found) => EntryOutcome::Found(Box::new(found)),
                None => EntryOutcome::Missing,
            };
        }
        Ok(receipt)
    }
}

/// What the store said, as a receipt or a refusal.
fn answer(accepted: Accepted, model: &SubmissionModel) -> Result<Receipt, IntakeError> {
    match accepted {
        Accepted::New { receipt } => {
            let made = model
                .made
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            made.map_or_else(|| kept(&receipt), Ok)
        }
        Accepted::Replayed { receipt } => Ok(Receipt {
            replayed: true,
            ..kept(&receipt)?
        }),
        Accepted::Failed { receipt } => {
            let receipt = kept(&receipt)?;
            let refusal = receipt
                .entries
                .iter()
                .find_map(|entry| match entry.outcome {
                    EntryOutcome::Refused(refusal) => Some(refusal),
                    _ => None,
                })
                .unwrap_or(Refusal::Invalid);
            Err(IntakeError::Refused {
                refusal,
                issues: receipt
                    .entries
                    .into_iter()
                    .flat_map(|entry| entry.issues)
                    .filter(Issue::is_error)
                    .collect(),
            })
        }
        Accepted::KeyReused => Err(IntakeError::refused(
            Refusal::Invalid,
            Issue::error(
                "duplicate",
                "this Idempotency-Key was used for another body",
            ),
        )),
        Accepted::EnvelopeReused => Err(IntakeError::refused(
            Refusal::Invalid,
            Issue::error("duplicate", "this id was used for another message").at("Bundle.id"),
        )),
        Accepted::OlderDocument => Err(IntakeError::refused(
            Refusal::Conflict,
            Issue::error("conflict", "a newer version of this document is held")
                .at("Bundle.timestamp"),
        )),
    }
}

fn kept(receipt: &[u8]) -> Result<Receipt, IntakeError> {
    serde_json::from_slice(receipt)
        .map_err(|_| IntakeError::Store(StoreError::Unreadable("inbox.receipt")))
}
