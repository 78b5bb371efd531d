//! What may become of an order, and who may say so.

use std::collections::{BTreeMap, BTreeSet};

use expirer_core::event::Event;
use expirer_core::observe::Flow;
use expirer_core::order::{Order, Phase, State};
use expirer_core::{Change, Message, OrderId, Record, Revision, Timestamp};

use crate::faults::Faults;

use super::{Actor, Announcement, Role, STRAGGLER, Verdict};

/// All orders, and all announcements of ours.
#[derive(Debug, Default)]
pub(in crate::sim) struct Orders {
    rows: BTreeMap<OrderId, Row>,
    /// What was published, in order. What the bus lost is not in here.
    pub(in crate::sim) announced: Vec<Announcement>,
    /// When each expiry was last published.
    fired: BTreeMap<OrderId, Timestamp>,
    /// Orders that were cancelled without waiting for their payments any longer.
    pub(in crate::sim) waits_over: BTreeSet<OrderId>,
}

#[derive(Debug, Default)]
struct Row {
    revision: Option<Revision>,
    state: Option<State>,
    owes: Vec<Event>,
    /// Since when it is an order, and not only known ahead of it.
    known_at: Option<Timestamp>,
    /// When it ended.
    ended_at: Option<Timestamp>,
    /// What it no longer owes, and since when.
    cleared: Vec<(Event, Timestamp)>,
    cancelled_by: Option<Role>,
}

impl Orders {
    /// Judges a commit that the repository has accepted.
    pub(super) fn commit(
        &mut self,
        actor: &Actor,
        change: &Change,
        revision: Revision,
        faults: &Faults,
        now: Timestamp,
    ) -> Verdict {
        let row = self.rows.entry(change.id.clone()).or_default();
        let verdict = row.judge(actor, change, revision);
        let cleared: Vec<Event> =
            row.owes.iter().filter(|event| !change.owes.contains(event)).cloned().collect();
        let was_cancelled = is_cancelled(row.state.as_ref());
        row.cleared.extend(cleared.iter().map(|event| (event.clone(), now)));
        row.revision = Some(revision);
        row.state = Some(change.state.clone());
        row.owes.clone_from(&change.owes);
        row.note_times(now);
        if !was_cancelled && is_cancelled(row.state.as_ref()) {
            row.cancelled_by = Some(actor.role);
        }
        verdict?;
        let silent = cleared.iter().find(|event| !self.is_announced(event, faults));
        silent.map_or(Ok(()), |event| Err(format!("cleared {event:?}, which nobody published")))
    }

    /// What the bus confirmed and lost counts: nobody can know.
    fn is_announced(&self, event: &Event, faults: &Faults) -> bool {
        self.announced.iter().any(|(_, announced, ..)| announced == event)
            || faults.has_lost(&event.message())
    }

    /// Judges an announcement of ours as it is stored by the bus: it has to be owed, or to have
    /// been owed when whoever was held up began.
    pub(super) fn announce(&mut self, event: Event, message: &Message, now: Timestamp) -> Verdict {
        if let Event::ExpirationComplete(due) = &event {
            self.fired.insert(due.order_id.clone(), now);
            return Ok(());
        }
        let is_owed = self.rows.get(order_of(&event)).is_some_and(|row| row.owed(&event, now));
        let verdict = match is_owed {
            true => Ok(()),
            false => Err(format!("announced {event:?}, which nobody owes")),
        };
        self.announced.push((now, event, message.payload.clone(), message.id.clone()));
        verdict
    }

    /// Whether an expiry went out since that time, or may have and is lost.
    pub(super) fn has_fired(&self, id: &OrderId, since: Timestamp, faults: &Faults) -> bool {
        let is_it = |message: &Message| {
            let event = Event::decode(&message.subject, &message.payload);
            matches!(event, Some(Ok(Event::ExpirationComplete(due))) if due.order_id == *id)
        };
        self.fired.get(id).is_some_and(|at| *at >= since) || faults.lost().iter().any(is_it)
    }

    /// Since when an order is known, if it is.
    pub(in crate::sim) fn known_at(&self, id: &OrderId) -> Option<Timestamp> {
        self.rows.get(id).and_then(|row| row.known_at)
    }

    /// When an order ended, if it did.
    pub(in crate::sim) fn ended_at(&self, id: &OrderId) -> Option<Timestamp> {
        self.rows.get(id).and_then(|row| row.ended_at)
    }

    /// When an order expires, as far as is known.
    pub(super) fn expires_at(&self, id: &OrderId) -> Option<Timestamp> {
        let state = self.rows.get(id).and_then(|row| row.state.as_ref());
        order(state).map(|order| order.expires_at)
    }

