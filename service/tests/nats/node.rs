//! A client in Node, with the package `nats`, which `scripts/node` installs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::probe::is_ready;
use crate::process::{Expirer, now_ms, rfc3339};
use crate::servers::nats::NatsServer;
use crate::servers::process::{Process, wait_until};
use crate::servers::redis::RedisServer;
use crate::{Test, in_place_of_the_node_worker, parts};

const ORDERS: usize = 100;

pub(crate) const TESTS: [(&str, Test); 2] = [
    ("a_node_client_hears_how_its_orders_end", hears_how_its_orders_end),
    ("a_node_client_has_another_worker", has_another_worker),
];

fn modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/node/node_modules")
}

/// Whether the client can run here, or else why not.
pub(crate) fn client() -> Result<(), &'static str> {
    let is_here = modules().join("nats").is_dir();
    is_here.then_some(()).ok_or("scripts/node did not get the npm package `nats`")
}

/// What the client heard of these subjects, once it has placed its orders, which expire then.
fn heard(server: &NatsServer, stream: &str, expires_at: &str, subjects: &[&str]) -> Vec<Value> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/nats/node/client.js");
    let address = format!("127.0.0.1:{}", server.port());
    let mut node = Command::new("node");
    node.arg(script).args([&address, stream, &ORDERS.to_string(), expires_at]).args(subjects);
    node.env("NODE_PATH", modules());
    let dir = TempDir::new().unwrap();
    let log = dir.path().join("log");
    let has_ended_well = Process::start(&node, &log).unwrap().succeeds();
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(has_ended_well, "the client fails, or does not end: {said}");
    said.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

/// Each order is named once on a subject, by this field; and this is what is said of one.
fn assert_each(heard: &[Value], subject: &str, field: &str, one: &Value) {
    let data: Vec<_> =
        heard.iter().filter(|said| said["subject"] == subject).map(|said| &said["data"]).collect();
    let ids: BTreeSet<_> = data.iter().map(|event| event[field].to_string()).collect();
    assert_eq!((ids.len(), data.len()), (ORDERS, ORDERS), "{subject}: {ids:?}");
    let found = data.into_iter().find(|event| event[field] == one[field]);
    assert_eq!(found, Some(one), "{subject}");
}

fn soon() -> String {
    rfc3339(now_ms() / 1000 + 3)
}

/// With milliseconds, as JavaScript has it.
fn expiration(expires_at: &str) -> Value {
    json!({ "orderId": "o0", "expiresAt": expires_at.replace('Z', ".000Z") })
}

fn hears_how_its_orders_end(program: &Path) {
    let server = NatsServer::start(program);
    let (service, address) =
        Expirer::serve(&parts(&server, program).each_ref().map(|part| &**part));
    assert!(wait_until(|| is_ready(&address)));
    let (soon, subjects) = (soon(), ["expiration:complete", "order:cancelled"]);
    let heard = heard(&server, "ticketing", &soon, &subjects);
    assert_each(&heard, "expiration:complete", "orderId", &expiration(&soon));
    let cancelled = json!({ "id": "o0", "version": 1, "ticket": { "id": "t0" } });
    assert_each(&heard, "order:cancelled", "id", &cancelled);
    service.ends_on_sigterm();
}

/// The Node worker's own mix: it announces expiries alone.
fn has_another_worker(program: &Path) {
    let (nats, redis) = (NatsServer::start(program), RedisServer::start());
    let (service, address) = in_place_of_the_node_worker(&nats, &redis);
    assert!(wait_until(|| is_ready(&address)));
    let soon = soon();
    let heard = heard(&nats, "shop", &soon, &["expiration:complete"]);
    assert_each(&heard, "expiration:complete", "orderId", &expiration(&soon));
    service.ends_on_sigterm();
}
