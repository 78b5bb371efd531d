//! A delay queue: one sorted set for each shard, and Lua for what has to be one step.
//!
//! # Delivery
//! At least once, by the server's clock. A timer whose lease runs out comes again; its old receipt
//! does nothing. A pending timer is its sorted-set entry and nothing more.

mod claim;
mod receipts;
mod shard;
mod wakes;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use expirer_core::queue::LEASE_MAX;
use expirer_core::{
    Clock, DelayQueue, Lease, LeaseOptions, OrderId, QueueCapabilities, QueueStats, Receipt,
    Release, Result, Timer, Timestamp,
};
use futures_lite::future;
use redis::Value;

use self::claim::Claimed;
use self::receipts::{Held, Receipts};
use self::shard::{CLAIM_MAX, ITEMS_MAX, Shard, channel};
use self::wakes::Wakes;
use super::connection::Connection;
use super::error::unreadable;
use super::inspect::inspect;
use super::layout::{Kind, Layout, shard_of};
use super::script::Call;
use super::url::{Options, Part};
use super::{BACKEND, PREFIX};
use crate::connect::{ConnectOptions, Opened};
use crate::timers::last_of_each;

/// How late a timer may become visible to a waiter while messages reach it.
const PRECISION: Duration = Duration::from_millis(50);
/// The shortest pause between two looks of one waiter.
const PAUSE_MIN: Duration = Duration::from_millis(1);

/// A delay queue on Redis.
#[derive(Debug)]
pub struct RedisQueue {
    connection: Arc<Connection>,
    layout: Layout,
    shards: Vec<Shard>,
    channel: String,
    clock: Arc<dyn Clock>,
    durable: bool,
    /// Never the same twice, on any handle.
    tokens: AtomicU64,
    receipts: Mutex<Receipts>,
    wakes: Arc<Wakes>,
    turn: AtomicUsize,
}

/// What one look at the shards gave.
#[derive(Debug, Default)]
struct Look {
    leases: Vec<Lease>,
    /// How long until the next timer becomes visible, by the server's clock.
    next: Option<Duration>,
    /// How far our clock is ahead of the server's, in milliseconds.
    ahead_ms: i64,
}

impl RedisQueue {
    /// Connects, and reads or records how the queue is laid out.
    ///
    /// # Errors
    /// [`Invalid`](expirer_core::ErrorKind::Invalid) for a URL that is wrong or names another
    /// number of shards than the store has, and what connecting gives.
    pub async fn open(url: &str, options: &ConnectOptions) -> Result<Opened<Self>> {
        let parsed = Options::parse(url, Part::Queue)?;
        let connection = Arc::new(Connection::open(&parsed, options.answer_within).await?);
        let inspection = inspect(&connection).await?;
        let prefix = parsed.prefix.as_deref().unwrap_or(PREFIX);
        let clock = Arc::clone(&options.clock);
        let layout = Layout::open(&connection, &clock, Kind::Queue, prefix, parsed.shards).await?;
        let queue = Self {
            connection,
            shards: (0..layout.shards()).map(|number| Shard::new(prefix, number)).collect(),
            channel: channel(prefix),
            clock,
            durable: inspection.durable,
            tokens: AtomicU64::new(layout.first_number(options.seed)),
            layout,
            receipts: Mutex::default(),
            wakes: Arc::default(),
            turn: AtomicUsize::new(0),
        };
        Ok(Opened { backend: queue, warnings: inspection.warnings })
    }

    /// Runs calls of which nothing but an error matters.
    async fn done(&self, op: &'static str, calls: Vec<Call>) -> Result<()> {
        self.connection.run(op, calls).await.into_iter().try_for_each(|answer| answer.map(drop))
    }

