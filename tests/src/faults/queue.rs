//! A delay queue with faults.

use std::sync::Arc;

use async_trait::async_trait;
use expirer_core::{
    DelayQueue, Lease, LeaseOptions, OrderId, QueueCapabilities, QueueStats, Receipt, Release,
    Result, Timer,
};

use super::{Faults, Service};

#[derive(Debug)]
pub(super) struct FaultyQueue {
    pub(super) faults: Faults,
    pub(super) inner: Arc<dyn DelayQueue>,
}

impl FaultyQueue {
    /// Those that are kept, and those that will be lost once they are confirmed.
    fn split(&self, timers: &[Timer]) -> (Vec<Timer>, Vec<Timer>) {
        let mut state = self.faults.state();
        timers.iter().cloned().partition(|_| {
            let one_in = state.odds.loss;
            !state.hits(one_in)
        })
    }

    fn is_forgotten(&self) -> bool {
        self.faults.rolls(|odds| odds.forgotten, |happened| &mut happened.forgotten)
    }
}

#[async_trait]
impl DelayQueue for FaultyQueue {
    async fn schedule(&self, timers: &[Timer]) -> Result<()> {
        let (kept, lost) = self.split(timers);
        self.faults.around(Service::Queue, self.inner.schedule(&kept)).await?;
        let mut state = self.faults.state();
        state.happened.losses += lost.len() as u64;
        state.lost_timers.extend(lost);
        Ok(())
    }

    async fn cancel(&self, ids: &[OrderId]) -> Result<()> {
        self.faults.around(Service::Queue, self.inner.cancel(ids)).await
    }

    async fn lease(&self, options: LeaseOptions) -> Result<Vec<Lease>> {
        self.faults.around(Service::Queue, self.inner.lease(options)).await
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        let receipts = if self.is_forgotten() { &[] } else { receipts };
        self.faults.around(Service::Queue, self.inner.ack(receipts)).await
    }

    async fn release(&self, releases: &[Release]) -> Result<()> {
        let releases = if self.is_forgotten() { &[] } else { releases };
        self.faults.around(Service::Queue, self.inner.release(releases)).await
    }

    async fn stats(&self) -> Result<QueueStats> {
        self.faults.around(Service::Queue, self.inner.stats()).await
    }

    fn capabilities(&self) -> QueueCapabilities {
        self.inner.capabilities()
    }
}
