//! Whether a Canceller has waited for the payments of an order as long as it should.

use std::collections::BTreeMap;
use std::time::Duration;

use expirer_core::{Clock, OrderId, Timestamp};

use super::Actor;

/// For how long it has to wait: `Limits::payment_wait`.
const PAYMENT_WAIT: Duration = Duration::from_secs(30);

/// When each replica first heard that the time of an order is up.
#[derive(Debug, Default)]
pub(in crate::sim) struct Waits(BTreeMap<(usize, OrderId), Heard>);

#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Timestamp,
    /// By the clock of the replica.
    shown: Timestamp,
}

impl Waits {
    pub(super) fn hear(&mut self, actor: &Actor, id: &OrderId, now: Timestamp) {
        let heard = Heard { at: now, shown: actor.clock.now() };
        self.0.entry((actor.name, id.clone())).or_insert(heard);
    }

    /// Whether the time has passed, in truth or by the replica's own clock, which may have been
    /// set in between.
    pub(super) fn is_over(&self, actor: &Actor, id: &OrderId, now: Timestamp) -> bool {
        self.0.get(&(actor.name, id.clone())).is_some_and(|heard| {
            let shown = actor.clock.latest().since(heard.shown);
            now.since(heard.at).max(shown) >= PAYMENT_WAIT
        })
    }
}
