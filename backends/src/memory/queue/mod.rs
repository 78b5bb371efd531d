//! The delay queue in memory: the wheel, a lock, and a wake-up.

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use event_listener::Event;
use expirer_core::wheel::Wheel;
use expirer_core::{
    Clock, DelayQueue, Lease, LeaseOptions, OrderId, QueueCapabilities, QueueStats, Receipt,
    Release, Result, Timer, Timestamp,
};
use futures_lite::future;

use super::{BACKEND, heard_or_at, lock};

/// A lease of less would leave what is leased visible.
const LEASE_MIN: Duration = Duration::from_millis(1);

/// A delay queue within one process.
pub struct MemoryQueue {
    clock: Arc<dyn Clock>,
    wheel: Mutex<Wheel>,
    sooner: Event,
}

impl MemoryQueue {
    /// An empty queue. `seed` is for the hash of the ids: where strangers choose the ids, it
    /// should be random, so that they cannot make them collide.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self { clock, wheel: Mutex::new(Wheel::new(seed)), sooner: Event::new() }
    }

    /// Acts under the lock, with the time read under it.
    fn with<T>(&self, act: impl FnOnce(&mut Wheel, Timestamp) -> T) -> T {
        let mut wheel = lock(&self.wheel);
        let now = self.clock.now();
        act(&mut wheel, now)
    }

    /// Acts, and wakes every waiter that would otherwise sleep too long.
    fn change(&self, act: impl FnOnce(&mut Wheel, Timestamp)) {
        let is_sooner = self.with(|wheel, now| {
            let before = wheel.next_visible();
            act(wheel, now);
            wheel.next_visible().is_some_and(|at| at <= now || before.is_none_or(|old| at < old))
        });
        if is_sooner {
            self.sooner.notify(usize::MAX);
        }
    }

    fn look(&self, options: &LeaseOptions) -> Look {
        self.with(|wheel, now| Look {
            leases: wheel.lease(now, options.max, options.duration.max(LEASE_MIN)),
            now,
            next_visible: wheel.next_visible(),
        })
    }
}

/// What one look at the wheel brought.
struct Look {
    leases: Vec<Lease>,
    now: Timestamp,
    next_visible: Option<Timestamp>,
}

impl Look {
    /// Whether the wheel is still at work on what may be due.
    fn is_halfway(&self) -> bool {
        self.leases.is_empty() && self.next_visible.is_some_and(|at| at <= self.now)
    }
}

#[async_trait]
impl DelayQueue for MemoryQueue {
    async fn schedule(&self, timers: &[Timer]) -> Result<()> {
        self.change(|wheel, now| wheel.schedule(now, timers));
        Ok(())
    }

    async fn cancel(&self, ids: &[OrderId]) -> Result<()> {
        self.with(|wheel, _| wheel.cancel(ids));
        Ok(())
    }

    async fn lease(&self, options: LeaseOptions) -> Result<Vec<Lease>> {
        let mut deadline = self.clock.now() + options.wait;
        loop {
            let heard = self.sooner.listen();
            let look = self.look(&options);
            if look.is_halfway() {
                future::yield_now().await;
                continue;
            }
            if !look.leases.is_empty() || look.now >= deadline {
                return Ok(look.leases);
            }
            // So that a clock that is set back does not prolong the wait.
            deadline = deadline.min(look.now + options.wait);
            let wake_at = look.next_visible.map_or(deadline, |at| at.min(deadline));
            heard_or_at(&*self.clock, heard, wake_at).await;
        }
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        self.with(|wheel, now| wheel.ack(now, receipts));
        Ok(())
    }

    async fn release(&self, releases: &[Release]) -> Result<()> {
        self.change(|wheel, now| wheel.release(now, releases));
        Ok(())
    }

    async fn stats(&self) -> Result<QueueStats> {
        Ok(self.with(|wheel, _| wheel.stats()))
    }

    fn capabilities(&self) -> QueueCapabilities {
        let mut capabilities = QueueCapabilities::new(BACKEND);
        capabilities.exact_cancel = true;
        capabilities.fenced = true;
        capabilities.precision = Duration::from_millis(1);
        capabilities
    }
}

impl fmt::Debug for MemoryQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryQueue").finish_non_exhaustive()
    }
}
