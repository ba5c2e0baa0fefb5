//! Who the results are of: subjects, the keys that name a patient, and demographics.

use std::collections::HashMap;

use super::{
    PatientKey, PatientReading, Subject,
    references::{Found, Index, Target, identifier, is_rest_address, without_version},
    when,
};
use crate::{
    clinical::timeline::{Person, Sex},
    fhir::tree::Tree,
};

/// What `subject` says.
#[derive(Debug, Clone)]
pub(super) enum Who {
    /// A person, named by these keys.
    Person(Named),
    /// A group, device, location: not a person.
    NotAPerson,
    /// `#id` or `urn:` that leads nowhere.
    Nowhere,
    /// Nothing that names anybody.
    Missing,
}

/// A person as named by one reference.
#[derive(Debug, Clone)]
pub(super) struct Named {
    keys: Vec<PatientKey>,
    subject: Subject,
    /// Place of the Patient's entry, or of the entry that contains it.
    patient: Option<usize>,
}

impl Named {
    pub(super) fn keys(&self) -> &[PatientKey] {
        &self.keys
    }

    /// Where the Patient stands, if it is in the submission.
    pub(super) fn patient_entry(&self) -> Option<usize> {
        self.patient
    }

    /// Whether two references certainly name two people: both lead to different Patients, or both
    /// say it in the same manner and differ.
    pub(super) fn differs_from(&self, other: &Self) -> bool {
        if self.keys.iter().any(|key| other.keys.contains(key)) {
            return false;
        }
        if self.patient.is_some() && other.patient.is_some() {
            return true;
        }
        let kind = |keys: &[PatientKey]| {
            (
                keys.iter()
                    .any(|key| matches!(key, PatientKey::Identifier { .. })),
                keys.iter()
                    .any(|key| matches!(key, PatientKey::Reference(_))),
            )
        };
        let same_system = self.keys.iter().any(|one| {
            other.keys.iter().any(|two| match (one, two) {
                (
                    PatientKey::Identifier { system: one, .. },
                    PatientKey::Identifier { system: two, .. },
                ) => one == two,
                _ => false,
            })
        });
        let ((_, one), (_, two)) = (kind(&self.keys), kind(&other.keys));
        same_system || (one && two)
    }
}

/// Follows a `subject`-like reference of the entry at `from`.
pub(super) fn who(index: &Index<'_, '_>, from: usize, subject: Option<&Tree<'_>>) -> Who {
    let Some(subject) = subject else {
        return Who::Missing;
    };
    let written = subject
        .text("reference")
        .map(str::trim)
        .filter(|text| !text.is_empty());
    let logical = subject.get("identifier").and_then(identifier);
    if let Some(kind) = subject.text("type").filter(|kind| *kind != "Patient") {
        // `type` may be a URL of another model; only the four of `Observation.subject` are known.
        if matches!(kind, "Group" | "Device" | "Location") {
            return Who::NotAPerson;
        }
    }
    match index.follow(from, subject) {
        None => Who::Missing,
        Some(Target::Nowhere) => match logical {
            Some(logical) => Who::Person(by_identifier(logical)),
            None => Who::Nowhere,
        },
        Some(Target::Identifier(system, value)) => Who::Person(by_identifier((system, value))),
        Some(Target::Outside(reference)) => match kind_of(&reference) {
            Some("Patient") => {
                let mut named = Named {
                    keys: Vec::new(),
                    subject: Subject {
                        reference: Some(reference.clone()),
                        identifier: logical.clone(),
                    },
                    patient: None,
                };
                if let Some((system, value)) = logical {
                    named.keys.push(PatientKey::Identifier { system, value });
                }
                named.keys.push(PatientKey::Reference(reference));
                Who::Person(named)
            }
            _ => Who::NotAPerson,
        },
        Some(Target::Here(found)) if found.tree.resource_type() == Some("Patient") => {
            let named = by_patient(index, found, written);
            if named.keys.is_empty() {
                Who::Missing
            } else {
                Who::Person(named)
            }
        }
        Some(Target::Here(_)) => Who::NotAPerson,
    }
}

fn by_identifier((system, value): (String, String)) -> Named {
    Named {
        keys: vec![PatientKey::Identifier {
            system: system.clone(),
            value: value.clone(),
        }],
        subject: Subject {
            reference: None,
            identifier: Some((system, value)),
        },
        patient: None,
    }
}

