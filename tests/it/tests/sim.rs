//! The simulation on the backends in memory.

use std::time::Duration;

use expirer_backends::memory::{MemoryBus, MemoryQueue, MemoryRepo};
use expirer_conformance::sim::{Backends, Materials, Simulation};
use std::sync::Arc;

fn memory(materials: &Materials) -> Backends {
    let Materials { queue_clock, bus_clock, repo_clock, seed, .. } = materials.clone();
    Backends {
        queue: Arc::new(MemoryQueue::new(queue_clock, seed)),
        bus: Arc::new(MemoryBus::new(bus_clock, seed)),
        repo: Arc::new(MemoryRepo::new(repo_clock, Duration::from_secs(86_400), seed)),
    }
}

#[test]
fn all_is_sound() {
    let simulation = Simulation::new(memory);
    let mut tally = expirer_conformance::sim::Tally::default();
    let mut bad = 0;
    for seed in 0..200 {
        let run = simulation.run(seed);
        tally.add(&run.tally);
        if !run.is_sound() {
            bad += 1;
            if bad < 12 {
                eprintln!("{run}");
            }
        }
    }
    eprintln!("{tally}");
    assert_eq!(bad, 0);
}
