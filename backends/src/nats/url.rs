//! What a NATS URL says: `nats[tls]://[USER:PASSWORD@]HOST[:4222][,HOST…][?option=…&…]`; a login
//! without a colon is a token. `http://` is what the Node worker's environment wrote for `nats://`.

use std::path::PathBuf;

use expirer_core::{Error, ErrorKind, Result};

use super::BACKEND;
use crate::keep::Keep;
use crate::url::{self, Node, Secret, Tls};

const PORT: u16 = 4222;
const NAME_BYTES_MAX: usize = 128;
/// What becomes part of names of streams, buckets and consumers, which become names of folders.
const TOKEN_BYTES_MAX: usize = 64;
/// As many as a server allows.
const REPLICAS_MAX: usize = 5;

/// Which part a URL is for: each takes the options that mean something to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Queue,
    Bus,
    Repo,
}

/// What every part takes.
const OPTIONS: [&str; 8] = ["prefix", "replicas", "name", "creds", "nkey", "ca", "cert", "key"];

impl Part {
    const fn own_options(self) -> &'static [&'static str] {
        match self {
            Self::Queue => &["via"],
            Self::Bus => &["stream"],
            Self::Repo => &["keep"],
        }
    }

    fn takes(self, option: &str) -> bool {
        self.own_options().contains(&option) || OPTIONS.contains(&option)
    }

    fn options(self) -> String {
        [self.own_options(), &OPTIONS].concat().join(", ")
    }
}

/// A URL, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) nodes: Vec<Node>,
    pub(crate) tls: Option<Tls>,
    pub(crate) login: Login,
    /// What precedes every subject, stream, bucket and consumer.
    pub(crate) prefix: Option<String>,
    /// How many servers keep a copy of each stream, if the URL says so.
    pub(crate) replicas: Option<usize>,
    /// What the server calls the connection.
    pub(crate) name: Option<String>,
    /// The stream of the bus, if the URL says so.
    pub(crate) stream: Option<String>,
    /// How the queue puts off, if the URL says so.
    pub(crate) via: Option<Via>,
    /// How long the repository keeps what has ended, if the URL says so.
    pub(crate) keep: Option<Keep>,
}

/// Who we are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Login {
    #[default]
    None,
    Password(String, Secret),
    Token(Secret),
    /// A file with the seed of an NKey.
    Nkey(PathBuf),
    /// A credentials file: a JWT and its seed.
    Credentials(PathBuf),
}

/// How the queue puts off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// By the server's schedules (2.12 and later).
    Schedule,
    /// By redelivery.
    Redelivery,
}

