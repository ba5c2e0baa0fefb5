//! What must hold when everything has been quiet.

use std::collections::BTreeMap;

use marrowflag::{
    fhir::{read::PatientKey, write::identity},
    store::reading::{DeliveryFilter, HeldResource, KnownPatient, Search},
};

use crate::{
    hospital::{self, MRN},
    world::World,
};

/// The types that a finding shows in, with one resource per finding or specimen.
const KINDS: [&str; 2] = ["Flag", "DiagnosticReport"];

/// Everything but I7, which is looked at all the time, and I9, which takes two runs.
pub(crate) fn all(world: &mut World<'_>) {
    values_are_kept(world);
    effects_are_single(world);
    content_follows_from_what_was_taken(world);
    nothing_goes_back(world);
    nothing_is_left_open(world);
    parked_is_what_had_to_be(world);
}

fn patient(world: &World<'_>, mrn: &str) -> Option<KnownPatient> {
    let store = world.store();
    let key = PatientKey::Identifier {
        system: MRN.to_owned(),
        value: mrn.to_owned(),
    };
    let identity_key = store.identity_key().as_bytes();
    let hash = identity::patient_key(identity_key, "default", "lab", &key);
    let found = world.block_on(store.find_patients("default", vec![hash]));
    let id = *found.unwrap().first()?;
    world.block_on(store.patient("default", id)).unwrap()
}

/// I1: every receipt's values are in the timeline.
fn values_are_kept(world: &mut World<'_>) {
    let mut missing = Vec::new();
    for (mrn, promised) in world.promised.values() {
        let known = patient(world, mrn);
        let timeline = known.map(|known| known.timeline).unwrap_or_default();
        let held: BTreeMap<&str, &str> = timeline
            .measurements
            .iter()
            .filter_map(|one| {
                let (_, identifier) = one.source.identifier.as_ref()?;
                Some((&**identifier, one.received.value.as_str()))
            })
            .collect();
        for (identifier, value) in promised {
            if held.get(identifier) != Some(&value) {
                let held = held.get(identifier);
                missing.push(format!("{identifier} is {held:?}, promised {value}"));
            }
        }
    }
    for what in missing {
        world.violate("I1", what);
    }
}

/// I2: one Flag per patient and family, one report per specimen.
fn effects_are_single(world: &mut World<'_>) {
    for place in world.hospital.duplicates() {
        world.violate("I2", format!("{place} is there twice"));
    }
    let count = |kind: &str| {
        let places = world.hospital.resources.keys();
        places.filter(|place| place.starts_with(kind)).count() as u64
    };
    let (flags, reports) = (count("Flag/"), count("DiagnosticReport/"));
    world.report_mut().flags = flags;
    world.report_mut().reports = reports;
}

fn held(world: &World<'_>, store: &dyn marrowflag::store::Store, kind: &str) -> Vec<HeldResource> {
    let search = Search {
        tenant: "default".to_owned(),
        kind: kind.to_owned(),
        limit: 1_000,
        ..Search::default()
    };
    world.block_on(store.search(search)).unwrap().resources
}

/// I3: what stands on the server is what follows from the submissions in the order in which they
/// were taken, or a human's edit.
fn content_follows_from_what_was_taken(world: &mut World<'_>) {
    for place in std::mem::take(&mut world.hospital.overwritten) {
        world.violate("I3", format!("{place}: a human's edit was written over"));
    }
    // What a human said is part of what later findings follow from.
    let replayed = (!world.edited).then(|| world.replayed());
    let ours = world.store();
    for kind in KINDS {
        let held_here = held(world, &*ours, kind);
        if let Some((replayed, _)) = &replayed {
            let same = |one: &HeldResource| (one.id.clone(), hash(one));
            let mut here: Vec<_> = held_here.iter().map(same).collect();
            let mut there: Vec<_> = held(world, &**replayed, kind).iter().map(same).collect();
            here.sort();
            there.sort();
            world.report_mut().compared += here.len() as u64;
            if here != there {
                world.violate("I3", format!("{kind}s do not follow from what was taken"));
            }
        }
        for one in held_here {
            let Some(mrn) = one.patient.map(|patient| world.mrn(patient)) else {
                continue;
            };
            if !world.hospital.known.contains(&mrn) || world.hospital.refused.contains(&mrn) {
                continue;
            }
            let identifier = one.body["identifier"][0]["value"].as_str().unwrap();
            match world.hospital.content(kind, identifier) {
                None => world.violate("I3", format!("{kind}/{} is not there", one.id)),
                Some((_, true)) => {}
                Some((there, false)) if there == hash(&one) => {}
                Some(_) => {
                    world.violate("I3", format!("{kind}/{} is another there", one.id));
                }
            }
        }
    }
    if let Some((store, directory)) = replayed {
        world.block_on(store.close()).unwrap();
        drop(directory);
    }
}

fn hash(one: &HeldResource) -> String {
    hospital::content_hash(&one.body)
        .unwrap_or_default()
        .to_owned()
}

/// I4: per lane the revisions rise.
fn nothing_goes_back(world: &mut World<'_>) {
    for what in std::mem::take(&mut world.hospital.regressions) {
        world.violate("I4", what);
    }
    let (repeats, unknown) = (world.hospital.repeats, world.report_mut().unknown);
    let crashes = world.report_mut().crashes;
    // A crash may take the answers of all that was on its way.
    if repeats > unknown + crashes * 64 {
        let what = format!("{repeats} writes of what was there, {unknown} unknown outcomes");
        world.violate("I4", what);
    }
}

/// I5: no lane is open or owned.
fn nothing_is_left_open(world: &mut World<'_>) {
    let (deliveries, lanes) = (world.open_deliveries(), world.open_lanes());
    if deliveries > 0 || lanes > 0 {
        let what = format!("{deliveries} deliveries and {lanes} lanes are open");
        world.violate("I5", what);
    }
}

/// I6: parked is only what the schedule made permanent.
fn parked_is_what_had_to_be(world: &mut World<'_>) {
    let filter = DeliveryFilter {
        state: Some("parked".to_owned()),
        ..DeliveryFilter::default()
    };
    let store = world.store();
    let parked = world.block_on(store.deliveries(filter)).unwrap();
    world.report_mut().parked = parked.len() as u64;
    for one in parked {
        let mrn = world.mrn(one.patient);
        let allowed = match one.parked_reason.as_deref() {
            Some("patient-unknown") => !world.hospital.known.contains(&mrn),
            Some("rejected") => world.hospital.refused.contains(&mrn),
            _ => false,
        };
        if !allowed {
            let (reason, attempts) = (one.parked_reason, one.attempts);
            world.violate("I6", format!("parked {reason:?} after {attempts} attempts"));
        }
    }
}
