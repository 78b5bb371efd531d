//! The calls on the stream: a timer is the last message of its subjects, and whoever changes it
//! says which one he takes for that.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::RawMessage;
use expirer_core::{Error, ErrorKind, OrderId, Result, Timer, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::place;
use super::wire::{Body, Expected, Names};
use crate::nats::BACKEND;
use crate::nats::connection::{Answered, Connection, Outgoing};
use crate::nats::error::{
    DELETE_FAILED, Failure, NO_MESSAGE_FOUND, SEQUENCE_NOT_FOUND, STREAM_NOT_FOUND,
};
use crate::nats::url::Via;

/// How often a timer may be changed by somebody else while we change it.
const ROUNDS_MAX: usize = 8;
/// The most messages in one go: what waits for an answer has a bound.
const BATCH_MAX: usize = 1024;

/// How often to look whether there is a stream again, or a leader of it, and the pause between.
const MENDS_MAX: usize = 4;
const PAUSE: Duration = Duration::from_millis(150);

/// The timers in their stream.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) connection: Arc<Connection>,
    pub(super) names: Names,
    pub(super) replicas: Option<usize>,
    /// Why no timers come in.
    pub(super) trouble: Trouble,
}

/// Why something that runs by itself gets nowhere, for those who wait for it.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<Option<Error>>);

impl Trouble {
    pub(super) fn set(&self, error: Error) {
        *self.lock() = Some(error);
    }

    pub(super) fn clear(&self) {
        *self.lock() = None;
    }

    pub(super) fn check(&self) -> Result<()> {
        self.lock().clone().map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Error>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last message of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) seq: u64,
    is_due: bool,
    /// `None` for what is not ours.
    body: Option<Body>,
}

/// What a timer shall be, if it is still what we take it for.
#[derive(Clone, Debug)]
pub(super) struct Put {
    pub(super) id: OrderId,
    pub(super) body: Body,
    pub(super) last: Option<Last>,
}

#[derive(Deserialize)]
struct Found {
    message: RawMessage,
}

#[derive(Deserialize)]
struct StreamInfo {
    state: State,
}

#[derive(Deserialize)]
struct State {
    messages: u64,
}

impl Last {
    /// A timer that was handed over to us.
    pub(super) const fn handed_over(seq: u64) -> Self {
        Self { seq, is_due: true, body: None }
    }

    const fn expected(last: Option<Self>) -> Expected {
        match last {
            Some(Self { seq, is_due, .. }) => Expected { seq, is_schedule: !is_due },
            None => Expected { seq: 0, is_schedule: false },
        }
    }
}

impl Store {
    fn now(&self) -> Timestamp {
        self.connection.clock().now()
    }

    /// Whether timers can come in, as far as we know.
    pub(super) fn check(&self) -> Result<()> {
        self.trouble.check()?;
        match self.connection.is_connected() {
            true => Ok(()),
            false => Err(self.connection.lost("lease")),
        }
    }

    /// Makes the stream and its consumer; a cluster may need a moment to find a leader of each.
    ///
    /// Gives what an operator should know of it.
    pub(super) async fn open(&self) -> Result<Option<String>> {
        let mut made = self.mend().await;
        for _ in 0..MENDS_MAX {
            match &made {
                Err(error) if is_outage(error) => {}
                _ => break,
            }
            self.connection.clock().sleep_until(self.now() + PAUSE).await;
            made = self.mend().await;
        }
        made
    }

    /// Makes the stream and its consumer again, should they be gone.
    pub(super) async fn mend(&self) -> Result<Option<String>> {
        place::settle(&self.connection, &self.names, self.replicas).await
    }

