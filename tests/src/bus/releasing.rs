//! What is given back comes again when it was told to.

use std::time::Duration;

use expirer_core::{Release, Timestamp};
use futures_lite::future::zip;

use super::member::numbers;
use super::stage::{COARSE, DEADLINE, LIMIT, MOMENT, QUIET, Stage, number};
use crate::harness::BusHarness;

pub(super) async fn it_comes_at_its_time_and_not_before(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    stage.publish(0..1).await;
    let held = member.next().await;
    let at = stage.now() + QUIET * 2;
    member.release(&[held], at).await;
    let again = member.next_at(at).await;
    member.ack(&[again]).await;
    member.gets_nothing_for(QUIET).await;
}

pub(super) async fn a_time_beyond_the_ack_deadline_holds(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join_briefly("a").await;
    stage.publish(0..1).await;
    let held = member.next().await;
    let at = stage.now() + DEADLINE * 3;
    member.release(&[held], at).await;
    let again = member.next_at(at).await;
    member.ack(&[again]).await;
}

pub(super) async fn a_time_in_the_past_is_at_once(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    stage.publish(0..1).await;
    let now = stage.now();
    for at in [now, now - Duration::from_secs(3600), Timestamp::EPOCH, Timestamp::MIN] {
        let held = member.next().await;
        let released = stage.now();
        member.release(&[held], at).await;
        let again = member.next().await;
        stage.assert_not_after(released + COARSE, format_args!("{again:?} released to {at}"));
        member.release(&[again], at).await;
    }
}

pub(super) async fn a_time_beyond_all_horizons_is_accepted(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join_briefly("a").await;
    stage.publish(0..2).await;
    let held = member.collect(0..2).await;
    member.release(&held[..1], stage.now() + Duration::from_secs(400 * 366 * 86_400)).await;
    member.release(&held[1..], Timestamp::MAX).await;
    member.gets_nothing_for(DEADLINE * 2).await;
}

pub(super) async fn each_of_many_comes_at_its_own_time(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    stage.publish(0..100).await;
    let held = member.collect(0..100).await;
    let begun = stage.now();
    let due = |number: u32| begun + MOMENT * (1 + number % 10);
    let releases: Vec<Release> = held
        .iter()
        .map(|held| Release { receipt: held.receipt, at: due(number(&held.message)) })
        .collect();
    stage.done("release", member.consumer.release(&releases)).await;
    let mut seen = Vec::new();
    while seen.len() < 100 {
        let came = member.receive(100, LIMIT).await;
        assert_ne!(came, [], "expected more than these: {seen:?}");
        for again in &came {
            stage.assert_not_before(due(number(&again.message)), format_args!("{again:?}"));
            stage.assert_not_after(due(number(&again.message)) + COARSE, format_args!("{again:?}"));
        }
        seen.extend(numbers(&came));
        member.ack(&came).await;
    }
    seen.sort_unstable();
    assert_eq!(seen, Vec::from_iter(0..100));
}

pub(super) async fn it_comes_to_any_member(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let (one, other) = (stage.join("a").await, stage.join("a").await);
    stage.publish(0..4).await;
    let held = one.collect(0..4).await;
    one.release(&held, stage.now()).await;
    drop(one);
    other.work_off(0..4).await;
}

pub(super) async fn it_wakes_a_member_that_waits(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let (one, other) = (stage.join("a").await, stage.join("a").await);
    stage.publish(0..1).await;
    let held = one.next().await;
    let at = stage.now() + MOMENT * 2;
    let releasing = async {
        stage.pause(MOMENT).await;
        one.release(&[held], at).await;
    };
    zip(other.next_at(at), releasing).await;
}

/// More than brokers let a group hold at a time, unless they are told to.
pub(super) async fn many_that_are_put_off_hold_nothing_up(harness: &dyn BusHarness) {
    const MANY: u32 = 3000;
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    stage.publish(0..MANY).await;
    let held = member.collect(0..MANY).await;
    for batch in held.chunks(256) {
        member.release(batch, stage.now() + LIMIT * 4).await;
    }
    stage.publish(MANY..MANY + 5).await;
    member.work_off(MANY..MANY + 5).await;
}
