//! What the loops report, against their bounds.

use expirer_core::flow::Limits;
use expirer_core::{Observer, Signal};

use super::{Actor, BATCH_MAX, Watch};

#[derive(Debug)]
pub(super) struct WatchedSignals {
    pub(super) watch: Watch,
    pub(super) actor: Actor,
}

impl Observer for WatchedSignals {
    fn on(&self, signal: &Signal<'_>) {
        let Self { watch, actor } = self;
        match signal {
            Signal::Batch { items, .. } => watch.bounded(actor, "a batch", *items, BATCH_MAX),
            Signal::Failed { retry_in, .. } if *retry_in > Limits::default().backoff_max => {
                watch.judge(actor, Err(format!("waits {retry_in:?} before it tries again")));
            }
            Signal::PaymentWaitOver { .. } => {
                watch.log.count(|tally| tally.payment_waits_over += 1);
            }
            _ => {}
        }
        watch.trace(actor, format_args!("{signal:?}"));
    }
}
