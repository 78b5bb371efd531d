//! Wall-clock time on tokio: the one place where the project reads the clock and sleeps.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use expirer_core::{Clock, Timestamp};

/// The longest sleep before wall time is read again: a clock that was set forward is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// The machine's wall clock; it sleeps on tokio's timer.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioClock;

impl TokioClock {
    /// The machine's wall clock.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

#[async_trait]
impl Clock for TokioClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
    fn now(&self) -> Timestamp {
        let millis = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            // Rounded towards the past, so that nothing is early.
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX) - 1,
        };
        Timestamp::from_millis(millis)
    }

    #[expect(clippy::disallowed_methods, reason = "this is the one sleep")]
    async fn sleep_until(&self, at: Timestamp) {
        loop {
            let now = self.now();
            if now >= at {
                return;
            }
            tokio::time::sleep(at.since(now).min(SLEEP_MAX)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleep_never_ends_early() {
        let clock = TokioClock::new();
        for millis in [0, 1, 7] {
            let at = clock.now() + Duration::from_millis(millis);
            clock.sleep_until(at).await;
            assert!(clock.now() >= at);
        }
        clock.sleep_until(Timestamp::MIN).await;
    }
}
