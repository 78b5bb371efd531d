//! An order repository: a hash for each order, and Lua for compare-and-set.
//!
//! # Durability
//! What the server's append-only file gives. In a cluster a commit is confirmed, and what is owed
//! shown, once a replica has acknowledged it; a failover may lose it all the same, which is
//! unlikely, not impossible.

mod fence;
mod lookout;
mod row;
mod shard;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use expirer_core::{
    Change, Clock, Error, OrderId, OrderRepo, Outcome, OverdueOptions, Record, RepoCapabilities,
    Result,
};

use self::fence::Seen;
use self::row::{Row, Written};
use self::shard::Shard;
use super::connection::Connection;
use super::inspect::{Inspection, inspect};
use super::layout::{Kind, Layout, shard_of};
use super::script::Call;
use super::url::{Options, Part};
use super::{BACKEND, PREFIX};
use crate::connect::{ConnectOptions, Opened};
use crate::keep::Keep;
use crate::rounds::rounds;

pub use crate::keep::{AHEAD_KEEP, KEEP};

/// How many replicas have to acknowledge a commit in a cluster, unless the URL says otherwise.
pub const REPLICAS_OF_CLUSTER: u16 = 1;

/// An order repository on Redis.
#[derive(Debug)]
pub struct RedisRepo {
    connection: Arc<Connection>,
    layout: Layout,
    /// The connection that waits for replicas, so that nothing else does.
    waiting: Connection,
    /// How long a call waits for replicas: with an answer's time, less than a loop's step.
    replicas_wait: Duration,
    clock: Arc<dyn Clock>,
    shards: Vec<Shard>,
    keep: Keep,
    replicas: u16,
    durable: bool,
    /// Tells one change from the next.
    changes: AtomicU64,
    turn: AtomicUsize,
    /// A record that could not be read, while others could: the next look that finds nothing says
    /// so.
    unreported: Mutex<Option<Error>>,
}

impl RedisRepo {
    /// Connects, and reads or records how the repository is laid out.
    ///
    /// # Errors
    /// [`Invalid`](expirer_core::ErrorKind::Invalid) for a URL that is wrong or names another number of shards
    /// than the store has, and what connecting gives.
    pub async fn open(url: &str, options: &ConnectOptions) -> Result<Opened<Self>> {
        let parsed = Options::parse(url, Part::Repo)?;
        let connection = Arc::new(Connection::open(&parsed, options.answer_within).await?);
        let inspection = inspect(&connection).await?;
        let prefix = parsed.prefix.as_deref().unwrap_or(PREFIX);
        let clock = Arc::clone(&options.clock);
        let layout = Layout::open(&connection, &clock, Kind::Repo, prefix, parsed.shards).await?;
        let changes = layout.first_number(options.seed);
        let replicas_wait = options.answer_within * 4 / 15;
        let usual = if connection.is_cluster() { REPLICAS_OF_CLUSTER } else { 0 };
        let repo = Self {
            waiting: connection.blocking(&parsed, replicas_wait)?,
            replicas_wait,
            clock,
            shards: (0..layout.shards()).map(|number| Shard::new(prefix, number)).collect(),
            layout,
            keep: parsed.keep.unwrap_or(Keep::For(KEEP)),
            replicas: parsed.replicas.unwrap_or(usual),
            durable: inspection.durable,
            changes: AtomicU64::new(changes),
            turn: AtomicUsize::new(0),
            unreported: Mutex::default(),
            connection,
        };
        let warnings = repo.warnings(inspection);
        Ok(Opened { backend: repo, warnings })
    }

    /// What can lose orders, beside what holds for every part.
    fn warnings(&self, inspection: Inspection) -> Vec<String> {
        let place = self.connection.place();
        let mut warnings = inspection.warnings;
        if self.connection.is_cluster() {
            warnings.push(format!("redis {place}: {}", failover(self.replicas)));
        }
        let policy = inspection.policy.filter(|policy| policy.starts_with("volatile"));
        if let (Some(policy), Keep::For(_)) = (policy, self.keep) {
            warnings.push(format!(
                "redis {place}: maxmemory-policy is {policy}: a full server forgets orders that \
                 have ended before their time; set noeviction, or keep=forever"
            ));
        }
        warnings
    }

