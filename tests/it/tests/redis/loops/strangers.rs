//! Other services, which write events with `redis-cli`.

use expirer_core::Timestamp;

use crate::replicas::announced::{Announced, Placed};
use crate::servers::redis::RedisServer;

/// The stream on which cancellations are announced.
pub(super) const CANCELLED: &str = "bus:{order:cancelled}";

/// Writes it in its order, by one program: a machine that is busy takes a while to start one for
/// each.
///
/// # Panics
/// If the server does not take all of it.
pub(super) fn write(announced: Announced, server: &RedisServer) -> Vec<Placed> {
    let command = |(subject, data)| format!("XADD bus:{{{subject}}} * data '{data}'");
    let commands: Vec<_> = announced.events().map(command).collect();
    let entries = server.cli_lines(&commands);
    let stored: Vec<_> = entries.iter().map(|entry| stored_at(entry)).collect();
    announced.stored(&stored)
}

fn stored_at(entry: &str) -> Timestamp {
    let stored = entry.split_once('-').and_then(|(millis, _)| millis.parse().ok());
    let stored = stored.unwrap_or_else(|| panic!("expected an entry, came {entry}"));
    Timestamp::from_millis(stored)
}
