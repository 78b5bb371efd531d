//! Where settings come from: the command line, the environment, a file.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::ConfigError;
use super::key::Key;

/// Looks a variable up; injected, so that tests need no environment of their own.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// On the command line.
    Flag(&'static str),
    /// In a variable.
    Variable(String),
    /// In a file.
    File(PathBuf, Key),
    /// Nowhere.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Variable(name) => f.write_str(name),
            Self::File(path, key) => write!(f, "{}: key `{key}`", path.display()),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// A value as it was written.
#[derive(Clone)]
pub(crate) struct Given {
    pub(crate) text: String,
    pub(crate) origin: Origin,
}

/// What one source gives.
pub(crate) type Layer = BTreeMap<Key, Given>;

/// Reads one variable.
///
/// # Errors
/// It is empty, or not UTF-8.
pub(crate) fn variable(name: &str, env: Environment<'_>) -> Result<Option<Given>, ConfigError> {
    let Some(value) = env(name) else { return Ok(None) };
    let origin = Origin::Variable(name.to_owned());
    match value.into_string() {
        Ok(text) if text.is_empty() => {
            Err(ConfigError::at(&origin, "is empty; give it a value or unset it"))
        }
        Ok(text) => Ok(Some(Given { text, origin })),
        Err(_) => Err(ConfigError::at(&origin, "is not valid UTF-8; write it in UTF-8")),
    }
}

/// Reads all `EXPIRER_…` variables.
///
/// # Errors
/// One of them is empty, or not UTF-8.
pub(crate) fn from_environment(env: Environment<'_>) -> Result<Layer, ConfigError> {
    let mut layer = Layer::new();
    for key in Key::ALL {
        if let Some(given) = variable(&key.variable(), env)? {
            layer.insert(key, given);
        }
    }
    Ok(layer)
}

/// Reads a TOML file.
///
/// # Errors
/// It cannot be read, is no TOML, or holds an unknown key or a wrong type.
pub(crate) fn from_file(path: &Path, origin: &Origin) -> Result<Layer, ConfigError> {
    let text = fs::read_to_string(path).map_err(|error| {
        let text = format!("cannot read {}: {error}; name a readable TOML file", path.display());
        ConfigError::at(origin, &text)
    })?;
    let table: Table = toml::from_str(&text).map_err(|error| syntax(path, &text, &error))?;
    table.into_iter().map(|(name, value)| entry(path, &name, value)).collect()
}

/// The excerpt that the error brings along is left out: the line may hold a secret.
fn syntax(path: &Path, text: &str, error: &toml::de::Error) -> ConfigError {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    let line = before.matches('\n').count() + 1;
    ConfigError(format!("{} line {line}: not valid TOML: {}", path.display(), error.message()))
}

fn entry(path: &Path, name: &str, value: Value) -> Result<(Key, Given), ConfigError> {
    let Some(key) = Key::named(name) else {
        let known = Key::ALL.map(Key::name).join(", ");
        let shown: String = name.chars().take(64).collect();
        let text = format!("{}: unknown key `{shown}`; known are {known}", path.display());
        return Err(ConfigError(text));
    };
    let origin = Origin::File(path.to_owned(), key);
    match written(key, value) {
        Ok(text) => Ok((key, Given { text, origin })),
        Err(found) => {
            let text = format!("is {found}; write {}", key.file_type());
            Err(ConfigError::at(&origin, &text))
        }
    }
}

/// The value as it would stand on the command line, or what it is instead.
fn written(key: Key, value: Value) -> Result<String, String> {
    match (key, value) {
        (Key::Batch, Value::Integer(number)) => Ok(number.to_string()),
        (Key::Roles, Value::Array(roles)) => {
            let roles: Result<Vec<String>, String> = roles
                .into_iter()
                .map(|role| match role {
                    Value::String(role) => Ok(role),
                    other => Err(format!("an array with {}", article(other.type_str()))),
                })
                .collect();
            roles.map(|roles| roles.join(","))
        }
        (Key::Batch, other) => Err(article(other.type_str())),
        (_, Value::String(text)) => Ok(text),
        (_, other) => Err(article(other.type_str())),
    }
}

fn article(kind: &str) -> String {
    let article = if kind.starts_with(['a', 'i']) { "an" } else { "a" };
    format!("{article} {kind}")
}
