//! One NATS server with JetStream, which keeps its data when it is killed.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::certificates::Certificates;
use super::ports::Port;
use super::process::{Process, installed};

/// Starting may meet a port that somebody took in between.
const TRIES: u32 = 10;
/// What a [secured](NatsServer::secured) server takes, the password with what has to be escaped in
/// a URL.
pub(crate) const USER: &str = "expirer";
pub(crate) const PASSWORD: &str = "pass/w:rd";
/// What a [server with a token](NatsServer::with_token) takes.
pub(crate) const TOKEN: &str = "s3cret";

/// Where the data goes: a variable of the configuration, from the environment.
const STORE_DIR: &str = "STORE_DIR";
const JETSTREAM: &str = "jetstream { store_dir: $STORE_DIR }";

/// The server of the distribution: 2.9 on Debian 12, which has neither schedules nor a time to
/// live for each message.
pub(crate) fn packaged() -> PathBuf {
    PathBuf::from("nats-server")
}

/// Where `scripts/brokers` puts a newer one, if it could be had.
pub(crate) fn newest() -> Option<PathBuf> {
    installed("nats-server")
}

/// How clients prove who they are.
#[derive(Debug)]
enum Login {
    None,
    Token,
    /// With TLS, and a certificate of the client.
    Password(Certificates),
}

/// A private server.
#[derive(Debug)]
pub(crate) struct NatsServer {
    program: PathBuf,
    dir: TempDir,
    port: Port,
    monitor: Port,
    login: Login,
    process: Mutex<Option<Process>>,
}

impl NatsServer {
    /// A server with JetStream that lets everybody in.
    pub(crate) fn start(program: &Path) -> Self {
        Self::with(program, JETSTREAM)
    }

    /// The same with this configuration, which says itself whether it has JetStream: data goes to
    /// `$STORE_DIR`.
    pub(crate) fn with(program: &Path, config: &str) -> Self {
        Self::launch(program, config, |_| Login::None)
    }

    /// A server that takes [`USER`] and [`PASSWORD`] and speaks TLS, with certificates of its own,
    /// and wants one of the client, too.
    pub(crate) fn secured(program: &Path) -> Self {
        Self::launch(program, JETSTREAM, |dir| Login::Password(Certificates::generate(dir)))
    }

    /// A server that takes [`TOKEN`].
    pub(crate) fn with_token(program: &Path) -> Self {
        Self::launch(program, JETSTREAM, |_| Login::Token)
    }

    fn launch(program: &Path, config: &str, login: impl Fn(&Path) -> Login) -> Self {
        let mut said = String::new();
        for _ in 0..TRIES {
            let dir = TempDir::new().expect("a temporary folder");
            let server = Self {
                program: program.to_owned(),
                port: Port::reserve(),
                monitor: Port::reserve(),
                login: login(dir.path()),
                process: Mutex::default(),
                dir,
            };
            server.configure(config);
            if server.revive() {
                return server;
            }
            said = fs::read_to_string(server.log()).unwrap_or_default();
        }
        panic!("{} does not start, see scripts/brokers; it says: {said}", program.display());
    }

    /// A server that is not started yet, for those that have to know each other's ports.
    pub(crate) fn prepare(program: &Path) -> Self {
        Self {
            program: program.to_owned(),
            dir: TempDir::new().expect("a temporary folder"),
            port: Port::reserve(),
            monitor: Port::reserve(),
            login: Login::None,
            process: Mutex::default(),
        }
    }

    /// Writes its configuration; it holds from the next start on.
    pub(crate) fn configure(&self, config: &str) {
        let (port, monitor) = (self.port(), self.monitor.number());
        let listen = format!("listen: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitor}\"\n");
        let text = format!("{listen}{}{config}\n", self.login.config());
        fs::write(self.config(), text).expect("a file in a temporary folder");
    }

    pub(crate) fn port(&self) -> u16 {
        self.port.number()
    }

    /// The folder of its files; its log is `log`.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The URL for a client that comes through `port`; add options with `?` or, over TLS, `&`.
    pub(crate) fn url_by(&self, port: u16) -> String {
        match &self.login {
            Login::None => format!("nats://127.0.0.1:{port}"),
            Login::Token => format!("nats://{TOKEN}@127.0.0.1:{port}"),
            Login::Password(certificates) => {
                let options = certificates.options();
                format!("tls://{USER}:pass%2Fw:rd@localhost:{port}?{options}")
            }
        }
    }

    /// Ends it without warning.
    pub(crate) fn kill(&self) {
        drop(self.lock().take());
    }

    /// Stops it, so that it keeps its connections and answers nothing.
    pub(crate) fn freeze(&self) {
        self.lock().as_ref().expect("it runs").freeze();
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.lock().as_ref().expect("it runs").thaw();
    }

    /// Starts it on the data that it left, and waits until it is healthy; `false` if it ended.
    pub(crate) fn revive(&self) -> bool {
        self.spawn();
        self.is_up()
    }

    /// Starts it, and does not wait.
    pub(crate) fn spawn(&self) {
        let process = Process::start(&self.command(), &self.log());
        *self.lock() = Some(process.expect("the server starts"));
    }

    /// Waits until it is healthy; `false` if it ended instead.
    pub(crate) fn is_up(&self) -> bool {
        let mut process = self.lock();
        let is_up =
            process.as_mut().is_some_and(|process| process.wait_until(|| self.is_healthy()));
        if !is_up {
            drop(process.take());
        }
        is_up
    }

    /// Whether it says so now, its streams and, in a cluster, its part of it included.
    pub(crate) fn is_healthy(&self) -> bool {
        self.ask("/healthz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// What its monitor says, such as of `/jsz?streams=1`; `None` while it does not answer.
    pub(crate) fn monitor(&self, path: &str) -> Option<Value> {
        let answer = self.ask(path).ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        serde_json::from_str(body).ok()
    }

    fn ask(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.monitor.number()))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.replacen("HTTP/1.0", "HTTP/1.1", 1))
    }

    fn log(&self) -> PathBuf {
        self.dir().join("log")
    }

    fn config(&self) -> PathBuf {
        self.dir().join("nats.conf")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("-c").arg(self.config()).env(STORE_DIR, self.dir().join("data"));
        command
    }

    fn lock(&self) -> MutexGuard<'_, Option<Process>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Login {
    fn config(&self) -> String {
        match self {
            Self::None => String::new(),
            Self::Token => format!("authorization {{ token: \"{TOKEN}\" }}\n"),
            Self::Password(certificates) => {
                let [ca, cert, key] = certificates.server_files();
                format!(
                    "authorization {{ user: \"{USER}\", password: \"{PASSWORD}\" }}\n\
                     tls {{ ca_file: \"{ca}\", cert_file: \"{cert}\", key_file: \"{key}\", \
                     verify: true }}\n"
                )
            }
        }
    }
}
