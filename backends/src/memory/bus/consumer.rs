//! One member of a group.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use event_listener::Event;
#[cfg(feature = "stdio")]
use expirer_core::Message;
use expirer_core::{
    Consumer, Delivery, Group, Receipt, ReceiveOptions, Rejection, Release, Result,
    SubscribeOptions, Timestamp,
};

use super::Shared;
use super::hub::{Fits, Seat};
use crate::memory::heard_or_at;

/// A deadline of less would make what is delivered visible again at once.
const ACK_DEADLINE_MIN: Duration = Duration::from_millis(1);

pub(crate) struct MemoryConsumer {
    shared: Arc<Shared>,
    group: Group,
    seats: Vec<Seat>,
    arrived: Arc<Event>,
    ack_deadline: Duration,
}

impl MemoryConsumer {
    pub(super) fn join(shared: Arc<Shared>, options: SubscribeOptions) -> Fits<Self> {
        let SubscribeOptions { subjects, group, ack_deadline, .. } = options;
        let (seats, arrived) = shared.hub().join(&group, &subjects)?;
        let ack_deadline = ack_deadline.max(ACK_DEADLINE_MIN);
        Ok(Self { shared, group, seats, arrived, ack_deadline })
    }

    /// The message that a live receipt stands for, and the time.
    #[cfg(feature = "stdio")]
    pub(crate) fn peek(&self, receipt: Receipt) -> Option<(Message, Timestamp)> {
        self.shared.with(|hub, now| Some((hub.held(&self.seats, receipt, now)?.clone(), now)))
    }

    fn take(&self, max: usize) -> Look {
        self.shared.with(|hub, now| Look {
            taken: hub.take(&self.seats, max, now, self.ack_deadline),
            now,
            next_visible: hub.next_visible(&self.seats),
        })
    }
}

/// What one look at the bus brought.
struct Look {
    taken: Vec<Delivery>,
    now: Timestamp,
    next_visible: Option<Timestamp>,
}

#[async_trait]
impl Consumer for MemoryConsumer {
    async fn receive(&self, options: ReceiveOptions) -> Result<Vec<Delivery>> {
        let first = self.take(options.max);
        let mut deadline = first.now + options.wait;
        if !first.taken.is_empty() || first.now >= deadline {
            return Ok(first.taken);
        }
        loop {
            let heard = self.arrived.listen();
            let Look { taken, now, next_visible } = self.take(options.max);
            if !taken.is_empty() || now >= deadline {
                return Ok(taken);
            }
            // So that a clock that is set back does not prolong the wait.
            deadline = deadline.min(now + options.wait);
            let wake_at = next_visible.map_or(deadline, |at| at.min(deadline));
            heard_or_at(&*self.shared.clock, heard, wake_at).await;
        }
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        let wakes = self.shared.with(|hub, now| hub.ack(&self.seats, receipts, now));
        wakes.wake(&self.shared.settled);
        Ok(())
    }

    async fn release(&self, releases: &[Release]) -> Result<()> {
        let wakes = self.shared.with(|hub, now| hub.release(&self.seats, releases, now));
        wakes.wake(&self.shared.settled);
        Ok(())
    }

    async fn reject(&self, rejections: &[Rejection]) -> Result<()> {
        let rejected =
            self.shared.change(|hub, now| hub.reject(&self.seats, &self.group, rejections, now));
        rejected.map_err(|full| full.error("reject"))
    }
}

impl fmt::Debug for MemoryConsumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryConsumer").field("group", &self.group).finish_non_exhaustive()
    }
}
