//! Servers that die, connections that break, and calls that are given up.

use std::time::Duration;

use expirer_core::{Error, ErrorKind, Outcome, OverdueOptions, Record, Result, Revision};
use futures_lite::future;

use super::stage::{MILLI, MINUTE, Stage, cancelled, id, marked, new, next, open, owing, revision};
use crate::harness::{BoxFuture, RepoHarness, Server};

/// How long a call may take, and how long the backend may need to find its server again.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn a_restart_loses_nothing(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let due = stage.now() - MINUTE;
    let names: Vec<_> = (0..50).map(|n| format!("o{n:02}")).collect();
    let changes = names.iter().map(|name| owing(new(name, open(due))));
    stage.put_all(&changes.collect::<Vec<_>>()).await;
    let ids: Vec<_> = names.iter().map(|name| id(name)).collect();
    let before = stage.repo.load(&ids).await.expect("loads");
    server(harness).restart().await;
    let restarted = Stage::on(harness).await;
    assert_eq!(restarted.repo.load(&ids).await.expect("loads"), before);
    assert_eq!(restarted.peek(stage.now()).await, names);
    let first = before[0].as_ref().expect("is there").revision;
    let second = restarted.put(next("o00", first, cancelled(due))).await;
    assert!(second > first);
    assert_eq!(restarted.commit(&[new("o01", marked(1))]).await, [Outcome::Conflict]);
}

pub(super) async fn a_handle_outlives_a_restart(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let first = stage.put(new("o1", marked(1))).await;
    server(harness).restart().await;
    let record = load_at_last(&stage, "o1").await.expect("is there");
    assert_eq!((record.revision, record.state), (first, marked(1)));
    stage.put(next("o1", first, marked(2))).await;
}

pub(super) async fn what_is_cut_off_fails_and_recovers(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let first = stage.put(new("o1", marked(1))).await;
    server(harness).cut().await;
    let changes = [next("o1", first, marked(2))];
    let ids = [id("o1")];
    let options = OverdueOptions::new(stage.now(), stage.now() + MINUTE, 10);
    assert_cut_off(bounded(&stage, stage.repo.load(&ids)).await);
    assert_cut_off(bounded(&stage, stage.repo.commit(&changes)).await);
    assert_cut_off(bounded(&stage, stage.repo.overdue(options)).await);
    server(harness).mend().await;
    let record = load_at_last(&stage, "o1").await.expect("is there");
    assert!([marked(1), marked(2)].contains(&record.state), "done or not: {:?}", record.state);
    assert_eq!(record.state == marked(1), record.revision == first);
    put_at_last(&stage, "o1", 3).await;
}

pub(super) async fn a_commit_that_is_given_up_is_done_or_not(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    for polls in 0..8 {
        let names: Vec<_> = (0..20).map(|n| format!("{polls}-{n}")).collect();
        let changes: Vec<_> = names.iter().map(|name| owing(new(name, marked(1)))).collect();
        give_up(stage.repo.commit(&changes), polls).await;
        for name in &names {
            assert_done_or_not(&stage, name).await;
            put_at_last(&stage, name, 2).await;
        }
    }
}

pub(super) async fn a_look_that_is_given_up_loses_nothing(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let before = stage.now();
    let names: Vec<_> = (0..20).map(|n| format!("o{n:02}")).collect();
    let changes = names.iter().map(|name| new(name, open(before - MINUTE)));
    stage.put_all(&changes.collect::<Vec<_>>()).await;
    let again_at = before + MINUTE;
    for polls in 0..8 {
        give_up(stage.repo.overdue(OverdueOptions::new(before, again_at, 5)), polls).await;
    }
    assert_eq!(stage.peek(again_at + MILLI).await, names);
}

fn server(harness: &dyn RepoHarness) -> &dyn Server {
    harness.server().expect("the case needs one")
}

/// Polls a call and drops it, at the latest when it has been polled so often and once more.
async fn give_up<T>(call: BoxFuture<'_, Result<T>>, polls: usize) {
    let enough = async {
        for _ in 0..polls {
            future::yield_now().await;
        }
    };
    let call = async { drop(call.await) };
    future::or(call, enough).await;
}

/// Ends a call that takes too long, as every caller does.
async fn bounded<T>(stage: &Stage<'_>, call: BoxFuture<'_, Result<T>>) -> Result<T> {
    let late = async {
        stage.wait(PATIENCE).await;
        Err(Error::new(ErrorKind::TimedOut, "conformance", "bounded", "no answer"))
    };
    future::or(call, late).await
}

fn assert_cut_off<T>(result: Result<T>) {
    let kind = result.err().map(|error| error.kind());
    let kinds = [Some(ErrorKind::Unavailable), Some(ErrorKind::TimedOut)];
    assert!(kinds.contains(&kind), "cut off, it answers with {kind:?}");
}

async fn assert_done_or_not(stage: &Stage<'_>, name: &str) {
    if let Some(record) = stage.load(name).await {
        assert!(record.revision > Revision::ABSENT);
        assert_eq!((record.state, record.owes.len()), (marked(1), 1), "{name} is half done");
    }
}

/// Loads what a call after an outage may fail to load at first.
async fn load_at_last(stage: &Stage<'_>, name: &str) -> Option<Record> {
    let ids = [id(name)];
    let deadline = stage.now() + PATIENCE;
    loop {
        match bounded(stage, stage.repo.load(&ids)).await {
            Ok(records) => return records.into_iter().next().flatten(),
            Err(error) => assert!(stage.now() < deadline, "it does not recover: {error}"),
        }
        stage.wait(MILLI * 20).await;
    }
}

/// Commits a version upon whatever is there, also when something from before is done late.
async fn put_at_last(stage: &Stage<'_>, name: &str, version: u64) {
    for _ in 0..100 {
        let record = load_at_last(stage, name).await;
        let expected = record.map_or(Revision::ABSENT, |record| record.revision);
        let outcomes = stage.commit(&[next(name, expected, marked(version))]).await;
        if let Some(committed) = revision(outcomes[0]) {
            let record = load_at_last(stage, name).await.expect("is there");
            assert_eq!((record.revision, record.state), (committed, marked(version)));
            return;
        }
    }
    panic!("{name} is never at rest");
}
