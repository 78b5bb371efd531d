//! A member of a group whose payments are followed.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use expirer_core::bus::{Consumer, Delivery};
use expirer_core::event::Event;
use expirer_core::{MessageId, Receipt, ReceiveOptions, Rejection, Release, Result, Subject};

use super::{Actor, BATCH_MAX, Watch};

#[derive(Debug)]
pub(super) struct WatchedConsumer {
    watch: Watch,
    actor: Actor,
    inner: Box<dyn Consumer>,
    payments: Mutex<BTreeMap<Receipt, MessageId>>,
}

impl WatchedConsumer {
    pub(super) fn new(watch: Watch, actor: Actor, inner: Box<dyn Consumer>) -> Self {
        Self { watch, actor, inner, payments: Mutex::default() }
    }

    fn delivered(&self, delivery: &Delivery) {
        let Delivery { message, attempt, receipt, .. } = delivery;
        let text = String::from_utf8_lossy(&message.payload);
        let subject = &message.subject;
        self.watch.trace(&self.actor, format_args!("take {subject} {text} {attempt} {receipt:?}"));
        if let Some(Ok(Event::ExpirationComplete(due))) = Event::decode(subject, &message.payload) {
            self.watch.truth().waits.hear(&self.actor, &due.order_id, self.watch.now());
        }
        if let (Subject::PaymentCreated, Some(id)) = (subject, &message.id) {
            let mut payments = self.payments.lock().unwrap_or_else(PoisonError::into_inner);
            payments.insert(*receipt, id.clone());
        }
    }

    fn settled(&self, receipt: Receipt) {
        let payment = self.payments.lock().unwrap_or_else(PoisonError::into_inner).remove(&receipt);
        if let Some(id) = payment {
            self.watch.truth().payments.settle(&id);
        }
    }
}

#[async_trait]
impl Consumer for WatchedConsumer {
    async fn receive(&self, options: ReceiveOptions) -> Result<Vec<Delivery>> {
        self.watch.bounded(&self.actor, "receive", options.max, BATCH_MAX);
        let came = self.inner.receive(options).await?;
        came.iter().for_each(|delivery| self.delivered(delivery));
        Ok(came)
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        self.inner.ack(receipts).await?;
        receipts.iter().for_each(|receipt| self.settled(*receipt));
        self.watch.trace(&self.actor, format_args!("ack {receipts:?}"));
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
        self.watch.audit();
        rejections.iter().for_each(|rejection| self.settled(rejection.receipt));
        self.watch.trace(&self.actor, format_args!("reject {rejections:?}"));
        Ok(())
    }
}
