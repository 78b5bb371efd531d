//! Any sequence of calls on a queue, against the core's timer machine.

use std::sync::Arc;

use crate::harness::QueueHarness;

/// Checks.
pub fn check(_: &dyn Fn() -> Arc<dyn QueueHarness>) -> Result<(), String> {
    Ok(())
}
