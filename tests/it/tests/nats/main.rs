//! The conformance suite and faults on private NATS servers.

mod bus;
mod cluster;
mod loops;
mod place;
mod queue;
#[expect(dead_code, reason = "other tests need more of them")]
#[path = "../replicas/mod.rs"]
mod replicas;
mod repo;
#[expect(dead_code, reason = "other tests need more of them")]
#[path = "../servers"]
mod servers {
    pub(crate) mod certificates;
    pub(crate) mod nats;
    pub(crate) mod nats_cluster;
    pub(crate) mod orders;
    pub(crate) mod ports;
    pub(crate) mod process;
    pub(crate) mod proxy;
    pub(crate) mod real;
    pub(crate) mod redis;
}
mod stand;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use expirer_conformance::Suite;

use cluster::ClusterPlace;
use place::Place;
use servers::nats::{newest, packaged};

/// Names for both servers.
const PACKAGED: &str = "nats-packaged";
const NEWEST: &str = "nats";
/// How many cases run beside each other: they mostly wait, for the ends of leases and for servers.
const THREADS: usize = 16;

fn main() -> ExitCode {
    let suite = Suite::default().repo(PACKAGED, || Place::plain(&packaged()));
    let suite = with_newest(suite, "nats::repo", |suite, program| {
        let (one, three) = (program.clone(), program);
        let suite = suite.repo(NEWEST, move || Place::plain(&one));
        // One of 2.9 does not compare revisions: see `repo`.
        suite.repo("nats-cluster", move || ClusterPlace::new(&three))
    });
    let suite = repo::tests(queue::tests(bus::tests(stand::tests(suite))));
    loops::tests(suite).with_threads(THREADS).run()
}

/// The servers that are here, with a name for each.
fn programs() -> Vec<(&'static str, PathBuf)> {
    let newest = newest().map(|program| (NEWEST, program));
    [Some((PACKAGED, packaged())), newest].into_iter().flatten().collect()
}

/// Adds what needs a newer server than the distribution's; where there is none, says so instead.
fn with_newest(suite: Suite, name: &str, add: impl FnOnce(Suite, PathBuf) -> Suite) -> Suite {
    match newest() {
        Some(program) => add(suite, program),
        None => suite.ignored(name, "scripts/brokers did not find a newer nats-server"),
    }
}

/// A test that needs such a server.
fn on_newest(suite: Suite, name: &str, test: fn(&Path)) -> Suite {
    with_newest(suite, name, |suite, program| suite.test(name, move || test(&program)))
}

/// A test on both servers.
fn on_each(suite: Suite, module: &str, name: &str, test: fn(&Path)) -> Suite {
    let packaged_name = format!("{module}::{PACKAGED}::{name}");
    let suite = suite.test(&packaged_name, move || test(&packaged()));
    on_newest(suite, &format!("{module}::{NEWEST}::{name}"), test)
}
