//! An order as its hash has it.

use std::str::FromStr;
use std::time::Duration;

use expirer_core::event::Event;
use expirer_core::order::State;
use expirer_core::{
    Change, Error, ErrorKind, OrderId, Outcome, Record, Result, Revision, Timestamp,
};
use redis::Value;
use serde_json::Error as Json;

use super::AHEAD_KEEP;
use crate::redis::BACKEND;
use crate::redis::error::unreadable;
use crate::redis::url::Keep;

/// The fields, in the order in which a row is read.
pub(super) const FIELDS: [&str; 4] = ["revision", "state", "owes", "since"];

/// An order that was read.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) record: Record,
    /// Since when it has been owing.
    since: Option<Timestamp>,
}

/// An order to be written.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) state: String,
    /// Empty where nothing is owed.
    pub(super) owes: String,
    /// When it expires, if it is open.
    pub(super) due: Option<Timestamp>,
    /// For how many milliseconds it is kept; `None` for ever.
    pub(super) keep_ms: Option<u128>,
}

impl Row {
    /// Reads the answer for one id.
    ///
    /// # Errors
    /// `Corrupt`, with the key, for what is no order of ours.
    pub(super) fn read(
        op: &'static str,
        key: &str,
        id: &OrderId,
        answer: Result<Value>,
    ) -> Result<Option<Self>> {
        let corrupt = |why: &str| {
            let text = format!("{key} is no order of ours: {why}");
            Error::new(ErrorKind::Corrupt, BACKEND, op, text)
        };
        let answer = answer.map_err(|error| match error.kind() {
            ErrorKind::Corrupt => corrupt("it is of another type"),
            _ => error,
        })?;
        let fields: Vec<Option<Vec<u8>>> =
            redis::from_redis_value(answer).map_err(|error| unreadable(op, error))?;
        match &fields[..] {
            [None, None, None, None] => Ok(None),
            [Some(revision), Some(state), owes, since] => {
                let parts = (&revision[..], &state[..], owes.as_deref(), since.as_deref());
                Self::parse(id, parts).map(Some).map_err(|why| corrupt(&why))
            }
            _ => Err(corrupt("a field is missing")),
        }
    }

    fn parse(
        id: &OrderId,
        (revision, state, owes, since): (&[u8], &[u8], Option<&[u8]>, Option<&[u8]>),
    ) -> std::result::Result<Self, String> {
        let revision = number(revision).ok_or("its revision is no number")?;
        let state = serde_json::from_slice(state).map_err(|error| format!("its state: {error}"))?;
        let owes = owes.map(serde_json::from_slice).transpose();
        let owes: Vec<Event> =
            owes.map_err(|error| format!("what it owes: {error}"))?.unwrap_or_default();
        let since = since.map(|since| number(since).ok_or("its time is no number")).transpose()?;
        let since = since.map(Timestamp::from_millis).filter(|_| !owes.is_empty());
        let record = Record { id: id.clone(), revision: Revision(revision), state, owes };
        Ok(Self { record, since })
    }

    /// Whether it is open and past due, or has been owing, since before this.
    pub(super) fn is_overdue(&self, before: Timestamp) -> bool {
        let due = open_until(&self.record.state);
        due.into_iter().chain(self.since).any(|since| since < before)
    }
}

impl Written {
    /// # Errors
    /// `Invalid` for a state that is no JSON, which none is.
    pub(super) fn new(change: &Change, keep: Keep) -> Result<Self> {
        let owes = match change.owes.is_empty() {
            true => String::new(),
            false => serde_json::to_string(&change.owes).map_err(unwritable)?,
        };
        let state = serde_json::to_string(&change.state).map_err(unwritable)?;
        let due = open_until(&change.state);
        let has_ended = due.is_none() && owes.is_empty();
        let keep = Some(keep).filter(|_| has_ended).and_then(|keep| span(keep, &change.state));
        Ok(Self { state, owes, due, keep_ms: keep.map(|keep| keep.as_millis()) })
    }
}

/// Reads what the commit script answers.
pub(super) fn outcome(answer: Value) -> Result<Outcome> {
    let revision: Option<String> =
        redis::from_redis_value(answer).map_err(|error| unreadable("commit", error))?;
    let Some(revision) = revision else { return Ok(Outcome::Conflict) };
    let revision = revision.parse().map_err(|error| unreadable("commit", error))?;
    Ok(Outcome::Committed(Revision(revision)))
}

fn open_until(state: &State) -> Option<Timestamp> {
    state.order().filter(|order| order.phase.is_open()).map(|order| order.expires_at)
}

fn span(keep: Keep, state: &State) -> Option<Duration> {
    match (keep, state) {
        (Keep::Forever, _) => None,
        (Keep::For(keep), State::Order(_)) => Some(keep),
        (Keep::For(keep), State::Ahead(_)) => Some(keep.max(AHEAD_KEEP)),
    }
}

fn number<T: FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unwritable(error: Json) -> Error {
    Error::new(ErrorKind::Invalid, BACKEND, "commit", error.to_string())
}
