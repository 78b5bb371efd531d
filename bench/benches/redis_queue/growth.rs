//! What an operation costs with ten thousand and with ten million timers pending, beside `ZADD`.

use std::time::{Duration, Instant};

use expirer_core::{Timer, Timestamp};

use crate::ours::{BATCH, timers};
use crate::{Bench, Outcome, say, spread};

const SIZES: [u64; 2] = [10_000, 10_000_000];
/// Timers are due at any time within as many milliseconds.
const DAY_MS: u64 = 86_400_000;
const ZSET: &str = "{bench:raw}:zset";
const REPEATS: u64 = 100;
const NAMES: [&str; 5] = ["`ZADD` of one", "`ZADD` of 256", "schedule", "cancel", "lease and ack"];

pub(crate) async fn measure(bench: &Bench) -> Outcome<()> {
    let mut costs = Vec::new();
    for size in SIZES {
        bench.server.flush()?;
        fill(bench, size).await?;
        let mut figures: [Vec<f64>; NAMES.len()] = Default::default();
        for repeat in 0..REPEATS {
            let cost = costs_of(bench, repeat).await?;
            figures.iter_mut().zip(cost).for_each(|(figures, cost)| figures.push(cost));
        }
        costs.push(figures.map(|figures| spread(&figures)[1]));
    }
    let [few, many] = &costs[..] else { return Err("two sizes".into()) };
    let zadd = many[0] / few[0];
    say(
        "| median µs a timer | 10 thousand pending | 10 million | growth | ÷ growth of `ZADD` of one |",
    )?;
    say("|---|---|---|---|---|")?;
    for (name, (few, many)) in NAMES.iter().zip(few.iter().zip(many)) {
        let growth = many / few;
        say(format!("| {name} | {few:.2} | {many:.2} | {growth:.2} | {:.2} |", growth / zadd))?;
    }
    Ok(())
}

/// The same timers for the queue and for the plain sorted set.
async fn fill(bench: &Bench, size: u64) -> Outcome<()> {
    let far = bench.ours.clock.now() + Duration::from_millis(DAY_MS);
    for from in (0..size).step_by(100_000) {
        let part = some('f', from..size.min(from + 100_000), far);
        bench.ours.schedule(&part).await?;
        bench.raw.zadd(ZSET, &part, BATCH).await?;
    }
    Ok(())
}

/// Microseconds for each timer of one batch, which is gone afterwards.
async fn costs_of(bench: &Bench, repeat: u64) -> Outcome<[f64; NAMES.len()]> {
    let (ours, raw) = (&bench.ours, &bench.raw);
    let batch = u64::try_from(BATCH)?;
    let far = ours.clock.now() + Duration::from_millis(DAY_MS);
    let part = some('g', repeat * batch..(repeat + 1) * batch, far);
    let single = cost(raw.zadd(ZSET, &part, 1)).await?;
    raw.zrem(ZSET, &part).await?;
    let several = cost(raw.zadd(ZSET, &part, 256)).await?;
    raw.zrem(ZSET, &part).await?;
    let schedule = cost(ours.schedule(&part)).await?;
    let cancel = cost(ours.cancel(&part)).await?;
    let now = ours.clock.now();
    ours.schedule(&timers('n', 0..batch, |_| now)).await?;
    let drain = cost(async { ours.drain().await.map(drop) }).await?;
    Ok([single, several, schedule, cancel, drain])
}

async fn cost(work: impl Future<Output = Outcome<()>>) -> Outcome<f64> {
    let begun = Instant::now();
    work.await?;
    Ok(begun.elapsed().as_secs_f64() * 1e6 / f64::from(u32::try_from(BATCH)?))
}

/// Timers in no order, the same ones each time.
fn some(kind: char, numbers: std::ops::Range<u64>, far: Timestamp) -> Vec<Timer> {
    let mixed = |n: u64| (n ^ (n >> 7)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    timers(kind, numbers, |n| far + Duration::from_millis(mixed(n) % DAY_MS))
}
