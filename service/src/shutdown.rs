//! The end: who asks for it, and when all that was to be done is done.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use expirer_backends::connect::Finite;
use expirer_core::{Clock, DelayQueue, QueueStats, Timestamp};
use futures_lite::future;
use tokio::sync::watch;
use tracing::warn;

/// While something is in flight, it is looked at this often.
const POLL_BUSY: Duration = Duration::from_millis(10);
/// While nothing is due, this often.
const POLL_IDLE: Duration = Duration::from_secs(1);

/// Tells everybody to stop, once.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<watch::Sender<bool>>);

impl Stop {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(false)))
    }

    pub(crate) fn trigger(&self) {
        self.0.send_replace(true);
    }

    /// Returns once it is triggered.
    pub(crate) async fn wait(&self) {
        // It fails only without a sender, and we hold one.
        let _ = self.0.subscribe().wait_for(|stopped| *stopped).await;
    }
}

/// The signals that end a process.
#[derive(Debug)]
pub(crate) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// From now on, signals wait for [`next`](Self::next).
    #[cfg(unix)]
    pub(crate) fn install() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// From now on, signals wait for [`next`](Self::next).
    #[cfg(not(unix))]
    pub(crate) fn install() -> io::Result<Self> {
        Ok(Self {})
    }

    /// The name of the next signal.
    #[cfg(unix)]
    pub(crate) async fn next(&mut self) -> &'static str {
        let terminate = async {
            self.terminate.recv().await;
            "SIGTERM"
        };
        let interrupt = async {
            self.interrupt.recv().await;
            "SIGINT"
        };
        future::or(terminate, interrupt).await
    }

    /// The name of the next signal.
    #[cfg(not(unix))]
    pub(crate) async fn next(&mut self) -> &'static str {
        let _ = tokio::signal::ctrl_c().await;
        "Ctrl-C"
    }

    /// Waits for `work`, or drops it: `None` if a signal came first.
    pub(crate) async fn or<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let signal = async {
            self.next().await;
            None
        };
        future::or(signal, async { Some(work.await) }).await
    }
}

/// Returns once the input has ended and all that came of it is worked off: every message is
/// settled by every group, and no timer is left to fire.
pub(crate) async fn worked_off(
    finite: &dyn Finite,
    timers: Option<&dyn DelayQueue>,
    clock: &dyn Clock,
) {
    finite.read_to_end().await;
    loop {
        let settled = finite.settled();
        let stats = stats(timers).await;
        let is_empty = stats.is_some_and(|stats| stats.pending == 0 && stats.leased == 0);
        // Firing stores messages: the same number again says that nothing happened in between.
        if settled.is_some() && is_empty && finite.settled() == settled {
            return;
        }
        let now = clock.now();
        clock.sleep_until(now + pause(settled, stats, now)).await;
    }
}

/// What the queue still holds; nothing, if nobody here fires it.
async fn stats(timers: Option<&dyn DelayQueue>) -> Option<QueueStats> {
    let Some(timers) = timers else { return Some(QueueStats::default()) };
    timers.stats().await.inspect_err(|error| warn!(%error, "cannot see what is pending")).ok()
}

fn pause(settled: Option<u64>, stats: Option<QueueStats>, now: Timestamp) -> Duration {
    let Some(stats) = stats else { return POLL_IDLE };
    if settled.is_none() || stats.leased > 0 {
        return POLL_BUSY;
    }
    let next = stats.next_visible.map_or(POLL_IDLE, |at| at.since(now));
    next.clamp(POLL_BUSY, POLL_IDLE)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use async_trait::async_trait;
    use expirer_backends::TokioClock;
    use expirer_core::queue::MockDelayQueue;

    use super::*;

    fn stats(pending: u64, leased: u64, next_visible: Option<Timestamp>) -> QueueStats {
        let mut stats = QueueStats::default();
        (stats.pending, stats.leased, stats.next_visible) = (pending, leased, next_visible);
        stats
    }

    #[test]
    fn polls_fast_only_while_something_is_in_flight() {
        let now = Timestamp::EPOCH;
        let at = |millis| Some(now + Duration::from_millis(millis));
        assert_eq!(pause(None, Some(stats(1, 0, at(60_000))), now), POLL_BUSY);
        assert_eq!(pause(Some(1), Some(stats(1, 1, at(60_000))), now), POLL_BUSY);
        assert_eq!(pause(Some(1), Some(stats(1, 0, at(60_000))), now), POLL_IDLE);
        assert_eq!(pause(Some(1), Some(stats(1, 0, at(300))), now), Duration::from_millis(300));
        assert_eq!(pause(Some(1), Some(stats(1, 0, at(0))), now), POLL_BUSY);
        assert_eq!(pause(Some(1), Some(stats(1, 0, None)), now), POLL_IDLE);
        assert_eq!(pause(Some(1), None, now), POLL_IDLE);
    }

    /// Stores one more message while it is asked for the second time, as a late timer does.
    #[derive(Debug, Default)]
    struct Late(AtomicU64);

    #[async_trait]
    impl Finite for Late {
        async fn read_to_end(&self) {}

        async fn output_closed(&self) {
            future::pending::<()>().await;
        }

        fn settled(&self) -> Option<u64> {
            Some(self.0.fetch_add(1, Ordering::Relaxed).clamp(0, 1))
        }

        fn failure(&self) -> Option<String> {
            None
        }

        fn bad_lines(&self) -> u64 {
            0
        }
    }

    #[tokio::test]
    async fn looks_twice_before_it_ends() {
        let (late, mut queue) = (Late::default(), MockDelayQueue::new());
        queue.expect_stats().times(2).returning(|| Ok(QueueStats::default()));
        worked_off(&late, Some(&queue), &TokioClock::new()).await;
        assert_eq!(late.0.load(Ordering::Relaxed), 4);
    }

    #[tokio::test]
    async fn a_stop_is_seen_before_and_after() {
        let stop = Stop::new();
        let early = stop.clone();
        let waiter = tokio::spawn(async move { early.wait().await });
        stop.trigger();
        waiter.await.unwrap();
        stop.wait().await;
    }
}
