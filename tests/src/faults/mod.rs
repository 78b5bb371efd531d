//! Wrappers around a backend that do to it what networks and servers do.
//!
//! [`Faults`] decides; [`queue`](Faults::queue), [`bus`](Faults::bus) and [`repo`](Faults::repo)
//! wrap. Even calm ones suspend before and after every effect, which a backend in memory never
//! does by itself: without that, no crash falls between two effects, and no two calls interleave.
//!
//! ```
//! use std::sync::Arc;
//!
//! use expirer_conformance::faults::{Faults, Odds, Service};
//! use expirer_conformance::time::VirtualTime;
//! use expirer_core::{DelayQueue, ErrorKind, LeaseOptions};
//!
//! # fn wrap(mine: Arc<dyn DelayQueue>) {
//! let time = VirtualTime::default();
//! let faults = Faults::new(7, Odds::default(), time.clock());
//! let queue = faults.queue(mine);
//! faults.set_out(Service::Queue, true);
//! let answer = time.block_on(queue.lease(LeaseOptions::new(1)));
//! assert_eq!(answer.expect_err("it is out").kind(), ErrorKind::Unavailable);
//! # }
//! ```

mod bus;
mod consumer;
mod queue;
mod repo;
mod suspended;

use std::collections::{BTreeMap, BTreeSet};
use std::future::{Future, pending};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use expirer_core::{
    Clock, DelayQueue, Error, ErrorKind, EventBus, Group, Message, OrderRepo, Result, Subject,
    Timer,
};
use fastrand::Rng;
use futures_lite::future::yield_now;

use crate::{lock, millis};

pub use self::suspended::Suspended;

/// Which of the three backends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Service {
    /// The delay queue.
    Queue,
    /// The event bus.
    Bus,
    /// The order repository.
    Repo,
}

impl Service {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Queue, Self::Bus, Self::Repo];
}

/// How often each fault happens: once in so many calls or messages; zero for never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Odds {
    /// A call takes a while, up to [`SLOW_MAX`] before its effect and again after it.
    pub slow: u32,
    /// A call fails before it has done anything.
    pub error_before: u32,
    /// A call fails although it has done what it should.
    pub error_after: u32,
    /// A call never answers.
    pub silence: u32,
    /// A timer, an event of ours, or an expiry is confirmed and lost.
    pub loss: u32,
    /// A message is published twice.
    pub duplicate: u32,
    /// A delivery is put off for up to a minute, so that others overtake it.
    pub delay: u32,
    /// A delivery does not arrive, and comes again after its deadline.
    pub drop: u32,
    /// An ack or release is confirmed and does nothing.
    pub forgotten: u32,
    /// A consumer closes for good: another one has to be opened.
    pub closed: u32,
}

const BACKEND: &str = "faults";

/// How long a slow call takes at most, on either side of its effect.
pub const SLOW_MAX: Duration = Duration::from_millis(800);

/// How often each fault has happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Happened {
    /// Calls that took a while.
    pub slow: u64,
    /// Calls that failed before they had done anything, outages not counted.
    pub errors_before: u64,
    /// Calls that failed although they had done what they should.
    pub errors_after: u64,
    /// Calls that failed in an outage.
    pub outage_errors: u64,
    /// Calls that never answered.
    pub silences: u64,
    /// Timers and messages that were confirmed and lost.
    pub losses: u64,
    /// Messages that were published twice.
    pub duplicates: u64,
    /// Deliveries that were put off.
    pub delays: u64,
    /// Deliveries that did not arrive at first.
    pub drops: u64,
    /// Acks and releases that did nothing.
    pub forgotten: u64,
    /// Consumers that closed.
    pub closed: u64,
}

/// Decides which call meets which fault, all from one seed. Clones share it.
#[derive(Clone, Debug)]
pub struct Faults {
    state: Arc<Mutex<State>>,
    /// Whoever calls goes by this clock.
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
struct State {
    rng: Rng,
    odds: Odds,
    out: BTreeMap<Service, bool>,
    held: BTreeSet<(Group, Subject)>,
    happened: Happened,
    lost: Vec<Message>,
    lost_timers: BTreeSet<Timer>,
    swallowed: Vec<Message>,
}

impl Faults {
    /// Faults by a seed; `clock` is the clock of whoever calls.
    #[must_use]
    pub fn new(seed: u64, odds: Odds, clock: Arc<dyn Clock>) -> Self {
        let state = State {
            rng: Rng::with_seed(seed),
            odds,
            out: BTreeMap::new(),
            held: BTreeSet::new(),
            happened: Happened::default(),
            lost: Vec::new(),
            lost_timers: BTreeSet::new(),
            swallowed: Vec::new(),
        };
        Self { state: Arc::new(Mutex::new(state)), clock }
    }

    /// The same faults for somebody with another clock.
    #[must_use]
    pub fn with_clock(&self, clock: Arc<dyn Clock>) -> Self {
        Self { state: Arc::clone(&self.state), clock }
    }

    /// Wraps a queue.
    #[must_use]
    pub fn queue(&self, inner: Arc<dyn DelayQueue>) -> Arc<dyn DelayQueue> {
        Arc::new(queue::FaultyQueue { faults: self.clone(), inner })
    }

