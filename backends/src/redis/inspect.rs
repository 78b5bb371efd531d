//! What a server is and how it is set, at start-up: too old a version is refused, a setting that
//! can lose orders is warned of.

use std::collections::BTreeMap;
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
    rewrite_unsynced: Option<String>,
    policy: Option<String>,
}

/// Looks at the node, or at every master of a cluster: the weakest says what is durable.
///
/// # Errors
/// [`ErrorKind::Unsupported`] for too old a server, and what a call gives. That `INFO` or
/// `CONFIG` is forbidden is none: then the warning says what could not be read.
pub(crate) async fn inspect(connection: &Connection) -> Result<Inspection> {
    let mut nodes = BTreeMap::<String, Facts>::new();
    for (node, info) in ask(connection, Call::command("INFO", "")).await? {
        nodes.entry(node).or_default().info = info.as_ref().and_then(text);
    }
    for (name, fact) in SETTINGS {
        let call = Call::command("CONFIG", "").arg("GET").arg(name);
        for (node, answer) in ask(connection, call).await? {
            *fact(nodes.entry(node).or_default()) = answer.and_then(setting);
        }
    }
    let by_cluster = connection.is_cluster();
    let judged = |(node, facts): (String, Facts)| Ok((judge(&facts, &node, by_cluster)?, node));
    Ok(together(nodes.into_iter().map(judged).collect::<Result<_>>()?))
}

