//! One Redis or Valkey server, which syncs every write to its file before it answers.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use super::certificates::Certificates;
use super::process::{Process, free_port};

/// Starting may meet a port that somebody took in between.
const TRIES: u32 = 10;
/// The password of a [secured](RedisServer::secured) server, with what has to be escaped in a URL.
pub(crate) const PASSWORD: &str = "pass/w:rd";

const REDIS: &str = "redis-server";

/// Where `scripts/brokers` puts Valkey, if it could be had.
pub(crate) fn valkey() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    Some(target.join("brokers/valkey-server")).filter(|program| program.is_file())
}

/// A private server.
#[derive(Debug)]
pub(crate) struct RedisServer {
    program: PathBuf,
    dir: TempDir,
    port: u16,
    tls: Option<(u16, Certificates)>,
    args: Vec<String>,
    process: Mutex<Option<Process>>,
}

impl RedisServer {
    /// A server with an append-only file, synced always.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// The same, with more arguments, such as `--maxmemory 4mb`.
    pub(crate) fn with(args: &[&str]) -> Self {
        Self::launch(Path::new(REDIS), args, false)
    }

    /// The same by another program, such as [`valkey`].
    pub(crate) fn by(program: &Path) -> Self {
        Self::launch(program, &[], false)
    }

    /// A server that takes [`PASSWORD`] and speaks TLS, with certificates of its own, and wants
    /// one of the client, too.
    pub(crate) fn secured() -> Self {
        Self::launch(Path::new(REDIS), &["--requirepass", PASSWORD], true)
    }

    fn launch(program: &Path, args: &[&str], tls: bool) -> Self {
        for _ in 0..TRIES {
            let dir = TempDir::new().expect("a temporary folder");
            let tls = tls.then(|| (free_port(), Certificates::generate(dir.path())));
            let (program, port) = (program.to_owned(), free_port());
            let args = args.iter().map(ToString::to_string).collect();
            let server = Self { program, dir, port, tls, args, process: Mutex::default() };
            if server.revive() {
                return server;
            }
        }
        panic!("{} does not start: is it there? see scripts/brokers", program.display());
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// The folder of its files.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The URL for a client that comes through `port`; add options with `?` or, over TLS, `&`.
    pub(crate) fn url_by(&self, port: u16) -> String {
        match &self.tls {
            Some((_, certificates)) => {
                format!("rediss://:pass%2Fw:rd@localhost:{port}?{}", certificates.options())
            }
            None => format!("redis://127.0.0.1:{port}"),
        }
    }

    /// The port that a URL for it goes to in the end.
    pub(crate) fn target(&self) -> u16 {
        self.tls.as_ref().map_or(self.port, |(port, _)| *port)
    }

    /// Ends it without warning.
    pub(crate) fn kill(&self) {
        drop(self.lock().take());
    }

    /// Starts it on the data that it left; `false` if it ended at once.
    pub(crate) fn revive(&self) -> bool {
        let log = self.dir().join("log");
        let mut process = Process::start(&self.command(), &log).expect("the server starts");
        let is_ready = process.wait_until(|| answers(self.port));
        *self.lock() = is_ready.then_some(process);
        is_ready
    }

    /// What `redis-cli` prints for a command.
    ///
    /// # Panics
    /// If it cannot be run.
    pub(crate) fn cli(&self, args: &[&str]) -> String {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port.to_string()]).args(args);
        if self.tls.is_some() {
            command.env("REDISCLI_AUTH", PASSWORD);
        }
        let output = command.output().expect("redis-cli runs");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"]).arg("--dir");
        command.arg(self.dir()).args(["--save", "", "--appendonly", "yes"]);
        command.args(["--appendfsync", "always", "--daemonize", "no"]).args(&self.args);
        if let Some((port, certificates)) = &self.tls {
            let [ca, cert, key] = certificates.server_files();
            command.args(["--tls-port", &port.to_string(), "--tls-ca-cert-file", &ca]);
            command.args(["--tls-cert-file", &cert, "--tls-key-file", &key]);
        }
        command
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a server answers a `PING`, be it that it wants a password first.
pub(crate) fn answers(port: u16) -> bool {
    ask(port).is_ok_and(|answer| answer.starts_with("+PONG") || answer.starts_with("-NOAUTH"))
}

fn ask(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 64];
    let read = stream.read(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer[..read]).into_owned())
}
