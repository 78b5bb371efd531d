//! What the world does: orders, payments, cancellations, requests, and nonsense.

use std::time::Duration;

use expirer_core::event::{
    Event, ExpirationComplete, OpenStatus, OrderCancelled, OrderCreated, PaymentCreated, Ticket,
};
use expirer_core::order::{Draft, Input};
use expirer_core::{Message, MessageId, OrderId, PaymentId, Subject, TicketId, Timestamp, UserId};
use fastrand::Rng;

use super::acts::Act;
use super::plan::{millis, one_in};

/// What is planned for one order.
#[derive(Clone, Debug)]
pub(super) struct Story {
    pub(super) id: OrderId,
    /// It comes into being by a request to us, not by an event from elsewhere.
    pub(super) is_ours: bool,
    /// Somebody asks us to complete it.
    pub(super) is_completed: bool,
    /// Somebody asks us to cancel it, or elsewhere does.
    pub(super) is_cancelled: bool,
    /// By its last `order:created`.
    pub(super) expires_at: Timestamp,
    /// When it was first told of.
    pub(super) created_at: Timestamp,
    /// When its last time was told.
    pub(super) told_at: Timestamp,
}

/// Acts by the time, and what they are about.
type Acts = Vec<(Timestamp, Act)>;

/// A handful of orders that expire within a minute or two, most of them paid around that time.
pub(super) fn write(
    rng: &mut Rng,
    begin: Timestamp,
    lasts: Duration,
    is_calm: bool,
) -> (Vec<Story>, Acts) {
    let mut acts = Vec::new();
    let count = rng.u32(2..14);
    let stories: Vec<Story> = (0..count)
        .map(|n| {
            let mut writer = Writer { rng, acts: &mut acts, n, is_calm };
            writer.story(begin, lasts)
        })
        .collect();
    if !is_calm && rng.bool() {
        acts.extend(nonsense(rng, begin, lasts));
    }
    (stories, acts)
}

struct Writer<'a> {
    rng: &'a mut Rng,
    acts: &'a mut Acts,
    n: u32,
    is_calm: bool,
}

impl Writer<'_> {
    fn story(&mut self, begin: Timestamp, lasts: Duration) -> Story {
        let lasts_millis = crate::millis(lasts);
        let created_at = begin + millis(self.rng, lasts_millis / 2);
        let mut story = Story {
            id: OrderId::new(format!("o{}", self.n)).expect("it is short"),
            is_ours: one_in(self.rng, 3),
            is_completed: false,
            is_cancelled: false,
            expires_at: begin + millis(self.rng, lasts_millis),
            created_at,
            told_at: created_at,
        };
        self.creation(&mut story);
        self.payments(&story);
        self.requests(&mut story);
        self.elsewhere(&mut story);
        story
    }

    /// It is told of once or more; and perhaps again at a higher version with another time.
    fn creation(&mut self, story: &mut Story) {
        let at = story.created_at;
        if story.is_ours {
            return self.request(at, story, Input::Create(draft(story)));
        }
        let first = created(&story.id, 0, story.expires_at);
        self.publish(at, &first, 5_000);
        if one_in(self.rng, 5) {
            story.expires_at = at + millis(self.rng, 90_000);
            story.told_at = at + millis(self.rng, 30_000);
            let moved = created(&story.id, 1, story.expires_at);
            self.publish(story.told_at, &moved, 5_000);
        }
    }

    /// Most payments come within seconds of the expiry, some long before or after it, or ahead of
    /// the order itself.
    fn payments(&mut self, story: &Story) {
        for which in 0..[0, 0, 1, 1, 1, 2, 3][self.rng.usize(0..7)] {
            let id = PaymentId::new(format!("p{}.{which}", self.n)).expect("it is short");
            let at = match self.rng.u32(0..6) {
                0 => story.created_at - millis(self.rng, 20_000),
                1 => story.expires_at + millis(self.rng, 100_000),
                2 | 3 => story.expires_at - Duration::from_millis(50) + millis(self.rng, 100),
                _ => story.expires_at - Duration::from_secs(2) + millis(self.rng, 4_000),
            };
            let paid = PaymentCreated { id, order_id: story.id.clone() };
            self.publish(at, &Event::PaymentCreated(paid), 20_000);
        }
    }

    fn requests(&mut self, story: &mut Story) {
        // Every other one within the same moment, so that the two race for the record. Not in
        // calm: two that cancel at once announce it twice, the same to the byte (ADR 7).
        let is_calm = self.is_calm;
        let around = |rng: &mut Rng| {
            let is_close = rng.bool() && !is_calm;
            let (early, span) = if is_close { (50, 100) } else { (5_000, 10_000) };
            story.expires_at - Duration::from_millis(early) + millis(rng, span)
        };
        if one_in(self.rng, 6) {
            let at = around(self.rng);
            self.request(at, story, Input::Complete { payment: None });
            story.is_completed = true;
        }
        if one_in(self.rng, 6) {
            let at = around(self.rng);
            self.request(at, story, Input::Cancel);
            story.is_cancelled = true;
        }
    }

    /// Another service cancels it, or says that its time is up.
    fn elsewhere(&mut self, story: &mut Story) {
        if !story.is_ours && one_in(self.rng, 8) {
            let at = story.expires_at - Duration::from_secs(5) + millis(self.rng, 10_000);
            let cancelled = OrderCancelled { id: story.id.clone(), version: 1, ticket: None };
            self.publish(at, &Event::OrderCancelled(cancelled), 5_000);
            story.is_cancelled = true;
        }
        // Two expiries at once are two announcements, the same to the byte.
        if !self.is_calm && one_in(self.rng, 5) {
            let at = story.created_at + millis(self.rng, 120_000);
            let expires_at = self.rng.bool().then_some(story.expires_at);
            let due = ExpirationComplete { order_id: story.id.clone(), expires_at };
            self.publish(at, &Event::ExpirationComplete(due), 5_000);
        }
    }

    /// Publishes at a time, and perhaps again within so many milliseconds.
    fn publish(&mut self, at: Timestamp, event: &Event, again_within_millis: u64) {
        self.publish_once(at, event);
        if !self.is_calm && one_in(self.rng, 3) {
            let later = at + millis(self.rng, again_within_millis);
            self.publish_once(later, event);
        }
    }

    fn publish_once(&mut self, at: Timestamp, event: &Event) {
        let message = foreign(event.message(), self.acts.len());
        self.acts.push((at, Act::Publish(message)));
    }

    fn request(&mut self, at: Timestamp, story: &Story, input: Input) {
        self.acts.push((at, Act::Request(story.id.clone(), input)));
    }
}

