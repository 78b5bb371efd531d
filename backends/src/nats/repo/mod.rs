//! An order repository: a key-value bucket, in which a revision is compared and set.
//!
//! # Durability
//! What is confirmed is stored by the server (in a cluster by most of the servers that keep a
//! copy), and not yet synced to its disk unless the server's `sync_interval` is `always`.

mod bucket;
mod commit;
mod entry;
mod layout;
mod lookout;
mod recent;
mod row;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use expirer_core::{
    Change, Clock, Error, ErrorKind, OrderId, OrderRepo, Outcome, OverdueOptions, Record,
    RepoCapabilities, Result,
};

use self::bucket::{Bucket, Found};
use self::layout::Layout;
use self::recent::Recent;
use self::row::Row;
use super::BACKEND;
use super::connection::{Answered, Connection};
use super::error::{Failure, STREAM_NOT_FOUND};
use super::inspect::inspect;
use super::url::{Options, Part};
use crate::connect::{ConnectOptions, Opened};
use crate::keep::Keep;
use crate::rounds::rounds;

pub use crate::keep::{AHEAD_KEEP, KEEP};

/// The bucket, after the prefix.
const BUCKET: &str = "expirer-orders";

/// An order repository on NATS JetStream.
#[derive(Debug)]
pub struct NatsRepo {
    bucket: Bucket,
    clock: Arc<dyn Clock>,
    replicas: usize,
    keep: Keep,
    /// Whether the server lets a message say how long it is kept.
    keeps: bool,
    durable: bool,
    recent: Recent,
    seed: u64,
    changes: AtomicU64,
    /// What could not be read, while others could: the next look that finds nothing says so.
    unreported: Mutex<Option<Error>>,
}

impl NatsRepo {
    /// Connects, and finds or makes the bucket.
    ///
    /// # Errors
    /// [`Invalid`](ErrorKind::Invalid) for a wrong URL, [`Corrupt`](ErrorKind::Corrupt) for a
    /// stream of the bucket's name that is not ours, and what connecting gives.
    pub async fn open(url: &str, options: &ConnectOptions) -> Result<Opened<Self>> {
        let parsed = Options::parse(url, Part::Repo)?;
        let connection = Connection::open(&parsed, options).await?;
        inspect(&connection, &parsed).await?;
        let prefix =
            parsed.prefix.as_deref().map_or_else(String::new, |prefix| format!("{prefix}-"));
        let name = format!("{prefix}{BUCKET}");
        let bucket = Bucket { connection: Arc::new(connection), name };
        let replicas = parsed.replicas.unwrap_or(1);
        let layout = bucket.prepare_patiently("open", replicas).await?;
        let (keep, warnings) = keep(&parsed, &bucket, &layout)?;
        let repo = Self {
            clock: Arc::clone(&options.clock),
            replicas,
            keep,
            keeps: layout.keeps,
            durable: layout.is_durable,
            recent: Recent::new(options.seed),
            seed: options.seed,
            changes: AtomicU64::new(0),
            unreported: Mutex::default(),
            bucket,
        };
        let warnings = repo.warnings(&layout, parsed.replicas).chain(warnings).collect();
        Ok(Opened { backend: repo, warnings })
    }

    /// What can lose orders, or is not as the URL says.
    fn warnings(&self, layout: &Layout, asked: Option<usize>) -> impl Iterator<Item = String> {
        let Layout { replicas, is_durable, is_limited, .. } = *layout;
        let (place, stream) = (self.bucket.connection.place().to_owned(), self.bucket.stream());
        let other = asked.filter(|asked| *asked != replicas).map(|asked| {
            format!(
                "there are {replicas} copies, and not {asked} as the URL says: edit its replicas"
            )
        });
        let limited = "it has a limit: when it is full, it refuses orders";
        let memory = "it is in memory: a restart loses the orders; use file storage";
        let unsynced = is_durable.then(|| unsynced(replicas));
        let memory = (!is_durable).then(|| memory.to_owned());
        let warnings = [unsynced, memory, is_limited.then(|| limited.to_owned()), other];
        warnings.into_iter().flatten().map(move |text| format!("nats {place}: {stream}: {text}"))
    }

