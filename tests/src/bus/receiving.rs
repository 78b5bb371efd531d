//! How a call to receive waits, wakes and ends.

use std::pin::pin;
use std::time::Duration;

use expirer_core::{MessageId, ReceiveOptions};
use futures_lite::future::{poll_once, zip};

use super::member::Member;
use super::stage::{COARSE, DEADLINE, LIMIT, MOMENT, QUIET, SUBJECT, Stage, UNKNOWN, numbered};
use crate::harness::BusHarness;

pub(super) async fn max_is_kept_and_zero_is_one(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    stage.publish(0..9).await;
    for (max, at_most) in [(2, 2), (0, 1), (1, 1), (3, 3)] {
        let came = member.receive(max, LIMIT).await;
        let fits = (1..=at_most).contains(&came.len());
        assert!(fits, "expected 1 to {at_most} messages, came {}", came.len());
    }
}

pub(super) async fn it_waits_until_the_end_when_nothing_comes(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    for wait in [QUIET, MOMENT, Duration::ZERO] {
        let begun = stage.now();
        assert_eq!(member.receive(5, wait).await, []);
        stage.assert_not_before(begun + wait, "nothing");
        stage.assert_not_after(begun + wait, "nothing");
    }
}

pub(super) async fn a_message_wakes_a_call_that_waits(harness: &dyn BusHarness) {
    let (here, there) = (Stage::open(harness).await, Stage::open(harness).await);
    let member = there.join("a").await;
    zip(wakes_at_once(&member), publish_in_a_moment(&here)).await;
}

pub(super) async fn a_message_wakes_every_group_that_waits(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let (one, other) = (stage.join("one").await, stage.join("other").await);
    let waiting = zip(wakes_at_once(&one), wakes_at_once(&other));
    zip(waiting, publish_in_a_moment(&stage)).await;
}

async fn publish_in_a_moment(stage: &Stage<'_>) {
    stage.pause(MOMENT * 2).await;
    stage.publish(0..1).await;
}

async fn wakes_at_once(member: &Member<'_>) {
    let begun = member.stage.now();
    assert_eq!(member.receive(5, LIMIT).await.len(), 1);
    member.stage.assert_not_after(begun + MOMENT * 2, "the message");
}

pub(super) async fn messages_wake_every_member_that_waits(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let members = [stage.join_briefly("a").await, stage.join_briefly("a").await];
    let publishing = async {
        stage.pause(MOMENT).await;
        stage.publish(0..2).await;
    };
    let waiting = zip(takes_one(&members[0]), takes_one(&members[1]));
    let (taken, ()) = zip(waiting, publishing).await;
    assert_eq!(taken, (1, 1), "expected one message for each member");
}

async fn takes_one(member: &Member<'_>) -> usize {
    let begun = member.stage.now();
    let came = member.receive(1, LIMIT).await;
    // A broker may first have pushed it to the other member.
    member.stage.assert_not_after(begun + MOMENT + DEADLINE + COARSE, format_args!("{came:?}"));
    member.ack(&came).await;
    came.len()
}

pub(super) async fn a_large_batch_is_complete(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    stage.publish(0..10_000).await;
    member.work_off(0..10_000).await;
}

pub(super) async fn a_receive_that_is_dropped_loses_nothing(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join_briefly("a").await;
    for number in 0..10 {
        let mut waiting = pin!(member.consumer.receive(ReceiveOptions::new(4).with_wait(LIMIT)));
        let has_ended = poll_once(waiting.as_mut()).await.is_some();
        stage.publish(number..number + 1).await;
        if !has_ended {
            let _ = poll_once(waiting).await;
        }
    }
    member.work_off(0..10).await;
}

pub(super) async fn a_publish_that_is_dropped_is_finished_by_a_repeat(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    let messages: Vec<_> = (0..50)
        .map(|number| numbered(&SUBJECT, number).with_id(MessageId::new(format!("p{number}"))))
        .collect();
    for _ in 0..3 {
        let _ = poll_once(stage.bus.publish(&messages)).await;
    }
    stage.send(&messages).await;
    member.work_off(0..50).await;
}

pub(super) async fn an_empty_batch_does_nothing(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    stage.send(&[]).await;
    member.ack(&[]).await;
    member.release(&[], stage.now()).await;
    member.reject(&[], "nothing").await;
    stage.publish(0..3).await;
    let held = member.collect(0..3).await;
    member.ack(&[]).await;
    member.ack(&held).await;
}

pub(super) async fn unknown_receipts_are_passed_over(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join_briefly("a").await;
    stage.publish(0..3).await;
    member.ack_receipts(&UNKNOWN).await;
    member.release_receipts(&UNKNOWN, stage.now()).await;
    member.reject_receipts(&UNKNOWN, "unknown").await;
    let held = member.collect(0..3).await;
    let mixed = [UNKNOWN[0], held[0].receipt, held[1].receipt, UNKNOWN[1], held[2].receipt];
    member.ack_receipts(&mixed).await;
    member.gets_nothing_more().await;
}
