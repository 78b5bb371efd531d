//! The one piece that publishes what records owe, and clears it.

use std::sync::Arc;

use super::CONFLICT_ROUNDS_MAX;
use super::bisect::{bisect, bisect_each};
use super::env::Env;
use crate::event::Event;
use crate::observe::Signal;
use crate::{
    Change, Error, ErrorKind, EventBus, Message, OrderId, OrderRepo, Outcome, OverdueOptions,
    Record, Result, Timestamp,
};

/// The outbox: a repository whose records owe, and the bus to announce it on.
#[derive(Clone, Debug)]
pub(crate) struct Outbox {
    pub(crate) bus: Arc<dyn EventBus>,
    pub(crate) repo: Arc<dyn OrderRepo>,
    pub(crate) env: Env,
}

/// A record, and what of that which it owes is for us to announce. The rest is for whoever made it
/// owe that, and is at work on it.
#[derive(Debug)]
pub(crate) struct Debt {
    pub(crate) record: Record,
    pub(crate) ours: Vec<Event>,
}

impl Debt {
    /// All that a record owes.
    pub(crate) fn all(record: Record) -> Self {
        let ours = record.owes.clone();
        Self { record, ours }
    }

    /// The change that clears what is ours, and nothing else.
    fn cleared(&self) -> Change {
        let mut owes = self.record.owes.clone();
        owes.retain(|event| !self.ours.contains(event));
        let Record { id, revision, state, .. } = &self.record;
        Change { id: id.clone(), expected: *revision, state: state.clone(), owes }
    }

    fn messages(&self) -> impl Iterator<Item = Message> {
        let trace = self.record.state.order().and_then(|order| order.trace);
        self.ours.iter().map(move |event| event.message().with_trace(trace))
    }
}

impl Outbox {
    /// Publishes debts, awaits the broker's confirmation, then clears them by a commit that changes
    /// nothing else. One result per debt, in order; where nothing is ours, all is well.
    ///
    /// Where somebody else changes the record in between, what we have published and it still owes
    /// is cleared all the same.
    pub(crate) async fn announce(&self, debts: &mut [Debt]) -> Vec<Result<()>> {
        let mut results: Vec<Result<()>> = debts.iter().map(|_| Ok(())).collect();
        let mut open = self.publish(debts, &mut results).await;
        for _ in 0..CONFLICT_ROUNDS_MAX {
            if open.is_empty() {
                return results;
            }
            let lost = self.clear(debts, &open, &mut results).await;
            open = self.reload(debts, lost, &mut results).await;
        }
        for at in open {
            results[at] = Err(contended("announce"));
        }
        results
    }

    /// Publishes what is ours; returns the debts of which all is confirmed.
    async fn publish(&self, debts: &[Debt], results: &mut [Result<()>]) -> Vec<usize> {
        let messages: Vec<Message> = debts.iter().flat_map(Debt::messages).collect();
        let sent = bisect(&messages, |part| Box::pin(self.env.step(self.bus.publish(part)))).await;
        let mut sent = sent.into_iter();
        let mut published = Vec::with_capacity(debts.len());
        for (at, Debt { ours, .. }) in debts.iter().enumerate() {
            results[at] = sent.by_ref().take(ours.len()).fold(Ok(()), Result::and);
            if results[at].is_ok() && !ours.is_empty() {
                ours.iter().for_each(|event| self.env.report(&Signal::Announced { event }));
                published.push(at);
            }
        }
        published
    }

    /// Clears what was published; returns the debts whose record somebody else has changed.
    async fn clear(
        &self,
        debts: &[Debt],
        published: &[usize],
        results: &mut [Result<()>],
    ) -> Vec<usize> {
        let changes: Vec<Change> = published.iter().map(|at| debts[*at].cleared()).collect();
        let outcomes = self.commit(&changes).await;
        let mut lost = Vec::new();
        for (at, outcome) in published.iter().zip(outcomes) {
            match outcome {
                Ok(Outcome::Committed(_)) => {}
                Ok(Outcome::Conflict) => lost.push(*at),
                Err(error) => results[*at] = Err(error),
            }
        }
        lost
    }

    /// Loads records again; returns the debts that are still owed.
    async fn reload(
        &self,
        debts: &mut [Debt],
        lost: Vec<usize>,
        results: &mut [Result<()>],
    ) -> Vec<usize> {
        if lost.is_empty() {
            return lost;
        }
        let ids: Vec<_> = lost.iter().map(|at| debts[*at].record.id.clone()).collect();
        let mut owing = Vec::new();
        for (at, loaded) in lost.into_iter().zip(self.load(&ids).await) {
            match loaded {
                Ok(Some(record)) => {
                    if record.owes.iter().any(|event| debts[at].ours.contains(event)) {
                        owing.push(at);
                    }
                    debts[at].record = record;
                }
                Ok(None) => {}
                Err(error) => results[at] = Err(error),
            }
        }
        owing
    }

    /// Loads a batch, so that one record that cannot be read fails alone: one result per id.
    pub(crate) async fn load(&self, ids: &[OrderId]) -> Vec<Result<Option<Record>>> {
        bisect_each(ids, |part| Box::pin(self.env.step(self.repo.load(part)))).await
    }

    /// Whether the repository answers; nothing can be overdue before the first moment there is.
    pub(crate) async fn probe(&self) -> Result<()> {
        let nothing = OverdueOptions::new(Timestamp::MIN, Timestamp::MIN, 1);
        self.env.step(self.repo.overdue(nothing)).await.map(drop)
    }

    /// Commits a batch, alone with the change that can never be accepted: one result per change.
    pub(crate) async fn commit(&self, changes: &[Change]) -> Vec<Result<Outcome>> {
        bisect_each(changes, |part| Box::pin(self.env.step(self.repo.commit(part)))).await
    }
}

/// A record that lost every round, which only a bug or a storm of writers can bring about.
pub(crate) fn contended(op: &'static str) -> Error {
    let text = format!("lost {CONFLICT_ROUNDS_MAX} rounds against other writers of the record");
    Error::new(ErrorKind::Overloaded, "flow", op, text)
}
