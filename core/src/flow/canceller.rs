//! `expiration:complete` → a cancelled order, if it is time and nobody paid.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use super::announce::Outbox;
use super::backoff::delay_after;
use super::bisect::bisect;
use super::consume::{Handler, Verdict, consume};
use super::env::Env;
use super::recorder::Batch;
use super::tally::Tally;
use crate::event::{ExpirationComplete, Payload};
use crate::observe::{Flow, Signal};
use crate::order::{Effect, Input, Refused};
use crate::{
    DelayQueue, Delivery, EventBus, Group, OrderId, OrderRepo, Result, Subject, SubscribeOptions,
    Timer, Timestamp,
};

/// How often a repository may answer that it does not know an order before its
/// `expiration:complete` goes to the dead letters.
pub const UNKNOWN_MAX: u32 = 10;
/// An expiry that comes early is given back for at most this long at a time.
const EARLY_RELEASE_MAX: Duration = Duration::from_secs(10);
/// An order whose payments are unread is looked at again after 0.1 to 1 s.
const PAYMENTS_RELEASE_MIN: Duration = Duration::from_millis(100);
const PAYMENTS_RELEASE_MAX: Duration = Duration::from_secs(1);

/// Cancels orders whose time is up: loads, decides, commits, announces.
#[derive(Debug)]
pub struct Canceller {
    outbox: Outbox,
    queue: Arc<dyn DelayQueue>,
    unknown: Mutex<Tally>,
    waiting: Mutex<Tally>,
}

impl Canceller {
    /// A Canceller from `bus` to `repo`; a timer that fired too early goes back into `queue`.
    #[must_use]
    pub fn new(
        bus: Arc<dyn EventBus>,
        repo: Arc<dyn OrderRepo>,
        queue: Arc<dyn DelayQueue>,
        env: Env,
    ) -> Self {
        let outbox = Outbox { bus, repo, env };
        Self { outbox, queue, unknown: Mutex::default(), waiting: Mutex::default() }
    }

    /// Works until `stop` ends and finishes the batch in hand. Any number may run at once.
    pub async fn run(&self, stop: impl Future<Output = ()> + Send) {
        let Outbox { bus, env, .. } = &self.outbox;
        let options = SubscribeOptions::new(Group::ORDERS_SERVICE, [Subject::ExpirationComplete])
            .with_ack_deadline(env.limits.ack_deadline);
        consume(self, &**bus, &options, env, stop).await;
    }

    /// Until when the payments that the bus stored have all been applied by our group.
    async fn payments_applied_until(&self) -> Result<Timestamp> {
        let Outbox { bus, env, .. } = &self.outbox;
        let group = Group::ORDERS_SERVICE;
        let progress = env.step(bus.progress(&group, &Subject::PaymentCreated)).await?;
        Ok(progress.settled_until())
    }

    /// The input for an order: one that has waited long enough for its payments waits no more.
    fn input(&self, id: &OrderId, payments_applied_until: Timestamp, now: Timestamp) -> Input {
        let wait = self.outbox.env.limits.payment_wait;
        let over = lock(&self.waiting).since(id).is_some_and(|since| now.since(since) >= wait);
        if over {
            self.outbox.env.report(&Signal::PaymentWaitOver { id });
        }
        let payments_applied_until = if over { Timestamp::MAX } else { payments_applied_until };
        Input::Expire { payments_applied_until }
    }

    fn verdict(
        &self,
        event: &ExpirationComplete,
        answer: std::result::Result<Effect, Refused>,
        now: Timestamp,
    ) -> Answer {
        let id = &event.order_id;
        match answer {
            Err(Refused::Unknown) => Answer::Settle(self.unknown(id, now)),
            Err(Refused::PaymentsUnread) => {
                let times = lock(&self.waiting).count(id, now).times;
                let after = delay_after(times - 1, PAYMENTS_RELEASE_MIN, PAYMENTS_RELEASE_MAX);
                Answer::Settle(Verdict::Again { after, why: "payments unread" })
            }
            // It fired by the order's own time or a later one: the queue's clock is ahead.
            Err(Refused::NotYet { expires_at })
                if event.expires_at.is_some_and(|fired| fired >= expires_at) =>
            {
                let after = expires_at.since(now).min(EARLY_RELEASE_MAX);
                Answer::Settle(Verdict::Again { after, why: "not yet" })
            }
            // A stale timer or a foreign worker.
            Err(Refused::NotYet { expires_at }) => {
                Answer::Schedule(Timer::new(id.clone(), expires_at))
            }
            Ok(_) | Err(_) => {
                lock(&self.unknown).forget(id);
                lock(&self.waiting).forget(id);
                Answer::Settle(Verdict::Ack)
            }
        }
    }

    fn unknown(&self, id: &OrderId, now: Timestamp) -> Verdict {
        let limits = &self.outbox.env.limits;
        let times = lock(&self.unknown).count(id, now).times;
        if times >= UNKNOWN_MAX {
            lock(&self.unknown).forget(id);
            return Verdict::Reject(format!(
                "the repository did not know order {id}, {times} times"
            ));
        }
        let after = delay_after(times - 1, limits.backoff_min, limits.backoff_max);
        Verdict::Again { after, why: "unknown order" }
    }

    /// Schedules orders again at their own time, then their messages can be acked.
    async fn schedule(&self, timers: &[Timer], places: &[usize], verdicts: &mut [Verdict]) {
        let env = &self.outbox.env;
        let results = bisect(timers, |part| Box::pin(env.step(self.queue.schedule(part)))).await;
        for (at, result) in places.iter().zip(results) {
            verdicts[*at] = Verdict::by(result);
        }
    }
}

/// What an answer of the state machine asks for.
enum Answer {
    Settle(Verdict),
    Schedule(Timer),
}

/// A tally is counters only: sound even if a thread panicked while holding it.
fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
    tally.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Handler for Canceller {
    fn flow(&self) -> Flow {
        Flow::Canceller
    }

    async fn handle(&self, deliveries: &[Delivery]) -> Vec<Verdict> {
        // Before the load: what was applied until then is in what is loaded.
        let until = match self.payments_applied_until().await {
            Ok(until) => until,
            Err(error) => return vec![Verdict::Failed(error); deliveries.len()],
        };
        let now = self.outbox.env.now();
        let mut batch = Batch::default();
        let events: Vec<_> = deliveries
            .iter()
            .map(|delivery| {
                let event = ExpirationComplete::decode(&delivery.message.payload)?;
                let input = self.input(&event.order_id, until, now);
                Ok((batch.add((event.order_id.clone(), input)), event))
            })
            .collect();
        let results = self.outbox.settle(&batch.cases).await;

        let mut verdicts = vec![Verdict::Ack; deliveries.len()];
        let (mut timers, mut places) = (Vec::new(), Vec::new());
        for (at, event) in events.into_iter().enumerate() {
            let (place, event) = match event {
                Ok(event) => event,
                Err(error) => {
                    let error: crate::event::DecodeError = error;
                    verdicts[at] = Verdict::Reject(error.to_string());
                    continue;
                }
            };
            match &results[place.case] {
                Ok(settled) => match self.verdict(&event, settled.answers[place.input], now) {
                    Answer::Settle(verdict) => verdicts[at] = verdict,
                    Answer::Schedule(timer) => {
                        timers.push(timer);
                        places.push(at);
                    }
                },
                Err(error) => verdicts[at] = Verdict::by(Err(error.clone())),
            }
        }
        self.schedule(&timers, &places, &mut verdicts).await;
        verdicts
    }
}
