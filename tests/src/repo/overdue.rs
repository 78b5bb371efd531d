//! What needs attention: open and past due, or owing for long.

use std::time::Duration;

use expirer_core::{OverdueOptions, Timestamp};

use super::stage::{MILLI, MINUTE, Stage, ahead, cancelled, complete, id, new, next, open, owing};
use crate::harness::RepoHarness;

pub(super) async fn an_open_order_is_overdue_once_its_time_is_past(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let due = stage.now() + MINUTE;
    stage.put(new("o1", open(due))).await;
    for (before, overdue) in [(due - MILLI, 0), (due, 0), (due + MILLI, 1), (due + MINUTE, 1)] {
        assert_eq!(stage.peek(before).await.len(), overdue, "before {before}, due {due}");
    }
}

pub(super) async fn nothing_is_overdue_where_nothing_is(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    assert_eq!(stage.peek(Timestamp::MAX).await, [""; 0]);
}

pub(super) async fn what_can_no_longer_expire_is_not_overdue(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let (due, later) = (stage.now() - MINUTE, stage.now() + MINUTE);
    let states = [complete(due), cancelled(due), ahead(), open(later)];
    let changes: Vec<_> =
        states.into_iter().zip(0..).map(|(state, n)| new(&format!("o{n}"), state)).collect();
    stage.put_all(&changes).await;
    assert_eq!(stage.peek(later).await, [""; 0]);
    // The others are in nobody's way, however late it is.
    assert_eq!(stage.peek(Timestamp::MAX).await, ["o3"]);
}

pub(super) async fn an_order_that_ends_is_not_overdue(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let due = stage.now() - MINUTE;
    let paid = stage.put(new("paid", open(due))).await;
    let expired = stage.put(new("expired", open(due))).await;
    assert_eq!(stage.peek(stage.now()).await, ["expired", "paid"]);
    stage.put(next("paid", paid, complete(due))).await;
    stage.put(next("expired", expired, cancelled(due))).await;
    assert_eq!(stage.peek(Timestamp::MAX).await, [""; 0]);
}

pub(super) async fn an_order_that_moves_is_overdue_at_its_new_time(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let due = stage.now() + MINUTE * 10;
    let later = stage.put(new("later", open(due))).await;
    let earlier = stage.put(new("earlier", open(due))).await;
    stage.put(next("later", later, open(due + MINUTE))).await;
    stage.put(next("earlier", earlier, open(due - MINUTE))).await;
    assert_eq!(stage.peek(due - MINUTE).await, [""; 0]);
    assert_eq!(stage.peek(due + MILLI).await, ["earlier"]);
    assert_eq!(stage.peek(due + MINUTE).await, ["earlier"]);
    assert_eq!(stage.peek(due + MINUTE + MILLI).await, ["earlier", "later"]);
}

pub(super) async fn the_first_and_the_last_year_are_times_like_others(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let dues = [Timestamp::MIN, Timestamp::EPOCH - MILLI, Timestamp::EPOCH, Timestamp::MAX - MILLI];
    for (due, n) in dues.into_iter().zip(0..) {
        stage.put(new(&format!("o{n}"), open(due))).await;
    }
    stage.put(new("never", open(Timestamp::MAX))).await;
    for (due, n) in dues.into_iter().zip(0..) {
        assert_eq!(stage.peek(due).await.len(), n, "before {due}");
        assert_eq!(stage.peek(due + MILLI).await.len(), n + 1, "after {due}");
    }
}

pub(super) async fn every_record_that_owes_is_overdue_in_time(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let due = stage.now() + MINUTE;
    let early = stage.now() - stage.tolerance().early;
    for (name, state) in [
        ("ahead", ahead()),
        ("cancelled", cancelled(due)),
        ("done", complete(due)),
        ("open", open(due)),
    ] {
        stage.put(owing(new(name, state))).await;
    }
    let between = stage.let_time_pass().await;
    assert_eq!(stage.peek(early).await, [""; 0]);
    assert_eq!(stage.peek(between).await, ["ahead", "cancelled", "done", "open"]);
}

pub(super) async fn the_earlier_of_expiry_and_debt_counts(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let past = stage.now() - MINUTE;
    stage.put(owing(new("o1", open(past)))).await;
    assert_eq!(stage.peek(past).await, [""; 0]);
    assert_eq!(stage.peek(past + MILLI).await, ["o1"]);
}

pub(super) async fn a_debt_is_as_old_as_its_first_event(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let due = stage.now();
    let old = stage.put(owing(new("old", cancelled(due)))).await;
    let renewed = stage.put(owing(new("renewed", cancelled(due)))).await;
    let between = stage.let_time_pass().await;
    stage.put(owing(next("old", old, cancelled(due)))).await;
    let cleared = stage.put(next("renewed", renewed, cancelled(due))).await;
    assert_eq!(stage.peek(between).await, ["old"]);
    stage.put(owing(next("renewed", cleared, cancelled(due)))).await;
    assert_eq!(stage.peek(between).await, ["old"]);
}

pub(super) async fn what_owes_nothing_any_more_is_not_overdue(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let due = stage.now() + MINUTE;
    let ended = stage.put(owing(new("ended", cancelled(due)))).await;
    let opened = stage.put(owing(new("opened", open(due)))).await;
    stage.put(next("ended", ended, cancelled(due))).await;
    stage.put(next("opened", opened, open(due))).await;
    assert_eq!(stage.peek(due).await, [""; 0]);
    assert_eq!(stage.peek(due + MILLI).await, ["opened"]);
}

pub(super) async fn what_is_overdue_is_as_it_was_committed(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let due = stage.now() - MINUTE;
    stage.put(owing(new("o1", open(due)))).await;
    let options = OverdueOptions::new(stage.now(), stage.now() + Duration::from_secs(1), 10);
    let found = stage.repo.overdue(options).await.expect("looks");
    let loaded = stage.repo.load(&[id("o1")]).await.expect("loads");
    assert_eq!(found.into_iter().map(Some).collect::<Vec<_>>(), loaded);
    let revision = loaded[0].as_ref().expect("is there").revision;
    stage.put(next("o1", revision, cancelled(due))).await;
}
