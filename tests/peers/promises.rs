//! Promises of the courier as experiments, each with the line of figures it shows. How many patients
//! they have can be said by the environment.

use marrowflag::store::{
    delivery::{Next, Outcome, Why},
    lease::{Fate, Item, Written},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::json;

use crate::{
    courier::Run,
    deliveries::{again, fate, flag, four, known, leased, send, server},
    engines::environment,
    misbehaving::{Fault, Misbehaving, On, PUT_ID, TRANSACTION},
};

const SEED: u64 = 20_261_121;

fn count(name: &str, default: i64) -> i64 {
    environment(name).map_or(default, |text| text.parse().unwrap())
}

/// Deliveries of patients, every hundredth of them poison, and after each of those another one of
/// the same patient.
struct Sent {
    run: Run,
    /// For each delivery that arrived, how many requests had been made by then.
    arrived: Vec<usize>,
    poison: Vec<i64>,
}

async fn deliver(patients: i64, poisoned: bool) -> Sent {
    let hostile = Misbehaving::start(PUT_ID).await;
    hostile.truth().habits.refuses_poison = true;
    let target = server(&hostile.base);
    let run = Run::with(hostile, target);
    let mut poison = Vec::new();
    let mut arrived = Vec::new();
    for batch in 0..patients / 100 {
        for place in 0..100 {
            let patient = batch * 100 + place;
            let mrn = patient.to_string();
            let is_poison = poisoned && place == 17;
            let text = if is_poison { "poison" } else { "low" };
            let lease = |hash: &str, text: &str| {
                let mut lease = leased(&mrn, vec![flag(&mrn, hash, "active", text)]);
                lease.patient.0 = patient;
                lease
            };
            run.outbox.put(patient * 10, lease("a", text));
            if is_poison {
                poison.push(patient * 10);
                run.outbox.put(patient * 10 + 1, lease("b", "lower"));
            }
        }
        let before = run.hostile.truth().requests.len();
        run.deliver().await;
        let truth = run.hostile.truth();
        let batch = truth.requests.iter().skip(before).enumerate();
        let writes = batch.filter(|(_, request)| request.method == "PUT");
        arrived.extend(writes.map(|(index, _)| index));
        drop(truth);
        run.pass(600);
    }
    Sent {
        run,
        arrived,
        poison,
    }
}

/// P11: what is refused for ever is parked at once, and nobody waits for it. Delay is counted in
/// requests that came before, for it must not depend on the machine.
#[tokio::test]
async fn poison_never_stops_others() {
    let patients = count("MARROWFLAG_P11_PATIENTS", 1000);
    let clean = deliver(patients, false).await;
    let sent = deliver(patients, true).await;
    let p99 = |mut delays: Vec<usize>| {
        delays.sort_unstable();
        delays[delays.len() * 99 / 100]
    };
    let (without, with) = (p99(clean.arrived), p99(sent.arrived));
    let memory = sent.run.outbox.0.lock().unwrap();
    let (mut parked, mut attempts, mut later) = (0, 0, 0);
    for delivery in &sent.poison {
        let entry = &memory.deliveries[delivery];
        parked += usize::from(entry.settled == Some(Next::Parked(Why::Rejected)));
        attempts = attempts.max(entry.classes.len());
        let next = &memory.deliveries[&(delivery + 1)];
        later += usize::from(next.settled == Some(Next::Delivered));
    }
    let others = memory.deliveries.values();
    let others = others.filter(|entry| entry.settled == Some(Next::Delivered));
    let delivered = others.count() - later;
    println!(
        "P11 deliveries={} poison={} parked={parked} attempts={attempts} same_patient_later={later} \
         others_delivered={delivered} p99_requests_before={without} p99_with_poison={with}",
        memory.deliveries.len(),
        sent.poison.len()
    );
    assert_eq!(
        (parked, later, attempts),
        (sent.poison.len(), sent.poison.len(), 1)
    );
    let others = usize::try_from(patients).unwrap() - sent.poison.len();
    assert_eq!(delivered, others);
    assert!(with <= 2 * without);
    assert_eq!(
        memory.hold, None,
        "one in a hundred is not the target's fault"
    );
}

/// What the experiment remembers of a patient, as the store does.
#[derive(Default)]
struct Patient {
    written: Vec<Written>,
    /// A human's version stands there.
    human: bool,
}

/// The Flag alone, or the Device and the report with it.
fn items(
    mrn: &str,
    revision: u32,
    patient: &Patient,
    outranks_human: bool,
    alone: bool,
) -> Vec<Item> {
    let hash = format!("{mrn}-{revision}");
    let mut items = four(mrn, &hash, "active", &format!("revision {revision}"));
    items.retain(|item| item.kind == "Flag" || !alone && item.kind != "Provenance");
    for item in &mut items {
        if !patient.written.is_empty() {
            *item = known(item.clone(), &patient.written);
        }
        item.outranks_human = outranks_human && item.kind == "Flag";
    }
    items
}

/// P14: humans close Flags before our read, between our read and our write, and after a write whose
/// answer was lost. What they left stands until a new episode or an escalation.
#[tokio::test]
async fn a_humans_edit_wins() {
    let patients = count("MARROWFLAG_P14_PATIENTS", 50);
    let mut random = StdRng::seed_from_u64(SEED);
    let [
        mut before,
        mut between,
        mut after,
        mut overwritten,
        mut reopened,
    ] = [0; 5];
    for promise in [PUT_ID, TRANSACTION] {
        let hostile = Misbehaving::start(promise).await;
        let target = server(&hostile.base);
        for number in 0..patients {
            let mrn = number.to_string();
            let place = format!("Flag/mf-flag-{mrn}");
            let close = || hostile.edit(&place, |flag| flag["status"] = json!("inactive"));
            let is_closed = || hostile.truth().resources[&place].1["status"] == "inactive";
            let mut patient = Patient::default();
            for revision in 0..8 {
                let outranks = random.random_bool(0.25);
                // A finding that a human took over is silent until then.
                if patient.human && !outranks {
                    continue;
                }
                let mut edited = false;
                if !patient.written.is_empty() && !outranks {
                    match random.random_range(0..6) {
                        0 => {
                            close();
                            before += 1;
                            edited = true;
                        }
                        1 => {
                            hostile.script(On::Read, [Fault::ThenClosed(place.clone())]);
                            between += 1;
                            edited = true;
                        }
                        _ => {}
                    }
                }
                let lost = !edited && random.random_bool(0.25);
                if lost {
                    let fault = if random.random_bool(0.5) {
                        Fault::Reset
                    } else {
                        Fault::status(500)
                    };
                    hostile.script(On::Write, [Fault::Stored(Box::new(fault))]);
                }
                let was_human = patient.human;
                let alone = !promise.transaction;
                let mut lease = leased(&mrn, items(&mrn, revision, &patient, outranks, alone));
                let mut sent = send(&target, &lease).await;
                if lost {
                    assert!(matches!(
                        sent.outcome,
                        Outcome::Unknown | Outcome::ServerFault
                    ));
                    if random.random_bool(0.5) {
                        close();
                        after += 1;
                        edited = true;
                    }
                    lease = again(&lease, &sent);
                    sent = send(&target, &lease).await;
                }
                assert_eq!(sent.outcome, Outcome::Delivered);
                overwritten += u32::from(edited && !is_closed());
                let kept = fate(&sent, 2) == Some(Fate::HumanEdited { inactive: true });
                assert_eq!(kept, edited, "patient {mrn}, revision {revision}");
                reopened += u32::from(was_human && !is_closed());
                patient.human = kept;
                patient.written = sent.items;
            }
        }
    }
    println!(
        "P14 patients={} closed_before_read={before} between_read_and_write={between} \
         after_unknown_outcome={after} overwritten={overwritten} reopened_by_escalation={reopened} seed={SEED}",
        2 * patients
    );
    assert_eq!(overwritten, 0);
    assert!(before > 0 && between > 0 && after > 0 && reopened > 0);
}
