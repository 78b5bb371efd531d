//! Expirer's backends, chosen by URL: see [`connect`].

#[cfg(feature = "tokio")]
mod clock;
pub mod connect;
pub mod memory;
mod options;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(feature = "stdio")]
pub mod stdio;

#[cfg(feature = "tokio")]
pub use clock::TokioClock;
