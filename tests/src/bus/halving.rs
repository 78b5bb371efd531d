//! A batch of which one item can never be accepted, through one of the loops.

use std::collections::BTreeSet;
use std::future::pending;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use expirer_core::event::{Event, OpenStatus, OrderCreated};
use expirer_core::flow::{Env, Limits, Scheduler};
use expirer_core::{
    DelayQueue, Error, ErrorKind, Group, Lease, LeaseOptions, Message, OrderId, QueueCapabilities,
    QueueStats, Receipt, Release, Result, Silent, Subject, Timer, Timestamp,
};
use futures_lite::future::or;

use super::stage::{BREATH, LIMIT, QUIET, Stage};
use crate::harness::BusHarness;
use crate::lock;

const BATCH: u32 = 256;
const REFUSED: u32 = 100;

/// A queue that takes every timer but one, and refuses every batch which has that in it.
#[derive(Debug, Default)]
struct Picky {
    taken: Mutex<BTreeSet<OrderId>>,
    calls: Mutex<u32>,
}

fn id(number: u32) -> OrderId {
    OrderId::new(number.to_string()).expect("it is short")
}

#[async_trait]
impl DelayQueue for Picky {
    async fn schedule(&self, timers: &[Timer]) -> Result<()> {
        *lock(&self.calls) += 1;
        if timers.iter().any(|timer| timer.id == id(REFUSED)) {
            return Err(Error::new(ErrorKind::Invalid, "picky", "schedule", "not that one"));
        }
        lock(&self.taken).extend(timers.iter().map(|timer| timer.id.clone()));
        Ok(())
    }

    async fn cancel(&self, _: &[OrderId]) -> Result<()> {
        Ok(())
    }

    async fn lease(&self, _: LeaseOptions) -> Result<Vec<Lease>> {
        Ok(Vec::new())
    }

    async fn ack(&self, _: &[Receipt]) -> Result<()> {
        Ok(())
    }

    async fn release(&self, _: &[Release]) -> Result<()> {
        Ok(())
    }

    async fn stats(&self) -> Result<QueueStats> {
        Ok(QueueStats::default())
    }

    fn capabilities(&self) -> QueueCapabilities {
        QueueCapabilities::new("picky")
    }
}

fn created(number: u32) -> Message {
    Event::OrderCreated(OrderCreated {
        id: id(number),
        version: 0,
        status: OpenStatus::Created,
        user_id: None,
        expires_at: Timestamp::MAX,
        ticket: None,
    })
    .message()
}

/// Works until the queue has all but the one, and nothing is left.
async fn work_off(stage: &Stage<'_>, queue: &Arc<Picky>) {
    let mut limits = Limits::default();
    limits.batch_max = BATCH as usize;
    let clock = Arc::clone(stage.harness.time().clock());
    let env = Env::new(clock, Arc::new(Silent)).with_limits(limits).expect("they hold");
    let scheduler = Scheduler::new(Arc::clone(&stage.bus), Arc::<Picky>::clone(queue), env);
    let (end, group) = (stage.now() + LIMIT, Group::EXPIRATION_SERVICE);
    let done = async {
        loop {
            let progress = stage.progress_on(group.as_str(), &Subject::OrderCreated).await;
            let taken = lock(&queue.taken).len();
            if taken as u32 == BATCH - 1 && progress.waiting + progress.unacked == 0 {
                return;
            }
            assert!(stage.now() < end, "expected all but one, came {taken}; left {progress:?}");
            stage.pause(BREATH).await;
        }
    };
    or(scheduler.run(pending()), done).await;
}

pub(super) async fn one_invalid_item_of_a_batch_rejects_only_itself(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let group = Group::EXPIRATION_SERVICE;
    let operator = stage.join_on("operator", &[Subject::Dead(group.clone())]).await;
    drop(stage.join_on(group.as_str(), &[Subject::OrderCreated, Subject::OrderCancelled]).await);
    stage.send(&(0..BATCH).map(created).collect::<Vec<_>>()).await;

    let queue = Arc::new(Picky::default());
    work_off(&stage, &queue).await;
    let calls = *lock(&queue.calls);
    assert!(calls < BATCH / 4, "expected halving, came {calls} calls");
    let letter = operator.next().await;
    assert_eq!(letter.message.payload, created(REFUSED).payload);
    operator.ack(&[letter]).await;
    operator.gets_nothing_for(QUIET).await;
}
