//! What was returned stays away until its time, so that it hides no others.

use std::collections::BTreeSet;

use expirer_core::{Outcome, Revision, Timestamp};
use futures_lite::FutureExt;

use super::stage::{
    MILLI, MINUTE, Stage, cancelled, complete, marked, new, next, open, owing, together,
};
use crate::harness::RepoHarness;

pub(super) async fn what_was_returned_stays_away_until_its_time(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let (before, again_at) = (stage.now(), stage.now() + MINUTE);
    stage.put(new("o1", open(before - MINUTE))).await;
    assert_eq!(stage.overdue(before, again_at, 10).await, ["o1"]);
    for early in [before, before + MILLI, again_at - MILLI] {
        assert_eq!(stage.overdue(early, again_at, 10).await, [""; 0], "before {early}");
    }
    let third = again_at + MINUTE;
    assert_eq!(stage.overdue(again_at + MILLI, third, 10).await, ["o1"]);
    assert_eq!(stage.overdue(third - MILLI, third, 10).await, [""; 0]);
    assert_eq!(stage.overdue(third + MILLI, third, 10).await, ["o1"]);
}

pub(super) async fn what_owes_stays_away_and_comes_again_too(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    stage.put(owing(new("o1", cancelled(stage.now())))).await;
    let before = stage.let_time_pass().await;
    let again_at = before + MINUTE;
    assert_eq!(stage.overdue(before, again_at, 10).await, ["o1"]);
    assert_eq!(stage.overdue(again_at - MILLI, again_at, 10).await, [""; 0]);
    assert_eq!(stage.overdue(again_at + MILLI, again_at, 10).await, ["o1"]);
}

pub(super) async fn again_at_may_be_past(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let before = stage.now();
    stage.put(new("o1", open(before - MINUTE))).await;
    for again_at in [Timestamp::MIN, before - MINUTE * 2, before - MILLI] {
        assert_eq!(stage.overdue(before, again_at, 10).await, ["o1"], "again at {again_at}");
    }
    assert_eq!(stage.overdue(before, before, 10).await, ["o1"]);
}

pub(super) async fn a_change_brings_it_back_at_its_own_time(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let (due, again_at) = (stage.now() - MINUTE, stage.now() + MINUTE * 10);
    let first = stage.put(new("o1", open(due))).await;
    assert_eq!(stage.overdue(stage.now(), again_at, 10).await, ["o1"]);
    let second = stage.put(next("o1", first, open(due))).await;
    assert_eq!(stage.overdue(stage.now(), again_at, 10).await, ["o1"]);
    let moved = stage.now() + MINUTE;
    stage.put(next("o1", second, open(moved))).await;
    assert_eq!(stage.overdue(moved, again_at, 10).await, [""; 0]);
    assert_eq!(stage.overdue(moved + MILLI, again_at, 10).await, ["o1"]);
}

pub(super) async fn only_a_change_brings_it_back(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let (before, again_at) = (stage.now(), stage.now() + MINUTE);
    let revision = stage.put(new("o1", open(before - MINUTE))).await;
    assert_eq!(stage.overdue(before, again_at, 10).await, ["o1"]);
    for wrong in [Revision::ABSENT, Revision(revision.0 + 1)] {
        let lost = stage.commit(&[next("o1", wrong, open(before - MINUTE))]).await;
        assert_eq!(lost, [Outcome::Conflict]);
    }
    let record = stage.load("o1").await.expect("is there");
    assert_eq!(record.revision, revision, "being returned is no change");
    assert_eq!(stage.overdue(again_at - MILLI, again_at, 10).await, [""; 0]);
}

pub(super) async fn a_conflict_hides_nothing(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let due = stage.now() - MINUTE;
    let old = stage.put(new("o1", open(due))).await;
    stage.put(next("o1", old, open(due))).await;
    for state in [cancelled(due), open(due + MINUTE * 9)] {
        assert_eq!(stage.commit(&[next("o1", old, state)]).await, [Outcome::Conflict]);
    }
    assert_eq!(stage.overdue(due + MILLI, stage.now(), 10).await, ["o1"]);
}

pub(super) async fn what_has_ended_in_between_does_not_come_again(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let (before, again_at) = (stage.now(), stage.now() + MINUTE);
    let due = before - MINUTE;
    let paid = stage.put(new("paid", open(due))).await;
    let cleared = stage.put(owing(new("cleared", open(due)))).await;
    assert_eq!(stage.overdue(before, again_at, 10).await, ["cleared", "paid"]);
    stage.put(next("paid", paid, complete(due))).await;
    stage.put(next("cleared", cleared, cancelled(due))).await;
    assert_eq!(stage.peek(Timestamp::MAX).await, [""; 0]);
}

pub(super) async fn the_stuck_hide_no_others(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let (before, again_at) = (stage.now(), stage.now() + MINUTE);
    let names: Vec<_> = (0..20).map(|n| format!("o{n:02}")).collect();
    // Half of them due at one time.
    let dues = (0..).map(|n| before - MINUTE - MILLI * (n % 11));
    let changes = names.iter().zip(dues).map(|(name, due)| new(name, open(due)));
    stage.put_all(&changes.collect::<Vec<_>>()).await;
    for round in 0..3 {
        let (before, again_at) = (before + MINUTE * 2 * round, again_at + MINUTE * 2 * round);
        let mut found = Vec::new();
        for _ in &names {
            found.extend(stage.overdue(before, again_at, 1).await);
        }
        found.sort_unstable();
        assert_eq!(found, names, "each once, in round {round}");
        assert_eq!(stage.overdue(before, again_at, 1).await, [""; 0]);
    }
}

pub(super) async fn two_handles_do_not_get_the_same(harness: &dyn RepoHarness) {
    let stages = [Stage::on(harness).await, Stage::on(harness).await, Stage::on(harness).await];
    let (before, again_at) = (stages[0].now(), stages[0].now() + MINUTE);
    let names: Vec<_> = (0..60).map(|n| format!("o{n:02}")).collect();
    let changes = names.iter().map(|name| new(name, open(before - MINUTE)));
    stages[0].put_all(&changes.collect::<Vec<_>>()).await;
    let mut found = Vec::new();
    // Each finds some of the rest, if only when it is the last one.
    for _ in 0..names.len() {
        let looks = stages.iter().map(|stage| stage.overdue(before, again_at, 7));
        found.extend(together(looks.map(FutureExt::boxed).collect()).await.concat());
    }
    found.sort_unstable();
    assert_eq!(found, names, "each once");
}

pub(super) async fn ten_thousand_come_in_bounded_batches(harness: &dyn RepoHarness) {
    const ORDERS: usize = 10_000;
    const MAX: usize = 256;
    let stage = Stage::on(harness).await;
    let (before, again_at) = (stage.now(), stage.now() + MINUTE);
    let all = (0..ORDERS).map(|n| new(&format!("o{n}"), open(before - MINUTE)));
    stage.put_all(&all.collect::<Vec<_>>()).await;
    stage.put(new("not yet", marked(0))).await;
    let mut found = BTreeSet::new();
    for batch in 0.. {
        let names = stage.overdue(before, again_at, MAX).await;
        if names.is_empty() {
            break;
        }
        assert!(batch <= ORDERS, "it makes no progress");
        assert!(names.into_iter().all(|name| found.insert(name)), "each once");
    }
    assert_eq!(found.len(), ORDERS);
}
