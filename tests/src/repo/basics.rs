//! Loads, batches of nothing, and handles that see the same.

use expirer_core::Revision;

use super::stage::{MINUTE, Stage, cancelled, id, new, next, open};
use crate::harness::RepoHarness;

pub(super) async fn an_empty_batch_does_nothing(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    stage.put(new("o1", open(stage.now() - MINUTE))).await;
    assert_eq!(stage.repo.load(&[]).await.expect("loads"), []);
    assert_eq!(stage.commit(&[]).await, []);
    assert_eq!(stage.overdue(stage.now(), stage.now(), 0).await, [""; 0]);
    assert_eq!(stage.overdue(stage.now(), stage.now(), 1).await, ["o1"]);
}

pub(super) async fn an_unknown_id_loads_as_none(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    assert_eq!(stage.load("o1").await, None);
    stage.put(new("o2", open(stage.now()))).await;
    assert_eq!(stage.load("o1").await, None);
}

pub(super) async fn a_load_answers_in_order_and_ids_may_repeat(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let changes = ["o1", "o2", "o3"].map(|name| new(name, open(stage.now())));
    stage.commit(&changes).await;
    let names = ["o3", "none", "o1", "o1", "o2", "none", "o3"];
    let records = stage.repo.load(&names.map(id)).await.expect("loads");
    let loaded = records.iter().map(|record| record.as_ref().map(|record| record.id.as_str()));
    let known = names.map(|name| (name != "none").then_some(name));
    assert_eq!(loaded.collect::<Vec<_>>(), known);
}

pub(super) async fn a_large_load_answers_every_id(harness: &dyn RepoHarness) {
    let stage = Stage::on(harness).await;
    let names: Vec<_> = (0..2000).map(|n| format!("o{n}")).collect();
    let even = names.iter().step_by(2).map(|name| new(name, open(stage.now())));
    stage.put_all(&even.collect::<Vec<_>>()).await;
    let ids: Vec<_> = names.iter().map(|name| id(name)).collect();
    let records = stage.repo.load(&ids).await.expect("loads");
    assert_eq!(records.len(), ids.len());
    for (n, (record, id)) in records.iter().zip(&ids).enumerate() {
        assert_eq!(record.as_ref().map(|record| &record.id), (n % 2 == 0).then_some(id));
    }
}

pub(super) async fn every_handle_sees_what_is_confirmed(harness: &dyn RepoHarness) {
    let stages = [Stage::on(harness).await, Stage::on(harness).await, Stage::on(harness).await];
    let mut revision = Revision::ABSENT;
    for round in 0..30 {
        let (writer, due) = (&stages[round % 3], stages[0].now());
        let state = if round % 2 == 0 { open(due) } else { cancelled(due) };
        revision = writer.put(next("o1", revision, state.clone())).await;
        for stage in &stages {
            let record = stage.load("o1").await.expect("is there");
            assert_eq!((record.revision, &record.state), (revision, &state), "round {round}");
        }
    }
}
