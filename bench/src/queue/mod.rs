//! Expirer's queue, as the service uses it, on any server.

pub mod burst;
pub mod lateness;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use expirer_backends::TokioClock;
use expirer_backends::connect::{self, ConnectOptions};
use expirer_core::{Clock, DelayQueue, LeaseOptions, OrderId, Timer, Timestamp};

use crate::report::Outcome;

/// Timers that one call schedules.
pub const BATCH: usize = 1000;
/// Tasks that lease and ack beside each other on one connection.
pub const WORKERS: usize = 4;
/// What precedes the queue's names.
pub const PREFIX: &str = "bench";

/// Our queue and its clock.
#[derive(Debug)]
pub struct Ours {
    /// As the service holds it.
    pub queue: Arc<dyn DelayQueue>,
    /// The process's.
    pub clock: Arc<dyn Clock>,
}

impl Ours {
    /// Opens the queue behind a URL, under [`PREFIX`].
    ///
    /// # Errors
    /// What opening gives.
    pub async fn open(url: &str) -> Outcome<Self> {
        let clock: Arc<dyn Clock> = Arc::new(TokioClock::new());
        let seed = clock.now().as_millis().unsigned_abs() << 20;
        let options = ConnectOptions::new(Arc::clone(&clock), seed);
        let separator = if url.contains('?') { '&' } else { '?' };
        let url = format!("{url}{separator}prefix={PREFIX}");
        let opened = connect::queue(&url, &options).await?;
        Ok(Self { queue: opened.backend, clock })
    }

    /// Schedules in batches.
    ///
    /// # Errors
    /// What the queue gives.
    pub async fn schedule(&self, timers: &[Timer]) -> Outcome<()> {
        for batch in timers.chunks(BATCH) {
            self.queue.schedule(batch).await?;
        }
        Ok(())
    }

    /// Cancels in batches.
    ///
    /// # Errors
    /// What the queue gives.
    pub async fn cancel(&self, timers: &[Timer]) -> Outcome<()> {
        let ids: Vec<OrderId> = timers.iter().map(|timer| timer.id.clone()).collect();
        for batch in ids.chunks(BATCH) {
            self.queue.cancel(batch).await?;
        }
        Ok(())
    }

    /// Leases and acks what is due, by several workers as the service has them, until nothing comes
    /// for `wait`; gives how many.
    ///
    /// # Errors
    /// What the queue gives.
    pub async fn drain(&self, wait: Duration) -> Outcome<usize> {
        let worker = || tokio::spawn(work(Arc::clone(&self.queue), wait));
        let workers: Vec<_> = (0..WORKERS).map(|_| worker()).collect();
        let mut done = 0;
        for worker in workers {
            done += worker.await??;
        }
        Ok(done)
    }
}

async fn work(queue: Arc<dyn DelayQueue>, wait: Duration) -> Outcome<usize> {
    let mut done = 0;
    let options = LeaseOptions::new(256).with_wait(wait);
    loop {
        let leases = queue.lease(options.clone()).await?;
        if leases.is_empty() {
            return Ok(done);
        }
        let receipts: Vec<_> = leases.iter().map(|lease| lease.receipt).collect();
        queue.ack(&receipts).await?;
        done += receipts.len();
    }
}

/// Timers with ids of 24 characters: `kind` and a number.
#[must_use]
pub fn timers(kind: char, numbers: Range<u64>, due: impl Fn(u64) -> Timestamp) -> Vec<Timer> {
    let id = |n: u64| OrderId::new(format!("{kind}{n:023x}")).ok();
    numbers.filter_map(|n| Some(Timer::new(id(n)?, due(n)))).collect()
}

/// Microseconds from `due` until now, by this machine's clock, which is the server's as well.
///
/// # Errors
/// Before it is due.
pub fn lateness(due: Timestamp) -> Outcome<u64> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let due = Duration::from_millis(u64::try_from(due.as_millis())?);
    let late = now.checked_sub(due).ok_or("a timer came before it was due")?;
    Ok(u64::try_from(late.as_micros())?)
}
