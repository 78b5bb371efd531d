//! Compare-and-set: who was first has won, and the others are told.

use expirer_core::order::State;
use expirer_core::{ErrorKind, Outcome, Revision};
use futures_lite::FutureExt;

use super::stage::{
    MINUTE, Stage, cancelled, complete, marked, new, next, open, owing, revision, together,
};
use crate::harness::RepoHarness;

pub(super) async fn what_is_absent_is_created_once(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let created = stage.put(new("o1", marked(1))).await;
    assert_ne!(created, Revision::ABSENT);
    assert_eq!(stage.commit(&[new("o1", marked(2))]).await, [Outcome::Conflict]);
    let record = stage.load("o1").await.expect("is there");
    assert_eq!((record.revision, record.state), (created, marked(1)));
}

pub(super) async fn an_old_revision_conflicts_and_writes_nothing(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let due = stage.now() + MINUTE;
    let old = stage.put(new("o1", open(due))).await;
    stage.put(owing(next("o1", old, complete(due)))).await;
    let before = stage.load("o1").await;
    for _ in 0..2 {
        let late = next("o1", old, cancelled(stage.now() - MINUTE));
        assert_eq!(stage.commit(&[late]).await, [Outcome::Conflict]);
        assert_eq!(stage.load("o1").await, before);
    }
}

pub(super) async fn a_revision_that_never_was_conflicts(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let known = stage.put(new("o1", marked(1))).await;
    for wrong in [Revision(known.0 + 1), Revision(i64::MAX as u64), Revision(u64::MAX)] {
        assert_eq!(stage.commit(&[next("o1", wrong, marked(2))]).await, [Outcome::Conflict]);
        assert_eq!(stage.commit(&[next("none", wrong, marked(2))]).await, [Outcome::Conflict]);
    }
    assert_eq!(stage.load("o1").await.map(|record| record.state), Some(marked(1)));
    assert_eq!(stage.load("none").await, None);
}

pub(super) async fn a_revision_grows_and_does_for_the_next_commit(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let mut last = Revision::ABSENT;
    for version in 0..20 {
        let revision = stage.put(next("o1", last, marked(version))).await;
        assert!(revision > last, "{revision:?} after {last:?}");
        last = revision;
    }
    let record = stage.load("o1").await.expect("is there");
    assert_eq!((record.revision, record.state), (last, marked(19)));
}

pub(super) async fn a_commit_that_changes_nothing_gives_a_new_revision(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let first = stage.put(new("o1", marked(1))).await;
    let second = stage.put(next("o1", first, marked(1))).await;
    assert!(second > first);
    assert_eq!(stage.commit(&[next("o1", first, marked(1))]).await, [Outcome::Conflict]);
}

pub(super) async fn repeats_in_a_batch_are_applied_in_order(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let outcomes = stage.commit(&[new("o1", marked(1)), new("o1", marked(2))]).await;
    let first = revision(outcomes[0]).expect("the first one finds it absent");
    assert_eq!(outcomes[1], Outcome::Conflict);
    let wrong = Revision(u64::MAX);
    let versions = [(wrong, 3), (first, 4), (first, 5), (wrong, 6)];
    let changes = versions.map(|(expected, version)| next("o1", expected, marked(version)));
    let outcomes = stage.commit(&changes).await;
    let second = revision(outcomes[1]).expect("a conflict before it does not matter");
    let conflicts = [0, 2, 3].map(|at| outcomes[at]);
    assert_eq!(conflicts, [Outcome::Conflict; 3]);
    let record = stage.load("o1").await.expect("is there");
    assert_eq!((record.revision, record.state), (second, marked(4)));
}

pub(super) async fn a_conflict_hinders_no_others(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let names: Vec<_> = (0..600).map(|n| format!("o{n}")).collect();
    let taken: Vec<_> = names.iter().step_by(3).map(|name| new(name, marked(1))).collect();
    stage.put_all(&taken).await;
    let all: Vec<_> = names.iter().map(|name| new(name, marked(2))).collect();
    let outcomes = stage.commit(&all).await;
    for (n, (name, outcome)) in names.iter().zip(outcomes).enumerate() {
        let record = stage.load(name).await.expect("is there");
        let (conflicts, version) = if n % 3 == 0 { (true, 1) } else { (false, 2) };
        assert_eq!((outcome == Outcome::Conflict, record.state), (conflicts, marked(version)));
        assert!(conflicts || outcome == Outcome::Committed(record.revision), "{name}");
    }
}