    /// Whether a record that was read is the row as it was committed last.
    pub(super) fn is_current(&self, id: &OrderId, read: Option<&Record>) -> bool {
        let row = self.rows.get(id);
        match (row.and_then(|row| row.revision), read) {
            (None, None) => true,
            (Some(revision), Some(read)) => {
                read.revision == revision
                    && row.is_some_and(|row| row.state.as_ref() == Some(&read.state))
                    && row.is_some_and(|row| row.owes == read.owes)
            }
            _ => false,
        }
    }

    /// Who cancelled an order.
    pub(in crate::sim) fn cancelled_by(&self, id: &OrderId) -> Option<Role> {
        self.rows.get(id).and_then(|row| row.cancelled_by)
    }
}

/// The order that an event is about.
pub(in crate::sim) const fn order_of(event: &Event) -> &OrderId {
    match event {
        Event::OrderCreated(event) => &event.id,
        Event::OrderCancelled(event) => &event.id,
        Event::ExpirationComplete(event) => &event.order_id,
        Event::PaymentCreated(event) => &event.order_id,
        Event::PaymentLate(event) => &event.order_id,
    }
}

fn order(state: Option<&State>) -> Option<&Order> {
    state.and_then(State::order)
}

fn is_cancelled(state: Option<&State>) -> bool {
    order(state).is_some_and(|order| order.phase == Phase::Cancelled)
}

impl Row {
    fn judge(&self, actor: &Actor, change: &Change, revision: Revision) -> Verdict {
        let id = &change.id;
        let known = self.revision.unwrap_or(Revision::ABSENT);
        if change.expected != known {
            return Err(format!(
                "{id}: a commit on {:?} was accepted at {known:?}",
                change.expected
            ));
        }
        if revision <= known {
            return Err(format!("{id}: {revision:?} after {known:?}"));
        }
        let (before, after) = (order(self.state.as_ref()), order(Some(&change.state)));
        match (before, after) {
            (Some(before), Some(after)) => self.transition(actor, change, before, after),
            (Some(_), None) => Err(format!("{id}: the order is gone")),
            (None, _) => Ok(()),
        }
    }

    /// Of pay, cancel and expire, one wins, once, and not before its time.
    fn transition(&self, actor: &Actor, change: &Change, before: &Order, after: &Order) -> Verdict {
        let id = &change.id;
        let (was, is) = (&before.phase, &after.phase);
        match (was, is) {
            (Phase::Open(_), Phase::Open(_)) => moved(id, before, after),
            (Phase::Complete { .. }, Phase::Complete { .. })
            | (Phase::Cancelled, Phase::Cancelled) => Ok(()),
            (Phase::Open(_), Phase::Complete { .. }) => one_later(actor, id, before, after),
            (Phase::Open(_), Phase::Cancelled) => Self::cancelled(actor, change, before, after),
            _ => Err(format!("{id}: {} after {}", is.as_str(), was.as_str())),
        }
    }

    fn cancelled(actor: &Actor, change: &Change, before: &Order, after: &Order) -> Verdict {
        let id = &change.id;
        let owes = change.owes.iter().any(|event| matches!(event, Event::OrderCancelled(_)));
        let expires = actor.role == Role::Flow(Flow::Canceller);
        let now = actor.clock.latest();
        if expires && now < before.expires_at {
            return Err(format!("{id}: expired at {now}, before {}", before.expires_at));
        }
        let ours = expires || actor.role == Role::Request;
        if ours != owes {
            return Err(format!("{id}: cancelled by {actor}, owes {:?}", change.owes));
        }
        if ours { one_later(actor, id, before, after) } else { Ok(()) }
    }

    fn note_times(&mut self, now: Timestamp) {
        let Some(order) = order(self.state.as_ref()) else { return };
        self.known_at.get_or_insert(now);
        if !order.phase.is_open() {
            self.ended_at.get_or_insert(now);
        }
    }

    fn owed(&self, event: &Event, now: Timestamp) -> bool {
        let lately =
            |(cleared, at): &(Event, Timestamp)| cleared == event && now <= *at + STRAGGLER;
        self.owes.contains(event) || self.cleared.iter().any(lately)
    }
}

/// Only a higher version moves an order.
fn moved(id: &OrderId, before: &Order, after: &Order) -> Verdict {
    match after.version > before.version || after == before {
        true => Ok(()),
        false => Err(format!("{id}: {after:?} after {before:?}")),
    }
}

/// One transition is one version; only a Recorder may apply news of a move in the same commit.
fn one_later(actor: &Actor, id: &OrderId, before: &Order, after: &Order) -> Verdict {
    let is_one = after.version == before.version + 1;
    let is_more = after.version > before.version && actor.role == Role::Flow(Flow::Recorder);
    match is_one || is_more {
        true => Ok(()),
        false => Err(format!("{id}: version {} after {}", after.version, before.version)),
    }
}
