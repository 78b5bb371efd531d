//! The client's options and addresses that a URL stands for.

use std::path::Path;
use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};
use expirer_core::{Error, ErrorKind, Result};

use super::BACKEND;
use super::url::{Login, Options};
use crate::url::{Node, Tls};

/// A connection on which nothing came for so long is asked for a sign of life; after two that were
/// asked for in vain it is given up.
const PING: Duration = Duration::from_secs(1);
/// The longest pause between two attempts to connect again.
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// By how much each attempt in vain prolongs the pause.
const PAUSE_STEP: Duration = Duration::from_millis(50);

/// The addresses.
pub(crate) fn addresses(options: &Options) -> Result<Vec<ServerAddr>> {
    let scheme = if options.tls.is_some() { "tls" } else { "nats" };
    let address = |node: &Node| format!("{scheme}://{node}").parse();
    let addresses = options.nodes.iter().map(address).collect::<std::io::Result<_>>();
    addresses.map_err(|error| refused(&error))
}

/// Reads the files that the URL names; connects to nothing. Connecting to one address may take
/// `answer_within`.
///
/// # Errors
/// [`ErrorKind::Invalid`] for a file that cannot be read.
pub(crate) fn client_options(options: &Options, answer_within: Duration) -> Result<ConnectOptions> {
    let mut client = log_in(ConnectOptions::new(), &options.login)?
        .connection_timeout(answer_within)
        .ping_interval(PING)
        .reconnect_delay_callback(pause)
        .max_reconnects(None);
    if let Some(name) = &options.name {
        client = client.name(name);
    }
    match &options.tls {
        Some(tls) => certified(client.require_tls(true), tls),
        None => Ok(client),
    }
}

/// None before the first attempt.
fn pause(attempt: usize) -> Duration {
    let steps = u32::try_from(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
    PAUSE_STEP.saturating_mul(steps).min(PAUSE_MAX)
}

fn log_in(client: ConnectOptions, login: &Login) -> Result<ConnectOptions> {
    Ok(match login {
        Login::None => client,
        Login::Password(user, password) => {
            client.user_and_password(user.clone(), password.0.clone())
        }
        Login::Token(token) => client.token(token.0.clone()),
        Login::Nkey(path) => client.nkey(read(path)?.trim().to_owned()),
        Login::Credentials(path) => {
            client.credentials(&read(path)?).map_err(|error| unusable(path, &error))?
        }
    })
}

fn certified(mut client: ConnectOptions, tls: &Tls) -> Result<ConnectOptions> {
    // Another crate may have chosen a provider for the process; then that one serves us, too.
    drop(rustls::crypto::ring::default_provider().install_default());
    for path in [&tls.ca, &tls.cert, &tls.key].into_iter().flatten() {
        read(path)?;
    }
    if let Some(ca) = &tls.ca {
        client = client.add_root_certificates(ca.clone());
    }
    if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
        client = client.add_client_certificate(cert.clone(), key.clone());
    }
    Ok(client)
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| unusable(path, &error))
}

fn unusable(path: &Path, error: &std::io::Error) -> Error {
    refused(&format_args!("cannot use {}: {error}", path.display()))
}

fn refused(error: &dyn std::fmt::Display) -> Error {
    Error::new(ErrorKind::Invalid, BACKEND, "connect", error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nats::url::Part;

    fn options(query: &str) -> Options {
        Options::parse(&format!("tls://h?{query}"), Part::Bus).unwrap()
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        for query in ["ca=/none/a", "creds=/none/a", "nkey=/none/a", "cert=/none/a&key=/none/b"] {
            let error = client_options(&options(query), Duration::ZERO).expect_err(query);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains("cannot use /none/a"), "{error}");
        }
    }

    #[test]
    fn an_attempt_waits_a_little_longer_than_the_one_before() {
        assert_eq!(pause(0), Duration::ZERO);
        assert_eq!(pause(1), Duration::ZERO);
        assert_eq!(pause(3), Duration::from_millis(100));
        assert_eq!(pause(usize::MAX), PAUSE_MAX);
    }
}
