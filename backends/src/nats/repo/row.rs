//! An order as the bucket has it.

use expirer_core::event::Event;
use expirer_core::order::State;
use expirer_core::{Change, Error, ErrorKind, OrderId, Record, Result, Revision, Timestamp};
use serde::{Deserialize, Serialize};

use super::bucket::Found;
use crate::keep::Keep;
use crate::nats::BACKEND;
use crate::nats::names::token;

/// The keys of orders: the id follows.
const ORDERS: &str = "order";

/// An order that was read.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) record: Record,
    pub(super) past: Past,
    /// Which change has written it.
    pub(super) mark: String,
}

/// What a commit has to know of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Past {
    pub(super) revision: Revision,
    /// Since when it has been owing.
    pub(super) since: Option<Timestamp>,
    /// The entry of the index that was written for it, where it was written.
    pub(super) entry: Option<u64>,
}

/// An order to be written.
#[derive(Debug)]
pub(super) struct Draft<'a> {
    change: &'a Change,
    pub(super) since: Option<Timestamp>,
    /// Another one for each change: a commit whose answer was lost knows its own work by it.
    pub(super) mark: String,
}

/// The text of a row.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    mark: String,
    state: State,
    #[serde(default)]
    owes: Vec<Event>,
    since: Option<i64>,
    entry: Option<u64>,
}

#[derive(Serialize)]
struct Storing<'a> {
    mark: &'a str,
    state: &'a State,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    owes: &'a [Event],
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    entry: Option<u64>,
}

/// The key of an order.
pub(super) fn key(id: &OrderId) -> String {
    format!("{ORDERS}.{}", token(id.as_str()))
}

impl Past {
    /// Of an order that is not there.
    pub(super) const NONE: Self = Self { revision: Revision::ABSENT, since: None, entry: None };
}

impl Row {
    /// Reads what the key of an order holds; `subject` is for people.
    ///
    /// # Errors
    /// `Corrupt`, with the subject, for what is no order of ours.
    pub(super) fn read(
        op: &'static str,
        subject: &str,
        id: &OrderId,
        found: &Found,
    ) -> Result<Self> {
        let corrupt = |why: String| {
            let text = format!("{subject} is no order of ours: {why}");
            Error::new(ErrorKind::Corrupt, BACKEND, op, text)
        };
        let stored: Stored =
            serde_json::from_slice(&found.value).map_err(|error| corrupt(error.to_string()))?;
        if stored.since.is_some() == stored.owes.is_empty() {
            return Err(corrupt("owes and since are not both there".to_owned()));
        }
        let Stored { mark, state, owes, since, entry } = stored;
        let (revision, since) = (Revision(found.revision), since.map(Timestamp::from_millis));
        let record = Record { id: id.clone(), revision, state, owes };
        Ok(Self { record, past: Past { revision, since, entry }, mark })
    }

    /// Whether it is open and past due, or has been owing, since before this.
    pub(super) fn is_overdue(&self, before: Timestamp) -> bool {
        due(&self.record.state, self.past.since).is_some_and(|due| due < before)
    }
}

impl<'a> Draft<'a> {
    /// What a change makes of an order with this past.
    pub(super) fn new(change: &'a Change, past: Past, now: Timestamp, mark: String) -> Self {
        let since = (!change.owes.is_empty()).then(|| past.since.unwrap_or(now));
        Self { change, since, mark }
    }

    pub(super) const fn id(&self) -> &OrderId {
        &self.change.id
    }

    pub(super) const fn expected(&self) -> Revision {
        self.change.expected
    }

    /// When it is overdue, if it is open or owes something.
    pub(super) fn due(&self) -> Option<Timestamp> {
        due(&self.change.state, self.since)
    }

    /// For how many seconds it is kept; `None` for ever.
    pub(super) fn keep_s(&self, keep: Keep) -> Option<u64> {
        let span = keep.span(&self.change.state).filter(|_| self.due().is_none());
        span.map(|span| span.as_secs().max(1))
    }

    /// The text of it; `entry` is the entry of the index that stands for it.
    pub(super) fn text(&self, entry: Option<u64>) -> Vec<u8> {
        let since = self.since.map(Timestamp::as_millis);
        let Change { state, owes, .. } = self.change;
        // All of it is text, numbers and lists: JSON.
        serde_json::to_vec(&Storing { mark: &self.mark, state, owes, since, entry })
            .unwrap_or_default()
    }
}

fn due(state: &State, since: Option<Timestamp>) -> Option<Timestamp> {
    let order = state.order().filter(|order| order.phase.is_open());
    order.map(|order| order.expires_at).into_iter().chain(since).min()
}
