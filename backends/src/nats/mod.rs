//! NATS with JetStream, 2.9 and later, one server or a cluster.
//!
//! # Delivery
//! At least once. The server's clock decides what is due and when something was stored; receipts
//! are refused here after their deadline, and not by the server (`fenced` is false).

pub mod bus;
mod connection;
mod error;
mod inspect;
mod names;
pub mod queue;
mod replies;
pub mod repo;
mod target;
mod url;

pub use bus::NatsBus;
pub use queue::NatsQueue;
pub use repo::NatsRepo;

/// How errors and capabilities name this backend.
const BACKEND: &str = "nats";
/// What precedes our own streams and subjects where the URL has no prefix.
const PREFIX: &str = "expirer";
