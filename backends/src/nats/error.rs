//! What NATS and its client call an error, by what the caller should do next.

use async_nats::{ConnectError, ConnectErrorKind};
use expirer_core::{Error, ErrorKind};
use serde::Deserialize;

use super::BACKEND;

/// A call that failed: an error, and what of it the backend itself acts on.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    error: Error,
    cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// JetStream refused, with this code of its own.
    Refused(u32),
    /// Nobody listens on the subject: no stream has it, its stream has no leader, or there is no
    /// JetStream.
    NobodyListens,
    Other,
}

/// What JetStream says in place of an answer.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Refusal {
    code: u32,
    err_code: u32,
    description: String,
}

/// Codes that we act on.
pub(crate) const CONSUMER_NOT_FOUND: u32 = 10014;
pub(crate) const NO_MESSAGE_FOUND: u32 = 10037;
pub(crate) const SEQUENCE_NOT_FOUND: u32 = 10043;
pub(crate) const DELETE_FAILED: u32 = 10057;
const WRONG_LAST_SEQUENCE: u32 = 10071;
const WRONG_LAST_SEQUENCE_IN_PROCESS: u32 = 10164;
pub(crate) const NOT_ENABLED_FOR_ACCOUNT: u32 = 10039;
pub(crate) const NAME_IN_USE: u32 = 10058;
pub(crate) const STREAM_NOT_FOUND: u32 = 10059;
pub(crate) const SUBJECTS_OVERLAP: u32 = 10065;
pub(crate) const NOT_ENABLED: u32 = 10076;
/// The same message is on its way already.
pub(crate) const IN_PROCESS: u32 = 10158;

impl Failure {
    pub(crate) const fn new(error: Error) -> Self {
        Self { error, cause: Cause::Other }
    }

    pub(crate) fn refused(op: &'static str, place: &str, refusal: &Refusal) -> Self {
        let Refusal { err_code, description, .. } = refusal;
        let text = format!("{place}: {description} (JetStream's error {err_code})");
        let error = Error::new(refusal.kind(), BACKEND, op, text);
        Self { error, cause: Cause::Refused(*err_code) }
    }

    pub(crate) fn nobody_listens(op: &'static str, place: &str, subject: &str) -> Self {
        let text = format!("{place}: no stream, or no leader of one, listens on {subject}");
        let error = Error::new(ErrorKind::Unavailable, BACKEND, op, text);
        Self { error, cause: Cause::NobodyListens }
    }

    /// Whether JetStream refused with this code.
    pub(crate) fn is(&self, code: u32) -> bool {
        self.cause == Cause::Refused(code)
    }

    /// Whether the last message of the subject is another one than was expected.
    pub(crate) fn is_conflict(&self) -> bool {
        self.is(WRONG_LAST_SEQUENCE) || self.is(WRONG_LAST_SEQUENCE_IN_PROCESS)
    }

    pub(crate) fn is_nobody_there(&self) -> bool {
        self.cause == Cause::NobodyListens
    }

    pub(crate) const fn kind(&self) -> ErrorKind {
        self.error.kind()
    }

    /// Whether the answer may only have been slow: a cluster that makes something, or elects.
    pub(crate) const fn is_late(&self) -> bool {
        matches!(self.kind(), ErrorKind::TimedOut)
    }

    /// Whether nobody knows what became of the call: the next one would fare no better.
    pub(crate) const fn is_outage(&self) -> bool {
        matches!(self.kind(), ErrorKind::Unavailable | ErrorKind::TimedOut)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::new(error)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        failure.error
    }
}

impl Refusal {
    /// Hardly ever `Invalid`: the callers would throw away what they hold.
    const fn kind(&self) -> ErrorKind {
        match self.err_code {
            // Too many or too much of something.
            10002 | 10023 | 10026 | 10027 | 10028 | 10047 | 10077 | 10167 => ErrorKind::Overloaded,
            // The message is larger than its stream takes.
            10054 => ErrorKind::Invalid,
            NAME_IN_USE | SUBJECTS_OVERLAP => ErrorKind::Corrupt,
            CONSUMER_NOT_FOUND | STREAM_NOT_FOUND | NO_MESSAGE_FOUND | IN_PROCESS => {
                ErrorKind::Unavailable
            }
            NOT_ENABLED | NOT_ENABLED_FOR_ACCOUNT => ErrorKind::Unsupported,
            _ if self.code >= 500 => ErrorKind::Unavailable,
            _ => ErrorKind::Unsupported,
        }
    }
}

