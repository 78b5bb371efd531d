//! What a server is, at start-up: one without JetStream, too old a one, or one of NATS Streaming
//! is refused, with what to do about it.

use std::fmt;

use expirer_core::{Error, ErrorKind, Result};
use serde::Deserialize;
use serde_json::Value;

use super::BACKEND;
use super::connection::{Connection, Outgoing};
use super::error::{Failure, NOT_ENABLED, NOT_ENABLED_FOR_ACCOUNT};
use super::url::Options;

const OP: &str = "inspect";

/// The version of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(u32, u32, u32);

impl Version {
    /// The oldest that we know: the next message of a subject can be asked for from here on.
    const MIN: Self = Self(2, 9, 0);
    /// The first of 2.10 that does not compare the sequence that a message expects
    /// (nats-server#5841); its successors lose streams when they are killed (Jepsen on 2.12.1).
    const LOSSY: Self = Self(2, 10, 19);
    /// The first that does neither.
    const MENDED: Self = Self(2, 10, 23);

    pub(crate) const fn new(major: u32, minor: u32) -> Self {
        Self(major, minor, 0)
    }

    /// Reads `MAJOR.MINOR.PATCH…`; zeroes for what is something else.
    pub(crate) fn of(text: &str) -> Self {
        let number = |part: &str| {
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..end].parse().ok()
        };
        let mut parts = text.trim_start_matches('v').split('.').map_while(number);
        let mut next = || parts.next().unwrap_or(0);
        Self(next(), next(), next())
    }

    const fn loses(self) -> bool {
        matches!(self, Self(2, 10, patch) if patch >= Self::LOSSY.2 && patch < Self::MENDED.2)
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// What JetStream says of our account.
#[derive(Debug, Deserialize)]
struct Account {}

/// Looks at the server and our account.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for a server that cannot do what we need, and what a call gives.
pub(crate) async fn inspect(connection: &Connection, options: &Options) -> Result<()> {
    match connection.api::<Account>(OP, "INFO", &Value::Null).await {
        Ok(Account {}) => judge(connection),
        Err(failure) if is_off(&failure) => Err(without_jetstream(connection, options).await),
        Err(failure) => Err(failure.into()),
    }
}

fn judge(connection: &Connection) -> Result<()> {
    let version = connection.version();
    if version < Version::MIN {
        let text = format!("this is NATS {version}; Expirer needs {} or later", Version::MIN);
        return Err(refused(connection, &text));
    }
    if version.loses() {
        let text = format!("NATS {version} loses what it has confirmed: use {}", Version::MENDED);
        return Err(refused(connection, &text));
    }
    Ok(())
}

fn is_off(failure: &Failure) -> bool {
    let codes = [NOT_ENABLED, NOT_ENABLED_FOR_ACCOUNT];
    failure.is_nobody_there() || codes.iter().any(|code| failure.is(*code))
}

async fn without_jetstream(connection: &Connection, options: &Options) -> Error {
    if has_streaming(connection, options).await {
        return refused(
            connection,
            "this is NATS Streaming (STAN), which ended in 2023: Expirer needs NATS 2.9 or later \
             with JetStream; move the services that share its subjects, too",
        );
    }
    refused(
        connection,
        "JetStream is off, for the server or for our account: start it with nats-server -js, or \
         give the account jetstream: enabled",
    )
}

/// Whether somebody listens where clients of NATS Streaming look for their cluster: nobody has to
/// answer what is no request of theirs.
async fn has_streaming(connection: &Connection, options: &Options) -> bool {
    let cluster = options.stream.as_deref().unwrap_or("ticketing");
    let subject = format!("_STAN.discover.{cluster}");
    let call = Outgoing { subject, headers: None, payload: Vec::new() };
    match connection.call(OP, call).await {
        Ok(_) => true,
        Err(failure) => failure.kind() == ErrorKind::TimedOut,
    }
}

fn refused(connection: &Connection, text: &str) -> Error {
    Error::new(ErrorKind::Unsupported, BACKEND, OP, format!("{}: {text}", connection.place()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_its_first_three_numbers() {
        assert_eq!(Version::of("2.9.10"), Version(2, 9, 10));
        assert_eq!(Version::of("v2.12.1-RC.1"), Version(2, 12, 1));
        assert!(Version::of("2.10.1") > Version::of("2.9.25"));
        assert_eq!(Version::of("nonsense"), Version(0, 0, 0));
        assert_eq!(Version::of("2.x").to_string(), "2.0.0");
    }

    #[test]
    fn versions_that_lose_what_they_confirmed_are_known() {
        let lossy = ["2.10.19", "2.10.20", "2.10.22"];
        assert!(lossy.iter().all(|version| Version::of(version).loses()));
        let sound = ["2.9.22", "2.10.18", "2.10.23", "2.11.20"];
        assert!(!sound.iter().any(|version| Version::of(version).loses()));
    }
}
