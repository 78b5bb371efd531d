//! A log in which entries are found by position and taken out one by one, in any order.

use std::collections::VecDeque;
use std::mem;

/// Entries are kept in chunks of this many. A chunk is freed when its last entry is taken out, so
/// that one entry which stays for long holds no more than its own chunk.
const CHUNK: usize = 256;

/// Entries at positions 0, 1, 2 …, of which those that were not taken out are there.
pub(super) struct Log<T> {
    /// A freed chunk has no entries and no allocation. The first one is never a freed one.
    chunks: VecDeque<Chunk<T>>,
    /// The number of chunks that have gone before the first one.
    gone: u64,
    end: u64,
    len: u64,
    /// The allocation of the chunk that was freed last, for the next one.
    spare: Vec<Option<T>>,
}

struct Chunk<T> {
    entries: Vec<Option<T>>,
    /// Nothing is left before this offset.
    head: usize,
    len: usize,
}

impl<T> Log<T> {
    pub(super) const fn new() -> Self {
        Self { chunks: VecDeque::new(), gone: 0, end: 0, len: 0, spare: Vec::new() }
    }

    /// How many entries are there.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Adds an entry and says where.
    pub(super) fn push(&mut self, entry: T) -> u64 {
        if self.end.is_multiple_of(CHUNK as u64) {
            self.open_chunk();
        }
        if let Some(chunk) = self.chunks.back_mut() {
            chunk.entries.push(Some(entry));
            chunk.len += 1;
        }
        self.len += 1;
        self.end += 1;
        self.end - 1
    }

    fn open_chunk(&mut self) {
        let mut entries = mem::take(&mut self.spare);
        entries.reserve_exact(CHUNK);
        self.chunks.push_back(Chunk { entries, head: 0, len: 0 });
    }

    pub(super) fn get(&self, position: u64) -> Option<&T> {
        let (chunk, offset) = self.locate(position)?;
        self.chunks.get(chunk)?.entries.get(offset)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, position: u64) -> Option<&mut T> {
        let (chunk, offset) = self.locate(position)?;
        self.chunks.get_mut(chunk)?.entries.get_mut(offset)?.as_mut()
    }

    /// All entries that are there, oldest first.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flat_map(|chunk| chunk.entries.iter_mut().flatten())
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, position: u64) -> Option<T> {
        let (index, offset) = self.locate(position)?;
        let chunk = self.chunks.get_mut(index)?;
        let entry = chunk.take(offset)?;
        self.len -= 1;
        if chunk.is_used_up() {
            self.free_chunk(index);
        }
        Some(entry)
    }

    /// The position of the oldest entry.
    pub(super) fn first(&self) -> Option<u64> {
        self.next(0)
    }

    /// The position of the oldest entry from a position on.
    pub(super) fn next(&self, from: u64) -> Option<u64> {
        let from = from.max(self.gone * CHUNK as u64);
        let (start, mut offset) = self.locate(from)?;
        for (index, chunk) in self.chunks.iter().enumerate().skip(start) {
            if let Some(found) = chunk.next(offset) {
                return Some(self.position(index, found));
            }
            offset = 0;
        }
        None
    }

    fn locate(&self, position: u64) -> Option<(usize, usize)> {
        let chunk = (position / CHUNK as u64).checked_sub(self.gone)?;
        let offset = position % CHUNK as u64;
        Some((usize::try_from(chunk).ok()?, usize::try_from(offset).ok()?))
    }

    const fn position(&self, chunk: usize, offset: usize) -> u64 {
        (self.gone + chunk as u64) * CHUNK as u64 + offset as u64
    }

    fn free_chunk(&mut self, index: usize) {
        if let Some(chunk) = self.chunks.get_mut(index) {
            self.spare = mem::take(&mut chunk.entries);
            self.spare.clear();
        }
        while self.chunks.front().is_some_and(Chunk::is_freed) {
            self.chunks.pop_front();
            self.gone += 1;
        }
        if self.chunks.capacity() > 64 && self.chunks.len() < self.chunks.capacity() / 4 {
            self.chunks.shrink_to(self.chunks.len() * 2);
        }
    }
}

impl<T> Chunk<T> {
    fn take(&mut self, offset: usize) -> Option<T> {
        let entry = self.entries.get_mut(offset)?.take()?;
        self.len -= 1;
        if offset == self.head {
            let left = self.entries.iter().skip(offset).take_while(|entry| entry.is_none());
            self.head += left.count();
        }
        Some(entry)
    }

    fn next(&self, from: usize) -> Option<usize> {
        if self.len == 0 {
            return None;
        }
        let from = from.max(self.head);
        let ahead = self.entries.get(from..)?.iter().position(Option::is_some)?;
        Some(from + ahead)
    }

    const fn is_used_up(&self) -> bool {
        self.len == 0 && self.entries.len() == CHUNK
    }

    const fn is_freed(&self) -> bool {
        self.entries.capacity() == 0
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_old_entry_holds_its_own_chunk_only() {
        let mut log = Log::new();
        for position in 0..100_000_u64 {
            assert_eq!(log.push(position), position);
            if position > 5 {
                assert_eq!(log.remove(position), Some(position));
            }
        }
        let allocated = log.chunks.iter().filter(|chunk| !chunk.is_freed()).count();
        assert_eq!((log.len(), log.first(), allocated), (6, Some(0), 2));
        (0..6).for_each(|position| assert_eq!(log.remove(position), Some(position)));
        assert_eq!((log.len(), log.first(), log.chunks.len()), (0, None, 1));
        assert!(log.chunks.capacity() <= 64);
    }

    proptest! {
        #[test]
        fn is_a_map_by_position(steps in prop::collection::vec((1_usize..400, 0_u64..3000), 1..20)) {
            let (mut log, mut model, mut next) = (Log::new(), BTreeMap::new(), 0_u64);
            for (pushes, seed) in steps {
                for _ in 0..pushes {
                    prop_assert_eq!(log.push(next * 7), next);
                    model.insert(next, next * 7);
                    next += 1;
                }
                for position in (0..next).filter(|position| position * 31 % 1009 > seed % 900) {
                    prop_assert_eq!(log.remove(position), model.remove(&position));
                    prop_assert_eq!(log.get(position), None);
                }
                prop_assert_eq!(log.len(), model.len() as u64);
                prop_assert_eq!(log.first(), model.keys().next().copied());
                prop_assert_eq!(log.next(seed), model.range(seed..).next().map(|(at, _)| *at));
                prop_assert!(model.iter().all(|(at, entry)| log.get(*at) == Some(entry)));
                prop_assert!(log.iter_mut().map(|entry| *entry).eq(model.values().copied()));
            }
        }
    }
}
