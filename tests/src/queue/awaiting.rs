//! What a case expects of a queue: that timers come in time, or not at all.

use std::collections::BTreeSet;
use std::slice::from_ref;
use std::time::Duration;

use expirer_core::{Lease, Timer, Timestamp};

use super::stage::{SECOND, Stage};

/// How much longer than needed a case looks for what must not come.
const QUIET: Duration = Duration::from_millis(500);

const STEP: Duration = Duration::from_millis(1);

impl Stage<'_> {
    /// It comes when it is due.
    pub(super) async fn comes(&self, timer: &Timer) -> Lease {
        let came = self.all_come(from_ref(timer)).await;
        came.into_iter().next().expect("what is awaited comes, or the case has failed")
    }

    /// It comes then, not before and not much later: from now on, if that is past.
    pub(super) async fn comes_at(&self, timer: &Timer, at: Timestamp) -> Lease {
        let came = self.all_come_at(from_ref(timer), at).await;
        came.into_iter().next().expect("what is awaited comes, or the case has failed")
    }

    /// Each of them comes when it is due, once.
    pub(super) async fn all_come(&self, timers: &[Timer]) -> Vec<Lease> {
        self.come(timers, None).await
    }

    /// All of them come then, as in [`comes_at`](Self::comes_at).
    pub(super) async fn all_come_at(&self, timers: &[Timer], at: Timestamp) -> Vec<Lease> {
        self.come(timers, Some(at)).await
    }

    async fn come(&self, timers: &[Timer], at: Option<Timestamp>) -> Vec<Lease> {
        // What is awaited may be the end of a lease that began late, too.
        let lags = if at.is_some() { 2 } else { 1 };
        let visible = |timer: &Timer| (at.unwrap_or(timer.due), timer.clone());
        let mut awaited: BTreeSet<_> = timers.iter().map(visible).collect();
        let (mut came, mut since) = (Vec::new(), self.now());
        while let Some((next, timer)) = awaited.first() {
            let limit = since.max(*next) + self.allowance() * lags;
            let batch = self.take_by(limit).await;
            let now = self.now();
            assert!(now <= limit, "{timer:?} and {} more by {limit}; now {now}", awaited.len() - 1);
            if !batch.is_empty() {
                since = now;
            }
            for lease in batch {
                let key = visible(&lease.timer);
                if awaited.remove(&key) {
                    self.assert_not_before(key.0, &lease);
                    came.push(lease);
                } else {
                    self.bear(&lease, timers).await;
                }
            }
        }
        came
    }

    /// One batch, acked if that is how this worker works. An empty one takes a moment, so that
    /// virtual time goes on.
    pub(super) async fn take_by(&self, limit: Timestamp) -> Vec<Lease> {
        let wait = limit.since(self.now());
        let leases = self.lease(self.options().with_wait(wait)).await;
        if leases.is_empty() {
            self.sleep(STEP).await;
        } else if self.acks {
            self.ack(&leases).await;
        }
        leases
    }

    /// One call brings it, however long that call has to wait.
    pub(super) async fn one_call_brings(&self, timer: &Timer, at: Timestamp) -> Lease {
        let limit = at.max(self.now()) + self.allowance() * 2;
        let wait = limit.since(self.now()) * 2 + SECOND;
        let mut leases = self.lease(self.options().with_wait(wait)).await;
        let now = self.now();
        assert!(now <= limit, "{timer:?} should have come by {limit}; now {now}: {leases:?}");
        let lease = leases.pop().unwrap_or_else(|| panic!("{timer:?}; at {now}, nothing came"));
        assert_eq!((&lease.timer, leases.len()), (timer, 0), "{leases:?}");
        self.assert_not_before(at, &lease);
        lease
    }

    /// Nothing comes until then, and for a little longer.
    pub(super) async fn nothing_until(&self, at: Timestamp) {
        let end = at + self.queue.capabilities().precision + QUIET;
        while self.now() < end {
            let wait = end.since(self.now());
            let leases = self.lease(self.options().with_wait(wait)).await;
            assert!(leases.is_empty(), "nothing should come; at {}: {leases:?}", self.now());
            self.sleep(STEP).await;
        }
    }

    /// So many wait and so many are leased: soon, since stats may be a little behind.
    pub(super) async fn counts(&self, pending: u64, leased: u64) {
        let limit = self.now() + self.allowance();
        loop {
            let stats = self.stats().await;
            if (stats.pending, stats.leased) == (pending, leased) {
                return;
            }
            let now = self.now();
            assert!(now < limit, "{pending} pending and {leased} leased; at {now}: {stats:?}");
            self.sleep(STEP).await;
        }
    }

    /// What comes uninvited: an old due time where a queue does not cancel exactly, a repeat
    /// after an outage.
    async fn bear(&self, lease: &Lease, timers: &[Timer]) {
        let may_repeat = self.has_trouble || !self.queue.capabilities().exact_cancel;
        let is_known = timers.iter().any(|timer| timer.id == lease.timer.id);
        assert!(may_repeat && is_known, "not awaited, or twice, at {}: {lease:?}", self.now());
        self.ack(from_ref(lease)).await;
    }
}
