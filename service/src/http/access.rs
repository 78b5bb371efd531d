//! Who may write: everybody on loopback, beyond it whoever brings the token.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::header::{AUTHORIZATION, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use axum::http::request::Parts;

use super::{App, Problem};
use crate::config::Token;

/// Who may write.
#[derive(Debug)]
pub(crate) enum Access {
    /// Everybody: only this machine can reach us.
    Loopback,
    /// Nobody: others can reach us, and there is no token.
    Refused,
    /// Whoever brings the token.
    Token(Token),
}

impl Access {
    /// By the token, and by whether others than this machine can reach us.
    pub(crate) fn new(token: Option<Token>, exposed: bool) -> Self {
        match token {
            Some(token) => Self::Token(token),
            None if exposed => Self::Refused,
            None => Self::Loopback,
        }
    }

    fn check(&self, headers: &HeaderMap) -> Result<(), Problem> {
        match self {
            Self::Loopback => Ok(()),
            Self::Refused => Err(Problem::new(
                StatusCode::FORBIDDEN,
                "writes are refused: the service can be reached beyond loopback and has no \
                 token; start it with --http-token (EXPIRER_HTTP_TOKEN)",
            )),
            Self::Token(token) if bearer(headers).is_some_and(|given| token.is(given)) => Ok(()),
            Self::Token(_) => {
                let detail = "writes need the header `Authorization: Bearer TOKEN`";
                let bearer = HeaderValue::from_static("Bearer");
                let problem = Problem::new(StatusCode::UNAUTHORIZED, detail);
                Err(problem.with_header(WWW_AUTHENTICATE, bearer))
            }
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, token) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

/// Proof that the request may write.
#[derive(Debug)]
pub(crate) struct MayWrite;

impl FromRequestParts<Arc<App>> for MayWrite {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Problem> {
        app.access.check(&parts.headers).map(|()| Self)
    }
}
