//! `order:created` → a timer; `order:cancelled` → no timer.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;

use super::bisect::bisect;
use super::consume::{Handler, Verdict, consume};
use super::env::Env;
use crate::event::{DecodeError, OrderCancelled, OrderExpiry, Payload};
use crate::observe::{Flow, Signal};
use crate::{
    DelayQueue, Delivery, EventBus, Group, OrderId, Result, Subject, SubscribeOptions, Timer,
};

/// Schedules a timer for every order. Past due is due at once.
#[derive(Clone, Debug)]
pub struct Scheduler {
    bus: Arc<dyn EventBus>,
    queue: Arc<dyn DelayQueue>,
    env: Env,
}

/// What a message asks for.
enum Order {
    Schedule(Timer),
    Cancel(OrderId),
}

impl Scheduler {
    /// A Scheduler from `bus` to `queue`.
    #[must_use]
    pub fn new(bus: Arc<dyn EventBus>, queue: Arc<dyn DelayQueue>, env: Env) -> Self {
        Self { bus, queue, env }
    }

    /// Works until `stop` ends and finishes the batch in hand. Any number may run at once.
    pub async fn run(&self, stop: impl Future<Output = ()> + Send) {
        let subjects = [Subject::OrderCreated, Subject::OrderCancelled];
        let options = SubscribeOptions::new(Group::EXPIRATION_SERVICE, subjects)
            .with_ack_deadline(self.env.limits.ack_deadline);
        consume(self, &*self.bus, &options, &self.env, stop).await;
    }

    async fn schedule(&self, timers: &[Timer]) -> Vec<Verdict> {
        let results =
            bisect(timers, |part| Box::pin(self.env.step(self.queue.schedule(part)))).await;
        let timers = results.iter().filter(|result| result.is_ok()).count();
        if timers > 0 {
            self.env.report(&Signal::Scheduled { timers });
        }
        results.into_iter().map(Verdict::by).collect()
    }

    async fn cancel(&self, ids: &[OrderId]) -> Vec<Verdict> {
        let results = bisect(ids, |part| Box::pin(self.env.step(self.queue.cancel(part)))).await;
        results.into_iter().map(Verdict::by).collect()
    }
}

#[async_trait]
impl Handler for Scheduler {
    fn flow(&self) -> Flow {
        Flow::Scheduler
    }

    async fn probe(&self) -> Result<()> {
        self.env.step(self.queue.stats()).await.map(drop)
    }

    async fn handle(&self, deliveries: &[Delivery]) -> Vec<Verdict> {
        let mut verdicts = vec![Verdict::Ack; deliveries.len()];
        let (mut timers, mut scheduled) = (Vec::new(), Vec::new());
        let (mut ids, mut cancelled) = (Vec::new(), Vec::new());
        for (at, delivery) in deliveries.iter().enumerate() {
            match decode(delivery) {
                Ok(Order::Schedule(timer)) => {
                    timers.push(timer);
                    scheduled.push(at);
                }
                Ok(Order::Cancel(id)) => {
                    ids.push(id);
                    cancelled.push(at);
                }
                Err(error) => verdicts[at] = Verdict::Reject(error.to_string()),
            }
        }
        // Cancel last: of a batch that holds both for an order, it is the later one.
        let done = self.schedule(&timers).await.into_iter();
        scheduled.into_iter().zip(done).for_each(|(at, verdict)| verdicts[at] = verdict);
        let done = self.cancel(&ids).await.into_iter();
        cancelled.into_iter().zip(done).for_each(|(at, verdict)| verdicts[at] = verdict);
        verdicts
    }
}

fn decode(delivery: &Delivery) -> std::result::Result<Order, DecodeError> {
    let json = &delivery.message.payload;
    if delivery.message.subject == Subject::OrderCancelled {
        return OrderCancelled::decode(json).map(|event| Order::Cancel(event.id));
    }
    OrderExpiry::decode(json).map(|event| Order::Schedule(Timer::new(event.id, event.expires_at)))
}