    /// Stores timers, each once; gives those that were something else before, with the number of
    /// the message that they are now.
    pub(super) async fn schedule<'a>(
        &self,
        timers: impl Iterator<Item = &'a Timer>,
    ) -> Result<Vec<(OrderId, u64)>> {
        let timers = timers.map(|timer| (timer.id.clone(), Body::new(timer.due)));
        let mut puts: Vec<_> = timers.map(|(id, body)| Put { id, body, last: None }).collect();
        let mut moved = Vec::new();
        for _ in 0..ROUNDS_MAX {
            let refused = self.put_round("schedule", puts, &mut moved).await?;
            if refused.is_empty() {
                return Ok(moved);
            }
            puts = self.look_again(refused).await?;
        }
        Err(self.too_fast("schedule"))
    }

    fn too_fast(&self, op: &'static str) -> Error {
        let text = format!("{}: timers change faster than we can", self.connection.place());
        Error::new(ErrorKind::Unavailable, BACKEND, op, text)
    }

    /// Looks at what timers are in truth; leaves out those that are as they should be.
    async fn look_again(&self, refused: Vec<Put>) -> Result<Vec<Put>> {
        let lasts = self.last_all("schedule", refused.iter().map(|put| &put.id)).await;
        let mut puts = Vec::new();
        for (put, last) in refused.into_iter().zip(lasts) {
            let last = last?;
            let stored = last.and_then(|last| last.body).map(Body::due);
            if stored != Some(put.body.due()) {
                puts.push(Put { last, ..put });
            }
        }
        Ok(puts)
    }

    /// Stores what it can, and gives what somebody else has changed meanwhile.
    async fn put_round(
        &self,
        op: &'static str,
        puts: Vec<Put>,
        moved: &mut Vec<(OrderId, u64)>,
    ) -> Result<Vec<Put>> {
        let mut refused = Vec::new();
        for batch in puts.chunks(BATCH_MAX) {
            let answers = self.put_all(op, batch).await;
            let mut old = Vec::new();
            for (put, answer) in batch.iter().zip(answers) {
                match (answer?, put.last) {
                    (None, _) => refused.push(put.clone()),
                    (Some(seq), Some(last)) => {
                        moved.push((put.id.clone(), seq));
                        old.extend(last.is_due.then_some(last.seq));
                    }
                    (Some(_), None) => {}
                }
            }
            self.remove(op, old).await?;
        }
        Ok(refused)
    }

    /// Stores timers; the number of each new message, or `None` where the last message of the
    /// timer is another one.
    pub(super) async fn put_all(
        &self,
        op: &'static str,
        puts: &[Put],
    ) -> Vec<Answered<Option<u64>>> {
        let mut answers = self.try_put(op, puts).await;
        let is_gone = |answer: &Answered<_>| {
            answer.as_ref().is_err_and(|failure: &Failure| failure.is_nobody_there())
        };
        for _ in 0..MENDS_MAX {
            if !answers.iter().any(is_gone) || self.mend().await.is_err() {
                break;
            }
            self.connection.clock().sleep_until(self.now() + PAUSE).await;
            answers = self.try_put(op, puts).await;
        }
        answers
    }

    async fn try_put(&self, op: &'static str, puts: &[Put]) -> Vec<Answered<Option<u64>>> {
        let now = self.now();
        let message = |put: &Put| self.names.put(&put.id, put.body, now, Last::expected(put.last));
        let messages: Vec<Outgoing> = puts.iter().map(message).collect();
        let answers = self.connection.store_all(op, messages).await;
        answers
            .into_iter()
            .map(|answer| match answer {
                Ok(stored) => Ok(Some(stored.seq)),
                Err(failure) if failure.is_conflict() => Ok(None),
                Err(failure) => Err(failure),
            })
            .collect()
    }

    /// What each of these timers is.
    pub(super) async fn last_all<'a>(
        &self,
        op: &'static str,
        ids: impl Iterator<Item = &'a OrderId>,
    ) -> Vec<Answered<Option<Last>>> {
        let call = format!("STREAM.MSG.GET.{}", self.names.stream);
        let calls = ids.map(|id| (call.clone(), json!({ "last_by_subj": self.names.last(id) })));
        let answers = self.connection.api_all::<Found>(op, calls).await;
        answers
            .into_iter()
            .map(|answer| match answer {
                Ok(found) => Ok(Some(last(found.message))),
                Err(failure) if failure.is(NO_MESSAGE_FOUND) => Ok(None),
                Err(failure) if failure.is(STREAM_NOT_FOUND) => Ok(None),
                Err(failure) => Err(failure),
            })
            .collect()
    }

    /// Removes timers.
    pub(super) async fn cancel<'a>(&self, ids: impl Iterator<Item = &'a OrderId>) -> Result<()> {
        const OP: &str = "cancel";
        match self.names.via {
            Via::Schedule => {
                let call = format!("STREAM.PURGE.{}", self.names.stream);
                let body = |id| json!({ "filter": self.names.both(id) });
                let calls = ids.map(|id| (call.clone(), body(id)));
                done(self.connection.api_all(OP, calls).await)
            }
            // There is one message of each, and 2.9 looks at all messages there are for a purge.
            Via::Redelivery => {
                let mut ids: Vec<_> = ids.collect();
                for _ in 0..ROUNDS_MAX {
                    ids = self.cancel_round(ids).await?;
                    if ids.is_empty() {
                        return Ok(());
                    }
                }
                Err(self.too_fast(OP))
            }
        }
    }

    /// Gives those that somebody else has changed meanwhile.
    async fn cancel_round<'a>(&self, ids: Vec<&'a OrderId>) -> Result<Vec<&'a OrderId>> {
        const OP: &str = "cancel";
        let lasts = self.last_all(OP, ids.iter().copied()).await;
        let lasts = lasts.into_iter().collect::<Answered<Vec<_>>>()?;
        let there = ids.into_iter().zip(lasts).filter_map(|(id, last)| Some((id, last?.seq)));
        let (there, seqs): (Vec<_>, Vec<_>) = there.unzip();
        let answers = self.remove_all(OP, seqs).await;
        let mut changed = Vec::new();
        for (id, answer) in there.into_iter().zip(answers) {
            match answer {
                Ok(_) => {}
                Err(failure) if is_absent(&failure) => changed.push(id),
                Err(failure) => return Err(failure.into()),
            }
        }
        Ok(changed)
    }

    /// Removes messages by their numbers.
    pub(super) async fn remove(&self, op: &'static str, seqs: Vec<u64>) -> Result<()> {
        done(self.remove_all(op, seqs).await)
    }

    async fn remove_all(&self, op: &'static str, seqs: Vec<u64>) -> Vec<Answered<Value>> {
        let call = format!("STREAM.MSG.DELETE.{}", self.names.stream);
        // Without overwriting them on disk: there is no secret in them.
        let body = |seq| json!({ "seq": seq, "no_erase": true });
        let calls = seqs.into_iter().map(|seq| (call.clone(), body(seq)));
        self.connection.api_all(op, calls).await
    }

    /// How many timers there are.
    pub(super) async fn count(&self) -> Result<u64> {
        let call = format!("STREAM.INFO.{}", self.names.stream);
        match self.connection.api::<StreamInfo>("stats", &call, &Value::Null).await {
            Ok(info) => Ok(info.state.messages),
            Err(failure) if failure.is(STREAM_NOT_FOUND) => Ok(0),
            Err(failure) => Err(failure.into()),
        }
    }
}

/// Of calls that remove something: what is not there was removed before.
fn done(answers: Vec<Answered<Value>>) -> Result<()> {
    answers.into_iter().try_for_each(|answer| match answer {
        Err(failure) if !is_absent(&failure) => Err(failure.into()),
        _ => Ok(()),
    })
}

fn last(message: RawMessage) -> Last {
    let (seq, is_due) = (message.sequence, Names::is_due(&message.subject));
    let body = StreamMessage::try_from(message).ok();
    Last { seq, is_due, body: body.and_then(|message| Body::read(&message.payload)) }
}

const fn is_outage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::TimedOut)
}

fn is_absent(failure: &Failure) -> bool {
    [SEQUENCE_NOT_FOUND, DELETE_FAILED, STREAM_NOT_FOUND].iter().any(|code| failure.is(*code))
}
