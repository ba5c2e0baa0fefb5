//! Looking at a patient again: what is known, and what it was last found to mean.

use time::OffsetDateTime;

use super::Intake;
use crate::{
    clinical::{assessment::Assessment, decide::assess},
    store::{Result, StoreError, lease::PatientId, reading::KnownPatient},
};

/// A patient and the assessment of everything known.
#[derive(Debug)]
pub struct Review {
    /// What is held.
    pub known: KnownPatient,
    /// For the time of the last assessment, so that it says what the reports say.
    pub assessment: Assessment,
}

impl Intake {
    /// Look at a patient of this tenant. `None`: there is no such patient.
    pub async fn review(
        &self,
        tenant: &str,
        patient: PatientId,
        now: OffsetDateTime,
    ) -> Result<Option<Review>> {
        let Some(known) = self.store.patient(tenant, patient).await? else {
            return Ok(None);
        };
        // A long timeline takes milliseconds, and a panic of the model is this request's alone.
        tokio::task::spawn_blocking(move || Review {
            assessment: assess(&known.timeline, known.last_as_of.unwrap_or(now)),
            known,
        })
        .await
        .map(Some)
        .map_err(|_| StoreError::ModelPanicked)
    }
}