    /// Spreads items over the shards, each in pieces that one call takes.
    fn spread<'a, T: 'a>(
        &self,
        items: impl Iterator<Item = &'a T>,
        id: impl Fn(&T) -> &OrderId,
        call: impl Fn(&Shard, &[&'a T]) -> Call,
    ) -> Vec<Call> {
        let shards = &self.shards;
        let mut parts: Vec<Vec<&T>> = shards.iter().map(|_| Vec::new()).collect();
        items.for_each(|item| parts[shard_of(id(item), shards.len())].push(item));
        let parts = shards.iter().zip(&parts);
        parts
            .flat_map(|(shard, part)| part.chunks(ITEMS_MAX).map(|piece| call(shard, piece)))
            .collect()
    }

    /// Looks at the shards, beginning with another one each time, and ends with the first round
    /// that gave something. A round has so many shards that each may give at least one.
    async fn look(&self, max: usize, duration: Duration) -> Result<Look> {
        let count = self.shards.len();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let order: Vec<usize> = (0..count).map(|at| turn.wrapping_add(at) % count).collect();
        let mut all = Look::default();
        for round in order.chunks(max) {
            let look = self.look_at(round, max / round.len(), duration).await?;
            all.ahead_ms = look.ahead_ms;
            all.next = [all.next, look.next].into_iter().flatten().min();
            all.leases = look.leases;
            if !all.leases.is_empty() {
                break;
            }
        }
        all.leases.sort_by(|a, b| (a.timer.due, &a.timer.id).cmp(&(b.timer.due, &b.timer.id)));
        Ok(all)
    }

    /// Claims from some shards, each up to `share`. One that fails hides nothing that others gave.
    async fn look_at(&self, round: &[usize], share: usize, duration: Duration) -> Result<Look> {
        let tell = duration < wakes::poll(self.shards.len());
        let tokens: Vec<u64> =
            round.iter().map(|_| self.tokens.fetch_add(1, Ordering::Relaxed)).collect();
        let claim = |(shard, token): (&usize, &u64)| {
            self.shards[*shard].lease(share.min(CLAIM_MAX), duration, *token, tell)
        };
        let calls = round.iter().zip(&tokens).map(claim).collect();
        let asked = self.clock.now();
        let answers = self.connection.run("lease", calls).await;
        let mut look = Look::default();
        let mut failure = None;
        for ((shard, token), answer) in round.iter().zip(tokens).zip(answers) {
            match answer.and_then(|answer| self.read_claim(*shard, token, duration, answer)) {
                Ok((leases, claimed)) => {
                    look.leases.extend(leases);
                    look.ahead_ms = asked.as_millis() - claimed.now.as_millis();
                    let next = claimed.next.map(|next| next.since(claimed.now));
                    look.next = [look.next, next].into_iter().flatten().min();
                }
                Err(error) => failure = Some(error),
            }
        }
        match failure {
            Some(error) if look.leases.is_empty() => Err(error),
            _ => Ok(look),
        }
    }

    fn read_claim(
        &self,
        shard: usize,
        token: u64,
        duration: Duration,
        answer: Value,
    ) -> Result<(Vec<Lease>, Claimed)> {
        let mut claimed = Claimed::read(answer)?;
        let timers = std::mem::take(&mut claimed.timers);
        if timers.is_empty() {
            return claimed.or_foreign().map(|claimed| (Vec::new(), claimed));
        }
        let now = self.clock.now();
        let leases = self.receipts().mint(shard, token, timers, (now, now + duration));
        Ok((leases, claimed))
    }

    /// Waits until it is worth looking again, but not beyond `deadline`.
    async fn wait(&self, ear: &wakes::Ear<'_>, look: &Look, asked: Timestamp, deadline: Timestamp) {
        let poll = self.wakes.poll(self.shards.len());
        let next = look.next.map_or(poll, |next| next.clamp(PAUSE_MIN, poll));
        let mut until = (asked + next).min(deadline);
        let mut known = Timestamp::from_millis(until.as_millis() - look.ahead_ms);
        loop {
            let time = async {
                self.clock.sleep_until(until).await;
                None
            };
            let heard = async { Some(ear.earlier(known).await) };
            let Some(at) = future::or(heard, time).await else { return };
            (known, until) = (at, Timestamp::from_millis(at.as_millis() + look.ahead_ms));
        }
    }

    fn held<T>(&self, receipts: impl IntoIterator<Item = (Receipt, T)>) -> Vec<Held<T>> {
        self.receipts().find(receipts)
    }

    /// Runs one call for each claim, and forgets the receipts of those that succeeded.
    async fn settle<T>(
        &self,
        op: &'static str,
        held: Vec<Held<T>>,
        call: impl Fn(&Shard, &Held<T>) -> Call,
    ) -> Result<()> {
        let calls = held.iter().map(|held| call(&self.shards[held.shard], held)).collect();
        let answers = self.connection.run(op, calls).await;
        let mut receipts = self.receipts();
        let mut result = Ok(());
        for (held, answer) in held.iter().zip(answers) {
            match answer {
                Ok(_) => receipts.forget(held.token, held.items.iter().map(|(place, ..)| *place)),
                Err(error) => result = Err(error),
            }
        }
        result
    }

    fn receipts(&self) -> MutexGuard<'_, Receipts> {
        self.receipts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl DelayQueue for RedisQueue {
    async fn schedule(&self, timers: &[Timer]) -> Result<()> {
        self.layout.keep("schedule").await?;
        let calls = self.spread(
            last_of_each(timers),
            |timer| &timer.id,
            |shard, piece| shard.schedule(piece.iter().copied()),
        );
        self.done("schedule", calls).await
    }

    async fn cancel(&self, ids: &[OrderId]) -> Result<()> {
        let calls =
            self.spread(ids.iter(), |id| id, |shard, piece| shard.cancel(piece.iter().copied()));
        self.done("cancel", calls).await
    }

    async fn lease(&self, options: LeaseOptions) -> Result<Vec<Lease>> {
        let (max, duration) = (options.max.max(1), options.duration.min(LEASE_MAX));
        let deadline = self.clock.now() + options.wait;
        if !options.wait.is_zero() {
            self.wakes.listen(&self.connection, &self.channel, &self.clock);
        }
        let ear = self.wakes.ear();
        loop {
            ear.clear();
            self.layout.keep("lease").await?;
            let asked = self.clock.now();
            let look = self.look(max, duration).await?;
            if !look.leases.is_empty() || self.clock.now() >= deadline {
                return Ok(look.leases);
            }
            self.wait(&ear, &look, asked, deadline).await;
        }
    }

    async fn ack(&self, receipts: &[Receipt]) -> Result<()> {
        let held = self.held(receipts.iter().map(|receipt| (*receipt, ())));
        self.settle("ack", held, |shard, held| {
            shard.ack(held.token, held.items.iter().map(|(_, id, ())| id))
        })
        .await
    }

    async fn release(&self, releases: &[Release]) -> Result<()> {
        let now = self.clock.now();
        let distance_ms = |at: Timestamp| at.as_millis() - now.as_millis();
        let distances = releases.iter().map(|release| (release.receipt, distance_ms(release.at)));
        let held = self.held(distances);
        self.settle("release", held, |shard, held| {
            shard.release(held.token, held.items.iter().map(|(_, id, ms)| (id, *ms)))
        })
        .await
    }

    async fn stats(&self) -> Result<QueueStats> {
        let calls = self.shards.iter().map(Shard::stats).collect();
        let mut stats = QueueStats::default();
        for answer in self.connection.run("stats", calls).await {
            let (pending, leased, next): (u64, u64, String) =
                redis::from_redis_value(answer?).map_err(|error| unreadable("stats", error))?;
            stats.pending += pending;
            stats.leased += leased;
            let next = next.parse().ok().map(Timestamp::from_millis);
            stats.next_visible = [stats.next_visible, next].into_iter().flatten().min();
        }
        Ok(stats)
    }

    fn capabilities(&self) -> QueueCapabilities {
        let mut capabilities = QueueCapabilities::new(BACKEND);
        capabilities.durable = self.durable;
        capabilities.exact_cancel = true;
        capabilities.fenced = true;
        capabilities.precision = PRECISION;
        capabilities
    }
}
