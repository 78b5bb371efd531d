//! Never early, and on time without anybody's help.

use expirer_core::Timestamp;

use super::stage::{SECOND, Stage, timer};
use crate::harness::QueueHarness;

pub(super) async fn each_timer_comes_when_it_is_due(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let begun = stage.now();
    let timers = [1, 2, 255, 256, 257, 600, 999, 1000, 1001, 1500]
        .map(|after| timer(&format!("o{after}"), begun + SECOND * after / 1000));
    stage.schedule(&timers).await;
    stage.all_come(&timers).await;
}

pub(super) async fn a_look_before_the_due_time_finds_nothing(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let timer = stage.scheduled("o1", stage.after(700)).await;
    let mut leases = Vec::new();
    while leases.is_empty() {
        let (now, limit) = (stage.now(), timer.due + stage.allowance());
        assert!(now <= limit, "{timer:?} should have come by {limit}; it is {now}");
        stage.sleep(SECOND / 1000).await;
        leases = stage.lease(stage.options()).await;
    }
    assert_eq!(leases[0].timer, timer);
}

pub(super) async fn a_due_timer_comes_without_any_other_call(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let timer = stage.scheduled("o1", stage.after(900)).await;
    stage.one_call_brings(&timer, timer.due).await;
}

pub(super) async fn a_timer_that_is_past_due_comes_at_once(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let now = stage.now();
    let timers = [0, 1, 999, 1000, 86_400_000, 1_795_000_000_000]
        .map(|ago| timer(&format!("o{ago}"), Timestamp::from_millis(now.as_millis() - ago)));
    stage.schedule(&timers).await;
    stage.all_come(&timers).await;
}

pub(super) async fn a_timer_of_the_first_millisecond_there_is_comes_at_once(
    harness: &dyn QueueHarness,
) {
    let stage = Stage::new(harness).await;
    let timers = [Timestamp::MIN, Timestamp::from_millis(-1), Timestamp::EPOCH]
        .map(|due| timer(&format!("o{}", due.as_millis()), due));
    stage.schedule(&timers).await;
    stage.all_come(&timers).await;
}

pub(super) async fn a_timer_of_the_last_millisecond_there_is_waits(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    stage.scheduled("o1", Timestamp::MAX).await;
    stage.nothing_until(stage.after(500)).await;
    stage.counts(1, 0).await;
}

/// In real time, it is only seen that they wait.
pub(super) async fn timers_far_ahead_wait_for_their_time(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let begun = stage.now();
    let timers = [60, 3600, 90_000, 2_592_000, 31_622_400, 50 * 31_622_400]
        .map(|after| timer(&format!("o{after}"), begun + SECOND * after));
    stage.schedule(&timers).await;
    stage.nothing_until(begun + SECOND).await;
    stage.counts(timers.len() as u64, 0).await;
    if harness.time().is_virtual() {
        let stage = stage.with_acks();
        for timer in &timers {
            // Nobody polls for years.
            stage.clock().sleep_until(timer.due - SECOND).await;
            stage.comes(timer).await;
        }
        stage.counts(0, 0).await;
    }
}
