//! A lease that waits: until its wait is over, and not a moment longer than it has to.

use std::slice::from_ref;
use std::time::Duration;

use expirer_core::Timestamp;
use futures_lite::future::zip;

use super::stage::{SECOND, Stage, millis, timer};
use crate::harness::QueueHarness;

async fn ends_empty(stage: &Stage<'_>, wait: Duration) {
    let (begun, tolerance) = (stage.now(), stage.harness.time().tolerance());
    let leases = stage.lease(stage.options().with_wait(wait)).await;
    let (end, now) = (begun + wait, stage.now());
    assert!(leases.is_empty(), "nothing is due: {leases:?}");
    assert!(now + tolerance.early >= end, "after {wait:?}, at {end}; it is {now}");
    assert!(now <= end + stage.allowance(), "after {wait:?}, at {end}; it is {now}");
}

pub(super) async fn a_lease_that_finds_nothing_ends_with_its_wait(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    stage.scheduled("later", stage.now() + SECOND * 600).await;
    for wait in [1, 300, 1200] {
        ends_empty(&stage, millis(wait)).await;
    }
}

pub(super) async fn a_lease_on_an_empty_queue_ends_with_its_wait(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    ends_empty(&stage, millis(700)).await;
}

pub(super) async fn a_lease_without_a_wait_returns_at_once(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    ends_empty(&stage, Duration::ZERO).await;
    stage.scheduled("later", stage.now() + SECOND * 600).await;
    ends_empty(&stage, Duration::ZERO).await;
}

pub(super) async fn a_waiting_lease_wakes_for_an_earlier_timer(harness: &dyn QueueHarness) {
    let (stage, other) = (Stage::new(harness).await, Stage::new(harness).await);
    stage.scheduled("later", stage.now() + SECOND * 600).await;
    let timer = timer("sooner", stage.after(700));
    let schedules = async {
        other.sleep(millis(300)).await;
        other.schedule(from_ref(&timer)).await;
    };
    zip(stage.one_call_brings(&timer, timer.due), schedules).await;
}

pub(super) async fn a_waiting_lease_wakes_for_a_timer_that_is_due(harness: &dyn QueueHarness) {
    let (stage, other) = (Stage::new(harness).await, Stage::new(harness).await);
    let (timer, at) = (timer("due", stage.now()), stage.after(400));
    let schedules = async {
        other.clock().sleep_until(at).await;
        other.schedule(from_ref(&timer)).await;
    };
    zip(stage.one_call_brings(&timer, at), schedules).await;
}

pub(super) async fn a_waiting_lease_wakes_for_a_timer_brought_forward(harness: &dyn QueueHarness) {
    let (stage, other) = (Stage::new(harness).await, Stage::new(harness).await);
    stage.scheduled("o1", stage.now() + SECOND * 600).await;
    let timer = timer("o1", stage.after(600));
    let reschedules = async {
        other.sleep(millis(300)).await;
        other.schedule(from_ref(&timer)).await;
    };
    zip(stage.one_call_brings(&timer, timer.due), reschedules).await;
}

pub(super) async fn a_waiting_lease_wakes_for_what_is_released(harness: &dyn QueueHarness) {
    let (stage, other) = (Stage::new(harness).await, Stage::new(harness).await);
    let (held, _) = other.leased("o1").await;
    let at = stage.after(300);
    let releases = async {
        other.clock().sleep_until(at).await;
        other.release(&held, Timestamp::EPOCH).await;
    };
    zip(stage.one_call_brings(&held.timer, at), releases).await;
}

pub(super) async fn a_waiting_lease_wakes_when_another_runs_out(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let other = stage.another().await.with_lease(SECOND);
    let (held, end) = other.leased("o1").await;
    stage.one_call_brings(&held.timer, end).await;
}

pub(super) async fn every_waiting_lease_is_woken(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_max(1);
    let (first, second) = (stage.another().await, stage.another().await);
    let at = stage.after(500);
    let timers = [timer("o1", at), timer("o2", at)];
    let wait = stage.options().with_wait(stage.allowance() * 2 + SECOND * 2);
    let schedules = async {
        stage.sleep(millis(200)).await;
        stage.schedule(&timers).await;
    };
    let waiting = zip(first.lease(wait.clone()), second.lease(wait));
    let ((first, second), ()) = zip(waiting, schedules).await;
    let (now, limit) = (stage.now(), at + stage.allowance());
    assert!(now <= limit, "both should return by {limit}; it is {now}");
    let mut came: Vec<_> = first.into_iter().chain(second).map(|lease| lease.timer).collect();
    came.sort();
    assert_eq!(came, timers, "one for each of the two that waited");
}
