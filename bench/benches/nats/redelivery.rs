//! How far the queue by redelivery goes: what timers that are put off cost the server, and whether
//! others still come in time.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::PullConsumer;
use expirer_bench::queue::{Ours, timers};
use expirer_bench::report::{Outcome, number, say};
use expirer_bench::steady::{Steady, cells};
use expirer_core::LeaseOptions;

use crate::raw::Raw;
use crate::server::Server;

/// The last is more than the server may have under way.
const SIZES: [u64; 4] = [10_000, 100_000, 190_000, 250_000];
/// What the queue lets the server have under way.
const PUT_OFF_MAX: u64 = 200_000;
const AHEAD: Duration = Duration::from_secs(6);
const FAR: Duration = Duration::from_secs(3000);
/// How long the server has to put all off.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// How long the server's idle processor time is watched.
const WATCH: Duration = Duration::from_secs(3);
const STEADY: Steady =
    Steady { per_ms: 1, length_ms: 5_000, ahead: AHEAD, patience: Duration::from_secs(20) };

pub(crate) async fn measure(program: &Path) -> Outcome<()> {
    say(format!(
        "| {} | scheduled a second | put off a second | server's resident bytes each | \
         its processor while nothing happens, % | of {} at 1,000 due/s came | ms late, p50 | p99 | \
         p99.9 | most |\n|---|---|---|---|---|---|---|---|---|---|",
        program.display(),
        STEADY.count()
    ))?;
    for size in SIZES {
        match row(program, size).await {
            Ok(row) => say(format!("| {size} {row}"))?,
            Err(error) => say(format!("| {size} | {error} |"))?,
        }
    }
    Ok(())
}

async fn row(program: &Path, size: u64) -> Outcome<String> {
    let server = Server::start(program)?;
    let ours = Ours::open(&server.with("via=redelivery&prefix=bench")).await?;
    let before = server.process.resident()?;
    let far = ours.clock.now() + FAR;
    let begun = Instant::now();
    for from in (0..size).step_by(10_000) {
        let part = timers('p', from..from + 10_000, |n| far + Duration::from_millis(n));
        ours.schedule(&part).await?;
    }
    let scheduled = number(size) / begun.elapsed().as_secs_f64();
    let put_off = put_off(&server, &ours, size.min(PUT_OFF_MAX)).await?;
    let each = server.process.resident()?.saturating_sub(before) / size;
    let idle = idle(&server, &ours).await?;
    let late = STEADY.try_run(&ours).await?;
    let (came, late) = (late.len(), cells(&late));
    Ok(format!("| {scheduled:.0} | {put_off:.0} | {each} | {idle:.1} | {came} | {late} |"))
}

/// Leases until so many are put off; gives how many a second.
async fn put_off(server: &Server, ours: &Ours, count: u64) -> Outcome<f64> {
    let raw = Raw::open(&server.url).await?;
    let stream = raw.context.get_stream("bench-redelivery").await?;
    let mut consumer: PullConsumer = stream.get_consumer("queue").await?;
    let begun = Instant::now();
    loop {
        lease(ours, POLL).await?;
        let under_way = u64::try_from(consumer.info().await?.num_ack_pending)?;
        if under_way >= count {
            return Ok(number(count) / begun.elapsed().as_secs_f64());
        }
        if begun.elapsed() > PATIENCE {
            let text = format!("{under_way} of {count} put off after {} s", PATIENCE.as_secs());
            return Err(text.into());
        }
    }
}

/// Hundredths of a core that the server takes while somebody waits for timers.
async fn idle(server: &Server, ours: &Ours) -> Outcome<f64> {
    let (begun, before) = (Instant::now(), server.process.processor()?);
    lease(ours, WATCH).await?;
    let taken = server.process.processor()? - before;
    Ok(taken / begun.elapsed().as_secs_f64() * 100.0)
}

/// Nothing is due.
async fn lease(ours: &Ours, wait: Duration) -> Outcome<()> {
    let queue = Arc::clone(&ours.queue);
    match queue.lease(LeaseOptions::new(1).with_wait(wait)).await?.as_slice() {
        [] => Ok(()),
        _ => Err("a timer came before it was due".into()),
    }
}
