//! How far one group has come on one subject.

use std::collections::BTreeSet;
use std::sync::Arc;

use event_listener::Event;
use expirer_core::{Group, Timestamp};

use super::log::Log;

/// One group on one subject: what it has not been given yet, and what it holds.
pub(super) struct Cursor {
    pub(super) group: Group,
    /// Wakes the members of the group.
    pub(super) arrived: Arc<Event>,
    /// Nothing from this position of the subject's log on has been delivered.
    pub(super) next: u64,
    pub(super) waiting: u64,
    /// By serial: the number of the first delivery, in the order of the subject's log.
    flights: Log<Flight>,
    /// How many of them were put off by a release.
    put_off: u64,
    /// Exactly the flights, by when they become visible again.
    again: BTreeSet<(Timestamp, u64)>,
}

/// A message that was delivered and is not settled.
struct Flight {
    position: u64,
    token: u64,
    /// The end of the ack deadline, or the time it was released to.
    visible_at: Timestamp,
    attempt: u32,
    held: bool,
}

/// One delivery, before the message is added.
pub(super) struct Departure {
    pub(super) serial: u64,
    pub(super) position: u64,
    pub(super) attempt: u32,
}

impl Cursor {
    /// A group that has seen nothing of what a log of `waiting` messages holds.
    pub(super) const fn new(group: Group, arrived: Arc<Event>, waiting: u64) -> Self {
        let flights = Log::new();
        let again = BTreeSet::new();
        Self { group, arrived, next: 0, waiting, flights, put_off: 0, again }
    }

    /// Messages that are delivered and not settled.
    pub(super) const fn unacked(&self) -> u64 {
        self.flights.len()
    }

    /// What the group has before it: all but what it has put off.
    pub(super) const fn ahead(&self) -> u64 {
        self.waiting + self.flights.len() - self.put_off
    }

    /// The position of the oldest message that is delivered and not settled: older than all that wait.
    pub(super) fn oldest_flight(&self) -> Option<u64> {
        self.flights.get(self.flights.first()?).map(|flight| flight.position)
    }

    /// When the next message becomes visible again, and its serial.
    pub(super) fn next_again(&self) -> Option<(Timestamp, u64)> {
        self.again.first().copied()
    }

    /// The log's position of a flight.
    pub(super) fn position(&self, serial: u64) -> Option<u64> {
        self.flights.get(serial).map(|flight| flight.position)
    }

    /// Delivers the new message at `position`.
    pub(super) fn depart(&mut self, position: u64, token: u64, until: Timestamp) -> Departure {
        self.next = position + 1;
        self.waiting -= 1;
        let flight = Flight { position, token, visible_at: until, attempt: 1, held: true };
        let serial = self.flights.push(flight);
        self.again.insert((until, serial));
        Departure { serial, position, attempt: 1 }
    }

    /// Delivers again what became visible first.
    pub(super) fn depart_again(&mut self, token: u64, until: Timestamp) -> Option<Departure> {
        let (_, serial) = self.again.pop_first()?;
        let flight = self.flights.get_mut(serial)?;
        flight.token = token;
        flight.visible_at = until;
        flight.attempt = flight.attempt.saturating_add(1);
        self.put_off -= u64::from(!flight.held);
        flight.held = true;
        self.again.insert((until, serial));
        Some(Departure { serial, position: flight.position, attempt: flight.attempt })
    }

    /// Whether `token` is the proof of a delivery whose ack deadline is not over.
    pub(super) fn holds(&self, serial: u64, token: u64, now: Timestamp) -> bool {
        self.flights.get(serial).is_some_and(|flight| flight.is_held_by(token, now))
    }

    /// Gives a flight back, to become visible at `at`; `false` if the token is stale.
    pub(super) fn release(
        &mut self,
        serial: u64,
        token: u64,
        at: Timestamp,
        now: Timestamp,
    ) -> bool {
        let Some(flight) = self.flights.get_mut(serial).filter(|f| f.is_held_by(token, now)) else {
            return false;
        };
        self.again.remove(&(flight.visible_at, serial));
        self.again.insert((at, serial));
        flight.visible_at = at;
        flight.held = false;
        self.put_off += 1;
        true
    }

    /// Ends a flight and says what position it had; `None` if the token is stale.
    pub(super) fn land(&mut self, serial: u64, token: u64, now: Timestamp) -> Option<u64> {
        if !self.holds(serial, token, now) {
            return None;
        }
        let flight = self.flights.remove(serial)?;
        self.again.remove(&(flight.visible_at, serial));
        Some(flight.position)
    }
}

impl Flight {
    fn is_held_by(&self, token: u64, now: Timestamp) -> bool {
        self.held && self.token == token && now < self.visible_at
    }
}
