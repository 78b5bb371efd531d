//! Something must happen later, once, and for certain: the pure core of Expirer.
//!
//! An order is open until it expires. If nobody has paid by then, it is cancelled, and that is
//! announced once. This crate holds everything about that except input and output: the state
//! machines, the traits that a broker has to fulfil, and the five loops between them. It has no
//! runtime, no clock, no randomness and no broker's name in it; all of these are arguments.
//!
//! # Three ways to use it
//!
//! **As a decision.** [`order::apply`] is one total function from a state and an input to the next
//! state and the events that are owed for it. It fits into any transaction of yours:
//!
//! ```
//! use expirer_core::event::{OrderCreated, Payload};
//! use expirer_core::order::{Effect, Input, apply};
//! use expirer_core::{PaymentId, Timestamp};
//!
//! let event = OrderCreated::decode(
//!     br#"{ "id": "o1", "expiresAt": "2026-11-22T10:00:00Z", "ticket": { "id": "t1" } }"#,
//! )?;
//! let (id, due, ticket) = (event.id.clone(), event.expires_at, event.ticket.clone().unwrap());
//! let open = apply(&id, None, &Input::Created(event, ticket, None), Timestamp::EPOCH)?;
//!
//! // Paid in time: the expiry that comes later changes nothing.
//! let paid = Input::Paid(PaymentId::new("p1")?);
//! let complete = apply(&id, open.state.as_ref(), &paid, due)?;
//! let expire = Input::Expire { payments_applied_until: due };
//! let late = apply(&id, complete.state.as_ref(), &expire, due)?;
//! assert_eq!((complete.effect, late.effect), (Effect::Completed, Effect::Nothing));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! **As a timer queue.** [`wheel::Wheel`] holds many timers by time and by id, with leases, and
//! takes the time as an argument; it sits well behind a lock or on a thread of its own.
//!
//! **As loops.** Give the loops of [`flow`] a [`DelayQueue`], an [`EventBus`], an [`OrderRepo`], a
//! [`Clock`] and an [`Observer`], and spawn each `run` on your executor, as often as you want. The
//! crate `expirer-backends` has those for memory; its example `embed` is a whole service.
//!
//! # What holds
//!
//! * The order decides; a queue only says that it may be time. Queues and buses may be
//!   at-least-once and unordered.
//! * The row is the outbox: a commit writes the new state together with what it owes; that is
//!   published and confirmed, then cleared; only then is the message acked.
//! * A payment that is there in time counts, even unread: see [`Progress::worked_off`].
//! * Nothing is given up but poison, and that goes to the dead letters with its reason.
//!
//! # Where to look
//!
//! | module | what |
//! |---|---|
//! | [`order`] | the order's state machine |
//! | [`timer`], [`wheel`] | the timer's state machine; many timers at once |
//! | [`event`] | the wire: subjects, payloads, messages |
//! | [`queue`], [`bus`], [`repo`], [`clock`], [`observe`] | the traits |
//! | [`flow`] | the five loops |
//!
//! The feature `mock` adds [mockall](https://docs.rs/mockall) mocks of the traits, for your tests.

pub mod bus;
pub mod clock;
mod error;
pub mod event;
pub mod flow;
mod id;
pub mod observe;
pub mod order;
pub mod queue;
pub mod repo;
pub mod timer;
mod timestamp;
mod trace;
pub mod wheel;

pub use bus::{
    BusCapabilities, Consumer, Delivery, EventBus, Progress, ReceiveOptions, Rejection,
    SubscribeOptions, Tail, TailBatch,
};
pub use clock::Clock;
pub use error::{Error, ErrorKind, Result};
pub use event::{Group, Headers, Message, Subject};
pub use id::{ID_BYTES_MAX, InvalidId, MessageId, OrderId, PaymentId, TicketId, UserId};
pub use observe::{Observer, Signal, Silent};
pub use queue::{DelayQueue, Lease, LeaseOptions, QueueCapabilities, QueueStats, Receipt, Release};
pub use repo::{Change, OrderRepo, Outcome, OverdueOptions, Record, RepoCapabilities, Revision};
pub use timer::Timer;
pub use timestamp::{InvalidTimestamp, Timestamp};
pub use trace::{InvalidTraceParent, TraceParent};
pub use wheel::Wheel;

/// What the mocks are made of, for sequences and predicates in your own tests.
#[cfg(feature = "mock")]
pub mod mock {
    pub use mockall::{Sequence, predicate};

    pub use crate::bus::{MockConsumer, MockEventBus, MockTail};
    pub use crate::clock::MockClock;
    pub use crate::observe::MockObserver;
    pub use crate::queue::MockDelayQueue;
    pub use crate::repo::MockOrderRepo;
}
