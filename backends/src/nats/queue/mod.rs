//! A delay queue on JetStream: the server hands each timer over a little early, and it is held
//! here to the millisecond.
//!
//! # Delivery
//! At least once. The last message of an order's subjects is its timer: storing another replaces
//! it, removing it cancels it, and each lease is checked against it, so that nothing that was
//! changed by any handle fires, but for a schedule that the server was about to fire when it was
//! changed: that comes, and what it was changed to is gone. A lease that runs out makes its timer visible on the same handle,
//! or, if nobody leases there any more, on another.

mod feed;
mod place;
mod store;
mod wire;

use std::sync::Arc;
use std::time::Duration;

use async_nats::Subject;
use async_trait::async_trait;
use expirer_core::{
    Clock, DelayQueue, Lease, LeaseOptions, OrderId, QueueCapabilities, QueueStats, Receipt,
    Release, Result, Timer,
};

use self::feed::Feed;
use self::place::KEEP;
use self::store::{Last, Put, Store, Trouble};
use self::wire::{Body, HORIZON, Names};
use super::connection::Connection;
use super::inspect::inspect;
use super::url::{Options, Part, Via};
use super::{BACKEND, PREFIX};
use crate::connect::{ConnectOptions, Opened};
use crate::hold::{Hold, Leased};
use crate::timers::last_of_each;

/// How late a timer may become visible that was brought forward, or whose handle nobody leases
/// from any more.
const PRECISION: Duration = Duration::from_secs(1);

/// A delay queue on NATS.
#[derive(Debug)]
pub struct NatsQueue {
    store: Arc<Store>,
    hold: Arc<Hold<Subject>>,
    clock: Arc<dyn Clock>,
}

impl NatsQueue {
    /// Connects, makes the stream and its consumer where they are missing, and looks at them.
    ///
    /// # Errors
    /// [`Invalid`](expirer_core::ErrorKind::Invalid) for a URL that is wrong,
    /// [`Unsupported`](expirer_core::ErrorKind::Unsupported) for a server without JetStream or,
    /// unless the URL says `?via=redelivery`, without schedules,
    /// [`Corrupt`](expirer_core::ErrorKind::Corrupt) for a stream of this name that is not ours,
    /// and what connecting gives.
    pub async fn open(url: &str, options: &ConnectOptions) -> Result<Opened<Self>> {
        let parsed = Options::parse(url, Part::Queue)?;
        let connection = Arc::new(Connection::open(&parsed, options).await?);
        inspect(&connection, &parsed).await?;
        let prefix = parsed.prefix.as_deref().unwrap_or(PREFIX);
        let names = Names::new(prefix, parsed.via.unwrap_or(Via::Schedule));
        let (replicas, trouble) = (parsed.replicas, Trouble::default());
        let store = Arc::new(Store { connection, names, replicas, trouble });
        let warning = store.open().await?;
        let clock = Arc::clone(&options.clock);
        let hold = Arc::new(Hold::new(Arc::clone(&clock), options.seed, KEEP));
        tokio::spawn(Feed::new(&store, &hold, options.leaving.enter()).run());
        let queue = Self { store, hold, clock };
        Ok(Opened::new(queue).with_warnings(warning.into_iter().collect()))
    }

    /// Of what is leased here, that which still is as it was when it came; the rest is put back or
    /// forgotten. Fails if nothing is left, and that for want of an answer.
    async fn checked(&self, leased: Vec<Leased<Subject>>) -> Result<Vec<Lease>> {
        let ids = leased.iter().map(|leased| &leased.lease.timer.id);
        let lasts = self.store.last_all("lease", ids).await;
        let (mut good, mut stale, mut unknown, mut failure) = (vec![], vec![], vec![], None);
        for (leased, last) in leased.into_iter().zip(lasts) {
            match last {
                Ok(Some(last)) if last.seq == leased.version => good.push(leased.lease),
                Ok(last) => stale.push((leased, last)),
                Err(error) => {
                    unknown.push(leased.lease.receipt);
                    failure = Some(error);
                }
            }
        }
        self.hold.put_back(&unknown);
        self.drop_stale(stale).await;
        match failure {
            Some(failure) if good.is_empty() => Err(failure.into()),
            _ => Ok(good),
        }
    }

