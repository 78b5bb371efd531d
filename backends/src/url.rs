//! What the URLs of servers have in common: addresses, secrets, certificates.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use percent_encoding::percent_decode_str;

/// One address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// Files in PEM format: who signed the server's certificate, and who we are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tls {
    pub(crate) ca: Option<PathBuf>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

/// A password or a token: never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl Node {
    /// Reads `HOST`, `HOST:PORT` or `[IPV6]:PORT`; `port` where there is none.
    ///
    /// # Errors
    /// What would be right.
    pub(crate) fn parse(text: &str, port: u16) -> Result<Self, &'static str> {
        const WRONG: &str = "write the host as HOST, HOST:PORT or [IPV6]:PORT";
        let (host, given) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or(WRONG)?;
                let port = (!rest.is_empty()).then(|| rest.strip_prefix(':').ok_or(WRONG));
                (host, port.transpose()?)
            }
            None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
        };
        let port = given.map_or(Ok(port), str::parse).map_err(|_| WRONG)?;
        if host.is_empty() || port == 0 {
            return Err(WRONG);
        }
        Ok(Self { host: host.to_owned(), port })
    }
}

/// Addresses, for people.
pub(crate) fn place(nodes: &[Node]) -> String {
    nodes.iter().map(Node::to_string).collect::<Vec<_>>().join(",")
}

/// Undoes percent-encoding.
///
/// # Errors
/// That it is no text; `what` says which part of the URL that is.
pub(crate) fn decoded(text: &str, what: &str) -> Result<String, String> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(String::from).map_err(|_| format!("{what} is not UTF-8"))
}

/// Reads a whole number and its unit.
///
/// # Errors
/// What would be right; `name` is the option's.
pub(crate) fn span(name: &str, text: &str) -> Result<Duration, String> {
    let right = "a whole number and a unit: 90s, 30m, 24h or 7d, at most 365d";
    let wrong = || format!("{name}: {right}");
    let split = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let seconds: u64 = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(seconds));
    match seconds {
        Some(seconds) if (1..=365 * 86_400).contains(&seconds) => Ok(Duration::from_secs(seconds)),
        _ => Err(wrong()),
    }
}
