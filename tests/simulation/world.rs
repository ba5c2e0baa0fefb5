//! A schedule: events in virtual time, drawn from one seed, until everything has been quiet.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    future::{Future, poll_fn},
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use futures_util::future::BoxFuture;
use marrowflag::{
    courier::{
        IN_FLIGHT, Outbox,
        control::{Conclusion, Control, Ended, Room, given_back},
    },
    fhir::submission::{Checker, Release},
    fhir_server::{Answer, FhirServer, Sent, Token, Transport},
    intake::{self, Intake, Interaction},
    store::{
        Store,
        delivery::{Next, Outcome, Why},
        lease::{Leased, PatientId, TargetId},
        sqlite::{Options, Sqlite},
        submission::OutboxTarget,
    },
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use time::{OffsetDateTime, macros::datetime};
use tokio::runtime::Runtime;

use crate::{
    check,
    hospital::{
        self, BASE, Defect, Hospital, Request, Way,
        counts::{Promised, Submission},
    },
    senders::{self, Sender},
};

/// The clock when a schedule begins.
const START: OffsetDateTime = datetime!(2026-11-20 12:00 UTC);
/// As the courier polls, and as a call is given up.
const POLL: u64 = 500;
const TIMEOUT: u64 = 15_000;
/// What must have come to rest so long after the last fault has not been lost but hangs.
const QUIET: u64 = 2 * 3_600_000;
/// A due delivery waits no longer, whatever the clock does.
const LATEST: u64 = 310_000;
/// The key that ids are derived with, the same in every schedule.
const IDENTITY: [u8; 32] = [7; 32];

/// What is broken on purpose, to see that the checks notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// Nothing.
    None,
    /// The FHIR server.
    Server(Defect),
    /// A crash takes the last commits with it.
    DiskForgets,
    /// A reply that says no is taken for a yes.
    BelievesAnything,
    /// What is to be tried again is given up.
    GivesUp,
    /// What is to be tried again is tried an hour later.
    Dawdles,
    /// What came of a send is not kept.
    NeverSettles,
    /// The breaker is not asked.
    Floods,
    /// The server works off what creates something long after its sender gave up.
    LateCreations,
}

/// How likely what is. Drawn for each schedule.
#[derive(Debug, Clone)]
struct Faults {
    lost: f64,
    stored_and_silent: f64,
    stored_and_error: f64,
    error: f64,
    busy: f64,
    conflict: f64,
    late: f64,
    slow: f64,
    receipt_lost: f64,
    crash_after_receipt: f64,
    crash_at_write: f64,
}

/// What happened.
#[derive(Debug, Clone, Default)]
pub(crate) struct Report {
    pub(crate) seed: u64,
    pub(crate) events: u64,
    pub(crate) submissions: u64,
    pub(crate) faults: u64,
    pub(crate) unknown: u64,
    pub(crate) writes: u64,
    pub(crate) repeats: u64,
    pub(crate) settled: u64,
    pub(crate) fenced: u64,
    pub(crate) crashes: u64,
    pub(crate) jumps: u64,
    pub(crate) edits: u64,
    pub(crate) flags: u64,
    pub(crate) reports: u64,
    pub(crate) parked: u64,
    /// Longest that a due delivery waited, in virtual milliseconds, while its target could be
    /// reached.
    pub(crate) latest: u64,
    pub(crate) compared: u64,
    pub(crate) hash: [u8; 32],
    /// What must not be.
    pub(crate) violations: Vec<(&'static str, String)>,
}

enum Event {
    Submit(usize),
    Poll(usize),
    Arrive(u64),
    Reply(u64, Result<Answer, Outcome>),
    Crash { zombies: bool },
    Restart,
    Close(usize),
    Jump(i64),
    Pause(usize, u64),
    Look,
}

/// Requests that want out, and replies on their way in.
#[derive(Debug, Default)]
struct Wires {
    next: u64,
    outgoing: Vec<(u64, Request)>,
    replies: BTreeMap<u64, Result<Answer, Outcome>>,
}

#[derive(Debug)]
struct Wire(Arc<Mutex<Wires>>);

/// Sends in the order they were woken.
#[derive(Clone, Default)]
struct Woken(Arc<Mutex<VecDeque<u64>>>);

impl Woken {
    fn waker(&self, id: u64) -> Arc<Bell> {
        Arc::new(Bell(id, self.clone()))
    }

