//! The configuration: command line, then environment, then file, then the Node worker's
//! variables, then defaults.

mod key;
mod node;
mod redacted;
mod source;
#[cfg(test)]
mod tests;
mod value;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub(crate) use key::Key;
pub(crate) use redacted::Redacted;
pub(crate) use source::{Environment, Given, Layer, Origin};
pub(crate) use value::{BackendUrl, LogFormat, Roles, Token, Wrong, duration};

/// Why a configuration is refused: what is wrong, where, what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConfigError(pub(crate) String);

impl ConfigError {
    fn at(origin: &Origin, text: &str) -> Self {
        Self(format!("{origin} {text}"))
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}

/// A value, and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Chosen<T> {
    pub(crate) value: T,
    pub(crate) origin: Origin,
}

impl<T> Chosen<T> {
    pub(crate) fn is_default(&self) -> bool {
        self.origin == Origin::Default
    }
}

/// What `serve` needs to know.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) bus: Chosen<BackendUrl>,
    pub(crate) queue: Chosen<BackendUrl>,
    pub(crate) repo: Chosen<BackendUrl>,
    pub(crate) roles: Chosen<Roles>,
    pub(crate) http: Option<Chosen<String>>,
    pub(crate) http_token: Option<Token>,
    pub(crate) keep_ended: Duration,
    pub(crate) payment_wait: Duration,
    pub(crate) drain_timeout: Duration,
    pub(crate) batch: usize,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
}

impl Config {
    /// Puts the configuration together from what the command line gave, the file that it named,
    /// and the environment.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub(crate) fn resolve(
        flags: Layer,
        file: Option<PathBuf>,
        env: Environment<'_>,
    ) -> Result<Self, ConfigError> {
        let file = match file {
            Some(path) => Some((path, Origin::Flag("config"))),
            None => source::variable("EXPIRER_CONFIG", env)?
                .map(|given| (PathBuf::from(given.text), given.origin)),
        };
        let file = file.map(|(path, origin)| source::from_file(&path, &origin)).transpose()?;
        let mut layers = vec![flags, source::from_environment(env)?];
        layers.extend(file);
        Layers { layers, node: node::from_environment(env)? }.config()
    }
}

/// The sources, the strongest first.
struct Layers {
    layers: Vec<Layer>,
    node: Layer,
}

impl Layers {
    fn config(&self) -> Result<Config, ConfigError> {
        let bus = self.choose(Key::Bus, BackendUrl::parse)?;
        let queue = self.choose(Key::Queue, BackendUrl::parse)?;
        let roles = self.roles(bus.is_nodes || queue.is_nodes)?;
        Ok(Config {
            http: self.http(&bus.chosen.value)?,
            bus: bus.chosen,
            queue: queue.chosen,
            repo: self.choose(Key::Repo, BackendUrl::parse)?.chosen,
            roles,
            http_token: self
                .given(Key::HttpToken)
                .map(|given| read(given, Token::parse))
                .transpose()?,
            keep_ended: self.value(Key::KeepEnded, duration)?,
            payment_wait: self.value(Key::PaymentWait, duration)?,
            drain_timeout: self.value(Key::DrainTimeout, duration)?,
            batch: self.value(Key::Batch, value::batch)?,
            log: self.value(Key::Log, value::log_filter)?,
            log_format: self.value(Key::LogFormat, LogFormat::parse)?,
        })
    }

    /// What the strongest source gives, the Node worker's variables aside.
    fn given(&self, key: Key) -> Option<&Given> {
        self.layers.iter().find_map(|layer| layer.get(&key))
    }

    fn choose<T>(&self, key: Key, parse: Parse<T>) -> Result<Choice<T>, ConfigError> {
        let (given, is_nodes) = match (self.given(key), self.node.get(&key)) {
            (Some(given), _) => (given.clone(), false),
            (None, Some(given)) => (given.clone(), true),
            (None, None) => (default(key), false),
        };
        let value = read(&given, parse)?;
        Ok(Choice { chosen: Chosen { value, origin: given.origin }, is_nodes })
    }

    fn value<T>(&self, key: Key, parse: Parse<T>) -> Result<T, ConfigError> {
        self.choose(key, parse).map(|choice| choice.chosen.value)
    }

    /// Where bus or queue are the Node worker's, the orders service is somebody else's.
    fn roles(&self, is_nodes: bool) -> Result<Chosen<Roles>, ConfigError> {
        if is_nodes && self.given(Key::Roles).is_none() {
            return Ok(Chosen { value: Roles::worker(), origin: Origin::Default });
        }
        self.choose(Key::Roles, Roles::parse).map(|choice| choice.chosen)
    }

    /// A run over standard input serves no HTTP unless told so.
    fn http(&self, bus: &BackendUrl) -> Result<Option<Chosen<String>>, ConfigError> {
        if bus.has_scheme("stdio") && self.given(Key::Http).is_none() {
            return Ok(None);
        }
        let Chosen { value, origin } = self.choose(Key::Http, value::http)?.chosen;
        Ok(value.map(|value| Chosen { value, origin }))
    }
}

/// A value, and whether the Node worker's variables gave it.
struct Choice<T> {
    chosen: Chosen<T>,
    is_nodes: bool,
}

type Parse<T> = fn(&str) -> Result<T, Wrong>;

fn read<T>(given: &Given, parse: Parse<T>) -> Result<T, ConfigError> {
    parse(&given.text).map_err(|wrong| ConfigError::at(&given.origin, &wrong))
}

fn default(key: Key) -> Given {
    Given { text: key.default_text().to_owned(), origin: Origin::Default }
}
