//! Errors as RFC 9457 problem JSON.

use axum::http::StatusCode;
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use expirer_core::flow::OrdersError;
use expirer_core::order::Refused;
use expirer_core::{Error, ErrorKind};
use serde_json::json;
use tracing::warn;

/// After how many seconds a request that a backend failed may be repeated.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("1");

/// Why a request was not done.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), header: None }
    }

    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn no_such_order() -> Self {
        Self::new(StatusCode::NOT_FOUND, Refused::Unknown.to_string())
    }

    /// It may work a little later.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, detail);
        problem.with_header(header::RETRY_AFTER, RETRY_AFTER_SECONDS)
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }
}

impl From<Error> for Problem {
    /// The text of the error is for the log: it may name hosts that are nobody's business.
    fn from(error: Error) -> Self {
        let (backend, kind) = (error.backend(), error.kind());
        if kind == ErrorKind::Invalid {
            return Self::bad_request(format!("{backend} cannot take this: {error}"));
        }
        warn!(%error, "a request failed");
        let kind = kind.as_str();
        Self::unavailable(format!(
            "{backend}: {kind}; the change may have been made, and the same request again finishes it"
        ))
    }
}

impl From<OrdersError> for Problem {
    fn from(error: OrdersError) -> Self {
        match error {
            OrdersError::Refused(Refused::Unknown) => Self::no_such_order(),
            OrdersError::Refused(refused) => Self::new(StatusCode::CONFLICT, refused.to_string()),
            OrdersError::Failed(error) => error.into(),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut headers = HeaderMap::new();
        let problem = HeaderValue::from_static("application/problem+json");
        headers.insert(header::CONTENT_TYPE, problem);
        headers.extend(self.header);
        (self.status, headers, body.to_string()).into_response()
    }
}
