//! The peers, each a program of its own (`bench/peers`), built and installed under `target/`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use expirer_bench::report::{Outcome, say};
use expirer_bench::server::target;

/// A peer that is here.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    program: PathBuf,
    first: Option<PathBuf>,
    modules: PathBuf,
}

impl Peer {
    /// Those that can be had; says which cannot.
    pub(crate) fn all() -> Outcome<Vec<Self>> {
        let mut peers = Vec::new();
        for (name, peer) in [("bullmq-official", bullmq()), ("Bull", bull())] {
            match peer {
                Ok(peer) => peers.push(peer),
                Err(error) => say(format!("{name} is not here: {error}"))?,
            }
        }
        Ok(peers)
    }

    /// Adds `count` jobs, or adds and drains them; gives how many a second.
    pub(crate) fn rate(&self, url: &str, what: &str, count: u64) -> Outcome<f64> {
        let mut command = Command::new(&self.program);
        command.args(&self.first).args([url, what, &count.to_string()]);
        let output = command.env("NODE_PATH", &self.modules).stderr(Stdio::inherit()).output()?;
        let seconds: f64 = String::from_utf8(output.stdout)?.trim().parse()?;
        Ok(f64::from(u32::try_from(count)?) / seconds)
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers")
}

fn bullmq() -> Outcome<Peer> {
    let target = target().join("peers");
    let mut build = Command::new("cargo");
    build.args(["build", "--release", "--locked", "--quiet", "--target-dir"]).arg(&target);
    done(build.arg("--manifest-path").arg(folder().join("Cargo.toml")))?;
    let program = target.join("release/expirer-bench-peers");
    Ok(Peer { name: "bullmq-official", program, first: None, modules: PathBuf::new() })
}

fn bull() -> Outcome<Peer> {
    let target = target().join("peers/node");
    std::fs::create_dir_all(&target)?;
    std::fs::copy(folder().join("package.json"), target.join("package.json"))?;
    let mut install = Command::new("npm");
    install.args(["install", "--no-audit", "--no-fund", "--silent", "--prefix"]).arg(&target);
    done(&mut install)?;
    let modules = target.join("node_modules");
    Ok(Peer {
        name: "Bull",
        program: "node".into(),
        first: Some(folder().join("bull.js")),
        modules,
    })
}

fn done(command: &mut Command) -> Outcome<()> {
    match command.stdin(Stdio::null()).stdout(Stdio::null()).status()? {
        status if status.success() => Ok(()),
        status => Err(format!("{command:?}: {status}").into()),
    }
}
