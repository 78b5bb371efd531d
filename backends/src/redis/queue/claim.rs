//! What the lease script answers.

use expirer_core::{Error, ErrorKind, OrderId, Result, Timer, Timestamp};
use redis::Value;

use crate::redis::BACKEND;
use crate::redis::error::unreadable;

/// One answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claimed {
    /// The server's time.
    pub(super) now: Timestamp,
    /// What was leased, and for the how manyeth time.
    pub(super) timers: Vec<(Timer, u32)>,
    /// When the next one becomes visible, if nothing was leased.
    pub(super) next: Option<Timestamp>,
    /// A member of our set that is no timer of ours. It stays, and comes again with its lease.
    foreign: Option<String>,
}

impl Claimed {
    pub(super) fn read(answer: Value) -> Result<Self> {
        let parts: Vec<Vec<u8>> =
            redis::from_redis_value(answer).map_err(|error| unreadable("lease", error))?;
        let Some((now, rest)) = parts.split_first() else {
            return Err(unreadable("lease", "an empty list"));
        };
        let now = millis(now).ok_or_else(|| unreadable("lease", "no time"))?;
        let mut claimed = Self { now, timers: Vec::new(), next: None, foreign: None };
        if let [next] = rest {
            claimed.next = millis(next);
            return Ok(claimed);
        }
        for item in rest.chunks_exact(3) {
            match timer(item) {
                Some(timer) => claimed.timers.push(timer),
                None => claimed.foreign = Some(String::from_utf8_lossy(&item[0]).into_owned()),
            }
        }
        Ok(claimed)
    }

    /// Fails if there is a foreign member; for who found nothing else.
    pub(super) fn or_foreign(self) -> Result<Self> {
        let Some(foreign) = self.foreign else { return Ok(self) };
        let shown: String = foreign.chars().take(64).collect();
        let text = format!("{shown:?} in the set of timers is no timer of ours: remove it by ZREM");
        Err(Error::new(ErrorKind::Corrupt, BACKEND, "lease", text))
    }
}

fn timer(item: &[Vec<u8>]) -> Option<(Timer, u32)> {
    let [id, due, attempts] = item else { return None };
    let id = OrderId::new(std::str::from_utf8(id).ok()?).ok()?;
    let attempts = std::str::from_utf8(attempts).ok()?.parse().unwrap_or(u32::MAX);
    Some((Timer::new(id, millis(due)?), attempts))
}

fn millis(text: &[u8]) -> Option<Timestamp> {
    let millis: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    let at = Timestamp::from_millis(millis);
    (at.as_millis() == millis).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(parts: &[&[u8]]) -> Result<Claimed> {
        let parts = parts.iter().map(|part| Value::BulkString(part.to_vec())).collect();
        Claimed::read(Value::Array(parts))
    }

    #[test]
    fn timers_or_the_next_time() {
        let claimed = read(&[b"100", b"a", b"90", b"2", b"b", b"-62135596800000", b"1"]).unwrap();
        let names: Vec<_> = claimed.timers.iter().map(|(timer, _)| timer.id.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(claimed.timers[0].1, 2);
        assert_eq!(claimed.timers[1].0.due, Timestamp::MIN);
        assert_eq!(read(&[b"100", b"120"]).unwrap().next, Some(Timestamp::from_millis(120)));
        assert_eq!(read(&[b"100", b""]).unwrap().next, None);
    }

    #[test]
    fn a_foreign_member_is_an_error_only_where_it_is_alone() {
        for foreign in [[b"\xff" as &[u8], b"90", b"1"], [b"x", b"1.5", b"1"], [b"", b"9", b"1"]] {
            let mixed: Vec<&[u8]> =
                [&[b"100" as &[u8]], &foreign[..], &[b"a", b"9", b"1"]].concat();
            let claimed = read(&mixed).unwrap();
            assert_eq!(claimed.timers.len(), 1);
            let alone: Vec<&[u8]> = [&[b"100" as &[u8]], &foreign[..]].concat();
            let error = read(&alone).unwrap().or_foreign().expect_err("foreign");
            assert_eq!(error.kind(), ErrorKind::Corrupt);
        }
        assert!(read(&[]).is_err());
        assert_eq!(Claimed::read(Value::Okay).expect_err("no list").kind(), ErrorKind::Corrupt);
    }
}