    /// Wraps a bus, its consumers included.
    #[must_use]
    pub fn bus(&self, inner: Arc<dyn EventBus>) -> Arc<dyn EventBus> {
        Arc::new(bus::FaultyBus { faults: self.clone(), inner })
    }

    /// Wraps a repository.
    #[must_use]
    pub fn repo(&self, inner: Arc<dyn OrderRepo>) -> Arc<dyn OrderRepo> {
        Arc::new(repo::FaultyRepo { faults: self.clone(), inner })
    }

    /// Begins or ends an outage: every call fails as unavailable.
    pub fn set_out(&self, service: Service, is_out: bool) {
        self.state().out.insert(service, is_out);
    }

    /// Begins or ends a backlog: the deliveries of a subject to a group are held back.
    pub fn set_held(&self, group: &Group, subject: &Subject, is_held: bool) {
        let (mut state, key) = (self.state(), (group.clone(), subject.clone()));
        match is_held {
            true => state.held.insert(key),
            false => state.held.remove(&key),
        };
    }

    /// Ends all faults, outages and backlogs. What is put off comes at its time.
    pub fn end(&self) {
        let mut state = self.state();
        state.odds = Odds::default();
        state.out.clear();
        state.held.clear();
    }

    /// What has happened so far.
    #[must_use]
    pub fn happened(&self) -> Happened {
        self.state().happened
    }

    /// The messages that were confirmed and lost.
    #[must_use]
    pub fn lost(&self) -> Vec<Message> {
        self.state().lost.clone()
    }

    /// Whether such a message was confirmed and lost.
    #[must_use]
    pub fn has_lost(&self, message: &Message) -> bool {
        self.state().lost.iter().any(|lost| is_same(lost, message))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Whether a timer was confirmed and lost.
    pub(crate) fn has_lost_timer(&self, timer: &Timer) -> bool {
        self.state().lost_timers.contains(timer)
    }

    /// Whether a group that was to get such a message never will: only a simulated bus does that.
    pub(crate) fn has_swallowed(&self, message: &Message) -> bool {
        self.state().swallowed.iter().any(|swallowed| is_same(swallowed, message))
    }

    /// Rolls for one fault, and counts it.
    fn rolls(&self, odds: fn(&Odds) -> u32, count: fn(&mut Happened) -> &mut u64) -> bool {
        self.state().rolls(odds, count)
    }

    /// Suspends, perhaps fails, does it, suspends, and perhaps fails all the same.
    async fn around<T>(
        &self,
        service: Service,
        effect: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.suspend().await;
        self.before(service).await?;
        let done = effect.await;
        self.suspend().await;
        if self.state().is_out(service) {
            return Err(unavailable("an outage, before the answer came"));
        }
        if self.rolls(|odds| odds.error_after, |happened| &mut happened.errors_after) {
            return Err(unavailable("the answer was lost"));
        }
        done
    }

    async fn suspend(&self) {
        yield_now().await;
        if self.rolls(|odds| odds.slow, |happened| &mut happened.slow) {
            let millis = self.state().rng.u64(0..millis(SLOW_MAX));
            self.clock.sleep_until(self.clock.now() + Duration::from_millis(millis)).await;
        }
    }

    async fn before(&self, service: Service) -> Result<()> {
        let fault = self.state().fault(service);
        match fault {
            None => Ok(()),
            Some(Fault::Error(error)) => Err(error),
            Some(Fault::Silence) => pending().await,
        }
    }
}

enum Fault {
    Error(Error),
    Silence,
}

impl State {
    /// Counts the call that meets it.
    fn is_out(&mut self, service: Service) -> bool {
        let is_out = self.out.get(&service).is_some_and(|out| *out);
        self.happened.outage_errors += u64::from(is_out);
        is_out
    }

    /// One of the errors that say "back off, then repeat".
    fn error(&mut self) -> Error {
        let kinds = [ErrorKind::Unavailable, ErrorKind::TimedOut, ErrorKind::Overloaded];
        let kind = kinds[self.rng.usize(0..kinds.len())];
        Error::new(kind, BACKEND, "call", "the call was lost")
    }

    /// Rolls for one fault.
    fn hits(&mut self, one_in: u32) -> bool {
        one_in > 0 && self.rng.u32(0..one_in) == 0
    }

    fn rolls(&mut self, odds: fn(&Odds) -> u32, count: fn(&mut Happened) -> &mut u64) -> bool {
        let hit = self.hits(odds(&self.odds));
        *count(&mut self.happened) += u64::from(hit);
        hit
    }

    /// What a call meets before it does anything.
    fn fault(&mut self, service: Service) -> Option<Fault> {
        if self.is_out(service) {
            return Some(Fault::Error(unavailable("an outage")));
        }
        if self.rolls(|odds| odds.error_before, |happened| &mut happened.errors_before) {
            return Some(Fault::Error(self.error()));
        }
        let is_silent = self.rolls(|odds| odds.silence, |happened| &mut happened.silences);
        is_silent.then_some(Fault::Silence)
    }
}

fn unavailable(text: &'static str) -> Error {
    Error::new(ErrorKind::Unavailable, BACKEND, "call", text)
}

fn is_same(one: &Message, other: &Message) -> bool {
    (&one.subject, &one.payload) == (&other.subject, &other.payload)
}
