//! What requests carry: the id in the path, JSON in the body.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_TYPE, HeaderMap};
use axum::http::request::Parts;
use expirer_core::OrderId;
use expirer_core::event::decode_json;
use futures_lite::future;
use serde::de::DeserializeOwned;

use super::{App, BODY_BYTES_MAX, Problem};

/// A body that takes longer to arrive is not waited for.
const BODY_WAIT: Duration = Duration::from_secs(10);

/// The order that the path names.
#[derive(Debug)]
pub(crate) struct OrderPath(pub(crate) OrderId);

impl FromRequestParts<Arc<App>> for OrderPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, app).await;
        let Path(id) = path.map_err(|rejection| {
            Problem::bad_request(format!("the id in the path: {}", rejection.body_text()))
        })?;
        let id = OrderId::new(id);
        let id =
            id.map_err(|wrong| Problem::bad_request(format!("the id in the path: {wrong}")))?;
        Ok(Self(id))
    }
}

/// A JSON body.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

impl<T: DeserializeOwned> FromRequest<Arc<App>> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        check_type(request.headers())?;
        decode(&read(request, app).await?).map(Self)
    }
}

/// A JSON body that may be left out.
#[derive(Debug)]
pub(crate) struct OptionalJson<T>(pub(crate) T);

impl<T: DeserializeOwned + Default> FromRequest<Arc<App>> for OptionalJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Problem> {
        let checked = check_type(request.headers());
        let body = read(request, app).await?;
        if body.is_empty() {
            return Ok(Self(T::default()));
        }
        checked?;
        decode(&body).map(Self)
    }
}

fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    let value = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let kind = value.and_then(|value| value.split(';').next()).unwrap_or_default();
    let kind = kind.trim().to_ascii_lowercase();
    if kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json")) {
        return Ok(());
    }
    let detail = "the body must be JSON: send the header `Content-Type: application/json`";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail))
}

async fn read(request: Request, app: &Arc<App>) -> Result<Bytes, Problem> {
    let body = async {
        Bytes::from_request(request, app).await.map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the body has more than {BODY_BYTES_MAX} bytes"),
            ),
            _ => Problem::bad_request("the body did not arrive whole"),
        })
    };
    let late = async {
        app.clock.sleep_until(app.clock.now() + BODY_WAIT).await;
        let detail = format!("the body did not arrive within {BODY_WAIT:?}");
        Err(Problem::new(StatusCode::REQUEST_TIMEOUT, detail))
    };
    future::or(body, late).await
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    decode_json(body).map_err(|reason| Problem::bad_request(format!("the body: {}", cut(&reason))))
}

/// An error may quote what was sent; nobody needs 64 KiB of it back.
fn cut(reason: &str) -> String {
    const CHARS_MAX: usize = 500;
    match reason.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason.to_owned(),
    }
}
