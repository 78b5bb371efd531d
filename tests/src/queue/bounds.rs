//! Batches: their size, their order, and very many timers at once.

use expirer_core::{LeaseOptions, Timer};

use super::stage::{SECOND, Stage, crowd, millis, timer};
use crate::harness::QueueHarness;

const CROWD: usize = 100_000;

pub(super) async fn an_empty_batch_does_nothing(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let (held, _) = stage.leased("held").await;
    let timer = stage.scheduled("o1", stage.after(400)).await;
    stage.schedule(&[]).await;
    stage.cancel(&[]).await;
    stage.ack(&[]).await;
    stage.queue.release(&[]).await.expect("an empty batch is no error");
    stage.counts(1, 1).await;
    stage.comes(&timer).await;
    stage.ack(&[held]).await;
    stage.counts(0, 1).await;
}

pub(super) async fn a_batch_is_ordered_by_due_time(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let now = stage.now();
    let timers: Vec<_> = (0..50_u32)
        .map(|number| timer(&format!("o{number}"), now - SECOND - millis(1) * (number * 37 % 50)))
        .collect();
    stage.schedule(&timers).await;
    stage.all_come(&timers).await;
}

pub(super) async fn what_comes_back_is_ordered_by_due_time_too(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let now = stage.now();
    let timers: Vec<_> = (0..20_u32)
        .map(|number| timer(&format!("o{number}"), now - SECOND * (number * 7 % 20)))
        .collect();
    stage.schedule(&timers).await;
    for lease in stage.all_come(&timers).await {
        stage.release(&lease, now).await;
    }
    stage.all_come_at(&timers, now).await;
}

pub(super) async fn no_batch_is_larger_than_asked_for(harness: &dyn QueueHarness) {
    for max in [1, 7] {
        let stage = Stage::new(harness).await.with_max(max).with_acks();
        let timers = crowd(50, stage.now());
        stage.schedule(&timers).await;
        stage.all_come(&timers).await;
    }
}

pub(super) async fn a_maximum_of_zero_is_taken_as_one(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_max(0).with_acks();
    let timers = crowd(5, stage.now());
    stage.schedule(&timers).await;
    stage.all_come(&timers).await;
}

pub(super) async fn the_largest_maximum_is_accepted(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_max(usize::MAX);
    let timers = crowd(300, stage.now());
    stage.schedule(&timers).await;
    stage.all_come(&timers).await;
}

pub(super) async fn a_small_batch_leaves_the_others_visible(harness: &dyn QueueHarness) {
    let (stage, other) = (Stage::new(harness).await, Stage::new(harness).await);
    let timers = crowd(10, stage.now());
    stage.schedule(&timers).await;
    let wait = stage.allowance() + SECOND;
    let first = stage.lease(LeaseOptions::new(3).with_wait(wait).with_duration(SECOND * 60)).await;
    let rest: Vec<_> = timers
        .into_iter()
        .filter(|timer| first.iter().all(|lease| lease.timer != *timer))
        .collect();
    assert!(!first.is_empty(), "timers are due, and a lease that waits gets none");
    other.all_come(&rest).await;
}

pub(super) async fn a_crowd_due_in_one_millisecond_comes_in_batches(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_acks();
    let timers = crowd(CROWD, stage.now() + SECOND);
    for timers in timers.chunks(1000) {
        stage.schedule(timers).await;
    }
    stage.counts(CROWD as u64, 0).await;
    drain(&stage, &timers).await;
}

pub(super) async fn a_crowd_can_be_scheduled_in_one_call(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_max(1024).with_acks();
    let timers = crowd(CROWD, stage.now() + SECOND);
    stage.schedule(&timers).await;
    drain(&stage, &timers).await;
}

pub(super) async fn a_crowd_can_be_cancelled_in_one_call(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let timers = crowd(CROWD / 10, stage.now() + SECOND * 600);
    stage.schedule(&timers).await;
    let ids: Vec<_> = timers.into_iter().map(|timer| timer.id).collect();
    stage.cancel(&ids).await;
    stage.counts(0, 0).await;
}

/// Every one once, and none is left.
async fn drain(stage: &Stage<'_>, timers: &[Timer]) {
    stage.all_come(timers).await;
    stage.counts(0, 0).await;
    stage.nothing_until(stage.now()).await;
}
