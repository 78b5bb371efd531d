//! What a loop itself gets to hear, above the faults: from then on it can act.

use std::sync::Arc;

use async_trait::async_trait;
use expirer_core::bus::{Consumer, Delivery, Tail};
use expirer_core::event::Event;
use expirer_core::{
    BusCapabilities, EventBus, Group, Message, Progress, Receipt, ReceiveOptions, Rejection,
    Release, Result, Subject, SubscribeOptions,
};

use super::{Actor, Watch};

#[derive(Debug)]
pub(super) struct Ears<T: ?Sized> {
    pub(super) watch: Watch,
    pub(super) actor: Actor,
    pub(super) inner: Arc<T>,
}

impl<T: ?Sized> Ears<T> {
    fn heard(&self, Delivery { message, .. }: &Delivery) {
        let event = Event::decode(&message.subject, &message.payload);
        if let Some(Ok(Event::ExpirationComplete(due))) = event {
            let now = self.watch.now();
            self.watch.truth().waits.hear(&self.actor, &due.order_id, now);
        }
    }
}

#[async_trait]
impl EventBus for Ears<dyn EventBus> {
    async fn publish(&self, messages: &[Message]) -> Result<()> {
        self.inner.publish(messages).await
    }

    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Consumer>> {
        let inner: Arc<dyn Consumer> = self.inner.subscribe(options).await?.into();
        let (watch, actor) = (self.watch.clone(), self.actor.clone());
        Ok(Box::new(Ears { watch, actor, inner }))
    }

    async fn tail(&self, subjects: &[Subject]) -> Result<Box<dyn Tail>> {
        self.inner.tail(subjects).await
    }

    async fn progress(&self, group: &Group, subject: &Subject) -> Result<Progress> {
        self.inner.progress(group, subject).await
    }

    fn capabilities(&self) -> BusCapabilities {
        self.inner.capabilities()
    }
}

#[async_trait]
impl Consumer for Ears<dyn Consumer> {
    async fn receive(&self, options: ReceiveOptions) -> Result<Vec<Delivery>> {
        let came = self.inner.receive(options).await?;
        came.iter().for_each(|delivery| self.heard(delivery));
        Ok(came)
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        self.inner.ack(receipts).await
    }

    async fn release(&self, releases: &[Release]) -> Result<()> {
        self.inner.release(releases).await
    }

    async fn reject(&self, rejections: &[Rejection]) -> Result<()> {
        self.inner.reject(rejections).await
    }
}
