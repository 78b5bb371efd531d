//! One Redis or Valkey server, which syncs every write to its file before it answers.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tempfile::TempDir;

use super::certificates::Certificates;
use super::ports::Port;
use super::process::{Process, installed};

/// Starting may meet a port that somebody took in between.
const TRIES: u32 = 10;
/// The password of a [secured](RedisServer::secured) server, with what has to be escaped in a URL.
pub(crate) const PASSWORD: &str = "pass/w:rd";

const REDIS: &str = "redis-server";
const LOG: &str = "log";
/// What a server writes there once it has read its files and listens.
const READY: &str = "Ready to accept connections";

/// Where `scripts/brokers` puts Valkey, if it could be had.
pub(crate) fn valkey() -> Option<PathBuf> {
    installed("valkey-server")
}

/// How a server is reached.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access<'a> {
    /// By everybody.
    Open,
    /// With [`PASSWORD`], over TLS and with certificates of its own; they want one of the client.
    Secured,
    /// The same with the certificates of another one.
    SecuredLike(&'a RedisServer),
}

/// A private server.
#[derive(Debug)]
pub(crate) struct RedisServer {
    program: PathBuf,
    dir: TempDir,
    port: Port,
    tls: Option<(Port, Arc<Certificates>)>,
    /// Where the nodes of a cluster speak to each other.
    bus: Option<Port>,
    args: Mutex<Vec<String>>,
    process: Mutex<Option<Process>>,
}

impl RedisServer {
    /// A server with an append-only file, synced always.
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// The same, with more arguments, such as `--maxmemory 4mb`.
    pub(crate) fn with(args: &[&str]) -> Self {
        Self::launch(Path::new(REDIS), args, Access::Open, false)
    }

    /// The same by another program, such as [`valkey`].
    pub(crate) fn by(program: &Path) -> Self {
        Self::launch(program, &[], Access::Open, false)
    }

    /// A server that takes [`PASSWORD`] and speaks TLS, with certificates of its own, and wants
    /// one of the client, too.
    pub(crate) fn secured() -> Self {
        Self::launch(Path::new(REDIS), &[], Access::Secured, false)
    }

    /// One that can be part of a cluster.
    pub(super) fn node(args: &[&str], access: Access<'_>) -> Self {
        Self::launch(Path::new(REDIS), args, access, true)
    }

    fn launch(program: &Path, args: &[&str], access: Access<'_>, is_node: bool) -> Self {
        let mut said = String::new();
        for _ in 0..TRIES {
            let dir = TempDir::new().expect("a temporary folder");
            let certificates = match access {
                Access::Open => None,
                Access::Secured => Some(Arc::new(Certificates::generate(dir.path()))),
                Access::SecuredLike(other) => other.certificates().map(Arc::clone),
            };
            let tls = certificates.map(|certificates| (Port::reserve(), certificates));
            let bus = is_node.then(Port::reserve);
            let (program, port) = (program.to_owned(), Port::reserve());
            let args = Mutex::new(args.iter().map(ToString::to_string).collect());
            let server = Self { program, dir, port, tls, bus, args, process: Mutex::default() };
            if server.revive() {
                return server;
            }
            said = server.said(0);
        }
        panic!("{} does not start, see scripts/brokers; it says: {said}", program.display());
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
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
        self.tls.as_ref().map_or(&self.port, |(port, _)| port).number()
    }

    /// What a client needs where the server is secured.
    pub(super) fn certificates(&self) -> Option<&Arc<Certificates>> {
        self.tls.as_ref().map(|(_, certificates)| certificates)
    }

    /// Ends it without warning.
    pub(crate) fn kill(&self) {
        drop(self.lock().take());
    }

    /// Starts it on the data that it left; `false` if it ended at once.
    pub(crate) fn revive(&self) -> bool {
        let log = self.dir().join(LOG);
        let begin = fs::metadata(&log).map_or(0, |file| file.len());
        let mut process = Process::start(&self.command(), &log).expect("the server starts");
        // Its own word: on its port, another server may answer while this one ends.
        let is_ready = process.wait_until(|| self.said(begin).contains(READY));
        *self.lock() = is_ready.then_some(process);
        is_ready
    }

    /// Sets an option, now and with each later start.
    ///
    /// # Panics
    /// If there is none of this name, or the server is away.
    pub(super) fn set(&self, option: &str, value: &str) {
        assert_eq!(self.cli(&["CONFIG", "SET", option, value]), "OK", "{option} {value}");
        let mut args = self.args.lock().unwrap_or_else(PoisonError::into_inner);
        args.extend([format!("--{option}"), value.to_owned()]);
    }

    /// What `redis-cli` prints for a command.
    ///
    /// # Panics
    /// If it cannot be run.
    pub(crate) fn cli(&self, args: &[&str]) -> String {
        let output = self.redis_cli().args(args).output().expect("redis-cli runs");
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// What one `redis-cli` prints for commands, a line each: theirs with the quotes of a shell.
    ///
    /// # Panics
    /// If it cannot be run.
    pub(crate) fn cli_lines(&self, commands: &[String]) -> Vec<String> {
        let mut cli = self.redis_cli();
        let cli = cli.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut cli = cli.spawn().expect("redis-cli runs");
        let mut input = cli.stdin.take().expect("a pipe");
        let text = commands.join("\n") + "\n";
        let writing = std::thread::spawn(move || input.write_all(text.as_bytes()));
        let output = cli.wait_with_output().expect("redis-cli ends");
        writing.join().expect("it writes").expect("redis-cli reads");
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }

    fn redis_cli(&self) -> Command {
        let mut command = Command::new("redis-cli");
        command.args(["-p", &self.port().to_string()]);
        if self.tls.is_some() {
            command.env("REDISCLI_AUTH", PASSWORD);
        }
        command
    }

    /// What its log holds from a place on.
    fn said(&self, begin: u64) -> String {
        let log = fs::read(self.dir().join(LOG)).unwrap_or_default();
        let begin = usize::try_from(begin).unwrap_or(usize::MAX);
        String::from_utf8_lossy(log.get(begin..).unwrap_or_default()).into_owned()
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--port", &self.port().to_string(), "--bind", "127.0.0.1"]).arg("--dir");
        command.arg(self.dir()).args(["--save", "", "--appendonly", "yes"]);
        command.args(["--appendfsync", "always", "--daemonize", "no"]);
        if let Some((port, certificates)) = &self.tls {
            command.args(["--tls-port", &port.number().to_string(), "--requirepass", PASSWORD]);
            command.args(certificates.server_args());
        }
        if let Some(bus) = &self.bus {
            command.args(["--cluster-enabled", "yes", "--cluster-port", &bus.number().to_string()]);
        }
        command.args(self.args.lock().unwrap_or_else(PoisonError::into_inner).iter());
        command
    }

    fn lock(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
