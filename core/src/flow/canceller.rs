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
use super::recorder::{Batch, Place};
use super::tally::Tally;
use crate::event::{DecodeError, ExpirationComplete, Payload};
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
        let asked = env.now();
        let progress = env.step(bus.progress(&group, &Subject::PaymentCreated)).await?;
        Ok(progress.settled_until(asked))
    }

    /// The input for an order: once it has been waited for long enough, payments from longer ago
    /// than that count as read. Not all of them: the order may have moved to a later time meanwhile,
    /// which another replica may have been told, and then its wait begins there.
    fn input(&self, id: &OrderId, payments_applied_until: Timestamp, now: Timestamp) -> Input {
        let wait = self.outbox.env.limits.payment_wait;
        let over = lock(&self.waiting).since(id, now).is_some_and(|since| now.since(since) >= wait);
        let payments_applied_until = match over {
            true => payments_applied_until.max(now - wait),
            false => payments_applied_until,
        };
        Input::Expire { payments_applied_until }
    }

    /// What becomes of one message by the answer of its order; `first` says that no other copy of
    /// it was in the batch before, so that copies are not counted as answers.
    fn answer(
        &self,
        event: &ExpirationComplete,
        answer: std::result::Result<Effect, Refused>,
        first: bool,
        now: Timestamp,
    ) -> Answer {
        let id = &event.order_id;
        match answer {
            Err(Refused::Unknown) => Answer::Settle(self.unknown(id, first, now)),
            Err(Refused::PaymentsUnread) => Answer::Settle(self.payments_unread(id, first, now)),
            Err(Refused::NotYet { expires_at }) => {
                self.forget(id);
                not_yet(event, expires_at, now)
            }
            Ok(effect) => {
                if effect == Effect::Expired {
                    self.report_wait(id, now);
                }
                self.forget(id);
                Answer::Settle(Verdict::Ack)
            }
            Err(_) => Answer::Settle(Verdict::Ack),
        }
    }

    fn unknown(&self, id: &OrderId, first: bool, now: Timestamp) -> Verdict {
        let limits = &self.outbox.env.limits;
        let mut unknown = lock(&self.unknown);
        let times = if first { unknown.count(id, now) } else { unknown.times(id) };
        match times {
            Some(times) if times >= UNKNOWN_MAX => {
                Verdict::Reject(format!("the repository did not know order {id}, {times} times"))
            }
            times => {
                let failures = times.map_or(u32::MAX, |times| times - 1);
                let after = delay_after(failures, limits.backoff_min, limits.backoff_max);
                Verdict::Again { after, why: "unknown order" }
            }
        }
    }

    fn payments_unread(&self, id: &OrderId, first: bool, now: Timestamp) -> Verdict {
        let mut waiting = lock(&self.waiting);
        let times = if first { waiting.count(id, now) } else { waiting.times(id) };
        let failures = times.map_or(u32::MAX, |times| times - 1);
        let after = delay_after(failures, PAYMENTS_RELEASE_MIN, PAYMENTS_RELEASE_MAX);
        Verdict::Again { after, why: "payments unread" }
    }

    /// Says so if an order expired without waiting for its payments any longer.
    fn report_wait(&self, id: &OrderId, now: Timestamp) {
        let env = &self.outbox.env;
        let since = lock(&self.waiting).since(id, now);
        if since.is_some_and(|since| now.since(since) >= env.limits.payment_wait) {
            env.report(&Signal::PaymentWaitOver { id });
        }
    }

    /// An order that is settled or has another time begins anew.
    fn forget(&self, id: &OrderId) {
        lock(&self.unknown).forget(id);
        lock(&self.waiting).forget(id);
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

/// An expiry that comes too early for its order.
fn not_yet(event: &ExpirationComplete, expires_at: Timestamp, now: Timestamp) -> Answer {
    if event.expires_at.is_some_and(|fired| fired >= expires_at) {
        // It fired by the order's own time or a later one: the queue's clock is ahead.
        let after = expires_at.since(now).min(EARLY_RELEASE_MAX);
        return Answer::Settle(Verdict::Again { after, why: "not yet" });
    }
    // A stale timer, or a foreign worker.
    Answer::Schedule(Timer::new(event.order_id.clone(), expires_at))
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

    async fn probe(&self) -> Result<()> {
        self.payments_applied_until().await?;
        self.outbox.probe().await
    }

    async fn handle(&self, deliveries: &[Delivery]) -> Vec<Verdict> {
        // Before the load: what was applied until then is in what is loaded.
        let until = match self.payments_applied_until().await {
            Ok(until) => until,
            Err(error) => return vec![Verdict::Failed(error); deliveries.len()],
        };
        let now = self.outbox.env.now();
        let mut batch = Batch::default();
        let mut place = |delivery: &Delivery| {
            let event = ExpirationComplete::decode(&delivery.message.payload)?;
            let input = self.input(&event.order_id, until, now);
            Ok((batch.add((event.order_id.clone(), input)), event))
        };
        let events: Vec<std::result::Result<(Place, ExpirationComplete), DecodeError>> =
            deliveries.iter().map(&mut place).collect();
        let results = self.outbox.settle(&batch.cases).await;

        let mut verdicts = vec![Verdict::Ack; deliveries.len()];
        let (mut timers, mut places) = (Vec::new(), Vec::new());
        for (at, event) in events.into_iter().enumerate() {
            let answer = match event {
                Err(error) => Answer::Settle(Verdict::Reject(error.to_string())),
                Ok((Place { case, input }, event)) => match &results[case] {
                    Ok(settled) => self.answer(&event, settled.answers[input], input == 0, now),
                    Err(error) => Answer::Settle(Verdict::by(Err(error.clone()))),
                },
            };
            match answer {
                Answer::Settle(verdict) => verdicts[at] = verdict,
                Answer::Schedule(timer) => {
                    timers.push(timer);
                    places.push(at);
                }
            }
        }
        self.schedule(&timers, &places, &mut verdicts).await;
        verdicts
    }
}
