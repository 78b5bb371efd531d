//! tmp
use expirer_backends::memory::{MemoryBus, MemoryQueue, MemoryRepo};
use expirer_conformance::sim::{Backends, Materials, Simulation};
use std::sync::Arc;
use std::time::Duration;
fn memory(materials: &Materials) -> Backends {
    let Materials { queue_clock, bus_clock, repo_clock, seed, .. } = materials.clone();
    Backends {
        queue: Arc::new(MemoryQueue::new(queue_clock, seed)),
        bus: Arc::new(MemoryBus::new(bus_clock, seed)),
        repo: Arc::new(MemoryRepo::new(repo_clock, Duration::from_secs(86_400), seed)),
    }
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let simulation = Simulation::new(memory);
    if args[1] == "trace" {
        let run = simulation.trace(args[2].parse().unwrap());
        for line in &run.trace {
            println!("{line}");
        }
        println!("{run}");
        return;
    }
    if args[1] == "planted" {
        for mistake in expirer_conformance::planted::Mistake::ALL {
            let sim = simulation.with_mistake(mistake);
            let bad: Vec<_> = (0..1000).map(|s| sim.run(s)).filter(|r| !r.is_sound()).collect();
            println!(
                "{mistake:?}: {} of 1000, first {:?}: {:.200}",
                bad.len(),
                bad.first().map(|r| r.seed),
                bad.first().map(|r| r.to_string()).unwrap_or_default()
            );
        }
        return;
    }
    let (from, to): (u64, u64) = (args[1].parse().unwrap(), args[2].parse().unwrap());
    let mut tally = expirer_conformance::sim::Tally::default();
    let mut bad = 0;
    for seed in from..to {
        let run = simulation.run(seed);
        tally.add(&run.tally);
        if !run.is_sound() {
            bad += 1;
            if bad < 30 {
                println!("{run}");
            }
        }
    }
    println!("{tally}\n{bad} bad");
}
