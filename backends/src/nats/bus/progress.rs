//! How far a group has come, and what time it is by the bus.
//!
//! Everything stored before the first message that the group has not settled has been settled.
//! Where there is none, what counts is the time up to which the stream is known to be complete. A
//! server by itself stores each message at once under the time that it gives it: then that is its
//! present. In a cluster a message gets its time when it is proposed and is stored when others have
//! it, and 2.9 does not tell its time: there it is the time of the last message that is stored, and
//! where none comes we store one that only tells the time.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use expirer_core::{Group, Progress, Result, Subject, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Shared;
use super::streams::Described;
use crate::nats::connection::{Answered, Outgoing};
use crate::nats::error::{Failure, NO_MESSAGE_FOUND, unreadable};

const OP: &str = "progress";
/// How often a message that only tells the time is stored, at most, by one process.
const TICK: Duration = Duration::from_millis(500);

/// What is known of the watermarks.
#[derive(Debug, Default)]
pub(super) struct Watermarks {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// None goes back.
    reached: BTreeMap<(Group, Subject), Timestamp>,
    /// When we last stored a message that tells the time, by stream, and its sequence.
    ticks: BTreeMap<String, (Timestamp, Option<u64>)>,
}

#[derive(Debug, Deserialize)]
struct Found {
    message: Stored,
}

#[derive(Debug, Deserialize)]
struct Stored {
    time: String,
}

impl Watermarks {
    fn reach(&self, group: &Group, subject: &Subject, at: Timestamp) -> Timestamp {
        let mut state = self.state();
        let key = (group.clone(), subject.clone());
        let reached = state.reached.entry(key).or_insert(Timestamp::MIN);
        *reached = at.max(*reached);
        *reached
    }

    /// Whether it is time for another one; then it counts as stored. Gives the one before.
    fn tick(&self, stream: &str, now: Timestamp) -> Option<Option<u64>> {
        let mut state = self.state();
        let (at, last) = state.ticks.entry(stream.to_owned()).or_insert((Timestamp::MIN, None));
        let is_time = now.since(*at) >= TICK || now < *at;
        is_time.then(|| {
            *at = now;
            *last
        })
    }

