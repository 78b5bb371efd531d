//! The event bus: messages by subject, consumer groups, a live tail, dead letters.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;

use crate::{Group, Message, Receipt, Release, Result, Subject, Timestamp};

/// Publishes messages and delivers each to every group, at least once, unordered.
///
/// *Batches*, *concurrency*, *retries* and *blocking* are as for
/// [`DelayQueue`](crate::DelayQueue).
#[cfg_attr(any(test, feature = "mock"), mockall::automock)]
#[async_trait]
pub trait EventBus: Debug + Send + Sync + 'static {
    /// Publishes messages; returns when the broker has confirmed all of them.
    ///
    /// A message without an id gets a fresh one. A broker that recognises repeats by id may store
    /// a repeat only once, within its window.
    ///
    /// *Guarantee*: on `Ok`, every group that exists will get every message.
    /// *Dropped*: each message is published or not, possibly later; repeat the call.
    async fn publish(&self, messages: &[Message]) -> Result<()>;

    /// Joins a group on some subjects, and creates it where it is new: it then sees every
    /// message from the oldest retained one on (see [`BusCapabilities::retains`]). Members of a
    /// group compete; groups do not. They may follow different subjects, each with a deadline of its
    /// own.
    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Consumer>>;

    /// Follows some subjects live: from now on, no acks, nothing left behind, lossy when slow.
    async fn tail(&self, subjects: &[Subject]) -> Result<Box<dyn Tail>>;

    /// How far a group has come on a subject. The counts may be a little behind. The watermark may be
    /// behind too, is never ahead, and does not go back: nothing is stored before it any more. A
    /// backend that cannot tell for a while, as where a stream is ahead of its server's clock, says
    /// 1970, which is always true. A group or a subject that nobody has used yet has nothing waiting
    /// and nothing held.
    async fn progress(&self, group: &Group, subject: &Subject) -> Result<Progress>;

    /// What this backend can and cannot do.
    fn capabilities(&self) -> BusCapabilities;
}

/// One member of a group.
///
/// Dropping it gives nothing back at once: what it held comes to another member when its ack
/// deadline ends. Release what is held before dropping.
#[cfg_attr(any(test, feature = "mock"), mockall::automock)]
#[async_trait]
pub trait Consumer: Debug + Send + Sync + 'static {
    /// Takes messages: at most `max`, as soon as there is one; none once `wait` is over, and not
    /// before.
    ///
    /// *Dropped*: nothing is lost; what a dropped call had taken comes back after the ack deadline.
    async fn receive(&self, options: ReceiveOptions) -> Result<Vec<Delivery>>;

    /// Settles deliveries: the group is done with them. Stale and unknown receipts are `Ok`.
    async fn ack(&self, receipts: &[Receipt]) -> Result<()>;

    /// Gives deliveries back, to come again at the given times, by the caller's clock (see
    /// [`Release::at`]). Stale and unknown ones are `Ok`.
    async fn release(&self, releases: &[Release]) -> Result<()>;

    /// Moves poison to the dead letters of the group ([`Subject::Dead`]) with its reason, subject
    /// and time in the headers, beside those that the message had; that is published and confirmed before the original is settled.
    /// Stale and unknown receipts are `Ok`.
    async fn reject(&self, rejections: &[Rejection]) -> Result<()>;
}

/// A live view of some subjects.
#[cfg_attr(any(test, feature = "mock"), mockall::automock)]
#[async_trait]
pub trait Tail: Debug + Send + Sync + 'static {
    /// Takes what has come since: at most `max`, as soon as there is one; none once `wait` is over,
    /// and not before.
    ///
    /// *Dropped*: nothing is lost that the next call would not bring.
    async fn receive(&self, options: ReceiveOptions) -> Result<TailBatch>;
}

/// How to [`subscribe`](EventBus::subscribe).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SubscribeOptions {
    /// The subjects to follow.
    pub subjects: Vec<Subject>,
    /// The group to join.
    pub group: Group,
    /// A delivery that is not settled within this comes again, to any member.
    pub ack_deadline: Duration,
}

impl SubscribeOptions {
    /// Joins `group` on `subjects`, with an ack deadline of 10 s.
    #[must_use]
    pub fn new(group: Group, subjects: impl Into<Vec<Subject>>) -> Self {
        Self { subjects: subjects.into(), group, ack_deadline: Duration::from_secs(10) }
    }

