//! One record, and when it needs looking at.

use std::time::Duration;

use expirer_core::event::Event;
use expirer_core::order::State;
use expirer_core::{Change, OrderId, Record, Revision, Timestamp};

use super::AHEAD_KEEP;

pub(super) struct Row {
    pub(super) id: OrderId,
    pub(super) revision: Revision,
    state: State,
    /// Few rows owe anything at a time.
    debt: Option<Box<Debt>>,
    /// When it is up in the agenda that it is in.
    at: Timestamp,
}

struct Debt {
    since: Timestamp,
    owes: Vec<Event>,
}

/// The one agenda that a row is in, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Appointment {
    /// It is overdue if nobody has changed it by then.
    Due(Timestamp),
    /// It is forgotten then.
    Forget(Timestamp),
}

impl Row {
    pub(super) fn new(change: &Change, revision: Revision, now: Timestamp, keep: Duration) -> Self {
        let mut row = Self {
            id: change.id.clone(),
            revision,
            state: change.state.clone(),
            debt: None,
            at: now,
        };
        row.note_debt(&change.owes, now);
        row.at = row.next_time(now, keep);
        row
    }

    pub(super) fn update(
        &mut self,
        change: &Change,
        revision: Revision,
        now: Timestamp,
        keep: Duration,
    ) {
        self.revision = revision;
        self.state.clone_from(&change.state);
        self.note_debt(&change.owes, now);
        self.at = self.next_time(now, keep);
    }

    /// What has been owed for long stays so while anything is owed.
    fn note_debt(&mut self, owes: &[Event], now: Timestamp) {
        let since = self.debt.as_ref().map_or(now, |debt| debt.since);
        self.debt = (!owes.is_empty()).then(|| Box::new(Debt { since, owes: owes.to_vec() }));
    }

    fn next_time(&self, now: Timestamp, keep: Duration) -> Timestamp {
        match self.open_until().into_iter().chain(self.owing_since()).min() {
            Some(due) => due,
            None if self.state.order().is_some() => now + keep,
            None => now + keep.max(AHEAD_KEEP),
        }
    }

    fn open_until(&self) -> Option<Timestamp> {
        self.state.order().filter(|order| order.phase.is_open()).map(|order| order.expires_at)
    }

    fn owing_since(&self) -> Option<Timestamp> {
        self.debt.as_ref().map(|debt| debt.since)
    }

    pub(super) fn appointment(&self) -> Appointment {
        if self.open_until().or_else(|| self.owing_since()).is_some() {
            Appointment::Due(self.at)
        } else {
            Appointment::Forget(self.at)
        }
    }

    /// Makes a row that is due so only at `at`, until it changes.
    pub(super) const fn put_off(&mut self, at: Timestamp) {
        self.at = at;
    }

    /// Whether its time has come to be forgotten: then it is absent, for everybody.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        matches!(self.appointment(), Appointment::Forget(at) if at <= now)
    }

    pub(super) fn record(&self) -> Record {
        Record {
            id: self.id.clone(),
            revision: self.revision,
            state: self.state.clone(),
            owes: self.debt.as_ref().map_or_else(Vec::new, |debt| debt.owes.clone()),
        }
    }
}
