//! A whole service and everything around it, from one seed, until all is settled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use expirer_core::observe::Flow;
use expirer_core::{Group, Subject, SubscribeOptions, Timestamp};
use fastrand::Rng;

use super::acts::Act;
use super::executor::{Executor, Name, Polled};
use super::log::Log;
use super::plan::{Plan, millis, one_in};
use super::replicas::Switch;
use super::requests::{Request, Told};
use super::watch::Watch;
use super::{Backends, Build, Materials};
use crate::faults::Faults;
use crate::planted::Mistake;
use crate::time::{VirtualClock, VirtualTime};
use crate::{at_once, lock};

/// Two of each loop.
pub(super) const REPLICAS: usize = 2 * Flow::ALL.len();
/// Queue, bus, repository, each replica, and whoever makes requests.
pub(super) const CLOCKS: usize = FIRST_REPLICA + REPLICAS + 1;
pub(super) const QUEUE: usize = 0;
pub(super) const BUS: usize = 1;
pub(super) const REPO: usize = 2;
pub(super) const FIRST_REPLICA: usize = 3;
/// Whoever makes requests.
pub(super) const WORLD: usize = CLOCKS - 1;

/// So long after peace all has to be settled: clocks are off by 20 s, what was put off comes back
/// within a minute, whoever stands still goes on, the Reconciler has a grace of 30 s and puts off
/// what it has seen for as long again, and payments are waited for.
const SETTLES_WITHIN: Duration = Duration::from_secs(600);
/// What is settled has to stay so.
const AFTERMATH: Duration = Duration::from_secs(60);
/// How often it is looked whether all is settled.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// In peace, every replica does something so often: the slow poll under every wake-up, with the
/// clocks set in between.
const IDLE_MAX: Duration = Duration::from_secs(40);
/// A loop that is polled so often without any time passing is spinning.
const POLLS_AT_ONCE_MAX: u64 = 100_000;
/// The longest a task stands still: well beyond a lease and an ack deadline.
pub(super) const FREEZE_MILLIS_MAX: u64 = 40_000;
/// How long what has crashed or was stopped is away.
const AWAY_MILLIS_MAX: u64 = 8_000;

/// A whole service, on its stage.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) plan: Plan,
    pub(super) log: Log,
    pub(super) watch: Watch,
    pub(super) faults: Faults,
    pub(super) backends: Backends,
    pub(super) mistake: Option<Mistake>,
    pub(super) time: VirtualTime,
    pub(super) clocks: Vec<Arc<VirtualClock>>,
    pub(super) executor: Executor,
    pub(super) requests: Vec<Request>,
    pub(super) told: Arc<Mutex<Vec<Told>>>,
    /// What ends each replica.
    pub(super) switches: BTreeMap<Name, Arc<Switch>>,
    pub(super) is_peace: bool,
    /// Those that were told to end.
    stopped: BTreeSet<Name>,
    rng: Rng,
    agenda: BTreeMap<(Timestamp, u64), Act>,
    planned: u64,
    polls_at_once: u64,
    polled_at: BTreeMap<Name, Timestamp>,
    look_at: Timestamp,
    settled_since: Option<Timestamp>,
}

impl Stage {
    pub(super) fn new(build: &Build, mistake: Option<Mistake>, seed: u64, log: Log) -> Self {
        let time = VirtualTime::default();
        let mut rng = Rng::with_seed(seed);
        let mut plan = Plan::new(&mut rng, time.now());
        let clocks: Vec<_> = (0..CLOCKS).map(|_| time.clock()).collect();
        let mut backends = build(&materials(&clocks, seed));
        let auditor = at_once(backends.bus.subscribe(audit())).expect("the bus takes a group");
        if let Some(mistake) = mistake {
            backends = mistake.in_backends(backends, &clocks[QUEUE], &clocks[BUS]);
        }
        let faults = Faults::new(rng.u64(..), plan.odds, clocks[BUS].clone());
        let of_backends = [&clocks[QUEUE], &clocks[BUS]].map(Arc::clone);
        let acts = std::mem::take(&mut plan.acts);
        let mut stage = Self {
            watch: Watch::new(&time, &log, &faults, of_backends, auditor),
            look_at: plan.peace,
            executor: Executor::default(),
            told: Arc::default(),
            requests: Vec::new(),
            switches: BTreeMap::new(),
            is_peace: false,
            stopped: BTreeSet::new(),
            agenda: BTreeMap::new(),
            planned: 0,
            polls_at_once: 0,
            polled_at: BTreeMap::new(),
            settled_since: None,
            plan,
            log,
            faults,
            backends,
            mistake,
            time,
            clocks,
            rng,
        };
        acts.into_iter().for_each(|(at, act)| stage.plan_act(at, act));
        (0..REPLICAS).for_each(|name| stage.start(name));
        stage
    }

