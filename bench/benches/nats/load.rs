//! The queue by schedules under load: how late timers come, with none and with many pending, and
//! many at once.

use std::path::Path;
use std::time::{Duration, Instant};

use expirer_bench::burst::{self, Burst};
use expirer_bench::queue::{Ours, timers};
use expirer_bench::report::{Outcome, number, say};
use expirer_bench::steady::{Steady, cells};
use futures_util::future::try_join;

use crate::server::Server;

/// Far enough ahead to be schedules: what is due within two seconds is none.
const AHEAD: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(86_400);
const SIZES: [u64; 3] = [10_000, 100_000, 1_000_000];
const BURST: Burst = Burst { count: 50_000, ahead: Duration::from_secs(15) };

const fn steady(length_ms: u64) -> Steady {
    Steady { per_ms: 1, length_ms, ahead: AHEAD, patience: PATIENCE }
}

/// Beside a queue in memory, which is as late as the machine makes it.
pub(crate) async fn lateness(program: &Path, rounds: usize) -> Outcome<()> {
    let server = Server::start(program)?;
    let (ours, machine) = (Ours::open(&server.url).await?, Ours::open("memory:").await?);
    say("| 1,000 due/s for 20 s: ms late | p50 | p99 | p99.9 | most |\n|---|---|---|---|---|")?;
    for round in 1..=rounds {
        let steady = steady(20_000);
        let (late, alone) = try_join(steady.run(&ours), steady.run(&machine)).await?;
        say(format!("| round {round}: none early | {} |", cells(&late)))?;
        say(format!("| in memory at the same time | {} |", cells(&alone)))?;
    }
    Ok(())
}

pub(crate) async fn pending(program: &Path) -> Outcome<()> {
    say(
        "| pending | scheduled a second | server's resident bytes each | 1,000 due/s for 10 s: ms \
         late, p50 | p99 | p99.9 | most |\n|---|---|---|---|---|---|---|",
    )?;
    for size in SIZES {
        let server = Server::start(program)?;
        let ours = Ours::open(&server.url).await?;
        let before = server.process.resident()?;
        let far = ours.clock.now() + DAY;
        let begun = Instant::now();
        for from in (0..size).step_by(10_000) {
            let part = timers('p', from..from + 10_000, |n| far + Duration::from_millis(n));
            ours.schedule(&part).await?;
        }
        let rate = number(size) / begun.elapsed().as_secs_f64();
        let each = server.process.resident()?.saturating_sub(before) / size;
        let late = cells(&steady(10_000).run(&ours).await?);
        say(format!("| {size} | {rate:.0} | {each} | {late} |"))?;
    }
    Ok(())
}

pub(crate) async fn burst(program: &Path, rounds: usize) -> Outcome<()> {
    let server = Server::start(program)?;
    burst::measure(&Ours::open(&server.url).await?, BURST, rounds).await
}
