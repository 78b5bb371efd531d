//! A private Redis server: append-only, synced every second.

use std::path::Path;
use std::process::Command;

use expirer_bench::report::Outcome;
use expirer_bench::server::{self, port};
use redis::{Client, Connection, FromRedisValue};

/// A running server, killed when dropped.
pub(crate) struct Server {
    _process: server::Server,
    client: Client,
    port: u16,
}

impl Server {
    pub(crate) fn start() -> Outcome<Self> {
        let port = port()?;
        let client = Client::open(format!("redis://127.0.0.1:{port}"))?;
        let dress = |command: &mut Command, dir: &Path| {
            command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""]);
            command.arg("--dir").arg(dir);
            command.args(["--appendonly", "yes", "--appendfsync", "everysec"]);
            // A rewrite of the file would hit one contestant and not another.
            command.args(["--auto-aof-rewrite-percentage", "0"]);
        };
        let is_ready = || connect(&client).map(drop);
        let process = server::Server::start(Path::new("redis-server"), dress, is_ready)?;
        Ok(Self { _process: process, client, port })
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Removes everything.
    pub(crate) fn flush(&self) -> Outcome<()> {
        self.ask(&["FLUSHALL"])
    }

    pub(crate) fn ask<T: FromRedisValue>(&self, words: &[&str]) -> Outcome<T> {
        let mut cmd = redis::cmd(words[0]);
        cmd.arg(&words[1..]);
        Ok(cmd.query(&mut connect(&self.client)?)?)
    }

    /// A number that `INFO` gives.
    pub(crate) fn info(&self, name: &str) -> Outcome<u64> {
        let info: String = self.ask(&["INFO", "all"])?;
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(line.ok_or_else(|| format!("INFO has no {name}"))?.trim().parse()?)
    }
}

fn connect(client: &Client) -> Outcome<Connection> {
    let mut connection = client.get_connection()?;
    redis::cmd("PING").exec(&mut connection)?;
    Ok(connection)
}
