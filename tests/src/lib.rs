//! Proves that a backend keeps what the traits of [`expirer_core`] promise.
//!
//! * [`Suite`]: one named test per case, for a [`DelayQueue`](expirer_core::DelayQueue), an
//!   [`EventBus`](expirer_core::EventBus) or an [`OrderRepo`](expirer_core::OrderRepo), on a
//!   [`Harness`] that you provide.
//! * [`model`]: any sequence of calls on a queue, against the core's timer machine.
//! * [`faults`]: wrappers that suspend, fail and lose.
//! * [`sim`]: the five loops on virtual time under every fault there is, by a seed.
//! * [`planted`]: classic mistakes, which the simulation has to find.
//! * [`time`]: virtual time, and clocks on it that may be wrong.
//!
//! `docs/testing.md` shows all of it on a queue of one's own, `examples/toy-queue` is that queue.

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

/// What a lock protects here is counters and lists: sound even if a thread panicked with it.
fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// A duration in whole milliseconds.
fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The output of a future that has everything it needs.
///
/// # Panics
/// If it has to wait: a backend that is simulated does every call but `lease` and `receive` in its
/// first poll.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    let done = futures_lite::future::block_on(futures_lite::future::poll_once(future));
    done.expect("a backend that is simulated does a call in one poll, without waiting")
}
