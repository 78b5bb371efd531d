use crate::harness::QueueHarness;

pub(super) async fn an_empty_batch_does_nothing(_: &dyn QueueHarness) {}