/// A setting by its name, and where it is kept.
type Setting = (&'static str, fn(&mut Facts) -> &mut Option<String>);

const SETTINGS: [Setting; 4] = [
    ("appendonly", |facts| &mut facts.appendonly),
    ("appendfsync", |facts| &mut facts.appendfsync),
    ("no-appendfsync-on-rewrite", |facts| &mut facts.rewrite_unsynced),
    ("maxmemory-policy", |facts| &mut facts.policy),
];

/// Each node's address and answer, where it permits that.
async fn ask(connection: &Connection, call: Call) -> Result<Vec<(String, Option<Value>)>> {
    let answers = connection.ask_masters("inspect", call).await?;
    answers.into_iter().map(|(node, answer)| Ok((node, permitted(answer)?))).collect()
}

fn setting(answer: Value) -> Option<String> {
    match answer {
        Value::Array(pair) => pair.get(1).and_then(text),
        Value::Map(pairs) => pairs.first().and_then(|(_, value)| text(value)),
        _ => None,
    }
}

/// What holds for all of them, each warning once, with the nodes that it is about.
fn together(nodes: Vec<(Inspection, String)>) -> Inspection {
    let mut all = Inspection { durable: true, ..Inspection::default() };
    let mut warned = BTreeMap::<String, Vec<String>>::new();
    for (found, node) in nodes {
        all.durable &= found.durable;
        let evicts = |policy: &String| policy != "noeviction";
        all.policy = all.policy.filter(evicts).or(found.policy);
        for text in found.warnings {
            warned.entry(text).or_default().push(node.clone());
        }
    }
    let line = |(text, nodes): (String, Vec<String>)| format!("redis {}: {text}", nodes.join(","));
    all.warnings = warned.into_iter().map(line).collect();
    all
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

/// Its warnings do not name the node.
fn judge(facts: &Facts, node: &str, by_cluster: bool) -> Result<Inspection> {
    if let Some(version) = facts.version().filter(|version| *version < VERSION_MIN) {
        let text = format!("{node}: version {version} is too old: it takes {VERSION_MIN} or later");
        return Err(Error::new(ErrorKind::Unsupported, BACKEND, "inspect", text));
    }
    let clustered = if by_cluster { None } else { clustered(facts) };
    let found = [clustered, persistence(facts), sync(facts), rewrite(facts), eviction(facts)];
    Ok(Inspection {
        durable: facts.is_appending() == Some(true),
        warnings: found.into_iter().flatten().collect(),
        policy: facts.policy().map(str::to_owned),
    })
}

fn clustered(facts: &Facts) -> Option<String> {
    facts.line("redis_mode").filter(|mode| *mode == "cluster").map(|_| {
        "it is a node of a cluster: what another node serves is refused; write redis+cluster:// \
         (or rediss+cluster://)"
            .to_owned()
    })
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

fn rewrite(facts: &Facts) -> Option<String> {
    let appending = facts.is_appending() == Some(true);
    let syncs = matches!(facts.appendfsync.as_deref(), Some("always" | "everysec"));
    let unsynced = facts.rewrite_unsynced.as_deref() == Some("yes");
    (appending && syncs && unsynced).then(|| {
        "no-appendfsync-on-rewrite is yes: while the file is rewritten, nothing is synced, and a \
         crash of the machine loses what was confirmed since, often half a minute; set it to no"
            .to_owned()
    })
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
            rewrite_unsynced: None,
            policy: some(policy),
        }
    }

    fn inspection(facts: &Facts) -> Inspection {
        together(vec![(judge(facts, "h:1", false).unwrap(), "h:1".to_owned())])
    }

    fn warnings(facts: &Facts) -> String {
        inspection(facts).warnings.join("\n")
    }

    #[test]
    fn safe_settings_are_silent() {
        let safe = facts("redis_version:7.0.15\r\n", ["yes", "always", "noeviction"]);
        assert_eq!(
            inspection(&safe),
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
    fn a_file_that_is_not_synced_while_it_is_rewritten_is_told() {
        for (sync, told) in [("always", true), ("everysec", true), ("no", false)] {
            let mut facts = facts("", ["yes", sync, "noeviction"]);
            facts.rewrite_unsynced = Some("yes".to_owned());
            let warnings = warnings(&facts);
            assert_eq!(warnings.contains("no-appendfsync-on-rewrite is yes"), told, "{warnings}");
        }
    }

    #[test]
    fn the_weakest_master_counts_and_a_warning_names_all_it_is_about() {
        let weak = facts("", ["no", "always", "noeviction"]);
        let safe = facts("", ["yes", "always", "noeviction"]);
        let evicting = facts("", ["no", "always", "volatile-lru"]);
        let nodes = [("a:1", &weak), ("b:1", &safe), ("c:1", &evicting)];
        let judged =
            nodes.map(|(node, facts)| (judge(facts, node, true).unwrap(), node.to_owned()));
        let found = together(judged.into());
        assert!(!found.durable);
        assert_eq!(found.policy.as_deref(), Some("volatile-lru"));
        assert_eq!(found.warnings.len(), 1, "{:?}", found.warnings);
        assert!(found.warnings[0].starts_with("redis a:1,c:1: appendonly is no"), "{found:?}");
    }

    #[test]
    fn a_node_of_a_cluster_is_told_unless_it_is_asked_as_one() {
        let node = facts("redis_mode:cluster", ["yes", "always", "noeviction"]);
        assert!(warnings(&node).contains("redis+cluster://"), "{}", warnings(&node));
        assert!(judge(&node, "h:1", true).unwrap().warnings.is_empty());
    }

    #[test]
    fn what_config_hides_info_tells() {
        let info = "redis_version:7.2.1\r\naof_enabled:1\r\nmaxmemory_policy:allkeys-lfu\r\n";
        let found = inspection(&facts(info, [""; 3]));
        assert!(found.durable);
        assert!(found.warnings[0].contains("allkeys-lfu"), "{found:?}");
        let found = inspection(&facts("", [""; 3]));
        assert!(!found.durable);
        assert!(found.warnings[0].contains("nobody can tell"), "{found:?}");
    }

    #[test]
    fn an_old_server_is_refused() {
        for (version, refused) in
            [("6.0.16", true), ("5.0.7", true), ("6.2.0", false), ("10.0", false)]
        {
            let info = format!("redis_version:{version}");
            let judged = judge(&facts(&info, [""; 3]), "h:1", false);
            assert_eq!(judged.is_err(), refused, "{version}");
        }
    }
}
