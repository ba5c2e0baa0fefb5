//! Withdrawing the Flags of a patient who is about to be deleted.

use std::sync::Arc;

use time::OffsetDateTime;

use super::{Intake, model::SubmissionModel, receipt::Receipt};
use crate::{
    clinical::assessment::{FlagChange, FlagState},
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

/// Withdraws every Flag, whatever the counts say.
struct Retraction(SubmissionModel);

impl Model for Retraction {
    fn conclude(&self, case: &Case<'_>) -> Conclusion {
        let mut conclusion = self.0.conclude(case);
        let decision = &mut conclusion.decision;
        decision.reports.clear();
        decision.flags = case.findings.iter().filter_map(withdrawn).collect();
        conclusion.wanted = write::affected(decision, &self.0.tenant, case.key);
        conclusion
    }

    fn write(
        &self,
        whose: &Whose<'_>,
        conclusion: &Conclusion,
        previous: &[write::Resource],
    ) -> Result<Vec<Output>, String> {
        let mut output = self.0.write(whose, conclusion, previous)?;
        for one in &mut output {
            // Nobody will be here to withdraw it later.
            one.outranks_human = one.family.is_some();
        }
        Ok(output)
    }

    fn receipt(&self, outcome: &Outcome) -> Vec<u8> {
        self.0.receipt(outcome)
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
        let tenant: Arc<str> = Arc::from(tenant);
        let model = Retraction(SubmissionModel {
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
        });
        let incoming = Incoming {
            tenant,
            client: Arc::from(client),
            kind: "retraction",
            claims: Claims {
                idempotency_key: None,
                fingerprint: digest(&[b"retraction", request_id.as_bytes()]),
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
        };
        self.store.accept(Arc::new(incoming)).await.map(drop)
    }
}
