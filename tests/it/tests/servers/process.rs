//! A child process that ends with us, whatever ends us.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a server may take to answer: generous, since a busy machine is slow.
const TURNS: u32 = 24_000;
const TURN: Duration = Duration::from_millis(5);

/// Becomes the program once it is told to: not before somebody watches over it.
const BEGIN: &str = r#"read -r _ && exec "$0" "$@" </dev/null"#;
/// Kills the process unless it is told that this has been done: our end closes its input.
const WATCH: &str = r#"trap '' INT TERM HUP; read -r _ || kill -9 "$0""#;

/// A program that `scripts/brokers` puts into the target folder, if it could be had.
pub(super) fn installed(program: &str) -> Option<PathBuf> {
    // Packages that share these files are not equally deep in the workspace.
    let folders = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let mut candidates = folders.map(|folder| folder.join("target/brokers").join(program));
    candidates.find(|candidate| candidate.is_file())
}

/// A running program; killed when dropped.
#[derive(Debug)]
pub(crate) struct Process {
    program: Child,
    watch: Child,
}

impl Process {
    /// Starts a program whose output goes to `log`.
    pub(crate) fn start(command: &Command, log: &Path) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        let mut program = shell(BEGIN);
        program.arg(command.get_program()).args(command.get_args());
        program.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let program = program.stderr(log.try_clone()?).stdout(log).spawn()?;
        let watch = shell(WATCH).arg(program.id().to_string()).spawn()?;
        let mut process = Self { program, watch };
        tell(&mut process.program)?;
        Ok(process)
    }

    /// Waits until `is_ready`; says whether it came to that before the program ended.
    pub(crate) fn wait_until(&mut self, is_ready: impl Fn() -> bool) -> bool {
        wait_until(|| is_ready() || self.has_ended()) && !self.has_ended()
    }

    /// Waits for its end; says whether it was a success, and in time.
    pub(crate) fn succeeds(mut self) -> bool {
        let has_ended = wait_until(|| self.has_ended());
        has_ended && self.program.wait().is_ok_and(|status| status.success())
    }

    /// Ends it without warning (`kill -9`).
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        drop(self.program.kill());
        // While its id cannot be anybody else's yet.
        drop(tell(&mut self.watch));
        drop(self.program.wait());
        drop(self.watch.wait());
    }

    /// Stops it, so that it keeps its connections and answers nothing; returns once it stands.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
        let mut state = Command::new("ps");
        state.args(["-o", "stat=", "-p", &self.program.id().to_string()]);
        let stands = || state.output().is_ok_and(|output| output.stdout.starts_with(b"T"));
        assert!(wait_until(stands), "it stands");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        kill.args(["-s", name, &self.program.id().to_string()]);
        assert!(kill.status().is_ok_and(|status| status.success()), "kill -s {name}");
    }

    fn has_ended(&mut self) -> bool {
        !matches!(self.program.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn shell(script: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", script]).stdin(Stdio::piped());
    shell
}

fn tell(shell: &mut Child) -> io::Result<()> {
    shell.stdin.take().map_or(Ok(()), |mut input| input.write_all(b"\n"))
}

/// Looks again and again; says whether it came true within two minutes.
#[expect(clippy::disallowed_methods, reason = "a server says in no other way that it is there")]
pub(crate) fn wait_until(mut is_true: impl FnMut() -> bool) -> bool {
    (0..TURNS).any(|_| {
        is_true() || {
            std::thread::sleep(TURN);
            false
        }
    })
}
