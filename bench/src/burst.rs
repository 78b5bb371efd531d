//! Many timers due in one millisecond, for workers that wait: none early, none lost.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use expirer_core::{DelayQueue, LeaseOptions, OrderId, Timestamp};

use crate::queue::{Ours, WORKERS, lateness, timers};
use crate::report::{Outcome, say};

/// So many timers, scheduled so long before they are due.
#[derive(Clone, Copy, Debug)]
pub struct Burst {
    /// How many timers.
    pub count: u64,
    /// When they are due, from the moment at which scheduling begins.
    pub ahead: Duration,
}

/// Measures in rounds and says when the first and the last timer came.
///
/// # Errors
/// What the queue says; that a timer was early, or has not come; that scheduling took too long.
pub async fn measure(ours: &Ours, burst: Burst, rounds: usize) -> Outcome<()> {
    let Burst { count, ahead } = burst;
    say(format!(
        "| {count} due in one millisecond | first after ms | last after ms |\n|---|---|---|"
    ))?;
    for round in 1..=rounds {
        let due = ours.clock.now() + ahead;
        ours.schedule(&timers('b', 0..count, |_| due)).await?;
        if ours.clock.now() >= due {
            return Err("scheduling took longer than the time until they are due".into());
        }
        let worker = || tokio::spawn(work(Arc::clone(&ours.queue), due, ahead));
        let workers: Vec<_> = (0..WORKERS).map(|_| worker()).collect();
        let mut seen = HashSet::new();
        let mut times = Vec::new();
        for worker in workers {
            let (ids, first_and_last) = worker.await??;
            seen.extend(ids);
            times.extend(first_and_last);
        }
        if u64::try_from(seen.len())? != count {
            return Err(format!("{} of {count} came", seen.len()).into());
        }
        let (first, last) = (times.iter().min().unwrap_or(&0), times.iter().max().unwrap_or(&0));
        say(format!("| round {round}: all, none early | {} | {} |", first / 1000, last / 1000))?;
    }
    Ok(())
}

/// Works until nothing comes any more; gives what came, and when the first and the last did.
async fn work(
    queue: Arc<dyn DelayQueue>,
    due: Timestamp,
    wait: Duration,
) -> Outcome<(Vec<OrderId>, Vec<u64>)> {
    let (mut ids, mut times) = (Vec::new(), Vec::new());
    let options = LeaseOptions::new(256).with_wait(wait);
    loop {
        let leases = queue.lease(options.clone()).await?;
        if leases.is_empty() {
            return Ok((ids, times));
        }
        let late = lateness(due)?;
        times = vec![times.first().copied().unwrap_or(late), late];
        ids.extend(leases.iter().map(|lease| lease.timer.id.clone()));
        let receipts: Vec<_> = leases.iter().map(|lease| lease.receipt).collect();
        queue.ack(&receipts).await?;
    }
}
