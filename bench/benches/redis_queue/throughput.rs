//! Timers a second: scheduling, and leasing and acking what is due in one millisecond.

use std::time::{Duration, Instant};

use crate::Bench;
use crate::peers::Peer;
use expirer_bench::queue::timers;
use expirer_bench::report::{Outcome, Row, rate, say, table};

const SCHEDULED: u64 = 100_000;
const DUE_AT_ONCE: u64 = 50_000;
const DAY: Duration = Duration::from_secs(86_400);

/// One contestant's figures for each of the two.
struct Pair {
    add: Row,
    drain: Row,
}

pub(crate) async fn measure(bench: &Bench) -> Outcome<()> {
    let peers = Peer::all()?;
    let names = ["Expirer", "raw client"].into_iter().chain(peers.iter().map(|peer| peer.name));
    let pair = |name| Pair { add: Row::new(name), drain: Row::new(name) };
    let mut rows: Vec<Pair> = names.map(pair).collect();
    for _ in 0..bench.rounds {
        for (place, row) in rows.iter_mut().enumerate() {
            bench.server.flush()?;
            match place.checked_sub(2) {
                None => round(bench, place == 0, row).await?,
                Some(place) => round_of_peer(bench, &peers[place], row)?,
            }
        }
    }
    say(format!(
        "{} rounds, timers/s: least, median, most, Expirer's median ÷ this",
        bench.rounds
    ))?;
    table(&format!("schedule {SCHEDULED}"), rows.iter().map(|row| &row.add))?;
    let what = format!("{DUE_AT_ONCE} due in one millisecond");
    table(&what, rows.iter().map(|row| &row.drain))
}

async fn round(bench: &Bench, is_ours: bool, row: &mut Pair) -> Outcome<()> {
    let far = bench.ours.clock.now() + DAY;
    let timers_far = timers('f', 0..SCHEDULED, |n| far + Duration::from_millis(n));
    let begun = Instant::now();
    match is_ours {
        true => bench.ours.schedule(&timers_far).await?,
        false => bench.raw.schedule(&timers_far).await?,
    }
    row.add.figures.push(rate(SCHEDULED, begun));
    bench.server.flush()?;
    let now = bench.ours.clock.now();
    bench.ours.schedule(&timers('n', 0..DUE_AT_ONCE, |_| now)).await?;
    let begun = Instant::now();
    let done = match is_ours {
        true => bench.ours.drain(Duration::ZERO).await?,
        false => bench.raw.drain().await?,
    };
    row.drain.figures.push(rate(DUE_AT_ONCE, begun));
    match u64::try_from(done)? {
        DUE_AT_ONCE => Ok(()),
        done => Err(format!("{done} of {DUE_AT_ONCE} came").into()),
    }
}

fn round_of_peer(bench: &Bench, peer: &Peer, row: &mut Pair) -> Outcome<()> {
    let url = bench.server.url();
    row.add.figures.push(peer.rate(&url, "add", SCHEDULED)?);
    bench.server.flush()?;
    row.drain.figures.push(peer.rate(&url, "drain", DUE_AT_ONCE)?);
    Ok(())
}
