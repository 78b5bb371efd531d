//! The timers themselves, by key.

use std::ops::{Index, IndexMut};

use super::tick::{SLOT_NONE, Tick};
use crate::{OrderId, Timestamp};

/// Entries in a chunk: growth allocates one more chunk and copies nothing.
const CHUNK: usize = 4096;

/// One timer, or a vacancy. Its fields stand as written: [`touch`](Self::touch) reads both ends.
#[derive(Debug)]
#[repr(C)]
pub(super) struct Entry {
    pub(super) due: Timestamp,
    place: Place,
    /// `None`: vacant.
    pub(super) id: Option<OrderId>,
    /// Of its lease; zero, which no lease has: it is not leased.
    pub(super) token: u64,
    pub(super) attempts: u32,
    /// Where in its slot it stands.
    pub(super) position: u32,
}

// 10 million of these are what a wheel weighs.
const _: () = assert!(size_of::<Entry>() == 56);

/// When a timer is visible (49 bits) and the number of its slot (11 bits), in one word.
#[derive(Clone, Copy, Debug)]
struct Place(u64);

const SLOT_BITS: u32 = 11;

impl Place {
    const fn new(visible: Tick, slot: u16) -> Self {
        Self(visible.0 << SLOT_BITS | slot as u64)
    }
}

impl Entry {
    const VACANT: Self = Self {
        id: None,
        due: Timestamp::MIN,
        place: Place::new(Tick(0), SLOT_NONE),
        token: 0,
        attempts: 0,
        position: 0,
    };

    pub(super) const fn new(id: OrderId, due: Timestamp) -> Self {
        Self { id: Some(id), due, ..Self::VACANT }
    }

    pub(super) const fn visible(&self) -> Tick {
        Tick(self.place.0 >> SLOT_BITS)
    }

    pub(super) const fn slot(&self) -> u16 {
        (self.place.0 & ((1 << SLOT_BITS) - 1)) as u16
    }

    pub(super) const fn set_place(&mut self, visible: Tick, slot: u16) {
        self.place = Place::new(visible, slot);
    }

    /// Reads both ends of it: most entries lie across two cache lines.
    pub(super) const fn touch(&self) -> u32 {
        self.due.as_millis() as u32 ^ self.position
    }

    /// Ends its lease; says whether it had one.
    pub(super) const fn end_lease(&mut self) -> bool {
        std::mem::replace(&mut self.token, 0) != 0
    }
}

/// All entries. A key stays valid until its entry is removed, and is used again afterwards.
#[derive(Debug, Default)]
pub(super) struct Entries {
    chunks: Vec<Box<[Entry]>>,
    vacant: Vec<u32>,
    /// Keys from here on were never used.
    fresh: u32,
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.fresh as usize - self.vacant.len()
    }

    pub(super) fn insert(&mut self, entry: Entry) -> u32 {
        let key = self.vacant.pop().unwrap_or_else(|| self.fresh_key());
        self[key] = entry;
        key
    }

    fn fresh_key(&mut self) -> u32 {
        let key = self.fresh;
        if key as usize == self.chunks.len() * CHUNK {
            self.chunks.push(std::iter::repeat_with(|| Entry::VACANT).take(CHUNK).collect());
        }
        // Keys are numbered densely, and 2³² entries take 240 GB.
        self.fresh = key.checked_add(1).expect("fewer than 2³² timers");
        key
    }

    pub(super) fn remove(&mut self, key: u32) {
        self[key] = Entry::VACANT;
        self.vacant.push(key);
    }

    /// The key of the entry that holds this lease, if there is one. Any numbers are accepted.
    pub(super) fn leased(&self, key: u64, token: u64) -> Option<u32> {
        let key = u32::try_from(key).ok().filter(|key| *key < self.fresh)?;
        (token != 0 && self[key].token == token).then_some(key)
    }

    /// Gives the memory back; only when no entry is left. Says whether there was any to give.
    pub(super) fn shrink(&mut self) -> bool {
        let is_large = self.chunks.len() > 1;
        if is_large {
            *self = Self::default();
        }
        is_large
    }
}

impl Index<u32> for Entries {
    type Output = Entry;

    fn index(&self, key: u32) -> &Entry {
        &self.chunks[key as usize / CHUNK][key as usize % CHUNK]
    }
}

impl IndexMut<u32> for Entries {
    fn index_mut(&mut self, key: u32) -> &mut Entry {
        &mut self.chunks[key as usize / CHUNK][key as usize % CHUNK]
    }
}
