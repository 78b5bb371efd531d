//! The real binary, as its users run it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod configuration;
mod http;
mod process;
mod signals;
#[cfg(feature = "stdio")]
mod stdio;
