//! What is not settled comes again, and what is settled does not.

use super::stage::{DEADLINE, MOMENT, QUIET, Stage};
use crate::harness::BusHarness;

pub(super) async fn it_comes_again_after_its_deadline_and_not_before(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join_briefly("a").await;
    stage.publish(0..1).await;
    let asked = stage.now();
    member.next().await;
    member.next_at(asked + DEADLINE).await;
    member.next_at(asked + DEADLINE * 2).await;
}

pub(super) async fn it_comes_to_another_member(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let (one, other) = (stage.join_briefly("a").await, stage.join_briefly("a").await);
    stage.publish(0..5).await;
    one.collect(0..5).await;
    other.work_off(0..5).await;
    other.gets_nothing_more().await;
}

pub(super) async fn a_dead_member_is_replaced(harness: &dyn BusHarness) {
    let (here, there) = (Stage::open(harness).await, Stage::open(harness).await);
    let dies = here.join_briefly("a").await;
    there.publish(0..5).await;
    dies.collect(0..5).await;
    drop(dies);
    drop(here);
    let heir = there.join_briefly("a").await;
    there.publish(5..7).await;
    heir.work_off(0..7).await;
    heir.gets_nothing_more().await;
}

pub(super) async fn attempts_are_counted(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join_briefly("a").await;
    stage.publish(0..1).await;
    let first = member.next().await;
    assert_eq!(first.attempt, 1, "expected a first attempt: {first:?}");
    let second = member.next().await;
    assert!(second.attempt > 1, "expected more than 1 after the deadline: {second:?}");
    member.release(std::slice::from_ref(&second), stage.now() + MOMENT).await;
    let third = member.next().await;
    assert!(third.attempt > second.attempt, "expected more after a release: {third:?}");
}

pub(super) async fn attempts_are_counted_for_each_group(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let (one, other) = (stage.join("one").await, stage.join("other").await);
    stage.publish(0..1).await;
    let first = one.next().await;
    one.release(&[first], stage.now()).await;
    one.next().await;
    let came = other.next().await;
    assert_eq!(came.attempt, 1, "expected the first attempt of this group: {came:?}");
}

pub(super) async fn an_ack_is_for_good(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let (one, other) = (stage.join_briefly("a").await, stage.join_briefly("a").await);
    stage.publish(0..5).await;
    let held = one.collect(0..5).await;
    one.ack(&held).await;
    one.gets_nothing_for(QUIET).await;
    other.gets_nothing_more().await;
}

pub(super) async fn an_ack_settles_what_it_names_alone(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join_briefly("a").await;
    stage.publish(0..3).await;
    let held = member.collect(0..3).await;
    member.ack(&held[..2]).await;
    member.work_off(2..3).await;
    member.gets_nothing_more().await;
}

pub(super) async fn an_ack_of_one_group_settles_nothing_for_another(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let (one, other) = (stage.join_briefly("one").await, stage.join_briefly("other").await);
    stage.publish(0..3).await;
    other.collect(0..3).await;
    one.work_off(0..3).await;
    other.work_off(0..3).await;
    one.gets_nothing_more().await;
}