    /// Forgets timers that were cancelled or have changed, and removes messages of those that have
    /// newer ones.
    async fn drop_stale(&self, stale: Vec<(Leased<Subject>, Option<Last>)>) {
        self.hold.settle(stale.iter().map(|(leased, _)| leased.lease.receipt));
        let is_newer = |last: &Option<Last>, version| last.is_some_and(|last| last.seq > version);
        let old = stale.iter().filter(|(leased, last)| is_newer(last, leased.version));
        let old: Vec<_> = old.map(|(leased, _)| leased.version).collect();
        // What stays is found stale once more when it comes again.
        drop(self.store.remove("lease", old).await);
    }
}

#[async_trait]
impl DelayQueue for NatsQueue {
    async fn schedule(&self, timers: &[Timer]) -> Result<()> {
        let moved = self.store.schedule(last_of_each(timers)).await?;
        self.hold.remove_older(moved.iter().map(|(id, seq)| (id, *seq)));
        Ok(())
    }

    async fn cancel(&self, ids: &[OrderId]) -> Result<()> {
        self.store.cancel(ids.iter()).await?;
        self.hold.remove_older(ids.iter().map(|id| (id, u64::MAX)));
        Ok(())
    }

    async fn lease(&self, mut options: LeaseOptions) -> Result<Vec<Lease>> {
        let deadline = self.clock.now() + options.wait;
        loop {
            let leased = self.hold.lease(&options).await;
            if leased.is_empty() {
                return self.store.check().map(|()| Vec::new());
            }
            let leases = self.checked(leased).await?;
            if !leases.is_empty() {
                return Ok(leases);
            }
            options.wait = options.wait.min(deadline.since(self.clock.now()));
        }
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        let held = self.hold.find(receipts.iter().copied());
        let seqs = held.iter().map(|leased| leased.version).collect();
        self.store.remove("ack", seqs).await?;
        self.hold.settle(held.iter().map(|leased| leased.lease.receipt));
        Ok(())
    }

    async fn release(&self, releases: &[Release]) -> Result<()> {
        let mut puts = Vec::new();
        let mut held = Vec::new();
        for release in releases {
            let Some(leased) = self.hold.find([release.receipt]).pop() else { continue };
            let Timer { id, due } = leased.lease.timer;
            let body = Body::given_back(due, release.at, leased.lease.attempt);
            puts.push(Put { id, body, last: Some(Last::handed_over(leased.version)) });
            held.push(release.receipt);
        }
        let mut outcome = Ok(());
        let mut old = Vec::new();
        for ((put, receipt), answer) in
            puts.iter().zip(&held).zip(self.store.put_all("release", &puts).await)
        {
            match answer {
                Ok(_) => {
                    old.extend(put.last.map(|last| last.seq));
                    self.hold.settle([*receipt]);
                }
                Err(failure) => outcome = Err(failure.into()),
            }
        }
        self.store.remove("release", old).await?;
        outcome
    }

    /// Timers that other handles have leased count as pending.
    async fn stats(&self) -> Result<QueueStats> {
        let count = self.store.count().await?;
        let mut stats = QueueStats::default();
        stats.leased = self.hold.stats().leased.min(count);
        stats.pending = count - stats.leased;
        Ok(stats)
    }

    fn capabilities(&self) -> QueueCapabilities {
        let mut capabilities = QueueCapabilities::new(BACKEND);
        capabilities.durable = true;
        // The server decides first which schedules to fire, and stores what comes of it a little
        // later: what was cancelled or moved in between comes all the same.
        capabilities.exact_cancel = self.store.names.via == Via::Redelivery;
        capabilities.precision = PRECISION;
        capabilities.horizon = (self.store.names.via == Via::Schedule).then_some(HORIZON);
        capabilities
    }
}

impl Drop for NatsQueue {
    fn drop(&mut self) {
        self.hold.close();
    }
}