/// A reply of another shape than the call gives.
pub(crate) fn unreadable(op: &'static str, error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corrupt, BACKEND, op, format!("a reply that cannot be read: {error}"))
}

/// What connecting gave; `place` are the addresses.
pub(crate) fn connecting(op: &'static str, place: &str, error: &ConnectError) -> Error {
    let shown = error.to_string();
    let (kind, hint) = match error.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            (ErrorKind::Denied, "the server does not take our login")
        }
        ConnectErrorKind::Tls | ConnectErrorKind::ServerParse => (ErrorKind::Invalid, ""),
        ConnectErrorKind::TimedOut => (ErrorKind::TimedOut, "is a NATS server there?"),
        _ => by_text(&shown.to_lowercase()),
    };
    let text = if hint.is_empty() { shown } else { format!("{hint} ({shown})") };
    Error::new(kind, BACKEND, op, format!("{place}: {text}"))
}

fn by_text(text: &str) -> (ErrorKind, &'static str) {
    const KNOWN: [(&str, ErrorKind, &str); 9] = [
        ("unknownissuer", ErrorKind::Denied, "name who signed its certificate: tls://…?ca=FILE"),
        ("certificate", ErrorKind::Denied, ""),
        ("received fatal alert", ErrorKind::Denied, "does it want a certificate of ours?"),
        ("authentication", ErrorKind::Denied, "the server does not take our login"),
        ("account", ErrorKind::Denied, "the server does not take our login"),
        ("maximum", ErrorKind::Overloaded, ""),
        ("corrupt message", ErrorKind::Unsupported, "does not speak TLS: use nats://"),
        ("expected info", ErrorKind::Unsupported, "does not speak the NATS protocol"),
        ("invalid server operation", ErrorKind::Unsupported, "does not speak the NATS protocol"),
    ];
    let found = KNOWN.iter().find(|(part, ..)| text.contains(part));
    found.map_or((ErrorKind::Unavailable, ""), |(_, kind, hint)| (*kind, *hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(code: u32, err_code: u32) -> Refusal {
        Refusal { code, err_code, description: "why".to_owned() }
    }

    #[test]
    fn a_code_says_what_to_do() {
        for (code, err_code, kind) in [
            (400, 10002, ErrorKind::Overloaded),
            (503, 10077, ErrorKind::Overloaded),
            (500, 10047, ErrorKind::Overloaded),
            (400, 10054, ErrorKind::Invalid),
            (400, 10065, ErrorKind::Corrupt),
            (404, 10059, ErrorKind::Unavailable),
            (503, 10008, ErrorKind::Unavailable),
            (503, 10039, ErrorKind::Unsupported),
            (400, 10074, ErrorKind::Unsupported),
            (400, 99_999, ErrorKind::Unsupported),
        ] {
            let failure = Failure::refused("publish", "h:1", &refusal(code, err_code));
            assert_eq!(failure.kind(), kind, "{err_code}");
            assert!(failure.is(err_code) && !failure.is(1));
            let text = Error::from(failure).to_string();
            assert!(text.starts_with("nats: publish: "), "{text}");
            assert!(text.contains("h:1: why (JetStream's error"), "{text}");
        }
    }

    #[test]
    fn what_a_connection_met_says_what_to_do() {
        for (text, kind) in [
            ("IO error: invalid peer certificate: UnknownIssuer", ErrorKind::Denied),
            ("IO error: received fatal alert: CertificateRequired", ErrorKind::Denied),
            ("IO error: nats: maximum connections exceeded", ErrorKind::Overloaded),
            (
                "IO error: received corrupt message of type InvalidContentType",
                ErrorKind::Unsupported,
            ),
            ("IO error: Connection refused (os error 111)", ErrorKind::Unavailable),
        ] {
            assert_eq!(by_text(&text.to_lowercase()).0, kind, "{text}");
        }
        let wrong = ConnectError::new(ConnectErrorKind::AuthorizationViolation);
        assert_eq!(connecting("connect", "h:1", &wrong).kind(), ErrorKind::Denied);
    }
}
