//! What a stream holds, as replies tell of it.

use std::fmt;

use expirer_core::{Result, Timestamp};
use redis::Value;

use crate::redis::error::unreadable;

/// The id of an entry: the millisecond in which it was stored, and a number within it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct EntryId {
    ms: u64,
    number: u64,
}

impl EntryId {
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let (ms, number) = std::str::from_utf8(text).ok()?.split_once('-')?;
        Some(Self { ms: ms.parse().ok()?, number: number.parse().ok()? })
    }

    /// When the entry was stored.
    pub(super) fn time(self) -> Timestamp {
        Timestamp::from_millis(i64::try_from(self.ms).unwrap_or(i64::MAX))
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.number)
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: EntryId,
    /// Names and values in turn.
    pub(super) fields: Vec<Vec<u8>>,
    /// How many times it was delivered to the group.
    pub(super) count: u32,
}

/// What the take script gives.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) entries: Vec<Entry>,
    /// Where there are none: in how many milliseconds the next one becomes visible.
    pub(super) next_ms: Option<u64>,
    /// Where there are none: the last id that the stream gave.
    pub(super) last: EntryId,
}

impl Taken {
    pub(super) fn read(answer: Value) -> Result<Self> {
        let mut parts = list(answer).unwrap_or_default().into_iter();
        let mut taken = Self::default();
        for _ in 0..2 {
            taken.entries.extend(entries("receive", parts.next())?);
        }
        taken.next_ms = parts.next().and_then(|next| number(&next));
        taken.last = parts.next().and_then(|last| id(&last)).unwrap_or_default();
        Ok(taken)
    }
}

/// Reads a list of entries: id, fields, and perhaps how many times it was delivered.
pub(super) fn entries(op: &'static str, answer: Option<Value>) -> Result<Vec<Entry>> {
    let wrong = || unreadable(op, "no list of entries");
    let items = answer.and_then(list).ok_or_else(wrong)?;
    items.into_iter().map(|item| entry(item).ok_or_else(wrong)).collect()
}

fn entry(item: Value) -> Option<Entry> {
    let mut parts = list(item)?.into_iter();
    let id = id(&parts.next()?)?;
    let fields = list(parts.next()?)?.into_iter().map(bytes).collect::<Option<_>>()?;
    let count = parts.next().and_then(|count| number(&count)).unwrap_or(1);
    Some(Entry { id, fields, count: u32::try_from(count).unwrap_or(u32::MAX) })
}

/// What `XREAD COUNT 1` of one stream found: the id, if anything.
pub(super) fn first_id(answer: Value) -> Result<Option<EntryId>> {
    if answer == Value::Nil {
        return Ok(None);
    }
    let first = |value: Value| list(value)?.into_iter().next();
    let of_stream = first(answer).and_then(|stream| list(stream)?.into_iter().nth(1));
    let found = of_stream.and_then(first).and_then(first).and_then(|text| id(&text));
    found.map(Some).ok_or_else(|| unreadable("receive", "no entry of a stream"))
}

pub(super) fn list(value: Value) -> Option<Vec<Value>> {
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}

pub(super) fn id(value: &Value) -> Option<EntryId> {
    match value {
        Value::BulkString(text) => EntryId::parse(text),
        _ => None,
    }
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        _ => None,
    }
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(number) => u64::try_from(*number).ok(),
        Value::BulkString(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use expirer_core::ErrorKind;

    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn two(one: Value, other: Value) -> Value {
        Value::Array(vec![one, other])
    }

    #[test]
    fn ids_are_ordered_by_number_and_not_by_text() {
        let id = |text: &str| EntryId::parse(text.as_bytes()).unwrap();
        assert!(id("9-10") > id("9-9") && id("10-0") > id("9-10"));
        assert_eq!(id("1700000000000-3").to_string(), "1700000000000-3");
        assert_eq!(id("18446744073709551615-18446744073709551615").time(), Timestamp::MAX);
        for wrong in ["", "5", "-", "5-", "a-1", "5-1-1", "-5-1", "18446744073709551616-0"] {
            assert_eq!(EntryId::parse(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn a_reply_of_another_shape_is_an_error() {
        for wrong in [Value::Nil, Value::Okay, two(Value::Array(Vec::new()), Value::Int(1))] {
            assert_eq!(Taken::read(wrong).expect_err("no lists").kind(), ErrorKind::Corrupt);
        }
        assert!(first_id(Value::Array(Vec::new())).is_err());
        assert_eq!(first_id(Value::Nil).unwrap(), None);
        let fields = || two(text("data"), text("x"));
        let entries = || Value::Array(vec![two(text("5-1"), fields())]);
        let read = Value::Array(vec![two(text("key"), entries())]);
        assert_eq!(first_id(read).unwrap(), EntryId::parse(b"5-1"));
        let taken = Taken::read(two(Value::Array(Vec::new()), entries())).unwrap();
        assert_eq!((taken.entries.len(), taken.entries[0].count), (1, 1));
    }
}
