//! A private Redis server: append-only, synced every second.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::{Client, Connection, FromRedisValue};
use tempfile::TempDir;

use expirer_bench::report::{Outcome, target};

const READY_MAX: Duration = Duration::from_secs(10);

/// A running server, killed when dropped.
pub(crate) struct Server {
    process: Child,
    client: Client,
    port: u16,
    // Last: its files go when it has ended.
    _dir: TempDir,
}

impl Server {
    pub(crate) fn start() -> Outcome<Self> {
        // On the disk of the build: a temporary folder may be in memory.
        let dir = TempDir::new_in(target())?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("redis-server");
        command
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", ""])
            .arg("--dir");
        command.arg(dir.path()).args(["--appendonly", "yes", "--appendfsync", "everysec"]);
        // A rewrite of the file would hit one contestant and not another.
        command.args(["--auto-aof-rewrite-percentage", "0"]);
        let started = command.stdout(Stdio::null()).spawn();
        let process =
            started.map_err(|error| format!("redis-server (scripts/brokers): {error}"))?;
        let client = Client::open(format!("redis://127.0.0.1:{port}"))?;
        let server = Self { process, client, port, _dir: dir };
        let begun = Instant::now();
        while let Err(error) = server.connect() {
            if begun.elapsed() > READY_MAX {
                return Err(error);
            }
            std::thread::yield_now();
        }
        Ok(server)
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
        Ok(cmd.query(&mut self.connect()?)?)
    }

    /// A number that `INFO` gives.
    pub(crate) fn info(&self, name: &str) -> Outcome<u64> {
        let info: String = self.ask(&["INFO", "all"])?;
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(line.ok_or_else(|| format!("INFO has no {name}"))?.trim().parse()?)
    }

    fn connect(&self) -> Outcome<Connection> {
        let mut connection = self.client.get_connection()?;
        redis::cmd("PING").exec(&mut connection)?;
        Ok(connection)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
