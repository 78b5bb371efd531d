//! The conformance suite and faults on private NATS servers.

mod bus;
mod cluster;
mod place;
mod queue;
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
}
mod stand;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use expirer_conformance::Suite;

use cluster::ClusterPlace;
use place::Place;
use servers::nats::{newest, packaged};

/// How many cases run beside each other: they mostly wait, for the ends of leases and for servers.
const THREADS: usize = 16;

fn main() -> ExitCode {
    if newest().is_none() {
        let said = "nothing runs on a new NATS: scripts/brokers did not find it\n";
        std::io::stderr().write_all(said.as_bytes()).expect("standard error takes a line");
    }
    let suite = programs().into_iter().fold(Suite::default(), |suite, (name, program)| {
        suite.repo(name, move || Place::plain(&program))
    });
    let suite = newest().into_iter().fold(suite, |suite, program| {
        // One of 2.9 does not compare revisions: see `repo`.
        suite.repo("nats-cluster", move || ClusterPlace::new(&program))
    });
    let suite = repo::tests(queue::tests(bus::tests(stand::tests(suite))));
    suite.with_threads(THREADS).run()
}

/// The servers that are here, with a name for each.
fn programs() -> Vec<(&'static str, PathBuf)> {
    let newest = newest().map(|program| ("nats", program));
    [Some(("nats-packaged", packaged())), newest].into_iter().flatten().collect()
}