/// `Patient` of `Patient/1` and of `https://server/fhir/Patient/1`.
fn kind_of(reference: &str) -> Option<&str> {
    let (rest, _) = reference.rsplit_once('/')?;
    rest.rsplit('/').next()
}

/// All keys of a Patient of the submission: its identifiers as sent, then the ways it is written.
fn by_patient(index: &Index<'_, '_>, found: Found<'_>, written: Option<&str>) -> Named {
    let identifiers: Vec<(String, String)> = found
        .tree
        .items("identifier")
        .iter()
        .filter(|known| !matches!(known.text("use"), Some("old" | "temp")))
        .filter_map(identifier)
        .collect();
    let mut keys: Vec<PatientKey> = identifiers
        .iter()
        .map(|(system, value)| PatientKey::Identifier {
            system: system.clone(),
            value: value.clone(),
        })
        .collect();
    let mut add = |reference: &str| {
        let key = PatientKey::Reference(reference.to_owned());
        if !keys.contains(&key) {
            keys.push(key);
        }
    };
    let mut outward = None;
    if !found.contained {
        let address = index
            .entry(found.entry)
            .and_then(|entry| entry.full_url)
            .map(without_version)
            .filter(|url| is_rest_address(url));
        let as_written = written
            .map(without_version)
            .filter(|text| !text.starts_with("urn:") && !text.contains('?'));
        if let Some(as_written) = as_written {
            add(as_written);
        }
        match (address, found.tree.text("id")) {
            (Some(address), _) => add(address),
            // Without an address the id is all there is.
            (None, Some(id)) => add(&format!("Patient/{id}")),
            (None, None) => {}
        }
        outward = as_written.or(address).map(str::to_owned);
    }
    Named {
        subject: Subject {
            reference: outward.or_else(|| {
                keys.iter().find_map(|key| match key {
                    PatientKey::Reference(reference) => Some(reference.clone()),
                    PatientKey::Identifier { .. } => None,
                })
            }),
            identifier: identifiers.into_iter().next(),
        },
        keys,
        patient: Some(found.entry),
    }
}

/// The patients of a submission, found one by one.
#[derive(Debug, Default)]
pub(super) struct People {
    readings: Vec<PatientReading>,
    by_key: HashMap<PatientKey, usize>,
    /// Where a reading went that turned out to be the same patient.
    merged: HashMap<usize, usize>,
}

impl People {
    /// The reading of a named person, made when it is the first time.
    pub(super) fn reading(
        &mut self,
        named: &Named,
        person: impl FnOnce() -> Option<Person>,
    ) -> &mut PatientReading {
        let mut hits: Vec<usize> = named
            .keys
            .iter()
            .filter_map(|key| self.by_key.get(key).map(|place| self.final_place(*place)))
            .collect();
        hits.sort_unstable();
        hits.dedup();
        let place = match hits.first() {
            Some(first) => *first,
            None => self.readings.len(),
        };
        for other in hits.into_iter().skip(1) {
            self.merge(place, other);
        }
        for key in &named.keys {
            self.by_key.insert(key.clone(), place);
        }
        if self.readings.len() <= place {
            self.readings.push(PatientReading {
                keys: Vec::new(),
                subject: Subject::default(),
                person: None,
                pregnancies: Vec::new(),
                values: Vec::new(),
                facts: Vec::new(),
                inpatient: false,
                encounter: None,
            });
        }
        // The list is never empty here: the place was found in it or pushed just now.
        let last = self.readings.len() - 1;
        #[expect(
            clippy::indexing_slicing,
            reason = "the place is in the list, or the last one"
        )]
        let reading = &mut self.readings[place.min(last)];
        for key in &named.keys {
            if !reading.keys.contains(key) {
                reading.keys.push(key.clone());
            }
        }
        reading
            .keys
            .sort_by_key(|key| matches!(key, PatientKey::Reference(_)));
        reading.subject.reference = reading
            .subject
            .reference
            .take()
            .or_else(|| named.subject.reference.clone());
        reading.subject.identifier = reading
            .subject
            .identifier
            .take()
            .or_else(|| named.subject.identifier.clone());
        if reading.person.as_ref().is_none_or(is_bare)
            && let Some(found) = person()
        {
            let said = reading.person.take().unwrap_or_default();
            reading.person = Some(Person {
                gestation_weeks: said.gestation_weeks,
                altitude_m: said.altitude_m,
                smoking: said.smoking,
                duffy: said.duffy,
                ..found
            });
        }
        reading
    }

    /// The reading of a person who already has one.
    pub(super) fn known(&mut self, named: &Named) -> Option<&mut PatientReading> {
        let place = named.keys.iter().find_map(|key| self.by_key.get(key))?;
        let place = self.final_place(*place);
        self.readings.get_mut(place)
    }

    fn final_place(&self, mut place: usize) -> usize {
        while let Some(next) = self.merged.get(&place) {
            place = *next;
        }
        place
    }

    fn merge(&mut self, into: usize, other: usize) {
        self.merged.insert(other, into);
        let Some(moved) = self.readings.get_mut(other).map(|reading| {
            (
                std::mem::take(&mut reading.keys),
                std::mem::take(&mut reading.values),
                std::mem::take(&mut reading.facts),
                std::mem::take(&mut reading.pregnancies),
                reading.person.take(),
                reading.inpatient,
                std::mem::take(&mut reading.subject),
            )
        }) else {
            return;
        };
        if let Some(reading) = self.readings.get_mut(into) {
            let (keys, values, facts, pregnancies, person, inpatient, subject) = moved;
            reading.keys.extend(keys);
            reading.values.extend(values);
            reading.facts.extend(facts);
            reading.pregnancies.extend(pregnancies);
            reading.person = reading.person.take().or(person);
            reading.inpatient |= inpatient;
            reading.subject.reference = reading.subject.reference.take().or(subject.reference);
            reading.subject.identifier = reading.subject.identifier.take().or(subject.identifier);
        }
    }

    /// The readings that were not merged into another, in the order of their first result.
    pub(super) fn into_readings(self) -> Vec<PatientReading> {
        let merged = self.merged;
        self.readings
            .into_iter()
            .enumerate()
            .filter(|(place, _)| !merged.contains_key(place))
            .map(|(_, reading)| reading)
            .collect()
    }
}

