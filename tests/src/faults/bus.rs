//! An event bus with faults.

use std::sync::Arc;

use async_trait::async_trait;
use expirer_core::bus::{Consumer, Tail};
use expirer_core::{
    BusCapabilities, EventBus, Group, Message, Progress, Result, Subject, SubscribeOptions,
};

use super::consumer::FaultyConsumer;
use super::{Faults, Service};

#[derive(Debug)]
pub(super) struct FaultyBus {
    pub(super) faults: Faults,
    pub(super) inner: Arc<dyn EventBus>,
}

impl FaultyBus {
    /// What is stored of a batch, some of it twice, and what will be lost once it is confirmed.
    fn split(&self, messages: &[Message]) -> (Vec<Message>, Vec<Message>) {
        let mut state = self.faults.state();
        let (mut stored, mut lost) = (Vec::with_capacity(messages.len()), Vec::new());
        for message in messages {
            let one_in = state.odds.loss;
            if state.hits(one_in) {
                lost.push(message.clone());
                continue;
            }
            stored.push(message.clone());
            if state.rolls(|odds| odds.duplicate, |happened| &mut happened.duplicates) {
                stored.push(message.clone());
            }
        }
        (stored, lost)
    }
}

#[async_trait]
impl EventBus for FaultyBus {
    async fn publish(&self, messages: &[Message]) -> Result<()> {
        let (stored, lost) = self.split(messages);
        self.faults.around(Service::Bus, self.inner.publish(&stored)).await?;
        let mut state = self.faults.state();
        state.happened.losses += lost.len() as u64;
        state.lost.extend(lost);
        Ok(())
    }

    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Consumer>> {
        let group = options.group.clone();
        let inner = self.faults.around(Service::Bus, self.inner.subscribe(options)).await?;
        Ok(Box::new(FaultyConsumer::new(self.faults.clone(), group, inner)))
    }

    async fn tail(&self, subjects: &[Subject]) -> Result<Box<dyn Tail>> {
        self.faults.around(Service::Bus, self.inner.tail(subjects)).await
    }

    async fn progress(&self, group: &Group, subject: &Subject) -> Result<Progress> {
        self.faults.around(Service::Bus, self.inner.progress(group, subject)).await
    }

    fn capabilities(&self) -> BusCapabilities {
        self.inner.capabilities()
    }
}
