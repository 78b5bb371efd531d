//! Keys by time: the wheel proper.
//!
//! A timer lies at the level of the highest digit in which it differs from the wheel's position,
//! in the slot of its own digit there. So whatever lies at a level is visible before everything at
//! the levels above, and when the position comes to the start of a slot, the timers in it move
//! down ("cascade"). The position never turns back while a timer lies in a slot: what is visible
//! before it lies in an ordered set beside the slots, whether it was past due when it came or the
//! clock was set back.

use std::collections::BTreeSet;

use super::entries::Entries;
use super::tick::{LEVEL_SLOTS, LEVELS, SLOT_NONE, SLOTS, Tick};

/// How many entries are touched before the first of them is worked on, so that the cache misses
/// overlap.
pub(super) const WARM: usize = 32;

/// An emptied slot keeps room for this many keys.
const SLOT_KEPT: usize = 256;

const WORD_BITS: usize = u64::BITS as usize;

/// Which slots of one level hold something, a bit each.
type Occupied = [u64; LEVEL_SLOTS / WORD_BITS];

#[derive(Debug)]
pub(super) struct Levels {
    position: Tick,
    /// How many timers lie in slots.
    len: usize,
    slots: Box<[Vec<u32>]>,
    occupied: [Occupied; LEVELS],
    /// What was visible before the position when it came.
    early: BTreeSet<(Tick, u32)>,
}

/// The slot to come next.
#[derive(Clone, Copy, Debug)]
struct Next {
    slot: usize,
    start: Tick,
}

impl Next {
    /// Whether all in this slot are visible at its start.
    const fn is_exact(self) -> bool {
        self.slot < LEVEL_SLOTS
    }
}

impl Levels {
    pub(super) fn new() -> Self {
        Self {
            position: Tick(0),
            len: 0,
            slots: vec![Vec::new(); SLOTS].into(),
            occupied: [Occupied::default(); LEVELS],
            early: BTreeSet::new(),
        }
    }

    /// Puts an entry that lies nowhere to where it becomes visible at `visible`.
    pub(super) fn insert(&mut self, entries: &mut Entries, key: u32, visible: Tick) {
        let entry = &mut entries[key];
        if visible < self.position {
            entry.set_place(visible, SLOT_NONE);
            self.early.insert((visible, key));
            return;
        }
        let level = visible.level_apart(self.position);
        let digit = visible.digit(level);
        let slot = level * LEVEL_SLOTS + digit;
        let keys = &mut self.slots[slot];
        entry.set_place(visible, slot as u16);
        entry.position = keys.len() as u32;
        keys.push(key);
        self.occupied[level][digit / WORD_BITS] |= 1 << (digit % WORD_BITS);
        self.len += 1;
    }

    /// Takes an entry from where it lies.
    pub(super) fn remove(&mut self, entries: &mut Entries, key: u32) {
        let entry = &entries[key];
        let (slot, position) = (entry.slot(), entry.position);
        if slot == SLOT_NONE {
            self.early.remove(&(entry.visible(), key));
            return;
        }
        let keys = &mut self.slots[slot as usize];
        keys.swap_remove(position as usize);
        if let Some(moved) = keys.get(position as usize) {
            entries[*moved].position = position;
        }
        self.len -= 1;
        self.close_if_empty(slot as usize);
    }

    /// Reads what [`remove`](Self::remove) will, so that it is in the cache by then.
    pub(super) fn touch(&self, entries: &Entries, key: u32) -> u32 {
        let entry = &entries[key];
        let Some(keys) = self.slots.get(entry.slot() as usize) else { return 0 };
        let own = keys.get(entry.position as usize).copied().unwrap_or_default();
        own ^ keys.last().map_or(0, |last| entries[*last].position)
    }

    /// Nothing here is visible before.
    pub(super) fn next_visible(&self) -> Option<Tick> {
        let early = self.early.first().map(|(visible, _)| *visible);
        let next = self.next().map(|next| next.start);
        early.into_iter().chain(next).min()
    }

    /// Moves the position to `now`, as far as that moves no timer.
    pub(super) fn follow(&mut self, now: Tick) {
        let is_free = self.next().is_none_or(|next| self.position < now && now < next.start);
        if is_free {
            self.position = now;
        }
    }

