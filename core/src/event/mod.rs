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

mod message;
#[cfg(test)]
mod tests;

use std::fmt;
use std::marker::PhantomData;

use serde::de::{self, DeserializeOwned};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{MessageId, OrderId, PaymentId, TicketId, Timestamp, UserId};

pub use message::{Group, Headers, InvalidName, Message, Subject};

/// The largest order version on the wire: the largest integer that JavaScript holds exactly.
pub const VERSION_MAX: u64 = (1 << 53) - 1;

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
