//! Events and their wire forms: JSON in camelCase, unknown fields ignored.
//!
//! | subject | payload |
//! |---|---|
//! | `order:created` | [`OrderCreated`] |
//! | `expiration:complete` | [`ExpirationComplete`] |
//! | `order:cancelled` | [`OrderCancelled`] |
//! | `payment:created` | [`PaymentCreated`] |
//! | `payment:late` | [`PaymentLate`] |
//! | `dead:{group}` | whatever was rejected, with its reason in the headers |

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use compact_str::CompactString;
use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{MessageId, OrderId, PaymentId, TicketId, Timestamp, TraceParent, UserId};

/// The largest order version on the wire: the largest integer that JavaScript holds exactly.
pub const VERSION_MAX: u64 = (1 << 53) - 1;

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
    /// The five subjects that carry an [`Event`].
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

/// Why a payload is no event: which field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    subject: &'static str,
    reason: String,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a valid {}: {}", self.subject, self.reason)
    }
}

impl std::error::Error for DecodeError {}

/// An error that repeats the input repeats no more of it than this.
const REASON_BYTES_MAX: usize = 512;

/// A reason repeats parts of the input, and becomes a header and a line of a log.
fn printable(reason: &str) -> String {
    reason.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A payload with its subject.
pub trait Payload: Serialize + DeserializeOwned {
    /// The subject, as it is written on the wire.
    const SUBJECT: &'static str;

    /// Reads the JSON.
    ///
    /// # Errors
    /// [`DecodeError`] with the path of the field.
    fn decode(json: &[u8]) -> Result<Self, DecodeError> {
        decode_json(json).map_err(|reason| DecodeError { subject: Self::SUBJECT, reason })
    }

    /// The error of a payload that lacks a field which this reader needs.
    #[must_use]
    fn missing(field: &str) -> DecodeError {
        DecodeError { subject: Self::SUBJECT, reason: format!("missing field `{field}`") }
    }

    /// Writes the JSON; equal values give equal bytes.
    #[must_use]
    fn encode(&self) -> Vec<u8> {
        // A struct of strings and numbers with string keys always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// Reads any JSON; an error says which field is wrong. The path costs time, so only a failure pays for it.
///
/// # Errors
/// A text such as ``ticket.price: invalid type: string "x", expected a number``.
pub fn decode_json<T: DeserializeOwned>(json: &[u8]) -> Result<T, String> {
    // Serde would take an array for a struct, field by field.
    if json.trim_ascii_start().first() == Some(&b'[') {
        return Err("expected an object, found an array".to_owned());
    }
    serde_json::from_slice(json).map_err(|plain| {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        let mut reason = match serde_path_to_error::deserialize::<_, T>(&mut deserializer) {
            Err(error) if error.path().iter().next().is_some() => error.to_string(),
            _ => plain.to_string(),
        };
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        printable(&reason)
    })
}

/// The status of an order that can still expire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpenStatus {
    /// `created`.
    #[default]
    #[serde(rename = "created")]
    Created,
    /// `awaiting:payment`: as open as `created`.
    #[serde(rename = "awaiting:payment")]
    AwaitingPayment,
}

/// A price: a finite number from zero on. A whole one is written without a fraction, as JavaScript does.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Price(f64);

impl Price {
    /// A price; `None` if it is negative or not finite.
    #[must_use]
    pub fn new(price: f64) -> Option<Self> {
        // Adding zero turns -0.0 into 0.0.
        (price.is_finite() && price >= 0.0).then_some(Self(price + 0.0))
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl Serialize for Price {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[expect(clippy::cast_precision_loss, reason = "2^53 - 1 is exact")]
        let whole_max = VERSION_MAX as f64;
        if self.0.fract() == 0.0 && self.0 <= whole_max {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "whole, not negative, and at most 2^53 - 1"
            )]
            serializer.serialize_u64(self.0 as u64)
        } else {
            serializer.serialize_f64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let price = f64::deserialize(deserializer)?;
        Self::new(price)
            .ok_or_else(|| de::Error::custom(format!("a price is 0 or more, this one is {price}")))
    }
}

/// What an order reserves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ticket {
    /// The ticket's id.
    pub id: TicketId,
    /// Its price, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
}

/// A ticket by its id alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TicketRef {
    /// The ticket's id.
    pub id: TicketId,
}

