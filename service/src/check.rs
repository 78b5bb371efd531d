//! `expirer check`: what the configuration comes to, without serving.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::capability::{Finding, Level};
use crate::config::Config;
use crate::wire::Parts;

/// Connects and prints what the backends can do and the roles miss.
///
/// # Errors
/// A text that says what cannot be connected.
pub(crate) async fn run(config: &Config) -> Result<ExitCode, String> {
    let parts = Parts::connect(config).await?;
    let capabilities = parts.capabilities();
    let findings = capabilities.findings(config);
    let refused = findings.iter().any(|finding| finding.level == Level::Error);
    // Whoever closed the output does not want the rest.
    drop(print(config, &capabilities.to_string(), &findings, refused));
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
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
