//! Long runs of the simulation on the backends in memory, and replays of a seed.

#[path = "../tests/memory/backends.rs"]
mod backends;

use std::io::{self, Write};
use std::num::NonZero;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use clap::Parser;
use expirer_conformance::planted::Mistake;
use expirer_conformance::sim::{Run, Simulation, Tally};

use crate::backends::memory;

/// How many broken seeds are shown.
const SHOWN_MAX: usize = 20;

/// Runs the five loops on virtual time under every fault there is.
#[derive(Debug, Parser)]
#[command(name = "simulate")]
struct Arguments {
    /// How many seeds to run.
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Replays one seed and writes its trace.
    #[arg(long, conflicts_with_all = ["seeds", "from", "planted"])]
    trace: Option<u64>,
    /// In how many of the seeds each planted mistake is found.
    #[arg(long)]
    planted: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let simulation = Simulation::new(memory);
    let done = match (arguments.trace, arguments.planted) {
        (Some(seed), _) => trace(&simulation, seed),
        (None, true) => planted(&simulation, &arguments),
        (None, false) => seeds(&simulation, &arguments),
    };
    // A closed output: nobody reads on.
    done.unwrap_or(ExitCode::FAILURE)
}

fn verdict(is_sound: bool) -> ExitCode {
    if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn trace(simulation: &Simulation, seed: u64) -> io::Result<ExitCode> {
    let run = simulation.trace(seed);
    let mut out = io::stdout().lock();
    run.trace.iter().try_for_each(|line| writeln!(out, "{line}"))?;
    writeln!(out, "{run}\nhash {:016x}", run.hash)?;
    Ok(verdict(run.is_sound()))
}

fn planted(simulation: &Simulation, arguments: &Arguments) -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let mut all = true;
    for mistake in Mistake::ALL {
        let found = run(&simulation.clone().with_mistake(mistake), arguments, false);
        let first =
            found.broken.first().map_or_else(|| "none".to_owned(), |run| run.seed.to_string());
        writeln!(out, "{:>8} of {} {mistake:?}, first {first}", found.count, arguments.seeds)?;
        all &= found.count > 0;
    }
    Ok(verdict(all))
}

fn seeds(simulation: &Simulation, arguments: &Arguments) -> io::Result<ExitCode> {
    let found = run(simulation, arguments, true);
    let mut out = io::stdout().lock();
    for run in found.broken.iter().take(SHOWN_MAX) {
        writeln!(out, "{run}\n  replay: scripts/simulate --trace {}", run.seed)?;
    }
    writeln!(out, "{}\n{:>14} broken", found.tally, found.count)?;
    Ok(verdict(found.count == 0))
}

/// What many seeds brought.
#[derive(Debug, Default)]
struct Found {
    tally: Tally,
    count: u64,
    /// The first of those that broke something.
    broken: Vec<Run>,
}

/// Runs seeds on every core.
fn run(simulation: &Simulation, arguments: &Arguments, tells: bool) -> Found {
    let (from, end) = (arguments.from, arguments.from.saturating_add(arguments.seeds));
    let next = AtomicU64::new(from);
    let found = Mutex::new(Found::default());
    let every = (arguments.seeds / 20).max(1);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return;
            }
            let run = simulation.run(seed);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found.add(run);
            if tells && found.tally.runs % every == 0 {
                tell(&found, arguments.seeds);
            }
        }
    };
    thread::scope(|scope| {
        let threads = thread::available_parallelism().map_or(1, NonZero::get);
        (0..threads).for_each(|_| {
            scope.spawn(work);
        });
    });
    found.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn tell(found: &Found, seeds: u64) {
    let Tally { runs, crashes, .. } = found.tally;
    let line = format!("{runs} of {seeds} seeds, {crashes} crashes, {} broken\n", found.count);
    // Progress is a service, no result.
    let _ = io::stderr().write_all(line.as_bytes());
}

impl Found {
    fn add(&mut self, run: Run) {
        self.tally.add(&run.tally);
        if run.is_sound() {
            return;
        }
        self.count += 1;
        let at = self.broken.partition_point(|broken| broken.seed < run.seed);
        self.broken.insert(at, run);
        self.broken.truncate(SHOWN_MAX);
    }
}
