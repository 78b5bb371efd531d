//! Slots by time.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use expirer_core::Timestamp;

/// Which slot is up when. An entry takes 12 bytes, because there is one for every order.
#[derive(Default)]
pub(super) struct Agenda(BTreeSet<Entry>);

/// The upper and the lower half of the time, then the slot.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry([u32; 3]);

impl Agenda {
    pub(super) fn insert(&mut self, at: Timestamp, slot: u32) {
        self.0.insert(Entry::new(at, slot));
    }

    pub(super) fn remove(&mut self, at: Timestamp, slot: u32) {
        self.0.remove(&Entry::new(at, slot));
    }

    /// The slots whose time is before this, earliest first.
    pub(super) fn before(&self, at: Timestamp) -> impl Iterator<Item = u32> {
        self.0.range(..Entry::new(at, 0)).map(Entry::slot)
    }

    /// The first slot, if its time has come.
    pub(super) fn first_until(&self, now: Timestamp) -> Option<u32> {
        self.0.first().filter(|first| **first <= Entry::new(now, u32::MAX)).map(Entry::slot)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Entry {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of 64 bits")]
    const fn new(at: Timestamp, slot: u32) -> Self {
        let millis = at.as_millis().abs_diff(Timestamp::MIN.as_millis());
        Self([(millis >> 32) as u32, millis as u32, slot])
    }

    const fn slot(&self) -> u32 {
        self.0[2]
    }

    /// One number, because comparing it does not branch.
    const fn rank(self) -> u128 {
        let [upper, lower, slot] = self.0;
        (upper as u128) << 64 | (lower as u128) << 32 | slot as u128
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
