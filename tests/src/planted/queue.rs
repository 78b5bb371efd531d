//! Mistakes of a delay queue.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use expirer_core::{
    Clock, DelayQueue, Lease, LeaseOptions, OrderId, QueueCapabilities, QueueStats, Receipt,
    Release, Result, Timer, Timestamp,
};

use super::Mistake;
use crate::lock;
use crate::time::VirtualClock;

#[derive(Debug)]
pub(super) struct PlantedQueue {
    mistake: Mistake,
    clock: Arc<VirtualClock>,
    inner: Arc<dyn DelayQueue>,
    leased: Mutex<BTreeMap<Receipt, OrderId>>,
}

impl PlantedQueue {
    pub(super) fn new(
        mistake: Mistake,
        clock: &Arc<VirtualClock>,
        inner: Arc<dyn DelayQueue>,
    ) -> Self {
        Self { mistake, clock: Arc::clone(clock), inner, leased: Mutex::default() }
    }

    async fn ack_at_once(&self, options: LeaseOptions) -> Result<Vec<Lease>> {
        let leases = self.inner.lease(options).await?;
        let receipts: Vec<Receipt> = leases.iter().map(|lease| lease.receipt).collect();
        self.inner.ack(&receipts).await?;
        Ok(leases)
    }

    async fn pop(&self, options: LeaseOptions) -> Result<Vec<Lease>> {
        let leases = self.inner.lease(options).await?;
        let ids: Vec<OrderId> = leases.iter().map(|lease| lease.timer.id.clone()).collect();
        self.inner.cancel(&ids).await?;
        Ok(leases)
    }

    async fn sleep_through(&self, options: LeaseOptions) -> Result<Vec<Lease>> {
        let at_once = options.clone().with_wait(Duration::ZERO);
        let leases = self.inner.lease(at_once.clone()).await?;
        if leases.is_empty() {
            self.clock.sleep_until(self.clock.now() + options.wait).await;
            return self.inner.lease(at_once).await;
        }
        Ok(leases)
    }

    async fn remember(&self, options: LeaseOptions) -> Result<Vec<Lease>> {
        let leases = self.inner.lease(options).await?;
        let mut leased = lock(&self.leased);
        leased.extend(leases.iter().map(|lease| (lease.receipt, lease.timer.id.clone())));
        Ok(leases)
    }

    /// Removes the timers that receipts once stood for.
    async fn ack_all(&self, receipts: &[Receipt]) -> Result<()> {
        let ids: Vec<OrderId> = {
            let leased = lock(&self.leased);
            receipts.iter().filter_map(|receipt| leased.get(receipt).cloned()).collect()
        };
        self.inner.cancel(&ids).await
    }
}

fn whole_seconds(due: Timestamp) -> Timestamp {
    Timestamp::from_millis(due.as_millis().div_euclid(1000) * 1000)
}

#[async_trait]
impl DelayQueue for PlantedQueue {
    async fn schedule(&self, timers: &[Timer]) -> Result<()> {
        if self.mistake != Mistake::DueRoundedDown {
            return self.inner.schedule(timers).await;
        }
        let rounded = |timer: &Timer| Timer::new(timer.id.clone(), whole_seconds(timer.due));
        self.inner.schedule(&timers.iter().map(rounded).collect::<Vec<_>>()).await
    }

    async fn cancel(&self, ids: &[OrderId]) -> Result<()> {
        self.inner.cancel(ids).await
    }

    async fn lease(&self, options: LeaseOptions) -> Result<Vec<Lease>> {
        match self.mistake {
            Mistake::AckBeforePublish => self.ack_at_once(options).await,
            Mistake::PopThenPush => self.pop(options).await,
            Mistake::SleepsThrough => self.sleep_through(options).await,
            _ => self.remember(options).await,
        }
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        match self.mistake {
            Mistake::ReceiptNeverStale => self.ack_all(receipts).await,
            _ => self.inner.ack(receipts).await,
        }
    }

    async fn release(&self, releases: &[Release]) -> Result<()> {
        self.inner.release(releases).await
    }

    async fn stats(&self) -> Result<QueueStats> {
        self.inner.stats().await
    }

    fn capabilities(&self) -> QueueCapabilities {
        self.inner.capabilities()
    }
}