    /// Runs until all is settled, or a promise is broken.
    pub(super) fn run(&mut self) {
        while !self.log.is_broken() {
            self.perform_due();
            match self.executor.turn(&mut self.rng) {
                Some(polled) => self.polled(&polled),
                None if self.go_on() => {}
                None => return,
            }
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.time.now()
    }

    pub(super) fn told(&self) -> Vec<Told> {
        lock(&self.told).clone()
    }

    /// Whether nothing is planned any more.
    pub(super) fn agenda_len(&self) -> usize {
        self.agenda.len()
    }

    fn polled(&mut self, Polled { name, has_ended }: &Polled) {
        self.log.trace(self.now(), format_args!("poll {name}"));
        self.log.count(|tally| tally.polls += 1);
        self.polled_at.insert(*name, self.now());
        self.polls_at_once += 1;
        if self.polls_at_once > POLLS_AT_ONCE_MAX {
            self.log.violation(self.now(), &format!("task {name} spins: no time passes"));
        }
        if *has_ended {
            self.ended(*name);
        }
        if !self.is_peace {
            self.go_wrong(*name);
        }
    }

    /// No loop ends before it is told to.
    fn ended(&mut self, name: Name) {
        if self.stopped.remove(&name) {
            let back = self.now() + millis(&mut self.rng, AWAY_MILLIS_MAX);
            self.plan_act(back, Act::Start(name));
        } else if name < REPLICAS {
            self.log.violation(self.now(), &format!("loop {name} ended by itself"));
        }
    }

    fn go_wrong(&mut self, name: Name) {
        let Plan { crash, freeze, .. } = self.plan;
        if crash > 0 && one_in(&mut self.rng, crash) {
            match self.rng.u32(0..12) {
                0 => (0..REPLICAS).for_each(|name| self.crash(name)),
                1 => self.stop(),
                _ => {
                    let any = self.rng.usize(0..REPLICAS + self.requests.len());
                    self.crash(any);
                }
            }
        }
        if freeze > 0 && one_in(&mut self.rng, freeze) {
            self.freeze(name);
        }
    }

    /// A task is gone, wherever it is; it comes back after a while.
    fn crash(&mut self, name: Name) {
        if !self.executor.crash(name) {
            return;
        }
        self.stopped.remove(&name);
        self.log.count(|tally| tally.crashes += 1);
        self.log.trace(self.now(), format_args!("crash {name}"));
        let back = self.now() + millis(&mut self.rng, AWAY_MILLIS_MAX);
        self.plan_act(back, Act::Start(name));
    }

    /// A replica is told to end, finishes what it has in hand, and is started again.
    fn stop(&mut self) {
        let name = self.rng.usize(0..REPLICAS);
        self.log.count(|tally| tally.stops += 1);
        self.log.trace(self.now(), format_args!("stop {name}"));
        if let Some(switch) = self.switches.get(&name) {
            self.stopped.insert(name);
            switch.turn_off();
        }
    }

    /// A task stands still wherever it is: a machine that is moved, a long collection of garbage.
    fn freeze(&mut self, name: Name) {
        self.log.count(|tally| tally.freezes += 1);
        self.log.trace(self.now(), format_args!("freeze {name}"));
        self.executor.freeze(name);
        let end = self.now() + millis(&mut self.rng, FREEZE_MILLIS_MAX);
        self.plan_act(end, Act::Thaw(name));
    }

    /// Acts at the same time come in the order in which they were planned.
    fn plan_act(&mut self, at: Timestamp, act: Act) {
        self.agenda.insert((at, self.planned), act);
        self.planned += 1;
    }

    fn perform_due(&mut self) {
        let now = self.now();
        while let Some(first) = self.agenda.first_entry()
            && first.key().0 <= now
        {
            let act = first.remove();
            self.perform(act);
        }
    }

    /// Nobody has anything to do: time goes on. `false` if this is the end.
    fn go_on(&mut self) -> bool {
        let (now, peace) = (self.now(), self.plan.peace);
        self.polls_at_once = 0;
        if !self.is_peace && now >= peace {
            self.make_peace();
            return true;
        }
        if self.is_peace && now >= self.look_at {
            self.look_at = now + LOOK_EVERY;
            self.look_for_sleepers();
            if self.has_settled_for(now) {
                return false;
            }
        }
        let end = peace + SETTLES_WITHIN;
        if now >= end {
            self.log.violation(now, &format!("not settled: {}", self.unsettled().join("; ")));
            return false;
        }
        let next = self.agenda.first_key_value().map_or(end, |((at, _), _)| *at);
        let stop = if self.is_peace { self.look_at.min(end) } else { peace };
        self.time.advance(next.max(now).min(stop));
        true
    }

    /// Nothing goes wrong any more, and nothing is missing.
    fn make_peace(&mut self) {
        self.is_peace = true;
        self.log.trace(self.now(), format_args!("peace"));
        self.faults.end();
        (0..REPLICAS + self.requests.len()).for_each(|name| self.executor.thaw(name));
    }

    /// Some replica may do nothing any more while the other works.
    fn look_for_sleepers(&self) {
        let since = self.now() - IDLE_MAX;
        let asleep = |name: &Name| {
            let is_left_out = self.is_left_out(*name);
            let polled_at = self.polled_at.get(name).copied().unwrap_or(Timestamp::MIN);
            !is_left_out && self.plan.peace < since && polled_at < since
        };
        if let Some(name) = (0..REPLICAS).find(asleep) {
            self.log.violation(self.now(), &format!("loop {name} sleeps for over {IDLE_MAX:?}"));
        }
    }

    fn has_settled_for(&mut self, now: Timestamp) -> bool {
        if !self.unsettled().is_empty() {
            self.settled_since = None;
            return false;
        }
        let since = *self.settled_since.get_or_insert(now);
        now >= since + AFTERMATH
    }
}

fn materials(clocks: &[Arc<VirtualClock>], seed: u64) -> Materials {
    Materials {
        queue_clock: clocks[QUEUE].clone(),
        bus_clock: clocks[BUS].clone(),
        repo_clock: clocks[REPO].clone(),
        seed,
    }
}

/// A group that sees everything, the dead letters included.
fn audit() -> SubscribeOptions {
    let dead = [Group::EXPIRATION_SERVICE, Group::ORDERS_SERVICE].map(Subject::Dead);
    let subjects: Vec<Subject> = Subject::EVENTS.into_iter().chain(dead).collect();
    let group = Group::new("auditor").expect("it is short");
    SubscribeOptions::new(group, subjects).with_ack_deadline(Duration::from_secs(3600))
}
