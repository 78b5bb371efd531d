//! Proves that a backend keeps what the traits of [`expirer_core`] promise.
//!
//! * [`Suite`]: one named test per case, for a [`DelayQueue`](expirer_core::DelayQueue), an
//!   [`EventBus`](expirer_core::EventBus) or an [`OrderRepo`](expirer_core::OrderRepo), on a
//!   [`Harness`] that you provide.
//! * [`model`]: any sequence of calls on a queue, against the core's timer machine.
//! * [`faults`]: wrappers that suspend, fail and lose.
//! * [`sim`]: the five loops on virtual time under every fault there is, by a seed.

#![expect(clippy::expect_used, reason = "a case fails by panicking")]

mod bus;
pub mod faults;
pub mod harness;
pub mod model;
pub mod planted;
mod queue;
mod repo;
pub mod sim;
mod suite;
pub mod time;

pub use harness::{BusHarness, Harness, QueueHarness, RepoHarness, Server, Time, Tolerance};
pub use suite::{Need, Suite};
