//! Timers a second: set as schedules of the server, and leased and acked when they are due.

use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::{self, Context};
use expirer_bench::queue::{Ours, PREFIX, timers};
use expirer_bench::report::{Outcome, Row, rate, table};
use expirer_core::Timer;

use crate::BATCH;
use crate::server::Server;

const SCHEDULED: u64 = 50_000;
const DAY: Duration = Duration::from_secs(86_400);
/// Workers wait so long for the next timer.
const WAIT: Duration = Duration::from_millis(500);

pub(crate) async fn measure(rounds: usize) -> Outcome<()> {
    let mut scheduled = [Row::new("Expirer"), Row::new("raw client")];
    let mut drained = [Row::new("Expirer")];
    for _ in 0..rounds {
        let server = Server::newest()?;
        let ours = Ours::open(&server.url()).await?;
        let far = ours.clock.now() + DAY;
        let far = timers('f', 0..SCHEDULED, |n| far + Duration::from_millis(n));
        let begun = Instant::now();
        ours.schedule(&far).await?;
        scheduled[0].figures.push(rate(SCHEDULED, begun));
        let now = ours.clock.now();
        ours.schedule(&timers('n', 0..SCHEDULED, |_| now)).await?;
        let begun = Instant::now();
        let count = ours.drain(WAIT).await?;
        let took = begun.elapsed().saturating_sub(WAIT);
        let seconds = took.as_secs_f64();
        drained[0].figures.push(f64::from(u32::try_from(count)?) / seconds);
        if count as u64 != SCHEDULED {
            return Err(format!("{count} of {SCHEDULED} came").into());
        }
        // The stream is made by ours, with its settings.
        let server = Server::newest()?;
        drop(Ours::open(&server.url()).await?);
        let context = jetstream::new(server.client().await?);
        let begun = Instant::now();
        for batch in far.chunks(BATCH) {
            publish(&context, batch).await?;
        }
        scheduled[1].figures.push(rate(SCHEDULED, begun));
    }
    table(&format!("schedule {SCHEDULED}, timers/s"), &scheduled)?;
    table(&format!("lease and ack {SCHEDULED} that are due, timers/s"), &drained)
}

/// With the headers and the subjects of ours.
async fn publish(context: &Context, timers: &[Timer]) -> Outcome<()> {
    let mut acks = Vec::with_capacity(BATCH);
    for timer in timers {
        let (id, base) = (timer.id.as_str(), format!("{PREFIX}.timers"));
        let at = timer.due - Duration::from_secs(2);
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
        headers.insert("Nats-Expected-Last-Subject-Sequence-Subject", format!("{base}.{id}.*"));
        headers.insert("Nats-Schedule", format!("@at {at}"));
        headers.insert("Nats-Schedule-Target", format!("{base}.{id}.due"));
        let payload = format!("{{\"due\":{}}}", timer.due.as_millis());
        let subject = format!("{base}.{id}.at");
        acks.push(context.publish_with_headers(subject, headers, payload.into()).await?);
    }
    for ack in acks {
        ack.await?;
    }
    Ok(())
}
