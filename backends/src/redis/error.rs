//! What Redis and its client call an error, by what the caller should do next.

use expirer_core::{Error, ErrorKind};
use redis::{ErrorKind as Kind, RedisError, ServerErrorKind as Server};

use super::BACKEND;

/// The code that our own scripts give to a value under our key that is not ours.
const FOREIGN: &str = "FOREIGN";

/// Makes the one error of it; `place` is the address.
pub(crate) fn classify(op: &'static str, place: &str, error: &RedisError) -> Error {
    let kind = kind(error);
    let text = match stranger(error) {
        Some(Stranger::Protocol) => format!(
            "{place}: does not speak the Redis protocol: another server, or a port with TLS, which \
             needs rediss"
        ),
        Some(Stranger::Plain) => format!("{place}: does not speak TLS: {PLAIN}"),
        None => format!("{place}: {error}"),
    };
    Error::new(kind, BACKEND, op, text)
}

/// The same for connecting over TLS: a server without it waits for the rest of our greeting.
pub(crate) fn classify_tls(op: &'static str, place: &str, error: &RedisError) -> Error {
    let classified = classify(op, place, error);
    if classified.kind() != ErrorKind::TimedOut {
        return classified;
    }
    let text = format!("{place}: no connection over TLS in time: {PLAIN}");
    Error::new(ErrorKind::TimedOut, BACKEND, op, text)
}

const PLAIN: &str = "if this is a port without TLS, write redis instead of rediss";

/// What is at the address instead.
enum Stranger {
    /// Another protocol, or TLS where we use none.
    Protocol,
    /// No TLS where we use it.
    Plain,
}

/// A cluster's client has the parser's words in an error of the connection. They have several lines
/// and say nothing to a reader.
fn stranger(error: &RedisError) -> Option<Stranger> {
    let is_io = error.kind() == Kind::Io;
    let has = |words: &str| is_io && error.to_string().contains(words);
    if error.kind() == Kind::Parse || has("Parse error") {
        return Some(Stranger::Protocol);
    }
    has("received corrupt message").then_some(Stranger::Plain)
}

/// A reply of another shape than the command or script gives.
pub(crate) fn unreadable(op: &'static str, error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Corrupt, BACKEND, op, format!("a reply that cannot be read: {error}"))
}

fn kind(error: &RedisError) -> ErrorKind {
    match error.kind() {
        Kind::Io => io(error),
        Kind::AuthenticationFailed => ErrorKind::Denied,
        Kind::InvalidClientConfig => ErrorKind::Invalid,
        Kind::Parse | Kind::RESP3NotSupported => ErrorKind::Unsupported,
        Kind::UnexpectedReturnType => ErrorKind::Corrupt,
        Kind::Server(Server::NoPerm) => ErrorKind::Denied,
        Kind::Server(Server::ResponseError) => general(error.detail().unwrap_or_default()),
        Kind::Server(Server::ExecAbort | Server::CrossSlot | Server::NotBusy | Server::NoSub) => {
            ErrorKind::Unsupported
        }
        Kind::Extension => by_code(error.code().unwrap_or_default()),
        // A failover, a restart, a script that runs, a slot that moves: it passes.
        _ => ErrorKind::Unavailable,
    }
}

/// What refuses a connection for good. A cluster's client has the server's words in an error of the
/// connection.
const DENIALS: [&str; 4] =
    ["certificate", "received fatal alert", "authentication failed", "WRONGPASS"];

fn io(error: &RedisError) -> ErrorKind {
    let text = error.to_string();
    if error.is_timeout() || text.contains("timed out") {
        ErrorKind::TimedOut
    } else if DENIALS.iter().any(|denial| text.contains(denial)) {
        ErrorKind::Denied
    } else if stranger(error).is_some() {
        ErrorKind::Unsupported
    } else {
        ErrorKind::Unavailable
    }
}