    fn next(&self) -> Option<u64> {
        self.0.lock().unwrap().pop_front()
    }
}

struct Bell(u64, Woken);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.1.0.lock().unwrap().push_back(self.0);
    }
}

impl Transport for Wire {
    fn exchange(
        &self,
        request: reqwest::Request,
        _: OffsetDateTime,
    ) -> BoxFuture<'_, Result<Answer, Outcome>> {
        let mut wires = self.0.lock().unwrap();
        let id = wires.next;
        wires.next += 1;
        wires.outgoing.push((id, Request::of(&request)));
        let wires = Arc::clone(&self.0);
        Box::pin(poll_fn(move |_| {
            match wires.lock().unwrap().replies.remove(&id) {
                Some(reply) => Poll::Ready(reply),
                None => Poll::Pending,
            }
        }))
    }
}

/// A send under way.
struct Sending {
    courier: usize,
    leased: Leased,
    began: u64,
    started_at: OffsetDateTime,
    may_start: Arc<AtomicBool>,
    future: Pin<Box<dyn Future<Output = Sent>>>,
}

/// A call under way: of which send, and what is asked.
struct Call {
    send: u64,
    /// Our identifiers whose new state outranks a human's edit.
    outranks: BTreeSet<String>,
    request: Request,
    answered: bool,
}

struct CourierState {
    control: Control,
    server: Arc<FhirServer>,
    next_poll: Option<u64>,
    paused_until: u64,
}

/// What a SIGKILL takes away.
struct Process {
    store: Arc<dyn Store>,
    intake: Intake,
    target: TargetId,
    couriers: Vec<CourierState>,
}

/// One schedule.
pub(crate) struct World<'a> {
    runtime: &'a Runtime,
    checker: Arc<Checker>,
    sabotage: Sabotage,
    directory: TempDir,
    random: StdRng,
    now: u64,
    sequence: u64,
    events: BTreeMap<(u64, u64), Event>,
    clock_offset: i64,
    quiet_from: u64,
    down: (u64, u64),
    faults: Faults,
    wires: Arc<Mutex<Wires>>,
    calls: BTreeMap<u64, Call>,
    sends: BTreeMap<u64, Sending>,
    /// Sends that can go on, because another one let go of what both need.
    woken: Woken,
    zombies: BTreeMap<u64, Sending>,
    next_send: u64,
    process: Option<Process>,
    couriers: usize,
    /// More patients than go at once, and one right after the other.
    crowded: bool,
    /// When the process was last down or paused, or its target held or taken to be down.
    blocked: u64,
    /// By patient: the delivery that is to be tried again, and when in virtual time.
    due: BTreeMap<i64, (i64, u64)>,
    pub(crate) hospital: Hospital,
    senders: Vec<Sender>,
    pub(crate) promised: Promised,
    /// Every submission the store was asked to take, in its order: what the outcome follows from.
    pub(crate) taken: Vec<(intake::Sent, Vec<u8>)>,
    /// Patients of whom a human edited something.
    pub(crate) edited: bool,
    trace: Sha256,
    shown: bool,
    report: Report,
}

fn file(directory: &TempDir) -> PathBuf {
    directory.path().join("marrowflag.db")
}

pub(crate) fn open(path: PathBuf, now: OffsetDateTime) -> Arc<dyn Store> {
    Arc::new(Sqlite::open(&Options::new(path, now, IDENTITY)).unwrap())
}

fn draw_faults(random: &mut StdRng) -> Faults {
    let mut one = || {
        if random.random_bool(0.5) {
            random.random_range(0.01..0.2)
        } else {
            0.0
        }
    };
    Faults {
        lost: one(),
        stored_and_silent: one(),
        stored_and_error: one(),
        error: one(),
        busy: one(),
        conflict: one() / 2.0,
        late: one(),
        slow: one(),
        receipt_lost: one(),
        crash_after_receipt: one() / 2.0,
        crash_at_write: one() / 4.0,
    }
}

