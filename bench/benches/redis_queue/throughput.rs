//! Timers a second: scheduling, and leasing and acking what is due in one millisecond.

use std::time::{Duration, Instant};

use expirer_bench::queue::timers;
use expirer_bench::report::{Outcome, number, say, spread};

use crate::Bench;
use crate::peers::Peer;

const SCHEDULED: u64 = 100_000;
const DUE_AT_ONCE: u64 = 50_000;
const DAY: Duration = Duration::from_secs(86_400);

/// One contestant's figures, round by round.
struct Row {
    name: &'static str,
    add: Vec<f64>,
    drain: Vec<f64>,
}

pub(crate) async fn measure(bench: &Bench) -> Outcome<()> {
    let peers = Peer::all()?;
    let names = ["Expirer", "raw client"].into_iter().chain(peers.iter().map(|peer| peer.name));
    let mut rows: Vec<Row> =
        names.map(|name| Row { name, add: Vec::new(), drain: Vec::new() }).collect();
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
    table(&format!("schedule {SCHEDULED}"), &rows, |row| &row.add)?;
    table(&format!("{DUE_AT_ONCE} due in one millisecond"), &rows, |row| &row.drain)
}

async fn round(bench: &Bench, is_ours: bool, row: &mut Row) -> Outcome<()> {
    let far = bench.ours.clock.now() + DAY;
    let timers_far = timers('f', 0..SCHEDULED, |n| far + Duration::from_millis(n));
    let begun = Instant::now();
    match is_ours {
        true => bench.ours.schedule(&timers_far).await?,
        false => bench.raw.schedule(&timers_far).await?,
    }
    row.add.push(rate(SCHEDULED, begun));
    bench.server.flush()?;
    let now = bench.ours.clock.now();
    bench.ours.schedule(&timers('n', 0..DUE_AT_ONCE, |_| now)).await?;
    let begun = Instant::now();
    let done = match is_ours {
        true => bench.ours.drain(Duration::ZERO).await?.count,
        false => bench.raw.drain().await?,
    };
    row.drain.push(rate(DUE_AT_ONCE, begun));
    match u64::try_from(done)? {
        DUE_AT_ONCE => Ok(()),
        done => Err(format!("{done} of {DUE_AT_ONCE} came").into()),
    }
}

fn round_of_peer(bench: &Bench, peer: &Peer, row: &mut Row) -> Outcome<()> {
    let url = bench.server.url();
    row.add.push(peer.rate(&url, "add", SCHEDULED)?);
    bench.server.flush()?;
    row.drain.push(peer.rate(&url, "drain", DUE_AT_ONCE)?);
    Ok(())
}

fn rate(count: u64, begun: Instant) -> f64 {
    number(count) / begun.elapsed().as_secs_f64()
}

fn table(what: &str, rows: &[Row], figures: impl Fn(&Row) -> &Vec<f64>) -> Outcome<()> {
    say(format!("\n| {what} | least | median | most | Expirer is |\n|---|---|---|---|---|"))?;
    let ours = rows.first().map_or(f64::NAN, |row| spread(figures(row))[1]);
    for row in rows {
        let [least, median, most] = spread(figures(row));
        let ratio = ours / median;
        say(format!("| {} | {least:.0} | {median:.0} | {most:.0} | {ratio:.2} × |", row.name))?;
    }
    Ok(())
}