    /// Reads rows: one answer per id, in order.
    async fn rows(&self, op: &'static str, ids: &[OrderId]) -> Vec<Answered<Option<Row>>> {
        let answers = self.bucket.read(op, ids.iter().map(row::key)).await;
        let row = |(id, answer): (&OrderId, Answered<Option<Found>>)| {
            let Some(found) = answer? else { return Ok(None) };
            let subject = self.bucket.subject(&row::key(id));
            Row::read(op, &subject, id, &found).map(Some).map_err(Failure::new)
        };
        ids.iter().zip(answers).map(row).collect()
    }

    async fn load_all(&self, ids: &[OrderId]) -> Answered<Vec<Option<Record>>> {
        let rows = self.rows("load", ids).await.into_iter();
        let seen = |row: Row| {
            self.recent.insert(&row.record.id, row.past);
            row.record
        };
        rows.map(|row| Ok(row?.map(seen))).collect()
    }

    async fn commit_all(&self, changes: &[Change]) -> Answered<Vec<Outcome>> {
        let mut outcomes = vec![Outcome::Conflict; changes.len()];
        for places in rounds(changes) {
            self.commit_round(changes, &places, &mut outcomes).await?;
        }
        Ok(outcomes)
    }

    /// Another one for each change of each process.
    fn mark(&self) -> String {
        format!("{:016x}-{:x}", self.seed, self.changes.fetch_add(1, Ordering::Relaxed))
    }

    /// What a call gave. Where the bucket is gone, it is made again, which is told once.
    async fn told<T>(&self, op: &'static str, answer: Answered<T>) -> Result<T> {
        let failure = match answer {
            Ok(answer) => return Ok(answer),
            Err(failure) => failure,
        };
        let may_be_gone = failure.is(STREAM_NOT_FOUND) || failure.is_nobody_there();
        if may_be_gone && self.bucket.prepare(op, self.replicas).await?.is_new {
            let (place, stream) = (self.bucket.connection.place(), self.bucket.stream());
            let text =
                format!("{place}: {stream} was gone, with its orders: it is made again, empty");
            return Err(Error::new(ErrorKind::Unavailable, BACKEND, op, text));
        }
        Err(failure.into())
    }
}

#[async_trait]
impl OrderRepo for NatsRepo {
    async fn load(&self, ids: &[OrderId]) -> Result<Vec<Option<Record>>> {
        self.told("load", self.load_all(ids).await).await
    }

    async fn commit(&self, changes: &[Change]) -> Result<Vec<Outcome>> {
        self.told("commit", self.commit_all(changes).await).await
    }

    async fn overdue(&self, options: OverdueOptions) -> Result<Vec<Record>> {
        self.told("overdue", self.look(&options).await).await
    }

    fn capabilities(&self) -> RepoCapabilities {
        let mut capabilities = RepoCapabilities::new(BACKEND);
        capabilities.durable = self.durable;
        capabilities
    }
}

/// How long orders are kept that have ended, and what is to be said of it.
fn keep(options: &Options, bucket: &Bucket, layout: &Layout) -> Result<(Keep, Option<String>)> {
    let place = bucket.connection.place();
    match options.keep {
        Some(Keep::For(_)) if !layout.keeps => {
            let text =
                format!("{place}: only NATS 2.11 and later can forget orders: say keep=forever");
            Err(Error::new(ErrorKind::Unsupported, BACKEND, "open", text))
        }
        Some(keep) => Ok((keep, None)),
        None if layout.keeps => Ok((Keep::For(KEEP), None)),
        None => {
            let text = "only NATS 2.11 and later can forget orders that have ended: all are kept, and \
                        the bucket grows";
            Ok((Keep::Forever, Some(format!("nats {place}: {}: {text}", bucket.stream()))))
        }
    }
}

fn unsynced(replicas: usize) -> String {
    let what = match replicas {
        1 => "a crash of the machine loses what was confirmed since",
        _ => {
            "machines that crash lose what was confirmed since, copies or not (Jepsen on NATS 2.12.1)"
        }
    };
    format!(
        "servers confirm before they sync, every sync_interval (2 min unless set): {what}; set \
         jetstream {{ sync_interval: always }} where that counts"
    )
}
