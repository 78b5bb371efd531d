//! Mistakes around a bus.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use expirer_core::bus::{Consumer, Tail};
use expirer_core::{
    BusCapabilities, Clock, EventBus, Group, Message, MessageId, OrderRepo, Progress, Result,
    Subject, SubscribeOptions,
};

use super::Mistake;
use super::consumer::PlantedConsumer;
use crate::time::VirtualClock;

#[derive(Debug)]
pub(super) struct PlantedBus {
    mistake: Mistake,
    clock: Arc<VirtualClock>,
    inner: Arc<dyn EventBus>,
    repo: Arc<dyn OrderRepo>,
    published: AtomicU64,
}

impl PlantedBus {
    pub(super) const fn new(
        mistake: Mistake,
        clock: Arc<VirtualClock>,
        inner: Arc<dyn EventBus>,
        repo: Arc<dyn OrderRepo>,
    ) -> Self {
        Self { mistake, clock, inner, repo, published: AtomicU64::new(0) }
    }

    fn with_fresh_id(&self, message: &Message) -> Message {
        let nth = self.published.fetch_add(1, Ordering::SeqCst);
        let id = format!("{}-{nth}", self.clock.now().as_millis());
        message.clone().with_id(MessageId::new(id))
    }
}

#[async_trait]
impl EventBus for PlantedBus {
    async fn publish(&self, messages: &[Message]) -> Result<()> {
        if self.mistake != Mistake::FreshIds {
            return self.inner.publish(messages).await;
        }
        let fresh: Vec<Message> =
            messages.iter().map(|message| self.with_fresh_id(message)).collect();
        self.inner.publish(&fresh).await
    }

    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Consumer>> {
        let inner = self.inner.subscribe(options).await?;
        let (mistake, repo) = (self.mistake, Arc::clone(&self.repo));
        Ok(Box::new(PlantedConsumer { mistake, inner, repo }))
    }

    async fn tail(&self, subjects: &[Subject]) -> Result<Box<dyn Tail>> {
        self.inner.tail(subjects).await
    }

    async fn progress(&self, group: &Group, subject: &Subject) -> Result<Progress> {
        let progress = self.inner.progress(group, subject).await?;
        let is_read = progress.waiting == 0;
        Ok(match self.mistake {
            Mistake::WatermarkIgnoresUnacked if is_read => {
                progress.with_worked_off(self.clock.now())
            }
            _ => progress,
        })
    }

    fn capabilities(&self) -> BusCapabilities {
        self.inner.capabilities()
    }
}
