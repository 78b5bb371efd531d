//! The whole proof on the backends in memory, also behind the wrappers.

mod backends;

use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use expirer_conformance::faults::Suspended;
use expirer_conformance::sim::{Backends, Materials};
use expirer_conformance::time::VirtualTime;
use expirer_conformance::{BusHarness, Harness, QueueHarness, RepoHarness, Suite, Time};
use expirer_core::{DelayQueue, EventBus, OrderRepo, Result};

use crate::backends::memory;

#[derive(Debug)]
struct Memory(Time, Backends);

fn place() -> Memory {
    let (time, seed) = (VirtualTime::default(), 1);
    let [queue_clock, bus_clock, repo_clock] = [time.clock(), time.clock(), time.clock()];
    let materials = Materials { queue_clock, bus_clock, repo_clock, seed };
    Memory(Time::virtual_time(&time), memory(&materials))
}

impl Harness for Memory {
    fn time(&self) -> &Time {
        &self.0
    }
}

#[async_trait]
impl QueueHarness for Memory {
    async fn queue(&self) -> Result<Arc<dyn DelayQueue>> {
        Ok(self.1.queue.clone())
    }
}

#[async_trait]
impl BusHarness for Memory {
    async fn bus(&self) -> Result<Arc<dyn EventBus>> {
        Ok(self.1.bus.clone())
    }
}

#[async_trait]
impl RepoHarness for Memory {
    async fn repo(&self) -> Result<Arc<dyn OrderRepo>> {
        Ok(self.1.repo.clone())
    }
}

fn main() -> ExitCode {
    let suite = Suite::default().queue("memory", place).bus("memory", place).repo("memory", place);
    let suspended = || Suspended::new(place());
    let suite = suite.queue("suspended", suspended).bus("suspended", suspended);
    suite
        .repo("suspended", suspended)
        .simulation("memory", 0..2000, memory)
        .planted("memory", memory)
        .run()
}