    /// Sets the ack deadline.
    #[must_use]
    pub const fn with_ack_deadline(mut self, ack_deadline: Duration) -> Self {
        self.ack_deadline = ack_deadline;
        self
    }
}

/// How to receive, from a [`Consumer`] or a [`Tail`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReceiveOptions {
    /// At most this many messages; zero is taken as one.
    pub max: usize,
    /// How long to wait for the first one.
    pub wait: Duration,
}

impl ReceiveOptions {
    /// At most `max` messages, without waiting.
    #[must_use]
    pub const fn new(max: usize) -> Self {
        Self { max, wait: Duration::ZERO }
    }

    /// Waits this long for the first message.
    #[must_use]
    pub const fn with_wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }
}

/// A message, ours until the ack deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery {
    /// The message, its id included where the broker keeps one.
    pub message: Message,
    /// When the bus stored it, by the bus's clock.
    pub published: Timestamp,
    /// How many times it has been delivered to this group, this one included.
    pub attempt: u32,
    /// Proof of this delivery.
    pub receipt: Receipt,
}

impl Delivery {
    /// A first delivery; for backends.
    #[must_use]
    pub const fn new(message: Message, published: Timestamp, receipt: Receipt) -> Self {
        Self { message, published, attempt: 1, receipt }
    }

    /// Says how many times the message has been delivered.
    #[must_use]
    pub const fn with_attempt(mut self, attempt: u32) -> Self {
        self.attempt = attempt;
        self
    }
}

/// One delivery that is poison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// What to reject.
    pub receipt: Receipt,
    /// Why, for the person who reads the dead letters.
    pub reason: String,
}

/// What a [`Tail`] brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TailBatch {
    /// The messages, in the order in which the bus stored them, a subject at a time at least.
    pub messages: Vec<Message>,
    /// How many were dropped before these because the tail was slow, as far as the bus counts.
    pub missed: u64,
}

impl TailBatch {
    /// Messages with none missed; for backends.
    #[must_use]
    pub const fn new(messages: Vec<Message>) -> Self {
        Self { messages, missed: 0 }
    }

    /// Says how many were dropped.
    #[must_use]
    pub const fn with_missed(mut self, missed: u64) -> Self {
        self.missed = missed;
        self
    }
}

/// How far a group has come on a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Messages that have not been delivered to the group.
    pub waiting: u64,
    /// Messages that were delivered and are not settled, released ones included.
    pub unacked: u64,
    /// The watermark, by the bus's clock: everything stored before it has been settled by the
    /// group. `None` where [`BusCapabilities::watermark`] says that the backend cannot tell.
    pub worked_off: Option<Timestamp>,
}

impl Progress {
    /// Counts without a watermark; for backends.
    #[must_use]
    pub const fn new(waiting: u64, unacked: u64) -> Self {
        Self { waiting, unacked, worked_off: None }
    }

    /// Adds the watermark.
    #[must_use]
    pub const fn with_worked_off(mut self, worked_off: Timestamp) -> Self {
        self.worked_off = Some(worked_off);
        self
    }

    /// Until when the group has settled everything, as far as the backend can tell: without a
    /// watermark, until it was `asked` if nothing was waiting or held by then, else never.
    #[must_use]
    pub const fn settled_until(&self, asked: Timestamp) -> Timestamp {
        match self.worked_off {
            Some(worked_off) => worked_off,
            None if self.waiting == 0 && self.unacked == 0 => asked,
            None => Timestamp::MIN,
        }
    }
}

/// What a bus can and cannot do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BusCapabilities {
    /// The backend's name.
    pub backend: &'static str,
    /// A confirmed message survives a restart of the backend.
    pub durable: bool,
    /// [`Progress::worked_off`] is known.
    pub watermark: bool,
    /// A stale receipt does nothing.
    pub fenced: bool,
    /// Messages carry headers.
    pub headers: bool,
    /// A group that is created later sees what was published before it, as far as that is kept.
    /// Without it, a group has to be there before the first message that it shall see.
    pub retains: bool,
}

impl BusCapabilities {
    /// A bus that promises nothing; for backends to build on.
    #[must_use]
    pub const fn new(backend: &'static str) -> Self {
        Self {
            backend,
            durable: false,
            watermark: false,
            fenced: false,
            headers: false,
            retains: false,
        }
    }
}
