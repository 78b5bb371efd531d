//! Redis (6.2 and later) and Valkey, one node or a cluster.
//!
//! # Delivery
//! At least once. The server's clock decides what is due; receipts are fenced.

pub mod bus;
mod connection;
mod error;
mod inspect;
mod join;
mod layout;
pub mod queue;
pub mod repo;
mod script;
mod target;
mod url;

pub use bus::RedisBus;
pub use queue::RedisQueue;
pub use repo::RedisRepo;

/// How errors and capabilities name this backend.
const BACKEND: &str = "redis";
/// What precedes our own keys where the URL has no prefix.
const PREFIX: &str = "expirer";
