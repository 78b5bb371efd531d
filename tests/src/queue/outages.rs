//! A server that is killed, or cannot be reached for a while.

use std::slice::from_ref;
use std::time::Duration;

use expirer_core::Result;
use futures_lite::future::zip;

use super::stage::{SECOND, Stage, crowd, is_outage, millis, timer};
use crate::harness::{QueueHarness, Server};

fn server(harness: &dyn QueueHarness) -> &dyn Server {
    harness.server().expect("these cases run where there is a server")
}

async fn stage(harness: &dyn QueueHarness) -> Stage<'_> {
    Stage::new(harness).await.with_lease(SECOND).with_trouble()
}

fn assert_outage<T>(op: &str, result: Result<T>) {
    match result {
        Ok(_) => panic!("{op} succeeds, and the server is cut off"),
        Err(error) => assert!(is_outage(&error), "{op}: unavailable or timed out, not: {error}"),
    }
}

pub(super) async fn pending_timers_survive_a_restart(harness: &dyn QueueHarness) {
    let stage = stage(harness).await.with_acks();
    let (soon, now) = (crowd(300, stage.after(500)), stage.now());
    stage.schedule(&soon).await;
    stage.scheduled("later", now + SECOND * 600).await;
    server(harness).restart().await;
    stage.all_come(&soon).await;
    stage.counts(1, 0).await;
}

pub(super) async fn a_new_handle_finds_what_a_restart_left(harness: &dyn QueueHarness) {
    let stage = stage(harness).await;
    let timer = stage.scheduled("o1", stage.after(500)).await;
    server(harness).restart().await;
    stage.another().await.comes(&timer).await;
}

pub(super) async fn leased_timers_survive_a_restart(harness: &dyn QueueHarness) {
    let stage = stage(harness).await;
    let (held, _) = stage.leased("o1").await;
    server(harness).restart().await;
    stage.comes(&held.timer).await;
}

pub(super) async fn a_released_timer_keeps_its_time_through_a_restart(harness: &dyn QueueHarness) {
    let stage = stage(harness).await;
    let (held, _) = stage.leased("o1").await;
    let at = stage.after(2500);
    stage.release(&held, at).await;
    server(harness).restart().await;
    stage.comes_at(&held.timer, at).await;
}

pub(super) async fn a_timer_put_off_stays_so_through_a_restart(harness: &dyn QueueHarness) {
    let stage = stage(harness).await;
    let old = stage.scheduled("o1", stage.after(300)).await;
    stage.scheduled("o1", stage.now() + SECOND * 600).await;
    server(harness).restart().await;
    stage.nothing_until(old.due.max(stage.now()) + SECOND).await;
    stage.counts(1, 0).await;
}

pub(super) async fn a_cancelled_timer_stays_so_through_a_restart(harness: &dyn QueueHarness) {
    let stage = stage(harness).await;
    let timer = stage.scheduled("o1", stage.after(300)).await;
    let (held, _) = stage.leased("o2").await;
    stage.cancel(&[timer.id, held.timer.id]).await;
    server(harness).restart().await;
    stage.nothing_until(stage.now() + SECOND).await;
    stage.counts(0, 0).await;
}

pub(super) async fn calls_fail_while_the_server_is_cut_off(harness: &dyn QueueHarness) {
    let stage = stage(harness).await.with_acks();
    let before = stage.scheduled("before", stage.after(300)).await;
    let meanwhile = timer("meanwhile", stage.after(300));
    server(harness).cut().await;
    let calls = async {
        assert_outage("schedule", stage.queue.schedule(from_ref(&meanwhile)).await);
        assert_outage("cancel", stage.queue.cancel(from_ref(&meanwhile.id)).await);
        assert_outage("stats", stage.queue.stats().await);
    };
    stage.bounded("each of the calls", Duration::ZERO, calls).await;
    server(harness).mend().await;
    stage.schedule(from_ref(&meanwhile)).await;
    stage.all_come(&[before, meanwhile]).await;
}

pub(super) async fn a_lease_while_the_server_is_cut_off_fails_or_ends_empty(
    harness: &dyn QueueHarness,
) {
    let stage = stage(harness).await;
    let timer = stage.scheduled("o1", stage.after(300)).await;
    server(harness).cut().await;
    let options = stage.options().with_wait(SECOND);
    match stage.bounded("lease", SECOND, stage.queue.lease(options)).await {
        Ok(leases) => assert!(leases.iter().all(|lease| lease.timer == timer), "{leases:?}"),
        Err(error) => assert!(is_outage(&error), "unavailable or timed out, not: {error}"),
    }
    server(harness).mend().await;
    stage.comes(&timer).await;
}

pub(super) async fn a_lease_that_waits_through_a_cut_recovers(harness: &dyn QueueHarness) {
    let stage = stage(harness).await;
    let timer = stage.scheduled("o1", stage.after(1500)).await;
    let cuts = async {
        stage.sleep(millis(300)).await;
        server(harness).cut().await;
        stage.sleep(millis(500)).await;
        server(harness).mend().await;
    };
    zip(stage.comes(&timer), cuts).await;
}

pub(super) async fn what_becomes_due_during_a_cut_comes_after_it(harness: &dyn QueueHarness) {
    let stage = stage(harness).await.with_acks();
    let timers = crowd(100, stage.after(300));
    stage.schedule(&timers).await;
    server(harness).cut().await;
    stage.sleep(millis(900)).await;
    server(harness).mend().await;
    stage.all_come(&timers).await;
}
