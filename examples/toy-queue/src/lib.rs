//! A toy: a [`DelayQueue`] over a map, to show what it takes to write one and to prove it.
//!
//! It is right, and slow: every lease looks at every timer, and whoever waits looks again every
//! [`POLL`]. Nothing outlives the process. `tests/conformance.rs` runs the whole suite on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use expirer_core::queue::LEASE_MAX;
use expirer_core::{
    Clock, DelayQueue, Lease, LeaseOptions, OrderId, QueueCapabilities, QueueStats, Receipt,
    Release, Result, Timer, Timestamp,
};

/// How often a lease that waits looks again.
pub const POLL: Duration = Duration::from_millis(50);

/// A delay queue in a map. Its clones are handles on the same timers.
#[derive(Clone, Debug)]
pub struct ToyQueue {
    clock: Arc<dyn Clock>,
    timers: Arc<Mutex<Timers>>,
}

#[derive(Debug, Default)]
struct Timers {
    by_id: BTreeMap<OrderId, Entry>,
    leases: u64,
}

#[derive(Debug)]
struct Entry {
    due: Timestamp,
    /// Leased or not, nobody gets it before.
    visible_at: Timestamp,
    /// The number of the lease that holds it, unless that has run out.
    lease: Option<u64>,
    attempts: u32,
}

impl Entry {
    const fn new(due: Timestamp) -> Self {
        Self { due, visible_at: due, lease: None, attempts: 0 }
    }

    fn is_held_by(&self, receipt: Receipt, now: Timestamp) -> bool {
        self.lease == Some(receipt.token()) && now < self.visible_at
    }
}

impl ToyQueue {
    /// An empty queue that goes by this clock.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, timers: Arc::default() }
    }

    fn timers(&self) -> MutexGuard<'_, Timers> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Timers {
    fn schedule(&mut self, timer: &Timer) {
        if self.by_id.get(&timer.id).is_none_or(|entry| entry.due != timer.due) {
            self.by_id.insert(timer.id.clone(), Entry::new(timer.due));
        }
    }

    fn lease(&mut self, max: usize, now: Timestamp, until: Timestamp) -> Vec<Lease> {
        let visible = self.by_id.iter_mut().filter(|(_, entry)| entry.visible_at <= now);
        let mut visible: Vec<_> = visible.collect();
        visible.sort_by_key(|(_, entry)| entry.due);
        let mut leases = Vec::new();
        for (id, entry) in visible.into_iter().take(max.max(1)) {
            self.leases += 1;
            entry.lease = Some(self.leases);
            entry.visible_at = until;
            entry.attempts = entry.attempts.saturating_add(1);
            let receipt = Receipt::new(0, self.leases);
            let timer = Timer::new(id.clone(), entry.due);
            leases.push(Lease::new(timer, receipt).with_attempt(entry.attempts));
        }
        leases
    }

    fn ack(&mut self, receipt: Receipt, now: Timestamp) {
        self.by_id.retain(|_, entry| !entry.is_held_by(receipt, now));
    }

    fn release(&mut self, release: Release, now: Timestamp) {
        let mut entries = self.by_id.values_mut();
        if let Some(entry) = entries.find(|entry| entry.is_held_by(release.receipt, now)) {
            entry.lease = None;
            entry.visible_at = release.at.max(entry.due);
        }
    }

    fn stats(&self, now: Timestamp) -> QueueStats {
        let is_leased = |entry: &&Entry| entry.lease.is_some() && now < entry.visible_at;
        let leased = self.by_id.values().filter(is_leased).count() as u64;
        let mut stats = QueueStats::default();
        stats.pending = self.by_id.len() as u64 - leased;
        stats.leased = leased;
        stats.next_visible = self.by_id.values().map(|entry| entry.visible_at).min();
        stats
    }
}

#[async_trait]
impl DelayQueue for ToyQueue {
    async fn schedule(&self, timers: &[Timer]) -> Result<()> {
        let mut ours = self.timers();
        timers.iter().for_each(|timer| ours.schedule(timer));
        Ok(())
    }

    async fn cancel(&self, ids: &[OrderId]) -> Result<()> {
        let mut timers = self.timers();
        for id in ids {
            timers.by_id.remove(id);
        }
        Ok(())
    }

    async fn lease(&self, options: LeaseOptions) -> Result<Vec<Lease>> {
        let mut deadline = self.clock.now() + options.wait;
        loop {
            let now = self.clock.now();
            // A clock that was set back does not prolong the wait.
            deadline = deadline.min(now + options.wait);
            let until = now + options.duration.min(LEASE_MAX);
            let leases = self.timers().lease(options.max, now, until);
            if !leases.is_empty() || now >= deadline {
                return Ok(leases);
            }
            self.clock.sleep_until(deadline.min(now + POLL)).await;
        }
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        let (mut timers, now) = (self.timers(), self.clock.now());
        receipts.iter().for_each(|receipt| timers.ack(*receipt, now));
        Ok(())
    }

    async fn release(&self, releases: &[Release]) -> Result<()> {
        let (mut timers, now) = (self.timers(), self.clock.now());
        releases.iter().for_each(|release| timers.release(*release, now));
        Ok(())
    }

    async fn stats(&self) -> Result<QueueStats> {
        Ok(self.timers().stats(self.clock.now()))
    }

    fn capabilities(&self) -> QueueCapabilities {
        let mut capabilities = QueueCapabilities::new("toy");
        capabilities.exact_cancel = true;
        capabilities.fenced = true;
        capabilities.precision = POLL;
        capabilities
    }
}
