//! A bus whose announcements are judged, and whose watermark.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use expirer_core::bus::{Consumer, Tail};
use expirer_core::event::Event;
use expirer_core::{
    BusCapabilities, Delivery, EventBus, Group, Message, MessageId, Progress, Receipt, Result,
    Subject, SubscribeOptions, Timestamp,
};

use super::consumer::WatchedConsumer;
use super::{Actor, BATCH_MAX, Role, Verdict, Watch};

/// The announcements that a batch of records can owe: each its late payments and two more.
const ANNOUNCEMENTS_MAX: usize = BATCH_MAX * 18;

/// The payments that the orders service has not settled.
#[derive(Debug, Default)]
pub(in crate::sim) struct Payments {
    unsettled: BTreeMap<MessageId, Payment>,
}

#[derive(Debug)]
struct Payment {
    /// When the bus stored it, by its clock.
    stored: Timestamp,
    /// The last delivery, and when it ends.
    held: Option<(Receipt, Timestamp)>,
}

impl Payments {
    /// Each message has an id of its own.
    pub(super) fn stored(&mut self, delivery: &Delivery) {
        let Delivery { message, published, .. } = delivery;
        let payment = message.id.as_ref().filter(|_| message.subject == Subject::PaymentCreated);
        let stored = Payment { stored: *published, held: None };
        self.unsettled.extend(payment.map(|id| (id.clone(), stored)));
    }

    pub(super) fn delivered(&mut self, delivery: &Delivery, until: Timestamp) {
        let payment = delivery.message.id.as_ref().and_then(|id| self.unsettled.get_mut(id));
        if let Some(payment) = payment {
            payment.held = Some((delivery.receipt, until));
        }
    }

    /// Only the last delivery, and only before its deadline, settles.
    pub(super) fn settle(&mut self, id: &MessageId, by: Receipt, now: Timestamp) {
        let is_live = |(receipt, until): (Receipt, Timestamp)| receipt == by && now < until;
        if self.unsettled.get(id).and_then(|payment| payment.held).is_some_and(is_live) {
            self.unsettled.remove(id);
        }
    }

    fn watermark(&self, worked_off: Timestamp) -> Verdict {
        let passed = self.unsettled.iter().find(|(_, payment)| payment.stored < worked_off);
        passed.map_or(Ok(()), |(id, Payment { stored, .. })| {
            Err(format!("the watermark is {worked_off}, but {id} of {stored} is not settled"))
        })
    }

    pub(in crate::sim) fn are_settled(&self) -> bool {
        self.unsettled.is_empty()
    }
}

#[derive(Debug)]
pub(super) struct WatchedBus {
    pub(super) watch: Watch,
    pub(super) actor: Actor,
    pub(super) inner: Arc<dyn EventBus>,
}

impl WatchedBus {
    fn published(&self, message: &Message) {
        let Self { watch, actor, .. } = self;
        let text = String::from_utf8_lossy(&message.payload);
        watch.trace(actor, format_args!("publish {} {text}", message.subject));
        if actor.role == Role::World {
            return;
        }
        let verdict = match Event::decode(&message.subject, &message.payload) {
            Some(Ok(event)) => watch.truth().orders.announce(event, message, watch.now()),
            _ => Err(format!("published {} that nobody can read: {text}", message.subject)),
        };
        watch.judge(actor, verdict);
    }
}

#[async_trait]
impl EventBus for WatchedBus {
    async fn publish(&self, messages: &[Message]) -> Result<()> {
        self.watch.bounded(&self.actor, "publish", messages.len(), ANNOUNCEMENTS_MAX);
        self.inner.publish(messages).await?;
        messages.iter().for_each(|message| self.published(message));
        self.watch.audit();
        Ok(())
    }

    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Consumer>> {
        let ack_deadline = options.ack_deadline;
        let inner = self.inner.subscribe(options).await?;
        let (watch, actor) = (self.watch.clone(), self.actor.clone());
        Ok(Box::new(WatchedConsumer::new(watch, actor, inner, ack_deadline)))
    }

    async fn tail(&self, subjects: &[Subject]) -> Result<Box<dyn Tail>> {
        self.inner.tail(subjects).await
    }

    async fn progress(&self, group: &Group, subject: &Subject) -> Result<Progress> {
        let progress = self.inner.progress(group, subject).await?;
        self.watch.trace(&self.actor, format_args!("progress {group} {subject} {progress:?}"));
        let is_payments = (group, subject) == (&Group::ORDERS_SERVICE, &Subject::PaymentCreated);
        if let Some(worked_off) = progress.worked_off.filter(|_| is_payments) {
            let verdict = self.watch.truth().payments.watermark(worked_off);
            self.watch.judge(&self.actor, verdict);
        }
        Ok(progress)
    }

    fn capabilities(&self) -> BusCapabilities {
        self.inner.capabilities()
    }
}
