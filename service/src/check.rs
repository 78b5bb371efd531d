//! `expirer check`: what the configuration comes to, without serving.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::capability::{Finding, Level};
use crate::config::Config;
use crate::http::Listener;
use crate::wire::Parts;

/// Connects and prints what the backends can do and the roles miss.
///
/// # Errors
/// A text that says what cannot be connected.
pub(crate) async fn run(config: &Config) -> Result<ExitCode, String> {
    let parts = Parts::connect(config).await?;
    let capabilities = parts.capabilities();
    let findings = findings(&parts, config).await;
    let refused = is_refused(&findings);
    // Whoever closed the output does not want the rest.
    drop(print(config, &capabilities.to_string(), &findings, refused));
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// What `serve` would find, the address included: it is bound and at once given back.
async fn findings(parts: &Parts, config: &Config) -> Vec<Finding> {
    match Listener::open(config).await {
        Ok(listener) => parts.findings(config, listener.map(|bound| bound.address)),
        Err(text) => {
            let taken = Finding { level: Level::Error, text: text.into() };
            [vec![taken], parts.findings(config, None)].concat()
        }
    }
}

fn is_refused(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.level == Level::Error)
}

fn print(
    config: &Config,
    capabilities: &str,
    findings: &[Finding],
    refused: bool,
) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (name, url) in [("bus", &config.bus), ("queue", &config.queue), ("repo", &config.repo)] {
        writeln!(out, "{name:<6} {} ({})", url.value, url.origin)?;
    }
    writeln!(out, "roles  {} ({})", config.roles.value, config.roles.origin)?;
    match &config.http {
        Some(http) => writeln!(out, "http   {} ({})", http.value, http.origin)?,
        None => writeln!(out, "http   off")?,
    }
    write!(out, "\n{capabilities}\n")?;
    for finding in findings {
        writeln!(out, "{finding}")?;
    }
    writeln!(out, "{}", if refused { "this does not start" } else { "ok" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Key;

    #[tokio::test]
    async fn refuses_what_serve_refuses() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = taken.local_addr().map(|address| (taken, address.to_string())).unwrap();
        for (given, refused) in [
            (vec![(Key::Http, "off")], false),
            (vec![(Key::Http, "127.0.0.1:0")], false),
            (vec![(Key::Http, "off"), (Key::Roles, "api")], true),
            (vec![(Key::Http, taken.1.as_str())], true),
        ] {
            let config = Config::flagged(&given);
            let parts = Parts::connect(&config).await.unwrap();
            let findings = findings(&parts, &config).await;
            assert_eq!(is_refused(&findings), refused, "{findings:?}");
        }
    }

    #[tokio::test]
    async fn says_which_address_is_taken_and_frees_the_one_that_is_not() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap().to_string();
        let config = Config::flagged(&[(Key::Http, &address)]);
        let parts = Parts::connect(&config).await.unwrap();
        let taken = findings(&parts, &config).await;
        assert_eq!(taken[0].level, Level::Error);
        assert!(taken[0].text.contains(&format!("--http {address}: cannot listen")), "{taken:?}");
        drop(free);
        for _ in 0..2 {
            let free = findings(&parts, &config).await;
            assert!(free.iter().all(|finding| finding.level == Level::Note), "{free:?}");
        }
    }
}
