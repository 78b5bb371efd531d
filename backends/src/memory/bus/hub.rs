//! All that the lock of the bus protects.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use event_listener::Event;
use expirer_core::{
    Delivery, Group, Message, Progress, Receipt, Rejection, Release, Subject, Timestamp,
};

#[cfg(feature = "stdio")]
use super::cursor::Cursor;
use super::cursor::Departure;
use super::ids::Ids;
use super::tail::Tails;
use super::topic::Topic;
use super::wakes::Wakes;
use super::{RECEIVE_MAX, Retention, SUBJECT_BYTES_MAX, SUBJECT_MESSAGES_MAX, SUBJECTS_MAX};

/// A receipt's key is the topic above these bits, and below them the serial of the delivery.
const SERIAL_BITS: u32 = 48;

pub(super) struct Hub {
    topics: Vec<Topic>,
    groups: Vec<(Group, Arc<Event>)>,
    pub(super) tails: Tails,
    ids: Ids,
    /// How many messages were stored: the number of the next one.
    sequence: u64,
    /// What the last message was stamped with, or the last watermark, if that is later.
    last_stamp: Timestamp,
    /// The token of the next delivery.
    token: u64,
    retention: Retention,
}

/// How much lies before the groups.
#[cfg(feature = "stdio")]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backlog {
    /// Messages that the slowest group has before it, without those that it has put off.
    pub(crate) messages: u64,
    /// Bytes of payload that some group has not settled, of those that are put off as well.
    pub(crate) bytes: u64,
}

/// The place of a consumer on one subject.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seat {
    topic: usize,
    cursor: usize,
}

/// Why nothing was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Messages(Subject),
    Subjects,
}

/// What was done, or why nothing was.
pub(super) type Fits<T> = Result<T, Full>;

impl Hub {
    pub(super) fn new(seed: u64, now: Timestamp, retention: Retention) -> Self {
        Self {
            topics: Vec::new(),
            groups: Vec::new(),
            tails: Tails::default(),
            ids: Ids::new(seed),
            sequence: 0,
            last_stamp: now,
            // So that a receipt of another bus means nothing here.
            token: seed << 32,
            retention,
        }
    }

    #[cfg(feature = "stdio")]
    pub(super) fn backlog(&self) -> Backlog {
        let cursors = self.topics.iter().flat_map(|topic| &topic.cursors);
        let messages = cursors.map(Cursor::ahead).max().unwrap_or(0);
        Backlog { messages, bytes: self.topics.iter().map(|topic| topic.outstanding_bytes).sum() }
    }

    #[cfg(any(test, feature = "stdio"))]
    pub(super) fn outstanding(&self) -> u64 {
        self.topics.iter().map(|topic| topic.outstanding).sum()
    }

    #[cfg(any(test, feature = "stdio"))]
    pub(super) const fn stored(&self) -> u64 {
        self.sequence
    }

    pub(super) fn publish(&mut self, messages: &[Message], now: Timestamp) -> Fits<Wakes> {
        let topics = self.make_room(messages)?;
        let stamp = self.stamp(now);
        let mut wakes = Wakes::default();
        let mut last = 0;
        for message in messages {
            last = self.find(&message.subject, last).unwrap_or(last);
            self.store(last, message.clone(), stamp, &mut wakes);
        }
        for topic in topics {
            self.topics[topic].cursors.iter().for_each(|cursor| wakes.add(&cursor.arrived));
        }
        Ok(wakes)
    }

    /// Finds or makes the topics of a batch, if all of it fits.
    pub(super) fn make_room(&mut self, messages: &[Message]) -> Fits<Vec<usize>> {
        let mut topics = Vec::new();
        let mut last = 0;
        let counted = messages.iter().try_for_each(|message| {
            last = self.topic(&message.subject, last)?;
            let topic = &mut self.topics[last];
            if topic.incoming == 0 {
                topics.push(last);
            }
            topic.incoming += 1;
            topic.incoming_bytes += message.payload.len() as u64;
            Ok(())
        });
        let full = topics.iter().find(|topic| !self.topics[**topic].has_room());
        let fits =
            full.map_or(Ok(()), |full| Err(Full::Messages(self.topics[*full].subject.clone())));
        for topic in &topics {
            (self.topics[*topic].incoming, self.topics[*topic].incoming_bytes) = (0, 0);
        }
        counted.and(fits).map(|()| topics)
    }

