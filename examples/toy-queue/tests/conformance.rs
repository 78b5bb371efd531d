//! The whole suite on the toy: this file is all that a backend needs.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use expirer_backends::memory::{MemoryBus, MemoryRepo};
use expirer_conformance::sim::{Backends, Materials};
use expirer_conformance::time::VirtualTime;
use expirer_conformance::{Harness, QueueHarness, Suite, Time};
use expirer_core::{DelayQueue, Result};
use toy_queue::ToyQueue;

/// Where one case runs: an empty queue, on a time of its own.
#[derive(Debug)]
struct Toy {
    time: Time,
    queue: ToyQueue,
}

impl Toy {
    fn new() -> Self {
        let time = Time::virtual_time(&VirtualTime::default());
        Self { queue: ToyQueue::new(time.clock().clone()), time }
    }
}

impl Harness for Toy {
    fn time(&self) -> &Time {
        &self.time
    }
}

#[async_trait]
impl QueueHarness for Toy {
    async fn queue(&self) -> Result<Arc<dyn DelayQueue>> {
        Ok(Arc::new(self.queue.clone()))
    }
}

/// The toy between the bus and the repository in memory, for the simulation.
fn between(Materials { queue_clock, bus_clock, repo_clock, seed, .. }: &Materials) -> Backends {
    Backends {
        queue: Arc::new(ToyQueue::new(queue_clock.clone())),
        bus: Arc::new(MemoryBus::new(bus_clock.clone(), *seed)),
        repo: Arc::new(MemoryRepo::new(repo_clock.clone(), Duration::from_secs(86_400), *seed)),
    }
}

fn main() -> ExitCode {
    Suite::default().queue("toy", Toy::new).simulation("toy", 0..100, between).run()
}
