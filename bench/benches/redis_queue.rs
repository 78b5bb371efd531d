//! The delay queue on Redis: schedules, leases and acks a second.
//!
//! `cargo bench -p expirer-bench --bench redis_queue -- redis://127.0.0.1:PORT`, on a server of
//! your own that holds nothing else: the keys under the prefix `bench` stay behind.

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use expirer_backends::TokioClock;
use expirer_backends::connect::{self, ConnectOptions};
use expirer_core::{Clock, DelayQueue, LeaseOptions, OrderId, Timer, Timestamp};

const SCHEDULED: u32 = 100_000;
const BATCH: usize = 1000;
const DUE_AT_ONCE: u32 = 50_000;
const WORKERS: usize = 4;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> Outcome<()> {
    let url = std::env::args().find(|argument| argument.contains("://"));
    let url = url.ok_or("name a server: redis://127.0.0.1:PORT")?;
    tokio::runtime::Runtime::new()?.block_on(run(&url))
}

async fn run(url: &str) -> Outcome<()> {
    let clock = Arc::new(TokioClock::new());
    let seed = clock.now().as_millis().unsigned_abs() << 20;
    let options = ConnectOptions::new(Arc::<TokioClock>::clone(&clock), seed);
    let opened = connect::queue(&format!("{url}?prefix=bench"), &options).await?;
    let queue = opened.backend;
    for round in 1..=3 {
        let far = clock.now() + Duration::from_secs(86_400);
        let timers = timers("f", SCHEDULED, |n| far + Duration::from_millis(u64::from(n)));
        let ids: Vec<OrderId> = timers.iter().map(|timer| timer.id.clone()).collect();
        report(round, "schedule", SCHEDULED, schedule(&*queue, &timers).await?)?;
        let begun = Instant::now();
        for batch in ids.chunks(BATCH) {
            queue.cancel(batch).await?;
        }
        report(round, "cancel", SCHEDULED, begun.elapsed())?;
        let now = clock.now();
        schedule(&*queue, &self::timers("n", DUE_AT_ONCE, |_| now)).await?;
        report(round, "lease and ack", DUE_AT_ONCE, drain(&queue).await?)?;
    }
    Ok(())
}

fn timers(kind: &str, count: u32, due: impl Fn(u32) -> Timestamp) -> Vec<Timer> {
    let id = |n: u32| OrderId::new(format!("{kind}{n:023x}")).ok();
    (0..count).filter_map(|n| Some(Timer::new(id(n)?, due(n)))).collect()
}

async fn schedule(queue: &dyn DelayQueue, timers: &[Timer]) -> Outcome<Duration> {
    let begun = Instant::now();
    for batch in timers.chunks(BATCH) {
        queue.schedule(batch).await?;
    }
    Ok(begun.elapsed())
}

/// Several workers, as the service has: one leases while another acks.
async fn drain(queue: &Arc<dyn DelayQueue>) -> Outcome<Duration> {
    let begun = Instant::now();
    let workers: Vec<_> = (0..WORKERS).map(|_| tokio::spawn(work(Arc::clone(queue)))).collect();
    for worker in workers {
        worker.await??;
    }
    Ok(begun.elapsed())
}

async fn work(queue: Arc<dyn DelayQueue>) -> Outcome<()> {
    loop {
        let leases = queue.lease(LeaseOptions::new(256)).await?;
        if leases.is_empty() {
            return Ok(());
        }
        let receipts: Vec<_> = leases.iter().map(|lease| lease.receipt).collect();
        queue.ack(&receipts).await?;
    }
}

fn report(round: u32, what: &str, count: u32, taken: Duration) -> Outcome<()> {
    let rate = f64::from(count) / taken.as_secs_f64();
    writeln!(std::io::stdout(), "round {round}: {what} {count}: {taken:.2?}, {rate:.0}/s")?;
    Ok(())
}
