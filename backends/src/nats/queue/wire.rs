//! A timer as messages: its subjects, what they say, and how one comes in.

use std::time::Duration;

use async_nats::jetstream::{self, Context};
use async_nats::{HeaderMap, Message, Subject};
use expirer_core::{OrderId, Timer, Timestamp};
use serde::{Deserialize, Serialize};

use crate::hold::Arrival;
use crate::nats::connection::Outgoing;
use crate::nats::names::{from_token, token};
use crate::nats::url::Via;

/// How much earlier than due the server hands a timer over: it looks every quarter of a second,
/// and needs another second for fifty thousand that are due in the same one.
pub(super) const EARLY: Duration = Duration::from_secs(2);
/// No schedule is set further ahead than this: beyond the year 2262, the server would fire it at
/// once. What is further ahead is put off again on arrival.
pub(super) const HORIZON: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// What is given back for no longer than this is held here for all of it, by our clock alone.
const BACK_SOON: Duration = Duration::from_secs(30);

const SCHEDULE: &str = "Nats-Schedule";
const TARGET: &str = "Nats-Schedule-Target";
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
const EXPECTED_OF: &str = "Nats-Expected-Last-Subject-Sequence-Subject";

/// The names of one queue: each order has the subjects `{base}.{id}.at`, its schedule, and
/// `{base}.{id}.due`, which the consumer reads.
#[derive(Clone, Debug)]
pub(super) struct Names {
    pub(super) via: Via,
    pub(super) stream: String,
    base: String,
}

/// What a message says of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Body {
    /// In milliseconds since 1970, as all times here.
    due: i64,
    /// Where it was given back, and comes later than due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    not_before: Option<i64>,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) attempts: u32,
}

/// A timer that came in.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) arrival: Arrival<Subject>,
    /// By the server's clock.
    pub(super) stored_at: Timestamp,
    pub(super) body: Body,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
const fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Body {
    pub(super) const fn new(due: Timestamp) -> Self {
        Self { due: due.as_millis(), not_before: None, attempts: 0 }
    }

    /// The same timer, given back after so many leases.
    pub(super) fn given_back(due: Timestamp, at: Timestamp, attempts: u32) -> Self {
        let not_before = (at > due).then(|| at.as_millis());
        Self { not_before, attempts, ..Self::new(due) }
    }

    pub(super) fn read(payload: &[u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }

    pub(super) const fn due(self) -> Timestamp {
        Timestamp::from_millis(self.due)
    }

    pub(super) fn visible_at(self) -> Timestamp {
        Timestamp::from_millis(self.not_before.unwrap_or(self.due)).max(self.due())
    }

    fn payload(self) -> Vec<u8> {
        serde_json::to_vec(&self).unwrap_or_default()
    }
}

impl Names {
    pub(super) fn new(prefix: &str, via: Via) -> Self {
        let kind = match via {
            Via::Schedule => "timers",
            Via::Redelivery => "redelivery",
        };
        Self { via, stream: format!("{prefix}-{kind}"), base: format!("{prefix}.{kind}") }
    }

    /// What the stream takes.
    pub(super) fn all(&self) -> String {
        format!("{}.*.*", self.base)
    }

    /// What the consumer reads.
    pub(super) fn all_due(&self) -> String {
        format!("{}.*.due", self.base)
    }

    /// Every message of one timer: the last of them is the timer as it stands. To remove them,
    /// too: purged by the very subject, NATS 2.9 lets its consumer skip all others.
    pub(super) fn both(&self, id: &OrderId) -> String {
        format!("{}.{}.*", self.base, token(id.as_str()))
    }

    /// Where the last message of a timer is looked for: older servers are slow at wildcards.
    pub(super) fn last(&self, id: &OrderId) -> String {
        match self.via {
            Via::Schedule => self.both(id),
            Via::Redelivery => self.due(id),
        }
    }

    fn due(&self, id: &OrderId) -> String {
        format!("{}.{}.due", self.base, token(id.as_str()))
    }

    /// The message that makes a timer this, provided that the last message of the timer is still
    /// the one with this number, or there is still none.
    pub(super) fn put(
        &self,
        id: &OrderId,
        body: Body,
        now: Timestamp,
        expected: Expected,
    ) -> Outgoing {
        let mut headers = HeaderMap::new();
        headers.insert(EXPECTED, expected.seq.to_string());
        let mut subject = self.due(id);
        if self.via == Via::Schedule {
            headers.insert(EXPECTED_OF, self.both(id));
            if let Some(at) = self.handed_over_at(body, now, expected) {
                headers.insert(SCHEDULE, format!("@at {at}"));
                headers.insert(TARGET, subject);
                subject = format!("{}.{}.at", self.base, token(id.as_str()));
            }
        }
        Outgoing { subject, headers: Some(headers), payload: body.payload() }
    }

    /// When the server shall hand it over; `None` for at once.
    fn handed_over_at(&self, body: Body, now: Timestamp, expected: Expected) -> Option<Timestamp> {
        let is_back = body.not_before.is_some();
        let soon = now + if is_back { BACK_SOON } else { EARLY };
        if body.visible_at() <= soon && !expected.is_schedule {
            return None;
        }
        // A schedule in the year 1 is never fired.
        Some((body.visible_at() - EARLY).clamp(now, now + HORIZON))
    }

    /// Whether a subject is that of a timer handed over.
    pub(super) fn is_due(subject: &str) -> bool {
        subject.ends_with(".due")
    }

    /// Reads a message of the consumer; `None` for what is no timer of ours.
    pub(super) fn read(&self, context: &Context, message: Message) -> Option<Incoming> {
        let handle = message.reply.clone()?;
        let rest = message.subject.strip_prefix(self.base.as_str())?.strip_prefix('.')?;
        let id = OrderId::new(from_token(rest.strip_suffix(".due")?)?).ok()?;
        let body = Body::read(&message.payload)?;
        let message = jetstream::Message { message, context: context.clone() };
        let info = message.info().ok()?;
        let again = match self.via {
            Via::Schedule => u32::try_from(info.delivered - 1).unwrap_or(0),
            // Nearly all of these only put it off.
            Via::Redelivery => 0,
        };
        let arrival = Arrival {
            timer: Timer::new(id, body.due()),
            visible_at: body.visible_at(),
            attempts: body.attempts.saturating_add(again),
            version: info.stream_sequence,
            handle,
        };
        let stored_ms = info.published.unix_timestamp_nanos() / 1_000_000;
        let stored_at = Timestamp::from_millis(i64::try_from(stored_ms).unwrap_or(i64::MAX));
        Some(Incoming { arrival, stored_at, body })
    }
}

/// The last message of a timer, as far as we know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Expected {
    /// Zero for none.
    pub(super) seq: u64,
    pub(super) is_schedule: bool,
}
