//! What becomes of a patient's Flags without a new count: withdrawn because the patient is about to
//! be deleted, or closed because a human closed one on a target.

use std::sync::Arc;

use time::OffsetDateTime;

use super::{Intake, model::SubmissionModel, receipt::Receipt};
use crate::{
    clinical::{
        assessment::{FlagChange, FlagState},
        life_cycle,
    },
    fhir::{submission::Kind, write},
    store::{
        StoreError,
        keys::{Hash, digest},
        submission::{
            Case, Claims, Conclusion, HeldFinding, Incoming, IncomingPatient, Model, Outcome,
            Output, Whose,
        },
    },
};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// Every Flag is withdrawn, whatever the counts say.
    Retraction,
    /// What a human closed is closed here too. Reports and other Flags wait for the next count.
    Closing,
}

/// The model, for the deed alone.
struct OnFlags {
    deed: Deed,
    model: SubmissionModel,
}

impl Model for OnFlags {
    fn conclude(&self, case: &Case<'_>) -> Conclusion {
        let mut conclusion = match self.deed {
            Deed::Retraction => self.model.conclude(case),
            // Nothing new is known: what was assessed last stays as of then.
            Deed::Closing => self
                .model
                .conclude_at(case, case.last_as_of.unwrap_or(self.model.received_at)),
        };
        let decision = &mut conclusion.decision;
        decision.reports.clear();
        match self.deed {
            Deed::Retraction => {
                decision.flags = case.findings.iter().filter_map(withdrawn).collect();
            }
            Deed::Closing => decision.flags.retain(life_cycle::closes_after_human),
        }
        conclusion.wanted = write::affected(decision, &self.model.tenant, case.key);
        conclusion
    }

    fn write(
        &self,
        whose: &Whose<'_>,
        conclusion: &Conclusion,
        previous: &[write::Resource],
    ) -> Result<Vec<Output>, String> {
        let mut output = self.model.write(whose, conclusion, previous)?;
        if self.deed == Deed::Retraction {
            for one in &mut output {
                // Nobody will be here to withdraw it later.
                one.outranks_human = one.family.is_some();
            }
        }
        Ok(output)
    }

    fn receipt(&self, outcome: &Outcome) -> Vec<u8> {
        self.model.receipt(outcome)
    }
}

fn withdrawn(held: &HeldFinding) -> Option<FlagChange> {
    held.flag_id.as_ref()?;
    let mut finding = held.finding.clone();
    if finding.state == FlagState::EnteredInError {
        return None;
    }
    finding.state = FlagState::EnteredInError;
    Some(FlagChange {
        finding,
        write: true,
        notify: false,
        why: "deleted",
    })
}

impl Intake {
    /// Withdraw the Flags of the patient that this key leads to: here at once, and on every target
    /// with its next delivery.
    pub async fn retract(
        &self,
        tenant: &str,
        client: &str,
        key: Hash,
        request_id: String,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        let incoming = self.on_flags(Deed::Retraction, tenant, client, key, request_id, now);
        self.store.accept(Arc::new(incoming)).await.map(drop)
    }

    /// Close our own copy of the Flags that a human closed on a target. Should it not come to that,
    /// the patient's next count closes them.
    pub async fn close(
        &self,
        tenant: &str,
        key: Hash,
        request_id: String,
        now: OffsetDateTime,
    ) -> Result<(), StoreError> {
        // Of a patient who was deleted meanwhile nothing may come back.
        if self
            .store
            .find_patients(tenant, vec![key])
            .await?
            .is_empty()
        {
            return Ok(());
        }
        let incoming = self.on_flags(Deed::Closing, tenant, "", key, request_id, now);
        self.store.accept(Arc::new(incoming)).await.map(drop)
    }

    fn on_flags(
        &self,
        deed: Deed,
        tenant: &str,
        client: &str,
        key: Hash,
        request_id: String,
        now: OffsetDateTime,
    ) -> Incoming {
        let tenant: Arc<str> = Arc::from(tenant);
        let kind = match deed {
            Deed::Retraction => "retraction",
            Deed::Closing => "closing",
        };
        let model = OnFlags {
            deed,
            model: SubmissionModel {
                settings: Arc::clone(&self.settings),
                checker: Arc::clone(&self.checker),
                tenant: Arc::clone(&tenant),
                received_at: now,
                inbound: None,
                patients: Vec::new(),
                draft: Receipt {
                    kind: Kind::Single,
                    stored_at: 0,
                    entries: Vec::new(),
                    issues: Vec::new(),
                    message: None,
                    replayed: false,
                },
                made: std::sync::Mutex::default(),
            },
        };
        Incoming {
            tenant,
            client: Arc::from(client),
            kind,
            claims: Claims {
                idempotency_key: None,
                fingerprint: digest(&[kind.as_bytes(), request_id.as_bytes()]),
                by_content: false,
                envelope: None,
            },
            request_id,
            received_at: now,
            expires_at: now,
            all_or_nothing: false,
            anyway: true,
            patients: vec![IncomingPatient {
                keys: vec![key],
                ..IncomingPatient::default()
            }],
            withdrawals: Vec::new(),
            targets: self.targets(),
            model: Arc::new(model),
        }
    }
}
