//! Wrappers that look at every effect as it happens, and know what must never be.
//!
//! They stand directly around the backends, below the faults, so that what they see has happened.

mod bus;
mod consumer;
mod ears;
mod observer;
mod orders;
mod queue;
mod repo;
mod timers;
mod waits;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use expirer_core::event::Event;
use expirer_core::observe::Flow;
use expirer_core::{
    Clock, Consumer, DelayQueue, Delivery, EventBus, Headers, Observer, OrderId, OrderRepo,
    ReceiveOptions, Release, Subject, Timestamp,
};

use self::bus::Payments;
use self::orders::Orders;
pub(super) use self::orders::order_of;
use self::timers::Timers;
use self::waits::Waits;
use super::log::Log;
use crate::faults::Faults;
use crate::time::{VirtualClock, VirtualTime};
use crate::{at_once, lock};

/// Items a turn in a simulation: few, so that a batch is often not enough.
pub(super) const BATCH_MAX: usize = 4;
/// For how long a replica that was held up may still announce what another has announced and
/// cleared since: a turn (8 s), a step (2 s), and standing still (40 s) twice in it.
pub(super) const STRAGGLER: Duration = Duration::from_secs(90);

/// Who acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A replica of a loop.
    Flow(Flow),
    /// A request on the service's own interface.
    Request,
    /// Somebody else: other services.
    World,
}

/// Who acts, and by which clock.
#[derive(Clone, Debug)]
pub(super) struct Actor {
    pub(super) name: usize,
    pub(super) role: Role,
    pub(super) clock: Arc<VirtualClock>,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.role {
            Role::Flow(flow) => write!(f, "{} {}", flow.as_str(), self.name),
            Role::Request => write!(f, "request {}", self.name),
            Role::World => f.write_str("world"),
        }
    }
}

/// What is known of a run while it goes on.
#[derive(Clone, Debug)]
pub(super) struct Watch {
    pub(super) time: VirtualTime,
    pub(super) log: Log,
    faults: Faults,
    queue_clock: Arc<VirtualClock>,
    bus_clock: Arc<VirtualClock>,
    /// Sees everything that is on the bus, the dead letters included.
    auditor: Arc<dyn Consumer>,
    truth: Arc<Mutex<Truth>>,
}

#[derive(Debug, Default)]
pub(super) struct Truth {
    pub(super) orders: Orders,
    pub(super) timers: Timers,
    pub(super) payments: Payments,
    /// Everything that was ever on the bus.
    pub(super) audit: Vec<Delivery>,
    pub(super) waits: Waits,
}

impl Watch {
    pub(super) fn new(
        time: &VirtualTime,
        log: &Log,
        faults: &Faults,
        [queue_clock, bus_clock]: [Arc<VirtualClock>; 2],
        auditor: Box<dyn Consumer>,
    ) -> Self {
        Self {
            time: time.clone(),
            log: log.clone(),
            faults: faults.clone(),
            queue_clock,
            bus_clock,
            auditor: auditor.into(),
            truth: Arc::default(),
        }
    }

    pub(super) fn queue(&self, actor: &Actor, inner: &Arc<dyn DelayQueue>) -> Arc<dyn DelayQueue> {
        let (watch, actor, inner) = (self.clone(), actor.clone(), Arc::clone(inner));
        Arc::new(queue::WatchedQueue { watch, actor, inner })
    }

    pub(super) fn bus(&self, actor: &Actor, inner: &Arc<dyn EventBus>) -> Arc<dyn EventBus> {
        let (watch, actor, inner) = (self.clone(), actor.clone(), Arc::clone(inner));
        Arc::new(bus::WatchedBus { watch, actor, inner })
    }

    /// What the loop itself hears, above the faults.
    pub(super) fn ears(&self, actor: &Actor, inner: Arc<dyn EventBus>) -> Arc<dyn EventBus> {
        let (watch, actor) = (self.clone(), actor.clone());
        watch.truth().waits.forget(actor.name);
        Arc::new(ears::Ears { watch, actor, inner })
    }

    pub(super) fn repo(&self, actor: &Actor, inner: &Arc<dyn OrderRepo>) -> Arc<dyn OrderRepo> {
        let (watch, actor, inner) = (self.clone(), actor.clone(), Arc::clone(inner));
        Arc::new(repo::WatchedRepo { watch, actor, inner })
    }

    pub(super) fn observer(&self, actor: &Actor) -> Arc<dyn Observer> {
        Arc::new(observer::WatchedSignals { watch: self.clone(), actor: actor.clone() })
    }

    /// The queue lost these timers, which it had confirmed.
    pub(super) fn lost_timers(&self, ids: &[OrderId]) {
        self.truth().timers.cancel(ids, self.queue_clock.now());
    }

    pub(super) fn truth(&self) -> MutexGuard<'_, Truth> {
        lock(&self.truth)
    }

    fn now(&self) -> Timestamp {
        self.time.now()
    }

    fn trace(&self, actor: &Actor, text: fmt::Arguments<'_>) {
        self.log.trace(self.now(), format_args!("{actor}: {text}"));
    }

    /// Looks at what is new on the bus.
    fn audit(&self) {
        let new = at_once(self.auditor.receive(ReceiveOptions::new(1024)));
        let new = new.expect("the bus answers");
        let receipts: Vec<_> = new.iter().map(|delivery| delivery.receipt).collect();
        at_once(self.auditor.ack(&receipts)).expect("the bus answers");
        let mut truth = self.truth();
        for delivery in &new {
            truth.payments.stored(delivery);
            let verdict = self.reasoned(delivery);
            verdict.unwrap_or_else(|text| self.log.violation(self.now(), &text));
        }
        truth.audit.extend(new);
    }

    /// A dead letter says why, of what, and when.
    fn reasoned(&self, Delivery { message, .. }: &Delivery) -> Verdict {
        let has = |name| message.headers.get(name).is_some_and(|value| !value.is_empty());
        let all = [Headers::REASON, Headers::SUBJECT, Headers::TIME];
        match (&message.subject, all.into_iter().find(|name| !has(name))) {
            (Subject::Dead(_), Some(name)) => Err(format!("a dead letter without {name}")),
            _ => Ok(()),
        }
    }

    /// Times to come back are by the clock of whoever gives back, and a handle on a backend with
    /// another clock carries over how far away they are.
    fn carried_over(actor: &Actor, clock: &VirtualClock, releases: &[Release]) -> Vec<Release> {
        let here = actor.clock.now();
        let there = |at: Timestamp| clock.now() + at.since(here);
        releases
            .iter()
            .map(|Release { receipt, at }| Release { receipt: *receipt, at: there(*at) })
            .collect()
    }

    /// What one of the checks found.
    fn judge(&self, actor: &Actor, verdict: Verdict) {
        if let Err(text) = verdict {
            self.log.violation(self.now(), &format!("{actor}: {text}"));
        }
    }

    /// Every batch has a bound.
    fn bounded(&self, actor: &Actor, what: &str, items: usize, max: usize) {
        if items > max && actor.role != Role::World {
            self.judge(actor, Err(format!("{what} of {items} items; the bound is {max}")));
        }
    }
}

/// `Err` says which promise is broken, and how.
pub(super) type Verdict = Result<(), String>;

/// An announcement as it goes out, for comparing: an event of the five, to the byte.
pub(super) type Announcement = (Timestamp, Event, Arc<[u8]>, Option<expirer_core::MessageId>);
