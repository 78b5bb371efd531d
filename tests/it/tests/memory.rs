//! The conformance suite on the backends in memory.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use expirer_backends::memory::{MemoryBus, MemoryQueue, MemoryRepo};
use expirer_conformance::time::VirtualTime;
use expirer_conformance::{BusHarness, Harness, QueueHarness, RepoHarness, Suite, Time};
use expirer_core::{DelayQueue, EventBus, OrderRepo, Result};

#[derive(Debug)]
struct Memory {
    time: Time,
    queue: Arc<MemoryQueue>,
    bus: Arc<MemoryBus>,
    repo: Arc<MemoryRepo>,
}

impl Memory {
    fn new() -> Self {
        let time = Time::virtual_time(&VirtualTime::default());
        let clock = || time.clock().clone();
        Self {
            queue: Arc::new(MemoryQueue::new(clock(), 1)),
            bus: Arc::new(MemoryBus::new(clock(), 2)),
            repo: Arc::new(MemoryRepo::new(clock(), Duration::from_secs(86_400), 3)),
            time,
        }
    }
}

impl Harness for Memory {
    fn time(&self) -> &Time {
        &self.time
    }
}

#[async_trait]
impl QueueHarness for Memory {
    async fn queue(&self) -> Result<Arc<dyn DelayQueue>> {
        Ok(self.queue.clone())
    }
}

#[async_trait]
impl BusHarness for Memory {
    async fn bus(&self) -> Result<Arc<dyn EventBus>> {
        Ok(self.bus.clone())
    }
}

#[async_trait]
impl RepoHarness for Memory {
    async fn repo(&self) -> Result<Arc<dyn OrderRepo>> {
        Ok(self.repo.clone())
    }
}

fn main() -> ExitCode {
    let suite = Suite::default();
    suite.queue("memory", Memory::new).bus("memory", Memory::new).repo("memory", Memory::new).run()
}
