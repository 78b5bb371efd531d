//! Whether a Canceller was patient: with the payments of an order, and with an order that is not
//! known.

use std::collections::BTreeMap;
use std::time::Duration;

use expirer_core::flow::{Limits, UNKNOWN_MAX};
use expirer_core::{Clock, OrderId, Timestamp};

use super::Actor;

/// What each replica knows of orders whose time is up, since it was last started.
#[derive(Debug, Default)]
pub(in crate::sim) struct Waits {
    /// When it first heard of it.
    heard: BTreeMap<(usize, OrderId), Heard>,
    /// How often the repository did not know it.
    unknown: BTreeMap<(usize, OrderId), u32>,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    at: Timestamp,
    /// By the clock of the replica.
    shown: Timestamp,
}

impl Waits {
    pub(super) fn hear(&mut self, actor: &Actor, id: &OrderId, now: Timestamp) {
        let heard = Heard { at: now, shown: actor.clock.now() };
        self.heard.entry((actor.name, id.clone())).or_insert(heard);
    }

    /// A replica that crashed knows nothing any more.
    pub(super) fn forget(&mut self, name: usize) {
        self.heard.retain(|(of, _), _| *of != name);
        self.unknown.retain(|(of, _), _| *of != name);
    }

    /// The repository did not know it.
    pub(super) fn ask_in_vain(&mut self, actor: &Actor, id: &OrderId) {
        *self.unknown.entry((actor.name, id.clone())).or_default() += 1;
    }

    /// Whether the repository did not know it ten times over.
    pub(super) fn is_unknown(&self, actor: &Actor, id: &OrderId) -> bool {
        let times = self.unknown.get(&(actor.name, id.clone()));
        times.is_some_and(|times| *times >= UNKNOWN_MAX)
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
        let Some(heard) = self.heard.get(&(actor.name, id.clone())) else { return false };
        let shown = actor.clock.latest().since(heard.shown.max(expires_at));
        let truly = match actor.clock.was_set_since(heard.at) {
            true => now.since(heard.at),
            false => Duration::ZERO,
        };
        shown.max(truly) >= Limits::default().payment_wait
    }
}
