//! What a Redis URL says: `redis[s]://[user:password@]host[:port][/database][?option=…&…]`, and
//! `redis[s]+cluster://` with any number of nodes between commas.

use std::path::PathBuf;
use std::time::Duration;

use expirer_core::{Error, ErrorKind, Result};

use super::BACKEND;
use crate::keep::Keep;
use crate::url::{self, Node, Secret, Tls};

const PORT: u16 = 6379;
const PREFIX_BYTES_MAX: usize = 64;
/// The most shards of a queue or repository: each costs a command per look.
pub(crate) const SHARDS_MAX: u16 = 64;
const REPLICAS_MAX: u16 = 5;

/// Which part a URL is for: each takes the options that mean something to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Queue,
    Bus,
    Repo,
}

impl Part {
    const fn options(self) -> &'static [&'static str] {
        match self {
            Self::Queue => &["prefix", "shards", "ca", "cert", "key"],
            Self::Bus => &["prefix", "retain", "ca", "cert", "key"],
            Self::Repo => &["prefix", "shards", "keep", "replicas", "ca", "cert", "key"],
        }
    }
}

/// A URL, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) nodes: Vec<Node>,
    pub(crate) cluster: bool,
    pub(crate) tls: Option<Tls>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    pub(crate) database: u32,
    /// What precedes every key, without the colon after it.
    pub(crate) prefix: Option<String>,
    /// How many shards a queue or repository has, if the URL says so.
    pub(crate) shards: Option<u16>,
    /// How long the bus keeps what every group has settled, if the URL says so.
    pub(crate) retain: Option<Duration>,
    /// How long the repository keeps what has ended, if the URL says so.
    pub(crate) keep: Option<Keep>,
    /// How many replicas the repository waits for, if the URL says so.
    pub(crate) replicas: Option<u16>,
}

