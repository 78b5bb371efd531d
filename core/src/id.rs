//! Ids: short text from elsewhere, checked once when it comes in.

use std::fmt;
use std::str::FromStr;

use compact_str::CompactString;
use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};

/// The longest id, in bytes of UTF-8. RabbitMQ's 255 bytes less what backends put around it.
pub const ID_BYTES_MAX: usize = 128;

/// Why a text is no id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidId {
    /// It is empty.
    Empty,
    /// It has this many bytes, more than [`ID_BYTES_MAX`].
    TooLong(usize),
    /// It has a control character at this byte.
    Control(usize),
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "the id is empty; it needs 1 to {ID_BYTES_MAX} bytes"),
            Self::TooLong(bytes) => {
                write!(f, "the id has {bytes} bytes; at most {ID_BYTES_MAX} are allowed")
            }
            Self::Control(at) => write!(f, "the id has a control character at byte {at}"),
        }
    }
}

impl std::error::Error for InvalidId {}

fn check(text: &str) -> Result<(), InvalidId> {
    match text.len() {
        0 => Err(InvalidId::Empty),
        bytes if bytes > ID_BYTES_MAX => Err(InvalidId::TooLong(bytes)),
        _ => match find_control(text) {
            Some(at) => Err(InvalidId::Control(at)),
            None => Ok(()),
        },
    }
}

fn find_control(text: &str) -> Option<usize> {
    // Nearly every id is ASCII, and every id of every message comes through here.
    if text.is_ascii() {
        return text.bytes().position(|byte| byte.is_ascii_control());
    }
    text.char_indices().find(|(_, c)| c.is_control()).map(|(at, _)| at)
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// 1 to 128 bytes of UTF-8 without control characters. Up to 24 bytes are stored inline
        /// (a MongoDB `ObjectId` in hexadecimal is just that long), so that a clone costs nothing.
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(CompactString);

        impl $name {
            /// Checks a text and makes an id of it.
            ///
            /// # Errors
            /// [`InvalidId`] says which rule the text breaks.
            pub fn new(text: impl AsRef<str>) -> Result<Self, InvalidId> {
                let text = text.as_ref();
                check(text)?;
                Ok(Self(CompactString::new(text)))
            }

            /// The id as it came in.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.as_str())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(IdVisitor).map(Self)
            }
        }
    };
}

id! {
    /// The id of an order, and of its timer: one order has at most one.
    OrderId
}
id! {
    /// The id of a payment.
    PaymentId
}
id! {
    /// The id of a ticket: what an open order reserves.
    TicketId
}
id! {
    /// The id of the user who placed an order.
    UserId
}

/// Checks and stores a text without a detour over `String`.
struct IdVisitor;

impl de::Visitor<'_> for IdVisitor {
    type Value = CompactString;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an id (a string of 1 to {ID_BYTES_MAX} bytes)")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<CompactString, E> {
        check(text).map_err(E::custom)?;
        Ok(CompactString::new(text))
    }
}

/// The id of a message, as a broker stores it: what it recognises a repeat by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(CompactString);

impl MessageId {
    /// A message id; any text that a broker gave or a caller made.
    #[must_use]
    pub fn new(text: impl AsRef<str>) -> Self {
        Self(CompactString::new(text.as_ref()))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_1_to_128_bytes_without_control_characters() {
        assert_eq!(OrderId::new(""), Err(InvalidId::Empty));
        assert_eq!(OrderId::new("x".repeat(129)), Err(InvalidId::TooLong(129)));
        assert_eq!(OrderId::new("a\u{7f}"), Err(InvalidId::Control(1)));
        assert_eq!(OrderId::new("ä\n"), Err(InvalidId::Control(2)));
        assert!(OrderId::new("x".repeat(128)).is_ok());
        assert!(OrderId::new("a:b.*> ü🎫").is_ok());
    }

    #[test]
    fn json_errors_name_the_rule() {
        let error = |json: &str| serde_json::from_str::<OrderId>(json).unwrap_err().to_string();
        assert!(error("5").contains("expected an id"), "{}", error("5"));
        assert!(error("\"\"").contains("the id is empty"));
        assert!(error("\"a\\u0000\"").contains("control character at byte 1"));
        let million = format!("\"{}\"", "x".repeat(1_000_000));
        assert!(error(&million).contains("1000000 bytes"));
    }
}
