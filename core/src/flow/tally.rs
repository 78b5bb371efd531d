//! A bounded memory of how often, and since when, something has been put off.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{OrderId, Timestamp};

/// How many orders a tally remembers.
const ENTRIES_MAX: usize = 65_536;
/// What is put off comes again within seconds: an entry that was not touched for this long belongs
/// to another process now.
const STALE_AFTER: Duration = Duration::from_secs(60);
/// A full memory is swept this often.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// Counts per order, in this process: a broker's redelivery count says nothing after an outage.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    entries: BTreeMap<OrderId, Entry>,
    swept: Option<Timestamp>,
}

/// What is known of one order that was put off.
#[derive(Clone, Copy, Debug)]
struct Entry {
    times: u32,
    since: Timestamp,
    touched: Timestamp,
}

impl Tally {
    /// Counts one more time, and says how often it was, this time included. `None` while the memory is full: those
    /// that are in it come to their end and make room, which they would not if newcomers drove
    /// them out.
    pub(crate) fn count(&mut self, id: &OrderId, now: Timestamp) -> Option<u32> {
        if !self.entries.contains_key(id) && !self.has_room(now) {
            return None;
        }
        let fresh = Entry { times: 0, since: now, touched: now };
        let entry = self.entries.entry(id.clone()).or_insert(fresh);
        if now.since(entry.touched) >= STALE_AFTER {
            *entry = fresh;
        }
        entry.times = entry.times.saturating_add(1);
        entry.touched = now;
        Some(entry.times)
    }

    /// How often an order was put off.
    pub(crate) fn times(&self, id: &OrderId) -> Option<u32> {
        self.entries.get(id).map(|entry| entry.times)
    }

    /// Since when an order has been put off.
    pub(crate) fn since(&self, id: &OrderId, now: Timestamp) -> Option<Timestamp> {
        let entry = self.entries.get(id)?;
        (now.since(entry.touched) < STALE_AFTER).then_some(entry.since)
    }

    /// Forgets an order that is settled.
    pub(crate) fn forget(&mut self, id: &OrderId) {
        self.entries.remove(id);
    }

    fn has_room(&mut self, now: Timestamp) -> bool {
        let sweep = self.swept.is_none_or(|swept| now.since(swept) >= SWEEP_EVERY);
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
        assert_eq!((tally.times(&id), tally.count(&id, Timestamp::EPOCH)), (None, Some(1)));
        assert_eq!((tally.count(&id, later), tally.times(&id)), (Some(2), Some(2)));
        assert_eq!(tally.since(&id, later), Some(Timestamp::EPOCH));
        let stale = later + STALE_AFTER;
        assert_eq!((tally.since(&id, stale), tally.count(&id, stale)), (None, Some(1)));
        tally.forget(&id);
        assert_eq!(tally.count(&id, later), Some(1));
    }

    #[test]
    fn is_bounded_and_makes_room_for_new_ones_when_old_ones_go() {
        let mut tally = Tally::default();
        let id = |n: usize| OrderId::new(n.to_string()).unwrap();
        (0..ENTRIES_MAX).for_each(|n| _ = tally.count(&id(n), Timestamp::EPOCH));
        assert_eq!(tally.count(&id(ENTRIES_MAX), Timestamp::EPOCH), None);
        assert_eq!(tally.count(&id(7), Timestamp::EPOCH), Some(2), "those in it go on");
        tally.forget(&id(0));
        assert_eq!(tally.count(&id(ENTRIES_MAX), Timestamp::EPOCH), Some(1));
        let later = Timestamp::EPOCH + STALE_AFTER;
        assert_eq!(tally.count(&id(0), later), Some(1), "the stale ones are swept");
        assert_eq!(tally.entries.len(), 1);
    }
}
