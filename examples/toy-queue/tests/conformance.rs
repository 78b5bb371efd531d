//! The whole suite on the toy: this file is all that a backend needs.

use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
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

fn main() -> ExitCode {
    Suite::default().queue("toy", Toy::new).run()
}