impl<'a> World<'a> {
    pub(crate) fn new(
        seed: u64,
        runtime: &'a Runtime,
        checker: &Arc<Checker>,
        sabotage: Sabotage,
    ) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let way = match random.random_range(0..20) {
            0..8 => Way::Transaction,
            8..14 => Way::OurIds,
            14..17 => Way::Conditional,
            _ => Way::Search,
        };
        let way = match sabotage {
            // Elsewhere nothing is created by a condition.
            Sabotage::Server(Defect::CreatesAgain) => Way::Conditional,
            _ => way,
        };
        let defect = match sabotage {
            Sabotage::Server(defect) => defect,
            _ => Defect::None,
        };
        let mut hospital = Hospital::new(way, defect);
        let crowded = random.random_bool(0.1);
        let many = if crowded {
            2 * IN_FLIGHT
        } else {
            random.random_range(2..=5)
        };
        let patients: Vec<_> = (0..many)
            .map(|number| format!("{}", 4711 + number))
            .collect();
        for mrn in &patients {
            if !random.random_bool(0.1) {
                hospital.known.insert(mrn.clone());
            }
        }
        if random.random_bool(0.15) {
            hospital.refused.insert(patients[0].clone());
        }
        let quiet_from = random.random_range(300_000..1_800_000);
        let down = if random.random_bool(0.4) {
            let from = random.random_range(0..quiet_from);
            (from, random.random_range(from..quiet_from))
        } else {
            (0, 0)
        };
        let directory = match std::fs::metadata("/dev/shm") {
            // Memory: what the disk does is another test's business.
            Ok(_) => TempDir::new_in("/dev/shm"),
            Err(_) => TempDir::new(),
        };
        let faults = draw_faults(&mut random);
        let senders = senders::draw(&mut random, &patients, START);
        let couriers = random.random_range(1..=4);
        let mut world = Self {
            runtime,
            checker: Arc::clone(checker),
            sabotage,
            directory: directory.unwrap(),
            random,
            now: 0,
            sequence: 0,
            events: BTreeMap::new(),
            clock_offset: 0,
            quiet_from,
            down,
            faults,
            wires: Arc::default(),
            calls: BTreeMap::new(),
            sends: BTreeMap::new(),
            woken: Woken::default(),
            zombies: BTreeMap::new(),
            next_send: 0,
            process: None,
            couriers,
            crowded,
            blocked: 0,
            due: BTreeMap::new(),
            hospital,
            senders,
            promised: Promised::default(),
            taken: Vec::new(),
            edited: false,
            trace: Sha256::new(),
            shown: false,
            report: Report {
                seed,
                ..Report::default()
            },
        };
        world.plan();
        world
    }

    /// What happens whatever else does.
    fn plan(&mut self) {
        let until = self.quiet_from;
        for sender in 0..self.senders.len() {
            let at = self.random.random_range(0..10_000);
            self.at(at, Event::Submit(sender));
        }
        for _ in 0..self.random.random_range(0..=2) {
            let (at, zombies) = (self.random.random_range(0..until), self.random.random());
            self.at(at, Event::Crash { zombies });
        }
        for _ in 0..self.random.random_range(0..=2) {
            let (at, choice) = (
                self.random.random_range(0..until),
                self.random.random_range(0..9),
            );
            self.at(at, Event::Close(choice));
        }
        if self.random.random_bool(0.3) {
            const HOUR: i64 = 3_600_000;
            for _ in 0..self.random.random_range(1..=3) {
                let at = self.random.random_range(0..until);
                let by = match self.random.random_range(0..6) {
                    0 => HOUR,
                    1 => -HOUR,
                    2 => 24 * HOUR,
                    3 => -24 * HOUR,
                    // 1970, and back.
                    4 => {
                        let long = START.unix_timestamp() * 1000;
                        let back = self.random.random_range(at..until);
                        self.at(back, Event::Jump(long));
                        -long
                    }
                    _ => self.random.random_range(-300_000..300_000),
                };
                self.at(at, Event::Jump(by));
            }
        }
        for _ in 0..self.random.random_range(0..=2) {
            let at = self.random.random_range(0..until);
            let courier = self.random.random_range(0..self.couriers);
            let pause = self.random.random_range(1_000..120_000);
            self.at(at, Event::Pause(courier, pause));
        }
        self.at(0, Event::Restart);
        self.at(60_000, Event::Look);
    }

    fn at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.events.insert((at.max(self.now), self.sequence), event);
    }

    fn later(&mut self, after: u64, event: Event) {
        self.at(self.now + after, event);
    }

    fn wall(&self) -> OffsetDateTime {
        let millis = i64::try_from(self.now).unwrap() + self.clock_offset;
        START + time::Duration::milliseconds(millis)
    }

    fn trace(&mut self, what: &str) {
        let line = format!("{} {what}\n", self.now);
        if self.shown {
            print!("{line}");
        }
        self.trace.update(line);
    }

    /// The same, with every step printed.
    pub(crate) fn shown(self) -> Self {
        Self {
            shown: true,
            ..self
        }
    }

    fn quiet(&self) -> bool {
        self.now >= self.quiet_from
    }

    fn chance(&mut self, of: f64) -> bool {
        let drawn = self.random.random_bool(of);
        drawn && !self.quiet()
    }

    /// Runs to the end and says what was seen.
    pub(crate) fn run(mut self) -> Report {
        while let Some(((at, _), event)) = self.events.pop_first() {
            self.now = at;
            self.report.events += 1;
            match event {
                Event::Submit(sender) => self.submit(sender),
                Event::Poll(courier) => self.poll_courier(courier),
                Event::Arrive(call) => self.arrive(call),
                Event::Reply(call, reply) => self.reply(call, reply),
                Event::Crash { zombies } => self.crash(zombies),
                Event::Restart => self.restart(),
                Event::Close(choice) => self.human(choice),
                Event::Jump(by) => self.jump(by),
                Event::Pause(courier, pause) => self.pause(courier, pause),
                Event::Look => {
                    if self.is_over() {
                        break;
                    }
                }
            }
        }
        self.finish()
    }

    /// Whether nothing is left to do; asked now and then.
    fn is_over(&mut self) -> bool {
        let at_rest = self.quiet()
            && self.sends.is_empty()
            && self.senders.iter().all(|sender| sender.queue.is_empty())
            && self.process.is_some()
            && self.open_deliveries() == 0;
        if at_rest || self.now > self.quiet_from + QUIET {
            return true;
        }
        for courier in 0..self.couriers {
            self.wake(courier, 1);
        }
        self.later(60_000, Event::Look);
        false
    }

    pub(crate) fn open_deliveries(&self) -> u64 {
        let process = self.process.as_ref().unwrap();
        let figures = self.runtime.block_on(process.store.figures()).unwrap();
        let open = figures
            .deliveries
            .iter()
            .filter(|(_, state, _)| matches!(state.as_str(), "queued" | "in_flight" | "later"));
        open.map(|(_, _, many)| many).sum()
    }

    fn submit(&mut self, sender: usize) {
        let Some(submission) = self.senders[sender].queue.front().cloned() else {
            return;
        };
        let again = self.random.random_range(1_000..30_000);
        if self.process.is_none() {
            // Nobody there: later.
            self.later(again, Event::Submit(sender));
            return;
        }
        let receipt = self.accept(&submission);
        self.trace(&format!("receipt {receipt}"));
        if self.chance(self.faults.crash_after_receipt) {
            self.crash(false);
        }
        if self.chance(self.faults.receipt_lost) {
            self.report.faults += 1;
            self.later(again, Event::Submit(sender));
            return;
        }
        self.promised.note(&submission);
        self.senders[sender].queue.pop_front();
        let longest = if self.crowded {
            100
        } else {
            self.quiet_from / 4
        };
        let pause = self.random.random_range(10..longest);
        self.later(pause, Event::Submit(sender));
    }

    /// Whether it was new.
    fn accept(&mut self, submission: &Submission) -> bool {
        let sent = intake::Sent {
            tenant: Arc::from("default"),
            client: Arc::from("lab"),
            request_id: format!("{}", self.report.submissions),
            received_at: self.wall(),
            release: Release::R4,
            idempotency_key: None,
            interaction: Interaction::Bundle,
        };
        self.report.submissions += 1;
        let process = self.process.as_ref().unwrap();
        let taken = process.intake.accept(sent.clone(), submission.body.clone());
        let receipt = match self.runtime.block_on(taken) {
            Ok(receipt) => receipt,
            Err(error) => panic!("seed {}: not taken: {error:?}", self.report.seed),
        };
        self.taken.push((sent, submission.body.clone()));
        for courier in 0..self.couriers {
            self.wake(courier, 1);
        }
        !receipt.replayed
    }

    fn wake(&mut self, courier: usize, after: u64) {
        let at = self.now + after;
        let Some(process) = &mut self.process else {
            return;
        };
        let state = &mut process.couriers[courier];
        if state.next_poll.is_none_or(|known| at < known) {
            state.next_poll = Some(at);
            self.at(at, Event::Poll(courier));
        }
    }

    fn poll_courier(&mut self, courier: usize) {
        let (wall, now) = (self.wall(), self.now);
        let Some(process) = &mut self.process else {
            return;
        };
        let state = &mut process.couriers[courier];
        if state.next_poll != Some(now) {
            return;
        }
        state.next_poll = None;
        if now < state.paused_until {
            let wait = state.paused_until - now;
            self.blocked = now + wait;
            self.wake(courier, wait);
            return;
        }
        let hold = self
            .runtime
            .block_on(Outbox::hold(&process.store, process.target))
            .unwrap();
        let mut room = state.control.admits(hold, wall, Duration::from_millis(now));
        if self.sabotage == Sabotage::Floods {
            room.slots = 4 * IN_FLIGHT;
            room.free = room.slots;
        }
        if room.slots == 0 {
            for leased in state.control.take_aside() {
                let settled = Store::settle(&*process.store, &leased, given_back(&leased, wall));
                self.runtime.block_on(settled).unwrap();
            }
        }
        let Room { slots, mut free } = room;
        if free == 0 {
            self.blocked = now;
            // What is on its way wakes it when it is back; a breaker or a hold is waited for.
            if state.control.in_flight() == 0 {
                self.wake(courier, 10 * POLL);
            }
            return;
        }
        let mut begun = Vec::new();
        while free > 0
            && let Some(leased) = state.control.next_repeat(slots)
        {
            begun.push(leased);
            free -= 1;
        }
        let limit = free.min(state.control.room_aside());
        let leased = Store::lease(&*process.store, process.target, wall, limit);
        let leased = self.runtime.block_on(leased).unwrap();
        let more = limit > 0 && leased.len() == limit;
        for one in leased {
            begun.extend(state.control.begin(one, slots));
        }
        let carried = state.control.in_flight();
        if carried > IN_FLIGHT {
            self.violate("I7", format!("{carried} at once"));
        }
        for one in begun {
            self.start(courier, one);
        }
        let earliest = self.due.values().map(|(_, at)| *at).min();
        if more {
            self.wake(courier, POLL);
        } else if let Some(at) = earliest {
            self.wake(courier, at.saturating_sub(now).max(POLL));
        }
    }

    fn start(&mut self, courier: usize, leased: Leased) {
        let wall = self.wall();
        // A newer delivery may have come in the place of the one that was to wait.
        if let Some((delivery, due)) = self.due.remove(&leased.patient.0)
            && delivery == leased.delivery
        {
            let since = due.max(self.blocked);
            let waited = self.now.saturating_sub(since);
            self.report.latest = self.report.latest.max(waited);
        }
        let process = self.process.as_ref().unwrap();
        let server = Arc::clone(&process.couriers[courier].server);
        let may_start = Arc::new(AtomicBool::new(true));
        let (mine, may) = (leased.clone(), Arc::clone(&may_start));
        let future = Box::pin(async move {
            let may_start = || may.load(Ordering::Relaxed);
            server.send(&mine, wall, &may_start).await
        });
        let id = self.next_send;
        self.next_send += 1;
        let sending = Sending {
            courier,
            leased,
            began: self.now,
            started_at: wall,
            may_start,
            future,
        };
        self.sends.insert(id, sending);
        self.drive(id);
    }

    /// Lets a send do what it can, and puts its requests on the wire; then those that waited for it.
    fn drive(&mut self, id: u64) {
        self.drive_one(id);
        while let Some(next) = self.woken.next() {
            self.drive_one(next);
        }
    }

    fn drive_one(&mut self, id: u64) {
        let waker = Waker::from(self.woken.waker(id));
        let mut context = Context::from_waker(&waker);
        let zombie = self.zombies.contains_key(&id);
        let place = if zombie {
            &mut self.zombies
        } else {
            &mut self.sends
        };
        let Some(sending) = place.get_mut(&id) else {
            return;
        };
        let done = sending.future.as_mut().poll(&mut context);
        let outranks: BTreeSet<_> = sending
            .leased
            .items
            .iter()
            .filter(|item| item.outranks_human)
            .filter_map(|item| Some(item.identifier.as_ref()?.1.clone()))
            .collect();
        let outgoing = std::mem::take(&mut self.wires.lock().unwrap().outgoing);
        for (call, request) in outgoing {
            self.put_on_the_wire(call, id, request, outranks.clone());
        }
        if let Poll::Ready(sent) = done {
            let sending = if zombie {
                self.zombies.remove(&id)
            } else {
                self.sends.remove(&id)
            };
            self.conclude(&sending.unwrap(), sent, zombie);
        }
    }

    /// What the network does with a request.
    fn put_on_the_wire(
        &mut self,
        id: u64,
        send: u64,
        request: Request,
        outranks: BTreeSet<String>,
    ) {
        self.trace(&format!(
            "{} {} {}",
            request.method, request.path, request.body
        ));
        let writes = request.writes();
        let harmless = request.names_versions() || self.sabotage == Sabotage::LateCreations;
        let call = Call {
            send,
            outranks,
            request,
            answered: false,
        };
        self.calls.insert(id, call);
        let there = self.delay();
        let down = (self.down.0..self.down.1).contains(&self.now);
        if down {
            self.report.faults += 1;
            let soon = self.random.random_range(1..2_000);
            self.later(soon, Event::Reply(id, Err(Outcome::NotSent)));
        } else if self.chance(self.faults.lost) {
            self.report.faults += 1;
            self.report.unknown += 1;
            self.later(TIMEOUT, Event::Reply(id, Err(Outcome::Unknown)));
        } else if writes && harmless && self.chance(self.faults.late) {
            // The sender has given up, and the server works it off all the same.
            self.report.faults += 1;
            self.report.unknown += 1;
            self.later(TIMEOUT, Event::Reply(id, Err(Outcome::Unknown)));
            let late = self.random.random_range(TIMEOUT..600_000);
            self.later(late, Event::Arrive(id));
        } else {
            self.later(there, Event::Arrive(id));
            self.later(TIMEOUT, Event::Reply(id, Err(Outcome::Unknown)));
        }
    }

    fn delay(&mut self) -> u64 {
        if self.chance(self.faults.slow) {
            self.random.random_range(1_000..10_000)
        } else {
            self.random.random_range(1..50)
        }
    }

    /// A request is there.
    fn arrive(&mut self, id: u64) {
        let Some(call) = self.calls.remove(&id) else {
            return;
        };
        let back = self.delay();
        let writes = call.request.writes();
        let reply = if writes && self.chance(self.faults.error) {
            self.fault(Ok(hospital::refuse(500, None)))
        } else if self.chance(self.faults.busy) {
            let wait = self.random.random_bool(0.5).then_some(7);
            let status = if self.random.random_bool(0.5) {
                503
            } else {
                429
            };
            self.fault(Ok(hospital::refuse(status, wait)))
        } else if writes && self.chance(self.faults.conflict) {
            self.fault(Ok(hospital::refuse(409, None)))
        } else {
            let outranks = |identifier: &str| call.outranks.contains(identifier);
            let answer = self.hospital.handle(&call.request, &outranks);
            if writes && self.chance(self.faults.stored_and_silent) {
                self.report.unknown += 1;
                self.fault(Err(Outcome::Unknown))
            } else if writes && self.chance(self.faults.stored_and_error) {
                self.report.unknown += 1;
                self.fault(Ok(hospital::refuse(500, None)))
            } else {
                Ok(answer)
            }
        };
        self.trace(&format!("{:?}", reply.as_ref().map(|answer| answer.status)));
        if !call.answered {
            self.calls.insert(id, call);
            self.later(back, Event::Reply(id, reply));
        }
        if writes && self.chance(self.faults.crash_at_write) {
            let zombies = self.random.random();
            self.crash(zombies);
        }
    }

    fn fault<T>(&mut self, what: T) -> T {
        self.report.faults += 1;
        what
    }

    /// The first reply counts, be it that nobody waits any longer.
    fn reply(&mut self, id: u64, reply: Result<Answer, Outcome>) {
        let Some(call) = self.calls.get_mut(&id) else {
            return;
        };
        let send = call.send;
        if self.process.is_none() && self.zombies.contains_key(&send) {
            // It goes on when another has taken its place.
            self.later(10_000, Event::Reply(id, reply));
            return;
        }
        if std::mem::replace(&mut call.answered, true) {
            return;
        }
        let reply = match reply {
            Ok(answer) if self.sabotage == Sabotage::BelievesAnything && answer.status == 500 => {
                Ok(Answer {
                    status: reqwest::StatusCode::OK,
                    bytes: Vec::new(),
                    ..answer
                })
            }
            reply => reply,
        };
        if self.sends.contains_key(&send) || self.zombies.contains_key(&send) {
            self.wires.lock().unwrap().replies.insert(id, reply);
            self.drive(send);
        }
    }

    fn conclude(&mut self, sending: &Sending, sent: Sent, zombie: bool) {
        let wall = self.wall();
        let took = time::Duration::milliseconds(i64::try_from(self.now - sending.began).unwrap());
        let ended = Ended {
            started_at: sending.started_at,
            ended_at: sending.started_at + took,
            monotonic: Duration::from_millis(self.now),
            jitter: self.random.random(),
        };
        let Some(process) = &mut self.process else {
            return;
        };
        let control = if zombie {
            &mut Control::default()
        } else {
            &mut process.couriers[sending.courier].control
        };
        let Conclusion {
            mut settlement,
            unpark,
            ends_hold,
        } = control.conclude(&sending.leased, sent, &ended);
        let next = settlement.next;
        if let Next::Later { at, .. } = &mut settlement.next {
            match self.sabotage {
                Sabotage::GivesUp => settlement.next = Next::Parked(Why::Unforeseen),
                Sabotage::Dawdles => *at += time::Duration::hours(1),
                Sabotage::NeverSettles => return,
                _ => {}
            }
        }
        let class = settlement.attempt.class;
        let settle = Store::settle(&*process.store, &sending.leased, settlement);
        let settled = self.runtime.block_on(settle).unwrap();
        if zombie {
            self.report.fenced += 1;
            if settled {
                self.violate("I5", "a process that is gone settled a delivery".to_owned());
            }
            return;
        }
        self.report.settled += 1;
        let (target, store) = (process.target, Arc::clone(&process.store));
        if !settled {
            self.violate("I5", "a lane was taken from its owner".to_owned());
        }
        if ends_hold {
            self.runtime
                .block_on(Outbox::end_hold(&store, target, wall))
                .unwrap();
        }
        self.runtime
            .block_on(Outbox::unpark(&store, &unpark, wall))
            .unwrap();
        let patient = sending.leased.patient.0;
        match next {
            Next::Later { at, .. } | Next::Held { at, .. } => {
                let wait = (at - wall).whole_milliseconds().clamp(0, 7_200_000);
                let due = self.now + u64::try_from(wait).unwrap();
                self.due.insert(patient, (sending.leased.delivery, due));
            }
            Next::Delivered | Next::Parked(_) => {
                self.due.remove(&patient);
            }
        }
        self.trace(&format!("{} {class:?} {next:?}", sending.leased.delivery));
        self.wake(sending.courier, 1);
    }

    /// SIGKILL. `zombies`: it is only stopped, and goes on when another has taken its place.
    fn crash(&mut self, zombies: bool) {
        let Some(process) = self.process.take() else {
            return;
        };
        self.report.crashes += 1;
        self.trace("crash");
        let path = file(&self.directory);
        if self.sabotage == Sabotage::DiskForgets {
            let kept = self.directory.path().join("kept");
            self.runtime.block_on(process.store.close()).unwrap();
            if kept.exists() {
                std::fs::copy(&kept, &path).unwrap();
            } else {
                std::fs::copy(&path, &kept).unwrap();
            }
        } else {
            self.runtime.block_on(process.store.close()).unwrap();
        }
        let gone = std::mem::take(&mut self.sends);
        if zombies {
            for (id, sending) in gone {
                sending.may_start.store(false, Ordering::Relaxed);
                self.zombies.insert(id, sending);
            }
        }
        let wait = self.random.random_range(1_000..90_000);
        self.later(wait, Event::Restart);
    }

    fn restart(&mut self) {
        let store = open(file(&self.directory), self.wall());
        let target = self
            .runtime
            .block_on(store.target("default", BASE))
            .unwrap();
        let intake = Intake::new(
            Arc::clone(&store),
            Arc::clone(&self.checker),
            intake::Settings::default(),
        );
        intake.set_targets(vec![OutboxTarget {
            id: target,
            unwritable: Vec::new(),
        }]);
        let couriers = (0..self.couriers)
            .map(|_| {
                let wire: Arc<dyn Transport> = Arc::new(Wire(Arc::clone(&self.wires)));
                CourierState {
                    control: Control::default(),
                    server: Arc::new(FhirServer::reached_by(wire, BASE, Token::None).unwrap()),
                    next_poll: None,
                    paused_until: 0,
                }
            })
            .collect();
        self.process = Some(Process {
            store,
            intake,
            target,
            couriers,
        });
        self.blocked = self.now;
        for courier in 0..self.couriers {
            self.wake(courier, 1);
        }
    }

    fn human(&mut self, choice: usize) {
        if let Some(place) = self.hospital.close_a_flag(choice) {
            self.edited = true;
            self.report.edits += 1;
            self.trace(&format!("closed {place}"));
        }
    }

    fn jump(&mut self, by: i64) {
        self.clock_offset += by;
        self.report.jumps += 1;
        self.trace(&format!("clock {by}"));
        for courier in 0..self.couriers {
            self.wake(courier, POLL);
        }
    }

    fn pause(&mut self, courier: usize, pause: u64) {
        let until = self.now + pause;
        if let Some(process) = &mut self.process {
            process.couriers[courier].paused_until = until;
        }
    }

    pub(crate) fn violate(&mut self, invariant: &'static str, what: String) {
        self.report.violations.push((invariant, what));
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.process.as_ref().unwrap().store)
    }

    pub(crate) fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    /// Lanes that are open or owned, as the file has it.
    pub(crate) fn open_lanes(&self) -> i64 {
        let file = rusqlite::Connection::open(file(&self.directory)).unwrap();
        let open = "SELECT count(*) FROM lane WHERE due_at IS NOT NULL OR owner IS NOT NULL";
        file.query_row(open, [], |row| row.get(0)).unwrap()
    }

    /// A store that saw the same submissions and no fault.
    pub(crate) fn replayed(&self) -> (Arc<dyn Store>, TempDir) {
        let directory = TempDir::new_in(self.directory.path()).unwrap();
        let store = open(file(&directory), START);
        let settings = intake::Settings::default();
        let intake = Intake::new(Arc::clone(&store), Arc::clone(&self.checker), settings);
        for (sent, body) in &self.taken {
            let taken = intake.accept(sent.clone(), body.clone());
            self.runtime.block_on(taken).unwrap();
        }
        (store, directory)
    }

    pub(crate) fn report_mut(&mut self) -> &mut Report {
        &mut self.report
    }

    fn finish(mut self) -> Report {
        if self.report.latest > LATEST {
            let late = self.report.latest;
            self.violate("P10", format!("a due delivery waited {late} ms"));
        }
        check::all(&mut self);
        self.report.writes = self.hospital.writes;
        self.report.repeats = self.hospital.repeats;
        self.report.hash = self.trace.finalize_reset().into();
        if let Some(process) = self.process.take() {
            self.runtime.block_on(process.store.close()).unwrap();
        }
        self.report
    }

    /// Whose a row is.
    pub(crate) fn mrn(&self, patient: PatientId) -> String {
        let store = self.store();
        let known = self.runtime.block_on(store.patient("default", patient));
        let identifiers = known.unwrap().unwrap().identifiers;
        identifiers[0].1.clone()
    }
}
