//! From what was sent and fetched to one patient's timeline, and what is missing in it.

use std::collections::HashSet;

use serde_json::{Value, json};
use time::{Duration, OffsetDateTime};

use super::{
    Hook,
    discovery::{self, Key},
    request::{Call, Found, Sent, Unfit},
};
use crate::{
    clinical::{analyte::Analyte, timeline::Timeline},
    fhir::{
        codes::CodeMap,
        outcome::{Issue, word},
        read::{self, PatientReading},
        submission::{At, Checker, Release},
        tree::{self, Limits, Tree},
    },
};

/// The patient's reference within what is read. The ids of EHRs can be longer than those of FHIR,
/// and references come in several forms; within one call there is only one patient.
const SUBJECT: &str = "Patient/subject";

/// Age from which a count is stale.
pub(super) const STALE: Duration = Duration::hours(72);

/// One key after everything was done to have it.
#[derive(Debug, Clone)]
pub struct Held<'t> {
    /// The key.
    pub key: Key,
    /// What there is; `None`: it was not sent, and not or in vain asked for.
    pub sent: Option<Sent<'t>>,
}

/// How a key ended, for the reader of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Looked at; all of it as far as we can tell.
    Whole,
    /// Looked at; there is more than we were given.
    Partial,
    /// The client says there is nothing.
    Nothing,
    /// Could not be had.
    Unavailable,
    /// Was about somebody else, or something else.
    PutAside,
    /// Not sent, and not asked for.
    NotLookedAt,
}

/// Keys that have to be fetched: the required ones that were not sent.
pub fn wanted(call: &Call<'_>) -> Vec<Key> {
    discovery::keys(call.hook)
        .iter()
        .copied()
        .filter(|key| {
            key.is_required()
                || (call.hook == Hook::EncounterDischarge && *key == Key::ActiveOrders)
        })
        .filter(|key| call.sent(*key).is_none())
        .collect()
}

/// Everything a call brought, and what was fetched for it.
#[derive(Debug, Clone)]
pub struct Gathered<'t> {
    held: Vec<Held<'t>>,
}

impl<'t> Gathered<'t> {
    /// Puts together what was sent and what was fetched; fetched pages follow those sent.
    pub fn new(call: &Call<'t>, fetched: Vec<(Key, Sent<'t>)>) -> Self {
        let mut held: Vec<Held<'t>> = discovery::keys(call.hook)
            .iter()
            .map(|key| Held {
                key: *key,
                sent: call.sent(*key).cloned(),
            })
            .collect();
        for (key, more) in fetched {
            if let Some(held) = held.iter_mut().find(|held| held.key == key) {
                held.sent = Some(match (held.sent.take(), more) {
                    (Some(Sent::Here(first)), Sent::Here(next)) => Sent::Here(joined(first, next)),
                    // A page that could not be had leaves a gap, not nothing.
                    (Some(Sent::Here(first)), _) => Sent::Here(Found {
                        partial: true,
                        ..first
                    }),
                    (_, more) => more,
                });
            }
        }
        Self { held }
    }

    /// How a key ended.
    pub fn standing(&self, key: Key) -> Standing {
        let sent = self
            .held
            .iter()
            .find(|held| held.key == key)
            .and_then(|held| held.sent.as_ref());
        match sent {
            Some(Sent::Here(found)) if found.partial => Standing::Partial,
            Some(Sent::Here(_)) => Standing::Whole,
            Some(Sent::Nothing) => Standing::Nothing,
            Some(Sent::Failed) => Standing::Unavailable,
            Some(Sent::Unfit(_)) => Standing::PutAside,
            None => Standing::NotLookedAt,
        }
    }

    /// Keys with how they ended, in the order of discovery.
    pub fn standings(&self) -> Vec<(Key, Standing)> {
        self.held
            .iter()
            .map(|held| (held.key, self.standing(held.key)))
            .collect()
    }

    /// How many values were put aside because they are about somebody else, for the metrics.
    pub fn mixed_up(&self) -> usize {
        self.held
            .iter()
            .filter(|held| matches!(held.sent, Some(Sent::Unfit(Unfit::OtherPatient))))
            .count()
    }

    /// The refusal when none of the counts could be had.
    pub fn incomplete(&self) -> Option<Issue> {
        let counts: Vec<Key> = self
            .held
            .iter()
            .map(|held| held.key)
            .filter(|key| key.is_count())
            .collect();
        let available = |key: &Key| {
            matches!(
                self.standing(*key),
                Standing::Whole | Standing::Partial | Standing::Nothing
            )
        };
        if counts.iter().any(available) {
            return None;
        }
        let names: Vec<&str> = counts.iter().map(|key| key.name()).collect();
        let text = "The blood counts were not sent and could not be fetched";
        Some(Issue::error(word::DATA_INCOMPLETE, text).diagnosed(names.join(", ")))
    }

    /// Whether an order for a blood count is open; `None`: not known.
    pub fn count_ordered(&self) -> Option<bool> {
        match self
            .held
            .iter()
            .find(|held| held.key == Key::ActiveOrders)?
            .sent
            .as_ref()?
        {
            Sent::Here(found) => Some(found.resources.iter().any(|order| asks_for_count(order))),
            Sent::Nothing => Some(false),
            Sent::Failed | Sent::Unfit(_) => None,
        }
    }

    /// Reads it all as one collection of one patient.
    pub fn read(&self, checker: &Checker, codes: &CodeMap) -> Timeline {
        let text = self.collection().to_string();
        let limits = Limits {
            entries: 20_000,
            ..Limits::default()
        };
        // What came out of a tree goes into one again, unless it is over a limit.
        let Ok(parsed) = tree::parse(text.as_bytes(), &limits) else {
            return Timeline::default();
        };
        let submission = checker.decode(&parsed, Release::R4, At::Command);
        let reading = read::read(&submission, codes);
        reading
            .patients
            .into_iter()
            .next()
            .map_or_else(Timeline::default, timeline)
    }

    fn collection(&self) -> Value {
        let mut seen = HashSet::new();
        let mut entries = Vec::new();
        for held in &self.held {
            let Some(Sent::Here(found)) = &held.sent else {
                continue;
            };
            if held.key == Key::ActiveOrders {
                continue;
            }
            for resource in &found.resources {
                // One result can fit two keys.
                let name = (resource.resource_type(), resource.text("id"));
                if name.1.is_none() || seen.insert(name) {
                    entries.push(json!({ "resource": own(held.key, resource) }));
                }
            }
        }
        let mut bundle = json!({ "resourceType": "Bundle", "type": "collection" });
        if let (Value::Object(members), false) = (&mut bundle, entries.is_empty()) {
            members.insert("entry".to_owned(), entries.into());
        }
        bundle
    }
}