/// An object or nothing; serde would take an array for a struct, field by field.
fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(d: D) -> Result<Option<T>, D::Error> {
    struct Object<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Object<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_unit<E: de::Error>(self) -> Result<Option<T>, E> {
            Ok(None)
        }

        fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Option<T>, A::Error> {
            T::deserialize(de::value::MapAccessDeserializer::new(map)).map(Some)
        }
    }
    d.deserialize_any(Object(PhantomData))
}

fn version<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let version = u64::deserialize(deserializer)?;
    if version > VERSION_MAX {
        return Err(de::Error::custom(format!("a version is at most {VERSION_MAX}")));
    }
    Ok(version)
}

/// `order:created`: an order is open until `expiresAt`.
///
/// ```
/// use expirer_core::event::{OrderCreated, Payload};
///
/// let json = br#"{ "id": "o1", "expiresAt": "2026-11-22T10:00:00Z", "ticket": { "id": "t1" } }"#;
/// let event = OrderCreated::decode(json)?;
/// assert_eq!((event.id.as_str(), event.version), ("o1", 0));
///
/// let error = OrderCreated::decode(br#"{ "id": "o1", "expiresAt": "2026-02-30T00:00:00Z" }"#);
/// assert!(error.unwrap_err().to_string().starts_with("not a valid order:created: expiresAt: "));
/// # Ok::<(), expirer_core::event::DecodeError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderCreated {
    /// The order's id.
    pub id: OrderId,
    /// Its version; 0 unless given.
    #[serde(default, deserialize_with = "version")]
    pub version: u64,
    /// Its status; `created` unless given.
    #[serde(default)]
    pub status: OpenStatus,
    /// Who placed it, where that is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// When it expires.
    pub expires_at: Timestamp,
    /// What it reserves. The Scheduler does without; the Recorder needs it.
    #[serde(default, deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub ticket: Option<Ticket>,
}

impl Payload for OrderCreated {
    const SUBJECT: &'static str = "order:created";
}

/// What the Scheduler needs of `order:created`, and no more: orders may live elsewhere, in a form
/// that is not ours beyond these two.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderExpiry {
    /// The order's id.
    pub id: OrderId,
    /// When it expires.
    pub expires_at: Timestamp,
}

impl Payload for OrderExpiry {
    const SUBJECT: &'static str = OrderCreated::SUBJECT;
}

/// `expiration:complete`: an order's time is up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpirationComplete {
    /// The order's id.
    pub order_id: OrderId,
    /// The due time that fired: ours, ignored by others, absent from foreign workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

impl Payload for ExpirationComplete {
    const SUBJECT: &'static str = "expiration:complete";
}

/// `order:cancelled`: an order is cancelled, its ticket free again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderCancelled {
    /// The order's id.
    pub id: OrderId,
    /// The version after the change; 0 unless given.
    #[serde(default, deserialize_with = "version")]
    pub version: u64,
    /// The ticket that is free again. We always write it and do without it when reading.
    #[serde(default, deserialize_with = "object", skip_serializing_if = "Option::is_none")]
    pub ticket: Option<TicketRef>,
}

impl Payload for OrderCancelled {
    const SUBJECT: &'static str = "order:cancelled";
}

/// `payment:created`: somebody paid. Its other fields (`stripeId`) are not read: what we do not
/// need must not make us miss a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentCreated {
    /// The payment's id.
    pub id: PaymentId,
    /// The order that it pays.
    pub order_id: OrderId,
}

impl Payload for PaymentCreated {
    const SUBJECT: &'static str = "payment:created";
}

