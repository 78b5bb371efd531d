//! A private NATS server with JetStream, in files, synced as it is by default.

use std::io::Read;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use expirer_bench::report::Outcome;
use expirer_bench::server::{self, port, target};

/// The server that `scripts/brokers` brings: it has schedules.
pub(crate) fn newest() -> PathBuf {
    target().join("brokers/nats-server")
}

/// The server of the distribution: NATS 2.9 on Debian 12.
pub(crate) fn packaged() -> PathBuf {
    PathBuf::from("nats-server")
}

/// A running server.
pub(crate) struct Server {
    pub(crate) process: server::Server,
    pub(crate) url: String,
}

impl Server {
    pub(crate) fn start(program: &Path) -> Outcome<Self> {
        let port = port()?;
        let dress = |command: &mut Command, dir: &Path| {
            command.args(["--addr", "127.0.0.1", "--port", &port.to_string()]);
            command.args(["--jetstream", "--store_dir"]).arg(dir);
        };
        let process = server::Server::start(program, dress, || greeted(port))?;
        Ok(Self { process, url: format!("nats://127.0.0.1:{port}") })
    }

    /// The URL with options after it.
    pub(crate) fn with(&self, options: &str) -> String {
        format!("{}?{options}", self.url)
    }
}

/// It greets whoever connects, once it has all that it needs.
fn greeted(port: u16) -> Outcome<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.read_exact(&mut [0; 4])?;
    Ok(())
}
