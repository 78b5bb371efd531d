//! How much a group has before it.

use expirer_core::{Progress, Subject};

use super::stage::{LIMIT, MOMENT, SUBJECT, Stage};
use crate::harness::BusHarness;

/// Asks until the counts are as expected, since they may be a little behind.
async fn until(stage: &Stage<'_>, name: &str, expected: &str, is_it: impl Fn(Progress) -> bool) {
    until_on(stage, (name, &SUBJECT), expected, is_it).await;
}

async fn until_on(
    stage: &Stage<'_>,
    (name, subject): (&str, &Subject),
    expected: &str,
    is_it: impl Fn(Progress) -> bool,
) {
    let end = stage.now() + LIMIT;
    loop {
        let progress = stage.progress_on(name, subject).await;
        if is_it(progress) {
            return;
        }
        assert!(
            stage.now() < end,
            "expected of {name} on {subject}: {expected}; came {progress:?}"
        );
        stage.pause(MOMENT).await;
    }
}

const fn total(progress: Progress) -> u64 {
    progress.waiting + progress.unacked
}

pub(super) async fn all_that_is_not_settled_counts(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    until(&stage, "a", "0 in total", |progress| total(progress) == 0).await;
    stage.publish(0..5).await;
    until(&stage, "a", "5 in total", |progress| total(progress) == 5).await;
    member.work_off(0..5).await;
    until(&stage, "a", "0 in total", |progress| total(progress) == 0).await;
}

pub(super) async fn what_is_held_or_put_off_counts_as_unacked(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    stage.publish(0..5).await;
    let counts = |progress: Progress| (progress.waiting, progress.unacked);
    until(&stage, "a", "(5, 0)", |progress| counts(progress) == (5, 0)).await;
    let held = [member.next().await, member.next().await];
    until(&stage, "a", "(3, 2)", |progress| counts(progress) == (3, 2)).await;
    member.release(&held[..1], stage.now() + LIMIT * 4).await;
    stage.pause(MOMENT).await;
    until(&stage, "a", "(3, 2)", |progress| counts(progress) == (3, 2)).await;
    member.ack(&held[1..]).await;
    until(&stage, "a", "(3, 1)", |progress| counts(progress) == (3, 1)).await;
}

pub(super) async fn each_group_and_subject_counts_for_itself(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let subjects = [SUBJECT, Subject::PaymentCreated];
    let one = stage.join_on("one", &subjects).await;
    let _other = stage.join_on("other", &subjects).await;
    stage.publish(0..4).await;
    one.work_off(0..4).await;
    stage.publish_on(&Subject::PaymentCreated, 0..7).await;
    until(&stage, "one", "0 in total", |progress| total(progress) == 0).await;
    until(&stage, "other", "4 in total", |progress| total(progress) == 4).await;
    let payments = ("one", &Subject::PaymentCreated);
    until_on(&stage, payments, "7 in total", |progress| total(progress) == 7).await;
}

pub(super) async fn what_is_settled_until_is_never_ahead(harness: &dyn BusHarness) {
    let stage = Stage::open(harness).await;
    let member = stage.join("a").await;
    stage.publish(0..1).await;
    stage.pause(MOMENT).await;
    let unread = stage.progress("a").await.settled_until(stage.now());
    let held = member.next().await;
    stage.pause(MOMENT).await;
    let unacked = stage.progress("a").await.settled_until(stage.now());
    let published = held.published;
    for until in [unread, unacked] {
        assert!(
            until <= published,
            "expected {published} or earlier while it is open, came {until}"
        );
    }
}
