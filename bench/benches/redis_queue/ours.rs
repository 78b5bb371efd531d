//! Expirer's queue, as the service uses it.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use expirer_backends::TokioClock;
use expirer_backends::connect::{self, ConnectOptions};
use expirer_core::{Clock, DelayQueue, LeaseOptions, OrderId, Timer, Timestamp};

use crate::Outcome;

/// Timers that one call schedules.
pub(crate) const BATCH: usize = 1000;
/// Tasks that lease and ack beside each other on one connection.
pub(crate) const WORKERS: usize = 4;
pub(crate) const PREFIX: &str = "bench";

/// Our queue and its clock.
pub(crate) struct Ours {
    pub(crate) queue: Arc<dyn DelayQueue>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Ours {
    pub(crate) async fn open(url: &str) -> Outcome<Self> {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::new());
        let seed = clock.now().as_millis().unsigned_abs() << 20;
        let options = ConnectOptions::new(Arc::clone(&clock), seed);
        let opened = connect::queue(&format!("{url}?prefix={PREFIX}"), &options).await?;
        Ok(Self { queue: opened.backend, clock })
    }

    pub(crate) async fn schedule(&self, timers: &[Timer]) -> Outcome<()> {
        for batch in timers.chunks(BATCH) {
            self.queue.schedule(batch).await?;
        }
        Ok(())
    }

    pub(crate) async fn cancel(&self, timers: &[Timer]) -> Outcome<()> {
        let ids: Vec<OrderId> = timers.iter().map(|timer| timer.id.clone()).collect();
        for batch in ids.chunks(BATCH) {
            self.queue.cancel(batch).await?;
        }
        Ok(())
    }

    /// Leases and acks what is due, by several workers as the service has them; gives how many.
    pub(crate) async fn drain(&self) -> Outcome<usize> {
        let worker = || tokio::spawn(work(Arc::clone(&self.queue)));
        let workers: Vec<_> = (0..WORKERS).map(|_| worker()).collect();
        let mut done = 0;
        for worker in workers {
            done += worker.await??;
        }
        Ok(done)
    }
}

async fn work(queue: Arc<dyn DelayQueue>) -> Outcome<usize> {
    let mut done = 0;
    loop {
        let leases = queue.lease(LeaseOptions::new(256)).await?;
        if leases.is_empty() {
            return Ok(done);
        }
        let receipts: Vec<_> = leases.iter().map(|lease| lease.receipt).collect();
        queue.ack(&receipts).await?;
        done += receipts.len();
    }
}

/// Timers with ids of 24 characters: `kind` and a number.
pub(crate) fn timers(
    kind: char,
    numbers: Range<u64>,
    due: impl Fn(u64) -> Timestamp,
) -> Vec<Timer> {
    let id = |n: u64| OrderId::new(format!("{kind}{n:023x}")).ok();
    numbers.filter_map(|n| Some(Timer::new(id(n)?, due(n)))).collect()
}

/// Microseconds from `due` until now, by this machine's clock, which is the server's as well.
///
/// # Errors
/// Before it is due.
pub(crate) fn lateness(due: Timestamp) -> Outcome<u64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let due = Duration::from_millis(u64::try_from(due.as_millis())?);
    let late = now.checked_sub(due).ok_or("a timer came before it was due")?;
    Ok(u64::try_from(late.as_micros())?)
}
