//! Keys by id.

use std::fmt;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

use super::entries::Entries;
use crate::OrderId;

/// Each shard grows on its own, so that no call rehashes more than a 256th of the whole.
const SHARDS: usize = 256;

/// Which key an id has.
pub(super) struct Index {
    state: FixedState,
    shards: Box<[HashTable<Bucket>]>,
}

/// A key beside a part of its hash, so that neither a miss nor growth looks at the entries.
struct Bucket {
    key: u32,
    part: u32,
}

/// Of the hash, what a bucket keeps: enough for a table of 2²⁵ buckets and its tags.
const fn part(hash: u64) -> u32 {
    hash as u32
}

/// A hash as a table takes it: the bucket from the low bits, the tag from the top 7.
const fn spread(part: u32) -> u64 {
    (part as u64) << 32 | part as u64
}

/// By bits that no bucket keeps.
const fn shard(hash: u64) -> usize {
    (hash >> 32) as usize % SHARDS
}

impl Index {
    pub(super) fn new(seed: u64) -> Self {
        let shards = std::iter::repeat_with(HashTable::new).take(SHARDS).collect();
        Self { state: FixedState::with_seed(seed), shards }
    }

    pub(super) fn hash(&self, id: &OrderId) -> u64 {
        self.state.hash_one(id)
    }

    /// The key that this hash almost certainly belongs to, found without looking at any entry.
    pub(super) fn guess(&self, hash: u64) -> Option<u32> {
        let part = part(hash);
        let found = self.shards[shard(hash)].find(spread(part), |bucket| bucket.part == part)?;
        Some(found.key)
    }

    /// Reads about where an insertion of this hash will write.
    pub(super) fn touch(&self, hash: u64) -> u32 {
        let shard = &self.shards[shard(hash)];
        let home = part(hash) as usize & shard.num_buckets().wrapping_sub(1);
        let near = [home, home ^ 1, home ^ 2, home ^ 3];
        near.into_iter().find_map(|at| shard.get_bucket(at)).map_or(0, |bucket| bucket.key)
    }

    pub(super) fn find(&self, hash: u64, id: &OrderId, entries: &Entries) -> Option<u32> {
        let part = part(hash);
        let is_id =
            |bucket: &Bucket| bucket.part == part && entries[bucket.key].id.as_ref() == Some(id);
        Some(self.shards[shard(hash)].find(spread(part), is_id)?.key)
    }

    /// Adds a key whose id is not there yet.
    pub(super) fn insert(&mut self, hash: u64, key: u32) {
        let part = part(hash);
        let bucket = Bucket { key, part };
        self.shards[shard(hash)].insert_unique(spread(part), bucket, |other| spread(other.part));
    }

    pub(super) fn remove(&mut self, hash: u64, key: u32) {
        let shard = &mut self.shards[shard(hash)];
        if let Ok(found) = shard.find_entry(spread(part(hash)), |bucket| bucket.key == key) {
            found.remove();
        }
    }

    /// Gives the memory of empty shards back.
    pub(super) fn shrink_empty(&mut self) {
        for shard in self.shards.iter_mut().filter(|shard| shard.is_empty()) {
            *shard = HashTable::new();
        }
    }
}

impl fmt::Debug for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Index").finish_non_exhaustive()
    }
}