/// How the ids of the world's messages begin.
pub(super) const WORLD: &str = "world-";

/// An id of its own for every message of the world, so that each can be followed.
fn foreign(message: Message, nth: usize) -> Message {
    message.with_id(MessageId::new(format!("{WORLD}{nth}")))
}

fn ticket(id: &OrderId) -> Ticket {
    Ticket { id: TicketId::new(format!("t-{id}")).expect("it is short"), price: None }
}

fn created(id: &OrderId, version: u64, expires_at: Timestamp) -> Event {
    Event::OrderCreated(OrderCreated {
        id: id.clone(),
        version,
        status: OpenStatus::Created,
        user_id: None,
        expires_at,
        ticket: Some(ticket(id)),
    })
}

fn draft(story: &Story) -> Draft {
    Draft {
        user_id: UserId::new("u1").expect("it is short"),
        ticket: ticket(&story.id),
        expires_at: story.expires_at,
        expires_relative: false,
        trace: None,
    }
}

/// How the payload of nonsense begins.
pub(super) const NONSENSE: &str = "nonsense";
/// How the id of an order begins that nobody has ever created.
pub(super) const NOBODY: &str = "nobody";

/// Messages that nobody can read, and expiries of orders that nobody knows.
fn nonsense(rng: &mut Rng, begin: Timestamp, lasts: Duration) -> Acts {
    let lasts_millis = crate::millis(lasts);
    let mut acts = Vec::new();
    for nth in 0..rng.usize(1..4) {
        let at = begin + millis(rng, lasts_millis);
        let subject = Subject::EVENTS[rng.usize(0..4)].clone();
        let message = match rng.bool() {
            true => Message::new(subject, format!("{NONSENSE} {nth}").into_bytes()),
            false => {
                let order_id = OrderId::new(format!("{NOBODY}{nth}")).expect("it is short");
                Event::ExpirationComplete(ExpirationComplete { order_id, expires_at: None })
                    .message()
            }
        };
        let id = MessageId::new(format!("nonsense-{nth}"));
        acts.push((at, Act::Publish(message.with_id(id))));
    }
    acts
}
