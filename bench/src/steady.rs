//! How late timers come at a steady rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use expirer_core::{LeaseOptions, Timestamp};
use hdrhistogram::Histogram;

use crate::queue::{Ours, lateness, timers};
use crate::report::{Outcome, number};

/// For how long a time timers are scheduled at once.
const STEP_MS: u64 = 10;
const WORKERS: usize = 2;

/// A steady rate.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    /// Timers due in each millisecond.
    pub per_ms: u64,
    /// For so many milliseconds.
    pub length_ms: u64,
    /// How far ahead they are scheduled.
    pub ahead: Duration,
    /// How long to wait for them after the last is due.
    pub patience: Duration,
}

/// How late the timers of one round came, in microseconds.
pub type Late = Histogram<u64>;

impl Steady {
    /// How many timers are due.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.per_ms * self.length_ms
    }

    /// One round; the timers are scheduled while others come due.
    ///
    /// # Errors
    /// What the queue says; that a timer was early, or has not come.
    pub async fn run(&self, ours: &Ours) -> Outcome<Late> {
        let late = self.try_run(ours).await?;
        match late.len() {
            count if count == self.count() => Ok(late),
            count => Err(format!("{count} of {} came", self.count()).into()),
        }
    }

    /// One round; what has not come in time is not in it.
    ///
    /// # Errors
    /// What the queue says; that a timer was early.
    pub async fn try_run(&self, ours: &Ours) -> Outcome<Late> {
        let begun = ours.clock.now();
        let first = begun + self.ahead;
        let end = first + Duration::from_millis(self.length_ms) + self.patience;
        let left = Arc::new(AtomicU64::new(self.count()));
        let worker = || tokio::spawn(work(ours.clone(), Arc::clone(&left), end));
        let workers: Vec<_> = (0..WORKERS).map(|_| worker()).collect();
        for from in (0..self.length_ms).step_by(usize::try_from(STEP_MS)?) {
            let numbers = from * self.per_ms..(from + STEP_MS) * self.per_ms;
            let due = |n| first + Duration::from_millis(n / self.per_ms);
            ours.queue.schedule(&timers('l', numbers, due)).await?;
            ours.clock.sleep_until(begun + Duration::from_millis(from + STEP_MS)).await;
        }
        let mut late = Histogram::new(3)?;
        for worker in workers {
            late.add(worker.await??)?;
        }
        Ok(late)
    }
}

/// Milliseconds: the median, p99, p99.9 and the most, as cells of a table.
#[must_use]
pub fn cells(late: &Late) -> String {
    let cell = |quantile| format!("{:.2}", number(late.value_at_quantile(quantile)) / 1000.0);
    [0.5, 0.99, 0.999, 1.0].map(cell).join(" | ")
}

/// Works until none is left, or the time is over.
async fn work(ours: Ours, left: Arc<AtomicU64>, end: Timestamp) -> Outcome<Late> {
    let mut late = Histogram::new(3)?;
    let options = LeaseOptions::new(256).with_wait(Duration::from_millis(500));
    while left.load(Ordering::Relaxed) > 0 && ours.clock.now() < end {
        let leases = ours.queue.lease(options.clone()).await?;
        for lease in &leases {
            late.record(lateness(lease.timer.due)?)?;
        }
        let receipts: Vec<_> = leases.iter().map(|lease| lease.receipt).collect();
        ours.queue.ack(&receipts).await?;
        left.fetch_sub(u64::try_from(receipts.len())?, Ordering::Relaxed);
    }
    Ok(late)
}
