use crate::harness::RepoHarness;

pub(super) async fn an_empty_batch_does_nothing(_: &dyn RepoHarness) {}
