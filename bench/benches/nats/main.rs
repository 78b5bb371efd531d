//! Queue, bus and repository on NATS, each beside a raw client, on private servers.
//!
//! `cargo bench -p expirer-bench --bench nats`; `-- bus`, `queue`, `repo`, `lateness`, `burst`, `pending`,
//! `redelivery` for one part, and the number of rounds.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures the machine's time")]

mod bus;
mod pending;
mod queue;
mod repo;
mod server;

use std::time::Duration;

use expirer_bench::queue::{Ours, burst, lateness};
use expirer_bench::report::{Outcome, load, say};

use self::server::Server;

const ROUNDS: usize = 5;
const PARTS: [&str; 7] = ["bus", "queue", "repo", "lateness", "burst", "pending", "redelivery"];
/// What one call of ours and of the raw client takes.
const BATCH: usize = 256;
const BURST: u64 = 50_000;
/// Longer than scheduling them takes.
const AHEAD: Duration = Duration::from_secs(15);

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut parts: Vec<&str> = args.iter().map(|arg| arg.trim_start_matches("--")).collect();
    let rounds = parts.iter().find_map(|part| part.parse().ok()).unwrap_or(ROUNDS);
    parts.retain(|part| PARTS.contains(part));
    if parts.is_empty() {
        parts = PARTS.to_vec();
    }
    tokio::runtime::Runtime::new()?.block_on(run(&parts, rounds))
}

async fn run(parts: &[&str], rounds: usize) -> Outcome<()> {
    for part in parts {
        say(format!("load: {}", load()))?;
        match *part {
            "bus" => bus::measure(rounds).await?,
            "queue" => queue::measure(rounds).await?,
            "repo" => repo::measure(rounds).await?,
            "lateness" => {
                let server = Server::newest()?;
                lateness::measure(&Ours::open(&server.url()).await?, 1, 0, rounds).await?;
            }
            "burst" => {
                let server = Server::newest()?;
                burst::measure(&Ours::open(&server.url()).await?, BURST, AHEAD, rounds).await?;
            }
            "pending" => pending::by_schedule().await?,
            _ => pending::by_redelivery().await?,
        }
        say(format!("load: {}\n", load()))?;
    }
    Ok(())
}
