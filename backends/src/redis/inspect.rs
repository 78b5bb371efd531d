//! What a server is and how it is set, at start-up: too old a version is refused, a setting that
//! can lose orders is warned of.

use std::fmt;

use expirer_core::{Error, ErrorKind, Result};
use redis::Value;

use super::BACKEND;
use super::connection::Connection;
use super::script::Call;

/// The oldest version: `ZMSCORE` (fencing of many leases in one step) and `XAUTOCLAIM` came with it.
const VERSION_MIN: Version = Version(6, 2);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Inspection {
    /// What is confirmed survives a restart of the server; `false` where nobody could tell.
    pub(crate) durable: bool,
    /// Settings that can lose orders, in plain text.
    pub(crate) warnings: Vec<String>,
    /// What a full server throws away, where somebody could tell.
    pub(crate) policy: Option<String>,
}

/// What the server let us read.
#[derive(Clone, Debug, Default)]
struct Facts {
    info: Option<String>,
    appendonly: Option<String>,
    appendfsync: Option<String>,
    policy: Option<String>,
}

/// Looks at one node: in a cluster, at the one that answers; all are expected to be set alike.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for too old a server, and what a call gives. That `INFO` or
/// `CONFIG` is forbidden is none: then the warning says what could not be read.
pub(crate) async fn inspect(connection: &Connection) -> Result<Inspection> {
    let facts = Facts {
        info: info(connection).await?,
        appendonly: setting(connection, "appendonly").await?,
        appendfsync: setting(connection, "appendfsync").await?,
        policy: setting(connection, "maxmemory-policy").await?,
    };
    judge(&facts, connection.place())
}

async fn info(connection: &Connection) -> Result<Option<String>> {
    let call = Call::command("INFO", "");
    Ok(permitted(connection.call::<Value>("inspect", call).await)?.as_ref().and_then(text))
}

async fn setting(connection: &Connection, name: &str) -> Result<Option<String>> {
    let call = Call::command("CONFIG", "").arg("GET").arg(name);
    let answer = permitted(connection.call::<Value>("inspect", call).await)?;
    Ok(match answer {
        Some(Value::Array(pair)) => pair.get(1).and_then(text),
        Some(Value::Map(pairs)) => pairs.first().and_then(|(_, value)| text(value)),
        _ => None,
    })
}

/// Hosted servers forbid these commands or do not have them.
fn permitted(answer: Result<Value>) -> Result<Option<Value>> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), ErrorKind::Denied | ErrorKind::Unsupported) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.clone()),
        // A cluster's client may answer by node.
        Value::Map(pairs) => pairs.first().and_then(|(_, value)| text(value)),
        Value::Array(parts) => parts.last().and_then(text),
        _ => None,
    }
}

impl Facts {
    fn line(&self, name: &str) -> Option<&str> {
        let lines = self.info.as_deref()?.lines();
        lines.filter_map(|line| line.split_once(':')).find(|(key, _)| *key == name).map(|(_, v)| v)
    }

    fn version(&self) -> Option<Version> {
        let mut parts = self.line("redis_version")?.split('.').map(str::parse);
        Some(Version(parts.next()?.ok()?, parts.next()?.ok()?))
    }

    fn is_appending(&self) -> Option<bool> {
        let said = self.appendonly.as_deref().map(|value| value == "yes");
        said.or_else(|| self.line("aof_enabled").map(|value| value == "1"))
    }

    fn policy(&self) -> Option<&str> {
        self.policy.as_deref().or_else(|| self.line("maxmemory_policy"))
    }
}

fn judge(facts: &Facts, place: &str) -> Result<Inspection> {
    if let Some(version) = facts.version().filter(|version| *version < VERSION_MIN) {
        let text =
            format!("{place}: version {version} is too old: it takes {VERSION_MIN} or later");
        return Err(Error::new(ErrorKind::Unsupported, BACKEND, "inspect", text));
    }
    let found = [persistence(facts), sync(facts), eviction(facts)];
    let warning = |text: String| format!("redis {place}: {text}");
    let warnings = found.into_iter().flatten().map(warning).collect();
    let policy = facts.policy().map(str::to_owned);
    Ok(Inspection { durable: facts.is_appending() == Some(true), warnings, policy })
}