fn by_code(code: &str) -> ErrorKind {
    match code {
        "OOM" | "MISCONF" => ErrorKind::Overloaded,
        "NOAUTH" | "WRONGPASS" | "NOPERM" | "DENIED" => ErrorKind::Denied,
        "WRONGTYPE" | FOREIGN => ErrorKind::Corrupt,
        "NOPROTO" => ErrorKind::Unsupported,
        _ => ErrorKind::Unavailable,
    }
}

/// `ERR` and a text. Before version 7, an error within a script is one of these, too, with its
/// code in the middle. Never `Invalid`: the callers would throw away what they hold.
fn general(text: &str) -> ErrorKind {
    const WITHIN: [(&str, ErrorKind); 10] = [
        ("max number of clients", ErrorKind::Overloaded),
        ("OOM ", ErrorKind::Overloaded),
        ("command not allowed when used memory", ErrorKind::Overloaded),
        ("WRONGTYPE", ErrorKind::Corrupt),
        (FOREIGN, ErrorKind::Corrupt),
        ("invalid password", ErrorKind::Denied),
        ("without any password configured", ErrorKind::Denied),
        ("can't run this command or subcommand", ErrorKind::Denied),
        ("READONLY", ErrorKind::Unavailable),
        ("LOADING", ErrorKind::Unavailable),
    ];
    let found = WITHIN.iter().find(|(part, _)| text.contains(part));
    found.map_or(ErrorKind::Unsupported, |(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use std::io;

    use redis::make_extension_error;

    use super::*;

    #[test]
    fn a_code_says_what_to_do() {
        for (code, kind) in [
            ("OOM", ErrorKind::Overloaded),
            ("MISCONF", ErrorKind::Overloaded),
            ("WRONGPASS", ErrorKind::Denied),
            ("NOAUTH", ErrorKind::Denied),
            ("WRONGTYPE", ErrorKind::Corrupt),
            ("FOREIGN", ErrorKind::Corrupt),
            ("NOREPLICAS", ErrorKind::Unavailable),
            ("BUSY", ErrorKind::Unavailable),
        ] {
            let error = make_extension_error(code.to_owned(), Some("why".to_owned()));
            let error = classify("lease", "h:1", &error);
            assert_eq!(error.kind(), kind, "{code}");
            assert!(error.to_string().starts_with("redis: lease: "), "{error}");
            assert!(error.to_string().contains("h:1: "), "{error}");
        }
    }

    #[test]
    fn what_passes_is_unavailable_and_nothing_unknown_is_invalid() {
        for server in [Server::ReadOnly, Server::Moved, Server::Ask, Server::TryAgain] {
            assert_eq!(kind(&(Kind::Server(server), "x").into()), ErrorKind::Unavailable);
        }
        for server in [Server::BusyLoading, Server::ClusterDown, Server::MasterDown] {
            assert_eq!(kind(&(Kind::Server(server), "x").into()), ErrorKind::Unavailable);
        }
        assert_eq!(kind(&(Kind::Server(Server::NoPerm), "x").into()), ErrorKind::Denied);
        assert_eq!(general("unknown command 'EVALSHA'"), ErrorKind::Unsupported);
        assert_eq!(general("something new"), ErrorKind::Unsupported);
        let within = "Error running script (call to f_1): @user_script:1: WRONGTYPE Operation";
        assert_eq!(general(within), ErrorKind::Corrupt);
    }

    #[test]
    fn a_lost_connection_and_a_missing_answer_differ() {
        let of = |kind_: io::ErrorKind, text: &str| kind(&io::Error::new(kind_, text).into());
        assert_eq!(of(io::ErrorKind::TimedOut, "x"), ErrorKind::TimedOut);
        assert_eq!(of(io::ErrorKind::ConnectionRefused, "x"), ErrorKind::Unavailable);
        let tls = "invalid peer certificate: UnknownIssuer";
        assert_eq!(of(io::ErrorKind::InvalidData, tls), ErrorKind::Denied);
        let password = "AuthenticationFailed: Password authentication failed";
        let cluster = "Failed to create initial connections";
        let of_cluster = (Kind::Io, cluster, password.to_owned()).into();
        assert_eq!(kind(&of_cluster), ErrorKind::Denied);
    }
}
