//! What is held, by time and by id: the wheel, and what the broker needs of each timer.

use std::time::Duration;

use expirer_core::queue::LEASE_MAX;
use expirer_core::{Lease, OrderId, QueueStats, Receipt, Release, Timer, Timestamp, Wheel};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// The shortest lease: one of less would leave what is leased visible.
const LEASE_MIN: Duration = Duration::from_millis(1);

/// A timer as its broker handed it over.
#[derive(Clone, Debug)]
pub(crate) struct Arrival<T> {
    pub(crate) timer: Timer,
    /// Not given out before this, nor before it is due.
    pub(crate) visible_at: Timestamp,
    /// How many times it was leased before.
    pub(crate) attempts: u32,
    /// Grows with each change of the timer; the same for a redelivery of the same.
    pub(crate) version: u64,
    /// By what the broker knows this delivery.
    pub(crate) handle: T,
}

/// A lease that was given out, or is still good.
#[derive(Clone, Debug)]
pub(crate) struct Leased<T> {
    pub(crate) lease: Lease,
    pub(crate) version: u64,
    #[cfg_attr(
        not(test),
        expect(dead_code, reason = "for brokers that know a delivery by it alone")
    )]
    pub(crate) handle: T,
}

/// What was asked for, and by when that must be over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) now: Timestamp,
    pub(super) max: usize,
    pub(super) duration: Duration,
}

pub(super) struct Held<T> {
    wheel: Wheel,
    items: HashMap<OrderId, Item<T>, FixedState>,
    /// The id behind each receipt that is still good.
    tokens: HashMap<u64, OrderId, FixedState>,
    /// How long the broker leaves a timer with us after it was last told.
    keep: Duration,
}

struct Item<T> {
    due: Timestamp,
    attempts: u32,
    version: u64,
    handle: T,
    /// The broker may give it to somebody else from here on.
    kept_until: Timestamp,
    lease: Option<Proof>,
}

#[derive(Clone, Copy)]
struct Proof {
    receipt: Receipt,
    until: Timestamp,
    attempt: u32,
}

impl<T> Item<T> {
    fn is_leased(&self, now: Timestamp) -> bool {
        self.lease.is_some_and(|proof| now < proof.until)
    }
}

