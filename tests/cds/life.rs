//! The quiet periods of the life cycle cases L05, L06 and L20, through cards: the service is started
//! again on its database at each day of the case.

use std::sync::Arc;

use serde_json::json;
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use super::{
    app::{NOW, TestApp},
    ehr::{FEEDBACK, SERVICE, call, observation},
};

/// A chart and its reader over the days of a case.
struct Case {
    dir: Arc<TempDir>,
    observations: [Vec<serde_json::Value>; 3],
    /// Class of the stay that the EHR sends along, and whether it has ended.
    stay: Option<(&'static str, bool)>,
}

impl Case {
    fn new() -> Self {
        Self {
            dir: Arc::new(tempfile::tempdir().unwrap()),
            observations: <[_; 3]>::default(),
            stay: None,
        }
    }

    /// Opens the chart with a new count of neutrophils and platelets; the cards shown.
    async fn open(&mut self, after: Duration, anc: &str, plt: &str) -> Vec<serde_json::Value> {
        let now: OffsetDateTime = NOW + after;
        let at = (now - Duration::HOUR)
            .format(&time::format_description::well_known::Rfc3339)
            .unwrap();
        for (list, (loinc, value, unit)) in self.observations.iter_mut().zip([
            ("718-7", "150", "g/L"),
            ("777-3", plt, "10*9/L"),
            ("751-8", anc, "10*9/L"),
        ]) {
            let mut one = observation("p1", loinc, value, unit, "2026-01-01");
            one["effectiveDateTime"] = json!(at);
            one["id"] = json!(format!("{loinc}-{}", now.unix_timestamp()));
            list.push(one);
        }
        let mut request = call("p1", &[]);
        for (key, list) in ["hb", "plt", "anc"].iter().zip(&self.observations) {
            request["prefetch"][key] = super::ehr::searchset(list);
        }
        if let Some((class, over)) = self.stay {
            let mut stay = json!({
                "resourceType": "Encounter", "id": "e1", "status": "in-progress",
                "class": {
                    "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": class
                },
                "subject": { "reference": "Patient/p1" },
                "period": { "start": "2026-11-01T08:00:00Z" }
            });
            if over {
                stay["period"]["end"] = json!("2026-11-02T08:00:00Z");
            }
            request["context"]["encounterId"] = json!("e1");
            request["prefetch"]["encounters"] = super::ehr::searchset(&[stay]);
        }
        let app = TestApp::spawn_in(Arc::clone(&self.dir), &[], now).await;
        let cards = app.post(SERVICE, &request).await.cards();
        app.stop().await;
        cards
    }

    /// Answers a card as known and under care.
    async fn know(&self, after: Duration, card: &serde_json::Value) {
        let now = NOW + after;
        let app = TestApp::spawn_in(Arc::clone(&self.dir), &[], now).await;
        let at = now
            .format(&time::format_description::well_known::Rfc3339)
            .unwrap();
        let feedback = json!({ "feedback": [{
            "card": card["uuid"], "outcome": "overridden", "outcomeTimestamp": at,
            "overrideReason": { "reason": {
                "system": "http://terminology.hl7.org/CodeSystem/non-adherence-reason-codes",
                "code": "action-completed"
            } }
        }] });
        assert_eq!(app.post(FEEDBACK, &feedback).await.status, 200);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn l05_in_hospital_a_card_is_quiet_for_72_hours() {
    let hours = Duration::hours;
    let mut case = Case::new();
    case.stay = Some(("IMP", false));
    assert_eq!(case.open(hours(0), "3", "15").await.len(), 1);
    assert!(case.open(hours(48), "3", "14").await.is_empty());
    assert_eq!(case.open(hours(80), "3", "15").await.len(), 1);
    // Home again: from now on 30 days, from the last card.
    case.stay = Some(("IMP", true));
    assert!(case.open(hours(80 + 73), "3", "15").await.is_empty());
    case.stay = Some(("EMER", false));
    assert_eq!(case.open(hours(80 + 74), "3", "15").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn l06_outside_a_card_is_quiet_for_30_days() {
    let mut case = Case::new();
    assert_eq!(case.open(Duration::ZERO, "0.4", "250").await.len(), 1);
    assert!(
        case.open(Duration::days(10), "0.45", "250")
            .await
            .is_empty()
    );
    assert_eq!(case.open(Duration::days(31), "0.45", "250").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn l20_what_is_known_is_quiet_for_90_days_unless_it_gets_worse() {
    let mut case = Case::new();
    let card = case.open(Duration::ZERO, "0.4", "250").await.remove(0);
    case.know(Duration::DAY, &card).await;
    assert!(case.open(Duration::days(35), "0.4", "250").await.is_empty());
    assert_eq!(case.open(Duration::days(50), "0.15", "250").await.len(), 1);
}
