//! A due timer → `expiration:complete`.

use std::future::Future;
use std::sync::Arc;

use futures_lite::future::yield_now;

use super::backoff::Backoff;
use super::bisect::bisect;
use super::env::{Env, Limits, STEPS_IN_LEASE, Stop};
use crate::event::{Event, ExpirationComplete};
use crate::observe::{Flow, Signal};
use crate::{
    DelayQueue, Error, ErrorKind, EventBus, Group, Lease, LeaseOptions, Message, Receipt, Release,
    Result, Subject, Timestamp,
};

/// Leases due timers, publishes `expiration:complete`, awaits the broker's confirmation, acks.
#[derive(Clone, Debug)]
pub struct Expirer {
    bus: Arc<dyn EventBus>,
    queue: Arc<dyn DelayQueue>,
    env: Env,
}

impl Expirer {
    /// An Expirer from `queue` to `bus`.
    #[must_use]
    pub fn new(bus: Arc<dyn EventBus>, queue: Arc<dyn DelayQueue>, env: Env) -> Self {
        Self { bus, queue, env }
    }

    /// Works until `stop` ends and finishes the batch in hand. Any number may run at once.
    pub async fn run(&self, stop: impl Future<Output = ()> + Send) {
        let mut stop = Stop::new(stop);
        let mut backoff = self.env.backoff(Flow::Expirer);
        while !stop.is_stopped() {
            if let Err(error) = self.session(&mut backoff, &mut stop).await {
                self.env.back_off(Flow::Expirer, &error, &mut backoff, &mut stop).await;
            }
        }
    }

    /// Works until stop (`Ok`) or until a backend fails.
    async fn session(&self, backoff: &mut Backoff, stop: &mut Stop<'_>) -> Result<()> {
        self.env.step(self.queue.stats()).await?;
        let group = Group::EXPIRATION_SERVICE;
        self.env.step(self.bus.progress(&group, &Subject::OrderCreated)).await?;
        self.env.report(&Signal::Ready { flow: Flow::Expirer });
        let limits = &self.env.limits;
        let options =
            LeaseOptions::new(limits.batch_max).with_wait(limits.wait).with_duration(limits.lease);
        loop {
            let lease = self.queue.lease(options.clone());
            let Some(leases) = stop.or(self.env.within(limits.wait + limits.step, lease)).await
            else {
                return Ok(());
            };
            let leases = leases?;
            if !leases.is_empty() {
                self.fire(&leases, backoff).await?;
                backoff.reset();
            }
            yield_now().await;
        }
    }

    /// Publishes, then acks what is confirmed and releases the rest.
    async fn fire(&self, leases: &[Lease], backoff: &Backoff) -> Result<()> {
        self.env.report(&Signal::Batch { flow: Flow::Expirer, items: leases.len() });
        let taken = self.env.now();
        let messages: Vec<Message> = leases.iter().map(expiration_complete).collect();
        let results = bisect(&messages, |part| Box::pin(self.publish(part, taken))).await;
        let (mut fired, mut failed, mut fault) = (Vec::new(), Vec::new(), None);
        for (lease, result) in leases.iter().zip(results) {
            match result {
                Ok(()) => {
                    let late = taken.since(lease.timer.due);
                    self.env.report(&Signal::Fired { id: &lease.timer.id, late });
                    fired.push(lease.receipt);
                }
                Err(error) => {
                    failed.push(lease.receipt);
                    fault.get_or_insert(error);
                }
            }
        }
        let settled = self.settle(&fired, &failed, backoff).await;
        fault.map_or(settled, Err::<(), Error>)
    }

    /// Publishes while the leases leave time to ack: what is not confirmed by then is released.
    async fn publish(&self, messages: &[Message], taken: Timestamp) -> Result<()> {
        let Limits { lease, step, .. } = self.env.limits;
        if self.env.now().since(taken) + step * STEPS_IN_LEASE > lease {
            let text = "the leases run out before all is published";
            return Err(Error::new(ErrorKind::TimedOut, "flow", "publish", text));
        }
        self.env.step(self.bus.publish(messages)).await
    }

    async fn settle(&self, fired: &[Receipt], failed: &[Receipt], backoff: &Backoff) -> Result<()> {
        let acked = match fired.is_empty() {
            true => Ok(()),
            false => self.env.step(self.queue.ack(fired)).await,
        };
        if failed.is_empty() {
            return acked;
        }
        let at = self.env.now() + backoff.upper_bound();
        let releases: Vec<Release> =
            failed.iter().map(|receipt| Release { receipt: *receipt, at }).collect();
        acked.and(self.env.step(self.queue.release(&releases)).await)
    }
}

fn expiration_complete(lease: &Lease) -> Message {
    let (order_id, due) = (lease.timer.id.clone(), lease.timer.due);
    Event::ExpirationComplete(ExpirationComplete { order_id, expires_at: Some(due) }).message()
}
