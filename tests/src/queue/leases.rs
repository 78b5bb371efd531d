//! A lease: nobody else's while it runs, anybody's afterwards.

use std::slice::from_ref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use expirer_core::Timer;
use expirer_core::queue::LEASE_MAX;
use futures_lite::future::{self, zip};

use super::stage::{SECOND, Stage, crowd, millis};
use crate::harness::QueueHarness;

pub(super) async fn nobody_else_gets_a_timer_while_its_lease_runs(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_lease(SECOND);
    let other = stage.another().await;
    let (held, end) = stage.leased("o1").await;
    other.comes_at(&held.timer, end).await;
}

pub(super) async fn a_lease_that_runs_out_makes_its_timer_visible_again(
    harness: &dyn QueueHarness,
) {
    let stage = Stage::new(harness).await.with_lease(millis(600));
    let (held, end) = stage.leased("o1").await;
    let end_again = end.max(stage.now()) + millis(600);
    let again = stage.comes_at(&held.timer, end).await;
    assert!(again.attempt >= held.attempt, "attempts never fall: {held:?}, {again:?}");
    let third = stage.comes_at(&held.timer, end_again).await;
    assert!(third.attempt >= again.attempt, "attempts never fall: {again:?}, {third:?}");
}

pub(super) async fn an_ack_after_the_lease_does_nothing(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_lease(millis(400));
    let (held, end) = stage.leased("o1").await;
    stage.clock().sleep_until(end.max(stage.now()) + millis(200)).await;
    stage.ack(from_ref(&held)).await;
    stage.comes_at(&held.timer, end).await;
}

pub(super) async fn a_late_ack_leaves_the_new_holder_alone(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_lease(millis(400));
    let other = stage.another().await.with_lease(SECOND);
    let (held, end) = stage.leased("o1").await;
    other.comes_at(&held.timer, end).await;
    stage.ack(from_ref(&held)).await;
    other.comes_at(&held.timer, end + SECOND).await;
}

pub(super) async fn a_late_release_leaves_the_new_holder_alone(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_lease(millis(400));
    let other = stage.another().await.with_lease(SECOND * 60);
    let (held, end) = stage.leased("o1").await;
    let new = other.comes_at(&held.timer, end).await;
    stage.release(&held, held.timer.due).await;
    stage.nothing_until(stage.after(500)).await;
    other.ack(&[new]).await;
    other.counts(0, 0).await;
}

/// In real time, it is only seen that the lease is given.
pub(super) async fn the_longest_lease_ends_too(harness: &dyn QueueHarness) {
    for (name, duration) in [("o1", Duration::MAX), ("o2", LEASE_MAX + SECOND), ("o3", LEASE_MAX)] {
        let stage = Stage::new(harness).await.with_lease(duration);
        let end = stage.now() + LEASE_MAX;
        let (mut held, _) = stage.leased(name).await;
        if harness.time().is_virtual() {
            stage.clock().sleep_until(end - SECOND).await;
            held = stage.comes_at(&held.timer, end).await;
        } else {
            stage.nothing_until(stage.after(500)).await;
        }
        stage.ack(&[held]).await;
    }
}

pub(super) async fn a_lease_of_no_length_loses_nothing(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_lease(Duration::ZERO);
    let (held, end) = stage.leased("o1").await;
    stage.comes_at(&held.timer, end).await;
}

pub(super) async fn what_one_handle_schedules_another_leases(harness: &dyn QueueHarness) {
    let (stage, other) = (Stage::new(harness).await, Stage::new(harness).await.with_acks());
    let timers = crowd(20, stage.after(300));
    stage.schedule(&timers).await;
    other.all_come(&timers).await;
    stage.counts(0, 0).await;
}

pub(super) async fn no_two_workers_hold_the_same_timer(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_max(7);
    let (a, b, c) = (stage.another().await, stage.another().await, stage.another().await);
    let timers = crowd(300, stage.after(300));
    stage.schedule(&timers).await;
    let left = AtomicUsize::new(timers.len());
    let working = zip(work(&a, &left), zip(work(&b, &left), work(&c, &left)));
    let (a, (b, c)) = stage.bounded("the work", Duration::ZERO, working).await;
    let mut held = [a, b, c].concat();
    held.sort();
    let mut timers = timers;
    timers.sort();
    assert_eq!(held, timers, "every timer has one holder");
}

/// Takes its share of what is left.
async fn work(worker: &Stage<'_>, left: &AtomicUsize) -> Vec<Timer> {
    let mut held = Vec::new();
    while left.load(Ordering::SeqCst) > 0 {
        let leases = worker.take_by(worker.after(50)).await;
        let count = leases.len().min(left.load(Ordering::SeqCst));
        left.fetch_sub(count, Ordering::SeqCst);
        held.extend(leases.into_iter().map(|lease| lease.timer));
        future::yield_now().await;
    }
    held
}
