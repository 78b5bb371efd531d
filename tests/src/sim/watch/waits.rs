//! Whether a Canceller has waited for the payments of an order as long as it should.

use std::collections::BTreeMap;
use std::time::Duration;

use expirer_core::flow::Limits;
use expirer_core::{Clock, OrderId, Timestamp};

use super::Actor;

/// When each replica first heard that the time of an order is up, since it was last started.
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

    /// A replica that crashed knows nothing any more.
    pub(super) fn forget(&mut self, name: usize) {
        self.0.retain(|(of, _), _| *of != name);
    }

    /// Whether the payment wait has passed since it heard, or since the order's time if that came
    /// later: by its own clock; or in truth, where that was set in between.
    pub(super) fn is_over(
        &self,
        actor: &Actor,
        id: &OrderId,
        expires_at: Timestamp,
        now: Timestamp,
    ) -> bool {
        let Some(heard) = self.0.get(&(actor.name, id.clone())) else { return false };
        let shown = actor.clock.latest().since(heard.shown.max(expires_at));
        let truly = match actor.clock.was_set_since(heard.at) {
            true => now.since(heard.at),
            false => Duration::ZERO,
        };
        shown.max(truly) >= Limits::default().payment_wait
    }
}
