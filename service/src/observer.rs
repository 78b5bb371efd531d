//! The service's ears: every signal of the loops goes to metrics, readiness and logs.

use expirer_core::Observer;
use expirer_core::observe::{Flow, Signal};
use tracing::{debug, info, trace, warn};

use crate::metrics::{Metrics, effect_name};
use crate::readiness::Readiness;

/// How much of a reason is logged: it may quote what somebody sent.
const REASON_CHARS_MAX: usize = 300;

/// Fans signals out.
#[derive(Debug)]
pub(crate) struct Ears {
    pub(crate) metrics: Metrics,
    pub(crate) readiness: Readiness,
}

impl Ears {
    /// For the loops that run here.
    pub(crate) fn new(flows: &[Flow]) -> Self {
        Self { metrics: Metrics::new(flows), readiness: Readiness::new(flows) }
    }
}

impl Observer for Ears {
    fn on(&self, signal: &Signal<'_>) {
        self.metrics.on(signal);
        self.readiness.on(signal);
        log(signal);
    }
}

/// One line per decision at debug, per fault at warn. A disabled line costs one comparison.
fn log(signal: &Signal<'_>) {
    match signal {
        Signal::Ready { flow } => info!(loop = flow.as_str(), "ready"),
        Signal::Batch { flow, items } => trace!(loop = flow.as_str(), items, "batch"),
        Signal::Scheduled { timers } => debug!(timers, "scheduled"),
        Signal::Fired { id, late } => debug!(order = %id, late_ms = millis(*late), "fired"),
        Signal::Changed { id, effect } => {
            debug!(order = %id, effect = effect_name(*effect), "changed");
        }
        Signal::Announced { event } => debug!(subject = %event.subject(), ?event, "announced"),
        Signal::Released { flow, why, after } => {
            debug!(loop = flow.as_str(), why, after_ms = millis(*after), "released");
        }
        Signal::Rejected { flow, reason } => {
            warn!(loop = flow.as_str(), reason = shortened(reason), "to the dead letters");
        }
        Signal::Failed { flow, error, retry_in, whole_loop } => {
            let (loop_name, retry_in_ms) = (flow.as_str(), millis(*retry_in));
            warn!(loop = loop_name, %error, retry_in_ms, whole_loop, "failed");
        }
        Signal::PaymentWaitOver { id } => {
            warn!(order = %id, "payments unread for too long: the order is cancelled without");
        }
        _ => {}
    }
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn shortened(text: &str) -> &str {
    text.char_indices().nth(REASON_CHARS_MAX).map_or(text, |(end, _)| &text[..end])
}
