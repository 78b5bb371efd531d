//! The backends in memory, for a simulation.

use std::sync::Arc;
use std::time::Duration;

use expirer_backends::memory::{MemoryBus, MemoryQueue, MemoryRepo};
use expirer_conformance::sim::{Backends, Materials};

pub(crate) fn memory(materials: &Materials) -> Backends {
    let Materials { queue_clock, bus_clock, repo_clock, seed } = materials.clone();
    Backends {
        queue: Arc::new(MemoryQueue::new(queue_clock, seed)),
        bus: Arc::new(MemoryBus::new(bus_clock, seed)),
        repo: Arc::new(MemoryRepo::new(repo_clock, Duration::from_secs(86_400), seed)),
    }
}
