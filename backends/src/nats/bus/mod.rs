//! An event bus on JetStream: streams that keep every message, a durable pull consumer for each
//! group and subject.
//!
//! # Delivery
//! At least once, by the server's clock. A delivery that is not settled within its ack deadline
//! comes again, to any member. Acks and releases are confirmed by the server. It takes them from
//! anybody: a receipt is refused here after its deadline, and by nobody else (`fenced` is false).

mod floors;
mod member;
mod progress;
mod pump;
mod receipts;
mod seat;
mod streams;
mod tail;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use expirer_core::{
    BusCapabilities, Clock, Consumer, EventBus, Group, Message, Progress, Result, Subject,
    SubscribeOptions, Tail,
};

use self::floors::Floors;
use self::member::NatsConsumer;
use self::progress::Watermarks;
use self::seat::Seat;
use self::streams::{Described, Streams, TRIES};
use self::tail::NatsTail;
use super::BACKEND;
use super::connection::{Answered, Connection, Outgoing, Stored};
use super::error::{Failure, IN_PROCESS, STREAM_NOT_FOUND};
use super::inspect::inspect;
use super::url::{Options, Part};
use crate::connect::{ConnectOptions, Leaving, Opened};

/// How soon a message is sent again that a stream could not take just then.
const MOMENT: Duration = Duration::from_millis(50);

/// An event bus on NATS.
#[derive(Debug)]
pub struct NatsBus {
    shared: Arc<Shared>,
}

/// What a bus, its consumers and its tails have in common.
#[derive(Debug)]
struct Shared {
    connection: Arc<Connection>,
    streams: Streams,
    floors: Floors,
    watermarks: Watermarks,
    seed: u64,
    leaving: Leaving,
}

impl NatsBus {
    /// Connects, and makes the streams where they are not there.
    ///
    /// # Errors
    /// [`Invalid`](expirer_core::ErrorKind::Invalid) for a URL that is wrong,
    /// [`Unsupported`](expirer_core::ErrorKind::Unsupported) or
    /// [`Corrupt`](expirer_core::ErrorKind::Corrupt) for a server or a stream that will not do, and
    /// what connecting gives.
    pub async fn open(url: &str, options: &ConnectOptions) -> Result<Opened<Self>> {
        const OP: &str = "open";
        let parsed = Options::parse(url, Part::Bus)?;
        let connection = Arc::new(Connection::open(&parsed, options).await?);
        inspect(&connection, &parsed).await?;
        let streams = Streams::new(Arc::clone(&connection), &parsed);
        for subject in &Subject::EVENTS {
            streams.of(OP, subject).await?;
        }
        let warnings = streams.warnings(OP).await?;
        let (floors, watermarks, seed) = (Floors::default(), Watermarks::default(), options.seed);
        let leaving = options.leaving.clone();
        let shared = Arc::new(Shared { connection, streams, floors, watermarks, seed, leaving });
        Ok(Opened::new(Self { shared }).with_warnings(warnings))
    }
}

impl Shared {
    fn clock(&self) -> &Arc<dyn Clock> {
        self.connection.clock()
    }

