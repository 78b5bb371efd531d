//! An event bus on streams: one stream for each subject, one consumer group for each group.
//!
//! # Delivery
//! At least once, by the server's clock. A delivery that is not settled within its ack deadline
//! comes again, to any member; its old receipt does nothing. What is released waits in the pending
//! list of its group and holds nothing up.

mod chores;
mod consumer;
mod entry;
mod member;
mod receipts;
mod seat;
mod tail;
mod watch;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use expirer_core::{
    BusCapabilities, Clock, Consumer, EventBus, Group, Message, Progress, Result, Subject,
    SubscribeOptions, Tail, Timestamp,
};
use redis::Value;

use self::consumer::RedisConsumer;
use self::member::Member;
use self::tail::RedisTail;
use self::watch::Watch;
use super::BACKEND;
use super::connection::Connection;
use super::error::unreadable;
use super::inspect::inspect;
use super::url::{Options, Part};
use crate::connect::{ConnectOptions, Opened};

/// How long what every group has settled is kept, unless the URL says otherwise.
const RETAIN: Duration = Duration::from_secs(86_400);

/// An event bus on Redis.
#[derive(Debug)]
pub struct RedisBus {
    shared: Arc<Shared>,
    durable: bool,
}

/// What a bus, its consumers and its tails have in common.
#[derive(Debug)]
struct Shared {
    connection: Arc<Connection>,
    clock: Arc<dyn Clock>,
    prefix: Option<String>,
    retain: Duration,
    seed: u64,
    watch: Arc<Watch>,
}

impl Shared {
    /// A name and a token for one more member: never the same twice, in any process, since the
    /// seed is another one in each.
    fn next_member(&self) -> (String, u64) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        (seat::member(self.seed, number), self.seed.wrapping_add(number))
    }

    fn stream(&self, subject: &Subject) -> String {
        seat::stream(self.prefix.as_deref(), subject)
    }

    /// Stores messages; one answer for each.
    async fn add_all(&self, op: &'static str, messages: &[Message]) -> Vec<Result<Value>> {
        let streams: Vec<_> =
            messages.iter().map(|message| self.stream(&message.subject)).collect();
        let pairs = messages.iter().zip(&streams);
        let calls = pairs.map(|(message, stream)| seat::add(stream, message)).collect();
        let answers = self.connection.run(op, calls).await;
        let pairs = answers.into_iter().zip(&streams);
        pairs.map(|(answer, key)| answer.map_err(|e| seat::explained(op, key, e))).collect()
    }
}

impl RedisBus {
    /// Connects.
    ///
    /// # Errors
    /// [`Invalid`](expirer_core::ErrorKind::Invalid) for a URL that is wrong, and what connecting
    /// gives.
    pub async fn open(url: &str, options: &ConnectOptions) -> Result<Opened<Self>> {
        let parsed = Options::parse(url, Part::Bus)?;
        let connection = Arc::new(Connection::open(&parsed, options.answer_within).await?);
        let inspection = inspect(&connection).await?;
        let clock = Arc::clone(&options.clock);
        let watch = Watch::new(&connection, &parsed, Arc::clone(&clock))?;
        let shared = Arc::new(Shared {
            connection,
            clock,
            prefix: parsed.prefix,
            retain: parsed.retain.unwrap_or(RETAIN),
            seed: options.seed,
            watch: Arc::new(watch),
        });
        let bus = Self { shared, durable: inspection.durable };
        Ok(Opened { backend: bus, warnings: inspection.warnings })
    }
}

#[async_trait]
impl EventBus for RedisBus {
    async fn publish(&self, messages: &[Message]) -> Result<()> {
        let answers = self.shared.add_all("publish", messages).await;
        answers.into_iter().try_for_each(|answer| answer.map(drop))
    }

    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Consumer>> {
        let member = Member::new(Arc::clone(&self.shared), &options);
        member.join().await?;
        Ok(Box::new(RedisConsumer::new(Arc::new(member))))
    }

    async fn tail(&self, subjects: &[Subject]) -> Result<Box<dyn Tail>> {
        Ok(Box::new(RedisTail::open(Arc::clone(&self.shared), subjects).await?))
    }

    async fn progress(&self, group: &Group, subject: &Subject) -> Result<Progress> {
        const OP: &str = "progress";
        let stream = self.shared.stream(subject);
        let call = seat::progress(&stream, group);
        let answer: Result<Value> = self.shared.connection.call(OP, call).await;
        let answer = answer.map_err(|error| seat::explained(OP, &stream, error))?;
        let (waiting, unacked, worked_off): (u64, u64, i64) =
            redis::from_redis_value(answer).map_err(|error| unreadable(OP, error))?;
        let worked_off = Timestamp::from_millis(worked_off);
        Ok(Progress::new(waiting, unacked).with_worked_off(worked_off))
    }

    fn capabilities(&self) -> BusCapabilities {
        let mut capabilities = BusCapabilities::new(BACKEND);
        capabilities.durable = self.durable;
        capabilities.watermark = true;
        capabilities.fenced = true;
        capabilities.headers = true;
        capabilities.retains = true;
        capabilities
    }
}
