//! The delay queue on Redis, beside a raw client and the peers, on a private server.
//!
//! `cargo bench -p expirer-bench --bench redis_queue`; `-- throughput`, `memory`, `burst`,
//! `lateness` for one part, `-- growth` for the one that takes minutes, and the number of rounds.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures the machine's time")]

mod burst;
mod growth;
mod lateness;
mod memory;
mod ours;
mod peers;
mod raw;
mod server;
mod throughput;

use std::error::Error;
use std::fmt::Display;
use std::io::Write;

use self::ours::Ours;
use self::raw::Raw;
use self::server::Server;

/// Whatever goes wrong ends the benchmark.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const ROUNDS: usize = 5;
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
    say(format!("load: {}", load()?))?;
    for part in parts {
        bench.server.flush()?;
        match *part {
            "throughput" => throughput::measure(&bench).await?,
            "memory" => memory::measure(&bench).await?,
            "burst" => burst::measure(&bench).await?,
            "lateness" => lateness::measure(&bench).await?,
            _ => growth::measure(&bench).await?,
        }
        say(format!("load: {}\n", load()?))?;
    }
    Ok(())
}

/// How many processes wanted to run in the last minutes: the machine may be shared.
fn load() -> Outcome<String> {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    Ok(load.split(' ').take(2).collect::<Vec<_>>().join(" "))
}

fn say(line: impl Display) -> Outcome<()> {
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

/// Least, median and greatest.
fn spread(figures: &[f64]) -> [f64; 3] {
    let mut figures = figures.to_vec();
    figures.sort_by(f64::total_cmp);
    match figures.as_slice() {
        [] => [f64::NAN; 3],
        [least, ..] => [*least, figures[figures.len() / 2], figures[figures.len() - 1]],
    }
}
