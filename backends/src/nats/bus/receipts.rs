//! What our receipts stand for. The server settles by the subject for an ack, whoever sends to it,
//! also when the message is with another member by now: so receipts end here with their deadline.
//!
//! Bounded by what is held: an entry goes when it is settled, or soon after its ack deadline.

use std::collections::VecDeque;

use expirer_core::{Message, Receipt, Timestamp};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// A message that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) seat: usize,
    /// The subject for its ack.
    pub(super) ack: String,
    pub(super) message: Message,
}

/// The deliveries of one member whose ack deadlines run.
#[derive(Debug)]
pub(super) struct Receipts {
    token: u64,
    next: u64,
    held: HashMap<u64, (Timestamp, Held), FixedState>,
    ends: VecDeque<(Timestamp, u64)>,
}

impl Receipts {
    /// `token` is another one for each member, so that its receipts are unknown to the others.
    pub(super) fn new(token: u64) -> Self {
        Self { token, next: 0, held: HashMap::default(), ends: VecDeque::new() }
    }

    /// Remembers a delivery until `ends`.
    pub(super) fn mint(&mut self, held: Held, ends: Timestamp) -> Receipt {
        let key = self.next;
        self.next += 1;
        self.held.insert(key, (ends, held));
        self.ends.push_back((ends, key));
        Receipt::new(key, self.token)
    }

    /// Forgets deliveries whose deadline is over, oldest first.
    pub(super) fn forget_ended(&mut self, now: Timestamp) {
        while let Some((ends, key)) = self.ends.front().copied() {
            if ends > now && self.held.contains_key(&key) {
                return;
            }
            self.held.remove(&key);
            self.ends.pop_front();
        }
    }

    /// Forgets what is settled.
    pub(super) fn forget(&mut self, receipts: impl IntoIterator<Item = Receipt>) {
        for receipt in receipts {
            self.held.remove(&receipt.key());
        }
    }

    /// Finds what receipts stand for; unknown ones and those whose deadline is over are left out,
    /// and of several alike the last counts.
    pub(super) fn find<T>(
        &self,
        now: Timestamp,
        receipts: impl IntoIterator<Item = (Receipt, T)>,
    ) -> Vec<(Receipt, Held, T)> {
        let mut found: Vec<_> = receipts
            .into_iter()
            .filter(|(receipt, _)| receipt.token() == self.token)
            .filter_map(|(receipt, with)| {
                let (ends, held) = self.held.get(&receipt.key())?;
                (*ends > now).then(|| (receipt, held.clone(), with))
            })
            .collect();
        // Stable, so that of equal keys the last one given comes first.
        found.reverse();
        found.sort_by_key(|(receipt, ..)| receipt.key());
        found.dedup_by_key(|(receipt, ..)| receipt.key());
        found
    }
}

#[cfg(test)]
mod tests {
    use expirer_core::Subject;

    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn held(seat: usize) -> Held {
        Held { seat, ack: seat.to_string(), message: Message::new(Subject::OrderCreated, []) }
    }

    #[test]
    fn a_receipt_is_known_until_it_is_settled_or_over() {
        let mut receipts = Receipts::new(7);
        let minted: Vec<_> = (0..3).map(|n| receipts.mint(held(n), at(10 + n as i64))).collect();
        let asked = || minted.iter().map(|receipt| (*receipt, ()));
        let strangers = [(Receipt::new(0, 8), ()), (Receipt::new(9, 7), ())];
        let seats = |found: Vec<(Receipt, Held, ())>| -> Vec<usize> {
            found.iter().map(|(_, held, ())| held.seat).collect()
        };
        assert_eq!(seats(receipts.find(at(9), asked().chain(strangers))), [0, 1, 2]);
        assert_eq!(seats(receipts.find(at(10), asked())), [1, 2], "a deadline is over at its end");
        receipts.forget([minted[1], Receipt::new(99, 7)]);
        receipts.forget_ended(at(11));
        assert_eq!(seats(receipts.find(at(0), asked())), [2]);
        receipts.forget_ended(at(12));
        assert!(receipts.held.is_empty() && receipts.ends.is_empty());
    }

    #[test]
    fn of_several_alike_the_last_counts() {
        let mut receipts = Receipts::new(7);
        let receipt = receipts.mint(held(0), at(1));
        let found = receipts.find(at(0), [(receipt, 1), (receipt, 2)]);
        assert_eq!(found, [(receipt, held(0), 2)]);
    }
}
