//! A live view: from now on, and nothing left behind.

use std::collections::BTreeSet;
use std::time::Duration;

use expirer_core::{Message, ReceiveOptions, Subject, Tail, TailBatch, Timestamp};
use futures_lite::future::{poll_once, zip};

use super::stage::{BREATH, LIMIT, MOMENT, QUIET, SUBJECT, Stage, dead, number, numbered};
use crate::harness::BusHarness;

struct View<'a> {
    stage: &'a Stage<'a>,
    tail: Box<dyn Tail>,
}

impl<'a> View<'a> {
    async fn open(stage: &'a Stage<'a>, subjects: &[Subject]) -> Self {
        Self { stage, tail: stage.done("tail", stage.bus.tail(subjects)).await }
    }

    async fn receive(&self, max: usize, wait: Duration) -> TailBatch {
        let options = ReceiveOptions::new(max).with_wait(wait);
        self.stage.done("receive of a tail", self.tail.receive(options)).await
    }

    async fn receive_until(&self, end: Timestamp) -> TailBatch {
        let came = self.receive(256, end.since(self.stage.now())).await;
        if came.messages.is_empty() {
            self.stage.pause(BREATH).await;
        }
        came
    }

    /// Receives this many messages, within the limit.
    async fn messages(&self, count: usize) -> Vec<Message> {
        let (mut messages, end) = (Vec::new(), self.stage.now() + LIMIT);
        while messages.len() < count {
            let now = self.stage.now();
            assert!(now < end, "expected {count} messages, came {messages:?}");
            let batch = self.receive_until(end).await;
            assert_eq!(batch.missed, 0, "expected none to be missed of {count}");
            messages.extend(batch.messages);
        }
        messages
    }

    async fn sees(&self, numbers: impl IntoIterator<Item = u32>) {
        let expected: Vec<u32> = numbers.into_iter().collect();
        let came: Vec<u32> = self.messages(expected.len()).await.iter().map(number).collect();
        assert_eq!(came, expected, "expected these, in the order in which they were stored");
    }

    async fn sees_nothing_for(&self, duration: Duration) {
        let came = self.receive(256, duration).await;
        assert_eq!(came, TailBatch::default(), "expected nothing");
    }
}

pub(super) async fn it_sees_what_comes_after_it_began(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    stage.publish(0..3).await;
    let view = View::open(&stage, &[SUBJECT]).await;
    view.sees_nothing_for(MOMENT).await;
    for number in 3..8 {
        stage.publish(number..number + 1).await;
    }
    view.sees(3..8).await;
    view.sees_nothing_for(QUIET).await;
}

pub(super) async fn it_follows_its_subjects_alone(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let view = View::open(&stage, &[SUBJECT, Subject::PaymentLate]).await;
    stage.publish_on(&Subject::OrderCancelled, 7..9).await;
    stage.publish_on(&Subject::PaymentLate, 1..2).await;
    view.sees([1]).await;
    stage.publish_on(&SUBJECT, 2..3).await;
    let came = view.messages(1).await;
    assert_eq!((&came[0].subject, number(&came[0])), (&SUBJECT, 2));
    view.sees_nothing_for(QUIET).await;
}

pub(super) async fn it_sees_dead_letters(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let view = View::open(&stage, &[dead("a")]).await;
    let member = stage.join("a").await;
    stage.publish(0..1).await;
    member.reject(&member.collect(0..1).await, "poison").await;
    view.sees([0]).await;
}

pub(super) async fn it_shows_messages_whole(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let view = View::open(&stage, &[SUBJECT]).await;
    let message = numbered(&SUBJECT, 0).with_header("reason", "zu spät");
    stage.send(&[Message { payload: (*b"\xff\0{").into(), ..message.clone() }]).await;
    let came = view.messages(1).await.remove(0);
    assert_eq!(*came.payload, *b"\xff\0{");
    assert_eq!(came.headers.get("reason"), message.headers.get("reason"));
}

pub(super) async fn every_tail_sees_every_message(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let views = [View::open(&stage, &[SUBJECT]).await, View::open(&stage, &[SUBJECT]).await];
    let member = stage.join("a").await;
    stage.publish(0..1).await;
    member.work_off(0..1).await;
    views[0].sees(0..1).await;
    views[1].sees(0..1).await;
}

pub(super) async fn a_message_wakes_every_tail_that_waits(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let views = [View::open(&stage, &[SUBJECT]).await, View::open(&stage, &[SUBJECT]).await];
    let due = stage.now() + MOMENT * 2;
    let publishing = async {
        stage.pause_until(due).await;
        stage.publish(0..1).await;
    };
    zip(zip(wakes_at(&views[0], due), wakes_at(&views[1], due)), publishing).await;
}

async fn wakes_at(view: &View<'_>, due: Timestamp) {
    view.sees([0]).await;
    view.stage.assert_not_after(due, "the message");
}

pub(super) async fn it_keeps_max_and_waits_until_the_end(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let view = View::open(&stage, &[SUBJECT]).await;
    for wait in [QUIET, Duration::ZERO] {
        let begun = stage.now();
        view.sees_nothing_for(wait).await;
        stage.assert_not_before(begun + wait, "nothing");
        stage.assert_not_after(begun + wait, "nothing");
    }
    stage.publish(0..6).await;
    for (max, at_most) in [(2, 2), (0, 1), (3, 3)] {
        let came = view.receive(max, LIMIT).await.messages.len();
        assert!((1..=at_most).contains(&came), "expected 1 to {at_most} messages, came {came}");
    }
}

pub(super) async fn it_leaves_nothing_behind(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    let (unread, view) =
        (View::open(&stage, &[SUBJECT]).await, View::open(&stage, &[SUBJECT]).await);
    stage.publish(0..1).await;
    view.sees(0..1).await;
    drop((unread, view));
    stage.publish(1..3).await;
    member.work_off(0..3).await;
    member.gets_nothing_for(QUIET).await;
    View::open(&stage, &[SUBJECT]).await.sees_nothing_for(QUIET).await;
}

pub(super) async fn a_slow_one_says_what_it_missed(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let view = View::open(&stage, &[SUBJECT]).await;
    let member = stage.join("a").await;
    for start in (0..5000).step_by(500) {
        stage.publish(start..start + 500).await;
    }
    member.work_off(0..5000).await;
    let (mut seen, mut missed, end) = (BTreeSet::new(), 0, stage.now() + LIMIT);
    while seen.len() as u64 + missed < 5000 && stage.now() < end {
        let batch = view.receive_until(end).await;
        missed += batch.missed;
        seen.extend(batch.messages.iter().map(number));
    }
    let seen = seen.len() as u64;
    assert_eq!(seen + missed, 5000, "expected 5000 in all, came {seen} and {missed} were missed");
}

pub(super) async fn a_receive_that_is_dropped_loses_nothing(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let view = View::open(&stage, &[SUBJECT]).await;
    let mut came = Vec::new();
    for number in 0..5 {
        let options = ReceiveOptions::new(1).with_wait(LIMIT);
        if let Some(batch) = poll_once(view.tail.receive(options)).await {
            came.extend(batch.expect("the tail is open").messages);
        }
        stage.publish(number..number + 1).await;
    }
    came.extend(view.messages(5 - came.len()).await);
    let came: Vec<u32> = came.iter().map(number).collect();
    assert_eq!(came, [0, 1, 2, 3, 4], "expected these, in the order in which they were stored");
}
