//! Events → the repository, which stays in step with orders that live elsewhere.

use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::announce::Outbox;
use super::consume::{Handler, Verdict, consume};
use super::env::Env;
use super::ledger::{Case, Settled};
use crate::event::{DecodeError, OrderCancelled, OrderCreated, Payload, PaymentCreated};
use crate::observe::{Flow, Signal};
use crate::order::{Effect, Input};
use crate::{
    DelayQueue, Delivery, EventBus, Group, OrderId, OrderRepo, Result, Subject, SubscribeOptions,
};

/// Records `order:created`, `payment:created` and `order:cancelled`, announces what follows from
/// them, and cancels the timers of paid orders.
#[derive(Clone, Debug)]
pub struct Recorder {
    outbox: Outbox,
    queue: Arc<dyn DelayQueue>,
}

impl Recorder {
    /// A Recorder from `bus` to `repo`; paid orders need no timer in `queue`.
    #[must_use]
    pub fn new(
        bus: Arc<dyn EventBus>,
        repo: Arc<dyn OrderRepo>,
        queue: Arc<dyn DelayQueue>,
        env: Env,
    ) -> Self {
        Self { outbox: Outbox { bus, repo, env }, queue }
    }

    /// Works until `stop` ends and finishes the batch in hand. Any number may run at once.
    pub async fn run(&self, stop: impl Future<Output = ()> + Send) {
        let subjects = [Subject::OrderCreated, Subject::PaymentCreated, Subject::OrderCancelled];
        let Outbox { bus, env, .. } = &self.outbox;
        let options = SubscribeOptions::new(Group::ORDERS_SERVICE, subjects)
            .with_ack_deadline(env.limits.ack_deadline);
        consume(self, &**bus, &options, env, stop).await;
    }
}

/// Cancels the timers of orders that are paid: a saving, so that a failure is reported and left.
pub(crate) async fn cancel_timers(
    queue: &dyn DelayQueue,
    env: &Env,
    cases: &[Case],
    results: &[Result<Settled>],
) {
    let completed = |settled: &Settled| settled.answers.contains(&Ok(Effect::Completed));
    let ids: Vec<OrderId> = cases
        .iter()
        .zip(results)
        .filter(|(_, result)| result.as_ref().is_ok_and(completed))
        .map(|(case, _)| case.id.clone())
        .collect();
    if ids.is_empty() {
        return;
    }
    if let Err(error) = env.step(queue.cancel(&ids)).await {
        let retry_in = std::time::Duration::ZERO;
        env.report(&Signal::Failed { flow: Flow::Recorder, error: &error, retry_in });
    }
}

#[async_trait]
impl Handler for Recorder {
    fn flow(&self) -> Flow {
        Flow::Recorder
    }

    async fn handle(&self, deliveries: &[Delivery]) -> Vec<Verdict> {
        let mut batch = Batch::default();
        let places: Vec<_> =
            deliveries.iter().map(|delivery| Ok(batch.add(decode(delivery)?))).collect();
        let results = self.outbox.settle(&batch.cases).await;
        cancel_timers(&*self.queue, &self.outbox.env, &batch.cases, &results).await;
        let verdict = |place: std::result::Result<Place, DecodeError>| match place {
            Ok(place) => Verdict::by(results[place.case].clone().map(|_| ())),
            Err(error) => Verdict::Reject(error.to_string()),
        };
        places.into_iter().map(verdict).collect()
    }
}

/// Inputs gathered by order, in the order of their messages. The map is only looked up in, never
/// iterated: its order means nothing.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) cases: Vec<Case>,
    by_id: HashMap<OrderId, usize, FixedState>,
}

/// Where an input stands in a [`Batch`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) case: usize,
    pub(crate) input: usize,
}

impl Batch {
    pub(crate) fn add(&mut self, (id, input): (OrderId, Input)) -> Place {
        let case = *self.by_id.entry(id.clone()).or_insert_with(|| {
            self.cases.push(Case { id, inputs: Vec::with_capacity(1) });
            self.cases.len() - 1
        });
        let inputs = &mut self.cases[case].inputs;
        inputs.push(input);
        Place { case, input: inputs.len() - 1 }
    }
}

fn decode(delivery: &Delivery) -> std::result::Result<(OrderId, Input), DecodeError> {
    let json = &delivery.message.payload;
    match delivery.message.subject {
        Subject::PaymentCreated => {
            let event = PaymentCreated::decode(json)?;
            Ok((event.order_id, Input::Paid(event.id)))
        }
        Subject::OrderCancelled => {
            let event = OrderCancelled::decode(json)?;
            Ok((event.id, Input::CancelledElsewhere { version: event.version }))
        }
        _ => {
            let event = OrderCreated::decode(json)?;
            let ticket = event.ticket.clone().ok_or_else(|| OrderCreated::missing("ticket"))?;
            Ok((event.id.clone(), Input::Created(event, ticket, delivery.message.trace())))
        }
    }
}
