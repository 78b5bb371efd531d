//! Points in time: whole milliseconds, years 0001 to 9999, RFC 3339 on the wire.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer};
use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A point in time in whole milliseconds since 1970-01-01T00:00:00Z, between
/// 0001-01-01T00:00:00.000Z and 9999-12-31T23:59:59.999Z.
///
/// Arithmetic saturates at both ends: no due time, however absurd, can panic.
///
/// ```
/// use expirer_core::Timestamp;
///
/// let at: Timestamp = "2026-11-22T10:00:00.0001+01:00".parse()?;
/// assert_eq!(at.to_string(), "2026-11-22T09:00:00.001Z"); // finer than a millisecond: up
/// # Ok::<(), expirer_core::InvalidTimestamp>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

const NANOS_PER_MILLI: i128 = 1_000_000;

impl Timestamp {
    /// 0001-01-01T00:00:00.000Z.
    pub const MIN: Self = Self(-62_135_596_800_000);
    /// 9999-12-31T23:59:59.999Z.
    pub const MAX: Self = Self(253_402_300_799_999);
    /// 1970-01-01T00:00:00.000Z.
    pub const EPOCH: Self = Self(0);

    /// Milliseconds since 1970; beyond the years 0001 to 9999, the nearest end of that range.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        if millis < Self::MIN.0 {
            Self::MIN
        } else if millis > Self::MAX.0 {
            Self::MAX
        } else {
            Self(millis)
        }
    }

    /// Milliseconds since 1970; negative before.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// How long after `earlier` this is, in whole milliseconds; zero if it is not after it.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

/// A part of a millisecond is dropped: a deadline computed so comes early by less than one.
impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_add(millis))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.0.saturating_sub(millis))
    }
}

/// Why a text is no timestamp.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidTimestamp(String);

impl fmt::Display for InvalidTimestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "not an RFC 3339 time with a zone, in the years 0001 to 9999 \
             (such as 2026-11-22T10:00:00.000Z): {}",
            self.0
        )
    }
}

impl std::error::Error for InvalidTimestamp {}

impl FromStr for Timestamp {
    type Err = InvalidTimestamp;

    /// RFC 3339; a fraction finer than a millisecond is rounded up.
    fn from_str(text: &str) -> Result<Self, InvalidTimestamp> {
        let parsed = OffsetDateTime::parse(text, &Rfc3339)
            .map_err(|error| InvalidTimestamp(error.to_string()))?;
        let nanos = parsed.unix_timestamp_nanos() + i128::from(has_digits_beyond_nanos(text));
        let millis = -(-nanos).div_euclid(NANOS_PER_MILLI);
        match i64::try_from(millis) {
            Ok(millis) if (Self::MIN.0..=Self::MAX.0).contains(&millis) => Ok(Self(millis)),
            _ => Err(InvalidTimestamp("the year is out of range".to_owned())),
        }
    }
}

/// The parser cuts a fraction after nine digits, which would round down.
fn has_digits_beyond_nanos(text: &str) -> bool {
    text.split_once('.').is_some_and(|(_, fraction)| {
        fraction.bytes().take_while(u8::is_ascii_digit).skip(9).any(|digit| digit != b'0')
    })
}

impl Timestamp {
    /// As JavaScript's `toISOString` writes it: `2026-11-22T10:00:00.000Z`.
    fn iso(self) -> [u8; 24] {
        let (seconds, millis) = (self.0.div_euclid(1000), self.0.rem_euclid(1000));
        let at = OffsetDateTime::from_unix_timestamp(seconds)
            .expect("the years 0001 to 9999 are within the range of the time crate");
        let ((year, month, day), (hour, minute, second)) = (at.to_calendar_date(), at.to_hms());
        let mut text = *b"0000-00-00T00:00:00.000Z";
        put_digits(&mut text[..4], i64::from(year));
        put_digits(&mut text[5..7], i64::from(u8::from(month)));
        put_digits(&mut text[8..10], i64::from(day));
        put_digits(&mut text[11..13], i64::from(hour));
        put_digits(&mut text[14..16], i64::from(minute));
        put_digits(&mut text[17..19], i64::from(second));
        put_digits(&mut text[20..23], millis);
        text
    }
}

/// Writes a number that is not negative into a field, zeros first.
fn put_digits(field: &mut [u8], mut number: i64) {
    for digit in field.iter_mut().rev() {
        *digit = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
    }
}

/// As JavaScript's `toISOString` writes it: `2026-11-22T10:00:00.000Z`.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(str::from_utf8(&self.iso()).unwrap_or_default())
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(str::from_utf8(&self.iso()).unwrap_or_default())
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Timestamp;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an RFC 3339 time with a zone, as a string")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<i64, InvalidTimestamp> {
        text.parse::<Timestamp>().map(Timestamp::as_millis)
    }

    #[test]
    fn rounds_up_once() {
        assert_eq!(parse("1970-01-01T00:00:00.001Z"), Ok(1));
        assert_eq!(parse("1970-01-01T00:00:00.0010001Z"), Ok(2));
        assert_eq!(parse("1970-01-01T00:00:00.0000000001Z"), Ok(1));
        assert_eq!(parse("1970-01-01T00:00:00.0000000000Z"), Ok(0));
        assert_eq!(parse("1969-12-31T23:59:59.9985Z"), Ok(-1));
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in [
            "",
            "NaN",
            "2026-11-22",
            "2026-11-22T10:00:00",
            "2026-02-30T00:00:00Z",
            "10000-01-01T00:00:00Z",
            "+010000-01-01T00:00:00.000Z",
            "0000-12-31T23:59:59Z",
            "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59.9991Z",
            "1763805600000",
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains("RFC 3339"), "{text}: {error}");
        }
        assert_eq!(parse("9999-12-31T23:59:59.999Z"), Ok(Timestamp::MAX.as_millis()));
        assert_eq!(parse("0001-01-01T00:00:00Z"), Ok(Timestamp::MIN.as_millis()));
        assert_eq!(parse("1969-07-20T20:17:40Z"), Ok(-14_182_940_000));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            millis in Timestamp::MIN.as_millis()..=Timestamp::MAX.as_millis(),
        ) {
            let at = Timestamp::from_millis(millis);
            prop_assert_eq!(at.to_string().parse::<Timestamp>(), Ok(at));
        }

        #[test]
        fn arithmetic_never_panics(millis: i64, duration: Duration) {
            let at = Timestamp::from_millis(millis);
            prop_assert!(at + duration >= at);
            prop_assert!(at - duration <= at);
            prop_assert!((at + duration).since(at) <= duration);
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC*") {
            let _ = text.parse::<Timestamp>();
        }
    }
}
