//! The five loops, each written once against the traits: batch in, batch out.
//!
//! | loop | takes | does, and then acks |
//! |---|---|---|
//! | [`Scheduler`] | `order:created`; `order:cancelled` | schedules; cancels the timer |
//! | [`Expirer`] | a lease on a due timer | publishes `expiration:complete`, awaits the confirmation |
//! | [`Recorder`] | `order:created`, `payment:created`, `order:cancelled` | keeps the repository in step |
//! | [`Canceller`] | `expiration:complete` | loads, decides, commits, publishes what the record owes |
//! | [`Reconciler`] | what is overdue | schedules again; publishes what has been owed too long |
//!
//! Every `run` may be spawned as often as wanted on one value. None ends before its `stop` does:
//! a fault is reported and waited out with a [`Backoff`], whatever it is and however long it
//! lasts. Once `stop` ends, a loop takes nothing new, finishes the batch in hand, and returns.
//! [`Orders`] is the same transaction for one order at a time, on request.

mod announce;
mod backoff;
mod bisect;
mod canceller;
mod consume;
mod env;
mod expirer;
mod ledger;
mod orders;
mod reconciler;
mod recorder;
mod scheduler;
mod tally;
#[cfg(test)]
mod tests;

pub use backoff::{Backoff, delay_after};
pub use bisect::{BoxFuture, bisect};
pub use canceller::{Canceller, UNKNOWN_MAX};
pub use env::{Env, Limits};
pub use expirer::Expirer;
pub use orders::{Orders, OrdersError};
pub use reconciler::{Pass, Reconciler};
pub use recorder::Recorder;
pub use scheduler::Scheduler;

/// How often a commit may lose against other writers before the batch is given back.
const CONFLICT_ROUNDS_MAX: usize = 8;
