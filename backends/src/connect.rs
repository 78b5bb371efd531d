//! From a URL to a backend, so that a broker is swapped by configuration.
//!
//! | scheme | bus | queue | repository | cargo feature |
//! |---|---|---|---|---|
//! | `memory:` | yes | yes | yes | – |
//! | `stdio:` | yes | – | – | `stdio` |
//! | `nats://`, `tls://`, `http://` (as `nats://`) | yes | yes | yes | `nats` |
//! | `redis://`, `rediss://`, `redis+cluster://`, `rediss+cluster://` | yes | yes | yes | `redis` |

use std::sync::Arc;

use expirer_core::{DelayQueue, Error, ErrorKind, EventBus, OrderRepo, Result};

use crate::memory::{MemoryBus, MemoryQueue, MemoryRepo};

pub use crate::leaving::Leaving;
pub use crate::options::{ConnectOptions, Finite};

/// A backend that was opened, and what its operator should know.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Opened<T> {
    /// The backend.
    pub backend: T,
    /// Settings of its server that can lose orders, in plain text, without secrets.
    pub warnings: Vec<String>,
}

impl<T> Opened<T> {
    /// A backend without warnings.
    pub const fn new(backend: T) -> Self {
        Self { backend, warnings: Vec::new() }
    }

    /// Says what the operator should know.
    #[must_use]
    pub fn with_warnings(mut self, warnings: Vec<String>) -> Self {
        self.warnings = warnings;
        self
    }

    /// The same warnings on another view of the backend.
    pub fn map<U>(self, view: impl FnOnce(T) -> U) -> Opened<U> {
        Opened { backend: view(self.backend), warnings: self.warnings }
    }
}

/// A bus, and the end of its input, if it has one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Bus {
    /// The bus.
    pub bus: Arc<dyn EventBus>,
    /// Where the bus reads an input that ends.
    pub finite: Option<Arc<dyn Finite>>,
}

/// What a URL stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Memory,
    Stdio,
    Nats,
    Redis,
}

/// Each scheme that this version knows, and the cargo feature that it needs.
const SCHEMES: [(&str, Scheme, Option<&str>); 9] = [
    ("memory", Scheme::Memory, None),
    ("stdio", Scheme::Stdio, Some("stdio")),
    ("nats", Scheme::Nats, Some("nats")),
    ("tls", Scheme::Nats, Some("nats")),
    ("http", Scheme::Nats, Some("nats")),
    ("redis", Scheme::Redis, Some("redis")),
    ("rediss", Scheme::Redis, Some("redis")),
    ("redis+cluster", Scheme::Redis, Some("redis")),
    ("rediss+cluster", Scheme::Redis, Some("redis")),
];

const fn is_compiled_in(scheme: Scheme) -> bool {
    match scheme {
        Scheme::Memory => true,
        Scheme::Stdio => cfg!(feature = "stdio"),
        Scheme::Nats => cfg!(feature = "nats"),
        Scheme::Redis => cfg!(feature = "redis"),
    }
}

/// Opens the bus that a URL stands for.
///
/// # Errors
/// [`ErrorKind::Invalid`] for a broken URL or an unknown scheme, [`ErrorKind::Unsupported`] where
/// the backend has no bus or is compiled out, and what connecting gives.
#[cfg_attr(
    not(any(feature = "nats", feature = "redis")),
    expect(clippy::unused_async, reason = "backends with a server connect here")
)]
pub async fn bus(url: &str, options: &ConnectOptions) -> Result<Opened<Bus>> {
    match parse(url)? {
        Scheme::Memory => {
            let bus = MemoryBus::new(Arc::clone(&options.clock), options.seed);
            Ok(Opened::new(Bus { bus: Arc::new(bus), finite: None }))
        }
        #[cfg(feature = "stdio")]
        Scheme::Stdio => {
            let bus = Arc::new(crate::stdio::StdioBus::open(options)?);
            let finite: Arc<dyn Finite> = Arc::<crate::stdio::StdioBus>::clone(&bus);
            Ok(Opened::new(Bus { finite: Some(finite), bus }))
        }
        #[cfg(not(feature = "stdio"))]
        Scheme::Stdio => Err(without("bus", "stdio")),
        #[cfg(feature = "nats")]
        Scheme::Nats => {
            let opened = crate::nats::NatsBus::open(url, options).await?;
            Ok(opened.map(|bus| Bus { bus: Arc::new(bus), finite: None }))
        }
        #[cfg(not(feature = "nats"))]
        Scheme::Nats => Err(without("bus", "nats")),
        #[cfg(feature = "redis")]
        Scheme::Redis => {
            let opened = crate::redis::RedisBus::open(url, options).await?;
            Ok(opened.map(|bus| Bus { bus: Arc::new(bus), finite: None }))
        }
        #[cfg(not(feature = "redis"))]
        Scheme::Redis => Err(without("bus", "redis")),
    }
}

