//! What a case works with: a worker on a handle, and the calls that it makes.

use std::future::Future;
use std::slice::from_ref;
use std::sync::Arc;
use std::time::Duration;

use expirer_core::{
    Clock, DelayQueue, Error, ErrorKind, Lease, LeaseOptions, OrderId, QueueStats, Release, Result,
    Timer, Timestamp,
};
use futures_lite::future;

use crate::harness::QueueHarness;

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// Outlives every case in real time.
const LEASE_LONG: Duration = Duration::from_secs(60);

/// How much longer than asked for a call may take before the case gives it up.
const PATIENCE: Duration = Duration::from_secs(120);

/// One handle on the queue, as a worker would use it. Whatever it leases is checked: never early,
/// never more than asked for, by due time.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) harness: &'a dyn QueueHarness,
    pub(super) queue: Arc<dyn DelayQueue>,
    max: usize,
    lease: Duration,
    pub(super) acks: bool,
    pub(super) has_trouble: bool,
}

pub(super) const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn id(text: &str) -> OrderId {
    OrderId::new(text).expect("the id of a case is valid")
}

pub(super) fn timer(name: &str, due: Timestamp) -> Timer {
    Timer::new(id(name), due)
}

pub(super) fn crowd(count: usize, due: Timestamp) -> Vec<Timer> {
    (0..count).map(|number| timer(&format!("o{number}"), due)).collect()
}

pub(super) const fn is_outage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::TimedOut)
}

impl<'a> Stage<'a> {
    /// A worker that leases 256 at a time, for long.
    pub(super) async fn new(harness: &'a dyn QueueHarness) -> Self {
        let queue = harness.queue().await.expect("the harness opens a handle");
        Self { harness, queue, max: 256, lease: LEASE_LONG, acks: false, has_trouble: false }
    }

    /// Another worker like this one, on a handle of its own.
    pub(super) async fn another(&self) -> Self {
        let Self { harness, max, lease, acks, has_trouble, .. } = *self;
        Self { max, lease, acks, has_trouble, ..Self::new(harness).await }
    }

    pub(super) const fn with_max(mut self, max: usize) -> Self {
        self.max = max;
        self
    }

    pub(super) const fn with_lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Acks each batch that comes.
    pub(super) const fn with_acks(mut self) -> Self {
        self.acks = true;
        self
    }

    /// For a case with outages or dropped calls: repeats what fails because of an outage, and
    /// bears that a timer comes twice, or a lease later, since a call that failed had taken it.
    pub(super) const fn with_trouble(mut self) -> Self {
        self.has_trouble = true;
        self
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &**self.harness.time().clock()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock().now()
    }

    pub(super) fn after(&self, after_millis: u64) -> Timestamp {
        self.now() + millis(after_millis)
    }

    pub(super) async fn sleep(&self, duration: Duration) {
        self.clock().sleep_until(self.now() + duration).await;
    }

    /// How late something may come.
    pub(super) fn allowance(&self) -> Duration {
        let lost_lease = if self.has_trouble { self.lease } else { Duration::ZERO };
        self.queue.capabilities().precision + self.harness.time().tolerance().late + lost_lease
    }

    pub(super) const fn options(&self) -> LeaseOptions {
        LeaseOptions::new(self.max).with_duration(self.lease)
    }

    pub(super) async fn schedule(&self, timers: &[Timer]) {
        self.call("schedule", Duration::ZERO, || self.queue.schedule(timers)).await;
    }

    pub(super) async fn scheduled(&self, name: &str, due: Timestamp) -> Timer {
        let timer = timer(name, due);
        self.schedule(from_ref(&timer)).await;
        timer
    }

    pub(super) async fn cancel(&self, ids: &[OrderId]) {
        self.call("cancel", Duration::ZERO, || self.queue.cancel(ids)).await;
    }

    pub(super) async fn ack(&self, leases: &[Lease]) {
        let receipts: Vec<_> = leases.iter().map(|lease| lease.receipt).collect();
        self.call("ack", Duration::ZERO, || self.queue.ack(&receipts)).await;
    }

    pub(super) async fn release(&self, lease: &Lease, at: Timestamp) {
        let release = [Release { receipt: lease.receipt, at }];
        self.call("release", Duration::ZERO, || self.queue.release(&release)).await;
    }

    pub(super) async fn stats(&self) -> QueueStats {
        self.call("stats", Duration::ZERO, || self.queue.stats()).await
    }

    /// One call, and what holds for every one.
    pub(super) async fn lease(&self, options: LeaseOptions) -> Vec<Lease> {
        let leases = self.call("lease", options.wait, || self.queue.lease(options.clone())).await;
        let (count, max) = (leases.len(), options.max.max(1));
        assert!(count <= max, "at most {max} were asked for, {count} came");
        let is_ordered = leases.is_sorted_by_key(|lease| lease.timer.due);
        assert!(is_ordered, "a batch is ordered by due time: {leases:?}");
        for lease in &leases {
            assert!(lease.attempt >= 1, "the lease itself is an attempt: {lease:?}");
            self.assert_not_before(lease.timer.due, lease);
        }
        leases
    }

    /// Schedules a timer that is due, and leases it; gives when the lease ends at the earliest.
    pub(super) async fn leased(&self, name: &str) -> (Lease, Timestamp) {
        let timer = self.scheduled(name, self.now()).await;
        let end = self.now() + self.lease;
        (self.comes(&timer).await, end)
    }

    pub(super) fn assert_not_before(&self, at: Timestamp, lease: &Lease) {
        let (now, early) = (self.now(), self.harness.time().tolerance().early);
        assert!(now + early >= at, "not before {at}; it is {now}: {lease:?}");
    }

    async fn call<T, F>(&self, op: &str, wait: Duration, call: impl Fn() -> F) -> T
    where
        F: Future<Output = Result<T>>,
    {
        let limit = self.now() + wait + PATIENCE;
        loop {
            match self.bounded(op, wait, call()).await {
                Ok(done) => return done,
                Err(error) => {
                    let is_borne = self.has_trouble && is_outage(&error) && self.now() < limit;
                    assert!(is_borne, "{op} at {}: {error}", self.now());
                }
            }
            self.sleep(millis(20)).await;
        }
    }

    /// A call that does not return fails the case, instead of hanging it.
    pub(super) async fn bounded<T>(
        &self,
        op: &str,
        wait: Duration,
        call: impl Future<Output = T>,
    ) -> T {
        let limit = self.now() + wait + PATIENCE;
        future::or(call, async {
            self.clock().sleep_until(limit).await;
            panic!("{op} should have returned by {limit}")
        })
        .await
    }
}
