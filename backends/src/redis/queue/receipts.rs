//! What our receipts stand for: a receipt is two numbers, and Redis knows timers by their ids.
//!
//! Bounded by what is leased: one entry for each claim, which goes with its last receipt or the
//! end of its lease, whichever is first.

use std::collections::BTreeSet;

use expirer_core::{Lease, OrderId, Receipt, Timer, Timestamp};
use foldhash::fast::FixedState;
use hashbrown::HashMap;

/// Claims whose leases may still run.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    claims: HashMap<u64, Claim, FixedState>,
    ends: BTreeSet<(Timestamp, u64)>,
}

/// What one script call leased: one token for all of it.
#[derive(Debug)]
struct Claim {
    shard: usize,
    ends: Timestamp,
    ids: Vec<Option<OrderId>>,
    left: usize,
}

/// Some receipts of one claim.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Held<T> {
    pub(super) shard: usize,
    pub(super) token: u64,
    /// Place within the claim, id, and what came with the receipt.
    pub(super) items: Vec<(usize, OrderId, T)>,
}

impl Receipts {
    /// Remembers a claim until `ends` (by our clock, not before its lease ends by the server's)
    /// and makes its leases. Forgets the claims that ended before `now`.
    pub(super) fn mint(
        &mut self,
        shard: usize,
        token: u64,
        timers: Vec<(Timer, u32)>,
        (now, ends): (Timestamp, Timestamp),
    ) -> Vec<Lease> {
        self.forget_ended(now);
        let ids: Vec<_> = timers.iter().map(|(timer, _)| Some(timer.id.clone())).collect();
        self.ends.insert((ends, token));
        self.claims.insert(token, Claim { shard, ends, left: ids.len(), ids });
        let leases = timers.into_iter().zip(0_u64..).map(|((timer, attempt), key)| {
            Lease::new(timer, Receipt::new(key, token)).with_attempt(attempt)
        });
        leases.collect()
    }

    /// Finds what receipts stand for, claim by claim; unknown ones are left out, and of several
    /// alike the last counts.
    pub(super) fn find<T>(&self, receipts: impl IntoIterator<Item = (Receipt, T)>) -> Vec<Held<T>> {
        let mut found: HashMap<u64, Held<T>, FixedState> = HashMap::default();
        for (receipt, with) in receipts {
            let token = receipt.token();
            let Some((claim, place)) = self.claim(receipt) else { continue };
            let Some(id) = claim.ids.get(place).cloned().flatten() else { continue };
            let held = || Held { shard: claim.shard, token, items: Vec::new() };
            let items = &mut found.entry(token).or_insert_with(held).items;
            items.push((place, id, with));
        }
        let mut found: Vec<_> = found.into_values().collect();
        found.iter_mut().for_each(|held| keep_last(&mut held.items));
        found.sort_unstable_by_key(|held| held.token);
        found
    }

    /// Forgets receipts that are settled.
    pub(super) fn forget(&mut self, token: u64, places: impl IntoIterator<Item = usize>) {
        let Some(claim) = self.claims.get_mut(&token) else { return };
        for place in places {
            let id = claim.ids.get_mut(place).and_then(Option::take);
            claim.left -= usize::from(id.is_some());
        }
        if claim.left == 0 {
            self.ends.remove(&(claim.ends, token));
            self.claims.remove(&token);
        }
    }

    fn claim(&self, receipt: Receipt) -> Option<(&Claim, usize)> {
        let place = usize::try_from(receipt.key()).ok()?;
        Some((self.claims.get(&receipt.token())?, place))
    }

    fn forget_ended(&mut self, now: Timestamp) {
        while let Some((ends, token)) = self.ends.first().copied().filter(|(ends, _)| *ends <= now)
        {
            self.ends.remove(&(ends, token));
            self.claims.remove(&token);
        }
    }
}

fn keep_last<T>(items: &mut Vec<(usize, OrderId, T)>) {
    // Stable, so that of equal places the last one given stays last.
    items.sort_by_key(|(place, ..)| *place);
    items.reverse();
    items.dedup_by_key(|(place, ..)| *place);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn timers(names: &[&str]) -> Vec<(Timer, u32)> {
        names.iter().map(|name| (Timer::new(OrderId::new(name).unwrap(), at(0)), 1)).collect()
    }

    fn ids(held: &Held<u8>) -> Vec<&str> {
        held.items.iter().map(|(_, id, _)| id.as_str()).collect()
    }

    #[test]
    fn a_receipt_is_known_until_it_is_settled() {
        let mut receipts = Receipts::default();
        let leases = receipts.mint(2, 7, timers(&["a", "b"]), (at(0), at(10)));
        let asked = || leases.iter().map(|lease| (lease.receipt, 0_u8));
        let found =
            receipts.find(asked().chain([(Receipt::new(9, 7), 0), (Receipt::new(0, 8), 0)]));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].shard, found[0].token, ids(&found[0])), (2, 7, vec!["b", "a"]));
        receipts.forget(7, [0]);
        receipts.forget(7, [0, 99]);
        assert_eq!(ids(&receipts.find(asked())[0]), ["b"]);
        receipts.forget(7, [1]);
        assert!(receipts.find(asked()).is_empty());
        assert!(receipts.claims.is_empty() && receipts.ends.is_empty());
    }

    #[test]
    fn claims_that_ended_cost_nothing() {
        let mut receipts = Receipts::default();
        for token in 0..100 {
            let now = i64::try_from(token).unwrap();
            receipts.mint(0, token, timers(&["a"]), (at(now), at(now + 10)));
            assert!(receipts.claims.len() <= 10 && receipts.ends.len() <= 10);
        }
    }

    #[test]
    fn of_several_alike_the_last_counts() {
        let mut receipts = Receipts::default();
        let lease = receipts.mint(0, 1, timers(&["a"]), (at(0), at(1))).remove(0);
        let found = receipts.find([(lease.receipt, 1), (lease.receipt, 2)]);
        assert_eq!(found[0].items.len(), 1);
        assert_eq!(found[0].items[0].2, 2);
    }
}
