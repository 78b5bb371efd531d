//! What is overdue, or owed too long → a timer, an announcement.

use std::future::{Future, pending};
use std::sync::Arc;

use futures_lite::future::yield_now;

use super::announce::{Debt, Outbox};
use super::bisect::bisect;
use super::env::{Env, Stop};
use crate::observe::{Flow, Signal};
use crate::order::State;
use crate::{DelayQueue, EventBus, OrderRepo, OverdueOptions, Record, Result, Timer, Timestamp};

/// How many batches one pass looks at; what is left comes with the next pass.
const BATCHES_MAX: usize = 64;

/// Heals what queue and bus lost: the row is the truth.
#[derive(Clone, Debug)]
pub struct Reconciler {
    outbox: Outbox,
    queue: Arc<dyn DelayQueue>,
}

/// What one pass of the Reconciler found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Open orders past due that were scheduled again.
    pub scheduled: usize,
    /// Records whose announcement was published and cleared.
    pub announced: usize,
}

impl Reconciler {
    /// A Reconciler of `repo` with `queue` and `bus`.
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
        let env = &self.outbox.env;
        let mut stop = Stop::new(stop);
        let mut backoff = env.backoff(Flow::Reconciler);
        let mut ready = false;
        while !stop.is_stopped() {
            match self.pass_until(&mut stop).await {
                Ok(_) => {
                    if !ready {
                        env.report(&Signal::Ready { flow: Flow::Reconciler });
                    }
                    ready = true;
                    backoff.reset();
                    stop.or(env.clock.sleep_until(env.now() + env.limits.reconcile_every)).await;
                }
                Err(error) => {
                    ready = false;
                    env.back_off(Flow::Reconciler, &error, &mut backoff, &mut stop).await;
                }
            }
        }
    }

    /// Looks once through all that is overdue, in bounded batches.
    ///
    /// # Errors
    /// The first fault of a backend; what it left is looked at again after a while.
    pub async fn pass(&self) -> Result<Pass> {
        self.pass_until(&mut Stop::new(pending())).await
    }

    async fn pass_until(&self, stop: &mut Stop<'_>) -> Result<Pass> {
        let limits = &self.outbox.env.limits;
        let now = self.outbox.env.now();
        let again_at = now + limits.grace.max(limits.reconcile_every);
        let options = OverdueOptions::new(now - limits.grace, again_at, limits.batch_max);
        let mut pass = Pass::default();
        for _ in 0..BATCHES_MAX {
            let records = self.outbox.env.step(self.outbox.repo.overdue(options)).await?;
            if records.is_empty() {
                break;
            }
            let items = records.len();
            self.outbox.env.report(&Signal::Batch { flow: Flow::Reconciler, items });
            // Both, whatever becomes of the one: an outage of the queue holds no announcement up.
            // Announced first: nobody may hear of the end of an order before its beginning.
            let timers = overdue_timers(&records, options.before);
            let announced = self.announce(records).await;
            let scheduled = self.schedule(&timers).await;
            pass.announced += announced?;
            pass.scheduled += scheduled?;
            if stop.or(yield_now()).await.is_none() {
                break;
            }
        }
        Ok(pass)
    }

    async fn schedule(&self, timers: &[Timer]) -> Result<usize> {
        let env = &self.outbox.env;
        let results = bisect(timers, |part| Box::pin(env.step(self.queue.schedule(part)))).await;
        results.into_iter().collect::<Result<Vec<()>>>().map(|done| done.len())
    }

    async fn announce(&self, mut records: Vec<Record>) -> Result<usize> {
        records.retain(|record| !record.owes.is_empty());
        let mut debts: Vec<Debt> = records.into_iter().map(Debt::all).collect();
        let results = self.outbox.announce(&mut debts).await;
        results.into_iter().collect::<Result<Vec<()>>>().map(|done| done.len())
    }
}

fn overdue_timers(records: &[Record], before: Timestamp) -> Vec<Timer> {
    records.iter().filter_map(|record| overdue_timer(record, before)).collect()
}

fn overdue_timer(record: &Record, before: Timestamp) -> Option<Timer> {
    match &record.state {
        State::Order(order) if order.phase.is_open() && order.expires_at < before => {
            Some(Timer::new(record.id.clone(), order.expires_at))
        }
        _ => None,
    }
}
