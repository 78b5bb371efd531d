//! The event bus in memory.

mod consumer;
mod cursor;
mod hub;
mod ids;
mod log;
mod tail;
#[cfg(test)]
mod tests;
mod topic;
mod wakes;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use event_listener::Event;
use expirer_core::{
    BusCapabilities, Clock, Consumer, Error, ErrorKind, EventBus, Group, Message, Progress, Result,
    Subject, SubscribeOptions, Tail, Timestamp,
};

pub(crate) use self::consumer::MemoryConsumer;
#[cfg(feature = "stdio")]
pub(crate) use self::hub::Backlog;
use self::hub::{Fits, Full, Hub};
use self::tail::MemoryTail;
use self::wakes::Wakes;
use super::{BACKEND, lock};

/// How many messages of a subject may wait for a group to settle them. Beyond this, publishing is
/// refused as [`Overloaded`](expirer_core::ErrorKind::Overloaded).
pub const SUBJECT_MESSAGES_MAX: u64 = 1 << 20;

/// How many messages of a subject are kept after every group has settled them, for groups to come.
pub const RETAINED_MAX: usize = 1024;

/// How many messages of a subject are kept that no group has ever read; the newest.
pub const UNREAD_RETAINED_MAX: u64 = 1 << 16;

/// How many bytes of payload of a subject may wait for a group to settle them, likewise.
pub const SUBJECT_BYTES_MAX: u64 = 1 << 28;

/// How many messages wait for a slow tail; the newest.
pub const TAIL_MESSAGES_MAX: usize = 1024;

/// How many messages one call hands out, whatever was asked for.
const RECEIVE_MAX: usize = 1 << 16;

/// How many subjects there can be, dead letters included: a receipt has 16 bits for them.
const SUBJECTS_MAX: usize = 1 << 16;

/// An event bus within one process. A clone is the same bus.
///
/// See [`memory`](crate::memory) for what it guarantees.
#[derive(Clone)]
pub struct MemoryBus {
    shared: Arc<Shared>,
}

/// How many messages are kept for groups to come.
#[derive(Clone, Copy)]
struct Retention {
    /// On a subject that has a group: the newest that every group has settled.
    settled: usize,
    /// On a subject that has none: the newest.
    unread: u64,
}

struct Shared {
    clock: Arc<dyn Clock>,
    hub: Mutex<Hub>,
    settled: Event,
}

impl MemoryBus {
    /// An empty bus. The ids of its messages begin with `seed`, which tells them from those of
    /// other processes.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, seed: u64) -> Self {
        let retention = Retention { settled: RETAINED_MAX, unread: UNREAD_RETAINED_MAX };
        Self::retaining(clock, seed, retention)
    }

    /// A bus whose groups are all there from the beginning, so that it keeps nothing for others.
    #[cfg(feature = "stdio")]
    pub(crate) fn retaining_nothing(clock: Arc<dyn Clock>, seed: u64) -> Self {
        Self::retaining(clock, seed, Retention { settled: 0, unread: 0 })
    }

    fn retaining(clock: Arc<dyn Clock>, seed: u64, retention: Retention) -> Self {
        let hub = Mutex::new(Hub::new(seed, clock.now(), retention));
        Self { shared: Arc::new(Shared { clock, hub, settled: Event::new() }) }
    }

    /// Publishes all messages, or none of them.
    ///
    /// # Errors
    /// `Overloaded` while a group has not settled enough of a subject.
    pub(crate) fn publish_now(&self, messages: &[Message]) -> Result<()> {
        let published = self.shared.change(|hub, now| hub.publish(messages, now));
        published.map_err(|full| full.error("publish"))
    }

    /// Whether all of a batch could be published now.
    #[cfg(feature = "stdio")]
    pub(crate) fn has_room_for(&self, messages: &[Message]) -> bool {
        self.shared.hub().make_room(messages).is_ok()
    }

    /// How much lies before the slowest group.
    #[cfg(feature = "stdio")]
    pub(crate) fn backlog(&self) -> Backlog {
        self.shared.hub().backlog()
    }

    /// How many messages some group has not settled, over all subjects that have a group.
    #[cfg(test)]
    pub(crate) fn outstanding(&self) -> u64 {
        self.shared.hub().outstanding()
    }

    /// How many messages were ever stored, if every group has settled all of them.
    #[cfg(feature = "stdio")]
    pub(crate) fn settled_count(&self) -> Option<u64> {
        let hub = self.shared.hub();
        (hub.outstanding() == 0).then(|| hub.stored())
    }

    /// How many messages were ever stored.
    #[cfg(test)]
    pub(crate) fn stored(&self) -> u64 {
        self.shared.hub().stored()
    }

    /// Hears from now on when messages are settled, or put off.
    #[cfg(any(test, feature = "stdio"))]
    pub(crate) fn settled(&self) -> event_listener::EventListener {
        self.shared.settled.listen()
    }

    /// Joins a group; what [`subscribe`](EventBus::subscribe) does.
    ///
    /// # Errors
    /// `Overloaded` where there are too many subjects.
    pub(crate) fn join(&self, options: SubscribeOptions) -> Result<MemoryConsumer> {
        let consumer = MemoryConsumer::join(Arc::clone(&self.shared), options);
        consumer.map_err(|full| full.error("subscribe"))
    }
}

impl Shared {
    fn hub(&self) -> MutexGuard<'_, Hub> {
        lock(&self.hub)
    }

    /// Looks or changes something under the lock, with the time read under it.
    fn with<T>(&self, act: impl FnOnce(&mut Hub, Timestamp) -> T) -> T {
        let mut hub = self.hub();
        let now = self.clock.now();
        act(&mut hub, now)
    }

    /// Changes something under the lock, then wakes those whom it concerns.
    fn change(&self, act: impl FnOnce(&mut Hub, Timestamp) -> Fits<Wakes>) -> Fits<()> {
        self.with(act).map(|wakes| wakes.wake(&self.settled))
    }
}

#[async_trait]
impl EventBus for MemoryBus {
    async fn publish(&self, messages: &[Message]) -> Result<()> {
        self.publish_now(messages)
    }

    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Consumer>> {
        Ok(Box::new(self.join(options)?))
    }

    async fn tail(&self, subjects: &[Subject]) -> Result<Box<dyn Tail>> {
        Ok(Box::new(MemoryTail::open(Arc::clone(&self.shared), subjects)))
    }

    async fn progress(&self, group: &Group, subject: &Subject) -> Result<Progress> {
        Ok(self.shared.with(|hub, now| hub.progress(group, subject, now)))
    }

    fn capabilities(&self) -> BusCapabilities {
        let mut capabilities = BusCapabilities::new(BACKEND);
        capabilities.watermark = true;
        capabilities.retains = true;
        capabilities.fenced = true;
        capabilities.headers = true;
        capabilities
    }
}

impl Full {
    fn error(self, op: &'static str) -> Error {
        Error::new(ErrorKind::Overloaded, BACKEND, op, self.to_string())
    }
}

impl fmt::Debug for MemoryBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryBus").finish_non_exhaustive()
    }
}
