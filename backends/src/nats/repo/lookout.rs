//! Looking for what is overdue.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use expirer_core::{Error, ErrorKind, OrderId, OverdueOptions, Record, Revision, Timestamp};

use super::NatsRepo;
use super::bucket::{Found, Written};
use super::entry::{Entry, slot, until};
use super::row::Row;
use crate::nats::BACKEND;
use crate::nats::connection::Answered;
use crate::nats::error::Failure;

const OP: &str = "overdue";
/// The most records of one look.
const LOOK_MAX: usize = 1024;
/// How often one look asks each filter for its next entry: those that it finds and may not return
/// count, too.
const STEPS_MAX: usize = 4 * LOOK_MAX;
/// How often one call looks on where others were faster.
const LOOKS_MAX: usize = 8;
/// An entry whose change has not come for so long will not see it come.
const PENDING_MAX: Duration = Duration::from_secs(86_400);

/// Where a look stands: which filters have more, and from where on.
struct Path {
    filters: Vec<(String, u64)>,
    steps: usize,
    /// What was found by then is enough.
    until: Timestamp,
}

/// An entry that was found.
struct Sight {
    entry: Entry,
    found: Found,
}

/// An entry that is to be put off, and the record that it stands for.
type Live = (Sight, Option<Box<Record>>);

/// What is to be done with an entry.
enum Verdict {
    /// It stands for this record; for none that can be read or is there yet, and is put off all the
    /// same.
    Live(Option<Box<Record>>),
    /// It stands for nothing, and never will.
    Stale,
    /// Its order is not overdue at that time.
    Leave,
}

impl NatsRepo {
    /// Looks until somebody has something, or nothing is left.
    pub(super) async fn look(&self, options: &OverdueOptions) -> Answered<Vec<Record>> {
        if options.max == 0 {
            return Ok(Vec::new());
        }
        let filters = until(slot(options.before)).into_iter().map(|filter| (filter, 1)).collect();
        // A look that takes too long is dropped by its caller, with nothing done.
        let until = self.clock.now() + self.bucket.connection.answer_within() / 2;
        let mut path = Path { filters, steps: STEPS_MAX, until };
        for _ in 0..LOOKS_MAX {
            let sights = self.sights(&mut path, options).await?;
            if sights.is_empty() {
                break;
            }
            let records = self.claim(sights, options).await?;
            if !records.is_empty() {
                return Ok(records);
            }
        }
        self.unreported().take().map_or_else(|| Ok(Vec::new()), |error| Err(Failure::new(error)))
    }

    /// The next entries that are due, as many as may be returned.
    async fn sights(&self, path: &mut Path, options: &OverdueOptions) -> Answered<Vec<Sight>> {
        let (mut sights, max) = (BTreeMap::new(), options.max.min(LOOK_MAX));
        while sights.len() < max && path.steps > 0 && !path.filters.is_empty() {
            if !sights.is_empty() && self.clock.now() >= path.until {
                break;
            }
            path.steps -= 1;
            for found in self.step(path).await? {
                match Entry::read(&found) {
                    Some(entry) if entry.at < options.before => {
                        self.see(&mut sights, Sight { entry, found }).await;
                    }
                    Some(_) => {}
                    None => self.remember(self.foreign(&found)),
                }
            }
        }
        // More than asked for stay as they are.
        Ok(sights.into_values().take(max).collect())
    }

    /// Takes an entry in. One whose looker died while it put it off is there twice: the older goes,
    /// never the newer, so that of several lookers none removes what another has left.
    async fn see(&self, sights: &mut BTreeMap<String, Sight>, sight: Sight) {
        let Some(other) = sights.remove(&sight.entry.mark) else {
            sights.insert(sight.entry.mark.clone(), sight);
            return;
        };
        let is_newer = sight.found.revision > other.found.revision;
        let (newer, older) = if is_newer { (sight, other) } else { (other, sight) };
        self.drop_entries(&[older.found.revision]).await;
        sights.insert(newer.entry.mark.clone(), newer);
    }