    fn store(&mut self, topic: usize, mut message: Message, at: Timestamp, wakes: &mut Wakes) {
        let sequence = self.sequence;
        self.sequence += 1;
        message.id.get_or_insert_with(|| self.ids.mint(sequence));
        self.tails.offer(&message, wakes);
        self.topics[topic].store(sequence, at, message, self.retention.unread);
    }

    /// The time that nothing stored before was stamped later than, and nothing stored after will
    /// be stamped earlier than.
    fn stamp(&mut self, now: Timestamp) -> Timestamp {
        self.last_stamp = self.last_stamp.max(now);
        self.last_stamp
    }

    /// `hint` is where the message before was: batches are mostly of one subject.
    fn find(&self, subject: &Subject, hint: usize) -> Option<usize> {
        let is_it = |topic: &Topic| topic.subject == *subject;
        if self.topics.get(hint).is_some_and(is_it) {
            return Some(hint);
        }
        self.topics.iter().position(is_it)
    }

    fn topic(&mut self, subject: &Subject, hint: usize) -> Fits<usize> {
        if let Some(known) = self.find(subject, hint) {
            return Ok(known);
        }
        if self.topics.len() == SUBJECTS_MAX {
            return Err(Full::Subjects);
        }
        self.topics.push(Topic::new(subject.clone()));
        Ok(self.topics.len() - 1)
    }

    /// Takes seats for a member of a group, and says what wakes it.
    pub(super) fn join(
        &mut self,
        group: &Group,
        subjects: &[Subject],
    ) -> Fits<(Vec<Seat>, Arc<Event>)> {
        let arrived = self.group(group);
        let mut seats = BTreeSet::new();
        for subject in subjects {
            let topic = self.topic(subject, 0)?;
            let cursor = self.topics[topic].join(group, &arrived);
            seats.insert(Seat { topic, cursor });
        }
        Ok((seats.into_iter().collect(), arrived))
    }

    fn group(&mut self, group: &Group) -> Arc<Event> {
        if let Some((_, arrived)) = self.groups.iter().find(|(known, _)| known == group) {
            return Arc::clone(arrived);
        }
        let arrived = Arc::new(Event::new());
        self.groups.push((group.clone(), Arc::clone(&arrived)));
        arrived
    }

    /// Delivers first what became visible again, then what is new.
    pub(super) fn take(
        &mut self,
        seats: &[Seat],
        max: usize,
        now: Timestamp,
        ack_deadline: Duration,
    ) -> Vec<Delivery> {
        let (max, until) = (max.clamp(1, RECEIVE_MAX), now + ack_deadline);
        let mut taken = Vec::new();
        while taken.len() < max
            && let Some(seat) = self.next_again(seats, now)
        {
            let token = self.next_token();
            let cursor = &mut self.topics[seat.topic].cursors[seat.cursor];
            let departure = cursor.depart_again(token, until);
            taken.extend(departure.and_then(|departure| self.delivery(seat, &departure, token)));
        }
        while taken.len() < max
            && let Some((position, seat)) = self.next_new(seats)
        {
            let token = self.next_token();
            let cursor = &mut self.topics[seat.topic].cursors[seat.cursor];
            let departure = cursor.depart(position, token, until);
            taken.extend(self.delivery(seat, &departure, token));
        }
        taken
    }

    fn next_again(&self, seats: &[Seat], now: Timestamp) -> Option<Seat> {
        let again = |seat: &Seat| Some((self.topics[seat.topic].next_again(seat.cursor)?, *seat));
        let ((at, _), seat) = seats.iter().filter_map(again).min()?;
        (at <= now).then_some(seat)
    }

    fn next_new(&self, seats: &[Seat]) -> Option<(u64, Seat)> {
        let new = |seat: &Seat| Some((self.topics[seat.topic].next_new(seat.cursor)?, *seat));
        let ((_, position), seat) = seats.iter().filter_map(new).min()?;
        Some((position, seat))
    }

    const fn next_token(&mut self) -> u64 {
        self.token = self.token.wrapping_add(1);
        self.token
    }

    fn delivery(&self, seat: Seat, departure: &Departure, token: u64) -> Option<Delivery> {
        let stored = self.topics[seat.topic].stored(departure)?;
        let receipt = Receipt::new((seat.topic as u64) << SERIAL_BITS | departure.serial, token);
        let delivery = Delivery::new(stored.message.clone(), stored.published, receipt);
        Some(delivery.with_attempt(departure.attempt))
    }

