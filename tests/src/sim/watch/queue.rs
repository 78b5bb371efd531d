//! A queue whose every effect is compared with the timer machine.

use std::sync::Arc;

use async_trait::async_trait;
use expirer_core::{
    Clock, DelayQueue, Lease, LeaseOptions, OrderId, QueueCapabilities, QueueStats, Receipt,
    Release, Result, Timer,
};

use super::timers::Leased;
use super::{Actor, BATCH_MAX, Watch};

#[derive(Debug)]
pub(super) struct WatchedQueue {
    pub(super) watch: Watch,
    pub(super) actor: Actor,
    pub(super) inner: Arc<dyn DelayQueue>,
}

impl WatchedQueue {
    /// Only what was published is acked: what a crash cut off has to come again.
    fn fired(&self, leased: &Leased) {
        let Self { watch, actor, .. } = self;
        let Leased { timer, at, .. } = leased;
        let orders = &watch.truth().orders;
        if !orders.has_fired(&timer.id, *at, &watch.faults) {
            let text = format!("acked {timer:?}, leased at {at}, without its expiry");
            watch.judge(actor, Err(text));
        }
    }
}

#[async_trait]
impl DelayQueue for WatchedQueue {
    async fn schedule(&self, timers: &[Timer]) -> Result<()> {
        let Self { watch, actor, inner } = self;
        watch.bounded(actor, "schedule", timers.len(), BATCH_MAX);
        inner.schedule(timers).await?;
        watch.truth().timers.schedule(timers, watch.queue_clock.now(), watch.now());
        watch.trace(actor, format_args!("schedule {timers:?}"));
        Ok(())
    }

    async fn cancel(&self, ids: &[OrderId]) -> Result<()> {
        let Self { watch, actor, inner } = self;
        watch.bounded(actor, "cancel", ids.len(), BATCH_MAX);
        inner.cancel(ids).await?;
        watch.truth().timers.cancel(ids, watch.queue_clock.now());
        watch.trace(actor, format_args!("cancel {ids:?}"));
        Ok(())
    }

    async fn lease(&self, options: LeaseOptions) -> Result<Vec<Lease>> {
        let Self { watch, actor, inner } = self;
        watch.bounded(actor, "lease", options.max, BATCH_MAX);
        let leases = inner.lease(options.clone()).await?;
        let now = watch.queue_clock.now();
        let until = now + options.duration;
        watch.bounded(actor, "leased", leases.len(), options.max.max(1));
        let verdict = watch.truth().timers.lease(&leases, until, now, watch.now());
        watch.judge(actor, verdict);
        if !leases.is_empty() {
            watch.trace(actor, format_args!("lease {leases:?}"));
        }
        Ok(leases)
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        let Self { watch, actor, inner } = self;
        watch.bounded(actor, "ack", receipts.len(), BATCH_MAX);
        inner.ack(receipts).await?;
        let ended = watch.truth().timers.ack(receipts, watch.queue_clock.now());
        ended.iter().for_each(|leased| self.fired(leased));
        watch.trace(actor, format_args!("ack timers {receipts:?}"));
        Ok(())
    }

    async fn release(&self, releases: &[Release]) -> Result<()> {
        let Self { watch, actor, inner } = self;
        watch.bounded(actor, "release", releases.len(), BATCH_MAX);
        let releases = &Watch::carried_over(actor, &watch.queue_clock, releases);
        inner.release(releases).await?;
        watch.truth().timers.release(releases, watch.queue_clock.now());
        watch.trace(actor, format_args!("release timers {releases:?}"));
        Ok(())
    }

    async fn stats(&self) -> Result<QueueStats> {
        self.inner.stats().await
    }

    fn capabilities(&self) -> QueueCapabilities {
        self.inner.capabilities()
    }
}
