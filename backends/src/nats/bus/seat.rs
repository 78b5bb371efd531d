//! One group on one subject: a durable pull consumer.

use std::ops::RangeInclusive;
use std::time::Duration;

use expirer_core::{Error, ErrorKind, Group, Result, Subject};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::nats::BACKEND;
use crate::nats::connection::{Answered, Connection};
use crate::nats::error::{CONSUMER_NOT_FOUND, STREAM_NOT_FOUND};

/// The most messages that a group may hold or put off on a subject: what is put off holds nothing
/// up until there are so many.
pub(super) const HELD_MAX: u64 = 65_536;

/// How much longer than the deadline the server waits for an ack, at the least and at the most: what
/// it has delivered may come in here late, and our receipt should end before somebody else has it.
const SLACK: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(5);

/// A consumer as the server describes it.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Described {
    config: Value,
    ack_floor: Floor,
    pub(super) num_ack_pending: u64,
    pub(super) num_pending: u64,
}

#[derive(Clone, Debug, Deserialize)]
struct Floor {
    stream_seq: u64,
}

impl Described {
    /// Everything up to this sequence of the stream is settled, or was before it was made.
    pub(super) fn floor(&self) -> u64 {
        let start = self.config["opt_start_seq"].as_u64().unwrap_or_default();
        // 2.9 counts from nought until something is settled.
        self.ack_floor.stream_seq.max(start.saturating_sub(1))
    }
}

/// One group on one subject.
#[derive(Clone, Debug)]
pub(super) struct Seat {
    pub(super) subject: Subject,
    /// The subject as it is on the wire.
    pub(super) wire: String,
    pub(super) stream: String,
    pub(super) consumer: String,
}

impl Seat {
    pub(super) fn new(wire: String, stream: String, group: &Group, subject: &Subject) -> Self {
        // A name of a consumer has no dot.
        let consumer = match wire.split_once('.') {
            Some((prefix, _)) => format!("{prefix}-{group}:{subject}"),
            None => format!("{group}:{subject}"),
        };
        Self { subject: subject.clone(), wire, stream, consumer }
    }

    /// Its stream and its name, as calls name it.
    pub(super) fn target(&self) -> String {
        format!("{}.{}", self.stream, self.consumer)
    }

    /// What the server says of it; `None` where there is no such consumer, or no such stream.
    pub(super) async fn describe(
        &self,
        op: &'static str,
        connection: &Connection,
    ) -> Result<Option<Described>> {
        let call = format!("CONSUMER.INFO.{}", self.target());
        match connection.api(op, &call, &Value::Null).await {
            Ok(described) => Ok(Some(described)),
            Err(failure) if failure.is(CONSUMER_NOT_FOUND) || failure.is(STREAM_NOT_FOUND) => {
                Ok(None)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// Makes it, or sets it to this ack deadline. It begins after `floor`, where that is known.
    pub(super) async fn join(
        &self,
        op: &'static str,
        connection: &Connection,
        ack_deadline: Duration,
        floor: Option<u64>,
    ) -> Answered<Described> {
        let there = self.describe(op, connection).await?;
        let wait = u64::try_from(ack_wait(ack_deadline).as_nanos()).unwrap_or(u64::MAX);
        let config = match there {
            Some(there) => {
                self.check(op, connection, &there.config)?;
                let mut config = there.config.clone();
                let wanted = self.config(wait, None);
                let names = ["ack_wait", "max_ack_pending", "max_deliver"];
                if names.iter().all(|name| config[*name] == wanted[*name]) {
                    return Ok(there);
                }
                names.iter().for_each(|name| config[*name] = wanted[*name].clone());
                config
            }
            None => self.config(wait, floor),
        };
        let call = format!("CONSUMER.DURABLE.CREATE.{}", self.target());
        let body = json!({ "stream_name": self.stream, "config": config });
        connection.api(op, &call, &body).await
    }

    fn config(&self, ack_wait: u64, floor: Option<u64>) -> Value {
        let mut config = json!({
            "durable_name": self.consumer, "filter_subject": self.wire, "deliver_policy": "all",
            "ack_policy": "explicit", "ack_wait": ack_wait, "max_deliver": -1,
            "max_ack_pending": HELD_MAX, "replay_policy": "instant",
        });
        if let Some(floor) = floor {
            config["deliver_policy"] = json!("by_start_sequence");
            config["opt_start_seq"] = json!(floor + 1);
        }
        config
    }

    fn check(&self, op: &'static str, connection: &Connection, config: &Value) -> Result<()> {
        let is_ours = config["filter_subject"] == json!(self.wire)
            && config["ack_policy"] == "explicit"
            && config.get("deliver_subject").is_none();
        if is_ours {
            return Ok(());
        }
        let text = format!(
            "{}: the consumer {} of the stream {} is not ours (another subject, pushed, or without \
             explicit acks): delete or rename it",
            connection.place(),
            self.consumer,
            self.stream
        );
        Err(Error::new(ErrorKind::Corrupt, BACKEND, op, text))
    }
}

fn ack_wait(ack_deadline: Duration) -> Duration {
    ack_deadline + (ack_deadline / 5).clamp(*SLACK.start(), *SLACK.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_waits_somewhat_longer_than_a_receipt_holds() {
        for (deadline, wait) in [(1, 1_001), (10_000, 12_000), (3_600_000, 3_605_000)] {
            assert_eq!(ack_wait(Duration::from_millis(deadline)), Duration::from_millis(wait));
        }
    }

    #[test]
    fn a_consumer_is_named_by_prefix_group_and_subject() {
        let group = Group::new("orders-service").unwrap();
        let named = |wire: &str| {
            Seat::new(wire.to_owned(), "s".to_owned(), &group, &Subject::OrderCreated).consumer
        };
        assert_eq!(named("order:created"), "orders-service:order:created");
        assert_eq!(named("shop.order:created"), "shop-orders-service:order:created");
    }
}