fn joined<'t>(first: Found<'t>, next: Found<'t>) -> Found<'t> {
    let mut resources = first.resources;
    resources.extend(next.resources);
    Found {
        resources,
        next: next.next,
        partial: next.partial,
    }
}

/// A copy of a resource with the one subject there is, and without an id that FHIR would refuse.
fn own(key: Key, resource: &Tree<'_>) -> Value {
    let mut copy = resource.to_value();
    if let Value::Object(members) = &mut copy {
        if key == Key::Patient {
            members.insert("id".to_owned(), json!("subject"));
        } else {
            members.insert("subject".to_owned(), json!({ "reference": SUBJECT }));
            if members
                .get("id")
                .and_then(Value::as_str)
                .is_some_and(|id| id.len() > 64)
            {
                members.remove("id");
            }
        }
        // Pictures and pages of text are not read.
        members.remove("text");
        members.remove("photo");
    }
    copy
}

/// One patient's reading as a timeline.
pub fn timeline(reading: PatientReading) -> Timeline {
    Timeline {
        person: reading.person.unwrap_or_default(),
        measurements: reading
            .values
            .into_iter()
            .filter_map(|value| value.measurement)
            .collect(),
        facts: reading
            .facts
            .into_iter()
            .flat_map(|facts| facts.facts)
            .collect(),
        pregnancies: reading.pregnancies,
        inpatient: reading.inpatient,
    }
}

fn asks_for_count(order: &Tree<'_>) -> bool {
    const COUNTS: &[&str] = &["57021-8", "58410-2", "57022-6", "57782-5", "69738-3"];
    let Some(code) = order.get("code") else {
        return false;
    };
    let coded = code.items("coding").iter().any(|coding| {
        coding.text("system") == Some(crate::fhir::codes::LOINC)
            && coding
                .text("code")
                .is_some_and(|code| COUNTS.contains(&code))
    });
    let named = code.text("text").is_some_and(|text| {
        let text = text.to_lowercase();
        ["cbc", "full blood count", "complete blood count", "fbc"]
            .iter()
            .any(|name| text.contains(name))
    });
    coded || named
}

/// When the newest haemoglobin, neutrophil, white cell or platelet count was sampled, as far as it
/// does not lie in the future.
pub fn newest_count(timeline: &Timeline, now: OffsetDateTime) -> Option<OffsetDateTime> {
    timeline
        .measurements
        .iter()
        .filter(|measurement| {
            matches!(
                measurement.analyte,
                Analyte::Hb | Analyte::Anc | Analyte::AncManual | Analyte::Platelets | Analyte::Wbc
            ) && measurement.unusable.is_none()
        })
        .filter_map(|measurement| measurement.at)
        .map(|at| at.instant)
        .filter(|at| *at <= now.saturating_add(Duration::DAY))
        .max()
}

/// The time an assessment of a chart is made for (clinical specification DQ-22): now, while the
/// newest count is at most 72 h old; else the time of that count, for then its age is a matter of
/// the card and not of the count. What was sampled more than a day later is left out.
pub fn as_of(timeline: &mut Timeline, now: OffsetDateTime) -> OffsetDateTime {
    let Some(newest) = newest_count(timeline, now) else {
        return now;
    };
    if now.saturating_sub(STALE) <= newest {
        return now;
    }
    let last = newest.saturating_add(Duration::DAY);
    timeline
        .measurements
        .retain(|measurement| measurement.at.is_none_or(|at| at.instant <= last));
    newest
}
