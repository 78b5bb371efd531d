//! Who is to be woken.

use std::sync::Arc;

use event_listener::Event;

/// Whom a change concerns, to be woken when the lock is free.
#[derive(Default)]
pub(super) struct Wakes {
    arrived: Vec<Arc<Event>>,
    pub(super) settled: bool,
}

impl Wakes {
    pub(super) fn add(&mut self, arrived: &Arc<Event>) {
        if !self.arrived.iter().any(|known| Arc::ptr_eq(known, arrived)) {
            self.arrived.push(Arc::clone(arrived));
        }
    }

    /// Wakes every waiter: one that leaves instead of looking would swallow a single wake-up.
    pub(super) fn wake(self, settled: &Event) {
        for arrived in self.arrived {
            arrived.notify(usize::MAX);
        }
        if self.settled {
            settled.notify(usize::MAX);
        }
    }
}
