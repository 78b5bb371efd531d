//! Mistakes of a member of a group.

use std::sync::Arc;

use async_trait::async_trait;
use expirer_core::bus::{Consumer, Delivery};
use expirer_core::event::Event;
use expirer_core::order::State;
use expirer_core::{OrderId, OrderRepo, Receipt, ReceiveOptions, Rejection, Release, Result};

use super::Mistake;

#[derive(Debug)]
pub(super) struct PlantedConsumer {
    pub(super) mistake: Mistake,
    pub(super) inner: Box<dyn Consumer>,
    pub(super) repo: Arc<dyn OrderRepo>,
}

impl PlantedConsumer {
    /// Drops the payments of orders that nobody has heard of.
    async fn without_payments_ahead(&self, came: Vec<Delivery>) -> Result<Vec<Delivery>> {
        let mut known = Vec::with_capacity(came.len());
        for delivery in came {
            match self.is_ahead(&delivery).await? {
                true => self.inner.ack(&[delivery.receipt]).await?,
                false => known.push(delivery),
            }
        }
        Ok(known)
    }

    async fn is_ahead(&self, delivery: &Delivery) -> Result<bool> {
        let Some(id) = payment_of(delivery) else { return Ok(false) };
        let known = self.repo.load(&[id]).await?;
        Ok(!matches!(&known[..], [Some(record)] if matches!(record.state, State::Order(_))))
    }
}

fn payment_of(delivery: &Delivery) -> Option<OrderId> {
    match Event::decode(&delivery.message.subject, &delivery.message.payload)? {
        Ok(Event::PaymentCreated(paid)) => Some(paid.order_id),
        _ => None,
    }
}

#[async_trait]
impl Consumer for PlantedConsumer {
    async fn receive(&self, options: ReceiveOptions) -> Result<Vec<Delivery>> {
        let came = self.inner.receive(options).await?;
        match self.mistake {
            Mistake::AckBeforeWork => {
                let receipts: Vec<_> = came.iter().map(|delivery| delivery.receipt).collect();
                self.inner.ack(&receipts).await?;
                Ok(came)
            }
            Mistake::DropsPaymentsAhead => self.without_payments_ahead(came).await,
            _ => Ok(came),
        }
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        self.inner.ack(receipts).await
    }

    async fn release(&self, releases: &[Release]) -> Result<()> {
        self.inner.release(releases).await
    }

    async fn reject(&self, rejections: &[Rejection]) -> Result<()> {
        if self.mistake != Mistake::DropsPoison {
            return self.inner.reject(rejections).await;
        }
        let receipts: Vec<_> = rejections.iter().map(|rejection| rejection.receipt).collect();
        self.inner.ack(&receipts).await
    }
}