fn persistence(facts: &Facts) -> Option<String> {
    match facts.is_appending() {
        Some(true) => None,
        Some(false) => Some(
            "appendonly is no: a restart loses what was confirmed since the last snapshot, or all \
             of it; set appendonly yes"
                .to_owned(),
        ),
        None => Some(
            "CONFIG and INFO are forbidden, so that nobody can tell whether it keeps what it \
             confirms: it is taken for one that does not; see that appendonly is yes"
                .to_owned(),
        ),
    }
}

fn sync(facts: &Facts) -> Option<String> {
    let appending = facts.is_appending() == Some(true);
    match facts.appendfsync.as_deref().filter(|_| appending)? {
        "always" => None,
        "everysec" => Some(
            "appendfsync is everysec: a crash of the machine loses up to two seconds of what was \
             confirmed; set appendfsync always where that counts"
                .to_owned(),
        ),
        other => Some(format!(
            "appendfsync is {other}: a crash of the machine loses what the system has not yet \
             written, often half a minute; set appendfsync always"
        )),
    }
}

/// No pending timer and no open order has a time to live, so that only `allkeys-*` evicts them.
fn eviction(facts: &Facts) -> Option<String> {
    let policy = facts.policy().filter(|policy| policy.starts_with("allkeys"))?;
    Some(format!(
        "maxmemory-policy is {policy}: a full server throws orders away; set noeviction, with \
         which it refuses new ones instead"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(info: &str, [appendonly, appendfsync, policy]: [&str; 3]) -> Facts {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Facts {
            info: some(info),
            appendonly: some(appendonly),
            appendfsync: some(appendfsync),
            policy: some(policy),
        }
    }

    fn warnings(facts: &Facts) -> String {
        judge(facts, "h:1").unwrap().warnings.join("\n")
    }

    #[test]
    fn safe_settings_are_silent() {
        let safe = facts("redis_version:7.0.15\r\n", ["yes", "always", "noeviction"]);
        assert_eq!(
            judge(&safe, "h:1").unwrap(),
            Inspection { durable: true, warnings: vec![], policy: Some("noeviction".to_owned()) }
        );
    }

    #[test]
    fn each_setting_that_can_lose_orders_is_named() {
        let some = warnings(&facts("redis_version:7.0.15", ["no", "everysec", "allkeys-lru"]));
        assert!(some.contains("appendonly is no") && some.contains("is allkeys-lru"), "{some}");
        assert!(!some.contains("appendfsync"), "it means nothing then: {some}");
        let some = warnings(&facts("", ["yes", "everysec", "volatile-lru"]));
        assert!(some.starts_with("redis h:1: appendfsync is everysec"), "{some}");
        assert_eq!(some.lines().count(), 1);
    }

    #[test]
    fn what_config_hides_info_tells() {
        let info = "redis_version:7.2.1\r\naof_enabled:1\r\nmaxmemory_policy:allkeys-lfu\r\n";
        let found = judge(&facts(info, [""; 3]), "h:1").unwrap();
        assert!(found.durable);
        assert!(found.warnings[0].contains("allkeys-lfu"), "{found:?}");
        let found = judge(&facts("", [""; 3]), "h:1").unwrap();
        assert!(!found.durable);
        assert!(found.warnings[0].contains("nobody can tell"), "{found:?}");
    }

    #[test]
    fn an_old_server_is_refused() {
        for (version, refused) in
            [("6.0.16", true), ("5.0.7", true), ("6.2.0", false), ("10.0", false)]
        {
            let judged = judge(&facts(&format!("redis_version:{version}"), [""; 3]), "h:1");
            assert_eq!(judged.is_err(), refused, "{version}");
        }
    }
}
