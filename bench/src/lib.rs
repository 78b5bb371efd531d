//! What the benchmarks share.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures the machine's time")]

pub mod burst;
pub mod queue;
pub mod report;
pub mod server;
pub mod steady;
pub mod wheel;
