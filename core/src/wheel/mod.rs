//! The timer wheel: many timers by time and by id, in memory.
//!
//! Hierarchical timing wheels after G. Varghese and T. Lauck, "Hashed and Hierarchical Timing
//! Wheels" (SOSP 1987, scheme 7): a level for each byte of the time in milliseconds, with 256
//! slots. A timer is put down in O(1), moves down at most six times, and comes out at its very
//! millisecond.

mod entries;
mod index;
mod levels;
#[cfg(test)]
mod tests;
mod tick;

use std::fmt;
use std::hint::black_box;
use std::time::Duration;

use entries::{Entries, Entry};
use index::Index;
use levels::{Levels, WARM};

use crate::queue::LEASE_MAX;
use crate::{Lease, OrderId, QueueStats, Receipt, Release, Timer, Timestamp};

/// At most this many timers are leased, and as many moved to a lower level, in one call.
pub const MOVES_MAX: usize = 8192;

/// So many timers, a megabyte or so, stay in the cache by themselves.
const SMALL: usize = 16_384;

/// Timers by time and by id: at most one per order, each as the machine in
/// [`timer`](crate::timer) says. It waits for nothing and reads no clock: time is an argument.
///
/// *Cost*: every operation is O(1) a timer and made for batches (256 is a good size), because the
/// cache misses of a batch overlap. About 80 bytes a timer with an id of up to 24 bytes; the
/// memory of timers is kept for others, and given back when the wheel is empty.
///
/// *Bounds*: one call moves at most [`MOVES_MAX`] timers from level to level, whatever the time
/// and however many timers there are. Hence the loop of an owner:
///
/// ```
/// use std::time::Duration;
///
/// use expirer_core::{OrderId, Receipt, Timer, Timestamp, Wheel};
///
/// let mut wheel = Wheel::new(7);
/// let mut now = Timestamp::EPOCH;
/// let due = now + Duration::from_secs(900);
/// wheel.schedule(now, &[Timer::new(OrderId::new("o1")?, due)]);
///
/// let mut fired = Vec::new();
/// while let Some(next) = wheel.next_visible() {
///     now = now.max(next); // sleep until then
///     let leases = wheel.lease(now, 256, Duration::from_secs(10));
///     let receipts: Vec<Receipt> = leases.iter().map(|lease| lease.receipt).collect();
///     fired.extend(leases); // none: call again, or sleep again
///     wheel.ack(now, &receipts);
/// }
/// assert_eq!((fired.len(), now), (1, due));
/// # Ok::<(), expirer_core::InvalidId>(())
/// ```
///
/// *Clocks*: `now` may be anything at any call. Nothing is leased before the time it becomes
/// visible by the `now` of that very call. After a step back, timers that become visible before
/// the latest `now` of old cost O(log n) instead of O(1), until the clock is there again or no
/// other timer is left; nothing is rebuilt, so that no step costs a long pause. The same
/// goes for timers that are past due when they come.
pub struct Wheel {
    entries: Entries,
    index: Index,
    levels: Levels,
    leased: usize,
    /// The token of the latest lease. No token is used twice.
    token: u64,
    /// [`MOVES_MAX`], or less in a test.
    moves_max: usize,
    /// What the latest lease moved down.
    #[cfg(test)]
    moves: usize,
}

/// Where an id is in the index, most likely.
#[derive(Clone, Copy, Debug, Default)]
struct Guess {
    hash: u64,
    key: Option<u32>,
}