    fn ticked(&self, stream: &str, sequence: u64) {
        if let Some((_, last)) = self.state().ticks.get_mut(stream) {
            *last = Some(sequence);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// How far a group has come on a subject.
    pub(super) async fn progress(&self, group: &Group, subject: &Subject) -> Result<Progress> {
        let (stream, before) = self.described(OP, subject).await?;
        let seat = self.seat(stream, group, subject);
        let consumer = seat.describe(OP, &self.connection).await?;
        let floor = consumer.as_ref().map_or(0, |consumer| consumer.floor());
        if consumer.is_some() {
            self.floors.note(&seat.consumer, &before.created, floor);
        }
        let present = self.present(&seat.stream, before).await?;
        let first = self.first_after(&seat.stream, floor, &seat.wire).await?;
        let at = first.unwrap_or(present);
        let counts = consumer.map_or((0, 0), |c| (c.num_pending, c.num_ack_pending));
        let progress = Progress::new(counts.0, counts.1);
        Ok(progress.with_worked_off(self.watermarks.reach(group, subject, at)))
    }

    /// A time up to which everything is stored that ever will be.
    async fn present(&self, stream: &str, described: Described) -> Result<Timestamp> {
        if let (Some(ts), 1) = (&described.ts, described.replicas()) {
            let read = |text| floored(text).map_err(|error| unreadable(OP, error));
            let present = read(ts)?;
            let is_ahead =
                described.state.last_seq > 0 && read(&described.state.last_ts)? > present;
            // The server's clock was set back: what comes next may bear an older time still.
            return Ok(if is_ahead { Timestamp::MIN } else { present });
        }
        let described = match self.watermarks.tick(stream, self.clock().now()) {
            Some(last) => {
                self.tell_time(stream, last).await?;
                self.streams.describe(OP, stream).await?
            }
            None => described,
        };
        match described.state.last_seq {
            0 => Ok(Timestamp::MIN),
            _ => floored(&described.state.last_ts).map_err(|error| unreadable(OP, error)),
        }
    }

    /// Stores a message that tells the time, and removes our last one. A stream that takes no
    /// subject of ours tells the time by what comes in.
    async fn tell_time(&self, stream: &str, last: Option<u64>) -> Result<()> {
        let stored = match self.store_time(stream).await {
            Err(failure) if failure.is_nobody_there() && !self.streams.is_ours(stream) => {
                return Ok(());
            }
            Err(failure) if failure.is_nobody_there() => {
                let subject = self.streams.clock(stream);
                match self.streams.add(OP, stream, &subject).await {
                    Ok(()) => self.store_time(stream).await,
                    Err(failure) if failure.is_outage() => Err(failure),
                    Err(_) => return Ok(()),
                }
            }
            stored => stored,
        };
        self.watermarks.ticked(stream, stored?);
        if let Some(last) = last {
            let body = json!({ "seq": last, "no_erase": true });
            let call = format!("STREAM.MSG.DELETE.{stream}");
            // It may be forbidden, or gone: then it stays, or is.
            drop(self.connection.api::<Value>(OP, &call, &body).await);
        }
        Ok(())
    }

    async fn store_time(&self, stream: &str) -> Answered<u64> {
        let subject = self.streams.clock(stream);
        let message = Outgoing { subject, headers: None, payload: Vec::new() };
        let stored = self.connection.store_all(OP, vec![message]).await.pop();
        let missing = || Err(Failure::new(unreadable(OP, "fewer answers than calls")));
        stored.unwrap_or_else(missing).map(|stored| stored.seq)
    }

    /// When the first message of a subject after a sequence was stored, if there is one.
    async fn first_after(&self, stream: &str, floor: u64, wire: &str) -> Result<Option<Timestamp>> {
        let body = json!({ "seq": floor + 1, "next_by_subj": wire });
        let call = format!("STREAM.MSG.GET.{stream}");
        match self.connection.api::<Found>(OP, &call, &body).await {
            Ok(found) => match floored(&found.message.time) {
                Ok(at) => Ok(Some(at)),
                Err(error) => Err(unreadable(OP, error)),
            },
            Err(failure) if failure.is(NO_MESSAGE_FOUND) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }
}

/// Reads RFC 3339, rounded down: a message at the next millisecond may be stored after it.
fn floored(text: &str) -> std::result::Result<Timestamp, String> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = fraction.bytes().take_while(u8::is_ascii_digit).count();
    let zone = if fraction.is_empty() { "" } else { &fraction[digits..] };
    let millis = fraction.get(..digits.min(3)).filter(|millis| !millis.is_empty());
    let cut = match millis {
        Some(millis) => format!("{whole}.{millis}{zone}"),
        None => text.to_owned(),
    };
    cut.parse().map_err(|error| format!("{text:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_rounded_down() {
        for (text, millis) in [
            ("1970-01-01T00:00:01.999999999Z", 1999),
            ("1970-01-01T00:00:01.9Z", 1900),
            ("1970-01-01T00:00:01Z", 1000),
            ("1970-01-01T01:00:01.0019+01:00", 1001),
        ] {
            assert_eq!(floored(text), Ok(Timestamp::from_millis(millis)), "{text}");
        }
        assert!(floored("yesterday.").is_err() && floored("").is_err());
    }

    #[test]
    fn a_watermark_never_goes_back() {
        let (marks, group) = (Watermarks::default(), Group::new("a").unwrap());
        let reach = |millis| {
            marks.reach(&group, &Subject::OrderCreated, Timestamp::from_millis(millis)).as_millis()
        };
        assert_eq!([reach(5), reach(3), reach(7)], [5, 5, 7]);
    }

    #[test]
    fn time_is_told_now_and_then() {
        let (marks, at) = (Watermarks::default(), |millis| Timestamp::from_millis(millis));
        assert_eq!(marks.tick("s", at(1000)), Some(None));
        marks.ticked("s", 7);
        assert_eq!(marks.tick("s", at(1499)), None);
        assert_eq!(marks.tick("other", at(1499)), Some(None));
        assert_eq!(marks.tick("s", at(1500)), Some(Some(7)));
        assert_eq!(marks.tick("s", at(900)), Some(Some(7)), "the clock was set back");
    }
}
