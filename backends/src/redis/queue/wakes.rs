//! Hearing of an earlier timer that somebody else stored.
//!
//! A script that stores a new earliest timer publishes its time. One task for each handle listens
//! and lowers what everybody here waits for; no command is sent until that time has come. A
//! message can be lost with the connection: who waits looks again when the task has subscribed
//! anew, and every second or so in any case (see [`poll`]).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use event_listener::Event;
use expirer_core::{Clock, Timestamp};
use futures_lite::{StreamExt, future};
use redis::Msg;
use redis::aio::PubSub;
use slab::Slab;
use tokio::task::AbortHandle;

use crate::redis::connection::Connection;

/// For each shard, how long a waiter believes what it saw while it can hear: a look costs a script
/// call in each shard.
const POLL_PER_SHARD: Duration = Duration::from_millis(250);
const POLL_MIN: Duration = Duration::from_secs(1);
const POLL_MAX: Duration = Duration::from_secs(4);
/// So many times more often while it is deaf.
const DEAF: u32 = 4;
/// Pause before subscribing again.
const PAUSE: Duration = Duration::from_millis(250);
/// After so much silence, the connection is tried; and no answer within it ends the connection.
const SILENCE_MAX: Duration = Duration::from_secs(3);

/// What waiters of one handle hear.
#[derive(Debug, Default)]
pub(super) struct Wakes {
    /// For each waiter, the earliest time that was published since it last looked.
    heard: Mutex<Slab<Timestamp>>,
    event: Event,
    hears: AtomicBool,
    task: OnceLock<AbortHandle>,
}

/// One waiter's ear. It hears from its creation on.
#[derive(Debug)]
pub(super) struct Ear<'a> {
    wakes: &'a Wakes,
    key: usize,
}

impl Wakes {
    /// Starts to listen, with the first one who waits.
    pub(super) fn listen(
        self: &Arc<Self>,
        connection: &Arc<Connection>,
        channel: &str,
        clock: &Arc<dyn Clock>,
    ) {
        self.task.get_or_init(|| {
            let task = Listener {
                wakes: Arc::downgrade(self),
                connection: Arc::clone(connection),
                channel: channel.to_owned(),
                clock: Arc::clone(clock),
            };
            tokio::spawn(task.run()).abort_handle()
        });
    }

    pub(super) fn ear(&self) -> Ear<'_> {
        Ear { wakes: self, key: self.lock().insert(Timestamp::MAX) }
    }

    /// How long to believe what was seen in so many shards, as far as it hears now.
    pub(super) fn poll(&self, shards: usize) -> Duration {
        if self.hears.load(Ordering::SeqCst) { poll(shards) } else { poll(shards) / DEAF }
    }

    fn announce(&self, at: Timestamp) {
        for (_, heard) in self.lock().iter_mut() {
            *heard = at.min(*heard);
        }
        self.event.notify(usize::MAX);
    }

    /// From now on, nothing published is missed; what was before, may have been.
    fn hears_again(&self) {
        self.hears.store(true, Ordering::SeqCst);
        self.announce(Timestamp::MIN);
    }

    fn lock(&self) -> MutexGuard<'_, Slab<Timestamp>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

impl Ear<'_> {
    /// Forgets what was heard: the waiter is about to look for itself.
    pub(super) fn clear(&self) {
        if let Some(heard) = self.wakes.lock().get_mut(self.key) {
            *heard = Timestamp::MAX;
        }
    }

    /// Waits until something before `than` has been heard, and gives it. Cancel safe.
    pub(super) async fn earlier(&self, than: Timestamp) -> Timestamp {
        loop {
            let listener = self.wakes.event.listen();
            let heard = self.wakes.lock().get(self.key).copied();
            if let Some(heard) = heard.filter(|heard| *heard < than) {
                return heard;
            }
            listener.await;
        }
    }
}

impl Drop for Ear<'_> {
    fn drop(&mut self) {
        self.wakes.lock().try_remove(self.key);
    }
}

/// How long a waiter that hears believes what it saw in so many shards.
pub(super) fn poll(shards: usize) -> Duration {
    let shards = u32::try_from(shards).unwrap_or(u32::MAX);
    POLL_PER_SHARD.saturating_mul(shards).clamp(POLL_MIN, POLL_MAX)
}

/// The task that listens. It ends with the handle that it listens for.
struct Listener {
    wakes: Weak<Wakes>,
    connection: Arc<Connection>,
    channel: String,
    clock: Arc<dyn Clock>,
}

impl Listener {
    async fn run(self) {
        while self.wakes.strong_count() > 0 {
            if let Some(Some(subscription)) = self.within(self.subscribe()).await {
                self.follow(subscription).await;
            }
            self.clock.sleep_until(self.clock.now() + PAUSE).await;
        }
    }

    async fn subscribe(&self) -> Option<PubSub> {
        let mut subscription = self.connection.subscriber("wake").await.ok()?;
        subscription.subscribe(&self.channel).await.ok()?;
        Some(subscription)
    }

    /// Passes on what is published until the connection ends or falls silent.
    async fn follow(&self, subscription: PubSub) {
        let (mut sink, mut messages) = subscription.split();
        let Some(wakes) = self.wakes.upgrade() else { return };
        wakes.hears_again();
        drop(wakes);
        loop {
            match self.within(messages.next()).await {
                Some(Some(message)) => self.pass_on(&message),
                Some(None) => break,
                None if matches!(self.within(sink.ping::<()>()).await, Some(Ok(()))) => {}
                None => break,
            }
        }
        if let Some(wakes) = self.wakes.upgrade() {
            wakes.hears.store(false, Ordering::SeqCst);
        }
    }

    fn pass_on(&self, message: &Msg) {
        let text = std::str::from_utf8(message.get_payload_bytes());
        // Whatever it was meant to say, somebody wants us to look.
        let at = text.ok().and_then(|text| text.parse().ok()).map(Timestamp::from_millis);
        if let Some(wakes) = self.wakes.upgrade() {
            wakes.announce(at.unwrap_or(Timestamp::MIN));
        }
    }

    /// `None` if it took too long.
    async fn within<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let late = async {
            self.clock.sleep_until(self.clock.now() + SILENCE_MAX).await;
            None
        };
        future::or(async { Some(work.await) }, late).await
    }
}

#[cfg(test)]
mod tests {
    use futures_lite::future::{block_on, poll_once};

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    #[test]
    fn every_waiter_hears_the_earliest_since_it_looked() {
        let wakes = Wakes::default();
        let (one, other) = (wakes.ear(), wakes.ear());
        wakes.announce(at(5));
        wakes.announce(at(9));
        assert_eq!(block_on(one.earlier(at(8))), at(5));
        other.clear();
        assert_eq!(block_on(poll_once(other.earlier(at(8)))), None);
        assert_eq!(block_on(poll_once(one.earlier(at(5)))), None, "it knows that");
        wakes.announce(at(7));
        assert_eq!(block_on(other.earlier(at(8))), at(7));
        drop((one, other));
        assert!(wakes.lock().is_empty());
    }

    #[test]
    fn who_was_deaf_looks_at_once_and_more_often() {
        let wakes = Wakes::default();
        assert_eq!(wakes.poll(1), Duration::from_millis(250));
        let ear = wakes.ear();
        wakes.hears_again();
        assert_eq!(wakes.poll(1), Duration::from_secs(1));
        assert_eq!(wakes.poll(8), Duration::from_secs(2));
        assert_eq!(wakes.poll(64), Duration::from_secs(4));
        assert_eq!(block_on(ear.earlier(at(0))), Timestamp::MIN);
    }
}
