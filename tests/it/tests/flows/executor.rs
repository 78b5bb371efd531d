//! Virtual time, and an executor whose every choice comes from a seed.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};

use async_trait::async_trait;
use expirer_core::{Clock, Timestamp};

/// A clock that stands still until everybody waits.
#[derive(Debug)]
pub(crate) struct VirtualClock(Mutex<Time>);

#[derive(Debug)]
struct Time {
    now: Timestamp,
    sleepers: BTreeMap<(Timestamp, u64), Waker>,
    next: u64,
}

impl VirtualClock {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self(Mutex::new(Time { now, sleepers: BTreeMap::new(), next: 0 }))
    }

    /// Goes to the time of the next sleeper, at most to `end`, and wakes it.
    fn advance(&self, end: Timestamp) {
        let mut time = self.0.lock().unwrap();
        let next = time.sleepers.first_key_value().map_or(end, |((at, _), _)| *at);
        time.now = time.now.max(next.min(end));
        while let Some(sleeper) = time.sleepers.first_entry()
            && sleeper.key().0 <= next
        {
            sleeper.remove().wake();
        }
    }
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        self.0.lock().unwrap().now
    }

    async fn sleep_until(&self, at: Timestamp) {
        poll_fn(|context| {
            let mut time = self.0.lock().unwrap();
            if time.now >= at {
                return Poll::Ready(());
            }
            time.next += 1;
            let key = (at, time.next);
            time.sleepers.insert(key, context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// `SplitMix64`: every choice of a run.
#[derive(Debug)]
pub(crate) struct Seed(u64);

impl Seed {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    /// Once in so many times.
    pub(crate) const fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Tasks by name; a task that is dropped has crashed wherever it was.
pub(crate) struct Executor {
    clock: Arc<VirtualClock>,
    tasks: BTreeMap<usize, (Task, Arc<Ready>)>,
}

struct Ready(AtomicBool);

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor").field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}

impl Executor {
    pub(crate) const fn new(clock: Arc<VirtualClock>) -> Self {
        Self { clock, tasks: BTreeMap::new() }
    }

    /// Starts a task; one of the same name crashes.
    pub(crate) fn spawn(&mut self, name: usize, task: impl Future<Output = ()> + Send + 'static) {
        let ready = Arc::new(Ready(AtomicBool::new(true)));
        self.tasks.insert(name, (Box::pin(task), ready));
    }

    /// Polls one task that is ready, by the seed; where none is, time goes on.
    pub(crate) fn turn(&mut self, seed: &mut Seed, end: Timestamp) {
        let is_ready = |ready: &Ready| ready.0.load(Ordering::Relaxed);
        let ready: Vec<usize> = self
            .tasks
            .iter()
            .filter(|(_, (_, ready))| is_ready(ready))
            .map(|(name, _)| *name)
            .collect();
        if ready.is_empty() {
            return self.clock.advance(end);
        }
        let name = ready[usize::try_from(seed.below(ready.len() as u64)).expect("an index")];
        let Some((task, flag)) = self.tasks.get_mut(&name) else { return };
        flag.0.store(false, Ordering::Relaxed);
        let waker = Waker::from(Arc::clone(flag));
        if task.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            self.tasks.remove(&name);
        }
    }
}
