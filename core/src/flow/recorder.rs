//! Events → the repository, which stays in step with orders that live elsewhere.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::announce::Outbox;
use super::consume::{Handler, Verdict, consume};
use super::env::Env;
use super::ledger::{Case, Settled};
use crate::event::{DecodeError, OrderCancelled, OrderCreated, Payload, PaymentCreated};
use crate::observe::{Flow, Signal};
use crate::order::{Effect, Input, State};
use crate::{
    DelayQueue, Delivery, EventBus, Group, OrderId, OrderRepo, Result, Subject, SubscribeOptions,
    Timestamp,
};

/// How many orders are remembered whose timers are cancelled again; the oldest go first.
const LEFTOVERS_MAX: usize = 65_536;
/// While there are any, they are looked at this often.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Records `order:created`, `payment:created` and `order:cancelled`, announces what follows from
/// them, and cancels the timers of paid orders.
#[derive(Debug)]
pub struct Recorder {
    outbox: Outbox,
    queue: Arc<dyn DelayQueue>,
    leftovers: Mutex<Leftovers>,
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
        Self { outbox: Outbox { bus, repo, env }, queue, leftovers: Mutex::default() }
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

/// Cancels timers: a saving, so that a failure is reported and left.
pub(crate) async fn cancel_timers(queue: &dyn DelayQueue, env: &Env, ids: &[OrderId]) {
    if ids.is_empty() {
        return;
    }
    if let Err(error) = env.step(queue.cancel(ids)).await {
        let (flow, retry_in) = (Flow::Recorder, Duration::ZERO);
        env.report(&Signal::Failed { flow, error: &error, retry_in, whole_loop: false });
    }
}

/// The orders of a batch that have ended and may still have a timer: those that ended here, and
/// those whose `order:created` came after their end.
fn ended(cases: &[Case], results: &[Result<Settled>]) -> Vec<OrderId> {
    let has_ended = |(case, result): &(&Case, &Result<Settled>)| {
        let Ok(Settled { state: Some(State::Order(order)), answers }) = result else {
            return false;
        };
        let is_created = case.inputs.iter().any(|input| matches!(input, Input::Created(..)));
        !order.phase.is_open() && (is_created || answers.contains(&Ok(Effect::Completed)))
    };
    cases.iter().zip(results).filter(has_ended).map(|(case, _)| case.id.clone()).collect()
}

/// Orders that have ended and whose timer the Scheduler may set only now: it is another group, and
/// reads `order:created` when it comes to it. Without this, some of them would fire for nothing.
/// Oldest first, each with the time since which it is here.
type Leftovers = VecDeque<(Timestamp, OrderId)>;

impl Recorder {
    fn add_leftovers(&self, ids: Vec<OrderId>) {
        let now = self.outbox.env.now();
        let mut leftovers = self.leftovers();
        leftovers.extend(ids.into_iter().map(|id| (now, id)));
        let surplus = leftovers.len().saturating_sub(LEFTOVERS_MAX);
        leftovers.drain(..surplus);
    }

    /// Cancels some of the leftovers that the Scheduler's group has come to: one call between two
    /// batches, so that no payment waits for it.
    async fn sweep(&self) {
        let Outbox { bus, env, .. } = &self.outbox;
        if self.leftovers().is_empty() {
            return;
        }
        let (group, asked) = (Group::EXPIRATION_SERVICE, env.now());
        let progress = env.step(bus.progress(&group, &Subject::OrderCreated)).await;
        let Ok(progress) = progress else { return };
        let until = progress.settled_until(asked);
        let ids: Vec<OrderId> = {
            let mut leftovers = self.leftovers();
            let some = leftovers.iter().take(env.limits.batch_max);
            let come_to = some.take_while(|(since, _)| *since <= until).count();
            leftovers.drain(..come_to).map(|(_, id)| id).collect()
        };
        cancel_timers(&*self.queue, env, &ids).await;
    }

    /// Ids and times: sound even if a thread panicked while holding them.
    fn leftovers(&self) -> MutexGuard<'_, Leftovers> {
        self.leftovers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Handler for Recorder {
    fn flow(&self) -> Flow {
        Flow::Recorder
    }

    async fn probe(&self) -> Result<()> {
        self.outbox.probe().await
    }

    async fn rest(&self) -> Option<Duration> {
        self.sweep().await;
        (!self.leftovers().is_empty()).then_some(SWEEP_EVERY)
    }

    async fn handle(&self, deliveries: &[Delivery]) -> Vec<Verdict> {
        let mut batch = Batch::default();
        let places: Vec<_> =
            deliveries.iter().map(|delivery| Ok(batch.add(decode(delivery)?))).collect();
        let results = self.outbox.settle(&batch.cases).await;
        let ended = ended(&batch.cases, &results);
        cancel_timers(&*self.queue, &self.outbox.env, &ended).await;
        self.add_leftovers(ended);
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
