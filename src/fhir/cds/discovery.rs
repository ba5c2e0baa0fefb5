//! The list of services, and what each asks the EHR to send along.
//!
//! Templates keep to what real clients resolve: reading a resource, and searching one type by
//! token, `_sort` and `_count`. No parameter stands twice (a client that keeps parameters in a map
//! would lose one), no `status` and no `category` on Observation (few servers search by them; we
//! look ourselves). Each blood line has a key of its own, so that a long differential cannot crowd
//! out the platelets.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};

use super::{Hook, Service};
use crate::{clinical::analyte::Analyte, fhir::codes};

/// What is asked for under one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// The patient: age and sex.
    Patient,
    /// Haemoglobin.
    Hb,
    /// Platelets.
    Plt,
    /// White cells.
    Wbc,
    /// Neutrophils.
    Anc,
    /// Red cell indices.
    Indices,
    /// Differential count.
    Diff,
    /// Reticulocytes.
    Retic,
    /// Ferritin, vitamins, haemolysis and what else the model knows.
    Chem,
    /// Body temperature.
    Temp,
    /// Problems and diagnoses.
    Conditions,
    /// Drugs.
    Medications,
    /// Stays that have not ended: how long a card is quiet.
    Encounters,
    /// Orders that are open (discharge only).
    ActiveOrders,
}

impl Key {
    /// All, in the order of discovery.
    pub const ALL: [Self; 14] = [
        Self::Patient,
        Self::Hb,
        Self::Plt,
        Self::Wbc,
        Self::Anc,
        Self::Indices,
        Self::Diff,
        Self::Retic,
        Self::Chem,
        Self::Temp,
        Self::Conditions,
        Self::Medications,
        Self::Encounters,
        Self::ActiveOrders,
    ];

    /// The name in `prefetch`. It never changes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Patient => "patient",
            Self::Hb => "hb",
            Self::Plt => "plt",
            Self::Wbc => "wbc",
            Self::Anc => "anc",
            Self::Indices => "indices",
            Self::Diff => "diff",
            Self::Retic => "retic",
            Self::Chem => "chem",
            Self::Temp => "temp",
            Self::Conditions => "conditions",
            Self::Medications => "medications",
            Self::Encounters => "encounters",
            Self::ActiveOrders => "activeOrders",
        }
    }

    /// The key of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|key| key.name() == name)
    }

    /// The type of resource it holds.
    pub fn resource_type(self) -> &'static str {
        match self {
            Self::Patient => "Patient",
            Self::Conditions => "Condition",
            Self::Medications => "MedicationRequest",
            Self::Encounters => "Encounter",
            Self::ActiveOrders => "ServiceRequest",
            _ => "Observation",
        }
    }

    /// What a reader calls it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Patient => "age and sex",
            Self::Hb => "haemoglobin",
            Self::Plt => "platelets",
            Self::Wbc => "white cells",
            Self::Anc => "neutrophils",
            Self::Indices => "red cell indices",
            Self::Diff => "differential count",
            Self::Retic => "reticulocytes",
            Self::Chem => "ferritin, vitamin B12, folate and haemolysis tests",
            Self::Temp => "temperature",
            Self::Conditions => "recorded conditions",
            Self::Medications => "drugs",
            Self::Encounters => "stays",
            Self::ActiveOrders => "open orders",
        }
    }

    /// Whether the assessment rests on it. The others say when a card is due and what it proposes.
    pub fn is_assessed(self) -> bool {
        !matches!(self, Self::Encounters | Self::ActiveOrders)
    }

    /// A blood line: without any of them there is no answer.
    pub fn is_count(self) -> bool {
        matches!(self, Self::Hb | Self::Plt | Self::Wbc | Self::Anc)
    }

    /// Asked for where it was not sent.
    pub fn is_required(self) -> bool {
        self == Self::Patient || self.is_count()
    }

    /// How many are asked for at most.
    pub fn count(self) -> Option<usize> {
        match self {
            Self::Hb | Self::Plt | Self::Wbc | Self::Anc | Self::Temp => Some(12),
            Self::Indices | Self::Chem => Some(48),
            Self::Diff => Some(60),
            Self::Retic => Some(24),
            Self::ActiveOrders => Some(50),
            Self::Patient | Self::Conditions | Self::Medications | Self::Encounters => None,
        }
    }

    /// The query, with `patient` where the id of the patient belongs.
    pub fn query(self, patient: &str) -> String {
        let kind = self.resource_type();
        match self {
            Self::Patient => format!("Patient/{patient}"),
            Self::Conditions => format!("Condition?patient={patient}"),
            Self::Medications => format!("MedicationRequest?patient={patient}&status=active"),
            // Not by `context.encounterId`: a chart can be opened without one.
            Self::Encounters => format!("Encounter?patient={patient}&status=in-progress"),
            Self::ActiveOrders => {
                format!("ServiceRequest?patient={patient}&status=active&_count=50")
            }
            _ => {
                let codes: Vec<String> = codes_of(self)
                    .into_iter()
                    .map(|code| format!("{}|{code}", codes::LOINC))
                    .collect();
                let count = self.count().unwrap_or(12);
                format!(
                    "{kind}?patient={patient}&code={}&_sort=-date&_count={count}",
                    codes.join(",")
                )
            }
        }
    }
}