/// Why a payment does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LateReason {
    /// The order was cancelled first.
    #[serde(rename = "order cancelled")]
    OrderCancelled,
    /// Another payment completed the order.
    #[serde(rename = "order already paid")]
    AlreadyPaid,
}

/// `payment:late`: a payment that does not count; somebody has to refund it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PaymentLate {
    /// The payment's id.
    pub id: PaymentId,
    /// The order that it meant to pay.
    pub order_id: OrderId,
    /// Why it does not count.
    pub reason: LateReason,
}

impl Payload for PaymentLate {
    const SUBJECT: &'static str = "payment:late";
}

/// One of the five events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "subject", content = "data")]
pub enum Event {
    /// An order was created.
    #[serde(rename = "order:created")]
    OrderCreated(OrderCreated),
    /// An order was cancelled.
    #[serde(rename = "order:cancelled")]
    OrderCancelled(OrderCancelled),
    /// An order's time is up.
    #[serde(rename = "expiration:complete")]
    ExpirationComplete(ExpirationComplete),
    /// A payment was made.
    #[serde(rename = "payment:created")]
    PaymentCreated(PaymentCreated),
    /// A payment does not count.
    #[serde(rename = "payment:late")]
    PaymentLate(PaymentLate),
}

impl Event {
    /// The subject that the event is published on.
    #[must_use]
    pub const fn subject(&self) -> Subject {
        match self {
            Self::OrderCreated(_) => Subject::OrderCreated,
            Self::OrderCancelled(_) => Subject::OrderCancelled,
            Self::ExpirationComplete(_) => Subject::ExpirationComplete,
            Self::PaymentCreated(_) => Subject::PaymentCreated,
            Self::PaymentLate(_) => Subject::PaymentLate,
        }
    }

    /// Reads the event of a subject; `None` for dead letters, which have no form of their own.
    ///
    /// # Errors
    /// [`DecodeError`] with the path of the field.
    pub fn decode(subject: &Subject, json: &[u8]) -> Option<Result<Self, DecodeError>> {
        Some(match subject {
            Subject::OrderCreated => OrderCreated::decode(json).map(Self::OrderCreated),
            Subject::OrderCancelled => OrderCancelled::decode(json).map(Self::OrderCancelled),
            Subject::ExpirationComplete => {
                ExpirationComplete::decode(json).map(Self::ExpirationComplete)
            }
            Subject::PaymentCreated => PaymentCreated::decode(json).map(Self::PaymentCreated),
            Subject::PaymentLate => PaymentLate::decode(json).map(Self::PaymentLate),
            Subject::Dead(_) => return None,
        })
    }

    /// The message that announces the event. Equal events give messages equal to the byte.
    ///
    /// The id is stable where a repeat must be recognised as one: `order:created` and
    /// `order:cancelled` by order and version, `payment:late` by payment. Everything else gets a
    /// fresh id, because a broker silently forgets what it has seen within its window.
    #[must_use]
    pub fn message(&self) -> Message {
        let message = Message::new(
            self.subject(),
            match self {
                Self::OrderCreated(event) => event.encode(),
                Self::OrderCancelled(event) => event.encode(),
                Self::ExpirationComplete(event) => event.encode(),
                Self::PaymentCreated(event) => event.encode(),
                Self::PaymentLate(event) => event.encode(),
            },
        );
        match self.message_id() {
            Some(id) => message.with_id(id),
            None => message,
        }
    }

