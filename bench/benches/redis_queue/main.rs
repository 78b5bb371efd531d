//! The delay queue on Redis, beside a raw client and the peers, on a private server.
//!
//! `cargo bench -p expirer-bench --bench redis_queue`; `-- throughput`, `memory`, `burst`,
//! `lateness` for one part, `-- growth` for the one that takes minutes, and the number of rounds.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures the machine's time")]

mod burst;
mod growth;
mod lateness;
mod memory;
mod peers;
mod raw;
mod server;
mod throughput;

use expirer_bench::queue::Ours;
use expirer_bench::report::{Outcome, asked, load, say};

use self::raw::Raw;
use self::server::Server;

const ROUNDS: usize = 5;
const USUAL: [&str; 4] = ["throughput", "memory", "burst", "lateness"];
const PREFIX: &str = "bench";

/// What every part measures on.
struct Bench {
    server: Server,
    ours: Ours,
    raw: Raw,
    rounds: usize,
}

fn main() -> Outcome<()> {
    let (parts, rounds) = asked(&USUAL, &["growth"]);
    tokio::runtime::Runtime::new()?.block_on(run(&parts, rounds.unwrap_or(ROUNDS)))
}

async fn run(parts: &[&str], rounds: usize) -> Outcome<()> {
    let server = Server::start()?;
    let url = server.url();
    let ours = Ours::open(&format!("{url}?prefix={PREFIX}")).await?;
    let raw = Raw::open(&url).await?;
    let bench = Bench { server, ours, raw, rounds };
    say(format!("load: {}", load()))?;
    for part in parts {
        bench.server.flush()?;
        match *part {
            "throughput" => throughput::measure(&bench).await?,
            "memory" => memory::measure(&bench).await?,
            "burst" => burst::measure(&bench).await?,
            "lateness" => lateness::measure(&bench).await?,
            _ => growth::measure(&bench).await?,
        }
        say(format!("load: {}\n", load()))?;
    }
    Ok(())
}
