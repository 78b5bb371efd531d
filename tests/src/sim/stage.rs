//! Backends, two replicas of every loop, requests, and everything that goes wrong around them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use expirer_core::flow::{
    Canceller, Env, Expirer, Limits, Orders, Reconciler, Recorder, Scheduler,
};
use expirer_core::observe::Flow;
use expirer_core::order::Input;
use expirer_core::{Group, Message, OrderId, Record, Subject, SubscribeOptions, Timestamp};
use fastrand::Rng;
use futures_lite::future::block_on;

use super::executor::{Executor, Name};
use super::log::Log;
use super::plan::{Plan, millis, one_in};
use super::requests::{Request, Told};
use super::watch::{Actor, BATCH_MAX, Role, Watch};
use super::{Backends, Build, Materials};
use crate::faults::{Faults, Service};
use crate::planted::Mistake;
use crate::time::{VirtualClock, VirtualTime};

/// Two of each loop.
pub(super) const REPLICAS: usize = 2 * Flow::ALL.len();
/// Queue, bus, repository, each replica, and whoever makes requests.
pub(super) const CLOCKS: usize = 3 + REPLICAS + 1;
const QUEUE: usize = 0;
const BUS: usize = 1;
const REPO: usize = 2;
const FIRST_REPLICA: usize = 3;

/// So long after peace all has to be settled: orders expire, clocks are off, and what was put off
/// comes back.
const SETTLES_WITHIN: Duration = Duration::from_secs(3600);
/// What is settled has to stay so.
const AFTERMATH: Duration = Duration::from_secs(60);
/// How often it is looked whether all is settled.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// A loop that is polled so often without any time passing is spinning.
const POLLS_AT_ONCE_MAX: u64 = 100_000;

/// The longest a task stands still: well beyond a lease and an ack deadline.
const FREEZE_MILLIS_MAX: u64 = 40_000;

/// Something that happens at some time.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Another service publishes.
    Publish(Message),
    /// Somebody asks us for something.
    Request(OrderId, Input),
    /// A replica or a request that crashed comes back.
    Start(Name),
    /// A replica that stood still goes on.
    Thaw(Name),
    /// An outage begins or ends.
    Out(Service, bool),
    SetClock {
        clock: usize,
        ahead_millis: i64,
    },
    /// A backlog of a subject begins or ends.
    Hold(Subject, bool),
    /// The queue loses timers that it had confirmed.
    LoseTimers(Vec<OrderId>),
}

/// A whole service, on its stage.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) plan: Plan,
    pub(super) log: Log,
    pub(super) watch: Watch,
    pub(super) faults: Faults,
    pub(super) told: Arc<Mutex<Vec<Told>>>,
    time: VirtualTime,
    clocks: Vec<Arc<VirtualClock>>,
    backends: Backends,
    mistake: Option<Mistake>,
    rng: Rng,
    executor: Executor,
    agenda: BTreeMap<(Timestamp, usize), Act>,
    requests: Vec<Request>,
    polls_at_once: u64,
    is_peace: bool,
    look_at: Timestamp,
    settled_since: Option<Timestamp>,
}

impl Stage {
    pub(super) fn new(build: Build, mistake: Option<Mistake>, seed: u64, log: Log) -> Self {
        let time = VirtualTime::default();
        let mut rng = Rng::with_seed(seed);
        let plan = Plan::new(&mut rng, time.now());
        let clocks: Vec<_> = (0..CLOCKS).map(|_| time.clock()).collect();
        let mut backends = build(&Materials {
            queue_clock: clocks[QUEUE].clone(),
            bus_clock: clocks[BUS].clone(),
            repo_clock: clocks[REPO].clone(),
            seed,
        });
        let auditor = block_on(backends.bus.subscribe(audit())).expect("the bus has room");
        let clocks_of_backends = [&clocks[QUEUE], &clocks[BUS]].map(Arc::clone);
        if let Some(mistake) = mistake {
            backends = mistake.in_backends(backends, &clocks[QUEUE], &clocks[BUS]);
        }
        let faults = Faults::new(rng.u64(..), plan.odds, clocks[BUS].clone());
        let mut stage = Self {
            watch: Watch::new(&time, &log, &faults, clocks_of_backends, auditor),
            faults,
            agenda: plan
                .acts
                .iter()
                .enumerate()
                .map(|(nth, (at, act))| ((*at, nth), act.clone()))
                .collect(),
            look_at: plan.peace,
            executor: Executor::default(),
            told: Arc::default(),
            requests: Vec::new(),
            polls_at_once: 0,
            is_peace: false,
            settled_since: None,
            plan,
            log,
            time,
            clocks,
            backends,
            mistake,
            rng,
        };
        (0..REPLICAS).for_each(|name| stage.start(name));
        stage
    }

