//! A bounded memory of how often, and since when, something has been put off.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{OrderId, Timestamp};

/// How many orders a tally remembers.
const ENTRIES_MAX: usize = 65_536;
/// An entry that was not touched for this long belongs to another process now.
const STALE_AFTER: Duration = Duration::from_secs(600);

/// Counts per order, in this process: a broker's redelivery count says nothing after an outage.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    entries: BTreeMap<OrderId, Entry>,
    swept: Option<Timestamp>,
}

/// What is known of one order that was put off.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    /// How often it was put off, this time included.
    pub(crate) times: u32,
    /// Since when.
    pub(crate) since: Timestamp,
    touched: Timestamp,
}

impl Tally {
    /// Counts one more time. When the memory is full of fresh entries, a new one is not kept: it
    /// is put off once more than it needs to be, and counted when others have gone.
    pub(crate) fn count(&mut self, id: &OrderId, now: Timestamp) -> Entry {
        let fresh = Entry { times: 0, since: now, touched: now };
        if !self.entries.contains_key(id) && !self.has_room(now) {
            return Entry { times: 1, ..fresh };
        }
        let entry = self.entries.entry(id.clone()).or_insert(fresh);
        entry.times = entry.times.saturating_add(1);
        entry.touched = now;
        *entry
    }

    /// Since when an order has been put off.
    pub(crate) fn since(&self, id: &OrderId) -> Option<Timestamp> {
        self.entries.get(id).map(|entry| entry.since)
    }

    /// Forgets an order that is settled.
    pub(crate) fn forget(&mut self, id: &OrderId) {
        self.entries.remove(id);
    }

    /// Sweeps stale entries out of a full memory, at most once in [`STALE_AFTER`].
    fn has_room(&mut self, now: Timestamp) -> bool {
        let sweep = self.swept.is_none_or(|swept| now.since(swept) >= STALE_AFTER);
        if self.entries.len() >= ENTRIES_MAX && sweep {
            self.entries.retain(|_, entry| now.since(entry.touched) < STALE_AFTER);
            self.swept = Some(now);
        }
        self.entries.len() < ENTRIES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_forgets() {
        let (id, mut tally) = (OrderId::new("o1").unwrap(), Tally::default());
        let later = Timestamp::EPOCH + Duration::from_secs(1);
        assert_eq!(tally.count(&id, Timestamp::EPOCH).times, 1);
        let entry = tally.count(&id, later);
        assert_eq!((entry.times, entry.since), (2, Timestamp::EPOCH));
        tally.forget(&id);
        assert_eq!(tally.count(&id, later).times, 1);
    }

    #[test]
    fn is_bounded_and_makes_room_for_new_ones() {
        let mut tally = Tally::default();
        let id = |n: usize| OrderId::new(n.to_string()).unwrap();
        (0..=ENTRIES_MAX).for_each(|n| _ = tally.count(&id(n), Timestamp::EPOCH));
        assert_eq!(tally.entries.len(), ENTRIES_MAX);
        assert_eq!(tally.count(&id(ENTRIES_MAX), Timestamp::EPOCH + STALE_AFTER).times, 1);
        assert_eq!(tally.entries.len(), 1);
    }
}
