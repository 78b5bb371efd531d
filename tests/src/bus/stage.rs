//! What the cases are told with: a bus, time, and numbered messages.

use std::fmt::Display;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use expirer_core::{
    Clock, EventBus, Group, Message, Progress, Receipt, Result, Subject, SubscribeOptions,
    Timestamp,
};
use futures_lite::future::or;

use super::member::Member;
use crate::harness::{BusHarness, Tolerance};

/// The subject of a case that needs but one.
pub(super) const SUBJECT: Subject = Subject::OrderCreated;

/// The ack deadline of a case that waits for its end.
pub(super) const DEADLINE: Duration = Duration::from_secs(1);

/// How long what should happen is waited for.
pub(super) const LIMIT: Duration = Duration::from_secs(30);

/// How much later than due a message may come that was put off: brokers look now and then.
pub(super) const COARSE: Duration = Duration::from_secs(5);

/// How long what should not happen is looked out for, where no deadline says.
pub(super) const QUIET: Duration = Duration::from_millis(400);

/// A moment.
pub(super) const MOMENT: Duration = Duration::from_millis(150);

/// A short one.
pub(super) const BREATH: Duration = Duration::from_millis(5);

/// The place of a case.
#[derive(Debug)]
pub(super) struct Stage<'a> {
    pub(super) harness: &'a dyn BusHarness,
    pub(super) bus: Arc<dyn EventBus>,
}

impl<'a> Stage<'a> {
    /// Opens a handle on the bus of the place.
    pub(super) async fn open(harness: &'a dyn BusHarness) -> Self {
        let bus = harness.bus().await.expect("the harness opens its bus");
        Self { harness, bus }
    }

    pub(super) fn clock(&self) -> &dyn Clock {
        &**self.harness.time().clock()
    }

    pub(super) fn tolerance(&self) -> Tolerance {
        self.harness.time().tolerance()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock().now()
    }

    pub(super) async fn pause(&self, duration: Duration) {
        self.pause_until(self.now() + duration).await;
    }

    pub(super) async fn pause_until(&self, at: Timestamp) {
        while self.now() < at {
            self.clock().sleep_until(at).await;
        }
    }

    /// Fails unless it is `at` or later by now.
    pub(super) fn assert_not_before(&self, at: Timestamp, what: impl Display) {
        let now = self.now();
        let earliest = at - self.tolerance().early;
        assert!(now >= earliest, "{what}: expected at {earliest} or later, came at {now}");
    }

    /// Fails if it is later than `at` by now.
    pub(super) fn assert_not_after(&self, at: Timestamp, what: impl Display) {
        let now = self.now();
        let latest = at + self.tolerance().late;
        assert!(now <= latest, "{what}: expected at {latest} or earlier, came at {now}");
    }

    /// Waits for a call, which has to return within the limit.
    pub(super) async fn call<T>(
        &self,
        what: &str,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let end = self.now() + LIMIT * 2 + self.tolerance().late;
        let late = async {
            self.pause_until(end).await;
            panic!("{what}: expected an answer, none came by {end}")
        };
        or(call, late).await
    }

    /// Waits for a call, which has to succeed.
    pub(super) async fn done<T>(&self, what: &str, call: impl Future<Output = Result<T>>) -> T {
        match self.call(what, call).await {
            Ok(done) => done,
            Err(error) => panic!("{what}: expected Ok, came: {error}"),
        }
    }

    /// Publishes numbered messages, in one call.
    pub(super) async fn publish(&self, numbers: Range<u32>) {
        self.publish_on(&SUBJECT, numbers).await;
    }

    pub(super) async fn publish_on(&self, subject: &Subject, numbers: Range<u32>) {
        let messages: Vec<Message> = numbers.map(|number| numbered(subject, number)).collect();
        self.send(&messages).await;
    }

    pub(super) async fn send(&self, messages: &[Message]) {
        self.done("publish", self.bus.publish(messages)).await;
    }

    /// Joins a group with an ack deadline that no case reaches.
    pub(super) async fn join(&self, name: &str) -> Member<'_> {
        self.join_on(name, &[SUBJECT]).await
    }

    pub(super) async fn join_on(&self, name: &str, subjects: &[Subject]) -> Member<'_> {
        self.join_for(name, subjects, LIMIT * 4).await
    }

    /// Joins a group with the short ack deadline.
    pub(super) async fn join_briefly(&self, name: &str) -> Member<'_> {
        self.join_for(name, &[SUBJECT], DEADLINE).await
    }

    pub(super) async fn join_for(
        &self,
        name: &str,
        subjects: &[Subject],
        ack_deadline: Duration,
    ) -> Member<'_> {
        let options = SubscribeOptions::new(group(name), subjects);
        self.subscribe(options.with_ack_deadline(ack_deadline)).await
    }

    pub(super) async fn subscribe(&self, options: SubscribeOptions) -> Member<'_> {
        let subscribed = self.bus.subscribe(options.clone());
        Member::new(self, self.done("subscribe", subscribed).await, options)
    }

    /// A group's progress on the one subject.
    pub(super) async fn progress(&self, name: &str) -> Progress {
        self.progress_on(name, &SUBJECT).await
    }

    pub(super) async fn progress_on(&self, name: &str, subject: &Subject) -> Progress {
        self.done("progress", self.bus.progress(&group(name), subject)).await
    }
}

pub(super) fn group(name: &str) -> Group {
    Group::new(name).expect("the names in the cases are good")
}

pub(super) fn dead(name: &str) -> Subject {
    Subject::Dead(group(name))
}

pub(super) fn numbered(subject: &Subject, number: u32) -> Message {
    Message::new(subject.clone(), number.to_string().into_bytes())
}

/// The number of a message; JSON of a number is its digits.
pub(super) fn number(message: &Message) -> u32 {
    let text = String::from_utf8_lossy(&message.payload);
    text.parse().unwrap_or_else(|_| panic!("expected the number of a message, came {message:?}"))
}

/// Receipts that nobody minted.
pub(super) const UNKNOWN: [Receipt; 2] =
    [Receipt::new(u64::MAX, u64::MAX), Receipt::new(u64::MAX - 7, 3)];
