//! Lua scripts and plain commands, ready to be sent.

use std::fmt;
use std::sync::OnceLock;

use redis::{Arg, Cmd, Pipeline, ToRedisArgs};

/// A script, by its text. What it takes and gives stands at its top.
pub(crate) struct Script {
    name: &'static str,
    text: &'static str,
    hash: OnceLock<String>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Script {
    pub(crate) const fn new(name: &'static str, text: &'static str) -> Self {
        Self { name, text, hash: OnceLock::new() }
    }

    fn hash(&self) -> &str {
        self.hash.get_or_init(|| redis::Script::new(self.text).get_hash().to_owned())
    }

    /// A call with these keys, the first of which says where in a cluster it runs; append the
    /// arguments.
    pub(crate) fn on(&'static self, keys: &[&str]) -> Call {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(self.hash()).arg(keys.len()).arg(keys);
        let tag = keys.first().map_or("", |key| hash_tag(key)).to_owned();
        Call { tag, cmd, script: Some(self) }
    }
}

/// One command or script call, and where in a cluster it belongs.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    tag: String,
    cmd: Cmd,
    script: Option<&'static Script>,
}

impl Call {
    /// A plain command that belongs where `key` is; append its arguments, the key among them.
    pub(crate) fn command(name: &str, key: &str) -> Self {
        Self { tag: hash_tag(key).to_owned(), cmd: redis::cmd(name), script: None }
    }

    /// Appends one argument, or several.
    pub(crate) fn arg(mut self, arg: impl ToRedisArgs) -> Self {
        self.cmd.arg(arg);
        self
    }

    /// Appends to what is there, for loops.
    pub(crate) fn push(&mut self, arg: impl ToRedisArgs) {
        self.cmd.arg(arg);
    }

    /// What calls of one pipeline have in common in a cluster.
    pub(crate) fn tag(&self) -> &str {
        &self.tag
    }

    pub(crate) const fn script(&self) -> Option<&'static Script> {
        self.script
    }

    pub(crate) fn into_cmd(self) -> Cmd {
        self.cmd
    }
}

/// The same call with the script's text instead of its hash, which also loads it there.
pub(crate) fn with_text(cmd: &Cmd, script: &'static Script) -> Cmd {
    let mut whole = redis::cmd("EVAL");
    whole.arg(script.text);
    for arg in cmd.args_iter().skip(2) {
        if let Arg::Simple(bytes) = arg {
            whole.arg(bytes);
        }
    }
    whole
}

/// Makes one pipeline of calls.
pub(crate) fn pipeline(cmds: impl IntoIterator<Item = Cmd>) -> Pipeline {
    let mut pipeline = Pipeline::new();
    for cmd in cmds {
        pipeline.add_command(cmd);
    }
    pipeline
}

/// What Redis Cluster hashes of a key: the text between the first braces, else the whole.
fn hash_tag(key: &str) -> &str {
    let Some((_, rest)) = key.split_once('{') else { return key };
    match rest.split_once('}') {
        Some((tag, _)) if !tag.is_empty() => tag,
        _ => key,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static ECHO: Script = Script::new("echo", "return ARGV[1]");

    fn words(cmd: &Cmd) -> Vec<String> {
        let text = |arg: Arg<&[u8]>| match arg {
            Arg::Simple(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            _ => String::new(),
        };
        cmd.args_iter().map(text).collect()
    }

    #[test]
    fn a_call_knows_its_place_and_its_text() {
        let call = ECHO.on(&["{a:q:0}:due", "k"]).arg("x");
        assert_eq!(call.tag(), "a:q:0");
        let words_by_hash = words(&call.cmd);
        assert_eq!(words_by_hash[0], "EVALSHA");
        assert_eq!(words_by_hash[1].len(), 40);
        let whole = words(&with_text(&call.cmd, &ECHO));
        assert_eq!(whole, ["EVAL", "return ARGV[1]", "2", "{a:q:0}:due", "k", "x"]);
    }

    #[test]
    fn tags_are_what_a_cluster_takes_them_for() {
        for (key, tag) in [("a{b}c", "b"), ("a{}c", "a{}c"), ("abc", "abc"), ("{a{b}", "a{b")] {
            assert_eq!(hash_tag(key), tag);
        }
    }
}
