//! Whether a Canceller has waited for the payments of an order as long as it should.

use std::collections::BTreeMap;
use std::time::Duration;

use expirer_core::{Clock, OrderId, Timestamp};

use super::Actor;

/// For how long it has to wait: `Limits::payment_wait`.
const PAYMENT_WAIT: Duration = Duration::from_secs(30);

/// When each replica first heard, by its own clock, that the time of an order is up.
#[derive(Debug, Default)]
pub(in crate::sim) struct Waits(BTreeMap<(usize, OrderId), Timestamp>);

impl Waits {
    pub(super) fn hear(&mut self, actor: &Actor, id: &OrderId) {
        let now = actor.clock.now();
        let first = self.0.entry((actor.name, id.clone())).or_insert(now);
        // A clock that is set back begins anew.
        *first = (*first).min(now);
    }

    pub(super) fn is_over(&self, actor: &Actor, id: &OrderId) -> bool {
        let first = self.0.get(&(actor.name, id.clone()));
        first.is_some_and(|first| actor.clock.latest().since(*first) >= PAYMENT_WAIT)
    }
}
