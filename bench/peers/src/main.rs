//! One round of `bullmq-official`: `expirer-bench-peers URL (add|drain) COUNT` prints how many seconds it
//! took. Jobs as our timers: ids of 24 characters, no data, removed when done.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures the machine's time")]

use std::error::Error;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use bullmq::options::RedisConnectionOptions;
use bullmq::types::RemoveOnFinish;
use bullmq::worker::CancellationToken;
use bullmq::{BulkJob, Job, JobOptions, Queue, QueueOptions, Worker, WorkerOptions};

const BULK: u64 = 500;
const CONCURRENCY: usize = 200;
const DAY: Duration = Duration::from_secs(86_400);

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, what, count] = &args[..] else { return Err("URL (add|drain) COUNT".into()) };
    let connection = RedisConnectionOptions::new().url(url);
    let options = QueueOptions { connection: connection.clone(), ..QueueOptions::default() };
    let queue = Queue::with_options("bench", options).await?;
    let count: u64 = count.parse()?;
    let took = match what.as_str() {
        "add" => add(&queue, count, DAY).await?,
        _ => {
            add(&queue, count, Duration::from_millis(1)).await?;
            drain(connection, count).await?
        }
    };
    writeln!(std::io::stdout(), "{}", took.as_secs_f64())?;
    Ok(())
}

/// Adds delayed jobs that are all due at the same time: `delay` after this is called.
async fn add(queue: &Queue, count: u64, delay: Duration) -> Outcome<Duration> {
    let now = SystemTime::now();
    let begun = Instant::now();
    for first in (0..count).step_by(usize::try_from(BULK)?) {
        let job = |n| {
            let options = JobOptions::new().job_id(format!("{n:024x}")).timestamp(now).delay(delay);
            BulkJob::with_options("expire", serde_json::json!({}), options)
        };
        queue.add_bulk((first..count.min(first + BULK)).map(job).collect()).await?;
    }
    Ok(begun.elapsed())
}

async fn drain(connection: RedisConnectionOptions, count: u64) -> Outcome<Duration> {
    let done = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&done);
    let process = move |_: Job, _: CancellationToken| {
        let counter = Arc::clone(&counter);
        async move {
            counter.fetch_add(1, Ordering::Relaxed);
            Ok(serde_json::Value::Null)
        }
    };
    let options = WorkerOptions {
        connection,
        concurrency: CONCURRENCY,
        remove_on_complete: Some(RemoveOnFinish::Bool(true)),
        ..WorkerOptions::default()
    };
    let begun = Instant::now();
    let worker = Worker::with_options("bench", process, options).await?;
    while done.load(Ordering::Relaxed) < count {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let took = begun.elapsed();
    worker.close(1000).await?;
    Ok(took)
}
