//! Logs, to standard error: for people on a terminal, as JSON elsewhere.

use std::io::{self, IsTerminal};

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, fmt, registry};

use crate::config::LogFormat;

/// Starts logging; what was started before stays.
pub(crate) fn start(filter: &str, format: LogFormat) {
    let terminal = io::stderr().is_terminal();
    let json = match format {
        LogFormat::Auto => !terminal,
        LogFormat::Human => false,
        LogFormat::Json => true,
    };
    // A closed standard error must not end the service: what cannot be written is dropped.
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(terminal).log_internal_errors(false);
    let lines = match json {
        true => lines.json().flatten_event(true).with_current_span(false).boxed(),
        false => lines.boxed(),
    };
    // Only a second start in one process fails.
    let _ = registry().with(EnvFilter::new(filter)).with(lines).try_init();
}
