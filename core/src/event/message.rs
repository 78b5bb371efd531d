//! What a bus carries: messages by subject, with headers, to groups.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use compact_str::CompactString;

use super::printable;
use crate::{MessageId, Timestamp, TraceParent};

/// A consumer group: its members compete, groups do not.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(CompactString);

impl Group {
    /// The group of the Scheduler.
    pub const EXPIRATION_SERVICE: Self = Self(CompactString::const_new("expiration-service"));
    /// The group of the Recorder and the Canceller.
    pub const ORDERS_SERVICE: Self = Self(CompactString::const_new("orders-service"));
    /// The name in the subject of what the stdio bus could not read.
    pub const STDIO: Self = Self(CompactString::const_new("stdio"));

    /// A group by name: 1 to 64 of `A–Z a–z 0–9 - _`, which every broker takes as it is.
    ///
    /// # Errors
    /// [`InvalidName`], with the name.
    pub fn new(name: &str) -> Result<Self, InvalidName> {
        let fits = (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
        if fits { Ok(Self(CompactString::new(name))) } else { Err(InvalidName(name.to_owned())) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name that is no group and no subject of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidName(String);

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: String = self.0.chars().take(64).collect();
        write!(
            f,
            "unknown name {shown:?}; subjects are order:created, order:cancelled, \
             expiration:complete, payment:created, payment:late and dead:GROUP, \
             groups have 1 to 64 of A-Z a-z 0-9 - _"
        )
    }
}

impl std::error::Error for InvalidName {}

/// What a message is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// `order:created`.
    OrderCreated,
    /// `order:cancelled`.
    OrderCancelled,
    /// `expiration:complete`.
    ExpirationComplete,
    /// `payment:created`.
    PaymentCreated,
    /// `payment:late`.
    PaymentLate,
    /// `dead:{group}`: what a group could not handle.
    Dead(Group),
}

impl Subject {
    /// The five subjects that carry an [`Event`](super::Event).
    pub const EVENTS: [Self; 5] = [
        Self::OrderCreated,
        Self::OrderCancelled,
        Self::ExpirationComplete,
        Self::PaymentCreated,
        Self::PaymentLate,
    ];

    /// The subject as it is written on the wire.
    #[must_use]
    pub fn as_str(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::OrderCreated => "order:created",
            Self::OrderCancelled => "order:cancelled",
            Self::ExpirationComplete => "expiration:complete",
            Self::PaymentCreated => "payment:created",
            Self::PaymentLate => "payment:late",
            Self::Dead(group) => return Cow::Owned(format!("dead:{group}")),
        })
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.as_str())
    }
}

impl FromStr for Subject {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text {
            "order:created" => Ok(Self::OrderCreated),
            "order:cancelled" => Ok(Self::OrderCancelled),
            "expiration:complete" => Ok(Self::ExpirationComplete),
            "payment:created" => Ok(Self::PaymentCreated),
            "payment:late" => Ok(Self::PaymentLate),
            _ => match text.strip_prefix("dead:").map(Group::new) {
                Some(Ok(group)) => Ok(Self::Dead(group)),
                _ => Err(InvalidName(text.to_owned())),
            },
        }
    }
}

/// Names and values beside the payload. Few, so a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers(Vec<(String, String)>);

impl Headers {
    /// W3C trace context: <https://www.w3.org/TR/trace-context/>.
    pub const TRACEPARENT: &'static str = "traceparent";
    /// On dead letters: why the message was rejected.
    pub const REASON: &'static str = "expirer-reason";
    /// On dead letters: the subject that the message had.
    pub const SUBJECT: &'static str = "expirer-subject";
    /// On dead letters: when it was rejected, in RFC 3339.
    pub const TIME: &'static str = "expirer-time";

    /// No headers.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The value of a header, if it is there.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// Sets a header, replacing an earlier value.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(header, _)| *header == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    /// All headers, in the order in which they were first set.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(headers: I) -> Self {
        let mut all = Self::new();
        headers.into_iter().for_each(|(name, value)| all.insert(name, value));
        all
    }
}

/// What a bus carries. A clone shares the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What the broker recognises a repeat by; `None` asks it for a fresh one.
    pub id: Option<MessageId>,
    /// What it is about.
    pub subject: Subject,
    /// The JSON, as it came in.
    pub payload: Arc<[u8]>,
    /// What comes beside it.
    pub headers: Headers,
}

impl Message {
    /// A message with a fresh id and no headers.
    #[must_use]
    pub fn new(subject: Subject, payload: impl Into<Arc<[u8]>>) -> Self {
        Self { id: None, subject, payload: payload.into(), headers: Headers::new() }
    }

    /// Gives the message a stable id.
    #[must_use]
    pub fn with_id(mut self, id: MessageId) -> Self {
        self.id = Some(id);
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// Carries on a trace, where there is one.
    #[must_use]
    pub fn with_trace(self, trace: Option<TraceParent>) -> Self {
        match trace {
            Some(trace) => self.with_header(Headers::TRACEPARENT, trace.to_string()),
            None => self,
        }
    }

    /// The trace that the message belongs to, if it carries a valid one.
    #[must_use]
    pub fn trace(&self) -> Option<TraceParent> {
        self.headers.get(Headers::TRACEPARENT)?.parse().ok()
    }

    /// This message as a dead letter of `group`, to be published in its place.
    #[must_use]
    pub fn into_dead_letter(mut self, group: Group, reason: &str, now: Timestamp) -> Self {
        self.headers.insert(Headers::REASON, printable(reason));
        self.headers.insert(Headers::SUBJECT, self.subject.as_str());
        self.headers.insert(Headers::TIME, now.to_string());
        Self { id: None, subject: Subject::Dead(group), ..self }
    }
}
