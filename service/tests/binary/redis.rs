//! Several services beside each other on one Redis.

use serde_json::Value;

use crate::http::get;
use crate::process::{Expirer, now_ms, rfc3339};
use crate::servers::process::wait_until;
use crate::servers::redis::RedisServer;

const ORDERS: usize = 300;

/// Announces an order with `redis-cli`, as another service may.
fn create(server: &RedisServer, number: usize, expires_at: &str) {
    let data = format!(
        r#"{{"id":"o{number}","version":0,"status":"created","userId":"u1","expiresAt":"{expires_at}","ticket":{{"id":"t1","price":20}}}}"#
    );
    let entry = server.cli(&["XADD", "bus:{order:created}", "*", "data", &data]);
    assert!(entry.contains('-'), "{entry}");
}

/// A number out of `/metrics`.
fn metric(address: &str, series: &str) -> usize {
    let (status, text) = get(address, "/metrics");
    assert_eq!(status, 200, "{text}");
    let number = text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok());
    number.unwrap_or_else(|| panic!("{series} in\n{text}"))
}

#[test]
fn three_services_share_the_orders_of_redis_cli_and_end_on_sigterm() {
    let server = RedisServer::start();
    let url = server.url_by(server.port());
    let parts = ["serve", "--bus", &url, "--queue", &url, "--repo", &url];
    let services = [(); 3].map(|()| Expirer::serve(&parts));
    let is_ready = |address: &str| get(address, "/readyz").0 == 200;
    assert!(wait_until(|| services.iter().all(|(_, address)| is_ready(address))));
    let soon = now_ms() / 1000 + 2;
    let times = [0, 1, 2].map(|later| rfc3339(soon + later));
    for number in 0..ORDERS {
        create(&server, number, &times[number % times.len()]);
    }
    let count = |key: &str| server.cli(&["XLEN", key]).parse().unwrap_or(0);
    assert!(wait_until(|| count("bus:{order:cancelled}") >= ORDERS), "every order is cancelled");
    let sum = |series: &str| -> usize {
        services.iter().map(|(_, address)| metric(address, series)).sum()
    };
    let expired = "expirer_orders_changed_total{effect=\"expired\"}";
    assert!(wait_until(|| sum(expired) == ORDERS), "{} expired by their counts", sum(expired));
    for (_, address) in &services {
        let batches = metric(address, "expirer_batches_total{loop=\"scheduler\"}");
        assert!(batches > 0, "{address} takes its share");
    }
    assert_eq!(count("bus:{order:cancelled}"), ORDERS, "each is announced once");
    for (service, _) in services {
        ends_on_sigterm(service);
    }
}

fn ends_on_sigterm(service: Expirer) {
    service.signal("TERM");
    let (code, output, log) = service.end();
    assert_eq!(code, Some(0), "{log}");
    assert_eq!(output, Vec::<Value>::new());
    assert!(log.contains("\"ended\"") && !log.contains("panicked"), "{log}");
}
