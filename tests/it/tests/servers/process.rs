//! A child process that answers on a port.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a server may take to answer: generous, since a busy machine is slow.
const READY_TURNS: u32 = 6000;
const TURN: Duration = Duration::from_millis(5);

/// A running server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts a program whose output goes to `log`.
    pub(crate) fn start(command: &mut Command, log: &Path) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let command = command.stdin(Stdio::null()).stderr(log.try_clone()?).stdout(log);
        command.spawn().map(Self)
    }

    /// Waits until `is_ready`; says whether it came to that before the process ended.
    pub(crate) fn wait_until(&mut self, is_ready: impl Fn() -> bool) -> bool {
        wait_until(|| is_ready() || self.has_ended()) && !self.has_ended()
    }

    /// Ends it without warning (`kill -9`).
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        drop(self.0.kill());
        drop(self.0.wait());
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Looks again and again; says whether it came true within half a minute.
#[expect(clippy::disallowed_methods, reason = "a server says in no other way that it is there")]
pub(crate) fn wait_until(mut is_true: impl FnMut() -> bool) -> bool {
    (0..READY_TURNS).any(|_| {
        is_true() || {
            std::thread::sleep(TURN);
            false
        }
    })
}

/// A port that nobody uses now. Somebody else may take it first: whoever starts a server on it
/// tries again with another.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("a bound port").port()
}
