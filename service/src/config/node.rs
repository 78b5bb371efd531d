//! The variables of the Node worker that this service replaces.

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::ConfigError;
use super::key::Key;
use super::source::{Environment, Given, Layer, variable};

const NATS_URL: &str = "NATS_URL";
/// The connection name.
const NATS_CLIENT_ID: &str = "NATS_CLIENT_ID";
/// The stream.
const NATS_CLUSTER_ID: &str = "NATS_CLUSTER_ID";
/// `host[:port]`, the queue.
const REDIS_HOST: &str = "REDIS_HOST";

/// The bus and the queue, as far as the variables name them.
///
/// # Errors
/// One of them is empty, or not UTF-8, or no address.
pub(crate) fn from_environment(env: Environment<'_>) -> Result<Layer, ConfigError> {
    let mut layer = Layer::new();
    if let Some(given) = variable(NATS_URL, env)? {
        let name = variable(NATS_CLIENT_ID, env)?;
        let stream = variable(NATS_CLUSTER_ID, env)?;
        let text = nats(&given.text, name.as_ref(), stream.as_ref());
        layer.insert(Key::Bus, Given { text, ..given });
    }
    if let Some(given) = variable(REDIS_HOST, env)? {
        if given.text.contains("://") {
            let text = "is host[:port] without a scheme; for a whole URL use EXPIRER_QUEUE";
            return Err(ConfigError::at(&given.origin, text));
        }
        let text = format!("redis://{}", with_port(&given.text));
        layer.insert(Key::Queue, Given { text, ..given });
    }
    Ok(layer)
}

/// `http://host:4222` was written where NATS Streaming's client took it; the port is NATS's.
fn nats(url: &str, name: Option<&Given>, stream: Option<&Given>) -> String {
    let mut text = match url.split_once("://") {
        Some(("http", rest)) => format!("nats://{}", rest.trim_end_matches('/')),
        Some(_) => url.to_owned(),
        None => format!("nats://{url}"),
    };
    for (option, given) in [("name", name), ("stream", stream)] {
        if let Some(given) = given {
            let separator = if text.contains('?') { '&' } else { '?' };
            text.push(separator);
            text.push_str(option);
            text.push('=');
            text.extend(utf8_percent_encode(&given.text, QUERY));
        }
    }
    text
}

/// What stands for itself in the value of a query.
const QUERY: &percent_encoding::AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

fn with_port(host: &str) -> String {
    let has_port = host.rsplit_once(':').is_some_and(|(name, port)| {
        !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':')
    });
    if has_port { host.to_owned() } else { format!("{host}:6379") }
}
