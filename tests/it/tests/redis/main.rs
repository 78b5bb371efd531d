//! The conformance suite and faults on private Redis servers.

mod place;
#[path = "../servers/mod.rs"]
mod servers;

use std::process::ExitCode;

use expirer_conformance::Suite;

use place::Place;
use servers::redis::RedisServer;
use servers::redis_cluster::RedisCluster;

fn main() -> ExitCode {
    Suite::default()
        .queue("redis", Place::plain)
        .queue("redis-tls", Place::secured)
        .test("servers::one_starts_and_keeps_what_it_has", || {
            for server in [RedisServer::start(), RedisServer::secured()] {
                assert_eq!(server.cli(&["SET", "k", "v"]), "OK");
                server.kill();
                assert!(server.revive());
                assert_eq!(server.cli(&["GET", "k"]), "v");
            }
        })
        .test("servers::a_cluster_comes_back", || {
            let cluster = RedisCluster::start();
            assert_eq!(cluster.nodes()[0].cli(&["-c", "SET", "k", "v"]), "OK");
            cluster.restart();
            assert_eq!(cluster.master_of("k").cli(&["GET", "k"]), "v");
        })
        .run()
}
