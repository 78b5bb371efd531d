//! The one piece that publishes what records owe, and clears it.

use std::sync::Arc;

use super::CONFLICT_ROUNDS_MAX;
use super::bisect::{bisect, bisect_each};
use super::env::Env;
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

impl Outbox {
    /// Publishes what the records owe, awaits the broker's confirmation, then clears it by a
    /// commit that changes nothing else. One result per record, in order; a record that owes
    /// nothing is fine as it is.
    ///
    /// Where somebody else changes a record in between, it is loaded again, and what it still owes
    /// is published again, the same to the byte.
    pub(crate) async fn announce(&self, records: &mut [Record]) -> Vec<Result<()>> {
        let mut results: Vec<Result<()>> = records.iter().map(|_| Ok(())).collect();
        let mut open: Vec<usize> =
            (0..records.len()).filter(|at| !records[*at].owes.is_empty()).collect();
        for _ in 0..CONFLICT_ROUNDS_MAX {
            if open.is_empty() {
                return results;
            }
            let published = self.publish(records, &open, &mut results).await;
            let lost = self.clear(records, &published, &mut results).await;
            open = self.reload(records, lost, &mut results).await;
        }
        for at in open {
            results[at] = Err(contended("announce"));
        }
        results
    }

    /// Publishes what is owed; returns the records of which all is confirmed.
    async fn publish(
        &self,
        records: &[Record],
        open: &[usize],
        results: &mut [Result<()>],
    ) -> Vec<usize> {
        let messages: Vec<Message> = open.iter().flat_map(|at| messages(&records[*at])).collect();
        let sent = bisect(&messages, |part| Box::pin(self.env.step(self.bus.publish(part)))).await;
        let mut sent = sent.into_iter();
        let mut published = Vec::with_capacity(open.len());
        for at in open {
            let owes = &records[*at].owes;
            results[*at] = sent.by_ref().take(owes.len()).fold(Ok(()), Result::and);
            if results[*at].is_ok() {
                owes.iter().for_each(|event| self.env.report(&Signal::Announced { event }));
                published.push(*at);
            }
        }
        published
    }

    /// Clears what was published; returns the records that somebody else has changed.
    async fn clear(
        &self,
        records: &[Record],
        published: &[usize],
        results: &mut [Result<()>],
    ) -> Vec<usize> {
        let changes: Vec<Change> = published.iter().map(|at| cleared(&records[*at])).collect();
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

    /// Loads records again; returns those that still owe.
    async fn reload(
        &self,
        records: &mut [Record],
        lost: Vec<usize>,
        results: &mut [Result<()>],
    ) -> Vec<usize> {
        if lost.is_empty() {
            return lost;
        }
        let ids: Vec<_> = lost.iter().map(|at| records[*at].id.clone()).collect();
        let mut owing = Vec::new();
        for (at, loaded) in lost.into_iter().zip(self.load(&ids).await) {
            match loaded {
                Ok(Some(record)) => {
                    if !record.owes.is_empty() {
                        owing.push(at);
                    }
                    records[at] = record;
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

fn messages(record: &Record) -> impl Iterator<Item = Message> {
    let trace = record.state.order().and_then(|order| order.trace);
    record.owes.iter().map(move |event| event.message().with_trace(trace))
}

fn cleared(record: &Record) -> Change {
    Change {
        id: record.id.clone(),
        expected: record.revision,
        state: record.state.clone(),
        owes: Vec::new(),
    }
}
