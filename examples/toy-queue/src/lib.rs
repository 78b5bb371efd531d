//! A toy: a [`DelayQueue`] over a [`BTreeMap`], to show what it takes to write one and to prove it.
//!
//! It is right, and plain: one lock, one map by id, one set by time, and whoever waits looks again
//! every [`POLL`]. Nothing outlives the process. `tests/conformance.rs` runs the whole suite on it.

use std::collections::{BTreeMap, BTreeSet};
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
    /// By when they are visible: each timer once.
    by_time: BTreeSet<(Timestamp, OrderId)>,
    /// Which timer a lease is on.
    leases: BTreeMap<u64, OrderId>,
    next_lease: u64,
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
    fn schedule(&mut self, Timer { id, due }: &Timer) {
        if self.by_id.get(id).is_some_and(|entry| entry.due == *due) {
            return;
        }
        self.remove(id);
        let entry = Entry { due: *due, visible_at: *due, lease: None, attempts: 0 };
        self.by_time.insert((*due, id.clone()));
        self.by_id.insert(id.clone(), entry);
    }

    fn remove(&mut self, id: &OrderId) {
        if let Some(entry) = self.by_id.remove(id) {
            self.by_time.remove(&(entry.visible_at, id.clone()));
            entry.lease.and_then(|lease| self.leases.remove(&lease));
        }
    }

    fn lease(&mut self, max: usize, now: Timestamp, until: Timestamp) -> Vec<Lease> {
        let visible = self.by_time.iter().take_while(|(at, _)| *at <= now).take(max.max(1));
        let ids: Vec<OrderId> = visible.map(|(_, id)| id.clone()).collect();
        let mut leases: Vec<Lease> =
            ids.iter().filter_map(|id| self.lease_one(id, until)).collect();
        leases.sort_by_key(|lease| lease.timer.due);
        leases
    }

    fn lease_one(&mut self, id: &OrderId, until: Timestamp) -> Option<Lease> {
        self.next_lease += 1;
        let lease = self.next_lease;
        let entry = self.move_to(id, until)?;
        let earlier = entry.lease.replace(lease);
        entry.attempts = entry.attempts.saturating_add(1);
        let timer = Timer::new(id.clone(), entry.due);
        let leased = Lease::new(timer, Receipt::new(0, lease)).with_attempt(entry.attempts);
        earlier.and_then(|earlier| self.leases.remove(&earlier));
        self.leases.insert(lease, id.clone());
        Some(leased)
    }

    fn move_to(&mut self, id: &OrderId, at: Timestamp) -> Option<&mut Entry> {
        let entry = self.by_id.get_mut(id)?;
        self.by_time.remove(&(entry.visible_at, id.clone()));
        entry.visible_at = at;
        self.by_time.insert((at, id.clone()));
        Some(entry)
    }

    /// The timer that a receipt holds; none if its lease has run out.
    fn held_by(&self, receipt: Receipt, now: Timestamp) -> Option<(OrderId, Timestamp)> {
        let id = self.leases.get(&receipt.token())?;
        let entry = self.by_id.get(id)?;
        (now < entry.visible_at).then(|| (id.clone(), entry.due))
    }

    fn ack(&mut self, receipt: Receipt, now: Timestamp) {
        if let Some((id, _)) = self.held_by(receipt, now) {
            self.remove(&id);
        }
    }

    fn release(&mut self, Release { receipt, at }: Release, now: Timestamp) {
        if let Some((id, due)) = self.held_by(receipt, now) {
            self.leases.remove(&receipt.token());
            if let Some(entry) = self.move_to(&id, at.max(due)) {
                entry.lease = None;
            }
        }
    }

    fn stats(&self, now: Timestamp) -> QueueStats {
        let is_leased = |entry: &&Entry| entry.lease.is_some() && now < entry.visible_at;
        let leased = self.by_id.values().filter(is_leased).count() as u64;
        let mut stats = QueueStats::default();
        stats.pending = self.by_id.len() as u64 - leased;
        stats.leased = leased;
        stats.next_visible = self.by_time.first().map(|(at, _)| *at);
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
        ids.iter().for_each(|id| timers.remove(id));
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
