//! A delay queue, as the service uses it.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use expirer_backends::TokioClock;
use expirer_backends::connect::{self, ConnectOptions};
use expirer_core::{Clock, DelayQueue, LeaseOptions, OrderId, Timer, Timestamp};

use crate::report::Outcome;

/// Timers that one call schedules.
pub const BATCH: usize = 1000;
/// Tasks that lease and ack beside each other on one connection.
pub const WORKERS: usize = 4;

/// Our queue and its clock.
#[derive(Clone, Debug)]
pub struct Ours {
    /// The queue.
    pub queue: Arc<dyn DelayQueue>,
    /// The machine's clock.
    pub clock: Arc<dyn Clock>,
}

/// What several workers have taken.
#[derive(Clone, Copy, Debug)]
pub struct Drained {
    /// How many timers.
    pub count: usize,
    /// When the last ack was confirmed.
    pub last: Instant,
}

/// How a backend is opened, at the machine's time.
#[must_use]
pub fn options() -> ConnectOptions {
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::new());
    let seed = clock.now().as_millis().unsigned_abs() << 20;
    ConnectOptions::new(clock, seed)
}

impl Ours {
    /// Opens what a URL stands for.
    ///
    /// # Errors
    /// What connecting gives.
    pub async fn open(url: &str) -> Outcome<Self> {
        let options = options();
        let clock = Arc::clone(&options.clock);
        Ok(Self { queue: connect::queue(url, &options).await?.backend, clock })
    }

    /// Schedules timers in batches.
    ///
    /// # Errors
    /// What the queue says.
    pub async fn schedule(&self, timers: &[Timer]) -> Outcome<()> {
        for batch in timers.chunks(BATCH) {
            self.queue.schedule(batch).await?;
        }
        Ok(())
    }

    /// Cancels timers in batches.
    ///
    /// # Errors
    /// What the queue says.
    pub async fn cancel(&self, timers: &[Timer]) -> Outcome<()> {
        let ids: Vec<OrderId> = timers.iter().map(|timer| timer.id.clone()).collect();
        for batch in ids.chunks(BATCH) {
            self.queue.cancel(batch).await?;
        }
        Ok(())
    }

    /// Leases and acks what is due, by several workers, until nothing has come within `wait`.
    ///
    /// # Errors
    /// What the queue says.
    pub async fn drain(&self, wait: Duration) -> Outcome<Drained> {
        let worker = || tokio::spawn(work(Arc::clone(&self.queue), wait));
        let workers: Vec<_> = (0..WORKERS).map(|_| worker()).collect();
        let mut all = Drained { count: 0, last: Instant::now() };
        for (at, worker) in workers.into_iter().enumerate() {
            let drained = worker.await??;
            all.count += drained.count;
            all.last = if at == 0 { drained.last } else { all.last.max(drained.last) };
        }
        Ok(all)
    }
}

async fn work(queue: Arc<dyn DelayQueue>, wait: Duration) -> Outcome<Drained> {
    let mut drained = Drained { count: 0, last: Instant::now() };
    let options = LeaseOptions::new(256).with_wait(wait);
    loop {
        let leases = queue.lease(options.clone()).await?;
        if leases.is_empty() {
            return Ok(drained);
        }
        let receipts: Vec<_> = leases.iter().map(|lease| lease.receipt).collect();
        queue.ack(&receipts).await?;
        drained.count += receipts.len();
        drained.last = Instant::now();
    }
}

/// Timers with ids of 24 characters: `kind` and a number.
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
