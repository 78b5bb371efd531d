//! The delay queue on Redis, beside a raw client and the peers, on a private server.
//!
//! `cargo bench -p expirer-bench --bench redis_queue`; `-- throughput`, `memory`, `burst`,
//! `lateness` for one part, `-- growth` for the one that takes minutes, and the number of rounds.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures the machine's time")]

mod growth;
mod memory;
mod peers;
mod raw;
mod server;
mod throughput;

use std::time::Duration;

use expirer_bench::queue::{Ours, burst, lateness};
use expirer_bench::report::{Outcome, load, say};

use self::raw::Raw;
use self::server::Server;

const ROUNDS: usize = 5;
const BURST: u64 = 100_000;
/// Longer than scheduling them takes.
const AHEAD: Duration = Duration::from_secs(5);
const PER_MS: u64 = 3;
const PENDING: u64 = 1_000_000;
const USUAL: [&str; 4] = ["throughput", "memory", "burst", "lateness"];

/// What every part measures on.
struct Bench {
    server: Server,
    ours: Ours,
    raw: Raw,
    rounds: usize,
}

fn main() -> Outcome<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let mut parts: Vec<&str> = args.iter().map(|arg| arg.trim_start_matches("--")).collect();
    let rounds = parts.iter().find_map(|part| part.parse().ok()).unwrap_or(ROUNDS);
    parts.retain(|part| *part == "growth" || USUAL.contains(part));
    if parts.is_empty() {
        parts = USUAL.to_vec();
    }
    tokio::runtime::Runtime::new()?.block_on(run(&parts, rounds))
}

async fn run(parts: &[&str], rounds: usize) -> Outcome<()> {
    let server = Server::start()?;
    let (ours, raw) = (Ours::open(&server.url()).await?, Raw::open(&server.url()).await?);
    let bench = Bench { server, ours, raw, rounds };
    say(format!("load: {}", load()))?;
    for part in parts {
        bench.server.flush()?;
        match *part {
            "throughput" => throughput::measure(&bench).await?,
            "memory" => memory::measure(&bench).await?,
            "burst" => burst::measure(&bench.ours, BURST, AHEAD, rounds).await?,
            "lateness" => lateness::measure(&bench.ours, PER_MS, PENDING, rounds).await?,
            _ => growth::measure(&bench).await?,
        }
        say(format!("load: {}\n", load()))?;
    }
    Ok(())
}
