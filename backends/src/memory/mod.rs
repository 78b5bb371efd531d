//! Everything in this process: a bus, a delay queue and a repository that need no server.
//!
//! They are for a service that runs alone, for the `memory:` URLs, and for tests. They wait by
//! [`Clock`] and by wake-ups alone, so they run on any executor, and under a virtual clock
//! every run is the same. Nothing outlives the process.
//!
//! ```
//! # use std::sync::Arc;
//! # use expirer_core::{Clock, Timestamp};
//! use expirer_backends::memory::MemoryBus;
//! use expirer_core::{EventBus, Group, Message, ReceiveOptions, Subject, SubscribeOptions};
//! # #[derive(Debug)]
//! # struct Still;
//! # #[async_trait::async_trait]
//! # impl Clock for Still {
//! #     fn now(&self) -> Timestamp { Timestamp::EPOCH }
//! #     async fn sleep_until(&self, _: Timestamp) { std::future::pending().await }
//! # }
//! # fn main() -> expirer_core::Result<()> {
//! # futures_lite::future::block_on(async {
//! # let clock = Arc::new(Still);
//!
//! let bus = MemoryBus::new(clock, 7);
//! bus.publish(&[Message::new(Subject::OrderCreated, &b"{}"[..])]).await?;
//!
//! let options = SubscribeOptions::new(Group::ORDERS_SERVICE, [Subject::OrderCreated]);
//! let consumer = bus.subscribe(options).await?;
//! let delivered = consumer.receive(ReceiveOptions::new(256)).await?;
//! assert_eq!(delivered[0].attempt, 1);
//! consumer.ack(&[delivered[0].receipt]).await?;
//!
//! let progress = bus.progress(&Group::ORDERS_SERVICE, &Subject::OrderCreated).await?;
//! assert_eq!((progress.waiting, progress.unacked), (0, 0));
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # Delivery semantics
//!
//! * *At least once*: a message or timer that is not settled within its deadline comes again, with
//!   a higher attempt. A receipt is stale from the deadline on, even if nobody has taken
//!   the item since; a stale receipt does nothing.
//! * *Order*: a consumer gets what became visible again, in the order of those times, then what is
//!   new, in the order of publishing over all its subjects.
//! * *Watermark*: exact. A message that is stored later is never stamped earlier, also when the
//!   clock is set back.
//! * *Rejection*: the dead letter is stored and the original settled in one step.
//! * *Cancellation*: a `receive` or `lease` takes and returns in the same poll, so that one that
//!   is dropped has taken nothing. Every other call is done in its first poll.
//! * *Bounds*: [`SUBJECT_MESSAGES_MAX`] on a subject wait for its groups, beyond which publishing
//!   is refused as [`Overloaded`](expirer_core::ErrorKind::Overloaded);
//!   [`RETAINED_MAX`] that all groups have settled are kept for groups to come, or
//!   [`UNREAD_RETAINED_MAX`] where there has been no group yet. A group stays when its members
//!   leave, and so does what waits for it.
//! * *Records*: open orders and what is owed are kept for ever, the others for a time:
//!   see [`MemoryRepo`].

mod bus;
mod queue;
mod repo;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::{Mutex, MutexGuard, PoisonError};

use event_listener::EventListener;
use expirer_core::{Clock, Timestamp};
use futures_lite::future;

#[cfg(feature = "stdio")]
pub(crate) use self::bus::{Backlog, MemoryConsumer};
pub use self::bus::{
    MemoryBus, RETAINED_MAX, SUBJECT_BYTES_MAX, SUBJECT_MESSAGES_MAX, TAIL_MESSAGES_MAX,
    UNREAD_RETAINED_MAX,
};
pub use self::queue::MemoryQueue;
pub use self::repo::{AHEAD_KEEP, MemoryRepo};

const BACKEND: &str = "memory";

/// Nothing in here panics half-way through a change, so a poisoned lock protects sound data.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Waits for a wake-up that was registered before looking, at the latest until `at`.
async fn heard_or_at(clock: &dyn Clock, heard: EventListener, at: Timestamp) {
    future::or(heard, clock.sleep_until(at)).await;
}
