//! What our receipts stand for: a receipt is two numbers, and Redis knows entries by their ids.
//!
//! Bounded by what is held: an entry goes when it is settled, or soon after its ack deadline.

use std::collections::VecDeque;

use expirer_core::{Receipt, Timestamp};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::seat::Proof;

/// The deliveries of one member whose ack deadlines may still run.
#[derive(Debug)]
pub(super) struct Receipts {
    token: u64,
    next: u64,
    held: HashMap<u64, (usize, Proof), FixedState>,
    ends: VecDeque<(Timestamp, u64)>,
}

/// Some receipts of one seat: the key, what it stands for, and what came with it.
pub(super) type Held<T> = Vec<(u64, Proof, T)>;

impl Receipts {
    /// `token` is another one for each member, so that its receipts are unknown to the others.
    pub(super) fn new(token: u64) -> Self {
        Self { token, next: 0, held: HashMap::default(), ends: VecDeque::new() }
    }

    /// Remembers a delivery until `ends`, by our clock; not before its deadline by the server's.
    pub(super) fn mint(&mut self, seat: usize, proof: Proof, ends: Timestamp) -> Receipt {
        let key = self.next;
        self.next += 1;
        self.held.insert(key, (seat, proof));
        self.ends.push_back((ends, key));
        Receipt::new(key, self.token)
    }

    /// Forgets deliveries whose deadline was over before `now`, oldest first.
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
    pub(super) fn forget(&mut self, keys: impl IntoIterator<Item = u64>) {
        for key in keys {
            self.held.remove(&key);
        }
    }

    /// Finds what receipts stand for, by seat; unknown ones are left out, and of several alike the
    /// last counts.
    pub(super) fn find<T>(
        &self,
        seats: usize,
        receipts: impl IntoIterator<Item = (Receipt, T)>,
    ) -> Vec<Held<T>> {
        let mut found: Vec<Held<T>> = (0..seats).map(|_| Vec::new()).collect();
        for (receipt, with) in receipts.into_iter().filter(|(r, _)| r.token() == self.token) {
            let key = receipt.key();
            if let Some((seat, proof)) = self.held.get(&key) {
                found[*seat].push((key, *proof, with));
            }
        }
        for held in &mut found {
            // Stable, so that of equal keys the last one given comes first.
            held.reverse();
            held.sort_by_key(|(key, ..)| *key);
            held.dedup_by_key(|(key, ..)| *key);
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::redis::bus::entry::EntryId;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn proof(count: u32) -> Proof {
        Proof { id: EntryId::default(), count }
    }

    #[test]
    fn a_receipt_is_known_until_it_is_settled_or_over() {
        let mut receipts = Receipts::new(7);
        let minted: Vec<_> =
            (0..3).map(|n| receipts.mint(n % 2, proof(1), at(10 + n as i64))).collect();
        let asked = || minted.iter().map(|receipt| (*receipt, ()));
        let strangers = [(Receipt::new(0, 8), ()), (Receipt::new(9, 7), ())];
        let found = receipts.find(2, asked().chain(strangers));
        assert_eq!(found, [vec![(0, proof(1), ()), (2, proof(1), ())], vec![(1, proof(1), ())]]);
        receipts.forget([0, 99]);
        receipts.forget_ended(at(11));
        assert_eq!(receipts.find(2, asked()), [vec![(2, proof(1), ())], vec![]]);
        receipts.forget_ended(at(12));
        assert!(receipts.held.is_empty() && receipts.ends.is_empty());
    }

    #[test]
    fn of_several_alike_the_last_counts() {
        let mut receipts = Receipts::new(7);
        let receipt = receipts.mint(0, proof(1), at(1));
        assert_eq!(receipts.find(1, [(receipt, 1), (receipt, 2)]), [[(0, proof(1), 2)]]);
    }
}
