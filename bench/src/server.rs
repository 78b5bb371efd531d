//! Private servers.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::report::Outcome;

const READY_MAX: Duration = Duration::from_secs(10);

/// A running server and its folder; killed when dropped, and the folder removed.
#[derive(Debug)]
pub struct Server {
    process: Child,
    // Last: its files go when it has ended.
    _dir: TempDir,
}

impl Server {
    /// Starts a program in a folder of its own and waits until it is ready.
    ///
    /// # Errors
    /// That it cannot be started, and why it does not become ready.
    pub fn start(
        program: &Path,
        dress: impl FnOnce(&mut Command, &Path),
        is_ready: impl Fn() -> Outcome<()>,
    ) -> Outcome<Self> {
        // On the disk of the build: a temporary folder may be in memory.
        let dir = TempDir::new_in(target())?;
        let mut command = Command::new(program);
        dress(&mut command, dir.path());
        let started = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let process =
            started.map_err(|error| format!("{} (scripts/brokers): {error}", program.display()))?;
        let server = Self { process, _dir: dir };
        let begun = Instant::now();
        while let Err(error) = is_ready() {
            if begun.elapsed() > READY_MAX {
                return Err(error);
            }
            std::thread::yield_now();
        }
        Ok(server)
    }

    /// Bytes of memory that it has, as the system counts them (Linux).
    ///
    /// # Errors
    /// That the system does not say.
    pub fn resident(&self) -> Outcome<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
        Ok(kilobytes.ok_or("/proc has no VmRSS")?.trim().parse::<u64>()? * 1024)
    }

    /// Seconds of processor time that it has taken (Linux).
    ///
    /// # Errors
    /// That the system does not say.
    pub fn processor(&self) -> Outcome<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let (_, rest) = stat.rsplit_once(')').ok_or("/proc has another stat")?;
        // Its user and system time are the 14th and 15th field, and `rest` begins with the third.
        let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<u32>);
        let ticks: u32 = ticks.sum::<Result<_, _>>()?;
        Ok(f64::from(ticks) / 100.0)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// A port that nobody listens on.
///
/// # Errors
/// That there is none.
pub fn port() -> Outcome<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// The folder of the build.
#[must_use]
pub fn target() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    root.map_or_else(std::env::temp_dir, |root| root.join("target"))
}
