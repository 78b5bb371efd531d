//! Calls that are dropped half-way: each item is done or not, and a repeat finishes it.

use std::future::Future;
use std::pin::pin;
use std::slice::from_ref;

use expirer_core::{Release, Timer};
use futures_lite::future;

use super::stage::{SECOND, Stage, crowd, millis, timer};
use crate::harness::QueueHarness;

/// After so many polls, with time in between for the answer to come.
const POLLS: [u32; 7] = [0, 1, 2, 3, 5, 8, 13];

async fn drop_after(stage: &Stage<'_>, polls: u32, call: impl Future) {
    let mut call = pin!(call);
    for _ in 0..polls {
        if future::poll_once(call.as_mut()).await.is_some() {
            return;
        }
        stage.sleep(millis(1)).await;
    }
}

fn some(polls: u32, stage: &Stage<'_>, after_millis: u64) -> Vec<Timer> {
    let due = stage.after(after_millis);
    ["a", "b", "c"].map(|name| timer(&format!("{name}{polls}"), due)).into()
}

pub(super) async fn a_dropped_schedule_is_finished_by_a_repeat(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_acks();
    let mut all = Vec::new();
    for polls in POLLS {
        let timers = some(polls, &stage, 700);
        drop_after(&stage, polls, stage.queue.schedule(&timers)).await;
        all.extend(timers);
    }
    stage.schedule(&all).await;
    stage.all_come(&all).await;
}

pub(super) async fn a_dropped_schedule_is_never_early(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let due = stage.after(500);
    for polls in POLLS {
        let timers = ["a", "b", "c"].map(|name| timer(&format!("{name}{polls}"), due));
        drop_after(&stage, polls, stage.queue.schedule(&timers)).await;
        let early = stage.lease(stage.options()).await;
        assert!(early.iter().all(|lease| lease.timer.due == due), "due at {due}: {early:?}");
    }
    let options = stage.options().with_wait(due.since(stage.now()) + stage.allowance());
    let came = stage.lease(options).await;
    assert!(came.iter().all(|lease| lease.timer.due == due), "due at {due}: {came:?}");
}

pub(super) async fn a_dropped_cancel_is_finished_by_a_repeat(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let timers = crowd(POLLS.len(), stage.after(700));
    let kept = timer("kept", stage.after(700));
    stage.schedule(&timers).await;
    stage.schedule(from_ref(&kept)).await;
    let ids: Vec<_> = timers.into_iter().map(|timer| timer.id).collect();
    for (id, polls) in ids.iter().zip(POLLS) {
        drop_after(&stage, polls, stage.queue.cancel(from_ref(id))).await;
    }
    stage.cancel(&ids).await;
    stage.comes(&kept).await;
    stage.nothing_until(stage.now()).await;
}

pub(super) async fn a_dropped_ack_is_finished_by_a_repeat(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_lease(SECOND * 2);
    let timers = crowd(POLLS.len(), stage.now());
    stage.schedule(&timers).await;
    let leases = stage.all_come(&timers).await;
    for (lease, polls) in leases.iter().zip(POLLS) {
        drop_after(&stage, polls, stage.queue.ack(from_ref(&lease.receipt))).await;
    }
    stage.ack(&leases).await;
    stage.nothing_until(stage.now() + SECOND * 2).await;
    stage.counts(0, 0).await;
}

pub(super) async fn a_dropped_release_is_finished_by_a_repeat(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let timers = crowd(POLLS.len(), stage.now());
    stage.schedule(&timers).await;
    let leases = stage.all_come(&timers).await;
    let at = stage.after(900);
    for (lease, polls) in leases.iter().zip(POLLS) {
        let release = Release { receipt: lease.receipt, at };
        drop_after(&stage, polls, stage.queue.release(&[release])).await;
    }
    for lease in &leases {
        stage.release(lease, at).await;
    }
    stage.all_come_at(&timers, at).await;
}

pub(super) async fn a_dropped_lease_loses_nothing_beyond_its_lease(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_lease(millis(600)).with_trouble();
    let timers = crowd(POLLS.len(), stage.now());
    stage.schedule(&timers).await;
    for polls in POLLS {
        let options = stage.options().with_wait(millis(300));
        drop_after(&stage, polls, stage.queue.lease(options)).await;
    }
    stage.with_acks().all_come(&timers).await;
}

pub(super) async fn a_dropped_lease_that_waited_loses_nothing(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_lease(millis(600)).with_trouble();
    let other = stage.another().await;
    for polls in POLLS {
        let options = other.options().with_wait(SECOND);
        drop_after(&stage, polls, other.queue.lease(options)).await;
    }
    let timers = crowd(POLLS.len(), stage.after(300));
    stage.schedule(&timers).await;
    stage.with_acks().all_come(&timers).await;
}
