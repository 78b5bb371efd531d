//! The bus, the queue and the repository on NATS, each beside a plain `async-nats` loop that does the
//! same on the same server, in turns.
//!
//! `cargo bench -p expirer-bench --bench nats`; `-- bus`, `schedule`, `lateness`, `pending`, `burst`,
//! `redelivery`, `repo` for one part, and the number of rounds.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures the machine's time")]

mod bus;
mod load;
mod pair;
mod raw;
mod redelivery;
mod repo;
mod schedule;
mod server;

use expirer_bench::report::{Outcome, asked, load, say};

use self::server::{newest, packaged};

const ROUNDS: usize = 5;
const PARTS: [&str; 7] = ["bus", "schedule", "lateness", "pending", "burst", "redelivery", "repo"];

fn main() -> Outcome<()> {
    let (parts, rounds) = asked(&PARTS, &[]);
    tokio::runtime::Runtime::new()?.block_on(run(&parts, rounds.unwrap_or(ROUNDS)))
}

async fn run(parts: &[&str], rounds: usize) -> Outcome<()> {
    say(format!("load: {}", load()))?;
    for part in parts {
        match *part {
            "bus" => bus::measure(&newest(), rounds).await?,
            "schedule" => schedule::measure(&newest(), rounds).await?,
            "lateness" => load::lateness(&newest(), rounds).await?,
            "pending" => load::pending(&newest()).await?,
            "burst" => load::burst(&newest(), rounds).await?,
            "repo" => repo::measure(&newest(), rounds).await?,
            _ => {
                redelivery::measure(&newest()).await?;
                redelivery::measure(&packaged()).await?;
            }
        }
        say(format!("load: {}\n", load()))?;
    }
    Ok(())
}
