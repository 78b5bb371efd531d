//! Expirer's backends, chosen by URL: see [`connect`].

#[cfg(feature = "tokio")]
mod clock;
pub mod connect;
#[cfg(feature = "nats")]
mod hold;
#[cfg(any(feature = "nats", feature = "redis"))]
mod keep;
mod leaving;
pub mod memory;
#[cfg(feature = "nats")]
pub mod nats;
mod options;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(any(feature = "nats", feature = "redis"))]
mod rounds;
#[cfg(feature = "stdio")]
pub mod stdio;
#[cfg(any(feature = "nats", feature = "redis"))]
mod timers;
#[cfg(any(feature = "nats", feature = "redis"))]
mod url;

#[cfg(feature = "tokio")]
pub use clock::TokioClock;
