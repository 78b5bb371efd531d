//! Which loops are connected and take work.

use std::sync::atomic::{AtomicU8, Ordering};

use expirer_core::observe::{Flow, Signal};
use tokio::sync::Notify;

/// The loops that are ready, kept up to date by what they report.
#[derive(Debug)]
pub(crate) struct Readiness {
    flows: Vec<Flow>,
    ready: AtomicU8,
    changed: Notify,
}

const fn bit(flow: Flow) -> u8 {
    1 << flow as u8
}

impl Readiness {
    /// None of the loops that run here is ready yet.
    pub(crate) fn new(flows: &[Flow]) -> Self {
        Self { flows: flows.to_vec(), ready: AtomicU8::new(0), changed: Notify::new() }
    }

    /// The loops that run here.
    pub(crate) fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// Takes note of a signal. A batch proves nothing: it may be the one that fails. A loop says
    /// itself when it has overcome a fault.
    pub(crate) fn on(&self, signal: &Signal<'_>) {
        match signal {
            Signal::Ready { flow } => self.set(*flow),
            // What is not tried again was a saving only; of single items, no word follows that
            // they are well again.
            Signal::Failed { flow, retry_in, whole_loop: true, .. } if !retry_in.is_zero() => {
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

    /// The loops that run here and are not ready.
    pub(crate) fn missing(&self) -> Vec<Flow> {
        self.flows.iter().copied().filter(|flow| !self.is_ready(*flow)).collect()
    }

    /// Returns once all loops that run here are ready at the same time.
    pub(crate) async fn all(&self) {
        loop {
            let changed = self.changed.notified();
            if self.missing().is_empty() {
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

    fn failed(readiness: &Readiness, retry_in: Duration, whole_loop: bool) {
        let error = Error::new(ErrorKind::Unavailable, "test", "test", "down");
        let flow = Flow::Recorder;
        readiness.on(&Signal::Failed { flow, error: &error, retry_in, whole_loop });
    }

    #[test]
    fn follows_what_the_loops_say() {
        let readiness = Readiness::new(&[Flow::Recorder]);
        assert_eq!(readiness.missing(), [Flow::Recorder]);
        readiness.on(&Signal::Ready { flow: Flow::Recorder });
        assert_eq!(readiness.missing(), []);
        failed(&readiness, Duration::from_millis(1), true);
        assert_eq!(readiness.missing(), [Flow::Recorder]);
        readiness.on(&Signal::Batch { flow: Flow::Recorder, items: 1 });
        assert_eq!(readiness.missing(), [Flow::Recorder]);
        readiness.on(&Signal::Ready { flow: Flow::Recorder });
        assert_eq!(readiness.missing(), []);
    }

    #[test]
    fn a_fault_of_single_items_or_of_a_saving_leaves_a_loop_ready() {
        let readiness = Readiness::new(&[Flow::Recorder]);
        readiness.on(&Signal::Ready { flow: Flow::Recorder });
        failed(&readiness, Duration::from_secs(5), false);
        failed(&readiness, Duration::ZERO, true);
        assert_eq!(readiness.missing(), []);
    }

    #[tokio::test]
    async fn waits_for_all() {
        let flows = [Flow::Scheduler, Flow::Expirer];
        let readiness = Readiness::new(&flows);
        let set = async {
            for flow in flows {
                tokio::task::yield_now().await;
                readiness.on(&Signal::Ready { flow });
            }
        };
        futures_lite::future::zip(readiness.all(), set).await;
    }
}