/// Analytes of a key, in the order their codes are listed.
fn analytes(key: Key) -> &'static [Analyte] {
    match key {
        Key::Hb => &[Analyte::Hb],
        Key::Plt => &[Analyte::Platelets],
        Key::Wbc => &[Analyte::Wbc, Analyte::WbcCorrected],
        Key::Anc => &[Analyte::Anc, Analyte::AncManual],
        Key::Indices => &[Analyte::Mcv, Analyte::Rdw, Analyte::Rbc, Analyte::Hct],
        Key::Diff => &[
            Analyte::NeutrophilPercent,
            Analyte::SegsPercent,
            Analyte::BandsPercent,
            Analyte::Alc,
            Analyte::LymphocytePercent,
            Analyte::Amc,
            Analyte::MonocytePercent,
            Analyte::Blasts,
            Analyte::BlastsAbsolute,
            Analyte::Nrbc,
        ],
        Key::Retic => &[Analyte::Arc, Analyte::ReticulocytePercent],
        Key::Chem => &[
            Analyte::Ferritin,
            Analyte::B12,
            Analyte::Folate,
            Analyte::Ldh,
            Analyte::Haptoglobin,
            Analyte::Bilirubin,
            Analyte::Copper,
            Analyte::Creatinine,
            Analyte::Crp,
        ],
        _ => &[],
    }
}

/// LOINC codes of a key, from the table that results are read by: what we would understand is what
/// we ask for. Withdrawn codes are left out, addresses have an end.
pub(super) fn codes_of(key: Key) -> Vec<&'static str> {
    if key == Key::Temp {
        return vec!["8310-5"];
    }
    analytes(key)
        .iter()
        .flat_map(|analyte| {
            let mut terms: Vec<_> = codes::terms()
                .filter(|term| {
                    term.analyte == Some(*analyte)
                        && !matches!(term.role, codes::Role::DoNotUse | codes::Role::Panel)
                        && !term.is_deprecated()
                        && !term.is_cord_blood()
                })
                .map(|term| term.code)
                .collect();
            // The same list in every process. Shorter codes are older and more common.
            terms.sort_by_key(|code| (code.len(), *code));
            terms
        })
        .collect()
}

/// Keys that a hook asks for.
pub fn keys(hook: Hook) -> &'static [Key] {
    const REVIEW: &[Key] = &[
        Key::Patient,
        Key::Hb,
        Key::Plt,
        Key::Wbc,
        Key::Anc,
        Key::Indices,
        Key::Diff,
        Key::Retic,
        Key::Chem,
        Key::Temp,
        Key::Conditions,
        Key::Medications,
        Key::Encounters,
    ];
    match hook {
        Hook::PatientView | Hook::EncounterStart => REVIEW,
        Hook::EncounterDischarge => &Key::ALL,
        Hook::OrderSelect | Hook::OrderSign => &[Key::Anc],
    }
}

/// `GET /cds-services`: these services.
pub fn document(services: &[Service]) -> Value {
    let listed: Vec<Value> = Hook::ALL
        .into_iter()
        .filter(|hook| services.contains(&hook.service()))
        .map(entry)
        .collect();
    json!({ "services": listed })
}

/// `GET /cds-services` with everything there is.
pub static ALL_SERVICES: LazyLock<Value> = LazyLock::new(|| document(&Service::ALL));

fn entry(hook: Hook) -> Value {
    let (title, description, usage) = match hook.service() {
        Service::Cytopenia => (
            "Persistent cytopenia review",
            "Checks recent blood counts for persistent, unexplained low haemoglobin, platelets or \
             neutrophils and offers one review card.",
            "R4 Observations coded with LOINC and UCUM. Degrades to 412 without prefetch or FHIR \
             access. All ages; age and sex from the Patient.",
        ),
        Service::OrderCheck => (
            "Low neutrophils and this order",
            "Shows the latest counts when a cytotoxic or marrow-toxic drug is ordered and the \
             neutrophils of the last 7 days are below 1.0 x10^9/L.",
            "R4 MedicationRequests coded with ATC or RxNorm ingredients, neutrophils coded with \
             LOINC. Degrades to 412 without prefetch or FHIR access.",
        ),
    };
    let prefetch: Map<String, Value> = keys(hook)
        .iter()
        .map(|key| {
            let query = key.query("{{context.patientId}}");
            (key.name().to_owned(), Value::String(query))
        })
        .collect();
    json!({
        "hook": hook.name(),
        "id": hook.service().id(),
        "title": title,
        "description": description,
        "usageRequirements": usage,
        "prefetch": prefetch,
    })
}