    fn message_id(&self) -> Option<MessageId> {
        let id = match self {
            Self::OrderCreated(OrderCreated { id, version, .. }) => {
                format!("order:created:{id}:{version}")
            }
            Self::OrderCancelled(OrderCancelled { id, version, .. }) => {
                format!("order:cancelled:{id}:{version}")
            }
            Self::PaymentLate(PaymentLate { id, .. }) => format!("payment:late:{id}"),
            Self::ExpirationComplete(_) | Self::PaymentCreated(_) => return None,
        };
        Some(MessageId::new(id))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn order() -> Value {
        json!({
            "id": "o1", "version": 3, "status": "created", "userId": "u1",
            "expiresAt": "2026-11-22T10:00:00.000Z", "ticket": { "id": "t1", "price": 20 },
        })
    }

    fn decode(subject: &Subject, json: &Value) -> Result<Event, DecodeError> {
        Event::decode(subject, json.to_string().as_bytes()).expect("not a dead letter")
    }

    /// Replaces the field at a JSON pointer, or removes it.
    fn with(mut json: Value, pointer: &str, value: Option<Value>) -> Value {
        let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
        let parent = json.pointer_mut(parent).and_then(Value::as_object_mut).expect("an object");
        match value {
            Some(value) => parent.insert(field.to_owned(), value),
            None => parent.remove(field),
        };
        json
    }

    #[test]
    fn every_field_wrong_in_turn_is_a_clear_error() {
        let payment = json!({ "id": "p1", "orderId": "o1", "stripeId": "s1" });
        let expiration = json!({ "orderId": "o1", "expiresAt": "2026-11-22T10:00:00.000Z" });
        let cancelled = json!({ "id": "o1", "version": 1, "ticket": { "id": "t1" } });
        let late = json!({ "id": "p1", "orderId": "o1", "reason": "order cancelled" });
        let cases: [(Subject, Value, &[&str], &[&str]); 5] = [
            (
                Subject::OrderCreated,
                order(),
                &["/id", "/expiresAt", "/ticket/id"],
                &["/version", "/status", "/userId", "/ticket", "/ticket/price"],
            ),
            (Subject::ExpirationComplete, expiration, &["/orderId"], &["/expiresAt"]),
            (Subject::OrderCancelled, cancelled, &["/id", "/ticket/id"], &["/version", "/ticket"]),
            (Subject::PaymentCreated, payment, &["/id", "/orderId"], &[]),
            (Subject::PaymentLate, late, &["/id", "/orderId", "/reason"], &[]),
        ];
        let id = "x".repeat(1 << 20);
        let wrong = [
            json!([]),
            json!(-1.5),
            json!(true),
            json!(""),
            json!(id),
            json!("a\u{0}"),
            json!("a\r\nX: y"),
            json!(["t1", 20]),
        ];
        for (subject, good, required, optional) in cases {
            decode(&subject, &good).expect("the example is good");
            for pointer in required {
                let error = decode(&subject, &with(good.clone(), pointer, None)).unwrap_err();
                let field = pointer.rsplit('/').next().expect("split yields one");
                let expected = format!("missing field `{field}`");
                assert!(error.to_string().contains(&expected), "{subject} {pointer}: {error}");
            }
            for pointer in optional {
                decode(&subject, &with(good.clone(), pointer, None)).expect(pointer);
            }
            for pointer in required.iter().chain(optional) {
                for value in &wrong {
                    let error = decode(&subject, &with(good.clone(), pointer, Some(value.clone())))
                        .expect_err(pointer)
                        .to_string();
                    let path = pointer[1..].replace('/', ".");
                    assert!(error.contains(&path), "{subject} {pointer}: {error}");
                    assert!(error.len() < 1000, "an error does not repeat a megabyte");
                    assert!(!error.contains(char::is_control), "nor a control character: {error}");
                }
            }
        }
    }

    #[test]
    fn a_field_that_we_do_not_need_does_not_lose_a_payment() {
        let payment = json!({ "id": "p1", "orderId": "o1", "stripeId": 5, "more": [[]] });
        decode(&Subject::PaymentCreated, &payment).expect("stripeId is not read");
    }

    #[test]
    fn json_bombs_and_broken_text_are_refused() {
        let bomb = format!("{}{}", "[".repeat(1 << 20), "]".repeat(1 << 20));
        for json in [
            bomb.as_bytes(),
            format!("{{\"id\":{bomb}}}").as_bytes(),
            b"",
            b" [\"o1\",0,\"created\",\"u1\",\"2026-11-22T10:00:00Z\",{\"id\":\"t1\"}]",
            b"null",
            b"{\"id\":\"\xff\"}",
            b"{\"id\":\"o1\",\"id\":\"o2\",\"expiresAt\":\"2026-11-22T10:00:00Z\"}",
            b"{\"id\":\"o1\",\"expiresAt\":NaN}",
            b"{\"id\":\"o1\",\"expiresAt\":\"2026-11-22T10:00:00Z\"} {}",
        ] {
            assert!(OrderCreated::decode(json).is_err());
        }
        let ignored =
            format!("{{\"id\":\"o1\",\"expiresAt\":\"2026-11-22T10:00:00Z\",\"more\":{bomb}}}");
        let _ = OrderCreated::decode(ignored.as_bytes());
    }

    #[test]
    fn versions_and_prices_stay_within_what_javascript_holds() {
        let version = |version: u64| {
            decode(&Subject::OrderCreated, &with(order(), "/version", Some(json!(version))))
        };
        assert!(version(VERSION_MAX).is_ok());
        assert!(version(VERSION_MAX + 1).is_err());
        let price = |price: f64| serde_json::to_string(&Price::new(price)).expect("serialises");
        assert_eq!(
            [price(20.0), price(0.5), price(-0.0), price(1e300)],
            ["20", "0.5", "0", "1e+300"]
        );
        assert_eq!([price(-1.0), price(f64::NAN), price(f64::INFINITY)], ["null"; 3]);
    }

    #[test]
    fn only_repeats_that_must_be_the_same_have_a_stable_id() {
        let id =
            |subject: &Subject, json: &Value| decode(subject, json).expect("valid").message().id;
        let created = id(&Subject::OrderCreated, &order());
        assert_eq!(created, Some(MessageId::new("order:created:o1:3")));
        let cancelled = id(&Subject::OrderCancelled, &json!({ "id": "o1", "version": 4 }));
        assert_eq!(cancelled, Some(MessageId::new("order:cancelled:o1:4")));
        let late = json!({ "id": "p1", "orderId": "o1", "reason": "order already paid" });
        assert_eq!(id(&Subject::PaymentLate, &late), Some(MessageId::new("payment:late:p1")));
        assert_eq!(id(&Subject::ExpirationComplete, &json!({ "orderId": "o1" })), None);
    }

    #[test]
    fn a_dead_letter_says_what_why_and_when() {
        let dead = Message::new(Subject::OrderCreated, *b"{").with_id(MessageId::new("x"));
        let dead = dead.into_dead_letter(Group::ORDERS_SERVICE, "broken", Timestamp::EPOCH);
        assert_eq!(dead.subject.to_string(), "dead:orders-service");
        assert_eq!(dead.id, None, "a stable id would make a broker forget the second one");
        assert_eq!(dead.headers.get(Headers::REASON), Some("broken"));
        assert_eq!(dead.headers.get(Headers::SUBJECT), Some("order:created"));
        assert_eq!(dead.headers.get(Headers::TIME), Some("1970-01-01T00:00:00.000Z"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
            for subject in &Subject::EVENTS {
                let _ = Event::decode(subject, &bytes);
            }
        }

        #[test]
        fn almost_json_is_decoded_or_refused(at in 0..200_usize, byte: u8) {
            let mut json = order().to_string().into_bytes();
            let at = at % json.len();
            json[at] = byte;
            if let Ok(event) = OrderCreated::decode(&json) {
                prop_assert_eq!(OrderCreated::decode(&event.encode()), Ok(event));
            }
        }

        #[test]
        fn subjects_are_read_back(text in "(dead:)?\\PC{0,70}") {
            if let Ok(subject) = text.parse::<Subject>() {
                prop_assert_eq!(subject.to_string(), text);
            }
        }
    }
}
