//! Slots by order id.

use std::hash::BuildHasher;

use expirer_core::OrderId;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use slab::Slab;

use super::row::Row;

/// Each shard grows on its own, so that no call rehashes more than a 256th of the whole.
const SHARDS: usize = 256;

/// Which slot an id has. Holds slots only: the ids are in the rows.
pub(super) struct Index {
    state: FixedState,
    shards: Box<[HashTable<u32>]>,
}

impl Index {
    pub(super) fn new(seed: u64) -> Self {
        let shards = std::iter::repeat_with(HashTable::new).take(SHARDS).collect();
        Self { state: FixedState::with_seed(seed), shards }
    }

    pub(super) fn hash(&self, id: &OrderId) -> u64 {
        self.state.hash_one(id)
    }

    /// The slot that this hash most likely belongs to, found without looking at any row.
    pub(super) fn guess(&self, hash: u64) -> Option<u32> {
        self.shards[shard(hash)].find(hash, |_| true).copied()
    }

    pub(super) fn find(&self, hash: u64, id: &OrderId, rows: &Slab<Row>) -> Option<u32> {
        let is_id = |slot: &u32| rows.get(*slot as usize).is_some_and(|row| row.id == *id);
        self.shards[shard(hash)].find(hash, is_id).copied()
    }

    /// Adds a slot whose id is not there yet.
    pub(super) fn insert(&mut self, hash: u64, slot: u32, rows: &Slab<Row>) {
        let Self { state, shards } = self;
        let rehash = |slot: &u32| rows.get(*slot as usize).map_or(0, |row| state.hash_one(&row.id));
        shards[shard(hash)].insert_unique(hash, slot, rehash);
    }

    pub(super) fn remove(&mut self, hash: u64, slot: u32) {
        if let Ok(found) = self.shards[shard(hash)].find_entry(hash, |other| *other == slot) {
            found.remove();
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(HashTable::len).sum()
    }
}

/// By bits that the tables use neither for the bucket (the low ones) nor for the tag (the top 7).
const fn shard(hash: u64) -> usize {
    (hash >> 48) as usize % SHARDS
}
