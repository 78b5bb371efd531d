//! A repository whose every commit is judged.

use std::sync::Arc;

use async_trait::async_trait;
use expirer_core::{
    Change, OrderId, OrderRepo, Outcome, OverdueOptions, Record, RepoCapabilities, Result,
};

use super::{Actor, BATCH_MAX, Watch};

#[derive(Debug)]
pub(super) struct WatchedRepo {
    pub(super) watch: Watch,
    pub(super) actor: Actor,
    pub(super) inner: Arc<dyn OrderRepo>,
}

impl WatchedRepo {
    /// What is read is what was committed last.
    fn judge_read(&self, id: &OrderId, read: Option<&Record>) {
        if !self.watch.truth().orders.is_current(id, read) {
            self.watch.judge(&self.actor, Err(format!("{id}: read what is not there: {read:?}")));
        }
    }

    fn committed(&self, change: &Change, outcome: Outcome) {
        let Self { watch, actor, .. } = self;
        let Outcome::Committed(revision) = outcome else {
            watch.log.count(|tally| tally.conflicts += 1);
            return watch.trace(actor, format_args!("conflict {}", change.id));
        };
        let mut truth = watch.truth();
        let expires_at = truth.orders.expires_at(&change.id);
        if expires_at.is_some_and(|at| truth.waits.is_over(actor, &change.id, at, watch.now())) {
            truth.orders.waits_over.insert(change.id.clone());
        }
        let verdict = truth.orders.commit(actor, change, revision, &watch.faults, watch.now());
        drop(truth);
        watch.judge(actor, verdict);
        let Change { id, state, owes, .. } = change;
        watch.trace(actor, format_args!("commit {id} {revision:?} {state:?} owes {owes:?}"));
    }
}

#[async_trait]
impl OrderRepo for WatchedRepo {
    async fn load(&self, ids: &[OrderId]) -> Result<Vec<Option<Record>>> {
        self.watch.bounded(&self.actor, "load", ids.len(), BATCH_MAX);
        let read = self.inner.load(ids).await?;
        for (id, record) in ids.iter().zip(&read) {
            self.judge_read(id, record.as_ref());
            if record.as_ref().is_none_or(|record| record.state.order().is_none()) {
                self.watch.truth().waits.ask_in_vain(&self.actor, id);
            }
        }
        Ok(read)
    }

    async fn commit(&self, changes: &[Change]) -> Result<Vec<Outcome>> {
        self.watch.bounded(&self.actor, "commit", changes.len(), BATCH_MAX);
        let outcomes = self.inner.commit(changes).await?;
        changes
            .iter()
            .zip(&outcomes)
            .for_each(|(change, outcome)| self.committed(change, *outcome));
        Ok(outcomes)
    }

    async fn overdue(&self, options: OverdueOptions) -> Result<Vec<Record>> {
        self.watch.bounded(&self.actor, "overdue", options.max, BATCH_MAX);
        let found = self.inner.overdue(options).await?;
        self.watch.bounded(&self.actor, "overdue records", found.len(), options.max.max(1));
        found.iter().for_each(|record| self.judge_read(&record.id, Some(record)));
        Ok(found)
    }

    fn capabilities(&self) -> RepoCapabilities {
        self.inner.capabilities()
    }
}