    /// What each filter finds next; those that find nothing more are left out from then on.
    async fn step(&self, path: &mut Path) -> Answered<Vec<Found>> {
        let filters = path.filters.iter().map(|(filter, from)| (filter.as_str(), *from));
        let answers = self.bucket.next(OP, filters).await;
        let mut all = Vec::new();
        for ((_, from), answer) in path.filters.iter_mut().zip(answers) {
            let found = answer?;
            *from = found.as_ref().map_or(0, |found| found.revision + 1);
            all.extend(found);
        }
        path.filters.retain(|(_, from)| *from > 0);
        Ok(all)
    }

    /// Puts entries off, and gives the records of those that nobody else has put off.
    async fn claim(&self, sights: Vec<Sight>, options: &OverdueOptions) -> Answered<Vec<Record>> {
        let (live, stale) = self.judge(sights, options.before).await?;
        self.drop_entries(&stale).await;
        let later = |sight: &Sight| Entry { at: options.again_at, ..sight.entry.clone() };
        let puts = live.iter().map(|(sight, _)| later(sight).put_over(&sight.found)).collect();
        let claimed = self.bucket.write(OP, puts).await;
        let (mut records, mut moves) = (Vec::new(), Vec::new());
        for ((sight, record), claimed) in live.into_iter().zip(claimed) {
            if let Ok(Written::Done(revision)) = claimed {
                records.extend(record.map(|record| *record));
                moves.push((later(&sight), revision));
            }
        }
        moves.retain(|(entry, _)| entry.slot() > slot(options.before));
        self.put_away(&moves).await;
        Ok(records)
    }

    /// Which entries stand for something, and which can go.
    async fn judge(
        &self,
        sights: Vec<Sight>,
        before: Timestamp,
    ) -> Answered<(Vec<Live>, Vec<u64>)> {
        let ids: Vec<OrderId> = sights.iter().map(|sight| sight.entry.id.clone()).collect();
        let rows = self.rows(OP, &ids).await;
        let (mut live, mut stale) = (Vec::new(), Vec::new());
        for (sight, row) in sights.into_iter().zip(rows) {
            match self.verdict(&sight, row, before)? {
                Verdict::Live(record) => live.push((sight, record)),
                Verdict::Stale => stale.push(sight.found.revision),
                Verdict::Leave => {}
            }
        }
        Ok((live, stale))
    }

    fn verdict(
        &self,
        sight: &Sight,
        row: Answered<Option<Row>>,
        before: Timestamp,
    ) -> Answered<Verdict> {
        let row = match row {
            Err(failure) if failure.kind() == ErrorKind::Corrupt => {
                self.remember(failure.into());
                return Ok(Verdict::Live(None));
            }
            row => row?,
        };
        let revision = row.as_ref().map_or(Revision::ABSENT, |row| row.record.revision);
        let live = row.filter(|row| row.mark == sight.entry.mark);
        Ok(match live {
            Some(row) if row.is_overdue(before) => Verdict::Live(Some(Box::new(row.record))),
            Some(_) => Verdict::Leave,
            // A change over another revision than this is a conflict, whenever it comes.
            None if sight.entry.over != revision => Verdict::Stale,
            None if sight.found.stored + PENDING_MAX < self.clock.now() => Verdict::Stale,
            None => Verdict::Live(None),
        })
    }

    /// Entries that were put off go to where they are looked for then.
    async fn put_away(&self, moves: &[(Entry, u64)]) {
        let written = self.bucket.write(OP, moves.iter().map(|(entry, _)| entry.put()).collect());
        let written = written.await.into_iter();
        let moved = moves.iter().zip(written).filter(|(_, written)| written.is_ok());
        let old: Vec<u64> = moved.map(|((_, revision), _)| *revision).collect();
        self.drop_entries(&old).await;
    }

    /// What fails comes again.
    async fn drop_entries(&self, revisions: &[u64]) {
        drop(self.bucket.remove(OP, revisions.iter().copied()).await);
    }
}

impl NatsRepo {
    fn foreign(&self, found: &Found) -> Error {
        let (subject, stream) = (self.bucket.subject(&found.key), self.bucket.stream());
        let text =
            format!("{subject} is no entry of ours: remove message {} of {stream}", found.revision);
        Error::new(ErrorKind::Corrupt, BACKEND, OP, text)
    }

    /// What cannot be read is told by the next look that finds nothing.
    fn remember(&self, error: Error) {
        *self.unreported() = Some(error);
    }

    fn unreported(&self) -> MutexGuard<'_, Option<Error>> {
        self.unreported.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
