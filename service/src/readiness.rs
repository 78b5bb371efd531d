//! Which loops are connected and take work.

use std::sync::atomic::{AtomicU8, Ordering};

use expirer_core::observe::{Flow, Signal};
use tokio::sync::Notify;

/// The loops that are ready, kept up to date by what they report.
#[derive(Debug, Default)]
pub(crate) struct Readiness {
    ready: AtomicU8,
    changed: Notify,
}

const fn bit(flow: Flow) -> u8 {
    1 << flow as u8
}

impl Readiness {
    /// Takes note of a signal. A batch proves a loop as ready as its own word: after a fault in
    /// the middle of a subscription there is no other sign that it has recovered.
    pub(crate) fn on(&self, signal: &Signal<'_>) {
        match signal {
            Signal::Ready { flow } | Signal::Batch { flow, .. } => self.set(*flow),
            // What is not tried again was a saving only.
            Signal::Failed { flow, retry_in, .. } if !retry_in.is_zero() => {
                self.ready.fetch_and(!bit(*flow), Ordering::Relaxed);
            }
            _ => {}
        }
    }

    fn set(&self, flow: Flow) {
        // Mostly it is set already: a load is cheaper than a shared write.
        if !self.is_ready(flow) {
            self.ready.fetch_or(bit(flow), Ordering::Release);
            self.changed.notify_waiters();
        }
    }

    pub(crate) fn is_ready(&self, flow: Flow) -> bool {
        self.ready.load(Ordering::Acquire) & bit(flow) != 0
    }

    /// Those of `flows` that are not ready.
    pub(crate) fn missing(&self, flows: &[Flow]) -> Vec<Flow> {
        flows.iter().copied().filter(|flow| !self.is_ready(*flow)).collect()
    }

    /// Returns once all of `flows` are ready at the same time.
    pub(crate) async fn all(&self, flows: &[Flow]) {
        loop {
            let changed = self.changed.notified();
            if self.missing(flows).is_empty() {
                return;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expirer_core::{Error, ErrorKind};

    use super::*;

    fn failed(readiness: &Readiness, retry_in: Duration) {
        let error = Error::new(ErrorKind::Unavailable, "test", "test", "down");
        readiness.on(&Signal::Failed { flow: Flow::Recorder, error: &error, retry_in });
    }

    #[test]
    fn follows_what_the_loops_say() {
        let readiness = Readiness::default();
        assert_eq!(readiness.missing(&Flow::ALL), Flow::ALL);
        readiness.on(&Signal::Ready { flow: Flow::Recorder });
        assert!(readiness.missing(&[Flow::Recorder]).is_empty());
        failed(&readiness, Duration::ZERO);
        assert!(readiness.is_ready(Flow::Recorder));
        failed(&readiness, Duration::from_millis(1));
        assert!(!readiness.is_ready(Flow::Recorder));
        readiness.on(&Signal::Batch { flow: Flow::Recorder, items: 1 });
        assert!(readiness.is_ready(Flow::Recorder));
    }

    #[tokio::test]
    async fn waits_for_all() {
        let readiness = Readiness::default();
        let flows = [Flow::Scheduler, Flow::Expirer];
        let set = async {
            for flow in flows {
                tokio::task::yield_now().await;
                readiness.on(&Signal::Ready { flow });
            }
        };
        futures_lite::future::zip(readiness.all(&flows), set).await;
    }
}
