//! A chart assessed for its reader: what a CDS Hooks call brought and what was filed, as a card.

use std::sync::Arc;

use serde_json::Value;
use time::OffsetDateTime;

use super::AsOf;
use crate::{
    clinical::{
        assessment::Assessment,
        decide,
        timeline::{Measurement, Timeline},
    },
    fhir::{
        cds::{
            Hook, Service,
            card::{self, Card, SmartApp, View},
            gather::{self, Gathered},
            orders,
            request::Call,
            system_action,
        },
        codes::CodeMap,
        submission::Checker,
        write::identity,
    },
    store::{keys::Hash, reading::KnownPatient},
};

/// The model, as it is asked of a chart.
pub type ChartModel = Arc<dyn Fn(&Timeline, OffsetDateTime) -> Assessment + Send + Sync>;

/// The model that is compiled in.
pub fn chart_model() -> ChartModel {
    Arc::new(decide::assess)
}

/// What is asked of which chart.
pub struct Chart<'a, 't> {
    /// The call.
    pub call: &'a Call<'t>,
    /// What it brought, and what was fetched for it.
    pub gathered: &'a Gathered<'t>,
    /// What was filed of the patient.
    pub history: Option<KnownPatient>,
    /// Tenant of the caller.
    pub tenant: &'a str,
    /// The key that the patient's ids are formed from.
    pub patient: &'a Hash,
    /// The time of the call.
    pub now: OffsetDateTime,
    /// What resources are checked against.
    pub checker: &'a Checker,
    /// Local codes to LOINC.
    pub codes: &'a CodeMap,
    /// The time an assessment is made for.
    pub as_of: AsOf,
    /// The model.
    pub model: &'a ChartModel,
    /// Our public address, without a slash at the end.
    pub base: &'a str,
    /// Launch address of the client's SMART app.
    pub smart_app: Option<&'a str>,
    /// The client takes resources without anybody's click.
    pub system_actions: bool,
}

/// A card that could be shown, and what goes with it.
pub struct Advice {
    /// The card.
    pub card: Card,
    /// What the client is to do by itself.
    pub actions: Vec<Value>,
    /// The patient is in hospital.
    pub inpatient: bool,
}

/// Reads, assesses, makes the card; `None`: nothing that is worth one.
pub fn advise(chart: Chart<'_, '_>) -> Option<Advice> {
    let call = chart.call;
    let drugs = match call.service {
        Service::Cytopenia => None,
        // Most orders have nothing to do with us: that is known before anything is read.
        Service::OrderCheck => Some(orders::drugs(call)?),
    };
    let with_history = chart.history.is_some();
    let page = chart
        .history
        .as_ref()
        .map(|known| format!("{}/patients/{}", chart.base, known.id.0));
    let mut timeline = chart.gathered.read(chart.checker, chart.codes);
    if let Some(history) = chart.history {
        join(&mut timeline, history.timeline);
    }
    let now = match chart.as_of {
        AsOf::Received => chart.now,
        AsOf::Sampled => decide::newest_sample(&timeline).unwrap_or(chart.now),
    };
    let as_of = gather::as_of(&mut timeline, now);
    let assessment = (chart.model)(&timeline, as_of);
    if let Some(drugs) = drugs {
        return Some(Advice {
            card: orders::check(call, &drugs, &assessment, now, chart.base)?,
            actions: Vec::new(),
            inpatient: timeline.inpatient,
        });
    }
    let card = card::cytopenia(&View {
        call,
        assessment: &assessment,
        timeline: &timeline,
        standings: &chart.gathered.standings(),
        discharge_without_count: call.hook == Hook::EncounterDischarge
            && chart.gathered.count_ordered() == Some(false),
        with_history,
        now,
        base: chart.base,
        page: page.as_deref(),
        app: chart.smart_app.map(|url| SmartApp {
            url: url.to_owned(),
            // What was found is filed only for a patient that is.
            report: assessment
                .index
                .as_ref()
                .filter(|_| with_history)
                .map(|index| identity::report_id(chart.tenant, chart.patient, index)),
        }),
    })?;
    let actions = if chart.system_actions {
        system_action::create_flag(&assessment, chart.tenant, chart.patient, call.patient_id)
            .into_iter()
            .collect()
    } else {
        Vec::new()
    };
    Some(Advice {
        card,
        actions,
        inpatient: timeline.inpatient,
    })
}

/// Adds what was filed to what was sent; the same result is there once.
fn join(timeline: &mut Timeline, history: Timeline) {
    let same = |one: &Measurement, other: &Measurement| {
        one.analyte == other.analyte && one.at == other.at && one.value == other.value
    };
    for filed in history.measurements {
        if !timeline.measurements.iter().any(|sent| same(sent, &filed)) {
            timeline.measurements.push(filed);
        }
    }
    for fact in history.facts {
        let known = timeline
            .facts
            .iter()
            .any(|sent| sent.token == fact.token && sent.from == fact.from);
        if !known {
            timeline.facts.push(fact);
        }
    }
    timeline.pregnancies.extend(history.pregnancies);
    timeline.inpatient |= history.inpatient;
    if timeline.person.birth.is_none() {
        timeline.person = history.person;
    }
}
