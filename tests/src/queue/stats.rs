//! What a queue says about itself.

use expirer_core::Timestamp;

use super::stage::{SECOND, Stage, crowd, millis, timer};
use crate::harness::QueueHarness;

pub(super) async fn stats_count_what_waits_and_what_is_leased(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    let due = crowd(5, stage.now());
    stage.schedule(&due).await;
    let later = ["x", "y"].map(|name| timer(name, stage.now() + SECOND * 600));
    stage.schedule(&later).await;
    stage.counts(7, 0).await;
    let leases = stage.all_come(&due).await;
    stage.counts(2, 5).await;
    stage.release(&leases[0], Timestamp::MAX).await;
    stage.counts(3, 4).await;
    stage.ack(&leases[1..3]).await;
    stage.counts(3, 2).await;
}

pub(super) async fn stats_of_an_empty_queue_are_nothing(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await;
    stage.counts(0, 0).await;
    let (held, _) = stage.leased("o1").await;
    stage.ack(&[held]).await;
    stage.counts(0, 0).await;
    let next = stage.stats().await.next_visible;
    assert_eq!(next, None, "in an empty queue, nothing becomes visible");
}

/// Soon, since stats may be a little behind.
async fn visible_by(stage: &Stage<'_>, at: Timestamp) {
    let (limit, early) = (stage.now() + stage.allowance(), stage.harness.time().tolerance().early);
    while let Some(next) = stage.stats().await.next_visible
        && next > at + early
    {
        let now = stage.now();
        assert!(now < limit, "one is visible at {at}; at {now}, they say not before {next}");
        stage.sleep(millis(1)).await;
    }
}

pub(super) async fn nothing_becomes_visible_before_stats_say(harness: &dyn QueueHarness) {
    let stage = Stage::new(harness).await.with_lease(SECOND);
    stage.scheduled("last", Timestamp::MAX).await;
    for after in [1000, 600, 100] {
        let after = SECOND * after;
        let timer = stage.scheduled(&format!("o{after:?}"), stage.now() + after).await;
        visible_by(&stage, timer.due).await;
    }
    let (held, _) = stage.leased("past").await;
    let end = stage.now() + SECOND;
    visible_by(&stage, end).await;
    // The distance to it is carried over at some moment of the call.
    let (at, asked) = (stage.after(300), stage.now());
    stage.release(&held, at).await;
    visible_by(&stage, at + stage.now().since(asked)).await;
    for after in [20, 1, 0] {
        let timer = stage.scheduled(&format!("soon{after}"), stage.after(after)).await;
        visible_by(&stage, timer.due).await;
    }
}
