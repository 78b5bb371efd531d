//! How late timers come at a steady rate while many more are pending.

use std::sync::Arc;
use std::time::Duration;

use expirer_core::{Clock, DelayQueue, LeaseOptions, Timestamp};
use hdrhistogram::Histogram;

use super::{Ours, lateness, timers};
use crate::report::{Outcome, say};

const LENGTH_MS: u64 = 20_000;
/// How far ahead timers are scheduled, and for how long a time at once.
const AHEAD: Duration = Duration::from_secs(4);
const STEP_MS: u64 = 10;
const WORKERS: usize = 2;

/// Lets so many come due each millisecond for 20 s, once a round, while `pending` others wait.
///
/// # Errors
/// What the queue gives; that not all came, or one before its time.
pub async fn measure(ours: &Ours, per_ms: u64, pending: u64, rounds: usize) -> Outcome<()> {
    let far = ours.clock.now() + Duration::from_secs(86_400);
    ours.schedule(&timers('p', 0..pending, |n| far + Duration::from_millis(n))).await?;
    let rate = per_ms * 1000;
    say(format!("| {rate} due/s, {pending} pending: ms late | p50 | p99 | p99.9 | most |"))?;
    say("|---|---|---|---|---|")?;
    for round in 1..=rounds {
        let late = run(ours, per_ms).await?;
        let ms = |quantile| {
            let micros = u32::try_from(late.value_at_quantile(quantile)).unwrap_or(u32::MAX);
            f64::from(micros) / 1000.0
        };
        let [p50, p99, p999, most] = [0.5, 0.99, 0.999, 1.0].map(ms);
        say(format!("| round {round} | {p50:.2} | {p99:.2} | {p999:.2} | {most:.2} |"))?;
    }
    Ok(())
}

/// One round, in microseconds; the timers are scheduled while others come due.
async fn run(ours: &Ours, per_ms: u64) -> Outcome<Histogram<u64>> {
    let begun = ours.clock.now();
    let first = begun + AHEAD;
    let end = first + Duration::from_millis(LENGTH_MS) + AHEAD;
    let worker = || {
        let (queue, clock) = (Arc::clone(&ours.queue), Arc::clone(&ours.clock));
        tokio::spawn(work(queue, clock, end))
    };
    let workers: Vec<_> = (0..WORKERS).map(|_| worker()).collect();
    for from in (0..LENGTH_MS).step_by(usize::try_from(STEP_MS)?) {
        let numbers = from * per_ms..(from + STEP_MS) * per_ms;
        let due = |n| first + Duration::from_millis(n / per_ms);
        ours.queue.schedule(&timers('l', numbers, due)).await?;
        ours.clock.sleep_until(begun + Duration::from_millis(from + STEP_MS)).await;
    }
    let mut late = Histogram::new(3)?;
    for worker in workers {
        late.add(worker.await??)?;
    }
    match late.len() {
        count if count == LENGTH_MS * per_ms => Ok(late),
        count => Err(format!("{count} of {} came", LENGTH_MS * per_ms).into()),
    }
}

async fn work(
    queue: Arc<dyn DelayQueue>,
    clock: Arc<dyn Clock>,
    end: Timestamp,
) -> Outcome<Histogram<u64>> {
    let mut late = Histogram::new(3)?;
    let options = LeaseOptions::new(256).with_wait(Duration::from_millis(500));
    while clock.now() < end {
        let leases = queue.lease(options.clone()).await?;
        for lease in &leases {
            late.record(lateness(lease.timer.due)?)?;
        }
        let receipts: Vec<_> = leases.iter().map(|lease| lease.receipt).collect();
        queue.ack(&receipts).await?;
    }
    Ok(late)
}
