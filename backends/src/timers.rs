//! Batches of timers.

use expirer_core::Timer;
use foldhash::fast::FixedState;
use hashbrown::HashSet;

/// The last entry for each id, so that the order in which calls arrive does not matter.
pub(crate) fn last_of_each(timers: &[Timer]) -> impl Iterator<Item = &Timer> {
    let mut seen = HashSet::with_capacity_and_hasher(timers.len(), FixedState::default());
    timers.iter().rev().filter(move |timer| seen.insert(timer.id.as_str()))
}
