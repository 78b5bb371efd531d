//! A private NATS server with JetStream on disk, as it is without settings.

use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::Client;
use expirer_bench::report::{Outcome, target};
use tempfile::TempDir;

const READY_MAX: Duration = Duration::from_secs(10);

/// A running server, killed when dropped.
pub(crate) struct Server {
    process: Child,
    port: u16,
    // Last: its files go when it has ended.
    _dir: TempDir,
}

impl Server {
    /// The one that `scripts/brokers` puts beside the build.
    pub(crate) fn newest() -> Outcome<Self> {
        Self::start(target().join("brokers/nats-server"))
    }

    /// The one of the distribution.
    pub(crate) fn packaged() -> Outcome<Self> {
        Self::start("nats-server".into())
    }

    fn start(program: PathBuf) -> Outcome<Self> {
        // On the disk of the build: a temporary folder may be in memory.
        let dir = TempDir::new_in(target())?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(&program);
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"]).arg(dir.path());
        let started = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let program = program.display();
        let process = started.map_err(|error| format!("{program} (scripts/brokers): {error}"))?;
        let server = Self { process, port, _dir: dir };
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            if begun.elapsed() > READY_MAX {
                return Err(format!("{program} does not answer").into());
            }
            std::thread::yield_now();
        }
        Ok(server)
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) async fn client(&self) -> Outcome<Client> {
        Ok(async_nats::connect(self.url()).await?)
    }

    /// The memory that it has, in bytes (`VmRSS`).
    pub(crate) fn memory(&self) -> Outcome<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.split_whitespace().next());
        Ok(kilobytes.ok_or("no VmRSS")?.parse::<u64>()? * 1024)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
