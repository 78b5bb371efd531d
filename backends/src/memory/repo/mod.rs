//! The order repository in memory.

mod agenda;
mod index;
mod row;
mod rows;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use expirer_core::{
    Change, Clock, Error, ErrorKind, OrderId, OrderRepo, Outcome, OverdueOptions, Record,
    RepoCapabilities, Result, Timestamp,
};

use self::rows::Rows;
use super::{BACKEND, lock};

/// How long something heard ahead of its order is kept at least: an order may come long after its payment.
pub const AHEAD_KEEP: Duration = Duration::from_secs(24 * 3600);

/// How many ended orders one call forgets.
const FORGET_MAX: usize = 512;

/// How many records [`overdue`](OrderRepo::overdue) returns, whatever was asked for.
const OVERDUE_MAX: usize = 1 << 16;

/// An order repository within one process.
///
/// Open orders and those that owe something are kept for ever. An order that has ended and owes
/// nothing is forgotten after a while, as is what was heard ahead of an order that never came.
pub struct MemoryRepo {
    clock: Arc<dyn Clock>,
    rows: Mutex<Rows>,
}

impl MemoryRepo {
    /// An empty repository that forgets an order `keep_ended` after its last commit, if it has
    /// ended and owes nothing by then. `seed` is for the hash of the ids: where strangers choose
    /// the ids, it should be random, so that they cannot make them collide.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, keep_ended: Duration, seed: u64) -> Self {
        Self { clock, rows: Mutex::new(Rows::new(keep_ended, seed)) }
    }

    /// Acts under the lock, with the time read under it, after some of what is over was forgotten.
    fn with<T>(&self, act: impl FnOnce(&mut Rows, Timestamp) -> T) -> T {
        let mut rows = lock(&self.rows);
        let now = self.clock.now();
        rows.forget(now);
        act(&mut rows, now)
    }
}

#[async_trait]
impl OrderRepo for MemoryRepo {
    async fn load(&self, ids: &[OrderId]) -> Result<Vec<Option<Record>>> {
        Ok(self.with(|rows, now| rows.load(ids, now)))
    }

    async fn commit(&self, changes: &[Change]) -> Result<Vec<Outcome>> {
        self.with(|rows, now| rows.commit(changes, now))
            .ok_or_else(|| Error::new(ErrorKind::Overloaded, BACKEND, "commit", "2^32 orders"))
    }

    async fn overdue(&self, options: OverdueOptions) -> Result<Vec<Record>> {
        Ok(self.with(|rows, _| rows.overdue(&options)))
    }

    fn capabilities(&self) -> RepoCapabilities {
        RepoCapabilities::new(BACKEND)
    }
}

impl fmt::Debug for MemoryRepo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryRepo").finish_non_exhaustive()
    }
}
