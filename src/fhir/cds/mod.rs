//! CDS Hooks 2.0: what an EHR asks, what it is answered with.
//!
//! All of it is pure: a call is decoded ([`request`]), what it brought becomes a timeline
//! ([`gather`]), the assessment of that timeline becomes at most one card ([`card`]), an order is
//! held against the latest counts ([`orders`]). Who may call, what has to be fetched and what was
//! shown before is the business of the door and of the store.
//!
//! Source: CDS Hooks 2.0.1 (HL7), the hooks library, and the 3.0 ballot where it says more clearly
//! what 2.0 means.

pub mod card;
pub mod discovery;
pub mod feedback;
pub mod gather;
pub mod markdown;
pub mod orders;
pub mod quiet;
pub mod request;
pub mod system_action;
mod work_up;

use serde_json::{Value, json};

use card::Card;

#[cfg(test)]
mod tests;

/// A service as it is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// Is there a low count that nobody has acted on?
    Cytopenia,
    /// Does this order meet low neutrophils?
    OrderCheck,
}

impl Service {
    /// All, in the order of discovery.
    pub const ALL: [Self; 2] = [Self::Cytopenia, Self::OrderCheck];

    /// Its id in addresses.
    pub fn id(self) -> &'static str {
        match self {
            Self::Cytopenia => "marrowflag-cytopenia",
            Self::OrderCheck => "marrowflag-order-check",
        }
    }

    /// The service with this id.
    pub fn from_id(id: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.id() == id)
    }
}

/// A moment in an EHR that we are asked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hook {
    /// A chart is opened.
    PatientView,
    /// Admission or check-in.
    EncounterStart,
    /// Discharge.
    EncounterDischarge,
    /// An order is being chosen.
    OrderSelect,
    /// Orders are about to be signed.
    OrderSign,
}

impl Hook {
    /// All, in the order of discovery.
    pub const ALL: [Self; 5] = [
        Self::PatientView,
        Self::EncounterStart,
        Self::EncounterDischarge,
        Self::OrderSelect,
        Self::OrderSign,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::PatientView => "patient-view",
            Self::EncounterStart => "encounter-start",
            Self::EncounterDischarge => "encounter-discharge",
            Self::OrderSelect => "order-select",
            Self::OrderSign => "order-sign",
        }
    }

    /// The hook with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.name() == name)
    }

    /// The service that is listed for it.
    pub fn service(self) -> Service {
        match self {
            Self::PatientView | Self::EncounterStart | Self::EncounterDischarge => {
                Service::Cytopenia
            }
            Self::OrderSelect | Self::OrderSign => Service::OrderCheck,
        }
    }
}

/// The answer to a call: this card or none, and what the client is to do by itself.
pub fn response(card: Option<&Card>, system_actions: Vec<Value>) -> Value {
    let cards: Vec<&Value> = card.into_iter().map(|card| &card.body).collect();
    let mut response = json!({ "cards": cards });
    if let (Value::Object(members), false) = (&mut response, system_actions.is_empty()) {
        members.insert("systemActions".to_owned(), system_actions.into());
    }
    response
}