pub(super) async fn of_racing_commits_exactly_one_wins(harness: &dyn RepoHarness) {
    let stages = [Stage::on(harness).await, Stage::on(harness).await, Stage::on(harness).await];
    let mut expected = Revision::ABSENT;
    for round in 0..20 {
        let versions: Vec<u64> = (round * 9..round * 9 + 9).collect();
        let changes: Vec<_> =
            versions.iter().map(|version| [next("o1", expected, marked(*version))]).collect();
        let race = changes.iter().zip(stages.iter().cycle());
        let outcomes = together(race.map(|(change, at)| at.commit(change).boxed()).collect()).await;
        let won: Vec<_> = outcomes
            .iter()
            .zip(&versions)
            .filter_map(|(outcomes, version)| Some((revision(outcomes[0])?, marked(*version))))
            .collect();
        let record = stages[0].load("o1").await.expect("is there");
        assert_eq!(won, [(record.revision, record.state)], "one winner, in round {round}");
        expected = record.revision;
    }
}

pub(super) async fn of_racing_batches_each_record_has_one_winner(harness: &dyn RepoHarness) {
    let stages = [Stage::on(harness).await, Stage::on(harness).await];
    let names: Vec<_> = (0..50).map(|n| format!("o{n}")).collect();
    let batch = |version| names.iter().map(move |name| new(name, marked(version)));
    let mut batches = [batch(0).collect::<Vec<_>>(), batch(1).collect::<Vec<_>>()];
    // In opposite orders, so that they meet half-way.
    batches[1].reverse();
    let race = stages.iter().zip(&batches);
    let mut outcomes = together(race.map(|(at, batch)| at.commit(batch).boxed()).collect()).await;
    outcomes[1].reverse();
    for (n, name) in names.iter().enumerate() {
        let record = stages[0].load(name).await.expect("is there");
        let winner = outcomes.iter().position(|outcomes| outcomes[n] != Outcome::Conflict);
        let losers = outcomes.iter().filter(|outcomes| outcomes[n] == Outcome::Conflict);
        assert_eq!(losers.count(), 1, "{name} has one winner");
        assert_eq!(Some(record.state), winner.map(|winner| marked(winner as u64)));
    }
}

pub(super) async fn no_racing_update_is_lost(harness: &dyn RepoHarness) {
    const WRITERS: usize = 4;
    const UPDATES: u64 = 10;
    let mut stages = Vec::new();
    for _ in 0..WRITERS {
        stages.push(Stage::on(harness).await);
    }
    stages[0].put(new("o1", marked(0))).await;
    let race = stages.iter().map(|stage| count_up(stage, UPDATES).boxed()).collect();
    let unknown: u64 = together(race).await.into_iter().sum();
    let record = stages[0].load("o1").await.expect("is there");
    let confirmed = WRITERS as u64 * UPDATES;
    let is_one = |count| record.state == marked(count);
    assert!((confirmed..=confirmed + unknown).any(is_one), "{confirmed}, and {unknown} unknown");
}

/// Adds one to the version, so often, each time against whoever else does; how many additions more
/// nobody knows about. A backend may not know its own commit again once somebody has changed it.
async fn count_up(stage: &Stage<'_>, times: u64) -> u64 {
    let (mut done, mut unknown) = (0, 0);
    while done < times {
        let record = stage.load("o1").await.expect("is there");
        let State::Order(order) = record.state else { panic!("it is an order") };
        futures_lite::future::yield_now().await;
        let change = next("o1", record.revision, marked(order.version + 1));
        match stage.repo.commit(&[change]).await {
            Err(error) if error.kind() == ErrorKind::TimedOut => unknown += 1,
            answer => done += u64::from(answer.expect("commits") != [Outcome::Conflict]),
        }
    }
    unknown
}
