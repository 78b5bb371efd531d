//! The one error of every trait: what happened, where, and what the caller should do next.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// What the caller should do next. The text of an error is for people; this is for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The backend cannot be reached. Nothing or everything may have happened: back off, then repeat.
    Unavailable,
    /// No answer within the step's time. Nothing or everything may have happened: back off, then repeat.
    TimedOut,
    /// The backend is full. Nothing was done: back off, let consumers catch up, then repeat.
    Overloaded,
    /// Something in the call can never be accepted. Of a batch, halve it until the culprit is
    /// alone and reject that; of a URL or an option, mend it.
    Invalid,
    /// The backend refuses us: wrong credentials or a missing permission. Mend the configuration.
    Denied,
    /// This backend, this version of its server, or this build cannot do it. Choose another.
    Unsupported,
    /// What is stored under our name is not ours or cannot be read. An operator has to look.
    Corrupt,
    /// The handle has ended for good (a consumer that was dropped by its broker, a closed output).
    /// Open a new one, or stop.
    Closed,
}

impl ErrorKind {
    /// The kind in words, as logs and metrics name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timed out",
            Self::Overloaded => "overloaded",
            Self::Invalid => "invalid",
            Self::Denied => "denied",
            Self::Unsupported => "unsupported",
            Self::Corrupt => "corrupt",
            Self::Closed => "closed",
        }
    }
}

/// A failed call to a backend.
///
/// ```
/// use expirer_core::{Error, ErrorKind};
///
/// let error = Error::new(ErrorKind::Unavailable, "redis", "lease", "connection refused");
/// assert_eq!(error.to_string(), "redis: lease: unavailable: connection refused");
/// assert_eq!(error.clone().kind(), ErrorKind::Unavailable);
/// ```
#[derive(Clone)]
pub struct Error {
    kind: ErrorKind,
    backend: &'static str,
    op: &'static str,
    source: Arc<dyn StdError + Send + Sync>,
}

impl Error {
    /// An error of `backend` in the operation `op`; `source` is a text or the client's own error.
    pub fn new(
        kind: ErrorKind,
        backend: &'static str,
        op: &'static str,
        source: impl Into<Box<dyn StdError + Send + Sync>>,
    ) -> Self {
        Self { kind, backend, op, source: Arc::from(source.into()) }
    }

    /// What to do next.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The backend that failed, such as `memory`.
    #[must_use]
    pub const fn backend(&self) -> &'static str {
        self.backend
    }

    /// The operation that failed, such as `lease`.
    #[must_use]
    pub const fn op(&self) -> &'static str {
        self.op
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}: {}", self.backend, self.op, self.kind.as_str(), self.source)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.source()
    }
}

/// The result of every call to a backend.
pub type Result<T> = std::result::Result<T, Error>;
