//! What the benchmarks share.

pub mod wheel;
