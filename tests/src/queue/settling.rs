//! Ack and release: what a holder does with its lease.

use std::slice::from_ref;
use std::time::Duration;

use expirer_core::{Receipt, Release, Timestamp};

use super::stage::{SECOND, Stage, crowd, millis};
use crate::harness::QueueHarness;

const UNKNOWN: [Receipt; 4] = [
    Receipt::new(u64::MAX, u64::MAX),
    Receipt::new(u64::MAX, 0),
    Receipt::new(0, u64::MAX),
    Receipt::new(1 << 32, 0),
];

pub(super) async fn an_acked_timer_never_comes_again(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_lease(millis(600));
    let (held, end) = stage.leased("o1").await;
    stage.ack(&[held]).await;
    stage.nothing_until(end.max(stage.now())).await;
    stage.counts(0, 0).await;
}

pub(super) async fn an_ack_removes_what_it_names_alone(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_lease(SECOND);
    let timers = crowd(40, stage.now());
    stage.schedule(&timers).await;
    let (acked, kept) = timers.split_at(20);
    let end = stage.now() + SECOND;
    let leases = stage.all_come(&timers).await;
    let settled: Vec<_> = leases.into_iter().filter(|lease| acked.contains(&lease.timer)).collect();
    stage.ack(&settled).await;
    stage.all_come_at(kept, end).await;
}

pub(super) async fn a_second_ack_is_no_error(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let (held, _) = stage.leased("o1").await;
    let twice = [held.clone(), held];
    stage.ack(&twice).await;
    stage.ack(&twice).await;
    stage.counts(0, 0).await;
}

pub(super) async fn an_unknown_receipt_is_no_error(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_lease(SECOND);
    let (held, end) = stage.leased("o1").await;
    let give = |receipt| Release { receipt, at: held.timer.due };
    stage.queue.release(&UNKNOWN.map(give)).await.expect("unknown receipts are no error");
    stage.queue.ack(&UNKNOWN).await.expect("unknown receipts are no error");
    let again = stage.comes_at(&held.timer, end).await;
    let [unknown, ..] = UNKNOWN;
    stage.queue.ack(&[unknown, again.receipt]).await.expect("unknown receipts are no error");
    stage.counts(0, 0).await;
}

pub(super) async fn a_released_timer_comes_at_the_time_it_was_released_to(
    harness: &dyn QueueHarness,
) {
    let stage = Stage::new(harness).await;
    let (held, _) = stage.leased("o1").await;
    let at = stage.after(700);
    stage.release(&held, at).await;
    stage.comes_at(&held.timer, at).await;
}

pub(super) async fn a_timer_released_beyond_its_lease_keeps_its_time(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_lease(millis(600));
    let (held, end) = stage.leased("o1").await;
    let at = end + SECOND;
    stage.release(&held, at).await;
    stage.comes_at(&held.timer, at).await;
}

pub(super) async fn a_timer_released_to_the_past_comes_at_once(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    for (name, ago) in [("o1", Duration::ZERO), ("o2", SECOND * 3600), ("o3", Duration::MAX)] {
        let (held, _) = stage.leased(name).await;
        let now = stage.now();
        stage.release(&held, now - ago).await;
        stage.comes_at(&held.timer, now).await;
    }
}

pub(super) async fn a_timer_released_for_ever_waits(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_lease(millis(400));
    let (held, end) = stage.leased("o1").await;
    stage.release(&held, Timestamp::MAX).await;
    stage.nothing_until(end).await;
    stage.counts(1, 0).await;
}

pub(super) async fn each_timer_of_a_batch_is_released_to_its_own_time(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let timers = crowd(3, stage.now());
    stage.schedule(&timers).await;
    let leases = stage.all_come(&timers).await;
    let begun = stage.now();
    let at = |number: usize| begun + millis(300) * (3 - number as u32);
    let releases = leases.iter().enumerate();
    let releases =
        releases.map(|(number, lease)| Release { receipt: lease.receipt, at: at(number) });
    stage.queue.release(&releases.collect::<Vec<_>>()).await.expect("releases");
    for (number, lease) in leases.iter().enumerate().rev() {
        stage.comes_at(&lease.timer, at(number)).await;
    }
}

pub(super) async fn attempts_never_fall(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let (mut held, _) = stage.leased("o1").await;
    for _ in 0..5 {
        let now = stage.now();
        stage.release(&held, now).await;
        let again = stage.comes_at(&held.timer, now).await;
        assert!(again.attempt >= held.attempt, "attempts never fall: {held:?}, {again:?}");
        held = again;
    }
}

pub(super) async fn after_an_ack_the_same_timer_can_be_scheduled_again(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let (held, _) = stage.leased("o1").await;
    stage.ack(from_ref(&held)).await;
    let at = stage.now();
    stage.schedule(from_ref(&held.timer)).await;
    stage.comes_at(&held.timer, at).await;
}

pub(super) async fn after_an_ack_a_release_does_nothing(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let (held, _) = stage.leased("o1").await;
    stage.ack(from_ref(&held)).await;
    stage.release(&held, held.timer.due).await;
    stage.nothing_until(stage.now()).await;
}

pub(super) async fn after_a_release_the_receipt_is_stale(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let (held, _) = stage.leased("o1").await;
    let at = stage.after(500);
    stage.release(&held, at).await;
    stage.release(&held, held.timer.due).await;
    stage.ack(from_ref(&held)).await;
    stage.comes_at(&held.timer, at).await;
}

pub(super) async fn stale_receipts_among_live_ones_do_nothing(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let timers = crowd(30, stage.now());
    stage.schedule(&timers).await;
    let stale = stage.all_come(&timers).await;
    let give = |at| move |receipt| Release { receipt, at };
    let stale: Vec<_> = stale.iter().map(|lease| lease.receipt).collect();
    let begun = stage.now();
    let given: Vec<_> = stale.iter().copied().map(give(begun)).collect();
    stage.queue.release(&given).await.expect("releases");
    let live: Vec<_> = stage.all_come(&timers).await;
    let at = stage.after(600);
    let live = live.iter().map(|lease| give(at)(lease.receipt));
    let mixed: Vec<_> = given.iter().copied().zip(live).flat_map(<[_; 2]>::from).collect();
    stage.queue.release(&mixed).await.expect("stale receipts are no error");
    stage.queue.ack(&stale).await.expect("stale receipts are no error");
    stage.counts(30, 0).await;
    stage.all_come_at(&timers, at).await;
}
