//! How late timers come at a steady rate while many more are pending.

use std::time::Duration;

use expirer_bench::queue::timers;
use expirer_bench::report::{Outcome, say};
use expirer_bench::steady::{Steady, cells};

use crate::Bench;

const PENDING: u64 = 1_000_000;
const STEADY: Steady = Steady {
    per_ms: 3,
    length_ms: 20_000,
    ahead: Duration::from_secs(2),
    patience: Duration::from_secs(2),
};

pub(crate) async fn measure(bench: &Bench) -> Outcome<()> {
    let far = bench.ours.clock.now() + Duration::from_secs(86_400);
    bench.ours.schedule(&timers('p', 0..PENDING, |n| far + Duration::from_millis(n))).await?;
    let rate = STEADY.per_ms * 1000;
    say(format!("| {rate} due/s, {PENDING} pending: ms late | p50 | p99 | p99.9 | most |"))?;
    say("|---|---|---|---|---|")?;
    for round in 1..=bench.rounds {
        let late = STEADY.run(&bench.ours).await?;
        say(format!("| round {round} | {} |", cells(&late)))?;
    }
    Ok(())
}
