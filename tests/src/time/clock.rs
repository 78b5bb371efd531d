//! A clock that may be wrong.

use std::fmt;
use std::future::poll_fn;
use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use async_trait::async_trait;
use expirer_core::{Clock, Timestamp};

use super::VirtualTime;
use crate::lock;

/// A clock on [virtual time](VirtualTime), as one machine has it: right, until it is set.
pub struct VirtualClock {
    time: VirtualTime,
    id: u64,
    ahead_millis: AtomicI64,
    /// When it was last set, and what it showed until then.
    set: Mutex<Option<(Timestamp, Timestamp)>>,
}

/// For so long after a clock was set, somebody may still act on what it showed before.
const MEMORY: Duration = Duration::from_secs(60);

impl fmt::Debug for VirtualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ahead = self.ahead_millis();
        f.debug_struct("VirtualClock").field("id", &self.id).field("ahead_millis", &ahead).finish()
    }
}

impl VirtualClock {
    pub(super) const fn new(time: VirtualTime, id: u64) -> Self {
        Self { time, id, ahead_millis: AtomicI64::new(0), set: Mutex::new(None) }
    }

    /// Sets the clock to so many milliseconds ahead of the time, or behind it if that is negative,
    /// and wakes whoever sleeps by it.
    pub fn set_ahead(&self, millis: i64) {
        let shown = (self.time.now(), self.now());
        *lock(&self.set) = Some(shown);
        self.ahead_millis.store(millis, Ordering::SeqCst);
        let woken = self.time.shared().take_sleepers_of(self.id);
        woken.into_iter().for_each(Waker::wake);
    }

    /// The latest time that it shows or has shown in the last minute.
    pub(crate) fn latest(&self) -> Timestamp {
        let set = *lock(&self.set);
        let lately = set.filter(|(at, _)| self.time.now() <= *at + MEMORY);
        lately.map_or_else(|| self.now(), |(_, shown)| shown.max(self.now()))
    }

    /// Whether it was set after that time.
    pub(crate) fn was_set_since(&self, time: Timestamp) -> bool {
        lock(&self.set).is_some_and(|(at, _)| at >= time)
    }

    /// How many milliseconds ahead of the time it is.
    #[must_use]
    pub fn ahead_millis(&self) -> i64 {
        self.ahead_millis.load(Ordering::SeqCst)
    }
}

fn moved(at: Timestamp, millis: i64) -> Timestamp {
    Timestamp::from_millis(at.as_millis().saturating_add(millis))
}

#[async_trait]
impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        moved(self.time.now(), self.ahead_millis())
    }

    async fn sleep_until(&self, at: Timestamp) {
        let begun = self.now();
        let mut sleeper = Sleeper { time: &self.time, key: None };
        poll_fn(|context| {
            let now = self.now();
            // Set back: see the trait.
            if now >= at || now < begun {
                return Poll::Ready(());
            }
            let wakes_at = moved(at, self.ahead_millis().saturating_neg());
            sleeper.register(wakes_at, self.id, context.waker());
            Poll::Pending
        })
        .await;
    }
}

/// One sleep; dropped, it leaves nothing behind that would wake anybody.
struct Sleeper<'a> {
    time: &'a VirtualTime,
    key: Option<(Timestamp, u64)>,
}

impl Sleeper<'_> {
    fn register(&mut self, wakes_at: Timestamp, clock: u64, waker: &Waker) {
        let mut shared = self.time.shared();
        if let Some(key) = self.key.take() {
            shared.sleepers.remove(&key);
        }
        let key = (wakes_at, shared.key());
        shared.sleepers.insert(key, (clock, waker.clone()));
        self.key = Some(key);
    }
}

impl Drop for Sleeper<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.time.shared().sleepers.remove(&key);
        }
    }
}
