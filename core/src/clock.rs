//! Time as a dependency: the only source of "now" in the project.

use std::fmt::Debug;

use async_trait::async_trait;

use crate::Timestamp;

/// Wall-clock time and waiting for it.
///
/// Nothing else in the project reads time or sleeps, so that a virtual clock drives every test.
#[cfg_attr(any(test, feature = "mock"), mockall::automock)]
#[async_trait]
pub trait Clock: Debug + Send + Sync + 'static {
    /// The time now. It may step backwards when an operator or NTP sets the machine's clock.
    fn now(&self) -> Timestamp;

    /// Returns once [`now`](Self::now) has reached `at`; before that only if the clock was set
    /// back in the meantime, so that nobody sleeps through the time that was put in again. Whoever
    /// must not be early looks at the time again.
    ///
    /// An implementation re-reads wall time at least once a second, so that a clock that was set
    /// is noticed. Dropping the future has no effect.
    async fn sleep_until(&self, at: Timestamp);
}