impl Options {
    /// Reads a URL for one part.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: what is wrong and what would be right; never the password.
    pub(crate) fn parse(url: &str, part: Part) -> Result<Self> {
        let (scheme, rest) = url.split_once("://").ok_or_else(|| {
            invalid("write redis://HOST:PORT, rediss://…, redis+cluster://… or rediss+cluster://…")
        })?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = place.split_once('/').unwrap_or((place, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let (user, password) = login.map_or(Ok((None, None)), credentials)?;
        let cluster = scheme.ends_with("+cluster");
        let mut options = Self {
            nodes: hosts.split(',').map(node).collect::<Result<_>>()?,
            cluster,
            tls: scheme.starts_with("rediss").then(Tls::default),
            user,
            password,
            database: database(path, cluster)?,
            prefix: None,
            shards: None,
            retain: None,
            keep: None,
            replicas: None,
        };
        if !cluster && options.nodes.len() > 1 {
            return Err(invalid(
                "more than one host needs redis+cluster:// (or rediss+cluster://)",
            ));
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            options.set(pair, part)?;
        }
        options.checked()
    }

    fn set(&mut self, pair: &str, part: Part) -> Result<()> {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !part.options().contains(&name) {
            let shown: String = name.chars().take(32).collect();
            let known = part.options().join(", ");
            return Err(invalid(format!("unknown option {shown:?}; known here are {known}")));
        }
        let value = decoded(value, name)?;
        if value.is_empty() {
            return Err(invalid(format!("the option {name} is empty")));
        }
        match name {
            "prefix" => self.prefix = Some(prefix(value)?),
            "shards" => self.shards = Some(shards(&value)?),
            "retain" => self.retain = Some(span(name, &value)?),
            "keep" => self.keep = Some(Keep::parse(name, &value).map_err(invalid)?),
            "replicas" => self.replicas = Some(replicas(&value)?),
            _ => self.set_file(name, PathBuf::from(value))?,
        }
        Ok(())
    }

    fn set_file(&mut self, name: &str, path: PathBuf) -> Result<()> {
        let Some(tls) = &mut self.tls else {
            return Err(invalid(format!("the option {name} needs rediss:// or rediss+cluster://")));
        };
        match name {
            "ca" => tls.ca = Some(path),
            "cert" => tls.cert = Some(path),
            _ => tls.key = Some(path),
        }
        Ok(())
    }

    fn checked(self) -> Result<Self> {
        match &self.tls {
            Some(tls) if tls.cert.is_some() != tls.key.is_some() => {
                Err(invalid("a client certificate needs both options, cert and key"))
            }
            _ => Ok(self),
        }
    }

    /// The addresses, for people.
    pub(crate) fn place(&self) -> String {
        url::place(&self.nodes)
    }
}

fn invalid(text: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, BACKEND, "url", text.into())
}

fn decoded(text: &str, what: &str) -> Result<String> {
    url::decoded(text, what).map_err(invalid)
}

fn credentials(login: &str) -> Result<(Option<String>, Option<Secret>)> {
    let Some((user, password)) = login.split_once(':') else {
        return Err(invalid("a user needs a password: USER:PASSWORD@, or :PASSWORD@ alone"));
    };
    let user = decoded(user, "the user")?;
    let password = decoded(password, "the password")?;
    if password.is_empty() {
        return Err(invalid("the password is empty"));
    }
    Ok(((!user.is_empty()).then_some(user), Some(Secret(password))))
}

fn node(text: &str) -> Result<Node> {
    Node::parse(text, PORT).map_err(invalid)
}

fn database(path: &str, cluster: bool) -> Result<u32> {
    match path {
        "" => Ok(0),
        _ if cluster => Err(invalid("a cluster has one database: leave out what follows the host")),
        _ => path.parse().map_err(|_| invalid("the database is a number, such as /0")),
    }
}

/// Braces would move keys to another hash slot, and the rest cannot be typed.
fn prefix(text: String) -> Result<String> {
    let fits = text.len() <= PREFIX_BYTES_MAX
        && text.chars().all(|c| !c.is_control() && !c.is_whitespace() && c != '{' && c != '}');
    if fits {
        return Ok(text);
    }
    Err(invalid(format!("prefix: at most {PREFIX_BYTES_MAX} bytes without braces and spaces")))
}

fn shards(text: &str) -> Result<u16> {
    match text.parse() {
        Ok(shards) if (1..=SHARDS_MAX).contains(&shards) => Ok(shards),
        _ => Err(invalid(format!("shards: a whole number from 1 to {SHARDS_MAX}"))),
    }
}

fn replicas(text: &str) -> Result<u16> {
    match text.parse() {
        Ok(replicas) if replicas <= REPLICAS_MAX => Ok(replicas),
        _ => Err(invalid(format!("replicas: a whole number from 0 to {REPLICAS_MAX}"))),
    }
}

/// A whole number and its unit.
fn span(name: &str, text: &str) -> Result<Duration> {
    url::span(name, text).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Options {
        Options::parse(url, Part::Queue).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    #[test]
    fn says_where_and_as_whom() {
        let plain = parse("redis://localhost");
        assert_eq!(plain.place(), "localhost:6379");
        assert_eq!((plain.cluster, plain.tls.is_some(), plain.database), (false, false, 0));
        let full = parse("rediss://us%40er:p%2Fw:@[::1]:7000/3?prefix=shop&shards=4&ca=/a%20b.pem");
        assert_eq!(full.place(), "[::1]:7000");
        assert_eq!(full.user.as_deref(), Some("us@er"));
        assert_eq!(full.password, Some(Secret("p/w:".to_owned())));
        assert_eq!((full.database, full.shards), (3, Some(4)));
        assert_eq!(full.prefix.as_deref(), Some("shop"));
        assert_eq!(full.tls.unwrap().ca, Some(PathBuf::from("/a b.pem")));
        let cluster = parse("rediss+cluster://:pw@a:1,b:2,c");
        assert_eq!(cluster.place(), "a:1,b:2,c:6379");
        assert!(cluster.cluster && cluster.tls.is_some() && cluster.user.is_none());
    }

    #[test]
    fn a_wrong_url_is_refused_with_what_would_be_right_and_no_secret() {
        for (url, text) in [
            ("redis:secret", "write redis://HOST:PORT"),
            ("redis://", "write the host as"),
            ("redis://:secret@", "write the host as"),
            ("redis://h:99999", "write the host as"),
            ("redis://[::1", "write the host as"),
            ("redis://a,b", "redis+cluster://"),
            ("redis://secret@h", "a user needs a password"),
            ("redis://user:@h", "the password is empty"),
            ("redis://h/x", "the database is a number"),
            ("redis+cluster://h/1", "one database"),
            (
                "redis://:secret@h?retain=1h",
                "unknown option \"retain\"; known here are prefix, shards",
            ),
            ("redis://h?prefix=", "the option prefix is empty"),
            ("redis://h?prefix=%7Bx", "without braces"),
            ("redis://h?shards=0", "1 to 64"),
            ("redis://h?ca=x", "needs rediss://"),
            ("rediss://h?cert=x", "both options"),
        ] {
            let error = Options::parse(url, Part::Queue).expect_err(url);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(text), "{url}: {error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let shown = format!("{:?}", parse("redis://user:secret@h"));
        assert!(!shown.contains("secret"), "{shown}");
    }

    #[test]
    fn a_retention_has_a_unit() {
        assert_eq!(span("retain", "24h").unwrap(), Duration::from_secs(86_400));
        assert_eq!(span("retain", "90s").unwrap(), Duration::from_secs(90));
        for text in ["", "24", "h", "0s", "366d", "18446744073709551615d", "1w", "-1h"] {
            assert!(span("retain", text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_repository_says_how_long_it_keeps_and_how_many_have_to_know() {
        let parse = |query: &str| Options::parse(&format!("redis://h?{query}"), Part::Repo);
        let options = parse("keep=30d&replicas=2&shards=4").unwrap();
        assert_eq!(options.keep, Some(Keep::For(Duration::from_secs(30 * 86_400))));
        assert_eq!((options.replicas, options.shards), (Some(2), Some(4)));
        assert_eq!(parse("keep=forever&replicas=0").unwrap().keep, Some(Keep::Forever));
        for (query, text) in [
            ("keep=ever", "keep: a whole number and a unit: 90s, 30m, 24h or 7d, at most 365d, or"),
            ("replicas=6", "replicas: a whole number from 0 to 5"),
            ("replicas=-1", "replicas: a whole number"),
            ("retain=1h", "known here are prefix, shards, keep, replicas"),
        ] {
            let error = parse(query).expect_err(query).to_string();
            assert!(error.contains(text), "{query}: {error}");
        }
    }
}
