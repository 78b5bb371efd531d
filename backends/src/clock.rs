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
        let mut before = self.now();
        while let Some(nap) = next_nap(before, self.now(), at) {
            before = self.now();
            tokio::time::sleep(nap).await;
        }
    }
}

/// How long to sleep before looking again; `None` once it is time, or the clock was set back.
fn next_nap(before: Timestamp, now: Timestamp, at: Timestamp) -> Option<Duration> {
    (now < at && now >= before).then(|| at.since(now).min(SLEEP_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_is_noticed_within_a_second() {
        let at = |millis| Timestamp::from_millis(millis);
        assert_eq!(next_nap(at(0), at(0), at(300)), Some(Duration::from_millis(300)));
        assert_eq!(next_nap(at(0), at(0), at(9_000)), Some(SLEEP_MAX));
        assert_eq!(next_nap(at(0), at(9_000), at(9_000)), None, "forward");
        assert_eq!(next_nap(at(1000), at(999), at(9_000)), None, "back");
    }

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
