//! Committing: the entry of the index first, then the order, then the old entry goes.

use expirer_core::{Change, OrderId, Outcome, Revision};

use super::NatsRepo;
use super::bucket::{Put, Written};
use super::entry::Entry;
use super::row::{Draft, Past, Row, key};
use crate::nats::connection::Answered;
use crate::nats::error::Failure;

const OP: &str = "commit";

/// A change on its way.
struct Work<'a> {
    /// Where in the batch it stands.
    place: usize,
    past: Past,
    draft: Draft<'a>,
    /// The entry that was written for it.
    entry: Option<u64>,
}

/// What a round has come to: a failure hides no success, but the batch fails.
#[derive(Default)]
struct Round<'a> {
    works: Vec<Work<'a>>,
    /// Entries that nothing needs any more.
    spent: Vec<u64>,
    failure: Option<Failure>,
}

impl NatsRepo {
    /// Applies changes of different orders. Each is in `changes`, at its place.
    pub(super) async fn commit_round(
        &self,
        changes: &[Change],
        places: &[usize],
        outcomes: &mut [Outcome],
    ) -> Answered<()> {
        let mut round = self.begun(changes, places).await;
        self.write_entries(&mut round).await;
        self.write_orders(&mut round, outcomes).await;
        // What is left is found by the next look.
        drop(self.bucket.remove(OP, round.spent.into_iter()).await);
        round.failure.map_or(Ok(()), Err)
    }

    /// Those changes whose order is as they expect: the others are conflicts, with nothing done.
    async fn begun<'a>(&self, changes: &'a [Change], places: &[usize]) -> Round<'a> {
        let mut round = Round::default();
        let changed: Vec<_> = places.iter().map(|place| &changes[*place]).collect();
        let pasts = self.pasts(&changed).await;
        for ((place, change), past) in places.iter().zip(changed).zip(pasts) {
            match past {
                Ok(past) if past.revision == change.expected => {
                    let draft = Draft::new(change, past, self.clock.now(), self.mark());
                    round.works.push(Work { place: *place, past, draft, entry: None });
                }
                Ok(_) => {}
                Err(failure) => round.failure = Some(failure),
            }
        }
        round
    }

    /// What has to be known of the orders: remembered, or read.
    async fn pasts(&self, changes: &[&Change]) -> Vec<Answered<Past>> {
        let known: Vec<_> = changes.iter().map(|change| self.past(change)).collect();
        let unknown = changes.iter().zip(&known).filter(|(_, known)| known.is_none());
        let ids: Vec<OrderId> = unknown.map(|(change, _)| change.id.clone()).collect();
        let mut read = self.rows(OP, &ids).await.into_iter();
        let past = |row: Option<Row>| row.map_or(Past::NONE, |row| row.past);
        let mut next = || read.next().map_or(Ok(Past::NONE), |row| row.map(past));
        known.into_iter().map(|known| known.map_or_else(&mut next, Ok)).collect()
    }

    fn past(&self, change: &Change) -> Option<Past> {
        match change.expected {
            // The server compares.
            Revision::ABSENT => Some(Past::NONE),
            expected => self.recent.at(&change.id, expected),
        }
    }

    async fn write_entries(&self, round: &mut Round<'_>) {
        let entries = round.works.iter().filter_map(|work| entry(&work.draft));
        let puts = entries.map(|entry| entry.put()).collect();
        let mut written = self.bucket.write(OP, puts).await.into_iter();
        let works = std::mem::take(&mut round.works);
        for mut work in works {
            if work.draft.due().is_some() {
                match written.next() {
                    Some(Ok(Written::Done(revision))) => work.entry = Some(revision),
                    Some(Err(failure)) => {
                        round.failure = Some(failure);
                        continue;
                    }
                    _ => continue,
                }
            }
            round.works.push(work);
        }
    }

    async fn write_orders(&self, round: &mut Round<'_>, outcomes: &mut [Outcome]) {
        let works = std::mem::take(&mut round.works);
        let answers = self.put_orders(works.iter()).await;
        let is_lost = |answer: &Answered<Written>| answer.as_ref().is_err_and(Failure::is_outage);
        let lost = works.iter().zip(&answers).filter(|(_, answer)| is_lost(answer));
        let mut again = self.repeat(lost.map(|(work, _)| work).collect()).await.into_iter();
        for (work, answer) in works.iter().zip(answers) {
            let outcome = match answer {
                Ok(Written::Done(revision)) => Ok(Outcome::Committed(Revision(revision))),
                Ok(Written::Conflict) => Ok(Outcome::Conflict),
                Err(failure) if failure.is_outage() => {
                    again.next().unwrap_or(Ok(None)).and_then(|outcome| outcome.ok_or(failure))
                }
                Err(failure) => {
                    // It was not written, and never will be.
                    round.spent.extend(work.entry);
                    Err(failure)
                }
            };
            match outcome {
                Ok(outcome) => {
                    outcomes[work.place] = outcome;
                    round.spent.extend(self.settle(work, outcome));
                }
                Err(failure) => round.failure = Some(failure),
            }
        }
    }

    async fn put_orders<'a>(
        &self,
        works: impl Iterator<Item = &'a Work<'a>>,
    ) -> Vec<Answered<Written>> {
        self.bucket.write(OP, works.map(|work| self.order(work)).collect()).await
    }

    /// Sends what has lost its answer again, in line after the first: so it is done now, or a
    /// conflict, be it with itself. (Looking first might overtake it.) `None` where the first may
    /// still come: a leader that lost its followers refuses what is behind it, and shows the order
    /// as it was.
    async fn repeat(&self, lost: Vec<&Work<'_>>) -> Vec<Answered<Option<Outcome>>> {
        let answers = self.put_orders(lost.iter().copied()).await;
        let ids: Vec<OrderId> = lost.iter().map(|work| work.draft.id().clone()).collect();
        let rows = self.rows(OP, &ids).await;
        let outcome = |((work, answer), row): ((&Work<'_>, _), Answered<Option<Row>>)| match answer?
        {
            Written::Done(revision) => Ok(Some(Outcome::Committed(Revision(revision)))),
            Written::Conflict => Ok(match row? {
                Some(row) if row.mark == work.draft.mark => {
                    Some(Outcome::Committed(row.record.revision))
                }
                row => {
                    let now = row.map_or(Revision::ABSENT, |row| row.record.revision);
                    (now != work.draft.expected()).then_some(Outcome::Conflict)
                }
            }),
        };
        lost.into_iter().zip(answers).zip(rows).map(outcome).collect()
    }

    fn order(&self, work: &Work<'_>) -> Put {
        let Work { draft, entry, .. } = work;
        Put {
            key: key(draft.id()),
            value: draft.text(*entry),
            expected: Some(draft.expected().0),
            keep_s: draft.keep_s(self.keep).filter(|_| self.keeps),
        }
    }

    /// Remembers what was committed, and gives the entry that nothing needs any more.
    fn settle(&self, work: &Work<'_>, outcome: Outcome) -> Option<u64> {
        let Outcome::Committed(revision) = outcome else { return work.entry };
        let past = Past { revision, since: work.draft.since, entry: work.entry };
        self.recent.insert(work.draft.id(), past);
        work.past.entry
    }
}

/// The entry that stands for a change, if its order needs one.
fn entry(draft: &Draft<'_>) -> Option<Entry> {
    let (id, over, mark) = (draft.id().clone(), draft.expected(), draft.mark.clone());
    draft.due().map(|at| Entry { id, over, mark, at })
}
