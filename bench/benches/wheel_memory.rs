//! Bytes a timer, and the time of filling and emptying, each structure in a process of its own.
//!
//! `cargo bench -p expirer-bench --bench wheel_memory`, or with sizes: `-- 10M`.

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use expirer_bench::wheel::{BATCH, Contestant, HORIZON, OurWheel, Population, SIZES, TokioQueue};

const CHILD: &str = "WHEEL_MEMORY_OF";

fn main() -> std::io::Result<()> {
    match std::env::var(CHILD) {
        Ok(child) => measure_named(&child),
        Err(_) => run_all(),
    }
}

fn run_all() -> std::io::Result<()> {
    let asked: Vec<String> = std::env::args().collect();
    let is_asked = |label: &str| asked.iter().any(|argument| argument == label);
    let all = !SIZES.iter().any(|(label, _)| is_asked(label));
    for (label, _) in SIZES.iter().filter(|(label, _)| all || is_asked(label)) {
        for name in [OurWheel::NAME, TokioQueue::NAME] {
            let child = format!("{name}/{label}");
            Command::new(std::env::current_exe()?).env(CHILD, child).status()?;
        }
    }
    Ok(())
}

fn measure_named(child: &str) -> std::io::Result<()> {
    let Some((label, size)) = SIZES.iter().find(|(label, _)| child.ends_with(&format!("/{label}")))
    else {
        return Ok(());
    };
    match child.starts_with(OurWheel::NAME) {
        true => measure::<OurWheel>(label, *size),
        false => measure::<TokioQueue>(label, *size),
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn measure<C: Contestant>(label: &str, size: usize) -> std::io::Result<()> {
    let (mut timers, mut population) = (C::new(), Population::default());
    let batches: Vec<_> = (0..size / BATCH).map(|_| population.add(timers.now())).collect();
    let before = resident_kib()?;
    let start = Instant::now();
    for batch in &batches {
        timers.schedule(batch);
    }
    let filling = start.elapsed();
    let bytes = (resident_kib()? - before) as f64 * 1024.0 / size as f64;
    drop(batches);
    timers.advance(HORIZON + Duration::from_secs(1));
    let mut fired = Vec::with_capacity(size);
    let start = Instant::now();
    while fired.len() < size / BATCH * BATCH {
        timers.fire(BATCH, &mut fired);
    }
    let emptying = start.elapsed();
    let rate = |time: Duration| size as f64 / time.as_secs_f64() / 1e6;
    writeln!(
        std::io::stdout(),
        "{:>20} {label:>4}: {bytes:6.1} B a timer, filled at {:.2} M/s, emptied at {:.2} M/s",
        C::NAME,
        rate(filling),
        rate(emptying)
    )
}

fn resident_kib() -> std::io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    kib.ok_or_else(|| std::io::Error::other("no VmRSS in /proc/self/status"))
}
