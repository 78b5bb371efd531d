//! A running `expirer`: its streams line by line, its end within a generous limit.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;

/// How long anything may take before the test fails: far more than it does.
const LIMIT: Duration = Duration::from_secs(60);

/// A running service.
#[derive(Debug)]
pub(crate) struct Expirer {
    child: Child,
    /// Held open, unless a test closes it.
    #[cfg_attr(not(feature = "stdio"), expect(dead_code, reason = "only held open"))]
    stdin: Option<ChildStdin>,
    out: Receiver<String>,
    log: Receiver<String>,
}

/// The command, without what the machine's environment would change.
pub(crate) fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_expirer"));
    command.args(arguments).env_clear();
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs a command to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    command(arguments).stdin(Stdio::null()).output().unwrap()
}

/// The lines of a stream, read by a thread of their own.
fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines() {
            if line.map(|line| sender.send(line)).is_err() {
                return;
            }
        }
    });
    receiver
}

#[expect(clippy::disallowed_methods, reason = "compared with the times that the service was given")]
pub(crate) fn now_ms() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()
}

/// RFC 3339 in the seconds of a Unix time; GNU `date`, as the scripts use it.
#[cfg(all(feature = "redis", feature = "servers"))]
pub(crate) fn rfc3339(seconds: u128) -> String {
    let mut date = Command::new("date");
    date.args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"]);
    String::from_utf8(date.output().unwrap().stdout).unwrap().trim_end().to_owned()
}

impl Expirer {
    #[cfg(feature = "stdio")]
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_in(arguments, &[])
    }

    fn start_in(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = command(arguments);
        let mut child = command.envs(environment.iter().copied()).spawn().unwrap();
        let out = lines(child.stdout.take().unwrap());
        let log = lines(child.stderr.take().unwrap());
        let stdin = child.stdin.take();
        Self { child, stdin, out, log }
    }

    /// A service with HTTP on a free port, and its address.
    pub(crate) fn serve(arguments: &[&str]) -> (Self, String) {
        Self::serve_in(arguments, &[])
    }

    /// The same with these variables.
    pub(crate) fn serve_in(arguments: &[&str], environment: &[(&str, &str)]) -> (Self, String) {
        let arguments = [arguments, &["--http", "127.0.0.1:0"]].concat();
        let expirer = Self::start_in(&arguments, environment);
        let address = loop {
            let line = expirer.log();
            if line["message"] == "serving HTTP" {
                break line["address"].as_str().unwrap().to_owned();
            }
        };
        (expirer, address)
    }

    #[cfg(feature = "stdio")]
    pub(crate) fn write(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        std::io::Write::write_all(stdin, text.as_bytes()).unwrap();
    }

    #[cfg(feature = "stdio")]
    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// The next line of standard output.
    #[cfg(feature = "stdio")]
    pub(crate) fn line(&self) -> Value {
        let line = self.out.recv_timeout(LIMIT).expect("a line of output");
        serde_json::from_str(&line).expect("a line of JSON")
    }

    /// The next line of the log.
    pub(crate) fn log(&self) -> Value {
        let line = self.log.recv_timeout(LIMIT).expect("a line of the log");
        serde_json::from_str(&line).expect("a line of JSON")
    }

    /// Waits for a line of the log that begins so.
    pub(crate) fn wait_for_log(&self, message: &str) {
        while !self.log()["message"].as_str().unwrap_or_default().starts_with(message) {}
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let killed = Command::new("kill").args(["-s", name, &id]).status().unwrap();
        assert!(killed.success());
    }

    /// It ends on SIGTERM in good order, and has written nothing.
    #[cfg(all(feature = "redis", feature = "servers"))]
    pub(crate) fn ends_on_sigterm(self) {
        self.signal("TERM");
        let (code, output, log) = self.end();
        assert_eq!(code, Some(0), "{log}");
        assert_eq!(output, Vec::<Value>::new());
        assert!(log.contains("\"ended\"") && !log.contains("panicked"), "{log}");
    }

    /// Waits for the end: the exit code, what was still written, and the log.
    pub(crate) fn end(mut self) -> (Option<i32>, Vec<Value>, String) {
        // Both streams end with the process.
        let (output, log) = (rest(&self.out), rest(&self.log));
        let code = self.child.wait().unwrap().code();
        let output = output.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        (code, output, log.join("\n"))
    }
}

/// The lines until the stream ends.
fn rest(lines: &Receiver<String>) -> Vec<String> {
    let mut rest = Vec::new();
    loop {
        match lines.recv_timeout(LIMIT) {
            Ok(line) => rest.push(line),
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return rest,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("no end after {rest:?}"),
        }
    }
}

impl Drop for Expirer {
    fn drop(&mut self) {
        // It has ended, unless the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
