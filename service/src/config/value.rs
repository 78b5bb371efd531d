//! What the settings mean: from text to types, with an error that says what to write instead.

use std::fmt;
use std::time::Duration;

use expirer_core::observe::Flow;
use subtle::ConstantTimeEq;
use tracing_subscriber::EnvFilter;

use super::redacted::{Redacted, is_scheme};

/// The largest batch: beyond it, a batch no longer fits into its lease.
pub(crate) const BATCH_MAX: usize = 8192;
/// The longest of the configured durations: a year.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 3600);

/// What is wrong with a text, and what to write instead.
pub(crate) type Wrong = String;

/// The URL of a backend. Shown as [`Redacted`].
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct BackendUrl(String);

impl BackendUrl {
    /// Takes any text with a scheme; the backends know the rest.
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        match text.split_once(':') {
            Some((scheme, _)) if is_scheme(scheme) => Ok(Self(text.to_owned())),
            _ => Err("is no URL; write one with a scheme, such as memory:".to_owned()),
        }
    }

    /// With its credentials, for the backend alone.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn has_scheme(&self, scheme: &str) -> bool {
        self.0.split_once(':').is_some_and(|(name, _)| name == scheme)
    }
}

impl fmt::Display for BackendUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Redacted(&self.0), f)
    }
}

impl fmt::Debug for BackendUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a process does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Roles {
    /// The loops that it runs.
    pub(crate) flows: Vec<Flow>,
    /// Whether it serves orders over HTTP.
    pub(crate) api: bool,
}

impl Roles {
    /// Every loop, and the API.
    pub(crate) fn all() -> Self {
        Self { flows: Flow::ALL.to_vec(), api: true }
    }

    /// The loops that the Node worker was.
    pub(crate) fn worker() -> Self {
        Self { flows: vec![Flow::Scheduler, Flow::Expirer], api: false }
    }

    /// A list such as `scheduler,expirer`.
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        let names: Vec<&str> = text.split(',').map(str::trim).collect();
        let known = |name: &str| name == "api" || Flow::ALL.iter().any(|f| f.as_str() == name);
        if let Some(unknown) = names.iter().find(|name| !known(name)) {
            let shown: String = unknown.chars().take(64).collect();
            return Err(format!("has no role {shown:?}; roles are {}", Self::all()));
        }
        let flows = Flow::ALL.into_iter().filter(|flow| names.contains(&flow.as_str())).collect();
        Ok(Self { flows, api: names.contains(&"api") })
    }

    pub(crate) fn has(&self, flow: Flow) -> bool {
        self.flows.contains(&flow)
    }

    /// Whether any of them reads or writes orders.
    pub(crate) fn need_repo(&self) -> bool {
        self.api || [Flow::Recorder, Flow::Canceller, Flow::Reconciler].iter().any(|f| self.has(*f))
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let api = self.api.then_some("api");
        let names: Vec<&str> = self.flows.iter().map(|flow| flow.as_str()).chain(api).collect();
        f.write_str(&names.join(","))
    }
}

/// Where HTTP is served: `HOST:PORT`, or `None` for `off`.
pub(crate) fn http(text: &str) -> Result<Option<String>, Wrong> {
    if text == "off" {
        return Ok(None);
    }
    let valid = text.rsplit_once(':').is_some_and(|(host, port)| {
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let host_is_valid = !host.is_empty() && (bracketed || !host.contains([':', '/']));
        host_is_valid && port.parse::<u16>().is_ok()
    });
    match valid {
        true => Ok(Some(text.to_owned())),
        false => Err(format!(
            "is {:?}; write HOST:PORT, such as 127.0.0.1:8080 or [::1]:8080, or off",
            shortened(text)
        )),
    }
}

/// The secret that writes over HTTP must bring. Compared in constant time, never shown.
#[derive(Clone)]
pub(crate) struct Token(String);

impl Token {
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        let valid = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        match valid {
            true => Ok(Self(text.to_owned())),
            false => Err("must be 1 or more visible ASCII characters without spaces".to_owned()),
        }
    }

    pub(crate) fn is(&self, given: &[u8]) -> bool {
        self.0.as_bytes().ct_eq(given).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A duration such as `250ms`, `5s`, `15m`, `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, Wrong> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= DURATION_MAX => Ok(duration),
        Ok(_) => Err(format!("is {:?}; write at most 365 days", shortened(text))),
        Err(_) => {
            let shown = shortened(text);
            Err(format!(
                "is {shown:?}; write a duration with its unit, such as 250ms, 5s, 15m or 1h"
            ))
        }
    }
}

/// A batch size.
pub(crate) fn batch(text: &str) -> Result<usize, Wrong> {
    match text.parse() {
        Ok(batch) if (1..=BATCH_MAX).contains(&batch) => Ok(batch),
        _ => Err(format!("is {:?}; write a whole number from 1 to {BATCH_MAX}", shortened(text))),
    }
}

/// What is logged, as `tracing_subscriber` filters are written.
///
/// Spaces around a directive are taken away first: tracing-subscriber 0.3.23 counts its offsets
/// without them and then cuts the text with them, which reads ` info=debug` as ` inf` and panics
/// within a wider space.
pub(crate) fn log_filter(text: &str) -> Result<String, Wrong> {
    let directives: Vec<&str> = text.split(',').map(str::trim).collect();
    let filter = directives.join(",");
    match EnvFilter::try_new(&filter) {
        Ok(_) => Ok(filter),
        Err(_) => Err(format!(
            "is {:?}; write a level (error, warn, info, debug, trace, off) or \
             target=level pairs, such as info,expirer=debug",
            shortened(text)
        )),
    }
}

/// How logs are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people on a terminal, as JSON elsewhere.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    pub(crate) fn parse(text: &str) -> Result<Self, Wrong> {
        match text {
            "auto" => Ok(Self::Auto),
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err(format!("is {:?}; write auto, human or json", shortened(text))),
        }
    }
}

fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}
