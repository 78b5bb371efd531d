//! What many pending timers cost the server, and what they do to those that come due meanwhile.

use std::time::{Duration, Instant};

use expirer_bench::queue::{Ours, lateness, timers};
use expirer_bench::report::{Outcome, rate, say};

use crate::server::Server;

const BY_SCHEDULE: [u64; 3] = [10_000, 100_000, 1_000_000];
const BY_REDELIVERY: [u64; 3] = [10_000, 100_000, 199_000];
const DAY: Duration = Duration::from_secs(86_400);
/// What was put off comes back to be put off again, or not at all.
const SETTLED: Duration = Duration::from_secs(120);
const PER_MS: u64 = 1;

/// Schedules of the server.
pub(crate) async fn by_schedule() -> Outcome<()> {
    for count in BY_SCHEDULE {
        let server = Server::newest()?;
        let ours = Ours::open(&server.url()).await?;
        fill("schedules", &server, &ours, count).await?;
        lateness::measure(&ours, PER_MS, 0, 1).await?;
    }
    Ok(())
}

/// Delayed redelivery, on both servers.
pub(crate) async fn by_redelivery() -> Outcome<()> {
    for (name, start) in [("2.15", Server::newest as fn() -> _), ("2.9", Server::packaged)] {
        for count in BY_REDELIVERY {
            let server: Server = start()?;
            let ours = Ours::open(&format!("{}?via=redelivery", server.url())).await?;
            fill(name, &server, &ours, count).await?;
            put_all_off(&ours, count).await?;
            say(format!("put off, memory: {} bytes each", server.memory()? / count))?;
            lateness::measure(&ours, PER_MS, 0, 1).await?;
        }
    }
    Ok(())
}

async fn fill(name: &str, server: &Server, ours: &Ours, count: u64) -> Outcome<()> {
    let (before, far) = (server.memory()?, ours.clock.now() + DAY);
    let begun = Instant::now();
    for from in (0..count).step_by(100_000) {
        let numbers = from..count.min(from + 100_000);
        ours.schedule(&timers('p', numbers, |n| far + Duration::from_millis(n))).await?;
    }
    let each = server.memory()?.saturating_sub(before) / count;
    let rate = rate(count, begun);
    say(format!("\n{name}: {count} pending, {rate:.0} a second, {each} bytes of the server each\n"))
}

/// Waits until the server has handed each over once and was told to come again later: a timer that
/// is due then comes in time.
async fn put_all_off(ours: &Ours, count: u64) -> Outcome<()> {
    let begun = Instant::now();
    let due = ours.clock.now();
    ours.schedule(&timers('d', 0..1, |_| due)).await?;
    let done = ours.drain(Duration::from_secs(5)).await?;
    if done != 1 || begun.elapsed() > SETTLED {
        return Err(format!("{count} put off: {done} came after {:?}", begun.elapsed()).into());
    }
    say(format!("put off in at most {:.1} s", begun.elapsed().as_secs_f64()))
}
