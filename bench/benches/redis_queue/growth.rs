//! What an operation costs with ten thousand and with ten million timers pending, beside `ZADD` on
//! the same sorted set.

use std::time::{Duration, Instant};

use expirer_bench::queue::{BATCH, timers};
use expirer_bench::report::{Outcome, say, spread};
use expirer_core::{Timer, Timestamp};

use crate::Bench;

const SIZES: [u64; 2] = [10_000, 10_000_000];
/// Timers are due at any time within as many milliseconds.
const DAY_MS: u64 = 86_400_000;
const REPEATS: u64 = 200;
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
    let growths: Vec<f64> = few.iter().zip(many).map(|(few, many)| many / few).collect();
    say(
        "| median µs a timer | 10 thousand pending | 10 million | growth | ÷ `ZADD` of one | ÷ of 256 |",
    )?;
    say("|---|---|---|---|---|---|")?;
    for (place, growth) in growths.iter().enumerate() {
        let (name, few, many) = (NAMES[place], few[place], many[place]);
        let (one, several) = (growth / growths[0], growth / growths[1]);
        say(format!("| {name} | {few:.2} | {many:.2} | {growth:.2} | {one:.2} | {several:.2} |"))?;
    }
    Ok(())
}

async fn fill(bench: &Bench, size: u64) -> Outcome<()> {
    let far = bench.ours.clock.now() + Duration::from_millis(DAY_MS);
    for from in (0..size).step_by(100_000) {
        let part = some('f', from..size.min(from + 100_000), far);
        bench.ours.schedule(&part).await?;
    }
    Ok(())
}

/// Microseconds for each timer of a batch, which is gone afterwards. Who comes first meets colder
/// memory of the server than who follows: that is another one each time.
async fn costs_of(bench: &Bench, repeat: u64) -> Outcome<[f64; NAMES.len()]> {
    let (ours, raw) = (&bench.ours, &bench.raw);
    let batch = u64::try_from(BATCH)?;
    let far = ours.clock.now() + Duration::from_millis(DAY_MS);
    let mut costs = [0.0; NAMES.len()];
    for turn in repeat..repeat + 3 {
        let from = (repeat * 3 + turn) * batch;
        let part = some('g', from..from + batch, far);
        match turn % 3 {
            0 => costs[0] = cost(raw.zadd(&part, 1)).await?,
            1 => costs[1] = cost(raw.zadd(&part, 256)).await?,
            _ => costs[2] = cost(ours.schedule(&part)).await?,
        }
        costs[3] = cost(ours.cancel(&part)).await?;
    }
    let now = ours.clock.now();
    ours.schedule(&timers('n', 0..batch, |_| now)).await?;
    costs[4] = cost(async { ours.drain(Duration::ZERO).await.map(drop) }).await?;
    Ok(costs)
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
