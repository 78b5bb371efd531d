//! The five loops on the backends in memory, on virtual time, in one thread, from a seed: crashed
//! at any await point, with faults before and after every effect.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod crash;
mod executor;
mod faults;
mod stage;
