//! Waiting for replicas: what is confirmed or announced is on them.
//!
//! `WAIT` tells of its own server alone. One that took over after a commit may lack it, and its
//! replicas are in step all the same. So the orders are looked at in the pipeline of the `WAIT`: only
//! the very revision that was seen counts. A later one may be built on it, or on what a master that
//! lacks it had.

use std::time::Duration;

use expirer_core::{Change, Error, ErrorKind, OrderId, Outcome, Record, Result, Revision};
use redis::{FromRedisValue, Value};

use super::RedisRepo;
use super::shard::FENCE_ORDERS_MAX;
use crate::redis::BACKEND;
use crate::redis::error::unreadable;
use crate::redis::join::join_all;

/// An order, and the revision that it has been seen with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen<'a> {
    pub(super) id: &'a OrderId,
    pub(super) revision: Revision,
}

/// What one fence says.
struct Fenced {
    revisions: Vec<Option<Revision>>,
    replicas: u16,
}

impl<'a> Seen<'a> {
    /// What was committed.
    pub(super) fn written((change, outcome): (&'a Change, &Outcome)) -> Option<Self> {
        match outcome {
            Outcome::Committed(revision) => Some(Self { id: &change.id, revision: *revision }),
            Outcome::Conflict => None,
        }
    }

    /// What is going to be announced, if anything is.
    pub(super) fn owing(record: &'a Record) -> Option<Self> {
        let Record { id, revision, owes, .. } = record;
        (!owes.is_empty()).then_some(Self { id, revision: *revision })
    }
}

impl RedisRepo {
    /// Waits until enough replicas have these orders as they were seen: one answer for each, in
    /// order. What somebody has changed since is unknown. Whatever their number, that takes less than
    /// twice `replicas_wait`, and the way to the server.
    ///
    /// Fences of one node wait one after the other, and nobody knows which those are: so all get a
    /// part of the time at once, and then the first that it did not do for gets the rest. One that
    /// fails then fails the call, and what is left is not tried.
    pub(super) async fn confirm(&self, op: &'static str, seen: &[Seen<'_>]) -> Vec<Result<()>> {
        let mut results: Vec<_> = seen.iter().map(|_| Ok(())).collect();
        let fences = self.fences(seen);
        let share = self.replicas_wait / u32::try_from(fences.len().max(1)).unwrap_or(u32::MAX);
        let at_once = fences.iter().map(|places| self.fence(op, seen, places, share));
        let mut late = Vec::new();
        for (places, fenced) in fences.iter().zip(join_all(at_once).await) {
            self.judge(op, seen, places, &fenced, &mut results);
            if self.is_late(&fenced) {
                late.push(places);
            }
        }
        let mut left = self.replicas_wait - share;
        for places in late {
            if left.is_zero() {
                break;
            }
            let begin = self.clock.now();
            let fenced = self.fence(op, seen, places, left).await;
            self.judge(op, seen, places, &fenced, &mut results);
            let took = if self.is_late(&fenced) { left } else { self.clock.now().since(begin) };
            left = left.saturating_sub(took);
        }
        results
    }

    fn is_late(&self, fenced: &Result<Fenced>) -> bool {
        fenced.as_ref().is_ok_and(|fenced| fenced.replicas < self.replicas)
    }

    fn judge(
        &self,
        op: &'static str,
        seen: &[Seen<'_>],
        places: &[usize],
        fenced: &Result<Fenced>,
        results: &mut [Result<()>],
    ) {
        for (at, place) in places.iter().enumerate() {
            results[*place] = self.verdict(op, seen[*place], at, fenced);
        }
    }

    /// Which orders share a fence: all on one node, in a cluster those of a shard.
    fn fences(&self, seen: &[Seen<'_>]) -> Vec<Vec<usize>> {
        if self.replicas == 0 {
            return Vec::new();
        }
        let mut groups = vec![Vec::new(); self.shards.len()];
        for (place, seen) in seen.iter().enumerate() {
            let is_cluster = self.connection.is_cluster();
            groups[if is_cluster { self.shard_number(seen.id) } else { 0 }].push(place);
        }
        let parts = groups.iter().flat_map(|group| group.chunks(FENCE_ORDERS_MAX));
        parts.map(<[usize]>::to_vec).collect()
    }

    async fn fence(
        &self,
        op: &'static str,
        seen: &[Seen<'_>],
        places: &[usize],
        wait: Duration,
    ) -> Result<Fenced> {
        let order = |place: &usize| self.shard(seen[*place].id).order(seen[*place].id);
        let orders: Vec<_> = places.iter().map(order).collect();
        let shard = places.first().map_or(0, |place| self.shard_number(seen[*place].id));
        let calls = self.shards[shard].fence(&orders, self.replicas, wait);
        let answers = self.waiting.run(op, calls.into()).await.into_iter();
        let answers = answers.collect::<Result<Vec<_>>>()?;
        let [revisions, _, replicas] = <[Value; 3]>::try_from(answers)
            .map_err(|_| unreadable(op, "not one answer for each call"))?;
        let revisions: Vec<Option<u64>> = read(op, revisions)?;
        let revisions = revisions.into_iter().map(|revision| revision.map(Revision)).collect();
        Ok(Fenced { revisions, replicas: read(op, replicas)? })
    }

    fn verdict(
        &self,
        op: &'static str,
        seen: Seen<'_>,
        at: usize,
        fenced: &Result<Fenced>,
    ) -> Result<()> {
        let fenced = fenced.as_ref().map_err(Clone::clone)?;
        let unknown = |text| Err(Error::new(ErrorKind::TimedOut, BACKEND, op, text));
        let (place, wanted) = (self.connection.place(), self.replicas);
        match fenced.revisions.get(at).copied().flatten() {
            Some(revision) if revision == seen.revision && fenced.replicas >= wanted => Ok(()),
            Some(revision) if revision == seen.revision => unknown(format!(
                "{place}: {} of {wanted} replicas have {} in time: it is done, and lost if its \
                 master is",
                fenced.replicas, seen.id
            )),
            _ => unknown(format!(
                "{place}: {} is not as it was seen: somebody has changed it since, or whoever serves \
                 it now may have lost it; load again",
                seen.id
            )),
        }
    }
}

fn read<T: FromRedisValue>(op: &'static str, answer: Value) -> Result<T> {
    redis::from_redis_value(answer).map_err(|error| unreadable(op, error))
}
