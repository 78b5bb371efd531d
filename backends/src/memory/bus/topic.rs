//! One subject: its log, and the groups that read it.

use std::collections::VecDeque;
use std::sync::Arc;

use event_listener::Event;
use expirer_core::{Group, Message, Progress, Subject, Timestamp};

use super::cursor::{Cursor, Departure};
use super::log::Log;
use super::{SUBJECT_BYTES_MAX, SUBJECT_MESSAGES_MAX};

pub(super) struct Topic {
    pub(super) subject: Subject,
    pub(super) cursors: Vec<Cursor>,
    log: Log<Stored>,
    /// Where the messages are that every group has settled, in the order in which that happened.
    settled: VecDeque<u64>,
    /// How many messages some group has not settled.
    pub(super) outstanding: u64,
    /// And how many bytes of payload.
    pub(super) outstanding_bytes: u64,
    /// How many messages the publish under way brings.
    pub(super) incoming: u64,
    /// And how many bytes of payload.
    pub(super) incoming_bytes: u64,
}

pub(super) struct Stored {
    /// Its number on the bus, over all subjects.
    pub(super) sequence: u64,
    pub(super) published: Timestamp,
    pub(super) message: Message,
    /// How many groups have not settled it.
    unsettled: u32,
}

impl Stored {
    fn bytes(&self) -> u64 {
        self.message.payload.len() as u64
    }
}

impl Topic {
    pub(super) const fn new(subject: Subject) -> Self {
        Self {
            subject,
            cursors: Vec::new(),
            log: Log::new(),
            settled: VecDeque::new(),
            outstanding: 0,
            outstanding_bytes: 0,
            incoming: 0,
            incoming_bytes: 0,
        }
    }

    /// Whether the messages of the publish under way fit. Without a group the oldest make room.
    pub(super) const fn has_room(&self) -> bool {
        let messages = self.outstanding + self.incoming;
        let bytes = self.outstanding_bytes + self.incoming_bytes;
        // A batch that is too large by itself would never fit: it goes through alone.
        let fits = bytes <= SUBJECT_BYTES_MAX || self.outstanding == 0;
        self.cursors.is_empty() || (messages <= SUBJECT_MESSAGES_MAX && fits)
    }

    pub(super) fn store(
        &mut self,
        sequence: u64,
        published: Timestamp,
        message: Message,
        unread_max: u64,
    ) {
        let bytes = message.payload.len() as u64;
        #[expect(clippy::cast_possible_truncation, reason = "there are fewer groups than memory")]
        let unsettled = self.cursors.len() as u32;
        self.log.push(Stored { sequence, published, message, unsettled });
        self.cursors.iter_mut().for_each(|cursor| cursor.waiting += 1);
        if self.cursors.is_empty() {
            self.forget_beyond(unread_max);
        } else {
            self.outstanding += 1;
            self.outstanding_bytes += bytes;
        }
    }

    fn forget_beyond(&mut self, unread_max: u64) {
        if self.log.len() > unread_max {
            let oldest = self.log.first();
            oldest.and_then(|oldest| self.log.remove(oldest));
        }
    }

    /// The cursor of a group, which is created before the oldest retained message if it is new.
    pub(super) fn join(&mut self, group: &Group, arrived: &Arc<Event>) -> usize {
        if let Some(known) = self.cursors.iter().position(|cursor| cursor.group == *group) {
            return known;
        }
        self.log.iter_mut().for_each(|stored| stored.unsettled += 1);
        self.settled.clear();
        self.outstanding = self.log.len();
        self.outstanding_bytes = self.log.iter_mut().map(|stored| stored.bytes()).sum();
        self.cursors.push(Cursor::new(group.clone(), Arc::clone(arrived), self.log.len()));
        self.cursors.len() - 1
    }

    pub(super) fn get(&self, position: u64) -> Option<&Stored> {
        self.log.get(position)
    }

    /// The position and number of the next message that is new to a group.
    pub(super) fn next_new(&self, cursor: usize) -> Option<(u64, u64)> {
        let cursor = &self.cursors[cursor];
        if cursor.waiting == 0 {
            return None;
        }
        let position = self.log.next(cursor.next)?;
        self.log.get(position).map(|stored| (stored.sequence, position))
    }

    /// When the next message becomes visible again to a group, and its number.
    pub(super) fn next_again(&self, cursor: usize) -> Option<(Timestamp, u64)> {
        let cursor = &self.cursors[cursor];
        let (at, serial) = cursor.next_again()?;
        let stored = self.log.get(cursor.position(serial)?)?;
        Some((at, stored.sequence))
    }

    pub(super) fn stored(&self, departure: &Departure) -> Option<&Stored> {
        self.log.get(departure.position)
    }

    /// Settles one delivery; `None` if the token is stale, `Some(true)` if no group is left to settle it.
    pub(super) fn settle(
        &mut self,
        cursor: usize,
        serial: u64,
        token: u64,
        now: Timestamp,
        retained_max: usize,
    ) -> Option<bool> {
        let position = self.cursors[cursor].land(serial, token, now)?;
        let stored = self.log.get_mut(position)?;
        stored.unsettled -= 1;
        if stored.unsettled > 0 {
            return Some(false);
        }
        let bytes = stored.bytes();
        self.outstanding -= 1;
        self.outstanding_bytes -= bytes;
        self.retain(position, retained_max);
        Some(true)
    }

    /// Keeps what every group has settled, for a group that comes late, as one of the newest.
    fn retain(&mut self, position: u64, retained_max: usize) {
        self.settled.push_back(position);
        if self.settled.len() > retained_max {
            let oldest = self.settled.pop_front();
            oldest.and_then(|oldest| self.log.remove(oldest));
        }
    }

    /// How far a group has come; `now` is a stamp that no later message is stamped before.
    pub(super) fn progress(&self, group: &Group, now: Timestamp) -> Progress {
        let cursor = self.cursors.iter().find(|cursor| cursor.group == *group);
        let (waiting, unacked, oldest) = match cursor {
            Some(cursor) => (cursor.waiting, cursor.unacked(), self.oldest_unsettled(cursor)),
            None => (self.log.len(), 0, self.log.first()),
        };
        let oldest = oldest.and_then(|position| self.log.get(position));
        let worked_off = oldest.map_or(now, |stored| stored.published);
        Progress::new(waiting, unacked).with_worked_off(worked_off)
    }

    fn oldest_unsettled(&self, cursor: &Cursor) -> Option<u64> {
        cursor.oldest_flight().or_else(|| match cursor.waiting {
            0 => None,
            _ => self.log.next(cursor.next),
        })
    }
}
