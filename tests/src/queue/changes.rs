//! Cancel, and schedule again.

use std::slice::from_ref;

use expirer_core::Timestamp;

use super::stage::{SECOND, Stage, crowd, id, millis, timer};
use crate::harness::QueueHarness;

pub(super) async fn a_cancelled_timer_never_comes(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let soon = stage.scheduled("soon", stage.after(500)).await;
    let due = stage.scheduled("due", stage.now()).await;
    stage.cancel(&[soon.id, due.id]).await;
    stage.nothing_until(soon.due).await;
    stage.counts(0, 0).await;
}

pub(super) async fn a_leased_timer_can_be_cancelled(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_lease(millis(600));
    let (held, end) = stage.leased("o1").await;
    stage.cancel(from_ref(&held.timer.id)).await;
    stage.counts(0, 0).await;
    stage.ack(&[held]).await;
    stage.nothing_until(end.max(stage.now())).await;
}

pub(super) async fn a_cancelled_lease_cannot_be_released(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_lease(millis(600));
    let (held, end) = stage.leased("o1").await;
    stage.cancel(from_ref(&held.timer.id)).await;
    stage.release(&held, held.timer.due).await;
    stage.nothing_until(end.max(stage.now())).await;
}

pub(super) async fn a_timer_whose_lease_ran_out_can_be_cancelled(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_lease(millis(300));
    let (held, end) = stage.leased("o1").await;
    stage.clock().sleep_until(end.max(stage.now()) + millis(300)).await;
    stage.cancel(&[held.timer.id]).await;
    stage.nothing_until(stage.now()).await;
}

pub(super) async fn a_released_timer_can_be_cancelled(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let (held, _) = stage.leased("o1").await;
    let at = stage.after(400);
    stage.release(&held, at).await;
    stage.cancel(&[held.timer.id]).await;
    stage.nothing_until(at).await;
}

pub(super) async fn cancelling_what_is_not_there_is_no_error(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let timer = stage.scheduled("o1", stage.after(300)).await;
    let (acked, _) = stage.leased("acked").await;
    stage.ack(from_ref(&acked)).await;
    stage.cancel(&[id("unknown"), acked.timer.id, id("unknown")]).await;
    stage.comes(&timer).await;
}

pub(super) async fn a_cancel_removes_what_it_names_alone(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let timers = crowd(40, stage.after(400));
    stage.schedule(&timers).await;
    let (cancelled, kept) = timers.split_at(20);
    let ids: Vec<_> = cancelled.iter().map(|timer| timer.id.clone()).collect();
    stage.cancel(&ids).await;
    stage.all_come(kept).await;
    stage.nothing_until(stage.now()).await;
}

pub(super) async fn a_cancelled_timer_can_be_scheduled_again(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let timer = stage.scheduled("o1", stage.after(500)).await;
    stage.cancel(from_ref(&timer.id)).await;
    stage.schedule(from_ref(&timer)).await;
    stage.comes(&timer).await;
}

pub(super) async fn a_timer_brought_forward_comes_at_its_new_time(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    stage.scheduled("o1", stage.now() + SECOND * 600).await;
    let timer = stage.scheduled("o1", stage.after(400)).await;
    stage.comes(&timer).await;
}

pub(super) async fn a_timer_brought_forward_comes_once(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let old = stage.scheduled("o1", stage.after(800)).await;
    let new = stage.scheduled("o1", stage.after(300)).await;
    let held = stage.comes(&new).await;
    stage.ack(&[held]).await;
    stage.nothing_until(old.due).await;
}

pub(super) async fn a_timer_brought_into_the_past_comes_at_once(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    stage.scheduled("o1", stage.now() + SECOND * 600).await;
    let timer = stage.scheduled("o1", stage.now() - SECOND).await;
    stage.comes(&timer).await;
}

pub(super) async fn a_timer_put_off_comes_at_its_new_time(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    stage.scheduled("o1", stage.after(300)).await;
    let timer = stage.scheduled("o1", stage.after(1000)).await;
    stage.comes(&timer).await;
}

pub(super) async fn a_timer_put_off_does_not_come_at_its_old_time(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let old = stage.scheduled("o1", stage.after(300)).await;
    stage.scheduled("o1", stage.now() + SECOND * 600).await;
    stage.nothing_until(old.due).await;
    stage.counts(1, 0).await;
}

pub(super) async fn a_timer_moved_there_and_back_comes_at_its_first_time(
    harness: &dyn QueueHarness,
) {
    let stage = Stage::new(harness).await;
    let timer = timer("o1", stage.after(600));
    for due in [timer.due, timer.due + SECOND * 600, timer.due - millis(300), timer.due] {
        stage.scheduled("o1", due).await;
    }
    let held = stage.comes(&timer).await;
    stage.ack(&[held]).await;
    stage.counts(0, 0).await;
}

pub(super) async fn a_leased_timer_can_be_rescheduled(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    stage.leased("o1").await;
    let timer = stage.scheduled("o1", stage.after(500)).await;
    stage.comes(&timer).await;
}

pub(super) async fn rescheduling_makes_a_lease_stale(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let (held, _) = stage.leased("o1").await;
    let timer = stage.scheduled("o1", stage.after(500)).await;
    stage.counts(1, 0).await;
    stage.release(&held, Timestamp::MAX).await;
    stage.ack(&[held]).await;
    stage.comes(&timer).await;
}

pub(super) async fn the_same_due_time_again_changes_no_lease(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_lease(millis(800));
    let (held, end) = stage.leased("o1").await;
    stage.schedule(from_ref(&held.timer)).await;
    let again = stage.comes_at(&held.timer, end).await;
    stage.schedule(from_ref(&held.timer)).await;
    stage.ack(&[again]).await;
    stage.counts(0, 0).await;
}

pub(super) async fn the_same_due_time_again_changes_no_release(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let (held, _) = stage.leased("o1").await;
    let at = stage.after(700);
    stage.release(&held, at).await;
    stage.schedule(from_ref(&held.timer)).await;
    stage.comes_at(&held.timer, at).await;
}

pub(super) async fn a_timer_scheduled_twice_comes(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let timer = stage.scheduled("o1", stage.after(500)).await;
    stage.schedule(&[timer.clone(), timer.clone()]).await;
    stage.comes(&timer).await;
}

pub(super) async fn a_timer_scheduled_twice_comes_once(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let timer = stage.scheduled("o1", stage.after(300)).await;
    stage.schedule(&[timer.clone(), timer.clone()]).await;
    let held = stage.comes(&timer).await;
    stage.ack(&[held]).await;
    stage.nothing_until(stage.now()).await;
}

pub(super) async fn the_last_entry_for_an_id_counts(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_acks();
    let (early, late) = (stage.after(300), stage.after(900));
    let [a, b] = ["a", "b"].map(|name| move |due| timer(name, due));
    let past = stage.now() - SECOND;
    stage.schedule(&[a(early), b(late), a(past), b(past), b(early), a(late)]).await;
    stage.all_come(&[b(early), a(late)]).await;
    stage.nothing_until(stage.now()).await;
}
