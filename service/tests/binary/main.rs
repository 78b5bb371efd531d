//! The real binary, as its users run it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod configuration;
mod http;
mod probe;
mod process;
#[cfg(all(feature = "redis", feature = "servers"))]
mod redis;
#[cfg(all(feature = "redis", feature = "servers"))]
#[expect(dead_code, reason = "other tests need more of them")]
#[path = "../../../tests/it/tests/servers"]
mod servers {
    pub(crate) mod certificates;
    pub(crate) mod ports;
    pub(crate) mod process;
    pub(crate) mod redis;
}
mod signals;
#[cfg(feature = "stdio")]
mod stdio;
