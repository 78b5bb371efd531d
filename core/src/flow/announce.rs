//! The one piece that publishes what records owe, and clears it.

use std::sync::Arc;

use super::CONFLICT_ROUNDS_MAX;
use super::bisect::{bisect, bisect_each};
use super::env::Env;
use crate::observe::Signal;
use crate::{Change, Error, ErrorKind, EventBus, Message, OrderRepo, Outcome, Record, Result};

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
    /// Where somebody else changes the record in between, what it still owes is published again,
    /// the same to the byte.
    pub(crate) async fn announce(&self, records: Vec<Record>) -> Vec<Result<()>> {
        let mut results: Vec<Result<()>> = records.iter().map(|_| Ok(())).collect();
        let mut open: Vec<(usize, Record)> =
            records.into_iter().enumerate().filter(|(_, record)| !record.owes.is_empty()).collect();
        for _ in 0..CONFLICT_ROUNDS_MAX {
            if open.is_empty() {
                return results;
            }
            let published = self.publish(open, &mut results).await;
            let conflicts = self.clear(published, &mut results).await;
            open = self.reload(conflicts, &mut results).await;
        }
        for (at, _) in open {
            results[at] = Err(contended("announce"));
        }
        results
    }

    /// Publishes what is owed; returns the records of which all is confirmed.
    async fn publish(
        &self,
        open: Vec<(usize, Record)>,
        results: &mut [Result<()>],
    ) -> Vec<(usize, Record)> {
        let messages: Vec<Message> = open.iter().flat_map(|(_, record)| messages(record)).collect();
        let sent = bisect(&messages, |part| Box::pin(self.env.step(self.bus.publish(part)))).await;
        let mut sent = sent.into_iter();
        let mut published = Vec::with_capacity(open.len());
        for (at, record) in open {
            results[at] = sent.by_ref().take(record.owes.len()).fold(Ok(()), Result::and);
            if results[at].is_ok() {
                for event in &record.owes {
                    self.env.report(&Signal::Announced { event });
                }
                published.push((at, record));
            }
        }
        published
    }

    /// Clears what was published; returns the records that somebody else has changed.
    async fn clear(
        &self,
        published: Vec<(usize, Record)>,
        results: &mut [Result<()>],
    ) -> Vec<(usize, Record)> {
        let changes: Vec<Change> = published.iter().map(|(_, record)| cleared(record)).collect();
        let outcomes = self.commit(&changes).await;
        let mut conflicts = Vec::new();
        for ((at, record), outcome) in published.into_iter().zip(outcomes) {
            match outcome {
                Ok(Outcome::Committed(_)) => {}
                Ok(Outcome::Conflict) => conflicts.push((at, record)),
                Err(error) => results[at] = Err(error),
            }
        }
        conflicts
    }

    /// Loads records again; returns those that still owe.
    async fn reload(
        &self,
        conflicts: Vec<(usize, Record)>,
        results: &mut [Result<()>],
    ) -> Vec<(usize, Record)> {
        if conflicts.is_empty() {
            return Vec::new();
        }
        let ids: Vec<_> = conflicts.iter().map(|(_, record)| record.id.clone()).collect();
        match self.env.step(self.repo.load(&ids)).await {
            Ok(records) => conflicts
                .into_iter()
                .zip(records)
                .filter_map(|((at, _), record)| Some((at, record?)))
                .filter(|(_, record)| !record.owes.is_empty())
                .collect(),
            Err(error) => {
                for (at, _) in conflicts {
                    results[at] = Err(error.clone());
                }
                Vec::new()
            }
        }
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