    /// When something becomes visible again to a consumer.
    pub(super) fn next_visible(&self, seats: &[Seat]) -> Option<Timestamp> {
        let again = |seat: &Seat| self.topics[seat.topic].cursors[seat.cursor].next_again();
        seats.iter().filter_map(again).min().map(|(at, _)| at)
    }

    pub(super) fn ack(&mut self, seats: &[Seat], receipts: &[Receipt], now: Timestamp) -> Wakes {
        let mut wakes = Wakes::default();
        for receipt in receipts {
            self.settle(seats, *receipt, now, &mut wakes);
        }
        wakes
    }

    fn settle(&mut self, seats: &[Seat], receipt: Receipt, now: Timestamp, wakes: &mut Wakes) {
        if let Some((seat, serial)) = find_seat(seats, receipt) {
            let retention = self.retention.settled;
            let topic = &mut self.topics[seat.topic];
            let settled = topic.settle(seat.cursor, serial, receipt.token(), now, retention);
            // Whoever waits for the slowest group: it may be the one that has nothing left.
            let is_done = topic.cursors[seat.cursor].ahead() == 0;
            wakes.settled |= settled == Some(true) || is_done;
        }
    }

    pub(super) fn release(
        &mut self,
        seats: &[Seat],
        releases: &[Release],
        now: Timestamp,
    ) -> Wakes {
        let mut wakes = Wakes::default();
        for Release { receipt, at } in releases {
            let Some((seat, serial)) = find_seat(seats, *receipt) else { continue };
            let cursor = &mut self.topics[seat.topic].cursors[seat.cursor];
            if cursor.release(serial, receipt.token(), *at, now) {
                wakes.add(&cursor.arrived);
                wakes.settled = true;
            }
        }
        wakes
    }

    /// Publishes the dead letters and settles the originals, or does nothing at all.
    pub(super) fn reject(
        &mut self,
        seats: &[Seat],
        group: &Group,
        rejections: &[Rejection],
        now: Timestamp,
    ) -> Fits<Wakes> {
        let mut rejected = BTreeSet::new();
        let letters: Vec<Message> = rejections
            .iter()
            .filter_map(|rejection| Some((rejection, self.held(seats, rejection.receipt, now)?)))
            .filter(|(rejection, _)| rejected.insert(rejection.receipt))
            .map(|(rejection, message)| {
                message.clone().into_dead_letter(group.clone(), &rejection.reason, now)
            })
            .collect();
        let mut wakes = self.publish(&letters, now)?;
        for receipt in rejected {
            self.settle(seats, receipt, now, &mut wakes);
        }
        Ok(wakes)
    }

    pub(super) fn held(
        &self,
        seats: &[Seat],
        receipt: Receipt,
        now: Timestamp,
    ) -> Option<&Message> {
        let (seat, serial) = find_seat(seats, receipt)?;
        let topic = &self.topics[seat.topic];
        let cursor = &topic.cursors[seat.cursor];
        let is_held = cursor.holds(serial, receipt.token(), now);
        topic.get(cursor.position(serial).filter(|_| is_held)?).map(|stored| &stored.message)
    }

    pub(super) fn progress(
        &mut self,
        group: &Group,
        subject: &Subject,
        now: Timestamp,
    ) -> Progress {
        let stamp = self.stamp(now);
        match self.find(subject, 0) {
            Some(topic) => self.topics[topic].progress(group, stamp),
            None => Progress::new(0, 0).with_worked_off(stamp),
        }
    }
}

/// Where a receipt belongs, among the seats of whoever shows it.
fn find_seat(seats: &[Seat], receipt: Receipt) -> Option<(Seat, u64)> {
    let topic = receipt.key() >> SERIAL_BITS;
    let serial = receipt.key() & ((1 << SERIAL_BITS) - 1);
    seats.iter().find(|seat| seat.topic as u64 == topic).map(|seat| (*seat, serial))
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Messages(subject) => {
                write!(
                    f,
                    "{SUBJECT_MESSAGES_MAX} messages or {SUBJECT_BYTES_MAX} bytes on {subject} are not settled"
                )
            }
            Self::Subjects => write!(f, "there are {SUBJECTS_MAX} subjects"),
        }
    }
}
