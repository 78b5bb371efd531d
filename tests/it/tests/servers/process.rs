//! A child process that answers on a port.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// How long a server may take to answer: generous, since a busy machine is slow.
const READY_TURNS: u32 = 6000;
const TURN: Duration = Duration::from_millis(5);

/// A running server; killed when dropped, and with this process, where the system can.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts a program whose output goes to `log`; of the command, the program, its arguments and
    /// its environment count.
    pub(crate) fn start(command: &Command, log: &Path) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let mut command = ended_with_us(command);
        command.stdin(Stdio::null()).stderr(log.try_clone()?).stdout(log);
        let (answer, answers) = channel();
        starter().send((command, answer)).expect("the starter never ends");
        answers.recv().expect("the starter answers").map(Self)
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

    /// Stops it, so that it keeps its connections and answers nothing; returns once it stands.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
        let mut state = Command::new("ps");
        state.args(["-o", "stat=", "-p", &self.0.id().to_string()]);
        let stands = || state.output().is_ok_and(|output| output.stdout.starts_with(b"T"));
        assert!(wait_until(stands), "it stands");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        kill.args(["-s", name, &self.0.id().to_string()]);
        assert!(kill.status().is_ok_and(|status| status.success()), "kill -s {name}");
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

/// The same command by way of `setpriv`, where that is: the system then kills the program once the
/// thread that started it is gone.
fn ended_with_us(command: &Command) -> Command {
    static HAS_SETPRIV: OnceLock<bool> = OnceLock::new();
    let can_end = |options: &[&str]| {
        Command::new("setpriv").args(options).output().is_ok_and(|output| output.status.success())
    };
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", "KILL"]).arg(command.get_program());
    if !*HAS_SETPRIV.get_or_init(|| can_end(&["--pdeathsig", "KILL", "true"])) {
        wrapped = Command::new(command.get_program());
    }
    let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
    wrapped.args(command.get_args()).envs(set);
    wrapped
}

type Start = (Command, Sender<io::Result<Child>>);

/// A thread that starts all programs and ends with this process.
fn starter() -> Sender<Start> {
    static STARTER: OnceLock<Sender<Start>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (starter, starts): (_, Receiver<Start>) = channel();
        std::thread::spawn(move || {
            for (mut command, answer) in starts {
                // Whoever has asked may be gone: then the child is, too.
                drop(answer.send(command.spawn()));
            }
        });
        starter
    });
    starter.clone()
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