    /// Takes out up to `max` keys that are visible at `now`, earliest first, and cascades at most
    /// `moves_max` on the way; gives how many it did.
    pub(super) fn take_visible(
        &mut self,
        entries: &mut Entries,
        now: Tick,
        taken: &mut Vec<u32>,
        max: usize,
        moves_max: usize,
    ) -> usize {
        self.take_early(now, taken, max);
        let mut moves = 0;
        while taken.len() < max && moves < moves_max {
            let Some(next) = self.next().filter(|next| next.start <= now) else {
                self.follow(now);
                break;
            };
            self.position = next.start;
            if next.is_exact() {
                self.take_slot(next.slot, taken, max);
            } else {
                moves += self.cascade(entries, next.slot, moves_max - moves);
            }
        }
        moves
    }

    fn take_early(&mut self, now: Tick, taken: &mut Vec<u32>, max: usize) {
        while taken.len() < max
            && self.early.first().is_some_and(|(visible, _)| *visible <= now)
            && let Some((_, key)) = self.early.pop_first()
        {
            taken.push(key);
        }
    }

    fn take_slot(&mut self, slot: usize, taken: &mut Vec<u32>, max: usize) {
        let keys = &mut self.slots[slot];
        let rest = keys.len().saturating_sub(max - taken.len());
        self.len -= keys.len() - rest;
        taken.extend(keys.drain(rest..));
        self.close_if_empty(slot);
    }

    /// Moves up to `moves_max` timers of the slot at the position to lower levels.
    fn cascade(&mut self, entries: &mut Entries, slot: usize, moves_max: usize) -> usize {
        let moves = self.slots[slot].len().min(moves_max);
        let mut left = moves;
        while left > 0 {
            left -= self.cascade_some(entries, slot, left.min(WARM));
        }
        self.close_if_empty(slot);
        moves
    }

    fn cascade_some(&mut self, entries: &mut Entries, slot: usize, count: usize) -> usize {
        let mut moving = [(0, Tick(0)); WARM];
        let keys = &mut self.slots[slot];
        let tail = keys.drain(keys.len() - count..);
        for (moving, key) in moving.iter_mut().zip(tail) {
            *moving = (key, entries[key].visible());
        }
        self.len -= count;
        for (key, visible) in &moving[..count] {
            self.insert(entries, *key, *visible);
        }
        count
    }

    fn close_if_empty(&mut self, slot: usize) {
        let keys = &mut self.slots[slot];
        if !keys.is_empty() {
            return;
        }
        if keys.capacity() > SLOT_KEPT {
            *keys = Vec::new();
        }
        let (level, digit) = (slot / LEVEL_SLOTS, slot % LEVEL_SLOTS);
        self.occupied[level][digit / WORD_BITS] &= !(1 << (digit % WORD_BITS));
    }

    fn next(&self) -> Option<Next> {
        if self.len == 0 {
            return None;
        }
        self.unfinished().or_else(|| {
            (0..LEVELS).find_map(|level| {
                let digit = first_from(&self.occupied[level], self.position.digit(level))?;
                let start = self.position.slot_start(level, digit);
                Some(Next { slot: level * LEVEL_SLOTS + digit, start })
            })
        })
    }

    /// A slot around the position, above the lowest level: its cascade was cut short. Nothing is
    /// ever added to such a slot, so there is one at most.
    fn unfinished(&self) -> Option<Next> {
        (1..LEVELS).find_map(|level| {
            let digit = self.position.digit(level);
            let is_occupied = self.occupied[level][digit / WORD_BITS] >> (digit % WORD_BITS) & 1;
            let start = self.position;
            (is_occupied == 1).then_some(Next { slot: level * LEVEL_SLOTS + digit, start })
        })
    }
}

/// The first occupied slot, from `digit` on.
fn first_from(occupied: &Occupied, digit: usize) -> Option<usize> {
    let (word, bit) = (digit / WORD_BITS, digit % WORD_BITS);
    let here = occupied[word] & (!0 << bit);
    if here != 0 {
        return Some(word * WORD_BITS + here.trailing_zeros() as usize);
    }
    let beyond = (word + 1..occupied.len()).find(|word| occupied[*word] != 0)?;
    Some(beyond * WORD_BITS + occupied[beyond].trailing_zeros() as usize)
}