impl Wheel {
    /// An empty wheel. `seed` is for the hash of the ids: where strangers choose the ids, it
    /// should be random, so that they cannot make them collide.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            entries: Entries::default(),
            index: Index::new(seed),
            levels: Levels::new(),
            leased: 0,
            token: 0,
            moves_max: MOVES_MAX,
            #[cfg(test)]
            moves: 0,
        }
    }

    /// Adds timers, one per order: another due time replaces the one there (a lease on it becomes
    /// stale), the same changes nothing, a lease included. A due time in the past is due at once.
    /// For an id that is there more than once, the last one counts.
    ///
    /// # Panics
    /// With 2³² timers, which would take 300 GB.
    pub fn schedule(&mut self, now: Timestamp, timers: &[Timer]) {
        self.levels.follow(now.into());
        for timers in timers.chunks(WARM) {
            let guesses = self.warm(timers.iter().map(|timer| &timer.id));
            for (timer, guess) in timers.iter().zip(guesses) {
                self.schedule_one(timer, guess);
            }
        }
    }

    /// Removes timers, leased ones included. Unknown ids are ignored.
    pub fn cancel(&mut self, ids: &[OrderId]) {
        for ids in ids.chunks(WARM) {
            let guesses = self.warm(ids.iter());
            for (id, guess) in ids.iter().zip(guesses) {
                if let Some(key) = self.find(id, guess) {
                    self.remove(guess.hash, key);
                }
            }
        }
        self.shrink_if_empty();
    }

    /// Leases up to `max` timers that are visible at `now` (zero is taken as one, and more than
    /// [`MOVES_MAX`] as that), by due time, then id, until `now + duration`, at
    /// most [`LEASE_MAX`]. A duration of zero leases nothing to anybody: the timers stay visible.
    ///
    /// Fewer than `max`, or none, means that no more are visible only if
    /// [`next_visible`](Self::next_visible) is after `now` by then; else call again. Every
    /// call gets further, so that there is an end to it.
    pub fn lease(&mut self, now: Timestamp, max: usize, duration: Duration) -> Vec<Lease> {
        let (max, moves_max) = (max.clamp(1, MOVES_MAX), self.moves_max);
        let mut keys = Vec::with_capacity(max.min(self.len()));
        let moves =
            self.levels.take_visible(&mut self.entries, now.into(), &mut keys, max, moves_max);
        self.count_moves(moves);
        let until = now + duration.min(LEASE_MAX);
        let mut leases = Vec::with_capacity(keys.len());
        for keys in keys.chunks(WARM) {
            self.touch_entries(keys.iter().copied());
            leases.extend(keys.iter().filter_map(|key| self.lease_one(*key, until)));
        }
        leases.sort_unstable_by(|a, b| (a.timer.due, &a.timer.id).cmp(&(b.timer.due, &b.timer.id)));
        leases
    }

    /// Removes leased timers. A receipt whose lease is gone or has run out by `now` is ignored,
    /// as is one that nobody gave out.
    pub fn ack(&mut self, now: Timestamp, receipts: &[Receipt]) {
        for receipts in receipts.chunks(WARM) {
            let hashes = self.warm_held(receipts);
            for (receipt, hash) in receipts.iter().zip(hashes) {
                if let Some(key) = self.held(*receipt, now) {
                    self.remove(hash, key);
                }
            }
        }
        self.shrink_if_empty();
    }

    /// Gives leased timers back, to become visible at the given times, but never before they are
    /// due. Stale and unknown receipts are ignored as in [`ack`](Self::ack).
    pub fn release(&mut self, now: Timestamp, releases: &[Release]) {
        self.levels.follow(now.into());
        for release in releases {
            if let Some(key) = self.held(release.receipt, now) {
                let visible_at = release.at.max(self.entries[key].due);
                self.end_lease(key);
                self.show_at(key, visible_at);
            }
        }
    }

    /// No timer becomes visible before this, by due time, release or the end of a lease; `None`
    /// if there is none. A lower bound: whoever sleeps until then and leases may get nothing and
    /// has to sleep again, at most six times before a timer becomes visible.
    #[must_use]
    pub fn next_visible(&self) -> Option<Timestamp> {
        self.levels.next_visible().map(Timestamp::from)
    }

    /// Counts, in O(1). A lease that has run out counts as leased until the timer is leased again.
    #[must_use]
    pub fn stats(&self) -> QueueStats {
        let leased = self.leased as u64;
        let next_visible = self.next_visible();
        QueueStats { pending: self.len() as u64 - leased, leased, next_visible }
    }

    /// How many timers there are, leased ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no timer, not even a leased one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn schedule_one(&mut self, timer: &Timer, guess: Guess) {
        match self.find(&timer.id, guess) {
            Some(key) if self.entries[key].due == timer.due => {}
            Some(key) => self.reschedule(key, timer.due),
            None => self.add(timer, guess.hash),
        }
    }

    fn add(&mut self, timer: &Timer, hash: u64) {
        let key = self.entries.insert(Entry::new(timer.id.clone(), timer.due));
        self.index.insert(hash, key);
        self.levels.insert(&mut self.entries, key, timer.due.into());
    }

    fn reschedule(&mut self, key: u32, due: Timestamp) {
        self.end_lease(key);
        self.entries[key].due = due;
        self.entries[key].attempts = 0;
        self.show_at(key, due);
    }

    fn show_at(&mut self, key: u32, at: Timestamp) {
        self.levels.remove(&mut self.entries, key);
        self.levels.insert(&mut self.entries, key, at.into());
    }

    /// Leases an entry that was taken out of the levels.
    fn lease_one(&mut self, key: u32, until: Timestamp) -> Option<Lease> {
        self.token += 1;
        self.end_lease(key);
        self.leased += 1;
        let entry = &mut self.entries[key];
        entry.token = self.token;
        entry.attempts = entry.attempts.saturating_add(1);
        let timer = Timer::new(entry.id.clone()?, entry.due);
        let receipt = Receipt::new(u64::from(key), entry.token);
        let lease = Lease::new(timer, receipt).with_attempt(entry.attempts);
        self.levels.insert(&mut self.entries, key, until.into());
        Some(lease)
    }

    fn end_lease(&mut self, key: u32) {
        self.leased -= usize::from(self.entries[key].end_lease());
    }

    fn remove(&mut self, hash: u64, key: u32) {
        self.end_lease(key);
        self.levels.remove(&mut self.entries, key);
        self.index.remove(hash, key);
        self.entries.remove(key);
    }

    fn shrink_if_empty(&mut self) {
        if self.is_empty() && self.entries.shrink() {
            self.index.shrink_empty();
        }
    }

    fn find(&self, id: &OrderId, guess: Guess) -> Option<u32> {
        let is_id = |key: &u32| self.entries[*key].id.as_ref() == Some(id);
        guess.key.filter(is_id).or_else(|| self.index.find(guess.hash, id, &self.entries))
    }

    /// The entry whose lease this receipt proves.
    fn held(&self, receipt: Receipt, now: Timestamp) -> Option<u32> {
        let key = self.entries.leased(receipt.key(), receipt.token())?;
        (Timestamp::from(self.entries[key].visible()) > now).then_some(key)
    }

    /// Looks up a few ids, step by step for all of them, so that the cache misses overlap.
    fn warm<'a>(&self, ids: impl ExactSizeIterator<Item = &'a OrderId>) -> [Guess; WARM] {
        let mut guesses = [Guess::default(); WARM];
        let count = ids.len().min(WARM);
        for (guess, id) in guesses.iter_mut().zip(ids) {
            guess.hash = self.index.hash(id);
            guess.key = self.index.guess(guess.hash);
        }
        self.touch_index(&guesses[..count]);
        self.touch_entries(guesses.iter().filter_map(|guess| guess.key));
        self.touch_slots(guesses.iter().filter_map(|guess| guess.key));
        guesses
    }

    /// The same for those who come with a receipt; gives the hashes of their ids.
    fn warm_held(&self, receipts: &[Receipt]) -> [u64; WARM] {
        let leased = |receipt: &Receipt| self.entries.leased(receipt.key(), receipt.token());
        self.touch_entries(receipts.iter().filter_map(leased));
        let mut hashes = [0; WARM];
        for (hash, receipt) in hashes.iter_mut().zip(receipts) {
            let id = leased(receipt).and_then(|key| self.entries[key].id.as_ref());
            *hash = id.map_or(0, |id| self.index.hash(id));
            black_box(self.index.guess(*hash));
        }
        self.touch_slots(receipts.iter().filter_map(leased));
        hashes
    }

    fn touch_index(&self, guesses: &[Guess]) {
        if self.is_large() {
            let absent = guesses.iter().filter(|guess| guess.key.is_none());
            black_box(absent.fold(0, |sum, guess| sum ^ self.index.touch(guess.hash)));
        }
    }

    fn touch_entries(&self, keys: impl Iterator<Item = u32>) {
        if self.is_large() {
            black_box(keys.fold(0, |sum, key| sum ^ self.entries[key].touch()));
        }
    }

    fn touch_slots(&self, keys: impl Iterator<Item = u32>) {
        if self.is_large() {
            black_box(keys.fold(0, |sum, key| sum ^ self.levels.touch(&self.entries, key)));
        }
    }

    /// Too large for the cache, so that touching pays.
    fn is_large(&self) -> bool {
        self.len() > SMALL
    }

    #[cfg(test)]
    fn count_moves(&mut self, moves: usize) {
        self.moves = moves;
    }

    #[cfg(not(test))]
    const fn count_moves(&self, _: usize) {}
}

impl fmt::Debug for Wheel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wheel").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
