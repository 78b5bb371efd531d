//! Timers a second by the server's schedules: scheduling, and leasing and acking what is due.

use std::path::Path;
use std::time::{Duration, Instant};

use async_nats::HeaderMap;
use async_nats::jetstream::consumer::PullConsumer;
use expirer_bench::queue::{BATCH, Ours, WORKERS, timers};
use expirer_bench::report::{Outcome, number};
use expirer_core::Timer;
use futures_util::StreamExt;
use serde_json::json;

use crate::pair::{Pair, turns};
use crate::raw::{Post, Raw};
use crate::server::Server;

const SCHEDULED: u64 = 50_000;
const DUE: u64 = 20_000;
const LEASED: usize = 256;
const DAY: Duration = Duration::from_secs(86_400);
/// How much earlier than due the server shall hand a timer over, as ours does.
const EARLY: Duration = Duration::from_secs(2);
/// Nothing more comes after so long.
const QUIET: Duration = Duration::from_millis(500);

/// Both on one server, each with a stream of its own that our queue has made.
struct Bench {
    ours: Ours,
    raw: Raw,
    /// So that there is a stream for the raw client.
    _made: Ours,
}

pub(crate) async fn measure(program: &Path, rounds: usize) -> Outcome<()> {
    let server = Server::start(program)?;
    let ours = Ours::open(&server.with("prefix=bench")).await?;
    let made = Ours::open(&server.with("prefix=raw")).await?;
    let bench = Bench { ours, raw: Raw::open(&server.url).await?, _made: made };
    Pair::head(rounds)?;
    let mut schedule = Pair::new(format!("schedule {SCHEDULED}, batches of {BATCH}"));
    let mut drain = Pair::new(format!("lease and ack {DUE}, {WORKERS} tasks"));
    for round in 0..rounds {
        for is_ours in turns(round) {
            schedule.add(is_ours, bench.schedule(is_ours).await?);
            bench.empty().await?;
            drain.add(is_ours, bench.drain(is_ours).await?);
            bench.empty().await?;
        }
    }
    schedule.say()?;
    drain.say()
}

impl Bench {
    async fn schedule(&self, is_ours: bool) -> Outcome<f64> {
        let far = self.ours.clock.now() + DAY;
        let timers = timers('f', 0..SCHEDULED, |n| far + Duration::from_millis(n));
        let begun = Instant::now();
        match is_ours {
            true => self.ours.schedule(&timers).await?,
            false => self.raw.store(timers.iter().map(put), BATCH).await?,
        }
        Ok(number(SCHEDULED) / begun.elapsed().as_secs_f64())
    }

    async fn drain(&self, is_ours: bool) -> Outcome<f64> {
        let now = self.ours.clock.now();
        let timers = timers('n', 0..DUE, |_| now);
        match is_ours {
            true => self.ours.schedule(&timers).await?,
            false => self.raw.store(timers.iter().map(put_due), BATCH).await?,
        }
        let begun = Instant::now();
        let (count, last) = match is_ours {
            true => {
                let drained = self.ours.drain(QUIET).await?;
                (drained.count, drained.last)
            }
            false => drain(&self.raw).await?,
        };
        match u64::try_from(count)? {
            DUE => Ok(number(DUE) / last.duration_since(begun).as_secs_f64()),
            count => Err(format!("{count} of {DUE} came").into()),
        }
    }

    async fn empty(&self) -> Outcome<()> {
        self.raw.purge("bench-timers").await?;
        self.raw.purge("raw-timers").await
    }
}

/// The headers and the body that our queue writes.
fn put(timer: &Timer) -> Post {
    let (subject, mut headers, payload) = put_due(timer);
    headers.insert("Nats-Schedule", format!("@at {}", timer.due - EARLY));
    headers.insert("Nats-Schedule-Target", subject);
    (format!("raw.timers.{}.at", timer.id), headers, payload)
}

fn put_due(timer: &Timer) -> Post {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Expected-Last-Subject-Sequence", "0");
    let both = format!("raw.timers.{}.*", timer.id);
    headers.insert("Nats-Expected-Last-Subject-Sequence-Subject", both);
    let payload = json!({ "due": timer.due.as_millis() }).to_string();
    (format!("raw.timers.{}.due", timer.id), headers, payload.into_bytes())
}

/// Takes what is due by the same calls: what came is looked up once more, then removed by its
/// number.
async fn drain(raw: &Raw) -> Outcome<(usize, Instant)> {
    let consumer: PullConsumer =
        raw.context.get_stream("raw-timers").await?.get_consumer("queue").await?;
    let worker = || tokio::spawn(work(raw.clone(), consumer.clone()));
    let workers: Vec<_> = (0..WORKERS).map(|_| worker()).collect();
    let (mut count, mut last) = (0, Instant::now());
    for (at, worker) in workers.into_iter().enumerate() {
        let (done, end) = worker.await??;
        count += done;
        last = if at == 0 { end } else { last.max(end) };
    }
    Ok((count, last))
}

async fn work(raw: Raw, consumer: PullConsumer) -> Outcome<(usize, Instant)> {
    let (mut count, mut last) = (0, Instant::now());
    loop {
        let mut batch = consumer.fetch().max_messages(LEASED).messages().await?;
        let mut subjects = Vec::with_capacity(LEASED);
        while let Some(message) = batch.next().await {
            subjects.push(message?.subject.replace(".due", ".*"));
        }
        if subjects.is_empty() {
            return Ok((count, last));
        }
        count += subjects.len();
        let looks = subjects.into_iter().map(|subject| json!({ "last_by_subj": subject }));
        let found = raw.api_all("STREAM.MSG.GET.raw-timers", looks).await?;
        let removals = found
            .iter()
            .map(|found| json!({ "seq": found["message"]["seq"].as_u64(), "no_erase": true }));
        raw.api_all("STREAM.MSG.DELETE.raw-timers", removals).await?;
        last = Instant::now();
    }
}