/// Demographics of the Patient that a person was named by, if it is in the submission.
pub(super) fn person(
    index: &Index<'_, '_>,
    from: usize,
    subject: Option<&Tree<'_>>,
) -> Option<Person> {
    let Some(Target::Here(found)) = index.follow(from, subject?) else {
        return None;
    };
    let entry = index.entry(found.entry)?;
    (found.tree.resource_type() == Some("Patient") && (found.contained || entry.refused.is_none()))
        .then(|| demographics(found.tree))
}

/// The person of a Patient entry who has died; `None`: alive, or nobody we could name.
pub(super) fn deceased(
    index: &Index<'_, '_>,
    entry: usize,
    patient: &Tree<'_>,
) -> Option<(Named, Person)> {
    let found = Found {
        entry,
        tree: patient,
        contained: false,
    };
    let person = demographics(patient);
    let named = by_patient(index, found, None);
    (person.deceased && !named.keys.is_empty()).then_some((named, person))
}

/// Known from Observations only: the Patient has not been found yet.
fn is_bare(person: &Person) -> bool {
    person.birth.is_none() && person.sex == Sex::Unknown && !person.deceased
}

fn demographics(patient: &Tree<'_>) -> Person {
    let deceased_at = patient.text("deceasedDateTime");
    Person {
        birth: patient.text("birthDate").and_then(when::birth_date),
        sex: sex_for_clinical_use(patient).unwrap_or(match patient.text("gender") {
            Some("female") => Sex::Female,
            Some("male") => Sex::Male,
            _ => Sex::Unknown,
        }),
        deceased: deceased_at.is_some()
            || patient.get("deceasedBoolean").and_then(Tree::as_bool) == Some(true),
        deceased_at: deceased_at.and_then(when::instant),
        ..Person::default()
    }
}

/// The extension of the FHIR core extension pack; where it is not decisive the gender is used.
fn sex_for_clinical_use(patient: &Tree<'_>) -> Option<Sex> {
    let parameter = patient.items("extension").iter().find(|extension| {
        extension.text("url")
            == Some("http://hl7.org/fhir/StructureDefinition/patient-sexParameterForClinicalUse")
    })?;
    let value = parameter
        .items("extension")
        .iter()
        .find(|part| part.text("url") == Some("value"))?
        .get("valueCodeableConcept")?;
    value
        .items("coding")
        .iter()
        .find_map(|coding| match coding.text("code") {
            Some("female-typical") => Some(Sex::Female),
            Some("male-typical") => Some(Sex::Male),
            _ => None,
        })
}
