//! Mistakes around a repository.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use expirer_core::event::{Event, OpenStatus, OrderCancelled, TicketRef};
use expirer_core::order::{Phase, State};
use expirer_core::{
    Change, OrderId, OrderRepo, Outcome, OverdueOptions, Record, RepoCapabilities, Result, Revision,
};

use super::Mistake;

#[derive(Debug)]
pub(super) struct PlantedRepo {
    pub(super) mistake: Mistake,
    pub(super) inner: Arc<dyn OrderRepo>,
}

impl PlantedRepo {
    /// A record as somebody sees it who makes a mistake.
    fn seen(&self, mut record: Record) -> Record {
        let State::Order(order) = &mut record.state else { return record };
        match (self.mistake, &order.phase) {
            (Mistake::CancelsPaid, Phase::Complete { .. }) => {
                order.phase = Phase::Open(OpenStatus::Created);
            }
            (Mistake::CancelsEarly, Phase::Open(_)) => {
                order.expires_at = order.expires_at - Duration::from_secs(1);
            }
            (Mistake::AnnouncesAgain, Phase::Cancelled) if record.owes.is_empty() => {
                record.owes.push(Event::OrderCancelled(OrderCancelled {
                    id: record.id.clone(),
                    version: order.version,
                    ticket: Some(TicketRef { id: order.ticket.id.clone() }),
                }));
            }
            _ => {}
        }
        record
    }

    /// A change as somebody writes it who makes a mistake.
    fn written(&self, change: &Change) -> Change {
        let is_kept = |event: &Event| match self.mistake {
            Mistake::DualWrite => false,
            Mistake::SilentLatePayment => !matches!(event, Event::PaymentLate(_)),
            _ => true,
        };
        let owes = change.owes.iter().filter(|event| is_kept(event)).cloned().collect();
        Change { owes, ..change.clone() }
    }

    /// Whatever is there is overwritten.
    async fn overwrite(&self, changes: &[Change]) -> Result<Vec<Outcome>> {
        let mut outcomes = Vec::with_capacity(changes.len());
        for change in changes {
            let known = self.inner.load(std::slice::from_ref(&change.id)).await?;
            let expected =
                known.into_iter().flatten().next().map_or(Revision::ABSENT, |row| row.revision);
            let change = Change { expected, ..change.clone() };
            outcomes.extend(self.inner.commit(&[change]).await?);
        }
        Ok(outcomes)
    }
}

#[async_trait]
impl OrderRepo for PlantedRepo {
    async fn load(&self, ids: &[OrderId]) -> Result<Vec<Option<Record>>> {
        let records = self.inner.load(ids).await?;
        Ok(records.into_iter().map(|record| record.map(|record| self.seen(record))).collect())
    }

    async fn commit(&self, changes: &[Change]) -> Result<Vec<Outcome>> {
        if self.mistake == Mistake::BlindCommit {
            return self.overwrite(changes).await;
        }
        let changes: Vec<Change> = changes.iter().map(|change| self.written(change)).collect();
        self.inner.commit(&changes).await
    }

    async fn overdue(&self, options: OverdueOptions) -> Result<Vec<Record>> {
        self.inner.overdue(options).await
    }

    fn capabilities(&self) -> RepoCapabilities {
        self.inner.capabilities()
    }
}
