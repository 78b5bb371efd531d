//! A member of a group: what it took, and whether it may settle that.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use expirer_core::bus::{Consumer, Delivery};
use expirer_core::event::{Event, OrderExpiry, Payload};
use expirer_core::observe::Flow;
use expirer_core::{
    Clock, Message, Receipt, ReceiveOptions, Rejection, Release, Result, Subject, Timer, Timestamp,
};

use super::{Actor, BATCH_MAX, Role, Verdict, Watch};
use crate::lock;

#[derive(Debug)]
pub(super) struct WatchedConsumer {
    watch: Watch,
    actor: Actor,
    inner: Box<dyn Consumer>,
    ack_deadline: Duration,
    taken: Mutex<BTreeMap<Receipt, Taken>>,
}

/// A message, and when in truth it was delivered.
#[derive(Debug)]
struct Taken {
    message: Message,
    at: Timestamp,
}

impl WatchedConsumer {
    pub(super) const fn new(
        watch: Watch,
        actor: Actor,
        inner: Box<dyn Consumer>,
        ack_deadline: Duration,
    ) -> Self {
        Self { watch, actor, inner, ack_deadline, taken: Mutex::new(BTreeMap::new()) }
    }

    fn delivered(&self, delivery: &Delivery) {
        let Delivery { message, attempt, receipt, .. } = delivery;
        let (subject, text) = (&message.subject, String::from_utf8_lossy(&message.payload));
        self.watch.trace(&self.actor, format_args!("take {subject} {text} {attempt} {receipt:?}"));
        if *subject == Subject::PaymentCreated {
            let until = self.watch.bus_clock.now() + self.ack_deadline;
            self.watch.truth().payments.delivered(delivery, until);
        }
        let taken = Taken { message: message.clone(), at: self.watch.now() };
        lock(&self.taken).insert(*receipt, taken);
    }

    /// Judges what it does with a message, and follows the payments.
    fn settled(&self, receipt: Receipt, judge: fn(&Self, &Taken) -> Verdict) {
        let Some(taken) = lock(&self.taken).remove(&receipt) else { return };
        if let (Subject::PaymentCreated, Some(id)) = (&taken.message.subject, &taken.message.id) {
            let now = self.watch.bus_clock.now();
            self.watch.truth().payments.settle(id, receipt, now);
        }
        if !self.watch.faults.has_swallowed(&taken.message) {
            self.watch.judge(&self.actor, judge(self, &taken));
        }
    }
}

/// A Scheduler acks an order once its timer is there, be it that the queue loses it.
fn scheduled(member: &WatchedConsumer, Taken { message, at }: &Taken) -> Verdict {
    let watch = &member.watch;
    if message.subject != Subject::OrderCreated {
        return Ok(());
    }
    let Ok(order) = OrderExpiry::decode(&message.payload) else {
        return Err(format!("acked what nobody can read: {message:?}"));
    };
    let timer = Timer::new(order.id, order.expires_at);
    let is_there = watch.truth().timers.scheduled(&timer).is_some_and(|since| since >= *at);
    match is_there || watch.faults.has_lost_timer(&timer) {
        true => Ok(()),
        false => Err(format!("acked {timer:?}, taken at {at}, without a timer")),
    }
}

/// Only poison is rejected: what cannot be read, and an expiry of an order that the repository did
/// not know ten times over.
fn poison(member: &WatchedConsumer, Taken { message, .. }: &Taken) -> Verdict {
    match Event::decode(&message.subject, &message.payload) {
        Some(Ok(Event::ExpirationComplete(due))) => {
            let waits = &member.watch.truth().waits;
            match waits.is_unknown(&member.actor, &due.order_id) {
                true => Ok(()),
                false => Err(format!("rejected {message:?} before it was unknown often enough")),
            }
        }
        Some(Ok(_)) => Err(format!("rejected what is no poison: {message:?}")),
        _ => Ok(()),
    }
}

#[async_trait]
impl Consumer for WatchedConsumer {
    async fn receive(&self, options: ReceiveOptions) -> Result<Vec<Delivery>> {
        self.watch.bounded(&self.actor, "receive", options.max, BATCH_MAX);
        let came = self.inner.receive(options.clone()).await?;
        self.watch.bounded(&self.actor, "received", came.len(), options.max.max(1));
        came.iter().for_each(|delivery| self.delivered(delivery));
        Ok(came)
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        self.inner.ack(receipts).await?;
        self.watch.trace(&self.actor, format_args!("ack {receipts:?}"));
        let judge: fn(&Self, &Taken) -> Verdict = match self.actor.role {
            Role::Flow(Flow::Scheduler) => scheduled,
            _ => |_, _| Ok(()),
        };
        receipts.iter().for_each(|receipt| self.settled(*receipt, judge));
        Ok(())
    }

    async fn release(&self, releases: &[Release]) -> Result<()> {
        let releases = &Watch::carried_over(&self.actor, &self.watch.bus_clock, releases);
        self.inner.release(releases).await?;
        self.watch.trace(&self.actor, format_args!("release {releases:?}"));
        Ok(())
    }

    async fn reject(&self, rejections: &[Rejection]) -> Result<()> {
        self.inner.reject(rejections).await?;
        self.watch.trace(&self.actor, format_args!("reject {rejections:?}"));
        rejections.iter().for_each(|rejection| self.settled(rejection.receipt, poison));
        self.watch.audit();
        Ok(())
    }
}
