//! The bucket's own calls, in batches: read, write upon a revision, remove.

use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::message::StreamMessage;
use async_nats::jetstream::stream::RawMessage;
use expirer_core::{Error, ErrorKind, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::nats::BACKEND;
use crate::nats::connection::{Answered, Connection, Outgoing, Stored};
use crate::nats::error::{DELETE_FAILED, Failure, NO_MESSAGE_FOUND};

/// How often a message that no stream took is sent again, and the pause before.
const AGAIN_MAX: usize = 10;
const MOMENT: Duration = Duration::from_millis(50);

const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
const TTL: &str = "Nats-TTL";

/// A key-value bucket: a stream that keeps the last message of each subject.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) connection: Arc<Connection>,
    pub(super) name: String,
}

/// What a key holds.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) key: String,
    pub(super) revision: u64,
    pub(super) value: Vec<u8>,
    /// When it was stored, by the server's clock.
    pub(super) stored: Timestamp,
}

/// What a key is to hold.
#[derive(Debug)]
pub(super) struct Put {
    pub(super) key: String,
    pub(super) value: Vec<u8>,
    /// The revision that it has to have now, 0 for none; `None` for any.
    pub(super) expected: Option<u64>,
    /// After how many seconds the server removes it.
    pub(super) keep_s: Option<u64>,
}

/// What became of a [`Put`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Done(u64),
    Conflict,
}

impl Bucket {
    /// The stream of it.
    pub(super) fn stream(&self) -> String {
        format!("KV_{}", self.name)
    }

    /// The subject of a key, as operators see it.
    pub(super) fn subject(&self, key: &str) -> String {
        format!("$KV.{}.{key}", self.name)
    }

    /// What keys hold: one answer for each, in order.
    pub(super) async fn read(
        &self,
        op: &'static str,
        keys: impl Iterator<Item = String>,
    ) -> Vec<Answered<Option<Found>>> {
        let bodies = keys.map(|key| json!({ "last_by_subj": self.subject(&key) }));
        self.find(op, bodies.collect()).await
    }

    /// The first that each filter finds at a revision or after it.
    pub(super) async fn next(
        &self,
        op: &'static str,
        filters: impl Iterator<Item = (&str, u64)>,
    ) -> Vec<Answered<Option<Found>>> {
        let body = |(filter, from)| json!({ "seq": from, "next_by_subj": self.subject(filter) });
        self.find(op, filters.map(body).collect()).await
    }

    async fn find(&self, op: &'static str, bodies: Vec<Value>) -> Vec<Answered<Option<Found>>> {
        #[derive(Deserialize)]
        struct Answer {
            message: RawMessage,
        }
        let calls =
            bodies.into_iter().map(|body| (format!("STREAM.MSG.GET.{}", self.stream()), body));
        let answers = self.connection.api_all::<Answer>(op, calls).await;
        let found = |answer: Answered<Answer>| match answer {
            Ok(answer) => self.found(op, answer.message).map(Some),
            Err(failure) if failure.is(NO_MESSAGE_FOUND) => Ok(None),
            Err(failure) => Err(failure),
        };
        answers.into_iter().map(found).collect()
    }

    fn found(&self, op: &'static str, message: RawMessage) -> Answered<Found> {
        let message = StreamMessage::try_from(message).map_err(|error| {
            let text = format!("a message of {} cannot be read: {error}", self.stream());
            Failure::new(Error::new(ErrorKind::Corrupt, BACKEND, op, text))
        })?;
        let millis = i64::try_from(message.time.unix_timestamp_nanos() / 1_000_000);
        Ok(Found {
            key: message.subject.strip_prefix(&self.subject("")).unwrap_or_default().to_owned(),
            revision: message.sequence,
            value: message.payload.to_vec(),
            stored: Timestamp::from_millis(millis.unwrap_or(i64::MAX)),
        })
    }

    /// Writes: one answer for each, in order. Those of one call are written in their order.
    pub(super) async fn write(&self, op: &'static str, puts: Vec<Put>) -> Vec<Answered<Written>> {
        let messages: Vec<_> = puts.into_iter().map(|put| self.outgoing(put)).collect();
        let mut answers = self.connection.store_all(op, messages.clone()).await;
        for _ in 0..AGAIN_MAX {
            let is_lost = |answer: &Answered<_>| {
                answer.as_ref().is_err_and(|failure: &Failure| failure.is_nobody_there())
            };
            let lost: Vec<_> = (0..answers.len()).filter(|at| is_lost(&answers[*at])).collect();
            if lost.is_empty() {
                break;
            }
            // A server of a cluster may not have heard yet who leads the stream.
            self.connection.clock().sleep_until(self.connection.clock().now() + MOMENT).await;
            let again = lost.iter().map(|at| messages[*at].clone()).collect();
            let again = self.connection.store_all(op, again).await;
            lost.into_iter().zip(again).for_each(|(at, answer)| answers[at] = answer);
        }
        let written = |answer: Answered<Stored>| match answer {
            Ok(stored) => Ok(Written::Done(stored.seq)),
            Err(failure) if failure.is_conflict() => Ok(Written::Conflict),
            Err(failure) => Err(failure),
        };
        answers.into_iter().map(written).collect()
    }

    fn outgoing(&self, put: Put) -> Outgoing {
        let mut headers = HeaderMap::new();
        if let Some(expected) = put.expected {
            headers.insert(EXPECTED, expected.to_string());
        }
        if let Some(seconds) = put.keep_s {
            headers.insert(TTL, seconds.to_string());
        }
        let headers = Some(headers).filter(|headers| !headers.is_empty());
        Outgoing { subject: self.subject(&put.key), headers, payload: put.value }
    }

    /// Removes what has these revisions: whether it was there, of each.
    pub(super) async fn remove(
        &self,
        op: &'static str,
        revisions: impl Iterator<Item = u64>,
    ) -> Vec<Answered<bool>> {
        #[derive(Deserialize)]
        struct Answer {
            success: bool,
        }
        let call = format!("STREAM.MSG.DELETE.{}", self.stream());
        let body = |revision| (call.clone(), json!({ "seq": revision, "no_erase": true }));
        let calls = revisions.map(body);
        let answers = self.connection.api_all::<Answer>(op, calls).await;
        let removed = |answer: Answered<Answer>| match answer {
            Ok(answer) => Ok(answer.success),
            Err(failure) if failure.is(DELETE_FAILED) => Ok(false),
            Err(failure) => Err(failure),
        };
        answers.into_iter().map(removed).collect()
    }
}
