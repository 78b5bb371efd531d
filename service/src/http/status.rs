//! Whether the service lives, is ready, and what it has done.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State as Shared;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::IntoResponse;
use expirer_core::observe::Flow;
use expirer_core::{Clock, Error, QueueStats};
use futures_lite::future;
use tracing::debug;

use super::{App, Problem};

/// How long a scrape waits for the queue.
const STATS_WAIT: Duration = Duration::from_secs(1);
/// What the registry writes.
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// `GET /healthz`
pub(crate) async fn health() -> &'static str {
    "ok\n"
}

/// `GET /readyz`
pub(crate) async fn ready(Shared(app): Shared<Arc<App>>) -> Result<&'static str, Problem> {
    let missing = app.ears.readiness.missing();
    if missing.is_empty() {
        return Ok("ready\n");
    }
    let names: Vec<&str> = missing.into_iter().map(Flow::as_str).collect();
    Err(Problem::unavailable(format!("not ready: {}", names.join(", "))))
}

/// `GET /metrics`
pub(crate) async fn metrics(Shared(app): Shared<Arc<App>>) -> impl IntoResponse {
    let timers = in_time(&*app.clock, app.queue.stats()).await;
    let text = app.ears.metrics.text(|flow| app.ears.readiness.is_ready(flow), timers);
    ([(CONTENT_TYPE, OPEN_METRICS)], text)
}

/// What the queue says of itself, unless it fails or takes too long: the rest is worth more.
async fn in_time(
    clock: &dyn Clock,
    stats: impl Future<Output = Result<QueueStats, Error>>,
) -> Option<QueueStats> {
    let stats = async { stats.await.inspect_err(|error| debug!(%error, "no queue stats")).ok() };
    let late = async {
        clock.sleep_until(clock.now() + STATS_WAIT).await;
        None
    };
    future::or(stats, late).await
}

#[cfg(test)]
mod tests {
    use expirer_core::clock::MockClock;
    use expirer_core::{ErrorKind, Timestamp};

    use super::*;

    #[tokio::test]
    async fn a_queue_that_fails_or_hangs_has_no_stats() {
        let mut clock = MockClock::new();
        clock.expect_now().return_const(Timestamp::EPOCH);
        clock.expect_sleep_until().return_const(());
        let failed = Error::new(ErrorKind::Unavailable, "test", "stats", "down");
        assert_eq!(in_time(&clock, async { Err(failed) }).await, None);
        assert_eq!(in_time(&clock, future::pending()).await, None);
        let stats = QueueStats::default();
        assert_eq!(in_time(&clock, async { Ok(stats) }).await, Some(stats));
    }
}