    /// Runs until all is settled, or a promise is broken.
    pub(super) fn run(&mut self) {
        while !self.log.is_broken() {
            self.perform_due();
            match self.executor.turn(&mut self.rng) {
                Some(name) => self.polled(name),
                None if self.go_on() => {}
                None => return,
            }
        }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.time.now()
    }

    fn polled(&mut self, name: Name) {
        self.log.trace(self.now(), format_args!("poll {name}"));
        self.log.count(|tally| tally.polls += 1);
        self.polls_at_once += 1;
        if self.polls_at_once > POLLS_AT_ONCE_MAX {
            self.log.violation(self.now(), &format!("task {name} spins: no time passes"));
        }
        if !self.is_peace && self.plan.crash > 0 && one_in(&mut self.rng, self.plan.crash) {
            self.crash();
        }
        if !self.is_peace && self.plan.freeze > 0 && one_in(&mut self.rng, self.plan.freeze) {
            self.freeze(name);
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

    /// Any task, wherever it is; it comes back after a while.
    fn crash(&mut self) {
        let name = self.rng.usize(0..REPLICAS + self.requests.len());
        if !self.executor.crash(name) {
            return;
        }
        self.log.count(|tally| tally.crashes += 1);
        self.log.trace(self.now(), format_args!("crash {name}"));
        let back = self.now() + millis(&mut self.rng, 8_000);
        self.plan_act(back, Act::Start(name));
    }

    fn plan_act(&mut self, at: Timestamp, act: Act) {
        let nth = self.plan.acts.len() + self.agenda.len();
        let key = (nth..).map(|nth| (at, nth)).find(|key| !self.agenda.contains_key(key));
        self.agenda.extend(key.map(|key| (key, act)));
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

    fn has_settled_for(&mut self, now: Timestamp) -> bool {
        if !self.unsettled().is_empty() {
            self.settled_since = None;
            return false;
        }
        let since = *self.settled_since.get_or_insert(now);
        now >= since + AFTERMATH
    }

    /// What is not settled yet.
    fn unsettled(&self) -> Vec<String> {
        let mut left = Vec::new();
        let rows = self.rows();
        for (story, row) in self.plan.stories.iter().zip(&rows) {
            let order = row.as_ref().and_then(|row| row.state.order());
            let has_ended = order.is_some_and(|order| !order.phase.is_open());
            if !has_ended || row.as_ref().is_some_and(|row| !row.owes.is_empty()) {
                left.push(format!("{} is {row:?}", story.id));
            }
        }
        let truth = self.watch.truth();
        if truth.timers.len() > 0 {
            left.push(format!("{} timers", truth.timers.len()));
        }
        if !truth.payments.are_settled() {
            left.push("payments".to_owned());
        }
        drop(truth);
        left.extend(self.backlog());
        let waiting = self.requests.len() - self.told().len();
        if waiting > 0 || !self.agenda.is_empty() {
            left.push(format!("{waiting} requests, {} acts", self.agenda.len()));
        }
        left
    }

    fn backlog(&self) -> Vec<String> {
        let groups = [
            (Group::EXPIRATION_SERVICE, &Subject::EVENTS[..2]),
            (Group::ORDERS_SERVICE, &Subject::EVENTS[..4]),
        ];
        let mut left = Vec::new();
        for (group, subjects) in groups {
            for subject in subjects {
                let progress = block_on(self.backends.bus.progress(&group, subject));
                let progress = progress.expect("the bus answers");
                if progress.waiting + progress.unacked > 0 {
                    left.push(format!("{group} on {subject}: {progress:?}"));
                }
            }
        }
        left
    }

    /// The orders' records as they are.
    pub(super) fn rows(&self) -> Vec<Option<Record>> {
        let ids: Vec<OrderId> = self.plan.stories.iter().map(|story| story.id.clone()).collect();
        block_on(self.backends.repo.load(&ids)).expect("the repository answers")
    }

    pub(super) fn told(&self) -> Vec<Told> {
        self.told.lock().expect("nobody panics with it").clone()
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

    fn perform(&mut self, act: Act) {
        self.log.trace(self.now(), format_args!("{act:?}"));
        match act {
            Act::Publish(message) => self.publish(&message),
            Act::Request(id, input) => {
                self.requests.push(Request { id, input });
                self.start(REPLICAS + self.requests.len() - 1);
            }
            Act::Start(name) => self.start(name),
            Act::Thaw(name) => self.executor.thaw(name),
            Act::Out(service, is_out) => {
                self.log.count(|tally| tally.outages += u64::from(is_out));
                self.faults.set_out(service, is_out && !self.is_peace);
            }
            Act::SetClock { clock, ahead_millis } => {
                self.log.count(|tally| tally.clock_steps += 1);
                self.clocks[clock].set_ahead(ahead_millis);
            }
            Act::Hold(subject, is_held) => {
                self.log.count(|tally| tally.backlogs += u64::from(is_held));
                self.faults.set_held(&subject, is_held && !self.is_peace);
            }
            Act::LoseTimers(ids) => self.lose_timers(&ids),
        }
    }

    fn publish(&self, message: &Message) {
        let world = Actor { name: 0, role: Role::World, clock: self.clocks[CLOCKS - 1].clone() };
        let bus = self.watch.bus(&world, &self.backends.bus);
        block_on(bus.publish(std::slice::from_ref(message))).expect("the bus has room");
    }

    fn lose_timers(&self, ids: &[OrderId]) {
        self.log.count(|tally| tally.losses += ids.len() as u64);
        block_on(self.backends.queue.cancel(ids)).expect("the queue answers");
        self.watch.lost_timers(ids);
    }

    /// Starts a replica of a loop or a request, or crashes it wherever it is and starts it again.
    fn start(&mut self, name: Name) {
        if name >= REPLICAS {
            return self.start_request(name);
        }
        let flow = Flow::ALL[name % Flow::ALL.len()];
        if self.mistake.is_some_and(|mistake| mistake.leaves_out(flow)) {
            return;
        }
        let actor = Actor {
            name,
            role: Role::Flow(flow),
            clock: self.clocks[FIRST_REPLICA + name].clone(),
        };
        let mut env = self.env(&actor);
        let mut backends = self.faulty(&actor);
        let stop = match self.mistake {
            None => Box::pin(std::future::pending()),
            Some(mistake) => {
                backends = mistake.in_replica(flow, &actor.clock, backends);
                mistake.stop(&mut env.observer)
            }
        };
        let Backends { queue, bus, repo } = backends;
        match flow {
            Flow::Scheduler => {
                let scheduler = Scheduler::new(bus, queue, env);
                self.executor.spawn(name, async move { scheduler.run(stop).await });
            }
            Flow::Expirer => {
                let expirer = Expirer::new(bus, queue, env);
                self.executor.spawn(name, async move { expirer.run(stop).await });
            }
            Flow::Recorder => {
                let recorder = Recorder::new(bus, repo, queue, env);
                self.executor.spawn(name, async move { recorder.run(stop).await });
            }
            Flow::Canceller => {
                let canceller = Canceller::new(bus, repo, queue, env);
                self.executor.spawn(name, async move { canceller.run(stop).await });
            }
            Flow::Reconciler => {
                let reconciler = Reconciler::new(bus, repo, queue, env);
                self.executor.spawn(name, async move { reconciler.run(stop).await });
            }
        }
    }

    fn start_request(&mut self, name: Name) {
        let clock = self.clocks[CLOCKS - 1].clone();
        let actor = Actor { name, role: Role::Request, clock: clock.clone() };
        let Backends { queue, bus, repo } = self.faulty(&actor);
        let orders = Orders::new(bus, repo, queue, self.env(&actor));
        let request = self.requests[name - REPLICAS].clone();
        self.executor.spawn(name, request.made(orders, clock, self.told.clone()));
    }

    /// The backends as an actor sees them: watched, behind faults.
    fn faulty(&self, actor: &Actor) -> Backends {
        let Self { watch, backends, .. } = self;
        let faults = self.faults.with_clock(actor.clock.clone());
        Backends {
            queue: faults.queue(watch.queue(actor, &backends.queue)),
            bus: faults.bus(watch.bus(actor, &backends.bus)),
            repo: faults.repo(watch.repo(actor, &backends.repo)),
        }
    }

    fn env(&self, actor: &Actor) -> Env {
        let mut limits = Limits::default();
        limits.batch_max = BATCH_MAX;
        limits.seed = actor.name as u64;
        Env::new(actor.clock.clone(), self.watch.observer(actor)).with_limits(limits)
    }
}

fn audit() -> SubscribeOptions {
    let dead = [Group::EXPIRATION_SERVICE, Group::ORDERS_SERVICE].map(Subject::Dead);
    let subjects: Vec<Subject> = Subject::EVENTS.into_iter().chain(dead).collect();
    let group = Group::new("auditor").expect("it is short");
    SubscribeOptions::new(group, subjects).with_ack_deadline(Duration::from_secs(3600))
}