    fn shard(&self, id: &OrderId) -> &Shard {
        &self.shards[self.shard_number(id)]
    }

    fn shard_number(&self, id: &OrderId) -> usize {
        shard_of(id, self.shards.len())
    }

    /// Reads rows: one answer per id, in order.
    async fn rows(&self, op: &'static str, ids: &[OrderId]) -> Vec<Result<Option<Row>>> {
        let calls = ids.iter().map(|id| self.shard(id).load(id)).collect();
        let answers = self.connection.run(op, calls).await;
        let row = |(id, answer)| Row::read(op, &self.shard(id).order(id), id, answer);
        ids.iter().zip(answers).map(row).collect()
    }

    /// Applies changes of different orders. Each is in `changes`, at its place.
    async fn commit_round(
        &self,
        changes: &[Change],
        places: &[usize],
        outcomes: &mut [Outcome],
    ) -> Result<()> {
        let calls = places.iter().map(|place| self.commit_call(&changes[*place]));
        let calls = calls.collect::<Result<_>>()?;
        let mut result = Ok(());
        for (place, answer) in places.iter().zip(self.connection.run("commit", calls).await) {
            match answer.and_then(row::outcome) {
                Ok(outcome) => outcomes[*place] = outcome,
                Err(error) => result = result.and(Err(error)),
            }
        }
        result
    }

    fn commit_call(&self, change: &Change) -> Result<Call> {
        let digits = self.changes.fetch_add(1, Ordering::Relaxed);
        let written = Written::new(change, self.keep)?;
        Ok(self.shard(&change.id).commit(change, &written, digits))
    }
}

#[async_trait]
impl OrderRepo for RedisRepo {
    async fn load(&self, ids: &[OrderId]) -> Result<Vec<Option<Record>>> {
        self.layout.keep("load").await?;
        let rows = self.rows("load", ids).await.into_iter();
        let records = rows.map(|row| Ok(row?.map(|row| row.record)));
        let records = records.collect::<Result<Vec<Option<Record>>>>()?;
        let owing: Vec<_> = records.iter().flatten().filter_map(Seen::owing).collect();
        self.confirm("load", &owing).await.into_iter().collect::<Result<()>>()?;
        Ok(records)
    }

    async fn commit(&self, changes: &[Change]) -> Result<Vec<Outcome>> {
        self.layout.keep("commit").await?;
        let mut outcomes = vec![Outcome::Conflict; changes.len()];
        for places in rounds(changes) {
            self.commit_round(changes, &places, &mut outcomes).await?;
        }
        let written = changes.iter().zip(&outcomes).filter_map(Seen::written);
        let written: Vec<_> = written.collect();
        self.confirm("commit", &written).await.into_iter().collect::<Result<()>>()?;
        Ok(outcomes)
    }

    async fn overdue(&self, options: OverdueOptions) -> Result<Vec<Record>> {
        self.layout.keep("overdue").await?;
        self.look(&options).await
    }

    fn capabilities(&self) -> RepoCapabilities {
        let mut capabilities = RepoCapabilities::new(BACKEND);
        capabilities.durable = self.durable;
        capabilities
    }
}

fn failover(replicas: u16) -> String {
    match replicas {
        0 => {
            "a cluster replicates asynchronously, and replicas is 0: a failover loses orders that \
              were confirmed; leave replicas out, or use one node with appendfsync always"
                .to_owned()
        }
        _ => format!(
            "a cluster replicates asynchronously: a commit waits for {replicas} of the replicas, \
             and a failover to another one, or one that was split off, loses it; use one node with \
             appendfsync always where that counts"
        ),
    }
}