/// Opens the delay queue that a URL stands for.
///
/// # Errors
/// As for [`bus`].
#[cfg_attr(
    not(any(feature = "nats", feature = "redis")),
    expect(clippy::unused_async, reason = "backends with a server connect here")
)]
pub async fn queue(url: &str, options: &ConnectOptions) -> Result<Opened<Arc<dyn DelayQueue>>> {
    match parse(url)? {
        Scheme::Memory => {
            let queue = MemoryQueue::new(Arc::clone(&options.clock), options.seed);
            Ok(Opened::new(Arc::new(queue)))
        }
        Scheme::Stdio => Err(without("delay queue", "stdio")),
        #[cfg(feature = "nats")]
        Scheme::Nats => {
            let opened = crate::nats::NatsQueue::open(url, options).await?;
            Ok(opened.map(|queue| Arc::new(queue) as Arc<dyn DelayQueue>))
        }
        #[cfg(not(feature = "nats"))]
        Scheme::Nats => Err(without("delay queue", "nats")),
        #[cfg(feature = "redis")]
        Scheme::Redis => {
            let opened = crate::redis::RedisQueue::open(url, options).await?;
            Ok(opened.map(|queue| Arc::new(queue) as Arc<dyn DelayQueue>))
        }
        #[cfg(not(feature = "redis"))]
        Scheme::Redis => Err(without("delay queue", "redis")),
    }
}

/// Opens the order repository that a URL stands for.
///
/// # Errors
/// As for [`bus`].
#[cfg_attr(
    not(any(feature = "nats", feature = "redis")),
    expect(clippy::unused_async, reason = "backends with a server connect here")
)]
pub async fn repo(url: &str, options: &ConnectOptions) -> Result<Opened<Arc<dyn OrderRepo>>> {
    match parse(url)? {
        Scheme::Memory => {
            let clock = Arc::clone(&options.clock);
            let repo = MemoryRepo::new(clock, options.keep_ended, options.seed);
            Ok(Opened::new(Arc::new(repo)))
        }
        Scheme::Stdio => Err(without("order repository", "stdio")),
        #[cfg(feature = "nats")]
        Scheme::Nats => {
            let opened = crate::nats::NatsRepo::open(url, options).await?;
            Ok(opened.map(|repo| Arc::new(repo) as Arc<dyn OrderRepo>))
        }
        #[cfg(not(feature = "nats"))]
        Scheme::Nats => Err(without("order repository", "nats")),
        #[cfg(feature = "redis")]
        Scheme::Redis => {
            let opened = crate::redis::RedisRepo::open(url, options).await?;
            Ok(opened.map(|repo| Arc::new(repo) as Arc<dyn OrderRepo>))
        }
        #[cfg(not(feature = "redis"))]
        Scheme::Redis => Err(without("order repository", "redis")),
    }
}

/// Reads the scheme; `memory:` and `stdio:` take nothing after it. A URL may hold a password, so
/// that no error repeats what follows the scheme.
fn parse(url: &str) -> Result<Scheme> {
    let Some((name, rest)) = url.split_once(':') else {
        return Err(invalid(format!("a URL begins with a scheme and a colon; {}", known())));
    };
    let Some((_, scheme, feature)) = SCHEMES.iter().find(|(known, ..)| *known == name) else {
        let shown: String = name.chars().take(32).collect();
        return Err(invalid(format!("unknown scheme {shown:?}; {}", known())));
    };
    if !is_compiled_in(*scheme) {
        let feature = feature.unwrap_or(name);
        let text = format!("{name}: is compiled out: build with the cargo feature `{feature}`");
        return Err(Error::new(ErrorKind::Unsupported, "connect", "parse", text));
    }
    if !rest.is_empty() && matches!(scheme, Scheme::Memory | Scheme::Stdio) {
        return Err(invalid(format!("{name}: takes nothing after the colon")));
    }
    Ok(*scheme)
}

fn known() -> String {
    let names: Vec<String> = SCHEMES.iter().map(|(name, ..)| format!("{name}:")).collect();
    format!("this version knows {}", names.join(", "))
}

fn invalid(text: String) -> Error {
    Error::new(ErrorKind::Invalid, "connect", "parse", text)
}

fn without(what: &str, name: &str) -> Error {
    let text = format!("{name}: has no {what}; memory: has one");
    Error::new(ErrorKind::Unsupported, "connect", "open", text)
}

#[cfg(test)]
mod tests {
    use futures_lite::future::block_on;

    use super::*;
    use crate::memory::testing::VirtualClock;

    fn options() -> ConnectOptions {
        ConnectOptions::new(Arc::new(VirtualClock::new()), 1)
    }

    #[test]
    fn memory_is_all_three() {
        let options = options();
        block_on(async {
            assert!(bus("memory:", &options).await.unwrap().backend.finite.is_none());
            let queue = queue("memory:", &options).await.unwrap();
            assert_eq!(queue.backend.capabilities().backend, "memory");
            let repo = repo("memory:", &options).await.unwrap();
            assert_eq!(repo.backend.capabilities().backend, "memory");
            assert!(queue.warnings.is_empty() && repo.warnings.is_empty());
        });
    }

    #[test]
    fn a_wrong_url_is_refused_with_what_would_be_right_and_no_secret() {
        for (url, text) in [
            ("", "a URL begins with a scheme and a colon; this version knows memory:, stdio:"),
            ("memory", "begins with a scheme"),
            ("kafka://user:secret@host", "unknown scheme \"kafka\"; this version knows memory:"),
            ("memory://secret@host", "memory: takes nothing after the colon"),
            ("MEMORY:", "unknown scheme"),
        ] {
            let error = block_on(bus(url, &options())).expect_err(url);
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(error.to_string().contains(text), "{url}: {error}");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn what_a_backend_does_not_have_is_said() {
        let expected =
            if cfg!(feature = "stdio") { "stdio: has no" } else { "cargo feature `stdio`" };
        let queue = block_on(queue("stdio:", &options())).expect_err("no queue");
        let repo = block_on(repo("stdio:", &options())).expect_err("no repository");
        for error in [queue, repo] {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