impl<T: Clone> Held<T> {
    pub(super) fn new(seed: u64, keep: Duration) -> Self {
        let items = HashMap::with_hasher(FixedState::with_seed(seed));
        Self { wheel: Wheel::new(seed), items, tokens: HashMap::default(), keep }
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// How many are not leased, or were until their lease ran out.
    pub(super) fn waiting(&self) -> usize {
        self.wheel.stats().pending as usize
    }

    pub(super) fn next_visible(&self) -> Option<Timestamp> {
        self.wheel.next_visible()
    }

    /// Takes a timer in; gives the handle that this makes useless: of an older version, or of an
    /// older one than is here.
    pub(super) fn insert(&mut self, now: Timestamp, arrival: Arrival<T>) -> Option<T> {
        let kept_until = now + self.keep;
        let Arrival { timer: Timer { id, due }, visible_at, attempts, version, handle } = arrival;
        let mut useless = None;
        if let Some(item) = self.items.get_mut(&id) {
            if item.version == version {
                (item.handle, item.kept_until) = (handle, kept_until);
                return None;
            }
            if item.version > version {
                return Some(handle);
            }
            useless = self.remove(&id);
        }
        self.wheel.schedule(now, &[Timer::new(id.clone(), visible_at.max(due))]);
        self.items.insert(id, Item { due, attempts, version, handle, kept_until, lease: None });
        useless
    }

    /// As [`Wheel::lease`], with the due times that the timers were scheduled with.
    pub(super) fn lease(&mut self, ask: Ask) -> Vec<Leased<T>> {
        let duration = ask.duration.clamp(LEASE_MIN, LEASE_MAX);
        let leases = self.wheel.lease(ask.now, ask.max, duration);
        let until = ask.now + duration;
        let mut leased: Vec<_> =
            leases.into_iter().filter_map(|lease| self.lease_one(lease, ask.now, until)).collect();
        leased.sort_unstable_by(|a, b| {
            let (a, b) = (&a.lease.timer, &b.lease.timer);
            (a.due, &a.id).cmp(&(b.due, &b.id))
        });
        leased
    }

    /// Forgets what the broker may have given to somebody else.
    fn lease_one(&mut self, lease: Lease, now: Timestamp, until: Timestamp) -> Option<Leased<T>> {
        let item = self.items.get_mut(&lease.timer.id)?;
        if item.kept_until <= now {
            self.remove(&lease.timer.id);
            return None;
        }
        let attempt = item.attempts.saturating_add(lease.attempt);
        let proof = Proof { receipt: lease.receipt, until, attempt };
        if let Some(old) = item.lease.replace(proof) {
            self.tokens.remove(&old.receipt.token());
        }
        self.tokens.insert(lease.receipt.token(), lease.timer.id.clone());
        let timer = Timer::new(lease.timer.id, item.due);
        let lease = Lease::new(timer, lease.receipt).with_attempt(attempt);
        Some(Leased { lease, version: item.version, handle: item.handle.clone() })
    }

    /// The lease that a receipt proves, if it still runs and the broker still leaves the timer
    /// with us.
    pub(super) fn find(&self, now: Timestamp, receipt: Receipt) -> Option<Leased<T>> {
        let id = self.tokens.get(&receipt.token())?;
        let item = self.items.get(id)?;
        let is_good = item.is_leased(now) && now < item.kept_until;
        let proof = item.lease.filter(|proof| proof.receipt == receipt && is_good)?;
        let timer = Timer::new(id.clone(), item.due);
        let lease = Lease::new(timer, receipt).with_attempt(proof.attempt);
        Some(Leased { lease, version: item.version, handle: item.handle.clone() })
    }

    /// Forgets a timer that was leased by this receipt, whether the lease still runs or not.
    pub(super) fn settle(&mut self, receipt: Receipt) {
        if let Some(id) = self.tokens.get(&receipt.token()).cloned() {
            self.remove(&id);
        }
    }

    /// Makes leased timers visible again.
    pub(super) fn put_back(&mut self, now: Timestamp, receipts: &[Receipt]) {
        for receipt in receipts {
            let Some(id) = self.tokens.remove(&receipt.token()) else { continue };
            if let Some(item) = self.items.get_mut(&id) {
                item.lease = None;
            }
        }
        let visible = |receipt: &Receipt| Release { receipt: *receipt, at: Timestamp::MIN };
        self.wheel.release(now, &receipts.iter().map(visible).collect::<Vec<_>>());
    }

    /// Forgets a timer that is here in an older version than this.
    pub(super) fn remove_older(&mut self, id: &OrderId, version: u64) {
        if self.items.get(id).is_some_and(|item| item.version < version) {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: &OrderId) -> Option<T> {
        let item = self.items.remove(id)?;
        if let Some(proof) = item.lease {
            self.tokens.remove(&proof.receipt.token());
        }
        self.wheel.cancel(std::slice::from_ref(id));
        Some(item.handle)
    }

    /// Takes out what nobody has leased.
    pub(super) fn hand_back(&mut self, now: Timestamp) -> Vec<T> {
        self.take(|item| !item.is_leased(now))
    }

    /// Forgets what the broker may have given to somebody else by now.
    pub(super) fn forget_lost(&mut self, now: Timestamp) -> usize {
        for item in self.items.values_mut() {
            // Only a clock that was set back makes it later than this.
            item.kept_until = item.kept_until.min(now + self.keep);
        }
        self.take(|item| item.kept_until <= now).len()
    }

    /// What the broker has to hear of again soon, or it gives it to somebody else.
    pub(super) fn to_prolong(&self, now: Timestamp) -> Vec<(OrderId, u64, T)> {
        let is_old = |item: &Item<T>| item.kept_until.since(now) <= self.keep / 2;
        let old = self.items.iter().filter(|(_, item)| is_old(item));
        old.map(|(id, item)| (id.clone(), item.version, item.handle.clone())).collect()
    }

    /// The broker was told at `told` that we still hold it.
    pub(super) fn prolonged(&mut self, id: &OrderId, version: u64, told: Timestamp) {
        let item = self.items.get_mut(id).filter(|item| item.version == version);
        if let Some(item) = item {
            item.kept_until = item.kept_until.max(told + self.keep);
        }
    }

    /// What waits here and what is leased from here.
    pub(super) fn stats(&self, now: Timestamp) -> QueueStats {
        let leased = self.items.values().filter(|item| item.is_leased(now)).count();
        let mut stats = QueueStats::default();
        stats.leased = leased as u64;
        stats.pending = (self.items.len() - leased) as u64;
        stats
    }

    fn take(&mut self, is_taken: impl Fn(&Item<T>) -> bool) -> Vec<T> {
        let taken = self.items.iter().filter(|(_, item)| is_taken(item));
        let ids: Vec<_> = taken.map(|(id, _)| id.clone()).collect();
        ids.iter().filter_map(|id| self.remove(id)).collect()
    }
}