impl Options {
    /// Reads a URL for one part.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`]: what is wrong and what would be right; never the password.
    pub(crate) fn parse(url: &str, part: Part) -> Result<Self> {
        let (scheme, rest) =
            url.split_once("://").ok_or_else(|| invalid("write nats://HOST:PORT or tls://…"))?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let authority = place.strip_suffix('/').unwrap_or(place);
        if authority.contains('/') {
            return Err(invalid("nothing but options (?…) may follow the host"));
        }
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (credentials(login)?, hosts),
            None => (Login::None, authority),
        };
        let nodes = hosts.split(',').map(|host| Node::parse(host, PORT).map_err(invalid));
        let mut options = Self {
            nodes: nodes.collect::<Result<_>>()?,
            tls: (scheme == "tls").then(Tls::default),
            login,
            prefix: None,
            replicas: None,
            name: None,
            stream: None,
            via: None,
            keep: None,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            options.set(pair, part)?;
        }
        options.checked()
    }

    fn set(&mut self, pair: &str, part: Part) -> Result<()> {
        let (option, value) = pair.split_once('=').unwrap_or((pair, ""));
        if !part.takes(option) {
            let shown: String = option.chars().take(32).collect();
            let known = part.options();
            return Err(invalid(format!("unknown option {shown:?}; known here are {known}")));
        }
        let value = url::decoded(value, option).map_err(invalid)?;
        if value.is_empty() {
            return Err(invalid(format!("the option {option} is empty")));
        }
        match option {
            "prefix" => self.prefix = Some(token(option, value)?),
            "stream" => self.stream = Some(token(option, value)?),
            "replicas" => self.replicas = Some(replicas(&value)?),
            "name" => self.name = Some(name(value)?),
            "via" => self.via = Some(via(&value)?),
            "keep" => self.keep = Some(Keep::parse(option, &value).map_err(invalid)?),
            "creds" => self.log_in(Login::Credentials(PathBuf::from(value)))?,
            "nkey" => self.log_in(Login::Nkey(PathBuf::from(value)))?,
            _ => self.set_file(option, PathBuf::from(value))?,
        }
        Ok(())
    }

    fn log_in(&mut self, login: Login) -> Result<()> {
        if self.login != Login::None {
            return Err(invalid("give one of USER:PASSWORD@, TOKEN@, creds and nkey alone"));
        }
        self.login = login;
        Ok(())
    }

    fn set_file(&mut self, option: &str, path: PathBuf) -> Result<()> {
        let Some(tls) = &mut self.tls else {
            return Err(invalid(format!("the option {option} needs tls://")));
        };
        match option {
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

fn credentials(login: &str) -> Result<Login> {
    let (user, password) = match login.split_once(':') {
        Some((user, password)) => (Some(user), password),
        None => (None, login),
    };
    let user = user.map(|user| url::decoded(user, "the user")).transpose().map_err(invalid)?;
    let secret = url::decoded(password, "the password or token").map_err(invalid)?;
    if secret.is_empty() || user.as_ref().is_some_and(String::is_empty) {
        return Err(invalid("write the login as USER:PASSWORD@ or TOKEN@, neither of it empty"));
    }
    Ok(match user {
        Some(user) => Login::Password(user, Secret(secret)),
        None => Login::Token(Secret(secret)),
    })
}

fn token(option: &str, text: String) -> Result<String> {
    let fits = text.len() <= TOKEN_BYTES_MAX
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if fits {
        return Ok(text);
    }
    Err(invalid(format!("{option}: 1 to {TOKEN_BYTES_MAX} of A-Z a-z 0-9 - _")))
}

fn name(text: String) -> Result<String> {
    if text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control) {
        return Ok(text);
    }
    Err(invalid(format!("name: at most {NAME_BYTES_MAX} bytes without control characters")))
}

fn replicas(text: &str) -> Result<usize> {
    match text.parse() {
        Ok(replicas) if (1..=REPLICAS_MAX).contains(&replicas) => Ok(replicas),
        _ => Err(invalid(format!("replicas: a whole number from 1 to {REPLICAS_MAX}"))),
    }
}

fn via(text: &str) -> Result<Via> {
    match text {
        "schedule" => Ok(Via::Schedule),
        "redelivery" => Ok(Via::Redelivery),
        _ => Err(invalid("via: schedule or redelivery")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Options {
        Options::parse(url, Part::Bus).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    #[test]
    fn says_where_and_as_whom() {
        let plain = parse("nats://localhost");
        assert_eq!(plain.place(), "localhost:4222");
        assert_eq!((plain.tls, plain.login), (None, Login::None));
        assert_eq!(parse("http://nats-srv:4222/").place(), "nats-srv:4222");
        let full = parse(
            "tls://us%40er:p%2Fw:@[::1]:7000,b?prefix=shop&replicas=3&stream=t_1&name=abc%20d&ca=/a%20b",
        );
        assert_eq!(full.place(), "[::1]:7000,b:4222");
        assert_eq!(full.login, Login::Password("us@er".to_owned(), Secret("p/w:".to_owned())));
        assert_eq!((full.prefix.as_deref(), full.stream.as_deref()), (Some("shop"), Some("t_1")));
        assert_eq!((full.replicas, full.name.as_deref()), (Some(3), Some("abc d")));
        assert_eq!(full.tls.unwrap().ca, Some(PathBuf::from("/a b")));
        assert_eq!(parse("nats://s3cret@h").login, Login::Token(Secret("s3cret".to_owned())));
        assert_eq!(parse("nats://h?nkey=/n").login, Login::Nkey(PathBuf::from("/n")));
        assert_eq!(parse("nats://h?creds=/c").login, Login::Credentials(PathBuf::from("/c")));
    }

    #[test]
    fn each_part_has_options_of_its_own() {
        let via = Options::parse("nats://h?via=redelivery", Part::Queue).unwrap().via;
        assert_eq!(via, Some(Via::Redelivery));
        for (part, url) in [
            (Part::Queue, "nats://h?stream=s"),
            (Part::Bus, "nats://h?via=schedule"),
            (Part::Repo, "nats://h?via=schedule"),
        ] {
            let error = Options::parse(url, part).expect_err(url).to_string();
            assert!(error.contains("known here are"), "{error}");
        }
    }

    #[test]
    fn a_wrong_url_is_refused_with_what_would_be_right_and_no_secret() {
        for (url, text) in [
            ("nats:secret", "write nats://HOST:PORT"),
            ("nats://", "write the host as"),
            ("nats://secret@", "write the host as"),
            ("nats://h:99999", "write the host as"),
            ("nats://a,,b", "write the host as"),
            ("nats://h/1", "nothing but options"),
            ("nats://user:@h", "neither of it empty"),
            ("nats://:secret@h", "neither of it empty"),
            ("nats://@h", "neither of it empty"),
            ("nats://secret@h?creds=/c", "alone"),
            ("nats://h?nkey=/n&creds=/secret", "alone"),
            (
                "nats://secret@h?shards=4",
                "unknown option \"shards\"; known here are stream, prefix",
            ),
            ("nats://h?prefix=", "the option prefix is empty"),
            ("nats://h?prefix=a.b", "1 to 64 of A-Z"),
            ("nats://h?stream=a%20b", "1 to 64 of A-Z"),
            ("nats://h?replicas=0", "1 to 5"),
            ("nats://h?name=%0A", "without control characters"),
            ("nats://h?ca=x", "needs tls://"),
            ("tls://h?cert=x", "both options"),
        ] {
            let error = Options::parse(url, Part::Bus).expect_err(url);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(text), "{url}: {error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
        let shown = format!("{:?}", parse("nats://user:secret@h"));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
