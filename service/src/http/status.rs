//! Whether the service lives, is ready, and what it has done.

use std::sync::Arc;

use axum::extract::State as Shared;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::response::IntoResponse;
use expirer_core::observe::Flow;

use super::{App, Problem};

/// What the registry writes.
const OPEN_METRICS: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// `GET /healthz`
pub(crate) async fn health() -> &'static str {
    "ok\n"
}

/// `GET /readyz`
pub(crate) async fn ready(Shared(app): Shared<Arc<App>>) -> Result<&'static str, Problem> {
    let missing = app.ears.readiness.missing(&app.flows);
    if missing.is_empty() {
        return Ok("ready\n");
    }
    let names: Vec<&str> = missing.into_iter().map(Flow::as_str).collect();
    Err(Problem::unavailable(format!("not ready: {}", names.join(", "))))
}

/// `GET /metrics`
pub(crate) async fn metrics(Shared(app): Shared<Arc<App>>) -> impl IntoResponse {
    let text = app.ears.metrics.text(|flow| app.ears.readiness.is_ready(flow));
    ([(CONTENT_TYPE, OPEN_METRICS)], text)
}
