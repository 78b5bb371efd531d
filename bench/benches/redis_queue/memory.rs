//! Bytes that a pending timer costs the server.

use std::time::Duration;

use expirer_bench::queue::timers;
use expirer_bench::report::{Outcome, say};

use crate::{Bench, PREFIX};

const SIZES: [u64; 3] = [10_000, 100_000, 1_000_000];
const DAY: Duration = Duration::from_secs(86_400);

pub(crate) async fn measure(bench: &Bench) -> Outcome<()> {
    say(
        "| pending, ids of 24 characters | `MEMORY USAGE`, bytes each | growth of `used_memory` |",
    )?;
    say("|---|---|---|")?;
    for size in SIZES {
        bench.server.flush()?;
        let before = bench.server.info("used_memory")?;
        let far = bench.ours.clock.now() + DAY;
        bench.ours.schedule(&timers('f', 0..size, |n| far + Duration::from_millis(n))).await?;
        let key = format!("{{{PREFIX}:q:0}}:due");
        let usage: u64 = bench.server.ask(&["MEMORY", "USAGE", &key, "SAMPLES", "0"])?;
        let grown = bench.server.info("used_memory")?.saturating_sub(before);
        say(format!("| {size} | {} | {} |", usage / size, grown / size))?;
    }
    Ok(())
}
