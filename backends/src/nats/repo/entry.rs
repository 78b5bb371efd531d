//! The index of what is overdue: entries whose keys are times, digit by digit.
//!
//! A key is `due.0.1.1.….MARK`: 32 binary digits, the highest first, of a slot of about a second.
//! So what is before a time are at most 33 filters, one for each digit that is 1: no more, however
//! many orders there are. An entry says exactly when it is due, for the slot that the time is in.

use expirer_core::{OrderId, Revision, Timestamp};
use serde::{Deserialize, Serialize};

use super::bucket::{Found, Put};

/// The keys of entries: digits and a mark follow.
const ENTRIES: &str = "due";
/// How long a slot is.
const SLOT_MS: i64 = 1024;
/// Until the year 2109; what is later is in the last slot, what is before 1970 in the first.
const DIGITS: u32 = u32::BITS;

/// One entry: look at this order then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: OrderId,
    /// The revision that the order had before the change that it stands for.
    pub(super) over: Revision,
    /// Which change it stands for.
    pub(super) mark: String,
    pub(super) at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct Stored {
    id: OrderId,
    over: u64,
    at: i64,
}

impl Entry {
    pub(super) fn slot(&self) -> u32 {
        slot(self.at)
    }

    pub(super) fn key(&self) -> String {
        key(self.slot(), &self.mark)
    }

    /// To be written, at its own key.
    pub(super) fn put(&self) -> Put {
        Put { key: self.key(), value: self.text(), expected: None, keep_s: None }
    }

    /// To be written in place of one that was found.
    pub(super) fn put_over(&self, found: &Found) -> Put {
        let (key, expected) = (found.key.clone(), Some(found.revision));
        Put { key, value: self.text(), expected, keep_s: None }
    }

    fn text(&self) -> Vec<u8> {
        let Self { id, over, at, .. } = self;
        let stored = Stored { id: id.clone(), over: over.0, at: at.as_millis() };
        // An id and two numbers are JSON.
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// Reads an entry; `None` for what is none of ours.
    pub(super) fn read(found: &Found) -> Option<Self> {
        let Stored { id, over, at } = serde_json::from_slice(&found.value).ok()?;
        let mark = found.key.rsplit('.').next()?.to_owned();
        Some(Self { id, over: Revision(over), mark, at: Timestamp::from_millis(at) })
    }
}

/// The slot that a time is in.
pub(super) fn slot(at: Timestamp) -> u32 {
    u32::try_from(at.as_millis().div_euclid(SLOT_MS).max(0)).unwrap_or(u32::MAX)
}

/// Filters for the keys in a slot or before it: the earliest first, none of them twice.
pub(super) fn until(slot: u32) -> Vec<String> {
    let end = u64::from(slot) + 1;
    if end >> DIGITS == 1 {
        return vec![format!("{ENTRIES}.>")];
    }
    let is_one = |place: &u32| end >> place & 1 == 1;
    let ones = (0..DIGITS).rev().filter(is_one);
    ones.map(|place| format!("{ENTRIES}{}.>", digits((end >> place) - 1, DIGITS - place))).collect()
}

fn key(slot: u32, mark: &str) -> String {
    format!("{ENTRIES}{}.{mark}", digits(u64::from(slot), DIGITS))
}

/// The lowest `count` binary digits, each after a dot.
fn digits(number: u64, count: u32) -> String {
    (0..count)
        .rev()
        .flat_map(|place| ['.', if number >> place & 1 == 1 { '1' } else { '0' }])
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What a server finds by a filter that ends in `>`.
    fn finds(filter: &str, key: &str) -> bool {
        filter.strip_suffix('>').is_some_and(|prefix| key.starts_with(prefix))
    }

    fn filters_that_find(until_slot: u32, slot: u32) -> usize {
        let key = key(slot, "m");
        until(until_slot).iter().filter(|filter| finds(filter, &key)).count()
    }

    proptest! {
        #[test]
        fn what_is_until_a_slot_is_found_once_and_nothing_else(
            until_slot in prop_oneof![any::<u32>(), 0..9u32],
            slot in prop_oneof![any::<u32>(), 0..9u32],
        ) {
            prop_assert_eq!(filters_that_find(until_slot, slot), usize::from(slot <= until_slot));
            prop_assert!(until(until_slot).len() <= 33);
        }
    }

    #[test]
    fn the_ends_are_slots_like_others() {
        for (until_slot, slot, found) in
            [(0, 0, 1), (0, 1, 0), (u32::MAX, u32::MAX, 1), (u32::MAX - 1, u32::MAX, 0)]
        {
            assert_eq!(filters_that_find(until_slot, slot), found, "{slot} until {until_slot}");
        }
        assert_eq!([Timestamp::MIN, Timestamp::EPOCH, Timestamp::MAX].map(slot), [0, 0, u32::MAX]);
    }

    #[test]
    fn an_entry_is_read_as_it_was_written() {
        let at = Timestamp::from_millis(1_800_000_000_123);
        let id = OrderId::new("o 1").unwrap();
        let entry = Entry { id, over: Revision(7), mark: "a-1".to_owned(), at };
        let Put { key, value, .. } = entry.put();
        let found = Found { key, revision: 9, value, stored: at };
        assert_eq!(Entry::read(&found), Some(entry));
        let foreign = Found { value: b"{}".to_vec(), ..found };
        assert_eq!(Entry::read(&foreign), None);
    }
}
