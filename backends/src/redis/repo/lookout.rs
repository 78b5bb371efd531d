//! Looking for what is overdue.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

use expirer_core::{Error, ErrorKind, OrderId, OverdueOptions, Record, Result};
use redis::Value;

use super::RedisRepo;
use super::fence::Seen;
use super::shard::CLAIM_MAX;
use crate::redis::BACKEND;
use crate::redis::error::unreadable;

/// How often one call looks on where all that it found is gone or cannot be read.
const LOOKS_MAX: usize = 8;

/// What a look gave. One part that fails hides nothing that others gave.
#[derive(Debug, Default)]
struct Look {
    ids: Vec<OrderId>,
    records: Vec<Record>,
    failure: Option<Error>,
}

impl RedisRepo {
    /// Looks at the shards, beginning with another one each time, and ends with the first round
    /// that gave something. A round has so many shards that each may give at least one.
    pub(super) async fn look(&self, options: &OverdueOptions) -> Result<Vec<Record>> {
        if options.max == 0 {
            return Ok(Vec::new());
        }
        let count = self.shards.len();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let order: Vec<usize> = (0..count).map(|at| turn.wrapping_add(at) % count).collect();
        let mut failure = None;
        for round in order.chunks(options.max) {
            for _ in 0..LOOKS_MAX {
                let mut look = self.look_at(round, options).await;
                failure = look.failure.take().or(failure);
                if !look.records.is_empty() {
                    self.remember(failure);
                    return Ok(look.records);
                }
                let is_corrupt = |error: &Error| error.kind() == ErrorKind::Corrupt;
                if look.ids.is_empty() || !failure.as_ref().is_none_or(is_corrupt) {
                    break;
                }
            }
        }
        failure.or_else(|| self.unreported().take()).map_or_else(|| Ok(Vec::new()), Err)
    }

    /// Finds what is overdue in some shards.
    async fn look_at(&self, round: &[usize], options: &OverdueOptions) -> Look {
        let mut look = self.claim(round, options).await;
        let rows = self.rows("overdue", &look.ids).await;
        let mut gone = Vec::new();
        for (id, row) in look.ids.iter().zip(rows) {
            match row {
                Ok(Some(row)) if row.is_overdue(options.before) => look.records.push(row.record),
                // Somebody has changed it in between.
                Ok(Some(_)) => {}
                Ok(None) => gone.push(self.shard(id).forget(id)),
                Err(error) => look.failure = Some(error),
            }
        }
        if !gone.is_empty() {
            // What fails comes again.
            drop(self.connection.run("overdue", gone).await);
        }
        self.hide_unconfirmed(&mut look).await;
        look
    }

    /// Takes out what owes and may not be on the replicas: it comes again.
    async fn hide_unconfirmed(&self, look: &mut Look) {
        let owing: Vec<_> = look.records.iter().filter_map(Seen::owing).collect();
        let mut confirmed = self.confirm("overdue", &owing).await.into_iter();
        let Look { records, failure, .. } = look;
        records.retain(|record| match Seen::owing(record).and_then(|_| confirmed.next()) {
            Some(Err(error)) => {
                *failure = Some(error);
                false
            }
            _ => true,
        });
    }

    /// Puts off what is overdue in some shards, an equal share of each.
    async fn claim(&self, round: &[usize], options: &OverdueOptions) -> Look {
        let share = (options.max / round.len()).min(CLAIM_MAX);
        let claim =
            |shard: &usize| self.shards[*shard].claim(options.before, options.again_at, share);
        let answers = self.connection.run("overdue", round.iter().map(claim).collect()).await;
        let mut look = Look::default();
        for (shard, answer) in round.iter().zip(answers) {
            let answer = answer.map_err(|error| self.of_index(*shard, error));
            let claimed = answer.and_then(|answer| self.read_claim(*shard, answer, &mut look));
            look.failure = claimed.err().or(look.failure);
        }
        look
    }

    fn read_claim(&self, shard: usize, answer: Value, look: &mut Look) -> Result<()> {
        let members: Vec<Vec<u8>> =
            redis::from_redis_value(answer).map_err(|error| unreadable("overdue", error))?;
        for member in members {
            let text = String::from_utf8_lossy(&member);
            match std::str::from_utf8(&member).ok().and_then(|text| OrderId::new(text).ok()) {
                Some(id) if self.shard_number(&id) == shard => look.ids.push(id),
                _ => look.failure = Some(foreign(self.shards[shard].index(), &text)),
            }
        }
        Ok(())
    }

    fn of_index(&self, shard: usize, error: Error) -> Error {
        match error.kind() {
            ErrorKind::Corrupt => {
                let text = format!("{} is no index of ours", self.shards[shard].index());
                Error::new(ErrorKind::Corrupt, BACKEND, "overdue", text)
            }
            _ => error,
        }
    }

    /// What is retried by itself is none of an operator's business.
    fn remember(&self, failure: Option<Error>) {
        if let Some(error) = failure.filter(|error| error.kind() == ErrorKind::Corrupt) {
            *self.unreported() = Some(error);
        }
    }

    fn unreported(&self) -> MutexGuard<'_, Option<Error>> {
        self.unreported.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn foreign(key: &str, member: &str) -> Error {
    let shown: String = member.chars().take(64).collect();
    let text = format!("{shown:?} in {key} is no order of ours: remove it by ZREM");
    Error::new(ErrorKind::Corrupt, BACKEND, "overdue", text)
}