    /// What tells the receipts of one member from those of every other, in any process: the seed is
    /// another one in each.
    fn next_token(&self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        self.seed.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed))
    }

    fn seat(&self, stream: String, group: &Group, subject: &Subject) -> Seat {
        Seat::new(self.streams.wire(subject), stream, group, subject)
    }

    /// The stream of a subject and what the server says of it; made again if it is gone.
    async fn described(
        &self,
        op: &'static str,
        subject: &Subject,
    ) -> Answered<(String, Described)> {
        let stream = self.streams.of(op, subject).await?;
        match self.streams.describe(op, &stream).await {
            Ok(described) => Ok((stream, described)),
            Err(failure) if failure.is(STREAM_NOT_FOUND) => {
                self.streams.forget(subject);
                let stream = self.streams.of(op, subject).await?;
                let described = self.streams.describe(op, &stream).await?;
                Ok((stream, described))
            }
            Err(failure) => Err(failure),
        }
    }

    /// The consumer of a group on a subject; made (again) where it is not there.
    async fn join(
        &self,
        op: &'static str,
        group: &Group,
        subject: &Subject,
        ack_deadline: Duration,
    ) -> Result<Seat> {
        let mut tries = 0;
        loop {
            tries += 1;
            match self.try_join(op, group, subject, ack_deadline).await {
                Err(failure) if failure.is_late() && tries < TRIES => (),
                joined => return Ok(joined?),
            }
        }
    }

    async fn try_join(
        &self,
        op: &'static str,
        group: &Group,
        subject: &Subject,
        ack_deadline: Duration,
    ) -> Answered<Seat> {
        let (stream, described) = self.described(op, subject).await?;
        let seat = self.seat(stream, group, subject);
        let floor = self.floors.of(&seat.consumer, &described.created);
        // A machine that crashed may have lost the end of the stream.
        let floor = floor.map(|floor| floor.min(described.state.last_seq));
        let joined = seat.join(op, &self.connection, ack_deadline, floor).await?;
        self.floors.note(&seat.consumer, &described.created, joined.floor());
        Ok(seat)
    }

    /// Remembers how far a group has come.
    fn note(&self, seat: &Seat, floor: u64) {
        self.floors.raise(&seat.consumer, floor);
    }

    /// Stores messages; one answer for each. A stream that is gone is made again.
    async fn store(&self, op: &'static str, messages: &[Message]) -> Vec<Result<()>> {
        if let Err(error) = self.settle(op, messages.iter().map(|m| &m.subject)).await {
            return messages.iter().map(|_| Err(error.clone())).collect();
        }
        let end = self.clock().now() + self.connection.answer_within();
        let mut open: Vec<usize> = (0..messages.len()).collect();
        let mut stored = self.try_store(op, messages, &open).await;
        loop {
            open.retain(|at| stored[*at].as_ref().is_err_and(passes_in_a_moment));
            if open.is_empty() || self.clock().now() >= end {
                return stored.into_iter().map(|answer| Ok(answer.map(drop)?)).collect();
            }
            self.clock().sleep_until(self.clock().now() + MOMENT).await;
            let subjects = open.iter().map(|at| &messages[*at].subject);
            let again = match self.settle(op, subjects).await {
                Ok(()) => self.try_store(op, messages, &open).await,
                Err(error) => open.iter().map(|_| Err(error.clone().into())).collect(),
            };
            open.iter().zip(again).for_each(|(at, answer)| stored[*at] = answer);
        }
    }

    /// Sees to it that there are streams for these subjects.
    async fn settle(
        &self,
        op: &'static str,
        subjects: impl Iterator<Item = &Subject>,
    ) -> Result<()> {
        let mut subjects: Vec<_> = subjects.collect();
        subjects.sort_unstable();
        subjects.dedup();
        for subject in subjects {
            self.streams.of(op, subject).await?;
        }
        Ok(())
    }

    /// Stores those at these places. A stream that may be gone is looked up again, the next time.
    async fn try_store(
        &self,
        op: &'static str,
        messages: &[Message],
        places: &[usize],
    ) -> Vec<Answered<Stored>> {
        let write = |at: &usize| {
            let message = &messages[*at];
            wire::write(op, self.streams.wire(&message.subject), message)
        };
        let stored = match places.iter().map(write).collect::<Result<Vec<Outgoing>>>() {
            Ok(outgoing) => self.connection.store_all(op, outgoing).await,
            Err(error) => places.iter().map(|_| Err(error.clone().into())).collect(),
        };
        for (at, answer) in places.iter().zip(&stored) {
            // Where somebody else listens, nobody says that no stream does.
            let is_doubtful = |failure: &Failure| failure.is_nobody_there() || failure.is_late();
            if answer.as_ref().is_err_and(is_doubtful) {
                self.streams.forget(&messages[*at].subject);
            }
        }
        stored
    }
}

/// A stream of a cluster that was made or has changed its leader is not known everywhere at once,
/// and the same message may be on its way already.
fn passes_in_a_moment(failure: &Failure) -> bool {
    failure.is_nobody_there() || failure.is(IN_PROCESS)
}

#[async_trait]
impl EventBus for NatsBus {
    async fn publish(&self, messages: &[Message]) -> Result<()> {
        self.shared.store("publish", messages).await.into_iter().collect()
    }

    async fn subscribe(&self, options: SubscribeOptions) -> Result<Box<dyn Consumer>> {
        Ok(Box::new(NatsConsumer::join(Arc::clone(&self.shared), &options).await?))
    }

    async fn tail(&self, subjects: &[Subject]) -> Result<Box<dyn Tail>> {
        Ok(Box::new(NatsTail::open(Arc::clone(&self.shared), subjects).await?))
    }

    async fn progress(&self, group: &Group, subject: &Subject) -> Result<Progress> {
        self.shared.progress(group, subject).await
    }

    fn capabilities(&self) -> BusCapabilities {
        let mut capabilities = BusCapabilities::new(BACKEND);
        capabilities.durable = true;
        capabilities.watermark = true;
        capabilities.headers = true;
        capabilities.retains = true;
        capabilities
    }
}
