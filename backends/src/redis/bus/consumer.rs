//! One member of a group, as its owner calls it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use expirer_core::{
    Consumer, Delivery, Error, ErrorKind, Receipt, ReceiveOptions, Rejection, Release, Result,
    Timestamp,
};
use futures_lite::future;
use tokio::sync::oneshot;

use super::member::{Look, Member};
use crate::redis::BACKEND;

/// The shortest pause between two looks.
const PAUSE_MIN: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(super) struct RedisConsumer {
    member: Arc<Member>,
}

impl RedisConsumer {
    pub(super) const fn new(member: Arc<Member>) -> Self {
        Self { member }
    }

    /// Looks on a task of its own: if nobody waits for the result any more, what it took is given
    /// back at once.
    async fn look(&self, max: usize) -> Result<Look> {
        let (result, looked) = oneshot::channel();
        let member = Arc::clone(&self.member);
        tokio::spawn(async move {
            drop(result.send(Arc::clone(&member).look(max).await));
            member.do_chores().await;
        });
        looked.await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Unavailable, BACKEND, "receive", "the runtime has ended"))
        })
    }

    /// Waits until it is worth looking again, but not beyond `deadline`.
    async fn wait(&self, look: &Look, now: Timestamp, deadline: Timestamp) {
        let seen = look.seen();
        let watch = &self.member.shared.watch;
        let poll = watch.poll(&seen);
        let next = look.next.map_or(poll, |next| next.max(PAUSE_MIN).min(poll));
        let until = deadline.min(now + next);
        future::or(watch.news(&seen), self.member.shared.clock.sleep_until(until)).await;
    }
}

#[async_trait]
impl Consumer for RedisConsumer {
    async fn receive(&self, options: ReceiveOptions) -> Result<Vec<Delivery>> {
        let clock = &self.member.shared.clock;
        let mut deadline = clock.now() + options.wait;
        loop {
            let look = self.look(options.max.max(1)).await?;
            let now = clock.now();
            if !look.is_empty() || now >= deadline {
                return Ok(look.accept());
            }
            // So that a clock that is set back does not prolong the wait.
            deadline = deadline.min(now + options.wait);
            self.wait(&look, now, deadline).await;
        }
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        self.member.ack(receipts).await
    }

    async fn release(&self, releases: &[Release]) -> Result<()> {
        self.member.release(releases).await
    }

    async fn reject(&self, rejections: &[Rejection]) -> Result<()> {
        self.member.reject(rejections).await
    }
}
