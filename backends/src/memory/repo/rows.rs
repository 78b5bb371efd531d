//! All that the lock of the repository protects.

use std::time::Duration;

use expirer_core::{Change, OrderId, Outcome, OverdueOptions, Record, Revision, Timestamp};
use slab::Slab;

use super::agenda::Agenda;
use super::index::Index;
use super::row::{Appointment, Row};
use super::{FORGET_MAX, OVERDUE_MAX};

/// So many ids are looked up before the first is acted on: their cache misses overlap.
const WARM: usize = 32;

pub(super) struct Rows {
    rows: Slab<Row>,
    index: Index,
    /// The rows that are open or owe something.
    due: Agenda,
    /// The others.
    forget: Agenda,
    keep_ended: Duration,
    /// The last revision given to any row: one that was forgotten and comes again gets none that
    /// somebody may still hold.
    revision: u64,
}

/// Where an id is, most likely.
#[derive(Clone, Copy, Default)]
struct Guess {
    hash: u64,
    slot: Option<u32>,
}

impl Rows {
    pub(super) fn new(keep_ended: Duration, seed: u64) -> Self {
        Self {
            rows: Slab::new(),
            index: Index::new(seed),
            due: Agenda::default(),
            forget: Agenda::default(),
            keep_ended,
            revision: Revision::ABSENT.0,
        }
    }

    pub(super) fn load(&mut self, ids: &[OrderId], now: Timestamp) -> Vec<Option<Record>> {
        let mut records = Vec::with_capacity(ids.len());
        for ids in ids.chunks(WARM) {
            let guesses = self.warm(ids.iter());
            records.extend(ids.iter().zip(guesses).map(|(id, guess)| {
                let slot = self.find(id, guess, now)?;
                self.row(slot).map(Row::record)
            }));
        }
        records
    }

    /// Applies changes in order; `None` if the slots would run out, with nothing done.
    pub(super) fn commit(&mut self, changes: &[Change], now: Timestamp) -> Option<Vec<Outcome>> {
        u32::try_from(self.rows.len() + changes.len()).ok()?;
        let mut outcomes = Vec::with_capacity(changes.len());
        for changes in changes.chunks(WARM) {
            let guesses = self.warm(changes.iter().map(|change| &change.id));
            let pairs = changes.iter().zip(guesses);
            outcomes.extend(pairs.map(|(change, guess)| self.commit_one(change, guess, now)));
        }
        Some(outcomes)
    }

    fn commit_one(&mut self, change: &Change, guess: Guess, now: Timestamp) -> Outcome {
        let slot = self.find(&change.id, guess, now);
        let row = slot.and_then(|slot| self.row(slot));
        if row.map_or(Revision::ABSENT, |row| row.revision) != change.expected {
            return Outcome::Conflict;
        }
        self.revision += 1;
        let revision = Revision(self.revision);
        match slot {
            Some(slot) => self.update(slot, change, revision, now),
            None => self.insert(guess.hash, change, revision, now),
        }
        Outcome::Committed(revision)
    }

    fn update(&mut self, slot: u32, change: &Change, revision: Revision, now: Timestamp) {
        let Some(row) = self.rows.get_mut(slot as usize) else { return };
        let before = row.appointment();
        row.update(change, revision, now, self.keep_ended);
        let after = row.appointment();
        if before != after {
            self.cross_out(slot, before);
            self.enter(slot, after);
        }
    }

    fn insert(&mut self, hash: u64, change: &Change, revision: Revision, now: Timestamp) {
        let row = Row::new(change, revision, now, self.keep_ended);
        let appointment = row.appointment();
        #[expect(clippy::cast_possible_truncation, reason = "commit has seen to it")]
        let slot = self.rows.insert(row) as u32;
        self.index.insert(hash, slot, &self.rows);
        self.enter(slot, appointment);
    }

    /// Finds records that are overdue, and appoints them for later.
    pub(super) fn overdue(&mut self, options: &OverdueOptions) -> Vec<Record> {
        let before = self.due.before(options.before);
        let overdue: Vec<u32> = before.take(options.max.min(OVERDUE_MAX)).collect();
        let put_off = |slot| self.put_off(slot, options.again_at);
        overdue.into_iter().filter_map(put_off).collect()
    }

    fn put_off(&mut self, slot: u32, again_at: Timestamp) -> Option<Record> {
        let row = self.rows.get_mut(slot as usize)?;
        let (before, record) = (row.appointment(), row.record());
        row.put_off(again_at);
        self.cross_out(slot, before);
        self.enter(slot, Appointment::Due(again_at));
        Some(record)
    }

    /// Forgets some of what is over.
    pub(super) fn forget(&mut self, now: Timestamp) {
        for _ in 0..FORGET_MAX {
            let Some(slot) = self.forget.first_until(now) else { return };
            self.remove(slot);
        }
    }

    fn remove(&mut self, slot: u32) {
        let Some(row) = self.rows.try_remove(slot as usize) else { return };
        self.index.remove(self.index.hash(&row.id), slot);
        self.cross_out(slot, row.appointment());
    }

    fn enter(&mut self, slot: u32, appointment: Appointment) {
        match appointment {
            Appointment::Due(at) => self.due.insert(at, slot),
            Appointment::Forget(at) => self.forget.insert(at, slot),
        }
    }

    fn cross_out(&mut self, slot: u32, appointment: Appointment) {
        match appointment {
            Appointment::Due(at) => self.due.remove(at, slot),
            Appointment::Forget(at) => self.forget.remove(at, slot),
        }
    }

    fn row(&self, slot: u32) -> Option<&Row> {
        self.rows.get(slot as usize)
    }

    /// Looks all ids up, and only then at their rows.
    fn warm<'a>(&self, ids: impl Iterator<Item = &'a OrderId>) -> [Guess; WARM] {
        let mut guesses = [Guess::default(); WARM];
        for (guess, id) in guesses.iter_mut().zip(ids) {
            guess.hash = self.index.hash(id);
            guess.slot = self.index.guess(guess.hash);
        }
        guesses
    }

    /// The slot of a record, which is removed instead if it is over.
    fn find(&mut self, id: &OrderId, guess: Guess, now: Timestamp) -> Option<u32> {
        let is_right = |slot: &u32| self.row(*slot).is_some_and(|row| row.id == *id);
        let slot =
            guess.slot.filter(is_right).or_else(|| self.index.find(guess.hash, id, &self.rows))?;
        if self.row(slot)?.is_over(now) {
            self.remove(slot);
            return None;
        }
        Some(slot)
    }
}

#[cfg(test)]
impl Rows {
    /// How many rows, ids in the index, and entries in the agendas there are.
    pub(super) fn counts(&self) -> [usize; 3] {
        [self.rows.len(), self.index.len(), self.due.len() + self.forget.len()]
    }
}
