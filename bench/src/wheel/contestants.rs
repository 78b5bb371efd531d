//! The wheel and what it is compared with, behind one trait.

use std::collections::HashMap;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use expirer_core::{OrderId, Receipt, Timer, Timestamp, Wheel};
use tokio::runtime::{Builder, Runtime};
use tokio::task::unconstrained;
use tokio::time::Instant;
use tokio_util::time::{DelayQueue, delay_queue};

/// Timers by time and by id, on a clock of their own.
pub trait Contestant {
    /// What the figures call it.
    const NAME: &'static str;

    /// An empty one.
    fn new() -> Self;
    /// The time by its clock.
    fn now(&self) -> Timestamp;
    /// Lets time pass.
    fn advance(&mut self, by: Duration);
    /// Adds timers, or moves those that are there.
    fn schedule(&mut self, timers: &[Timer]);
    /// Removes timers.
    fn cancel(&mut self, ids: &[OrderId]);
    /// Removes up to `max` timers that are due, and adds their ids to `fired`.
    fn fire(&mut self, max: usize, fired: &mut Vec<OrderId>);
}

const START: Timestamp = Timestamp::EPOCH;

/// Ours. To fire is to lease and to acknowledge.
#[derive(Debug)]
pub struct OurWheel {
    wheel: Wheel,
    now: Timestamp,
}

impl Contestant for OurWheel {
    const NAME: &'static str = "wheel";

    fn new() -> Self {
        Self { wheel: Wheel::new(7), now: START }
    }

    fn now(&self) -> Timestamp {
        self.now
    }

    fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
    }

    fn schedule(&mut self, timers: &[Timer]) {
        self.wheel.schedule(self.now, timers);
    }

    fn cancel(&mut self, ids: &[OrderId]) {
        self.wheel.cancel(ids);
    }

    fn fire(&mut self, max: usize, fired: &mut Vec<OrderId>) {
        let end = fired.len() + max;
        while fired.len() < end && self.wheel.next_visible().is_some_and(|next| next <= self.now) {
            let leases = self.wheel.lease(self.now, end - fired.len(), Duration::from_secs(10));
            let receipts: Vec<Receipt> = leases.iter().map(|lease| lease.receipt).collect();
            self.wheel.ack(self.now, &receipts);
            fired.extend(leases.into_iter().map(|lease| lease.timer.id));
        }
    }
}

/// `DelayQueue` of tokio-util, with the map that cancelling by id needs.
#[derive(Debug)]
pub struct TokioQueue {
    runtime: Runtime,
    start: Instant,
    now: Timestamp,
    queue: DelayQueue<OrderId>,
    keys: HashMap<OrderId, delay_queue::Key>,
}

impl Contestant for TokioQueue {
    const NAME: &'static str = "DelayQueue+HashMap";

    #[expect(clippy::disallowed_methods, reason = "the runtime's clock is paused")]
    fn new() -> Self {
        let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without I/O needs nothing from the system");
        let (start, queue) = runtime.block_on(async { (Instant::now(), DelayQueue::new()) });
        Self { runtime, start, now: START, queue, keys: HashMap::new() }
    }

    fn now(&self) -> Timestamp {
        self.now
    }

    fn advance(&mut self, by: Duration) {
        self.now = self.now + by;
        self.runtime.block_on(tokio::time::advance(by));
    }

    fn schedule(&mut self, timers: &[Timer]) {
        let _context = self.runtime.enter();
        for timer in timers {
            let at = self.start + timer.due.since(START);
            match self.keys.get(&timer.id) {
                Some(key) => self.queue.reset_at(key, at),
                None => {
                    let key = self.queue.insert_at(timer.id.clone(), at);
                    self.keys.insert(timer.id.clone(), key);
                }
            }
        }
    }

    fn cancel(&mut self, ids: &[OrderId]) {
        let _context = self.runtime.enter();
        for id in ids {
            if let Some(key) = self.keys.remove(id) {
                self.queue.remove(&key);
            }
        }
    }

    fn fire(&mut self, max: usize, fired: &mut Vec<OrderId>) {
        let end = fired.len() + max;
        let Self { runtime, queue, keys, .. } = self;
        runtime.block_on(unconstrained(poll_fn(|context| {
            while fired.len() < end
                && let Poll::Ready(Some(expired)) = queue.poll_expired(context)
            {
                let id = expired.into_inner();
                keys.remove(&id);
                fired.push(id);
            }
            Poll::Ready(())
        })));
    }
}

/// The floor: an id and a time, in a map. It cannot tell what is due.
#[derive(Debug, Default)]
pub struct PlainMap(HashMap<OrderId, u64>);

impl PlainMap {
    /// Adds timers.
    pub fn insert(&mut self, timers: &[Timer]) {
        for timer in timers {
            self.0.insert(timer.id.clone(), timer.due.as_millis().unsigned_abs());
        }
    }

    /// Removes timers.
    pub fn remove(&mut self, ids: &[OrderId]) {
        for id in ids {
            self.0.remove(id);
        }
    }
    /// How many of these are there.
    #[must_use]
    pub fn lookup(&self, timers: &[Timer]) -> usize {
        timers.iter().filter(|timer| self.0.get(&timer.id).is_some_and(|due| *due > 0)).count()
    }
}
