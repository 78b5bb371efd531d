//! The real binary on NATS: as several services of one kind, as what the Node worker was, and with
//! a client in Node.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod node;
mod orders;
#[path = "../binary/probe.rs"]
mod probe;
#[expect(dead_code, reason = "other tests need more of it")]
#[path = "../binary/process.rs"]
mod process;
#[expect(dead_code, reason = "other tests need more of them")]
#[path = "../../../tests/it/tests/servers"]
mod servers {
    pub(crate) mod certificates;
    pub(crate) mod nats;
    pub(crate) mod ports;
    pub(crate) mod process;
    pub(crate) mod redis;
}

use std::path::Path;
use std::process::ExitCode;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use process::Expirer;
use servers::nats::{NatsServer, newest, packaged};
use servers::redis::RedisServer;

type Test = fn(&Path);

fn main() -> ExitCode {
    let client = node::client();
    let mut trials = Vec::new();
    for (test, run) in orders::TESTS {
        trials.extend(on_each(test, Ok(()), run));
    }
    for (test, run) in node::TESTS {
        trials.extend(on_each(test, client, run));
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// A test on the server of the distribution and on a newer one, as far as they and what else it
/// needs are here: else it is ignored, and says why.
fn on_each(test: &str, needs: Result<(), &'static str>, run: Test) -> [Trial; 2] {
    let newest = newest().ok_or("scripts/brokers did not find a newer nats-server");
    [("packaged", Ok(packaged())), ("newest", newest)].map(|(name, program)| {
        Trial::ignorable_test(format!("{name}::{test}"), move || {
            match needs.and(program) {
                Ok(program) => run(&program),
                Err(why) => return Ok(Completion::ignored_with(why)),
            }
            Ok::<_, Failed>(Completion::Completed)
        })
    })
}

/// Bus, queue and repository on one server; by redelivery where that cannot schedule.
fn parts(server: &NatsServer, program: &Path) -> [String; 7] {
    let url = server.url_by(server.port());
    let via = if program == packaged() { "redelivery" } else { "schedule" };
    let queue = format!("{url}?via={via}");
    ["serve", "--bus", &url, "--queue", &queue, "--repo", &url].map(str::to_owned)
}

/// A service that is told by the Node worker's environment alone.
fn in_place_of_the_node_worker(nats: &NatsServer, redis: &RedisServer) -> (Expirer, String) {
    let nats_url = format!("http://127.0.0.1:{}", nats.port());
    let redis_host = format!("127.0.0.1:{}", redis.port());
    let environment = [
        ("NATS_URL", nats_url.as_str()),
        ("NATS_CLIENT_ID", "expiration 1"),
        ("NATS_CLUSTER_ID", "shop"),
        ("REDIS_HOST", redis_host.as_str()),
    ];
    Expirer::serve_in(&["serve"], &environment)
}
