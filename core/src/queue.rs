//! The delay queue: holds timers, hands out the due ones under a lease.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;

use crate::{OrderId, Result, Timer, Timestamp};

/// The longest a lease may run, whatever was asked for.
pub const LEASE_MAX: Duration = Duration::from_secs(3600);

/// Holds timers and hands out the due ones, at least once, each to one holder at a time.
///
/// The behaviour of one timer is the machine in [`timer`](crate::timer); every backend is tested
/// against it.
///
/// *Batches*: an empty one is accepted and does nothing. A batch that fails with
/// [`Invalid`](crate::ErrorKind::Invalid) holds an item that can never be accepted, and none or
/// some of the others may have been done; [`bisect`](crate::flow::bisect) finds the culprit.
///
/// *Concurrency*: every method may be called from any number of tasks at once.
///
/// *Retries*: no method retries for longer than one reconnect; the flows back off and repeat.
///
/// *Blocking*: only [`lease`](Self::lease) waits for something to happen. The others return when
/// the backend has answered; callers bound them with a timeout.
#[cfg_attr(any(test, feature = "mock"), mockall::automock)]
#[async_trait]
pub trait DelayQueue: Debug + Send + Sync + 'static {
    /// Stores timers, one per order: another due time replaces the stored one (a lease on it
    /// becomes stale), the same due time changes nothing, a lease included. Any due time is
    /// accepted; one in the past is due at once. Due times are by the queue's clock. Within a batch,
    /// the last entry for an id wins; whether a lease outlives a batch that changes its timer's due
    /// time and changes it back is up to the backend.
    ///
    /// *Guarantee*: on `Ok`, as durable as [`capabilities`](Self::capabilities) says.
    /// *Dropped*: each timer is stored or not, possibly later; repeat the call.
    async fn schedule(&self, timers: &[Timer]) -> Result<()>;

    /// Removes timers, leased ones included. Unknown ids are no error: cancelling is a saving,
    /// since the order decides whether an expiry counts.
    ///
    /// *Dropped*: each timer is gone or not, possibly later.
    async fn cancel(&self, ids: &[OrderId]) -> Result<()>;

    /// Leases due timers: at most `max`, as soon as there is one; none once `wait` is over, and not
    /// before. Ordered by due time within the batch; across batches and callers there is no order.
    ///
    /// *Guarantee*: no timer before its due time by the queue's clock; while a lease runs, nobody
    /// else gets the timer. A lease that runs out makes the timer visible again.
    /// *Dropped*: nothing is lost; what a dropped call had taken comes back when its lease ends.
    async fn lease(&self, options: LeaseOptions) -> Result<Vec<Lease>>;

    /// Removes leased timers: their effect is confirmed. A stale or unknown receipt is `Ok` and
    /// does nothing.
    async fn ack(&self, receipts: &[Receipt]) -> Result<()>;

    /// Gives leased timers back, to become visible at the given times by the caller's clock (at
    /// once, if that is past; see [`Release::at`]). The due time stays. A stale or unknown receipt is `Ok` and does nothing.
    async fn release(&self, releases: &[Release]) -> Result<()>;

    /// Counts, possibly a little behind: right again within the backend's precision.
    async fn stats(&self) -> Result<QueueStats>;

    /// What this backend can and cannot do.
    fn capabilities(&self) -> QueueCapabilities;
}

/// How to [`lease`](DelayQueue::lease).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseOptions {
    /// At most this many timers; zero is taken as one.
    pub max: usize,
    /// How long to wait for the first one.
    pub wait: Duration,
    /// How long the lease runs, at most [`LEASE_MAX`]; zero is taken as the shortest that the
    /// backend knows.
    pub duration: Duration,
}

impl LeaseOptions {
    /// At most `max` timers, without waiting, for 10 s.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self { max, wait: Duration::ZERO, duration: Duration::from_secs(10) }
    }

    /// Waits this long for the first timer.
    #[must_use]
    pub const fn with_wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Leases for this long.
    #[must_use]
    pub const fn with_duration(mut self, duration: Duration) -> Self {
        self.duration = duration;
        self
    }
}

/// A due timer, ours until the lease runs out.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// The timer, with the due time it was scheduled with.
    pub timer: Timer,
    /// Proof of this lease, for [`ack`](DelayQueue::ack) and [`release`](DelayQueue::release).
    pub receipt: Receipt,
    /// How many times the timer has been leased, this one included, as far as the backend counts.
    pub attempt: u32,
}

impl Lease {
    /// A first lease; for backends.
    #[must_use]
    pub const fn new(timer: Timer, receipt: Receipt) -> Self {
        Self { timer, receipt, attempt: 1 }
    }

    /// Says how many times the timer has been leased.
    #[must_use]
    pub const fn with_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }
}

/// Proof of one delivery or lease: two numbers that mean something to the backend that minted
/// them, and to nobody else: it is good on the handle that gave it, and does not survive the
/// process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Receipt {
    key: u64,
    token: u64,
}

impl Receipt {
    /// A receipt; for backends. `key` finds the item, `token` tells one delivery of it from the next.
    #[must_use]
    pub const fn new(key: u64, token: u64) -> Self {
        Self { key, token }
    }

    /// What finds the item.
    #[must_use]
    pub const fn key(self) -> u64 {
        self.key
    }

    /// What tells this delivery from the others.
    #[must_use]
    pub const fn token(self) -> u64 {
        self.token
    }
}

/// One item to give back: a lease or a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// What to give back.
    pub receipt: Receipt,
    /// When it becomes visible again, by the clock of whoever gives it back. A backend that goes by
    /// another clock carries over how far away that is: else clocks that differ by more than the
    /// delay make what was put off come back at once, again and again.
    pub at: Timestamp,
}

/// What a queue holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueStats {
    /// Timers that wait, due ones included.
    pub pending: u64,
    /// Timers that are leased.
    pub leased: u64,
    /// No timer becomes visible before this; `None` when the queue is empty or cannot tell.
    pub next_visible: Option<Timestamp>,
}

/// What a queue can and cannot do: declared, so that nobody finds out by losing something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueueCapabilities {
    /// The backend's name.
    pub backend: &'static str,
    /// A confirmed timer survives a restart of the backend.
    pub durable: bool,
    /// A cancelled timer never fires, and a rescheduled one never at its old time.
    pub exact_cancel: bool,
    /// A stale receipt does nothing. Without it, an ack that comes after its lease may remove the timer of its new holder.
    pub fenced: bool,
    /// How late a timer may become visible when the backend is idle.
    pub precision: Duration,
    /// Due times beyond this are stored as this and delayed again on arrival; `None` for no limit.
    pub horizon: Option<Duration>,
}

impl QueueCapabilities {
    /// A queue that promises nothing; for backends to build on.
    #[must_use]
    pub const fn new(backend: &'static str) -> Self {
        Self {
            backend,
            durable: false,
            exact_cancel: false,
            fenced: false,
            precision: Duration::from_secs(1),
            horizon: None,
        }
    }
}
