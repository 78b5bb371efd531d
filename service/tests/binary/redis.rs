//! Several services beside each other on one Redis.

use std::collections::BTreeSet;
use std::ops::Range;

use serde_json::Value;

use crate::probe::{get, is_ready};
use crate::process::{Expirer, now_ms, rfc3339};
use crate::servers::process::wait_until;
use crate::servers::redis::RedisServer;

const ORDERS_MIN: usize = 300;
/// How many are announced at once.
const ROUND: usize = 20;

/// Announces orders with `redis-cli`, as another service may: a few expire at each of `times`.
fn create(server: &RedisServer, numbers: Range<usize>, times: &[String]) {
    let create = |number: usize| {
        let expires_at = &times[number % times.len()];
        let data = format!(
            r#"{{"id":"o{number}","version":0,"status":"created","userId":"u1","expiresAt":"{expires_at}","ticket":{{"id":"t1","price":20}}}}"#
        );
        format!("XADD bus:{{order:created}} * data '{data}'")
    };
    let entries = server.cli_lines(&numbers.map(create).collect::<Vec<_>>());
    let stored = entries.iter().filter(|entry| entry.contains('-')).count();
    assert_eq!(stored, ROUND, "{entries:?}");
}

/// The sum of a metric, whatever its labels.
fn metric(address: &str, name: &str) -> usize {
    let (status, text) = get(address, "/metrics");
    assert_eq!(status, 200, "{text}");
    let number = |line: &str| line.strip_prefix(name)?.rsplit_once(' ')?.1.parse::<usize>().ok();
    text.lines().filter_map(number).sum()
}

#[test]
fn three_services_share_the_orders_of_redis_cli_and_end_on_sigterm() {
    let server = RedisServer::start();
    let url = server.url_by(server.port());
    let parts = ["serve", "--bus", &url, "--queue", &url, "--repo", &url];
    let services = [(); 3].map(|()| Expirer::serve(&parts));
    assert!(wait_until(|| services.iter().all(|(_, address)| is_ready(address))));
    let sum =
        |name: &str| -> usize { services.iter().map(|(_, address)| metric(address, name)).sum() };
    let takes_its_share =
        |address: &str| metric(address, "expirer_batches_total{loop=\"scheduler\"}") > 0;
    let soon = now_ms() / 1000 + 2;
    let times = [0, 1, 2].map(|later| rfc3339(soon + later));
    let mut orders = 0;
    assert!(wait_until(|| {
        create(&server, orders..orders + ROUND, &times);
        orders += ROUND;
        orders >= ORDERS_MIN && services.iter().all(|(_, address)| takes_its_share(address))
    }));
    let count = |key: &str| server.cli(&["XLEN", key]).parse().unwrap_or(0);
    assert!(wait_until(|| count("bus:{order:cancelled}") >= orders), "every order is cancelled");
    // What a busy machine did not answer in time may be done again, or not be counted.
    let is_calm = || sum("expirer_faults_total") == 0;
    let expired = || sum("expirer_orders_changed_total{effect=\"expired\"}");
    assert!(wait_until(|| expired() == orders || !is_calm()), "{} expired", expired());
    let announced = announcements(&server);
    let ids: BTreeSet<_> = announced.iter().map(|announced| announced["id"].to_string()).collect();
    let different: BTreeSet<_> = announced.iter().map(ToString::to_string).collect();
    assert_eq!(ids.len(), orders, "each is announced");
    assert_eq!(different.len(), orders, "repeats are the same");
    assert!(announced.len() == orders || !is_calm(), "each once; came {}", announced.len());
    for (service, _) in services {
        service.ends_on_sigterm();
    }
}

/// What every `order:cancelled` says.
fn announcements(server: &RedisServer) -> Vec<Value> {
    let entries = server.cli(&["--json", "XRANGE", "bus:{order:cancelled}", "-", "+"]);
    let entries: Vec<(String, Vec<String>)> = serde_json::from_str(&entries).unwrap();
    let data = |(_, fields): (String, Vec<String>)| {
        let mut fields = fields.into_iter().skip_while(|field| field != "data");
        serde_json::from_str(&fields.nth(1).unwrap()).unwrap()
    };
    entries.into_iter().map(data).collect()
}
