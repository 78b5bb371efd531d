//! A part of a queue that lives in one hash slot: its keys, and the calls on them.

use std::time::Duration;

use expirer_core::{OrderId, Timer};

use crate::redis::layout::Kind;
use crate::redis::script::{Call, Script};

/// The most timers in one script call: it holds up the server for about a millisecond.
pub(super) const ITEMS_MAX: usize = 256;
/// The most timers that one script call leases.
pub(super) const CLAIM_MAX: usize = 128;

static SCHEDULE: Script = Script::new("schedule", include_str!("../scripts/queue/schedule.lua"));
static CANCEL: Script = Script::new("cancel", include_str!("../scripts/queue/cancel.lua"));
static LEASE: Script = Script::new("lease", include_str!("../scripts/queue/lease.lua"));
static ACK: Script = Script::new("ack", include_str!("../scripts/queue/ack.lua"));
static RELEASE: Script = Script::new("release", include_str!("../scripts/queue/release.lua"));
static STATS: Script = Script::new("stats", include_str!("../scripts/queue/stats.lua"));

/// One shard's keys.
#[derive(Clone, Debug)]
pub(super) struct Shard {
    /// Sorted set: id by the time from which it is visible. All that a pending timer costs.
    due: String,
    /// Sorted set: id by the end of its lease.
    leased: String,
    /// Hash: id to `token due attempts duration`, for what is leased or was given back.
    held: String,
    /// The channel on which those who wait hear of an earlier timer, the same for all shards.
    channel: String,
}

impl Shard {
    pub(super) fn new(prefix: &str, number: usize) -> Self {
        let tag = Kind::Queue.tag(prefix, number);
        let key = |what: &str| format!("{tag}:{what}");
        Self { due: key("due"), leased: key("leased"), held: key("held"), channel: channel(prefix) }
    }

    pub(super) fn schedule<'a>(&self, timers: impl IntoIterator<Item = &'a Timer>) -> Call {
        let mut call = SCHEDULE.on(&[&self.due, &self.leased, &self.held]).arg(&self.channel);
        for timer in timers {
            call.push(timer.due.as_millis());
            call.push(timer.id.as_str());
        }
        call
    }

    pub(super) fn cancel<'a>(&self, ids: impl IntoIterator<Item = &'a OrderId>) -> Call {
        let mut call = CANCEL.on(&[&self.due, &self.leased, &self.held]);
        ids.into_iter().for_each(|id| call.push(id.as_str()));
        call
    }

    /// `tell` says whether others should hear when these leases end.
    pub(super) fn lease(&self, max: usize, duration: Duration, token: u64, tell: bool) -> Call {
        let duration = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let call = LEASE.on(&[&self.due, &self.leased, &self.held]);
        let call = call.arg(max.clamp(1, CLAIM_MAX)).arg(duration).arg(token);
        call.arg(if tell { self.channel.as_str() } else { "" })
    }

    pub(super) fn ack<'a>(&self, token: u64, ids: impl IntoIterator<Item = &'a OrderId>) -> Call {
        let mut call = ACK.on(&[&self.leased, &self.held]).arg(token);
        ids.into_iter().for_each(|id| call.push(id.as_str()));
        call
    }

    /// Each becomes visible so many milliseconds from the server's now.
    pub(super) fn release<'a>(
        &self,
        token: u64,
        releases: impl IntoIterator<Item = (&'a OrderId, i64)>,
    ) -> Call {
        let call = RELEASE.on(&[&self.due, &self.leased, &self.held]);
        let mut call = call.arg(&self.channel).arg(token);
        for (id, distance_ms) in releases {
            call.push(distance_ms);
            call.push(id.as_str());
        }
        call
    }

    pub(super) fn stats(&self) -> Call {
        STATS.on(&[&self.due, &self.leased])
    }
}

/// The channel of a queue.
pub(super) fn channel(prefix: &str) -> String {
    format!("{prefix}:q:wake")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_lives_in_one_slot() {
        let shard = Shard::new("shop", 3);
        for key in [&shard.due, &shard.leased, &shard.held] {
            assert!(key.starts_with("{shop:q:3}:"), "{key}");
        }
        assert_eq!(shard.stats().tag(), "shop:q:3");
    }
}
